"""`blindsr estimate-kernel`: the kernel alone."""

from pathlib import Path

import click

from blindsr.cli._options import PHOTO, Common, common_options

__all__ = ["command"]


@click.command(
    "estimate-kernel",
    short_help="Estimate the kernel alone.",
    epilog="Example: blindsr estimate-kernel photo.jpg --estimator kernelgan -o photo.kernel.npz",
)
@click.argument("photo", type=PHOTO)
@common_options(
    without=("start", "zssr_setting", "precision", "size", "max_memory", "output_format", "quality", "strip_metadata")
)
def command(common: Common, photo: Path) -> None:
    """Estimate the kernel of PHOTO: the blur between it and a sharp, larger version.

    Written are the kernel (.kernel.npz; with -o also .npy, or .mat as KernelGAN writes it), its picture and
    a record.
    """
    from blindsr.cli._progress import listening
    from blindsr.cli._settings import make_run
    from blindsr.cli._show import show
    from blindsr.pipelines.photo import estimate_photo_kernel
    from blindsr.runtime import prepare_process

    run = make_run(common)
    prepare_process(run.threads)
    with listening(quiet=common.quiet, verbose=common.verbose) as listener:
        result = estimate_photo_kernel(
            photo,
            run.settings,
            output=common.output,
            overwrite=common.force,
            device=run.device,
            files=run.files,
            listener=listener,
        )
    show(result, common, listener)
