"""Estimated against true kernels: the same SR with every kernel, on every image, cell by cell.

Interrupted and run again, it keeps what is done (`blindsr.pipelines.ablation_plan.Cell.key`) and runs the rest.
"""

import multiprocessing
import platform
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blindsr import __version__
from blindsr.errors import BlindSRError, ConfigError, OutputError
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.pipelines.ablation_cell import run_cell
from blindsr.pipelines.ablation_plan import AblationPlan, Cell, describe_plan
from blindsr.pipelines.ablation_store import AblationResults, Store
from blindsr.pipelines.ablation_tables import write_tables
from blindsr.runtime import usable_cores

__all__ = ["ablate"]

STAGE = "ablate"
Row = dict[str, Any]


def ablate(
    plan: AblationPlan,
    folder: Path,
    *,
    jobs: int = 1,
    threads: int | None = None,
    listener: Listener = ignore,
) -> AblationResults:
    """Run every cell of a plan that is not done yet, and write the tables.

    Args:
        plan: What to run.
        folder: Gets results.jsonl, ablation.json, the tables, and images/ with every result and kernel.
        jobs: Processes at once.
        threads: Of each process; None divides the cores among them.
        listener: Takes an event a cell, and a notice for each that fails.

    Returns:
        The results, with the cells that failed.

    Raises:
        ConfigError: `jobs` is below 1.
        OutputError: The folder cannot be written.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be 1 or more, got {jobs}.")
    store = Store(folder)
    cells = {cell.key(): cell for cell in plan.cells()}
    known = store.rows()
    open_cells = [cell for key, cell in cells.items() if not store.finished(known.get(key))]
    store.write_plan({**describe_plan(plan), **_circumstances(), "keys": list(cells)})
    kept = len(cells) - len(open_cells)
    listener(StageStarted(stage=STAGE, max_steps=len(cells)))
    if kept:
        listener(Notice(stage=STAGE, message=f"{kept} of {len(cells)} cells are done already and kept."))
        listener(StepDone(stage=STAGE, step=kept))
    per_process = max(1, usable_cores() // jobs) if threads is None else threads
    for step, (cell, row) in enumerate(_run_all(open_cells, folder, plan.device, jobs, per_process), start=kept + 1):
        store.append(row)
        if "error" in row:
            listener(Notice(stage=STAGE, message=f"{cell.image.name}, {cell.method}, seed {cell.seed}: {row['error']}"))
        listener(StepDone(stage=STAGE, step=step, values=_values(row)))
    listener(StageDone(stage=STAGE, steps=len(cells)))
    results = store.load()
    write_tables(results)
    return results


def _run_all(cells: Sequence[Cell], folder: Path, device: str, jobs: int, threads: int) -> Iterator[tuple[Cell, Row]]:
    if jobs == 1 or len(cells) < 2:
        for cell in cells:
            yield cell, _row_or_error(cell, folder, device, threads)
        return
    # Spawned: a fork of a process that has used torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(max_workers=min(jobs, len(cells)), mp_context=context, initializer=_quiet) as pool:
        futures = {pool.submit(_row_or_error, cell, folder, device, threads): cell for cell in cells}
        try:
            for future in as_completed(futures):
                error = future.exception()
                cell = futures[future]
                yield cell, future.result() if error is None else _error_row(cell, error)
        except BaseException:
            # Ctrl-C, a full disk, a listener that gave up: nothing that has begun is worth minutes of waiting.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _quiet() -> None:
    """Let Ctrl-C end a process at once, without a traceback for each of them: the parent says it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _row_or_error(cell: Cell, folder: Path, device: str, threads: int) -> Row:
    try:
        return run_cell(cell, folder, device=device, threads=threads)
    except OutputError:
        raise
    except Exception as error:  # a batch goes on: the failing cell is reported, whatever it failed of
        return _error_row(cell, error)


def _error_row(cell: Cell, error: BaseException) -> Row:
    sentence = " ".join(str(error).split())
    words = sentence if isinstance(error, BlindSRError) else f"{type(error).__name__}: {sentence}"
    return {
        "key": cell.key(),
        "image": cell.image.name,
        "method": cell.method,
        "seed": cell.seed,
        "error": words,
    }


def _values(row: Row) -> dict[str, float]:
    if "error" in row or row["scores"]["psnr_y"] is None:
        return {}
    return {"psnr_y": float(row["scores"]["psnr_y"])}


def _circumstances() -> dict[str, object]:
    return {
        "last_run": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": usable_cores(),
        },
        "versions": {
            "blindsr": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }
