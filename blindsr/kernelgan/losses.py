"""The losses of KernelGAN as functions of a kernel (K, K), of an image, or of a map of probabilities.

Each loss is a tensor without axes. Its gradient is with respect to its first argument and has that argument's shape
unless it says otherwise; written down, it costs a fraction of what autograd takes. The losses' weights are in
`KernelGANConfig`. Source: Bell-Kligler, Shocher, Irani, NeurIPS 2019, arXiv:1909.06581.
"""

import torch
from torch import Tensor

__all__ = [
    "adversarial_gradient",
    "adversarial_loss",
    "bicubic_gradient",
    "bicubic_loss",
    "boundaries_gradient",
    "boundaries_loss",
    "boundaries_mask",
    "centralised_gradient",
    "centralised_loss",
    "discriminator_gradient",
    "discriminator_loss",
    "sparsity_gradient",
    "sparsity_loss",
    "sum_gradient",
    "sum_loss",
]

# Keeps the gradient of |k|^p finite where a weight is exactly zero.
_TINY = 1e-12


def discriminator_loss(judged: Tensor) -> Tensor:
    """L1 distance of the maps from their labels, averaged: judged[0] is real (1), judged[1] is fake (0)."""
    return 0.5 * (1 - judged[0].mean() + judged[1].mean())


def discriminator_gradient(judged: Tensor) -> Tensor:
    """Gradient of `discriminator_loss`, the same for every place of a map: (2, 1, 1)."""
    each = 0.5 / judged[0].numel()
    return judged.new_tensor([-each, each]).view(2, 1, 1)


def adversarial_loss(judged: Tensor) -> Tensor:
    """L1 distance of a fake's map of probabilities from "real": |1 − D|, averaged."""
    return 1 - judged.mean()


def adversarial_gradient(judged: Tensor) -> Tensor:
    """Gradient of `adversarial_loss`, the same for every place of the map: (1, 1, 1)."""
    return judged.new_full((1, 1, 1), -1 / judged.numel())


def bicubic_loss(fake: Tensor, target: Tensor) -> Tensor:
    """Mean square between our downscaling and the bicubic one, band by band; same shapes, in [−1, 1]."""
    return (fake - target).square().mean()


def bicubic_gradient(fake: Tensor, target: Tensor) -> Tensor:
    """Gradient of `bicubic_loss`."""
    return (fake - target) * (2 / fake.numel())


def sum_loss(kernel: Tensor) -> Tensor:
    """|1 − Σk|."""
    return (1 - kernel.sum()).abs()


def sum_gradient(kernel: Tensor) -> Tensor:
    """Gradient of `sum_loss`, the same for every weight: without axes."""
    return (kernel.sum() - 1).sign()


def boundaries_mask(size: int, length: float, like: Tensor) -> Tensor:
    """Penalty per unit of weight, (size, size): none within K/3 of the centre, then growing exponentially.

    m(r) = exp((r − K/3) / length) − 1 beyond the free disc, r the distance from the centre in px: "a mask of weights
    exponentially growing with distance from the center" (§4.2). At 13 px and a length of 2 px it is 1.3 at the
    middle of a side and 7 in the corners.
    """
    r = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    distance = torch.hypot(r[:, None], r[None, :])
    return torch.expm1((distance - size / 3).clamp_min(0) / length)


def boundaries_loss(kernel: Tensor, mask: Tensor) -> Tensor:
    """Mean of |k·m|, m ≥ 0: weight near the frame costs."""
    return (kernel * mask).abs().mean()


def boundaries_gradient(kernel: Tensor, mask: Tensor) -> Tensor:
    """Gradient of `boundaries_loss`."""
    return kernel.sign().mul_(mask).div_(kernel.numel())


def centralised_loss(kernel: Tensor, scale: int) -> Tensor:
    """Mean square distance, per axis, of the centre of mass from K/2 + (s − 1)/2 − ½, in px².

    That is where a centred downscaling looks: the odd kernel's centre of mass belongs half a pixel (s = 2)
    behind its geometric centre (docs/conventions.md).
    """
    return _centre(kernel, scale)[1].square().mean()


def centralised_gradient(kernel: Tensor, scale: int) -> Tensor:
    """Gradient of `centralised_loss`: by weight (i, j), with c the centre, Σ over both axes of c·(offset − c) / Σk."""
    offset, centre = _centre(kernel, scale)
    by_axis = centre[:, None] * (offset - centre[:, None]) / kernel.sum()
    return by_axis[0][:, None] + by_axis[1]


def _centre(kernel: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Offsets of the rows from where the centre belongs, (K,), and of the centre of mass, (2,), in px."""
    size = kernel.shape[-1]
    offset = torch.arange(size, dtype=kernel.dtype, device=kernel.device) - (size + scale - 2) / 2
    mass = torch.stack((kernel.sum(1), kernel.sum(0)))
    return offset, (mass @ offset) / kernel.sum()


def sparsity_loss(kernel: Tensor, power: float) -> Tensor:
    """Mean of |k|^power: many small weights cost more than a few large ones."""
    return (kernel.abs() + _TINY).pow(power).mean()


def sparsity_gradient(kernel: Tensor, power: float) -> Tensor:
    """Gradient of `sparsity_loss`."""
    return (kernel.abs() + _TINY).pow_(power - 1).mul_(kernel.sign()).mul_(power / kernel.numel())
