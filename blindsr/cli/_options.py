"""The options that all jobs share. None is "not given": the value comes from --config, or from the preset."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click

from blindsr.cli._amounts import MEMORY, PIXELS, amount

__all__ = ["FILE_OPTIONS", "PHOTO", "Common", "common_options"]

P = ParamSpec("P")
R = TypeVar("R")

# The file is not checked here: a missing, damaged or foreign file is the library's error, in one line.
PHOTO = click.Path(readable=False, path_type=Path)


# How pictures are read and written; what they decide is in `Run.files`.
FILE_OPTIONS = ("output_format", "quality", "strip_metadata", "max_pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The shared options as they were given; None is "not given"."""

    output: Path | None
    scale: float | tuple[float, float] | None
    size: tuple[int, int] | None
    preset: str | None
    estimator: str | None
    start: str | None
    zssr_setting: str | None
    region: tuple[int, int, int, int] | None
    device: str | None
    seed: int | None
    threads: int | None
    precision: str | None
    max_memory: int | None
    output_format: str | None
    quality: int | None
    strip_metadata: bool | None
    max_pixels: int | None
    config: Path | None
    force: bool
    as_json: bool
    quiet: bool
    verbose: bool

    def __post_init__(self) -> None:
        """Refuse a contradiction."""
        if self.quiet and self.verbose:
            raise click.UsageError("--quiet and --verbose exclude each other; give one of them.")
        if self.scale is not None and self.size is not None:
            raise click.UsageError("--scale and --size exclude each other; give one of them.")


class _RegionType(click.ParamType[tuple[int, int, int, int]]):
    name = "x,y,w,h"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        if isinstance(value, tuple):
            return value
        try:
            x, y, width, height = (int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"needs four whole numbers x,y,w,h, got {value!r}; for example 100,80,256,256.", param, ctx)
        if x < 0 or y < 0 or width < 1 or height < 1:
            self.fail(f"needs x and y of 0 or more, w and h of 1 or more, got {value!r}.", param, ctx)
        return x, y, width, height


class _ScaleType(click.ParamType["float | tuple[float, float]"]):
    name = "n|nxm"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, float]:
        if isinstance(value, float | tuple):
            return value
        try:
            factors = [float(part) for part in str(value).lower().replace("×", "x").split("x")]
        except ValueError:
            factors = []
        if not 1 <= len(factors) <= 2 or not all(1 <= factor <= 8 for factor in factors) or max(factors) == 1:
            self.fail(
                f"needs a number above 1 and up to 8, or two as 2x3 (across and down), got {value!r}.", param, ctx
            )
        return factors[0] if len(factors) == 1 else (factors[0], factors[1])


class _SizeType(click.ParamType[tuple[int, int]]):
    name = "wxh"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            width, height = (int(part) for part in str(value).lower().replace("×", "x").split("x"))
        except ValueError:
            width = height = 0
        if width < 1 or height < 1:
            self.fail(f"needs width and height in pixels, got {value!r}; for example 1920x1080.", param, ctx)
        return width, height


class _MemoryType(click.ParamType[int]):
    name = "n[M|G]B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if (count := amount(str(value), MEMORY)) is None:
            self.fail(f"needs an amount of memory, got {value!r}; for example 4GB.", param, ctx)
        return count


class _PixelsType(click.ParamType[int]):
    name = "n[M|G]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if (count := amount(str(value), PIXELS)) is None:
            self.fail(f"needs a number of pixels, got {value!r}; for example 500M.", param, ctx)
        return count


_OPTIONS = {
    "output": click.option(
        "-o",
        "--output",
        type=click.Path(readable=False, path_type=Path),
        help="Where to write the result; "
        "its kernel and record get the same stem.  [default: beside PHOTO, as photo_blindsr_x2]",
    ),
    "scale": click.option(
        "--scale",
        type=_ScaleType(),
        show_default="2",
        help="Output over input, up to 8: a whole or a real number, or two, such as 2x3, across and down.",
    ),
    "size": click.option(
        "--size",
        type=_SizeType(),
        help="Width and height of the result in pixels, such as 1920x1080, instead of --scale.",
    ),
    "preset": click.option(
        "--preset",
        type=click.Choice(["fast", "default", "best", "paper"]),
        show_default="default",
        help="Speed against quality; paper is KernelGAN and ZSSR as published.",
    ),
    "estimator": click.option(
        "--estimator",
        type=click.Choice(["auto", "spectral", "l0", "kernelgan"]),
        show_default="auto",
        help="Who estimates the kernel.",
    ),
    "start": click.option(
        "--start",
        metavar="leaves|random|FILE",
        show_default="leaves",
        help="What the network knows before it sees PHOTO: the learned start that comes with blindsr, nothing, "
        "or a file of train-start.",
    ),
    "zssr_setting": click.option(
        "--zssr-setting",
        type=click.Choice(["ideal", "gradual", "given", "real", "kernelgan"]),
        help="Run the published ZSSR in one of its five published settings.",
    ),
    "region": click.option(
        "--region",
        type=_RegionType(),
        help="Estimate the kernel from this rectangle of PHOTO, in pixels.  [default: all of it]",
    ),
    "device": click.option("--device", metavar="NAME", show_default="auto", help="auto, cpu, cuda, cuda:N or mps."),
    "seed": click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        show_default="0",
        help="Of everything random: the same seed gives the same bits.",
    ),
    "threads": click.option(
        "--threads", type=click.IntRange(1), show_default="one per core", help="Processor threads."
    ),
    "precision": click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16"]),
        show_default="auto",
        help="Of the network's arithmetic; auto is bf16 where the processor has it.",
    ),
    "max_memory": click.option(
        "--max-memory",
        type=_MemoryType(),
        show_default="what is free",
        help="What all may take together, such as 4GB; --jobs share it. Large photographs are worked on in tiles "
        "that fit. On a cluster: what each worker may take.",
    ),
    "output_format": click.option(
        "--format",
        "output_format",
        type=click.Choice(["png", "tiff", "jpeg", "webp", "avif", "heic"]),
        help="Of the result.  [default: by the name given with -o; else PNG, or TIFF for what PNG cannot hold]",
    ),
    "quality": click.option(
        "--quality",
        type=click.IntRange(1, 100),
        help="Of JPEG, WebP, AVIF and HEIC.  [default: 95; WebP lossless]",
    ),
    "strip_metadata": click.option(
        "--strip-metadata/--keep-metadata",
        default=None,
        help="Leave EXIF, XMP, texts, place and the note on its making out of the result; its colour profile stays.",
    ),
    "max_pixels": click.option(
        "--max-pixels",
        type=_PixelsType(),
        show_default="268M",
        help="Refuse larger pictures: a small file may unpack to more than the memory. 500M are 500 megapixels.",
    ),
    "config": click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE.toml",
        help="Settings from a file, with tables [run], [files], [spectral], [l0], [kernelgan], [zssr].",
    ),
    "force": click.option("--force", is_flag=True, help="Overwrite results that exist."),
    "as_json": click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON record on stdout instead of the path."
    ),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr."),
    "verbose": click.option("-v", "--verbose", is_flag=True, help="Say every stage and every reported loss on stderr."),
}


def common_options(*, without: tuple[str, ...] = ()) -> Callable[[Callable[Concatenate[Common, P], R]], Callable[P, R]]:
    """Give a command the shared options, gathered in a `Common` as its first argument.

    Args:
        without: Options that would mean nothing for this command; it does not get them.
    """

    def decorate(function: Callable[Concatenate[Common, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def command(*args: P.args, **values: P.kwargs) -> R:
            given = {field.name: values.pop(field.name, None) for field in fields(Common)}
            return function(Common(**given), *args, **values)  # type: ignore[arg-type]

        for name, option in reversed(_OPTIONS.items()):
            if name not in without:
                command = option(command)
        return command

    return decorate
