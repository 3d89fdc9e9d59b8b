"""Adapt the pretrained network to one image: a few steps on pairs whose targets are as sharp as HR images are.

The training target ("father") of ZSSR is the LR image, which is blurred at the scale of its own pixels: a network that
already reconstructs sharp edges is taught soft ones by it, and becomes worse before it becomes better. Here the target
is the network's own prediction, made smaller. Shrinking makes it as sharp per pixel as an HR image is, and at the
smaller size its detail is the photograph's and not the network's. The input ("son") is that target degraded by the
kernel of the image.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from blindsr.events import Listener, StageDone, StageStarted, StepDone
from blindsr.kernels import Kernel
from blindsr.ops import degrade, dihedral, imresize
from blindsr.ops.degrade import degrade_perturbed
from blindsr.ops.wiener import wiener
from blindsr.runtime import check_finite, seeded_generator
from blindsr.upscalers.pretrained.conditioning import Conditioning, embed
from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.upscalers.pretrained.network import ConditionedNetwork

__all__ = ["STAGE", "SharpPairs", "adapt", "residual_of"]

STAGE = "zssr"
# Sizes of the targets relative to the prediction. Small ones are sharper, large ones have more pixels.
TARGET_SIZES = (0.6, 0.75, 0.9)
VALIDATION_SIZE = 0.5  # size of the target that is never trained on: its pairs decide whether the steps are kept
_MAX_SIDE = 1024  # side of the largest window of a target; each view uses another one
_WARM_UP = 0.1  # share of the steps


@dataclass(frozen=True)
class _Pair:
    """A degraded image, (1, 1, h, w); its Wiener images, (1, F, s·h, s·w); its target, (1, 1, s·h, s·w)."""

    lr: Tensor
    linear: Tensor
    target: Tensor

    @classmethod
    def stacked(cls, pairs: "list[_Pair]") -> "_Pair":
        """One batch of pairs of one size."""
        return cls(*(torch.cat([getattr(pair, name) for pair in pairs]) for name in ("lr", "linear", "target")))

    def cut(self, top: int, left: int, side: int, scale: int) -> "_Pair":
        inner = (..., slice(top, top + side), slice(left, left + side))
        outer = (..., slice(scale * top, scale * (top + side)), slice(scale * left, scale * (left + side)))
        return _Pair(self.lr[inner], self.linear[outer], self.target[outer])


class SharpPairs:
    """Crops of the training pairs that are made of a first prediction.

    Args:
        prediction: The network's own prediction, planes (P, 1, H, W).
        kernel: Downscaling kernel of the image.
        views: Dihedral views of the targets.
        conditioning: Noise that is added to the degraded images, and parameters of their Wiener images.
        generator: Source of windows, crops and noise, on the CPU.
    """

    def __init__(
        self,
        prediction: Tensor,
        kernel: Kernel,
        views: tuple[int, ...],
        conditioning: Conditioning,
        generator: torch.Generator,
    ) -> None:
        self.scale, self.generator = kernel.scale, generator
        self._errors = np.random.default_rng(self._integer(2**31))
        weights = kernel.tensor(prediction)
        self.pairs: list[_Pair] = []
        for plane in torch.split(prediction, 1):
            for size in TARGET_SIZES:
                sharp = imresize(plane, size)
                self.pairs += [self._pair(dihedral(sharp, view), weights, conditioning) for view in views]
        validation = imresize(prediction[:1], VALIDATION_SIZE)
        self._validation_pairs = [self._pair(dihedral(validation, view), weights, conditioning) for view in views]

    def _pair(self, target: Tensor, weights: Tensor, conditioning: Conditioning) -> _Pair:
        lengths = [min(side, _MAX_SIDE) // self.scale * self.scale for side in target.shape[-2:]]
        top, left = (self._integer(side - length + 1) for side, length in zip(target.shape[-2:], lengths, strict=True))
        target = target[..., top : top + lengths[0], left : left + lengths[1]].contiguous()
        # With an estimated kernel, each pair is degraded by another kernel that the true one may be: the network then
        # learns to be careful at frequencies where the estimate is uncertain.
        lr = (
            degrade_perturbed(target, weights, self.scale, self._errors)
            if conditioning.kernel_error
            else degrade(target, weights, self.scale)
        )
        if conditioning.noise_sigma:
            lr = lr + conditioning.noise_sigma * torch.randn(lr.shape, generator=self.generator).to(lr)
        lr = torch.round(lr * 255) / 255  # photographs have 8 bits, as the training images had
        return _Pair(
            lr, wiener(lr, weights, self.scale, conditioning.noise_sigma, conditioning.kernel_error)[:, 0], target
        )

    def _integer(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self.generator))

    def draw(self, batch: int, side: int) -> _Pair:
        """Cut `batch` random crops of `side` LR pixels (less where a degraded image is smaller)."""
        side = min(side, *(min(pair.lr.shape[-2:]) for pair in self.pairs))
        crops = []
        for _ in range(batch):
            pair = self.pairs[self._integer(len(self.pairs))]
            height, width = pair.lr.shape[-2:]
            top, left = self._integer(height - side + 1), self._integer(width - side + 1)
            crops.append(pair.cut(top, left, side, self.scale))
        return _Pair.stacked(crops)

    def validation(self, side: int) -> _Pair:
        """The central crops of the pairs that are never trained on."""
        side = min(side, *(min(pair.lr.shape[-2:]) for pair in self._validation_pairs))
        centres = []
        for pair in self._validation_pairs:
            top, left = ((length - side) // 2 for length in pair.lr.shape[-2:])
            centres.append(pair.cut(top, left, side, self.scale))
        return _Pair.stacked(centres)


def residual_of(
    network: ConditionedNetwork, lr: Tensor, linear: Tensor, embedding: Tensor, scale: int, dtype: torch.dtype
) -> Tensor:
    """The network's residual as float32, computed in `dtype`."""
    with torch.autocast(lr.device.type, dtype, enabled=dtype is not torch.float32):
        return network.residual(lr, linear, embedding, scale).float()


def adapt(
    network: ConditionedNetwork,
    prediction: Tensor,
    kernel: Kernel,
    config: PretrainedConfig,
    *,
    conditioning: Conditioning,
    dtype: torch.dtype,
    listener: Listener,
) -> tuple[ConditionedNetwork, dict[str, tuple[float, ...]], int]:
    """Train a copy of the network on the image's own pairs.

    Args:
        network: The pretrained network; it is left unchanged.
        prediction: Its prediction of the image, planes (P, 1, H, W).
        kernel: Downscaling kernel.
        config: Settings.
        conditioning: Noise level and uncertainty of the kernel.
        dtype: Type of the network's arithmetic.
        listener: Receives the events of the stage "zssr".

    Returns:
        The adapted network (the given one if the loss on the validation patch did not fall), the curves, and the steps.

    Raises:
        DivergenceError: The loss was NaN or infinite.
    """
    pairs = SharpPairs(prediction, kernel, config.views, conditioning, seeded_generator(config.seed))
    adapted = copy.deepcopy(network)
    embedding = embed(kernel.tensor(prediction), kernel.scale, conditioning.noise_sigma, conditioning.kernel_error)
    optimiser = torch.optim.Adam(adapted.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), foreach=True)
    patch = pairs.validation(config.validation_side)

    def loss_of(net: ConditionedNetwork, pair: _Pair) -> Tensor:
        residual = residual_of(net, pair.lr, pair.linear, embedding, kernel.scale, dtype)
        return nn.functional.l1_loss(residual + pair.linear.mean(1, keepdim=True), pair.target)

    @torch.no_grad()
    def validation_loss(net: ConditionedNetwork) -> float:
        return float(loss_of(net, patch))

    history: dict[str, list[float]] = {"loss": [], "validation_loss": []}
    before = validation_loss(network)
    listener(StageStarted(stage=STAGE, max_steps=config.steps))
    for step in range(1, config.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, config)
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(adapted, pairs.draw(config.batch, config.crop))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        values = {}
        if step % config.report_every == 0 or step == config.steps:
            values = {"loss": float(loss.detach()), "validation_loss": validation_loss(adapted)}
            check_finite(values["loss"] + values["validation_loss"], step, STAGE)
            for name, value in values.items():
                history[name].append(value)
        listener(StepDone(stage=STAGE, step=step, values=values))
    better = history["validation_loss"][-1] < before
    listener(StageDone(stage=STAGE, steps=config.steps, reason="" if better else "no lower validation loss: not kept"))
    curves = {name: tuple(values) for name, values in history.items()}
    return (adapted if better else network), curves, config.steps


def _rate(step: int, config: PretrainedConfig) -> float:
    """Linear warm-up, then a half cosine to zero. `step` counts from 1."""
    warm_up = max(1.0, _WARM_UP * config.steps)
    cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
    return config.learning_rate * min(1.0, step / warm_up) * cosine
