"""Mean and maximum over a square around each pixel, by doubling windows: log₂(side) additions a pixel and axis.

The pooling of torch needs side or side² of them. What a pixel gets does not depend on its place in the image, so that
tiles give the same bits as the whole.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def local_mean(image: Tensor, side: int) -> Tensor:
    """Mean over a square of odd side around each pixel of (B, C, H, W); only what is inside the image counts."""
    ones = image.new_ones(1, 1, *image.shape[-2:])
    sums, counts = (_over_square(part, side, torch.add, 0.0) for part in (image, ones))
    return sums / counts


def local_maximum(image: Tensor, side: int) -> Tensor:
    """Maximum over a square around each pixel; the arguments are those of `local_mean`."""
    return _over_square(image, side, torch.maximum, -torch.inf)


def _over_square(image: Tensor, side: int, combine: Callable[[Tensor, Tensor], Tensor], outside: float) -> Tensor:
    half = side // 2
    padded = functional.pad(image, (half, half, half, half), value=outside)
    return _along(_along(padded, side, combine, -1), side, combine, -2)


def _along(image: Tensor, side: int, combine: Callable[[Tensor, Tensor], Tensor], axis: int) -> Tensor:
    """Combine `side` neighbours along an axis: windows of 1, 2, 4, … pixels, those that add up to `side` joined."""
    length = image.shape[axis] - side + 1
    total: Tensor | None = None
    window, width, joined = image, 1, 0
    while joined < side:
        if side & width:
            part = window.narrow(axis, joined, length)
            total = part if total is None else combine(total, part)
            joined += width
        if joined < side:
            rest = window.shape[axis] - width
            window = combine(window.narrow(axis, 0, rest), window.narrow(axis, width, rest))
            width *= 2
    assert total is not None
    return total
