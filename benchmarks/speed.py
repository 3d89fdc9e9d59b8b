"""Speed and memory of every stage and training step, and their growth with the image.

    python benchmarks/speed.py -o speed.json [--sizes 128,256,512] [--threads 1] [--repeats 3]
    python benchmarks/speed.py -o gpu.json --device cuda --sizes 512x340 --cases 'sr, default; whole run, default'
    python benchmarks/speed.py -o fp32.json --precision fp32 --sizes 512x340 --cases 'sr, fast; sr, default'

Each case runs in a process of its own, which gives its peak memory; the first run of a case warms up and is not timed.
Compare ratios between the cases of one file, not seconds of two machines.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import circumstances
from skimage import data

from blindsr.events import Event, StepDone
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernels import gaussian
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.runtime import choose_device, prepare_process
from blindsr.settings import Settings, preset
from blindsr.zssr.config import ZSSRConfig

_STEPS = 12  # timed steps of a training: its cost is linear in them
_KERNELGAN_STEPS = 200  # of KernelGAN, whose steps take milliseconds
_KERNEL = gaussian([[2.2, 0.5], [0.5, 1.1]], 2)


class Stopwatch:
    """Records the time of every step."""

    def __init__(self) -> None:
        self.times: list[float] = [time.perf_counter()]

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        if isinstance(event, StepDone):
            self.times.append(time.perf_counter())

    def per_step(self) -> list[float]:
        """Seconds of each step after the first two, which warm up."""
        return [b - a for a, b in zip(self.times[2:], self.times[3:], strict=False)]


def photograph(width: int, height: int) -> torch.Tensor:
    """(1, 3, height, width) in [0, 1]: a photograph, mirrored to the size."""
    image = data.astronaut().astype(np.float32) / 255
    rows = np.concatenate([image if i % 2 == 0 else image[::-1] for i in range(-(-height // 512))])[:height]
    across = [rows if i % 2 == 0 else rows[:, ::-1] for i in range(-(-width // 512))]
    whole = np.concatenate(across, axis=1)[:, :width]
    return torch.from_numpy(np.ascontiguousarray(whole)).permute(2, 0, 1)[None].contiguous()


def _named(name: str) -> Settings:
    """A preset at the precision of this run."""
    return preset(name).with_config("pretrained", precision=_PRECISION[0])


def _estimate(image: torch.Tensor, settings: Settings, watch: Stopwatch) -> object:
    return blind.estimate_kernel(TensorSource(image), settings, listener=watch)


def _upscale(image: torch.Tensor, settings: Settings, watch: Stopwatch) -> object:
    return blind.run(TensorSource(image), settings, kernel=_KERNEL, listener=watch)


def _whole(image: torch.Tensor, settings: Settings, watch: Stopwatch) -> object:
    return blind.run(TensorSource(image), settings, listener=watch)


_PRECISION: list[Any] = ["auto"]  # of the cases by preset; set in the process that runs the case
# KernelGAN and ZSSR as published, with fewer steps.
_KERNELGAN = Settings(estimator="kernelgan", configs={"kernelgan": KernelGANConfig(iterations=_KERNELGAN_STEPS)})
_ZSSR = Settings(upscaler="zssr", configs={"zssr": replace(ZSSRConfig.named("given"), max_steps=_STEPS)})

# What runs, by name of the case.
CASES: dict[str, Callable[[torch.Tensor, Stopwatch], object]] = {
    "spectral estimate": lambda image, watch: _estimate(image, Settings(estimator="spectral"), watch),
    "kernelgan step": lambda image, watch: _estimate(image, _KERNELGAN, watch),
    "sr, pretrained, no step": lambda image, watch: _upscale(
        image, Settings().with_config("pretrained", steps=0), watch
    ),
    "sr, pretrained, step": lambda image, watch: _upscale(
        image, Settings().with_config("pretrained", steps=_STEPS), watch
    ),
    "sr, as published, step": lambda image, watch: _upscale(image, _ZSSR, watch),
    "sr, fast": lambda image, watch: _upscale(image, _named("fast"), watch),
    "sr, default": lambda image, watch: _upscale(image, _named("default"), watch),
    "sr, best": lambda image, watch: _upscale(image, _named("best"), watch),
    "whole run, fast": lambda image, watch: _whole(image, _named("fast"), watch),
    "whole run, default": lambda image, watch: _whole(image, _named("default"), watch),
}


def measure(
    name: str, size: tuple[int, int], repeats: int, threads: int | None, device_name: str, precision: str
) -> dict[str, object]:
    """Time one case on an image of (width, height)."""
    used = prepare_process(threads)
    device = choose_device(device_name)
    _PRECISION[0] = precision
    image = photograph(*size).to(device)
    start = _peak()
    seconds, steps = [], []
    for repeat in range(repeats + 1):
        watch = Stopwatch()
        began = time.perf_counter()
        CASES[name](image, watch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # kernels run asynchronously
        if repeat:  # the first one warms up
            seconds.append(time.perf_counter() - began)
            steps += watch.per_step()
    return {
        "case": name,
        "side": size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}",
        "device": str(device),
        "precision": precision,
        "device_peak_mib": round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if device.type == "cuda" else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": used,
        "seconds": _spread(seconds),
        "step_ms": _spread([1000 * s for s in steps]) if steps else None,
        "peak_mib": round((_peak() - start) / 2**20, 1),
    }


def _spread(values: list[float]) -> dict[str, float]:
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": round(quartiles[1], 4), "iqr": round(quartiles[2] - quartiles[0], 4)}


def _peak() -> int:
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sizes", default="128,256,512", help="sizes of the input, px: sides, or WIDTHxHEIGHT")
    parser.add_argument("--cases", help=f"of: {'; '.join(CASES)}  (separated by semicolons)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--precision", choices=["auto", "fp32", "bf16"], default="auto", help="precision of the cases by preset"
    )
    arguments = parser.parse_args()
    cases = [name.strip() for name in arguments.cases.split(";")] if arguments.cases else list(CASES)
    choose_device(arguments.device)  # fail now if there is no such device
    sizes = [_size(text) for text in arguments.sizes.split(",")]
    rows = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1) as pool:
        for name in cases:
            for size in sizes:
                how = (arguments.repeats, arguments.threads, arguments.device, arguments.precision)
                row = pool.submit(measure, name, size, *how).result()
                rows.append(row)
                print(_line(row), flush=True)
    content = {**circumstances(), "rows": rows, "ratios": _ratios(rows)}
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name, ratio in _ratios(rows).items():
        print(f"{name}: {ratio}")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height or width)


def _line(row: dict[str, object]) -> str:
    step = row["step_ms"]
    return (
        f"{row['case']:28s} {row['side']:>8} px  {row['seconds']['median']:8.3f} s"  # type: ignore[index]
        + (f"  {step['median']:8.2f} ms a step" if isinstance(step, dict) else " " * 20)
        + f"  +{row['peak_mib']:.0f} MiB"
    )


def _ratios(rows: list[dict[str, object]]) -> dict[str, float]:
    """Cost of a stage on four times the pixels, and of the published algorithm's step."""
    by_case = {(row["case"], row["side"]): row for row in rows}
    ratios = {}
    for (case, side), row in by_case.items():
        key = "step_ms" if row["step_ms"] else "seconds"
        double = by_case.get((case, 2 * side)) if isinstance(side, int) else None
        if double is not None:
            ratios[f"{case}, {2 * int(str(side))} px over {side} px"] = round(
                double[key]["median"] / row[key]["median"], 2
            )  # type: ignore[index]
        published = by_case.get(("sr, as published, step", side))
        if case == "sr, pretrained, step" and published:
            ratios[f"published step over {case}, {side} px"] = round(
                published["step_ms"]["median"] / row["step_ms"]["median"],
                2,  # type: ignore[index]
            )
    return ratios


if __name__ == "__main__":
    main()
