"""`blindsr estimate-and-upscale`: the main job."""

from pathlib import Path

import click

from blindsr.cli._batch_options import Batch, batch_options, photos_argument
from blindsr.cli._options import Common, common_options

__all__ = ["command"]


@click.command(
    "estimate-and-upscale",
    short_help="The main job: estimate the kernel, then upscale.",
    epilog="Example: blindsr estimate-and-upscale photo.jpg --scale 2 --preset best -o larger.png",
)
@photos_argument
@click.option("--report", is_flag=True, help="Write a page (.html) with a before/after slider beside the result.")
@common_options()
@batch_options()
def command(batch: Batch, common: Common, photos: tuple[Path, ...], report: bool) -> None:
    """Estimate the kernel of each PHOTO, and upscale it.

    Beside the result are written the kernel (.kernel.npz), its picture (.kernel.png) and a record of the
    run (.json). PHOTO may be a folder or a glob, and - is standard input.

    Of many, -o names the folder of the results, and --device may be a list (cuda:0,cuda:1). One that fails is
    said and the others go on; interrupted and run again, what is done is kept.
    """
    from blindsr.cli._photos import run_photos
    from blindsr.cli._settings import make_run

    run = make_run(common)
    run_photos(common, batch, photos, run, {"files": run.files, "max_memory": run.max_memory}, report=report)
