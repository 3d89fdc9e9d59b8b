"""KernelGAN: the training on crops of one image, and the estimate of its kernel.

A deep linear generator downscales crops of the image; a discriminator learns to distinguish the patches of the result
from the patches of the image. The kernel of the generator is the estimate.
"""

import math
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr import kernels
from blindsr.errors import DivergenceError, ImageError
from blindsr.estimators.base import ConfigT, ConfiguredEstimator, flat_estimate, is_flat
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernelgan import losses
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.networks import SCALE, Discriminator, Generator, Layers
from blindsr.kernelgan.postprocess import SCALES, check_scale, to_kernel, to_scale
from blindsr.kernels import KernelEstimate
from blindsr.ops import imresize
from blindsr.ops.adam import Adam

__all__ = [
    "GANEstimator",
    "KernelGANEstimator",
    "Training",
    "check_kernelgan_image",
    "crop_weights",
    "draw_corners",
    "gradient_magnitude",
    "min_side",
    "to_estimate",
]

# The weights of full runs sum to 1 within 0.001, of short runs within 0.3; of a collapsed generator, to almost 0.
_SUM_TOLERANCE = 0.5


def min_side(config: KernelGANConfig) -> int:
    """The smallest image side, px: the discriminator then sees two patches along each axis."""
    return config.kernel_size + SCALE * (2 * config.discriminator_patch - 1)


class GANEstimator(ConfiguredEstimator[ConfigT]):
    """Base of the estimators that train KernelGAN's networks on crops of one image.

    Args:
        config: Settings; the defaults of `config_type` if None.
    """

    scales: ClassVar[tuple[int, ...]] = SCALES
    min_side: ClassVar[int] = min_side(KernelGANConfig())

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate the downscaling kernel between an image and a version of it that is `scale` times as large.

        The training is for ×2; the kernel for ×4 is the kernel for ×2 composed with itself, the one for ×3 follows the
        same law (cov ∝ s² − 1).

        Args:
            lr: One image, (1, C, H, W), [0, 1], any number of bands, sides of `min_side(config)` px or more (39 with
                the defaults); left unchanged. The training runs on its device and in its dtype (float32 for half
                precision).
            scale: 2, 3 or 4.
            listener: Receives an event for every step, with the losses every `config.report_every` steps.

        Returns:
            The kernel, centred and non-negative, with the history of the losses and metrics. A flat image gets the
            bicubic kernel and a warning.

        Raises:
            ConfigError: `scale` is none of 2, 3, 4, or the settings lack something.
            ImageError: `lr` is not one finite floating-point image, or is too small.
            DivergenceError: A loss is NaN or infinite.
        """
        config: Any = self.config
        check_scale(scale)
        check_kernelgan_image(lr, self._networks())
        listener(StageStarted(stage=self.name, max_steps=config.iterations))
        if is_flat(lr):
            return flat_estimate(self.name, scale, asdict(config), listener)
        training = self._training(lr)
        for step in range(1, config.iterations + 1):
            listener(StepDone(stage=self.name, step=step, values=training.step(step)))
        listener(StageDone(stage=self.name, steps=config.iterations))
        return self._estimate_of(training, scale)

    def _networks(self) -> KernelGANConfig:
        """The settings of KernelGAN that hold for networks and crops."""
        raise NotImplementedError

    def _training(self, lr: Tensor) -> "Training":
        raise NotImplementedError

    def _estimate_of(self, training: Any, scale: int) -> KernelEstimate:  # noqa: ANN401 - what `_training` returned
        """The estimate of a finished training: that of its raw kernel."""
        return to_estimate(training, scale, self.name, asdict(self.config))  # type: ignore[call-overload]


class KernelGANEstimator(GANEstimator[KernelGANConfig]):
    """Internal GAN on the image's patches, as published (Bell-Kligler et al., NeurIPS 2019)."""

    name: ClassVar[str] = "kernelgan"
    config_type: ClassVar[type] = KernelGANConfig
    kernel_error: ClassVar[float] = 0.04

    def _networks(self) -> KernelGANConfig:
        return self.config

    def _training(self, lr: Tensor) -> "Training":
        return Training(lr, self.config)


class Training:
    """Networks, optimisers, crops and the state of the losses of one run.

    A caller's `torch.no_grad` or `torch.inference_mode` has no effect on it.

    Args:
        lr: One image, (1, C, H, W), [0, 1]; left unchanged.
        config: Settings.

    Attributes:
        kernel: The generator's current kernel, (K, K).
        history: Reported losses by name, with the steps at which they were reported.
    """

    @torch.inference_mode(False)
    @torch.enable_grad()
    def __init__(self, lr: Tensor, config: KernelGANConfig) -> None:
        self.config = config
        dtype = lr.dtype if lr.dtype in (torch.float32, torch.float64) else torch.float32
        self.image = lr.detach()[0].to(dtype) * 2 - 1
        self.bicubic = imresize(self.image[None], 1 / SCALE)[0]
        _, height, width = self.image.shape
        self.crop = min(config.crop_size, height // 2 * 2, width // 2 * 2)
        self.side = (self.crop - config.kernel_size) // SCALE + 1
        self._draw_crops(torch.Generator().manual_seed(config.seed))
        self.rng = torch.Generator(self.image.device).manual_seed(config.seed)
        self.generator = Generator(config, self.rng, self.image)
        self.discriminator = Discriminator(len(self.image), config, self.rng, self.image)
        networks: tuple[nn.Module, ...] = (self.generator, self.discriminator)
        betas = (config.beta1, config.beta2)
        self._optimisers = {net: Adam(net.parameters(), config.learning_rate, betas=betas) for net in networks}
        self.mask = losses.boundaries_mask(config.kernel_size, config.boundaries_length, self.image)
        self.enhanced = config.enhanced if config.variant == "e-kernelgan" else None
        centre = (config.kernel_size + SCALE - 2) / 2
        self.inner = losses.inner_neighbours(config.kernel_size, centre, self.image)
        self.progress = losses.initial_progress(config)
        self.kernel = self.generator.kernel()
        self.history: dict[str, list[float]] = {"step": []}

    def _draw_crops(self, rng: torch.Generator) -> None:
        """Draw the crops of all steps; those of the generator by the gradients that remain after downscaling."""
        rows, columns = (length // SCALE for length in self.image.shape[-2:])
        downscaled = crop_weights(self.bicubic[:, :rows, :columns], self.crop // SCALE)
        self.input_corners = draw_corners(downscaled, self.config.iterations, rng)
        self.real_corners = draw_corners(crop_weights(self.image, self.side), self.config.iterations, rng)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def step(self, step: int) -> dict[str, float]:
        """Update the generator, then the discriminator.

        Args:
            step: Number of the step, from 1.

        Returns:
            The losses, if they are to be reported at this step; else nothing.

        Raises:
            DivergenceError: A reported loss is NaN or infinite.
        """
        is_reported = step % self.config.report_every == 0 or step == self.config.iterations
        rate = losses.learning_rate(step, self.config)
        crop, target = self._input_crop(step)
        layers = self.discriminator.normalise()
        values = self._train_generator(crop, target, layers, rate, is_reported)
        values["discriminator"] = self._train_discriminator(crop, step, layers, rate)
        # Reading a loss waits for the device, so it is read only while the losses depends on it.
        bicubic = None if self.progress.is_released else float(values["bicubic"])
        self.progress = losses.advance(self.progress, step, bicubic, self.config)
        return self._report(step, values) if is_reported else {}

    def _input_crop(self, step: int) -> tuple[Tensor, Tensor]:
        """The generator's input, (C, 1, crop, crop), and its bicubic downscaling, (1, C, side, side)."""
        top, left = self.input_corners[step - 1]
        rows, columns = (slice(SCALE * corner, SCALE * corner + self.crop) for corner in (top, left))
        # The kernel's first position is centred size // 2 (+ ½) px into the crop: size // 4 downscaled pixels.
        margin = self.config.kernel_size // 4
        y, x = top + margin, left + margin
        return self.image[:, None, rows, columns], self.bicubic[None, :, y : y + self.side, x : x + self.side]

    def _downscale(self, crop: Tensor) -> Tensor:
        """The generator applied to every band of a crop: (C, 1, crop, crop) → (1, C, side, side)."""
        return functional.conv2d(crop, self.kernel[None, None], stride=SCALE).transpose(0, 1)

    def _train_generator(
        self, crop: Tensor, target: Tensor, layers: Layers, rate: float, is_reported: bool
    ) -> dict[str, Tensor]:
        """Update the generator by all of its losses.

        Returns:
            The losses before the update, unweighted. The late ones are calculated only if they count or are reported.
        """
        config, kernel, late = self.config, self.kernel, self.progress.is_late
        fake = self._downscale(crop)
        # Without noise, batch norm hides the size of a kernel near zero (docs/method/deviations.md).
        values = {
            "adversarial": losses.adversarial_loss(self.discriminator(self._noised(fake), layers)),
            "bicubic": losses.bicubic_loss(fake, target),
            "sum": losses.sum_loss(kernel),
            "boundaries": losses.boundaries_loss(kernel, self.mask),
        }
        weights = {
            "adversarial": 1.0,
            "bicubic": self.progress.weight_bicubic,
            "sum": config.weight_sum,
            "boundaries": config.weight_boundaries,
        }
        if self.enhanced is not None:
            weights |= {"boundaries": self.enhanced.weight_boundaries, "unimodality": self.enhanced.weight_unimodal}
            values["unimodality"] = losses.unimodality_loss(kernel, self.inner)
        # Early in the run the sum of the weights is close to zero, and their centre of mass is ill-conditioned.
        if late:
            weights |= {"centralised": config.weight_centralised, "sparsity": config.weight_sparsity}
        if late or is_reported:
            values["centralised"] = losses.centralised_loss(kernel, SCALE)
            values["sparsity"] = losses.sparsity_loss(kernel, config.sparsity_power)
        self._update(self.generator, torch.stack([weights[name] * values[name] for name in weights]).sum(), rate)
        self.kernel = self.generator.kernel()
        return {name: value.detach() for name, value in values.items()}

    def _train_discriminator(self, crop: Tensor, step: int, layers: Layers, rate: float) -> Tensor:
        """Update the discriminator by a real crop and the downscaled one; returns its loss before the update."""
        top, left = self.real_corners[step - 1]
        real = self.image[None, :, top : top + self.side, left : left + self.side]
        weight = 0.0 if self.enhanced is None else losses.ranking_weight(step, self.enhanced)
        with torch.no_grad():
            fake = self._downscale(crop)
            crops = [real, fake]
            if self.enhanced is not None and weight > 0:
                crops.append(losses.blurrier(fake, self.enhanced, self.rng))
            noised = self._noised(torch.cat(crops))
        maps = self.discriminator(noised, layers)
        loss = losses.discriminator_loss(maps)
        if weight > 0:
            loss = loss + weight * losses.ranking_loss(maps[1], maps[2])
        self._update(self.discriminator, loss, rate)
        return loss.detach()

    def _update(self, network: nn.Module, loss: Tensor, rate: float) -> None:
        """One step of Adam on a network; the gradients of the other network are not calculated."""
        optimiser = self._optimisers[network]
        optimiser.learning_rate = rate
        optimiser.minimise(loss)

    def _noised(self, crops: Tensor) -> Tensor:
        noise = torch.randn(crops.shape, generator=self.rng, dtype=crops.dtype, device=crops.device)
        # The crops are in [−1, 1], the standard deviation refers to [0, 1].
        return crops.add(noise, alpha=2 * self.config.discriminator_noise)

    def _report(self, step: int, losses_by_name: dict[str, Tensor]) -> dict[str, float]:
        """Check the losses and add them to the history."""
        values = {name: float(value) for name, value in losses_by_name.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise DivergenceError(
                    f"the training of KernelGAN diverged: its {name} loss is {value} at step {step}; try another "
                    f"seed or a learning_rate below {self.config.learning_rate:g}."
                )
        for name, value in {"step": float(step), **values}.items():
            self.history.setdefault(name, []).append(value)
        return values


def to_estimate(training: Training, scale: int, method: str, settings: dict[str, object]) -> KernelEstimate:
    """The kernel of a finished training with its metrics.

    Args:
        training: The training.
        scale: Of the estimate.
        method: Name of the estimator.
        settings: Its settings.
    """
    raw = training.kernel.detach().double().cpu().numpy()
    cleaned = to_kernel(raw, training.config)
    return KernelEstimate(
        kernel=to_scale(kernels.centre(cleaned), scale),
        method=method,
        settings=settings,
        history={name: tuple(values) for name, values in training.history.items()},
        metrics={
            "bicubic_loss": training.history["bicubic"][-1],
            "raw_sum": float(raw.sum()),
            "raw_centroid_y": float(cleaned.centroid[0]),
            "raw_centroid_x": float(cleaned.centroid[1]),
        },
        warnings=_warnings(float(raw.sum())),
    )


def _warnings(total: float) -> tuple[str, ...]:
    if abs(total - 1) <= _SUM_TOLERANCE:
        return ()
    return (
        f"KernelGAN did not converge: its weights sum to {total:.2f} instead of 1 before normalisation. "
        "The kernel is unreliable; try another seed or more iterations.",
    )


def check_kernelgan_image(lr: Tensor, config: KernelGANConfig) -> None:
    """Refuse what is not one finite image of a sufficient size.

    Raises:
        ImageError: Wrong shape or type, too small, or not finite.
    """
    if lr.ndim != 4 or lr.shape[0] != 1 or lr.shape[1] < 1 or not lr.is_floating_point():
        raise ImageError(
            f"KernelGAN needs one floating-point image (1, C, H, W), got {tuple(lr.shape)} of {lr.dtype}; "
            "add the missing axes, or call it once for each image."
        )
    side = min_side(config)
    if min(lr.shape[-2:]) < side:
        raise ImageError(
            f"KernelGAN needs an image of at least {side}×{side} px, got {lr.shape[-1]}×{lr.shape[-2]} px; "
            "use a larger image, or a known kernel."
        )
    if not bool(torch.isfinite(lr).all()):
        raise ImageError("the image must be finite, it holds NaN or infinity; replace those pixels first.")


def gradient_magnitude(image: Tensor) -> Tensor:
    """|∇| of the mean over the bands, by central differences: (C, H, W) → (H, W)."""
    down, right = torch.gradient(image.mean(0))
    return torch.hypot(down, right)


def crop_weights(image: Tensor, side: int) -> Tensor:
    """Mean gradient magnitude of every crop of side×side px.

    Args:
        image: (C, H, W), H and W ≥ side.
        side: Side of the crop, px.

    Returns:
        (H − side + 1, W − side + 1), float64, by the crop's top left corner; all ones for an image without gradients.
    """
    magnitude = gradient_magnitude(image).to("cpu", torch.float64)
    summed = functional.pad(magnitude.cumsum(0).cumsum(1), (1, 0, 1, 0))
    inside = summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side] + summed[:-side, :-side]
    # Rounding of the large sums can take a flat area slightly below zero.
    weights = inside.clamp_min(0) / side**2
    return weights if weights.sum() > 1e-9 else torch.ones_like(weights)


def draw_corners(weights: Tensor, count: int, rng: torch.Generator) -> list[tuple[int, int]]:
    """Draw corners (top, left), with replacement, with probability proportional to `weights`.

    Args:
        weights: (rows, columns), float64, on the CPU; any number of them (torch.multinomial is limited to 2²⁴).
        count: Number of corners.
        rng: A generator on the CPU.
    """
    edges = weights.flatten().cumsum(0)
    uniform = torch.rand(count, generator=rng, dtype=torch.float64) * edges[-1]
    index = torch.searchsorted(edges, uniform, right=True).clamp_max(len(edges) - 1)
    columns = weights.shape[1]
    return [(position // columns, position % columns) for position in index.tolist()]
