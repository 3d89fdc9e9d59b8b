"""MetaKernelGAN: KernelGAN whose networks begin with weights that were meta-trained for a few steps on any image.

It is not part of the package, and no weights are shipped: a meta-training that one core can do did not pay
(docs/notes/2026-11-29-metakernelgan.md).

In the meta-training a task is one image, degraded by one random kernel. From the start, the networks are trained on it
as they will be on a photograph; then the distance of the resulting kernel from the true one trains the generator's
start, and how well the resulting discriminator tells crops that the true kernel made smaller from those of another
kernel trains the discriminator's. The derivative of the inner steps is left out (first-order MAML).

References:
    Lee, Venieris, Dudziak, Bhattacharya, Lane, "Meta-Learned Kernel For Blind Super-Resolution Kernel Estimation", WACV
    2024, arXiv:2212.07886: [P]. [O] chosen here. Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast
    Adaptation of Deep Networks", ICML 2017.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.estimator import GANEstimator, Training
from blindsr.kernelgan.networks import SCALE, Discriminator, Generator
from blindsr.ops import degrade
from blindsr.runtime import check_finite

from .flow import draw_gaussians

__all__ = [
    "MetaKernelGANConfig", "MetaKernelGANEstimator", "MetaKernelGANTrainingConfig", "MetaTraining", "kernel_distance",
    "load_start", "meta_train_kernelgan", "save_start",
]  # fmt: skip

STAGE = "metakernelgan"
_BANDS = 3  # of the images of the meta-training


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaKernelGANConfig:
    """Settings of MetaKernelGAN on an image.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    start: Path | None = None  # meta-trained weights, as benchmarks/metakernelgan.py makes them; none are shipped
    iterations: int = 200  # steps on the image [P]
    generator_rate: float = 0.01  # of gradient descent for the generator at the start [P]
    discriminator_rate: float = 0.2  # for the discriminator [P]
    rate_after: int = 50  # steps after which both rates are divided by ten [P]
    weight_sum: float = 0.5  # of |1 − Σk|, as KernelGAN's
    weight_boundaries: float = 0.5  # of the weights near the border, as KernelGAN's
    report_every: int = 25  # steps between two reports of the losses
    seed: int = 0  # seed of the crops and the noise

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("iterations", "rate_after", "report_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{STAGE}.{name} must be 1 or more, got {getattr(self, name)}.")
        for name in ("generator_rate", "discriminator_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{STAGE}.{name} must be above 0 and up to 1, got {getattr(self, name)}.")
        for name in ("weight_sum", "weight_boundaries", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{STAGE}.{name} must be 0 or more, got {getattr(self, name)}.")

    @property
    def kernelgan(self) -> KernelGANConfig:
        """The settings of KernelGAN that hold for networks, crops and losses: without the bicubic and the late ones."""
        return KernelGANConfig(
            iterations=self.iterations,
            seed=self.seed,
            report_every=self.report_every,
            weight_bicubic=0.0,
            weight_sum=self.weight_sum,
            weight_boundaries=self.weight_boundaries,
            clean_up_share=0.0,
        )


class MetaTraining(Training):
    """KernelGAN's training from a start.

    Args:
        lr: One image, (1, C, H, W), [0, 1]; left unchanged.
        config: Settings.
        start: Weights of both networks by name, as of `load_start`, for images of three bands. For another number of
            bands, the filters of the discriminator get the mean over the bands.
    """

    @torch.inference_mode(False)
    @torch.enable_grad()
    def __init__(self, lr: Tensor, config: MetaKernelGANConfig, start: Mapping[str, Tensor]) -> None:
        super().__init__(lr, config.kernelgan)
        self.settings, self.done = config, 0
        networks: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        with torch.no_grad():
            for name, network in networks.items():
                for key, parameter in network.named_parameters():
                    value = start[f"{name}.{key}"].to(parameter)
                    if value.shape != parameter.shape:  # the first layer, of another number of bands
                        mean = value.view(len(value), _BANDS, -1).mean(1, keepdim=True) * _BANDS / len(self.image)
                        value = mean.expand(-1, len(self.image), -1).reshape(parameter.shape)
                    parameter.copy_(value)
            self.discriminator.converge()
        self.kernel = self.generator.kernel()

    def discriminator_loss_with_truth(self, step: int, truth: Tensor, wrong: Tensor) -> Tensor:
        """The discriminator's loss on the crops of a step where the true kernel is known, for the meta-training.

        Crops of the image and crops that the true kernel made smaller are real, those of another kernel are fake.

        Args:
            step: Number of the step, from 1.
            truth: (K, K).
            wrong: (K, K).

        Returns:
            A tensor without axes, differentiable by the discriminator's weights.
        """
        crop, _ = self._input_crop(step)
        top, left = self.real_corners[step - 1]
        real = self.image[None, :, top : top + self.side, left : left + self.side]
        smaller = [
            functional.conv2d(crop, k[None, None].to(crop), stride=SCALE).transpose(0, 1) for k in (truth, wrong)
        ]
        maps = self.discriminator(self._noised(torch.cat([real, *smaller])), self.discriminator.normalise())
        loss: Tensor = 0.25 * (1 - maps[0].mean()) + 0.25 * (1 - maps[1].mean()) + 0.5 * maps[2].mean()
        return loss

    def _update(self, network: nn.Module, loss: Tensor, rate: float) -> None:
        config = self.settings
        rate = config.generator_rate if network is self.generator else config.discriminator_rate
        rate = rate if self.done < config.rate_after else rate / 10
        # Not by Adam, whose first steps have the full rate whatever the gradient is: they take the sum of the weights
        # far from 1.
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=rate)
        self.done += network is self.discriminator  # which is updated last


class MetaKernelGANEstimator(GANEstimator[MetaKernelGANConfig]):
    """KernelGAN from meta-trained weights, which needs 200 steps instead of 3000 (Lee et al., WACV 2024)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = MetaKernelGANConfig
    kernel_error: ClassVar[float] = 0.05

    def _networks(self) -> KernelGANConfig:
        if self.config.start is None:
            raise ConfigError(
                "MetaKernelGAN needs meta-trained weights, and none are part of blindsr; set start to a file that "
                "`python benchmarks/metakernelgan.py train` made."
            )
        return self.config.kernelgan

    def _training(self, lr: Tensor) -> MetaTraining:
        assert self.config.start is not None
        return MetaTraining(lr, self.config, load_start(self.config.start))


def load_start(path: Path) -> dict[str, Tensor]:
    """The weights of both networks by name.

    Raises:
        ConfigError: The file cannot be read, or holds other weights.
    """
    try:
        weights = dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{STAGE}.start must be a file of meta-trained weights, {path} is none: {error}.") from error
    rng, like = torch.Generator(), torch.zeros(())
    generator = Generator(KernelGANConfig(), rng, like)
    discriminator = Discriminator(_BANDS, KernelGANConfig(), rng, like)
    networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    expected = {f"{name}.{key}": p.shape for name, net in networks.items() for key, p in net.named_parameters()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise ConfigError(f"{STAGE}.start must hold the weights of KernelGAN's two networks, {path} holds others.")
    return weights


def save_start(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights in half precision."""
    save_file({name: value.detach().half().contiguous() for name, value in weights.items()}, path)


# ---------------------------------------------------------------------------------------------------- meta-training

_TRAINING_STAGE = "train-metakernelgan"

DrawPatch = Callable[[np.random.Generator, int], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaKernelGANTrainingConfig:
    """Settings of the meta-training. The paper's values are given where others are used.

    Raises:
        ConfigError: A field is out of its bounds.
    """

    steps: int = 1500  # of the start; the paper has 100,000
    tasks: int = 2  # of a step
    warm_up: int = 300  # steps of the generator towards random kernels, without images; the paper has none
    side: int = 192  # of the HR patches, px
    rate: float = 1e-4  # of Adam, as the paper's, falling to a tenth by a cosine
    warm_up_rate: float = 1e-3
    inner: MetaKernelGANConfig = field(  # steps on a task; the paper has 25 as well
        default_factory=lambda: MetaKernelGANConfig(iterations=25, rate_after=25, report_every=25)
    )
    average_decay: float = 0.99  # of the moving average of the weights, which is the result
    seed: int = 0
    report_every: int = 25

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("steps", "tasks", "report_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of the meta-training must be 1 or more, got {getattr(self, name)}.")
        if self.warm_up < 0 or self.side < 96 or self.side % SCALE:
            raise ConfigError(
                f"warm_up must be 0 or more, side even and 96 px or more, got {self.warm_up} and {self.side}."
            )


def kernel_distance(kernel: Tensor, truth: Tensor) -> Tensor:
    """Squared distance of two kernels over the squared norm of the second.

    Args:
        kernel: (K, K), of any sum.
        truth: (K, K), sum 1.

    Returns:
        A tensor without axes.
    """
    return (kernel - truth).square().sum() / truth.square().sum()


def meta_train_kernelgan(
    draw: DrawPatch,
    config: MetaKernelGANTrainingConfig | None = None,
    *,
    keep: Callable[[Mapping[str, Tensor], int], object] | None = None,
    listener: Listener = ignore,
) -> dict[str, Tensor]:
    """Train a start for MetaKernelGAN.

    Args:
        draw: Returns an HR patch, (3, side, side), [0, 1], given a random generator and the side.
        config: Settings.
        keep: Gets the averaged weights and the number of the step at every report, to store them.
        listener: Receives a `StepDone` for every step, with the mean losses at every report: `before` and `after`, the
            kernel's distance from the true one before and after the inner steps, and `discriminator`.

    Returns:
        The averaged weights by name, as `save_start` writes them. The same arguments give the
        same bits on one machine with one number of threads.

    Raises:
        DivergenceError: A loss became NaN or infinite.
    """
    config = MetaKernelGANTrainingConfig() if config is None else config
    generator = torch.Generator().manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    networks = {
        "generator": Generator(KernelGANConfig(), generator, torch.zeros(())),
        "discriminator": Discriminator(_BANDS, KernelGANConfig(), generator, torch.zeros(())),
    }
    start = {f"{name}.{key}": p for name, network in networks.items() for key, p in network.named_parameters()}
    _warm_up(networks["generator"], config, generator)
    average = {name: value.detach().clone() for name, value in start.items()}
    optimiser = torch.optim.Adam(start.values(), lr=config.rate, betas=(0.9, 0.99))
    sums: dict[str, float] = {}
    listener(StageStarted(stage=_TRAINING_STAGE, max_steps=config.steps))
    for step in range(1, config.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * (0.55 + 0.45 * math.cos(math.pi * step / config.steps))
        gradients = {name: torch.zeros_like(value) for name, value in start.items()}
        for task in range(config.tasks):
            losses = _task(draw, start, gradients, config, rng, generator, config.tasks * step + task)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss / config.tasks / config.report_every
        for name, value in start.items():
            value.grad = gradients[name]
        torch.nn.utils.clip_grad_norm_(networks["generator"].parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(networks["discriminator"].parameters(), 1.0)
        optimiser.step()
        decay = min(config.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in start.items():
                average[name].lerp_(value, 1 - decay)
        values = {}
        if step % config.report_every == 0:
            values, sums = sums, {}
            check_finite(sum(values.values()), step, _TRAINING_STAGE)
            if keep is not None:
                keep(average, step)
        listener(StepDone(stage=_TRAINING_STAGE, step=step, values=values))
    listener(StageDone(stage=_TRAINING_STAGE, steps=config.steps))
    return average


def _warm_up(network: torch.nn.Module, config: MetaKernelGANTrainingConfig, generator: torch.Generator) -> None:
    """Bring the generator's kernel to the mean of the random ones."""
    assert isinstance(network, Generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.warm_up_rate)
    for _ in range(config.warm_up):
        truth = draw_gaussians(16, generator).mean(0)
        optimiser.zero_grad(set_to_none=True)
        kernel_distance(network.kernel(), truth).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _task(
    draw: DrawPatch,
    start: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    config: MetaKernelGANTrainingConfig,
    rng: np.random.Generator,
    generator: torch.Generator,
    seed: int,
) -> dict[str, float]:
    """Train on one task, add its gradients for the start, and return its losses."""
    truth = draw_gaussians(1, generator)[0]
    hr = draw(rng, config.side)[None]
    lr = (degrade(hr, functional.pad(truth, (0, 1, 0, 1)), SCALE).clamp(0, 1) * 255).round() / 255
    training = MetaTraining(lr, replace(config.inner, seed=seed), start)
    before = float(kernel_distance(training.kernel.detach(), truth))
    for step in range(1, config.inner.iterations + 1):
        training.step(step)
    distance = kernel_distance(training.kernel, truth)
    wrong = draw_gaussians(1, generator)[0]
    discriminator_loss = training.discriminator_loss_with_truth(
        int(rng.integers(config.inner.iterations)) + 1, truth, wrong
    )
    for name, network, loss in (
        ("generator", training.generator, distance),
        ("discriminator", training.discriminator, discriminator_loss),
    ):
        found = torch.autograd.grad(loss, list(network.parameters()))
        for (key, _), gradient in zip(network.named_parameters(), found, strict=True):
            gradients[f"{name}.{key}"].add_(gradient, alpha=1 / config.tasks)
    return {"before": before, "after": float(distance.detach()), "discriminator": float(discriminator_loss.detach())}
