"""The optimal linear super-resolution of an image with a 1/f spectrum: the aliased Wiener filter, in closed form.

With the transfer function H of the kernel, a prior spectrum P and noise N, the least-mean-square estimate from an LR
image Y is

    X(f) = P(f) H*(f) Y(f mod 1/s) / (1/s² Σ_m P(f + m/s) |H(f + m/s)|² + N),

where the sum runs over the s² frequencies that sampling folds onto each other. It inverts any kernel as far as that is
possible before the network is applied, so that the network learns only what is not linear. (Zhao, Wei, Basarab,
Dobigeon, Kouamé, Tourneret, "Fast single image super-resolution using a new analytical solution for ℓ2-ℓ2 problems",
IEEE TIP 2016, give the same estimate in another notation.)

An estimated kernel has an error, which is largest, relative to its transfer, where it passes little. With H = H₀ + E of
unknown E the least-mean-square estimate has E[|H|²] = |H₀|² + u² in place of |H|² in the sum: the uncertainty of the
kernel acts as additional noise that is proportional to the image.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from blindsr.ops.geometry import pad_symmetric

__all__ = ["FLOORS", "transfer", "wiener", "wiener_periodic"]

_SLOPE = 2.2  # P ∝ f^−α, α of photographs: docs of the spectral estimator
_CORNER = 1 / 128  # cycles per HR pixel below which P is flat; the value is not critical
_POWER = 1e-3  # P at f = 1: variance 0.05 over the frequencies of a photograph
# Lower bounds of the noise's standard deviation, one filter each. 8-bit rounding alone has 0.29/255, but a stationary
# filter with so little regularisation rings at edges. The network receives both images and combines them locally.
FLOORS = (0.4 / 255, 1.6 / 255)
# Cycles per LR pixel above which the error of an estimated kernel is u; the kernel's sum is known exactly.
_ERROR_FROM = 0.16


def transfer(kernels: Tensor, scale: int, height: int, width: int) -> Tensor:
    """Transfer function on an HR grid of height×width: (B, K, K) → (B, height, width), complex.

    The kernel is a correlation kernel whose LR pixel i is centred at s·i + (s − 1)/2.
    """
    side = kernels.shape[-1]
    offset = torch.arange(side, device=kernels.device, dtype=torch.float64) - (side - scale) // 2
    rows, columns = (_phases(offset, length, kernels.dtype) for length in (height, width))
    return rows @ kernels.to(rows.dtype) @ columns.mT


def _phases(offset: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """exp(+2πi f r), (length, K): the sign of a correlation."""
    frequency = torch.fft.fftfreq(length, device=offset.device, dtype=torch.float64)
    phases = torch.exp(2j * math.pi * frequency[:, None] * offset)
    converted: Tensor = phases.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return converted


@lru_cache(maxsize=4)
def _prior(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    y = torch.fft.fftfreq(height, device=device, dtype=torch.float64)[:, None]
    x = torch.fft.fftfreq(width, device=device, dtype=torch.float64)[None, :]
    prior: Tensor = (_POWER * (y * y + x * x + _CORNER**2) ** (-_SLOPE / 2)).to(dtype)
    return prior


@lru_cache(maxsize=4)
def _error_shape(height: int, width: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Shape over frequency of an estimated kernel's squared error: 0 at f = 0, 1 beyond the kernel's main lobe."""
    y = torch.fft.fftfreq(height, device=device, dtype=torch.float64)[:, None]
    x = torch.fft.fftfreq(width, device=device, dtype=torch.float64)[None, :]
    shape: Tensor = (1 - torch.exp(-(y * y + x * x) * (scale / _ERROR_FROM) ** 2 / 2)).to(dtype)
    return shape


def wiener_periodic(
    lr: Tensor,
    response: Tensor,
    scale: int,
    noise_sigma: Tensor | float = 0.0,
    kernel_error: Tensor | float = 0.0,
) -> Tensor:
    """Filter LR images (B, h, w) that repeat themselves, once per floor: (B, F, s·h, s·w).

    `response` is `transfer` on the HR grid; the numbers are as in `wiener`, or (B,).
    """
    h, w = lr.shape[-2:]
    sigma, error = (
        torch.as_tensor(value, dtype=lr.dtype, device=lr.device).reshape(-1, 1, 1)
        for value in (noise_sigma, kernel_error)
    )
    prior = _prior(h * scale, w * scale, lr.dtype, lr.device)
    power = response.abs() ** 2
    if error.any():
        power = power + error**2 * _error_shape(h * scale, w * scale, scale, lr.dtype, lr.device)
    folded = (prior * power).reshape(-1, scale, h, scale, w).sum((1, 3)) / scale**2
    spectrum = torch.fft.fft2(lr)
    towards = prior * response.conj()
    results = [
        torch.fft.ifft2(towards * (spectrum / (folded + sigma**2 + floor**2)).repeat(1, scale, scale)).real
        for floor in FLOORS
    ]
    return torch.stack(results, 1)


def wiener(lr: Tensor, kernel: Tensor, scale: int, noise_sigma: float = 0.0, kernel_error: float = 0.0) -> Tensor:
    """Super-resolve by the aliased Wiener filters, with half-sample symmetric borders.

    Args:
        lr: Images, (B, C, h, w), [0, 1].
        kernel: Downscaling kernel, (K, K), K ≡ scale (mod 2), sum 1.
        scale: Factor from LR to HR.
        noise_sigma: Standard deviation of the noise in `lr`, [0, 1] units.
        kernel_error: Standard deviation u of the error of the kernel's transfer function; 0 for a kernel that is known.

    Returns:
        Images, (B, C, F, s·h, s·w), one per floor, not clamped.
    """
    batch, channels, h, w = lr.shape
    margin = 8 + kernel.shape[-1] // scale  # the circular wrap-around decays within the mirrored border
    padded = pad_symmetric(lr.reshape(batch * channels, 1, h, w), margin)[:, 0].to(torch.float32)
    response = transfer(kernel.to(padded)[None], scale, padded.shape[-2] * scale, padded.shape[-1] * scale)
    sr = wiener_periodic(padded, response, scale, noise_sigma, kernel_error)
    rows, columns = slice(margin * scale, (margin + h) * scale), slice(margin * scale, (margin + w) * scale)
    return sr[..., rows, columns].reshape(batch, channels, len(FLOORS), h * scale, w * scale).to(lr.dtype)
