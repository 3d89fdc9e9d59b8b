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
    """Transfer functions of kernels on the Fourier grid of an HR image.

    Args:
        kernels: Correlation kernels, (B, K, K), K ≡ scale (mod 2); LR pixel i is centred at s·i + (s − 1)/2.
        scale: Factor from LR to HR.
        height: Height of the HR image, px.
        width: Its width, px.

    Returns:
        (B, height, width), complex64, or complex128 for float64; frequency 0 has the sum of the kernel.
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

    numerator: Tensor  # prior times H*, (B, s·h, s·w)
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
        numerator = prior * response.conj()
        power = numerator.real * real - numerator.imag * response.imag
        error = _column(kernel_error, real)
        if bool(error.any()):
            power = power + error**2 * (prior * _error_shape(height, width, scale, real.dtype, real.device))
        # The mean of the s² parts of the spectrum that sampling folds onto each other.
        folded = power.reshape(-1, scale, height // scale, scale, width // scale).mean((1, 3))
        return cls(numerator, folded, scale)

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
        product = self.numerator.reshape(-1, scale, height, scale, width) * spectrum[:, None, :, None]
        images = torch.view_as_real(torch.fft.ifft2(product.reshape(batch, scale * height, scale * width)))
        return images.permute(0, 3, 1, 2).contiguous()


def error_level(squared_error: Tensor, radius: Tensor) -> float:
    """The error of a transfer function as one number: the level u that gives `WienerFilter` as much power.

    The squared modulus of estimated minus true transfer function has any shape; `radius` are the frequencies of its
    elements, cycles per LR pixel, of which 0, where the transfer function is 1, does not count.
    """
    return math.sqrt(float((error_weights(radius) * squared_error).sum()))


def error_weights(radius: Tensor) -> Tensor:
    """Weights of the squared errors in the square of `error_level`, at frequencies in cycles per LR pixel."""
    squared = radius.square()
    weight = (squared + _LR_CORNER**2) ** (-_SLOPE / 2)
    shape = 1 - torch.exp(-squared / _ERROR_FROM**2 / 2)
    return torch.where(squared > 0, weight, 0) / (weight * shape).sum()


def wiener(
    planes: Tensor, kernel: Tensor, scale: int, noise_sigma: tuple[float, float] = (0.0, 0.0), kernel_error: float = 0.0
) -> Tensor:
    """Super-resolve one band, or luma and chroma, by the aliased Wiener filters, with borders as of `extend`.

    Args:
        planes: (1, 1, h, w) one band, or (1, 3, h, w) luma, B − Y and R − Y; [0, 1]. The result is (1, 2, s·h, s·w), or
            (1, 4, s·h, s·w), not clamped: luma by each floor, then chroma.
        kernel: Downscaling kernel, (K, K), K ≡ scale (mod 2), sum 1.
        scale: Factor from LR to HR.
        noise_sigma: Standard deviation of the noise in luma and in chroma, [0, 1] units.
        kernel_error: Standard deviation u of the error of the kernel's transfer function; 0 for a kernel that is known.
    """
    padded, margin = extend(planes, kernel, scale, noise_sigma, kernel_error)
    return cropped(wiener_periodic(padded, kernel, scale, noise_sigma, kernel_error), margin * scale)


def wiener_periodic(
    planes: Tensor,
    kernel: Tensor,
    scale: int,
    noise_sigma: tuple[float, float] = (0.0, 0.0),
    kernel_error: float = 0.0,
) -> Tensor:
    """As `wiener`, of periodic planes, such as those of `extend`."""
    padded = planes.to(torch.float32)
    filters = _filters(padded, kernel, scale, kernel_error)
    results = [filters.luma(padded[:, 0], noise_sigma[0])]
    if planes.shape[1] == 3:
        results.append(filters.chroma(padded[:, 1:], noise_sigma[1]))
    return torch.cat(results, 1).to(planes.dtype)


def _filters(planes: Tensor, kernel: Tensor, scale: int, kernel_error: float) -> WienerFilter:
    height, width = (scale * side for side in planes.shape[-2:])
    return WienerFilter.of(transfer(kernel.to(planes)[None], scale, height, width), scale, kernel_error)


def cropped(image: Tensor, margin: int) -> Tensor:
    """(…, H, W) without `margin` pixels on each side."""
    return image if margin == 0 else image[..., margin:-margin, margin:-margin]


# -------------------------------------------------------------------------------------------------------- borders

_MARGIN = 8  # LR pixels that are added on each side, beside the kernel's; what wraps around decays there
_LONG = 16  # LR pixels; a filter that reaches farther has an inverse that rings from a mirrored border
_PROBE = 64  # LR pixels, side of the grid on which the support radius of a filter is measured
_TAIL = 0.1  # sum of the absolute weights of a filter beyond `_LONG`
_FILL_ERROR = 0.05  # error of the kernel with which borders are filled: keeps the equations well conditioned
_FILL_STEPS = 40  # of conjugate gradients


def extend(
    planes: Tensor,
    kernel: Tensor,
    scale: int,
    noise_sigma: tuple[float, float] = (0.0, 0.0),
    kernel_error: float = 0.0,
) -> tuple[Tensor, int]:
    """Extend an image beyond its borders to a periodic one, so that a filter can be applied by a Fourier transform.

    The light that a blur carries in from beyond the border is not in the image. A mirrored border is no image that the
    kernel could have blurred, and the inverse of a long kernel (defocus, motion) turns it into ringing across the
    image. There, the pixels that are added are their conditional mean given the image, for an image with the filter's
    prior spectrum: Wiener filter and conditional mean together are the optimal linear estimate from the pixels that
    were seen. Other kernels get half-sample symmetric borders, whose error does not reach far.

    Args:
        planes: (1, 1, h, w) or (1, 3, h, w), as for `wiener`.
        kernel: (K, K).
        scale: Factor from LR to HR.
        noise_sigma: As for `wiener`.
        kernel_error: As for `wiener`.

    Returns:
        The planes with a margin on each side, (1, P, h + 2m, w + 2m), and m.

    References:
        Reeves, "Fast image restoration without boundary artifacts", IEEE TIP 14(10), 2005, for the missing pixels as
        unknowns of a linear system that conjugate gradients solve.
    """
    margin = _MARGIN + kernel.shape[-1] // scale
    padded = pad_symmetric(planes, margin)
    if not has_long_inverse(kernel, scale, min(noise_sigma), kernel_error):
        return padded, margin
    filters = _filters(padded.float(), kernel, scale, max(kernel_error, _FILL_ERROR))
    noise = [noise_sigma[0] ** 2 + FLOORS[0] ** 2]
    if planes.shape[1] == 3:
        noise += 2 * [(noise_sigma[1] ** 2 + CHROMA_FLOOR**2) * (_POWER / _CHROMA_POWER)]
    power = filters.folded + torch.tensor(noise).to(filters.folded)[:, None, None]
    mean = planes.mean((-2, -1), keepdim=True).float()
    filled = mean + _conditional_mean((padded.float() - mean)[0], power, margin)[None]
    return filled.to(planes.dtype), margin


def has_long_inverse(kernel: Tensor, scale: int, noise_sigma: float, kernel_error: float) -> bool:
    """Whether the Wiener filter of a kernel has weights that count farther than 16 LR pixels away."""
    point = torch.zeros(1, 1, _PROBE, _PROBE, device=kernel.device)
    point[..., _PROBE // 2, _PROBE // 2] = 1
    weights = wiener_periodic(point, kernel, scale, (noise_sigma, noise_sigma), kernel_error)[0].abs()
    inner = cropped(weights, scale * (_PROBE // 2 - _LONG))
    beyond = (weights.sum((-2, -1)) - inner.sum((-2, -1))) / scale**2
    return bool(beyond.max() > _TAIL)


def _conditional_mean(padded: Tensor, power: Tensor, margin: int) -> Tensor:
    """The pixels of a margin given those inside, for stationary Gaussian planes with a power spectrum.

    They minimise the quadratic form of the inverse covariance; preconditioned by the covariance itself.

    Args:
        padded: (P, h, w), with a first guess in the margin.
        power: (P, h, w), power spectrum.
        margin: Unknown pixels on each side.
    """
    height, width = padded.shape[-2:]
    unknown = torch.ones_like(padded[:1])
    cropped(unknown, margin).zero_()
    covariance = power[..., : width // 2 + 1] / power.mean((-2, -1), keepdim=True)

    def filtered(planes: Tensor, spectrum: Tensor) -> Tensor:
        result: Tensor = torch.fft.irfft2(torch.fft.rfft2(planes) * spectrum, s=(height, width)) * unknown
        return result

    planes = padded.clone()
    residual = -filtered(planes, 1 / covariance)
    preconditioned = filtered(residual, covariance)
    direction, decrease = preconditioned, (residual * preconditioned).sum((-2, -1), keepdim=True)
    for _ in range(_FILL_STEPS):
        image = filtered(direction, 1 / covariance)
        step = decrease / (direction * image).sum((-2, -1), keepdim=True).clamp_min(1e-30)
        planes = planes + step * direction
        residual = residual - step * image
        preconditioned = filtered(residual, covariance)
        before, decrease = decrease, (residual * preconditioned).sum((-2, -1), keepdim=True)
        direction = preconditioned + decrease / before.clamp_min(1e-30) * direction
    return planes
