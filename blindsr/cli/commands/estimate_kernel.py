"""`blindsr estimate-kernel`: the kernel alone."""

from contextlib import ExitStack
from pathlib import Path

import click

from blindsr.cli.options import STDIO, GroupedCommand, Options, with_options
from blindsr.cli.types import PHOTO

__all__ = ["estimate_kernel"]


@click.command(
    "estimate-kernel",
    cls=GroupedCommand,
    short_help="Estimate the kernel of a photograph.",
    epilog="Example: blindsr estimate-kernel photo.jpg --estimator kernelgan -o photo.kernel.npz",
)
@click.argument("photo", type=PHOTO)
@with_options(
    "output", "scale", "preset", "force", "estimator", "region", "seed", "config", "page", "max_pixels", "device",
    "threads", "Output",
    output="Kernel file to write (.npz, .npy, or .mat in KernelGAN's convention), or a folder for it (a new one is "
    "named with a slash at its end); plot and record get the same stem.  [default: beside PHOTO, as "
    "PHOTO_blindsr_x2.kernel.npz]",
    scale="Scale that the kernel is for, up to 8; a real one is rounded up to 2, 3, 4, 6 or 8, and that of 1, which "
    "deblurs, is for 2.",
    preset="paper estimates the kernel by KernelGAN; the other presets differ in the upscaling alone, and give the "
    "same kernel.",
    device="Processor: auto, cpu, cuda, cuda:N or mps.",
)  # fmt: skip
def estimate_kernel(options: Options, photo: Path) -> None:
    """Estimate the kernel of PHOTO: the blur between it and a sharp, larger version of it.

    The kernel (.kernel.npz), its plot (.kernel.png) and a record of the run (.kernel.json) are written.
    """
    from blindsr.cli.output import listening, results_folder, show
    from blindsr.cli.settings import make_run
    from blindsr.pipelines.files import estimate_file_kernel
    from blindsr.pipelines.outputs import kernel_outputs
    from blindsr.runtime import prepare_process

    if STDIO in (photo, options.output and options.output.path):
        raise click.UsageError(
            "estimate-kernel reads a file and writes files; - is for estimate-and-upscale and upscale."
        )
    run = make_run(options)
    prepare_process(run.threads)
    with ExitStack() as stack:
        output = None if options.output is None else options.output.path
        if options.output is not None and options.output.is_folder:
            folder = stack.enter_context(results_folder(options.output.path))
            output = folder / kernel_outputs(photo, run.settings.label).kernel.name
        listener = stack.enter_context(listening(quiet=options.quiet, verbose=options.verbose))
        result = estimate_file_kernel(
            photo,
            run.settings,
            output=output,
            overwrite=options.force,
            device=run.device,
            files=run.files,
            listener=listener,
        )
    show(result, options, listener)
