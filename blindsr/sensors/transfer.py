"""Transfer functions of the parts of a camera, and the Gaussian widths behind published numbers.

Frequencies are in cycles per LR pixel (Nyquist 0.5), lengths in LR pixels. Every part is 1 at frequency 0 and real: it
is symmetric and shifts nothing. A camera is their product. A published number (MTF, FWHM, edge response) was measured
on the whole camera: it contains optics, detector and motion already, and none of them may be multiplied in again.

References:
    Goodman, "Introduction to Fourier Optics", 3rd ed., 2005, ch. 6 (pupils, defocus).
    Boreman, "Modulation Transfer Function in Optical and Electro-Optical Systems", SPIE Press, 2001 (detector, motion,
    jitter).
    Greivenkamp, "Color dependent optical prefilter for the suppression of aliasing artifacts", Applied Optics 29(5),
    1990 (low-pass filter).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from blindsr.errors import ConfigError
from blindsr.kernels.files import load_arrays
from blindsr.kernels.metrics import FWHM_PER_SIGMA

_Plane = NDArray[np.float64]  # of frequencies or of transfers

# Distance, in σ, between the 40 % and 60 % points of an edge over the step of 0.2: 0.2 / (2·Φ⁻¹(0.6)).
_EDGE_SLOPE: Final = 0.2 / (2 * math.sqrt(2) * float(special.erfinv(0.2)))  # 0.39472
_MIN_MEASURED_MTF: Final = 1e-3  # a curve is continued as a Gaussian until it falls below this
_MAX_MTF: Final = 1.5  # above it a column is in percent


def diffraction(radius: _Plane, q: float, obstruction: float = 0.0) -> _Plane:
    """Diffraction of a circular pupil: (2/π)(acos ν − ν√(1 − ν²)) with ν = f·Q, 0 from ν = 1 on.

    With a central obstruction, as in mirror telescopes, it is the normalised autocorrelation of the pupil: that of the
    disc, minus twice its cross-correlation with the obstruction, plus that of the obstruction.

    Args:
        radius: |f|, any shape.
        q: Q = λN/p; 1/Q is the cut-off frequency of the lens, in cycles per LR pixel.
        obstruction: Diameter of the obstruction over that of the pupil, [0, 1).

    Example:
        >>> float(diffraction(np.array(0.5), 0.55 * 8 / 3.76).round(3))
        0.3
    """
    nu = np.clip(np.abs(radius) * q, 0, 1)
    if obstruction == 0:
        return 2 / np.pi * (np.arccos(nu) - nu * np.sqrt(1 - nu**2))
    apart = 2 * nu  # with a pupil of radius 1
    both = _overlap(apart, 1.0, 1.0) - 2 * _overlap(apart, 1.0, obstruction) + _overlap(apart, obstruction, obstruction)
    return both / (np.pi * (1 - obstruction**2))


def _overlap(apart: _Plane, first: float, second: float) -> _Plane:
    """Area of the overlap of two discs of given radii with centres at a distance `apart`, in closed form."""
    inside = np.pi * min(first, second) ** 2
    result = np.where(apart <= abs(first - second), inside, 0.0)
    lens = (apart > abs(first - second)) & (apart < first + second)
    d = np.where(lens, apart, 1.0)
    to_first = np.clip((d**2 + first**2 - second**2) / (2 * d * first), -1, 1)
    to_second = np.clip((d**2 + second**2 - first**2) / (2 * d * second), -1, 1)
    kite = (-d + first + second) * (d + first - second) * (d - first + second) * (d + first + second)
    area = first**2 * np.arccos(to_first) + second**2 * np.arccos(to_second) - 0.5 * np.sqrt(np.clip(kite, 0, None))
    return np.where(lens, area, result)


def detector(fy: _Plane, fx: _Plane, width: float) -> _Plane:
    """A square light-sensitive area of side a (√fill factor): sinc(a·fx)·sinc(a·fy)."""
    return np.asarray(np.sinc(width * fy) * np.sinc(width * fx))


def gaussian(fy: _Plane, fx: _Plane, covariance: tuple[tuple[float, float], tuple[float, float]]) -> _Plane:
    """A Gaussian blur of covariance Σ, LR px², order (y, x): exp(−2π² fᵀΣf)."""
    (yy, yx), (_, xx) = covariance
    return np.exp(-2 * np.pi**2 * (yy * fy * fy + 2 * yx * fy * fx + xx * fx * fx))


def motion(fy: _Plane, fx: _Plane, length: float, angle: float) -> _Plane:
    """Uniform motion over L LR pixels: sinc(L·f∥); `angle` is counter-clockwise from the x axis, in degrees."""
    radians = np.radians(angle)
    # Angles are counter-clockwise with y upwards; in the array y points downwards, hence the minus.
    return np.asarray(np.sinc(length * (fx * np.cos(radians) - fy * np.sin(radians))))


def defocus(radius: _Plane, diameter: float) -> _Plane:
    """Geometric defocus, a disc of diameter c much larger than the diffraction pattern: 2·J1(πcf)/(πcf).

    c is in LR pixels: |Δz|/(N·p) for a sensor that is Δz out of focus.
    """
    argument = np.pi * diameter * np.abs(radius)
    safe = np.where(argument > 1e-8, argument, 1.0)
    return np.where(argument > 1e-8, 2 * special.j1(safe) / safe, 1.0)


def four_spots(fy: _Plane, fx: _Plane, distance: float) -> _Plane:
    """The optical low-pass filter of a camera, four spots at a distance of d LR pixels: cos(πd·fx)·cos(πd·fy)."""
    return np.asarray(np.cos(np.pi * distance * fy) * np.cos(np.pi * distance * fx))


def _check_positive(value: float, quantity: str, unit: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{quantity} must be a positive number of {unit}, got {value:g}.")


def _check_fraction(value: float, quantity: str) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{quantity} must be between 0 and 1 (0.24, not 24 %), got {value:g}.")


def sigma_from_mtf(mtf: float, frequency: float = 0.5) -> float:
    """σ of the Gaussian with MTF G in (0, 1) at a frequency f > 0, cycles per LR pixel: √(−2 ln G)/(2πf).

    Raises:
        ConfigError: A number is out of its range.

    Example:
        >>> round(sigma_from_mtf(0.24), 3)
        0.538
    """
    _check_fraction(mtf, "an MTF")
    _check_positive(frequency, "the frequency of an MTF", "cycles per pixel")
    return math.sqrt(-2 * math.log(mtf)) / (2 * math.pi * frequency)


def sigma_from_fwhm(fwhm: float) -> float:
    """σ of the Gaussian with a positive full width at half maximum, LR pixels: FWHM/2.35482."""
    _check_positive(fwhm, "a full width at half maximum", "pixels")
    return fwhm / FWHM_PER_SIGMA


def sigma_from_rer(rer: float) -> float:
    """σ from the relative edge response in (0, 1), the rise of a normalised edge over ±0.5 pixel: 0.5/(√2·erfinv(RER)).

    References:
        Leachtenauer et al., "General Image-Quality Equation: GIQE", Applied Optics 36(32), 1997.
    """
    _check_fraction(rer, "a relative edge response")
    return 0.5 / (math.sqrt(2) * float(special.erfinv(rer)))


def sigma_from_edge_slope(slope_per_m: float, gsd_m: float) -> float:
    """σ from the slope S of a normalised edge between 40 % and 60 %, as Landsat's is published: 0.39472/(S·GSD).

    S is per metre on the ground, the ground sample distance of one LR pixel in metres; both are positive.
    """
    _check_positive(slope_per_m, "an edge slope", "1/m")
    _check_positive(gsd_m, "a ground sample distance", "metres")
    return _EDGE_SLOPE / (slope_per_m * gsd_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A measured MTF curve of the whole camera, along x and along y."""

    frequencies: tuple[float, ...]  # cycles per LR pixel, increasing, 0 or more
    along_x: tuple[float, ...]  # MTF at each frequency for vertical edges
    along_y: tuple[float, ...]  # the same for horizontal edges

    def __post_init__(self) -> None:
        """Check the values."""
        f = np.array(self.frequencies)
        if len(f) < 2 or len(self.along_x) != len(f) or len(self.along_y) != len(f):
            raise ConfigError("an MTF curve needs two rows or more of one length: frequency, MTF.")
        values = np.array([self.along_x, self.along_y])
        if not (np.isfinite(f).all() and np.isfinite(values).all()) or f[0] < 0 or (np.diff(f) <= 0).any():
            raise ConfigError("the frequencies of an MTF curve must be 0 or more and increase from row to row.")
        if values.max() > _MAX_MTF or values.min() < 0 or values[:, -1].max() >= 1:
            raise ConfigError(
                "the values of an MTF curve must be from 0 to 1.5 and fall below 1 at its end; divide percents by 100."
            )

    def transfer(self, fy: _Plane, fx: _Plane) -> _Plane:
        """The curve rotated around the origin; between the axes it is interpolated with the square of the cosine."""
        radius = np.hypot(fy, fx)
        share = np.divide(fx**2, radius**2, out=np.full(radius.shape, 0.5), where=radius > 0)
        x, y = (self._read(radius, values) for values in (self.along_x, self.along_y))
        return np.asarray(share * x + (1 - share) * y)

    def _read(self, radius: _Plane, values: tuple[float, ...]) -> _Plane:
        f, v = np.array(self.frequencies), np.array(values)
        if f[0] > 0:
            f, v = np.append(0.0, f), np.append(1.0, v)
        v = v / v[0]
        last = max(float(v[-1]), 1e-12)
        # Beyond the last point, a Gaussian through it: a curve that was measured up to Nyquist does not end there.
        tail = np.exp(math.log(last) * (radius / f[-1]) ** 2)
        return np.where(radius <= f[-1], np.interp(radius, f, v), tail if last > _MIN_MEASURED_MTF else 0.0)

    @property
    def sigma(self) -> float:
        """Approximate width: σ of the Gaussian through the point nearest to an MTF of 0.5, LR pixels."""
        widths = []
        for values in (self.along_x, self.along_y):
            v = np.clip(np.array(values), 1e-3, 0.999)
            i = int(np.argmin(np.where(np.array(self.frequencies) > 0, np.abs(v - 0.5), np.inf)))
            widths.append(sigma_from_mtf(float(v[i]), self.frequencies[i]))
        return max(widths)


def read_curve(path: Path) -> tuple[Curve, tuple[str, ...]]:
    """Read an MTF curve, and warnings, from a .txt or .csv file as slanted-edge tools write it.

    Its rows are frequency, MTF, and optionally MTF along y; comments begin with #.

    Raises:
        ConfigError: It is not a curve.
        KernelError: It cannot be read as rows of numbers.
    """
    if path.suffix.lower() not in (".txt", ".csv"):
        raise ConfigError(f"an MTF curve must be a .txt or .csv file, got {path.name}.")
    raw = load_arrays(path, None)
    rows = np.asarray(raw.arrays[0], dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] not in (2, 3):
        raise ConfigError(
            f"{path.name} must have two or three columns: cycles per pixel, MTF, MTF along y; it has {rows.shape[1]}."
        )
    warnings = list(raw.warnings)
    values = rows[:, 1:]
    if values.size and np.nanmax(values) > _MAX_MTF:
        values = values / 100
        warnings.append(f"the MTF in {path.name} was read as percent.")
    x, y = values[:, 0], values[:, -1]
    return Curve(frequencies=tuple(rows[:, 0]), along_x=tuple(x), along_y=tuple(y)), tuple(warnings)
