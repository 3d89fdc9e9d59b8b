"""`blindsr upscale`: with a kernel that is known."""

from pathlib import Path

import click

from blindsr.cli._batch_options import Batch, batch_options, photos_argument
from blindsr.cli._kernel import KernelChoice, kernel_options
from blindsr.cli._options import Common, common_options

__all__ = ["command"]


@click.command(
    "upscale",
    short_help="Upscale with a kernel that is known.",
    epilog="Example: blindsr upscale photo.tif --sensor sentinel2:B4 --scale 2",
)
@photos_argument
@kernel_options()
@common_options(without=("estimator", "region"))
@batch_options(without=("shared_kernel",))
def command(
    batch: Batch,
    common: Common,
    choice: KernelChoice,
    photos: tuple[Path, ...],
) -> None:
    """Upscale each PHOTO with a kernel that is known: --kernel or --sensor.

    Beside the result are written the kernel as it was used (.kernel.npz), its picture (.kernel.png) and a
    record of the run (.json). PHOTO may be a folder or a glob, and - is standard input.
    Of many, -o names the folder of the results, and one that fails does not stop the others.
    """
    from blindsr.cli._photos import run_photos
    from blindsr.cli._settings import make_run, network_scale

    run = make_run(common)
    known, notes = choice.load(network_scale(run.settings, photos[0]))
    run_photos(
        common,
        batch,
        photos,
        run,
        {
            "kernel": known,
            "kernel_notes": notes,
            "linear_light": choice.linear_light,
            "files": run.files,
            "max_memory": run.max_memory,
        },
    )
