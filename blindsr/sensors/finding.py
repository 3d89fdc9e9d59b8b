"""Sensors by name or file: `sentinel2`, `sentinel2:B4`, `sentinel2:B4,B3,B2`, `my-camera.toml`."""

from importlib import resources
from pathlib import Path
from typing import Final

from blindsr.errors import ConfigError
from blindsr.sensors.specification import Sensor, parse_sensor

__all__ = ["find_sensor", "shipped_sensor", "shipped_sensors"]

_LARGEST: Final = 1 << 20  # bytes


def shipped_sensors() -> tuple[str, ...]:
    """Names of the sensors that come with blindsr, in order."""
    folder = resources.files("blindsr.sensors") / "shipped"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def shipped_sensor(name: str) -> Sensor:
    """A sensor that comes with blindsr.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in shipped_sensors():
        raise ConfigError(
            f"a sensor must be one of {', '.join(shipped_sensors())}, or a specification file (.toml), got {name!r}."
        )
    text = (resources.files("blindsr.sensors") / "shipped" / f"{name}.toml").read_text(encoding="utf-8")
    return parse_sensor(text, name)


def find_sensor(text: str) -> tuple[Sensor, tuple[str, ...]]:
    """A sensor by name or file, and the bands that stand behind a colon.

    Args:
        text: NAME or FILE.toml, and :BAND or :BAND,BAND,… behind it.

    Returns:
        The sensor, and the bands in their order; () where none is named.

    Raises:
        ConfigError: There is no such sensor, file or band, or the file breaks a rule.

    Example:
        >>> find_sensor("sentinel2:B4")[1]
        ('B4',)
    """
    name, colon, tail = text.rpartition(":")
    # A colon may also belong to a path; behind that of a band there is no slash and no dot.
    if not colon or set(tail) & set("/\\.") or Path(text).is_file():
        name, tail = text, ""
    bands = tuple(part.strip() for part in tail.split(",")) if tail else ()
    sensor = _read(Path(name)) if name.lower().endswith(".toml") else shipped_sensor(name)
    for band in bands:
        sensor.system(band)
    return sensor, bands


def _read(path: Path) -> Sensor:
    if not path.is_file():
        raise ConfigError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; name a specification file (.toml).")
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path.name} is {path.stat().st_size >> 20} MiB, a specification has some lines.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read as text in UTF-8 ({error}); save it again.") from error
    return parse_sensor(text, path.stem)
