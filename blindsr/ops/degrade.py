"""The image model y = (x ⋆ k)↓s without its noise, for a known and for an estimated kernel."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError, KernelError
from blindsr.ops.geometry import pad_symmetric
from blindsr.ops.wiener import transfer

# The errors of an estimated kernel whose transfer function has the error of 0.04, as the spectral estimator has them:
_KERNEL_ERROR = 0.04
_NOISE_ERROR = 0.4  # largest amplitude of the multiplicative noise that the estimate lacks
_WIDTH_ERROR = 0.12  # standard deviation of the relative error of the covariance


def degrade(hr: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Blur with `kernel` and keep every `scale`-th pixel: y = (x ⋆ k)↓s, ⋆ is cross-correlation, without a flip.

    LR pixel i is centred at s·i + (s − 1)/2, so a centred kernel leaves a ramp aligned (docs/method/conventions.md).

    Args:
        hr: Images, (B, C, H, W), any range.
        kernel: Downscaling kernel, (K, K), K ≡ scale (mod 2); every channel is blurred by it alone. Borders
            are half-sample symmetric. It is not normalised here: a kernel of sum 2 doubles the image.
        scale: Factor from LR to HR, 1 or more. Never its inverse.

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
    if hr.ndim != 4:
        raise ImageError(f"images must be (B, C, H, W), got shape {tuple(hr.shape)}; add the missing axes.")
    if scale < 1:
        raise KernelError(f"scale must be 1 or more (LR to HR), got {scale}; 2 halves the image, not 0.5.")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise KernelError(f"a kernel must be square (K, K), got shape {tuple(kernel.shape)}; pad it with zeros.")
    if kernel.shape[0] < scale or (kernel.shape[0] - scale) % 2:
        raise KernelError(
            f"a kernel for scale {scale} must have K ≥ {scale} and K ≡ {scale} (mod 2), got K = "
            f"{kernel.shape[0]}; blindsr.kernels.from_convention converts kernels of other conventions."
        )
    batch, channels, height, width = hr.shape
    if min(height, width) < scale:
        raise ImageError(f"an image to be degraded by {scale} must be at least {scale} px, got {height}×{width}.")
    planes = pad_symmetric(hr.reshape(batch * channels, 1, height, width), (kernel.shape[0] - scale) // 2)
    lr = functional.conv2d(planes, kernel.to(hr)[None, None], stride=scale)
    return lr.reshape(batch, channels, *lr.shape[-2:])


def perturbed_transfer(
    kernels: Tensor,
    response: Tensor,
    scale: int,
    rng: np.random.Generator,
    kernel_error: Tensor | float = _KERNEL_ERROR,
) -> Tensor:
    """Draw transfer functions that the true kernels may have where these kernels were estimated.

    A smooth estimate does not contain the multiplicative noise of the true kernel (the law of DIV2KRK has ±25 %), and
    its width has an error: H·|H|^ε is a Gaussian of (1 + ε) times the covariance, with an ε that depends on direction.

    Args:
        kernels: The estimates, (B, K, K).
        response: Their transfer functions, (B, s·h, s·w); so is the result.
        scale: Factor from LR to HR.
        rng: Random generator.
        kernel_error: Standard deviation of the error of the transfer function, a number or (B,); both errors are
            proportional to it. At 0.04 the noise is up to ±40 %, and the covariance has an error of 12 %.
    """
    count, (height, width) = len(kernels), response.shape[-2:]
    size = torch.as_tensor(kernel_error).to(kernels).reshape(-1, 1, 1) / _KERNEL_ERROR
    amount = size * torch.from_numpy(rng.uniform(0.0, _NOISE_ERROR, (count, 1, 1))).to(kernels)
    noisy = kernels * (1 + amount * torch.from_numpy(rng.uniform(-1, 1, kernels.shape)).to(kernels))
    changed = transfer(noisy / noisy.sum((1, 2), keepdim=True), scale, height, width)
    errors = size * torch.from_numpy(rng.normal(0, _WIDTH_ERROR, (3, count, 1, 1))).to(kernels)
    angle = 2 * torch.atan2(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :]).to(kernels)
    exponent = (errors[0] + errors[1] * torch.cos(angle) + errors[2] * torch.sin(angle)).clamp(-0.5, 0.5)
    return changed * response.abs().clamp(0.01, 1.0) ** exponent


def degrade_perturbed(
    hr: Tensor, kernel: Tensor, scale: int, rng: np.random.Generator, kernel_error: float = _KERNEL_ERROR
) -> Tensor:
    """Degrade an image by a random kernel of which a given kernel may be an estimate (`perturbed_transfer`).

    Args:
        hr: An image, (1, C, s·h, s·w), any range; borders are half-sample symmetric.
        kernel: The estimate, (K, K), K ≡ scale (mod 2), sum 1.
        scale: Factor s from LR to HR.
        rng: Random generator.
        kernel_error: Standard deviation of the error of the transfer function.

    Returns:
        The LR image, (1, C, h, w), not clamped.
    """
    margin = 8 + kernel.shape[-1] // scale  # LR px of mirrored border, which contain the wrap-around of the transform
    padded = pad_symmetric(hr, margin * scale)[0]
    height, width = padded.shape[-2:]
    response = perturbed_transfer(kernel[None], transfer(kernel[None], scale, height, width), scale, rng, kernel_error)
    spectrum = (torch.fft.fft2(padded) * response).reshape(-1, scale, height // scale, scale, width // scale)
    lr: Tensor = torch.fft.ifft2(spectrum.mean((1, 3))).real
    return lr[None, :, margin:-margin, margin:-margin]
