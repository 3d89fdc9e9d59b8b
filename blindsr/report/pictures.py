"""Pictures inside a page: data URIs, and the place where the methods differ most."""

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.image_io.inline import picture_bytes
from blindsr.metrics import rgb_to_y

__all__ = ["choose_crop", "data_uri", "shrunk"]

LONGEST = 1600  # px; a page of twelve such images is about 15 MB
CROP = 72  # px a side: few enough that single pixels show at the width of a phone


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


def choose_crop(pictures: Sequence[NDArray[np.uint8]], size: int = CROP) -> tuple[int, int, int]:
    """Find the square where pictures of one size differ most.

    The spread of their lumas at each pixel is averaged over the square; squares at the very border, where every
    method guesses, are left out where the image allows.

    Args:
        pictures: (H, W, 1) or (H, W, 3), two or more.
        size: Of the square, at most; a smaller picture gives a smaller square.

    Returns:
        (top, left, side).
    """
    lumas = np.stack([rgb_to_y(picture) for picture in pictures])
    height, width = lumas.shape[1:]
    side = min(size, height, width)
    spread = ndimage.uniform_filter(lumas.var(0), side, mode="constant")
    margin = min(8, (min(height, width) - side) // 2)
    # uniform_filter centres its window on the pixel side // 2 from the window's start.
    first = spread[
        side // 2 + margin : height - side + side // 2 + 1 - margin,
        side // 2 + margin : width - side + side // 2 + 1 - margin,
    ]
    row, column = np.unravel_index(int(np.argmax(first)), first.shape)
    return int(row) + margin, int(column) + margin, side
