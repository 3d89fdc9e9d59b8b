"""The correction filter: an LR image becomes what bicubic downscaling would have made of the same HR image.

Abu Hussein, Tirer, Giryes, "Correction Filter for Single Image Super-Resolution: Robustifying Off-the-Shelf Deep
Super-Resolvers", CVPR 2020, arXiv:1912.00157, §4. With the downscaling y = (x ⋆ k)↓ that was made, the wanted one
(x ⋆ r)↓ by the bicubic kernel r, and HR images x = Rᵀc that the bicubic kernel spans, y is (k ⋆ r)↓ * c and the wanted
image (r ⋆ r)↓ * c, so that on the Fourier grid of the LR image the filter is the quotient

    h = A / B,   A = (r ⋆ r)↓,   B = (k ⋆ r)↓.

Regularised by the noise N, with c of the power that makes the wanted image one of a photograph (P_r), it is the linear
estimate of least mean square error under this model of x:

    h = A B* / (|B|² + N |A|² / P_r).

The model is narrow: where the kernel is anisotropic, its aliased parts cancel in B. The same estimate for HR images
whose frequencies are independent and have the power P ∝ f^−α of photographs is

    h = (Σ P R K*) / (Σ P |K|² + N),   sums over the s² frequencies that sampling folds onto each other,

and is nearer to the truth by 0.1 to 0.4 dB for round kernels and by 2 to 4 dB for elongated ones
(docs/method/methods-of-the-field.md).
"""

import math
from typing import Literal

import torch
from torch import Tensor

from blindsr.kernels import Kernel, bicubic
from blindsr.ops.geometry import pad_symmetric
from blindsr.ops.wiener import FLOORS, WienerFilter, transfer

__all__ = ["Correction", "correct", "correction_radius", "correction_spectrum"]

Correction = Literal["natural", "paper", "none"]
_MARGIN = 24  # LR pixels of mirrored border, in which the wrap-around of the transform decays
_MAX_RADIUS = 64  # LR pixels
_TAIL = 0.02  # sum of the absolute filter weights that may lie outside of the radius


def correction_spectrum(
    kernel: Kernel,
    height: int,
    width: int,
    *,
    method: Correction = "natural",
    noise_sigma: float = 0.0,
    kernel_error: float = 0.0,
) -> Tensor:
    """The correction filter h on the Fourier grid of an LR image.

    Args:
        kernel: Kernel of the image.
        height: Height of the LR image, px.
        width: Its width, px.
        method: Model of the HR image: "natural" (independent frequencies of the power of photographs) or "paper".
        noise_sigma: Standard deviation of its noise, [0, 1] units; at least that of 8-bit rounding is assumed.
        kernel_error: Standard deviation of the error of the kernel's transfer function.

    Returns:
        (height, width), complex64; 1 at frequency 0 up to the regularisation.
    """
    scale = kernel.scale
    ideal = bicubic(scale)
    actual, wanted = (transfer(k.tensor()[None].float(), scale, scale * height, scale * width) for k in (kernel, ideal))

    def folded(spectrum: Tensor) -> Tensor:
        parts: Tensor = spectrum.reshape(scale, height, scale, width).mean((0, 2))
        return parts

    by_kernel = WienerFilter.of(actual, scale)  # its members are P K* and the folded P |K|²
    uncertain = WienerFilter.of(actual, scale, kernel_error).folded[0] - by_kernel.folded[0]
    noise = uncertain + noise_sigma**2 + FLOORS[0] ** 2
    if method == "natural":
        return folded(by_kernel.numerator[0] * wanted[0]) / (by_kernel.folded[0] + noise)
    a, b = folded(wanted[0] * wanted[0].conj()), folded(actual[0] * wanted[0].conj())
    power = WienerFilter.of(wanted, scale).folded[0]
    return a * b.conj() / (b.abs().square() + noise * a.abs().square() / power)


def correct(
    lr: Tensor,
    kernel: Kernel,
    *,
    method: Correction = "natural",
    noise_sigma: tuple[float, ...] = (0.0,),
    kernel_error: float = 0.0,
) -> Tensor:
    """Apply the correction filter, with half-sample symmetric borders.

    Args:
        lr: An LR image, (1, C, h, w), [0, 1]; left unchanged.
        kernel: Its kernel.
        method: Model of the HR image, as in `correction_spectrum`.
        noise_sigma: Standard deviation of the noise, [0, 1] units: of the image, or of each band.
        kernel_error: Standard deviation of the error of the kernel's transfer function.

    Returns:
        The image as bicubic downscaling would have made it, (1, C, h, w), float32, not clamped.

    References:
        Abu Hussein, Tirer, Giryes, CVPR 2020, §4.
    """
    padded = pad_symmetric(lr.float(), _MARGIN)
    height, width = padded.shape[-2:]
    levels = [noise_sigma[min(band, len(noise_sigma) - 1)] for band in range(lr.shape[1])]
    filters = {
        level: correction_spectrum(
            kernel, height, width, method=method, noise_sigma=level, kernel_error=kernel_error
        ).to(lr.device)
        for level in set(levels)
    }
    spectrum = torch.fft.fft2(padded) * torch.stack([filters[level] for level in levels])
    corrected: Tensor = torch.fft.ifft2(spectrum).real
    return corrected[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN].contiguous()


def correction_radius(
    kernel: Kernel, *, method: Correction = "natural", noise_sigma: float = 0.0, kernel_error: float = 0.0
) -> int:
    """Distance in LR pixels beyond which the filter has negligible weight; at most `_MAX_RADIUS`."""
    side = 2 * _MAX_RADIUS
    spectrum = correction_spectrum(
        kernel, side, side, method=method, noise_sigma=noise_sigma, kernel_error=kernel_error
    )
    weights = torch.fft.fftshift(torch.fft.ifft2(spectrum).real.abs())
    offset = (torch.arange(side) - side // 2).abs()
    distance = torch.maximum(offset[:, None], offset[None]).flatten()
    by_distance = torch.zeros(_MAX_RADIUS + 1).index_add(0, distance, weights.flatten())
    beyond = by_distance.flip(0).cumsum(0).flip(0)
    return min(_MAX_RADIUS, math.ceil(int((beyond > _TAIL).sum()) / 4) * 4)
