"""What a batch prints: one bar for all photographs, one line for each at work, failures as they happen, a summary."""

import json
import os
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from blindsr.batch.run import BatchResult
from blindsr.batch.task import BatchEvent, BatchStarted, ImageDone, ImageEvent, ImageStarted
from blindsr.batch.words import TRAINING_SHARE, duration, plan_lines, printable, reason, time_left
from blindsr.cli.output import Terminal, sentence, wide_console
from blindsr.errors import listed
from blindsr.events import Notice, StageDone, StageStarted, StepDone

__all__ = ["BatchProgress", "show_plan", "show_summary"]

_MAX_NAMES = 5  # that a line lists


def _names(paths: Iterable[Path]) -> str:
    return listed([printable(path) for path in paths], _MAX_NAMES)


class BatchProgress(Terminal):
    """Turns the events of a batch into a bar, lines, and paths or JSON records on stdout.

    If verbose, the start, the end and the warnings of every photograph are printed as they come.
    """

    def __init__(
        self, *, console: Console | None = None, as_json: bool = False, quiet: bool = False, verbose: bool = False
    ) -> None:
        words, left = TextColumn("{task.fields[words]}"), TextColumn("{task.fields[left]}")
        columns = (TextColumn("{task.description}"), BarColumn(), words, TimeElapsedColumn(), left)
        super().__init__(*columns, console=console, quiet=quiet)
        self.as_json, self.verbose = as_json, verbose
        self._started = time.monotonic()
        self._all: TaskID | None = None
        self._stage: TaskID | None = None
        self._tasks: dict[Path, TaskID] = {}
        self._steps: dict[Path, int | None] = {}
        self._begun: dict[Path, float] = {}
        self._open = self._done = self._failed = self._images = self._kept = 0

    def __exit__(self, *error: object) -> None:
        """Close the bars, and print how many images of an interrupted batch are done."""
        super().__exit__(*error)
        if self._images and isinstance(error[1], KeyboardInterrupt):
            done = self._kept + self._done - self._failed
            self.line(
                f"{done} of {self._images} photographs are done and kept: run the same command again for the rest."
            )

    def __call__(self, event: BatchEvent, /) -> None:
        """Take one event."""
        match event:
            case BatchStarted():
                self._begin(event)
            case ImageStarted():
                self._start(event)
            case ImageEvent():
                self._forward(event)
            case ImageDone():
                self._end(event)
            case Notice():
                self.notice(event)
            case StageStarted():  # of the batch as a whole, before the first image
                self._stage = self.progress.add_task(event.stage, total=event.max_steps, words="", left="")
            case StepDone() if self._stage is not None:
                self.progress.update(self._stage, completed=event.step, words=str(event.step))
            case StageDone() if self._stage is not None:
                self.progress.remove_task(self._stage)
                self._stage = None

    def _begin(self, event: BatchStarted) -> None:
        self._open, self._started = event.open, time.monotonic()
        self._images, self._kept = event.images, event.kept + event.skipped
        if event.kept:
            self.line(f"{event.kept} of {event.images} photographs are done already and kept.")
        if event.skipped:
            self.line(f"{event.skipped} of {event.images} photographs have a result and are skipped.")
        self._all = self.progress.add_task("photographs", total=max(event.open, 1), words="", left="")
        self._refresh()

    def _start(self, event: ImageStarted) -> None:
        if self.verbose:
            where = f" on worker {event.worker}" if event.worker else ""
            self.line(f"{printable(event.source)}: started{where}")
        if event.source not in self._tasks:
            name = f"  {printable(Path(event.source.name))}"
            self._tasks[event.source] = self.progress.add_task(name, total=None, words="", left="")

    def _forward(self, event: ImageEvent) -> None:
        inner = event.event
        if self.verbose and isinstance(inner, Notice):
            self.line(f"{printable(event.source)}: {'' if inner.is_plain else 'warning: '}{inner.message}")
        task = self._tasks.get(event.source)
        if task is None:
            return
        if isinstance(inner, StageStarted):
            self.progress.reset(task, total=inner.max_steps, words=inner.stage, left="")
            self._steps[event.source] = inner.max_steps
        elif isinstance(inner, StepDone):
            self.progress.update(task, completed=inner.step, words=inner.stage)
            if steps := self._steps.get(event.source):
                self._begun[event.source] = max(self._begun.get(event.source, 0.0), TRAINING_SHARE * inner.step / steps)
            self._refresh()

    def _end(self, event: ImageDone) -> None:
        status, name = event.row["status"], printable(event.source)
        if (task := self._tasks.pop(event.source.absolute(), None)) is not None:
            self.progress.remove_task(task)
        self._begun.pop(event.source.absolute(), None)
        self._done += status in ("done", "failed")
        self._failed += status == "failed"
        if status == "failed":
            text = f"failed: {name}: {reason(event.source, event.row)}"
            if not self.console.quiet:
                self.line(text)
            elif not self.as_json:  # the record on stdout has the error
                click.echo(text, err=True)
        elif self.verbose:
            self.line(f"{name}: {status}")
        self._print_result(event.source, event.row)
        self._refresh()

    def _print_result(self, source: Path, row: dict[str, Any]) -> None:
        if self.as_json:
            record = {"status": row["status"], "source": str(source), **row.get("record", {})}
            record |= {name: row[name] for name in ("error", "files", "seconds", "attempts") if name in row}
            self._result_line(json.dumps(record, allow_nan=False))
        elif row["status"] == "done":
            self._result_line(row["files"]["image"])

    def _result_line(self, text: str) -> None:
        """Print a path or a record on stdout; above the bars if both are in the terminal, where they would collide."""
        if not self.progress.disable and sys.stdout.isatty():
            self.line(printable(text))
        else:
            # Bytes: the name of a file need not be text.
            click.echo(os.fsencode(text))

    def _refresh(self) -> None:
        if self._all is None or self.progress.disable:
            return
        done, left = self._done + sum(self._begun.values()), ""
        seconds = time_left(done / max(self._open, 1), time.monotonic() - self._started)
        if seconds is not None:
            left = f"{duration(seconds)} left"
        failed = f", {self._failed} failed" if self._failed else ""
        self.progress.update(self._all, completed=done, words=f"{self._done}/{self._open}{failed}", left=left)


_STATUS = {
    "done": "done",
    "kept": "kept, done by an earlier run",
    "skipped": "skipped, have a result",
    "failed": "failed",
    "left": "not begun",
}


def show_plan(result: BatchResult, *, as_json: bool) -> None:
    """Print what a batch would do, on stdout."""
    if not as_json:
        *lines, last = plan_lines(result)
        for line in lines:
            click.echo(line)
        click.echo(f"{last} Nothing was done.")
        return
    plan = result.plan
    for item in plan.items:
        names = {"status": item.state, "source": str(item.source), "target": str(plan.file(item))}
        error = {} if item.state != "failed" else {"error": reason(item.source, item.row or {})}
        click.echo(json.dumps(names | error | plan.sizes(item)))


def show_summary(result: BatchResult, *, quiet: bool, printed: Collection[str] = ()) -> None:
    """Print a summary, the warnings that were not `printed` before, and a table of failures on stderr.

    If quiet, only why the batch stopped is printed, if it did.
    """
    if quiet:
        if result.stopped:
            click.echo(f"stopped: {result.stopped}", err=True)
        return
    console = wide_console(stderr=True)
    title = f"{'stopped after' if result.stopped else 'done in'} {duration(result.seconds)}"
    table = Table(show_edge=False, pad_edge=False, title=title, title_justify="left")
    table.add_column("photographs")
    table.add_column(str(len(result.rows)), justify="right")
    for status, words in _STATUS.items():
        if count := result.count(status):
            table.add_row(words, str(count))
    if result.with_warnings:
        table.add_row("with warnings", str(result.with_warnings))
    console.print(table)
    for text, paths in sorted(result.warnings().items(), key=lambda item: -len(item[1])):
        if text not in printed:
            console.print(f"warning: {sentence(text)} ({_names(paths)})", markup=False, soft_wrap=True)
    failed = [(path, reason(path, row)) for path, row in result.rows if row["status"] == "failed"]
    if failed:
        failures = Table(show_edge=False, pad_edge=False)
        failures.add_column("failed")
        failures.add_column("why", overflow="fold")
        for path, error in failed:
            failures.add_row(printable(path), error)
        console.print(failures)
    if result.stopped:
        console.print(f"stopped: {result.stopped}", markup=False, soft_wrap=True)
    if result.complete:
        return
    missing = [path for path, _ in failed if not os.path.lexists(path)]
    advice = "What is done is kept"
    if result.stopped or result.count("left"):
        advice += ": run the same command again for the rest"
    elif len(missing) < len(failed):
        advice += ": correct the causes of the failures, and run the same command again"
    if missing:
        what, names = "This file does", "name"
        if len(missing) > 1:
            what, names = "These files do", "names"
        quotes = "put quotes around a name with spaces"
        advice = f"{what} not exist: {_names(missing)}. Check the {names}; {quotes}. {advice}"
    console.print(f"{advice}. ({result.plan.manifest.path})", markup=False, soft_wrap=True)
