"""Wide Gaussian blurs: the Gaussian that the spectrum of an image shows, and whether it is a blur and not the subject.

What is softer than a pixel is softer than most photographs. To the network of the learned estimator it is as often the
subject, so that its mean is half of either. The spectrum of a wide Gaussian falls by so much more than that of any
photograph that its width is measured to a few per cent; whether to remove it is decided by what that would do.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.ops.geometry import pad_symmetric
from blindsr.ops.spectrum import ExponentPrior, fit_spectrum, gaussian_blur, spectrum_points, tile_spectra

__all__ = ["POINTS", "SpectralGaussian", "edge_gain", "fitted_gaussian", "ramp", "rounded", "sparsity"]

_MAX_SPECTRA = 600  # tiles of the fitted spectrum, at most
_ROUNDING = 0.25  # grey levels
POINTS = 10.0  # `sparsity` from which an image shows points; photographs have up to 6
# Longest σ over the shortest one (motion, and a structure of one direction, have more), number of tiles, `sparsity` and
# `edge_gain`, each between two values, of which the first excludes a wide blur, or the second.
_RATIOS, _TILES, _SPARSITIES, _EDGE_GAINS = (2.2, 2.8), (5.0, 10.0), (POINTS, 20.0), (0.78, 0.88)
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
        points: `sparsity` of the image.
    """

    covariance: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    tiles: int = 0
    edges: float = 1.0
    points: float = 0.0

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

    def wideness(self, widest: tuple[float, float], too_wide: tuple[float, float]) -> float:
        """From 0 to 1, whether this is a wide blur of an isotropic kind that is worth removing.

        Args:
            widest: Shortest σ between which a blur becomes wide, LR px.
            too_wide: Longest σ between which it becomes too wide.
        """
        shortest, longest = self.sigmas
        return (
            ramp(shortest, widest)
            * (1 - ramp(longest, too_wide))
            * (1 - ramp(longest / max(shortest, 1e-6), _RATIOS))
            * ramp(self.tiles, _TILES)
            * (1 - self.pointedness)
            * ramp(self.edges, _EDGE_GAINS)
        )


def ramp(value: float, bounds: tuple[float, float]) -> float:
    """0 below the first bound, 1 above the second, linear between."""
    return float(np.clip((value - bounds[0]) / (bounds[1] - bounds[0]), 0, 1))


def fitted_gaussian(
    plane: Tensor, tiles: Tensor, scale: int, frequencies: NDArray[np.float64], *, wide: float, points: float
) -> SpectralGaussian:
    """The Gaussian of an image by `fit_spectrum`; none (a covariance of 0) of a flat one.

    Args:
        plane: (H, W), grey levels from 0 to 255.
        tiles: Its most textured tiles, (N, n, n).
        scale: Factor from LR to HR.
        frequencies: At which the transfer function is needed, cycles per LR pixel.
        wide: Shortest σ, LR px, from which `edge_gain` is measured.
        points: `sparsity` of the image.
    """
    periodogram = tile_spectra(plane / 255, max_tiles=_MAX_SPECTRA).mean()
    if periodogram.tiles == 0:
        return SpectralGaussian(np.zeros((2, 2)), frequencies, points=points)
    covariance = gaussian_blur(fit_spectrum(spectrum_points(periodogram, scale), ExponentPrior()), scale) / scale**2
    is_wide = np.linalg.eigvalsh(covariance)[0] > wide**2
    edges = edge_gain(tiles, covariance) if is_wide else 1.0
    return SpectralGaussian(covariance, frequencies, periodogram.tiles, edges, points)


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


def edge_gain(tiles: Tensor, covariance: NDArray[np.float64]) -> float:
    """`sparsity` of tiles from which a Gaussian is removed, over that of the tiles.

    Removed blur leaves edges, which are sparse: 0.9 to 1.2. Where the subject itself is smooth, the same filter makes
    ripples of it, which are everywhere: 0.6 to 0.75 on a microscope image.

    Args:
        tiles: (N, n, n), grey levels from 0 to 255.
        covariance: (2, 2), order (y, x), LR px².
    """
    padded = pad_symmetric(tiles[:, None] / 255, _MARGIN)[:, 0].double()
    frequency = torch.fft.fftfreq(padded.shape[-1], dtype=torch.float64)
    y, x = frequency[:, None], frequency[None]
    (yy, yx), (_, xx) = covariance
    transfer = torch.exp(-2 * math.pi**2 * (yy * y * y + 2 * yx * y * x + xx * x * x))
    power = float(tiles.var()) / 255**2 / 0.05 * _POWER * (y * y + x * x + _CORNER**2) ** -1.1
    filters = transfer * power / (transfer.square() * power + (_NOISE / 255) ** 2)
    sharper = torch.fft.ifft2(torch.fft.fft2(padded) * filters).real[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return sparsity(sharper) / sparsity(tiles)
