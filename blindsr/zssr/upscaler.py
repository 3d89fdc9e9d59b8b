"""ZSSR: train a network on pairs of father and son made from one image, then apply it to the image (§3)."""

import itertools
import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError, ImageError
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel
from blindsr.ops import dihedral, dihedral_inverse, imresize
from blindsr.ops.adam import Adam
from blindsr.ops.windows import Source, TensorSource, whole
from blindsr.runtime import check_finite, choose_dtype
from blindsr.upscalers.base import Degradation, TiledModel, check_size
from blindsr.upscalers.tiling import run_tiled
from blindsr.zssr.config import ZSSRConfig
from blindsr.zssr.pairs import Downscale, Factors, FatherCrops, downscaler

__all__ = ["PublishedZSSR", "ZSSRNetwork", "should_divide_rate", "upscale"]

STAGE = "zssr"
# Side of the central part on which the reconstruction error is measured, HR pixels: measuring it on all of a large
# image every 50 steps would take most of the time (docs/method/deviations.md).
MAX_TEST_SIDE = 256
MAX_TILE = 768  # side of the tiles in which the network is applied, HR pixels


class PublishedZSSR:
    """ZSSR as published: a network trained on the image's own pairs (Shocher et al., CVPR 2018).

    Args:
        config: Settings; the setting "given" (a known kernel) if None.
    """

    name: ClassVar[str] = "zssr"
    config_type: ClassVar[type] = ZSSRConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    needs_whole_image: ClassVar[bool] = True

    def __init__(self, config: ZSSRConfig | None = None) -> None:
        self.config = ZSSRConfig() if config is None else config

    @property
    def removes_noise(self) -> bool:
        """Whether it was set to: noise that is added to the sons and not to the fathers is learned to be removed."""
        return self.config.noise_sigma > 0

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, LR pixels: its son then has 8 px, half of the network's receptive field."""
        return 8 * scale

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Train on all of an image; the model that is returned applies to the whole image only.

        The noise level of the degradation is not used: the published method takes it from its settings.

        Args:
            source: The image.
            degradation: Its kernel and scale.
            listener: Receives the events of the stage "zssr", once per scale step.

        Raises:
            ImageError: A side is shorter than `min_side`.
            KernelError: The kernel is far larger than the image.
            ConfigError: The scale is not supported.
            DivergenceError: The training diverged.
        """
        check_size(self, source.shape, degradation.kernel)
        factors = (float(degradation.scale), float(degradation.scale))
        return _fit(whole(source), degradation.kernel, self.config, factors, listener)


def upscale(
    lr: Tensor,
    kernel: Kernel,
    config: ZSSRConfig | None = None,
    *,
    factors: Factors | None = None,
    listener: Listener = ignore,
) -> Tensor:
    """Super-resolve one image by ZSSR as published, by any real factor along each axis.

    Args:
        lr: (1, C, h, w), float, [0, 1]; left unchanged.
        kernel: Downscaling kernel. It is used as it is for factors that equal its scale, and by the scale law for
            others (`blindsr.zssr.pairs.downscaler`).
        config: One of the published settings; "given" if None.
        factors: (vertical, horizontal) enlargement, 1 to 4 each and not both 1; the kernel's scale if None.
        listener: Receives the events of the stage "zssr", once per scale step.

    Returns:
        The image, (1, C, round(h·factor), round(w·factor)), float32, [0, 1].

    Raises:
        ImageError: Not one floating-point image, or a side is shorter than 8·s px.
        KernelError: The kernel is far larger than the image.
        ConfigError: A factor or the kernel's scale is out of its bounds.
        DivergenceError: The training diverged.

    References:
        Shocher, Cohen, Irani, CVPR 2018, arXiv:1712.06087, §3.
    """
    if lr.ndim != 4 or lr.shape[0] != 1 or not lr.is_floating_point():
        raise ImageError(f"ZSSR takes one floating-point image (1, C, H, W), got {tuple(lr.shape)} of {lr.dtype}.")
    method, source = PublishedZSSR(config), TensorSource(lr)
    check_size(method, source.shape, kernel)
    factors = (float(kernel.scale), float(kernel.scale)) if factors is None else factors
    if not all(1 <= factor <= 4 for factor in factors) or max(factors) <= 1:
        raise ConfigError(
            f"ZSSR enlarges by scales from 1 to 4, one of them over 1, got {factors[0]:g} and {factors[1]:g}."
        )
    return _fit(whole(source), kernel, method.config, factors, listener).predict(whole(source))


class ZSSRNetwork(nn.Module):
    """Fully convolutional network on the interpolated image that predicts the residual to the sharp one (§3.1).

    Args:
        image_channels: Bands of the image.
        layers: Number of 3×3 convolutions; ReLU follows each but the last.
        channels: Hidden channels.
        init_sigma: Standard deviation of the initial weights; None is He initialisation (He et al., ICCV 2015), with a
            tenth of its gain in the last layer.
        generator: Source of the initial weights; torch's own initialisers would use the global one.
    """

    def __init__(
        self,
        image_channels: int,
        *,
        layers: int,
        channels: int,
        init_sigma: float | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [image_channels, *[channels] * (layers - 1), image_channels]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)]
        with torch.no_grad():
            for index, layer in enumerate(convolutions):
                assert layer.bias is not None
                layer.bias.zero_()
                if init_sigma is not None:
                    nn.init.normal_(layer.weight, std=init_sigma, generator=generator)
                    continue
                gain = 0.1 if index == layers - 1 else 1.0
                sigma = gain * (2.0 / layer.weight[0].numel()) ** 0.5
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * sigma)
        self.body = nn.ModuleList(convolutions[:-1])
        self.tail = convolutions[-1]

    def forward(self, interpolated: Tensor) -> Tensor:
        """Sharpen an interpolated image (B, C, H, W), [0, 1]; the size stays the same."""
        x = interpolated
        for layer in self.body:
            x = functional.relu(layer(x))
        sharpened: Tensor = interpolated + self.tail(x)
        return sharpened


@dataclass(frozen=True)
class _Target:
    """One scale step: from the input to `size`, which is `factors` times as large."""

    factors: Factors
    size: tuple[int, int]
    downscale: Downscale
    back_projections: int


@dataclass
class _Errors:
    """Reconstruction errors since the last change of the learning rate."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


class _Training:
    """The network of one scale step and the state of its training."""

    def __init__(
        self,
        lr: Tensor,
        fathers: list[Tensor],
        target: _Target,
        config: ZSSRConfig,
        generator: torch.Generator,
    ) -> None:
        self.config = config
        self.target = target
        self.generator = generator
        self.dtype = choose_dtype(config.precision, lr.device)
        self.network = ZSSRNetwork(
            lr.shape[1],
            layers=config.layers,
            channels=config.channels,
            init_sigma=config.init_sigma,
            generator=generator,
        )
        self.network.to(device=lr.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = Adam(self.network.parameters(), config.learning_rate)
        self.crops = FatherCrops(fathers, config, generator)
        self.errors = _Errors()
        top, left = (max(0, (side - MAX_TEST_SIDE) // 2) for side in lr.shape[-2:])
        self.test_father = lr[..., top : top + MAX_TEST_SIDE, left : left + MAX_TEST_SIDE]

    def sharpen(self, interpolated: Tensor) -> Tensor:
        """Apply the network in the dtype of the run; float32 in and out."""
        image = interpolated.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            sharpened: Tensor = self.network(image)
        return sharpened.float()

    def interpolated_son(self, father: Tensor, *, noise: bool) -> Tensor:
        """Downscale a father to its son, and interpolate the son back to the size of the father."""
        son = self.target.downscale(father)
        if noise and self.config.noise_sigma:
            son = son + self.config.noise_sigma * torch.randn(son.shape, generator=self.generator).to(son)
        return imresize(son, self.target.factors, size=(father.shape[-2], father.shape[-1]))

    def step(self) -> Tensor:
        """One optimiser step on a random crop of a random father; returns the L1 loss (§3.1)."""
        father = _whole_sons(self.crops.draw(self.config.crop), self.target.factors)
        difference = (self.sharpen(self.interpolated_son(father, noise=True)) - father).abs()
        if self.config.gradient_weight:
            difference = difference * _gradient_weight(father)
        loss = difference.mean()
        self.optimiser.minimise(loss)
        return loss.detach()

    @torch.no_grad()
    def reconstruction_error(self) -> float:
        """Mean squared error of the image reconstructed from its own son, without augmentation (§3.1)."""
        father = _whole_sons(self.test_father, self.target.factors)
        return float((self.sharpen(self.interpolated_son(father, noise=False)) - father).square().mean())

    def adapt_rate(self, step: int) -> None:
        """Divide the learning rate if the slope of the reconstruction error calls for it (§3.1)."""
        config = self.config
        if step % config.slope_every == 0 and should_divide_rate(
            self.errors.steps, self.errors.values, window=config.slope_window, ratio=config.slope_ratio
        ):
            self.optimiser.learning_rate /= config.rate_divisor
            # The next fit must only see errors at the new rate.
            self.errors = _Errors()

    @torch.no_grad()
    def super_resolve(self, lr: Tensor) -> Tensor:
        """Apply the network to all dihedral views, back-project each, and take their median (§3)."""
        target = self.target
        outputs = []
        for view in range(8) if self.config.ensemble else range(1):
            interpolated = dihedral(imresize(lr, target.factors, size=target.size), view)
            sharp = run_tiled(self.sharpen, interpolated, halo=self.config.layers, max_tile=MAX_TILE)
            outputs.append(_back_project(dihedral_inverse(sharp, view), lr, target))
        if len(outputs) == 1:
            return outputs[0].clamp(0, 1)
        stack = torch.stack(outputs).sort(0).values
        # The median of eight values is the mean of the middle two; torch.median returns the lower one.
        return _back_project((stack[3] + stack[4]) / 2, lr, target).clamp(0, 1)


def _whole_sons(father: Tensor, factors: Factors) -> Tensor:
    """Crop a father to a multiple of the factors, where they are whole numbers."""
    height, width = father.shape[-2:]
    if all(factor == int(factor) for factor in factors):
        height, width = (side // int(f) * int(f) for side, f in zip((height, width), factors, strict=True))
    return father[..., :height, :width]


def _gradient_weight(father: Tensor) -> Tensor:
    """Weight of each pixel's error, mean 1, by the father's gradient: edges weigh more than flat, noisy areas."""
    y = functional.pad((father[..., 1:, :] - father[..., :-1, :]).abs(), (0, 0, 0, 1))
    x = functional.pad((father[..., 1:] - father[..., :-1]).abs(), (0, 1))
    gradient = (y + x).mean(1, keepdim=True) + 1e-3
    return gradient / gradient.mean()


def _targets(size: tuple[int, int], kernel: Kernel, config: ZSSRConfig, factors: Factors) -> list[_Target]:
    """The scale steps; one unless the scales are gradual (§3)."""
    # The published steps lead to ×2; for another factor the same fractions of the way are used, in log space.
    fractions = [tuple(math.log2(step) for step in steps) for steps in config.gradual_steps] or [(1.0, 1.0)]
    targets = []
    for (vertical, horizontal), iterations in zip(fractions, config.back_projections, strict=True):
        step = (factors[0] ** vertical, factors[1] ** horizontal)
        out = (round(size[0] * step[0]), round(size[1] * step[1]))
        step = factors if (vertical, horizontal) == (1.0, 1.0) else step
        targets.append(_Target(step, out, downscaler(kernel, step), iterations))
    return targets


def _fit(lr: Tensor, kernel: Kernel, config: ZSSRConfig, factors: Factors, listener: Listener) -> TiledModel:
    """Train one network per scale step; each result becomes a father of the next step (§3, gradual increases)."""
    generator = torch.Generator().manual_seed(config.seed)
    lr = lr.detach().float()
    targets = _targets((lr.shape[-2], lr.shape[-1]), kernel, config, factors)
    fathers, history, steps = [lr], dict[str, tuple[float, ...]](), 0
    for number, target in enumerate(targets, start=1):
        stage = STAGE if len(targets) == 1 else f"{STAGE} {number}/{len(targets)}"
        training = _Training(lr, fathers, target, config, generator)
        losses, errors, step = _train(training, stage, listener)
        steps += step
        suffix = "" if len(targets) == 1 else f" {number}"
        history |= {f"loss{suffix}": losses, f"reconstruction{suffix}": errors}
        if number < len(targets):
            fathers.append(training.super_resolve(lr))
    return TiledModel(
        scale=kernel.scale,
        predict=training.super_resolve,
        whole_image=True,
        steps=steps,
        history=history,
        dtype=str(training.dtype).removeprefix("torch."),
    )


def _train(training: _Training, stage: str, listener: Listener) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Train until the learning rate falls below its minimum; returns losses, reconstruction errors and steps."""
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
            training.errors.steps.append(step)
            training.errors.values.append(error)
            errors.append(error)
        values = {}
        if step % config.report_every == 0 or step == config.max_steps:
            values = {"loss": float(loss), "learning_rate": training.optimiser.learning_rate}
            check_finite(values["loss"], step, stage)
            losses.append(values["loss"])
        listener(StepDone(stage=stage, step=step, values=values))
        training.adapt_rate(step)
        if training.optimiser.learning_rate < config.min_learning_rate:
            reason = "the learning rate has reached its minimum"
            break
    listener(StageDone(stage=stage, steps=step, reason=reason))
    return tuple(losses), tuple(errors), step


def _back_project(sr: Tensor, lr: Tensor, target: _Target) -> Tensor:
    """Add the interpolated difference between the input and the downscaled result, some times (§3)."""
    for _ in range(target.back_projections):
        residual = lr - _at_size_of(target.downscale(sr), lr)
        sr = sr + imresize(residual, target.factors, size=target.size)
    return sr


def _at_size_of(small: Tensor, lr: Tensor) -> Tensor:
    """A downscaled image at the input's size: they differ by a pixel where a size is no multiple of the factor."""
    if small.shape == lr.shape:
        return small
    return imresize(small, size=(lr.shape[-2], lr.shape[-1]))


def should_divide_rate(steps: list[int], errors: list[float], *, window: int, ratio: float) -> bool:
    """Whether the slope of the reconstruction error is too uncertain, so that the rate is to be divided.

    A line is fitted to the errors of the last `window` steps; the rate is to be divided when the standard error of
    its slope exceeds `ratio` times its descent (§3.1).

    Args:
        steps: Steps at which the error was measured, ascending.
        errors: Mean squared reconstruction errors.
        window: Steps that the line spans.
        ratio: Factor between the standard error and the descent.

    Returns:
        False as long as there are fewer than four measurements in the window.
    """
    recent = [(s, e) for s, e in zip(steps, errors, strict=True) if s > steps[-1] - window]
    if len(recent) < 4:
        return False
    x, y = np.array(recent, dtype=np.float64).T
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    standard_error = math.sqrt(float(residual @ residual) / (len(x) - 2) / float(x @ x))
    return standard_error > -ratio * slope
