"""The mean periodogram of an image, and the parametric model of a photograph's spectrum after blur and subsampling."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

from blindsr.errors import ImageError

__all__ = [
    "MIN_SIDE",
    "RESIDUAL_HR_BLUR",
    "ExponentPrior",
    "Periodogram",
    "SpectrumFit",
    "SpectrumPoints",
    "fit_spectrum",
    "gaussian_blur",
    "spectrum_points",
    "tile_spectra",
]

MIN_SIDE = 16  # side of the smallest image and of the smallest tile, LR pixels
# A tile with a smaller standard deviation, [0, 1] units, holds rounding and noise only (1.2 of 255 grey levels).
_FLAT = 1.2 / 255
# Tiles whose fine structure is this much weaker (log) than that of the sharpest tenth are considered out of focus.
_OUT_OF_FOCUS = 3.0
_SHARPEST = 0.9
# Bands, cycles per LR pixel, whose power ratio measures fine structure: up to _COARSE, and from _FINE[0] to _FINE[1].
_COARSE, _FINE = 0.09, (0.16, 0.32)
_CORNERS = 0.5  # cycles per LR pixel; beyond, there is noise only
_NOISE_MARGIN = 1.25  # ratio by which white noise may exceed its power in the corners by chance in the fine band
_BATCH = 512  # tiles that are transformed together: they overlap, so that all of them are several copies of the image
_BLOCKS = 16  # approximate number of blocks of neighbouring tiles from which random halves are drawn


@dataclass(frozen=True)
class Periodogram:
    """Mean relative power by frequency."""

    power: NDArray[np.float64]  # (n, n), in `np.fft.fft2` order; the mean power of every single tile is 1
    frequency: NDArray[np.float64]  # (n,), cycles per LR pixel, in `np.fft.fftfreq` order
    tiles: int  # number of tiles in the mean; 0 if the image is flat (`power` is then zero)


@dataclass(frozen=True)
class TileSpectra:
    """Periodograms of Hann-windowed tiles that overlap by half, without flat tiles and tiles out of focus."""

    # (T, n, n // 2 + 1), in `torch.fft.rfft2` order; every tile has the mean 1, so that high contrast does not dominate
    power: Tensor
    # (T,), each tile's block of neighbouring tiles; tiles of different blocks share pixels only at the blocks' borders
    blocks: Tensor

    def mean(self, selection: Tensor | None = None) -> Periodogram:
        """The mean periodogram of all tiles, or of a selection, (T,) bool."""
        power = self.power if selection is None else self.power[selection]
        side = int(power.shape[1])
        frequency = np.fft.fftfreq(side).astype(np.float64)
        if len(power) == 0:
            return Periodogram(np.zeros((side, side)), frequency, 0)
        half = power.mean(0, dtype=torch.float64).cpu().numpy()
        whole = np.empty((side, side))
        whole[:, : side // 2 + 1] = half
        # The spectrum of a real image is point symmetric.
        whole[0, side // 2 + 1 :] = half[0, side // 2 - 1 : 0 : -1]
        whole[1:, side // 2 + 1 :] = half[:0:-1, side // 2 - 1 : 0 : -1]
        return Periodogram(whole, frequency, len(power))

    def halves(self, seed: int) -> tuple[Tensor, Tensor] | None:
        """Two random halves of the tiles, each (T,) bool, by whole blocks; None if all tiles are in one block."""
        counts = torch.bincount(self.blocks.cpu())
        used = counts.nonzero()[:, 0]
        if len(used) < 2:
            return None
        order = used[torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))]
        before = counts[order].cumsum(0) - counts[order]
        first = torch.isin(self.blocks, order[2 * before < len(self.blocks)].to(self.blocks.device))
        return (first, ~first) if (~first).any() else None


def tile_spectra(plane: Tensor, *, tile: int = 64, max_tiles: int = 4000, seed: int = 0) -> TileSpectra:
    """|FFT|² of the tiles of an image.

    Args:
        plane: (H, W), LR luma.
        tile: Side of the tiles, even, LR pixels; an image shorter than two tiles gets smaller ones.
        max_tiles: Number of tiles above which a random selection is used.
        seed: Seed of the selection.

    Raises:
        ImageError: A side is shorter than 16 px.
    """
    shortest = min(plane.shape)
    if shortest < MIN_SIDE:
        raise ImageError(
            f"the spectral estimate needs at least {MIN_SIDE}×{MIN_SIDE} px, got {plane.shape[1]}×{plane.shape[0]} px; "
            "use a known kernel instead."
        )
    # A small image gets smaller tiles: the spectrum of a single tile is too rough, and it has no halves.
    side = min(tile, max(MIN_SIDE, shortest // 4 * 2))
    # The grid lies in the middle, so that a flipped image has the same tiles.
    rest = [(length - side) % (side // 2) // 2 for length in plane.shape]
    grid = plane[rest[0] :, rest[1] :].unfold(0, side, side // 2).unfold(1, side, side // 2)
    blocks = _blocks(grid.shape[0], grid.shape[1])
    tiles = grid.reshape(-1, side, side)
    textured = (tiles.std((1, 2)) > _FLAT).nonzero()[:, 0]
    if len(textured) > max_tiles:
        ranks = _mirrored_ranks(grid.shape[0], grid.shape[1], seed).to(textured.device)
        textured = textured[ranks[textured].argsort(stable=True)[:max_tiles]]
    hann = torch.hann_window(side, periodic=True, dtype=tiles.dtype, device=tiles.device)
    weights = torch.full((side // 2 + 1,), 2.0, dtype=tiles.dtype, device=tiles.device)
    weights[0] = weights[-1] = 1.0
    power = [tiles.new_zeros(0, side, side // 2 + 1, dtype=torch.float32)]
    for batch in torch.split(textured, _BATCH) if len(textured) else ():
        part = tiles[batch]
        windowed = (part - part.mean((1, 2), keepdim=True)) * hann[:, None] * hann
        spectrum = torch.fft.rfft2(windowed).abs().square()
        mean = (spectrum * weights).sum((1, 2), keepdim=True) / side**2
        power.append((spectrum / mean).float())
    spectra = torch.cat(power)
    focused = _in_focus(spectra)
    return TileSpectra(spectra[focused], blocks.to(textured.device)[textured][focused])


def _in_focus(spectra: Tensor) -> Tensor:
    """Which tiles, (T,) bool, have about as much fine structure as the sharpest ones."""
    if len(spectra) == 0:
        return torch.zeros(0, dtype=torch.bool, device=spectra.device)
    side = spectra.shape[1]
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    radius = torch.hypot(y, x).to(spectra.device)
    # At the lowest frequencies the Hann window leaks.
    coarse = (radius >= 2 / side) & (radius < max(_COARSE, 3 / side))
    fine = (radius >= _FINE[0]) & (radius < _FINE[1])
    # The corners of the spectrum measure the noise, which would make a flat tile look sharp.
    structure = spectra[:, fine].mean(1) - _NOISE_MARGIN * spectra[:, radius >= _CORNERS].mean(1)
    measure = structure.clamp(min=1e-12).log() - (spectra[:, coarse].mean(1) + 1e-12).log()
    return measure >= torch.quantile(measure, _SHARPEST) - _OUT_OF_FOCUS


def _mirrored_ranks(rows: int, columns: int, seed: int) -> Tensor:
    """A random rank of each tile of a grid, (rows·columns,), which is the same of tiles at mirrored places.

    The tiles of the lowest ranks are nearly the same ones of a flipped image.
    """
    quarter = (rows + 1) // 2, (columns + 1) // 2
    numbers = torch.randperm(quarter[0] * quarter[1], generator=torch.Generator().manual_seed(seed)).reshape(quarter)
    y, x = (torch.minimum(places, places.flip(0)) for places in (torch.arange(rows), torch.arange(columns)))
    return numbers[y][:, x].reshape(-1)


def _blocks(rows: int, columns: int) -> Tensor:
    """Number of the block that each tile of a grid belongs to, (rows·columns,)."""
    side = max(1, int((rows * columns / _BLOCKS) ** 0.5))
    across = -(-columns // side)
    numbers = (torch.arange(rows) // side)[:, None] * across + torch.arange(columns) // side
    return numbers.reshape(-1)


RESIDUAL_HR_BLUR = 0.25
# Below this frequency, in harmonics of the tile, the Hann window leaks the mean into the spectrum.
_MIN_HARMONIC = 2.0
# Smallest variance of the blur, LR px²: less cannot be distinguished from none within one period of the spectrum.
_MIN_VARIANCE = 0.01


@dataclass(frozen=True)
class ExponentPrior:
    """Gaussian prior on the exponent α of |f|^−α, which is hard to separate from the width of an isotropic blur."""

    mean: float = 2.2
    sigma: float = 0.3
    weight: float = 0.03  # relative to one fitted frequency, times their number

    def residual(self, exponent: float, count: int) -> float:
        """The residual of a value of α in a least-squares fit to `count` frequencies.

        The frequencies of one photograph share its structure: together they weigh far less than their number, so the
        prior is scaled up with it.
        """
        return math.sqrt(self.weight * count) * (exponent - self.mean) / self.sigma


@dataclass(frozen=True)
class SpectrumFit:
    """Parameters of the model."""

    covariance: NDArray[np.float64]  # Σ, (2, 2), LR px², order (y, x)
    exponent: float  # α
    noise: float  # N relative to the power at the lowest fitted frequencies
    residual: float  # root mean square of log P − model; an ideal periodogram of n tiles has about 1/√n
    parameters: NDArray[np.float64]  # θ of the model, from which the fit of a similar periodogram may start


@dataclass(frozen=True)
class SpectrumPoints:
    """The data of a fit: half of the frequency plane (the spectrum of a real image is point symmetric)."""

    frequencies: NDArray[np.float64]  # (F, 2), (y, x), cycles per LR pixel
    log_power: NDArray[np.float64]  # (F,)
    aliases: NDArray[np.float64]  # (M, F, 2), frequencies that sampling folds onto each frequency …
    beyond: float = 100.0  # … and larger than this where there are fewer than M

    def amplitude(self, exponent: float) -> float:
        """Initial value of log A, from the lowest frequencies; with the exponent 0 their mean log-power."""
        radius = np.linalg.norm(self.frequencies, axis=1)
        low = radius <= np.quantile(radius, 0.05)
        return float((self.log_power[low] + exponent * np.log(radius[low])).mean())


def spectrum_points(periodogram: Periodogram, scale: int) -> SpectrumPoints:
    """The frequencies of a periodogram that are fitted; the scale bounds their aliases."""
    n = len(periodogram.frequency)
    y, x = np.meshgrid(periodogram.frequency, periodogram.frequency, indexing="ij")
    used = (np.hypot(y, x) * n >= _MIN_HARMONIC) & ((x > 0) | ((x == 0) & (y > 0)))
    frequencies = np.stack([y[used], x[used]], -1)
    return SpectrumPoints(frequencies, np.log(periodogram.power[used] + 1e-300), _aliases(frequencies, scale))


def _aliases(frequencies: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """All f + m, m whole, inside HR's own Nyquist square |f + m| ≤ s/2: (M, F, 2), far away where outside."""
    bound = (scale + 1) // 2
    shifts = np.arange(-bound, bound + 1)
    offsets = np.stack(np.meshgrid(shifts, shifts, indexing="ij"), -1).reshape(-1, 1, 2)
    shifted = frequencies[None] + offsets
    outside = np.abs(shifted).max(-1) > scale / 2 + 1e-9
    shifted[outside] = 1e3  # so far that the Gaussian makes their power zero
    return np.asarray(shifted[~outside.all(1)])


def fit_spectrum(
    points: SpectrumPoints, prior: ExponentPrior, initial: NDArray[np.float64] | None = None
) -> SpectrumFit:
    """Fit A, α, N and Σ to a mean periodogram with a Huber loss and a Gaussian prior on α.

    The spectrum of photographs falls as |f|^−α with α near 2; what falls faster, and not equally in all directions,
    is the blur.

    Args:
        points: Data of an image that is not flat.
        prior: Prior on α.
        initial: `parameters` of a similar fit, which makes the fit three times as fast; None estimates them.

    Returns:
        The parameters at the optimum.

    References:
        Field, "Relations between the statistics of natural images and the response properties of cortical cells",
        JOSA A 1987 (the exponent).
    """
    model, count = _Model(points.aliases), len(points.log_power)
    slope = prior.residual(1.0, count) - prior.residual(0.0, count)

    def residuals(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(points.log_power - model(theta), prior.residual(theta[1], count))

    def jacobian(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.vstack([-model.jacobian(theta), [0, slope, 0, 0, 0, 0]])

    if initial is None:
        noise = float(np.quantile(points.log_power, 0.01)) - 2.0
        initial = np.array([points.amplitude(prior.mean), prior.mean, noise, 0.6, 0.0, 0.6])
    fit = optimize.least_squares(residuals, initial, jacobian, loss="huber", f_scale=0.5, max_nfev=200)
    return SpectrumFit(
        covariance=_covariance(fit.x),
        exponent=float(fit.x[1]),
        noise=float(np.exp(fit.x[2] - points.amplitude(0.0))),
        residual=float(np.sqrt(np.mean(fit.fun[:-1] ** 2))),
        parameters=np.asarray(fit.x),
    )


def gaussian_blur(fit: SpectrumFit, scale: int, residual_hr_blur: float = RESIDUAL_HR_BLUR) -> NDArray[np.float64]:
    """Covariance matrix in HR px² of the downscaling kernel, which excludes the blur β that HR has itself: (s² − β)·Σ.

    Args:
        fit: From `fit_spectrum`.
        scale: Factor from LR to HR.
        residual_hr_blur: β, calibrated at ×2.
    """
    return np.asarray((scale**2 - residual_hr_blur) * fit.covariance)


class _Model:
    """log[Σ_m A|f+m|^−α exp(−4π²(f+m)ᵀΣ(f+m)) + N] and its derivatives by θ = (log A, α, log N, a, b, c), Σ = LLᵀ."""

    def __init__(self, aliases: NDArray[np.float64]) -> None:
        y, x = aliases[..., 0], aliases[..., 1]
        self._log_radius = 0.5 * np.log(y * y + x * x)
        self._products = np.stack([y * y, 2 * y * x, x * x])
        self._latest: tuple[bytes, tuple[NDArray[np.float64], NDArray[np.float64]]] | None = None

    def __call__(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.logaddexp(self._signal(theta)[0], theta[2]))

    def jacobian(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives, (F, 6)."""
        log_signal, shares = self._signal(theta)
        signal = np.exp(log_signal - np.logaddexp(log_signal, theta[2]))
        radius = np.einsum("mf,mf->f", shares, self._log_radius)
        yy, yx, xx = -4 * np.pi**2 * np.einsum("mf,kmf->kf", shares, self._products)
        a, b, c = theta[3:]
        of_signal = [np.ones_like(signal), -radius, 2 * a * yy + b * yx, a * yx + 2 * b * xx, 2 * c * xx]
        columns = [signal * derivative for derivative in of_signal]
        return np.stack([*columns[:2], 1 - signal, *columns[2:]], -1)

    def _signal(self, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log of the sum over the aliases, (F,), and each alias's share of it, (M, F)."""
        key = theta.tobytes()
        if self._latest is None or self._latest[0] != key:  # values and derivatives are asked for one after the other
            self._latest = key, self._signal_at(theta)
        return self._latest[1]

    def _signal_at(self, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        covariance = _covariance(theta)
        weights = np.array([covariance[0, 0], covariance[0, 1], covariance[1, 1]])
        logs = theta[0] - theta[1] * self._log_radius - 4 * np.pi**2 * np.tensordot(weights, self._products, 1)
        highest = logs.max(0)
        shares = np.exp(logs - highest)
        total = shares.sum(0)
        return highest + np.log(total), shares / total


def _covariance(theta: NDArray[np.float64]) -> NDArray[np.float64]:
    factor = np.array([[theta[3], 0.0], [theta[4], theta[5]]])
    return np.asarray(factor @ factor.T + _MIN_VARIANCE * np.eye(2))
