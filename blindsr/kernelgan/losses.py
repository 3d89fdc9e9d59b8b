"""The losses of KernelGAN as functions of a kernel (K, K), of an image, or of a map of probabilities.

Each loss is a tensor without axes. Their weights are in `KernelGANConfig`. Source: Bell-Kligler, Shocher,
Irani, NeurIPS 2019, arXiv:1909.06581.
"""

import torch
from torch import Tensor

__all__ = [
    "adversarial_loss",
    "bicubic_loss",
    "boundaries_loss",
    "boundaries_mask",
    "centralised_loss",
    "discriminator_loss",
    "sparsity_loss",
    "sum_loss",
]

# Keeps the slope of |k|^p finite where a weight is exactly zero.
_TINY = 1e-12


def discriminator_loss(judged: Tensor) -> Tensor:
    """L1 distance of the maps from their labels, averaged: judged[0] is real (1), judged[1] is fake (0)."""
    return 0.5 * (1 - judged[0].mean() + judged[1].mean())


def adversarial_loss(judged: Tensor) -> Tensor:
    """L1 distance of a fake's map of probabilities from "real": |1 − D|, averaged."""
    return 1 - judged.mean()


def bicubic_loss(fake: Tensor, target: Tensor) -> Tensor:
    """Mean square between our downscaling and the bicubic one, band by band; same shapes, in [−1, 1]."""
    return (fake - target).square().mean()


def sum_loss(kernel: Tensor) -> Tensor:
    """|1 − Σk|."""
    return (1 - kernel.sum()).abs()


def boundaries_mask(size: int, peak: float, like: Tensor) -> Tensor:
    """Penalty per unit of weight, (size, size): none in the middle two thirds, then growing outwards.

    m(r) = peak · (1 − exp(−r² / 2·size²)): at 13 px and a peak of 30 it is 2.6 to 5.7 along the frame.
    """
    r = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    square = r[:, None] ** 2 + r[None, :] ** 2
    mask = peak * (1 - torch.exp(-square / (2 * size**2)))
    margin = (size - 1) // 6
    mask[margin : size - margin, margin : size - margin] = 0
    return mask


def boundaries_loss(kernel: Tensor, mask: Tensor) -> Tensor:
    """Mean of |k·m|: weight near the frame costs."""
    return (kernel * mask).abs().mean()


def centralised_loss(kernel: Tensor, scale: int) -> Tensor:
    """Mean square distance, per axis, of the centre of mass from K/2 + (s − 1)/2 − ½, in px².

    That is where a centred downscaling looks: the odd kernel's centre of mass belongs half a pixel (s = 2)
    behind its geometric centre (docs/conventions.md).
    """
    size = kernel.shape[-1]
    offset = torch.arange(size, dtype=kernel.dtype, device=kernel.device) - (size + scale - 2) / 2
    mass = torch.stack((kernel.sum(1), kernel.sum(0)))
    return ((mass @ offset) / kernel.sum()).square().mean()


def sparsity_loss(kernel: Tensor, power: float) -> Tensor:
    """Mean of |k|^power: many small weights cost more than a few large ones."""
    return (kernel.abs() + _TINY).pow(power).mean()
