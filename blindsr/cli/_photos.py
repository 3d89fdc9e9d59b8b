"""What both commands that upscale do once they know how: one photograph, standard input, or a batch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blindsr.cli._batch_options import PIPE, Batch, is_batch
from blindsr.cli._options import Common
from blindsr.cli._progress import listening
from blindsr.cli._settings import Run
from blindsr.cli._show import show
from blindsr.pipelines.photo import upscale_photo
from blindsr.runtime import prepare_process

__all__ = ["run_photos"]


def run_photos(
    common: Common, batch: Batch, photos: Sequence[Path], run: Run, job: Mapping[str, Any], *, report: bool = False
) -> None:
    """Upscale what was named.

    Args:
        common: The shared options.
        batch: The options of a batch.
        photos: Files, folders, globs, or "-" alone.
        run: Settings and machine.
        job: Further arguments of `upscale_photo`: the kernel, its notes, how the result is written.
        report: Write a page beside each result.
    """
    if PIPE in photos or common.output == PIPE:
        from blindsr.cli._pipe import run_pipe

        run_pipe(common, batch, photos, run, job, report=report)
    elif is_batch(photos, batch, run.device):
        from blindsr.cli._batch import run_many

        run_many(common, batch, photos, run, job, report=report)
    else:
        _run_one(common, photos[0], run, job, report=report)


def _run_one(common: Common, photo: Path, run: Run, job: Mapping[str, Any], *, report: bool) -> None:
    prepare_process(run.threads)
    if report:
        from blindsr.image_io import check_output
        from blindsr.report.photo import report_for_photo, report_path

        page = report_path(photo, run.settings.label, common.output)
        check_output(page, overwrite=common.force)
    with listening(quiet=common.quiet, verbose=common.verbose) as listener:
        for note in job.get("kernel_notes", ()):
            listener.note(note)
        result = upscale_photo(
            photo,
            run.settings,
            output=common.output,
            overwrite=common.force,
            device=run.device,
            listener=listener,
            **job,
        )
        if report:
            listener.line(f"report: {report_for_photo(photo, result, page, overwrite=common.force)}")
    show(result, common, listener)
