"""From the generator's raw weights to a `Kernel`: cleaned up, normalised, and carried to the requested scale."""

import numpy as np
from numpy.typing import NDArray

from blindsr import kernels
from blindsr.errors import ConfigError, DivergenceError
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernels import Kernel

__all__ = ["SCALES", "check_scale", "clean_up", "to_kernel", "to_scale"]

SCALES = (2, 3, 4)


def clean_up(weights: NDArray[np.float64], config: KernelGANConfig) -> NDArray[np.float64]:
    """Subtract a share of the n-th largest weight, set negative weights to zero, and divide by the sum.

    Args:
        weights: (K, K), any sum; at least one weight is positive.
        config: `clean_up_rank` is n, `clean_up_share` the share.

    Returns:
        (K, K), non-negative, sum 1.
    """
    ranked = np.sort(weights, axis=None)[::-1]
    # A negative threshold would raise every weight: nothing is subtracted then.
    threshold = max(config.clean_up_share * float(ranked[config.clean_up_rank - 1]), 0.0)
    remaining = np.clip(weights - threshold, 0.0, None)
    return np.asarray(remaining / remaining.sum())


def to_kernel(weights: NDArray[np.float64], config: KernelGANConfig) -> Kernel:
    """Clean up the generator's odd kernel and convert it to this package's convention, not yet centred.

    A zero row and column at the end make its side even; it downscales an image as before.

    Raises:
        DivergenceError: No weight is positive.
    """
    if weights.max() <= 0:
        raise DivergenceError(
            "KernelGAN must end with a kernel that has positive weights, this run's has none; try another seed."
        )
    padded = np.pad(clean_up(weights, config), (0, 1))
    return Kernel.normalised(padded, 2, {"made_by": "kernelgan", "seed": config.seed})


def to_scale(kernel: Kernel, scale: int) -> Kernel:
    """Carry a kernel for ×2 to another scale.

    Args:
        kernel: A kernel for ×2.
        scale: 2, 3 or 4.

    Returns:
        The kernel itself for ×2; for ×4, the kernel composed with itself: k₄ = k₂ ∗ (k₂ dilated by 2); for ×3,
        which the paper does not treat, the kernel resampled by the same law, cov(k_s) ∝ s² − 1.

    Raises:
        ConfigError: `scale` is none of 2, 3, 4.
    """
    check_scale(scale)
    if scale == 2:
        return kernel
    if scale == 4:
        return kernels.compose(kernel, kernel)
    return kernels.resample(kernel, scale)


def check_scale(scale: int) -> None:
    """Reject a scale for which KernelGAN has no rule.

    Raises:
        ConfigError: `scale` is none of 2, 3, 4.
    """
    if scale not in SCALES:
        raise ConfigError(f"KernelGAN estimates kernels for a scale of 2, 3 or 4, got {scale!r}.")
