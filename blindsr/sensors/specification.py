"""A sensor specification: TOML with the unit in every key, checked key by key, to one `System` for each band."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

from blindsr.errors import ConfigError
from blindsr.sensors.design import DEFAULT_MODEL, Designed, KernelModel, design
from blindsr.sensors.keys import EXTRA, KERNEL, SENSOR, TEXTS, number, unknown_key
from blindsr.sensors.parts import system_of, whole
from blindsr.sensors.system import System

__all__ = ["Sensor", "parse_sensor", "sensor_from_tables"]

_TABLES: Final = ("sensor", "extra", "kernel", "bands")
_MOST_BANDS: Final = 512
Encoding = Literal["linear", "srgb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """An instrument: one system, or one for each of its bands.

    Args:
        name: What it is called.
        source: Where its numbers are from.
        systems: By band; the only key is "" where it has no bands.
        model: The kernel model that the file asks for; None leaves it to the caller.
        size: Side of the kernel in HR pixels, or None.
        encoding: Whether the instrument's files hold light ("linear") or samples encoded by the curve of sRGB ("srgb").
    """

    name: str
    source: str = ""
    note: str = ""
    systems: Mapping[str, System] = field(default_factory=dict)
    model: KernelModel | None = None
    size: int | None = None
    encoding: Encoding = "linear"

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands; empty where there is only one system."""
        return tuple(band for band in self.systems if band)

    def system(self, band: str | None = None) -> System:
        """The system of a band; None is the only one.

        Raises:
            ConfigError: There is no such band, or one must be named.
        """
        if not self.bands:
            if band:
                raise ConfigError(f"{self.name} has no bands, band {band!r} was asked for; leave it out.")
            return self.systems[""]
        if band is None:
            raise ConfigError(
                f"{self.name} has the bands {', '.join(self.bands)}; name one, as in NAME:{self.bands[0]}."
            )
        if band not in self.systems:
            raise ConfigError(f"{self.name} has the bands {', '.join(self.bands)}, band {band!r} was asked for.")
        return self.systems[band]

    def kernel(self, scale: int, *, band: str | None = None, model: KernelModel | None = None) -> Designed:
        """The kernel of a band.

        Args:
            scale: Factor from LR to HR.
            band: Its name; None is the only one.
            model: "psf" or "ratio"; None takes the file's, or the default.

        Raises:
            ConfigError: There is no such band, or the specification asks for an absurd kernel.
            KernelError: The file's size does not fit the scale.
        """
        origin: dict[str, object] = {"sensor": self.name, **({"band": band} if band else {}), "encoding": self.encoding}
        taken = model or self.model or DEFAULT_MODEL
        return design(self.system(band), scale, model=taken, size=self.size, provenance=origin)


def parse_sensor(text: str, name: str) -> Sensor:
    r"""Read a specification.

    Args:
        text: TOML with tables [sensor], [extra], [kernel] and [bands.NAME] (docs/known-kernels.md).
        name: What to call the sensor if the file does not; also names the file in errors.

    Raises:
        ConfigError: It is no TOML, or a key is unknown, out of bounds, missing or contradicts another.

    Example:
        >>> parse_sensor("[sensor]\nmtf_nyquist = 0.24", "demo").system().nyquist()[0].__round__(2)
        0.24
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{name} is no valid TOML: {str(error)[:200]}.") from error
    return sensor_from_tables(tables, name)


def sensor_from_tables(tables: Mapping[str, Any], name: str) -> Sensor:
    """Make a sensor of the tables of a specification.

    Args:
        tables: As TOML gives them.
        name: As for `parse_sensor`.

    Raises:
        ConfigError: A key is unknown, out of bounds, missing or contradicts another.
    """
    for key, value in tables.items():
        if key not in _TABLES:
            inside = next((t for t, keys in (("sensor", SENSOR), ("extra", EXTRA)) if key in keys), None)
            advice = f"put it under [{inside}]." if inside else f"known are {', '.join(f'[{t}]' for t in _TABLES)}."
            raise ConfigError(f"{name} has {key!r}, which is no table of a sensor specification; {advice}")
        _table(key, value)
    sensor = _table("sensor", tables.get("sensor", {}))
    extra = _table("extra", tables.get("extra", {}))
    bands = _table("bands", tables.get("bands", {}))
    if len(bands) > _MOST_BANDS:
        raise ConfigError(f"{name} has {len(bands)} bands, at most {_MOST_BANDS} are read.")
    model, size = _kernel(_table("kernel", tables.get("kernel", {})))
    texts = {key: _text(key, sensor[key]) for key in TEXTS if key in sensor}
    # The files of a camera with a lens are photographs, unless the specification says otherwise.
    encoding = texts.get("encoding", "srgb" if "f_number" in sensor else "linear")
    if encoding not in get_args(Encoding):
        raise ConfigError(f"sensor.encoding must be linear (samples are light) or srgb, got {encoding!r}.")
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


def _table(place: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place} must be a table of a sensor specification, [{place}], got {type(value).__name__}.")
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
