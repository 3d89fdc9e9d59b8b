"""Apply a model to an image of any size, tile by tile, and give out the result in rows from top to bottom.

A tile is computed with a halo: as many more pixels on every side that has a neighbour as its result depends on. Only
its core is kept, so that tiles meet without a seam. An image that is no larger than a tile is computed at once.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from blindsr.errors import DivergenceError, ImageError, is_out_of_memory
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.ops.windows import Source
from blindsr.runtime import release_memory
from blindsr.upscalers.base import TiledModel

__all__ = [
    "MIN_TILE", "Span", "default_tile", "finite_result", "halved", "run_tiled", "support_radius", "tiled_rows",
    "with_retry",
]  # fmt: skip

STAGE = "tiles"
MAX_TILE_HR = 2048  # side of a tile's core in HR pixels, unless memory is short: larger ones are no faster
MIN_TILE = 32  # LR pixels; a smaller tile would be all halo
_SMALLER_STEP = 0.25  # factor of the learning rate when a training is repeated after it diverged
_FEWER_PIXELS = 0.25  # factor of the training pixels when it is repeated after memory ran out

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis, in pixels of the input.

    Args:
        start: Of its core, the part that is kept.
        stop: End of the core.
        first: Of what is computed, the core and its halo.
        last: End of what is computed.
    """

    start: int
    stop: int
    first: int
    last: int

    @classmethod
    def around(cls, start: int, stop: int, halo: int, length: int) -> "Span":
        """A core with its halo, as far as the axis of `length` pixels goes."""
        return cls(start, stop, max(0, start - halo), min(length, stop + halo))

    def outer(self, scale: int = 1) -> slice:
        """What is computed, in an image that is `scale` times as large."""
        return slice(self.first * scale, self.last * scale)

    def core(self, scale: int) -> slice:
        """Where the core lies in the whole result."""
        return slice(self.start * scale, self.stop * scale)

    def kept(self, scale: int) -> slice:
        """The core as a slice of the tile's result."""
        return slice((self.start - self.first) * scale, (self.stop - self.first) * scale)


def default_tile(scale: int) -> int:
    """Side of a tile's core, LR pixels, where there is memory enough."""
    return max(MIN_TILE, MAX_TILE_HR // scale)


def halved(tile: int) -> int:
    """The next smaller tile; 0 if there is none."""
    return 0 if tile <= MIN_TILE else max(MIN_TILE, tile // 2)


def even_spans(start: int, length: int, tile: int, halo: int) -> list[Span]:
    """Cut [start, length) into nearly equal parts of at most `tile`, or one more if it is odd, from even places.

    Networks that process 2×2 pixels at a time then see the same ones in a tile as in the whole image.
    """
    pairs = -(-(length - start) // 2)
    count = -(-pairs // -(-tile // 2))
    edges = [*(start + 2 * (pairs * i // count) for i in range(count)), length]
    return [Span.around(a, b, halo, length) for a, b in itertools.pairwise(edges)]


def tiled_rows(
    model: TiledModel, source: Source, *, tile: int | None = None, listener: Listener = ignore
) -> Iterator[Tensor]:
    """Apply a model to an image from top to bottom.

    Where a tile does not fit into memory it is halved, and the work goes on from there; where a tile's result is not
    finite, it is computed once more by the model's `retry`.

    Args:
        model: A model fitted to the image.
        source: The image.
        tile: Side of a tile's core, LR pixels; None is `default_tile`. A model of the whole image gets one tile.
        listener: Receives the events of the stage "tiles", one step per tile, where there is more than one.

    Yields:
        Rows of the result, (1, C, rows, s·W), [0, 1], on the CPU, which together are the whole result.

    Raises:
        ImageError: The smallest tile does not fit into memory either.
        DivergenceError: A tile's result is not finite, twice.
    """
    bands, height, width = source.shape
    scale = model.scale
    tile = max(height, width) if model.whole_image else default_tile(scale) if tile is None else tile
    total = -(-height // tile) * -(-width // tile)
    if total > 1:
        listener(StageStarted(stage=STAGE, max_steps=total))
    release_memory()
    top, done = 0, 0
    while top < height:
        halo = model.halo() if max(height, width) > tile else 0
        halo += halo % 2  # as tiles, their windows begin at even places
        rows, columns = even_spans(top, height, tile, halo)[0], even_spans(0, width, tile, halo)
        try:
            strip = None if len(columns) == 1 else torch.empty(bands, (rows.stop - rows.start) * scale, width * scale)
            for span in columns:
                result = finite_result(model, source.window(rows.outer(), span.outer()), listener)
                core = result[0, :, rows.kept(scale), span.kept(scale)]
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
            smaller = 0 if model.whole_image else halved(min(tile, max(height - top, width)))
            strip = None
        else:
            release_memory()
            yield strip[None]  # type: ignore[index]
            strip = None  # no reference is kept while the next rows are made
            top = rows.stop
            continue
        # Outside of the handler, whose traceback would keep the tensors of the failed tile alive.
        tile = _shrink(tile, smaller, listener)
    if total > 1:
        listener(StageDone(stage=STAGE, steps=total))


def finite_result(model: TiledModel, window: Tensor, listener: Listener = ignore) -> Tensor:
    """A model's result of a window, computed again by its `retry` where it is not finite.

    Raises:
        DivergenceError: It is not finite, twice.
    """
    sr = model.predict(window)
    if bool(torch.isfinite(sr.sum())):
        return sr
    listener(Notice(stage=STAGE, message="a tile's result was not finite; it is computed again in full precision."))
    sr = (model.retry or model.predict)(window)
    if not bool(torch.isfinite(sr.sum())):
        raise DivergenceError(
            "a result must be finite, a tile was NaN or infinite twice; try the precision fp32 (--precision fp32 on "
            "the command line), or fewer steps."
        )
    return sr


def _shrink(tile: int, smaller: int, listener: Listener) -> int:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if not smaller:
        raise ImageError(f"not enough memory even for tiles of {MIN_TILE} px; free some, or choose a smaller scale.")
    listener(Notice(stage=STAGE, message=f"out of memory with tiles of {tile} px; continuing with {smaller} px."))
    return smaller


def with_retry(
    train: Callable[[float, int], T], *, rate: float, pixels: int, stage: str, listener: Listener
) -> tuple[T, tuple[str, ...]]:
    """Train on the image, and repeat a training that failed for one of two reasons that a change can cure.

    A training that diverged is repeated with a smaller learning rate, one that ran out of memory with fewer pixels.

    Args:
        train: Takes a learning rate and the number of pixels to train on.
        rate: Learning rate of the first attempt.
        pixels: Pixels of the first attempt.
        stage: Stage of the notice.
        listener: Receives a notice of the second attempt.

    Returns:
        What `train` returned, and a warning if it was the second attempt.

    Raises:
        DivergenceError, MemoryError, RuntimeError: The second attempt failed as well, or the first for another reason.
    """
    try:
        return train(rate, pixels), ()
    except (DivergenceError, MemoryError, RuntimeError) as error:
        if isinstance(error, DivergenceError):
            rate *= _SMALLER_STEP
            warning = f"the training on the image diverged; it was repeated with a learning rate of {rate:.1e}."
        elif is_out_of_memory(error):
            pixels = int(pixels * _FEWER_PIXELS)
            warning = "memory ran out during the training on the image; a quarter of the pixels is used instead."
        else:
            raise
    # Outside of the handler, whose traceback would keep the tensors of the failed attempt alive.
    listener(Notice(stage=stage, message=warning))
    return train(rate, pixels), (warning,)


def run_tiled(
    network: Callable[[Tensor], Tensor], image: Tensor, *, halo: int, max_tile: int, scale: int = 1
) -> Tensor:
    """Apply a fully convolutional network in tiles, equal to applying it to the whole image.

    Each tile is run with `halo` more pixels on every side that has a neighbour, and only its core is kept. What
    the network sees at the image's own borders is unchanged.

    Args:
        network: (B, C, h, w) → (B, C, scale·h, scale·w).
        image: (B, C, H, W).
        halo: Pixels that one output pixel depends on, in each direction.
        max_tile: Side of a tile's core; an image that is no larger is run whole.
        scale: Of the network.

    Returns:
        (B, C, scale·H, scale·W), dtype of `image`.
    """
    height, width = image.shape[-2:]
    if max(height, width) <= max_tile:
        return network(image).to(image.dtype)
    out = image.new_empty(*image.shape[:2], scale * height, scale * width)
    for top in range(0, height, max_tile):
        for left in range(0, width, max_tile):
            rows = Span.around(top, min(top + max_tile, height), halo, height)
            columns = Span.around(left, min(left + max_tile, width), halo, width)
            tile = network(image[..., rows.outer(), columns.outer()])
            kept = tile[..., rows.kept(scale), columns.kept(scale)]
            out[..., rows.core(scale), columns.core(scale)] = kept.to(image.dtype)
    return out


def support_radius(weights: Tensor, tail: float) -> int:
    """Distance from the middle pixel beyond which the weights of filters sum to no more than `tail`.

    Args:
        weights: (N, side, side), absolute, each filter with its centre at side // 2, side // 2.
        tail: The sum that is negligible.

    Returns:
        The largest of the N distances, px, at most side // 2 + 1.
    """
    side = weights.shape[-1]
    offset = (torch.arange(side) - side // 2).abs()
    distance = torch.maximum(offset[:, None], offset[None]).flatten()
    by_distance = torch.zeros(len(weights), side // 2 + 1).index_add(1, distance, weights.flatten(1))
    beyond = by_distance.flip(1).cumsum(1).flip(1).amax(0)
    return int((beyond > tail).sum())
