"""DualSR: an upsampler and a downsampler of one image, trained together as each other's inverse.

Emad, Peemen, Corporaal, "DualSR: Zero-Shot Dual Learning for Real-World Super-Resolution", WACV 2021. Departures from
the paper are listed in docs/method/methods-of-the-field.md.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener
from blindsr.kernels import Kernel, bicubic
from blindsr.ops import degrade, imresize
from blindsr.ops.adam import Adam
from blindsr.ops.windows import Source, textured_part
from blindsr.registry import check_minimum
from blindsr.runtime import Precision, choose_dtype, seeded_generator
from blindsr.upscalers.base import Degradation, TiledModel, TrainedUpscaler, run_steps

__all__ = [
    "RECEPTIVE_RADIUS",
    "SCALE",
    "Discriminator",
    "Downsampler",
    "DualSRConfig",
    "DualSRUpscaler",
    "Upsampler",
    "kernel_losses",
]

STAGE = "dualsr"
SCALE = 2
RECEPTIVE_RADIUS = 8  # of the upsampler, HR pixels
_INTERPOLATION = 2  # LR pixels on which an interpolated pixel depends, on either side
_TINY = 1e-12  # keeps the gradient of |k|^p finite where a weight is zero
_FILTERS = (7, 5, 3, 1, 1, 1)  # of the downsampler; together 13×13
_POWER_ITERATIONS = 15  # before the first step; one for each step keeps up with the weights from then on


@dataclass(frozen=True, slots=True, kw_only=True)
class DualSRConfig:
    """Settings of DualSR (§3 and §4.1 of the paper, and the authors' code).

    Raises:
        ConfigError: A field is out of its bounds.
    """

    steps: int = 3000
    batch: int = 2  # crops of each kind per step
    hr_crop: int = 128  # side of the crops that the downsampler gets, px of the image
    lr_crop: int = 64  # side of the crops that the upsampler gets
    border: int = 10  # px at the borders of the image that are not trained on
    up_rate: float = 1e-3  # of Adam for the upsampler
    up_divisor: float = 2.0
    down_rate: float = 2e-4  # of Adam for downsampler and discriminator
    down_divisor: float = 4.0
    rate_every: int = 750  # steps between two divisions of the rates
    beta1: float = 0.5  # of Adam
    weight_cycle: float = 5.0  # of both cycle losses (equations 4 and 5)
    weight_interpolation: float = 2.0  # of the masked interpolation loss (equation 6)
    weight_regularisers: float = 2.0  # of the losses of the kernel alone, as in KernelGAN
    weight_bicubic: float = 5.0  # initial weight of the difference from bicubic downscaling
    bicubic_every: int = 200  # steps between two divisions of that weight by 100
    boundaries: float = 30.0  # scale of the penalty of weights at the kernel's border
    channels: int = 64
    layers: int = 8  # of the upsampler
    pixels: int = 1_000_000  # LR pixels to train on; of a larger image, its most textured window
    precision: Precision = "auto"  # bf16 where the processor supports it natively
    seed: int = 0
    report_every: int = 50  # steps between two losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_minimum(self, STAGE, 1, "steps", "batch", "rate_every", "bicubic_every", "channels", "report_every")
        if self.hr_crop < 40 or self.hr_crop % SCALE or self.lr_crop < 16:
            raise ConfigError(
                f"dualsr.hr_crop must be even and 40 or more, lr_crop 16 or more, got {self.hr_crop} and "
                f"{self.lr_crop}."
            )
        if self.layers < 2 or self.border < 0 or min(self.up_rate, self.down_rate) <= 0:
            raise ConfigError("dualsr.layers must be 2 or more, border 0 or more, and the rates positive.")


def _normal(shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(deviation * torch.randn(shape, generator=generator))


class Upsampler(nn.Module):
    """Bilinear interpolation plus the residual of eight 3×3 convolutions with ReLU between them.

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        layers: Convolutions.
        generator: Source of the initial weights (He et al., ICCV 2015).
    """

    def __init__(self, bands: int, channels: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [bands, *[channels] * (layers - 1), bands]
        self.weights = nn.ParameterList(
            _normal((after, before, 3, 3), (2 / (9 * before)) ** 0.5, generator) for before, after in pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(after)) for after in widths[1:])

    def forward(self, lr: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Enlarge images, (B, C, h, w) to (B, C, 2h, 2w), float32; the convolutions run in `dtype`."""
        enlarged = imresize(lr, SCALE, method="bilinear")
        x = enlarged.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype, enabled=dtype is not torch.float32):
            for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                x = functional.conv2d(x if number == 0 else functional.relu(x), weight, bias, padding=1)
        return enlarged + x.float()


class Downsampler(nn.Module):
    """Deep linear downsampler: convolutions without bias or activation, one kernel for every band (KernelGAN's).

    The kernel of odd side gets a zero row and column at its end, which is this package's convention for it.

    Args:
        channels: Hidden channels.
        generator: Source of the initial weights: normal, of mean and standard deviation 1/n for n inputs.
    """

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [1, *[channels] * (len(_FILTERS) - 1), 1]
        self.filters = nn.ParameterList()
        for side, before, after in zip(_FILTERS, widths, widths[1:], strict=False):
            share = 1 / (before * side * side)
            weight = _normal((after, before, side, side), share, generator)
            with torch.no_grad():
                weight.add_(share)
            self.filters.append(weight)
        self.side = sum(_FILTERS) - len(_FILTERS) + 1

    def kernel(self) -> Tensor:
        """The layers as one kernel, (14, 14), with which images are correlated; its sum is free."""
        composed = torch.zeros(1, 1, 2 * self.side - 1, 2 * self.side - 1, device=self.filters[0].device)
        composed[..., self.side - 1, self.side - 1] = 1
        for weight in self.filters:
            composed = functional.conv2d(composed, weight)
        # The response of correlations to a point is their kernel rotated by 180°.
        return functional.pad(composed[0, 0].flip(0, 1), (0, 1, 0, 1))


class Discriminator(nn.Module):
    """Fully convolutional discriminator of 7×7 patches, with spectral and batch normalisation (Bell-Kligler et al.).

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        generator: Source of the initial weights.
    """

    def __init__(self, bands: int, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        shapes = [(channels, bands, 7, 7), *[(channels, channels, 1, 1)] * 5, (1, channels, 1, 1)]
        self.weights = nn.ParameterList(_normal(shape, 0.02, generator) for shape in shapes)
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(channels)) for _ in range(5))
        self.offsets = nn.ParameterList(nn.Parameter(torch.zeros(channels)) for _ in range(5))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(shape[0])) for shape in shapes)
        self.left = [torch.randn(shape[0], generator=generator) for shape in shapes]
        for _ in range(_POWER_ITERATIONS):
            self.normalised()

    def normalised(self) -> list[Tensor]:
        """The weights divided by their spectral norms, after one power iteration (Miyato et al., ICLR 2018)."""
        results = []
        for number, weight in enumerate(self.weights):
            matrix = weight.flatten(1)
            with torch.no_grad():
                left = self.left[number].to(matrix)
                right = functional.normalize(matrix.mT @ left, dim=0)
                left = functional.normalize(matrix @ right, dim=0)
                self.left[number] = left
            results.append(weight / (left @ matrix @ right))
        return results

    def forward(self, images: Tensor, weights: list[Tensor]) -> Tensor:
        """Map images, (B, C, h, w), to the probabilities of their patches, (B, 1, h − 6, w − 6)."""
        first, *hidden, last = weights
        x = functional.conv2d(images, first, self.biases[0])
        for number, weight in enumerate(hidden):
            x = functional.conv2d(x, weight, self.biases[number + 1])
            x = functional.batch_norm(x, None, None, self.gains[number], self.offsets[number], training=True)
            x = functional.relu(x)
        return torch.sigmoid(functional.conv2d(x, last, self.biases[-1]))


class DualSRUpscaler(TrainedUpscaler[DualSRConfig]):
    """Upsampler and downsampler trained together on the image, which estimates its own kernel (DualSR, WACV 2021)."""

    name: ClassVar[str] = "dualsr"
    config_type: ClassVar[type] = DualSRConfig
    scales: ClassVar[tuple[int, ...]] = (SCALE,)
    uses_kernel: ClassVar[bool] = False
    estimates_kernel: ClassVar[bool] = True
    kernel_error: ClassVar[float] = 0.1
    removes_noise: ClassVar[bool] = False  # the result, degraded, is the image with its noise

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, px: the smallest crops and the borders."""
        return 60

    def _fit(self, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
        """Train on an image; the model has the kernel of the downsampler, normalised."""
        config = self.config
        training = _Training(textured_part(source, int(config.pixels**0.5)).detach(), config)
        history = run_steps(
            training.step, config.steps, stage=STAGE, report_every=config.report_every, listener=listener
        )
        upsampler, dtype = training.up, training.dtype

        def predict(window: Tensor, dtype: torch.dtype = dtype) -> Tensor:
            with torch.no_grad():
                sr: Tensor = upsampler(window, dtype)
            return sr.clamp(0, 1)

        weights = training.down.kernel().detach().double().cpu().numpy()
        radius = -(-max(RECEPTIVE_RADIUS, config.layers) // SCALE) + _INTERPOLATION
        return TiledModel(
            scale=SCALE,
            predict=predict,
            retry=lambda window: predict(window, torch.float32),
            halo=lambda: radius,
            steps=config.steps,
            history=history,
            dtype=str(dtype).removeprefix("torch."),
            kernel=Kernel.normalised(weights, SCALE, {"made_by": self.name, "seed": config.seed}),
        )


class _Training:
    """Networks, optimisers and crops."""

    def __init__(self, image: Tensor, config: DualSRConfig) -> None:
        generator = seeded_generator(config.seed)
        self.config, self.rng = config, np.random.default_rng(config.seed)
        border = min(config.border, (min(image.shape[-2:]) - 40) // 2)
        height, width = image.shape[-2:]
        self.image = image[..., border : height - border, border : width - border].float()
        self.hr_crop, self.lr_crop = (
            min(side, *(length // SCALE * SCALE for length in self.image.shape[-2:]))
            for side in (config.hr_crop, config.lr_crop)
        )
        self.dtype = choose_dtype(config.precision, image.device)
        bands, device = image.shape[1], image.device
        self.up = Upsampler(bands, config.channels, config.layers, generator).to(device)
        self.down = Downsampler(config.channels, generator).to(device)
        self.discriminator = Discriminator(bands, config.channels, generator).to(device)
        betas = (config.beta1, 0.999)
        self.optimisers = {
            name: Adam(network.parameters(), config.up_rate, betas=betas)
            for name, network in (("up", self.up), ("down", self.down), ("discriminator", self.discriminator))
        }
        self._weights = {side: _crop_weights(self.image, side) for side in (self.hr_crop, self.lr_crop)}

    def _crops(self, side: int) -> Tensor:
        """Crops drawn by their mean gradient, as KernelGAN draws them."""
        weights, columns = self._weights[side]
        crops = []
        for index in self.rng.choice(len(weights), self.config.batch, p=weights):
            top, left = divmod(int(index), columns)
            crops.append(self.image[..., top : top + side, left : left + side])
        return torch.cat(crops)

    def step(self, step: int) -> dict[str, Tensor]:
        """Update upsampler and downsampler together, then the discriminator; returns the losses before the update."""
        config = self.config
        self._set_rates(step)
        hr, lr = self._crops(self.hr_crop), self._crops(self.lr_crop)
        kernel = self.down.kernel()
        fake = degrade(hr, kernel, SCALE)
        enlarged = self.up(lr, self.dtype)
        weights = self.discriminator.normalised()
        losses = {
            "adversarial": (self.discriminator(fake, weights) - 1).square().mean(),
            "forward": (degrade(enlarged, kernel, SCALE) - lr).abs().mean(),
            "backward": (self.up(fake, self.dtype) - hr).abs().mean(),
            "interpolation": _masked_interpolation(enlarged, lr),
            "regularisers": kernel_losses(kernel, fake, hr, step, config),
        }
        total = (
            losses["adversarial"]
            + config.weight_cycle * (losses["forward"] + losses["backward"])
            + config.weight_interpolation * losses["interpolation"]
            + config.weight_regularisers * losses["regularisers"]
        )
        self._update(("up", "down"), total)
        maps = [self.discriminator(images, self.discriminator.normalised()) for images in (lr, fake.detach())]
        loss = 0.5 * ((maps[0] - 1).square().mean() + maps[1].square().mean())
        self._update(("discriminator",), loss)
        return {name: value.detach() for name, value in losses.items()} | {"discriminator": loss.detach()}

    def _update(self, names: tuple[str, ...], loss: Tensor) -> None:
        used = [self.optimisers[name] for name in names]
        for optimiser in used:
            optimiser.clear()
        loss.backward(inputs=[p for optimiser in used for p in optimiser.parameters])  # type: ignore[no-untyped-call]
        for optimiser in used:
            optimiser.step()

    def _set_rates(self, step: int) -> None:
        config, times = self.config, (step - 1) // self.config.rate_every
        rates = {"up": config.up_rate / config.up_divisor**times}
        rates |= dict.fromkeys(("down", "discriminator"), config.down_rate / config.down_divisor**times)
        for name, optimiser in self.optimisers.items():
            optimiser.learning_rate = rates[name]


def _crop_weights(image: Tensor, side: int) -> tuple[np.ndarray, int]:
    """Probability of every crop of an image by its mean gradient, flat, and how many lie in a row."""
    down, right = torch.gradient(image[0].mean(0).double().cpu())
    mean = functional.avg_pool2d(torch.hypot(down, right)[None, None], side, 1)[0, 0] + 1e-6
    return (mean / mean.sum()).flatten().numpy(), mean.shape[1]


def _masked_interpolation(enlarged: Tensor, lr: Tensor) -> Tensor:
    """Distance from bicubic interpolation where it shows no edge (equation 6): mean of (1 − |∇|)·|x − bicubic|."""
    interpolated = imresize(lr, SCALE)
    sobel = interpolated.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    filters = torch.stack([sobel, sobel.mT])[:, None]
    grey = functional.pad(interpolated.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    edges = functional.conv2d(grey, filters).square().sum(1, keepdim=True).add(_TINY).sqrt()
    return ((1 - edges.clamp(0, 1)) * (enlarged - interpolated).abs()).mean()


def kernel_losses(kernel: Tensor, fake: Tensor, hr: Tensor, step: int, config: DualSRConfig) -> Tensor:
    """The losses of the downsampler alone, as KernelGAN has them (Bell-Kligler et al., NeurIPS 2019, §4.2).

    Sum 1 (weight 0.5), weights at the border (0.5), and the difference from bicubic downscaling, whose weight falls by
    a factor of 100 every `bicubic_every` steps, three times; when it is below 5·10⁻³, the centre of mass (1) and
    sparsity (5) are added.

    Args:
        kernel: The downsampler's kernel, (K, K); its sum is free.
        fake: The HR crops after the downsampler, (B, C, h/2, w/2).
        hr: The HR crops, (B, C, h, w), [0, 1].
        step: Number of the step, from 1.
        config: Settings.

    Returns:
        The weighted sum of the losses, a tensor without axes.
    """
    side = kernel.shape[-1]
    position = torch.arange(side, dtype=kernel.dtype, device=kernel.device) - (side - 1) / 2
    distance = torch.hypot(position[:, None], position[None])
    mask = config.boundaries * ((distance - side / 3).clamp(min=0) / (side / 2)).square()
    total = 0.5 * (1 - kernel.sum()).abs() + 0.5 * (kernel * mask).abs().mean()
    weight = config.weight_bicubic / 100.0 ** min((step - 1) // config.bicubic_every, 3)
    ideal = degrade(hr, bicubic(SCALE).tensor(hr), SCALE)
    total = total + weight * (fake - ideal).square().mean()
    if weight < 5e-3:
        mass = torch.stack((kernel.sum(1), kernel.sum(0)))
        centre = ((mass @ position) / kernel.sum()).square().mean()
        total = total + centre + 5 * (kernel.abs() + _TINY).pow(0.2).mean()
    return total
