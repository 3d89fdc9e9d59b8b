"""From options and run.toml to `Settings`. The command line beats the file, the file beats the preset."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blindsr.cli._amounts import MEMORY, PIXELS, amount
from blindsr.cli._configfile import RUN_KEYS, TABLES, read_tables, table_values
from blindsr.cli._options import Common
from blindsr.errors import ConfigError
from blindsr.image_io import DEFAULT_FILES, FileOptions
from blindsr.image_io.options import LOSSLESS, format_of
from blindsr.pipelines.settings import Region, Settings, preset
from blindsr.zssr.config import PaperZSSRConfig

__all__ = ["Run", "make_run", "network_scale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What decides a run: its settings, and the machine's part."""

    settings: Settings
    device: str = "auto"
    threads: int | None = None
    preset: str = "default"
    max_memory: int | None = None
    files: FileOptions = DEFAULT_FILES


def make_run(common: Common) -> Run:
    """Put the preset, run.toml and the command line together.

    Raises:
        ConfigError: A value is out of its bounds, or run.toml has an unknown key or a wrong type.
    """
    tables = {name: {} for name in TABLES} if common.config is None else read_tables(common.config)
    run: dict[str, Any] = dict(tables["run"])
    for key in RUN_KEYS:
        if (value := getattr(common, key)) is not None:
            run[key] = value
    if "start" in run and (run.get("preset") == "paper" or "zssr_setting" in run):
        raise ConfigError("the published ZSSR starts from random weights; leave out start, or the paper's preset.")
    settings = preset(run.get("preset", "default"), start=run.get("start", "leaves"))
    if "zssr_setting" in run:
        settings = replace(settings, zssr=PaperZSSRConfig.named(run["zssr_setting"]))
    parts: dict[str, Any] = {}
    for name in ("spectral", "l0", "kernelgan", "zssr"):
        part: Any = getattr(settings, name)
        values: dict[str, Any] = table_values(tables[name], type(part), name)
        if name == "zssr" and "precision" in run:
            values["precision"] = run["precision"]
        parts[name] = replace(part, **values)
    if "region" in run:
        x, y, width, height = run["region"]
        parts["region"] = Region(x=x, y=y, width=width, height=height)
    if common.size is not None:
        run.pop("scale", None)
    elif common.scale is not None:
        run.pop("size", None)
    if "size" in run and "scale" in run:
        raise ConfigError("scale and size exclude each other; leave one of them out of [run].")
    if isinstance(run.get("scale"), tuple):
        parts["factors"] = run.pop("scale")
    for key in ("scale", "size", "estimator", "seed"):
        if key in run:
            parts[key] = run[key]
    settings = replace(settings, **parts)
    return Run(
        settings=settings,
        device=run.get("device", "auto"),
        threads=run.get("threads"),
        preset=run.get("preset", "default"),
        max_memory=_amount(run.get("max_memory"), MEMORY, "[run] max_memory", "4GB"),
        files=_files(common, tables["files"]),
    )


def _files(common: Common, table: Mapping[str, object]) -> FileOptions:
    """How pictures are read and written. A name that -o gives, or --format, makes the file's format void.

    Raises:
        ConfigError: A value is out of its bounds, or the table has an unknown key or a wrong type.
    """
    values: dict[str, Any] = dict(table)
    if isinstance(values.get("max_pixels"), str):
        values["max_pixels"] = _amount(values["max_pixels"], PIXELS, "[files] max_pixels", "500M")
    given = {
        "format": common.output_format,
        "quality": common.quality,
        "strip_metadata": common.strip_metadata,
        "max_pixels": common.max_pixels,
    }
    checked: dict[str, Any] = dict(table_values(values, FileOptions, "files"))
    if said := common.output_format or format_of(common.output or Path()):
        checked.pop("format", None)
        if said in LOSSLESS:
            checked.pop("quality", None)
    checked.update((name, value) for name, value in given.items() if value is not None)
    return FileOptions(**checked)


def _amount(value: int | str | None, kilo: int, name: str, example: str) -> int | None:
    if not isinstance(value, str):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}.")
        return value
    if (count := amount(value, kilo)) is None:
        raise ConfigError(f"{name} must be an amount such as {example}, got {value!r}.")
    return count


def network_scale(settings: Settings, photo: Path) -> int:
    """The factor that a kernel is needed for; with --size it depends on the photograph.

    Raises:
        ConfigError: The photograph does not say how large it is, or the size does not enlarge it.
    """
    if settings.size is None:
        return settings.network_scale
    from blindsr.image_io.probe import picture_size

    found = picture_size(photo)
    if found is None:
        raise ConfigError(f"--size needs a photograph that says how large it is, {photo} does not; use --scale.")
    return settings.for_image(*found[:2]).network_scale
