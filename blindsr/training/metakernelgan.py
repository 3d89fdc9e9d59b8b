"""Meta-training of KernelGAN's networks: weights from which a few steps on an image suffice.

A task is one image, degraded by one random kernel. From the start, the networks are trained on it as they will be on a
photograph; then the distance of the resulting kernel from the true one trains the generator's start, and how well the
resulting discriminator tells crops that the true kernel made smaller from those of another kernel trains the
discriminator's. The derivative of the inner steps is left out (first-order MAML).

References:
    Lee, Venieris, Dudziak, Bhattacharya, Lane, WACV 2024, arXiv:2212.07886; Finn, Abbeel, Levine, "Model-Agnostic
    Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.meta import MetaKernelGANConfig, MetaTraining
from blindsr.kernelgan.networks import SCALE, Discriminator, Generator
from blindsr.kernels.flow import draw_gaussians
from blindsr.ops import degrade
from blindsr.runtime import check_finite

__all__ = ["MetaKernelGANTrainingConfig", "kernel_distance", "meta_train_kernelgan"]

_STAGE = "train-metakernelgan"
_BANDS = 3

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
        The averaged weights by name, as `blindsr.kernelgan.meta.save_start` writes them. The same arguments give the
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
    listener(StageStarted(stage=_STAGE, max_steps=config.steps))
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
            check_finite(sum(values.values()), step, _STAGE)
            if keep is not None:
                keep(average, step)
        listener(StepDone(stage=_STAGE, step=step, values=values))
    listener(StageDone(stage=_STAGE, steps=config.steps))
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
