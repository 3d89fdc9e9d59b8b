"""What may stand in a specification file: every key with its unit and its bounds, and the sets that belong together."""

import difflib
import math
from dataclasses import dataclass
from typing import Final

from blindsr.errors import ConfigError

__all__ = ["EXTRA", "GROUPS", "KERNEL", "SENSOR", "TEXTS", "Group", "Key", "number", "unknown_key"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Args:
        unit: Its unit, in words.
        meaning: What it is.
        low: Least value.
        high: Largest value.
        both_ways: Whether it may be { along = …, across = … }.
        hint: Added where a value is out of bounds: the usual mistake.
    """

    unit: str
    meaning: str
    low: float
    high: float
    both_ways: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One way to specify a sensor.

    Args:
        needs: Keys that must all be there.
        may: Keys that may be there too.
        marks: Keys that say that this way is meant.
    """

    needs: tuple[str, ...]
    may: tuple[str, ...]
    marks: tuple[str, ...]


_NANOMETRES = "; 550 nm are 0.55 µm"
_PERCENT = "; 24 % is 0.24"

SENSOR: Final = {
    "pitch_um": Key("µm", "distance of the detector's pixels", 0.05, 1000),
    "f_number": Key("no unit", "working f-number, N·(1 + magnification) at close range", 0.3, 1000),
    "wavelength_um": Key("µm", "wavelength", 0.01, 100, hint=_NANOMETRES),
    "fill_factor": Key("no unit", "light-sensitive share of a pixel's area", 0.01, 1, hint="; 80 % is 0.8"),
    "obstruction": Key("no unit", "diameter of the hidden middle over that of the pupil", 0, 0.95),
    "mtf_nyquist": Key("no unit", "MTF at Nyquist, 0.5 cycles per pixel", 1e-4, 0.99, both_ways=True, hint=_PERCENT),
    "mtf50_cy_per_px": Key("cycles per pixel", "frequency at which the MTF is 0.5", 0.005, 2, both_ways=True),
    "fwhm_px": Key("LR pixels", "full width at half maximum of the PSF", 0.1, 50, both_ways=True),
    "rer": Key("no unit", "relative edge response", 0.01, 0.999, both_ways=True, hint=_PERCENT),
    "edge_slope_per_m": Key("1/m", "slope of an edge between 40 % and 60 %", 1e-6, 1e4, both_ways=True),
    "gsd_m": Key("m", "ground sample distance", 1e-3, 1e5, both_ways=True),
    "na": Key("no unit", "numerical aperture of the objective", 0.005, 1.7),
    "camera_pixel_um": Key("µm", "pixel of the microscope's camera", 0.05, 1000),
    "magnification": Key("no unit", "magnification onto the camera, adapters included", 0.01, 1000),
    "binning": Key("camera pixels", "pixels a side that are added into one", 1, 16),
    "track_deg": Key(
        "degrees", "direction of `along`, counter-clockwise from the x axis; 90 is up the image", -360, 360
    ),
}
EXTRA: Final = {
    "motion_px": Key("LR pixels", "length of an even motion during the exposure", 0, 100),
    "motion_deg": Key("degrees", "its direction, counter-clockwise from the x axis", -360, 360),
    "defocus_um": Key("µm", "distance of the sensor from the focus", 0, 1e5),
    "defocus_px": Key("LR pixels", "diameter of the disc of defocus", 0, 60),
    "jitter_px": Key("LR pixels", "standard deviation of a Gaussian shake", 0, 20, both_ways=True),
    "low_pass_px": Key("LR pixels", "distance of the spots of the optical low-pass filter", 0, 4),
}
KERNEL: Final = {"size_px": Key("HR pixels", "side of the kernel", 1, 255)}
TEXTS: Final = ("name", "source", "note", "encoding")

_SHARED = ("track_deg",)
GROUPS: Final = {
    "a lens": Group(
        ("pitch_um", "f_number", "wavelength_um"), ("fill_factor", "obstruction", *_SHARED), ("pitch_um", "f_number")
    ),
    "a microscope": Group(
        ("na", "wavelength_um", "camera_pixel_um", "magnification"),
        ("binning", "fill_factor", *_SHARED),
        ("na", "camera_pixel_um", "magnification", "binning"),
    ),
    "an MTF at Nyquist": Group(("mtf_nyquist",), _SHARED, ("mtf_nyquist",)),
    "an MTF50": Group(("mtf50_cy_per_px",), _SHARED, ("mtf50_cy_per_px",)),
    "a width": Group(("fwhm_px",), _SHARED, ("fwhm_px",)),
    "a relative edge response": Group(("rer",), _SHARED, ("rer",)),
    "an edge slope": Group(("edge_slope_per_m", "gsd_m"), _SHARED, ("edge_slope_per_m", "gsd_m")),
}


def unknown_key(place: str, key: str, allowed: dict[str, Key], others: tuple[str, ...] = ()) -> ConfigError:
    """The error for a key that is none: names the nearest one with its unit."""
    near = difflib.get_close_matches(key, [*allowed, *others], n=1, cutoff=0.5)
    if near and near[0] in allowed:
        known = allowed[near[0]]
        advice = f"did you mean {near[0]} ({known.meaning}, {known.unit})?"
    else:
        advice = f"known are {', '.join([*others, *allowed])}."
    return ConfigError(f"{place}.{key} is no key of a sensor specification; {advice}")


def number(place: str, key: str, value: object, known: Key) -> float:
    """A value as a number within the bounds of its key.

    Raises:
        ConfigError: It is no number or out of bounds; names key, unit and bounds.
    """
    where = f"{place}.{key} ({known.meaning}, {known.unit})"
    # Far larger integers than a double can hold are legal TOML.
    fits = not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < 1e18
    if not fits or not math.isfinite(float(value)):  # type: ignore[arg-type]
        raise ConfigError(f"{where} must be a number, got {_short(value)}.")
    result = float(value)  # type: ignore[arg-type]
    if not known.low <= result <= known.high:
        raise ConfigError(f"{where} must be from {known.low:g} to {known.high:g}, got {result:g}{known.hint}.")
    return result


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
