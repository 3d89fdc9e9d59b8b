"""The settings of a whole run, and the named presets."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from blindsr.errors import ConfigError
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.spectral.config import SpectralConfig
from blindsr.zssr.config import PaperZSSRConfig, ZSSRConfig

__all__ = ["PRESETS", "Region", "Settings", "preset"]

Estimator = Literal["auto", "spectral", "kernelgan"]
PRESETS = ("fast", "default", "best", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A rectangle of the image in LR pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides a result, apart from the image and a known kernel."""

    scale: float = 2.0  # output over input; a whole number 2, 3, 4, or a real one above 1 up to 4
    estimator: Estimator = "auto"  # who estimates the kernel; "auto" is what measured best
    region: Region | None = None  # where the kernel is estimated; None is the whole image
    seed: int = 0  # of everything random
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    kernelgan: KernelGANConfig = field(default_factory=KernelGANConfig)
    zssr: ZSSRConfig | PaperZSSRConfig = field(default_factory=ZSSRConfig)

    def __post_init__(self) -> None:
        """Check the bounds, and hand the seed down."""
        if not (math.isfinite(self.scale) and 1 < self.scale <= 4):
            raise ConfigError(f"scale must be over 1 and at most 4, got {self.scale:g}.")
        if self.estimator not in ("auto", "spectral", "kernelgan"):
            raise ConfigError(f"estimator must be auto, spectral or kernelgan, got {self.estimator!r}.")
        for name in ("spectral", "kernelgan", "zssr"):
            part = getattr(self, name)
            if part.seed != self.seed:
                object.__setattr__(self, name, replace(part, seed=self.seed))

    @property
    def network_scale(self) -> int:
        """The whole-number factor that is trained: a real scale r runs ⌈r⌉ and is resized."""
        return math.ceil(self.scale - 1e-9)

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy."""
        return asdict(self)


def preset(name: str) -> Settings:
    """Named settings: "fast", "default", "best" (ours) and "paper" (KernelGAN and ZSSR as published).

    Raises:
        ConfigError: There is no preset of this name.
    """
    if name == "fast":
        return Settings(zssr=ZSSRConfig(steps=300))
    if name == "default":
        return Settings()
    if name == "best":
        return Settings(zssr=ZSSRConfig(steps=3000))
    if name == "paper":
        return Settings(estimator="kernelgan", zssr=PaperZSSRConfig.named("kernelgan"))
    raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}.")
