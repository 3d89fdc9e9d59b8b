"""The inside of a worker process: takes tasks from a pipe, sends events and rows back, and dies with its parent."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import NoReturn

from blindsr.events import Event, StepDone
from blindsr.pipelines.batch.task import Task, run_task

__all__ = ["READY", "ROW", "SAID", "serve", "throttled"]

READY, SAID, ROW = "ready", "said", "row"
# Between two steps that are told, seconds: a bar needs no more, and a cluster's network no less.
STEP_EVERY = 0.25


def serve(tasks: Connection, lifeline: Connection, device: str) -> None:
    """Run tasks until the pipe closes.

    Args:
        tasks: Gives tasks, takes ("ready", None), ("said", event) and ("row", row).
        lifeline: Nothing is ever sent here; it closes when the parent is gone, however it went.
        device: For every task.
    """
    # Ctrl-C reaches every process of the terminal: the parent decides, and ends this one by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    import blindsr.pipelines.photo  # noqa: F401  # the seconds of its import belong to the start

    try:
        tasks.send((READY, None))
        while True:
            task: Task = tasks.recv()
            row = run_task(task, device, listener=throttled(lambda event: tasks.send((SAID, event))))
            tasks.send((ROW, row))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def throttled(send: Callable[[Event], object]) -> Callable[[Event], None]:
    """A listener that lets steps through a few times a second, and everything else always."""
    last = -STEP_EVERY

    def listener(event: Event, /) -> None:
        nonlocal last
        if isinstance(event, StepDone):
            now = time.monotonic()
            if now - last < STEP_EVERY:
                return
            last = now
        send(event)

    return listener


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)  # through every `finally`: the hidden folder of the job goes


def _die_with_parent(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    # At once: whoever killed the parent may start the batch again, and nothing may be done twice.
    os._exit(1)
