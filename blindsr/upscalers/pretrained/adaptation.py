"""Adapt the pretrained network to one image: a few steps on pairs whose targets are as sharp as HR images are.

The training target ("father") of ZSSR is the LR image, which is blurred at the scale of its own pixels: a network that
already reconstructs sharp edges is taught soft ones by it, and becomes worse before it becomes better. Here the target
is the network's own prediction, made smaller. Shrinking makes it as sharp per pixel as an HR image is, and at the
smaller size its detail is the photograph's and not the network's. The input ("son") is that target degraded by the
kernel of the image.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blindsr.events import Listener, StageDone, StageStarted, StepDone
from blindsr.kernels import Kernel
from blindsr.ops import degrade, dihedral, imresize
from blindsr.ops.adam import Adam
from blindsr.ops.degrade import degrade_perturbed
from blindsr.ops.wiener import wiener
from blindsr.runtime import check_finite, seeded_generator
from blindsr.upscalers.pretrained.conditioning import Conditioning, embed
from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.upscalers.pretrained.network import ConditionedNetwork, linear_base

__all__ = ["CHROMA_WEIGHT", "STAGE", "SharpPairs", "adapt"]

STAGE = "pretrained"
# Sizes of the targets relative to the prediction. Small ones are sharper, large ones have more pixels.
TARGET_SIZES = (0.6, 0.75, 0.9)
VALIDATION_SIZE = 0.5  # size of the target that is never trained on: its pairs decide whether the steps are kept
_MAX_SIDE = 1024  # side of the largest window of a target; each view uses another one
_PAIRS = 12  # at least, of which the crops are drawn
_WARM_UP = 0.1  # share of the steps
_MAX_ERROR = 0.06  # of the kernels that sons are made with; larger errors are of another kind, the mean of two kernels
CHROMA_WEIGHT = 0.5  # of the loss of chroma against that of luma, as in the training


@dataclass(frozen=True)
class _Pair:
    """A degraded image, (1, G, h, w); its Wiener images, (1, F, s·h, s·w); its target, (1, G, s·h, s·w)."""

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
        predictions: The network's own predictions of the image, or of parts of it: (1, G, H, W), with the same G of 1
            (a band) or 3 (luma and chroma).
        kernel: Downscaling kernel of the image.
        views: Dihedral views of the targets.
        conditioning: Noise that is added to the degraded images, and parameters of their Wiener images.
        generator: Source of windows, crops and noise, on the CPU.
    """

    def __init__(
        self,
        predictions: Sequence[Tensor],
        kernel: Kernel,
        views: tuple[int, ...],
        conditioning: Conditioning,
        generator: torch.Generator,
    ) -> None:
        self.scale, self.generator = kernel.scale, generator
        self._errors = np.random.default_rng(self._integer(2**31))
        weights = kernel.tensor(predictions[0])
        self.pairs: list[_Pair] = []
        # Every view is used, but not for every target: more pairs gain nothing, and each takes as long as a step.
        targets = [(prediction, size) for prediction in predictions for size in TARGET_SIZES]
        each = min(len(views), math.ceil(_PAIRS / len(targets)))
        for number, (prediction, size) in enumerate(targets):
            sharp = imresize(prediction, size)
            used = [views[(number * each + i) % len(views)] for i in range(each)]
            self.pairs += [self._pair(dihedral(sharp, view), weights, conditioning) for view in used]
        validation = imresize(predictions[0], VALIDATION_SIZE)
        self._validation_pairs = [self._pair(dihedral(validation, view), weights, conditioning) for view in views]

    def _pair(self, target: Tensor, weights: Tensor, conditioning: Conditioning) -> _Pair:
        lengths = [min(side, _MAX_SIDE) // self.scale * self.scale for side in target.shape[-2:]]
        top, left = (self._integer(side - length + 1) for side, length in zip(target.shape[-2:], lengths, strict=True))
        target = target[..., top : top + lengths[0], left : left + lengths[1]].contiguous()
        # With an estimated kernel, each pair is degraded by another kernel that the true one may be: the network then
        # learns to be careful at frequencies where the estimate is uncertain.
        lr = (
            degrade_perturbed(target, weights, self.scale, self._errors, min(conditioning.kernel_error, _MAX_ERROR))
            if conditioning.kernel_error
            else degrade(target, weights, self.scale)
        )
        levels = (conditioning.noise_sigma, conditioning.chroma_sigma)
        if max(levels):
            each = lr.new_tensor([levels[0], *[levels[1]] * (lr.shape[1] - 1)]).reshape(1, -1, 1, 1)
            lr = lr + each * torch.randn(lr.shape, generator=self.generator).to(lr)
        lr = torch.round(lr * 255) / 255  # photographs have 8 bits, as the training images had
        return _Pair(lr, wiener(lr, weights, self.scale, levels, conditioning.kernel_error), target)

    def _integer(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self.generator))

    def draw(self, batch: int, side: int) -> _Pair:
        """Cut `batch` random crops of `side` LR pixels (less where a degraded image is smaller)."""
        side = min(side, *(min(pair.lr.shape[-2:]) for pair in self.pairs)) // 2 * 2
        crops = []
        for _ in range(batch):
            pair = self.pairs[self._integer(len(self.pairs))]
            height, width = pair.lr.shape[-2:]
            top, left = self._integer(height - side + 1), self._integer(width - side + 1)
            crops.append(pair.cut(top, left, side, self.scale))
        return _Pair.stacked(crops)

    def validation(self, side: int) -> _Pair:
        """The central crops of the pairs that are never trained on."""
        side = min(side, *(min(pair.lr.shape[-2:]) for pair in self._validation_pairs)) // 2 * 2
        centres = []
        for pair in self._validation_pairs:
            top, left = ((length - side) // 2 for length in pair.lr.shape[-2:])
            centres.append(pair.cut(top, left, side, self.scale))
        return _Pair.stacked(centres)


def adapt(
    network: ConditionedNetwork,
    predictions: Sequence[Tensor],
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
        predictions: Its predictions of the image or of parts of it, as in `SharpPairs`.
        kernel: Downscaling kernel.
        config: Settings.
        conditioning: Noise level and uncertainty of the kernel.
        dtype: Type of the network's arithmetic.
        listener: Receives the events of the stage "pretrained".

    Returns:
        The adapted network (the given one if the loss on the validation patch did not fall), the curves, and the steps.

    Raises:
        DivergenceError: The loss was NaN or infinite.
    """
    pairs = SharpPairs(predictions, kernel, config.views, conditioning, seeded_generator(config.seed))
    adapted = copy.deepcopy(network)
    levels, is_colour = (conditioning.noise_sigma, conditioning.chroma_sigma), predictions[0].shape[1] == 3
    # Crops are of all views of the image, each with the kernel itself.
    embedding = embed(kernel.tensor(predictions[0]), kernel.scale, *levels, conditioning.kernel_error, is_colour)
    optimiser = Adam(adapted.parameters(), config.learning_rate, betas=(0.9, 0.99))
    patch = pairs.validation(config.validation_side)

    def loss_of(net: ConditionedNetwork, pair: _Pair) -> Tensor:
        with torch.autocast(pair.lr.device.type, dtype, enabled=dtype is not torch.float32):
            residual = net(pair.lr, pair.linear, embedding, kernel.scale)
        error: Tensor = (residual.float() + linear_base(pair.linear) - pair.target).abs()
        return error[:, :1].mean() + CHROMA_WEIGHT * error[:, 1:].mean() if is_colour else error.mean()

    @torch.no_grad()
    def validation_loss(net: ConditionedNetwork) -> float:
        return float(loss_of(net, patch))

    history: dict[str, list[float]] = {"loss": [], "validation_loss": []}
    before = validation_loss(network)
    listener(StageStarted(stage=STAGE, max_steps=config.steps))
    for step in range(1, config.steps + 1):
        optimiser.learning_rate = _rate(step, config)
        loss = loss_of(adapted, pairs.draw(config.batch, config.crop))
        optimiser.minimise(loss)
        values = {}
        if step % config.report_every == 0 or step == config.steps:
            values = {"loss": float(loss.detach()), "validation_loss": validation_loss(adapted)}
            check_finite(values["loss"] + values["validation_loss"], step, STAGE)
            for name, value in values.items():
                history[name].append(value)
        listener(StepDone(stage=STAGE, step=step, values=values))
    better = history["validation_loss"][-1] < before
    reason = "" if better else "validation loss did not fall; adaptation discarded"
    listener(StageDone(stage=STAGE, steps=config.steps, reason=reason))
    curves = {name: tuple(values) for name, values in history.items()}
    return (adapted if better else network), curves, config.steps


def _rate(step: int, config: PretrainedConfig) -> float:
    """Linear warm-up, then a half cosine to zero. `step` counts from 1."""
    warm_up = max(1.0, _WARM_UP * config.steps)
    cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
    return config.learning_rate * min(1.0, step / warm_up) * cosine
