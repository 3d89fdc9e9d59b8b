"""DKP: kernel and image from one image, without any training data (Yang et al., CVPR 2024).

Yang, Xia, Zhang et al., "A Dynamic Kernel Prior Model for Unsupervised Blind Image Super-Resolution", CVPR 2024,
arXiv:2404.15620. The image is the output of a deep image prior, the kernel that of a small network. In each round the
kernel network is drawn to random kernels, the more the better they explain the image at its present state (§3.2); then
the image is fitted to the kernel (§3.3), and the kernel to the image.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener
from blindsr.kernels import Kernel, gaussian
from blindsr.ops import degrade
from blindsr.ops.adam import Adam
from blindsr.ops.windows import Source, whole
from blindsr.registry import check_minimum
from blindsr.runtime import Precision, seeded_generator
from blindsr.upscalers.base import Degradation, TiledModel, run_steps
from blindsr.upscalers.deep_prior.image_prior import (
    BlindDeepPrior,
    blind_prior,
    roughness,
    structural_similarity,
    whole_image_model,
)

__all__ = ["DKPConfig", "DKPUpscaler", "random_kernels", "sample_weights"]

STAGE = "dkp"
_CODE, _HIDDEN = 200, 1000  # of the kernel network (§4.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DKPConfig:
    """Settings of DKP (§4.1 of the paper, and the authors' code).

    Raises:
        ConfigError: A field is out of its bounds.
    """

    steps: int = 1000  # of the image
    steps_per_round: int = 5  # of the image for one of the kernel's samples
    samples: int = 5  # random kernels of a round
    warm_up: int = 200  # steps of the kernel network on random kernels alone
    structural_rounds: int = 80  # rounds whose loss is 1 − SSIM; that of later ones is the mean squared error
    kernel_every: int = 3  # steps of the image over which the kernel's gradient is accumulated
    image_rate: float = 5e-3  # of Adam
    kernel_rate: float = 1e-4  # of Adam
    smoothness: float = 2e-4  # weight of the mean of |∇x|^0.67
    channels: int = 128  # of the image's network
    skip_channels: int = 16
    input_channels: int = 3  # of its noise
    precision: Precision = "auto"  # bf16 where the processor supports it natively
    seed: int = 0
    report_every: int = 5  # rounds between two losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_minimum(self, STAGE, 1, "steps", "steps_per_round", "samples", "kernel_every", "channels")
        check_minimum(self, STAGE, 1, "skip_channels", "input_channels", "report_every")
        if min(self.warm_up, self.structural_rounds) < 0 or self.smoothness < 0:
            raise ConfigError("dkp.warm_up, structural_rounds and smoothness must be 0 or more.")
        if min(self.image_rate, self.kernel_rate) <= 0:
            raise ConfigError("dkp.image_rate and kernel_rate must be positive.")

    @property
    def rounds(self) -> int:
        """Rounds of samples, image and kernel."""
        return -(-self.steps // self.steps_per_round)


def kernel_side(scale: int) -> int:
    """Side of the kernel: 4s + 3, 21 at most (§4.1), or one more where the rule for kernels asks for it."""
    side = min(4 * scale + 3, 21)
    return side + (side - scale) % 2


def random_kernels(rng: np.random.Generator, count: int, scale: int) -> Tensor:
    """Random anisotropic Gaussians, (count, K, K), sum 1: the samples of a round.

    Both variances are uniform from 0.175·s + s − 1 to min(2.5·s, 10) + s + 6 HR px², the angle from 0 to π (authors'
    code); for ×2 that is 1.35 to 13 HR px².
    """
    side = kernel_side(scale)
    low, high = 0.175 * scale + 3 + (scale - 4), min(2.5 * scale, 10.0) + 10 + (scale - 4)
    drawn = []
    for _ in range(count):
        first, second = rng.uniform(low, high, 2)
        angle = rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        array = gaussian((turn * np.array([first, second])) @ turn.T, scale).array
        margin = (len(array) - side) // 2
        array = array[margin : margin + side, margin : margin + side] if margin > 0 else np.pad(array, -margin)
        drawn.append(array / array.sum())
    return torch.from_numpy(np.stack(drawn)).float()


def sample_weights(errors: Tensor) -> Tensor:
    """Weights of the samples of a round from their squared errors, (L,): the few best of them count (§3.2).

    With p = (e − min e) / (Σ e + 10⁻⁵), the weight is −(1 − p)² · ln(p + 10⁻³).
    """
    share = (errors - errors.min()) / (errors.sum() + 1e-5)
    return -((1 - share) ** 2) * torch.log(share + 1e-3)


class _KernelNetwork(nn.Module):
    """Two linear layers and a softmax on a fixed code."""

    def __init__(self, side: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            layers = [nn.Linear(_CODE, _HIDDEN), nn.Linear(_HIDDEN, side * side)]
        self.layers = nn.ModuleList(layers)
        self.to_empty(device="cpu")
        with torch.no_grad():
            for layer in layers:
                for parameter in layer.parameters():
                    bound = layer.in_features**-0.5
                    parameter.copy_(bound * (2 * torch.rand(parameter.shape, generator=generator) - 1))
        self.register_buffer("code", 0.1 * torch.rand(_CODE, generator=generator))
        self.side = side

    def forward(self) -> Tensor:
        """The kernel, (K, K), non-negative, sum 1."""
        first, second = self.layers
        logits = second(functional.relu6(first(self.code)))
        return torch.softmax(logits, 0).reshape(self.side, self.side)


class DKPUpscaler(BlindDeepPrior[DKPConfig]):
    """Dynamic kernel prior: estimates its own kernel while it fits a deep image prior (Yang et al., CVPR 2024)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = DKPConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)

    def _fit(self, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
        """Fit image and kernel to all of an image; the model that is returned holds both."""
        config, scale = self.config, degradation.scale
        run = _Run(whole(source).detach(), scale, config)
        history = run_steps(
            lambda number: {"loss": run.round(number)},
            config.rounds,
            stage=STAGE,
            report_every=config.report_every,
            listener=listener,
        )
        with torch.no_grad():
            image, kernel = run.prior.image(), run.network().double().cpu().numpy()
        estimate = Kernel.normalised(kernel, scale, {"made_by": self.name})
        steps = config.rounds * config.steps_per_round
        return whole_image_model(image, scale, steps, history, run.prior.dtype, estimate)


class _Run:
    """Both networks and their optimisers."""

    def __init__(self, lr: Tensor, scale: int, config: DKPConfig) -> None:
        generator = seeded_generator(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.lr, self.scale, self.config = lr, scale, config
        self.prior = blind_prior(lr, scale, config, generator)
        self.network = _KernelNetwork(kernel_side(scale), generator).to(lr.device)
        self.optimiser = Adam(self.network.parameters(), config.kernel_rate)
        for _ in range(config.warm_up):
            self._kernel_step((self.network() - self._samples(1)[0]).square().mean())
        self._steps = 0

    def _samples(self, count: int) -> Tensor:
        return random_kernels(self.rng, count, self.scale).to(self.lr)

    def _kernel_step(self, loss: Tensor) -> None:
        self.optimiser.minimise(loss)

    def round(self, number: int) -> float:
        """One round; returns the mean squared error of its last step."""
        config = self.config
        samples = self._samples(config.samples)
        with torch.no_grad():
            image = self.prior.image()
            errors = torch.stack([self._error(image, kernel) for kernel in samples])
            weights = sample_weights(errors)
        distances = (self.network() - samples).square().mean((1, 2))
        self._kernel_step((weights * distances).sum())
        self.optimiser.clear()
        error = torch.tensor(0.0)
        for _ in range(config.steps_per_round):
            # One backward pass serves both: the kernel's gradient is accumulated over some steps of the image.
            image, kernel = self.prior.image(), self.network()
            degraded = degrade(image, kernel, self.scale)
            error = (degraded - self.lr).square().mean()
            loss = 1 - structural_similarity(degraded, self.lr) if number <= config.structural_rounds else error
            self.prior.step(loss + config.smoothness * roughness(image))
            self._steps += 1
            if self._steps % config.kernel_every == 0:
                self.optimiser.step()
                self.optimiser.clear()
        return float(error.detach())

    def _error(self, image: Tensor, kernel: Tensor) -> Tensor:
        return (degrade(image, kernel, self.scale) - self.lr).square().mean()
