"""From one published number to the width of a Gaussian: σ in LR pixels.

Each of these numbers was measured on the whole camera: it contains optics, detector and motion already, and none of
them may be multiplied in again.
"""

import math

from scipy.special import erfinv

from blindsr.errors import ConfigError

__all__ = [
    "FWHM_PER_SIGMA",
    "mtf_at_nyquist",
    "sigma_from_edge_slope",
    "sigma_from_fwhm",
    "sigma_from_mtf",
    "sigma_from_mtf50",
    "sigma_from_rer",
]

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))  # 2.35482
# Distance, in σ, between the 40 % and 60 % points of an edge over the step of 0.2: 0.2 / (2·Φ⁻¹(0.6)).
_SLOPE = 0.2 / (2 * math.sqrt(2) * float(erfinv(0.2)))  # 0.39472


def _positive(value: float, what: str, unit: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{what} must be a positive number of {unit}, got {value:g}.")


def _fraction(value: float, what: str) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{what} must be between 0 and 1 (0.24, not 24 %), got {value:g}.")


def sigma_from_mtf(mtf: float, frequency: float = 0.5) -> float:
    """σ of the Gaussian that passes `mtf` at a frequency: √(−2 ln G)/(2πf), which is √(−2 ln G)/π at Nyquist.

    Args:
        mtf: G, in (0, 1).
        frequency: Cycles per LR pixel.

    Raises:
        ConfigError: A number is out of its range.

    Example:
        >>> round(sigma_from_mtf(0.24), 3)
        0.538
    """
    _fraction(mtf, "an MTF")
    _positive(frequency, "the frequency of an MTF", "cycles per pixel")
    return math.sqrt(-2 * math.log(mtf)) / (2 * math.pi * frequency)


def sigma_from_mtf50(frequency: float) -> float:
    """σ of the Gaussian that passes one half at `frequency` (cycles per LR pixel): 0.18739/f50.

    Raises:
        ConfigError: The frequency is not positive.
    """
    return sigma_from_mtf(0.5, frequency)


def sigma_from_fwhm(fwhm: float) -> float:
    """σ of the Gaussian with a full width at half maximum of `fwhm` LR pixels: FWHM/2.35482.

    Raises:
        ConfigError: The width is not positive.
    """
    _positive(fwhm, "a full width at half maximum", "pixels")
    return fwhm / FWHM_PER_SIGMA


def sigma_from_rer(rer: float) -> float:
    """σ from the relative edge response, the rise of a normalised edge over ±0.5 pixel: 0.5/(√2·erfinv(RER)).

    Raises:
        ConfigError: The response is not between 0 and 1.

    References:
        Leachtenauer et al., "General Image-Quality Equation: GIQE", Applied Optics 36(32), 1997.
    """
    _fraction(rer, "a relative edge response")
    return 0.5 / (math.sqrt(2) * float(erfinv(rer)))


def sigma_from_edge_slope(slope_per_m: float, gsd_m: float) -> float:
    """σ from the slope of a normalised edge between 40 % and 60 %, as Landsat's is published: 0.39472/(S·GSD).

    Args:
        slope_per_m: S, per metre on the ground.
        gsd_m: Ground sample distance: what one LR pixel covers, metres.

    Raises:
        ConfigError: A number is not positive.
    """
    _positive(slope_per_m, "an edge slope", "1/m")
    _positive(gsd_m, "a ground sample distance", "metres")
    return _SLOPE / (slope_per_m * gsd_m)


def mtf_at_nyquist(sigma: float) -> float:
    """What a Gaussian of σ LR pixels passes at LR's Nyquist frequency: exp(−π²σ²/2)."""
    return math.exp(-0.5 * (math.pi * sigma) ** 2)
