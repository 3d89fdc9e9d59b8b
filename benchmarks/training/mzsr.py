"""Meta-training of MZSR's start (§3): weights from which a few gradient steps on an image suffice.

Stage 1 (§3.2, large-scale training) trains the network on pairs of random kernels. Stage 2 (§3.3, meta-transfer
learning) is MAML: in each task, one kernel, some gradient steps are made on the pairs of LR patches and their sons, as
they will be made on an image; the loss of the resulting weights on the pairs of HR and LR patches trains the start.

Departures from the paper: the derivative of the inner steps is left out (first-order MAML); the steps are made on LR
patches and their sons, as in the test, and not on HR patches; their number is drawn for each task, which has the mean
of the paper's weighted sum over the steps and one evaluation instead of all; stage 1 sees the kernels of stage 2.

References:
    Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel, gaussian
from blindsr.ops import degrade, dihedral
from blindsr.runtime import Precision, check_finite, choose_dtype, seeded_generator
from blindsr.upscalers.mzsr.upscaler import MZSRNetwork, Weights, apply_network, enlarged, inner_steps

__all__ = ["MetaTrainingConfig", "meta_train", "random_kernel"]

DrawPatch = Callable[[np.random.Generator, int], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTrainingConfig:
    """Settings of the meta-training; sides are of HR patches in px. The paper's values are given where others are used.

    Raises:
        ConfigError: A field is out of its bounds.
    """

    scale: int = 2
    first_steps: int = 2000  # of stage 1; the paper has some 100,000
    first_batch: int = 6  # patches per step of stage 1
    first_side: int = 64
    first_rate: float = 5e-4  # Adam, a cosine to a tenth
    warm_up: int = 200  # steps of stage 1 over which its rate rises; without them the ReLUs may die
    steps: int = 2000  # tasks of stage 2; the paper has 100,000 steps of 5 tasks
    patches: int = 2  # of a task; the paper has 8 and other 8
    side: int = 96  # the paper has 64
    rate: float = 1e-4  # Adam, §4
    final_rate: float = 2e-5
    inner_rate: float = 1e-2  # §4
    max_inner_steps: int = 10  # their number is drawn from 1 to this; the paper has 5
    min_variance: float = 0.2  # HR px²; the paper has 1, without kernels as sharp as the bicubic one
    max_variance: float = 2.5  # times the scale, HR px² (§4)
    average_decay: float = 0.99  # of the moving average of the weights, which is the result
    precision: Precision = "auto"
    seed: int = 0
    report_every: int = 50

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.side % self.scale**2 or self.first_side % self.scale:
            raise ConfigError(
                f"side must be a multiple of scale² and first_side of the scale {self.scale}, "
                f"got {self.side} and {self.first_side}."
            )
        if self.warm_up < 1:
            raise ConfigError(f"warm_up must be 1 or more, got {self.warm_up}.")
        if min(self.first_steps, self.steps) < 0 or self.first_steps + self.steps < 1:
            raise ConfigError("a meta-training needs steps.")


def random_kernel(rng: np.random.Generator, config: MetaTrainingConfig) -> Kernel:
    """A Gaussian kernel: σ1 ~ U(min, max) and σ2 ~ U(min, σ1) along its axes, angle ~ U(0, π).

    The bounds are those of the variances in §4, which the paper draws uniformly: as sharp a kernel as the bicubic one
    would then be rare.
    """
    low, high = math.sqrt(config.min_variance), math.sqrt(config.max_variance * config.scale)
    first = rng.uniform(low, high)
    second, angle = rng.uniform(low, first), rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return gaussian((turn * np.array([first, second]) ** 2) @ turn.T, config.scale)


def meta_train(
    draw: DrawPatch,
    config: MetaTrainingConfig | None = None,
    *,
    start: Weights | None = None,
    keep: Callable[[Mapping[str, Tensor], int], object] | None = None,
    listener: Listener = ignore,
) -> dict[str, Tensor]:
    """Train a start for MZSR.

    Args:
        draw: Returns an HR patch, (3, side, side), [0, 1], given a random generator and the side.
        config: Settings.
        start: Weights that stage 2 begins with, without stage 1.
        keep: Gets the averaged weights and the number of the step at every report, to store them.
        listener: Receives the events of the stages "mzsr stage 1" and "mzsr stage 2".

    Returns:
        The weights by name. The same arguments give the same bits on one machine with one number of threads.

    Raises:
        ConfigError: A setting is out of its bounds.
        DivergenceError: The loss became NaN or infinite.
    """
    config = MetaTrainingConfig() if config is None else config
    network = MZSRNetwork(seeded_generator(config.seed)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start is not None:
        network.load_state_dict(dict(start))
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    for stage, steps in (
        ("mzsr stage 1", 0 if start is not None else config.first_steps),
        ("mzsr stage 2", config.steps),
    ):
        is_first = stage.endswith("1")
        optimiser = torch.optim.Adam(network.parameters(), lr=config.first_rate if is_first else config.rate)
        listener(StageStarted(stage=stage, max_steps=steps))
        recent: list[float] = []
        for step in range(1, steps + 1):
            rng = np.random.default_rng([config.seed, int(is_first), step])
            for group in optimiser.param_groups:
                warm = min(1.0, step / config.warm_up) if is_first else 1.0
                group["lr"] = warm * _rate(step / steps, config, is_first=is_first)
            optimiser.zero_grad(set_to_none=True)
            recent.append((_first_step if is_first else _task)(network, draw, rng, config))
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            decay = min(config.average_decay, step / (step + 10))
            with torch.no_grad():
                for name, value in network.named_parameters():
                    average[name].lerp_(value, 1 - decay)
            values = {}
            if step % config.report_every == 0 or step == steps:
                values = {"loss": sum(recent) / len(recent)}
                check_finite(values["loss"], step, stage)
                recent = []
                if keep is not None:
                    keep(average, step)
            listener(StepDone(stage=stage, step=step, values=values))
        listener(StageDone(stage=stage, steps=steps))
    return average


def _rate(progress: float, config: MetaTrainingConfig, *, is_first: bool) -> float:
    high, low = (config.first_rate, config.first_rate / 10) if is_first else (config.rate, config.final_rate)
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))


def _patches(draw: DrawPatch, rng: np.random.Generator, count: int, side: int) -> Tensor:
    patches = [dihedral(draw(rng, side)[None], int(rng.integers(8))) for _ in range(count)]
    return torch.cat(patches).contiguous()


def _rounded(image: Tensor) -> Tensor:
    return torch.round(image.clamp(0, 1) * 255) / 255


def _first_step(network: MZSRNetwork, draw: DrawPatch, rng: np.random.Generator, config: MetaTrainingConfig) -> float:
    """One step of stage 1: a kernel for each patch."""
    hr = _patches(draw, rng, config.first_batch, config.first_side)
    sources = []
    for patch in hr:
        kernel = random_kernel(rng, config)
        sources.append(enlarged(_rounded(degrade(patch[None], kernel.tensor(patch), config.scale)), kernel))
    dtype = choose_dtype(config.precision, hr.device)
    weights = dict(network.named_parameters())
    loss = (apply_network(network, weights, torch.cat(sources), dtype) - hr).abs().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _task(network: MZSRNetwork, draw: DrawPatch, rng: np.random.Generator, config: MetaTrainingConfig) -> float:
    """One task of stage 2: gradient steps on sons, then the gradient of the loss on HR patches, given to the start."""
    hr = _patches(draw, rng, config.patches, config.side)
    kernel = random_kernel(rng, config)
    lr = _rounded(degrade(hr, kernel.tensor(hr), config.scale))
    son = degrade(lr, kernel.tensor(hr), config.scale)
    dtype = choose_dtype(config.precision, hr.device)
    count = int(rng.integers(1, config.max_inner_steps + 1))
    parameters = dict(network.named_parameters())
    adapted, _ = inner_steps(network, parameters, lr, enlarged(son, kernel), (config.inner_rate,) * count, dtype)
    loss = (apply_network(network, adapted, enlarged(lr, kernel), dtype) - hr).abs().mean()
    for parameter, gradient in zip(parameters.values(), torch.autograd.grad(loss, list(adapted.values())), strict=True):
        parameter.grad = gradient
    return float(loss.detach())
