"""Progress on stderr: bars where there is a terminal, sentences everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from blindsr.events import Event, Notice, StageDone, StageStarted, StepDone

__all__ = ["RichListener", "listening"]


def _in_words(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


class RichListener:
    """Turns events into a bar a stage, and notices into sentences.

    Args:
        console: Writes to stderr. Without a terminal there are no bars.
        verbose: Say stages and reported values as lines too.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self.console = console
        self.verbose = verbose
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[steps]}"),
            TextColumn("{task.fields[values]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.said: set[str] = set()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        match event:
            case Notice():
                self.note(event.message)
            case StageStarted():
                self._start(event)
            case StepDone():
                self._step(event)
            case StageDone():
                self._done(event)

    def note(self, sentence: str) -> None:
        """Say a sentence, once."""
        if sentence not in self.said:
            self.said.add(sentence)
            self.line(f"note: {sentence}")

    def line(self, text: str) -> None:
        """Print a line as it is: no markup, no wrapping."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _start(self, event: StageStarted) -> None:
        if self.verbose:
            self.line(
                f"{event.stage}: at most {event.max_steps} steps" if event.max_steps else f"{event.stage}: begins"
            )
        self._tasks[event.stage] = self.progress.add_task(event.stage, total=event.max_steps, steps="", values="")

    def _step(self, event: StepDone) -> None:
        values = _in_words(dict(event.values))
        if self.verbose and values:
            self.line(f"{event.stage}: step {event.step}  {values}")
        task = self._tasks.get(event.stage)
        if task is None or self.progress.disable:
            return
        total = self.progress.tasks[self.progress.task_ids.index(task)].total
        steps = f"{event.step}/{total:.0f}" if total else str(event.step)
        if values:
            self.progress.update(task, completed=event.step, steps=steps, values=values)
        else:
            self.progress.update(task, completed=event.step, steps=steps)

    def _done(self, event: StageDone) -> None:
        if self.verbose:
            why = f" ({event.reason})" if event.reason else ""
            self.line(f"{event.stage}: {event.steps} steps done{why}")
        task = self._tasks.get(event.stage)
        if task is not None:
            # A stage that ends early is done all the same: its bar is full.
            self.progress.update(task, total=max(event.steps, 1), completed=max(event.steps, 1))


@contextmanager
def listening(*, quiet: bool, verbose: bool) -> Iterator[RichListener]:
    """A listener on stderr, whose bars are gone from the terminal's control when the block ends."""
    listener = RichListener(Console(stderr=True, quiet=quiet), verbose=verbose)
    with listener.progress:
        yield listener
