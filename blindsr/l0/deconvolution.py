"""The two half-steps on the LR grid: a sharp image for a kernel, and a kernel for a sharp image."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["kernel_for", "sharp_image"]

Plane = NDArray[np.float32]


def _response(kernel: Plane, shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Transfer of a convolution kernel whose centre is its middle tap."""
    canvas = np.zeros(shape, np.float32)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    centre = (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2))
    response: NDArray[np.complex64] = fft.rfft2(np.roll(canvas, centre, (0, 1)))
    return response


def sharp_image(blurred: Plane, kernel: Plane, weight: float, largest: float) -> Plane:
    """Minimise |x ∗ k − y|² + λ·#{∇x ≠ 0} by half-quadratic splitting (Xu, Zheng, Jia, CVPR 2013, eq. 7-9).

    Args:
        blurred: y, (h, w); borders wrap around.
        kernel: k, odd sides, a convolution kernel.
        weight: λ.
        largest: β at which the splitting ends.

    Returns:
        x, like y.
    """
    shape = (blurred.shape[0], blurred.shape[1])
    k = _response(kernel, shape)
    vertical = np.exp(2j * np.pi * fft.fftfreq(shape[0])).astype(np.complex64)[:, None] - np.complex64(1)
    horizontal = np.exp(2j * np.pi * fft.rfftfreq(shape[1])).astype(np.complex64)[None] - np.complex64(1)
    roughness = np.abs(vertical) ** 2 + np.abs(horizontal) ** 2
    towards, power = k.conj() * fft.rfft2(blurred), np.abs(k) ** 2
    spectrum = fft.rfft2(blurred)
    penalty = 2 * weight
    while penalty < largest:
        across, down = (fft.irfft2(d * spectrum, shape) for d in (horizontal, vertical))
        flat = across * across + down * down < weight / penalty
        across[flat] = 0
        down[flat] = 0
        gradients = horizontal.conj() * fft.rfft2(across) + vertical.conj() * fft.rfft2(down)
        spectrum = (towards + np.float32(penalty) * gradients) / (power + np.float32(penalty) * roughness)
        penalty *= 2
    sharp: Plane = fft.irfft2(spectrum, shape)
    return sharp


def kernel_for(sharp: Plane, blurred: Plane, side: int, weight: float, least_share: float) -> Plane:
    """Least squares on gradients with γ|k|² (Pan, Hu, Su, Yang, CVPR 2014, eq. 15), then what no light can be is cut.

    Weights under a share of the largest, and islands of little mass, are noise: zero.

    Args:
        sharp: x, (h, w).
        blurred: y, (h, w).
        side: Of the kernel, odd.
        weight: γ.
        least_share: Smallest weight that is kept, against the largest.

    Returns:
        (side, side), non-negative, sum 1; its middle tap alone if nothing can be said.
    """
    shape = (blurred.shape[0], blurred.shape[1])
    # The borders of the two do not match: they fade out.
    fade = (np.hanning(shape[0])[:, None] * np.hanning(shape[1])).astype(np.float32) ** 0.25
    numerator = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    denominator = np.full(numerator.shape, weight, np.float32)
    for axis in (0, 1):
        edge = [(0, 0), (0, 0)]
        edge[axis] = (0, 1)
        ours, theirs = (fft.rfft2(np.pad(np.diff(image, axis=axis), edge) * fade) for image in (sharp, blurred))
        numerator += ours.conj() * theirs
        denominator += np.abs(ours) ** 2
    kernel = fft.irfft2(numerator / denominator, shape)
    kernel = np.roll(kernel, (side // 2, side // 2), (0, 1))[:side, :side]
    kernel = np.where(kernel < least_share * kernel.max(), 0, kernel)
    islands, count = ndimage.label(kernel > 0, structure=np.ones((3, 3)))
    total = kernel.sum()
    for island in range(1, count + 1):
        here = islands == island
        if kernel[here].sum() < 0.1 * total:
            kernel[here] = 0
    if not np.isfinite(kernel).all() or kernel.sum() <= 0:
        kernel = np.zeros((side, side))
        kernel[side // 2, side // 2] = 1
    normalised: Plane = (kernel / kernel.sum()).astype(np.float32)
    return normalised
