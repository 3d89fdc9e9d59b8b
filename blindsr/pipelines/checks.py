"""What every pipeline needs of an image, checked once at the door."""

import torch
from torch import Tensor

from blindsr.errors import ImageError

__all__ = ["check_image"]


def check_image(image: Tensor) -> None:
    """Check that an image is one float image of finite numbers in [0, 1].

    Raises:
        ImageError: It is not.
    """
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] < 1 or not image.is_floating_point():
        raise ImageError(
            f"a pipeline takes one floating-point image (1, C, H, W), got {tuple(image.shape)} of {image.dtype}."
        )
    bad = int((~torch.isfinite(image)).sum())
    if bad:
        raise ImageError(f"an image must be finite, {bad} of its values are NaN or infinite; fill them first.")
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        raise ImageError(f"an image must be in [0, 1], this one spans [{low:.3g}, {high:.3g}]; scale it first.")
