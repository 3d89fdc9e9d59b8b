"""About how long a batch takes, and how much memory: a model with measured constants, fitted to the machine by a probe.

The constants are seconds on one thread of the machine that `benchmarks/forecast.py` measured them on; the probe says
how much faster or slower this one is. A manifest with finished photographs of these settings knows better, and is asked
first.
"""

import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blindsr.image_io.probe import picture_size
from blindsr.pipelines.batch.plan import BatchPlan, Item
from blindsr.pipelines.batch.task import Options
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.start.config import StartConfig

__all__ = ["Forecast", "expected_seconds", "forecast", "machine_speed"]

# Seconds on the reference, one thread (docs/reliability.md, "What a plan says").
FIXED = 0.1  # a photograph's papers, and the beginning of everything
LARGER = 4.6  # a megapixel of the result: read, one pass of the network, checked, written
ESTIMATE = (5.5, 2.1)  # a kernel, with the questions that follow: once, and a megapixel up to LOOKED_AT
LOOKED_AT = 4.2  # megapixels that a kernel is estimated from at most
VIEW = 0.4  # of that, what each further view of an ensemble adds
STEP = {"start": 0.19, "paper": 0.3}  # one step of the training on the photograph; a start's, learned or random
KERNELGAN_STEP = 0.0065
PROBE = 0.045  # the probe


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a plan will take.

    Args:
        seconds: For each open photograph, in order, on one worker of this machine.
        workers: At once.
        unknown: Photographs whose size their header does not tell; they are taken for average ones.
        memory: Bytes of the largest, times the workers; None if it cannot be said.
        learned: The seconds are fitted to finished photographs of this very batch.
    """

    seconds: tuple[float, ...]
    workers: int
    unknown: int = 0
    memory: int | None = None
    learned: bool = False

    @property
    def total(self) -> float:
        """Seconds of the whole batch: the workers share it, and the last photograph ends it."""
        return max([sum(self.seconds) / self.workers, *self.seconds], default=0.0)


def expected_seconds(size: tuple[int, int, int], options: Options) -> float:
    """Seconds for one photograph on one thread of the reference machine.

    Args:
        size: Height, width and bands of the input.
        options: Of the batch.
    """
    settings = options.settings
    pixels = size[0] * size[1] / 1e6
    larger = math.prod(settings.output_size(*size[:2])) / 1e6
    views = 1  # or as many as there may be: the kernel decides
    if isinstance(settings.zssr, StartConfig) and 1e6 * larger <= (settings.zssr.ensemble_pixels or math.inf):
        views = settings.zssr.ensemble
    seconds = FIXED + LARGER * larger * (1 + VIEW * (views - 1))
    if options.kernel is None and settings.estimator == "kernelgan":
        seconds += settings.kernelgan.iterations * KERNELGAN_STEP
    elif options.kernel is None:
        seconds += ESTIMATE[0] + ESTIMATE[1] * min(pixels, LOOKED_AT)
    if isinstance(settings.zssr, PaperZSSRConfig):
        return seconds + settings.zssr.max_steps * STEP["paper"]
    return seconds + settings.zssr.steps * STEP["start"]


def machine_speed() -> float:
    """How many times faster this process is than the reference: convolutions like the network's, for a moment."""
    import torch

    image = torch.zeros(1, 64, 96, 96)
    weight = torch.zeros(64, 64, 3, 3)
    seconds = []
    with torch.inference_mode():
        for _ in range(4):
            started = time.perf_counter()
            for _ in range(4):
                torch.nn.functional.conv2d(image, weight)
            seconds.append(time.perf_counter() - started)
    return PROBE / min(seconds[1:])


def forecast(plan: BatchPlan, *, workers: int, speed: float = 1.0) -> Forecast:
    """Say what the open photographs of a plan will take.

    Args:
        plan: The plan.
        workers: At once.
        speed: Of one worker, over the reference's.
    """
    sizes = [picture_size(item.source) for item in plan.open]
    known = [expected_seconds(size, plan.options) for size in sizes if size is not None]
    average = statistics.fmean(known) if known else expected_seconds((1000, 1000, 3), plan.options)
    expected = [average if size is None else expected_seconds(size, plan.options) for size in sizes]
    ratios = list(_experience(plan.items, plan.options))
    factor = statistics.median(ratios) if len(ratios) >= 3 else 1 / speed
    return Forecast(
        seconds=tuple(seconds * factor for seconds in expected),
        workers=workers,
        unknown=sizes.count(None),
        memory=_memory(sizes, plan.options, workers),
        learned=len(ratios) >= 3,
    )


def _experience(items: Sequence[Item], options: Options) -> Iterable[float]:
    """Seconds over expected seconds of what is done."""
    for item in items:
        if item.state == "kept" and item.row is not None and item.row.get("seconds"):
            size = picture_size(Path(item.source))
            if size is not None:
                yield float(item.row["seconds"]) / expected_seconds(size, options)


def _memory(sizes: Sequence[tuple[int, int, int] | None], options: Options, workers: int) -> int | None:
    from blindsr.pipelines.memory import needed_memory

    needed = []
    for size in sizes:
        if size is not None:
            scale = math.sqrt(math.prod(options.settings.output_size(*size[:2])) / (size[0] * size[1]))
            most = options.photo.get("max_memory")
            needed.append(min(needed_memory(*size, scale), most or sys.maxsize))
    return sum(sorted(needed)[-workers:]) if needed else None
