"""A batch in words, as the command line and the page show it."""

from collections.abc import Callable
from pathlib import Path

from blindsr.batch.plan import State
from blindsr.batch.run import BatchResult
from blindsr.batch.task import Row

__all__ = ["TRAINING_SHARE", "duration", "plan_lines", "printable", "reason", "time_left"]

#: The share of an image's time that its training takes, about; the rest is reading, estimating, upscaling and writing.
TRAINING_SHARE = 0.8
_MIN_DONE = 0.02  # share of a run, from which on the time left is told
_PLANNED: dict[State, str] = {"open": "to do", "kept": "kept", "skipped": "skipped", "failed": "failing"}


def printable(path: Path | str) -> str:
    """A path or a line that cannot control a terminal: control characters and bytes that are no text become escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def time_left(share: float, seconds: float) -> float | None:
    """Seconds left of a run of which a share was done in so many seconds; None while that is too little to tell."""
    return seconds / share * (1 - share) if share >= _MIN_DONE else None


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def reason(source: Path, row: Row) -> str:
    """Why a photograph failed, without its name at the beginning, which workers know as an absolute one."""
    error = str(row.get("error", "unknown"))
    return error.removeprefix(f"{source.absolute()}: ").removeprefix(f"{source}: ")


def plan_lines(result: BatchResult, *, name: Callable[[Path], str] = printable) -> list[str]:
    """What a dry run would do: a line for each photograph, and one with their number and the memory.

    Args:
        result: Of a dry run.
        name: How a file is named.
    """
    plan, lines = result.plan, []
    for item in plan.items:
        if item.state == "failed":
            lines.append(f"fails: {name(item.source)}: {reason(item.source, item.row or {})}")
            continue
        verb, before, after = "to do" if item.state == "open" else item.state, "", ""
        if sizes := plan.sizes(item):
            before = f" ({sizes['width']}×{sizes['height']} px)"
            after = f" ({sizes['result_width']}×{sizes['result_height']} px)"
        lines.append(f"{verb}: {name(item.source)}{before} → {name(plan.file(item))}{after}")
    counts = ", ".join(f"{plan.count(s)} {words}" for s, words in _PLANNED.items() if plan.count(s) or s == "open")
    memory = "" if result.memory is None else f" Memory: up to about {result.memory / 2**30:.1f} GiB."
    noun = "photograph" if len(plan.items) == 1 else "photographs"
    return [*lines, f"{len(plan.items)} {noun}: {counts}.{memory}"]
