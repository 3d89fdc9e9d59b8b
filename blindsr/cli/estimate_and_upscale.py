"""`blindsr estimate-and-upscale`: the main job."""

from pathlib import Path

import click

from blindsr.cli._options import PHOTO, Common, common_options

__all__ = ["command"]


@click.command(
    "estimate-and-upscale",
    short_help="The main job: estimate the kernel, then upscale.",
    epilog="Example: blindsr estimate-and-upscale photo.jpg --scale 2 --preset best -o larger.png",
)
@click.argument("photo", type=PHOTO)
@click.option("--report", is_flag=True, help="Write a page (.html) with a before/after slider beside the result.")
@common_options()
def command(common: Common, photo: Path, report: bool) -> None:
    """Estimate the kernel of PHOTO, and upscale PHOTO with it.

    Beside the result are written the kernel (.kernel.npz), its picture (.kernel.png) and a record of the
    run (.json).
    """
    from blindsr.cli._progress import listening
    from blindsr.cli._settings import make_run
    from blindsr.cli._show import show
    from blindsr.pipelines.photo import upscale_photo
    from blindsr.runtime import set_threads

    run = make_run(common)
    set_threads(run.threads)
    if report:
        from blindsr.image_io import check_output
        from blindsr.report.photo import report_for_photo, report_path

        page = report_path(photo, run.settings.scale, common.output)
        check_output(page, overwrite=common.force)
    with listening(quiet=common.quiet, verbose=common.verbose) as listener:
        result = upscale_photo(
            photo,
            run.settings,
            output=common.output,
            overwrite=common.force,
            device=run.device,
            listener=listener,
        )
        if report:
            listener.line(f"report: {report_for_photo(photo, result, page, overwrite=common.force)}")
    show(result, common, listener)
