"""SinGAN's super-resolution: a pyramid of small GANs of one image, whose finest generator enlarges it step by step.

Rott Shaham, Dekel, Michaeli, "SinGAN: Learning a Generative Model from a Single Natural Image", ICCV 2019,
arXiv:1905.01164. Departures from the paper are listed in docs/method/methods-of-the-field.md.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener
from blindsr.ops import imresize
from blindsr.ops.adam import Adam
from blindsr.ops.windows import Source, most_textured, spread_windows
from blindsr.registry import check_minimum
from blindsr.runtime import seeded_generator
from blindsr.upscalers.base import Degradation, TiledModel, TrainedUpscaler, run_steps

__all__ = [
    "Critic",
    "PatchGenerator",
    "SinGANConfig",
    "SinGANUpscaler",
    "enlargements",
    "gradient_penalty",
    "pyramid_sizes",
]

STAGE = "singan"
_STEP = 2 ** (1 / 3)  # about the factor between two scales
_SLOPE = 0.2  # of LeakyReLU
_DEVIATION = 0.02  # of the initial weights


@dataclass(frozen=True, slots=True, kw_only=True)
class SinGANConfig:
    """Settings of SinGAN (§2.2, §4 and the supplement of the paper, and the authors' code).

    Raises:
        ConfigError: A field is out of its bounds.
    """

    iterations: int = 2000  # for each scale of the pyramid
    critic_steps: int = 3  # of an iteration
    generator_steps: int = 3
    learning_rate: float = 5e-4  # of Adam, for both networks
    rate_after: int = 1600  # iterations of a scale after which the rate is divided by ten
    beta1: float = 0.5  # of Adam
    penalty: float = 0.1  # weight of the gradient penalty
    reconstruction: float = 100.0  # weight of the squared reconstruction error; the paper has 10 for other tasks
    noise: float = 0.1  # standard deviation of the noise over the reconstruction error of the scale below
    channels: int = 32  # of the coarsest four scales; doubled every four scales
    max_channels: int = 128
    layers: int = 5  # convolutions of either network
    min_size: int = 18  # shorter side of the coarsest scale, px
    max_size: int = 250  # longest side to train on, px; of a larger image, its most textured window
    seed: int = 0
    report_every: int = 50  # iterations between two losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_minimum(self, STAGE, 1, "iterations", "critic_steps", "generator_steps", "rate_after", "channels")
        check_minimum(self, STAGE, 1, "max_channels", "report_every")
        if self.learning_rate <= 0 or min(self.penalty, self.reconstruction, self.noise) < 0:
            raise ConfigError("singan.learning_rate must be positive; penalty, reconstruction and noise 0 or more.")
        if self.layers < 2 or self.min_size <= 2 * self.layers or self.max_size < self.min_size:
            raise ConfigError(
                f"singan.layers must be 2 or more, min_size above twice of it, and max_size no smaller than that, got "
                f"{self.layers}, {self.min_size} and {self.max_size}."
            )


def enlargements(scale: int) -> int:
    """How many enlargements make a scale: k = round(3 · log₂ s), each by s^(1/k)."""
    return max(1, round(math.log(scale) / math.log(_STEP)))


def pyramid_sizes(height: int, width: int, scale: int, min_size: int) -> list[tuple[int, int]]:
    """Sizes of the pyramid from coarse to fine, the last one that of the image, by the factor of one enlargement."""
    factor = scale ** (1 / enlargements(scale))
    levels = max(0, math.floor(math.log(min(height, width) / min_size) / math.log(factor) + 1e-9))
    return [
        (max(1, round(height / factor**level)), max(1, round(width / factor**level)))
        for level in reversed(range(levels + 1))
    ]


def _blocks(inputs: int, outputs: int, channels: int, layers: int) -> nn.Sequential:
    """3×3 convolutions without padding; a batch norm and LeakyReLU after each but the last."""
    modules: list[nn.Module] = []
    for number in range(layers - 1):
        convolution = nn.Conv2d(inputs if number == 0 else channels, channels, 3)
        modules += [convolution, nn.BatchNorm2d(channels), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*modules, nn.Conv2d(channels, outputs, 3))


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    network.to_empty(device="cpu")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()
                mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
                drawn = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(mean + _DEVIATION * drawn)
                assert module.bias is not None
                module.bias.zero_()


class PatchGenerator(nn.Module):
    """Adds to an image what its patches lack: image + tanh(convolutions of image + noise).

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        layers: 3×3 convolutions; the receptive field is 2·layers + 1 px.
        generator: Source of the initial weights.
    """

    def __init__(self, bands: int, channels: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            self.body = _blocks(bands, bands, channels, layers)
        _initialise(self, generator)
        self.layers = layers

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """(1, C, h, w) to the same shape, [−1, 1]; `noise` has the shape of the image; borders are filled with zeros.

        The noise is drawn for the borders too in the paper's code; here they are zero.
        """
        x = image if noise is None else image + noise
        padded = functional.pad(x, (self.layers,) * 4)
        residual: Tensor = self.body(padded)
        return image + torch.tanh(residual)


class Critic(nn.Module):
    """Scores every patch of an image of 2·layers + 1 px.

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        layers: 3×3 convolutions.
        generator: Source of the initial weights.
    """

    def __init__(self, bands: int, channels: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            self.body = _blocks(bands, 1, channels, layers)
        _initialise(self, generator)

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, h, w) to (1, 1, h − 2·layers, w − 2·layers)."""
        scores: Tensor = self.body(image)
        return scores


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, share: float) -> Tensor:
    """Mean squared deviation of the critic's gradient from length 1 between two images (Gulrajani et al., NIPS 2017).

    Args:
        critic: The critic.
        real: (1, C, h, w).
        fake: The same shape.
        share: Of `real` in the point at which the gradient is taken, [0, 1].
    """
    between = (share * real + (1 - share) * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (torch.linalg.vector_norm(gradient, dim=1) - 1).square().mean()
    return penalty


class SinGANUpscaler(TrainedUpscaler[SinGANConfig]):
    """Pyramid of GANs of the image's own patches: plausible detail rather than fidelity, slow (SinGAN, ICCV 2019)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = SinGANConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    needs_whole_image: ClassVar[bool] = True  # the sizes between LR and HR are fractions that tiles would round
    bytes_per_pixel: ClassVar[int] = 7_500  # HR, measured in the training on 250×250 px at ×2
    uses_kernel: ClassVar[bool] = False
    removes_noise: ClassVar[bool] = False  # its patches are those of the image, with their noise

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, px: that of the coarsest scale."""
        return SinGANConfig().min_size

    def _fit(self, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
        """Train the pyramid on an image; the model enlarges with the finest generator."""
        config, scale = self.config, degradation.scale
        part = source.window(*most_textured(source, spread_windows(source, config.max_size, 16), 1)[0])
        training = _Pyramid(part.detach().float(), scale, config)
        total = len(training.images) * config.iterations

        def step(number: int) -> dict[str, Tensor | float]:
            level, before = divmod(number - 1, config.iterations)
            if before == 0:
                training.begin(level)
            losses = training.step(before + 1)
            if before + 1 == config.iterations:
                training.finish()
            return {"scale": level, **losses}

        history = run_steps(step, total, stage=STAGE, report_every=config.report_every, listener=listener)
        finest = training.generators[-1]

        def predict(window: Tensor) -> Tensor:
            with torch.no_grad():
                return _enlarged(window, scale, finest)

        return TiledModel(scale=scale, predict=predict, whole_image=True, steps=total, history=history)


def _enlarged(lr: Tensor, scale: int, generator: PatchGenerator) -> Tensor:
    """Enlarge k times by s^(1/k), each time followed by the generator without noise (§4)."""
    height, width = lr.shape[-2:]
    count = enlargements(scale)
    x = 2 * lr.float() - 1
    for number in range(1, count + 1):
        size = tuple(round(side * scale ** (number / count)) for side in (height, width))
        x = generator(imresize(x, size=(size[0], size[1])))
    return ((x + 1) / 2).clamp(0, 1)


class _Pyramid:
    """The images of all scales, the trained generators, and the networks of the scale that is being trained."""

    generator: PatchGenerator
    critic: Critic

    def __init__(self, image: Tensor, scale: int, config: SinGANConfig) -> None:
        self.config, self._rng = config, seeded_generator(config.seed)
        self.sizes = pyramid_sizes(image.shape[-2], image.shape[-1], scale, config.min_size)
        centred = 2 * image - 1
        self.images = [imresize(centred, size=size) for size in self.sizes[:-1]] + [centred]
        self.generators: list[PatchGenerator] = []
        self.amplitudes: list[float] = []
        self._fixed = self._noise(0)  # z*, of the reconstruction

    def _noise(self, level: int) -> Tensor:
        image = self.images[level]
        # One plane for all bands at the coarsest scale, as in the authors' code.
        bands = 1 if level == 0 else image.shape[1]
        drawn = torch.randn((1, bands, *self.sizes[level]), generator=self._rng)
        return drawn.to(image.device).expand(-1, image.shape[1], -1, -1)

    def begin(self, level: int) -> None:
        """Make the networks of a scale, from those of the scale below where their widths agree."""
        config, image = self.config, self.images[level]
        channels = min(config.channels * 2 ** (level // 4), config.max_channels)
        before = (self.generator, self.critic) if level else None
        arguments = (image.shape[1], channels, config.layers, self._rng)
        self.generator, self.critic = PatchGenerator(*arguments), Critic(*arguments)
        if before is not None and channels == min(config.channels * 2 ** ((level - 1) // 4), config.max_channels):
            self.generator.load_state_dict(before[0].state_dict())
            self.critic.load_state_dict(before[1].state_dict())
        self.generator.to(image.device).train()
        self.critic.to(image.device).train()
        betas = (config.beta1, 0.999)
        self._optimisers = [
            Adam(network.parameters(), config.learning_rate, betas=betas) for network in (self.generator, self.critic)
        ]
        with torch.no_grad():
            self._reconstructed = self._chain(level, reconstruct=True)
            error = float((self._reconstructed - image).square().mean().sqrt())
        self.amplitudes.append(1.0 if level == 0 else config.noise * error)

    def _chain(self, level: int, *, reconstruct: bool) -> Tensor:
        """What the scales below give for this one, enlarged; zeros at the coarsest."""
        x = torch.zeros_like(self.images[0])
        for below, generator in enumerate(self.generators[:level]):
            x = imresize(generator(x, self._scaled_noise(below, reconstruct=reconstruct)), size=self.sizes[below + 1])
        return x

    def _scaled_noise(self, level: int, *, reconstruct: bool) -> Tensor | None:
        if reconstruct:
            return self._fixed * self.amplitudes[0] if level == 0 else None
        return self._noise(level) * self.amplitudes[level]

    def step(self, iteration: int) -> dict[str, Tensor]:
        """One iteration of a scale; returns the losses of its last steps."""
        config, level = self.config, len(self.generators)
        image = self.images[level]
        rate = config.learning_rate / (10 if iteration > config.rate_after else 1)
        for optimiser in self._optimisers:
            optimiser.learning_rate = rate
        losses = {}
        for _ in range(config.critic_steps):
            with torch.no_grad():
                below = self._chain(level, reconstruct=False)
                fake = self.generator(below, self._scaled_noise(level, reconstruct=False))
            share = float(torch.rand((), generator=self._rng))
            distance = self.critic(fake).mean() - self.critic(image).mean()
            penalty = gradient_penalty(self.critic, image, fake, share)
            self._optimisers[1].minimise(distance + config.penalty * penalty)
            losses["critic"] = distance.detach()
        for _ in range(config.generator_steps):
            fake = self.generator(below, self._scaled_noise(level, reconstruct=False))
            noise = self._scaled_noise(level, reconstruct=True)
            error = (self.generator(self._reconstructed, noise) - image).square().mean()
            adversarial = -self.critic(fake).mean()
            self._optimisers[0].minimise(adversarial + config.reconstruction * error)
            losses |= {"adversarial": adversarial.detach(), "reconstruction": error.detach()}
        return losses

    def finish(self) -> None:
        """Keep the generator of a scale as it is; its batch norms use their running statistics from then on."""
        self.generators.append(self.generator.eval().requires_grad_(requires_grad=False))
