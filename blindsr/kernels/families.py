"""Kernels by formula: Gaussian, bicubic, box, delta."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blindsr.errors import KernelError
from blindsr.kernels.kernel import Kernel

__all__ = ["bicubic", "box", "gaussian", "gaussian_size"]


def gaussian_size(covariance: ArrayLike, scale: int) -> int:
    """Side K ≡ scale (mod 2) that holds ±3.5 σ of the long axis: 99.9 % of a Gaussian's mass."""
    long = math.sqrt(float(np.linalg.eigvalsh(np.asarray(covariance, dtype=np.float64))[-1]))
    return 2 * math.ceil(3.5 * long) + scale


def gaussian(covariance: ArrayLike, scale: int, *, size: int | None = None) -> Kernel:
    """Make an anisotropic Gaussian kernel, sampled at the pixel centres.

    k(r) ∝ exp(−½ rᵀ Σ⁻¹ r), r from the geometric centre.

    Args:
        covariance: Σ, (2, 2), HR px², order (y, x); or one number, the variance of an isotropic Gaussian.
        scale: Factor from LR to HR.
        size: K; None takes ±3.5 σ of the long axis.

    Returns:
        A centred kernel.

    Raises:
        KernelError: Σ is not symmetric positive definite.

    Example:
        >>> gaussian([[2.0, 0.3], [0.3, 1.0]], 2).covariance.round(2).tolist()
        [[2.0, 0.3], [0.3, 1.0]]
    """
    sigma = np.asarray(covariance, dtype=np.float64)
    if sigma.ndim == 0:
        sigma = np.eye(2) * float(sigma)
    if sigma.shape != (2, 2) or not np.isfinite(sigma).all() or abs(sigma[0, 1] - sigma[1, 0]) > 1e-9:
        raise KernelError(f"a covariance must be a symmetric 2×2 matrix or one number, got {sigma.tolist()}.")
    if np.linalg.eigvalsh(sigma)[0] <= 0:
        raise KernelError(f"a covariance must be positive definite, its eigenvalues are {np.linalg.eigvalsh(sigma)}.")
    side = gaussian_size(sigma, scale) if size is None else size
    c = np.arange(side) - (side - 1) / 2
    y, x = np.meshgrid(c, c, indexing="ij")
    inverse = np.linalg.inv(sigma)
    exponent = inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x
    weights = np.exp(-0.5 * (exponent - exponent.min()))
    provenance = {"made_by": "gaussian", "covariance_yx": sigma.round(6).tolist()}
    return Kernel.normalised(weights, scale, provenance)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a = np.abs(x)
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return np.where(a <= 1, near, np.where(a <= 2, far, 0.0))


def bicubic(scale: int) -> Kernel:
    """Make the kernel of MATLAB's antialiased bicubic `imresize`: what most benchmarks call "bicubic".

    Keys, IEEE TASSP 1981, a = −0.5, stretched by the scale. `degrade` with it
    equals `imresize(x, 1/scale)`.
    """
    side = 4 * scale if scale % 2 == 0 else 4 * scale - 1
    taps = _cubic((np.arange(side) - (side - 1) / 2) / scale)
    taps = taps / taps.sum()
    return Kernel.normalised(np.outer(taps, taps), scale, {"made_by": "bicubic"})


def box(scale: int) -> Kernel:
    """The mean over s×s pixels: an ideal detector with full fill factor, and nothing else."""
    return Kernel.normalised(np.ones((scale, scale)), scale, {"made_by": "box"})
