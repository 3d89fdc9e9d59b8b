"""The losses of KernelGAN, of a kernel (K, K), of images or of a map of probabilities, and their schedule.

Each loss is a tensor without axes. The weights are in `KernelGANConfig`.

At the end is what E-KernelGAN adds: a discriminator that ranks a fake above a blurrier one, and a kernel with one
peak. The learned corrector of its kernels, and the batches of 16 crops, are left out
(docs/method/estimators-of-the-field.md).

References:
    Bell-Kligler, Shocher, Irani, NeurIPS 2019, arXiv:1909.06581; §4.2 for the four losses of the kernel alone.
    Kim, Lee, Jeong, "E-KernelGAN: Enhanced Kernel Estimation GAN", IEEE Access 10, 2022,
    doi:10.1109/ACCESS.2022.3170053.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernelgan.config import EnhancedConfig, KernelGANConfig

__all__ = [
    "Progress",
    "advance",
    "adversarial_loss",
    "bicubic_loss",
    "blurrier",
    "boundaries_loss",
    "boundaries_mask",
    "centralised_loss",
    "discriminator_loss",
    "initial_progress",
    "inner_neighbours",
    "learning_rate",
    "ranking_loss",
    "ranking_weight",
    "sparsity_loss",
    "sum_loss",
    "unimodality_loss",
]

# Keeps the gradient of |k|^p finite where a weight is exactly zero.
_TINY = 1e-12


def discriminator_loss(maps: Tensor) -> Tensor:
    """Mean L1 distance of two maps from their labels: maps[0] is real (1), maps[1] is fake (0)."""
    return 0.5 * (1 - maps[0].mean() + maps[1].mean())


def adversarial_loss(maps: Tensor) -> Tensor:
    """Mean L1 distance of the map of a fake from the label "real": |1 − D(G(x))|."""
    return 1 - maps.mean()


def bicubic_loss(fake: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference from bicubic downscaling, band by band; images of the same shape in [−1, 1].

    It starts the generator from bicubic downscaling; the schedule then lowers its weight.
    """
    return (fake - target).square().mean()


def sum_loss(kernel: Tensor) -> Tensor:
    """L_sum_to_1 (§4.2): |1 − Σk|."""
    return (1 - kernel.sum()).abs()


def boundaries_mask(size: int, length: float, like: Tensor) -> Tensor:
    """The mask of L_boundaries, (size, size): zero within K/3 of the centre, then growing exponentially.

    m(r) = exp((r − K/3) / length) − 1 outside of that disc, r the distance from the centre in px: "a mask of weights
    exponentially growing with distance from the center" (§4.2). At 13 px and a length of 2 px it is 1.3 at the
    middle of a side and 7 in the corners.
    """
    r = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    distance = torch.hypot(r[:, None], r[None, :])
    return torch.expm1((distance - size / 3).clamp_min(0) / length)


def boundaries_loss(kernel: Tensor, mask: Tensor) -> Tensor:
    """L_boundaries (§4.2): mean of |k·m|, which penalises weights near the border."""
    return (kernel * mask).abs().mean()


def centralised_loss(kernel: Tensor, scale: int) -> Tensor:
    """L_center (§4.2): mean squared distance, per axis, of the centre of mass from K/2 + (s − 1)/2 − ½, in px².

    There the downscaled image is aligned with the input: the centre of mass of the odd kernel belongs half a pixel
    (s = 2) behind its geometric centre (docs/method/conventions.md).
    """
    size = kernel.shape[-1]
    offset = torch.arange(size, dtype=kernel.dtype, device=kernel.device) - (size + scale - 2) / 2
    mass = torch.stack((kernel.sum(1), kernel.sum(0)))
    return ((mass @ offset) / kernel.sum()).square().mean()


def sparsity_loss(kernel: Tensor, power: float) -> Tensor:
    """L_sparse (§4.2): mean of |k|^power, which is larger for many small weights than for a few large ones."""
    return (kernel.abs() + _TINY).pow(power).mean()


@dataclass(frozen=True, slots=True)
class Progress:
    """State of the schedule.

    The generator first learns bicubic downscaling. Then the weight of the bicubic loss is lowered in a few large steps,
    and the two losses that shape the kernel (centralised and sparsity) are added.
    """

    weight_bicubic: float
    streak: int = 0  # consecutive steps with a bicubic loss below the threshold
    is_released: bool = False  # whether the streak was long enough once; since then the weight falls
    is_late: bool = False  # whether the centralised and the sparsity loss are added


def initial_progress(config: KernelGANConfig) -> Progress:
    """The state at step 1."""
    return Progress(config.weight_bicubic)


def advance(progress: Progress, step: int, bicubic: float | None, config: KernelGANConfig) -> Progress:
    """The state after a step.

    Args:
        progress: The state before.
        step: Number of the step, from 1.
        bicubic: The unweighted bicubic loss of the step; not used once `progress.is_released`, and may then be None.
        config: Thresholds and intervals.
    """
    if not progress.is_released:
        is_reached = bicubic is not None and bicubic < config.bicubic_threshold
        streak = progress.streak + 1 if is_reached else 0
        return replace(progress, streak=streak, is_released=streak >= config.bicubic_streak)
    if step % config.bicubic_every or progress.weight_bicubic <= config.weight_bicubic_floor:
        return progress
    weight = max(progress.weight_bicubic / config.bicubic_divisor, config.weight_bicubic_floor)
    return replace(progress, weight_bicubic=weight, is_late=progress.is_late or weight < config.late_below)


def learning_rate(step: int, config: KernelGANConfig) -> float:
    """Learning rate of both networks at a step (from 1): divided once every `learning_rate_every` steps."""
    return config.learning_rate / config.learning_rate_divisor ** ((step - 1) // config.learning_rate_every)


# ------------------------------------------------------------------------------------------------------ E-KernelGAN


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
