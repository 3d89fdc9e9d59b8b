"""Pictures inside a page: data URIs, and the place where the methods differ most."""

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.image_io.inline import picture_bytes
from blindsr.metrics import rgb_to_y

__all__ = ["choose_crops", "data_uri", "shrunk"]

LONGEST = 1600  # px; a page of twelve such images is about 15 MB
# px a side, by the longer side of the picture: few enough that single pixels show.
CROPS = (72, 128)


def data_uri(samples: NDArray[np.uint8], kind: str, *, quality: int = 90) -> str:
    """A picture as the address of itself."""
    return f"data:image/{kind};base64,{base64.b64encode(picture_bytes(samples, kind, quality=quality)).decode()}"


def shrunk(samples: NDArray[np.uint8], longest: int = LONGEST) -> NDArray[np.uint8]:
    """A picture no longer than `longest`, by means over whole blocks of pixels."""
    block = -(-max(samples.shape[:2]) // longest)
    if block == 1:
        return samples
    height, width = (side - side % block for side in samples.shape[:2])
    blocks = samples[:height, :width].reshape(height // block, block, width // block, block, -1)
    return np.asarray(np.round(blocks.mean((1, 3), dtype=np.float64)), dtype=np.uint8)


def choose_crops(
    pictures: Sequence[NDArray[np.uint8]], count: int = 1, size: int | None = None
) -> list[tuple[int, int, int]]:
    """Find the squares where pictures of one size differ most.

    The spread of their lumas at each pixel is averaged over a square; squares at the very border, where every
    method guesses, are left out where the image allows, and squares keep away from one another.

    Args:
        pictures: (H, W, 1) or (H, W, 3), two or more.
        count: How many at most; a small picture gives fewer.
        size: Of a square, at most; None takes a twelfth of the picture, between 72 and 128 px.

    Returns:
        (top, left, side) of each, where they differ most first.
    """
    lumas = np.stack([rgb_to_y(picture) for picture in pictures])
    height, width = lumas.shape[1:]
    wanted = min(max(max(height, width) // 12, CROPS[0]), CROPS[1]) if size is None else size
    side = min(wanted, height, width)
    margin = min(8, (min(height, width) - side) // 2)
    spread = ndimage.uniform_filter(lumas.var(0), side, mode="constant")
    # uniform_filter centres its window on the pixel side // 2 from the window's start.
    begin = side // 2 + margin
    scores = spread[
        begin : height - side + side // 2 + 1 - margin, begin : width - side + side // 2 + 1 - margin
    ].copy()
    found: list[tuple[int, int, int]] = []
    while len(found) < count and np.isfinite(scores.max()):
        row, column = (int(i) for i in np.unravel_index(int(np.argmax(scores)), scores.shape))
        found.append((row + margin, column + margin, side))
        apart = 2 * side
        scores[max(0, row - apart + 1) : row + apart, max(0, column - apart + 1) : column + apart] = -np.inf
    return found
