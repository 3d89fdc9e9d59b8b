"""The known kernel of a command: a file, a kernel by name, or a sensor; and the options that say which."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from blindsr.kernels import Kernel
    from blindsr.kernels.bands import BandKernels
    from blindsr.kernels.conventions import Convention
    from blindsr.pipelines.bands import LinearLight
    from blindsr.sensors.design import KernelModel

__all__ = ["CONVENTIONS", "KernelChoice", "kernel_options", "load_kernel", "one_kernel"]

P = ParamSpec("P")
R = TypeVar("R")

CONVENTIONS = ("ours", "kernelgan", "generator", "kair", "fkp", "mzsr")
_BY_NAME = {
    "bicubic": "bicubic",
    "box": "box",
    "gaussian": "gaussian:SIGMA or gaussian:SX,SY,ANGLE",
    "motion": "motion:LENGTH,ANGLE",
    "defocus": "defocus:DIAMETER",
}


class _IndexType(click.ParamType[int | str]):
    name = "n|all"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        if text == "all":
            return text
        if not text.isdecimal() or len(text) > 6:
            self.fail(f"needs a whole number counted from 0, or all, got {text!r}.", param, ctx)
        return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChoice:
    """The options of a known kernel as they were given; None is "not given"."""

    kernel: str | None = None
    sensor: str | None = None
    kernel_model: "KernelModel | None" = None
    kernel_convention: "Convention | None" = None
    kernel_key: str | None = None
    kernel_index: int | str | None = None
    recenter: bool = False
    linear_light: "LinearLight" = "auto"

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        if self.kernel is not None and self.sensor is not None:
            raise click.UsageError("--kernel and --sensor exclude each other; give one of them.")
        if self.sensor is None and self.kernel_model is not None:
            raise click.UsageError("--kernel-model has no meaning without --sensor.")
        if self.sensor is not None:
            for name in ("kernel_convention", "kernel_key", "kernel_index"):
                if getattr(self, name) is not None:
                    raise click.UsageError(f"--{name.replace('_', '-')} has no meaning with --sensor.")

    @property
    def is_given(self) -> bool:
        """Whether a kernel was named at all."""
        return self.kernel is not None or self.sensor is not None

    def load(self, scale: int) -> "tuple[Kernel | BandKernels, tuple[str, ...]]":
        """Make or read the kernel.

        Args:
            scale: Whole-number factor that it is for.

        Returns:
            The kernel, or one for each band, and sentences for the user.

        Raises:
            BlindSRError: The file or the specification holds no usable kernel.
            click.UsageError: None was named.
        """
        if self.sensor is not None:
            from blindsr.pipelines.known_source import kernel_from_sensor

            return kernel_from_sensor(self.sensor, scale, model=self.kernel_model)
        if self.kernel is None:
            raise click.UsageError("a known kernel is needed: --kernel FILE|NAME or --sensor NAME[:BAND]|SPEC.toml.")
        return load_kernel(
            self.kernel,
            scale,
            self.kernel_convention,
            key=self.kernel_key,
            index=self.kernel_index,
            recentre=self.recenter,
        )


_OPTIONS = {
    "kernel": click.option(
        "--kernel",
        metavar="FILE|NAME",
        help="A kernel file (.npz, .npy, .mat, .txt, .csv), a picture of a PSF (.tif, .png), or bicubic, box, "
        "gaussian:SIGMA, gaussian:SX,SY,ANGLE, motion:LENGTH,ANGLE, defocus:DIAMETER; lengths in pixels of the "
        "result, ANGLE in degrees.",
    ),
    "sensor": click.option(
        "--sensor",
        metavar="NAME[:BAND]|SPEC.toml",
        help="The kernel of an instrument: one that `blindsr kernel sensors` lists, or your own specification. "
        "Several bands, as in sentinel2:B4,B3,B2, are those of the channels in their order.",
    ),
    "kernel_model": click.option(
        "--kernel-model",
        type=click.Choice(["psf", "ratio"]),
        help="Of --sensor: ratio gives a result as soft per pixel as PHOTO is, psf a sharp one.  [default: the "
        "specification's, or ratio]",
    ),
    "kernel_convention": click.option(
        "--kernel-convention",
        type=click.Choice(["auto", *CONVENTIONS]),
        callback=lambda ctx, param, value: None if value == "auto" else value,
        help="Whose convention the kernel file follows.  [default: auto, which decides and says so]",
    ),
    "kernel_key": click.option("--kernel-key", metavar="NAME", help="Name of the array in the kernel file."),
    "kernel_index": click.option(
        "--kernel-index",
        type=_IndexType(),
        help="Which kernel of a file that holds several, counted from 0; all is one for each band.",
    ),
    "recenter": click.option("--recenter", is_flag=True, help="Move the kernel's centre of mass onto its middle."),
    "linear_light": click.option(
        "--linear-light",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        help="Undo the sRGB curve before upscaling, as optics act on light; auto does so where it pays.  "
        "[default: auto]",
    ),
}


def kernel_options(
    *, without: tuple[str, ...] = ()
) -> Callable[[Callable[Concatenate[KernelChoice, P], R]], Callable[P, R]]:
    """Give a command the options of a known kernel, gathered in a `KernelChoice` as its first argument.

    Args:
        without: Options that would mean nothing for this command; it does not get them.
    """

    def decorate(function: Callable[Concatenate[KernelChoice, P], R]) -> Callable[P, R]:
        names = [field.name for field in fields(KernelChoice) if field.name not in without]

        @functools.wraps(function)
        def command(*args: P.args, **values: P.kwargs) -> R:
            given = {name: values.pop(name) for name in names}
            return function(KernelChoice(**given), *args, **values)  # type: ignore[arg-type]

        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return decorate


def load_kernel(
    text: str,
    scale: int,
    convention: "Convention | None" = None,
    *,
    key: str | None = None,
    index: int | str | None = None,
    recentre: bool = False,
) -> "tuple[Kernel | BandKernels, tuple[str, ...]]":
    """Make or read the kernel that `--kernel` names.

    Args:
        text: "bicubic", "box", "gaussian:SIGMA", "gaussian:SX,SY,ANGLE", "motion:LENGTH,ANGLE", "defocus:DIAMETER" or a
            path; lengths in HR pixels, ANGLE in degrees counter-clockwise from the x axis.
        scale: Whole-number factor that the kernel is for.
        convention: Of a file; None detects it.
        key: Name of the array in a file.
        index: Which kernel of a stack, or "all".
        recentre: Move the centre of mass onto the middle.

    Returns:
        The kernel and sentences for the user.

    Raises:
        KernelError: The file holds no usable kernel.
        click.BadParameter: The text is neither a known name nor an existing file.
    """
    name, _, numbers = text.partition(":")
    if name in _BY_NAME and not Path(text).is_file():
        for option, value in (("--kernel-convention", convention), ("--kernel-key", key), ("--kernel-index", index)):
            if value is not None:
                raise click.BadParameter("has no meaning without a kernel file.", param_hint=option)
        return _by_name(name, numbers, scale), ()
    if not Path(text).exists():
        raise click.BadParameter(
            f"no file {text!r}; give a kernel file, {', '.join(_BY_NAME.values())}.", param_hint="--kernel"
        )
    from blindsr.pipelines.known_source import kernel_from_file

    return kernel_from_file(Path(text), scale, convention=convention, key=key, index=index, recentre=recentre)


def one_kernel(loaded: "Kernel | BandKernels") -> "Kernel":
    """The kernel where a command takes only one.

    Raises:
        click.UsageError: There is one for each of several bands.
    """
    from blindsr.kernels.bands import BandKernels

    if isinstance(loaded, BandKernels):
        raise click.UsageError(f"one kernel is needed, there are several ({', '.join(loaded.names)}); name one band.")
    return loaded


def _by_name(name: str, numbers: str, scale: int) -> "Kernel":
    from blindsr.kernels import bicubic, box, gaussian
    from blindsr.kernels.shapes import defocus, motion

    if name in ("bicubic", "box"):
        if numbers:
            raise click.BadParameter(f"{name} takes no numbers, got {numbers!r}.", param_hint="--kernel")
        return bicubic(scale) if name == "bicubic" else box(scale)
    if name == "gaussian":
        return gaussian(_covariance(numbers), scale)
    values = _numbers(numbers)
    if name == "motion" and len(values) == 2:
        return motion(values[0], values[1], scale)
    if name == "defocus" and len(values) == 1:
        return defocus(values[0], scale)
    raise click.BadParameter(f"write {_BY_NAME[name]}, got {name}:{numbers}.", param_hint="--kernel")


def _numbers(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) and values[0] > 0 else []


def _covariance(numbers: str) -> list[list[float]]:
    """Σ (y, x) from "SIGMA" or "SX,SY,ANGLE"."""
    values = _numbers(numbers)
    if len(values) == 1:
        values = [values[0], values[0], 0.0]
    if len(values) != 3 or min(values[:2]) <= 0:
        raise click.BadParameter(
            f"gaussian needs a positive SIGMA or SX,SY,ANGLE, got {numbers!r}; for example gaussian:1.2.",
            param_hint="--kernel",
        )
    sx, sy, angle = values
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Seen counter-clockwise, y points up; in the array it points down: hence the minus in the mixed term.
    xx = (sx * cos) ** 2 + (sy * sin) ** 2
    yy = (sx * sin) ** 2 + (sy * cos) ** 2
    yx = -(sx**2 - sy**2) * sin * cos
    return [[yy, yx], [yx, xx]]
