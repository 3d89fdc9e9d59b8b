"""`blindsr kernel from-psf`: from a measured point spread function."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from blindsr.cli._options import PHOTO
from blindsr.cli.kernel._finish import Making, finish, making_options

if TYPE_CHECKING:
    from blindsr.sensors.design import KernelModel

__all__ = ["from_psf"]


@click.command(
    "from-psf",
    short_help="From a measured PSF.",
    epilog="Example: blindsr kernel from-psf bead.tif --samples-per-pixel 4 --center centroid",
)
@click.argument("psf", metavar="FILE", type=PHOTO)
@click.option(
    "--samples-per-pixel",
    type=click.FloatRange(0.25, 100),
    help="Samples of the PSF per LR pixel.  [default: the scale: it lies on the result's pixels]",
)
@click.option(
    "--model",
    type=click.Choice(["psf", "ratio"]),
    default="ratio",
    show_default=True,
    help="ratio: a result as soft per pixel as the photograph is; psf: a sharp one.",
)
@click.option(
    "--center",
    type=click.Choice(["middle", "centroid"]),
    default="middle",
    show_default=True,
    help="What becomes the kernel's centre: the middle of the frame, or the centre of mass of the light.",
)
@click.option("--keep-background", is_flag=True, help="Take no background off.")
@click.option("--add-detector", is_flag=True, help="The PSF is that of the optics alone: blur by the pixel as well.")
@click.option("--index", type=click.IntRange(0), help="Which array of a file that holds several, from 0.")
@making_options()
def from_psf(
    making: Making,
    psf: Path,
    samples_per_pixel: float | None,
    model: "KernelModel",
    center: Literal["middle", "centroid"],
    keep_background: bool,
    add_detector: bool,
    index: int | None,
) -> None:
    """The kernel of a camera whose PSF was measured: a star, a bead, a pinhole, or an array.

    FILE is a picture (.tif, .png) or an array (.npy, .npz, .mat, .txt, .csv), of any sum, on any background.
    """
    from blindsr.kernels.figures import kernel_cautions
    from blindsr.pipelines.psf_files import read_psf
    from blindsr.sensors.measured import MeasuredPSF, kernel_from_psf

    values, notes = read_psf(psf, index=index)
    how = MeasuredPSF(
        samples_per_pixel=samples_per_pixel,
        model=model,
        centre=center,
        background=not keep_background,
        detector=add_detector,
        size=making.size,
        notes=notes,
    )
    kernel, said = kernel_from_psf(values, making.scale, how)
    finish(making, kernel, psf.stem, (*said, *kernel_cautions(kernel)))
