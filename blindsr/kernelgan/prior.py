"""KernelGAN-FKP: KernelGAN's discriminator, and a generator whose kernel comes from the flow prior.

Nothing but a point on a sphere is trained in the generator; the flow turns it into a kernel, which needs no further
losses.

References:
    Liang, Zhang, Gu, Van Gool, Timofte, CVPR 2021, arXiv:2103.15977, §3.4: [P]. [O] chosen here.
"""

import math
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from blindsr import kernels
from blindsr.kernelgan import losses
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.estimator import GANEstimator, Training
from blindsr.kernelgan.networks import Layers
from blindsr.kernelgan.postprocess import to_scale
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.flow import SIDE, Latent, load_flow
from blindsr.ops.adam import Adam
from blindsr.registry import check_minimum, check_setting

__all__ = ["FKPConfig", "FlowTraining", "KernelGANFKPEstimator"]

STAGE = "kernelgan-fkp"


@dataclass(frozen=True, slots=True, kw_only=True)
class FKPConfig:
    """Settings of KernelGAN-FKP. The critic is KernelGAN's [O]; the paper's has five layers of 32 channels.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    iterations: int = 1000  # steps: one update of the latent and of the discriminator in each [O]
    latent_rate: float = 0.005  # of the latent at the start; it falls to a tenth by a cosine; the paper's is 5e-4 [O]
    discriminator_rate: float = 2e-4  # learning rate of the discriminator, as KernelGAN's
    averaged_share: float = 0.4  # share of the steps, the last ones, whose kernels are averaged [O]
    report_every: int = 50  # steps between two reports of the losses
    seed: int = 0  # seed of the crops, the latent, the discriminator and the noise

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_minimum(self, STAGE, 1, "iterations", "report_every")
        check_minimum(self, STAGE, 0, "seed")
        for name in ("latent_rate", "discriminator_rate", "averaged_share"):
            check_setting(self, STAGE, name, 0 < getattr(self, name) <= 1, "above 0 and up to 1")

    @property
    def critic(self) -> KernelGANConfig:
        """The settings of KernelGAN that hold for the discriminator and the crops."""
        return KernelGANConfig(
            iterations=self.iterations,
            seed=self.seed,
            report_every=self.report_every,
            learning_rate=self.discriminator_rate,
            learning_rate_every=self.iterations,
        )


class KernelGANFKPEstimator(GANEstimator[FKPConfig]):
    """KernelGAN whose kernel comes from a normalising flow over Gaussian kernels (Liang et al., CVPR 2021)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = FKPConfig
    kernel_error: ClassVar[float] = 0.06

    def _networks(self) -> KernelGANConfig:
        return self.config.critic

    def _training(self, lr: Tensor) -> "FlowTraining":
        return FlowTraining(lr, self.config)

    def _estimate_of(self, training: "FlowTraining", scale: int) -> KernelEstimate:
        """The mean kernel of the last steps."""
        weights = training.mean_kernel().double().cpu().numpy()
        padded = Kernel.normalised(np.pad(weights, (0, 1)), 2, {"made_by": STAGE, "seed": self.config.seed})
        return KernelEstimate(
            kernel=to_scale(kernels.centre(padded), scale),
            method=STAGE,
            settings=asdict(self.config),
            history={name: tuple(values) for name, values in training.history.items()},
            metrics={"adversarial": training.history["adversarial"][-1]},
        )


class FlowTraining(Training):
    """KernelGAN's training with the flow's kernel as its generator.

    Args:
        lr: One image, (1, C, H, W), [0, 1]; left unchanged.
        config: Settings.
    """

    @torch.inference_mode(False)
    @torch.enable_grad()
    def __init__(self, lr: Tensor, config: FKPConfig) -> None:
        super().__init__(lr, config.critic)
        self.settings = config
        self.flow = deepcopy(load_flow()).to(self.image)  # the one that is kept stays as it is
        self.latent = Latent(SIDE, torch.Generator().manual_seed(config.seed), self.image)
        self._optimisers[self.latent] = Adam(self.latent.parameters(), config.latent_rate)
        self.kernel = self.flow.kernel(self.latent.point)
        self.total = torch.zeros_like(self.kernel)
        self.done = self.steps = 0

    def mean_kernel(self) -> Tensor:
        """The mean of the kernels of the last steps, (SIDE, SIDE)."""
        return self.total / self.steps

    def _train_generator(
        self, crop: Tensor, target: Tensor, layers: Layers, rate: float, is_reported: bool
    ) -> dict[str, Tensor]:
        """Update the latent by the adversarial loss alone."""
        fake = self._downscale(crop)
        adversarial = losses.adversarial_loss(self.discriminator(self._noised(fake), layers))
        bicubic = losses.bicubic_loss(fake.detach(), target)
        progress = self.done / self.settings.iterations
        falling = 0.55 + 0.45 * math.cos(math.pi * progress)
        self._update(self.latent, adversarial, self.settings.latent_rate * falling)
        self.latent.project()
        self.kernel = self.flow.kernel(self.latent.point)
        self.done += 1
        if self.done > self.settings.iterations * (1 - self.settings.averaged_share):
            self.total, self.steps = self.total + self.kernel.detach(), self.steps + 1
        return {"adversarial": adversarial.detach(), "bicubic": bicubic}
