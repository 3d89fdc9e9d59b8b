"""From the generator's raw weights to a `Kernel`: cleaned, normalised, carried to the scale asked for."""

import numpy as np
from numpy.typing import NDArray

from blindsr import kernels
from blindsr.errors import ConfigError, DivergenceError
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernels import Kernel

__all__ = ["SCALES", "TRAINED_SCALE", "clean_up", "to_kernel", "to_scale"]

# KernelGAN halves the image; kernels for other scales are derived.
TRAINED_SCALE = 2
SCALES = (2, 3, 4)


def clean_up(weights: NDArray[np.float64], config: KernelGANConfig) -> NDArray[np.float64]:
    """Subtract a share of the n-th largest weight, set what falls below zero to zero, divide by the sum.

    Args:
        weights: (K, K), any scale; at least one weight is positive.
        config: `clean_up_rank` is n, `clean_up_share` the share.

    Returns:
        (K, K), non-negative, sum 1.
    """
    ranked = np.sort(weights, axis=None)[::-1]
    # A negative floor would lift every weight: nothing is then to be taken away.
    floor = max(config.clean_up_share * float(ranked[config.clean_up_rank - 1]), 0.0)
    kept = np.clip(weights - floor, 0.0, None)
    return np.asarray(kept / kept.sum())


def to_kernel(weights: NDArray[np.float64], config: KernelGANConfig) -> Kernel:
    """Clean up a raw odd kernel for ×2 and put it into our convention, not yet centred.

    A zero row and column at the end make its side even: the operation on the image is the same one.

    Raises:
        DivergenceError: No weight is positive.
    """
    if weights.max() <= 0:
        raise DivergenceError(
            "KernelGAN needs a kernel with positive weights at its end, this run's has none; try another seed."
        )
    padded = np.pad(clean_up(weights, config), (0, TRAINED_SCALE - 1))
    return Kernel.normalised(padded, TRAINED_SCALE, {"made_by": "kernelgan", "seed": config.seed})


def to_scale(kernel: Kernel, scale: int) -> Kernel:
    """Carry the ×2 kernel to `scale`: ×4 is it composed with itself, ×3 follows the scale law with β = 1.

    Raises:
        ConfigError: `scale` is none of 2, 3, 4.
    """
    check_scale(scale)
    if scale == TRAINED_SCALE:
        return kernel
    if scale == TRAINED_SCALE**2:
        return kernels.compose(kernel, kernel)
    return kernels.resample(kernel, scale, own_blur=1.0)


def check_scale(scale: int) -> None:
    """Refuse a scale that KernelGAN has no rule for.

    Raises:
        ConfigError: `scale` is none of 2, 3, 4.
    """
    if scale not in SCALES:
        raise ConfigError(f"KernelGAN estimates kernels for a scale of 2, 3 or 4, got {scale!r}.")
