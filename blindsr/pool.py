"""A process pool whose workers fail alone: a worker that is killed costs its own task one attempt, and nothing else.

Each worker has a pipe of its own. Pools whose workers share a queue fail as a whole when a worker is killed while it
starts, waits for a task or holds the lock of the queue; `concurrent.futures` and pebble do (docs/reliability.md).
"""

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from blindsr.cores import default_threads
from blindsr.errors import BlindSRError, ConfigError, DeviceError, is_out_of_memory
from blindsr.runtime import prepare_process

__all__ = ["Outcome", "Worker", "WorkerDiedError", "current_worker", "run_in_processes"]

Task = TypeVar("Task")
T = TypeVar("T")
_MAX_FAILED_STARTS, _MAX_KILLED_STARTS = 3, 10  # a worker that is killed from outside may start the next time
_SHUTDOWN_SECONDS = 10.0  # for a worker to clean up after SIGTERM


class WorkerDiedError(BlindSRError, RuntimeError):
    """A worker process was killed or crashed while it ran a task."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """A task, its position in the order of the tasks, and after its last attempt either a value or an error."""

    index: int
    task: Any
    value: T | None = None
    error: BaseException | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Worker:
    """A worker process: its number from 0, and a function that sends a picklable message to the parent's listener."""

    number: int = 0
    send: Callable[[object], None] = lambda message: None


_current = Worker()


def current_worker() -> Worker:
    """The worker process that runs this code; outside a pool worker 0, whose messages are discarded."""
    return _current


def run_in_processes(
    function: Callable[[Task], T],
    tasks: Iterable[Task],
    *,
    jobs: int,
    threads: int | None = None,
    retries: int = 0,
    should_retry: Callable[[T], bool] = lambda value: False,
    listener: Callable[[int, Any], object] = lambda index, message: None,
) -> Generator[Outcome[T], None, None]:
    """Run a function on tasks in worker processes, and yield the outcomes in the order of completion.

    A task whose worker died or which ran out of memory is tried again after all others, with no other task beside it.
    Closing the generator (`contextlib.closing`) or an exception in it, such as Ctrl-C, ends the workers by SIGTERM, so
    that their `finally` blocks run; if the parent is killed, the workers exit at once.

    Args:
        function: Picklable by reference; may use `current_worker`.
        tasks: Picklable values; each is taken from the iterable when a worker is free for it.
        jobs: The number of processes.
        threads: Threads of each process; None divides the usable cores among the processes.
        retries: Further attempts for a task whose worker died or which ran out of memory.
        should_retry: Whether a returned value stands for a failure that deserves another attempt.
        listener: Receives the index of a task and a message that its worker has sent.

    Raises:
        ConfigError: `jobs` is below 1 or `retries` below 0.
        DeviceError: The workers cannot be started.
    """
    if jobs < 1 or retries < 0:
        raise ConfigError(f"jobs must be 1 or more and retries 0 or more, got {jobs} and {retries}.")
    threads = max(1, default_threads() // jobs) if threads is None else threads
    new: Iterator[Outcome[T]] = (Outcome(index=index, task=task) for index, task in enumerate(tasks))
    return _Pool(function, new, jobs, threads, retries, should_retry, listener).outcomes()


class _Process(Generic[T]):
    """A worker process as the parent sees it."""

    def __init__(self, function: Callable[[Any], T], number: int, threads: int) -> None:
        self.number = number
        self.attempt: Outcome[T] | None = None
        self.is_ready = False
        context = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads can deadlock
        self.pipe, pipe = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, number, threads, pipe), daemon=True)
        with _sigint_blocked(), _blas_threads(threads):
            self.process.start()
        pipe.close()

    def exit_reason(self) -> str:
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"the worker process exited with code {code}; run this task alone to see the cause"
        name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
        hint = "; the system does this when memory runs out: use fewer jobs (jobs=, --jobs)" if -code == 9 else ""
        return f"the worker process was killed ({name}){hint}"


@dataclass
class _Pool(Generic[T]):
    function: Callable[[Any], T]
    new: Iterator[Outcome[T]]
    jobs: int
    threads: int
    retries: int
    should_retry: Callable[[T], bool]
    listener: Callable[[int, Any], object]
    workers: dict[int, _Process[T]] = field(default_factory=dict)
    postponed: deque[Outcome[T]] = field(default_factory=deque)  # to be tried again
    failed_starts: Counter[int] = field(default_factory=Counter)

    def outcomes(self) -> Generator[Outcome[T], None, None]:
        try:
            self._assign_tasks()
            while any(worker.attempt for worker in self.workers.values()):
                by_pipe: dict[Any, _Process[T]] = {worker.pipe: worker for worker in self.workers.values()}
                for pipe in wait(list(by_pipe)):
                    if (outcome := self._receive(by_pipe[pipe])) is not None:
                        yield outcome
                self._assign_tasks()
        finally:
            for worker in self.workers.values():
                worker.process.terminate()
            for worker in self.workers.values():
                worker.process.join(_SHUTDOWN_SECONDS)
                worker.process.kill()
                worker.process.join()
                worker.pipe.close()

    def _assign_tasks(self) -> None:
        for number in range(self.jobs):
            worker = self.workers.get(number)
            if worker is not None and worker.attempt is not None:
                continue
            attempt = next(self.new, None)
            if attempt is None and self.postponed and not any(w.attempt for w in self.workers.values()):
                attempt = self.postponed.popleft()
            if attempt is None:
                return
            if worker is None:
                worker = self.workers[number] = _Process(self.function, number, self.threads)
            worker.attempt = attempt
            with contextlib.suppress(OSError):  # the worker has just died: `_receive` handles it
                worker.pipe.send(attempt.task)

    def _receive(self, worker: _Process[T]) -> Outcome[T] | None:
        attempt = worker.attempt
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            return self._on_exit(worker, attempt)
        if kind == "ready":
            worker.is_ready, self.failed_starts[worker.number] = True, 0
        elif attempt is not None and kind == "message":
            self.listener(attempt.index, content)
        elif attempt is not None:
            worker.attempt = None
            if kind == "value":
                return self._finished(replace(attempt, value=content), self.should_retry(content))
            return self._finished(replace(attempt, error=content), is_out_of_memory(content))
        return None

    def _finished(self, outcome: Outcome[T], is_retried: bool) -> Outcome[T] | None:
        if not is_retried or outcome.attempts > self.retries:
            return outcome
        self.postponed.append(replace(outcome, value=None, error=None, attempts=outcome.attempts + 1))
        return None

    def _on_exit(self, worker: _Process[T], attempt: Outcome[T] | None) -> Outcome[T] | None:
        worker.process.join(_SHUTDOWN_SECONDS)
        worker.pipe.close()
        del self.workers[worker.number]
        reason = worker.exit_reason()
        if worker.is_ready:
            return attempt and self._finished(replace(attempt, error=WorkerDiedError(f"{reason}.")), True)
        self.failed_starts[worker.number] += 1
        was_killed = (worker.process.exitcode or 0) < 0
        if self.failed_starts[worker.number] >= (_MAX_KILLED_STARTS if was_killed else _MAX_FAILED_STARTS):
            raise DeviceError(
                f"no worker process can be started ({reason}); use the inline executor or fewer jobs, and in a script "
                'call this below `if __name__ == "__main__":`.'
            )
        self.new = itertools.chain([] if attempt is None else [attempt], self.new)
        return None


def _serve(function: Callable[[Any], object], number: int, threads: int, pipe: Connection) -> None:
    """Run in the worker process: take tasks from the pipe until it closes."""
    global _current
    # Ctrl-C reaches every process of the terminal; the parent decides, and ends this process by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    prepare_process(threads)
    _current = Worker(number, lambda message: pipe.send(("message", message)))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(("ready", None))
        while True:
            task = pipe.recv()
            try:
                pipe.send(("value", function(task)))
            except Exception as error:  # of the function, or a value that cannot be pickled
                pipe.send(("error", _picklable(error)))


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # the constructor of an exception may do anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _exit_with_parent() -> None:
    """Exit when the parent is gone, however it ended: its tasks may be run again, and must not be run twice."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _blas_threads(threads: int) -> Iterator[None]:
    """Let a process start whose NumPy has no more threads than its torch; it reads the environment when it is imported.

    One for each core in every worker is a fifth of the processor time of a batch, spent on waiting.
    """
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ.setdefault(name, str(threads))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Let a process start that inherits a blocked SIGINT, so that Ctrl-C does not interrupt its imports."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
