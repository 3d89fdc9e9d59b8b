"""Interference: a sine wave over the whole image, as of the electricity of a camera or a scanner.

Such a wave has one frequency, and everywhere the same strength and phase. No scene has: its patterns end somewhere,
perspective bends them, and light and shade fall on them as on everything else: the threads of a canvas are as strong as
the picture is bright there. The wave would be amplified as the finest detail is, several times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from blindsr.ops.ground import ground_of
from blindsr.ops.windows import Source, Window, spread_windows, whole

__all__ = ["MIN_SIDE", "Interference", "find_interference", "waves_of", "without_interference"]

MIN_SIDE = 96  # px
_MAX_PIXELS = 2_000_000  # of an image that is searched as a whole: that takes some 60 bytes for each
_MIDDLE = 1024  # px, side of the part of a larger image that is searched
_MAX_WAVES, _MAX_SEARCHES = 6, 10  # of which some may find lines of text
_SMOOTHING = 4.0  # px, σ of what is left out before the search: a wave much longer than that is part of the scene
_LOWEST = 0.08  # cycles per px
_SURROUNDINGS = 9  # elements of the spectrum, side of the square whose mean logarithm a peak is compared with
_MIN_PEAK = 30.0  # power of a peak over its surroundings, from which it is looked at
_REFINEMENTS = (0.25, 0.05, 0.01)  # elements, steps of the search of the maximum between elements
_BLOCK = 32  # px, side of the blocks whose waves are compared
# Of the smoother half of the blocks: the share whose wave differs from the common one by less than this part of it.
_MAX_DIFFERENCE, _MIN_SHARE = 0.6, 0.8
# Relative change of the amplitude over that of the brightness, from which a pattern belongs to the subject (it has 0.6
# to 1.4, a wave -0.4 to 0.3), and its standard errors above zero: many images are equally bright all over.
# Beside such a pattern, what is not as many standard errors away from 1 is another line of it.
_MIN_SLOPE, _MIN_SIGNIFICANCE = 0.5, 2.0
# Blocks from which that is known; and the share of the mean variance that is added to each, so that none decides.
_MIN_BLOCKS, _EVEN_OUT = 12, 0.05
_LIMIT = 0.1  # elements; a component as near to 0 or to the limit of the pixels is there
_MIN_ON_GROUND = 0.5  # amplitude on the paper of a page over that of the wave; lines of text are none there
_CLIPPED = 0.5 / 255  # distance from black or white up to which a sample has lost its wave
# Grey levels of the amplitude; and the largest share of the variance of the image: a drawn pattern is the image.
_MIN_AMPLITUDE, _MAX_AMPLITUDE, _MAX_VARIANCE = 0.3 / 255, 16 / 255, 0.3


@dataclass(frozen=True)
class Interference:
    """A sine wave: Re(a·exp(2πi·(f_y·y + f_x·x))) at row y and column x of the image.

    Args:
        frequency: (f_y, f_x), cycles per px.
        amplitudes: a of each band, [0, 1] units.
    """

    frequency: tuple[float, float]
    amplitudes: tuple[complex, ...]

    @property
    def strength(self) -> float:
        """The largest amplitude of a band, [0, 1] units."""
        return max(map(abs, self.amplitudes))

    @property
    def period(self) -> float:
        """Distance between two crests, px."""
        return 1 / math.hypot(*self.frequency)


def waves_of(source: Source) -> tuple[Interference, ...]:
    """Find the waves of an image of any size.

    Those of a large image are found in its middle. Parts all over the image have to show them as well, and tell their
    frequencies more exactly: over a long way, the phase of a small error grows.

    Args:
        source: The image.

    Returns:
        At most six.
    """
    _, height, width = source.shape
    if height * width <= _MAX_PIXELS:
        return find_interference(whole(source))
    middle = tuple(
        slice((side - part) // 2, (side - part) // 2 + part)
        for side, part in ((height, min(height, _MIDDLE)), (width, min(width, _MIDDLE)))
    )
    found = find_interference(source.window(*middle))
    if not found:
        return ()
    windows = spread_windows(source)
    parts = [source.window(*window)[0].double().cpu().numpy().mean(0) for window in windows]
    details = [part - ndimage.gaussian_filter(part, _SMOOTHING) for part in parts]
    smooth = np.argsort([detail.var() for detail in details])[: max(4, len(details) // 2)]
    shown = [(windows[number], details[number]) for number in smooth]
    moved = (_moved(wave, (-middle[0].start, -middle[1].start)) for wave in found)
    return tuple(wave for wave in (_over_the_image(wave, shown, middle) for wave in moved) if wave is not None)


def find_interference(image: Tensor) -> tuple[Interference, ...]:
    """Find the waves in an image.

    Args:
        image: The whole image, (1, C, H, W), [0, 1].

    Returns:
        At most six; () of an image without any, and of a small one.
    """
    height, width = image.shape[-2:]
    if min(height, width) < MIN_SIDE:
        return ()
    bands = image[0].double().cpu().numpy()
    mean = bands.mean(0)
    most = _MAX_VARIANCE * float(mean.var())
    window = np.outer(np.hanning(height), np.hanning(width))
    detail = mean - ndimage.gaussian_filter(mean, _SMOOTHING)
    ground = ground_of(torch.from_numpy(mean)[None, None])
    waves: list[Interference] = []
    is_woven, slopes = False, []
    for _ in range(_MAX_SEARCHES):
        frequency = _peak(detail * window)
        if frequency is None:
            break
        kept = _kept(frequency)
        common, share = _common_wave(detail, frequency)
        strength = abs(common) / kept
        if share < _MIN_SHARE or not _MIN_AMPLITUDE < strength < _MAX_AMPLITUDE or strength**2 / 2 > most:
            break
        if any(wave.frequency == frequency for wave in waves):
            break
        slope, error = _slope_on_brightness(mean, detail, frequency, common)
        if slope > max(_MIN_SLOPE, _MIN_SIGNIFICANCE * error):
            is_woven = True
        elif ground is None or _on_ground(mean, ground[0, 0].numpy(), frequency, common / kept) > _MIN_ON_GROUND:
            details = (band - ndimage.gaussian_filter(band, _SMOOTHING) for band in bands)
            own = tuple(complex(_common_wave(band, frequency)[0] / kept) for band in details)
            waves.append(Interference(frequency, own))
            slopes.append((slope, error))
        detail = detail - _wave(common, frequency, range(height), range(width))
    if is_woven:
        far = [1 - slope > _MIN_SIGNIFICANCE * error for slope, error in slopes]
        waves = [wave for wave, is_far in zip(waves, far, strict=True) if is_far]
    return tuple(waves[:_MAX_WAVES])


def without_interference(window: Tensor, waves: Sequence[Interference], origin: tuple[int, int]) -> Tensor:
    """Subtract waves from a part of an image; clipped samples, and those of black bars, have none, and stay.

    Args:
        window: (1, C, h, w), [0, 1].
        waves: From `find_interference`.
        origin: Row and column of its first pixel in the image.

    Returns:
        (1, C, h, w); not clipped.
    """
    (top, left), (height, width) = origin, window.shape[-2:]
    is_clipped = (window < _CLIPPED) | (window > 1 - _CLIPPED)
    cleaned = window
    rows, columns = range(top, top + height), range(left, left + width)
    for wave in waves:
        bands = np.stack([_wave(amplitude, wave.frequency, rows, columns) for amplitude in wave.amplitudes])
        cleaned = cleaned - torch.from_numpy(bands)[None].to(window)
    return torch.where(is_clipped, window, cleaned)


def _moved(wave: Interference, step: tuple[int, int]) -> Interference:
    """A wave as it is seen from an origin that lies a number of rows and columns further."""
    turn = complex(np.exp(2j * np.pi * (wave.frequency[0] * step[0] + wave.frequency[1] * step[1])))
    return replace(wave, amplitudes=tuple(amplitude * turn for amplitude in wave.amplitudes))


def _over_the_image(
    wave: Interference, shown: Sequence[tuple[Window, NDArray[np.float64]]], middle: Sequence[slice]
) -> Interference | None:
    """A wave of the middle of an image with the frequency that other parts show; None where they do not show it.

    Args:
        wave: With the origin of the image.
        shown: Other parts of the image, and their details.
        middle: The part in which it was found.
    """
    centre = np.array([(part.start + part.stop) / 2 for part in middle])
    own = complex(np.mean(wave.amplitudes)) * _kept(wave.frequency)
    ratios, ways = [], []
    for (rows, columns), detail in shown:
        amplitude = _common_wave(detail, wave.frequency)[0]
        (seen,) = _moved(Interference(wave.frequency, (amplitude,)), (-rows.start, -columns.start)).amplitudes
        ratios.append(seen / own)
        ways.append(np.array([(rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2]) - centre)
    if _is_its_mirror(wave.frequency):
        by_row, by_column = 0.0, 0.0
    else:
        by_row, by_column = np.linalg.lstsq(2 * np.pi * np.array(ways), np.angle(ratios), rcond=None)[0].tolist()
    left = np.array(ratios) * np.exp(-2j * np.pi * (np.array(ways) @ [by_row, by_column]))
    if (np.abs(left - 1) < _MAX_DIFFERENCE).mean() < _MIN_SHARE:
        return None
    frequency = wave.frequency[0] + by_row, wave.frequency[1] + by_column
    # The phase in the middle stays.
    turn = complex(np.exp(-2j * np.pi * (centre[0] * by_row + centre[1] * by_column)))
    return Interference(frequency, tuple(amplitude * turn for amplitude in wave.amplitudes))


def _kept(frequency: tuple[float, float]) -> float:
    """The share of a wave's amplitude that `_SMOOTHING` leaves in the detail."""
    return 1 - math.exp(-2 * (math.pi * _SMOOTHING) ** 2 * (frequency[0] ** 2 + frequency[1] ** 2))


def _is_its_mirror(frequency: tuple[float, float]) -> bool:
    """Whether both components are 0 or the limit of the pixels: such a wave is real."""
    return all((2 * f).is_integer() for f in frequency)


def _wave(amplitude: complex, frequency: tuple[float, float], rows: range, columns: range) -> NDArray[np.float64]:
    by_row, by_column = (
        np.exp(2j * np.pi * f * np.array(at)) for f, at in zip(frequency, (rows, columns), strict=True)
    )
    return np.asarray(np.real(np.outer(amplitude * by_row, by_column)))


def _peak(windowed: NDArray[np.float64]) -> tuple[float, float] | None:
    """The frequency at which the spectrum of a windowed image exceeds its surroundings most; None without a peak."""
    height, width = windowed.shape
    power = np.log(np.abs(np.fft.rfft2(windowed)) ** 2 + 1e-18)
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    excess = power - ndimage.uniform_filter(power, _SURROUNDINGS, mode=("wrap", "nearest"))
    excess[np.hypot(y, x) < _LOWEST] = -np.inf
    row, column = np.unravel_index(int(excess.argmax()), excess.shape)
    if excess[row, column] < math.log(_MIN_PEAK):
        return None
    found = float(y[row, 0]), float(x[0, column])
    for step in _REFINEMENTS:
        around = step * np.arange(-4, 5)
        rows, columns = found[0] + around / height, found[1] + around / width
        moduli = np.abs(_transform(windowed, rows, columns))
        row, column = np.unravel_index(int(moduli.argmax()), moduli.shape)
        found = float(rows[row]), float(columns[column])
    y_found, x_found = (
        round(2 * f) / 2 if abs(2 * f - round(2 * f)) < 2 * _LIMIT / side else f
        for f, side in zip(found, windowed.shape, strict=True)
    )
    return y_found, x_found


def _transform(
    image: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """The Fourier transform of an image at frequencies in cycles per px."""
    by_row = np.exp(-2j * np.pi * np.outer(rows, np.arange(image.shape[0])))
    by_column = np.exp(-2j * np.pi * np.outer(np.arange(image.shape[1]), columns))
    return np.asarray(by_row @ image @ by_column)


def _on_ground(
    mean: NDArray[np.float64], ground: NDArray[np.bool_], frequency: tuple[float, float], wave: complex
) -> float:
    """The amplitude of a wave on the ground of a page over that of the image, as far as it has the phase of that.

    Args:
        mean: The mean of the bands, (H, W).
        ground: Where it shows the ground, (H, W).
        frequency: That of the wave.
        wave: That of the image.
    """
    rows, columns = np.nonzero(ground & (mean > _CLIPPED) & (mean < 1 - _CLIPPED))
    if len(rows) == 0:
        return 0.0
    phase = np.exp(-2j * np.pi * (frequency[0] * rows + frequency[1] * columns))
    curve = np.stack([phase.real, phase.imag, np.ones(len(rows))], 1)
    real, imaginary, _ = np.linalg.lstsq(curve, mean[rows, columns], rcond=None)[0]
    return float((complex(real, imaginary) / wave).real)


def _common_wave(detail: NDArray[np.float64], frequency: tuple[float, float]) -> tuple[complex, float]:
    """The wave of a frequency that the smoother half of the blocks have in common, and the share that has it."""
    waves = _block_waves(detail, frequency).ravel()
    smooth = _block_means(detail**2).ravel().argsort()[: max(8, len(waves) // 2)]
    common = complex(np.median(waves[smooth].real), np.median(waves[smooth].imag))
    return common, float((np.abs(waves[smooth] - common) < _MAX_DIFFERENCE * abs(common)).mean())


def _slope_on_brightness(
    mean: NDArray[np.float64], detail: NDArray[np.float64], frequency: tuple[float, float], common: complex
) -> tuple[float, float]:
    """How a pattern grows with the brightness: 0 of a wave that was added, 1 of one that light falls on.

    Args:
        mean: The mean of the bands, (H, W).
        detail: What is left of it after smoothing, and without the waves that were found.
        frequency: That of the pattern.
        common: Its wave, from `_common_wave`.

    Returns:
        The relative change of the amplitude over that of the brightness, and its standard error.
    """
    height, width = detail.shape
    gains = (_block_waves(detail, frequency) / common).real
    brightness = _block_means(mean)
    left = _block_means((detail - _wave(common, frequency, range(height), range(width))) ** 2)
    clipped = _block_means(((mean < _CLIPPED) | (mean > 1 - _CLIPPED)).astype(float))
    weights = np.where(clipped > 0, 0.0, 1 / (left + _EVEN_OUT * left.mean() + 1e-12))
    if np.count_nonzero(weights) < _MIN_BLOCKS:
        return 0.0, math.inf
    change = brightness / max(float(np.average(brightness, weights=weights)), 1e-3) - 1
    gains = gains - np.average(gains, weights=weights)
    spread = max(float((weights * change**2).sum()), 1e-12)
    slope = float((weights * change * gains).sum()) / spread
    # Blocks overlap by half: a quarter of them are independent.
    return slope, 2 * math.sqrt(float(((weights * change * (gains - slope * change)) ** 2).sum())) / spread


def _block_waves(detail: NDArray[np.float64], frequency: tuple[float, float]) -> NDArray[np.complex128]:
    """The wave of a frequency in each block of 32 px, from 16 to 16 px, as complex amplitudes."""
    by_row, by_column = (
        np.exp(-2j * np.pi * f * np.arange(side)) for f, side in zip(frequency, detail.shape, strict=True)
    )
    shifted = detail * np.outer(by_row, by_column)
    is_real = _is_its_mirror(frequency)
    line = np.hanning(_BLOCK)
    rows = np.stack([line @ shifted[top : top + _BLOCK] for top in _corners(detail.shape[0])])
    waves = np.stack([rows[:, left : left + _BLOCK] @ line for left in _corners(detail.shape[1])], 1)
    return np.asarray((waves.real + 0j if is_real else 2 * waves) / line.sum() ** 2)


def _block_means(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of an image in each of the blocks of `_block_waves`."""
    half = _BLOCK // 2
    means = ndimage.uniform_filter(image, _BLOCK)[half::half, half::half]
    return np.asarray(means[tuple(slice(len(_corners(side))) for side in image.shape)])


def _corners(side: int) -> range:
    """The first rows, or columns, of the blocks of `_block_waves`."""
    return range(0, side - _BLOCK + 1, _BLOCK // 2)
