"""What a batch says before and after: the plan of a dry run, and the summary with every failure."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from blindsr.cli._batch_progress import duration, printable, reason
from blindsr.pipelines.batch.forecast import Forecast
from blindsr.pipelines.batch.plan import BatchPlan, Item, State
from blindsr.pipelines.batch.run import BatchResult

__all__ = ["show_plan", "show_summary"]

_WORDS = {
    "done": "done",
    "kept": "kept, done by an earlier run",
    "skipped": "skipped, have a result",
    "failed": "failed",
    "left": "not begun",
}
_PLANNED: dict[State, str] = {"open": "to do", "kept": "kept", "skipped": "skipped", "failed": "fail"}


def show_plan(plan: BatchPlan, expected: Forecast, *, as_json: bool) -> None:
    """Print what a batch would do, on stdout."""
    seconds = iter(expected.seconds)
    rows = [(item, next(seconds) if item.state == "open" else None) for item in plan.items]
    if as_json:
        for item, needed in rows:
            click.echo(json.dumps({"status": item.state, **_fields(item, plan), "expected_seconds": needed}))
        return
    for item, needed in rows:
        if item.state == "failed":
            click.echo(f"fails: {printable(item.source)}: {reason(item.source, item.row or {})}")
            continue
        place = printable(Path(_fields(item, plan)["target"]))
        time = "" if needed is None else f", about {duration(needed)}"
        verb = "to do" if item.state == "open" else item.state
        click.echo(f"{verb}: {printable(item.source)} → {place}{time}")
    click.echo(_in_words(plan, expected))


def _fields(item: Item, plan: BatchPlan) -> dict[str, str]:
    known = item.exists or item.target
    place = str(known) if plan.whole or item.exists else f"{known}.png or .tif"
    return {"source": str(item.source), "target": place}


def _in_words(plan: BatchPlan, expected: Forecast) -> str:
    counts = ", ".join(f"{plan.count(s)} {words}" for s, words in _PLANNED.items() if plan.count(s) or s == "open")
    workers = f" with {expected.workers} at once" if expected.workers > 1 else ""
    basis = (
        "from the photographs that are done" if expected.learned else "from a model, a rough one until three are done"
    )
    memory = "" if expected.memory is None else f"; memory up to about {expected.memory / 2**30:.1f} GiB"
    unknown = f" {expected.unknown} sizes are not known before reading." if expected.unknown else ""
    time = f" About {duration(expected.total)}{workers} ({basis}){memory}." if plan.open else ""
    return f"{len(plan.items)} photographs: {counts}.{time}{unknown} Nothing was done."


def show_summary(result: BatchResult, manifest: Path, *, quiet: bool) -> None:
    """Say what came out on stderr: a line, and a table of what failed; if quiet, only why it stopped, if it did."""
    if quiet:
        if result.stopped:
            click.echo(f"stopped: {result.stopped}", err=True)
        return
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        # Into a file the table goes whole: it must not be cut at the 80 columns of no terminal.
        console = Console(stderr=True, highlight=False, width=240)
    table = Table(show_edge=False, pad_edge=False, title=f"in {duration(result.seconds)}", title_justify="left")
    table.add_column("photographs")
    table.add_column(str(len(result.rows)), justify="right")
    for status, words in _WORDS.items():
        if count := result.count(status):
            table.add_row(words, str(count))
    console.print(table)
    failed = [(path, reason(path, row)) for path, row in result.rows if row["status"] == "failed"]
    if failed:
        listed = Table(show_edge=False, pad_edge=False)
        listed.add_column("failed")
        listed.add_column("why", overflow="fold")
        for path, error in failed:
            listed.add_row(printable(path), error)
        console.print(listed)
    if result.stopped:
        console.print(f"stopped: {result.stopped}", markup=False, soft_wrap=True)
    if not result.complete:
        advice = "What is done is kept: run the same command again for the rest."
        console.print(f"{advice} ({manifest})", markup=False, soft_wrap=True)
