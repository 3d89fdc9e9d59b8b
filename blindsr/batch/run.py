"""Run a batch: every image gives a row, each row is written before the next one counts, and a kill loses nothing."""

import contextlib
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from blindsr.batch.inputs import DEFAULT_NAME, Inputs, Naming, find_inputs
from blindsr.batch.plan import MANIFEST, BatchPlan, Item, Manifest, locked, make_plan
from blindsr.batch.task import (
    BatchListener,
    BatchStarted,
    ImageDone,
    ImageEvent,
    ImageStarted,
    Row,
    Task,
    TaskOptions,
    error_text,
    read_record,
    run_task,
    throttled,
)
from blindsr.cores import default_threads
from blindsr.errors import ConfigError, ImageError, OutputError, reason_of
from blindsr.events import Listener, Notice
from blindsr.image_io import DEFAULT_FILES, FileOptions, check_options
from blindsr.kernels.files import KernelLike
from blindsr.kernels.kernel import AnyKernel, KernelStack
from blindsr.pipelines.degradation import LinearLight
from blindsr.pipelines.files import given_kernel
from blindsr.pipelines.memory import available_memory
from blindsr.pipelines.outputs import image_outputs, leftovers
from blindsr.pipelines.record import grouped
from blindsr.pool import current_worker, run_in_processes
from blindsr.runtime import choose_device, prepare_process
from blindsr.settings import Settings, as_settings, preset_name
from blindsr.settings import preset as named_preset

if TYPE_CHECKING:
    from blindsr.batch.shared_kernel import SeriesKernel

__all__ = ["BatchResult", "Engine", "run_batch", "run_inline", "run_on_processes", "upscale_files"]

Executor = Literal["processes", "inline", "dask"]
#: Runs tasks, and yields each with its row in the order of completion; closing it ends the workers.
Engine = Callable[[Iterator[Task], BatchListener], Generator[tuple[Task, Row], None, None]]
_MIN_SHARE = 2 * 2**30  # bytes; with a smaller share, images that fit into memory as a whole would be tiled
_PARENT_MEMORY = 320 * 2**20  # of the process that waits for the workers


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """The outcome of a batch.

    The status of a row is "done", "kept", "skipped", "failed", "left" for an image that was not started, or "open" in a
    dry run.
    """

    plan: BatchPlan
    rows: tuple[tuple[Path, Row], ...]  # images with their rows, in the order of the plan
    seconds: float = 0.0
    stopped: str = ""  # why it ended early; empty if it did not
    memory: int | None = None  # in a dry run, the bytes that the batch takes at its peak, roughly

    def count(self, status: str) -> int:
        """Number of images with a status."""
        return sum(row["status"] == status for _, row in self.rows)

    @property
    def with_warnings(self) -> int:
        """Number of images with a result whose record has warnings."""
        return sum(bool(row.get("warnings")) for _, row in self.rows)

    def warnings(self) -> dict[str, tuple[Path, ...]]:
        """The warnings of the results, each with its images; those that differ in their numbers alone are one."""
        warnings: list[tuple[Path, str]] = []
        for path, row in self.rows:
            record = row.get("record") or {}
            if row["status"] == "kept" and row.get("warnings"):
                record = read_record(Path(row["files"]["image"]).with_suffix(".json"))
            warnings.extend((path, text) for text in record.get("warnings", ()))
        return grouped(warnings)

    @property
    def complete(self) -> bool:
        """Whether every image has its result."""
        return not self.stopped and all(row["status"] in ("done", "kept", "skipped") for _, row in self.rows)


def upscale_files(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path | None = None,
    *,
    settings: Settings | str | None = None,
    kernel: KernelLike | None = None,
    kernel_warnings: tuple[str, ...] = (),
    linear_light: LinearLight = "auto",
    shared_kernel: bool = False,
    files: FileOptions = DEFAULT_FILES,
    name: str = DEFAULT_NAME,
    preset: str | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
    report: bool = False,
    manifest: Path | None = None,
    executor: Executor = "processes",
    jobs: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    max_memory: int | None = None,
    retries: int = 2,
    scheduler: str | None = None,
    task_resources: str | None = None,
    dry_run: bool = False,
    listener: BatchListener = lambda event: None,
) -> BatchResult:
    """Upscale many images. An image that fails is reported, and the others are done; run again, the rest is done.

    With `executor="processes"`, a script must call this below `if __name__ == "__main__":`.

    Args:
        inputs: Files, folders and glob patterns, or a single one.
        output: The folder of the results, below which the tree of the inputs is mirrored; None puts each beside its
            image.
        settings: The settings of each run, or the name of a preset; those of `preset` if None.
        kernel: A known kernel for all images, as anything that `as_kernel` takes; None estimates one for each.
        kernel_warnings: Warnings about the kernel for the records.
        linear_light: With a known kernel, whether the sRGB curve is undone before upscaling.
        shared_kernel: Estimate one kernel from all images, which are of one camera and lens.
        files: How images are read and written.
        name: Template of the names of results, see `blindsr.batch.inputs.Naming`.
        preset: Name of a preset: the settings if there are no others, and {preset} in the template of names; None is
            that of the settings.
        recursive: Descend into folders of folders.
        overwrite: Replace existing results of other settings.
        skip_existing: Skip images whose result exists, of whatever settings.
        report: Write an HTML page beside each result.
        manifest: The file that lists what is done; None is blindsr-manifest.jsonl in the output folder, or in the
            folder that contains all images.
        executor: Processes of this machine, this process, or a Dask cluster.
        jobs: Processes; None is one for each device.
        device: As for one image, or a list ("cuda:0,cuda:1") that the processes take in turn.
        threads: Threads of all processes together (of each worker on a cluster); None is OMP_NUM_THREADS if it is set,
            else one per free core.
        max_memory: Bytes that all processes may take together (each worker on a cluster); None is what is free.
        retries: Further attempts for an image whose worker died or ran out of memory.
        scheduler: Address of the Dask scheduler.
        task_resources: Dask resources that an image takes, such as "GPU=1".
        dry_run: Only plan: nothing is written, and `BatchResult.plan` has the sizes of the images. Those whose header
            cannot be read have the status "failed".
        listener: Receives the events.

    Raises:
        ImageError: There is no image, or none that shows a blur for a shared kernel.
        ConfigError: Arguments contradict each other, or the template of names is invalid.
        OutputError: Results exist, two results would share a name, another process works on this batch, or the folder
            cannot be written. Nothing has been done then.
        DeviceError: A device does not exist, or the workers cannot be started.
    """
    check_options(files)
    settings = named_preset(preset) if settings is None and preset is not None else as_settings(settings)
    output = None if output is None else Path(output)
    if output is not None and output.is_file():
        raise OutputError(f"the output of a batch must be a folder, {output} is a file; choose another name.")
    devices = _devices(device, jobs, executor)
    engine = _engine(executor, devices, threads, retries, scheduler, task_resources)
    given = map(Path, [inputs] if isinstance(inputs, str | Path) else inputs)
    found = find_inputs(given, recursive=recursive, exclude=output)
    known = None if kernel is None else given_kernel(kernel, settings, [file.path for file in found.files])
    if found.unread:
        listener(Notice(stage="batch", message=f"{found.unread}."))
    found = _with_kernels(found, known, listener)
    naming = Naming(
        output=output,
        template=name,
        label=settings.label,
        preset=preset_name(settings) if preset is None else preset,
        suffix=None if files.format is None else files.suffix(""),
        page=files.page_name,
    )
    options = TaskOptions(
        settings=settings,
        kernel=known,
        kernel_warnings=kernel_warnings,
        linear_light=linear_light,
        files=files,
        max_memory=_memory_share(max_memory, len(devices), executor),
        report=report,
    )
    path = manifest or (output or found.common_folder()) / MANIFEST
    plan_with = partial(make_plan, found, naming, overwrite=overwrite, skip_existing=skip_existing)
    paths = [file.path for file in found.files]
    if dry_run:
        if shared_kernel:
            from blindsr.batch.shared_kernel import recorded_kernel

            # Results of an earlier run are kept where it used this kernel; without one, nothing can be kept.
            options = _with_shared(options, recorded_kernel(paths, settings, Manifest(path), files=files))
        plan = plan_with(options, Manifest(path)).with_sizes()
        rows = tuple((item.source, {**(item.row or {}), "status": item.state}) for item in plan.items)
        return BatchResult(plan=plan, rows=rows, memory=plan.memory(len(devices)))
    with locked(path) as opened:
        if shared_kernel:
            from blindsr.batch.shared_kernel import shared_kernel_for

            shared = shared_kernel_for(paths, settings, opened, device=devices[0], files=files, listener=listener)
            plan = plan_with(_with_shared(options, shared), opened)
            shared.write()  # not before: a run that is refused leaves the kernel of an earlier one
        else:
            plan = plan_with(options, opened)
        return run_batch(plan, engine, listener=listener)


def _with_shared(options: TaskOptions, shared: "SeriesKernel | None") -> TaskOptions:
    if shared is None:
        return options
    return replace(options, kernel=shared.kernel, noise=shared.noise, kernel_warnings=shared.warnings)


def _with_kernels(found: Inputs, kernel: AnyKernel | None, listener: BatchListener) -> Inputs:
    """Leave out the bands of a Sentinel-2 product that the sensor has no kernel for."""
    if not isinstance(kernel, KernelStack):
        return found
    files = tuple(file for file in found.files if file.band is None or kernel.of_file(file.path.name) is not None)
    bands = sorted({str(file.band) for file in found.files} - {str(file.band) for file in files})
    if not bands:
        return found
    if not files:
        raise ImageError(
            f"the sensor has kernels for {', '.join(kernel.names)}, the images are {', '.join(bands)}; choose another "
            "sensor, or estimate the kernels (blindsr estimate-and-upscale)."
        )
    text = f"left out, because the sensor has no kernel for them: {', '.join(bands)}; its bands are "
    listener(Notice(stage="batch", message=text + ", ".join(kernel.names) + "."))
    return replace(found, files=files)


def _devices(names: str, jobs: int | None, executor: Executor) -> tuple[str, ...]:
    """A device for each worker: the list is repeated as often as needed."""
    devices = [name.strip() for name in names.split(",") if name.strip()] or ["auto"]
    if executor != "dask":  # on a cluster the devices are those of the workers' machines
        for device in devices:
            choose_device(device)
    count = 1 if executor == "inline" else jobs or len(devices)
    return tuple(devices[i % len(devices)] for i in range(count))


def _memory_share(max_memory: int | None, workers: int, executor: Executor) -> int | None:
    """What each worker may take of the memory of this machine; the workers of a cluster have their own."""
    if executor != "processes":
        return max_memory
    if max_memory is not None:
        return max(0, max_memory - _PARENT_MEMORY) // workers
    free = available_memory() if workers > 1 else None
    return None if free is None else max(free // workers, _MIN_SHARE)


def _engine(
    executor: Executor,
    devices: tuple[str, ...],
    threads: int | None,
    retries: int,
    scheduler: str | None,
    task_resources: str | None,
) -> Engine:
    if executor == "inline":
        return partial(run_inline, device=devices[0], threads=threads)
    if executor == "processes":
        share = max(1, (threads or default_threads()) // len(devices))
        return partial(run_on_processes, devices=devices, threads=share, retries=retries)
    if executor != "dask" or scheduler is None:
        raise ConfigError(f"the executor must be processes, inline, or dask with a scheduler, got {executor!r}.")
    from blindsr.batch.cluster import Cluster, read_resources

    resources = read_resources(task_resources)
    return Cluster(scheduler=scheduler, device=devices[0], threads=threads, retries=retries, resources=resources).run


def run_inline(
    tasks: Iterator[Task], listener: BatchListener, *, device: str = "auto", threads: int | None = None
) -> Generator[tuple[Task, Row], None, None]:
    """Run one task after the other in this process: a crash of one is the crash of all."""
    if threads is not None:
        prepare_process(threads)
    for task in tasks:
        listener(ImageStarted(source=task.source))
        yield task, run_task(task, device, listener=_forwarded(task.source, listener))


def run_on_processes(
    tasks: Iterator[Task], listener: BatchListener, *, devices: tuple[str, ...], threads: int, retries: int = 2
) -> Generator[tuple[Task, Row], None, None]:
    """Run tasks on processes of this machine, one for each of the devices."""
    outcomes = run_in_processes(
        partial(_run_in_worker, devices),
        tasks,
        jobs=len(devices),
        threads=threads,
        retries=retries,
        should_retry=lambda row: bool(row.get("retry")),
        listener=lambda index, event: listener(event),
    )
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            row = outcome.value or {"status": "failed", "error": error_text(outcome.error or RuntimeError())}
            yield outcome.task, row if outcome.attempts == 1 else {**row, "attempts": outcome.attempts}


def _run_in_worker(devices: tuple[str, ...], task: Task) -> Row:
    worker = current_worker()
    device = devices[worker.number]
    worker.send(ImageStarted(source=task.source, worker=f"{worker.number + 1} ({device})"))
    return run_task(task, device, listener=throttled(_forwarded(task.source, worker.send)))


def _forwarded(source: Path, send: Callable[[ImageEvent], object]) -> Listener:
    return lambda event: send(ImageEvent(source=source, event=event))


def run_batch(plan: BatchPlan, engine: Engine, *, listener: BatchListener = lambda event: None) -> BatchResult:
    """Run the open images of a plan.

    The manifest, which must be locked, gets a line for each image when its result is on the disk. An image that fails
    is reported, and the rest is done; a full disk ends the batch, as nothing more could be written.

    Args:
        plan: The images, their state and the manifest.
        engine: Runs the tasks, such as `run_inline` or `run_on_processes`.
        listener: Receives the events of the batch.

    Returns:
        The plan, and a row for each of its images.

    Raises:
        DeviceError: The engine cannot start a worker.
    """
    started = time.monotonic()
    rows: dict[Path, Row] = {}
    items = {item.target.absolute(): item for item in plan.open}

    def finish(item: Item, row: Row) -> None:
        rows[item.target] = row
        listener(ImageDone(source=item.source, row=row))

    def tasks() -> Iterator[Task]:
        for item in plan.open:
            try:
                yield plan.task(item)
            except OSError as error:
                why = f"the file cannot be read ({reason_of(error)})"
                if isinstance(error, FileNotFoundError):
                    why = "no such file; check the name"
                row = {"status": "failed", "error": f"{item.source}: {why}."}
                plan.manifest.write(item.source, item.target, row)
                finish(item, row)

    counts = {"kept": plan.count("kept"), "skipped": plan.count("skipped")}
    listener(BatchStarted(images=len(plan.items), open=len(plan.open), **counts))
    for warning in plan.warnings:
        listener(Notice(stage="batch", message=warning))
    for item in plan.items:
        if item.state == "kept":
            finish(item, _kept_row(item, plan.manifest))
        elif item.state == "skipped":
            finish(item, {"status": "skipped", "image": {"name": item.exists.name if item.exists else ""}})
        elif item.state == "failed":
            finish(item, item.row or {"status": "failed", "error": "unknown"})
    stopped = ""
    results = engine(tasks(), listener)
    try:
        for task, row in results:
            row.pop("retry", None)
            is_fatal = row.pop("fatal", False)
            with contextlib.suppress(OutputError) if is_fatal else contextlib.nullcontext():
                plan.manifest.write(task.source, task.target, _manifest_row(task, row))
            finish(items[task.target], row)
            if is_fatal:
                stopped = str(row["error"])
                break
    except OutputError as error:  # the manifest cannot be written; the records prove the results that exist
        stopped = error_text(error)
    finally:
        results.close()
    in_order = tuple((item.source, rows.get(item.target, {"status": "left"})) for item in plan.items)
    return BatchResult(plan=plan, rows=in_order, seconds=time.monotonic() - started, stopped=stopped)


def _kept_row(item: Item, manifest: Manifest) -> Row:
    """The row of a result of an earlier run, which gets its line in the manifest if it has none."""
    row = dict(item.row or {})
    if item.exists is None:
        return {**row, "status": "kept", "files": {}}
    if row.pop("not_in_manifest", False):
        outputs = image_outputs(item.source, "", item.exists.suffix, item.exists)
        for folder in leftovers(outputs, row["key"]):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OutputError):  # its record proves it the next time too
            manifest.write(item.source, item.target, row)
    return {**row, "status": "kept", "files": {"image": str(item.exists.absolute())}}


def _manifest_row(task: Task, row: Row) -> Row:
    names = ("status", "error", "image", "warnings", "seconds", "attempts")
    line: Row = {name: row[name] for name in names if name in row} | {"key": task.key}
    if "files" in row:
        line["names"] = [Path(path).name for path in row["files"].values()]
    return line
