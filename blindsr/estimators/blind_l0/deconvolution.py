"""The two alternating steps on the LR grid: a sharp image for a given kernel, and a kernel for a given sharp image.

All in float32 with torch's Fourier transforms, which are three times as fast as SciPy's here.
"""

import math
from functools import lru_cache

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["kernel_for", "sharp_image"]

Plane = NDArray[np.float32]
_MIN_ISLAND = 0.1  # share of the mass below which a connected part of a kernel is considered noise


@torch.no_grad()
def sharp_image(blurred: Plane, kernel: Plane, weight: float, max_penalty: float) -> Plane:
    """Minimise |x ∗ k − y|² + λ·#{∇x ≠ 0} by half-quadratic splitting.

    Args:
        blurred: y, (h, w); borders wrap around.
        kernel: k, odd sides, a convolution kernel.
        weight: λ.
        max_penalty: β at which the splitting ends; it starts at 2λ and doubles.

    Returns:
        x, of the shape of y.

    References:
        Xu, Zheng, Jia, "Unnatural L0 sparse representation for natural image deblurring", CVPR 2013, Eq. 7–9.
    """
    shape = (blurred.shape[0], blurred.shape[1])
    image = torch.from_numpy(np.ascontiguousarray(blurred, dtype=np.float32))
    k = _transfer(kernel, shape)
    data, power, laplacian = k.conj() * torch.fft.rfft2(image), k.abs().square(), _gradient_power(*shape)
    penalty = 2 * weight
    while penalty < max_penalty:
        # Differences and their adjoint are computed in space: two transforms per iteration instead of four.
        across, down = torch.roll(image, -1, 1) - image, torch.roll(image, -1, 0) - image
        flat = across.square() + down.square() < weight / penalty
        across.masked_fill_(flat, 0)
        down.masked_fill_(flat, 0)
        gradients = torch.roll(across, 1, 1) - across + torch.roll(down, 1, 0) - down
        image = torch.fft.irfft2((data + penalty * torch.fft.rfft2(gradients)) / (power + penalty * laplacian), shape)
        penalty *= 2
    sharp: Plane = image.numpy()
    return sharp


@torch.no_grad()
def kernel_for(sharp: Plane, blurred: Plane, side: int, weight: float, min_share: float) -> Plane:
    """Minimise |∇x ∗ k − ∇y|² + γ|k|² in closed form, then remove small weights and small connected parts.

    Args:
        sharp: x, (h, w).
        blurred: y, (h, w).
        side: Side of the kernel, odd.
        weight: γ.
        min_share: Weights below this share of the largest one are set to zero.

    Returns:
        (side, side), non-negative, sum 1; a delta in the middle if the images determine no kernel.

    References:
        Pan, Hu, Su, Yang, "Deblurring text images via L0-regularized intensity and gradient prior", CVPR 2014, Eq. 15.
    """
    shape = (blurred.shape[0], blurred.shape[1])
    images = torch.stack([torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (sharp, blurred)])
    numerator, denominator = torch.zeros(1), torch.full((1,), weight)
    for axis, edge in ((1, (0, 0, 0, 1)), (2, (0, 1))):
        x, y = torch.fft.rfft2(functional.pad(images.diff(dim=axis), edge) * _border_window(*shape))
        numerator = numerator + x.conj() * y
        denominator = denominator + x.abs().square()
    solution = torch.fft.irfft2(numerator / denominator, shape)
    kernel = torch.roll(solution, (side // 2, side // 2), (0, 1))[:side, :side].numpy()
    kernel = np.where(kernel < min_share * kernel.max(), 0, kernel)
    islands, count = scipy.ndimage.label(kernel > 0, structure=np.ones((3, 3)))
    total = kernel.sum()
    for island in range(1, count + 1):
        inside = islands == island
        if kernel[inside].sum() < _MIN_ISLAND * total:
            kernel[inside] = 0
    if not np.isfinite(kernel).all() or kernel.sum() <= 0:
        kernel = np.zeros((side, side))
        kernel[side // 2, side // 2] = 1
    normalised: Plane = (kernel / kernel.sum()).astype(np.float32)
    return normalised


@lru_cache(maxsize=16)
def _gradient_power(height: int, width: int) -> Tensor:
    """|∂̂|² of the differences between neighbours, on the grid of `rfft2`."""
    vertical = 2 - 2 * torch.cos(2 * math.pi * torch.fft.fftfreq(height, dtype=torch.float64))
    horizontal = 2 - 2 * torch.cos(2 * math.pi * torch.fft.rfftfreq(width, dtype=torch.float64))
    power: Tensor = (vertical[:, None] + horizontal).float()
    return power


@lru_cache(maxsize=16)
def _border_window(height: int, width: int) -> Tensor:
    """Window that fades out the borders, where the sharp and the blurred image do not match."""
    window = np.hanning(height)[:, None] * np.hanning(width)
    return torch.from_numpy((window**0.25).astype(np.float32))


def _transfer(kernel: Plane, shape: tuple[int, int]) -> Tensor:
    """Transfer function of a convolution kernel that is centred on its middle tap."""
    canvas = torch.zeros(shape)
    canvas[: kernel.shape[0], : kernel.shape[1]] = torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float32))
    centred = torch.roll(canvas, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))
    transfer: Tensor = torch.fft.rfft2(centred)
    return transfer
