"""ZSSR as published: a network on the interpolated image, trained on augmented fathers and their sons."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel
from blindsr.ops import dihedral, dihedral_inverse, imresize
from blindsr.runtime import choose_dtype
from blindsr.zssr.augmentation import FatherCrops
from blindsr.zssr.checks import check_finite, check_input, seeded
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.downscaling import Downscale, Factors, downscaler
from blindsr.zssr.network import InterpolatedNet
from blindsr.zssr.result import ZSSRResult
from blindsr.zssr.schedule import should_divide_rate
from blindsr.zssr.tiling import run_tiled

__all__ = ["upscale_paper"]

STAGE = "zssr-paper"
# The reconstruction error is measured on no more than this many HR pixels a side, in the middle: evaluating the
# whole image every 50 steps would be most of the time on large ones (docs/deviations.md).
JUDGED_SIDE = 256
MAX_TILE = 768


@dataclass(frozen=True)
class _Target:
    """One scale step: from the input to `size`, which is `factors` times as large."""

    factors: Factors
    size: tuple[int, int]
    downscale: Downscale
    back_projections: int


@dataclass
class _Curves:
    steps: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class _Training:
    """The network of one scale step and what changes while it learns."""

    def __init__(
        self,
        lr: Tensor,
        fathers: list[Tensor],
        target: _Target,
        config: PaperZSSRConfig,
        generator: torch.Generator,
    ) -> None:
        self.config = config
        self.target = target
        self.generator = generator
        self.dtype = choose_dtype(config.precision, lr.device)
        self.network = InterpolatedNet(
            lr.shape[1],
            layers=config.layers,
            channels=config.channels,
            init_sigma=config.init_sigma,
            generator=generator,
        )
        self.network.to(device=lr.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, foreach=True)
        self.rate = config.learning_rate
        self.crops = FatherCrops(fathers, config, generator)
        self.curves = _Curves()
        top, left = (max(0, (side - JUDGED_SIDE) // 2) for side in lr.shape[-2:])
        self.judged = lr[..., top : top + JUDGED_SIDE, left : left + JUDGED_SIDE]

    def sharpen(self, interpolated: Tensor) -> Tensor:
        """The network in the run's dtype, float32 in and out."""
        image = interpolated.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            sharpened: Tensor = self.network(image)
        return sharpened.float()

    def interpolated_son(self, father: Tensor, *, noise: bool) -> Tensor:
        """Degrade a father and interpolate the son back to its size."""
        son = self.target.downscale(father)
        if noise and self.config.noise_sigma:
            son = son + self.config.noise_sigma * torch.randn(son.shape, generator=self.generator).to(son)
        return imresize(son, self.target.factors, size=(father.shape[-2], father.shape[-1]))

    def step(self) -> Tensor:
        """One optimiser step on one random crop of one random father."""
        father = _whole_pixels(self.crops.draw(self.config.crop), self.target.factors)
        difference = (self.sharpen(self.interpolated_son(father, noise=True)) - father).abs()
        if self.config.gradient_weight:
            difference = difference * _gradient_weight(father)
        loss = difference.mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def reconstruction_error(self) -> float:
        """Mean squared error of the image from its own son, without augmentation."""
        father = _whole_pixels(self.judged, self.target.factors)
        return float((self.sharpen(self.interpolated_son(father, noise=False)) - father).square().mean())

    def adapt_rate(self, step: int) -> None:
        """Divide the rate where the slope rule says so."""
        config = self.config
        if step % config.slope_every == 0 and should_divide_rate(
            self.curves.steps, self.curves.errors, window=config.slope_window, ratio=config.slope_ratio
        ):
            self.rate /= config.rate_divisor
            # The next look must see errors of the new rate only.
            self.curves.steps, self.curves.errors = [], []
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate


def _whole_pixels(father: Tensor, factors: Factors) -> Tensor:
    """Cut a father to a size whose son is whole, where the factors are whole numbers."""
    height, width = father.shape[-2:]
    if all(factor == int(factor) for factor in factors):
        height, width = (side // int(f) * int(f) for side, f in zip((height, width), factors, strict=True))
    return father[..., :height, :width]


def _gradient_weight(father: Tensor) -> Tensor:
    """Weight of each pixel's error by the father's gradient, mean 1: edges count, flat noise does not."""
    y = torch.nn.functional.pad((father[..., 1:, :] - father[..., :-1, :]).abs(), (0, 0, 0, 1))
    x = torch.nn.functional.pad((father[..., 1:] - father[..., :-1]).abs(), (0, 1))
    gradient = (y + x).mean(1, keepdim=True) + 1e-3
    return gradient / gradient.mean()


def _targets(size: tuple[int, int], kernel: Kernel, config: PaperZSSRConfig, factors: Factors) -> list[_Target]:
    # The published steps lead to ×2; for another factor they are taken as the same shares of the way, in log space.
    shares = [tuple(math.log2(step) for step in steps) for steps in config.gradual_steps] or [(1.0, 1.0)]
    targets = []
    for (share_y, share_x), iterations in zip(shares, config.back_projections, strict=True):
        step = (factors[0] ** share_y, factors[1] ** share_x)
        out = (round(size[0] * step[0]), round(size[1] * step[1]))
        step = factors if (share_y, share_x) == (1.0, 1.0) else step
        targets.append(_Target(step, out, downscaler(kernel, step), iterations))
    return targets


def _back_project(sr: Tensor, lr: Tensor, target: _Target) -> Tensor:
    for _ in range(target.back_projections):
        residual = lr - _like(target.downscale(sr), lr)
        sr = sr + imresize(residual, target.factors, size=target.size)
    return sr


def _like(small: Tensor, lr: Tensor) -> Tensor:
    """A downscaled image at the input's size: they differ by a pixel where a size is no multiple of the factor."""
    if small.shape == lr.shape:
        return small
    return imresize(small, size=(lr.shape[-2], lr.shape[-1]))


@torch.no_grad()
def _super_resolve(training: _Training, lr: Tensor, target: _Target) -> Tensor:
    """The ensemble over dihedral views, its median, and the back-projections of each and of the median (§3)."""
    views = range(8) if training.config.ensemble else range(1)
    outputs = []
    for view in views:
        interpolated = dihedral(imresize(lr, target.factors, size=target.size), view)
        sharp = run_tiled(training.sharpen, interpolated, halo=training.config.layers, max_tile=MAX_TILE)
        outputs.append(_back_project(dihedral_inverse(sharp, view), lr, target))
    if len(outputs) == 1:
        return outputs[0].clamp(0, 1)
    stack = torch.stack(outputs).sort(0).values
    # The median of eight is the mean of the middle two; torch's own takes the lower one.
    return _back_project((stack[3] + stack[4]) / 2, lr, target).clamp(0, 1)


def upscale_paper(
    lr: Tensor,
    kernel: Kernel,
    config: PaperZSSRConfig | None = None,
    *,
    factors: Factors | None = None,
    listener: Listener = ignore,
) -> ZSSRResult:
    """Super-resolve one image by ZSSR as published.

    Args:
        lr: (1, C, h, w), float, [0, 1]. It is left unchanged.
        kernel: Downscaling kernel. The kernel itself serves the factor that is its scale; for other factors its
            scale law does (`blindsr.zssr.downscaling`).
        config: One of the published settings; "given" if None.
        factors: (vertical, horizontal) enlargement, over 1 and at most 4 each; the kernel's scale if None.
        listener: Takes the events of stage "zssr-paper", once a scale step.

    Returns:
        The image, (1, C, round(h·factor), round(w·factor)), float32, in [0, 1].

    Raises:
        ImageError: Not one float image, or a side under 8·s px.
        KernelError: The kernel is larger than the image.
        ConfigError: A factor out of its bounds.
        DivergenceError: The training left the finite numbers.

    References:
        Shocher, Cohen, Irani, CVPR 2018, arXiv:1712.06087, §3.
    """
    config = PaperZSSRConfig() if config is None else config
    check_input(lr, kernel)
    factors = (float(kernel.scale), float(kernel.scale)) if factors is None else factors
    if not all(1 <= factor <= 4 for factor in factors) or max(factors) <= 1:
        raise ConfigError(f"ZSSR enlarges by factors over 1 and at most 4, got {factors[0]:g} and {factors[1]:g}.")
    lr = lr.detach().float()
    generator = seeded(config.seed)
    fathers, history, steps, sr = [lr], dict[str, tuple[float, ...]](), 0, lr
    targets = _targets((lr.shape[-2], lr.shape[-1]), kernel, config, factors)
    for number, target in enumerate(targets, start=1):
        stage = STAGE if len(targets) == 1 else f"{STAGE} {number}/{len(targets)}"
        training = _Training(lr, fathers, target, config, generator)
        losses, errors, made = _train(training, stage, listener)
        steps += made
        suffix = "" if len(targets) == 1 else f" {number}"
        history |= {f"loss{suffix}": losses, f"reconstruction{suffix}": errors}
        sr = _super_resolve(training, lr, target)
        fathers.append(sr)
    return ZSSRResult(image=sr, steps=steps, history=history, dtype=str(training.dtype).removeprefix("torch."))


def _train(training: _Training, stage: str, listener: Listener) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Train until the rate has fallen below its least value; returns losses, reconstruction errors, steps."""
    config = training.config
    losses: list[float] = []
    errors: list[float] = []
    listener(StageStarted(stage=stage, max_steps=config.max_steps))
    step, reason = 0, ""
    for step in range(1, config.max_steps + 1):
        loss = training.step()
        if step % config.test_every == 0:
            error = training.reconstruction_error()
            check_finite(error, step, stage)
            training.curves.steps.append(step)
            training.curves.errors.append(error)
            errors.append(error)
        values = {}
        if step % config.report_every == 0 or step == config.max_steps:
            values = {"loss": float(loss), "learning_rate": training.rate}
            check_finite(values["loss"], step, stage)
            losses.append(values["loss"])
        listener(StepDone(stage=stage, step=step, values=values))
        training.adapt_rate(step)
        if training.rate < config.min_learning_rate:
            reason = "the learning rate has fallen below its least value"
            break
    listener(StageDone(stage=stage, steps=step, reason=reason))
    return tuple(losses), tuple(errors), step
