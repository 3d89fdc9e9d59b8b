"""One photograph of a batch: what decides its result, the key that names it, and the job itself."""

import contextlib
import errno
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from blindsr import __version__
from blindsr.errors import BlindSRError, OutputError
from blindsr.events import Listener, ignore
from blindsr.kernels import Kernel
from blindsr.kernels.bands import BandKernels
from blindsr.pipelines.outputs import Outputs, image_outputs, leftovers
from blindsr.pipelines.record import file_digest, plain
from blindsr.pipelines.settings import Settings

__all__ = [
    "Options",
    "Row",
    "Task",
    "finished_result",
    "out_of_memory",
    "read_record",
    "run_is_whole",
    "run_task",
    "task_key",
    "task_outputs",
]

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all photographs of a batch share, and what decides their results.

    Args:
        settings: As for one photograph.
        kernel: A kernel that is known, or shared; None estimates one for each photograph.
        photo: Further arguments of `blindsr.pipelines.photo.upscale_photo`, such as how the result is written.
        report: Write a page beside each result.
    """

    settings: Settings = field(default_factory=Settings)
    kernel: Kernel | BandKernels | None = None
    photo: Mapping[str, Any] = field(default_factory=dict)
    report: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """A photograph to be upscaled.

    Args:
        source: The photograph, absolute: a worker may stand in another folder.
        target: The result, without its suffix if `whole` is off.
        whole: `target` has its suffix.
        key: As `task_key` makes it.
        digest: SHA-256 of the photograph's file.
        options: What the photographs share.
        overwrite: Results that exist may be replaced.
        threads: Of the process that runs it; None leaves them as they are.
    """

    source: Path
    target: Path
    whole: bool
    key: str
    digest: str
    options: Options
    overwrite: bool = False
    threads: int | None = None


def task_key(digest: str, options: Options) -> str:
    """Twenty hexadecimal digits that name a result: the photograph's content, the settings, the version.

    Args:
        digest: SHA-256 of the photograph's file.
        options: What decides the rest. Files among the settings count by their content.
    """
    content = {
        "input": digest,
        "settings": _by_content(options.settings.as_dict()),
        "kernel": _kernel_by_content(options.kernel),
        "photo": _by_content(options.photo),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def _kernel_by_content(kernel: Kernel | BandKernels | None) -> object:
    if isinstance(kernel, BandKernels):
        return [_kernel_by_content(band) for band in kernel.kernels]
    # An estimated kernel is trusted less than one that is known: where it comes from matters too.
    return None if kernel is None else [kernel.digest, plain(kernel.provenance.get("made_by"))]


# Limits of what a run may take, and words: they decide whether there is a result, not which.
_NO_MATTER = ("kernel_notes", "max_pixels", "max_memory")


def _by_content(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _by_content(item) for key, item in value.items() if key not in _NO_MATTER}
    if isinstance(value, Path) and value.is_file():
        return file_digest(value)
    return plain(value)


def finished_result(record_path: Path, key: str) -> dict[str, Any] | None:
    """The record of a result that lies there whole and was made by the job of this key; None if there is none.

    The image's content is compared with what the record says of it: an older image beside the record of a run that
    was killed while it replaced it is no result, and neither is one that somebody has retouched.
    """
    record = read_record(record_path)
    if record is None or record.get("run_id") != key:
        return None
    files = record.get("files")
    if not isinstance(files, dict) or not all(record_path.with_name(str(name)).is_file() for name in files.values()):
        return None
    image = record_path.with_name(str(files.get("image")))
    return record if image.is_file() and file_digest(image) == record.get("image_sha256") else None


def run_is_whole(row: Row, image: Path) -> bool:
    """Whether the files of a row that says "done" are there, the image as long as it was: asked without reading it."""
    noted = row.get("image", {})
    names = row.get("names", ())
    present = all(image.with_name(name).is_file() for name in names)
    return present and image.name == noted.get("name") and image.stat().st_size == noted.get("bytes")


def read_record(path: Path) -> dict[str, Any] | None:
    """A record; None if there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def run_task(task: Task, device: str = "auto", *, listener: Listener = ignore) -> Row:
    """Upscale the photograph of a task, unless its result is there: a task that is run twice is done once.

    Returns:
        A row: "status" is "done" or "failed", with the record or the error. No error leaves this function, so that a
        batch goes on; "retry" asks for another try, and "fatal" says that all others would fail of it too.
    """
    started = time.perf_counter()
    try:
        record, page = _upscale(task, device, listener)
    except Exception as error:  # a batch goes on: what failed is reported, whatever it failed of
        failed: Row = {
            "status": "failed",
            "error": _in_words(error),
            "seconds": round(time.perf_counter() - started, 3),
        }
        if out_of_memory(error):
            failed["retry"] = True
        if _disk_is_full(error):
            failed["fatal"] = failed["error"]
        return failed
    image = task.target.with_name(record["files"]["image"])
    row: Row = {
        "status": "done",
        "files": {role: str(task.target.with_name(name)) for role, name in record["files"].items()},
        "image": {"name": image.name, "bytes": image.stat().st_size, "sha256": record["image_sha256"]},
        "seconds": round(time.perf_counter() - started, 3),
        "record": {name: value for name, value in record.items() if name != "history"},
    }
    if page is not None:
        row["files"]["report"] = str(page)
    return row


def _upscale(task: Task, device: str, listener: Listener) -> tuple[dict[str, Any], Path | None]:
    from blindsr.pipelines.photo import upscale_photo
    from blindsr.runtime import prepare_process

    if task.threads is not None:
        prepare_process(task.threads)
    outputs = task_outputs(task)
    page = outputs.record.with_suffix(".html") if task.options.report else None
    with contextlib.suppress(OSError):
        outputs.record.parent.mkdir(parents=True, exist_ok=True)
        for folder in leftovers(outputs, task.key):
            shutil.rmtree(folder, ignore_errors=True)
    record = finished_result(outputs.record, task.key)
    if record is not None and (page is None or page.is_file()):
        return record, page
    mine = record is not None or _is_remnant(task, outputs)
    try:
        result = upscale_photo(
            task.source,
            task.options.settings,
            kernel=task.options.kernel,
            output=task.target if task.whole else None,
            output_stem=None if task.whole else task.target,
            overwrite=task.overwrite or mine,
            run_id=task.key,
            device=device,
            listener=listener,
            **task.options.photo,
        )
    except OutputError:
        # Where a worker was given up too early, its twin may have been faster.
        if (record := finished_result(outputs.record, task.key)) is None or page is not None:
            raise
        return record, None
    if page is not None:
        from blindsr.report.photo import report_for_photo

        report_for_photo(task.source, result, page, overwrite=task.overwrite or mine)
    return dict(result.record), page


def task_outputs(task: Task) -> Outputs:
    """The files of a task. Where the photograph decides on the suffix, `image` has one that may change."""
    image = task.target if task.whole else task.target.with_name(task.target.name + ".png")
    return image_outputs(task.source, task.options.settings.label, image.suffix, image)


def _is_remnant(task: Task, outputs: Outputs) -> bool:
    """Whether what lies there is the beginning of this very result: its record, and no image."""
    record = read_record(outputs.record)
    if record is None or record.get("run_id") != task.key:
        return False
    names = record.get("files")
    return isinstance(names, dict) and not outputs.record.with_name(str(names.get("image"))).exists()


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: another try with less beside it may succeed."""
    names = {base.__name__ for base in type(error).__mro__}
    return "MemoryError" in names or "OutOfMemoryError" in names or "DefaultCPUAllocator" in str(error)


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _in_words(error: Exception) -> str:
    sentence = " ".join(str(error).split())
    if isinstance(error, BlindSRError):
        return sentence
    if out_of_memory(error):
        return "memory ran out; use fewer --jobs, or a smaller --scale."
    return f"{type(error).__name__}: {sentence}"
