"""A batch on the command line: checked, planned, run, and summed up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blindsr.cli._batch_options import Batch
from blindsr.cli._batch_progress import BatchShow, batch_showing
from blindsr.cli._batch_show import show_plan, show_summary
from blindsr.cli._options import Common
from blindsr.cli._settings import Run
from blindsr.errors import ConfigError
from blindsr.image_io import DEFAULT_FILES
from blindsr.image_io.probe import picture_size
from blindsr.pipelines.batch.forecast import forecast, machine_speed
from blindsr.pipelines.batch.inputs import Inputs, find_photos
from blindsr.pipelines.batch.manifest import MANIFEST, Manifest, locked
from blindsr.pipelines.batch.naming import DEFAULT_TEMPLATE, SUFFIXES, Naming
from blindsr.pipelines.batch.plan import BatchPlan, make_plan
from blindsr.pipelines.batch.run import run_batch
from blindsr.pipelines.batch.task import Options
from blindsr.pipelines.memory import available_memory
from blindsr.pipelines.settings import Settings
from blindsr.runtime import choose_device, prepare_process, usable_cores

if TYPE_CHECKING:
    from blindsr.pipelines.batch.engine import Engine

__all__ = ["run_many"]

_WITHOUT_STRIPS = 2 * 2**30
_OWN_MEMORY = 320 * 2**20  # of this process, which waits for its workers


def run_many(
    common: Common, batch: Batch, photos: Sequence[Path], run: Run, job: Mapping[str, Any], *, report: bool
) -> None:
    """Upscale many photographs; see `blindsr.cli._photos.run_photos`."""
    _check(common, batch)
    devices = _devices(run.device, batch)
    threads = max(1, (run.threads or usable_cores()) // len(devices))
    inputs = find_photos(photos, recursive=batch.recursive, avoid=common.output)
    naming = Naming(
        output=common.output,
        template=batch.name_template or DEFAULT_TEMPLATE,
        label=run.settings.label,
        preset=run.preset,
        suffix=None if run.files.format is None else run.files.suffix(""),
    )
    further = _shared_out(job, batch, len(devices))
    options = Options(settings=run.settings, kernel=further.pop("kernel", None), photo=further, report=report)
    path = batch.manifest or (common.output or _together(inputs)) / MANIFEST
    prepare_process(threads)
    with batch_showing(as_json=common.as_json, quiet=common.quiet, verbose=common.verbose) as show:
        for note in further.get("kernel_notes", ()):
            show.line(f"note: {note}")
        if batch.dry_run and batch.shared_kernel:
            show.line("note: one kernel would be estimated from all photographs first; that takes a moment for each.")
        if batch.dry_run:
            plan = _plan(common, batch, inputs, naming, options, Manifest(path))
            show_plan(plan, forecast(plan, workers=len(devices), speed=machine_speed()), as_json=common.as_json)
            return
        with locked(path) as manifest:
            if batch.shared_kernel:
                options = _with_shared_kernel(inputs, options, manifest, devices[0], show)
            plan = _plan(common, batch, inputs, naming, options, manifest)
            show.expect(forecast(plan, workers=len(devices), speed=machine_speed()))
            engine = _engine(batch, devices)
            of_each = run.threads if batch.executor == "dask" else threads
            result = run_batch(plan, engine, threads=of_each, listener=show)
    show_summary(result, path, quiet=common.quiet)
    if not result.complete:
        raise SystemExit(1)


def _check(common: Common, batch: Batch) -> None:
    """Refuse what contradicts itself."""
    output = common.output
    if output is not None and (output.is_file() or (output.suffix.lower() in SUFFIXES and not output.is_dir())):
        raise click.UsageError(f"of a batch, -o names a folder, got {str(output)!r}; name files by --name.")
    if batch.skip_existing and common.force:
        raise click.UsageError("--skip-existing keeps results and --force replaces them; give one of them.")
    dask = batch.executor == "dask"
    if dask != (batch.scheduler is not None):
        raise click.UsageError("--executor dask and --scheduler ADDRESS go together; give both.")
    if batch.task_resources is not None and not dask:
        raise click.UsageError("--task-resources is for --executor dask.")
    if dask and batch.jobs is not None:
        raise click.UsageError("--jobs is for this machine; on a dask cluster the workers decide how many run at once.")
    if batch.executor == "inline" and (batch.jobs or 1) > 1:
        raise click.UsageError("--executor inline is one process; leave --jobs out.")


def _devices(text: str, batch: Batch) -> tuple[str, ...]:
    """A device for each worker: the list goes round."""
    names = [name.strip() for name in text.split(",") if name.strip()] or ["auto"]
    if batch.executor != "dask":
        for name in names:
            choose_device(name)
    if batch.executor == "inline":
        return (names[0],)
    count = batch.jobs or len(names)
    return tuple(names[i % len(names)] for i in range(count))


def _shared_out(job: Mapping[str, Any], batch: Batch, workers: int) -> dict[str, Any]:
    """The job of each worker: they share the memory with this process, or what is free; a cluster's have their own."""
    if batch.executor in ("dask", "inline"):
        return dict(job)
    if (most := job.get("max_memory")) is not None:
        return {**job, "max_memory": max(0, most - _OWN_MEMORY) // workers}
    free = available_memory() if workers > 1 else None
    # With less than this a job goes by strips, also one that is small enough to need none.
    return dict(job) if free is None else {**job, "max_memory": max(free // workers, _WITHOUT_STRIPS)}


def _together(inputs: Inputs) -> Path:
    """The folder that all photographs have in common: where the manifest goes if the results go beside them."""
    folders = [found.path.absolute().parent for found in inputs.photos]
    first = folders[0] if folders else Path.cwd()
    return next(folder for folder in (first, *first.parents) if all(f.is_relative_to(folder) for f in folders))


def _plan(
    common: Common, batch: Batch, inputs: Inputs, naming: Naming, options: Options, manifest: Manifest
) -> BatchPlan:
    return make_plan(inputs, naming, options, manifest, overwrite=common.force, skip_existing=batch.skip_existing)


def _engine(batch: Batch, devices: Sequence[str]) -> "Engine":
    if batch.executor == "inline":
        from blindsr.pipelines.batch.engine import InlineEngine

        return InlineEngine(devices[0])
    retries = 2 if batch.retries is None else batch.retries
    if batch.executor == "dask" and batch.scheduler is not None:
        from blindsr.pipelines.batch.cluster import DaskEngine

        return DaskEngine(batch.scheduler, device=devices[0], retries=retries, resources=batch.task_resources)
    from blindsr.pipelines.batch.processes import ProcessEngine

    return ProcessEngine(devices, retries=retries)


def _with_shared_kernel(inputs: Inputs, options: Options, manifest: Manifest, device: str, show: BatchShow) -> Options:
    from blindsr.pipelines.batch.shared_job import shared_kernel_for

    paths = [photo.path for photo in inputs.photos]
    with show.preparing("shared kernel", len(paths)) as count:
        files = options.photo.get("files", DEFAULT_FILES)
        settings = _of_one_factor(options.settings, paths)
        found = shared_kernel_for(paths, settings, manifest, device=device, files=files, listener=count)
    for note in found.notes:
        show.line(f"note: {note}")
    return replace(options, kernel=found.kernel, photo={**options.photo, "kernel_notes": found.notes[:1]})


def _of_one_factor(settings: Settings, photos: Sequence[Path]) -> Settings:
    """The settings with the factor that a size means for all of some photographs.

    Raises:
        ConfigError: It means different factors, which one kernel cannot serve.
    """
    if settings.size is None:
        return settings
    sizes = (picture_size(photo) for photo in photos)
    factors = sorted({settings.for_image(*size[:2]).network_scale for size in sizes if size is not None})
    if len(factors) != 1:
        given = f"×{' and ×'.join(map(str, factors))}" if factors else "none that can be told"
        raise ConfigError(f"one kernel is for one factor, this --size needs {given} of these photographs; use --scale.")
    return replace(settings, scale=float(factors[0]), factors=None, size=None)
