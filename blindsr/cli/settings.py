"""From options and run.toml to the settings of a run. The command line overrides the file, the file the preset."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from blindsr.cli.options import STDIO, Options, toml_keys, type_of
from blindsr.errors import ConfigError, KernelError
from blindsr.image_io import DEFAULT_FILES, FileOptions, format_of, image_size
from blindsr.registry import ESTIMATORS, UPSCALERS
from blindsr.settings import Region, Settings, preset

__all__ = ["Run", "load_known_kernel", "make_run", "run_scale", "single_kernel"]

# Fields that hold for the whole run; a second place to set them would be ignored or contradict.
_IN_RUN = {"seed": "seed", "precision": "precision", "setting": "zssr_setting"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What decides a run: its settings, and the options of the machine and the files."""

    settings: Settings
    device: str = "auto"
    threads: int | None = None
    preset: str = "default"
    max_memory: int | None = None
    files: FileOptions = DEFAULT_FILES


def make_run(options: Options) -> Run:
    """Combine the preset, run.toml and the command line.

    Raises:
        ConfigError: A value is out of its bounds, or run.toml has an unknown key or a wrong type.
    """
    tables = {} if options.config is None else _read_tables(options.config)
    with _naming(options.config):
        run = _converted(tables.pop("run", {}), "run")
    if options.size is not None:
        run.pop("scale", None)
    elif options.scale is not None:
        run.pop("size", None)
    run |= {name: v for key, name in toml_keys("run").items() if (v := getattr(options, name)) is not None}
    if "size" in run and "scale" in run:
        file = "run.toml" if options.config is None else options.config.name
        raise ConfigError(f"{file}: [run] scale and [run] size exclude each other; leave one of them out.")
    with _naming(options.config):
        files = _files(options, tables.pop("files", {}))
    name = run.get("preset", "default")
    if "init" in run and (name == "paper" or "zssr_setting" in run):
        raise ConfigError(
            "the published ZSSR begins with random weights; leave out --init ([run] init), or the preset paper and "
            "--zssr-setting."
        )
    settings = preset(name, init=run.get("init", "pretrained"))
    values: dict[str, Any] = {key: run[key] for key in ("size", "estimator", "upscaler", "seed") if key in run}
    configs = dict(settings.configs)
    if "zssr_setting" in run:
        configs["zssr"] = UPSCALERS.get("zssr").config_type.named(run["zssr_setting"])
        values["upscaler"] = "zssr"
    for method, table in tables.items():
        registry = ESTIMATORS if method in ESTIMATORS.names() and method not in UPSCALERS.names() else UPSCALERS
        config = configs.get(method) or registry.get(method).config_type()
        with _naming(options.config):
            configs[method] = _replaced(config, table, method)
    if isinstance(scale := run.get("scale"), tuple):
        values["factors"] = scale
    elif scale is not None:
        values["scale"] = scale
    if "region" in run:
        x, y, width, height = run["region"]
        values["region"] = Region(x=x, y=y, width=width, height=height)
    if "noise" in run:
        values["noise_sigma"] = run["noise"] / 255
    settings = replace(settings, configs=configs, **values)
    if "precision" in run:
        settings = _with_precision(settings, run["precision"])
    if (weights := getattr(settings.create_upscaler().config, "weights", None)) is not None:
        from blindsr.upscalers.pretrained.weights import load_network

        load_network(weights)  # a missing or invalid file is an error now, and not after the estimate
    if (check := getattr(settings.create_upscaler(), "check", None)) is not None:
        check()
    return Run(
        settings=settings,
        device=run.get("device", "auto"),
        threads=run.get("threads"),
        preset=name,
        max_memory=run.get("max_memory"),
        files=files,
    )


def run_scale(settings: Settings, photos: Sequence[Path], *, recursive: bool = False) -> int:
    """The whole-number scale that a known kernel is needed for; with --size it depends on the photographs.

    Raises:
        ConfigError: No size can be read from a header, --size does not enlarge a photograph, or it means different
            scales for different photographs.
        click.UsageError: The photograph is standard input.
    """
    if settings.size is None:
        return settings.run_scale
    if STDIO in photos:
        raise click.UsageError("--size needs a file whose size is known in advance; with - use --scale.")
    from blindsr.batch.inputs import find_inputs

    paths = [file.path for file in find_inputs(photos, recursive=recursive).files]
    sizes = [size for path in paths if (size := image_size(path)) is not None]
    factors = sorted({settings.for_image(*size[:2]).run_scale for size in sizes})
    if not factors:
        raise ConfigError(
            f"--size needs an image whose header gives its size, {paths[0] if paths else photos[0]} does not; check "
            "the name, or use --scale."
        )
    if len(factors) > 1:
        needed = " and ".join(f"×{factor}" for factor in factors)
        raise ConfigError(
            f"a known kernel is for one scale, this --size needs {needed} for these photographs; use --scale."
        )
    return factors[0]


def load_known_kernel(options: Options, scale: int) -> tuple[Any, tuple[str, ...]]:
    """Make or read the kernel that --kernel or --sensor names.

    Args:
        options: The options of a known kernel.
        scale: Whole-number scale that it is for.

    Returns:
        The kernel, or one for each band, and warnings.

    Raises:
        KernelError, ConfigError: The file or the specification has no usable kernel.
        click.UsageError: None was named.
    """
    if options.sensor is not None:
        from blindsr.sensors.catalogue import kernel_from_sensor

        return kernel_from_sensor(options.sensor, scale, model=options.kernel_model)  # type: ignore[arg-type]
    if options.kernel is None:
        raise click.UsageError("a known kernel is needed: --kernel FILE|NAME or --sensor NAME[:BAND]|SPEC.toml.")
    from blindsr.kernels.files import load_kernel

    try:
        return load_kernel(
            options.kernel,
            scale,
            convention=options.kernel_convention,  # type: ignore[arg-type]
            key=options.kernel_key,
            index=options.kernel_index,
            recentre=options.recenter,
        )
    except (ConfigError, KernelError) as error:
        if os.path.lexists(options.kernel):
            raise
        raise click.BadParameter(str(error), param_hint="--kernel") from error  # what was written, not a file, is wrong


def _with_precision(settings: Settings, precision: str) -> Settings:
    """Set the precision of the upscaler, if it has one."""
    config = settings.create_upscaler().config
    if not any(field.name == "precision" for field in fields(config)):
        return settings
    return settings.with_config(settings.upscaler, precision=precision)


def _files(options: Options, table: Mapping[str, object]) -> FileOptions:
    """How images are read and written. A name given with -o, or --format, overrides the format of the file."""
    keys = toml_keys("files")
    values = _converted(table, "files")
    output = Path() if options.output is None or options.output.is_folder else options.output.path
    named = options.output_format or (None if (f := format_of(output)) is None else f.name)
    if named:
        values.pop("output_format", None)
        if named in ("png", "tiff"):
            values.pop("quality", None)
    values |= {name: v for name in keys.values() if (v := getattr(options, name)) is not None}
    return FileOptions(**{key: values[name] for key, name in keys.items() if name in values})


def _read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """Read run.toml: tables [run], [files], and one for each method.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or has an unknown table.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read as text ({error}); name a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}; correct the file there.") from error
    known = ("run", "files", *dict.fromkeys((*ESTIMATORS.names(), *UPSCALERS.names())))
    for name, table in content.items():
        if name not in known or not isinstance(table, dict):
            what = "table" if isinstance(table, dict) else "key outside of a table"
            raise ConfigError(
                f"{path.name} has an unknown {what} {name!r}; tables are {', '.join(f'[{t}]' for t in known)}."
            )
    return content


def _converted(table: Mapping[str, object], name: str) -> dict[str, Any]:
    """The values of [run] or [files] by option, converted by the types of the options."""
    keys, values = toml_keys(name), {}
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(f"[{name}] has no key {key!r}; {_nearest(key, keys)}")
        option_type = type_of(keys[key])
        is_switch = key == "strip_metadata"
        is_text = isinstance(option_type, click.types.StringParamType | click.Choice)
        if isinstance(value, bool) != is_switch or (is_text and not is_switch and not isinstance(value, str)):
            needed = "true or false" if is_switch else "a text" if is_text else _type_in_words(option_type)
            raise ConfigError(f"[{name}] {key} must be {needed}, got {value!r}.")
        try:
            values[keys[key]] = value if isinstance(value, bool) else option_type.convert(value, None, None)
        except click.UsageError as error:
            raise ConfigError(f"[{name}] {key}: {error.format_message()}") from error
    return values


def _type_in_words(option_type: click.ParamType[Any]) -> str:
    if isinstance(option_type, click.types.IntParamType):
        return "a whole number"
    if isinstance(option_type, click.types.FloatParamType):
        return "a number"
    return f"a value as in {option_type.name}"


def _replaced(config: Any, table: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - a method's settings
    """Settings of a method with the values of its table; nested settings have nested tables."""
    hints = get_type_hints(type(config))
    known = {field.name: hints[field.name] for field in fields(config) if field.name not in _IN_RUN}
    values = {}
    for key, value in table.items():
        if key in _IN_RUN and key in hints:
            raise ConfigError(f"[{name}] {key} holds for the whole run; write [run] {_IN_RUN[key]} instead.")
        if key not in known:
            raise ConfigError(f"[{name}] has no key {key!r}; {_nearest(key, known)}")
        if is_dataclass(getattr(config, key)) and isinstance(value, dict):
            values[key] = _replaced(getattr(config, key), value, f"{name}.{key}")
            continue
        converted = _fitted(value, known[key])
        if converted is _WRONG:
            raise ConfigError(f"[{name}] {key} must be {_in_words(known[key])}, got {value!r}.")
        values[key] = converted
    try:
        return replace(config, **values)
    except ConfigError as error:
        # Settings name themselves as in Python: "spectral.tile" is the key tile of [spectral] or [auto.spectral].
        method = f"{name.rpartition('.')[2]}."
        text = str(error)
        raise ConfigError(f"[{name}] {text.removeprefix(method)}" if text.startswith(method) else text) from error


@contextmanager
def _naming(path: Path | None) -> Iterator[None]:
    """Put the name of run.toml before errors about its values."""
    try:
        yield
    except ConfigError as error:
        raise error if path is None else ConfigError(f"{path.name}: {error}") from error


def _nearest(key: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(names)}."


_WRONG = object()
_WORDS: Mapping[object, str] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
}


def _fitted(value: object, hint: object) -> object:
    """`value` as the type `hint`, or `_WRONG`. TOML writes tuples as arrays, and 2 where 2.0 is meant."""
    origin = get_origin(hint)
    if origin is Literal:
        return value if value in get_args(hint) else _WRONG
    if origin in (Union, UnionType):
        options = [_fitted(value, option) for option in get_args(hint) if option is not NoneType]
        return next((fitted for fitted in options if fitted is not _WRONG), _WRONG)
    if origin is tuple:
        return _fitted_tuple(value, get_args(hint))
    if hint is Path:
        return Path(value) if isinstance(value, str) else _WRONG
    if hint is float:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _WRONG
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _WRONG
    return value if isinstance(hint, type) and isinstance(value, hint) else _WRONG


def _fitted_tuple(value: object, hints: tuple[Any, ...]) -> object:
    if not isinstance(value, list):
        return _WRONG
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        return _WRONG
    items = tuple(_fitted(item, hint) for item, hint in zip(value, hints, strict=True))
    return _WRONG if _WRONG in items else items


def _in_words(hint: object) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if origin in (Union, UnionType):
        return " or ".join(_in_words(option) for option in get_args(hint) if option is not NoneType)
    if origin is tuple:
        args = get_args(hint)
        count = "" if args[-1] is Ellipsis else f"{len(args)} "
        return f"an array of {count}values, each {_in_words(args[0])}"
    return _WORDS.get(hint, str(hint))


def single_kernel(loaded: Any) -> Any:  # noqa: ANN401 - Kernel, without importing NumPy here
    """The kernel where a command takes only one.

    Raises:
        click.UsageError: There is one for each of several bands.
    """
    from blindsr.kernels import KernelStack

    if isinstance(loaded, KernelStack):
        raise click.UsageError(f"one kernel is needed, got several ({', '.join(loaded.names)}); name one band.")
    return loaded
