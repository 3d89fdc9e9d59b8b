"""One image of a batch: the key that identifies its result, the task itself, and the events of a batch."""

import contextlib
import errno
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from blindsr.errors import BlindSRError, OutputError, is_disk_full, is_out_of_memory, reason_of
from blindsr.events import Event, Listener, StepDone, ignore
from blindsr.image_io import DEFAULT_FILES, FileOptions
from blindsr.kernels import Kernel
from blindsr.kernels.kernel import AnyKernel, KernelMap, KernelStack
from blindsr.pipelines.degradation import LinearLight, Noise
from blindsr.pipelines.files import upscale_file
from blindsr.pipelines.outputs import Outputs, image_outputs, leftovers
from blindsr.pipelines.record import cache_key, file_digest, plain
from blindsr.registry import source_digest
from blindsr.settings import Settings

__all__ = ["BatchEvent", "BatchStarted", "ImageDone", "ImageEvent", "ImageStarted", "Task", "TaskOptions", "run_task"]

#: The outcome of one image as plain data: "status", "error", "files", "image", "warnings", "seconds", "record".
Row = dict[str, Any]
_STEP_SECONDS = 0.25  # between two forwarded steps: enough for a progress bar, and little for the network of a cluster
# Limits and texts decide whether there is a result, not which one.
_NOT_IN_KEY = ("kernel_warnings", "max_pixels", "max_memory", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStarted:
    """A batch starts: of `images`, `open` are to be done, and `kept` were done by an earlier run."""

    images: int
    open: int
    kept: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStarted:
    """A worker starts with an image; `worker` names it."""

    source: Path
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEvent:
    """An event of the run of one image."""

    source: Path
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDone:
    """An image has ended; `row["status"]` is "done", "failed", "kept" or "skipped"."""

    source: Path
    row: Row


#: `Event`s are about the batch as a whole: its notices, and the stages before the first image.
BatchEvent = BatchStarted | ImageStarted | ImageEvent | ImageDone | Event
BatchListener = Callable[[BatchEvent], object]


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What the images of a batch have in common."""

    settings: Settings = field(default_factory=Settings)  # the settings of each run
    kernel: AnyKernel | None = None  # a known or shared kernel; None estimates one for each image
    noise: Noise | None = None  # of most images of the batch; each whose own is near it gets it
    kernel_warnings: tuple[str, ...] = ()  # warnings about the kernel for the record
    linear_light: LinearLight = "auto"  # whether the sRGB curve is undone before upscaling with a known kernel
    files: FileOptions = DEFAULT_FILES  # how images are read and written
    max_memory: int | None = None  # memory that one image may take, bytes
    report: bool = False  # write an HTML page beside each result


@dataclass(frozen=True, kw_only=True)
class Task:
    """An image to be upscaled."""

    source: Path  # the image, absolute: a worker may have another working directory
    target: Path  # the result, without its suffix unless `has_suffix`
    has_suffix: bool  # `target` is the complete name
    key: str  # see `task_key`
    options: TaskOptions  # what the images have in common
    overwrite: bool = False  # existing results may be replaced

    @property
    def outputs(self) -> Outputs:
        """The files of the task; without `has_suffix`, the suffix of the image file is a guess."""
        image = self.target if self.has_suffix else self.target.with_name(self.target.name + ".png")
        return image_outputs(self.source, self.options.settings.label, image.suffix, image)

    @property
    def page(self) -> Path | None:
        """The HTML page, if one is wanted."""
        return self.outputs.record.with_suffix(".html") if self.options.report else None


def task_key(digest: str, options: TaskOptions) -> str:
    """Identify a result: a digest of the image (`digest`), the options (files by content) and the methods' code."""
    return cache_key({"input": digest, "options": _by_content(options), "source": source_digest()})


def _by_content(value: object) -> object:
    if isinstance(value, KernelMap):
        return {"rows": value.shape[0], "kernels": [_by_content(kernel) for kernel in value.flat]}
    if isinstance(value, KernelStack):
        return [_by_content(kernel) for kernel in value.kernels]
    if isinstance(value, Kernel):  # an estimated kernel has an error, a known one has none: its origin counts too
        return [value.digest, plain(value.provenance.get("made_by"))]
    if isinstance(value, Settings):  # defaults count as if they were given, and methods that are not run not at all
        value = replace(value, configs=value.used_configs())
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _by_content(item) for name, item in value.items() if name not in _NOT_IN_KEY}
    if isinstance(value, Path) and value.is_file():
        return file_digest(value)
    return plain(value)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record; empty if there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _recorded_files(record: Mapping[str, Any], path: Path, key: str) -> dict[str, Path]:
    """The files of a record, by role, if it is that of this key."""
    names = record.get("files")
    if record.get("run_id") != key or not isinstance(names, dict):
        return {}
    return {role: path.with_name(str(name)) for role, name in names.items()}


def finished_record(path: Path, key: str) -> dict[str, Any] | None:
    """The record of a complete result of this key; None if there is none.

    The digest of the image must be the recorded one: neither an edited image is a result, nor an older one beside the
    record of a run that was killed while it replaced it.
    """
    record = read_record(path)
    files = _recorded_files(record, path, key)
    if "image" not in files or not all(file.is_file() for file in files.values()):
        return None
    return record if file_digest(files["image"]) == record.get("image_sha256") else None


def run_task(task: Task, device: str = "auto", *, listener: Listener = ignore) -> Row:
    """Upscale the image of a task, unless its result exists: a task that is run twice is done once.

    Returns:
        A row whose status is "done" or "failed". No error leaves this function, so that a batch continues; "retry" asks
        for another attempt, and "fatal" means that all other tasks would fail too.
    """
    started = time.perf_counter()
    try:
        record = _upscale(task, device, listener)
    except Exception as error:  # a batch reports whatever an image fails of, and continues
        row: Row = {"status": "failed", "error": error_text(error), "seconds": round(time.perf_counter() - started, 3)}
        return row | {"retry": is_out_of_memory(error)} | ({"fatal": True} if _is_disk_full(error) else {})
    files = {role: str(task.target.with_name(name)) for role, name in record["files"].items()}
    image = Path(files["image"])
    return {
        "status": "done",
        "files": files if task.page is None else {**files, "report": str(task.page)},
        "image": {"name": image.name, "bytes": image.stat().st_size, "sha256": record["image_sha256"]},
        "warnings": len(record["warnings"]),
        "seconds": round(time.perf_counter() - started, 3),
        "record": {name: value for name, value in record.items() if name != "history"},
    }


def _upscale(task: Task, device: str, listener: Listener) -> Mapping[str, Any]:
    outputs, page = task.outputs, task.page
    with contextlib.suppress(OSError):
        outputs.record.parent.mkdir(parents=True, exist_ok=True)
        for folder in leftovers(outputs, task.key):
            shutil.rmtree(folder, ignore_errors=True)
    record: Mapping[str, Any] | None = finished_record(outputs.record, task.key)
    if record is not None and (page is None or page.is_file()):
        return record
    # A killed run of this very task may have left its record without the image.
    image = _recorded_files(read_record(outputs.record), outputs.record, task.key).get("image")
    overwrite = task.overwrite or record is not None or (image is not None and not image.exists())
    options = task.options
    try:
        result = upscale_file(
            task.source,
            options.settings,
            kernel=options.kernel,
            noise=options.noise,
            kernel_warnings=options.kernel_warnings,
            linear_light=options.linear_light,
            output=task.target if task.has_suffix else None,
            output_stem=None if task.has_suffix else task.target,
            run_id=task.key,
            overwrite=overwrite,
            device=device,
            files=options.files,
            max_memory=options.max_memory,
            listener=listener,
        )
    except OutputError:
        # A worker that was given up too early may have finished the same task.
        if (record := finished_record(outputs.record, task.key)) is None or page is not None:
            raise
        return record
    if page is not None and result.outputs.image is not None:
        from blindsr.evaluation.report.comparison import report_for_photo

        report_for_photo(task.source, result.outputs.image, result.kernel, result.record, page, overwrite=overwrite)
    return dict(result.record)


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if is_disk_full(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def error_text(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BlindSRError):
        return text
    if is_out_of_memory(error):
        return "memory ran out; use fewer jobs (jobs=, --jobs), or a smaller scale."
    if isinstance(error, OSError) and error.strerror:
        if error.errno == errno.ENAMETOOLONG:
            return (
                "the name of a result is too long for this file system; choose shorter names (name=, --name), or "
                "rename the image."
            )
        return f"{reason_of(error)}."
    return f"{type(error).__name__}: {text}"


def throttled(send: Callable[[Event], object]) -> Listener:
    """A listener that forwards a few steps a second, and all other events."""
    last = -_STEP_SECONDS

    def listener(event: Event, /) -> None:
        nonlocal last
        if isinstance(event, StepDone):
            now = time.monotonic()
            if now - last < _STEP_SECONDS:
                return
            last = now
        send(event)

    return listener
