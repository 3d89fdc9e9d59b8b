"""Ablation: every combination of a kernel and an upscaler on every image of a test set.

The kernels are those of the chosen estimators, the bicubic kernel and the true kernel. A cell is one combination on one
image with one seed. An ablation that was interrupted and is run again keeps the cells that are finished: the key of a
cell is a digest of everything that its result depends on.
"""

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr import __version__
from blindsr.cores import default_threads
from blindsr.errors import BlindSRError, ConfigError, ImageError, OutputError
from blindsr.evaluation.dataset import DatasetImage
from blindsr.evaluation.results import (
    BICUBIC,
    INTERPOLATION,
    INTERPOLATOR,
    OWN,
    TRUE,
    AblationResults,
    Row,
    Store,
    method_name,
    split_method,
    write_tables,
)
from blindsr.evaluation.score import in_range_of, read_8bit, score_image, score_kernel
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.image_io import atomic_write_bytes, image_bytes, open_image, read_photo, to_uint8
from blindsr.jsonlines import append_line
from blindsr.kernels import Kernel
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.ops import to_array, to_tensor
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.record import cache_key, describe_run, file_digest, plain
from blindsr.pool import run_in_processes
from blindsr.registry import ESTIMATORS, UPSCALERS, source_digest
from blindsr.runtime import choose_device, prepare_process, release_memory
from blindsr.settings import Settings
from blindsr.upscalers.base import estimates_kernel, uses_kernel

__all__ = ["AblationPlan", "Cell", "ablate"]

STAGE = "ablate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run: an image, a method (kernel and upscaler) and a seed."""

    image: DatasetImage
    method: str
    seed: int
    settings: Settings

    def key(self) -> str:
        """A digest of everything that the result depends on, 20 hexadecimal digits."""
        files = {"lr": self.image.lr, "hr": self.image.hr, "kernel": self.image.kernel}
        digests = {role: None if path is None else file_digest(path) for role, path in files.items()}
        settings = _with_digests(self.settings.as_dict())
        code = {"version": __version__, "source": source_digest(), "scoring": scoring_digest()}
        return cache_key({**digests, "method": self.method, "seed": self.seed, "settings": settings, **code})

    def row(self) -> Row:
        """The fields of every row of results.jsonl."""
        return {"key": self.key(), "image": self.image.name, "method": self.method, "seed": self.seed}


@functools.cache
def scoring_digest() -> str:
    """A digest of the modules beside this one, except for tables and reports, which change no result."""
    modules = sorted(path for path in Path(__file__).parent.glob("*.py") if path.name != "results.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()[:20]


def _with_digests(value: object) -> object:
    """Settings with the digests of files instead of their names: weights may change under the same name."""
    if isinstance(value, Mapping):
        return {key: _with_digests(item) for key, item in value.items()}
    return file_digest(value) if isinstance(value, Path) and value.is_file() else value


@dataclass(frozen=True, kw_only=True)
class AblationPlan:
    """The images, methods and seeds of an ablation."""

    images: tuple[DatasetImage, ...]
    estimators: tuple[str, ...] | None = None  # names of the registry; None is all of them
    upscalers: tuple[str, ...] | None = None  # names of the registry; None is that of `settings`
    settings: Settings = field(default_factory=Settings)  # of every run; the scale must be that of the test set
    seeds: tuple[int, ...] = (0,)  # every method runs once for each of them
    device: str = "auto"  # or "cpu", "cuda", …
    with_bicubic_kernel: bool = True  # each upscaler also runs with the bicubic kernel, the reference of all gains

    def __post_init__(self) -> None:
        """Check the plan, and fill in the registered methods."""
        if not self.images:
            raise ConfigError("an ablation needs at least one image, got none.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"an ablation needs at least one seed and no seed twice, got {list(self.seeds)}.")
        if self.settings.scale != self.settings.run_scale:
            raise ConfigError(f"an ablation needs an integer scale, got {self.settings.scale:g}.")
        estimators = ESTIMATORS.names() if self.estimators is None else self.estimators
        upscalers = (self.settings.upscaler,) if self.upscalers is None else self.upscalers
        ESTIMATORS.check(*estimators)
        UPSCALERS.check(*upscalers)
        # These two have columns of their own.
        object.__setattr__(self, "estimators", tuple(dict.fromkeys(n for n in estimators if n != BICUBIC)))
        object.__setattr__(self, "upscalers", tuple(dict.fromkeys(n for n in upscalers if n != INTERPOLATOR)))

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of the tables: interpolation, then for each upscaler the bicubic, estimated and true kernels."""
        has_truth = any(image.kernel is not None for image in self.images)
        reference = (BICUBIC,) if self.with_bicubic_kernel else ()
        kernels = (*reference, *(self.estimators or ()), *((TRUE,) if has_truth else ()))
        of_upscalers = {up: kernels if uses_kernel(UPSCALERS.get(up)) else (OWN,) for up in self.upscalers or ()}
        return (INTERPOLATION, *(method_name(kernel, up) for up, used in of_upscalers.items() for kernel in used))

    def cells(self) -> Iterator[Cell]:
        """Every run, image by image, so that an interrupted ablation has complete images."""
        for image in self.images:
            for seed in self.seeds:
                for method in self.methods:
                    kernel, upscaler = split_method(method)
                    if image.kernel is None and kernel == TRUE:
                        continue
                    if method == INTERPOLATION and seed != self.seeds[0]:
                        continue  # it uses no random numbers
                    estimator = self.settings.estimator if kernel == TRUE else kernel or BICUBIC
                    estimator = BICUBIC if kernel == OWN else estimator
                    settings = replace(self.settings, estimator=estimator, upscaler=upscaler, seed=seed)
                    if settings.strength == "auto":
                        settings = replace(settings, strength=1.0)  # methods and kernels as they are, mistakes and all
                    yield Cell(image=image, method=method, seed=seed, settings=settings)

    def describe(self) -> dict[str, object]:
        """JSON-able content of ablation.json, with the machine and the versions."""
        return {
            "scale": self.settings.run_scale,
            "images": [image.name for image in self.images],
            "methods": list(self.methods),
            "estimators": list(self.estimators or ()),
            "upscalers": list(self.upscalers or ()),
            "seeds": list(self.seeds),
            "source": source_digest(),
            **describe_run(self.settings, choose_device(self.device)),
        }


def ablate(
    plan: AblationPlan, folder: Path, *, jobs: int = 1, threads: int | None = None, listener: Listener = ignore
) -> AblationResults:
    """Run every cell of a plan that is not finished yet, write the tables, and return all results.

    Args:
        plan: The images, methods and seeds.
        folder: Folder for results.jsonl, ablation.json, the tables, and images/ with every result and kernel.
        jobs: Number of processes.
        threads: Threads of each process; None divides the cores among them.
        listener: Receives an event for each cell, and a notice for each cell that fails.

    Raises:
        ConfigError: `jobs` is below 1.
        ImageError: The first image is none of this scale, or cannot be read.
        OutputError: The folder cannot be written.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be 1 or more, got {jobs}.")
    _check_scale(plan)
    store = Store(folder)
    cells = {cell.key(): cell for cell in plan.cells()}
    rows = store.rows()
    unfinished = [cell for key, cell in cells.items() if not store.finished(rows.get(key))]
    description = json.dumps({**plan.describe(), "keys": list(cells)}, indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write_bytes(store.plan_file, f"{description}\n".encode(), overwrite=True)
    finished = len(cells) - len(unfinished)
    listener(StageStarted(stage=STAGE, max_steps=len(cells)))
    if finished:
        message = f"{finished} of {len(cells)} cells are finished already."
        listener(Notice(stage=STAGE, message=message, is_plain=True))
        listener(StepDone(stage=STAGE, step=finished))
    threads = max(1, default_threads() // jobs) if threads is None else threads
    with contextlib.closing(_run_all(unfinished, folder, plan.device, jobs, threads)) as runs:
        for step, (cell, row) in enumerate(runs, start=finished + 1):
            append_line(store.results, row)
            if "error" in row:
                message = f"{cell.image.name}, {cell.method}, seed {cell.seed}: {row['error']}"
                listener(Notice(stage=STAGE, message=message))
            psnr = row.get("scores", {}).get("psnr_y")
            listener(StepDone(stage=STAGE, step=step, values={} if psnr is None else {"psnr_y": float(psnr)}))
    listener(StageDone(stage=STAGE, steps=len(cells)))
    results = store.load()
    write_tables(results)
    return results


def _run_all(
    cells: Sequence[Cell], folder: Path, device: str, jobs: int, threads: int
) -> Generator[tuple[Cell, Row], None, None]:
    run = functools.partial(run_or_report, folder=folder, device=device)
    if jobs == 1 or len(cells) < 2:
        prepare_process(threads)
        yield from ((cell, run(cell)) for cell in cells)
        return
    with contextlib.closing(run_in_processes(run, cells, jobs=min(jobs, len(cells)), threads=threads)) as outcomes:
        for outcome in outcomes:
            cell = cells[outcome.index]
            if isinstance(outcome.error, OutputError):
                raise outcome.error
            yield cell, outcome.value or _error_row(cell, outcome.error)


def _check_scale(plan: AblationPlan) -> None:
    """Raise an ImageError before anything is written if the first image is none of the scale."""
    image, scale = plan.images[0], plan.settings.run_scale
    with open_image(image.lr) as lr, open_image(image.hr) as hr:
        _, height, width = lr.shape
        _check_sizes(image.name, (height, width), (hr.shape[1], hr.shape[2]), scale)


def _check_sizes(name: str, lr: tuple[int, int], hr: tuple[int, int], scale: int) -> None:
    """Raise an ImageError if an HR image, (height, width), is not s times as large as its LR image."""
    if not all(0 <= large - scale * small < scale for small, large in zip(lr, hr, strict=True)):
        raise ImageError(
            f"{name}: HR has {hr[1]}×{hr[0]} px and LR {lr[1]}×{lr[0]} px, a scale of ×{hr[0] / lr[0]:.2f} instead of "
            f"×{scale}; give the scale of the test set."
        )


def run_or_report(cell: Cell, folder: Path, device: str) -> Row:
    """The row of a cell, with its error if it fails; it runs in a worker process."""
    try:
        return run_cell(cell, folder, device=device)
    except OutputError:
        raise
    except Exception as error:  # one failing cell must not stop the others, whatever its cause
        return _error_row(cell, error)


def _error_row(cell: Cell, error: BaseException | None) -> Row:
    message = " ".join(str(error).split())
    return cell.row() | {"error": message if isinstance(error, BlindSRError) else f"{type(error).__name__}: {message}"}


def run_cell(cell: Cell, folder: Path, *, device: str) -> Row:
    """Run one cell, write its SR image and kernel, and return its row of results.jsonl."""
    hr = read_8bit(cell.image.hr, complete=True)
    lr = in_range_of(read_photo(cell.image.lr), read_photo(cell.image.hr)).astype(np.float32)
    scale = cell.settings.run_scale
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    _check_sizes(cell.image.name, (lr.shape[0], lr.shape[1]), (hr.shape[0], hr.shape[1]), scale)
    hr = hr[:height, :width]  # its sides may be no multiples of the scale
    image = to_tensor(lr).to(choose_device(device))
    _reset_peak_memory(image.device)
    started = time.perf_counter()
    sr, kernel, facts = super_resolve(cell, image)
    seconds = time.perf_counter() - started
    peak = _peak_memory(image.device)
    samples = to_uint8(to_array(sr.float()))
    row = cell.row() | {
        "scale": scale,
        "scores": plain(asdict(score_image(samples, hr, scale=scale))),
        "seconds": round(seconds, 3),
        "peak_mib": None if peak is None else round(peak / 2**20, 1),
        "files": _write_files(cell, folder, samples, kernel),
        **facts,
    }
    if kernel is not None:
        long, short = kernel.sigmas
        metrics: Row = {"digest": kernel.digest, "sigma_long": long, "sigma_short": short, "angle": kernel.angle}
        if cell.image.kernel is not None:
            metrics |= asdict(score_kernel(kernel, _true_kernel(cell), hr))
        row["kernel"] = {name: plain(round(v, 6) if isinstance(v, float) else v) for name, v in metrics.items()}
    return row


def super_resolve(cell: Cell, image: Tensor) -> tuple[Tensor, Kernel | None, Row]:
    """SR image and kernel of a cell, and what else its row contains."""
    known = _true_kernel(cell) if split_method(cell.method)[0] == TRUE else None
    result = blind.run(TensorSource(image), cell.settings, kernel=known, listener=ignore)
    if result.image is None:
        raise ImageError(f"{cell.image.name}: the run returned no image.")
    facts = {
        "timings": {name: round(value, 3) for name, value in result.timings.items()},
        "consistency": plain(result.consistency_db),
        "precision": result.dtype,
        "warnings": list(result.warnings),
    }
    kernel, upscaler = split_method(cell.method)
    # Of the methods without an estimator, those that estimate a kernel themselves have one.
    has_kernel = kernel not in ("", OWN) or estimates_kernel(UPSCALERS.get(upscaler))
    return result.image, result.kernel if has_kernel else None, facts


def _true_kernel(cell: Cell) -> Kernel:
    if cell.image.kernel is None:
        raise ImageError(f"{cell.image.name} has no true kernel; add its file to kernel/.")
    return read_kernel(cell.image.kernel, scale=cell.settings.run_scale)[0]


def _write_files(cell: Cell, folder: Path, samples: NDArray[np.uint8], kernel: Kernel | None) -> dict[str, str]:
    target = folder / "images" / cell.image.name
    target.mkdir(parents=True, exist_ok=True)
    contents = {
        "sr": (f"{cell.method}-{cell.key()[:8]}.png", image_bytes(samples, "png")),
        # With copies of HR and LR a report can be written where the test set is not available.
        "hr": (f"hr{cell.image.hr.suffix.lower()}", cell.image.hr.read_bytes()),
        "lr": (f"lr{cell.image.lr.suffix.lower()}", cell.image.lr.read_bytes()),
    }
    if kernel is not None:
        contents["kernel"] = (f"{cell.method}-{cell.key()[:8]}.kernel.npz", kernel_bytes(kernel, ".npz"))
    for name, content in contents.values():
        path = target / name
        if not path.is_file() or path.read_bytes() != content:
            atomic_write_bytes(path, content, overwrite=True)
    return {role: f"images/{cell.image.name}/{name}" for role, (name, _) in contents.items()}


_CLEAR_REFS = Path("/proc/self/clear_refs")  # of Linux; writing 5 resets VmHWM, the peak of resident memory


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(_CLEAR_REFS, os.W_OK):
        release_memory()  # what earlier cells freed is no part of this one
        _CLEAR_REFS.write_text("5", encoding="ascii")


def _peak_memory(device: torch.device) -> float | None:
    """Peak memory since the reset in bytes: of the GPU, or the resident memory of the process; None if unknown."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    if not os.access(_CLEAR_REFS, os.W_OK):
        return None
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024.0 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
