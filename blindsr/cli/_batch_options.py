"""The options of a batch, and whether a call is one."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click

from blindsr.cli._options import PHOTO

__all__ = ["PIPE", "Batch", "batch_options", "is_batch", "photos_argument"]

P = ParamSpec("P")
R = TypeVar("R")
PIPE = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The options of a batch as they were given; None and False are "not given"."""

    recursive: bool
    name_template: str | None
    skip_existing: bool
    dry_run: bool
    jobs: int | None
    executor: str | None
    scheduler: str | None
    task_resources: str | None
    retries: int | None
    manifest: Path | None
    shared_kernel: bool = False

    def asked(self) -> tuple[str, ...]:
        """The options that were given, as the user wrote them."""
        return tuple(_NAMES[field.name] for field in fields(self) if getattr(self, field.name) not in (None, False))


_NAMES = {
    "recursive": "--recursive",
    "name_template": "--name",
    "skip_existing": "--skip-existing",
    "dry_run": "--dry-run",
    "jobs": "--jobs",
    "executor": "--executor",
    "scheduler": "--scheduler",
    "task_resources": "--task-resources",
    "retries": "--retries",
    "manifest": "--manifest",
    "shared_kernel": "--shared-kernel",
}

_OPTIONS = {
    "recursive": click.option(
        "-r", "--recursive", is_flag=True, help="Go into the folders of folders; the tree is mirrored under -o."
    ),
    "name_template": click.option(
        "--name",
        "name_template",
        metavar="TEMPLATE",
        help="Names of results, of {stem}, {suffix}, {folder}, {label}, {scale}, {preset}; a suffix at its end "
        "chooses the format.  [default: {stem}_blindsr_{label}]",
    ),
    "skip_existing": click.option(
        "--skip-existing", is_flag=True, help="Leave photographs alone whose result exists, of whatever settings."
    ),
    "dry_run": click.option(
        "--dry-run", is_flag=True, help="Say what would be done, and about how long and with how much memory."
    ),
    "jobs": click.option(
        "--jobs",
        type=click.IntRange(1),
        show_default="1, or one per --device",
        help="Photographs at once, each in a process; they share the threads.",
    ),
    "shared_kernel": click.option(
        "--shared-kernel",
        is_flag=True,
        help="Estimate one kernel from all photographs together: for those of one camera and lens.",
    ),
    "executor": click.option(
        "--executor",
        type=click.Choice(["processes", "inline", "dask"]),
        show_default="processes",
        help="Who runs a batch: processes of this machine, this process alone, or a dask cluster (blindsr[cluster]).",
    ),
    "scheduler": click.option("--scheduler", metavar="ADDRESS", help="Of the dask cluster, such as tcp://host:8786."),
    "task_resources": click.option(
        "--task-resources",
        metavar="NAME=N,...",
        help="What a photograph takes of a dask worker's resources, such as GPU=1.",
    ),
    "retries": click.option(
        "--retries",
        type=click.IntRange(0),
        show_default="2",
        help="Further attempts for a photograph whose worker died or ran out of memory.",
    ),
    "manifest": click.option(
        "--manifest",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Notes what is done, for the next run.  "
        "[default: blindsr-manifest.jsonl under -o, or beside the photographs]",
    ),
}


def photos_argument(function: Callable[P, R]) -> Callable[P, R]:
    """Photographs, folders and globs, one or more."""
    return click.argument("photos", metavar="PHOTO...", type=PHOTO, nargs=-1, required=True)(function)


def batch_options(*, without: tuple[str, ...] = ()) -> Callable[[Callable[Concatenate[Batch, P], R]], Callable[P, R]]:
    """Give a command the options of a batch, gathered in a `Batch` as its first argument."""

    def decorate(function: Callable[Concatenate[Batch, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def command(*args: P.args, **values: P.kwargs) -> R:
            given = {name: values.pop(name) for name in _OPTIONS if name not in without}
            return function(Batch(**given), *args, **values)  # type: ignore[arg-type]

        for name, option in reversed(_OPTIONS.items()):
            if name not in without:
                command = option(command)
        return command

    return decorate


def is_batch(photos: Sequence[Path], batch: Batch, device: str | None) -> bool:
    """Whether a call is about many photographs; one file without options of a batch is not."""
    from blindsr.pipelines.batch.inputs import is_pattern

    several = len(photos) > 1 or photos[0].is_dir() or is_pattern(photos[0])
    return photos[0] != PIPE and (several or bool(batch.asked()) or "," in (device or ""))
