"""What the commands that make a kernel have in common: their options, the files, the figures."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from blindsr.kernels import Kernel
    from blindsr.kernels.figures import Figures

__all__ = ["Making", "figure_lines", "finish", "making_options", "say"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """The options of every command that makes a kernel."""

    output: Path | None
    scale: int
    size: int | None
    force: bool
    as_json: bool
    quiet: bool


_OPTIONS = {
    "output": click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="The kernel's file: .npz, .mat (KernelGAN's convention), .npy, .txt or .csv; its picture gets the same "
        "stem.  [default: NAME_x2.kernel.npz in this folder]",
    ),
    "scale": click.option("--scale", type=click.IntRange(2, 4), default=2, show_default=True, help="From LR to HR."),
    "size": click.option(
        "--size", type=click.IntRange(1, 255), help="Side in HR pixels.  [default: what the kernel needs]"
    ),
    "force": click.option("--force", is_flag=True, help="Overwrite files that exist."),
    "as_json": click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON on stdout."),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr."),
}


def making_options() -> Callable[[Callable[Concatenate[Making, P], R]], Callable[P, R]]:
    """Give a command the options of `Making`, gathered as its first argument."""

    def decorate(function: Callable[Concatenate[Making, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def command(*args: P.args, **values: P.kwargs) -> R:
            given = {field.name: values.pop(field.name) for field in fields(Making)}
            return function(Making(**given), *args, **values)  # type: ignore[arg-type]

        for option in reversed(_OPTIONS.values()):
            command = option(command)
        return command

    return decorate


def finish(
    making: Making, kernel: "Kernel", stem: str, notes: Sequence[str] = (), more: dict[str, object] | None = None
) -> None:
    """Write a kernel and its picture, say its figures, and print its path.

    Args:
        making: The options.
        kernel: What was made.
        stem: Of the files where none is given; the scale is added.
        notes: Sentences for the user.
        more: Further figures for --json.
    """
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels import fit
    from blindsr.kernels.figures import describe
    from blindsr.kernels.files import kernel_bytes
    from blindsr.kernels.picture import kernel_picture

    if making.size is not None and making.size != kernel.size:
        kernel = fit(kernel, making.size)
    path = making.output or Path(f"{stem}_x{kernel.scale}.kernel.npz")
    if path.suffix.lower() == ".png":
        raise click.BadParameter(
            f"is the kernel's file (.npz, .mat, …), its picture is written beside it; got {path.name}.", param_hint="-o"
        )
    picture = path.with_suffix(".png")
    content = kernel_bytes(kernel, path.suffix.lower())
    for place in (path, picture):
        check_output(place, overwrite=making.force)
    atomic_write_bytes(path, content, overwrite=making.force)
    atomic_write_bytes(picture, kernel_picture(kernel), overwrite=making.force)
    figures = describe(kernel)
    if not making.quiet:
        for note in notes:
            click.echo(f"note: {note}", err=True)
        for line in figure_lines(figures):
            click.echo(line, err=True)
        click.echo(f"files: {path}, and beside it {picture.name}", err=True)
    files = {"kernel": str(path), "picture": str(picture)}
    record = {**figures.as_dict(), **(more or {}), "notes": list(notes), "files": files}
    click.echo(json.dumps(record, ensure_ascii=False) if making.as_json else str(path))


def say(notes: Sequence[str], *, quiet: bool = False) -> None:
    """Notes for people, on stderr."""
    for note in () if quiet else notes:
        click.echo(f"note: {note}", err=True)


def figure_lines(figures: "Figures") -> list[str]:
    """A kernel's figures for people; lengths in pixels of the result."""
    long, short = figures.sigmas
    (yy, yx), (_, xx) = figures.covariance_yx
    y, x = figures.centroid_yx
    isotropic = long - short < 1e-3 * max(long, 1e-9)
    at_lr, at_hr = figures.mtf_at_lr_nyquist, figures.mtf_at_hr_nyquist
    return [
        f"size: {figures.size}×{figures.size} HR px for ×{figures.scale}",
        f"FWHM: {_pair(figures.fwhm, isotropic)} HR px" + ("" if isotropic else " (long, short axis)"),
        f"σ: {_pair(figures.sigmas, isotropic)} HR px"
        + ("" if isotropic else f", long axis at {figures.angle_degrees:.1f}°"),
        f"covariance (y, x): [[{yy:.3f}, {yx:.3f}], [{yx:.3f}, {xx:.3f}]] HR px²",
        f"centre: ({y:+.3f}, {x:+.3f}) HR px (y, x) from the middle",
        f"MTF at Nyquist of LR: {_pair(at_lr, isotropic, 3)}, of HR: {_pair(at_hr, isotropic, 3)}",
        f"outside one LR pixel: {figures.energy_outside_lr_pixel:.1%} of the weight; 99 % lies in "
        f"{figures.support_99_percent}×{figures.support_99_percent} px",
        *([f"negative weights: {figures.negative_share:.1%}"] if figures.negative_share > 0.001 else []),
    ]


def _pair(values: tuple[float, float], isotropic: bool, digits: int = 2) -> str:
    return f"{values[0]:.{digits}f}" if isotropic else " / ".join(f"{v:.{digits}f}" for v in values)
