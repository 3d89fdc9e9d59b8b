"""All options of the commands that work on photographs, each declared once: flags, type, help, group, key in run.toml.

A field of `Options` is an option. None and False mean "not given": the value then comes from --config, or from the
preset.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from blindsr.cli.main import VERBOSE
from blindsr.cli.types import (
    FILE_OR_NAME,
    INDEX,
    MEMORY,
    OUTPUT,
    PAGE,
    PHOTO,
    PIXELS,
    REGION,
    SCALE,
    SHARE,
    SIZE,
    FloatRange,
    IntRange,
    MethodChoice,
    OutputPath,
    ParamType,
)  # fmt: skip

__all__ = [
    "CONVENTIONS",
    "GROUPS",
    "PHOTOS",
    "STDIO",
    "GroupedOption",
    "Options",
    "command",
    "is_switch_option",
    "toml_keys",
    "with_options",
]

P = ParamSpec("P")
R = TypeVar("R")
STDIO = Path("-")
_MAX_THREADS = 4096  # more than any machine has cores; torch refuses what its 32 bits do not hold
# Options given to the wrong command, and what to do.
_ELSEWHERE = {
    "estimate": ("it estimates the kernel; with a known one: blindsr upscale PHOTO {option} …", "Known kernel"),
    "upscale": (
        "its kernel is known; to estimate one: blindsr estimate-and-upscale PHOTO {option} …",
        "Method",
        "Batch",
    ),
}
CONVENTIONS = ("blindsr", "kernelgan", "generator", "kair", "fkp", "mzsr")
#: Groups of options in the order of `--help`.
GROUPS = ("Common", "Dial", "Method", "Known kernel", "File", "Batch", "Machine", "Cluster", "Output")


def _option(group: str, *flags: str, toml: str = "", **declaration: Any) -> Any:  # noqa: ANN401 - a dataclass field
    """A field of `Options`.

    Args:
        group: Heading in `--help`.
        *flags: Such as "-o", "--output"; without any, the name of the field.
        toml: Table of run.toml that has the option as a key, and the key where it is not the field's name; or "".
        **declaration: For `click.Option`.
    """
    default = False if declaration.get("is_flag") else None
    return field(default=default, metadata={"group": group, "flags": flags, "toml": toml, "click": declaration})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as they were given; a command has those that it declares, the others are never given."""

    # A table, one option in two or three lines.
    # fmt: off
    output: OutputPath | None = _option("Common", "-o", "--output", type=OUTPUT, metavar="FILE|DIR",  # noqa: RUF009
        help="File to write, or a folder for the results (a new one is named with a slash at its end); the kernel and "
        "the record of the run get the same stem.  [default: beside PHOTO, as PHOTO_blindsr_x2]")
    scale: float | tuple[float, float] | None = _option("Common", toml="run", type=SCALE, show_default="2",
        help="Output size over input size, up to 8; 1 deblurs without enlarging. Two numbers such as 2x3 are "
        "horizontal and vertical.")
    size: tuple[int, int] | None = _option("Common", toml="run", type=SIZE,
        help="Width and height of the result in pixels, instead of --scale; 1920x or x1080 keeps the aspect ratio.")
    preset: str | None = _option("Common", toml="run", type=click.Choice(["fast", "default", "best", "paper"]),
        show_default="default",
        help="Speed against quality: fast is one pass of the network, default and best average several, and adapt "
        "it to PHOTO where that helps; paper runs KernelGAN and ZSSR as published.")
    force: bool = _option("Common", is_flag=True, help="Overwrite results that exist.")
    kernel_width: float | None = _option("Dial", "--kernel-width", "--kernel-scale", toml="run",
        type=FloatRange(0.25, 4), metavar="RATIO", show_default="1",
        help="Width of the kernel that is used over that of the estimated or known one, 0.25 to 4: "
        "below 1 sharpens less, above 1 more.")
    strength: float | str | None = _option("Dial", toml="run", type=SHARE, metavar="auto|0-1", show_default="auto",
        help="Share of the result; the rest is bicubic interpolation of PHOTO, or PHOTO itself with --scale 1. auto "
        "uses all of it, and less where a comparison with interpolation shows more detail than is probably there.")
    denoise: float | str | None = _option("Dial", toml="run", type=SHARE, metavar="auto|0-1", show_default="auto",
        help="Share of the measured noise that is removed: 1 removes it, as auto does, 0 keeps all of it as it is in "
        "PHOTO. --noise sets the noise level.")
    halo: float | str | None = _option("Dial", toml="run", type=SHARE, metavar="auto|0-1", show_default="auto",
        help="Share of the overshoot at edges that is left: 1 is what the method gives, as auto is, 0 keeps every "
        "pixel within the range of PHOTO around it.")
    estimator: str | None = _option("Method", toml="run", type=MethodChoice("estimator"), show_default="auto",
        help="Kernel estimation method, listed below. auto suits nearly every photograph; choose another one where "
        "you know better, such as l0 for camera shake.")
    upscaler: str | None = _option("Method", toml="run", type=MethodChoice("upscaler"), show_default="pretrained",
        help="Super-resolution method, listed below; checkpoint:FILE is the network in a file of another program.")
    init: str | None = _option("Method", toml="run", type=FILE_OR_NAME, metavar="pretrained|leaves|random|FILE",
        show_default="pretrained",
        help="Initial weights of the network: the bundled ones, those of synthetic images alone, random ones, or a "
        "checkpoint of `blindsr train`.")
    zssr_setting: str | None = _option("Method", toml="run",
        type=click.Choice(["ideal", "gradual", "given", "real", "kernelgan"]),
        help="Upscale by ZSSR as published, in one of its five settings: ideal, for images that were reduced on a "
        "computer by bicubic interpolation; gradual, the same in six steps; given, for a kernel that is known; real, "
        "for noisy photographs; kernelgan, with a kernel of KernelGAN.  [default: given with --upscaler zssr, "
        "kernelgan with --preset paper]")
    region: tuple[int, int, int, int] | None = _option("Method", toml="run", type=REGION,
        help="Estimate the kernel from this rectangle of PHOTO only: left edge, top edge, width and height in pixels. "
        "Useful where lettering, frames or parts out of focus would decide; the whole image is upscaled with "
        "that kernel.  [default: the whole image]")
    varying: bool | None = _option("Method", "--varying/--one-kernel", toml="run", default=None,
        help="Estimate kernels that vary over PHOTO, as with soft corners or a shallow focus, where they measurably "
        "do; the kernel file is then a map.  [default: one kernel]")
    align_colors: bool | None = _option("Method", "--align-colors/--keep-colors", toml="run", default=None,
        help="Move red and blue onto green where a lens or a scanner has measurably displaced them, or leave them as "
        "they are. The images of --page all stay as they are.  [default: align]")
    noise: float | None = _option("Method", toml="run", type=FloatRange(0, 128), metavar="LEVELS",
        show_default="measured",
        help="Standard deviation of the noise, in grey levels of 255. 0 means that there is none, so that grain is "
        "sharpened as detail; --denoise 0 keeps it as it is.")
    seed: int | None = _option("Method", toml="run", type=IntRange(0, 2**32 - 1), metavar="N", show_default="0",
        help="Random seed. Results are reproducible to the bit for one seed, device and number of threads.")
    config: Path | None = _option("Method", type=click.Path(exists=True, dir_okay=False, path_type=Path),  # noqa: RUF009
        metavar="FILE.toml",
        help="Settings from a file with the tables [run], [files] and one for each method, such as [pretrained]; "
        "options override it.")
    kernel: str | None = _option("Known kernel", type=FILE_OR_NAME, metavar="FILE|NAME",
        help="The kernel: a file (.npz, .npy, .mat, .txt, .csv), an image of a point spread function (.tif, .png), or "
        "bicubic, box, gaussian:SIGMA, gaussian:SX,SY,ANGLE, motion:LENGTH,ANGLE, defocus:DIAMETER, "
        "sensor:NAME:BAND; lengths in pixels of the result (at ×1.5, of the next whole scale), ANGLE in "
        "degrees.")
    kernel_map: Path | None = _option("Known kernel", type=PHOTO, metavar="FILE.npz",  # noqa: RUF009
        help="Kernels that vary over PHOTO, as `estimate-kernel --varying` writes them; see docs/dials.md.")
    sensor: str | None = _option("Known kernel", type=FILE_OR_NAME, metavar="NAME[:BAND]|SPEC.toml",
        help="The kernel of an instrument: one that `blindsr kernel sensors` lists, or your own specification. "
        "Several bands, as in sentinel2:B4,B3,B2, are those of the channels in their order.")
    kernel_model: str | None = _option("Known kernel", type=click.Choice(["psf", "ratio"]),
        help="With --sensor: ratio gives a result as soft per pixel as PHOTO is, psf a sharp one.  [default: that of "
        "the specification, or ratio]")
    kernel_convention: str | None = _option("Known kernel", type=click.Choice(["auto", *CONVENTIONS]),
        callback=lambda ctx, param, value: None if value == "auto" else value,
        help="Convention that the kernel file follows.  [default: auto, which detects it and reports it]")
    kernel_key: str | None = _option("Known kernel", metavar="NAME", help="Name of the array in the kernel file.")
    kernel_index: int | str | None = _option("Known kernel", type=INDEX,
        help="Which kernel of a file that holds several, counted from 0 (cells of a map are counted row by row); all "
        "uses one for each band.")
    recenter: bool = _option("Known kernel", is_flag=True, help="Move the kernel's centre of mass onto its centre.")
    linear_light: str | None = _option("Known kernel", type=click.Choice(["auto", "on", "off"]), show_default="auto",
        help="Undo the sRGB curve before upscaling, because optics act on light; auto does so where it is known to "
        "help.")
    output_format: str | None = _option("File", "--format", toml="files:format",
        type=click.Choice(["png", "tiff", "jpeg", "webp", "avif", "heic", "fits", "gif"]),
        help="Format of the result.  [default: by the name given with -o; else PNG, or TIFF for what PNG cannot hold]")
    quality: int | None = _option("File", toml="files:quality", type=IntRange(1, 100), metavar="1-100",
        help="Quality of JPEG, WebP, AVIF and HEIC.  [default: 95; WebP lossless]")
    page: int | str | None = _option("File", toml="files:page", type=PAGE, metavar="N|all",
        show_default="the first one",
        help="Page of a multi-page TIFF, or frame of an animation, counted from 1; the result's name has it: "
        "PHOTO_page2_blindsr_x2.png. all upscales every one with one kernel, into one file: PNG, WebP or GIF for an "
        "animation, TIFF for pages.")
    strip_metadata: bool | None = _option("File", "--strip-metadata/--keep-metadata", toml="files:strip_metadata",
        default=None,
        help="Leave EXIF, XMP, texts, GPS position and provenance out of the result, or keep them; the colour profile "
        "is kept in every format but GIF and FITS.  [default: keep]")
    alpha: str | None = _option("File", toml="files:alpha", type=click.Choice(["coverage", "data"]),
        show_default="coverage",
        help="Meaning of an alpha channel: coverage is the opacity of the colours; data, such as a mask, a height or a "
        "fourth band, is upscaled as any other band and written as the same channel.")
    max_pixels: int | None = _option("File", toml="files:max_pixels", type=PIXELS, show_default="268M",
        help="Refuse larger images, because a small file may unpack to more than the memory; 500M is 500 megapixels.")
    report: bool = _option("File", is_flag=True,
        help="Write a page (.html) with a before/after slider beside the result.")
    recursive: bool = _option("Batch", "-r", "--recursive", is_flag=True,
        help="Include subfolders; the tree is mirrored under -o.")
    name_template: str | None = _option("Batch", "--name", metavar="TEMPLATE",
        help="Names of results, made of {stem}, {suffix}, {folder}, {label}, {scale}, {preset}; a suffix at the end "
        "chooses the format.  [default: {stem}_blindsr_{label}]")
    skip_existing: bool = _option("Batch", is_flag=True,
        help="Skip photographs that have a result, whatever its settings.")
    dry_run: bool = _option("Batch", is_flag=True,
        help="List what would be done, with sizes and memory, and the files whose headers cannot be read. Nothing is "
        "done.")
    jobs: int | None = _option("Batch", type=IntRange(1), metavar="N", show_default="1, or one per --device",
        help="Number of photographs that are processed at the same time; they share the threads.")
    shared_kernel: bool = _option("Batch", is_flag=True,
        help="Estimate one kernel from all photographs together: for those of one camera and lens.")
    manifest: Path | None = _option("Batch", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",  # noqa: RUF009
        help="File that lists finished photographs for the next run.  [default: blindsr-manifest.jsonl under -o, or "
        "beside the photographs]")
    retries: int | None = _option("Batch", type=IntRange(0), metavar="N", show_default="2",
        help="Further attempts for a photograph whose process died or ran out of memory.")
    device: str | None = _option("Machine", toml="run", metavar="NAME", show_default="auto",
        help="Processor: auto, cpu, cuda, cuda:N or mps; in a batch also a list, such as cuda:0,cuda:1.")
    threads: int | None = _option("Machine", toml="run", type=IntRange(1, _MAX_THREADS), metavar="N",
        show_default="OMP_NUM_THREADS, or one per core that other programs leave free",
        help="Processor threads. 1 is fastest where a machine is about to be busy with other work.")
    precision: str | None = _option("Machine", toml="run", type=click.Choice(["auto", "fp32", "bf16"]),
        show_default="auto", help="Arithmetic of the network; auto is bf16 where the processor supports it.")
    max_memory: int | None = _option("Machine", toml="run", type=MEMORY, show_default="what is free",
        help="Memory limit such as 4GB, shared by all --jobs; large photographs are processed in tiles that fit. On a "
        "cluster it is the limit of each worker.")
    executor: str | None = _option("Cluster", type=click.Choice(["processes", "inline", "dask"]),
        show_default="processes",
        help="Where a batch runs: processes of this machine, this process alone, or a Dask cluster (blindsr[cluster]).")
    scheduler: str | None = _option("Cluster", metavar="ADDRESS",
        help="Address of the Dask scheduler, such as tcp://host:8786.")
    task_resources: str | None = _option("Cluster", metavar="NAME=N,...",
        help="Resources of a Dask worker that one photograph needs, such as GPU=1.")
    as_json: bool = _option("Output", "--json", is_flag=True,
        help="Print one JSON record on stdout instead of the path.")
    quiet: bool = _option("Output", "-q", "--quiet", is_flag=True, help="Print only errors on stderr.")
    verbose: bool = _option("Output", "-v", "--verbose", is_flag=True,
        help="Print every stage and every reported loss on stderr.")
    # fmt: on

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        self._exclude("quiet", "verbose")
        self._exclude("scale", "size")
        self._exclude("kernel", "sensor")
        self._exclude("kernel", "kernel_map")
        self._exclude("sensor", "kernel_map")
        if self.sensor is None and self.kernel_model is not None:
            raise click.UsageError("--kernel-model is for --sensor; leave it out.")
        for other in ("sensor", "kernel_map"):
            for name in ("kernel_convention", "kernel_key", "kernel_index") if getattr(self, other) is not None else ():
                if getattr(self, name) is not None:
                    raise click.UsageError(f"{flag_of(name)} is for --kernel, not for {flag_of(other)}; leave it out.")

    def _exclude(self, first: str, second: str) -> None:
        if all(getattr(self, name) not in (None, False) for name in (first, second)):
            raise click.UsageError(f"{flag_of(first)} and {flag_of(second)} exclude each other; give one of them.")

    def given(self, *groups: str) -> tuple[str, ...]:
        """The flags of some groups that were given, as the user writes them."""
        return tuple(
            flag_of(f.name)
            for f in fields(self)
            if f.metadata["group"] in groups and getattr(self, f.name) not in (None, False)
        )


def _declared(name: str) -> Mapping[str, Any]:
    """What was declared of an option by `_option`."""
    return next(f.metadata for f in fields(Options) if f.name == name)


def _flags(name: str) -> tuple[str, ...]:
    flags: tuple[str, ...] = _declared(name)["flags"]
    return flags or (f"--{name.replace('_', '-')}",)


def flag_of(name: str) -> str:
    """The long flag of an option: "--name" for `name_template`."""
    return _flags(name)[-1].split("/")[0]


def toml_keys(table: str) -> dict[str, str]:
    """Keys of a table of run.toml that are options too: the option's name by the key."""
    tables = ((f.name, *f.metadata["toml"].partition(":")) for f in fields(Options))
    return {key or name: name for name, where, _, key in tables if where == table}


def is_switch_option(name: str) -> bool:
    """Whether an option is a pair of flags, such as --varying/--one-kernel, whose value is true or false."""
    return any("/" in flag for flag in _flags(name))


def type_of(name: str) -> ParamType:
    """The type of an option, which also converts its value in run.toml."""
    option_type: ParamType = click.types.convert_type(_declared(name)["click"].get("type", str))
    return option_type


class GroupedOption(click.Option):
    """An option with a heading in `--help`."""

    def __init__(self, *args: Any, group: str = "", **kwargs: Any) -> None:  # noqa: ANN401 - those of click.Option
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose `--help` lists its options under headings, the common ones first, and the methods below them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by group, then the methods that can be chosen."""
        by_group: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                flags = re.sub(r"\b(INTEGER|FLOAT)( RANGE)?", "N", record[0])
                by_group.setdefault(getattr(param, "group", ""), []).append((flags, _plain_default(record[1])))
        rest = "Other options" if len(by_group) > 1 else "Options"
        for group in (*GROUPS, ""):
            if group in by_group:
                with formatter.section(f"{group} options" if group else rest):
                    formatter.write_dl(by_group[group])
        for param in self.get_params(ctx):
            if isinstance(param.type, MethodChoice):
                with formatter.section(f"{param.type.kind.capitalize()}s (--{param.type.kind})"):
                    formatter.write_dl(param.type.rows())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; an option of the sister command is answered by that command's name."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            advice, *groups = _ELSEWHERE.get((self.name or "").partition("-")[0], ("",))
            if any(error.option_name in _flags(f.name) and f.metadata["group"] in groups for f in fields(Options)):
                option = advice.format(option=error.option_name)
                raise click.UsageError(f"{self.name} has no {error.option_name}: {option}", ctx) from error
            raise


def _plain_default(text: str) -> str:
    """A help text without what click adds for programmers: parentheses around a default in words, and inequalities."""

    def items(match: re.Match[str]) -> str:
        kept = [item for item in match[1].split("; ") if not re.fullmatch(r"(\S+<=?)?x([<>]=?\S+)?", item)]
        plain = [re.sub(r"^default: [(](.*)[)]$", r"default: \1", item) for item in kept]
        return f"[{'; '.join(plain)}]" if plain else ""

    return re.sub(r"\[([^\[\]]*)\]$", items, text).rstrip()


#: Photographs, folders and glob patterns, one or more.
PHOTOS = click.argument("photos", metavar="PHOTO...", type=PHOTO, nargs=-1, required=True)


def command(
    name: str, short_help: str, example: str, *parameters: Callable[[Any], Any]
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command whose `--help` has groups, and an example at its end.

    Args:
        name: Name of the command.
        short_help: Its line in the list of commands.
        example: A call, without "blindsr".
        *parameters: `click.argument`, `click.option` and `with_options`, in the order of `--help`.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        for parameter in reversed(parameters):
            function = parameter(function)
        make = click.command(name, cls=GroupedCommand, short_help=short_help, epilog=f"Example: blindsr {example}")
        return make(function)

    return decorate


def with_options(*names: str, **helps: str) -> Callable[[Callable[Concatenate[Options, P], R]], Callable[P, R]]:
    """Give a command some options, collected in an `Options` as its first argument.

    Args:
        *names: Names of options, or of whole groups.
        **helps: Help texts by option, where the common one does not suit the command.
    """
    declared = [f for f in fields(Options) if f.name in names or f.metadata["group"] in names]

    def decorate(function: Callable[Concatenate[Options, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def command(*args: P.args, **values: P.kwargs) -> R:
            given: dict[str, Any] = {f.name: values.pop(f.name) for f in declared}
            if "verbose" in given:
                click.get_current_context().meta[VERBOSE] = given["verbose"]
            return function(Options(**given), *args, **values)

        for f in reversed(declared):
            declaration = {"show_default": False, **f.metadata["click"]}
            if f.name in helps:
                declaration["help"] = helps[f.name]
            option = click.option(*_flags(f.name), f.name, cls=GroupedOption, group=f.metadata["group"], **declaration)
            command = option(command)
        return command

    return decorate
