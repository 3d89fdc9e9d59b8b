"""DIP-FKP: image and kernel from one image, the kernel by a normalising flow over Gaussians (Liang et al., CVPR 2021).

Liang, Zhang, Gu, Van Gool, Timofte, "Flow-based Kernel Prior with Application to Blind Super-Resolution", CVPR 2021,
arXiv:2103.15977, §3.4. The image is the output of a deep image prior, the kernel that of the flow for a point on a
sphere; the weights of the first and the point of the second are fitted together to the LR image. The flow was trained
on kernels alone (`blindsr.kernels.flow`).
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.events import Listener
from blindsr.kernels import Kernel
from blindsr.kernels.flow import SIDE, Latent, load_flow
from blindsr.ops import degrade
from blindsr.ops.adam import Adam
from blindsr.ops.windows import Source, whole
from blindsr.registry import check_minimum
from blindsr.runtime import Precision, seeded_generator
from blindsr.upscalers.base import Degradation, TiledModel, run_steps
from blindsr.upscalers.deep_prior.image_prior import (
    BlindDeepPrior,
    blind_prior,
    structural_similarity,
    whole_image_model,
)

__all__ = ["DIPFKPConfig", "DIPFKPUpscaler"]

STAGE = "dip-fkp"
_SCALE = 2  # of the flow's kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class DIPFKPConfig:
    """Settings of DIP-FKP (§4.1 of the paper, and the authors' code).

    Raises:
        ConfigError: A field is out of its bounds.
    """

    steps: int = 1000  # of image and kernel
    frozen_steps: int = 75  # first steps, in which the kernel stays as it began
    structural_steps: int = 80  # steps whose loss is 1 − SSIM; that of later ones is the mean squared error
    image_rate: float = 5e-3  # of Adam
    latent_rate: float = 0.5  # of Adam, for the point on the sphere
    radius: float = SIDE - 1.0  # of that sphere
    channels: int = 128  # of the image's network
    skip_channels: int = 16
    input_channels: int = 3  # of its noise
    precision: Precision = "auto"  # bf16 where the processor supports it natively
    seed: int = 0
    report_every: int = 25  # steps between two losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_minimum(self, STAGE, 1, "steps", "channels", "skip_channels", "input_channels", "report_every")
        if min(self.frozen_steps, self.structural_steps) < 0:
            raise ConfigError("dip-fkp.frozen_steps and structural_steps must be 0 or more.")
        if min(self.image_rate, self.latent_rate, self.radius) <= 0:
            raise ConfigError("dip-fkp.image_rate, latent_rate and radius must be positive.")


class DIPFKPUpscaler(BlindDeepPrior[DIPFKPConfig]):
    """Deep image prior whose kernel comes from a flow over Gaussians, fitted together (Liang et al., CVPR 2021)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = DIPFKPConfig
    scales: ClassVar[tuple[int, ...]] = (_SCALE,)

    def _fit(self, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
        """Fit image and kernel to all of an image; the model that is returned holds both."""
        config = self.config
        run = _Run(whole(source).detach(), config)
        history = run_steps(
            lambda number: {"loss": run.step(number)},
            config.steps,
            stage=STAGE,
            report_every=config.report_every,
            listener=listener,
        )
        with torch.no_grad():
            image, weights = run.prior.image(), run.kernel().double().cpu().numpy()
        kernel = Kernel.normalised(np.asarray(weights), _SCALE, {"made_by": self.name, "seed": config.seed})
        return whole_image_model(image, _SCALE, config.steps, history, run.prior.dtype, kernel)


class _Run:
    """The image's network, the kernel's point, and their optimisers."""

    def __init__(self, lr: Tensor, config: DIPFKPConfig) -> None:
        generator = seeded_generator(config.seed)
        self.lr, self.config = lr, config
        self.latent = Latent(config.radius, generator, lr)
        self.prior = blind_prior(lr, _SCALE, config, generator)
        self.flow = deepcopy(load_flow()).to(lr)  # the one that is kept stays as it is
        self.optimiser = Adam(self.latent.parameters(), config.latent_rate)

    def kernel(self) -> Tensor:
        """The kernel of the point, (14, 14): the zero row and column at its end are this package's convention."""
        return functional.pad(self.flow.kernel(self.latent.point), (0, 1, 0, 1))

    def step(self, step: int) -> Tensor:
        """Update the image, and after the first steps the kernel; returns the mean squared error before."""
        self.optimiser.clear()
        degraded = degrade(self.prior.image(), self.kernel(), _SCALE)
        error = (degraded - self.lr).square().mean()
        structural = step <= self.config.structural_steps
        self.prior.step(1 - structural_similarity(degraded, self.lr) if structural else error)
        if step > self.config.frozen_steps:
            self.optimiser.step()
            self.latent.project()
        return error.detach()
