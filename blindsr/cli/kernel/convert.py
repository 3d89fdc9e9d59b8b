"""`blindsr kernel convert`: between conventions, formats and scales."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blindsr.cli._kernel import CONVENTIONS
from blindsr.cli._options import PHOTO
from blindsr.cli.kernel._finish import say

if TYPE_CHECKING:
    from blindsr.kernels.conventions import Convention

__all__ = ["convert"]


@click.command(
    "convert",
    short_help="Between conventions, formats and scales.",
    epilog="Example: blindsr kernel convert kernels_12.mat k.npz --kernel-index 3 --from-convention kair",
)
@click.argument("source", metavar="IN", type=PHOTO)
@click.argument("target", metavar="OUT", type=PHOTO)
@click.option(
    "--from-convention",
    type=click.Choice(["auto", *CONVENTIONS]),
    default="auto",
    show_default=True,
    help="Whose convention IN follows.",
)
@click.option(
    "--to-convention",
    type=click.Choice(CONVENTIONS),
    help="Whose convention OUT shall follow.  [default: kernelgan for .mat, ours for the others]",
)
@click.option("--from-scale", type=click.IntRange(1, 8), help="That IN is for.  [default: what it says, or 2]")
@click.option("--to-scale", type=click.IntRange(2, 8), help="Carry it over to this scale.  [default: that of IN]")
@click.option(
    "--own-blur",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Of --to-scale: 1 takes HR for as soft per pixel as LR, 0 for sharp.",
)
@click.option("--kernel-key", metavar="NAME", help="Name of the array in IN.")
@click.option("--kernel-index", type=click.IntRange(0), help="Which kernel of IN, counted from 0.")
@click.option("--recenter", is_flag=True, help="Move the centre of mass onto the middle.")
@click.option("--force", is_flag=True, help="Overwrite OUT if it exists.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr.")
def convert(
    source: Path,
    target: Path,
    from_convention: str,
    to_convention: "Convention | None",
    from_scale: int | None,
    to_scale: int | None,
    own_blur: float,
    kernel_key: str | None,
    kernel_index: int | None,
    recenter: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Read the kernel IN and write it as OUT (.npz, .mat, .npy, .txt, .csv).

    What OUT does in its own convention's operation is what IN does in its own: nothing is moved but by --recenter.
    """
    from blindsr.cli._kernel import load_kernel, one_kernel
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels import resample
    from blindsr.kernels.files import kernel_bytes, stated_scale

    check_output(target, overwrite=force)
    factor = from_scale or stated_scale(source) or 2
    loaded, notes = load_kernel(
        str(source),
        factor,
        None if from_convention == "auto" else from_convention,  # type: ignore[arg-type]
        key=kernel_key,
        index=kernel_index,
        recentre=recenter,
    )
    kernel = one_kernel(loaded)
    if to_scale is not None and to_scale != factor:
        kernel = resample(kernel, to_scale, own_blur=own_blur)
        notes = (*notes, f"carried over from ×{factor} to ×{to_scale} by the law cov ∝ s² − {own_blur:g}.")
    atomic_write_bytes(target, kernel_bytes(kernel, target.suffix.lower(), to_convention), overwrite=force)
    say(notes, quiet=quiet)
    click.echo(str(target))
