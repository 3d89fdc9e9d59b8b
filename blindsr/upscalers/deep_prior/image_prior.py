"""Super-resolution by the deep image prior for a known kernel (Ulyanov et al., CVPR 2018, §3.2).

The methods for an unknown kernel, `dkp` and `dip_fkp`, share the network (supplement of the paper, figure 21), the
prior, and the losses at the end of this module.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener
from blindsr.kernels import Kernel
from blindsr.ops import degrade
from blindsr.ops.adam import Adam
from blindsr.ops.windows import Source, whole
from blindsr.registry import check_minimum
from blindsr.runtime import Precision, choose_dtype, seeded_generator
from blindsr.upscalers.base import ConfigT, Degradation, TiledModel, TrainedUpscaler, run_steps

__all__ = [
    "BlindDeepPrior", "DeepPriorConfig", "DeepPriorUpscaler", "Prior", "SkipNetwork", "blind_prior", "roughness",
    "structural_similarity", "whole_image_model",
]  # fmt: skip

STAGE = "dip"
LEVELS = 5  # §3, supplement
_SLOPE = 0.2  # of LeakyReLU
_SPARSITY = 0.67  # exponent of the image prior (authors' code)
_WINDOW = 11  # side of the window of SSIM


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepPriorConfig:
    """Settings of the deep image prior for super-resolution (supplement of the paper, and the authors' code).

    Raises:
        ConfigError: A field is out of its bounds.
    """

    steps: int = 2000  # of Adam (for ×4; 4000 for ×8)
    learning_rate: float = 0.01
    channels: int = 128  # on every level
    skip_channels: int = 4
    input_channels: int = 32  # of the noise
    input_scale: float = 0.1  # the noise is uniform from 0 to this
    perturbation: float = 0.03  # standard deviation of the noise that is added to it at every step
    precision: Precision = "auto"  # bf16 where the processor supports it natively
    seed: int = 0
    report_every: int = 50  # steps between two losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_minimum(self, STAGE, 1, "steps", "channels", "skip_channels", "input_channels", "report_every")
        if self.learning_rate <= 0 or self.input_scale <= 0 or self.perturbation < 0:
            raise ConfigError("dip.learning_rate and input_scale must be positive, perturbation 0 or more.")


class SkipNetwork(nn.Module):
    """Maps noise to an image: halvings by convolutions, doublings by bilinear interpolation, skips by 1×1 convolutions.

    Args:
        input_channels: Channels of the noise.
        output_channels: Bands of the image.
        levels: Halvings.
        channels: Channels on every level.
        skip_channels: Channels of every skip.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        *,
        input_channels: int,
        output_channels: int,
        levels: int,
        channels: int,
        skip_channels: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        with torch.device("meta"):  # nothing is drawn from the global random generator
            inputs = [input_channels, *[channels] * (levels - 1)]
            self.levels = nn.ModuleList(_Level(count, channels, skip_channels) for count in inputs)
            self.last = nn.Conv2d(channels, output_channels, 1)
        self.to_empty(device="cpu")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module, generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, noise: Tensor) -> Tensor:
        """(1, input_channels, H, W) to (1, output_channels, H, W), in [0, 1]; sides are multiples of 2^levels."""
        return torch.sigmoid(self.last(self._from(0, noise)))

    def _from(self, number: int, x: Tensor) -> Tensor:
        level = self.levels[number]
        assert isinstance(level, _Level)
        down: Tensor = level.down(x)
        deeper = down if number == len(self.levels) - 1 else self._from(number + 1, down)
        up = functional.interpolate(deeper, scale_factor=2, mode="bilinear", align_corners=False)
        joined: Tensor = level.up(torch.cat([level.skip(x), up], 1))
        return joined


class _Level(nn.Module):
    def __init__(self, inputs: int, channels: int, skip_channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(*_convolution(inputs, channels, 3, stride=2), *_convolution(channels, channels, 3))
        self.skip = nn.Sequential(*_convolution(inputs, skip_channels, 1))
        self.up = nn.Sequential(
            nn.BatchNorm2d(channels + skip_channels),
            *_convolution(channels + skip_channels, channels, 3),
            *_convolution(channels, channels, 1),
        )


def _convolution(inputs: int, outputs: int, side: int, *, stride: int = 1) -> list[nn.Module]:
    """A convolution with reflected borders, batch norm and LeakyReLU."""
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, padding_mode="reflect")
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(_SLOPE)]


def _initialise(layer: nn.Conv2d, generator: torch.Generator) -> None:
    """Draw the initial weights that torch has, uniform within 1/√fan-in, from a generator."""
    bound = 1 / math.sqrt(layer.in_channels * math.prod(layer.kernel_size))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(bound * (2 * torch.rand(parameter.shape, generator=generator) - 1))


def padded_size(height: int, width: int, levels: int) -> tuple[int, int]:
    """The next larger size that can be halved on every level."""
    step = 2**levels
    return -(-height // step) * step, -(-width // step) * step


def min_hr_side(levels: int) -> int:
    """Smallest side of the image: the deepest level has 2 px, which reflected borders need."""
    return int(2 ** (levels + 1))


class Prior:
    """The network, its input and its optimiser: an image that is a function of weights.

    Args:
        lr: The LR image, (1, C, h, w), [0, 1].
        scale: Factor from LR to HR.
        config: Settings.
        generator: Source of weights, input and perturbations.
    """

    def __init__(self, lr: Tensor, scale: int, config: DeepPriorConfig, generator: torch.Generator) -> None:
        bands, height, width = lr.shape[1:]
        self.size = (scale * height, scale * width)
        self._config, self._generator = config, generator
        self.dtype = choose_dtype(config.precision, lr.device)
        shape = (1, config.input_channels, *padded_size(*self.size, LEVELS))
        noise = config.input_scale * torch.rand(shape, generator=generator)
        self._noise = noise.to(lr.device).contiguous(memory_format=torch.channels_last)
        network = SkipNetwork(
            input_channels=config.input_channels,
            output_channels=bands,
            levels=LEVELS,
            channels=config.channels,
            skip_channels=config.skip_channels,
            generator=generator,
        )
        self.network = network.to(lr.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = Adam(self.network.parameters(), config.learning_rate)

    def image(self, *, perturbed: bool = True) -> Tensor:
        """The image of the current weights, (1, C, s·h, s·w), [0, 1], float32."""
        noise = self._noise
        if perturbed and self._config.perturbation:
            drawn = torch.randn(noise.shape, generator=self._generator)
            noise = noise + self._config.perturbation * drawn.to(noise)
        noise = noise.contiguous(memory_format=torch.channels_last)
        with torch.autocast(noise.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            image: Tensor = self.network(noise)
        # The surplus of a size that cannot be halved often enough is cut off evenly.
        top, left = ((padded - side) // 2 for padded, side in zip(image.shape[-2:], self.size, strict=True))
        return image[..., top : top + self.size[0], left : left + self.size[1]].float()

    def step(self, loss: Tensor) -> None:
        """One optimiser step on the weights."""
        self.optimiser.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


class _DeepPrior(TrainedUpscaler[ConfigT]):
    """What the methods share whose image is the output of the network."""

    needs_whole_image: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[int] = 12_000  # HR, measured: 11,900 in float32, 7,300 in bfloat16

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, LR pixels: the deepest level of the network then has 2 px."""
        return -(-min_hr_side(LEVELS) // scale)


class BlindDeepPrior(_DeepPrior[ConfigT]):
    """Base of the methods that fit image and kernel together; the model that they return holds both."""

    uses_kernel: ClassVar[bool] = False
    estimates_kernel: ClassVar[bool] = True
    kernel_error: ClassVar[float] = 0.1


class DeepPriorUpscaler(_DeepPrior[DeepPriorConfig]):
    """Deep image prior: an untrained network fitted to the image through its kernel (Ulyanov et al., CVPR 2018)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = DeepPriorConfig
    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 8)

    def _fit(self, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
        """Fit the network to all of an image; the model that is returned holds the result.

        The loss is the mean squared difference between the image and the network's output, degraded by the kernel.
        """
        config, kernel = self.config, degradation.kernel
        lr = whole(source).detach()
        prior = Prior(lr, kernel.scale, config, seeded_generator(config.seed))
        weights = kernel.tensor(lr)

        def step(_: int) -> dict[str, Tensor]:
            loss = (degrade(prior.image(), weights, kernel.scale) - lr).square().mean()
            prior.step(loss)
            return {"loss": loss.detach()}

        history = run_steps(step, config.steps, stage=STAGE, report_every=config.report_every, listener=listener)
        with torch.no_grad():
            result = prior.image(perturbed=False)
        return whole_image_model(result, kernel.scale, config.steps, history, prior.dtype)


def blind_prior(lr: Tensor, scale: int, config: Any, generator: torch.Generator) -> Prior:  # noqa: ANN401
    """The prior of a method that estimates the kernel as well: its input is not perturbed.

    Args:
        lr: The LR image, (1, C, h, w), [0, 1].
        scale: Factor from LR to HR.
        config: Settings of the method, which has those of the prior by the same names but for `image_rate`.
        generator: Source of weights and input.
    """
    names = ("steps", "channels", "skip_channels", "input_channels", "precision")
    shared = {name: getattr(config, name) for name in names}
    return Prior(lr, scale, DeepPriorConfig(**shared, learning_rate=config.image_rate, perturbation=0.0), generator)


def whole_image_model(
    result: Tensor,
    scale: int,
    steps: int,
    history: dict[str, tuple[float, ...]],
    dtype: torch.dtype,
    kernel: Kernel | None = None,
) -> TiledModel:
    """A model that holds the result for the whole image to which it was fitted.

    Args:
        result: The SR image, (1, C, s·h, s·w), [0, 1].
        scale: Factor s from LR to HR.
        steps: Optimiser steps that were made.
        history: Curves of the losses by name, one value per report.
        dtype: Type of the network's arithmetic.
        kernel: The kernel that was estimated along with the image; None if it was given.
    """
    result = result.detach()
    return TiledModel(
        scale=scale,
        predict=lambda window: result.clone(),
        whole_image=True,
        steps=steps,
        history=history,
        dtype=str(dtype).removeprefix("torch."),
        kernel=kernel,
    )


def roughness(image: Tensor) -> Tensor:
    """Mean of |∇x|^0.67 over four directions; the small constant keeps the gradient finite where neighbours agree."""
    differences = (
        image[..., 1:] - image[..., :-1],
        image[..., 1:, :] - image[..., :-1, :],
        image[..., 1:, 1:] - image[..., :-1, :-1],
        image[..., 1:, :-1] - image[..., :-1, 1:],
    )
    return torch.stack([(d.abs() + 1e-4).pow(_SPARSITY).mean() for d in differences]).mean()


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Mean SSIM of two images, (1, C, h, w), [0, 1], differentiable (Wang et al., IEEE TIP 2004).

    The window is a Gaussian of σ 1.5 px and 11 px, or the largest odd side that fits into the image.
    """
    side = min(_WINDOW, *(length - (length + 1) % 2 for length in first.shape[-2:]))
    offset = torch.arange(side, dtype=first.dtype, device=first.device) - side // 2
    line = torch.exp(-offset.square() / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(image: Tensor) -> Tensor:
        return functional.conv2d(image.transpose(0, 1), window)

    a, b = mean(first), mean(second)
    variance = mean(first * first) - a * a, mean(second * second) - b * b
    covariance = mean(first * second) - a * b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * a * b + c1) * (2 * covariance + c2) / ((a * a + b * b + c1) * (variance[0] + variance[1] + c2))
    return similarity.mean()
