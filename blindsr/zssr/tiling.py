"""Run a network over an image in tiles that overlap by its receptive field."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["run_tiled"]


def run_tiled(network: Callable[[Tensor], Tensor], image: Tensor, *, scale: int, halo: int, max_tile: int) -> Tensor:
    """Apply a fully convolutional network in tiles, equal to applying it to the whole image.

    Each tile is run with `halo` more pixels on every side that has a neighbour, and only its core is kept. What
    the network sees at the image's own borders is unchanged.

    Args:
        network: (B, C, h, w) → (B, C, scale·h, scale·w).
        image: (B, C, H, W).
        scale: Factor from the network's input to its output.
        halo: Pixels of the input that one output pixel depends on, in each direction.
        max_tile: Side of a tile's core; an image that is no larger is run whole.

    Returns:
        (B, C, scale·H, scale·W), dtype of `image`.
    """
    height, width = image.shape[-2:]
    if max(height, width) <= max_tile:
        return network(image).to(image.dtype)
    out = image.new_empty((*image.shape[:2], height * scale, width * scale))
    for top in range(0, height, max_tile):
        for left in range(0, width, max_tile):
            bottom, right = min(top + max_tile, height), min(left + max_tile, width)
            y0, x0 = max(0, top - halo), max(0, left - halo)
            tile = network(image[..., y0 : min(height, bottom + halo), x0 : min(width, right + halo)])
            core = tile[..., (top - y0) * scale : (bottom - y0) * scale, (left - x0) * scale : (right - x0) * scale]
            out[..., top * scale : bottom * scale, left * scale : right * scale] = core.to(image.dtype)
    return out
