"""The keys of a sensor specification, with units and bounds, and from the keys of one band to its `System`."""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ConfigError
from blindsr.kernels.analytic import rotated_covariance
from blindsr.kernels.metrics import FWHM_PER_SIGMA
from blindsr.sensors import transfer
from blindsr.sensors.system import System

__all__ = [
    "EXTRA",
    "GROUPS",
    "KERNEL",
    "SENSOR",
    "TEXTS",
    "Group",
    "number",
    "system_of",
    "unknown_key",
    "whole",
]

_MAX_SIGMA: Final = 20  # LR px; beyond it the units are wrong


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a specification."""

    unit: str
    meaning: str
    low: float
    high: float
    directional: bool = False  # whether it may be { along = …, across = … }
    hint: str = ""  # the usual mistake, for the error about a value that is out of bounds


@dataclass(frozen=True, slots=True)
class Group:
    """One way to specify a sensor."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    distinctive: tuple[str, ...]  # keys that select this way


_NANOMETRES = "; 550 nm are 0.55 µm"
_PERCENT = "; 24 % is 0.24"

SENSOR: Final = {
    "pitch_um": Key("µm", "pixel pitch of the detector", 0.05, 1000),
    "f_number": Key("no unit", "working f-number, N·(1 + magnification) at close range", 0.3, 1000),
    "wavelength_um": Key("µm", "wavelength", 0.01, 100, hint=_NANOMETRES),
    "fill_factor": Key("no unit", "light-sensitive share of a pixel's area", 0.01, 1, hint="; 80 % is 0.8"),
    "obstruction": Key("no unit", "diameter of the central obstruction over that of the pupil", 0, 0.95),
    "mtf_nyquist": Key("no unit", "MTF at Nyquist, 0.5 cycles per pixel", 1e-4, 0.99, directional=True, hint=_PERCENT),
    "mtf50_cy_per_px": Key("cycles per pixel", "frequency at which the MTF is 0.5", 0.005, 2, directional=True),
    "fwhm_px": Key("LR pixels", "full width at half maximum of the PSF", 0.1, 50, directional=True),
    "rer": Key("no unit", "relative edge response", 0.01, 0.999, directional=True, hint=_PERCENT),
    "edge_slope_per_m": Key("1/m", "slope of an edge between 40 % and 60 %", 1e-6, 1e4, directional=True),
    "gsd_m": Key("m", "ground sample distance", 1e-3, 1e5, directional=True),
    "na": Key("no unit", "numerical aperture of the objective", 0.005, 1.7),
    "camera_pixel_um": Key("µm", "pixel of the microscope's camera", 0.05, 1000),
    "magnification": Key("no unit", "magnification onto the camera, adapters included", 0.01, 1000),
    "binning": Key("camera pixels", "pixels a side that are combined into one", 1, 16),
    "track_deg": Key(
        "degrees", "direction of `along`, counter-clockwise from the x axis; 90 is up the image", -360, 360
    ),
}
EXTRA: Final = {
    "motion_px": Key("LR pixels", "length of a uniform motion during the exposure", 0, 100),
    "motion_deg": Key("degrees", "its direction, counter-clockwise from the x axis", -360, 360),
    "defocus_um": Key("µm", "distance of the sensor from the focus", 0, 1e5),
    "defocus_px": Key("LR pixels", "diameter of the disc of defocus", 0, 60),
    "jitter_px": Key("LR pixels", "standard deviation of a Gaussian jitter", 0, 20, directional=True),
    "low_pass_px": Key("LR pixels", "distance of the spots of the optical low-pass filter", 0, 4),
}
KERNEL: Final = {"size_px": Key("HR pixels", "side of the kernel", 1, 255)}
TEXTS: Final = ("name", "source", "note", "encoding")

GROUPS: Final = {
    "a lens": Group(
        ("pitch_um", "f_number", "wavelength_um"), ("fill_factor", "obstruction", "track_deg"), ("pitch_um", "f_number")
    ),
    "a microscope": Group(
        ("na", "wavelength_um", "camera_pixel_um", "magnification"),
        ("binning", "fill_factor", "track_deg"),
        ("na", "camera_pixel_um", "magnification", "binning"),
    ),
    "an MTF at Nyquist": Group(("mtf_nyquist",), ("track_deg",), ("mtf_nyquist",)),
    "an MTF50": Group(("mtf50_cy_per_px",), ("track_deg",), ("mtf50_cy_per_px",)),
    "a width": Group(("fwhm_px",), ("track_deg",), ("fwhm_px",)),
    "a relative edge response": Group(("rer",), ("track_deg",), ("rer",)),
    "an edge slope": Group(("edge_slope_per_m", "gsd_m"), ("track_deg",), ("edge_slope_per_m", "gsd_m")),
}
_WIDTHS: Final[dict[str, Callable[[float], float]]] = {
    "mtf_nyquist": transfer.sigma_from_mtf,
    "mtf50_cy_per_px": transfer.sigma_from_mtf50,
    "fwhm_px": transfer.sigma_from_fwhm,
    "rer": transfer.sigma_from_rer,
}


def unknown_key(table: str, key: str, allowed: dict[str, Key], others: tuple[str, ...] = ()) -> ConfigError:
    """The error for an unknown key; it suggests the nearest known one, with its unit."""
    near = difflib.get_close_matches(key, [*allowed, *others], n=1, cutoff=0.5)
    if near and near[0] in allowed:
        known = allowed[near[0]]
        advice = f"did you mean {near[0]} ({known.meaning}, {known.unit})?"
    else:
        advice = f"the known keys are {', '.join([*others, *allowed])}."
    return ConfigError(f"{table}.{key} is not a key of a sensor specification; {advice}")


def number(table: str, key: str, value: object, known: Key) -> float:
    """A value as a number within the bounds of its key.

    Raises:
        ConfigError: It is not a number, or out of bounds; the error names key, unit and bounds.
    """
    where = f"{table}.{key} ({known.meaning}, {known.unit})"
    # TOML allows integers that are far too large for a double.
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


def whole(key: str, value: float) -> int:
    """A whole number as an integer.

    Raises:
        ConfigError: It is not whole; `key` names it in the error.
    """
    if value != int(value):
        raise ConfigError(f"{key} must be a whole number, got {value:g}.")
    return int(value)


def system_of(table: str, sensor: dict[str, Any], extra: dict[str, Any]) -> System:
    """The system of one band.

    Args:
        table: Name of the band's table in the file, for errors.
        sensor: Keys of [sensor], with those of the band in place of the shared ones.
        extra: Keys of [extra].

    Raises:
        ConfigError: A key is unknown, out of bounds, missing or contradicts another.
    """
    values = _numbers(table, sensor, SENSOR)
    more = _numbers("extra", extra, EXTRA)
    group = _group(table, values)
    track = _scalar(values.get("track_deg"), 90.0)
    parts: dict[str, Any] = {}
    covariances = []
    if group in ("a lens", "a microscope"):
        parts |= _optics(table, values)
    else:
        covariances.append(_published(table, group, values, track))
    if "jitter_px" in more and any(more["jitter_px"]):
        along, across = more["jitter_px"]
        covariances.append(rotated_covariance(along**2, across**2, track))
    if covariances:
        total = np.sum(covariances, axis=0)
        parts["covariance"] = ((total[0, 0], total[0, 1]), (total[1, 0], total[1, 1]))
    parts["motion"] = _scalar(more.get("motion_px"), 0.0)
    parts["motion_angle"] = _scalar(more.get("motion_deg"), 0.0)
    if "motion_deg" in more and "motion_px" not in more:
        raise ConfigError("extra.motion_deg (degrees) has no effect without extra.motion_px (LR pixels).")
    parts["defocus"] = _defocus(values, more)
    parts["spots"] = _scalar(more.get("low_pass_px"), 0.0)
    return System(**parts)


_Pair = tuple[float, float]  # along, across


def _numbers(table: str, given: dict[str, Any], known: dict[str, Key]) -> dict[str, _Pair]:
    values = {}
    for key, value in given.items():
        if key not in known:
            raise unknown_key(table, key, known, TEXTS if table == "sensor" else ())
        if not isinstance(value, dict):
            values[key] = (number(table, key, value, known[key]),) * 2
            continue
        if not known[key].directional:
            raise ConfigError(f"{table}.{key} ({known[key].unit}) must be one number for along and across.")
        if set(value) != {"along", "across"}:
            raise ConfigError(
                f"{table}.{key} ({known[key].unit}) must be one number or {{ along = …, across = … }}, it has "
                f"{', '.join(map(str, value)) or 'nothing'}."
            )
        along, across = (number(f"{table}.{key}", way, value[way], known[key]) for way in ("along", "across"))
        values[key] = (along, across)
    return values


def _scalar(pair: _Pair | None, default: float) -> float:
    return default if pair is None else pair[0]


def _group(table: str, values: Mapping[str, _Pair]) -> str:
    """The way of specifying; errors name the keys that contradict each other or are missing."""
    present = {name: [key for key in group.distinctive if key in values] for name, group in GROUPS.items()}
    chosen = [name for name, keys in present.items() if keys]
    if not chosen:
        ways = "; ".join(", ".join(f"{k} ({SENSOR[k].unit})" for k in group.required) for group in GROUPS.values())
        raise ConfigError(
            f"{table} must specify the sensor by one of: {ways}; it has {', '.join(values) or 'nothing'}."
        )
    if len(chosen) > 1:
        first, second = (f"{present[name][0]} ({SENSOR[present[name][0]].unit})" for name in chosen[:2])
        raise ConfigError(
            f"{table}.{first} and {table}.{second} contradict each other: {chosen[0]} and {chosen[1]} both "
            "define the width of the blur; keep one."
        )
    name = chosen[0]
    group = GROUPS[name]
    for key in group.required:
        if key not in values:
            raise ConfigError(f"{table}.{key} ({SENSOR[key].meaning}, {SENSOR[key].unit}) is missing for {name}.")
    for key in values:
        if key not in (*group.required, *group.optional):
            contained = key in ("fill_factor", "obstruction", "wavelength_um")
            why = "a published value contains it already" if contained else "it has no effect there"
            raise ConfigError(f"{table}.{key} ({SENSOR[key].unit}) does not go with {name}: {why}; leave it out.")
    return name


def _optics(table: str, values: Mapping[str, _Pair]) -> dict[str, Any]:
    wavelength = values["wavelength_um"][0]
    if "na" in values:
        binning = whole(f"{table}.binning (camera pixels)", _scalar(values.get("binning"), 1.0))
        pixel = values["camera_pixel_um"][0] * binning / values["magnification"][0]
        q = wavelength / (2 * values["na"][0]) / pixel
    else:
        q = wavelength * values["f_number"][0] / values["pitch_um"][0]
    return {
        "q": q,
        "obstruction": _scalar(values.get("obstruction"), 0.0),
        "detector": math.sqrt(_scalar(values.get("fill_factor"), 1.0)),
    }


def _published(table: str, group: str, values: Mapping[str, _Pair], track: float) -> NDArray[np.float64]:
    if group == "an edge slope":
        slopes, distances = values["edge_slope_per_m"], values["gsd_m"]
        sigmas = [transfer.sigma_from_edge_slope(s, d) for s, d in zip(slopes, distances, strict=True)]
    else:
        key = GROUPS[group].required[0]
        sigmas = [_WIDTHS[key](value) for value in values[key]]
    if max(sigmas) > _MAX_SIGMA:
        raise ConfigError(
            f"{table} has a blur of FWHM {FWHM_PER_SIGMA * max(sigmas):.3g} LR pixels, more than "
            f"{FWHM_PER_SIGMA * _MAX_SIGMA:.0f}; check the units."
        )
    return rotated_covariance(sigmas[0] ** 2, sigmas[1] ** 2, track)


def _defocus(values: Mapping[str, _Pair], more: Mapping[str, _Pair]) -> float:
    if "defocus_um" in more and "defocus_px" in more:
        raise ConfigError("extra.defocus_um (µm) and extra.defocus_px (LR pixels) contradict each other; keep one.")
    if "defocus_um" not in more:
        return _scalar(more.get("defocus_px"), 0.0)
    if "f_number" not in values:
        raise ConfigError("extra.defocus_um (µm) needs sensor.f_number and sensor.pitch_um; or give extra.defocus_px.")
    diameter = more["defocus_um"][0] / (values["f_number"][0] * values["pitch_um"][0])
    return number("extra", "defocus_um / (f_number · pitch_um)", diameter, EXTRA["defocus_px"])
