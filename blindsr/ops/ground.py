"""The even ground of a page or a drawing: one value that most of its pixels have, such as that of paper."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ground_of"]

_LEVELS = 256
_NEAR = 8  # grey levels around the most common value that are the ground
_MIN_SHARE = 0.4  # of all pixels; in photographs without large skies no value has more than 0.3 around it


def ground_of(planes: Tensor) -> Tensor | None:
    """Where an image shows the ground that it is drawn or written on.

    What seems to be noise of the whole image has to be there as well: lines of text repeat as waves and stripes do.

    Args:
        planes: One band of an image, or parts of it, (N, 1, H, W), [0, 1].

    Returns:
        (N, 1, H, W), true on the ground; None of an image without any.
    """
    levels = (planes * (_LEVELS - 1)).round().clamp(0, _LEVELS - 1)
    counts = torch.bincount(levels.flatten().long(), minlength=_LEVELS).double()
    near = _NEAR + 1 - torch.arange(-_NEAR, _NEAR + 1, dtype=counts.dtype, device=counts.device).abs()
    ground = int(functional.conv1d(counts[None, None], near[None, None], padding=_NEAR).argmax())
    is_ground = (levels - ground).abs() <= _NEAR
    return is_ground if float(is_ground.double().mean()) > _MIN_SHARE else None
