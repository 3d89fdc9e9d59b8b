"""How the bands of an image are displaced against each other, by a lens, a scanner or a satellite, and where to.

A lens enlarges each colour by its own factor (lateral chromatic aberration), the bands of a scanner or of a satellite
are taken one after another. What one band shows at a place, another one shows beside it.

References:
    Kuglin, Hines, "The phase correlation image alignment method", IEEE Int. Conf. on Cybernetics and Society 1975:
    displacement as the peak of a correlation by Fourier transform. Here it is that of gradients, whose sign and size
    differ less between colours than their brightness, and the peak is found between the pixels by Newton's method.
    Mallon, Whelan, "Calibration and removal of lateral chromatic aberration in images", Pattern Recognition Letters
    28, 2007: displacement of a colour as an enlargement about a centre.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TILE", "Displacement", "estimate_displacements"]

TILE = 64  # px, side of the parts that are compared
_REACH = 8  # px, largest displacement that is looked for
_STEPS = 4  # of Newton's method
_MIN_GRADIENT = 2.0 / 255  # root mean square in a tile, of the weaker of both bands
_MIN_CORRELATION = 0.6
# A tile whose correlation has another peak of this share, at a distance of 3 px or more, has a pattern, or edges of one
# direction alone: it does not say which displacement is meant.
_SECOND_PEAK, _PEAK_RADIUS = 0.88, 3
_MIN_TILES, _MIN_TILES_OF_GROWTH = 4, 12
_MIN_SPREAD = 0.1  # standard deviation of the places of the tiles that agree, of each side: one caption is no evidence
_ROUNDS = 12  # of the weighted fit
_LEAST_SPREAD = 0.1  # px, of the deviations from the fit
_GROWTHS = (0.0, -0.004, -0.002, -0.001, 0.001, 0.002, 0.004)  # starts of the fit
# What an enlargement has to explain: px at the mean distance from the centre, and of the median deviation.
_MIN_GROWTH, _MIN_GAIN = 0.15, 0.02
_NEAR, _MIN_NEAR = 0.35, 0.7  # px of a tile's deviation from the fit, and the share of the tiles that are as near
# Root mean square over the tiles, px, of the band that is displaced most: less can hardly be measured, and stays as it
# was taken; and of a further band.
_MIN_DISPLACEMENT, _MIN_FURTHER = 0.25, 0.2

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Displacement:
    """Where a band shows what the reference band shows: at p + shift + growth·(p − centre).

    Args:
        shift: (y, x), px.
        growth: Enlargement of the band over that of the reference, minus 1.
        centre: (y, x), px, the middle of the image.
    """

    shift: tuple[float, float]
    growth: float
    centre: tuple[float, float]

    def positions(self, axis: int, first: int, last: int) -> Tensor:
        """Where the band shows the rows (axis 0) or columns (axis 1) [first, last) of the reference; float64, px."""
        place = torch.arange(first, last, dtype=torch.float64)
        return place + self.shift[axis] + self.growth * (place - self.centre[axis])

    @property
    def largest(self) -> float:
        """Length of the largest displacement in the image, px."""
        along = (abs(s) + abs(self.growth) * c for s, c in zip(self.shift, self.centre, strict=True))
        return math.hypot(*along)


def estimate_displacements(
    tiles: Tensor, corners: Sequence[tuple[int, int]], size: tuple[int, int], reference: int
) -> tuple[Displacement | None, ...]:
    """Estimate the displacement of each band against a reference.

    It is that of the tiles whose bands resemble each other, by a robust fit, and there is none unless most of these
    agree on it: colours that differ by what they show have no displacement that all of the image has.

    Args:
        tiles: Textured parts of the image, (N, C, 64, 64), [0, 1].
        corners: Their top left corners in the image, (y, x), px.
        size: Height and width of the image.
        reference: Index of the band that the others are compared with.

    Returns:
        For each band, None where it is in place, or where its displacement cannot be measured.
    """
    centre = (size[0] - 1) / 2, (size[1] - 1) / 2
    places = np.array(corners, np.float64).reshape(-1, 2) + (TILE - 1) / 2 - centre
    spectra, energy = _gradient_spectra(tiles.cpu())  # a few tiles, of which NumPy fits the result
    found: list[tuple[float, Displacement | None]] = []
    for band in range(tiles.shape[1]):
        strength = torch.minimum(energy[:, band], energy[:, reference]).sqrt() / TILE
        if band == reference:
            found.append((0.0, None))
            continue
        shifts, correlation = _shifts(spectra, energy, band, reference)
        used = ((correlation > _MIN_CORRELATION) & (strength > _MIN_GRADIENT)).numpy()
        found.append(_fitted(shifts.double().numpy()[used], places[used], size))
    if max(length for length, _ in found) < _MIN_DISPLACEMENT:
        return (None,) * len(found)
    return tuple(displacement for _, displacement in found)


def _gradient_spectra(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Spectra of the windowed gradients d/dx + i·d/dy, (N, C, n, n), and the sums of their squares, (N, C)."""
    window = torch.hann_window(TILE, periodic=False)
    gradient = tiles.new_zeros((*tiles.shape, 2))
    gradient[..., 1:-1, 0] = (tiles[..., 2:] - tiles[..., :-2]) / 2
    gradient[..., 1:-1, :, 1] = (tiles[..., 2:, :] - tiles[..., :-2, :]) / 2
    windowed = torch.view_as_complex(gradient) * (window[:, None] * window)
    return torch.fft.fft2(windowed), windowed.abs().square().sum((-2, -1))


def _shifts(spectra: Tensor, energy: Tensor, band: int, reference: int) -> tuple[Tensor, Tensor]:
    """Displacement of a band in each tile, (N, 2), px, and the correlation there, (N,), 0 where it is not clear."""
    cross = spectra[:, band] * spectra[:, reference].conj()
    norm = (energy[:, band] * energy[:, reference]).sqrt().clamp_min(1e-12)
    correlation = torch.fft.ifft2(cross).real
    place = (torch.fft.fftfreq(TILE) * TILE).round()
    near = place.abs() <= _REACH
    inside = correlation.masked_fill(~(near[:, None] & near), -math.inf)
    peak = inside.flatten(1).argmax(1)
    start = torch.stack([place[peak // TILE], place[peak % TILE]], 1)
    shift = start.clone()
    height = inside.flatten(1).amax(1)
    apart = (place[:, None] - start[:, :1, None]).abs().maximum((place - start[:, 1:, None]).abs())
    second = correlation.masked_fill((apart < _PEAK_RADIUS) | ~(near[:, None] & near), -math.inf).flatten(1).amax(1)
    is_clear = (second < _SECOND_PEAK * height) & (start.abs().amax(1) < _REACH)
    for _ in range(_STEPS):
        height, step = _newton(cross, shift)
        shift = torch.minimum(torch.maximum(shift + step, start - 1), start + 1)
        if float(shift.norm(dim=1).median()) < _MIN_FURTHER / 2:
            break  # in place, as nearly all images are
    return shift, height / norm * is_clear


def _newton(cross: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The correlation between the pixels, and the step towards its peak."""
    frequency = torch.fft.fftfreq(TILE)
    frequency[TILE // 2] = 0
    slope = 2j * math.pi * frequency
    y, x = (torch.exp(slope * shift[:, axis : axis + 1]) for axis in (0, 1))

    def total(along_y: Tensor, along_x: Tensor) -> Tensor:
        return ((cross @ along_x[..., None])[..., 0] * along_y).sum(1).real / TILE**2

    height, dy, dx = total(y, x), total(y * slope, x), total(y, x * slope)
    yy, xx, yx = total(y * slope**2, x), total(y, x * slope**2), total(y * slope, x * slope)
    determinant = yy * xx - yx * yx
    is_peak = (determinant > 0) & (yy < 0)
    step = torch.stack([yx * dx - xx * dy, yx * dy - yy * dx], 1) / torch.where(is_peak, determinant, 1.0)[:, None]
    return height, torch.where(is_peak[:, None], step, torch.zeros_like(step)).clamp(-0.5, 0.5)


def _fitted(shifts: _Array, places: _Array, size: tuple[int, int]) -> tuple[float, Displacement | None]:
    """The displacement that most of the tiles agree on, of their shifts and places, (N, 2), and its length, px."""
    if len(shifts) < _MIN_TILES or np.median(np.hypot(*shifts.T)) < _MIN_FURTHER / 2:
        return 0.0, None
    constant, deviation = _robust(shifts, places, [np.append(np.median(shifts, 0), 0.0)], 2)
    best = constant, deviation
    if len(shifts) >= _MIN_TILES_OF_GROWTH:
        starts = [np.append(np.median(shifts - growth * places, 0), growth) for growth in _GROWTHS]
        fit, deviations = _robust(shifts, places, starts, 3)
        distance = float(np.hypot(*places.T).mean())
        gain = np.median(deviation) - np.median(deviations)
        if abs(fit[2]) * distance > _MIN_GROWTH and gain > _MIN_GAIN:
            best = fit, deviations
    fit, deviations = best
    length = math.sqrt(float(((fit[:2] + fit[2] * places) ** 2).sum(1).mean()))
    near = deviations < _NEAR
    if length < _MIN_FURTHER or near.mean() < _MIN_NEAR or (places[near].std(0) < _MIN_SPREAD * np.array(size)).any():
        return 0.0, None
    centre = (size[0] - 1) / 2, (size[1] - 1) / 2
    return length, Displacement((float(fit[0]), float(fit[1])), float(fit[2]), centre)


def _robust(shifts: _Array, places: _Array, starts: list[_Array], count: int) -> tuple[_Array, _Array]:
    """Shift and growth (y, x, g) by Tukey's weights, from the best of some starts, and the deviations, (N,), px.

    Args:
        shifts: (N, 2).
        places: (N, 2), from the middle of the image.
        starts: Values to begin with.
        count: 2 fits the shift alone, 3 the growth as well.
    """
    design = np.zeros((len(shifts), 2, 3))
    design[:, 0, 0] = design[:, 1, 1] = 1
    design[..., 2] = places
    best, least = starts[0], math.inf
    for start in starts:
        fit = start.copy()
        for _ in range(_ROUNDS):
            deviation = np.hypot(*(shifts - design @ fit).T)
            width = 4 * max(1.5 * float(np.median(deviation)), _LEAST_SPREAD)
            weight = np.repeat(np.clip(1 - (deviation / width) ** 2, 0, None), 2)
            rows = design.reshape(-1, 3)[:, :count] * weight[:, None]
            fit = np.zeros(3)
            fit[:count] = np.linalg.lstsq(rows, shifts.reshape(-1) * weight, rcond=None)[0]
        median = float(np.median(np.hypot(*(shifts - design @ fit).T)))
        if median < least:
            best, least = fit, median
    return best, np.hypot(*(shifts - design @ best).T)
