"""Shared by kills.py and faults.py: tiny photographs, a batch on them in a forked process, and its verification.

A photograph takes little time: the preset is fast, the kernel is known, and its plot is a file of zeros. Reading, the
network's forward pass, and writing are the real ones.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from blindsr.batch.inputs import Naming, find_inputs
from blindsr.batch.plan import MANIFEST, locked, make_plan
from blindsr.batch.run import Engine, run_batch, run_inline
from blindsr.batch.task import TaskOptions
from blindsr.errors import BlindSRError
from blindsr.kernels import gaussian
from blindsr.pipelines import file_run
from blindsr.pipelines.outputs import Outputs, Staging
from blindsr.settings import preset

INCOMPLETE = 3  # exit code of a batch without all results


def make_photos(folder: Path, count: int, *, side: int = 32) -> None:
    """Make different photographs of `side` px or a little more, in a tree of two folders."""
    photograph = data.astronaut()
    for i in range(count):
        top, left = 20 + 13 * i, 180 + 7 * i
        path = folder / ("" if i % 2 else "deeper ü") / f"photo {i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(photograph[top : top + side + i, left : left + side])).save(path)


def batch(photos: Path, results: Path, *, engine: Engine | None = None, overwrite: bool = False) -> int:
    """Run a batch as the command does; 0 if it is complete."""
    torch.set_num_threads(1)
    file_run.kernel_plot_png = lambda kernel: bytes(20_000)
    with locked(results / MANIFEST) as manifest:
        plan = make_plan(
            find_inputs([photos], recursive=True),
            Naming(output=results),
            TaskOptions(settings=preset("fast"), kernel=gaussian(1.44, 2)),
            manifest,
            overwrite=overwrite,
        )
        result = run_batch(plan, engine or partial(run_inline, device="cpu", threads=1))
    return 0 if result.complete else INCOMPLETE


def warm_up(photos: Path, results: Path) -> None:
    """Run the batch once in this process, so that its forks need not import and load again what it needs."""
    batch(photos, fresh(results))
    fresh(results)


def forked(work: Callable[[], int], *, kill_after: float | None = None, log: Path | None = None) -> int:
    """Run `work` in a fork; its exit code, or minus the signal that ended it.

    An error that the command reports in one line gives 71; the traceback of a bug goes to `log` and gives 70.
    """
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = work()
        except (BlindSRError, MemoryError):
            code = 71
        except BaseException:
            import traceback

            with (log or Path(os.devnull)).open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def count_releases(log: Path) -> None:
    """Log every result that is released under its name; one that is made twice is logged twice."""
    original = Staging.release

    def release(self: Staging, outputs: Outputs, *, overwrite: bool) -> None:
        original(self, outputs, overwrite=overwrite)
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (json.dumps(str(outputs.image)) + "\n").encode())
        os.close(descriptor)

    Staging.release = release  # type: ignore[method-assign]


def releases(log: Path) -> dict[str, int]:
    """How often each result was released under its name."""
    counts: dict[str, int] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        name = json.loads(line)
        counts[name] = counts.get(name, 0) + 1
    return counts


def images(folder: Path) -> dict[str, str]:
    """Digests of the result images by their relative names."""
    digests = {}
    for path in sorted(folder.rglob("*_blindsr_x2.*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in (".png", ".tif") and not path.stem.endswith(".kernel") and not hidden:
            digests[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders, except the lock."""
    return [str(p) for p in folder.rglob(".*") if not p.name.endswith(".lock")]


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def done_lines(results: Path) -> dict[str, int]:
    """How often each result is marked as done in the manifest."""
    counts: dict[str, int] = {}
    path = results / MANIFEST
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("status") == "done":
            counts[row["target"]] = counts.get(row["target"], 0) + 1
    return counts


def faults_of(results: Path, expected: dict[str, str], log: Path, *, whole: bool) -> dict[str, Sequence[str]]:
    """Results that are lost, torn, unexpected, or were made twice."""
    present = images(results)
    return {
        "lost": [name for name in expected if name not in present] if whole else [],
        "torn": [name for name, digest in present.items() if name in expected and digest != expected[name]],
        "unexpected": [name for name in present if name not in expected],
        "twice": [name for name, count in {**releases(log), **done_lines(results)}.items() if count > 1],
        "leftover": leftovers(results) if whole else [],
    }


def report(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)
