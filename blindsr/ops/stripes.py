"""Stripes: noise that is constant along the rows of an image, or along its columns, as of CMOS readout and scanners."""

import math

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from blindsr.ops.ground import ground_of

__all__ = ["estimate_stripes", "row_differences", "row_offsets"]

_LINE = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth difference: its square sum is 70
_RUN = 16  # px along a row over which the median is taken
_APART = 2  # runs between two that are compared, so that no texture connects them
_MIN_RUNS, _MIN_ROWS = 6, 40
_CLIP = 3.0  # standard deviations at which differences are clipped: an edge of the scene is no noise
# Of the covariances of pairs of runs: the quantile that is taken, below the median and with one at each end. Those of
# noise are the same everywhere, as far as they can be measured; those of waves, or of the floors of a house, are not.
_QUANTILES, _EVEN = (0.1, 0.3, 0.5, 0.9), (0.3, 2.2)
_PARTS, _MIN_PART = 4, 0.05  # parts of the rows, and the share of the variance that each has at least
# Rows after which a pattern correlates with itself, and the most that noise does. Threads of a canvas repeat after more
# rows (0.65 and more), which enough rows tell from chance (0.55 at most): this part of them and less.
_SHIFTS, _MAX_CORRELATION = range(5, 9), 0.5
_FAR_SHIFTS, _MAX_FAR_CORRELATION, _FAR_PART = range(9, 25), 0.6, 1 / 6
# Of the stripes that the paper of a page shows, their least share, and the least share of a row that is paper.
_MIN_ON_GROUND, _MIN_GROUND_OF_ROW = 0.4, 0.1
# Less is hidden by the rounding; more is drawn.
_MIN_SIGMA, _MAX_SIGMA = 0.5 / 255, 16 / 255
_CURVE = (1.0, -2.0, 1.0)  # second difference, from which the stripes are computed: it keeps more of the broad ones
# Smallest error of a difference, as a share of σ: where texture lies in all parts of a row, they do not show it.
_DOUBT = 0.12
_LARGEST = 4.0  # standard deviations of a difference by stripes; beyond, it is an edge of the scene


def estimate_stripes(planes: Tensor) -> float:
    """Estimate the standard deviation of noise that is constant along rows, and white from row to row.

    The fourth differences from row to row, in runs of 16 px, are compared between distant runs: stripes are the same in
    all of them, and nothing else is. Edges along the rows may cross an image, but not most of its rows, and not as
    white noise does.

    Args:
        planes: A band, or parts of it, (N, 1, h, w), [0, 1]; transposed for the columns.

    Returns:
        σ in [0, 1] units; 0.0 where there are no stripes.
    """
    runs = (planes.shape[-1]) // _RUN
    if runs < _MIN_RUNS or planes.shape[-2] < _MIN_ROWS:
        return 0.0
    differences = _differences_of_runs(planes, _LINE)  # (N, runs, rows)
    scale = 1.4826 * differences.abs().median(-1, keepdim=True).values
    clipped = differences.clamp(-_CLIP * scale, _CLIP * scale)
    place = torch.arange(runs, device=planes.device)
    pairs = (place[:, None] - place[None]) >= _APART
    parts = torch.stack([_covariances(part, pairs) for part in clipped.tensor_split(_PARTS, -1)])
    covariance = _covariances(clipped, pairs)
    least, variance, middle, largest = covariance.quantile(covariance.new_tensor(_QUANTILES)).tolist()
    if not _MIN_SIGMA**2 < variance < _MAX_SIGMA**2 or least < _EVEN[0] * middle or largest > _EVEN[1] * middle:
        return 0.0
    if float(parts.quantile(_QUANTILES[1], 1).min()) < _MIN_PART * variance:
        return 0.0
    # Noise has no correlation from row to row beyond the length of the difference.
    common = clipped.median(1).values
    power = float(common.square().mean())
    far = [shift for shift in _FAR_SHIFTS if shift <= _FAR_PART * common.shape[1]]
    for shifts, most in ((_SHIFTS, _MAX_CORRELATION), (far, _MAX_FAR_CORRELATION)):
        if any(abs(float((common[:, shift:] * common[:, :-shift]).mean())) > most * power for shift in shifts):
            return 0.0
    sigma, ground = math.sqrt(variance), ground_of(planes)
    return 0.0 if ground is not None and _on_ground(planes, ground) < _MIN_ON_GROUND * sigma else sigma


def _on_ground(planes: Tensor, ground: Tensor) -> float:
    """The standard deviation of stripes on the ground of a page, where no lines of text are, [0, 1] units."""
    rows = torch.where(ground, planes, torch.nan)[:, 0].nanmedian(-1).values
    rows[ground[:, 0].double().mean(-1) < _MIN_GROUND_OF_ROW] = torch.nan
    norm = math.sqrt(sum(tap**2 for tap in _LINE))
    count = rows.shape[1] - len(_LINE) + 1
    differences = torch.stack([tap / norm * rows[:, i : count + i] for i, tap in enumerate(_LINE)]).sum(0)
    found = differences[~torch.isnan(differences)]
    return 1.4826 * float(found.abs().median()) if len(found) else 0.0


def _covariances(differences: Tensor, pairs: Tensor) -> Tensor:
    """The covariances of pairs of runs over the rows, of differences (N, runs, rows), one after another."""
    return (differences @ differences.mT / differences.shape[-1])[:, pairs].flatten()


def row_differences(plane: Tensor) -> tuple[Tensor, Tensor]:
    """The second difference from row to row that all parts of the rows have in common.

    Args:
        plane: Some rows of a band over its whole width, (1, 1, h, w).

    Returns:
        The differences, (h − 2,), of unit gain for noise, and their variance where there are no stripes, (h − 2,).
    """
    runs = _differences_of_runs(plane, _CURVE)[0]
    common = runs.median(0).values
    # Runs with texture have a smaller weight than smooth ones.
    variance = (1.4826 * (runs - common).abs().median(1, keepdim=True).values).square().clamp_min(_MIN_SIGMA**2 / 100)
    weight = (1 / variance).expand_as(runs)
    return (weight * runs).sum(0) / weight.sum(0), 1 / weight.sum(0)


def row_offsets(differences: Tensor, variances: Tensor, sigma: float) -> Tensor:
    """The stripes of a band: the most likely offsets of its rows, of their second differences.

    Broad bands of brightness are as likely part of the scene, and stay.

    Args:
        differences: Of `row_differences`, of all rows, (H − 2,).
        variances: Their variances.
        sigma: Standard deviation of the stripes.

    Returns:
        (H,), to be subtracted.
    """
    d, variance = differences.double().cpu().numpy(), variances.double().cpu().numpy()
    weight = np.where(np.abs(d) > _LARGEST * sigma, 0.0, 1 / np.maximum(variance, (_DOUBT * sigma) ** 2))
    taps = np.array(_CURVE) / math.sqrt(6)
    height = len(d) + 2
    # The normal equations: one row per offset, with two upper diagonals.
    bands = np.zeros((3, height))
    bands[2] = 1 / sigma**2
    right = np.zeros(height)
    for i in range(3):
        right[i : i + len(d)] += weight * d * taps[i]
        for j in range(i, 3):
            bands[2 - (j - i), j : j + len(d)] += weight * taps[i] * taps[j]
    return torch.from_numpy(solveh_banded(bands, right))


def _differences_of_runs(planes: Tensor, line: tuple[float, ...]) -> Tensor:
    """The median over each run of a difference from row to row, of unit gain for noise, (N, runs, rows)."""
    norm = math.sqrt(sum(tap**2 for tap in line))
    rows = planes.shape[-2] - len(line) + 1
    differences = torch.stack([tap / norm * planes[:, 0, i : rows + i] for i, tap in enumerate(line)]).sum(0)
    runs = planes.shape[-1] // _RUN
    parts = differences[..., : runs * _RUN].reshape(*differences.shape[:2], runs, _RUN)
    # Of an even number: the mean of both values in the middle.
    medians: Tensor = (parts.median(-1).values - (-parts).median(-1).values) / 2
    return medians.mT
