"""The quality gate: 12 degraded photographs, compared with the reference values in quality.json.

    python benchmarks/quality.py                     # compare; exit code 1 if quality or speed is lost
    python benchmarks/quality.py -o now.json         # compare, and keep the measurements
    python benchmarks/quality.py --write-reference   # replace quality.json
    python benchmarks/quality.py --inputs FOLDER     # keep the inputs in FOLDER, or use those that are there

It fails if a mean PSNR falls by more than 0.02 dB, or if a step takes over 20 % more processor time in units of a
reference operation (a loop of convolutions) that is timed in the same run. The steps are not convolutions alone, and
these ratios differ by half between processors: times are compared only on the processor of the reference. On another
one, measure the version before as well, with -o. It takes about two minutes on one thread.

The photographs come with scikit-image (CC0 and public domain). `blindsr degrade` makes the inputs with fixed seeds, and
a column of plain spline interpolation shows whether the inputs are still the same. Only the public interface of blindsr
is used, so the script measures other versions too: `PYTHONPATH=OTHER python benchmarks/quality.py -o other.json`, with
--inputs on the very inputs that another version made.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, ParamSpec, TypeVar

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported

import numpy as np
import torch
from machine import processor
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data
from skimage.io import imread, imsave

import blindsr
from blindsr import runtime
from blindsr.cli.main import cli

REFERENCE = Path(__file__).with_name("quality.json")
MAX_LOSS_DB = 0.02
MAX_SLOWDOWN = 0.2
MAX_INPUT_CHANGE_DB = 0.002
TIMING_REPEATS = 7

Image = NDArray[np.uint8]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One photograph and its degradation."""

    name: str
    photograph: str  # a function of skimage.data
    corner: tuple[int, int]  # y and x of the crop
    options: tuple[str, ...]  # of `blindsr degrade`
    side: int = 320  # HR pixels
    scale: int = 2
    with_default: bool = False  # run preset default as well


CASES = (
    Case("portrait", "astronaut", (0, 96), ("--law", "gaussian:1.6,0.9,40"), with_default=True),
    Case("suit", "astronaut", (192, 64), ("--law", "div2krk", "--noise", "0.02"), with_default=True),
    Case("tripod", "camera", (80, 96), ("--law", "gaussian:1.2")),
    Case("cat", "chelsea", (0, 64), ("--law", "div2krk"), side=300),
    Case("cup", "coffee", (60, 140), ("--law", "div2krk"), with_default=True),
    Case("table", "coffee", (80, 0), ("--law", "gaussian:1.0", "--jpeg", "85")),
    Case("launch", "rocket", (80, 160), ("--law", "bicubic")),
    Case("galaxies", "hubble_deep_field", (300, 400), ("--law", "gaussian:1.8")),
    Case("gravel", "gravel", (96, 96), ("--law", "defocus:4")),
    Case("bricks", "brick", (96, 96), ("--law", "bicubic")),
    Case("lawn", "grass", (96, 96), ("--law", "motion:6")),
    Case("tripod_x4", "camera", (0, 0), ("--law", "div2krk"), side=512, scale=4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the measurements as JSON")
    parser.add_argument("--write-reference", action="store_true", help=f"write them to {REFERENCE.name}")
    parser.add_argument("--inputs", type=Path, help="folder of the degraded photographs; those that exist are used")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measured = measure(arguments.inputs or Path(temporary))
    for path in (arguments.output, REFERENCE if arguments.write_reference else None):
        if path is not None:
            path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    print(table(measured, reference))
    failures = compare(measured, reference)
    if measured["processor"] != reference["processor"]:
        print(f"Times are not compared: the reference is of {reference['processor']}, this is {measured['processor']}.")
    for failure in failures:
        print(f"FAILED: {failure}")
    if failures:
        raise SystemExit(1)
    print(f"passed in {measured['seconds']:.0f} s, compared with blindsr {reference['blindsr']}.")


def measure(folder: Path) -> dict[str, Any]:
    """PSNR-Y of every case and processor time of every step."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    # bfloat16, where the processor has it, changes PSNR by up to 0.06 dB: the gate compares float32 with float32.
    runtime.bf16_reason = lambda device: (False, "the quality gate runs in float32")
    psnr: dict[str, dict[str, float]] = {}
    adaptation, references = [], []
    inputs = [degraded(case, folder) for case in CASES]
    for case, (hr, lr, kernel_file) in zip(CASES, inputs, strict=True):
        kernel = blindsr.read_kernel(kernel_file, scale=case.scale)[0]
        zoom = (case.scale, case.scale, 1)
        results = {
            "interpolation": ndimage.zoom(lr, zoom, order=3, grid_mode=True, mode="nearest"),
            "fast, estimated kernel": blindsr.estimate_and_upscale(lr, case.scale, preset="fast"),
            "fast, true kernel": blindsr.upscale(lr, kernel, case.scale, preset="fast"),
        }
        if case.with_default:
            references.append(processor_time(reference_operation)[0])
            fast = processor_time(blindsr.upscale, lr, kernel, case.scale, preset="fast")[0]
            seconds, sr = processor_time(blindsr.upscale, lr, kernel, case.scale, preset="default")
            if "--noise" not in case.options:  # a noisy image gets no steps
                adaptation.append(seconds - fast)
            results["default, true kernel"] = sr
            results["default, estimated kernel"] = blindsr.estimate_and_upscale(lr, case.scale, preset="default")
        psnr[case.name] = {name: psnr_y(sr, hr, case.scale) for name, sr in results.items()}
        if case is CASES[0]:
            first = (lr, kernel)
    lr, kernel = first
    estimate, fast_pass = [], []
    for _ in range(TIMING_REPEATS):
        references.append(processor_time(reference_operation)[0])
        estimate.append(processor_time(blindsr.estimate_kernel, lr, 2, preset="fast")[0])
        fast_pass.append(processor_time(blindsr.upscale, lr, kernel, 2, preset="fast")[0])
    unit = min(references)
    return {
        "blindsr": blindsr.__version__,
        "torch": str(torch.__version__),
        "processor": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 1),
        "psnr_y": {name: {column: round(value, 4) for column, value in row.items()} for name, row in psnr.items()},
        "reference_operation_seconds": round(unit, 4),
        # The fastest of some runs: what disturbs a run only ever makes it slower.
        "steps": {
            "estimate": round(min(estimate) / unit, 3),
            "fast pass": round(min(fast_pass) / unit, 3),
            "adaptation": round(min(adaptation) / unit, 3),
        },
    }


def degraded(case: Case, folder: Path) -> tuple[Image, Image, Path]:
    """HR and LR samples, (H, W, 1 or 3), and the file of the true kernel; made unless `folder` has them."""
    source = folder / f"{case.name}.png"
    target = folder / case.name
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        photograph = getattr(data, case.photograph)()[case.corner[0] :, case.corner[1] :][: case.side, : case.side]
        imsave(source, np.ascontiguousarray(photograph), check_contrast=False)
        command = ["degrade", str(source), "-o", str(target), "--scale", str(case.scale), "--seed", "0", "--quiet"]
        with contextlib.redirect_stdout(io.StringIO()):
            cli([*command, *case.options], standalone_mode=False)
    hr, lr = (np.atleast_3d(imread(target / part / source.name)) for part in ("hr", "lr"))
    return hr, lr, target / "kernel" / f"{case.name}.npz"


def psnr_y(sr: Image, hr: Image, border: int) -> float:
    """PSNR on MATLAB's luma with peak 255; `border` px are cut off on every side."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    lumas = [
        (image[..., :3] @ weights if image.shape[2] >= 3 else image[..., 0] * weights.sum())[
            border:-border, border:-border
        ]
        for image in (sr.astype(np.float64), hr.astype(np.float64))
    ]
    return float(10 * np.log10(255**2 / np.mean((lumas[0] - lumas[1]) ** 2)))


def reference_operation() -> None:
    """A fixed amount of convolution, the work that dominates blindsr."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 48, 96, 96), generator=generator)
    weights = torch.randn((48, 48, 3, 3), generator=generator) / 20
    with torch.inference_mode():
        for _ in range(40):
            image = torch.nn.functional.conv2d(image, weights, padding=1).clamp_(-1, 1)


def processor_time(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> tuple[float, T]:
    """Seconds of processor time, which other programs disturb less than wall-clock time, and the result."""
    started = time.process_time()
    result = function(*arguments, **options)
    return time.process_time() - started, result


def means(psnr: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of every column over the cases that have it."""
    columns = dict.fromkeys(column for row in psnr.values() for column in row)
    return {column: fmean(row[column] for row in psnr.values() if column in row) for column in columns}


def compare(measured: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """Sentences about everything that became worse than the limits allow."""
    failures = []
    for name, row in reference["psnr_y"].items():
        change = measured["psnr_y"][name]["interpolation"] - row["interpolation"]
        if abs(change) > MAX_INPUT_CHANGE_DB:
            failures.append(f"the input {name} is another one: plain interpolation differs by {change:+.3f} dB.")
    now, before = means(measured["psnr_y"]), means(reference["psnr_y"])
    for column, value in before.items():
        if now[column] < value - MAX_LOSS_DB:
            failures.append(f"{column}: the mean fell by {value - now[column]:.3f} dB to {now[column]:.3f} dB.")
    if measured["processor"] != reference["processor"]:
        return failures
    for step, cost in reference["steps"].items():
        slower = measured["steps"][step] / cost - 1
        if slower > MAX_SLOWDOWN:
            failures.append(f"{step} is {slower:.0%} slower, relative to the reference operation.")
    return failures


def table(measured: dict[str, Any], reference: dict[str, Any]) -> str:
    """Measured values with their differences from the reference, as Markdown."""
    now = measured["psnr_y"] | {"mean": means(measured["psnr_y"])}
    before = reference["psnr_y"] | {"mean": means(reference["psnr_y"])}
    columns = list(now["mean"])
    rows = [["PSNR-Y, dB", *columns], ["---", *["---:"] * len(columns)]]
    rows += [[name, *(_entry(row.get(c), before[name].get(c)) for c in columns)] for name, row in now.items()]
    rows += [["step / reference operation", "now", "before"], ["---", "---:", "---:"]]
    rows += [[step, f"{cost:.2f}", f"{reference['steps'][step]:.2f}"] for step, cost in measured["steps"].items()]
    return "\n".join(_line(row) for row in rows).replace("\n| step", "\n\n| step")


def _entry(now: float | None, before: float | None) -> str:
    if now is None:
        return ""
    return f"{now:.2f}" if before is None else f"{now:.2f} ({now - before:+.3f})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
