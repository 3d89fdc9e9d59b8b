"""`blindsr upscale`: with a kernel that is known."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blindsr.cli._options import PHOTO, Common, common_options

if TYPE_CHECKING:
    from blindsr.kernels.conventions import Convention

__all__ = ["command"]


@click.command(
    "upscale",
    short_help="Upscale with a kernel that is known.",
    epilog="Example: blindsr upscale photo.png --kernel gaussian:1.2 --scale 2",
)
@click.argument("photo", type=PHOTO)
@click.option(
    "--kernel",
    required=True,
    metavar="FILE|NAME",
    help="A kernel file (.npz, .npy, .mat), or bicubic, box, gaussian:SIGMA, gaussian:SX,SY,ANGLE; "
    "sigmas in pixels of the result, ANGLE in degrees.",
)
@click.option(
    "--kernel-convention",
    type=click.Choice(["ours", "kernelgan", "generator", "fkp", "mzsr", "kair"]),
    help="Whose convention the kernel file follows.  [default: detected, and said]",
)
@common_options(without=("estimator", "region"))
def command(common: Common, photo: Path, kernel: str, kernel_convention: "Convention | None") -> None:
    """Upscale PHOTO with a kernel that is known.

    Beside the result are written the kernel as it was used (.kernel.npz), its picture (.kernel.png) and a
    record of the run (.json).
    """
    from blindsr.cli._kernel import load_kernel
    from blindsr.cli._progress import listening
    from blindsr.cli._settings import make_run
    from blindsr.cli._show import show
    from blindsr.pipelines.photo import upscale_photo
    from blindsr.runtime import set_threads

    run = make_run(common)
    set_threads(run.threads)
    known, notes = load_kernel(kernel, run.settings.network_scale, kernel_convention)
    with listening(quiet=common.quiet, verbose=common.verbose) as listener:
        for note in notes:
            listener.note(note)
        result = upscale_photo(
            photo,
            run.settings,
            kernel=known,
            kernel_notes=notes,
            output=common.output,
            overwrite=common.force,
            device=run.device,
            listener=listener,
        )
    show(result, common, listener)
