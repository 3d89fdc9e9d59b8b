"""The training of DualSR on one image (§3), and its result."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener, ignore
from blindsr.kernels import Kernel, bicubic
from blindsr.ops import degrade, imresize
from blindsr.ops.adam import Adam
from blindsr.ops.windows import Source, textured_part
from blindsr.runtime import Precision, choose_dtype, seeded_generator
from blindsr.upscalers.base import Degradation, TiledModel, check_size, run_steps
from blindsr.upscalers.dualsr.networks import RECEPTIVE_RADIUS, SCALE, Discriminator, Downsampler, Upsampler

__all__ = ["DualSRConfig", "DualSRUpscaler", "kernel_losses"]

STAGE = "dualsr"
_INTERPOLATION = 2  # LR pixels on which an interpolated pixel depends, on either side
_TINY = 1e-12  # keeps the gradient of |k|^p finite where a weight is zero


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
        for name in ("steps", "batch", "rate_every", "bicubic_every", "channels", "report_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"dualsr.{name} must be 1 or more, got {getattr(self, name)}.")
        if self.hr_crop < 40 or self.hr_crop % SCALE or self.lr_crop < 16:
            raise ConfigError(
                f"dualsr.hr_crop must be even and 40 or more, lr_crop 16 or more, got {self.hr_crop} and "
                f"{self.lr_crop}."
            )
        if self.layers < 2 or self.border < 0 or min(self.up_rate, self.down_rate) <= 0:
            raise ConfigError("dualsr.layers must be 2 or more, border 0 or more, and the rates positive.")


class DualSRUpscaler:
    """Upsampler and downsampler trained together on the image, which estimates its own kernel (DualSR, WACV 2021).

    Args:
        config: Settings; the paper's if None.
    """

    name: ClassVar[str] = "dualsr"
    config_type: ClassVar[type] = DualSRConfig
    scales: ClassVar[tuple[int, ...]] = (SCALE,)
    needs_whole_image: ClassVar[bool] = False
    uses_kernel: ClassVar[bool] = False
    estimates_kernel: ClassVar[bool] = True
    kernel_error: ClassVar[float] = 0.1
    removes_noise: ClassVar[bool] = False  # the result, degraded, is the image with its noise

    def __init__(self, config: DualSRConfig | None = None) -> None:
        self.config = DualSRConfig() if config is None else config

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, px: the smallest crops and the borders."""
        return 60

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Train on an image; the model has the kernel of the downsampler, normalised.

        Args:
            source: The image; it is left unchanged.
            degradation: Its scale; the kernel is not used.
            listener: Receives the events of the stage "dualsr".

        Raises:
            ImageError: A side is shorter than `min_side`.
            ConfigError: The scale is not supported.
            DivergenceError: A loss became NaN or infinite.
        """
        config = self.config
        check_size(self, source.shape, degradation.kernel)
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
        self.judge = Discriminator(bands, config.channels, generator).to(device)
        betas = (config.beta1, 0.999)
        self.optimisers = {
            name: Adam(network.parameters(), config.up_rate, betas=betas)
            for name, network in (("up", self.up), ("down", self.down), ("judge", self.judge))
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
        weights = self.judge.normalised()
        losses = {
            "adversarial": (self.judge(fake, weights) - 1).square().mean(),
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
        maps = [self.judge(images, self.judge.normalised()) for images in (lr, fake.detach())]
        loss = 0.5 * ((maps[0] - 1).square().mean() + maps[1].square().mean())
        self._update(("judge",), loss)
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
        rates |= dict.fromkeys(("down", "judge"), config.down_rate / config.down_divisor**times)
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
    gray = functional.pad(interpolated.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    edges = functional.conv2d(gray, filters).square().sum(1, keepdim=True).add(_TINY).sqrt()
    return ((1 - edges.clamp(0, 1)) * (enlarged - interpolated).abs()).mean()


def kernel_losses(kernel: Tensor, fake: Tensor, hr: Tensor, step: int, config: DualSRConfig) -> Tensor:
    """The losses of the downsampler alone, as KernelGAN has them (Bell-Kligler et al., NeurIPS 2019, §4.2).

    Sum 1 (weight 0.5), weights at the border (0.5), and the difference from bicubic downscaling, whose weight falls by
    a factor of 100 every `bicubic_every` steps, three times; when it is below 5·10⁻³, the centre of mass (1) and
    sparsity (5) are added.
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
