"""From options and run.toml to the settings of a run. The command line overrides the file, the file the preset."""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from blindsr.cli.options import STDIO, Options, is_switch_option, toml_keys, type_of
from blindsr.cli.types import ParamType
from blindsr.errors import ConfigError, KernelError, did_you_mean
from blindsr.image_io import DEFAULT_FILES, FileOptions, format_of
from blindsr.registry import ESTIMATORS, UPSCALERS
from blindsr.settings import DIALS, Region, Settings, preset

if TYPE_CHECKING:
    from blindsr.kernels import Kernel, KernelStack

__all__ = ["Run", "kernel_scale", "load_kernel_file", "load_known_kernel", "make_run", "single_kernel"]

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
    has_scale: bool = False  # whether a scale or a size was given


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
    if "zssr_setting" in run and run.get("upscaler", "zssr") != "zssr":
        raise ConfigError(
            f"--zssr-setting is for the published ZSSR, and --upscaler is {run['upscaler']} ([run] in run.toml); leave "
            "out one of them."
        )
    if "init" in run and run.get("upscaler", "pretrained") != "pretrained":
        raise ConfigError(
            f"--init ([run] init) chooses the weights of the pretrained upscaler, and --upscaler is {run['upscaler']}; "
            "leave out one of them."
        )
    settings = preset(name, init=run.get("init", "pretrained"))
    values: dict[str, Any] = {
        key: run[key]
        for key in ("size", "estimator", "upscaler", "seed", "varying", "align_colors", *DIALS)
        if key in run
    }
    configs = dict(settings.configs)
    if "zssr_setting" in run:
        configs["zssr"] = UPSCALERS.get("zssr").config_type.named(run["zssr_setting"])
        values["upscaler"] = "zssr"
    for method, table in tables.items():
        registry = ESTIMATORS if method in ESTIMATORS.names() and method not in UPSCALERS.names() else UPSCALERS
        config = configs.get(method) or registry.get(method).config_type()
        with _naming(options.config):
            configs[method] = _replaced(config, table, method)
    if "scale" in run:
        values["factors" if isinstance(run["scale"], tuple) else "scale"] = run["scale"]
    if "region" in run:
        x, y, width, height = run["region"]
        values["region"] = Region(x=x, y=y, width=width, height=height)
    if "noise" in run:
        values["noise_sigma"] = run["noise"] / 255
    settings = replace(settings, configs=configs, **values)
    if "precision" in run and any(f.name == "precision" for f in fields(settings.create_upscaler().config)):
        settings = settings.with_config(settings.upscaler, precision=run["precision"])
    if (check := getattr(settings.create_upscaler(), "check", None)) is not None:
        check()  # a missing or invalid file is an error now, and not after the estimate
    return Run(
        settings=settings,
        device=run.get("device", "auto"),
        threads=run.get("threads"),
        preset=name,
        max_memory=run.get("max_memory"),
        files=files,
        has_scale="scale" in run or "size" in run,
    )


def at_scale_of_kernel(run: Run, options: Options) -> Run:
    """The run at the scale that the file of a kernel states, where none was given."""
    from blindsr.kernels.files import stated_scale

    path = options.kernel_map or Path(options.kernel or "")
    if run.has_scale or not os.path.isfile(path):  # noqa: PTH113 # False for a name that is too long
        return run
    try:
        scale = stated_scale(path)
    except KernelError:  # the kernel is read, or refused, with the options about its file
        return run
    return run if scale is None else replace(run, settings=replace(run.settings, scale=float(scale)))


def kernel_scale(settings: Settings, photos: Sequence[Path], *, recursive: bool = False) -> int:
    """The whole-number scale that a known kernel is for; with --size it depends on the photographs."""
    if settings.size is None:
        return settings.kernel_scale
    if STDIO in photos:
        raise click.UsageError("--size needs a file whose size is known in advance; with - use --scale.")
    from blindsr.batch.inputs import find_inputs
    from blindsr.pipelines.files import common_scale

    return common_scale(settings, [file.path for file in find_inputs(photos, recursive=recursive).files])


def load_known_kernel(options: Options, scale: int) -> tuple[Any, tuple[str, ...]]:
    """Make or read the kernel, or one for each band, that --kernel or --sensor names, for a scale; and warnings."""
    if options.sensor is not None:
        from blindsr.kernels.files import DEBLUR_SCALE
        from blindsr.sensors.catalogue import kernel_from_sensor

        # Deblurring runs at ×2, for which a sensor has a kernel.
        scale = max(scale, DEBLUR_SCALE)
        return kernel_from_sensor(options.sensor, scale, model=options.kernel_model)  # type: ignore[arg-type]
    if options.kernel_map is not None:
        return _load_map(options.kernel_map, scale, recentre=options.recenter)
    if options.kernel is None:
        raise click.UsageError("a known kernel is needed: --kernel FILE|NAME or --sensor NAME[:BAND]|SPEC.toml.")
    try:
        loaded = load_kernel_file(options.kernel, options, scale)
        from blindsr.kernels import KernelMap

        context = click.get_current_context(silent=True)
        takes_maps = context is None or any(param.name == "kernel_map" for param in context.command.params)
        if not isinstance(loaded[0], KernelMap) or not takes_maps:
            kernel, warnings = loaded
            return kernel if isinstance(kernel, KernelMap) else _as_reported(kernel), warnings
        raise click.UsageError(f"{options.kernel} is a map of kernels; name it with --kernel-map.")
    except (ConfigError, KernelError) as error:
        if os.path.lexists(options.kernel):
            raise
        raise click.BadParameter(str(error), param_hint="--kernel") from error  # what was written, not a file, is wrong


def _as_reported(kernel: "Kernel | KernelStack") -> "Kernel | KernelStack":
    """A kernel whose warnings are printed: that its convention was guessed is not said a second time after the run."""
    from blindsr.kernels import Kernel

    def reported(part: Kernel) -> Kernel:
        provenance = {name: value for name, value in part.provenance.items() if name != "convention_guessed"}
        return Kernel(part.array, part.scale, provenance)

    return kernel.each(reported)


def _load_map(path: Path, scale: int, *, recentre: bool) -> tuple[Any, tuple[str, ...]]:
    """Load the kernel map of a file, or the one kernel that `estimate-kernel --varying` wrote where none varies."""
    from blindsr.kernels import Kernel, KernelMap
    from blindsr.kernels.files import load_kernel

    if path.suffix.lower() != ".npz":
        raise click.UsageError(
            f"a map of kernels is a .npz file, got {path.name}; `estimate-kernel --varying` writes one."
        )
    loaded, warnings = load_kernel(path, scale, recentre=recentre)
    if isinstance(loaded, Kernel):
        return loaded, (*warnings, f"{path.name} has one kernel and no map; it is used for the whole image.")
    if not isinstance(loaded, KernelMap):
        raise click.UsageError(
            f"{path.name} has a kernel for each of the bands {', '.join(loaded.names)}, and no map; name it with "
            "--kernel."
        )
    return loaded, warnings


def load_kernel_file(text: str, options: Options, scale: int) -> tuple[Any, tuple[str, ...]]:
    """Load the kernel that a file or a name such as "gaussian:1.2" is, with the options about kernel files."""
    from blindsr.kernels.files import load_kernel

    return load_kernel(
        text,
        scale,
        convention=options.kernel_convention,  # type: ignore[arg-type]
        key=options.kernel_key,
        index=options.kernel_index,
        recentre=options.recenter,
    )


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
    """Read run.toml: tables [run], [files], and one for each method."""
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
    other = "files" if name == "run" else "run"
    for key, value in table.items():
        if key not in keys and key in toml_keys(other):
            raise ConfigError(f"[{name}] has no key {key!r}; it belongs to [{other}].")
        if key not in keys:
            raise ConfigError(_no_key(name, key, keys))
        option_type = type_of(keys[key])
        is_switch = is_switch_option(keys[key])
        is_text = isinstance(option_type, click.types.StringParamType | click.Choice)
        is_cut = isinstance(option_type, click.types.IntParamType) and isinstance(value, float)
        if is_cut or isinstance(value, bool) != is_switch or (is_text and not is_switch and not isinstance(value, str)):
            needed = "true or false" if is_switch else "a text" if is_text else _type_in_words(option_type)
            raise ConfigError(f"[{name}] {key} must be {needed}, got {value!r}.")
        try:
            values[keys[key]] = value if isinstance(value, bool) else option_type.convert(value, None, None)
        except click.UsageError as error:
            raise ConfigError(f"[{name}] {key}: {error.format_message()}") from error
    return values


def _type_in_words(option_type: ParamType) -> str:
    if isinstance(option_type, click.types.IntParamType):
        return "a whole number"
    if isinstance(option_type, click.types.FloatParamType):
        return "a number"
    return f"one of these: {option_type.name}"


def _replaced(config: Any, table: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - a method's settings
    """Settings of a method with the values of its table; nested settings have nested tables."""
    hints = get_type_hints(type(config))
    known = {field.name: hints[field.name] for field in fields(config) if field.name not in _IN_RUN}
    values = {}
    for key, value in table.items():
        if key in _IN_RUN and key in hints:
            raise ConfigError(f"[{name}] {key} holds for the whole run; write [run] {_IN_RUN[key]} instead.")
        if key not in known:
            raise ConfigError(_no_key(name, key, known))
        if is_dataclass(getattr(config, key)) and isinstance(value, dict):
            values[key] = _replaced(getattr(config, key), value, f"{name}.{key}")
            continue
        try:
            values[key] = _fitted(value, known[key])
        except TypeError:
            raise ConfigError(f"[{name}] {key} must be {_in_words(known[key])}, got {value!r}.") from None
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


def _no_key(table: str, key: str, known: Iterable[str]) -> str:
    return f"[{table}] has no key {key!r}{did_you_mean(key, known) or '; its keys are ' + ', '.join(known)}."


_WORDS: Mapping[object, str] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
}


def _fitted(value: object, hint: Any) -> object:  # noqa: ANN401 - any annotation
    """`value` as the type `hint`; a TypeError if it is no such. TOML writes tuples as arrays, and 2 for 2.0."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for option in args:
            with suppress(TypeError):
                return _fitted(value, option)
    elif origin is tuple and isinstance(value, list):
        hints = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(hints) == len(value):
            return tuple(map(_fitted, value, hints))
    elif origin is Literal and value in args:
        return value
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and (hint is not int or not isinstance(value, bool)):
        return value
    raise TypeError


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


def single_kernel(loaded: Any, of_bands: str = "name one band") -> Any:  # noqa: ANN401 - Kernel, without importing NumPy here
    """The kernel where a command takes only one; `of_bands` is the advice where there is one for each band."""
    from blindsr.kernels import KernelMap, KernelStack

    if isinstance(loaded, KernelMap):
        raise click.UsageError(
            f"one kernel is needed, got a map of {len(loaded.flat)} that vary over an image; choose that of one cell "
            "by --kernel-index."
        )
    if isinstance(loaded, KernelStack):
        raise click.UsageError(f"one kernel is needed, got several ({', '.join(loaded.names)}); {of_bands}.")
    return loaded
