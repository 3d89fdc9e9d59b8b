"""`blindsr estimate-and-upscale`, `upscale` and `estimate-kernel`: one photograph, a pipe, or a batch."""

import errno
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blindsr.cli.options import PHOTOS, STDIO, Options, command, with_options
from blindsr.cli.types import PHOTO

if TYPE_CHECKING:
    from blindsr.cli.settings import Run

__all__ = ["estimate_and_upscale", "estimate_kernel", "upscale"]


@command("estimate-and-upscale", "Estimate the kernel of a photograph, then upscale it.",
    "estimate-and-upscale photo.jpg --scale 2 --preset best -o larger.png",
    PHOTOS, with_options("Common", "Dial", "Method", "File", "Batch", "Machine", "Cluster", "Output"),
)  # fmt: skip
def estimate_and_upscale(options: Options, photos: tuple[Path, ...]) -> None:
    """Estimate the kernel of each PHOTO, and upscale it with that kernel.

    The kernel is the blur between PHOTO and a sharp, larger version of it: how lens, sensor and motion spread the light
    of one point over the pixels. It is estimated from PHOTO itself.

    The kernel (.kernel.npz), its plot (.kernel.png) and a record of the run (.json) are written beside the result.
    PHOTO may be a folder or a glob pattern, and - is standard input.

    With several photographs, -o names the folder of the results. Failures are reported and the batch continues;
    interrupted and run again, it keeps what is finished.
    """
    from blindsr.cli.settings import make_run

    _run(options, photos, make_run(options), {})


@command("upscale", "Upscale with a known kernel.", "upscale photo.tif --sensor sentinel2:B4 --scale 2",
    PHOTOS,
    with_options(
        "Common", "Dial", "Known kernel", "File", "Machine", "Cluster", "Output",
        "upscaler", "init", "zssr_setting", "align_colors", "noise", "seed", "config",
        "recursive", "name_template", "skip_existing", "dry_run", "jobs", "manifest", "retries",
        scale="Output size over input size, up to 8; 1 deblurs without enlarging. Two numbers such as 2x3 are "
        "horizontal and vertical. Where it is left out, a kernel file that states its scale is used at that one.",
    ),
)  # fmt: skip
def upscale(options: Options, photos: tuple[Path, ...]) -> None:
    """Upscale each PHOTO with a known kernel: --kernel or --sensor.

    The kernel is the blur between PHOTO and a sharp, larger version of it; without knowing it, use
    `blindsr estimate-and-upscale`. The kernel as it was used (.kernel.npz), its plot (.kernel.png) and a record of the
    run (.json) are written beside the result. PHOTO may be a folder or a glob pattern, and - is standard input.

    With several photographs, -o names the folder of the results. Failures are reported and the batch continues;
    interrupted and run again, it keeps what is finished.
    """
    from blindsr.cli.settings import at_scale_of_kernel, kernel_scale, load_known_kernel, make_run

    run = make_run(options)
    if options.kernel is None and options.sensor is None and options.kernel_map is None:
        raise click.UsageError(
            "a known kernel is needed: --kernel FILE|NAME, --kernel-map FILE or --sensor NAME[:BAND]|SPEC.toml; to "
            "estimate it: blindsr estimate-and-upscale PHOTO …"
        )
    run = at_scale_of_kernel(run, options)
    scale = kernel_scale(run.settings, photos, recursive=options.recursive)
    kernel, warnings = load_known_kernel(options, scale)
    known = {"kernel": kernel, "kernel_warnings": warnings, "linear_light": options.linear_light or "auto"}
    _run(options, photos, run, known)


@command("estimate-kernel", "Estimate the kernel of a photograph.",
    "estimate-kernel photo.jpg --estimator kernelgan -o photo.kernel.npz",
    click.argument("photos", metavar="PHOTO", type=PHOTO, nargs=-1, required=True),
    with_options(
        "output", "scale", "preset", "force", "estimator", "region", "varying", "align_colors", "seed", "config",
        "page", "alpha", "max_pixels", "device", "threads", "Output",
        output="Kernel file to write (.npz, .npy, or .mat in KernelGAN's convention), or a folder for it (a new one is "
        "named with a slash at its end); plot and record get the same stem.  [default: beside PHOTO, as "
        "PHOTO_blindsr_x2.kernel.npz]",
        scale="Scale that the kernel is for, up to 8; a real one is rounded up to 2, 3, 4, 6 or 8, and that of 1, "
        "which deblurs, is for 2.",
        preset="paper estimates the kernel by KernelGAN; the other presets differ in the upscaling alone, and give the "
        "same kernel.",
        page="Page of a multi-page TIFF, or frame of an animation, counted from 1; the names of the results have it. "
        "all is for the commands that upscale.",
        device="Processor: auto, cpu, cuda, cuda:N or mps.",
    ),
)  # fmt: skip
def estimate_kernel(options: Options, photos: tuple[Path, ...]) -> None:
    """Estimate the kernel of PHOTO: the blur between it and a sharp, larger version of it.

    The kernel (.kernel.npz), its plot (.kernel.png) and a record of the run (.kernel.json) are written.
    """
    from blindsr.cli.output import ProgressListener, prepare_threads, results_folder, show
    from blindsr.cli.settings import make_run
    from blindsr.pipelines.files import estimate_file_kernel
    from blindsr.pipelines.outputs import kernel_outputs

    if len(photos) > 1:
        raise click.UsageError(
            f"estimate-kernel takes one photograph, got {len(photos)}; for one kernel of several photographs: blindsr "
            "estimate-and-upscale PHOTOS --shared-kernel; for a pool of kernels: blindsr kernel pool"
        )
    (photo,) = photos
    if STDIO in (photo, options.output and options.output.path):
        raise click.UsageError(
            "estimate-kernel reads a file and writes files; - is for estimate-and-upscale and upscale."
        )
    run = make_run(options)
    prepare_threads(run.threads, quiet=options.quiet)
    with ExitStack() as stack:
        output = None if options.output is None else options.output.path
        if options.output is not None and options.output.is_folder:
            folder = stack.enter_context(results_folder(options.output.path))
            output = folder / kernel_outputs(run.files.named(photo), run.settings.label).kernel.name
        listener = stack.enter_context(ProgressListener(quiet=options.quiet, verbose=options.verbose))
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


def _run(options: Options, photos: Sequence[Path], run: "Run", known: dict[str, Any]) -> None:
    """Upscale what was named; `known` are the arguments of `upscale_file` about a known kernel."""
    from blindsr.batch.inputs import is_pattern
    from blindsr.cli.output import prepare_threads

    given = options.given("Batch", "Cluster")
    several = len(photos) > 1 or bool(given) or "," in run.device
    if STDIO in photos or (options.output is not None and options.output.path == STDIO):
        if several:
            raise click.UsageError(
                f"- is a single image; it cannot be combined with {', '.join(given) or 'several photographs'}."
            )
        _check_pipe(options)
    elif several or os.path.isdir(photos[0]) or is_pattern(photos[0]):  # noqa: PTH112 # False for a name too long
        _check_batch(options)
        prepare_threads(run.threads, quiet=options.quiet)
        _run_batch(options, photos, run, known)
        return
    prepare_threads(run.threads, quiet=options.quiet)
    _run_one(options, photos[0], run, known)


def _check_pipe(options: Options) -> None:
    """Refuse what has no place in a pipe, such as a terminal where the image would go."""
    if options.output is not None and options.output.is_folder:
        raise click.UsageError("- is a single image without a name; name a file by -o, not a folder.")
    if options.output is not None and options.output.path != STDIO:
        return
    if options.report or options.as_json:
        raise click.UsageError("--report and --json need a file: the image goes to standard output; name a file by -o.")
    if sys.stdout.isatty():
        raise click.UsageError("the image would go to the terminal; redirect it, or name a file by -o.")


def _run_one(options: Options, photo: Path, run: "Run", known: dict[str, Any]) -> None:
    """Upscale one photograph; standard input and output are files of a temporary folder, without sidecar files."""
    from blindsr.cli.output import ProgressListener, results_folder, say_of_kernel, show, summary
    from blindsr.errors import ImageError
    from blindsr.evaluation.report.comparison import report_for_photo, report_path
    from blindsr.image_io import check_output
    from blindsr.pipelines.files import upscale_file
    from blindsr.pipelines.outputs import image_outputs

    output, stem = _output_file(options), None
    is_stdin = photo == STDIO
    is_piped = is_stdin or (options.output is not None and options.output.path == STDIO)
    with ExitStack() as stack:
        if is_piped:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blindsr-")))
            photo = _source(photo, folder)
            # Without a name the photograph decides on the format: PNG, or TIFF for what PNG cannot hold.
            stem = folder / "result" if output is None else None
        elif options.output is not None and options.output.is_folder:
            folder = stack.enter_context(results_folder(options.output.path))
            stem = folder / image_outputs(run.files.named(photo), run.settings.label, ".png").record.stem
        page = None
        if options.report:
            named = run.files.named(photo)
            page = report_path(named, run.settings.label, output or (stem and stem.with_name(stem.name + ".png")))
            check_output(page, overwrite=options.force)
        listener = stack.enter_context(ProgressListener(quiet=options.quiet, verbose=options.verbose))
        say_of_kernel(listener, options, known.get("kernel_warnings", ()))
        try:
            result = upscale_file(
                photo,
                run.settings,
                output=output,
                output_stem=stem,
                overwrite=options.force,
                device=run.device,
                files=run.files,
                max_memory=run.max_memory,
                listener=listener,
                **known,
            )
        except ImageError as error:
            if not is_stdin:
                raise
            raise ImageError(str(error).replace(str(photo), "standard input")) from error
        image = result.outputs.result
        if is_piped and output is None:
            _write_to_pipe(image.read_bytes())
            summary(result, listener, files="to standard output")
            return
        if page is not None:
            report_for_photo(photo, image, result.kernel, result.record, page, overwrite=options.force)
            listener.line(f"report: {page}")
    show(result, options, listener)


def _write_to_pipe(content: bytes) -> None:
    from blindsr.errors import OutputError, reason_of

    try:
        click.echo(content, nl=False)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise OutputError(
            f"standard output took no image ({reason_of(error)}); write to another place, or name a file by -o."
        ) from error


def _output_file(options: Options) -> Path | None:
    """The file that -o names; None for a folder, standard output, or where it is left out."""
    if options.output is None or options.output.is_folder or options.output.path == STDIO:
        return None
    path = options.output.path
    if not path.suffix:  # it may be meant for a folder
        raise click.UsageError(f"-o {path} has no suffix: write {path}/ for a folder, or {path}.png for a file.")
    return path


def _source(photo: Path, folder: Path) -> Path:
    """The file itself, or standard input as a file in a folder."""
    from blindsr.errors import ImageError

    if photo != STDIO:
        return photo
    if sys.stdin.isatty():
        raise click.UsageError("- reads an image from standard input, which is the terminal; redirect a file into it.")
    data = sys.stdin.buffer.read()
    if not data:
        raise ImageError("standard input is empty; expected an image, for example: blindsr … - < photo.jpg")
    path = folder / "stdin"
    path.write_bytes(data)
    return path


def _check_batch(options: Options) -> None:
    """Refuse options that contradict each other."""
    from blindsr.image_io import format_of

    output = options.output
    if output is not None and not output.is_folder and (output.path.is_file() or format_of(output.path) is not None):
        raise click.UsageError(
            "with several photographs, or an option of batches such as --dry-run, -o names a folder, got "
            f"{str(output.path)!r}; choose file names by --name."
        )
    if options.shared_kernel and options.varying:
        raise click.UsageError("--shared-kernel is one kernel for all photographs; leave out --varying.")
    if options.skip_existing and options.force:
        raise click.UsageError("--skip-existing keeps results and --force replaces them; give one of them.")
    dask = options.executor == "dask"
    if dask != (options.scheduler is not None):
        raise click.UsageError("--executor dask and --scheduler ADDRESS belong together; give both.")
    if options.task_resources is not None and not dask:
        raise click.UsageError("--task-resources is for --executor dask.")
    if dask and options.jobs is not None:
        raise click.UsageError("--jobs is for this machine; on a Dask cluster the workers decide how many run at once.")
    if options.executor == "inline" and (options.jobs or 1) > 1:
        raise click.UsageError("--executor inline is one process; leave --jobs out.")


def _run_batch(options: Options, photos: Sequence[Path], run: "Run", known: dict[str, Any]) -> None:
    from blindsr.batch.inputs import DEFAULT_NAME
    from blindsr.batch.run import upscale_files
    from blindsr.cli.batch_output import BatchProgress, show_plan, show_summary
    from blindsr.cli.output import say_of_kernel

    with BatchProgress(as_json=options.as_json, quiet=options.quiet, verbose=options.verbose) as progress:
        say_of_kernel(progress, options, known.get("kernel_warnings", ()))
        result = upscale_files(
            photos,
            None if options.output is None else options.output.path,
            settings=run.settings,
            preset=run.preset,
            files=run.files,
            name=options.name_template or DEFAULT_NAME,
            recursive=options.recursive,
            overwrite=options.force,
            skip_existing=options.skip_existing,
            shared_kernel=options.shared_kernel,
            report=options.report,
            manifest=options.manifest,
            executor=options.executor or "processes",  # type: ignore[arg-type]
            jobs=options.jobs,
            device=run.device,
            threads=run.threads,
            max_memory=run.max_memory,
            retries=2 if options.retries is None else options.retries,
            scheduler=options.scheduler,
            task_resources=options.task_resources,
            dry_run=options.dry_run,
            listener=progress,
            **known,
        )
    if options.dry_run:
        show_plan(result, as_json=options.as_json)
        if result.count("failed"):
            raise SystemExit(1)
        return
    show_summary(result, quiet=options.quiet, printed=progress.printed)
    if not result.complete:
        raise SystemExit(1)
