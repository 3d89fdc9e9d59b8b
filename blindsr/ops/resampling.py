"""Traces of an earlier enlargement: what an interpolated pixel lacks of fine detail depends on where it lies.

A pixel between two original ones is smoother than one that lies on one of them. Along a line these places repeat with
the factor of the enlargement, and so does the strength of the second difference.

References:
    Gallagher, "Detection of Linear and Cubic Interpolation in JPEG Compressed Images", CRV 2005.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MIN_SIDE", "find_enlargement"]

MIN_SIDE = 120  # px; a shorter line has too few periods
_QUANTILE = 0.95  # at which second differences are clipped, so that no edge decides
_FLOOR = 0.05  # grey levels, added before the logarithm
_SMOOTHING = 17  # px, of the mean that is subtracted: the scene has more detail at some places
_LOWEST, _HIGHEST = 0.18, 0.47  # cycles per px, of the period; others are also those of scenes and of reductions
_ROUNDING = 1e-9  # power, of the arithmetic on a flat image
_MIN_PEAK, _SAME = 25.0, 0.008  # power over the median, along both axes; difference of their frequencies, cycles per px
_PARTS, _MIN_COHERENCE = 4, 0.9  # of the rows; modulus of the mean phase of their periods
# The period of JPEG's blocks has harmonics at the eighths, of which the first is as strong as any.
_BLOCK, _MAX_FIRST = 8, 0.05
# WebP's blocks of 4 px and the wavelets of JPEG 2000 have the period of a factor of 4/3. The latter are twice as strong
# at half of it; of the former, the gap beyond the limit is not as deep.
_QUARTER, _MAX_POWER_OF_QUARTER = 1 / 4, 0.3
# Mean power beyond the limit of the original, over that below it: (first and last, from that limit, cycles per px). A
# reduction leaves a period as well, but no such gap.
_BEYOND, _BELOW, _ALONG, _MAX_POWER = 0.03, (0.10, 0.02), 0.2, 0.42


def find_enlargement(plane: Tensor) -> float:
    """The factor, from 1.22 to 1.9, by which an image was enlarged before; 1 where there is no trace of it.

    Nothing is found where the image was compressed since, and of a factor over 2 what is left when whole periods are
    taken off: 1.5 for 3.

    Args:
        plane: (H, W), grey levels from 0 to 255.
    """
    if min(plane.shape) < MIN_SIDE:
        return 1.0
    image = plane.double().cpu().numpy()
    first, second = _period(image), _period(image.T)
    if first is None or second is None or abs(first - second) > _SAME:
        return 1.0
    factor = 1 / (1 - (first + second) / 2)
    is_quarter = abs((first + second) / 2 - _QUARTER) < 1.5 / min(image.shape)
    most = _MAX_POWER_OF_QUARTER if is_quarter else _MAX_POWER
    return factor if max(_power_beyond(each, 0.5 / factor) for each in (image, image.T)) < most else 1.0


def _period(image: NDArray[np.float64]) -> float | None:
    """Frequency, cycles per px, with which the second difference along the rows of an image repeats; None without."""
    difference = np.abs(np.diff(image, 2, axis=1))
    difference = np.minimum(difference, np.quantile(difference, _QUANTILE))
    spectrum, frequency = _spectrum(difference), np.fft.rfftfreq(difference.shape[1])
    power, inside = np.abs(spectrum) ** 2, (frequency >= _LOWEST) & (frequency <= _HIGHEST)
    peak = int(np.where(inside, power, -1.0).argmax())
    if power[peak] < _MIN_PEAK * max(float(np.median(power[inside])), _ROUNDING):
        return None
    near = 1.5 / difference.shape[1]
    is_eighth = min(abs(float(frequency[peak]) - k / _BLOCK) for k in range(1, _BLOCK // 2)) < near
    if is_eighth and power[np.abs(frequency - 1 / _BLOCK) < near].max(initial=0.0) > _MAX_FIRST * power[peak]:
        return None
    if abs(float(frequency[peak]) - _QUARTER) < near and power[frequency > 0.5 - near].max(initial=0.0) > power[peak]:
        return None
    # A pattern of the scene has another phase in other rows.
    parts = np.array([_spectrum(part)[peak] for part in np.array_split(difference, _PARTS)])
    coherence = abs(np.mean(parts / np.maximum(np.abs(parts), _ROUNDING)))
    return float(frequency[peak]) if coherence > _MIN_COHERENCE else None


def _spectrum(difference: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Fourier transform of the logarithm of a mean over rows, without what varies slowly."""
    line, margin = np.log(difference.mean(0) + _FLOOR), _SMOOTHING // 2
    line = line - np.convolve(np.pad(line, margin, "reflect"), np.full(_SMOOTHING, 1 / _SMOOTHING), "valid")
    return np.asarray(np.fft.rfft(line * np.hanning(len(line))))


def _power_beyond(image: NDArray[np.float64], limit: float) -> float:
    """Mean power of an image beyond a frequency along its rows, cycles per px, over that below it."""
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    power = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2
    along = np.abs(np.fft.fftfreq(image.shape[0])) < _ALONG
    mean = power[along].mean(0)
    frequency = np.fft.rfftfreq(image.shape[1])
    below = (frequency > limit - _BELOW[0]) & (frequency < limit - _BELOW[1])
    return float(mean[frequency > limit + _BEYOND].mean() / max(mean[below].mean(), 1e-12))
