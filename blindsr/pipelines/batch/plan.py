"""What a batch will do, photograph by photograph, decided before any work."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blindsr.errors import OutputError
from blindsr.pipelines.batch.inputs import Inputs
from blindsr.pipelines.batch.manifest import Manifest
from blindsr.pipelines.batch.naming import SUFFIXES, Naming, check_collisions
from blindsr.pipelines.batch.task import Options, Row, Task, finished_result, run_is_whole, task_key

__all__ = ["BatchPlan", "Item", "State", "make_plan"]

# To be done; done by an earlier run of this batch; there already and left alone; cannot be done.
State = Literal["open", "kept", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """A photograph of a plan.

    Args:
        source: The photograph.
        target: The place of its result; see `BatchPlan.whole`.
        state: What will happen to it.
        row: What is known of a result that is kept, or why it failed.
        exists: What lies at the place of the result, if anything.
    """

    source: Path
    target: Path
    state: State
    row: Row | None = None
    exists: Path | None = None


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """A batch.

    Args:
        items: Every photograph, in order.
        options: What decides the results.
        whole: Targets have their suffixes; if not, each photograph decides on its own.
        overwrite: Results that exist may be replaced.
        manifest: Notes what is done.
    """

    items: tuple[Item, ...]
    options: Options
    whole: bool
    overwrite: bool
    manifest: Manifest

    @property
    def open(self) -> tuple[Item, ...]:
        """What is to be done."""
        return tuple(item for item in self.items if item.state == "open")

    def count(self, state: State) -> int:
        """Photographs in a state."""
        return sum(item.state == state for item in self.items)

    def task(self, item: Item, threads: int | None) -> Task:
        """The task of an open item.

        Raises:
            OSError: The photograph cannot be read.
        """
        digest = self.manifest.digest(item.source)
        return Task(
            source=item.source.absolute(),
            target=item.target.absolute(),
            whole=self.whole,
            key=task_key(digest, self.options),
            digest=digest,
            options=self.options,
            overwrite=self.overwrite,
            threads=threads,
        )


def make_plan(
    inputs: Inputs,
    naming: Naming,
    options: Options,
    manifest: Manifest,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> BatchPlan:
    """Decide what is to be done, and refuse what cannot end well.

    A result of the same photograph and settings is kept, whatever the other arguments say.

    Args:
        inputs: The photographs.
        naming: The places of their results.
        options: What decides the results.
        manifest: Of earlier runs.
        overwrite: Other files at these places may be replaced.
        skip_existing: Photographs whose result exists, of whatever settings, are left alone.

    Raises:
        OutputError: Two photographs would have one result, or results exist and neither `overwrite` nor
            `skip_existing` was said. Nothing has been done then.
    """
    places = [(found.path, naming.place(found)) for found in inputs.photos]
    check_collisions(places, whole=naming.decides_suffix)
    whole = naming.decides_suffix
    items = [_item(source, target, whole, options, manifest, skip=skip_existing) for source, target in places]
    items += [
        Item(source=path, target=path, state="failed", row={"status": "failed", "error": reason})
        for path, reason in inputs.problems
    ]
    _check_existing([item for item in items if item.state == "open" and item.exists], overwrite=overwrite)
    _check_inputs_survive(items)
    return BatchPlan(items=tuple(items), options=options, whole=whole, overwrite=overwrite, manifest=manifest)


def _item(source: Path, target: Path, whole: bool, options: Options, manifest: Manifest, *, skip: bool) -> Item:
    exists = _existing(target, whole)
    if exists is None:
        return Item(source=source, target=target, state="open")
    if (row := _kept(source, target, exists, options, manifest)) is not None:
        if options.report and not exists.with_suffix(".html").is_file():
            return Item(source=source, target=target, state="open")  # the page needs the run; the files are our own
        return Item(source=source, target=target, state="kept", row=row, exists=exists)
    return Item(source=source, target=target, state="skipped" if skip else "open", exists=exists)


def _existing(target: Path, whole: bool) -> Path | None:
    if whole:
        return target if target.exists() else None
    candidates = (target.with_name(target.name + suffix) for suffix in SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def _kept(source: Path, target: Path, exists: Path, options: Options, manifest: Manifest) -> Row | None:
    """The row of a result that this batch has made; None if the file is something else."""
    try:
        key = task_key(manifest.digest(source), options)
    except OSError:
        return None
    row = manifest.row(source, target)
    record = exists.with_name(exists.stem + ".json")
    if row is not None and row.get("status") == "done" and row.get("key") == key and run_is_whole(row, exists):
        return row
    # Killed between the last file and the line on it: the result is its own proof.
    if (found := finished_result(record, key)) is None:
        return None
    return {
        "status": "done",
        "key": key,
        "image": {"name": exists.name, "bytes": exists.stat().st_size, "sha256": found["image_sha256"]},
        "names": list(found["files"].values()),
        "seconds": found.get("seconds"),
        "unnoted": True,
    }


def _check_existing(items: Sequence[Item], *, overwrite: bool) -> None:
    if not items or overwrite:
        return
    names = ", ".join(str(item.exists) for item in items[:3])
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    raise OutputError(
        f"results exist already that this run would not make: {names}{more}. Nothing was done; keep them "
        "(--skip-existing), replace them (--force), or choose another folder or --name."
    )


def _check_inputs_survive(items: Sequence[Item]) -> None:
    """Refuse a plan in which a result would replace a photograph of the same batch."""
    sources = {item.source.absolute() for item in items}
    for item in items:
        if item.exists is not None and item.exists.absolute() in sources and item.state == "open":
            raise OutputError(
                f"the result of {item.source} would replace the photograph {item.exists}; choose another --name "
                "or folder."
            )
