"""`-`: a picture from standard input, or to standard output, for pipes."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from blindsr.cli._batch_options import PIPE, Batch
from blindsr.cli._options import Common
from blindsr.cli._progress import RichListener, listening
from blindsr.cli._settings import Run
from blindsr.cli._show import show, summary
from blindsr.errors import ImageError
from blindsr.pipelines.photo import PhotoResult, upscale_photo
from blindsr.runtime import prepare_process

__all__ = ["run_pipe"]


def run_pipe(
    common: Common, batch: Batch, photos: Sequence[Path], run: Run, job: Mapping[str, Any], *, report: bool
) -> None:
    """Upscale the picture on standard input, or a file to standard output. No papers follow a picture into a pipe.

    Raises:
        click.UsageError: There is more than one picture, an option that a pipe has no place for, or a terminal
            where the picture would go.
    """
    if len(photos) > 1 or batch.asked() or "," in run.device:
        given = ", ".join(batch.asked()) or "several photographs"
        raise click.UsageError(f"- is one picture; it does not go with {given}.")
    to_pipe = common.output in (None, PIPE)
    if to_pipe and (report or common.as_json):
        raise click.UsageError("the picture goes to standard output, where --report and --json have no place; see -o.")
    if to_pipe and sys.stdout.isatty():
        raise click.UsageError("the picture would go to the terminal; send it to a file or a pipe, or name one by -o.")
    prepare_process(run.threads)
    with (
        tempfile.TemporaryDirectory(prefix="blindsr-") as folder,
        _source(photos[0], Path(folder)) as source,
        listening(quiet=common.quiet, verbose=common.verbose) as listener,
    ):
        for note in job.get("kernel_notes", ()):
            listener.note(note)
        result = upscale_photo(
            source,
            run.settings,
            # Without a name the photograph decides on its format: PNG, or TIFF for what PNG cannot hold.
            output=None if to_pipe else common.output,
            output_stem=Path(folder) / "result" if to_pipe else None,
            overwrite=common.force,
            device=run.device,
            listener=listener,
            **job,
        )
        if to_pipe:
            _to_stdout(result, listener)
            return
        if report:
            from blindsr.report.photo import report_for_photo, report_path

            page = report_path(source, run.settings.label, common.output)
            listener.line(f"report: {report_for_photo(source, result, page, overwrite=common.force)}")
    show(result, common, listener)


@contextmanager
def _source(photo: Path, folder: Path) -> Iterator[Path]:
    """The file itself, or standard input as a file."""
    if photo != PIPE:
        yield photo
        return
    if sys.stdin.isatty():
        raise click.UsageError("- reads a picture from standard input, which is the terminal; send one into it.")
    data = sys.stdin.buffer.read()
    if not data:
        raise ImageError("needed a picture on standard input, nothing came; send one: blindsr … - < photo.jpg")
    path = folder / "stdin"
    path.write_bytes(data)
    yield path


def _to_stdout(result: PhotoResult, listener: RichListener) -> None:
    summary(result, listener, files="to standard output")
    if result.outputs.image is not None:
        click.echo(result.outputs.image.read_bytes(), nl=False)
