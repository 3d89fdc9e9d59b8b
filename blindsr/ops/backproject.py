"""Iterative back-projection: make an SR image agree with the LR image that it came from."""

from torch import Tensor

from blindsr.errors import ImageError
from blindsr.ops.degrade import degrade
from blindsr.ops.resize import imresize

__all__ = ["back_project"]


def back_project(sr: Tensor, lr: Tensor, kernel: Tensor, scale: int, *, iterations: int) -> Tensor:
    """Add the upscaled LR residual to the SR image, `iterations` times.

    x ← x + ↑(y − (x ⋆ k)↓s), ↑ being bicubic interpolation.

    Args:
        sr: SR images, (B, C, H, W), [0, 1].
        lr: LR images, (B, C, ⌊H/scale⌋, ⌊W/scale⌋), [0, 1].
        kernel: Downscaling kernel, (K, K), K ≡ scale (mod 2).
        scale: Factor from LR to HR.
        iterations: Number of corrections, 0 or more.

    Returns:
        Images like `sr`, not clamped.

    Raises:
        ImageError: `lr` has another size than `sr` degraded.
        KernelError: As in `degrade`.

    References:
        Irani, Peleg, "Improving resolution by image registration", CVGIP 1991; Shocher, Cohen, Irani,
        "'Zero-Shot' Super-Resolution using Deep Internal Learning", CVPR 2018, §3.
    """
    expected = (sr.shape[-2] // scale, sr.shape[-1] // scale)
    if tuple(lr.shape[-2:]) != expected:
        raise ImageError(
            f"for an SR image of {sr.shape[-2]}×{sr.shape[-1]} and scale {scale} the LR image must be "
            f"{expected[0]}×{expected[1]}, got {lr.shape[-2]}×{lr.shape[-1]}."
        )
    for _ in range(iterations):
        residual = lr - degrade(sr, kernel, scale)
        sr = sr + imresize(residual, float(scale), size=(sr.shape[-2], sr.shape[-1]))
    return sr
