"""What commands print: progress and summaries on stderr, paths, records and tables on stdout."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from blindsr.cli.options import Options
from blindsr.errors import OutputError, reason_of
from blindsr.events import Event, Notice, StageDone, StageStarted, StepDone
from blindsr.pipelines.file_run import FileResult
from blindsr.pipelines.summary import kernel_text, summary_lines

__all__ = [
    "ProgressListener", "Terminal", "csv_text", "kernel_text", "prepare_threads", "print_table", "results_folder",
    "say_of_kernel", "sentence", "show", "summary", "wide_console",
]  # fmt: skip

Cell = str | float | int | None


def wide_console(*, stderr: bool = False) -> Console:
    """A console for tables: in a file or a pipe, they are not cut at the 80 columns that rich assumes there."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=240)


def _in_words(value: Cell, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("inf", "∞")  # −0.00 is 0.00


def print_table(
    title: str, columns: Sequence[tuple[str, int]], rows: Sequence[Sequence[Cell]], footer: Sequence[Cell] | None = None
) -> None:
    """Print a table on stdout, with a footer set apart; columns are headings and the decimals of floats below them."""
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for number, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_in_words(v, d) for v, (_, d) in zip(row, columns, strict=True)))
    if footer is not None:
        table.add_section()
        table.add_row(*(_in_words(v, d) for v, (_, d) in zip(footer, columns, strict=True)), style="bold")
    wide_console().print(table)


def csv_text(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Comma-separated values with a heading; None is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([["" if v is None else v for v in row] for row in rows])
    return buffer.getvalue()


def sentence(text: str) -> str:
    """A warning with a full stop: those of image files have none."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


class Terminal:
    """Lines and progress bars on stderr, without bars where that is no terminal; a context that closes the bars."""

    def __init__(self, *columns: ProgressColumn, console: Console | None = None, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet) if console is None else console
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.printed: set[str] = set()  # the warnings

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def line(self, text: str) -> None:
        """Print a line as it is: no markup, no wrapping."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def notice(self, notice: Notice) -> None:
        """Print a notice, once."""
        if notice.message not in self.printed:
            self.printed.add(notice.message)
            self.line(notice.message if notice.is_plain else f"warning: {sentence(notice.message)}")

    def warn(self, sentence: str) -> None:
        """Print a warning, once."""
        self.notice(Notice(stage="", message=sentence))


def say_of_kernel(terminal: Terminal, options: Options, sentences: Sequence[str]) -> None:
    """Print what was said of a known kernel in reading it.

    These are warnings, but for the first one about a sensor, which says what its kernel is.
    """
    is_sensor = options.sensor is not None or str(options.kernel).startswith("sensor:")
    for number, text in enumerate(sentences):
        terminal.notice(Notice(stage="kernel", message=text, is_plain=is_sensor and number == 0))


class ProgressListener(Terminal):
    """Shows events as one progress bar per stage, and notices as lines; if verbose, stages and values as well."""

    def __init__(self, *, console: Console | None = None, quiet: bool = False, verbose: bool = False) -> None:
        texts = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[steps]}")
        times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
        super().__init__(*texts, TextColumn("{task.fields[values]}"), *times, console=console, quiet=quiet)
        self.verbose = verbose
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        match event:
            case Notice():
                self.notice(event)
            case StageStarted():
                self._start(event)
            case StepDone():
                self._step(event)
            case StageDone():
                self._done(event)

    def _start(self, event: StageStarted) -> None:
        if self.verbose:
            self.line(
                f"{event.stage}: at most {event.max_steps} steps" if event.max_steps else f"{event.stage}: started"
            )
        self._tasks[event.stage] = self.progress.add_task(event.stage, total=event.max_steps, steps="", values="")

    def _step(self, event: StepDone) -> None:
        values = "  ".join(f"{name} {value:.4g}" for name, value in event.values.items())
        if self.verbose and values:
            self.line(f"{event.stage}: step {event.step}  {values}")
        task = self._tasks.get(event.stage)
        if task is None or self.progress.disable:
            return
        total = self.progress.tasks[self.progress.task_ids.index(task)].total
        steps = f"{event.step}/{total:.0f}" if total else str(event.step)
        shown: dict[str, Any] = {"steps": steps, "values": values} if values else {"steps": steps}
        self.progress.update(task, completed=event.step, **shown)

    def _done(self, event: StageDone) -> None:
        if self.verbose:
            why = f" ({event.reason})" if event.reason else ""
            self.line(f"{event.stage}: {event.steps} step{'s' * (event.steps != 1)} done{why}")
        task = self._tasks.get(event.stage)
        if task is not None:
            # A stage that ends early is complete: its bar is full.
            self.progress.update(task, total=max(event.steps, 1), completed=max(event.steps, 1))


@contextmanager
def results_folder(folder: Path) -> Iterator[Path]:
    """A folder for results; where nothing was written into it, what was made of it is removed.

    Raises:
        OutputError: The folder cannot be made.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made ({reason_of(error)}); choose another one.") from error
    try:
        yield folder
    finally:
        with suppress(OSError):  # it is not empty
            for path in new:
                path.rmdir()


def prepare_threads(threads: int | None, *, quiet: bool) -> None:
    """Make this process a worker of so many threads, and say so where that is slow or fewer than the machine has.

    None is as many as there are free cores.
    """
    from blindsr.cores import cores_of_affinity, cores_of_others, threads_of_environment, usable_cores
    from blindsr.runtime import prepare_process

    count, cores = prepare_process(threads), usable_cores()
    if not quiet and count > cores:
        click.echo(
            f"warning: {count} threads on {cores} processor core{'s' * (cores > 1)} wait for each other, and are many "
            f"times slower than {cores}; --threads {cores} uses all of them.",
            err=True,
        )
    if quiet or threads is not None or threads_of_environment() is not None or count == cores:
        return
    click.echo(
        f"Other programs use {cores_of_others():.1f} of {cores_of_affinity()} processor cores, so that {count} thread"
        f"{'s are' if count > 1 else ' is'} fastest now. --threads {cores} uses all of them.",
        err=True,
    )


def show(result: FileResult, options: Options, listener: ProgressListener) -> None:
    """Print the path or the JSON record on stdout, and the summary on stderr."""
    outputs = result.outputs
    main = outputs.kernel if outputs.image is None else outputs.image
    sidecars = [path.name for path in (outputs.kernel, outputs.plot, outputs.record) if path != main]
    summary(result, listener, files=f"{main}, with {', '.join(sidecars)} beside it")
    # Bytes, because the name of a file need not be valid text.
    click.echo(_as_json(result).encode("utf-8", "backslashreplace") if options.as_json else os.fsencode(main))


def summary(result: FileResult, listener: ProgressListener, *, files: str) -> None:
    """Print a summary of a result on stderr; `files` says where it was written."""
    for warning in result.warnings:
        listener.warn(warning)
    for line in summary_lines(result):
        listener.line(line)
    listener.line(f"files: {files}")


def _as_json(result: FileResult) -> str:
    """The record in one line, with paths instead of names and without the curves, which are in the file."""
    folder: Path = result.outputs.kernel.parent
    files = {role: str(folder / name) for role, name in result.outputs.names().items()}
    record = {key: value for key, value in result.record.items() if key != "history"}
    return json.dumps({**record, "files": files}, ensure_ascii=False, allow_nan=False)
