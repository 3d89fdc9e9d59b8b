"""A sharp image made worse in a known way."""

import math
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, from_numpy

from blindsr.errors import ConfigError, ImageError
from blindsr.kernels import Kernel
from blindsr.ops import degrade
from blindsr.simulation.laws import Law, Phase, draw_kernel

__all__ = ["Degradation", "degrade_image", "kernel_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """What happens to an image between the scene and the file, in this order."""

    scale: int = 2  # factor from LR to HR
    blur: Law | Kernel = field(default_factory=Law)  # a law draws a kernel for each image
    phase: Phase = "centred"  # where an LR pixel looks; a given kernel keeps its own place
    noise_sigma: float = 0.0  # Gaussian noise, σ on the [0, 1] scale
    speckle_sigma: float = 0.0  # multiplicative noise: y·(1 + σ·n)
    jpeg_quality: int | None = None  # 1 … 100; None is no compression

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.scale not in (2, 3, 4):
            raise ConfigError(f"scale must be 2, 3 or 4, got {self.scale}.")
        if isinstance(self.blur, Kernel) and self.blur.scale != self.scale:
            raise ConfigError(f"the kernel is for scale {self.blur.scale}, scale {self.scale} was asked for.")
        if isinstance(self.blur, Kernel) and self.phase != "centred":
            raise ConfigError("a given kernel keeps its own place; leave the phase out.")
        for name in ("noise_sigma", "speckle_sigma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise ConfigError(f"{name} must be in [0, 1], got {value:g}; 0.05 is 13 of 255 grey levels.")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}.")

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy; a given kernel is named by its digest."""
        blur = f"kernel {self.blur.digest}" if isinstance(self.blur, Kernel) else str(self.blur)
        return {
            "scale": self.scale,
            "blur": blur,
            "phase": self.phase,
            "noise_sigma": self.noise_sigma,
            "speckle_sigma": self.speckle_sigma,
            "jpeg_quality": self.jpeg_quality,
        }


def kernel_for(degradation: Degradation, rng: np.random.Generator) -> Kernel:
    """The kernel of one image: the given one, or one drawn by the law."""
    if isinstance(degradation.blur, Kernel):
        return degradation.blur
    return draw_kernel(degradation.blur, degradation.scale, rng, phase=degradation.phase)


def degrade_image(hr: Tensor, kernel: Kernel, degradation: Degradation, rng: np.random.Generator) -> Tensor:
    """Blur, subsample and add noise; compression is for whom writes the file.

    Args:
        hr: (1, C, H, W), float, [0, 1]; H and W are multiples of the scale.
        kernel: For the scale of `degradation`.
        degradation: Its noise.
        rng: The source of the noise.

    Returns:
        (1, C, H / s, W / s), dtype of `hr`, clamped to [0, 1], not rounded.

    Raises:
        ImageError: The sides are no multiples of the scale.
    """
    scale = degradation.scale
    if hr.shape[-2] % scale or hr.shape[-1] % scale:
        raise ImageError(
            f"an image to be degraded by {scale} must have sides that are its multiples, got "
            f"{hr.shape[-2]}×{hr.shape[-1]}; crop it."
        )
    lr = degrade(hr, kernel.tensor(hr), scale)
    for sigma, is_speckle in ((degradation.noise_sigma, False), (degradation.speckle_sigma, True)):
        if sigma:
            noise = sigma * from_numpy(rng.standard_normal(tuple(lr.shape))).to(lr)
            lr = lr * (1 + noise) if is_speckle else lr + noise
    return lr.clamp(0, 1)
