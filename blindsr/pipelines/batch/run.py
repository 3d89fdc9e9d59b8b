"""Run a plan: every photograph gives a row, every row is noted before the next is counted, and a kill loses nothing."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blindsr.errors import OutputError
from blindsr.pipelines.batch.engine import Engine
from blindsr.pipelines.batch.events import BatchListener, BatchStarted, PhotoDone, silent
from blindsr.pipelines.batch.plan import BatchPlan, Item
from blindsr.pipelines.batch.task import Row, Task
from blindsr.pipelines.outputs import image_outputs, leftovers

__all__ = ["BatchResult", "run_batch"]


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of a batch.

    Args:
        rows: A row for each photograph of the plan, in its order: "status" is "done", "kept", "skipped", "failed", or
            "left" for one that was not begun.
        seconds: Of this run.
        stopped: Why it ended before its end; empty if it did not.
    """

    rows: tuple[tuple[Path, Row], ...]
    seconds: float
    stopped: str = ""

    def count(self, status: str) -> int:
        """Photographs with a status."""
        return sum(row["status"] == status for _, row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every photograph has its result."""
        return not self.stopped and not self.count("failed") and not self.count("left")


def run_batch(
    plan: BatchPlan, engine: Engine, *, threads: int | None = None, listener: BatchListener = silent
) -> BatchResult:
    """Run what is open in a plan.

    The manifest gets a line for each photograph when its result is on the disk. A photograph that fails is noted, and
    the rest goes on; a full disk ends the batch, since nothing after it could be written either.

    Args:
        plan: As `make_plan` gives it, its manifest locked.
        engine: Who runs the tasks.
        threads: Of each worker; None leaves them as they are.
        listener: Takes the events.

    Returns:
        A row for every photograph.

    Raises:
        DeviceError: The engine cannot start a worker.
    """
    started = time.monotonic()
    run = _Run(plan, threads, listener)
    listener(
        BatchStarted(
            photos=len(plan.items), open=len(plan.open), kept=plan.count("kept"), skipped=plan.count("skipped")
        )
    )
    for item in plan.items:
        if item.state == "kept":
            run.keep(item)
        elif item.state == "skipped":
            run.say(item, {"status": "skipped", "image": {"name": item.exists.name if item.exists else ""}})
        elif item.state == "failed":
            run.say(item, item.row or {"status": "failed", "error": "unknown"})
    stopped = run.work(engine)
    rows = tuple((item.source, run.rows.get(item.target, {"status": "left"})) for item in plan.items)
    return BatchResult(rows=rows, seconds=time.monotonic() - started, stopped=stopped)


class _Run:
    def __init__(self, plan: BatchPlan, threads: int | None, listener: BatchListener) -> None:
        self.plan = plan
        self.threads = threads
        self.listener = listener
        self.rows: dict[Path, Row] = {}
        self.items = {item.target.absolute(): item for item in plan.items}

    def say(self, item: Item, row: Row) -> None:
        self.rows[item.target] = row
        self.listener(PhotoDone(source=item.source, row=row))

    def keep(self, item: Item) -> None:
        """Tell of a result that lies there; one that no line is on yet gets its line."""
        row = dict(item.row or {})
        if row.pop("unnoted", False) and item.exists is not None:
            outputs = image_outputs(item.source, "", item.exists.suffix, item.exists)
            for folder in leftovers(outputs, row["key"]):
                shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OutputError):  # it proves itself the next time too
                self.plan.manifest.note(item.source, item.target, row)
        files = {} if item.exists is None else {"image": str(item.exists.absolute())}
        self.say(item, {**row, "status": "kept", "files": files})

    def work(self, engine: Engine) -> str:
        """Run the open items; says why if it had to stop."""
        rows = engine.run(self._tasks(), self.listener)
        try:
            for task, row in rows:
                row.pop("retry", None)
                fatal = row.pop("fatal", "")
                if fatal:
                    with contextlib.suppress(OutputError):
                        self._note(task, row)
                else:
                    self._note(task, row)
                self.say(self.items[task.target], row)
                if fatal:
                    return str(fatal)
        except OutputError as error:  # the manifest cannot be written; the results that are there prove themselves
            return " ".join(str(error).split())
        finally:
            rows.close()
        return ""

    def _tasks(self) -> Iterator[Task]:
        for item in self.plan.open:
            try:
                yield self.plan.task(item, self.threads)
            except OSError as error:
                row = {"status": "failed", "error": f"{item.source}: the file cannot be read ({error.strerror})."}
                self.plan.manifest.note(item.source, item.target, row)
                self.say(item, row)

    def _note(self, task: Task, row: Row) -> None:
        line: Row = {name: row[name] for name in ("status", "error", "image", "seconds", "attempts") if name in row}
        line["key"] = task.key
        if "files" in row:
            line["names"] = [Path(path).name for path in row["files"].values()]
        self.plan.manifest.note(task.source, task.target, line)
