"""The value of --kernel: a file, or a kernel by name."""

import math
from pathlib import Path

import click

from blindsr.kernels import Kernel, bicubic, box, gaussian
from blindsr.kernels.conventions import Convention
from blindsr.kernels.files import read_kernel

__all__ = ["load_kernel"]


def load_kernel(text: str, scale: int, convention: Convention | None) -> tuple[Kernel, tuple[str, ...]]:
    """Make or read the kernel that `--kernel` names.

    Args:
        text: "bicubic", "box", "gaussian:SIGMA", "gaussian:SX,SY,ANGLE" or a path; σ in HR pixels, ANGLE in
            degrees counter-clockwise from the x axis.
        scale: Whole-number factor that the kernel is for.
        convention: Of a file; None detects it.

    Returns:
        The kernel and sentences for the user.

    Raises:
        KernelError: The file holds no usable kernel.
        click.BadParameter: The text is neither a known name nor an existing file.
    """
    name, _, numbers = text.partition(":")
    if name in ("bicubic", "box", "gaussian") and not Path(text).is_file():
        if convention is not None:
            raise click.BadParameter("has no meaning without a kernel file.", param_hint="--kernel-convention")
        if name == "gaussian":
            return gaussian(_covariance(numbers), scale), ()
        if numbers:
            raise click.BadParameter(f"{name} takes no numbers, got {text!r}.", param_hint="--kernel")
        return (bicubic(scale) if name == "bicubic" else box(scale)), ()
    if not Path(text).exists():
        raise click.BadParameter(
            f"no file {text!r}; give a kernel file, bicubic, box, gaussian:SIGMA or gaussian:SX,SY,ANGLE.",
            param_hint="--kernel",
        )
    return read_kernel(text, scale=scale, convention=convention or "auto")


def _covariance(numbers: str) -> list[list[float]]:
    """Σ (y, x) from "SIGMA" or "SX,SY,ANGLE"."""
    try:
        values = [float(part) for part in numbers.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values = [values[0], values[0], 0.0]
    if len(values) != 3 or not all(map(math.isfinite, values)) or min(values[:2]) <= 0:
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
