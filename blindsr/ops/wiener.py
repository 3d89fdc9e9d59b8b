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
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from blindsr.ops.geometry import pad_symmetric

_SLOPE = 2.2  # P ∝ f^−α, α of photographs: docs of the spectral estimator
_CORNER = 1 / 128  # cycles per HR pixel below which P is flat; the value is not critical
_POWER = 1e-3  # P at f = 1: variance 0.05 over the frequencies of a photograph
# Lower bounds of the noise's standard deviation, one filter each. 8-bit rounding alone has 0.29/255, but a stationary
# filter with so little regularisation rings at edges. The network receives both images and combines them locally.
FLOORS = (0.4 / 255, 1.6 / 255)
CHROMA_FLOOR = 0.6 / 255
_CHROMA_POWER = _POWER / 10  # chroma of photographs has about a tenth of luma's power
# Cycles per LR pixel above which the error of an estimated kernel is u; the kernel's sum is known exactly.
_ERROR_FROM = 0.16
_LR_CORNER = 1 / 64  # `_CORNER` in cycles per LR pixel at ×2


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


def _squared_frequency(height: int, width: int, device: torch.device) -> Tensor:
    y = torch.fft.fftfreq(height, device=device, dtype=torch.float64)[:, None]
    x = torch.fft.fftfreq(width, device=device, dtype=torch.float64)[None, :]
    squared: Tensor = y * y + x * x
    return squared


@lru_cache(maxsize=4)
def _prior(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return (_POWER * (_squared_frequency(height, width, device) + _CORNER**2) ** (-_SLOPE / 2)).to(dtype)


@lru_cache(maxsize=4)
def _error_shape(height: int, width: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Shape over frequency of an estimated kernel's squared error: 0 at f = 0, 1 beyond the kernel's main lobe."""
    shape = 1 - torch.exp(-_squared_frequency(height, width, device) * (scale / _ERROR_FROM) ** 2 / 2)
    return shape.to(dtype)


def _column(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)


@dataclass(frozen=True, slots=True)
class WienerFilter:
    """What the filters of one kernel, or of a batch of kernels, have in common.

    Two real results are computed by one complex transform, as its real and imaginary part: those of luma's two floors,
    and the two chroma planes, which have the same filter.
    """

    towards: Tensor  # prior times H*, (B, s·h, s·w)
    folded: Tensor  # prior times |H|² plus what is unknown of it, folded, (B, h, w)
    scale: int

    @classmethod
    def of(cls, response: Tensor, scale: int, kernel_error: Tensor | float = 0.0) -> "WienerFilter":
        """Make the filters of kernels from their `transfer`, (B, s·h, s·w).

        `kernel_error` is the standard deviation u of the error of the transfer functions, a number or (B,).
        """
        height, width = response.shape[-2:]
        real = response.real
        prior = _prior(height, width, real.dtype, real.device)
        towards = prior * response.conj()
        power = towards.real * real - towards.imag * response.imag
        error = _column(kernel_error, real)
        if bool(error.any()):
            power = power + error**2 * (prior * _error_shape(height, width, scale, real.dtype, real.device))
        # The mean of the s² parts of the spectrum that sampling folds onto each other.
        folded = power.reshape(-1, scale, height // scale, scale, width // scale).mean((1, 3))
        return cls(towards, folded, scale)

    def luma(self, planes: Tensor, noise_sigma: Tensor | float = 0.0) -> Tensor:
        """Filter periodic planes of luma, or bands, once per floor: (B, h, w), [0, 1], to (B, 2, s·h, s·w).

        `noise_sigma` is the standard deviation of their noise, [0, 1] units, a number or (B,).
        """
        noisy = self.folded + _column(noise_sigma, planes) ** 2
        filters = torch.complex(1 / (noisy + FLOORS[0] ** 2), 1 / (noisy + FLOORS[1] ** 2))
        return self._apply(filters * torch.fft.fft2(planes))

    def chroma(self, planes: Tensor, noise_sigma: Tensor | float = 0.0) -> Tensor:
        """Filter periodic planes of chroma: (B, 2, h, w) to (B, 2, s·h, s·w); the noise is as in `luma`."""
        noise = _column(noise_sigma, planes) ** 2 + CHROMA_FLOOR**2
        noisy = self.folded + noise * (_POWER / _CHROMA_POWER)
        return self._apply(torch.fft.fft2(torch.complex(planes[:, 0], planes[:, 1])) / noisy)

    def _apply(self, spectrum: Tensor) -> Tensor:
        """Repeat (B, h, w) spectra, filter them and transform: real and imaginary part, (B, 2, s·h, s·w)."""
        batch, height, width = spectrum.shape
        scale = self.scale
        product = self.towards.reshape(-1, scale, height, scale, width) * spectrum[:, None, :, None]
        images = torch.view_as_real(torch.fft.ifft2(product.reshape(batch, scale * height, scale * width)))
        return images.permute(0, 3, 1, 2).contiguous()


def error_level(squared_error: Tensor, radius: Tensor) -> float:
    """The error of a transfer function as one number: the level u that gives `WienerFilter` as much power.

    The squared modulus of estimated minus true transfer function has any shape; `radius` are the frequencies of its
    elements, cycles per LR pixel, of which 0, where the transfer function is 1, does not count.
    """
    squared = radius.square()
    weight = (squared + _LR_CORNER**2) ** (-_SLOPE / 2)
    shape = 1 - torch.exp(-squared / _ERROR_FROM**2 / 2)
    return math.sqrt(float((weight * squared_error)[squared > 0].sum() / (weight * shape).sum()))


def wiener(
    planes: Tensor, kernel: Tensor, scale: int, noise_sigma: tuple[float, float] = (0.0, 0.0), kernel_error: float = 0.0
) -> Tensor:
    """Super-resolve one band, or luma and chroma, by the aliased Wiener filters, with half-sample symmetric borders.

    Args:
        planes: (1, 1, h, w) one band, or (1, 3, h, w) luma, B − Y and R − Y; [0, 1]. The result is (1, 2, s·h, s·w), or
            (1, 4, s·h, s·w), not clamped: luma by each floor, then chroma.
        kernel: Downscaling kernel, (K, K), K ≡ scale (mod 2), sum 1.
        scale: Factor from LR to HR.
        noise_sigma: Standard deviation of the noise in luma and in chroma, [0, 1] units.
        kernel_error: Standard deviation u of the error of the kernel's transfer function; 0 for a kernel that is known.
    """
    height, width = planes.shape[-2:]
    margin = 8 + kernel.shape[-1] // scale  # the circular wrap-around decays within the mirrored border
    padded = pad_symmetric(planes, margin).to(torch.float32)
    response = transfer(kernel.to(padded)[None], scale, padded.shape[-2] * scale, padded.shape[-1] * scale)
    filters = WienerFilter.of(response, scale, kernel_error)
    rows, columns = slice(margin * scale, (margin + height) * scale), slice(margin * scale, (margin + width) * scale)
    results = [filters.luma(padded[:, 0], noise_sigma[0])[..., rows, columns]]
    if planes.shape[1] == 3:
        results.append(filters.chroma(padded[:, 1:], noise_sigma[1])[..., rows, columns])
    return torch.cat(results, 1).to(planes.dtype)
