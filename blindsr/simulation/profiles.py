"""Shapes of kernels on an odd window that looks at the HR pixels s·i − K//2 … s·i + K//2.

A shape is placed around any point of the window, so that one function serves LR pixels centred on their
cell and LR pixels that look at s·i. Weights are not normalised here.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["centred_by_mean", "detector", "disc", "gaussian_weights", "mean_of", "oriented_covariance", "splat"]

_FINER = 16  # sub-pixels a side where a shape is averaged over pixels


def oriented_covariance(along: float, across: float, angle: float) -> NDArray[np.float64]:
    """Σ, (2, 2) in order (y, x), with variances along and across a direction.

    Args:
        along: Variance along the direction, px².
        across: Variance across it, px².
        angle: Of the direction, degrees counter-clockwise from the x axis as seen.
    """
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # Seen counter-clockwise, y points up; in the array it points down: hence the minus.
    axes = np.array([[-sin, cos], [cos, sin]])
    return np.asarray(axes @ np.diag([along, across]) @ axes.T)


def _window(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    c = np.arange(size, dtype=np.float64) - size // 2
    y, x = np.meshgrid(c, c, indexing="ij")
    return y, x


def mean_of(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of mass (y, x) from the middle of the window."""
    y, x = _window(len(weights))
    return np.array([(weights * y).sum() / weights.sum(), (weights * x).sum() / weights.sum()])


def gaussian_weights(covariance: NDArray[np.float64], size: int, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(−½ (r − μ)ᵀ Σ⁻¹ (r − μ)) at the pixel centres of a window of `size`."""
    y, x = _window(size)
    dy, dx = y - mean[0], x - mean[1]
    inverse = np.linalg.inv(covariance)
    exponent = inverse[0, 0] * dy * dy + 2 * inverse[0, 1] * dy * dx + inverse[1, 1] * dx * dx
    return np.asarray(np.exp(-0.5 * exponent), dtype=np.float64)


def centred_by_mean(
    covariance: NDArray[np.float64], size: int, target: NDArray[np.float64], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A Gaussian times `factors`, its mean moved until the centre of mass of the product is at `target`.

    Moving the mean leaves every factor where it was drawn; shifting the product by interpolation would
    smooth the noise.
    """
    mean = target.copy()
    for _ in range(200):
        weights = gaussian_weights(covariance, size, mean) * factors
        error = mean_of(weights) - target
        if np.abs(error).max() < 1e-9:
            break
        mean -= error
    return weights


def disc(diameter: float, size: int, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """A uniform disc, averaged over each pixel of a window of `size`."""
    fine = (np.arange(size * _FINER, dtype=np.float64) + 0.5) / _FINER - 0.5 - size // 2
    inside = (fine[:, None] - centre[0]) ** 2 + (fine[None, :] - centre[1]) ** 2 <= (diameter / 2) ** 2
    return np.asarray(inside.reshape(size, _FINER, size, _FINER).mean((1, 3)), dtype=np.float64)


def splat(path: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Points (N, 2) in order (y, x), each shared among its four pixels: the centre of mass is exactly theirs."""
    weights = np.zeros((size, size))
    corner = np.floor(path).astype(int)
    part = path - corner
    for dy in (0, 1):
        for dx in (0, 1):
            share = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            np.add.at(weights, (corner[:, 0] + dy + size // 2, corner[:, 1] + dx + size // 2), share)
    return weights


def detector(weights: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """Average over one LR pixel, s×s HR pixels: what lies between a point's image and a sample of it.

    Where s is even the window is s + 1 wide with halves at its ends, so that nothing moves.
    """
    taps = np.ones(scale) if scale % 2 else np.concatenate([[0.5], np.ones(scale - 1), [0.5]])
    taps = taps / scale
    rows = ndimage.convolve1d(weights, taps, axis=0, mode="constant")
    return np.asarray(ndimage.convolve1d(rows, taps, axis=1, mode="constant"))
