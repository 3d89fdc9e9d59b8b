"""From the keys of one band to its `System`: which way of specifying is meant, and its numbers."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from blindsr.errors import ConfigError
from blindsr.sensors import widths
from blindsr.sensors.keys import EXTRA, GROUPS, SENSOR, TEXTS, Key, number, unknown_key
from blindsr.sensors.system import System

__all__ = ["system_of", "whole"]

_WIDTHS: Final[dict[str, Callable[[float], float]]] = {
    "mtf_nyquist": widths.sigma_from_mtf,
    "mtf50_cy_per_px": widths.sigma_from_mtf50,
    "fwhm_px": widths.sigma_from_fwhm,
    "rer": widths.sigma_from_rer,
}


def whole(place: str, value: float) -> int:
    """A number that must be whole, as one.

    Raises:
        ConfigError: It is not; `place` names it.
    """
    if value != int(value):
        raise ConfigError(f"{place} must be a whole number, got {value:g}.")
    return int(value)


def system_of(place: str, sensor: dict[str, Any], extra: dict[str, Any]) -> System:
    """The system of one band.

    Args:
        place: Of the band in the file, for errors.
        sensor: Keys of [sensor], those of the band over the shared ones.
        extra: Keys of [extra].

    Raises:
        ConfigError: A key is unknown, out of bounds, missing or contradicts another.
    """
    values = _numbers(place, sensor, SENSOR)
    more = _numbers("extra", extra, EXTRA)
    group = _group(place, values)
    track = _one(values.get("track_deg"), 90.0)
    parts: dict[str, Any] = {}
    covariances = []
    if group in ("a lens", "a microscope"):
        parts |= _optics(place, values)
    else:
        covariances.append(_published(place, group, values, track))
    if "jitter_px" in more and any(more["jitter_px"]):
        along, across = more["jitter_px"]
        covariances.append(_turned(along**2, across**2, track))
    if covariances:
        total = np.sum(covariances, axis=0)
        parts["covariance"] = ((total[0, 0], total[0, 1]), (total[1, 0], total[1, 1]))
    parts["motion"] = _one(more.get("motion_px"), 0.0)
    parts["motion_angle"] = _one(more.get("motion_deg"), 0.0)
    if "motion_deg" in more and "motion_px" not in more:
        raise ConfigError("extra.motion_deg (degrees) has no meaning without extra.motion_px (LR pixels).")
    parts["defocus"] = _defocus(values, more)
    parts["spots"] = _one(more.get("low_pass_px"), 0.0)
    return System(**parts)


_Pair = tuple[float, float]  # along, across


def _numbers(place: str, table: dict[str, Any], known: dict[str, Key]) -> dict[str, _Pair]:
    values = {}
    for key, value in table.items():
        if key not in known:
            raise unknown_key(place, key, known, TEXTS if place == "sensor" else ())
        if not isinstance(value, dict):
            values[key] = (number(place, key, value, known[key]),) * 2
            continue
        if not known[key].both_ways:
            raise ConfigError(
                f"{place}.{key} ({known[key].unit}) must be one number, it cannot differ along and across."
            )
        if set(value) != {"along", "across"}:
            raise ConfigError(
                f"{place}.{key} ({known[key].unit}) must be one number or {{ along = …, across = … }}, it has "
                f"{', '.join(map(str, value)) or 'nothing'}."
            )
        along, across = (number(f"{place}.{key}", way, value[way], known[key]) for way in ("along", "across"))
        values[key] = (along, across)
    return values


def _one(pair: _Pair | None, otherwise: float) -> float:
    return otherwise if pair is None else pair[0]


def _group(place: str, values: Mapping[str, _Pair]) -> str:
    """Which way of specifying is meant; errors name the keys that contradict each other or are missing."""
    meant = {name: [key for key in group.marks if key in values] for name, group in GROUPS.items()}
    chosen = [name for name, keys in meant.items() if keys]
    if not chosen:
        ways = "; ".join(", ".join(f"{k} ({SENSOR[k].unit})" for k in group.needs) for group in GROUPS.values())
        raise ConfigError(
            f"{place} must specify the sensor by one of: {ways}; it has {', '.join(values) or 'nothing'}."
        )
    if len(chosen) > 1:
        first, second = (f"{meant[name][0]} ({SENSOR[meant[name][0]].unit})" for name in chosen[:2])
        raise ConfigError(
            f"{place}.{first} and {place}.{second} contradict each other: {chosen[0]} and {chosen[1]} both say "
            "how wide the blur is; keep one."
        )
    name = chosen[0]
    group = GROUPS[name]
    for key in group.needs:
        if key not in values:
            raise ConfigError(f"{place}.{key} ({SENSOR[key].meaning}, {SENSOR[key].unit}) is missing for {name}.")
    for key in values:
        if key not in (*group.needs, *group.may):
            why = (
                "a published figure contains it already"
                if key in ("fill_factor", "obstruction", "wavelength_um")
                else "it has no meaning there"
            )
            raise ConfigError(f"{place}.{key} ({SENSOR[key].unit}) does not go with {name}: {why}; leave it out.")
    return name


def _optics(place: str, values: Mapping[str, _Pair]) -> dict[str, Any]:
    wavelength = values["wavelength_um"][0]
    if "na" in values:
        binning = whole(f"{place}.binning (camera pixels)", _one(values.get("binning"), 1.0))
        pixel = values["camera_pixel_um"][0] * binning / values["magnification"][0]
        q = wavelength / (2 * values["na"][0]) / pixel
    else:
        q = wavelength * values["f_number"][0] / values["pitch_um"][0]
    return {
        "q": q,
        "obstruction": _one(values.get("obstruction"), 0.0),
        "detector": math.sqrt(_one(values.get("fill_factor"), 1.0)),
    }


def _published(place: str, group: str, values: Mapping[str, _Pair], track: float) -> "np.ndarray[Any, Any]":
    if group == "an edge slope":
        slopes, distances = values["edge_slope_per_m"], values["gsd_m"]
        sigmas = [widths.sigma_from_edge_slope(s, d) for s, d in zip(slopes, distances, strict=True)]
    else:
        key = GROUPS[group].needs[0]
        sigmas = [_WIDTHS[key](value) for value in values[key]]
    if max(sigmas) > 20:
        raise ConfigError(
            f"{place} asks for a blur of σ {max(sigmas):.3g} LR pixels, which is over 20; check the units."
        )
    return _turned(sigmas[0] ** 2, sigmas[1] ** 2, track)


def _turned(along: float, across: float, angle: float) -> "np.ndarray[Any, Any]":
    """Σ in order (y, x) with variances along and across a direction seen counter-clockwise from the x axis."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    xx, yy = along * cos**2 + across * sin**2, along * sin**2 + across * cos**2
    yx = -(along - across) * sin * cos
    return np.array([[yy, yx], [yx, xx]])


def _defocus(values: Mapping[str, _Pair], more: Mapping[str, _Pair]) -> float:
    if "defocus_um" in more and "defocus_px" in more:
        raise ConfigError("extra.defocus_um (µm) and extra.defocus_px (LR pixels) contradict each other; keep one.")
    if "defocus_um" not in more:
        return _one(more.get("defocus_px"), 0.0)
    if "f_number" not in values:
        raise ConfigError(
            "extra.defocus_um (µm) needs sensor.f_number and sensor.pitch_um; give extra.defocus_px (LR pixels)."
        )
    diameter = more["defocus_um"][0] / (values["f_number"][0] * values["pitch_um"][0])
    known = EXTRA["defocus_px"]
    return number("extra", "defocus_um / (f_number · pitch_um)", diameter, known)
