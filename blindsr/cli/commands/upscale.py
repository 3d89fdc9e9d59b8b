"""`blindsr estimate-and-upscale` and `blindsr upscale`: one photograph, a pipe, or a batch."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blindsr.cli.options import STDIO, GroupedCommand, Options, photos_argument, with_options

if TYPE_CHECKING:
    from blindsr.cli.output import ProgressListener
    from blindsr.cli.settings import Run
    from blindsr.pipelines.files import FileResult

__all__ = ["estimate_and_upscale", "upscale"]

_GROUPS = ("Common", "Method", "Files", "Batch", "Machine", "Cluster", "Output")


@click.command(
    "estimate-and-upscale",
    cls=GroupedCommand,
    short_help="Estimate the kernel of a photograph, then upscale it.",
    epilog="Example: blindsr estimate-and-upscale photo.jpg --scale 2 --preset best -o larger.png",
)
@photos_argument
@with_options(*_GROUPS)
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


@click.command(
    "upscale",
    cls=GroupedCommand,
    short_help="Upscale with a known kernel.",
    epilog="Example: blindsr upscale photo.tif --sensor sentinel2:B4 --scale 2",
)
@photos_argument
@with_options(
    *(group for group in _GROUPS if group not in ("Method", "Batch")),
    "Known kernel",
    *("upscaler", "init", "zssr_setting", "noise", "seed", "config"),
    *("recursive", "name_template", "skip_existing", "dry_run", "jobs", "manifest", "retries"),
)
def upscale(options: Options, photos: tuple[Path, ...]) -> None:
    """Upscale each PHOTO with a known kernel: --kernel or --sensor.

    The kernel is the blur between PHOTO and a sharp, larger version of it; without knowing it, use
    `blindsr estimate-and-upscale`. The kernel as it was used (.kernel.npz), its plot (.kernel.png) and a record of the
    run (.json) are written beside the result. PHOTO may be a folder or a glob pattern, and - is standard input.

    With several photographs, -o names the folder of the results. Failures are reported and the batch continues;
    interrupted and run again, it keeps what is finished.
    """
    from blindsr.cli.settings import kernel_scale, load_known_kernel, make_run

    run = make_run(options)
    if options.kernel is None and options.sensor is None:
        raise click.UsageError(
            "a known kernel is needed: --kernel FILE|NAME or --sensor NAME[:BAND]|SPEC.toml; to estimate it: "
            "blindsr estimate-and-upscale PHOTO …"
        )
    scale = kernel_scale(run.settings, photos, recursive=options.recursive)
    kernel, warnings = load_known_kernel(options, scale)
    known = {"kernel": kernel, "kernel_warnings": warnings, "linear_light": options.linear_light or "auto"}
    _run(options, photos, run, known)


def _run(options: Options, photos: Sequence[Path], run: "Run", known: dict[str, Any]) -> None:
    """Upscale what was named.

    Args:
        options: The options.
        photos: Files, folders, glob patterns, or "-" alone.
        run: Settings, machine and files.
        known: Arguments of `upscale_file` about a known kernel.
    """
    from blindsr.runtime import prepare_process

    if STDIO in photos or (options.output is not None and options.output.path == STDIO):
        _check_pipe(options, photos, run.device)
        prepare_process(run.threads)
        _run_pipe(options, photos[0], run, known)
    elif _is_batch(photos, options, run.device):
        prepare_process(run.threads)
        _run_batch(options, photos, run, known)
    else:
        prepare_process(run.threads)
        _run_one(options, photos[0], run, known)


def _is_batch(photos: Sequence[Path], options: Options, device: str) -> bool:
    """Whether a call is about many photographs; one file without options of a batch is not."""
    from blindsr.batch.inputs import is_pattern

    several = len(photos) > 1 or photos[0].is_dir() or is_pattern(photos[0])
    return several or bool(options.given("Batch", "Cluster")) or "," in device


def _run_one(options: Options, photo: Path, run: "Run", known: dict[str, Any]) -> None:
    from blindsr.cli.output import listening, results_folder, show
    from blindsr.evaluation.report import report_path
    from blindsr.image_io import check_output
    from blindsr.pipelines.files import upscale_file
    from blindsr.pipelines.outputs import image_outputs

    with ExitStack() as stack:
        output, stem = _output_file(options), None
        if options.output is not None and options.output.is_folder:
            folder = stack.enter_context(results_folder(options.output.path))
            stem = folder / image_outputs(photo, run.settings.label, ".png").record.stem
        if options.report:
            page = report_path(photo, run.settings.label, output or (stem and stem.with_name(stem.name + ".png")))
            check_output(page, overwrite=options.force)
        listener = stack.enter_context(listening(quiet=options.quiet, verbose=options.verbose))
        for warning in known.get("kernel_warnings", ()):
            listener.warn(warning)
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
        if options.report:
            listener.line(f"report: {_write_report(photo, result, page, options)}")
    show(result, options, listener)


def _output_file(options: Options) -> Path | None:
    """The file that -o names; None for a folder, standard output, or where it is left out.

    Raises:
        click.UsageError: The name has no suffix, so that it may be meant for a folder.
    """
    if options.output is None or options.output.is_folder or options.output.path == STDIO:
        return None
    path = options.output.path
    if not path.suffix:
        raise click.UsageError(f"-o {path} has no suffix: write {path}/ for a folder, or {path}.png for a file.")
    return path


def _run_batch(options: Options, photos: Sequence[Path], run: "Run", known: dict[str, Any]) -> None:
    from blindsr.batch.inputs import DEFAULT_NAME
    from blindsr.batch.run import upscale_files
    from blindsr.cli.batch_output import batch_progress, show_plan, show_summary

    _check_batch(options)
    with batch_progress(as_json=options.as_json, quiet=options.quiet, verbose=options.verbose) as progress:
        for warning in known.get("kernel_warnings", ()):
            progress.line(f"warning: {warning}")
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
        return
    show_summary(result, quiet=options.quiet)
    if not result.complete:
        raise SystemExit(1)


def _check_batch(options: Options) -> None:
    """Refuse options that contradict each other."""
    from blindsr.image_io import format_of

    output = options.output
    if output is not None and not output.is_folder and (output.path.is_file() or format_of(output.path) is not None):
        raise click.UsageError(
            f"with several photographs -o names a folder, got {str(output.path)!r}; choose file names by --name."
        )
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


def _check_pipe(options: Options, photos: Sequence[Path], device: str) -> None:
    """Refuse what has no place in a pipe.

    Raises:
        click.UsageError: There is more than one image, an option of a batch, or a terminal where the image would
            go.
    """
    if len(photos) > 1 or options.given("Batch", "Cluster") or "," in device:
        given = ", ".join(options.given("Batch", "Cluster")) or "several photographs"
        raise click.UsageError(f"- is a single image; it cannot be combined with {given}.")
    if options.output is not None and options.output.is_folder:
        raise click.UsageError("- is a single image without a name; name a file by -o, not a folder.")
    if options.output is not None and options.output.path != STDIO:
        return
    if options.report or options.as_json:
        raise click.UsageError("--report and --json need a file: the image goes to standard output; name a file by -o.")
    if sys.stdout.isatty():
        raise click.UsageError("the image would go to the terminal; redirect it, or name a file by -o.")


def _run_pipe(options: Options, photo: Path, run: "Run", known: dict[str, Any]) -> None:
    """Upscale the image on standard input, or a file to standard output, without sidecar files."""
    from blindsr.cli.output import listening, show
    from blindsr.evaluation.report import report_path
    from blindsr.pipelines.files import upscale_file

    output = _output_file(options)
    with (
        tempfile.TemporaryDirectory(prefix="blindsr-") as folder,
        _source(photo, Path(folder)) as source,
        listening(quiet=options.quiet, verbose=options.verbose) as listener,
    ):
        for warning in known.get("kernel_warnings", ()):
            listener.warn(warning)
        result = upscale_file(
            source,
            run.settings,
            # Without a name the photograph decides on the format: PNG, or TIFF for what PNG cannot hold.
            output=output,
            output_stem=Path(folder) / "result" if output is None else None,
            overwrite=options.force,
            device=run.device,
            files=run.files,
            max_memory=run.max_memory,
            listener=listener,
            **known,
        )
        if output is None:
            _write_to_stdout(result, listener)
            return
        if options.report:
            page = report_path(source, run.settings.label, output)
            listener.line(f"report: {_write_report(source, result, page, options)}")
    show(result, options, listener)


@contextmanager
def _source(photo: Path, folder: Path) -> Iterator[Path]:
    """The file itself, or standard input as a file."""
    from blindsr.errors import ImageError

    if photo != STDIO:
        yield photo
        return
    if sys.stdin.isatty():
        raise click.UsageError("- reads an image from standard input, which is the terminal; redirect a file into it.")
    data = sys.stdin.buffer.read()
    if not data:
        raise ImageError("needed an image on standard input, got nothing; for example: blindsr … - < photo.jpg")
    path = folder / "stdin"
    path.write_bytes(data)
    yield path


def _write_to_stdout(result: "FileResult", listener: "ProgressListener") -> None:
    from blindsr.cli.output import summary

    summary(result, listener, files="to standard output")
    if result.outputs.image is not None:
        click.echo(result.outputs.image.read_bytes(), nl=False)


def _write_report(photo: Path, result: "FileResult", page: Path, options: Options) -> Path:
    from blindsr.evaluation.report import report_for_photo

    image = result.outputs.image
    if image is None:
        raise RuntimeError("upscaling writes an image")
    return report_for_photo(photo, image, result.kernel, result.record, page, overwrite=options.force)
