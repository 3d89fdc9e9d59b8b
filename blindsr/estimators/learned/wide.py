"""Wide Gaussian blurs: the Gaussian that the spectrum of an image shows, and whether it is a blur and not the subject.

What is softer than a pixel is softer than most photographs. To the network of the learned estimator it is as often the
subject, so that its mean is half of either. The spectrum of a wide Gaussian falls by so much more than that of any
photograph that its width is measured to a few per cent; whether to remove it is decided by what that would do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.estimators.learned.tiles import corner_noise
from blindsr.ops.geometry import pad_symmetric
from blindsr.ops.spectrum import (
    ExponentPrior,
    SpectrumPoints,
    fit_spectrum,
    gaussian_blur,
    spectrum_points,
    tile_spectra,
)

__all__ = [
    "POINTS",
    "SpectralGaussian",
    "edge_gain",
    "fitted_gaussian",
    "ramp",
    "rounded",
    "sparsity",
    "sparsity_without",
    "unevenness",
]

_MAX_SPECTRA = 600  # tiles of the fitted spectrum, at most
_ROUNDING = 0.25  # grey levels
_SMALLEST = 1e-8  # LR px⁴, of the determinant of a covariance
_ROUNDING_NOISE = 1 / math.sqrt(12)  # standard deviation of rounding to grey levels
POINTS = 10.0  # `sparsity` from which an image shows points; photographs have up to 6
# Longest σ over the shortest one (motion, and a structure of one direction, have more), number of tiles and `sparsity`,
# each between two values, of which the first excludes a wide blur, or the second.
_RATIOS, _TILES, _SPARSITIES = (2.2, 2.8), (5.0, 10.0), (POINTS, 20.0)
# The same of `edge_gain`, and of the sparsity after the removal, which is π/2 for a random field without any edges. A
# grey image that is blurred and has no noise at all is hardly a photograph, but that of a microscope, or computed: it
# has to show more edges, and one width everywhere, where a smooth subject has different ones (`unevenness`).
_EDGE_GAINS, _GAINS_OF_NOISELESS, _SHARPER_SPARSITIES = (0.82, 0.92), (0.92, 0.96), (1.62, 1.68)
_UNEVENNESS, _UNEVEN_TILES = (0.07, 0.11), 8
_MIN_NOISE = 1.2  # noise over rounding of a photograph
# Of the Wiener filter of `edge_gain`: the noise, grey levels, and the prior power of photographs, f^−2.2.
_NOISE, _POWER, _CORNER, _MARGIN = 1.5, 2.5e-4 * 2**2.2, 1 / 64, 24


@dataclass(frozen=True)
class SpectralGaussian:
    """The Gaussian that the mean spectrum of an image shows, an estimate that is independent of the networks.

    Args:
        covariance: (2, 2), order (y, x), LR px².
        frequencies: (F,), at which its transfer function is needed, cycles per LR pixel.
        tiles: Number of tiles of the spectrum.
        edges: `edge_gain` of the image, if it was measured.
        sharper: `sparsity` after the removal of the Gaussian, if it was measured.
        points: `sparsity` of the image.
        is_noiseless: Whether the image is grey and has no noise but that of rounding.
        unevenness: `unevenness` of such an image.
        data: The mean periodogram, None of a flat image.
        residual: Of the fit, as in `SpectrumFit`.
    """

    covariance: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    tiles: int = 0
    edges: float = 1.0
    sharper: float = math.inf
    points: float = 0.0
    is_noiseless: bool = False
    unevenness: float = 0.0
    data: SpectrumPoints | None = None
    residual: float = math.inf

    @cached_property
    def transfer(self) -> NDArray[np.complex128]:
        """Transfer function, (F, F), order (y, x)."""
        y, x = self.frequencies[:, None], self.frequencies[None]
        (yy, yx), (_, xx) = self.covariance
        quadratic = yy * y * y + 2 * yx * y * x + xx * x * x
        return np.asarray(np.exp(-2 * np.pi**2 * quadratic), np.complex128)

    @cached_property
    def sigmas(self) -> tuple[float, float]:
        """Its shortest and its longest σ, LR px."""
        shortest, longest = np.sqrt(np.linalg.eigvalsh(self.covariance).clip(0))
        return float(shortest), float(longest)

    @property
    def pointedness(self) -> float:
        """From 0 to 1, whether the image shows points on an empty background, such as stars."""
        return ramp(self.points, _SPARSITIES)

    def wideness(self, widest: tuple[float, float], too_wide: tuple[float, float]) -> tuple[float, float]:
        """Whether this is a wide blur of an isotropic kind, and whether it is a smooth subject, each from 0 to 1.

        The removal of a blur leaves edges, that of a smooth subject ripples. Both are 0 of a narrow Gaussian.

        Args:
            widest: Shortest σ between which a blur becomes wide, LR px.
            too_wide: Longest σ between which it becomes too wide.
        """
        shortest, longest = self.sigmas
        wide = (
            ramp(shortest, widest)
            * (1 - ramp(longest, too_wide))
            * (1 - ramp(longest / max(shortest, 1e-6), _RATIOS))
            * ramp(self.tiles, _TILES)
            * (1 - self.pointedness)
        )
        has_edges = ramp(self.edges, _GAINS_OF_NOISELESS if self.is_noiseless else _EDGE_GAINS)
        has_edges *= ramp(self.sharper, _SHARPER_SPARSITIES) * (1 - ramp(self.unevenness, _UNEVENNESS))
        return wide * has_edges, wide * (1 - has_edges)


def ramp(value: float, bounds: tuple[float, float]) -> float:
    """0 below the first bound, 1 above the second, linear between."""
    return float(np.clip((value - bounds[0]) / (bounds[1] - bounds[0]), 0, 1))


def fitted_gaussian(
    plane: Tensor,
    tiles: Tensor,
    scale: int,
    frequencies: NDArray[np.float64],
    *,
    wide: float,
    points: float,
    is_grey: bool,
) -> SpectralGaussian:
    """The Gaussian of an image by `fit_spectrum`; none (a covariance of 0) of a flat one.

    Args:
        plane: (H, W), grey levels from 0 to 255.
        tiles: Its most textured tiles, (N, n, n).
        scale: Factor from LR to HR.
        frequencies: At which the transfer function is needed, cycles per LR pixel.
        wide: Shortest σ, LR px, from which `edge_gain` is measured.
        points: `sparsity` of the image.
        is_grey: Whether it is an image of one band, or of equal ones.
    """
    periodogram = tile_spectra(plane / 255, max_tiles=_MAX_SPECTRA).mean()
    if periodogram.tiles == 0:
        return SpectralGaussian(np.zeros((2, 2)), frequencies, points=points)
    data = spectrum_points(periodogram, scale)
    fit = fit_spectrum(data, ExponentPrior())
    covariance = gaussian_blur(fit, scale) / scale**2
    gaussian = SpectralGaussian(
        covariance, frequencies, periodogram.tiles, points=points, data=data, residual=fit.residual
    )
    if np.linalg.eigvalsh(covariance)[0] <= wide**2:
        return gaussian
    edges = edge_gain(tiles, covariance)
    is_noiseless = is_grey and corner_noise(tiles) < _MIN_NOISE * _ROUNDING_NOISE
    return replace(
        gaussian,
        edges=edges,
        sharper=edges * sparsity(tiles),
        is_noiseless=is_noiseless,
        unevenness=unevenness(tiles, covariance, scale) if is_noiseless else 0.0,
    )


def rounded(plane: Tensor) -> Tensor:
    """An image, (H, W), grey levels, rounded to a quarter of a level.

    An image of floats without noise has a spectrum that falls to nothing, as that of no photograph does: what is
    measured there is the leakage of the window, or looks like an earlier enlargement.
    """
    return (plane / _ROUNDING).round_().mul_(_ROUNDING)


def sparsity(image: Tensor) -> float:
    """Mean square of the differences between neighbours of an image, (…, H, W), over the square of their mean modulus.

    Photographs have 1.5 to 6, points on an empty background many times as much.
    """
    squares = moduli = 0.0
    count = 0
    for axis in (-2, -1):
        differences = image.diff(dim=axis).abs_()
        moduli += float(differences.sum(dtype=torch.float64))
        squares += float(differences.square_().sum(dtype=torch.float64))
        count += differences.numel()
    return squares * count / max(moduli**2, 1e-12)


def unevenness(tiles: Tensor, covariance: NDArray[np.float64], scale: int) -> float:
    """How much the widths that tiles show differ from each other and from that of the image, as logarithms.

    A blur has one width: 0 to 0.07. What is smooth by itself is as smooth as it happens to be: on a microscope image
    0.05 to 0.3. Tiles that are sharper than half of it show nothing: they are flat, but for a few edges.

    Args:
        tiles: (N, n, n), grey levels from 0 to 255, the most textured first.
        covariance: (2, 2), LR px², of the Gaussian that the mean spectrum of the image shows.
        scale: Factor from LR to HR.
    """
    differences = []
    for tile in tiles[:_UNEVEN_TILES]:
        periodogram = tile_spectra(tile / 255, max_tiles=_MAX_SPECTRA).mean()
        if periodogram.tiles:
            own = gaussian_blur(fit_spectrum(spectrum_points(periodogram, scale), ExponentPrior()), scale) / scale**2
            differences.append(_log_width(own) - _log_width(covariance))
    valid = [difference for difference in differences if difference > -math.log(2)]
    return max(abs(float(np.median(valid))), float(np.std(valid))) if valid else 0.0


def _log_width(covariance: NDArray[np.float64]) -> float:
    """Logarithm of the geometric mean of the two standard deviations."""
    return math.log(max(float(np.linalg.det(covariance)), _SMALLEST)) / 4


def edge_gain(tiles: Tensor, covariance: NDArray[np.float64]) -> float:
    """`sparsity` of tiles from which a Gaussian is removed, over that of the tiles.

    Removed blur leaves edges, which are sparse: 0.9 to 1.2. Where the subject itself is smooth, the same filter makes
    ripples of it, which are everywhere: 0.6 to 0.75 on a microscope image.

    Args:
        tiles: (N, n, n), grey levels from 0 to 255.
        covariance: (2, 2), order (y, x), LR px².
    """

    def gaussian(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        return SpectralGaussian(covariance, frequency).transfer.real

    return sparsity_without(tiles, gaussian) / sparsity(tiles)


def sparsity_without(
    tiles: Tensor, transfer: Callable[[NDArray[np.float64]], NDArray[np.float64] | NDArray[np.complex128]]
) -> float:
    """`sparsity` of tiles from which a blur is removed by a Wiener filter.

    Args:
        tiles: (N, n, n), grey levels from 0 to 255.
        transfer: Transfer function of the blur, (F, F), order (y, x), at frequencies, (F,), in cycles per LR pixel.
    """
    padded = pad_symmetric(tiles[:, None] / 255, _MARGIN)[:, 0].double()
    frequency = torch.fft.fftfreq(padded.shape[-1], dtype=torch.float64)
    y, x = frequency[:, None], frequency[None]
    gain = torch.from_numpy(transfer(frequency.numpy()))
    power = float(tiles.var()) / 255**2 / 0.05 * _POWER * (y * y + x * x + _CORNER**2) ** -1.1
    filters = gain.conj() * power / (gain.abs().square() * power + (_NOISE / 255) ** 2)
    sharper = torch.fft.ifft2(torch.fft.fft2(padded) * filters).real[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return sparsity(sharper)
