"""The eight dihedral views of an image, and the border that metrics drop."""

import torch
from torch import Tensor

from blindsr.errors import ImageError

__all__ = ["dihedral", "dihedral_inverse", "shave"]


def dihedral(image: Tensor, view: int) -> Tensor:
    """Show an image (…, H, W) in one of its eight dihedral views.

    View v turns by 90° · (v mod 4) counter-clockwise, and for v ≥ 4 mirrors left to right first. View 0 is
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
    turned = torch.rot90(image, -(view % 4), (-2, -1))
    return turned.flip(-1) if view >= 4 else turned


def shave(image: Tensor, border: int) -> Tensor:
    """Drop `border` pixels on every side of an image (…, H, W).

    Raises:
        ImageError: Nothing would remain.
    """
    if border < 0 or min(image.shape[-2:]) <= 2 * border:
        raise ImageError(f"cannot shave {border} px off an image of {image.shape[-2]}×{image.shape[-1]} px.")
    return image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]
