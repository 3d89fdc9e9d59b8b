"""The image model y = (x ⋆ k)↓s + n and its exact adjoint (docs/conventions.md)."""

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError, KernelError
from blindsr.ops.borders import fold_symmetric, pad_symmetric

__all__ = ["degrade", "degrade_adjoint"]


def _check(image: Tensor, kernel: Tensor, scale: int) -> int:
    if image.ndim != 4:
        raise ImageError(f"images must be (B, C, H, W), got shape {tuple(image.shape)}; add the missing axes.")
    if scale < 1:
        raise KernelError(f"scale must be 1 or more (LR to HR), got {scale}; 2 halves the image, not 0.5.")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise KernelError(f"a kernel must be square (K, K), got shape {tuple(kernel.shape)}; pad it with zeros.")
    if kernel.shape[0] < scale or (kernel.shape[0] - scale) % 2:
        raise KernelError(
            f"a kernel for scale {scale} must have K ≥ {scale} and K ≡ {scale} (mod 2), got K = "
            f"{kernel.shape[0]}; blindsr.kernels.from_convention converts kernels of other conventions."
        )
    return (kernel.shape[0] - scale) // 2


def degrade(
    hr: Tensor,
    kernel: Tensor,
    scale: int,
    *,
    noise_sigma: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Blur with `kernel`, keep every `scale`-th pixel, add Gaussian noise.

    y = (x ⋆ k)↓s + n, where ⋆ is cross-correlation: the kernel is not flipped. LR pixel i is centred at
    s·i + (s − 1)/2, so a centred kernel leaves a ramp aligned.

    Args:
        hr: Images, (B, C, H, W), any range.
        kernel: Downscaling kernel, (K, K), K ≡ scale (mod 2); every channel is blurred by it alone. Borders
            are half-sample symmetric. It is not normalised here: a kernel of sum 2 doubles the image.
        scale: Factor from LR to HR, 1 or more. Never its inverse.
        noise_sigma: Standard deviation of the noise, in the range of `hr`.
        generator: Source of the noise; torch's default one if None.

    Returns:
        LR images, (B, C, ⌊H/scale⌋, ⌊W/scale⌋), dtype and device of `hr`, not clamped.

    Raises:
        ImageError: `hr` is not 4-D or smaller than one LR pixel.
        KernelError: `kernel` is not square with K ≡ scale (mod 2), or `scale` < 1.

    Example:
        >>> import torch
        >>> degrade(torch.full((1, 1, 6, 4), 0.25), torch.full((2, 2), 0.25), 2).flatten().tolist()
        [0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    """
    pad = _check(hr, kernel, scale)
    batch, channels, height, width = hr.shape
    if min(height, width) < scale:
        raise ImageError(f"an image to be degraded by {scale} must be at least {scale} px, got {height}×{width}.")
    planes = pad_symmetric(hr.reshape(batch * channels, 1, height, width), pad)
    blurred = functional.conv2d(planes, kernel.to(hr)[None, None], stride=scale)
    lr = blurred.reshape(batch, channels, *blurred.shape[-2:])
    if noise_sigma:
        noise = torch.randn(lr.shape, generator=generator, dtype=lr.dtype, device=lr.device)
        lr = lr + noise_sigma * noise
    return lr


def degrade_adjoint(lr: Tensor, kernel: Tensor, scale: int, hr_size: tuple[int, int]) -> Tensor:
    """Apply the transpose Aᵀ of `degrade` (without noise): ⟨A x, y⟩ = ⟨x, Aᵀ y⟩.

    Args:
        lr: Images, (B, C, ⌊H/scale⌋, ⌊W/scale⌋).
        kernel: As in `degrade`.
        scale: As in `degrade`.
        hr_size: (H, W) of the HR image; needed because ⌊H/scale⌋ does not determine H.

    Returns:
        Images, (B, C, H, W), dtype and device of `lr`.

    Raises:
        ImageError: `lr` is not 4-D, or its size is not ⌊hr_size/scale⌋.
        KernelError: As in `degrade`.
    """
    pad = _check(lr, kernel, scale)
    height, width = hr_size
    if tuple(lr.shape[-2:]) != (height // scale, width // scale):
        raise ImageError(
            f"for an HR size of {height}×{width} and scale {scale} the LR image must be "
            f"{height // scale}×{width // scale}, got {lr.shape[-2]}×{lr.shape[-1]}."
        )
    batch, channels = lr.shape[:2]
    planes = lr.reshape(batch * channels, 1, *lr.shape[-2:])
    spread = functional.conv_transpose2d(planes, kernel.to(lr)[None, None], stride=scale)
    # Rows and columns that no output pixel has looked at get zero: H that is no multiple of the scale.
    below = height + 2 * pad - spread.shape[-2]
    right = width + 2 * pad - spread.shape[-1]
    folded = fold_symmetric(functional.pad(spread, (0, right, 0, below)), pad)
    return folded.reshape(batch, channels, height, width)
