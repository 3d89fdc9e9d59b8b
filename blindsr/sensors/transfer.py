"""Transfer functions of the parts of a camera, each at frequencies in cycles per LR pixel (Nyquist 0.5).

Every part is 1 at frequency 0 and real: it is symmetric, so it moves nothing. A system is their product.

References:
    Goodman, "Introduction to Fourier Optics", 3rd ed., 2005, ch. 6 (pupils, defocus).
    Boreman, "Modulation Transfer Function in Optical and Electro-Optical Systems", SPIE Press, 2001 (detector, motion,
    jitter).
    Greivenkamp, "Color dependent optical prefilter for the suppression of aliasing artifacts", Applied Optics 29(5),
    1990 (low-pass filter).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["annular", "defocus", "detector", "diffraction", "four_spots", "gaussian", "motion"]

_Plane = NDArray[np.float64]


def diffraction(frequency: ArrayLike, q: float) -> _Plane:
    """Diffraction of a circular pupil: (2/π)(acos ν − ν√(1 − ν²)) with ν = f·Q, 0 from ν = 1 on.

    Args:
        frequency: |f|, any shape.
        q: Q = λN/p: 1/Q is the highest frequency that the lens passes, in cycles per LR pixel.

    Returns:
        Of the shape of `frequency`.

    Example:
        >>> float(diffraction(0.5, 0.55 * 8 / 3.76).round(3))
        0.3
    """
    nu = np.clip(np.abs(np.asarray(frequency, dtype=np.float64)) * q, 0, 1)
    return np.asarray(2 / np.pi * (np.arccos(nu) - nu * np.sqrt(1 - nu**2)), dtype=np.float64)


def annular(frequency: ArrayLike, q: float, obstruction: float) -> _Plane:
    """Diffraction of a circular pupil whose middle is hidden, as in mirror telescopes.

    The normalised autocorrelation of the pupil: that of the disc, less twice its cross-correlation with the hidden
    disc, plus that of the hidden disc. The overlap of two discs is a lens with a closed form.

    Args:
        frequency: |f|, any shape.
        q: As in `diffraction`.
        obstruction: Diameter of the hidden disc over that of the pupil, [0, 1).

    Returns:
        Of the shape of `frequency`.
    """
    if obstruction == 0:
        return diffraction(frequency, q)
    nu = np.clip(np.abs(np.asarray(frequency, dtype=np.float64)) * q, 0, 1)
    # With a pupil of radius 1, frequency ν is a shift of 2ν.
    apart = 2 * nu
    both = _overlap(apart, 1.0, 1.0) - 2 * _overlap(apart, 1.0, obstruction) + _overlap(apart, obstruction, obstruction)
    return np.asarray(both / (np.pi * (1 - obstruction**2)), dtype=np.float64)


def _overlap(apart: _Plane, first: float, second: float) -> _Plane:
    """Area that two discs of given radii share when their centres are `apart`."""
    inside = np.pi * min(first, second) ** 2
    result = np.where(apart <= abs(first - second), inside, 0.0)
    lens = (apart > abs(first - second)) & (apart < first + second)
    d = np.where(lens, apart, 1.0)
    to_first = np.clip((d**2 + first**2 - second**2) / (2 * d * first), -1, 1)
    to_second = np.clip((d**2 + second**2 - first**2) / (2 * d * second), -1, 1)
    kite = (-d + first + second) * (d + first - second) * (d - first + second) * (d + first + second)
    area = first**2 * np.arccos(to_first) + second**2 * np.arccos(to_second) - 0.5 * np.sqrt(np.clip(kite, 0, None))
    return np.asarray(np.where(lens, area, result), dtype=np.float64)


def detector(fy: ArrayLike, fx: ArrayLike, width: float) -> _Plane:
    """A square light-sensitive area: sinc(a·fx)·sinc(a·fy), a its side in pixels (√fill factor).

    Example:
        >>> float(detector(0.0, 0.5, 1.0).round(4))
        0.6366
    """
    return np.asarray(np.sinc(width * np.asarray(fy)) * np.sinc(width * np.asarray(fx)), dtype=np.float64)


def gaussian(fy: ArrayLike, fx: ArrayLike, covariance: ArrayLike) -> _Plane:
    """A Gaussian blur: exp(−2π² fᵀΣf).

    Args:
        fy: Frequency along y.
        fx: Frequency along x.
        covariance: Σ, (2, 2), LR px², order (y, x).
    """
    sigma = np.asarray(covariance, dtype=np.float64)
    fy, fx = np.asarray(fy, dtype=np.float64), np.asarray(fx, dtype=np.float64)
    form = sigma[0, 0] * fy * fy + 2 * sigma[0, 1] * fy * fx + sigma[1, 1] * fx * fx
    return np.asarray(np.exp(-2 * np.pi**2 * form), dtype=np.float64)


def motion(fy: ArrayLike, fx: ArrayLike, length: float, angle: float) -> _Plane:
    """Even motion during the exposure: sinc(L·f∥).

    Args:
        fy: Frequency along y (down).
        fx: Frequency along x.
        length: L, LR pixels.
        angle: Direction, degrees counter-clockwise from the x axis as seen.
    """
    radians = np.radians(angle)
    # Seen counter-clockwise, y points up; in the array it points down: hence the minus.
    along = np.asarray(fx) * np.cos(radians) - np.asarray(fy) * np.sin(radians)
    return np.asarray(np.sinc(length * along), dtype=np.float64)


def defocus(frequency: ArrayLike, diameter: float) -> _Plane:
    """Geometric defocus, a disc of light: 2·J1(πcf)/(πcf).

    Good where the disc is much larger than the diffraction pattern.

    Args:
        frequency: |f|.
        diameter: c, LR pixels: |Δz|/(N·p) for a sensor that is Δz out of focus.
    """
    argument = np.pi * diameter * np.abs(np.asarray(frequency, dtype=np.float64))
    safe = np.where(argument > 1e-8, argument, 1.0)
    return np.asarray(np.where(argument > 1e-8, 2 * special.j1(safe) / safe, 1.0), dtype=np.float64)


def four_spots(fy: ArrayLike, fx: ArrayLike, distance: float) -> _Plane:
    """The optical low-pass filter of a camera, which makes four spots of each: cos(πd·fx)·cos(πd·fy).

    Args:
        fy: Frequency along y.
        fx: Frequency along x.
        distance: d, between neighbouring spots, LR pixels; d = 1 puts the zero at Nyquist.
    """
    return np.asarray(
        np.cos(np.pi * distance * np.asarray(fy)) * np.cos(np.pi * distance * np.asarray(fx)), dtype=np.float64
    )
