"""Super-resolve an image of any size tile by tile, and give out the result in strips.

A tile is computed with a halo: as many more pixels on every side that has a neighbour as its result depends on. Only
its core is kept, so tiles meet without a seam. An image that is no larger than a tile is computed whole.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from blindsr.errors import DivergenceError, ImageError
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.runtime import is_out_of_memory, release_memory
from blindsr.zssr.source import Source
from blindsr.zssr.tiling import Span

__all__ = ["LEAST_TILE", "TILE_SIDE", "Answer", "Margin", "assemble", "default_tile", "halved", "strips"]

STAGE = "tiles"
Answer = Callable[[Tensor], Tensor]
TILE_SIDE = 2048  # of a tile's core in HR pixels, unless the memory is short: larger ones are no faster
LEAST_TILE = 32  # LR pixels; below, a tile is all halo


@dataclass(frozen=True, slots=True)
class Margin:
    """What surrounds a tile's core.

    Args:
        halo: LR pixels on every side that has a neighbour.
        fade: Of these, the outermost ones that fade out towards the window's mean.
    """

    halo: int
    fade: int = 0


def default_tile(scale: int) -> int:
    """Side of a tile's core, LR pixels, where there is memory enough."""
    return max(LEAST_TILE, TILE_SIDE // scale)


def halved(tile: int) -> int:
    """The next smaller tile; 0 if there is none."""
    return 0 if tile <= LEAST_TILE else max(LEAST_TILE, tile // 2)


def _spans(start: int, length: int, tile: int, halo: int) -> list[Span]:
    """Cut [start, length) into equal parts of at most `tile`."""
    rest = length - start
    count = -(-rest // tile)
    edges = [start + rest * i // count for i in range(count + 1)]
    return [Span.around(a, b, halo, length) for a, b in itertools.pairwise(edges)]


def strips(
    answer: Answer,
    source: Source,
    *,
    scale: int,
    margin: Callable[[], Margin],
    tile: int | None = None,
    retry: Answer | None = None,
    listener: Listener = ignore,
) -> Iterator[Tensor]:
    """Super-resolve an image from top to bottom.

    Where a tile does not fit into memory it is halved, and the work goes on from there; where a tile's result is not
    finite, it is computed once more by `retry`.

    Args:
        answer: (1, C, h, w) → (1, C, s·h, s·w).
        source: The image.
        scale: s.
        margin: Gives what a tile needs around it; asked if there is more than one.
        tile: Side of a tile's core, LR pixels; None is `default_tile`.
        retry: A more careful `answer`; None is the same one again.
        listener: Takes the events of stage "tiles", one step a tile, where there is more than one.

    Yields:
        Strips (1, C, rows, s·W) on the CPU, which together are the whole result.

    Raises:
        ImageError: The smallest tile does not fit into memory either.
        DivergenceError: A tile is not finite, twice.
    """
    bands, height, width = source.shape
    tile = default_tile(scale) if tile is None else tile
    total = -(-height // tile) * -(-width // tile)
    if total > 1:
        listener(StageStarted(stage=STAGE, max_steps=total))
    top, done = 0, 0
    while top < height:
        around = margin() if max(height, width) > tile else Margin(0)
        rows, columns = _spans(top, height, tile, around.halo)[0], _spans(0, width, tile, around.halo)
        try:
            strip = None if len(columns) == 1 else torch.empty(bands, (rows.stop - rows.start) * scale, width * scale)
            for span in columns:
                window = _faded(source.window(rows.outer(), span.outer()), rows, span, around.fade, (height, width))
                core = _finite(answer, retry or answer, window, listener)[0, :, rows.kept(scale), span.kept(scale)]
                if strip is None:
                    strip = core.cpu()
                else:
                    strip[..., span.core(scale)] = core
                done += 1
                if total > 1:
                    listener(StepDone(stage=STAGE, step=min(done, total)))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = halved(min(tile, max(height - top, width)))
            strip = None
        else:
            release_memory()
            yield strip[None]  # type: ignore[index]
            strip = None  # nobody holds it while the next one is made
            top = rows.stop
            continue
        # Outside of the handler, whose traceback would keep the tensors of the failed tile alive.
        tile = _give_way(tile, smaller, listener)
    if total > 1:
        listener(StageDone(stage=STAGE, steps=total))


def _faded(window: Tensor, rows: Span, columns: Span, fade: int, size: tuple[int, int]) -> Tensor:
    """Fade a window out towards the sides where it was cut from the image."""
    if fade == 0:
        return window
    ramp = torch.sin(math.pi / 2 * (torch.arange(fade) + 0.5) / fade) ** 2
    weight = torch.ones(window.shape[-2:])
    for part, span, length in ((weight, rows, size[0]), (weight.mT, columns, size[1])):
        if span.first > 0:
            part[:fade] *= ramp[:, None]
        if span.last < length:
            part[-fade:] *= ramp.flip(0)[:, None]
    mean = window.mean((-2, -1), keepdim=True)
    return mean + weight.to(window) * (window - mean)


def _finite(answer: Answer, retry: Answer, window: Tensor, listener: Listener) -> Tensor:
    sr = answer(window)
    if bool(torch.isfinite(sr.sum())):
        return sr
    listener(Notice(stage=STAGE, message="a tile was not finite; it is computed once more, in full precision."))
    sr = retry(window)
    if not bool(torch.isfinite(sr.sum())):
        raise DivergenceError(
            "a result must be finite, a tile was NaN or infinite twice; try --precision fp32, or fewer steps."
        )
    return sr


def _give_way(tile: int, smaller: int, listener: Listener) -> int:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if not smaller:
        raise ImageError(f"not enough memory even for tiles of {LEAST_TILE} px; free some, or choose a smaller scale.")
    listener(Notice(stage=STAGE, message=f"out of memory with tiles of {tile} px; going on with {smaller} px."))
    return smaller


def assemble(parts: Iterator[Tensor], size: tuple[int, int], device: torch.device) -> Tensor:
    """Put strips together: (1, C, *size) on `device`; a single strip is handed through."""
    first = next(parts)
    if tuple(first.shape[-2:]) == size:
        return first.to(device)
    out = first.new_empty((*first.shape[:2], *size), device=device)
    top = 0
    strip: Tensor | None = first
    while strip is not None:
        out[..., top : top + strip.shape[-2], :] = strip
        top += strip.shape[-2]
        strip = next(parts, None)
    return out
