"""Measure what a dry run says of time: the constants of `blindsr.pipelines.batch.forecast`, and their errors.

    python benchmarks/forecast.py -o forecast.json [--sides 128,256,512,1024]

Photographs of several sizes are upscaled by every preset, each twice (the first warms up), on one thread. Seconds are
those of the processor, so that other work on the machine does not count. The constants are fitted, and what the package
says now is compared with what was measured.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from machine import circumstances
from PIL import Image
from speed import photograph

from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernels import gaussian
from blindsr.pipelines.batch import forecast
from blindsr.pipelines.batch.task import Options, Task, run_task, task_key
from blindsr.pipelines.settings import Settings, preset
from blindsr.zssr.config import PaperZSSRConfig

_KERNEL = gaussian(1.44, 2)
_FEW, _MORE = 20, 60  # steps of what takes thousands: their difference is free of what comes before and after


def _paper(steps: int) -> Settings:
    return Settings(zssr=replace(PaperZSSRConfig.named("given"), max_steps=steps))


def _random(steps: int) -> Settings:
    settings = preset("default", start="random")
    return replace(settings, zssr=replace(settings.zssr, steps=steps))  # type: ignore[arg-type]


CASES: dict[str, tuple[Options, bool]] = {
    # Options, and whether large photographs are measured too.
    "known, fast": (Options(settings=preset("fast"), kernel=_KERNEL), True),
    "known, default": (Options(settings=preset("default"), kernel=_KERNEL), True),
    "known, best": (Options(settings=preset("best"), kernel=_KERNEL), False),
    "known, random start": (Options(settings=_random(_MORE), kernel=_KERNEL), False),
    "known, as published": (Options(settings=_paper(_FEW), kernel=_KERNEL), False),
    "known, as published, more": (Options(settings=_paper(_MORE), kernel=_KERNEL), False),
    "blind, fast": (Options(settings=preset("fast")), True),
    "blind, default": (Options(settings=preset("default")), True),
    "blind, kernelgan": (
        Options(settings=replace(preset("fast"), estimator="kernelgan", kernelgan=KernelGANConfig(iterations=100))),
        False,
    ),
}


def seconds_of(work: Callable[[], object]) -> float:
    """Processor seconds of the second of two runs."""
    work()
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(options: Options, side: int, folder: Path) -> float:
    """Seconds of one photograph."""
    source = folder / f"{side}.png"
    if not source.exists():
        pixels = (photograph(side, side)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(source)
    key = task_key("none", options)

    def work() -> None:
        for old in folder.glob("result*"):
            old.unlink()
        task = Task(source=source, target=folder / "result", whole=False, key=key, digest="", options=options)
        row = run_task(task, "cpu")
        if row["status"] != "done":
            raise SystemExit(row["error"])

    return seconds_of(work)


def probe() -> float:
    """What the probe takes here, by its own account."""
    return forecast.PROBE / forecast.machine_speed()


def fit(rows: list[dict[str, object]]) -> dict[str, object]:
    """The constants, by least squares of the relative errors."""
    seconds = {(row["case"], row["side"]): float(row["seconds"]) for row in rows}  # type: ignore[arg-type]

    def line(cases: dict[float, float]) -> tuple[float, float]:
        x, y = np.array(list(cases)), np.array(list(cases.values()))
        slope, start = np.polyfit(x, y, 1, w=1 / y)
        return round(float(start), 3), round(float(slope), 3)

    def of(case: str) -> dict[int, float]:
        return {side: value for (name, side), value in seconds.items() if name == case}  # type: ignore[misc]

    fast = of("known, fast")
    fixed = line({4 * side**2 / 1e6: value for side, value in fast.items()})
    estimate = line({side**2 / 1e6: value - fast[side] for side, value in of("blind, fast").items()})

    def step(case: str, steps: int, before: dict[int, float] = fast) -> float:
        return round(float(np.median([(value - before[side]) / steps for side, value in of(case).items()])), 4)

    return {
        "FIXED": fixed[0],
        "LARGER": fixed[1],
        "ESTIMATE": estimate,
        "STEP": {
            "start": step("known, default", preset("default").zssr.steps),  # type: ignore[union-attr]
            "paper": step("known, as published, more", _MORE - _FEW, of("known, as published")),
        },
        "KERNELGAN_STEP": step("blind, kernelgan", 100),
        "PROBE": round(probe(), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sides", default="128,256,512,1024")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sides = [int(side) for side in arguments.sides.split(",")]
    rows: list[dict[str, object]] = []
    with TemporaryDirectory(prefix="blindsr-forecast-") as folder:
        for name, (options, large) in CASES.items():
            for side in sides if large else [side for side in sides if side <= 512]:
                seconds = measure(options, side, Path(folder))
                expected = forecast.expected_seconds((side, side, 3), options)
                rows.append({"case": name, "side": side, "seconds": round(seconds, 3), "said": round(expected, 3)})
                print(f"{name:24s} {side:5d} px  {seconds:7.2f} s, said {expected:7.2f} s", flush=True)
    ratios = [float(row["said"]) / float(row["seconds"]) for row in rows]  # type: ignore[arg-type]
    content = {
        **circumstances(),
        "rows": rows,
        "constants": fit(rows),
        "said over measured": [min(ratios), max(ratios)],
    }
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps({"constants": content["constants"], "said over measured": content["said over measured"]}, indent=1)
    )


if __name__ == "__main__":
    main()
