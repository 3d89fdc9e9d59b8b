"""One run of KernelGAN: crops, networks, and what one step does to them."""

import math

import torch
from torch import Tensor

from blindsr.errors import DivergenceError
from blindsr.kernelgan import losses, schedule
from blindsr.kernelgan.adam import Adam
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.discriminator import Discriminator, Layers
from blindsr.kernelgan.extraction import TRAINED_SCALE
from blindsr.kernelgan.generator import Generator
from blindsr.kernelgan.sampling import crop_weights, draw_corners
from blindsr.ops import imresize

__all__ = ["Training"]


class Training:
    """Networks, optimisers, crops and the state of the schedule.

    No part of it needs autograd: the networks and the losses know their gradients.

    Args:
        lr: One image, (1, C, H, W), [0, 1]; left unchanged.
        config: Settings.

    Attributes:
        kernel: The generator's present kernel, (K, K).
        history: The losses of the steps that were reported.
    """

    @torch.inference_mode()
    def __init__(self, lr: Tensor, config: KernelGANConfig) -> None:
        self.config = config
        dtype = lr.dtype if lr.dtype in (torch.float32, torch.float64) else torch.float32
        self.image = lr[0].to(dtype) * 2 - 1
        self.bands, height, width = self.image.shape
        self.crop = min(config.crop_size, height // 2 * 2, width // 2 * 2)
        self.side = (self.crop - config.kernel_size) // TRAINED_SCALE + 1
        self.small = imresize(self.image[None], 1 / TRAINED_SCALE)[0]
        self.rng = torch.Generator(self.image.device).manual_seed(config.seed)
        self._draw_crops(torch.Generator().manual_seed(config.seed))
        self.generator = Generator(config, self.rng, self.image)
        self.discriminator = Discriminator(self.bands, config, self.rng, self.image)
        self.optimisers = [
            Adam(network.weights, network.gradient, config) for network in (self.generator, self.discriminator)
        ]
        self.mask = losses.boundaries_mask(config.kernel_size, config.boundaries_length, self.image)
        self.made = self.generator.compose()
        self.progress = schedule.start(config)
        self.values: dict[str, Tensor] = {}
        self.history: dict[str, list[float]] = {"step": []}

    @property
    def kernel(self) -> Tensor:
        """The generator's kernel, (K, K)."""
        return self.made[-1][0]

    def _draw_crops(self, rng: torch.Generator) -> None:
        """Draw every crop of the run; the generator's by the gradients that downscaling leaves."""
        rows, columns = (length // TRAINED_SCALE for length in self.image.shape[-2:])
        small = crop_weights(self.small[:, :rows, :columns], self.crop // TRAINED_SCALE)
        self.input_corners = draw_corners(small, self.config.iterations, rng)
        self.real_corners = draw_corners(crop_weights(self.image, self.side), self.config.iterations, rng)

    @torch.inference_mode()
    def step(self, step: int) -> dict[str, float]:
        """Update the generator, then the discriminator.

        Args:
            step: From 1.

        Returns:
            The losses, where the step is to be reported; else nothing.

        Raises:
            DivergenceError: A loss that is to be reported is not finite.
        """
        is_reported = step % self.config.report_every == 0 or step == self.config.iterations
        rate = schedule.learning_rate(step, self.config)
        looks, target = self._generator_crop(step)
        layers = self.discriminator.normalise()
        bicubic = self._train_generator(looks, target, layers, rate, is_reported)
        self._train_discriminator(looks, layers, step, rate, is_reported)
        self.progress = schedule.advance(self.progress, step, bicubic, self.config)
        return self._report(step) if is_reported else {}

    def _generator_crop(self, step: int) -> tuple[Tensor, Tensor]:
        """What every downscaled pixel looks at, (C·side², K²), and bicubic's answer, (1, C, side, side).

        A pixel's look is column by column: the transposed kernel's order.
        """
        top, left = self.input_corners[step - 1]
        size, side = self.config.kernel_size, self.side
        y, x = TRAINED_SCALE * top, TRAINED_SCALE * left
        crop = self.image[:, y : y + self.crop, x : x + self.crop]
        # First the columns' pieces under each row of kernels, then windows on these: both copy long runs.
        strips = crop.unfold(1, size, TRAINED_SCALE).reshape(self.bands, side, -1)
        looks = strips.unfold(2, size * size, TRAINED_SCALE * size).reshape(-1, size * size)
        # The first look is centred size // 2 (+ ½) px into the crop, which is size // 4 downscaled pixels.
        y, x = top + size // 4, left + size // 4
        return looks, self.small[None, :, y : y + side, x : x + side]

    def _downscale(self, looks: Tensor) -> Tensor:
        return (looks @ self.kernel.t().flatten()).view(1, self.bands, self.side, self.side)

    def _train_generator(
        self, looks: Tensor, target: Tensor, layers: Layers, rate: float, is_reported: bool
    ) -> float | None:
        """One step of the generator; the bicubic loss before it, as long as the schedule waits for it."""
        fake = self._downscale(looks)
        # Without noise here, a kernel of almost nothing is judged by a shape that the discriminator never sees.
        judged = self.discriminator.judge(self._noised(fake), layers)
        gradient = self.discriminator.backward_to_images(judged, layers, losses.adversarial_gradient(judged.maps))
        gradient = gradient.add_(losses.bicubic_gradient(fake, target), alpha=self.progress.weight_bicubic)
        by_kernel = (looks.t() @ gradient.flatten()).view_as(self.kernel).t().contiguous()
        self._add_gradients(by_kernel)
        bicubic = None if self.progress.is_released else float(losses.bicubic_loss(fake, target))
        if is_reported:
            self.values = self._values(judged.maps, fake, target)
        self.generator.backward(self.made, by_kernel)
        self.optimisers[0].step(rate)
        self.made = self.generator.compose()
        return bicubic

    def _add_gradients(self, gradient: Tensor) -> None:
        """Add the gradients of the losses that look at nothing but the kernel, (K, K), in place."""
        config, kernel = self.config, self.kernel
        gradient.add_(losses.sum_gradient(kernel), alpha=config.weight_sum)
        gradient.add_(losses.boundaries_gradient(kernel, self.mask), alpha=config.weight_boundaries)
        # Before it counts, the centre of mass of almost nothing is wild.
        if self.progress.is_late:
            gradient.add_(losses.centralised_gradient(kernel, TRAINED_SCALE), alpha=config.weight_centralised)
            gradient.add_(losses.sparsity_gradient(kernel, config.sparsity_power), alpha=config.weight_sparsity)

    def _values(self, judged: Tensor, fake: Tensor, target: Tensor) -> dict[str, Tensor]:
        kernel = self.kernel
        return {
            "adversarial": losses.adversarial_loss(judged),
            "bicubic": losses.bicubic_loss(fake, target),
            "sum": losses.sum_loss(kernel),
            "boundaries": losses.boundaries_loss(kernel, self.mask),
            "centralised": losses.centralised_loss(kernel, TRAINED_SCALE),
            "sparsity": losses.sparsity_loss(kernel, self.config.sparsity_power),
        }

    def _train_discriminator(self, looks: Tensor, layers: Layers, step: int, rate: float, is_reported: bool) -> None:
        top, left = self.real_corners[step - 1]
        real = self.image[None, :, top : top + self.side, left : left + self.side]
        crops = torch.cat((real, self._downscale(looks)))
        judged = self.discriminator.judge(self._noised(crops), layers)
        self.discriminator.backward_to_weights(judged, layers, losses.discriminator_gradient(judged.maps))
        self.optimisers[1].step(rate)
        if is_reported:
            self.values["discriminator"] = losses.discriminator_loss(judged.maps)

    def _noised(self, crops: Tensor) -> Tensor:
        noise = torch.randn(crops.shape, generator=self.rng, dtype=crops.dtype, device=crops.device)
        # The crops are in [−1, 1], the noise is given for [0, 1].
        return crops.add(noise, alpha=2 * self.config.discriminator_noise)

    def _report(self, step: int) -> dict[str, float]:
        """The step's losses, checked and kept."""
        values = {name: float(value) for name, value in self.values.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise DivergenceError(
                    f"KernelGAN needs finite losses, its {name} loss is {value} at step {step}; try another "
                    f"seed or a learning_rate under {self.config.learning_rate:g}."
                )
        self.history["step"].append(float(step))
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)
        return values
