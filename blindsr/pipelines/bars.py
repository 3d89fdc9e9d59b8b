"""Black bars around a picture: a letterbox's edges are sharper than any lens, and say nothing about one."""

import torch
from torch import Tensor

from blindsr.ops import luma

__all__ = ["without_bars"]

_FLAT = 4 / 255  # range of the grey levels along a line of a bar; compression and rounding may have touched it
_UNLIKE = 3 / 255  # a line whose mean is farther from the outermost one's is no longer of the bar
_LEAST = 3  # lines; one or two are the border of a scan
_BESIDE = 2  # lines beside a bar are cut as well: the blur has mixed them with it
_LEAST_LEFT = 64  # px a side that must be left


def without_bars(image: Tensor) -> Tensor:
    """A view of an image, (1, C, H, W), without bars of one grey level on its four sides."""
    plane = luma(image)
    columns = _inner(plane.mT)
    # Bars above and below reach across the whole width, so that the lines are judged without those at the sides.
    rows = _inner(plane[:, columns])
    columns = _inner(plane[rows].mT)
    return image[..., rows, columns]


def _inner(plane: Tensor) -> slice:
    """The lines (rows) of a plane that are of no bar; all of them if too few would be left."""
    length = plane.shape[0]
    flat = plane.amax(1) - plane.amin(1) <= _FLAT
    mean = plane.mean(1)
    first = _bar(flat & ((mean - mean[0]).abs() <= _UNLIKE))
    last = _bar((flat & ((mean - mean[-1]).abs() <= _UNLIKE)).flip(0))
    return slice(first, length - last) if length - first - last >= _LEAST_LEFT else slice(0, length)


def _bar(of_the_bar: Tensor) -> int:
    """How many lines to cut, from the first."""
    width = int(torch.cumprod(of_the_bar.int(), 0).sum())
    return width + _BESIDE if width >= _LEAST else 0
