"""Run a network over an image in tiles that overlap by its receptive field."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Span", "run_tiled"]


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
        """Where the core lies in the tile's result."""
        return slice((self.start - self.first) * scale, (self.stop - self.first) * scale)


def run_tiled(network: Callable[[Tensor], Tensor], image: Tensor, *, halo: int, max_tile: int) -> Tensor:
    """Apply a fully convolutional network in tiles, equal to applying it to the whole image.

    Each tile is run with `halo` more pixels on every side that has a neighbour, and only its core is kept. What
    the network sees at the image's own borders is unchanged.

    Args:
        network: (B, C, h, w) → (B, C, h, w).
        image: (B, C, H, W).
        halo: Pixels that one output pixel depends on, in each direction.
        max_tile: Side of a tile's core; an image that is no larger is run whole.

    Returns:
        (B, C, H, W), dtype of `image`.
    """
    height, width = image.shape[-2:]
    if max(height, width) <= max_tile:
        return network(image).to(image.dtype)
    out = image.new_empty(image.shape)
    for top in range(0, height, max_tile):
        for left in range(0, width, max_tile):
            rows = Span.around(top, min(top + max_tile, height), halo, height)
            columns = Span.around(left, min(left + max_tile, width), halo, width)
            tile = network(image[..., rows.outer(), columns.outer()])
            out[..., rows.core(1), columns.core(1)] = tile[..., rows.kept(1), columns.kept(1)].to(image.dtype)
    return out
