"""Adapt the start to one image: a few steps on pairs whose fathers are as sharp as what the network must paint.

ZSSR's father is the LR image, and that is blurred at the scale of its own pixels: a network that already knows sharp
edges is taught by it to paint soft ones, and gets worse before it gets better. Here the father is the start's own
answer, made smaller. Shrinking makes it as sharp per pixel as an HR image is, and at the smaller size its detail is
the photograph's, not the network's. The son is that father degraded by the image's kernel.
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
from blindsr.zssr.checks import check_finite, seeded
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.degradations import degrade_unlike
from blindsr.zssr.start.embedding import embed
from blindsr.zssr.start.inference import Trust, residual_of
from blindsr.zssr.start.network import StartNetwork
from blindsr.zssr.start.wiener import wiener

__all__ = ["STAGE", "SharpPairs", "adapt"]

STAGE = "zssr"
# Sizes of the fathers against the start's answer. Small ones are sharper, large ones have more pixels to learn from.
FATHERS = (0.6, 0.75, 0.9)
HELD_OUT = 0.5  # size of the father that is never trained on: its pairs decide whether the steps are kept
_LARGEST = 1024  # side of the largest window of a father; each view has another, so a large image is still seen
_WARM_UP = 0.1  # share of the steps


@dataclass(frozen=True)
class _Pair:
    """A son, (1, 1, h, w); its Wiener images, (1, F, s·h, s·w); its father, (1, 1, s·h, s·w)."""

    son: Tensor
    linear: Tensor
    father: Tensor

    @classmethod
    def together(cls, pairs: "list[_Pair]") -> "_Pair":
        """One batch of pairs of one size."""
        return cls(*(torch.cat([getattr(pair, name) for pair in pairs]) for name in ("son", "linear", "father")))

    def cut(self, top: int, left: int, side: int, scale: int) -> "_Pair":
        inner = (..., slice(top, top + side), slice(left, left + side))
        outer = (..., slice(scale * top, scale * (top + side)), slice(scale * left, scale * (left + side)))
        return _Pair(self.son[inner], self.linear[outer], self.father[outer])


class SharpPairs:
    """Crops of the pairs that an image gives after it has been super-resolved once.

    Args:
        answer: The start's own answer, planes (P, 1, H, W).
        kernel: Downscaling kernel of the image.
        views: Dihedral views of the fathers.
        trust: Noise that the sons get, and how their Wiener images are made.
        generator: Source of windows, crops and noise, on the CPU.
    """

    def __init__(
        self, answer: Tensor, kernel: Kernel, views: tuple[int, ...], trust: Trust, generator: torch.Generator
    ) -> None:
        self.scale, self.generator = kernel.scale, generator
        self._errors = np.random.default_rng(self._integer(2**31))
        weights = kernel.tensor(answer)
        self.pairs: list[_Pair] = []
        for plane in torch.split(answer, 1):
            for size in FATHERS:
                sharp = imresize(plane, size)
                self.pairs += [self._pair(dihedral(sharp, view), weights, trust) for view in views]
        held_out = imresize(answer[:1], HELD_OUT)
        self._held_out = [self._pair(dihedral(held_out, view), weights, trust) for view in views]

    def _pair(self, father: Tensor, weights: Tensor, trust: Trust) -> _Pair:
        lengths = [min(side, _LARGEST) // self.scale * self.scale for side in father.shape[-2:]]
        top, left = (self._integer(side - length + 1) for side, length in zip(father.shape[-2:], lengths, strict=True))
        father = father[..., top : top + lengths[0], left : left + lengths[1]].contiguous()
        # The sons of an estimated kernel are made by what the true one may be, another for each pair: the network
        # then learns to be careful where the estimate cannot be trusted, and does not lose by it.
        son = (
            degrade_unlike(father, weights, self.scale, self._errors)
            if trust.kernel_error
            else degrade(father, weights, self.scale)
        )
        if trust.noise_sigma:
            son = son + trust.noise_sigma * torch.randn(son.shape, generator=self.generator).to(son)
        son = torch.round(son * 255) / 255  # photographs have 8 bits, and so had the images of the training
        return _Pair(son, wiener(son, weights, self.scale, trust.noise_sigma, trust.kernel_error)[:, 0], father)

    def _integer(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self.generator))

    def draw(self, batch: int, side: int) -> _Pair:
        """Cut `batch` random crops of `side` LR pixels (or the least son's side, if that is less)."""
        side = min(side, *(min(pair.son.shape[-2:]) for pair in self.pairs))
        crops = []
        for _ in range(batch):
            pair = self.pairs[self._integer(len(self.pairs))]
            height, width = pair.son.shape[-2:]
            top, left = self._integer(height - side + 1), self._integer(width - side + 1)
            crops.append(pair.cut(top, left, side, self.scale))
        return _Pair.together(crops)

    def judge(self, side: int) -> _Pair:
        """The middles of the pairs that are held out."""
        side = min(side, *(min(pair.son.shape[-2:]) for pair in self._held_out))
        middles = []
        for pair in self._held_out:
            top, left = ((length - side) // 2 for length in pair.son.shape[-2:])
            middles.append(pair.cut(top, left, side, self.scale))
        return _Pair.together(middles)


def adapt(
    network: StartNetwork,
    answer: Tensor,
    kernel: Kernel,
    config: StartConfig,
    *,
    trust: Trust,
    dtype: torch.dtype,
    listener: Listener,
) -> tuple[StartNetwork, dict[str, tuple[float, ...]], int]:
    """Train a copy of the network on the image's own pairs.

    Args:
        network: The start; it is left as it is.
        answer: What it made of the image, planes (P, 1, H, W) in the order that the network should learn from.
        kernel: Downscaling kernel.
        config: Settings; its two sigmas are not looked at.
        trust: How far the image and the kernel are to be trusted.
        dtype: Of the heavy arithmetic.
        listener: Takes the events.

    Returns:
        The adapted network (the start itself, if it was no better on the fixed patch), the curves, and the steps.

    Raises:
        DivergenceError: The loss left the finite numbers.
    """
    pairs = SharpPairs(answer, kernel, config.views, trust, seeded(config.seed))
    adapted = copy.deepcopy(network)
    embedding = embed(kernel.tensor(answer), kernel.scale, trust.noise_sigma, trust.kernel_error)
    optimiser = torch.optim.Adam(adapted.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), foreach=True)
    patch = pairs.judge(config.judge)

    def loss_of(net: StartNetwork, pair: _Pair) -> Tensor:
        residual = residual_of(net, pair.son, pair.linear, embedding, kernel.scale, dtype)
        return nn.functional.l1_loss(residual + pair.linear.mean(1, keepdim=True), pair.father)

    @torch.no_grad()
    def judge(net: StartNetwork) -> float:
        return float(loss_of(net, patch))

    history: dict[str, list[float]] = {"loss": [], "judge": []}
    before = judge(network)
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
            values = {"loss": float(loss.detach()), "judge": judge(adapted)}
            check_finite(values["loss"] + values["judge"], step, STAGE)
            for name, value in values.items():
                history[name].append(value)
        listener(StepDone(stage=STAGE, step=step, values=values))
    better = history["judge"][-1] < before
    listener(StageDone(stage=STAGE, steps=config.steps, reason="" if better else "no better than the start: not kept"))
    curves = {name: tuple(values) for name, values in history.items()}
    return (adapted if better else network), curves, config.steps


def _rate(step: int, config: StartConfig) -> float:
    """Linear warm-up, then a half cosine to zero. `step` counts from 1."""
    warm_up = max(1.0, _WARM_UP * config.steps)
    cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
    return config.learning_rate * min(1.0, step / warm_up) * cosine
