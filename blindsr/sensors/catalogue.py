"""Sensors by name or specification file (TOML, with the unit in every key), and the kernels of their bands."""

import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from blindsr.errors import ConfigError, did_you_mean, reason_of
from blindsr.kernels import Kernel, KernelStack
from blindsr.kernels.analytic import rotated_covariance
from blindsr.kernels.kernel import plain_name
from blindsr.kernels.metrics import FWHM_PER_SIGMA
from blindsr.sensors import transfer
from blindsr.sensors.system import DEFAULT_MODEL, KernelModel, System, SystemKernel, design, design_warnings

_TABLES: Final = ("sensor", "extra", "kernel", "bands")
_MAX_BANDS: Final = 512
_MAX_BYTES: Final = 1 << 20  # of a specification file
_MAX_SIGMA: Final = 20  # LR px; beyond it the units are wrong
Encoding = Literal["linear", "srgb"]


# --------------------------------------------------------------------------------------------- keys and their bounds


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a specification."""

    unit: str
    meaning: str
    low: float
    high: float
    directional: bool = False  # whether it may be { along = …, across = … }
    hint: str = ""  # the usual mistake, for the error about a value that is out of bounds


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


@dataclass(frozen=True, slots=True)
class Group:
    """One way to specify a sensor: the keys that it needs, and those that it allows beside `track_deg`."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


GROUPS: Final = {
    "a lens": Group(("pitch_um", "f_number", "wavelength_um"), ("fill_factor", "obstruction")),
    "a microscope": Group(("na", "wavelength_um", "camera_pixel_um", "magnification"), ("binning", "fill_factor")),
    "an MTF at Nyquist": Group(("mtf_nyquist",)),
    "an MTF50": Group(("mtf50_cy_per_px",)),
    "a width": Group(("fwhm_px",)),
    "a relative edge response": Group(("rer",)),
    "an edge slope": Group(("edge_slope_per_m", "gsd_m")),
}
_OF_OPTICS: Final = ("wavelength_um", "fill_factor", "obstruction")  # which a published value contains already
_WIDTHS: Final[dict[str, Callable[[float], float]]] = {
    "mtf_nyquist": transfer.sigma_from_mtf,
    "mtf50_cy_per_px": lambda frequency: transfer.sigma_from_mtf(0.5, frequency),
    "fwhm_px": transfer.sigma_from_fwhm,
    "rer": transfer.sigma_from_rer,
}
_Pair = tuple[float, float]  # along, across


def _unknown_key(table: str, key: str, allowed: dict[str, Key], others: tuple[str, ...]) -> ConfigError:
    near = difflib.get_close_matches(key, [*allowed, *others], n=1, cutoff=0.5)
    if near and near[0] in allowed:
        advice = f"did you mean {near[0]} ({allowed[near[0]].meaning}, {allowed[near[0]].unit})?"
    else:
        advice = f"the known keys are {', '.join([*others, *allowed])}."
    return ConfigError(f"{table}.{key} is not a key of a sensor specification; {advice}")


def _number(table: str, key: str, value: object, known: Key) -> float:
    where = f"{table}.{key} ({known.meaning}, {known.unit})"
    # TOML allows integers that are far too large for a double.
    fits = not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < 1e18
    if not fits or not math.isfinite(float(value)):  # type: ignore[arg-type]
        text = repr(value)
        raise ConfigError(f"{where} must be a number, got {text if len(text) <= 60 else text[:57] + '...'}.")
    result = float(value)  # type: ignore[arg-type]
    if not known.low <= result <= known.high:
        raise ConfigError(f"{where} must be from {known.low:g} to {known.high:g}, got {result:g}{known.hint}.")
    return result


def _whole(key: str, value: float) -> int:
    if value != int(value):
        raise ConfigError(f"{key} must be a whole number, got {value:g}.")
    return int(value)


def _numbers(table: str, given: dict[str, Any], known: dict[str, Key]) -> dict[str, _Pair]:
    """The values of a table, checked, along and across."""
    values = {}
    for key, value in given.items():
        if key not in known:
            raise _unknown_key(table, key, known, TEXTS if table == "sensor" else ())
        if not isinstance(value, dict):
            values[key] = (_number(table, key, value, known[key]),) * 2
            continue
        if not known[key].directional:
            raise ConfigError(f"{table}.{key} ({known[key].unit}) must be one number for along and across.")
        if set(value) != {"along", "across"}:
            raise ConfigError(
                f"{table}.{key} ({known[key].unit}) must be one number or {{ along = …, across = … }}, it has "
                f"{', '.join(map(str, value)) or 'nothing'}."
            )
        along, across = (_number(f"{table}.{key}", way, value[way], known[key]) for way in ("along", "across"))
        values[key] = (along, across)
    return values


def _group(table: str, values: Mapping[str, _Pair]) -> str:
    """The way of specifying; errors name the keys that contradict each other or are missing."""
    present = {
        name: [key for key in (*group.required, *group.optional) if key in values and key not in _OF_OPTICS]
        for name, group in GROUPS.items()
    }
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
    for key in GROUPS[name].required:
        if key not in values:
            raise ConfigError(f"{table}.{key} ({SENSOR[key].meaning}, {SENSOR[key].unit}) is missing for {name}.")
    for key in values:
        if key not in (*GROUPS[name].required, *GROUPS[name].optional, "track_deg"):
            why = "a published value contains it already" if key in _OF_OPTICS else "it has no effect there"
            raise ConfigError(f"{table}.{key} ({SENSOR[key].unit}) does not go with {name}: {why}; leave it out.")
    return name


def _system_of(table: str, sensor: dict[str, Any], extra: dict[str, Any]) -> System:
    """The system of one band, from its keys, with those of [sensor] that it shares, and the keys of [extra]."""
    values, more = _numbers(table, sensor, SENSOR), _numbers("extra", extra, EXTRA)

    def scalar(key: str, default: float = 0.0) -> float:
        return (values | more).get(key, (default,))[0]

    group, track = _group(table, values), scalar("track_deg", 90.0)
    parts: dict[str, Any] = {}
    covariances = []
    if group in ("a lens", "a microscope"):
        if group == "a lens":
            q = scalar("wavelength_um") * scalar("f_number") / scalar("pitch_um")
        else:
            binning = _whole(f"{table}.binning (camera pixels)", scalar("binning", 1.0))
            pixel = scalar("camera_pixel_um") * binning / scalar("magnification")
            q = scalar("wavelength_um") / (2 * scalar("na")) / pixel
        parts = {"q": q, "obstruction": scalar("obstruction"), "detector": math.sqrt(scalar("fill_factor", 1.0))}
    else:
        covariances.append(_published(table, group, values, track))
    if "jitter_px" in more and any(more["jitter_px"]):
        along, across = more["jitter_px"]
        covariances.append(rotated_covariance(along**2, across**2, track))
    if covariances:
        (yy, yx), (xy, xx) = sum(covariances)
        parts["covariance"] = ((yy, yx), (xy, xx))
    if "motion_deg" in more and "motion_px" not in more:
        raise ConfigError("extra.motion_deg (degrees) has no effect without extra.motion_px (LR pixels).")
    defocus = scalar("defocus_px")
    if "defocus_um" in more:
        if "defocus_px" in more:
            raise ConfigError("extra.defocus_um (µm) and extra.defocus_px (LR pixels) contradict each other; keep one.")
        if "f_number" not in values:
            raise ConfigError(
                "extra.defocus_um (µm) needs sensor.f_number and sensor.pitch_um; or give extra.defocus_px."
            )
        defocus = scalar("defocus_um") / (scalar("f_number") * scalar("pitch_um"))
        defocus = _number("extra", "defocus_um / (f_number · pitch_um)", defocus, EXTRA["defocus_px"])
    motion, angle, spots = scalar("motion_px"), scalar("motion_deg"), scalar("low_pass_px")
    return System(motion=motion, motion_angle=angle, defocus=defocus, spots=spots, **parts)


def _published(table: str, group: str, values: Mapping[str, _Pair], track: float) -> Any:  # noqa: ANN401 - (2, 2)
    """Covariance, LR px², of the Gaussian with the published width."""
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


# ---------------------------------------------------------------------------------------------------------- sensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """An instrument: one system, or one for each of its bands."""

    name: str
    source: str = ""  # of its numbers
    note: str = ""  # quoted when a band is missing
    systems: Mapping[str, System] = field(default_factory=dict)  # by band; "" for an instrument without bands
    model: KernelModel | None = None  # None leaves it to the caller
    size: int | None = None  # side of the kernel, HR pixels
    encoding: Encoding = "linear"  # of the instrument's files: linear light, or sRGB-encoded samples

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands; empty where there is only one system."""
        return tuple(band for band in self.systems if band)

    def system(self, band: str | None = None) -> System:
        """The system of a band; None is the only one. Errors are those of `band_name`."""
        return self.systems[self.band_name(band) if band or self.bands else ""]

    def band_name(self, band: str | None) -> str:
        """The name of a band as the specification writes it, from one in any case or with leading zeros.

        Raises:
            ConfigError: There is no such band, or one must be named.
        """
        listed = f"{self.name} has the bands {', '.join(self.bands)}"
        if not self.bands:
            raise ConfigError(f"{self.name} has no bands, band {band!r} was requested; leave it out.")
        if band is None:
            raise ConfigError(f"{listed}; name one, as in NAME:{self.bands[0]}.")
        if band in self.bands:
            return band
        for name in self.bands:
            if plain_name(name) == plain_name(band):
                return name
        raise ConfigError(f"{listed}, band {band!r} was requested{f' ({self.note})' if self.note else ''}.")

    def kernel(self, scale: int, *, band: str | None = None, model: KernelModel | None = None) -> SystemKernel:
        """The kernel of a band (None is the only one), by a model; None is that of the file, or the default.

        Raises:
            ConfigError: There is no such band, or the kernel would be too large.
            KernelError: The file's size does not fit the scale.
        """
        band = self.band_name(band) if band else None
        origin: dict[str, object] = {"sensor": self.name, **({"band": band} if band else {}), "encoding": self.encoding}
        model = model or self.model or DEFAULT_MODEL
        return design(self.system(band), scale, model=model, size=self.size, provenance=origin)


def parse_sensor(text: str, name: str) -> Sensor:
    r"""Read a specification in TOML, with tables [sensor], [extra], [kernel] and [bands.NAME].

    `name` is that of the sensor if the file gives none, and of the file in errors. The keys are listed in
    docs/reference/known-kernels.md.

    Raises:
        ConfigError: It is not valid TOML, or a key is unknown, out of bounds, missing or contradicts another.

    Example:
        >>> parse_sensor("[sensor]\nmtf_nyquist = 0.24", "demo").system().nyquist()[0].__round__(2)
        0.24
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{name} is not valid TOML: {str(error)[:200]}.") from error
    return sensor_from_tables(tables, name)


def sensor_from_tables(tables: Mapping[str, Any], name: str) -> Sensor:
    """Make a sensor from the tables of a specification, as parsed from TOML; the rest as for `parse_sensor`."""
    for key, value in tables.items():
        if key not in _TABLES:
            inside = next((t for t, keys in (("sensor", SENSOR), ("extra", EXTRA)) if key in keys), None)
            known = f"the known tables are {', '.join(f'[{t}]' for t in _TABLES)}."
            advice = f"put it under [{inside}]." if inside else known
            raise ConfigError(f"{name} has {key!r}, which is not a table of a sensor specification; {advice}")
        _table(key, value)
    sensor, extra, bands, kernel = (tables.get(table, {}) for table in ("sensor", "extra", "bands", "kernel"))
    if len(bands) > _MAX_BANDS:
        raise ConfigError(f"{name} has {len(bands)} bands, at most {_MAX_BANDS} are read.")
    model, size = _kernel(kernel)
    texts = {key: _text(key, sensor[key]) for key in TEXTS if key in sensor}
    # The files of a camera with a lens are photographs, unless the specification states something else.
    encoding = texts.get("encoding", "srgb" if "f_number" in sensor else "linear")
    if encoding not in get_args(Encoding):
        raise ConfigError(f"sensor.encoding must be linear (samples are linear light) or srgb, got {encoding!r}.")
    shared = {key: value for key, value in sensor.items() if key not in TEXTS}
    systems = {}
    for band, own in bands.items():
        if not band or set(band) & set(":,/ "):
            raise ConfigError(f"bands.{band!r}: the name of a band must have no blank, comma, colon or slash.")
        systems[band] = _system_of(f"bands.{band}", {**shared, **_table(f"bands.{band}", own)}, extra)
    if not bands:
        systems[""] = _system_of("sensor", shared, extra)
    return Sensor(
        name=texts.get("name", name),
        source=texts.get("source", ""),
        note=texts.get("note", ""),
        systems=systems,
        model=model,
        size=size,
        encoding=cast(Encoding, encoding),
    )


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a table of a sensor specification, [{name}], got {type(value).__name__}.")
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"sensor.{key} must be text in quotes, got {type(value).__name__}.")
    return " ".join(value.split())


def _kernel(table: dict[str, Any]) -> tuple[KernelModel | None, int | None]:
    for key in table:
        if key not in KERNEL and key != "model":
            raise _unknown_key("kernel", key, KERNEL, ("model",))
    model = table.get("model")
    if model is not None and model not in get_args(KernelModel):
        raise ConfigError(f"kernel.model must be psf or ratio, got {model!r}.")
    size = None
    if "size_px" in table:
        size = _whole("kernel.size_px", _number("kernel", "size_px", table["size_px"], KERNEL["size_px"]))
    return model, size


def shipped_sensors() -> tuple[str, ...]:
    """Names of the sensors that come with blindsr, sorted."""
    folder = resources.files("blindsr.sensors") / "shipped"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def shipped_sensor(name: str) -> Sensor:
    """A sensor that comes with blindsr, by its name; case, hyphens, underscores and blanks are ignored.

    Raises:
        ConfigError: No sensor has this name.
    """
    given, name = name, "".join(character for character in name.lower() if character not in "-_ ")
    if name not in shipped_sensors():
        raise ConfigError(
            f"a sensor must be one of {', '.join(shipped_sensors())}, or a specification file (.toml), got {given!r}"
            f"{did_you_mean(name, shipped_sensors())}."
        )
    text = (resources.files("blindsr.sensors") / "shipped" / f"{name}.toml").read_text(encoding="utf-8")
    return parse_sensor(text, name)


def find_sensor(text: str) -> tuple[Sensor, tuple[str, ...]]:
    """A sensor by NAME or FILE.toml, optionally followed by :BAND or :BAND,BAND,…, and these bands as it writes them.

    Raises:
        ConfigError: There is no such sensor, file or band, or the file is not a valid specification.

    Example:
        >>> find_sensor("sentinel2:B4")[1]
        ('B4',)
    """
    name, colon, tail = text.rpartition(":")
    # A colon may also belong to a path; the names of bands have neither slash nor dot.
    if not colon or set(tail) & set("/\\.") or Path(text).is_file():
        name, tail = text, ""
    sensor = _read(Path(name)) if name.lower().endswith(".toml") else shipped_sensor(name)
    return sensor, tuple(sensor.band_name(part.strip()) for part in tail.split(",")) if tail else ()


def _read(path: Path) -> Sensor:
    try:
        if not path.is_file():
            reason = "a folder" if path.is_dir() else "missing"
            raise ConfigError(f"{path} is {reason}; give a specification file (.toml).")
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path.name} is {path.stat().st_size >> 20} MiB, far too large for a specification.")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} cannot be read as text in UTF-8 ({error}); save it again.") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: the file cannot be read ({reason_of(error)}); check its name and permissions."
        ) from error
    return parse_sensor(text, path.stem)


def kernel_from_sensor(
    text: str, scale: int, *, model: KernelModel | None = None
) -> tuple[Kernel | KernelStack, tuple[str, ...]]:
    """The kernel of a sensor, or one for each band.

    Args:
        text: NAME or FILE.toml, optionally with bands, as for `find_sensor`; without bands, a sensor that has some is
            used for an image with all of them in their order.
        scale: Factor from LR to HR.
        model: Model of the kernel; None is that of the file, or the default.

    Returns:
        The kernel or kernels, and sentences for the user: the first says what they are, the others are warnings.

    Raises:
        ConfigError: There is no such sensor, file or band, the file is not a valid specification, or the kernel would
            be too large.
        KernelError: The file's size does not fit the scale.
    """
    sensor, named = find_sensor(text)
    bands: tuple[str | None, ...] = named or sensor.bands or (None,)
    kernels, warnings = [], []
    for band in bands:
        made = sensor.kernel(scale, band=band, model=model)
        kernels.append(made.kernel)
        prefix = f"band {band}: " if len(bands) > 1 else ""
        warnings += [prefix + warning for warning in design_warnings(sensor.system(band), made)]
    title = f"kernel of {sensor.name}" + (f", band {bands[0]}" if bands[0] and len(bands) == 1 else "")
    title += f": model {kernels[0].provenance['model']}, {kernels[0].size}×{kernels[0].size} px"
    if len(bands) == 1:
        return kernels[0], (f"{title}.", *warnings)
    names = [str(band) for band in bands]
    return KernelStack(kernels, names), (f"{title}; one for each of {', '.join(names)}.", *warnings)


def kernel_from_system(
    sensor: Sensor, scale: int, *, model: KernelModel | None = None
) -> tuple[Kernel, tuple[str, ...]]:
    """The kernel of a sensor without bands, and warnings as sentences for the user; errors as `Sensor.kernel`."""
    made = sensor.kernel(scale, model=model)
    return made.kernel, design_warnings(sensor.system(), made)
