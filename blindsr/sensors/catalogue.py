"""Sensors by name or specification file (TOML, with the unit in every key), and the kernels of their bands."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from blindsr.errors import ConfigError, did_you_mean
from blindsr.kernels import Kernel, KernelStack
from blindsr.sensors.parts import EXTRA, KERNEL, SENSOR, TEXTS, number, system_of, unknown_key, whole
from blindsr.sensors.system import DEFAULT_MODEL, KernelModel, System, SystemKernel, design, design_warnings

__all__ = [
    "Sensor",
    "find_sensor",
    "kernel_from_sensor",
    "kernel_from_system",
    "parse_sensor",
    "sensor_from_tables",
    "shipped_sensor",
    "shipped_sensors",
]

_TABLES: Final = ("sensor", "extra", "kernel", "bands")
_MAX_BANDS: Final = 512
Encoding = Literal["linear", "srgb"]


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
        """The system of a band; None is the only one.

        Raises:
            ConfigError: There is no such band, or one must be named.
        """
        return self.systems[self.band_name(band) if band or self.bands else ""]

    def band_name(self, band: str | None) -> str:
        """The name of a band as the specification writes it.

        Args:
            band: The name in any case, with or without leading zeros: "B04" and "b4" are "B4".

        Raises:
            ConfigError: There is no such band, or one must be named.
        """
        listed = f"{self.name} has the bands {', '.join(self.bands)}"
        if not self.bands:
            raise ConfigError(f"{self.name} has no bands, band {band!r} was requested; leave it out.")
        if band is None:
            raise ConfigError(f"{listed}; name one, as in NAME:{self.bands[0]}.")
        plain = {_plain(name): name for name in reversed(self.bands)} | {name: name for name in self.bands}
        name = plain.get(band) or plain.get(_plain(band))
        if name is None:
            raise ConfigError(f"{listed}, band {band!r} was requested{f' ({self.note})' if self.note else ''}.")
        return name

    def kernel(self, scale: int, *, band: str | None = None, model: KernelModel | None = None) -> SystemKernel:
        """The kernel of a band.

        Args:
            scale: Factor from LR to HR.
            band: Its name; None is the only one.
            model: "psf" or "ratio"; None is the file's, or the default.

        Raises:
            ConfigError: There is no such band, or the kernel would be too large.
            KernelError: The file's size does not fit the scale.
        """
        band = self.band_name(band) if band else None
        origin: dict[str, object] = {"sensor": self.name, **({"band": band} if band else {}), "encoding": self.encoding}
        model = model or self.model or DEFAULT_MODEL
        return design(self.system(band), scale, model=model, size=self.size, provenance=origin)


def _plain(name: str) -> str:
    """A name in lower case, without the zeros before its numbers: "B04" is "b4"."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.lower())


def parse_sensor(text: str, name: str) -> Sensor:
    r"""Read a specification.

    Args:
        text: TOML with tables [sensor], [extra], [kernel] and [bands.NAME] (docs/reference/known-kernels.md).
        name: Name of the sensor if the file gives none; also names the file in errors.

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
    """Make a sensor from the tables of a specification.

    Args:
        tables: As parsed from TOML.
        name: As for `parse_sensor`.

    Raises:
        ConfigError: A key is unknown, out of bounds, missing or contradicts another.
    """
    for key, value in tables.items():
        if key not in _TABLES:
            inside = next((t for t, keys in (("sensor", SENSOR), ("extra", EXTRA)) if key in keys), None)
            advice = (
                f"put it under [{inside}]."
                if inside
                else f"the known tables are {', '.join(f'[{t}]' for t in _TABLES)}."
            )
            raise ConfigError(f"{name} has {key!r}, which is not a table of a sensor specification; {advice}")
        _table(key, value)
    sensor = _table("sensor", tables.get("sensor", {}))
    extra = _table("extra", tables.get("extra", {}))
    bands = _table("bands", tables.get("bands", {}))
    if len(bands) > _MAX_BANDS:
        raise ConfigError(f"{name} has {len(bands)} bands, at most {_MAX_BANDS} are read.")
    model, size = _kernel(_table("kernel", tables.get("kernel", {})))
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
        systems[band] = system_of(f"bands.{band}", {**shared, **_table(f"bands.{band}", own)}, extra)
    if not bands:
        systems[""] = system_of("sensor", shared, extra)
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
            raise unknown_key("kernel", key, KERNEL, ("model",))
    model = table.get("model")
    if model is not None and model not in get_args(KernelModel):
        raise ConfigError(f"kernel.model must be psf or ratio, got {model!r}.")
    size = None
    if "size_px" in table:
        size = whole("kernel.size_px", number("kernel", "size_px", table["size_px"], KERNEL["size_px"]))
    return model, size


_MAX_BYTES: Final = 1 << 20


def shipped_sensors() -> tuple[str, ...]:
    """Names of the sensors that come with blindsr, sorted."""
    folder = resources.files("blindsr.sensors") / "shipped"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def shipped_sensor(name: str) -> Sensor:
    """A sensor that comes with blindsr.

    Args:
        name: Its name; case, hyphens, underscores and blanks are ignored.

    Raises:
        ConfigError: There is none of this name.
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
    """A sensor by name or file, and the bands after the colon.

    Args:
        text: NAME or FILE.toml, optionally followed by :BAND or :BAND,BAND,….

    Returns:
        The sensor, and the bands in their order, as the sensor writes them; () if none is named.

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


def kernel_from_sensor(
    text: str, scale: int, *, model: KernelModel | None = None
) -> tuple[Kernel | KernelStack, tuple[str, ...]]:
    """The kernel, or kernels, of a sensor.

    Args:
        text: As for `find_sensor`. Without bands, a sensor that has some is used for an image with all of them in their
            order.
        scale: Factor from LR to HR.
        model: "psf" or "ratio"; None is the specification's, or the default.

    Returns:
        One kernel, or one for each band; and warnings as sentences for the user.

    Raises:
        ConfigError: There is no such sensor or band, or the specification is not valid.
        KernelError: The specification's size does not fit the scale.
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
    names = tuple(str(band) for band in bands)
    return KernelStack(kernels, names), (f"{title}; one for each of {', '.join(names)}.", *warnings)


def kernel_from_system(
    sensor: Sensor, scale: int, *, model: KernelModel | None = None
) -> tuple[Kernel, tuple[str, ...]]:
    """The kernel of a sensor without bands, and warnings as sentences for the user.

    Raises:
        ConfigError: It has bands, or the kernel would be too large.
    """
    made = sensor.kernel(scale, model=model)
    return made.kernel, design_warnings(sensor.system(), made)


def _read(path: Path) -> Sensor:
    if not path.is_file():
        raise ConfigError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; give a specification file (.toml).")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path.name} is {path.stat().st_size >> 20} MiB, far too large for a specification.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read as text in UTF-8 ({error}); save it again.") from error
    return parse_sensor(text, path.stem)
