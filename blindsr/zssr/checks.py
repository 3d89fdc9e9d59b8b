"""What both ZSSR algorithms need of their input."""

import math

import torch
from torch import Tensor

from blindsr.errors import DivergenceError, ImageError, KernelError
from blindsr.kernels import Kernel

__all__ = ["check_finite", "check_input", "check_shape", "least_side", "seeded"]


def least_side(scale: int) -> int:
    """Least side of an image that ZSSR can train on: its son must have 8 px, one receptive field's half."""
    return 8 * scale


def check_input(lr: Tensor, kernel: Kernel) -> None:
    """Check an image and its kernel.

    Raises:
        ImageError: Not (1, C, H, W) floating point, or too small to have a son.
        KernelError: The kernel is larger than the image.
    """
    if lr.ndim != 4 or lr.shape[0] != 1 or not lr.is_floating_point():
        raise ImageError(f"ZSSR takes one floating-point image (1, C, H, W), got {tuple(lr.shape)} of {lr.dtype}.")
    check_shape((lr.shape[1], lr.shape[2], lr.shape[3]), kernel)


def check_shape(shape: tuple[int, int, int], kernel: Kernel) -> None:
    """Check the size, (C, H, W), of an image that is not in memory; errors as `check_input`."""
    _, height, width = shape
    least = least_side(kernel.scale)
    if min(height, width) < least:
        raise ImageError(
            f"ZSSR at ×{kernel.scale} needs an image of at least {least}×{least} px to learn from, "
            f"got {width}×{height}; use a smaller scale or a larger piece of the picture."
        )
    if kernel.support(0.999) > min(height, width):
        raise KernelError(
            f"the kernel must be smaller than the image: it covers {kernel.support(0.999)} px of an image of "
            f"{width}×{height} px; check that it is a blur kernel for this image."
        )


def check_finite(loss: float, step: int, stage: str) -> None:
    """Stop a training that has left the finite numbers.

    Raises:
        DivergenceError: `loss` is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise DivergenceError(
            f"{stage}: the loss must stay finite, it was {loss} at step {step}; "
            "try a lower learning_rate or --precision fp32."
        )


def seeded(seed: int) -> torch.Generator:
    """The one source of randomness of a run, on the CPU so that every device draws the same numbers."""
    return torch.Generator().manual_seed(seed)
