"""Processor cores: how many this process may use, and how many of them other programs leave to it.

Threads that divide small operations among them wait for each other at each one. Where another program has a core, the
whole work waits for the thread that should run there: with one other program on two cores, two threads are 7 to 22
times as slow as one (docs/notes/2026-12-01-busy-machines.md). So the command measures the load while it starts.
"""

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blindsr.control_groups import core_limit

__all__ = [
    "cores_of_affinity",
    "cores_of_others",
    "default_threads",
    "threads_of_environment",
    "usable_cores",
    "watch_load",
]

_STAT = Path("/proc/stat")
_SHORTEST = 0.2  # s: the kernel counts hundredths
_TAKEN = 1 / 3  # a core counts as taken where others use it for more than this share of the time


@dataclass(frozen=True)
class _Times:
    """Seconds: the clock, how long the usable cores have been idle together, and what this process has used."""

    clock: float
    idle: float
    own: float

    @classmethod
    def read(cls) -> Self | None:
        """The times now; None where the system does not count them as Linux does."""
        if not hasattr(os, "sched_getaffinity"):
            return None
        usable = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        try:
            rows = [line.split() for line in _STAT.read_text(encoding="ascii").splitlines() if line.startswith("cpu")]
            idle = [int(row[4]) + int(row[5]) for row in rows if row[0] in usable]  # idle, and waiting for a disk
        except (OSError, ValueError, IndexError):
            return None
        if len(idle) != len(usable):
            return None
        own = os.times()
        return cls(time.monotonic(), sum(idle) / os.sysconf("SC_CLK_TCK"), own.user + own.system)


_first: _Times | None = None


def watch_load() -> None:
    """Begin to measure how much of the cores other programs use; `cores_of_others` ends the measurement.

    Only a program that is the whole process calls this. In Python, where nobody has called it, the number of threads
    does not depend on the load.
    """
    global _first
    _first = _Times.read()
    cores_of_others.cache_clear()


@functools.cache
def cores_of_others() -> float:
    """How many of the usable cores other programs have used on average since `watch_load`; 0 if that is unknown.

    It is measured once, so that all parts of a run have the same number of threads.
    """
    if _first is None:
        return 0.0
    time.sleep(max(0.0, _first.clock + _SHORTEST - time.monotonic()))
    last = _Times.read()
    if last is None:
        return 0.0
    seconds = last.clock - _first.clock
    used = cores_of_affinity() * seconds - (last.idle - _first.idle) - (last.own - _first.own)
    return max(0.0, used / seconds)


def cores_of_affinity() -> int:
    """Processor cores that the system lets this process run on, whatever a container's limit of their time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Processor cores that this process may use: those of its affinity, at most as many as its container may."""
    cores = cores_of_affinity()
    return min(cores, core_limit() or cores)


def threads_of_environment() -> int | None:
    """The number of threads in the environment variable OMP_NUM_THREADS; None if it has none."""
    # OpenMP allows a list, one number for each level of nesting.
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) >= 1 else None


def default_threads() -> int:
    """Threads of a process where none are requested: OMP_NUM_THREADS if it is set, else one per free core, at least 1.

    All usable cores are free, except those that other programs use while a process that called `watch_load` starts.
    """
    if requested := threads_of_environment():
        return requested
    free = int(cores_of_affinity() - cores_of_others() + _TAKEN)
    return max(1, min(usable_cores(), free))
