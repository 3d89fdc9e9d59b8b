"""The settings of a whole run, and the named presets."""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from blindsr.errors import ConfigError
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.l0.config import L0Config
from blindsr.spectral.config import SpectralConfig
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.start.config import StartConfig

__all__ = ["LARGEST_SCALE", "NETWORK_SCALES", "PRESETS", "Region", "Settings", "preset"]

Estimator = Literal["auto", "spectral", "l0", "kernelgan"]
LARGEST_SCALE = 8
# Factors that are run: what the networks know, and two passes of them beyond.
NETWORK_SCALES = (2, 3, 4, 6, 8)
PRESETS = ("fast", "default", "best", "paper")
# Optimiser steps on the image itself: from the learned start, and from random weights.
_LEARNED_STEPS = {"fast": 0, "default": StartConfig().steps, "best": 300}
# Views averaged, where the kernel allows it: 0.1 dB on sharp pictures. `best` does so for images of any size.
_ENSEMBLE = {"fast": 1, "default": StartConfig().ensemble, "best": 8}
_RANDOM_STEPS, _RANDOM_RATE = {"fast": 100, "default": 300, "best": 1000}, 1e-3


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

    scale: float = 2.0  # output over input, above 1 and up to 8; of two factors, the larger one
    factors: tuple[float, float] | None = None  # horizontal and vertical, where they differ
    size: tuple[int, int] | None = None  # width and height of the output; `for_image` makes factors of it
    estimator: Estimator = "auto"  # who estimates the kernel; "auto" is what measured best
    region: Region | None = None  # where the kernel is estimated; None is the whole image
    seed: int = 0  # of everything random
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    l0: L0Config = field(default_factory=L0Config)
    kernelgan: KernelGANConfig = field(default_factory=KernelGANConfig)
    # From the start, learned or not, or as published: the type says which.
    zssr: StartConfig | PaperZSSRConfig = field(default_factory=StartConfig)

    def __post_init__(self) -> None:
        """Check the bounds, and hand the seed down."""
        if self.factors is not None:
            if not all(math.isfinite(factor) and 1 <= factor <= LARGEST_SCALE for factor in self.factors):
                given = "×".join(f"{factor:g}" for factor in self.factors)
                raise ConfigError(f"both factors must be 1 or more and at most {LARGEST_SCALE}, got {given}.")
            object.__setattr__(self, "scale", float(max(self.factors)))
        if self.size is not None and min(self.size) < 1:
            raise ConfigError(f"a size must be 1 px or more each way, got {self.size[0]}×{self.size[1]}.")
        if not (math.isfinite(self.scale) and 1 < self.scale <= LARGEST_SCALE):
            raise ConfigError(f"scale must be over 1 and at most {LARGEST_SCALE}, got {self.scale:g}.")
        if self.estimator not in ("auto", "spectral", "l0", "kernelgan"):
            raise ConfigError(f"estimator must be auto, spectral, l0 or kernelgan, got {self.estimator!r}.")
        for name in ("spectral", "l0", "kernelgan", "zssr"):
            part = getattr(self, name)
            if part.seed != self.seed:
                object.__setattr__(self, name, replace(part, seed=self.seed))

    @property
    def network_scale(self) -> int:
        """The whole-number factor that is run, and that the kernel is for: the next one of `NETWORK_SCALES`."""
        return next(scale for scale in NETWORK_SCALES if scale >= self.scale - 1e-9)

    @property
    def label(self) -> str:
        """The enlargement in a file's name: "x2", "x2.5", "x2x3" or "1920x1080"."""
        if self.size is not None:
            return f"{self.size[0]}x{self.size[1]}"
        if self.factors is not None:
            return "x" + "x".join(f"{factor:g}" for factor in self.factors)
        return f"x{self.scale:g}"

    def for_image(self, height: int, width: int) -> "Settings":
        """The settings with the factors that lead from an image of this size to `size`; themselves without `size`.

        Raises:
            ConfigError: The size is smaller than the image along an axis, not larger along any, or too large.
        """
        if self.size is None:
            return self
        factors = (self.size[0] / width, self.size[1] / height)
        if min(factors) < 1 or not 1 < max(factors) <= LARGEST_SCALE:
            raise ConfigError(
                f"the size must enlarge the photograph of {width}×{height} px, by {LARGEST_SCALE} at most, got "
                f"{self.size[0]}×{self.size[1]}; a plain resizing program makes photographs smaller."
            )
        return replace(self, factors=factors)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an image of this size."""
        if self.size is not None:
            return self.size[1], self.size[0]
        horizontal, vertical = (self.scale, self.scale) if self.factors is None else self.factors
        return round(height * vertical), round(width * horizontal)

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy."""
        return asdict(self)


def preset(name: str, *, start: str = "leaves") -> Settings:
    """Named settings: "fast", "default", "best" (ours) and "paper" (KernelGAN and ZSSR as published).

    Args:
        name: One of `PRESETS`.
        start: What the network knows before it sees the image: "leaves" (the learned start that comes with blindsr,
            docs/start.md), "random" (nothing: the Wiener filter, and what the image itself teaches), or the path of a
            file that `blindsr train-start` made.
            "paper" always starts from random weights.

    Raises:
        ConfigError: There is no preset of this name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}.")
    if name == "paper":
        return Settings(estimator="kernelgan", zssr=PaperZSSRConfig.named("kernelgan"))
    views = StartConfig(ensemble=_ENSEMBLE[name])
    if name == "best":
        views = replace(views, ensemble_pixels=None)
    if start == "random":
        steps, rate = _RANDOM_STEPS[name], _RANDOM_RATE
        return Settings(zssr=replace(views, untrained=True, steps=steps, learning_rate=rate))
    weights = None if start == "leaves" else Path(start)
    return Settings(zssr=replace(views, steps=_LEARNED_STEPS[name], weights=weights))
