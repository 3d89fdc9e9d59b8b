"""Speed and memory: every stage, what a step costs, and how it grows with the image.

    python benchmarks/speed.py -o speed.json [--sizes 128,256,512] [--threads 1] [--repeats 3]
    python benchmarks/speed.py -o gpu.json --device cuda --sizes 512x340 --cases 'sr, default; whole job, default'
    python benchmarks/speed.py -o fp32.json --precision fp32 --sizes 512x340 --cases 'sr, fast; sr, default'

Each case runs in a process of its own, so that its peak of memory is its own; each repeat is timed after one that is
not. Ratios between the cases of one run mean something, seconds of two machines do not.
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

from blindsr.events import Event, StepDone, ignore
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernels import gaussian
from blindsr.pipelines import blind, known
from blindsr.pipelines.settings import Settings, preset
from blindsr.runtime import choose_device, prepare_process
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.start.config import StartConfig

_STEPS = 12  # timed steps of a training: its cost is linear in them
_KERNELGAN_STEPS = 200  # of KernelGAN, whose steps take milliseconds
_KERNEL = gaussian([[2.2, 0.5], [0.5, 1.1]], 2)


class Stopwatch:
    """Notes when each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = [time.perf_counter()]

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        if isinstance(event, StepDone):
            self.times.append(time.perf_counter())

    def per_step(self) -> list[float]:
        """Seconds of each step but the first two, which warm up."""
        return [b - a for a, b in zip(self.times[2:], self.times[3:], strict=False)]


def photograph(width: int, height: int) -> torch.Tensor:
    """(1, 3, height, width) in [0, 1]: a photograph, mirrored to the size."""
    image = data.astronaut().astype(np.float32) / 255
    rows = np.concatenate([image if i % 2 == 0 else image[::-1] for i in range(-(-height // 512))])[:height]
    across = [rows if i % 2 == 0 else rows[:, ::-1] for i in range(-(-width // 512))]
    whole = np.concatenate(across, axis=1)[:, :width]
    return torch.from_numpy(np.ascontiguousarray(whole)).permute(2, 0, 1)[None].contiguous()


def _of(name: str) -> Settings:
    """A preset at the precision that was asked for."""
    settings = preset(name)
    return replace(settings, zssr=replace(settings.zssr, precision=_PRECISION[0]))


def _steps(zssr: StartConfig | PaperZSSRConfig, steps: int) -> Settings:
    if isinstance(zssr, PaperZSSRConfig):
        return Settings(zssr=replace(zssr, max_steps=steps))
    return Settings(zssr=replace(zssr, steps=steps))


def _kernelgan(iterations: int) -> Settings:
    """The paper's KernelGAN, cut short; the losses are reported as seldom as in a whole run."""
    return Settings(estimator="kernelgan", kernelgan=KernelGANConfig(iterations=iterations))


_PRECISION: list[Any] = ["auto"]  # of the cases by preset; set in the process that runs the case


# Case: what runs, with an image and a listener.
CASES: dict[str, Callable[[torch.Tensor, Stopwatch], object]] = {
    "spectral estimate": lambda image, watch: blind.estimate_kernel(image, Settings(estimator="spectral")),
    "kernelgan step": lambda image, watch: blind.estimate_kernel(image, _kernelgan(_KERNELGAN_STEPS), listener=watch),
    "sr, learned start, no step": lambda image, watch: known.upscale(image, _KERNEL, _steps(StartConfig(), 0)),
    "sr, learned start, step": lambda image, watch: known.upscale(
        image, _KERNEL, _steps(StartConfig(), _STEPS), listener=watch
    ),
    "sr, as published, step": lambda image, watch: known.upscale(
        image, _KERNEL, _steps(PaperZSSRConfig.named("given"), _STEPS), listener=watch
    ),
    "sr, fast": lambda image, watch: known.upscale(image, _KERNEL, _of("fast")),
    "sr, default": lambda image, watch: known.upscale(image, _KERNEL, _of("default")),
    "sr, best": lambda image, watch: known.upscale(image, _KERNEL, _of("best")),
    "whole job, fast": lambda image, watch: blind.estimate_and_upscale(image, _of("fast"), listener=ignore),
    "whole job, default": lambda image, watch: blind.estimate_and_upscale(image, _of("default"), listener=ignore),
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
            torch.cuda.synchronize(device)  # what was started has also ended
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
    """Bytes that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sizes", default="128,256,512", help="of the input, px: sides, or WIDTHxHEIGHT")
    parser.add_argument("--cases", help=f"of: {'; '.join(CASES)}  (separated by semicolons)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of the cases by preset")
    arguments = parser.parse_args()
    cases = [name.strip() for name in arguments.cases.split(";")] if arguments.cases else list(CASES)
    choose_device(arguments.device)  # a device that is not here is found out now
    sizes = [_size(text) for text in arguments.sizes.split(",")]
    rows = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1) as pool:
        for name in cases:
            for size in sizes:
                how = (arguments.repeats, arguments.threads, arguments.device, arguments.precision)
                row = pool.submit(measure, name, size, *how).result()
                rows.append(row)
                print(_in_words(row), flush=True)
    content = {**circumstances(), "rows": rows, "ratios": _ratios(rows)}
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for words, ratio in _ratios(rows).items():
        print(f"{words}: {ratio}")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height or width)


def _in_words(row: dict[str, object]) -> str:
    step = row["step_ms"]
    return (
        f"{row['case']:28s} {row['side']:>8} px  {row['seconds']['median']:8.3f} s"  # type: ignore[index]
        + (f"  {step['median']:8.2f} ms a step" if isinstance(step, dict) else " " * 20)
        + f"  +{row['peak_mib']:.0f} MiB"
    )


def _ratios(rows: list[dict[str, object]]) -> dict[str, float]:
    """What a stage costs four times the pixels later, and against the published algorithm."""
    found = {(row["case"], row["side"]): row for row in rows}
    ratios = {}
    for (case, side), row in found.items():
        key = "step_ms" if row["step_ms"] else "seconds"
        double = found.get((case, 2 * side)) if isinstance(side, int) else None
        if double is not None:
            ratios[f"{case}, {2 * int(str(side))} px over {side} px"] = round(
                double[key]["median"] / row[key]["median"], 2
            )  # type: ignore[index]
        published = found.get(("sr, as published, step", side))
        if case == "sr, learned start, step" and published:
            ratios[f"published step over {case}, {side} px"] = round(
                published["step_ms"]["median"] / row["step_ms"]["median"],
                2,  # type: ignore[index]
            )
    return ratios


if __name__ == "__main__":
    main()
