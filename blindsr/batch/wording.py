"""A batch in words, as the command line and the page show it: names, durations, errors, the plan."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from blindsr.batch.plan import BatchPlan, Item, State
from blindsr.batch.run import BatchResult

__all__ = ["duration", "plan_lines", "planned_sizes", "planned_target", "printable", "reason"]

_PLANNED: dict[State, str] = {"open": "to do", "kept": "kept", "skipped": "skipped", "failed": "failing"}


def printable(path: Path | str) -> str:
    """A path or a line that cannot control a terminal: control characters and bytes that are no text become escapes."""
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
        if sizes := planned_sizes(item, plan):
            before = f" ({sizes['width']}×{sizes['height']} px)"
            after = f" ({sizes['result_width']}×{sizes['result_height']} px)"
        lines.append(f"{verb}: {name(item.source)}{before} → {name(planned_target(item, plan))}{after}")
    counts = ", ".join(f"{plan.count(s)} {words}" for s, words in _PLANNED.items() if plan.count(s) or s == "open")
    memory = "" if result.memory is None else f" Memory: up to about {result.memory / 2**30:.1f} GiB."
    noun = "photograph" if len(plan.items) == 1 else "photographs"
    return [*lines, f"{len(plan.items)} {noun}: {counts}.{memory}"]


def planned_target(item: Item, plan: BatchPlan) -> Path:
    """The file of a result; the samples of the photograph may decide between two suffixes."""
    known = item.exists or item.target
    return known if plan.has_suffix or item.exists else Path(f"{known}.png or .tif")


def planned_sizes(item: Item, plan: BatchPlan) -> dict[str, int]:
    """The sizes of an image and of its result, px; empty if that of the image is unknown."""
    if item.size is None:
        return {}
    height, width, bands = item.size
    rows, columns = plan.options.settings.output_size(height, width)
    return {"height": height, "width": width, "bands": bands, "result_height": rows, "result_width": columns}
