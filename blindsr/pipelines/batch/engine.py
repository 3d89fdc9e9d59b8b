"""Who runs the tasks of a batch: an engine takes them one by one and gives back rows as they are finished."""

from collections.abc import Generator, Iterator
from typing import Protocol

from blindsr.pipelines.batch.events import BatchListener, PhotoSaid, PhotoStarted
from blindsr.pipelines.batch.task import Row, Task, run_task

__all__ = ["Engine", "InlineEngine"]


class Engine(Protocol):
    """Runs tasks. Whatever happens to a worker, each task gives one row; closing the generator ends the workers."""

    def run(self, tasks: Iterator[Task], listener: BatchListener) -> Generator[tuple[Task, Row], None, None]:
        """Run tasks, and yield each with its row in the order in which they end."""
        ...


class InlineEngine:
    """One task after the other in this process: nothing is started, and a crash of one is the crash of all.

    Args:
        device: For every task.
    """

    def __init__(self, device: str = "auto") -> None:
        self.device = device

    def run(self, tasks: Iterator[Task], listener: BatchListener) -> Generator[tuple[Task, Row], None, None]:
        """Run tasks, and yield each with its row."""
        for task in tasks:
            listener(PhotoStarted(source=task.source))
            row = run_task(
                task,
                self.device,
                listener=lambda event, source=task.source: listener(PhotoSaid(source=source, event=event)),
            )
            yield task, row
