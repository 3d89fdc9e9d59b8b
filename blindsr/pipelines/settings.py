"""The settings of a whole run, and the named presets."""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from blindsr.errors import ConfigError
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.spectral.config import SpectralConfig
from blindsr.zssr.config import PaperZSSRConfig, ZSSRConfig
from blindsr.zssr.start.config import StartConfig

__all__ = ["PRESETS", "Region", "Settings", "preset"]

Estimator = Literal["auto", "spectral", "kernelgan"]
PRESETS = ("fast", "default", "best", "paper")
# Optimiser steps on the image itself: from the learned start, and from random weights.
_LEARNED_STEPS = {"fast": 0, "default": StartConfig().steps, "best": 300}
_RANDOM_STEPS = {"fast": 300, "default": ZSSRConfig().steps, "best": 3000}


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
    # From the learned start, from random weights, or as published: the type says which.
    zssr: StartConfig | ZSSRConfig | PaperZSSRConfig = field(default_factory=StartConfig)

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


def preset(name: str, *, start: str = "leaves") -> Settings:
    """Named settings: "fast", "default", "best" (ours) and "paper" (KernelGAN and ZSSR as published).

    Args:
        name: One of `PRESETS`.
        start: What the network knows before it sees the image: "leaves" (the learned start that comes with blindsr,
            docs/start.md), "random" (nothing, as in the papers), or the path of a file that `blindsr train-start` made.
            "paper" always starts from random weights.

    Raises:
        ConfigError: There is no preset of this name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}.")
    if name == "paper":
        return Settings(estimator="kernelgan", zssr=PaperZSSRConfig.named("kernelgan"))
    if start == "random":
        return Settings(zssr=ZSSRConfig(steps=_RANDOM_STEPS[name]))
    weights = None if start == "leaves" else Path(start)
    return Settings(zssr=StartConfig(steps=_LEARNED_STEPS[name], weights=weights))
