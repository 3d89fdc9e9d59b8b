"""The engine of one machine: a process for each slot, each with its device, and none that takes the others down."""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from blindsr.errors import ConfigError, DeviceError
from blindsr.pipelines.batch.events import BatchListener, PhotoSaid, PhotoStarted
from blindsr.pipelines.batch.task import Row, Task
from blindsr.pipelines.batch.worker import READY, ROW, SAID, serve

__all__ = ["ProcessEngine"]

# A worker that ends this often before it has begun will not begin. One that somebody kills may, with more patience.
_FALSE_STARTS = 3
_KILLED_STARTS = 10
_PATIENCE = 10.0  # seconds that a worker has to leave its job tidily


@dataclass(frozen=True)
class _Attempt:
    task: Task
    number: int = 1


class _Slot:
    """A place for one process. It is filled again when its process has died."""

    def __init__(self, number: int, device: str) -> None:
        self.number = number
        self.device = device
        self.attempt: _Attempt | None = None
        self.ready = False
        self.false_starts = 0
        self.start()

    def start(self) -> None:
        # Spawned: a fork of a process that has used torch's threads can hang.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        ours, self.lifeline = context.Pipe(duplex=False)
        self.ready = False
        self.process: BaseProcess = context.Process(target=serve, args=(theirs, ours, self.device), daemon=True)
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()
        ours.close()

    @property
    def name(self) -> str:
        return f"{self.number + 1} ({self.device})"

    def give(self, attempt: _Attempt) -> None:
        self.attempt = attempt
        self.pipe.send(attempt.task)

    def close(self) -> None:
        self.pipe.close()
        self.lifeline.close()


class ProcessEngine:
    """Tasks on processes of this machine.

    A process that dies costs the photograph that it worked on one attempt, and the others nothing. A photograph whose
    process died, or whose memory ran out, is tried again at the end, alone.

    Args:
        devices: A process for each; "cuda:0", "cuda:0", "cuda:1" puts two on the first GPU.
        retries: Further attempts for a photograph.
    """

    def __init__(self, devices: Sequence[str] = ("auto",), *, retries: int = 2) -> None:
        if not devices:
            raise ConfigError("a batch needs a process or more, got none.")
        if retries < 0:
            raise ConfigError(f"retries must be 0 or more, got {retries}.")
        self.devices = tuple(devices)
        self.retries = retries

    def run(self, tasks: Iterator[Task], listener: BatchListener) -> Generator[tuple[Task, Row], None, None]:
        """Run tasks, and yield each with its row in the order in which they end.

        Raises:
            DeviceError: No process can be started.
        """
        run = _Run(tasks, self.devices, self.retries, listener)
        try:
            yield from run.rows()
        finally:
            run.end()


class _Run:
    def __init__(self, tasks: Iterator[Task], devices: tuple[str, ...], retries: int, listener: BatchListener) -> None:
        self.tasks = tasks
        self.devices = devices
        self.retries = retries
        self.listener = listener
        self.again: deque[_Attempt] = deque()
        self.slots: list[_Slot] = []

    def rows(self) -> Iterator[tuple[Task, Row]]:
        self._fill()
        while any(slot.attempt for slot in self.slots):
            for slot in self._with_news():
                yield from self._hear(slot)
            self._fill()

    def _with_news(self) -> list[_Slot]:
        pipes = {slot.pipe: slot for slot in self.slots}
        ready = wait(list(pipes))  # a pipe of a dead process is ready too: it ends
        return [pipes[pipe] for pipe in ready if isinstance(pipe, Connection)]

    def _fill(self) -> None:
        """Give every idle slot a task; processes are started as they are needed."""
        for slot in [slot for slot in self.slots if slot.attempt is None]:
            if (attempt := self._next()) is None:
                return
            self._give(slot, attempt)
        while len(self.slots) < len(self.devices) and (attempt := self._next()) is not None:
            slot = _Slot(len(self.slots), self.devices[len(self.slots)])
            self.slots.append(slot)
            self._give(slot, attempt)

    def _next(self) -> _Attempt | None:
        if (task := next(self.tasks, None)) is not None:
            return _Attempt(task)
        if self.again and not any(slot.attempt for slot in self.slots):
            return self.again.popleft()  # alone: with less beside it, it may fit
        return None

    def _give(self, slot: _Slot, attempt: _Attempt) -> None:
        self.listener(PhotoStarted(source=attempt.task.source, worker=slot.name))
        with contextlib.suppress(OSError):  # it has died meanwhile: `_hear` learns of it, the attempt is in its slot
            slot.give(attempt)

    def _hear(self, slot: _Slot) -> Iterator[tuple[Task, Row]]:
        try:
            kind, content = slot.pipe.recv()
        except (EOFError, OSError):
            yield from self._mourn(slot)
            return
        attempt = slot.attempt
        if kind == READY:
            slot.ready, slot.false_starts = True, 0
        elif kind == SAID and attempt is not None:
            self.listener(PhotoSaid(source=attempt.task.source, event=content))
        elif kind == ROW and attempt is not None:
            slot.attempt = None
            yield from self._settle(attempt, content)

    def _settle(self, attempt: _Attempt, row: Row) -> Iterator[tuple[Task, Row]]:
        if row.pop("retry", False) and attempt.number <= self.retries:
            self.again.append(replace(attempt, number=attempt.number + 1))
        else:
            yield attempt.task, row if attempt.number == 1 else {**row, "attempts": attempt.number}

    def _mourn(self, slot: _Slot) -> Iterator[tuple[Task, Row]]:
        slot.process.join(_PATIENCE)
        words = _death(slot.process.exitcode)
        slot.close()
        attempt, slot.attempt = slot.attempt, None
        if not slot.ready:
            slot.false_starts += 1
            was_killed = (slot.process.exitcode or 0) < 0
            if slot.false_starts >= (_KILLED_STARTS if was_killed else _FALSE_STARTS):
                raise DeviceError(
                    f"no worker process can be started ({words}); try --executor inline, or fewer --jobs."
                )
            slot.start()
            if attempt is not None:
                self._give(slot, attempt)
            return
        slot.start()
        if attempt is not None:
            yield from self._settle(attempt, {"status": "failed", "error": words, "retry": True})

    def end(self) -> None:
        """End every process; one that works leaves its job tidily, and is given the time for that."""
        for slot in self.slots:
            if slot.attempt is None:
                slot.close()  # it waits for a task, and goes when none can come
            else:
                slot.process.terminate()
        for slot in self.slots:
            slot.process.join(_PATIENCE)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.close()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let a process begin that never hears Ctrl-C, not even while it imports: this one does, and ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the worker process ended by itself (exit code {code}); run it alone to see why."
    name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
    hint = "; the system does that when memory runs out: use fewer --jobs" if -code == 9 else ""
    return f"the worker process was killed ({name}){hint}."
