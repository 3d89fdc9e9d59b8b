"""What an earlier JPEG compression has left in an image: seams between blocks, and rounded coefficients.

A PNG or TIFF that once was a JPEG, and a part cut out of one, have the error of that compression, and no file says so.
Its blocks begin anywhere. The seams between them show where; there, the coefficients of the blocks are multiples of the
steps of its quantisation table, which are read from them. In a JPEG that was resized since, the seams are all that is
left, at another period.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError
from blindsr.ops.noise import ROUNDING

__all__ = ["LUMA_TABLE", "estimate_jpeg_error", "estimate_resized_jpeg_error", "jpeg_noise_sigma"]

_Array = NDArray[np.floating]

_BLOCK = 8  # px
_MAX_STEP = 30 / 255  # a larger step is an edge of the scene
# Columns at these distances say how rough the image is beside a column; the next ones see the same seam.
_BESIDE = (-4, -3, -2, 2, 3, 4)
_MIN_RATIO, _MAX_RATIO = -1.0, 2.0  # of a column's excess over the roughness beside it: no column decides alone
# Standard errors by which the seams of each direction stand out, and of both together, from which coefficients are
# looked at, and from which seams count where coefficients show nothing. Photographs without seams have up to 3.3.
_MIN_EVIDENCE, _MIN_EVIDENCE_OF_BOTH = 1.5, 5.0
_PROOF, _PROOF_OF_BOTH = 5.0, 14.0
_MIN_SHARE = 0.65  # of the seams of a grid that are rougher than other columns; edges of a drawing are some of them
_MAX_OTHER = 0.7  # evidence of another phase over that of the seams; lines and finer patterns have more
_MIN_BLOCKING = 0.5 / 255
_BLOCKING_TO_NOISE = 1.5  # to the error of the table, as `jpeg_noise_sigma`
# Side of the squares of one value of which an image consists that was enlarged by repetition, and their share.
_REPEATED, _MAX_CONSTANT = 4, 0.98
# Side of the squares of one value that make up a pixelated part of an image, such as a censored face. There are such
# parts where so many pixels lie at larger steps than these between two squares: blocks of a JPEG are flat where their
# steps are small, and once they were resized they are spread.
_FLAT, _MIN_FLAT_STEPS = 4, 32
_MIN_FLAT_STEP, _MIN_FLAT_STEP_RESIZED = 6.5 / 255, 1.5 / 255
_MAX_LOW_FREQUENCY = 7  # of i + j: the lower half of the coefficients
_MAX_BLOCKS = 2048
_CLIPPED = 0.5 / 255
_MIN_UNLIKE = 0.1  # share of the most varied blocks that are unlike all others; a drawing has a few kinds of blocks
_MAX_READ_FREQUENCY = 5  # of i + j: above, few coefficients are left
# Standard errors of the mean cosine at the multiples of steps that prove a table (images that were never compressed
# have 2), and a single step; the cosine over the best one's at which a step is as good; and the share of the largest of
# these steps above which the best one is.
_MIN_COMB, _MIN_COMB_OF_STEP, _SAME_COSINE, _NEAR = 12.0, 5.0, 0.85, 0.8
_MAX_STEP_READ = 128
_MAX_SCATTER = 2.0  # of steps, as multiples of those of libjpeg, around their median
# Grey levels, median of what is left of coefficients beyond the multiples: samples are rounded, and a compression again
# at a quality of 90 leaves as much; noise on a pattern of few blocks leaves more.
_MAX_REST = 1.5
_MIN_VARIETY = 0.3  # standard deviation of a coefficient's modulus over its mean; a pattern has the same in all blocks
# Of a JPEG that was resized: the factors that are tried, the logarithm of the ratio of two, and the distance from 1
# below which it is no other; columns to either side whose median says how rough the image is; length of the transforms.
_LOWEST_FACTOR, _HIGHEST_FACTOR, _FACTOR_STEP, _SAME_SIZE = 0.62, 1.4, 0.0015, 0.01
_MARGIN, _LENGTH = 6, 8192
# Lines of the spectrum, in standard deviations: the mean modulus of what is none, the first one that may be one, and
# both of a train of pulses together. The second line of interpolated pixels is under 0.17 of the first, of seams 0.3 to
# 0.6; lines of other periods over the first one are those of a larger pattern.
_RAYLEIGH, _MIN_LINE, _MIN_LINES, _MIN_SECOND, _MAX_SUBHARMONIC = 1.25, 2.0, 2.6, 0.2, 0.85
_SUBHARMONICS = (1 / 2, 1 / 3, 2 / 3)
_WAVE_TO_NOISE, _MAX_RESIZED = 3.6, 16 / 255  # amplitude of the first line to the error of the table; more is no JPEG
#: Luma table of ITU-T T.81, K.1, (8, 8), which libjpeg scales by the quality.
LUMA_TABLE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
], dtype=np.float64)  # fmt: skip
_SCALES = tuple((200 - 2 * q if q >= 50 else 5000 / q) / 100 for q in range(10, 99))


def jpeg_noise_sigma(tables: Sequence[Sequence[float]] | None) -> float:
    """Standard deviation of the error that JPEG quantisation adds to luma.

    A uniform quantiser of step q has an error of q/√12; q is the root mean square of the luma steps for the half of
    the coefficients with lower frequencies. Tables as `ImageSource.jpeg_tables`, σ in [0, 1] units; 0.0 for None.
    """
    if not tables:
        return 0.0
    steps = [step for index, step in enumerate(tables[0]) if sum(divmod(index, _BLOCK)) <= _MAX_LOW_FREQUENCY]
    return math.sqrt(sum(step * step for step in steps) / len(steps) / 12) / 255


def estimate_jpeg_error(windows: Tensor, origins: Sequence[tuple[int, int]] = ((0, 0),)) -> float:
    """Estimate the error that an earlier JPEG compression has left in luma.

    Where the blocks begin is found from their seams. If the coefficients of these blocks are multiples of steps, the
    error is that of these steps, as of a JPEG file with this table. If not, as after a change of brightness, seams
    that are beyond doubt tell it. An image that was resized since has neither (`estimate_resized_jpeg_error`).

    Args:
        windows: Luma of windows of one image, (B, 1, H, W), [0, 1], sides of 32 px or more.
        origins: Row and column of each window in the image, B pairs.

    Returns:
        σ in [0, 1] units; 0.0 where no compression is found.

    Raises:
        ImageError: Not (B, 1, H, W), or too small.

    References:
        Wang, Bovik, Evans, "Blind measurement of blocking artifacts in images", ICIP 2000, for the seams; Fan,
        de Queiroz, "Identification of bitmap compression history: JPEG detection and quantizer estimation", IEEE TIP
        12(2), 2003, for steps from coefficients.
    """
    _check(windows)
    if _is_repeated(windows):
        return 0.0
    is_flat = _pixelated(windows, _MIN_FLAT_STEP)
    rows = _seams(windows.mT, is_flat.mT, [row for row, _ in origins])
    columns = _seams(windows, is_flat, [column for _, column in origins])
    if all(_has_half_the_period(seams) for seams in (rows, columns)):
        return 0.0
    candidates = [
        (row.phase, column.phase)
        for row in rows
        for column in columns
        if min(row.evidence, column.evidence) > _MIN_EVIDENCE and row.evidence + column.evidence > _MIN_EVIDENCE_OF_BOTH
    ]
    tables = [_quantiser(_coefficients(windows, origins, grid)) for grid in candidates]
    if errors := [jpeg_noise_sigma([table.ravel().tolist()]) for table in tables if table is not None]:
        return max(errors)  # a second compression does not undo the first
    row, column = rows[0], columns[0]
    if min(row.evidence, column.evidence) < _PROOF or row.evidence + column.evidence < _PROOF_OF_BOTH:
        return 0.0
    blocking = (row.height + column.height) / 2
    is_grid = row.is_alone and column.is_alone and min(row.share, column.share) >= _MIN_SHARE
    return _BLOCKING_TO_NOISE * blocking if is_grid and blocking >= _MIN_BLOCKING else 0.0


def estimate_resized_jpeg_error(windows: Tensor) -> float:
    """Estimate the error that a JPEG compression has left in luma of an image that was resized since, by 0.62 to 1.4.

    The seams between blocks are a train of pulses with a period of 8 px times the factor, along both axes alike: a line
    in the spectrum of the roughness of columns, and a second one at twice the frequency, in phase with it. The pixels
    that an enlargement has interpolated repeat with a period of their own, but as a wave without a second line. The
    height of the seams tells the error.

    Args:
        windows: Luma of windows of one image, (B, 1, H, W), [0, 1], sides of 32 px or more; the lines stand out from
            some 120 px on.

    Returns:
        σ in [0, 1] units, as `estimate_jpeg_error`; 0.0 where no such seams are found.

    Raises:
        ImageError: Not (B, 1, H, W), or too small.
    """
    _check(windows)
    if _is_repeated(windows):
        return 0.0
    is_flat = _pixelated(windows, _MIN_FLAT_STEP_RESIZED)
    columns, rows = _SeamLines.of(windows, is_flat), _SeamLines.of(windows.mT, is_flat.mT)
    lines = np.minimum(columns.first + columns.second, rows.first + rows.second) / 2
    first = np.minimum(columns.first, rows.first)
    is_seam = (first > _MIN_LINE) & (np.minimum(columns.ratio, rows.ratio) > _MIN_SECOND)
    best = int(np.where(is_seam, lines, 0.0).argmax())
    factor, sigma = _FACTORS[best], _WAVE_TO_NOISE * (columns.wave[best] + rows.wave[best]) / 2
    if not is_seam[best] or lines[best] < _MIN_LINES or abs(factor - 1) < _SAME_SIZE:
        return 0.0
    if not _BLOCKING_TO_NOISE * _MIN_BLOCKING <= sigma <= _MAX_RESIZED:
        return 0.0
    larger = np.minimum(columns.subharmonics, rows.subharmonics)[best]
    return float(sigma) if larger < _MAX_SUBHARMONIC * first[best] else 0.0


_FACTORS = np.exp(np.arange(math.log(_LOWEST_FACTOR), math.log(_HIGHEST_FACTOR), _FACTOR_STEP))


@dataclass(frozen=True)
class _SeamLines:
    """Lines in the spectrum of the roughness of columns, for each of `_FACTORS`, (F,)."""

    first: _Array  # modulus of the line of the period of blocks, in standard deviations
    second: _Array  # that of twice this frequency, as far as it is in phase with the first
    ratio: _Array  # of the second to the first
    subharmonics: _Array  # the largest modulus of the lines of two and three blocks
    wave: _Array  # amplitude of the first line, [0, 1] units

    @classmethod
    def of(cls, windows: Tensor, is_flat: Tensor) -> "_SeamLines":
        """The lines of vertical seams, the means over windows, (B, 1, H, W), but for their `_pixelated` parts."""
        first, second, wave, subharmonics = (np.zeros(len(_FACTORS)) for _ in range(4))
        for excess, ratio in map(_roughness, windows, is_flat):
            relative = _spectrum(ratio) / max(ratio.std() * math.sqrt(0.75 / len(ratio)), 1e-9)
            own = _lines(relative, 1)
            first += np.abs(own)
            second += (_lines(relative, 2) * np.exp(-2j * np.angle(own))).real
            subharmonics += np.max([np.abs(_lines(relative, part)) for part in _SUBHARMONICS], axis=0)
            wave += 2 * np.abs(_lines(_spectrum(excess), 1))
        number = len(windows)
        ratio = second / np.maximum(first, 1e-9)
        # The mean of several windows scatters less: as far beyond what is no line as that of a single one would be.
        first, subharmonics = (
            _RAYLEIGH + (each / number - _RAYLEIGH) * math.sqrt(number) for each in (first, subharmonics)
        )
        return cls(first, second / math.sqrt(number), ratio, subharmonics, wave / number)


def _roughness(window: Tensor, is_flat: Tensor) -> tuple[_Array, _Array]:
    """What the third difference across each column of a window, (1, H, W), exceeds that beside it by, and over that."""
    rough = _mean_third_differences(window, is_flat)[0]
    shifts = [shift for shift in range(-_MARGIN, _MARGIN + 1) if shift]
    beside = np.median([np.roll(rough, shift) for shift in shifts], axis=0)
    excess = (rough - beside)[_MARGIN:-_MARGIN]
    return excess, (excess / (beside[_MARGIN:-_MARGIN] + ROUNDING)).clip(_MIN_RATIO, _MAX_RATIO)


def _spectrum(line: _Array) -> _Array:
    """Fourier transform of a line without its mean, at most `_LENGTH` px, as half the amplitude of the waves in it."""
    line = line[:_LENGTH]
    window = np.hanning(len(line))
    return np.asarray(np.fft.rfft((line - line.mean()) * window, _LENGTH) / window.sum())


def _lines(spectrum: _Array, harmonic: float) -> _Array:
    """The values of a spectrum at a multiple of the frequency of the seams, for each of `_FACTORS`."""
    return np.asarray(spectrum[np.rint(harmonic * _LENGTH / (_BLOCK * _FACTORS)).astype(int)])


def _mean_third_differences(windows: Tensor, is_flat: Tensor) -> _Array:
    """Mean moduli of the third differences of each column of windows, (..., H, W), which are zero for a gradient."""
    steps = windows[..., :-3] - 3 * windows[..., 1:-2] + 3 * windows[..., 2:-1] - windows[..., 3:]
    count = steps.shape[-1]
    is_counted = ~(is_flat[..., :count] | is_flat[..., 1 : count + 1] | is_flat[..., 2:-1] | is_flat[..., 3:])
    sums = (steps.abs().clamp(max=_MAX_STEP) * is_counted).sum(-2) / is_counted.sum(-2).clamp(min=1)
    return np.asarray(sums.double().cpu().numpy())


def _pixelated(windows: Tensor, min_step: float) -> Tensor:
    """Which pixels of windows, (B, 1, H, W), lie in squares of one value, where many of them border on each other.

    The steps between them are no seams of a JPEG, whatever their period is.
    """
    least, largest = (sign * _local_maximum(sign * windows) for sign in (-1, 1))
    squares = functional.pad((least == largest).to(windows), (_FLAT - 1,) * 4)
    is_flat = _local_maximum(squares) > 0
    number = 0
    for axis in (-1, -2):
        step, count = windows.diff(dim=axis).abs(), windows.shape[axis] - 1
        both = is_flat.narrow(axis, 0, count) & is_flat.narrow(axis, 1, count)
        number += int((both & (step > min_step)).sum())
    return is_flat if number >= _MIN_FLAT_STEPS else torch.zeros_like(is_flat)


def _local_maximum(windows: Tensor) -> Tensor:
    """The maximum of each square of 4×4 px, by rows and columns."""
    return functional.max_pool2d(functional.max_pool2d(windows, (_FLAT, 1), 1), (1, _FLAT), 1)


def _check(windows: Tensor) -> None:
    if windows.ndim != 4 or windows.shape[1] != 1 or min(windows.shape[-2:]) < 4 * _BLOCK:
        raise ImageError(
            f"JPEG blocks are looked for in (B, 1, H, W) of {4 * _BLOCK} px a side or more, got {tuple(windows.shape)}."
        )


@dataclass(frozen=True)
class _Seam:
    """Vertical seams of one phase."""

    phase: int  # of the first columns of blocks, modulo 8
    evidence: float  # standard errors by which they are rougher than other columns
    height: float  # mean third difference over that of other columns, [0, 1] units
    share: float  # of these seams that are rougher
    is_alone: bool  # whether no other phase stands out as well


def _seams(windows: Tensor, is_flat: Tensor, origins: Sequence[int]) -> list[_Seam]:
    """The two phases, not next to each other, whose vertical seams stand out most; windows begin at these columns.

    A step between two columns raises the third difference, which is zero for a smooth gradient. Each column is compared
    with those beside it, so that texture and edges of the scene weigh little.
    """
    rough = _mean_third_differences(windows, is_flat)[:, 0]
    beside = np.median([np.roll(rough, shift, axis=1) for shift in _BESIDE], axis=0)
    inner = slice(max(_BESIDE), -max(_BESIDE))
    ratio = ((rough - beside) / (beside + ROUNDING))[:, inner].clip(_MIN_RATIO, _MAX_RATIO)
    # The difference at index i is across the columns i + 1 and i + 2.
    first = np.arange(rough.shape[1])[inner] + 2
    phases = (first + np.asarray(origins)[:, None]) % _BLOCK
    rough = rough[:, inner]
    found: list[_Seam] = []
    compared = list(range(_BLOCK))
    for _ in range(2):
        evidence = {}
        for phase in compared:
            own, others = ratio[phases == phase], ratio[np.isin(phases, compared) & (phases != phase)]
            evidence[phase] = float((own.mean() - others.mean()) / (others.std() + 1e-3) * math.sqrt(len(own)))
        phase = max(evidence, key=lambda phase: evidence[phase])
        rest = [other for other in compared if other != phase]
        others = np.isin(phases, rest)
        share = (ratio[phases == phase] > np.median(ratio[others])).mean()
        is_alone = max(evidence[p] for p in rest) <= _MAX_OTHER * evidence[phase]
        height = float(rough[phases == phase].mean() - rough[others].mean())
        found.append(_Seam(phase, evidence[phase], height, float(share), is_alone))
        # Two grids are those of a JPEG that was cut and compressed again. The next columns see a part of the same seam.
        compared = [other for other in rest if (other - phase) % _BLOCK not in (1, _BLOCK - 1)]
    return found


def _has_half_the_period(seams: Sequence[_Seam]) -> bool:
    """Whether seams half a block away stand out as well: those of a dither or a halftone of four pixels do."""
    first, second = seams
    return second.phase == (first.phase + _BLOCK // 2) % _BLOCK and second.evidence > _MAX_OTHER * first.evidence


def _coefficients(windows: Tensor, origins: Sequence[tuple[int, int]], grid: tuple[int, int]) -> _Array:
    """Cosine coefficients of the most varied blocks of a grid, (N, 8, 8), in grey levels; clipped blocks have none."""
    found = []
    for window, origin in zip(windows[:, 0], origins, strict=True):
        top, left = ((phase - start) % _BLOCK for phase, start in zip(grid, origin, strict=True))
        height, width = ((side - start) // _BLOCK for side, start in zip(window.shape, (top, left), strict=True))
        part = window[top : top + _BLOCK * height, left : left + _BLOCK * width].double().cpu().numpy()
        found.append(part.reshape(height, _BLOCK, width, _BLOCK).swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK))
    blocks = np.concatenate(found)
    blocks = blocks[(blocks.min((1, 2)) > _CLIPPED) & (blocks.max((1, 2)) < 1 - _CLIPPED)]
    blocks = blocks[np.argsort(blocks.var((1, 2)))[-_MAX_BLOCKS:]]
    if len(np.unique(blocks.reshape(-1, _BLOCK**2), axis=0)) < _MIN_UNLIKE * len(blocks):
        blocks = blocks[:0]  # of a drawing
    order = np.arange(_BLOCK)
    cosines = np.cos(np.pi * np.outer(order, 2 * order + 1) / (2 * _BLOCK)) / 2
    cosines[0] /= math.sqrt(2)
    return np.asarray(255 * cosines @ blocks @ cosines.T)


def _quantiser(coefficients: _Array) -> _Array | None:
    """The quantisation table, (8, 8), of which coefficients, (N, 8, 8), are multiples; None if they are of none.

    The tables of libjpeg decide whether there is one, and each step is then read from its own coefficients: cameras and
    editors have other tables. Steps that too few coefficients show are proportional to those of libjpeg.
    """
    low = np.add.outer(np.arange(_BLOCK), np.arange(_BLOCK))
    if len(coefficients) == 0:
        return None
    moduli = np.abs(coefficients)
    read = (low > 0) & (low <= _MAX_READ_FREQUENCY) & (moduli.std(0) > _MIN_VARIETY * moduli.mean(0))
    if not read.any():
        return None
    values, table = coefficients[:, read].astype(np.float32), LUMA_TABLE[read].astype(np.float32)
    whole = [_evidence(_comb(values, np.floor(scale * table + 0.5).clip(1)).sum(1)) for scale in _SCALES]
    if max(whole) < _MIN_COMB:
        return None
    steps = np.arange(1, _MAX_STEP_READ + 1)
    combs = np.stack([_comb(values, np.full_like(table, step)) for step in steps], 1)
    means = np.where(_evidence(combs) >= _MIN_COMB_OF_STEP, combs[0] / combs[1].clip(1), 0.0)
    # The half of a step, and a third of it, have the same multiples: it is the best one near the largest good one.
    found = np.where((means > 0) & (means >= _SAME_COSINE * means.max(0)), steps[:, None], 0).max(0)
    is_near = (steps[:, None] <= found) & (steps[:, None] >= _NEAR * found)
    found = np.where(found > 0, steps[np.where(is_near, means, -1.0).argmax(0)], 0)
    ratios = found / table
    is_found = found > 0
    scale = float(np.median(ratios[is_found])) if is_found.any() else _SCALES[int(np.argmax(whole))]
    is_found &= (ratios > scale / _MAX_SCATTER) & (ratios < scale * _MAX_SCATTER)
    # Tables are flatter or steeper than those of libjpeg: the last diagonals that were read are nearest to the others.
    if (is_last := is_found & (low[read] > _MAX_READ_FREQUENCY - 2)).any():
        scale = float(np.median(ratios[is_last]))
    result = (scale * LUMA_TABLE).clip(1)
    result[read] = np.where(is_found, found, result[read])
    multiples = values[:, is_found] / found[is_found]
    rest = np.abs(found[is_found] * (multiples - np.round(multiples)))[np.abs(multiples) > 0.5]
    return result if not rest.size or np.median(rest) < _MAX_REST else None


def _comb(values: _Array, steps: _Array) -> _Array:
    """Sums of cosines that are 1 at the multiples of steps, (F,), over coefficients, (N, F), and their numbers, (2, F).

    Coefficients that are nearer to zero than to the first multiple do not count.
    """
    ratios = values / steps
    counted = np.abs(ratios) > 0.5
    return np.stack([np.where(counted, np.cos(2 * np.pi * ratios), 0.0).sum(0), counted.sum(0)])


def _evidence(comb: _Array) -> _Array:
    """Standard errors by which a sum of cosines, comb[0] of comb[1] of them, is above zero."""
    return np.asarray(comb[0] / np.sqrt(comb[1] / 2 + 1))


def _is_repeated(image: Tensor) -> bool:
    """Whether squares of an image have one value each, as in a drawing or a mosaic that was enlarged by repetition.

    A JPEG with so few details has no steps between its blocks either, or next to no quality.
    """
    height, width = (side // _REPEATED * _REPEATED for side in image.shape[-2:])
    planes = image[..., :height, :width].reshape(-1, 1, height, width)
    least, largest = (sign * functional.max_pool2d(sign * planes, _REPEATED) for sign in (-1, 1))
    return float((least == largest).double().mean()) > _MAX_CONSTANT
