"""Half-sample symmetric borders (MATLAB and NumPy "symmetric", SciPy "reflect"), and their adjoint.

torch's own "reflect" does not repeat the edge sample and refuses pads as long as the image; both matter
here.
"""

import torch
from torch import Tensor

__all__ = ["fold_symmetric", "mirror", "pad_symmetric"]


def mirror(index: Tensor, length: int) -> Tensor:
    """Map any integer positions into [0, length) by half-sample mirroring (… 1 0 | 0 1 … n−1 | n−1 …)."""
    wrapped = torch.remainder(index, 2 * length)
    return torch.minimum(wrapped, 2 * length - 1 - wrapped)


def _axis_index(length: int, pad: int, device: torch.device) -> Tensor:
    return mirror(torch.arange(-pad, length + pad, device=device), length)


def pad_symmetric(image: Tensor, pad: int) -> Tensor:
    """Extend images (B, C, H, W) by `pad` mirrored pixels on each side; `pad` may exceed the image."""
    if pad == 0:
        return image
    rows = _axis_index(image.shape[-2], pad, image.device)
    columns = _axis_index(image.shape[-1], pad, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def fold_symmetric(padded: Tensor, pad: int) -> Tensor:
    """Adjoint of `pad_symmetric`: add each mirrored pixel back onto the pixel that it repeats."""
    if pad == 0:
        return padded
    for axis in (-2, -1):
        length = padded.shape[axis] - 2 * pad
        index = _axis_index(length, pad, padded.device)
        shape = list(padded.shape)
        shape[axis] = length
        padded = padded.new_zeros(shape).index_add(axis, index, padded)
    return padded
