"""What E-KernelGAN adds: a discriminator that ranks a fake above a blurrier one, and a kernel with one peak.

The learned corrector of its kernels, and the batches of 16 crops, are left out
(docs/method/estimators-of-the-field.md).

References:
    Kim, Lee, Jeong, "E-KernelGAN: Enhanced Kernel Estimation GAN", IEEE Access 10, 2022,
    doi:10.1109/ACCESS.2022.3170053.
"""

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernelgan.config import EnhancedConfig

__all__ = ["blurrier", "inner_neighbours", "ranking_loss", "ranking_weight", "unimodality_loss"]


def ranking_weight(step: int, config: EnhancedConfig) -> float:
    """Weight of the ranking loss at a step (from 1): constant, then linear down to 0."""
    left = (config.ranking_ends - step) / (config.ranking_ends - config.ranking_falls)
    return config.weight_ranking * min(max(left, 0.0), 1.0)


def blurrier(images: Tensor, config: EnhancedConfig, rng: torch.Generator) -> Tensor:
    """Blur images by one random 3×3 filter whose largest weight is in its centre.

    Args:
        images: (B, C, h, w), any range.
        config: Bounds of the weight of the centre; the other weights are uniformly random.
        rng: A generator on the device of the images.

    Returns:
        The same shape; the border is repeated.
    """
    draw = torch.rand(9, generator=rng, dtype=images.dtype, device=images.device)
    span = config.blur_centre_max - config.blur_centre_min
    centre = config.blur_centre_min + span * draw[4]
    others = draw * draw.new_tensor([1, 1, 1, 1, 0, 1, 1, 1, 1])
    weights = others * (1 - centre) / others.sum()
    weights[4] = centre
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    channels = images.shape[1]
    return functional.conv2d(padded, weights.view(1, 1, 3, 3).expand(channels, 1, 3, 3), groups=channels)


def ranking_loss(fake: Tensor, blurred: Tensor) -> Tensor:
    """How far the map of a blurrier fake is not below that of the fake: (1 + D(blurred) − D(fake)) / 2, in [0, 1]."""
    return 0.5 * (1 + blurred.mean() - fake.mean())


def inner_neighbours(size: int, centre: float, like: Tensor) -> Tensor:
    """The matrix (K², K²) that gives, for every weight, the one a pixel nearer to the centre, bilinearly.

    Args:
        size: K.
        centre: Index of the centre along both axes; the weights within a pixel of it are their own neighbours.
        like: A tensor whose dtype and device the matrix takes.
    """
    index = torch.arange(size, dtype=torch.float64)
    y, x = (axis.flatten() - centre for axis in torch.meshgrid(index, index, indexing="ij"))
    distance = torch.hypot(y, x)
    share = torch.where(distance > 1, 1 - 1 / distance.clamp_min(1e-9), 1.0)
    rows, columns = y * share + centre, x * share + centre
    # Bilinear interpolation is a product of two hats.
    hats = [(1 - (place[:, None] - index).abs()).clamp_min(0) for place in (rows, columns)]
    return (hats[0][:, :, None] * hats[1][:, None, :]).flatten(1).to(like)


def unimodality_loss(kernel: Tensor, inner: Tensor) -> Tensor:
    """L_unimodal: mean rise of the kernel away from its centre; 0 for every kernel that falls along all rays.

    Args:
        kernel: (K, K).
        inner: Result of `inner_neighbours`.
    """
    return (kernel.flatten() - inner.mv(kernel.flatten())).relu().mean()
