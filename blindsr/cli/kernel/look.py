"""`blindsr kernel show` and `blindsr kernel compare`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blindsr.cli._kernel import KernelChoice, kernel_options
from blindsr.cli.kernel._finish import figure_lines, say

if TYPE_CHECKING:
    from blindsr.kernels import Kernel

__all__ = ["compare", "show"]

_HOW = kernel_options(without=("kernel", "sensor", "kernel_model", "linear_light"))
_SCALE = click.option(
    "--scale", type=click.IntRange(1, 8), help="That the kernel is for.  [default: what the file says, or 2]"
)


def _scale_of(text: str, scale: int | None) -> int:
    from blindsr.kernels.files import stated_scale

    stated = stated_scale(text) if Path(text).is_file() else None
    return scale or stated or 2


def _load(text: str, choice: KernelChoice, scale: int | None) -> "tuple[Kernel, tuple[str, ...], int]":
    from blindsr.cli._kernel import load_kernel, one_kernel

    factor = _scale_of(text, scale)
    kernel, notes = load_kernel(
        text,
        factor,
        choice.kernel_convention,
        key=choice.kernel_key,
        index=choice.kernel_index,
        recentre=choice.recenter,
    )
    return one_kernel(kernel), notes, factor


@click.command(
    "show", short_help="Figures and a picture.", epilog="Example: blindsr kernel show photo.kernel.npz -o kernel.png"
)
@click.argument("kernel", metavar="FILE|NAME")
@_SCALE
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a picture (.png).")
@click.option("--force", is_flag=True, help="Overwrite a picture that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@_HOW
def show(choice: KernelChoice, kernel: str, scale: int | None, output: Path | None, force: bool, as_json: bool) -> None:
    """Say what a kernel is: widths, direction, contrast, centre. Lengths are in pixels of the result."""
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels.figures import describe
    from blindsr.kernels.picture import kernel_picture

    if output is not None:
        if output.suffix.lower() != ".png":
            raise click.BadParameter(f"a picture must end in .png, got {output.name}.", param_hint="-o")
        check_output(output, overwrite=force)
    found, notes, _ = _load(kernel, choice, scale)
    figures = describe(found)
    say(notes)
    if output is not None:
        atomic_write_bytes(output, kernel_picture(found), overwrite=force)
        click.echo(f"picture: {output}", err=True)
    if as_json:
        origin = json.loads(json.dumps(dict(found.provenance), default=str))
        click.echo(json.dumps({**figures.as_dict(), "provenance": origin, "notes": list(notes)}, ensure_ascii=False))
        return
    for line in figure_lines(figures):
        click.echo(line)
    if found.provenance:
        click.echo("origin: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in found.provenance.items()))


@click.command(
    "compare",
    short_help="Two kernels against each other.",
    epilog="Example: blindsr kernel compare estimated.npz true.mat --scale 2",
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@_SCALE
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@_HOW
def compare(choice: KernelChoice, first: str, second: str, scale: int | None, as_json: bool) -> None:
    """Say how B differs from A. The options of files apply to both."""
    from blindsr.kernels.figures import compare as difference_of

    a, notes_a, factor = _load(first, choice, scale or (None if Path(first).is_file() else _scale_of(second, None)))
    b, notes_b, _ = _load(second, choice, factor)
    found = difference_of(a, b)
    say([f"A: {note}" for note in notes_a] + [f"B: {note}" for note in notes_b])
    if as_json:
        click.echo(json.dumps(found.as_dict(), ensure_ascii=False))
        return
    y, x = found.shift_yx
    click.echo(f"similarity (NCC, centres aligned): {found.similarity:.4f}")
    click.echo(f"covariance error: {found.covariance_error:.3f}")
    click.echo(f"width of B over that of A: {found.width_ratio:.3f}")
    click.echo(f"centre of B from that of A: ({y:+.3f}, {x:+.3f}) HR px (y, x)")
    click.echo(f"largest difference of the MTF: {found.largest_mtf_difference:.3f}")
    apart = "the same" if math.isinf(found.lr_psnr) else f"{found.lr_psnr:.1f} dB apart"
    click.echo(f"LR images of one scene: {apart}")
