"""The pipelines on an image that is never whole in memory: read by windows, handed over in strips."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.events import Listener, ignore
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.pipelines import blind
from blindsr.pipelines.known import doubted, trusted
from blindsr.pipelines.place import place_caution
from blindsr.pipelines.prepare import prepare
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.rows import ConsistencyMeter, resized
from blindsr.pipelines.sampling import estimation_window
from blindsr.pipelines.settings import Settings
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.prepared import Prepared
from blindsr.zssr.source import Source, most_detailed, spread_windows

__all__ = ["Deliver", "upscale_stream"]

Deliver = Callable[[Iterator[Tensor], Kernel], None]
_LOOKED_AT = 160  # side of the window, LR pixels, on which the place of the result is looked at


def upscale_stream(
    source: Source,
    kernel: Kernel | None,
    settings: Settings,
    deliver: Deliver,
    *,
    tile: int | None = None,
    listener: Listener = ignore,
) -> Upscaled:
    """Upscale an image of any size; what is in memory does not grow with it, but for one strip's width.

    Args:
        source: The image.
        kernel: For `settings.network_scale`; None estimates it from the image.
        settings: As for the other pipelines, but for the published ZSSR.
        deliver: Takes the strips, (1, C, rows, W) in [0, 1] on the CPU, from top to bottom, and the kernel.
        tile: Side of a tile, LR pixels.
        listener: Takes the events.

    Returns:
        What led to the result. Its `image` is on the "meta" device: it has a shape, and no values.

    Raises:
        ConfigError: The published ZSSR is asked for.
        ImageError, KernelError, DivergenceError: As `known.upscale` and `blind.estimate_and_upscale`.
    """
    if isinstance(settings.zssr, PaperZSSRConfig):
        raise ConfigError("the published ZSSR needs the whole image in memory; use another preset for large images.")
    timings: dict[str, float] = {}
    estimate: KernelEstimate | None = None
    if kernel is None:
        started = time.perf_counter()
        window = estimation_window(source, settings.region)
        estimate = blind.estimate_kernel(window, replace(settings, region=None), listener=listener)
        timings["kernel"] = time.perf_counter() - started
        kernel = estimate.kernel
    used, estimated = trusted(kernel, estimate, settings)
    started = time.perf_counter()
    prepared = prepare(source, kernel, used, listener=listener)
    meter = ConsistencyMeter(source, kernel)
    _, height, width = source.shape
    out_size = settings.output_size(height, width)
    deliver(resized(meter.watch(prepared.strips(tile, listener=listener)), prepared.size, out_size), kernel)
    timings["zssr"] = time.perf_counter() - started
    notes = [*(estimate.notes if estimate else ()), *prepared.notes, *doubted(meter.psnr)]
    if not estimated and (aside := _misplaced(prepared, kernel)):
        notes.append(aside)
    curves = {} if estimate is None else {f"{estimate.method}.{name}": v for name, v in estimate.history.items()}
    return Upscaled(
        image=torch.empty((1, source.shape[0], *out_size), device="meta"),
        kernel=kernel,
        estimate=estimate,
        settings=used,
        history=curves | {f"zssr.{name}": values for name, values in prepared.history.items()},
        timings=timings,
        consistency=meter.psnr,
        dtype=prepared.dtype,
        notes=tuple(notes),
    )


def _misplaced(prepared: Prepared, kernel: Kernel) -> str:
    """Whether the result lies where it should, on the most detailed of some windows."""
    source = prepared.source
    window = source.window(*most_detailed(source, spread_windows(source, _LOOKED_AT, 9), 1)[0])
    return place_caution(window, prepared.answer(window), kernel)
