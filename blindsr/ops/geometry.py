"""Geometry of images: half-sample symmetric borders, the eight dihedral views.

Half-sample symmetric is what MATLAB and NumPy call "symmetric" and SciPy calls "reflect". The "reflect" mode of torch
does not repeat the edge sample and refuses pads as long as the image; both matter here.
"""

import torch
from torch import Tensor

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
    """Undo `dihedral`, so that `dihedral_inverse(dihedral(x, v), v)` is x."""
    if not 0 <= view < 8:
        raise ImageError(f"a dihedral view is 0 … 7, got {view}.")
    rotated = torch.rot90(image, -(view % 4), (-2, -1))
    return rotated.flip(-1) if view >= 4 else rotated
