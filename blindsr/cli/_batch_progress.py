"""Progress of a batch on stderr: one bar for all, one line for each photograph at work, and failures as they happen."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from blindsr.events import Notice, StageStarted, StepDone
from blindsr.pipelines.batch.events import BatchEvent, BatchStarted, PhotoDone, PhotoSaid, PhotoStarted
from blindsr.pipelines.batch.forecast import Forecast

__all__ = ["BatchShow", "batch_showing", "duration", "printable", "reason"]

# The share of a photograph that its training is: the rest is reading, estimating, and writing.
_TRAINING = 0.8
# The share of a batch from which on its own pace says more than the forecast.
_ENOUGH = 0.02


def printable(path: Path) -> str:
    """A path that cannot steer a terminal: control characters and bytes that are no text are written as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def reason(source: Path, row: dict[str, Any]) -> str:
    """Why a photograph failed, without its name at the beginning, which workers know as an absolute one."""
    error = str(row.get("error", "unknown"))
    return error.removeprefix(f"{source.absolute()}: ").removeprefix(f"{source}: ")


class BatchShow:
    """Turns the events of a batch into a bar, lines, and results on stdout.

    Args:
        console: Writes to stderr. Without a terminal there are no bars.
        as_json: Print a JSON record for each photograph on stdout, not the path of its result.
        verbose: Say every photograph's beginning, end and notes.
    """

    def __init__(self, console: Console, *, as_json: bool = False, verbose: bool = False) -> None:
        self.console = console
        self.as_json = as_json
        self.verbose = verbose
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._expected: list[float] = []
        self._weight = 1.0
        self._started = time.monotonic()
        self._all: TaskID | None = None
        self._tasks: dict[Path, TaskID] = {}
        self._steps: dict[Path, int | None] = {}
        self._begun: dict[Path, float] = {}
        self._total = self._open = self._done = self._failed = 0

    def expect(self, forecast: Forecast) -> None:
        """Take what the photographs are expected to need: the time that is left follows from it."""
        self._weight = forecast.total

    def __call__(self, event: BatchEvent, /) -> None:
        """Take one event."""
        match event:
            case BatchStarted():
                self._begin(event)
            case PhotoStarted():
                self._start(event)
            case PhotoSaid():
                self._say(event)
            case PhotoDone():
                self._end(event)

    @contextmanager
    def preparing(self, words: str, total: int) -> Iterator[Callable[[str, int], None]]:
        """A bar for what comes before the photographs; takes a name and a number as they are done."""
        task = self.progress.add_task(words, total=total, words="", left="")

        def count(name: str, number: int) -> None:
            self.progress.update(task, completed=number, words=f"{number}/{total}")

        yield count
        self.progress.remove_task(task)

    def line(self, text: str) -> None:
        """Print a line as it is: no markup, no wrapping."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _complain(self, text: str) -> None:
        """Print a line even where nothing but errors is to be said; a JSON record says it on stdout."""
        if not self.console.quiet:
            self.line(text)
        elif not self.as_json:
            click.echo(text, err=True)

    def _begin(self, event: BatchStarted) -> None:
        self._total, self._open = event.photos, event.open
        self._started = time.monotonic()
        if event.kept:
            self.line(f"{event.kept} of {event.photos} photographs are done already and kept.")
        if event.skipped:
            self.line(f"{event.skipped} of {event.photos} photographs have a result and are skipped.")
        self._all = self.progress.add_task("photographs", total=max(event.open, 1), words="", left="")
        self._refresh()

    def _start(self, event: PhotoStarted) -> None:
        if self.verbose:
            self.line(f"{printable(event.source)}: begins on worker {event.worker or 'this process'}")
        if event.source not in self._tasks:
            self._tasks[event.source] = self.progress.add_task(
                f"  {printable(Path(event.source.name))}", total=None, words="", left=""
            )

    def _say(self, event: PhotoSaid) -> None:
        inner = event.event
        if self.verbose and isinstance(inner, Notice):
            self.line(f"{printable(event.source)}: {inner.message}")
        task = self._tasks.get(event.source)
        if task is None:
            return
        if isinstance(inner, StageStarted):
            self.progress.reset(task, total=inner.max_steps, words=inner.stage, left="")
            self._steps[event.source] = inner.max_steps
        elif isinstance(inner, StepDone):
            self.progress.update(task, completed=inner.step, words=inner.stage)
            if steps := self._steps.get(event.source):
                self._begun[event.source] = max(self._begun.get(event.source, 0.0), _TRAINING * inner.step / steps)
            self._refresh()

    def _end(self, event: PhotoDone) -> None:
        status = event.row["status"]
        if (task := self._tasks.pop(event.source.absolute(), None)) is not None:
            self.progress.remove_task(task)
        self._begun.pop(event.source.absolute(), None)
        if status in ("done", "failed"):
            self._done += 1
            self._failed += status == "failed"
        if status == "failed":
            self._complain(f"failed: {printable(event.source)}: {reason(event.source, event.row)}")
        elif self.verbose:
            self.line(f"{printable(event.source)}: {status}")
        self._tell(event.source, event.row)
        self._refresh()

    def _tell(self, source: Path, row: dict[str, Any]) -> None:
        if self.as_json:
            record = {"status": row["status"], "source": str(source), **row.pop("record", {})}
            record |= {name: row[name] for name in ("error", "files", "seconds", "attempts") if name in row}
            click.echo(json.dumps(record, allow_nan=False))
        elif row["status"] == "done":
            # Bytes: the name of a file need not be text.
            click.echo(os.fsencode(row["files"]["image"]))

    def _refresh(self) -> None:
        if self._all is None or self.progress.disable:
            return
        failed = f", {self._failed} failed" if self._failed else ""
        self.progress.update(
            self._all,
            completed=self._done + sum(self._begun.values()),
            words=f"{self._done}/{self._open}{failed}",
            left=self._left(),
        )

    def _left(self) -> str:
        elapsed = time.monotonic() - self._started
        done = self._done + sum(self._begun.values())
        if done < _ENOUGH * self._open or self._open == 0:
            return f"about {duration(max(self._weight - elapsed, 0.0))} left"
        return f"{duration(elapsed / done * (self._open - done))} left"


@contextmanager
def batch_showing(*, as_json: bool, quiet: bool, verbose: bool) -> Iterator[BatchShow]:
    """A listener on stderr, whose bars are gone from the terminal's control when the block ends."""
    show = BatchShow(Console(stderr=True, quiet=quiet), as_json=as_json, verbose=verbose)
    with show.progress:
        yield show
