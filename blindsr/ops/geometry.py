"""Pixels and their neighbours: half-sample symmetric borders, the eight dihedral views, squares around each pixel.

Half-sample symmetric is what MATLAB and NumPy call "symmetric" and SciPy calls "reflect". The "reflect" mode of torch
does not repeat the edge sample and refuses pads as long as the image; both matter here.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError


def mirror(index: Tensor, length: int) -> Tensor:
    """Map any integer positions into [0, length) by half-sample mirroring (… 1 0 | 0 1 … n−1 | n−1 …)."""
    wrapped = torch.remainder(index, 2 * length)
    return torch.minimum(wrapped, 2 * length - 1 - wrapped)


def pad_symmetric(image: Tensor, pad: int) -> Tensor:
    """Extend images (B, C, H, W) by `pad` mirrored pixels on each side; `pad` may exceed the image."""
    if pad == 0:
        return image
    for axis in (-2, -1):
        length = image.shape[axis]
        image = image.index_select(axis, mirror(torch.arange(-pad, length + pad, device=image.device), length))
    return image


def dihedral(image: Tensor, view: int) -> Tensor:
    """One of the eight dihedral views of an image (…, H, W).

    View v is rotated by 90° · (v mod 4) counter-clockwise, and for v ≥ 4 mirrored left to right first. View 0 is
    the image.
    """
    if not 0 <= view < 8:
        raise ImageError(f"a dihedral view is 0 … 7, got {view}.")
    mirrored = image.flip(-1) if view >= 4 else image
    return torch.rot90(mirrored, view % 4, (-2, -1))


def dihedral_inverse(image: Tensor, view: int) -> Tensor:
    """Undo `dihedral`, so that `dihedral_inverse(dihedral(x, v), v)` is x; a mirrored view undoes itself."""
    return dihedral(image, 4 - view if 0 < view < 4 else view)


def local_mean(image: Tensor, side: int) -> Tensor:
    """Mean over a square of odd side around each pixel of (B, C, H, W); only what is inside the image counts.

    Windows are doubled, which takes log₂(side) additions a pixel and axis; the pooling of torch needs side or side² of
    them. What a pixel gets does not depend on its place in the image, so that tiles give the same bits as the whole.
    """
    rows, columns = (_pixels_inside(length, side, image.dtype, image.device) for length in image.shape[-2:])
    return _over_square(image, side, torch.add, 0.0) / (rows[:, None] * columns)


@lru_cache(maxsize=64)
def _pixels_inside(length: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """How many of the `side` pixels around each of `length` are inside, as numbers of the image's type."""
    before = torch.arange(length, dtype=dtype, device=device).clamp(max=side // 2)
    return before + before.flip(0) + 1


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
