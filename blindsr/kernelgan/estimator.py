"""KernelGAN: estimate the downscaling kernel of one image from the image alone.

Bell-Kligler, Shocher, Irani, "Blind Super-Resolution Kernel Estimation using an Internal-GAN", NeurIPS
2019, arXiv:1909.06581. A linear generator downscales crops of the image; a discriminator learns to tell the
patches of the result from the patches of the image; the kernel of the generator is the estimate.
"""

import math
from dataclasses import asdict

import torch
from torch import Tensor

from blindsr import kernels
from blindsr.errors import DivergenceError, ImageError
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.kernelgan import losses, schedule
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.extraction import TRAINED_SCALE, check_scale, to_kernel, to_scale
from blindsr.kernelgan.networks import Discriminator, Generator, Layers
from blindsr.kernelgan.sampling import crop_weights, draw_corners
from blindsr.kernels import KernelEstimate
from blindsr.ops import imresize

__all__ = ["estimate_kernel", "least_side"]

_STAGE = "kernelgan"
_PAPER = KernelGANConfig.paper()
# An image whose bands all vary less than this (standard deviation, [0, 1]) holds nothing but rounding.
_FLAT = 0.5 / 255
# Full runs end within 0.001 of 1 and short ones within 0.3; a generator that died ends near 0.
_SUM_TOLERANCE = 0.5


def least_side(config: KernelGANConfig = _PAPER) -> int:
    """The smallest image side that KernelGAN works on, px: the discriminator then sees two patches a side."""
    return config.kernel_size + TRAINED_SCALE * (2 * config.discriminator_patch - 1)


def estimate_kernel(
    lr: Tensor, scale: int, config: KernelGANConfig = _PAPER, *, listener: Listener = ignore
) -> KernelEstimate:
    """Estimate the kernel that made `lr` from an image `scale` times its size.

    The run is for ×2; ×4 is that kernel composed with itself, ×3 follows the scale law (cov ∝ s² − 1).

    Args:
        lr: One image, (1, C, H, W), [0, 1], any number of bands, sides of `least_side(config)` px or more;
            left unchanged. The run is on its device and in its dtype (float32 for half precision).
        scale: 2, 3 or 4.
        config: Settings; the paper's by default.
        listener: Told of every step, and of the losses every `config.report_every` steps.

    Returns:
        The kernel, centred and non-negative; method "kernelgan"; the history of the losses; the figures
        `bicubic_loss`, `raw_sum`, `raw_centroid_y` and `raw_centroid_x` (HR px, after the clean-up and before
        centring). A flat image gives the bicubic kernel and a note.

    Raises:
        ConfigError: `scale` is none of 2, 3, 4.
        ImageError: `lr` is not one finite floating-point image, or is too small.
        DivergenceError: A loss is no longer finite.
    """
    check_scale(scale)
    _check_image(lr, config)
    listener(StageStarted(stage=_STAGE, max_steps=config.iterations))
    if float(lr.flatten(2).std(-1).max()) < _FLAT:
        return _flat_estimate(scale, config, listener)
    # A caller's no_grad or inference_mode must not switch off the training in here.
    with torch.inference_mode(False), torch.enable_grad():
        run = _Run(lr, config)
        for step in range(1, config.iterations + 1):
            run.step(step)
            listener(StepDone(stage=_STAGE, step=step, values=run.report(step)))
    listener(StageDone(stage=_STAGE, steps=config.iterations))
    return run.result(scale)


class _Run:
    """One run: networks, optimisers, crops and the state of the schedule."""

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
            torch.optim.Adam(network.parameters(), betas=(config.beta1, config.beta2), fused=True)
            for network in (self.generator, self.discriminator)
        ]
        self.mask = losses.boundaries_mask(config.kernel_size, config.boundaries_length, self.image)
        self.kernel = self.generator()
        self.progress = schedule.start(config)
        self.values: dict[str, Tensor] = {}
        self.history: dict[str, list[float]] = {"step": []}

    def _draw_crops(self, rng: torch.Generator) -> None:
        """Draw every crop of the run; the generator's by the gradients that downscaling leaves."""
        rows, columns = (length // TRAINED_SCALE for length in self.image.shape[-2:])
        small = crop_weights(self.small[:, :rows, :columns], self.crop // TRAINED_SCALE)
        self.input_corners = draw_corners(small, self.config.iterations, rng)
        self.real_corners = draw_corners(crop_weights(self.image, self.side), self.config.iterations, rng)

    def step(self, step: int) -> None:
        """Update the generator, then the discriminator."""
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = schedule.learning_rate(step, self.config)
        looks, target = self._generator_crop(step)
        layers = self.discriminator.layers()
        self._train_generator(looks, target, layers)
        self._train_discriminator(looks, layers, step)
        bicubic = None if self.progress.is_released else float(self.values["bicubic"])
        self.progress = schedule.advance(self.progress, step, bicubic, self.config)

    def _generator_crop(self, step: int) -> tuple[Tensor, Tensor]:
        """What every downscaled pixel looks at, (C·side², K²), and bicubic's answer, (1, C, side, side)."""
        top, left = self.input_corners[step - 1]
        size, side = self.config.kernel_size, self.side
        y, x = TRAINED_SCALE * top, TRAINED_SCALE * left
        crop = self.image[:, y : y + self.crop, x : x + self.crop]
        looks = crop.unfold(1, size, TRAINED_SCALE).unfold(2, size, TRAINED_SCALE).reshape(-1, size * size)
        # The first look is centred size // 2 (+ ½) px into the crop, which is size // 4 downscaled pixels.
        y, x = top + size // 4, left + size // 4
        return looks, self.small[None, :, y : y + side, x : x + side]

    def _downscale(self, looks: Tensor, kernel: Tensor) -> Tensor:
        return (looks @ kernel.flatten()).reshape(1, self.bands, self.side, self.side)

    def _train_generator(self, looks: Tensor, target: Tensor, layers: Layers) -> None:
        config, progress, kernel = self.config, self.progress, self.kernel
        fake = self._downscale(looks, kernel)
        # Without noise here, a kernel of almost nothing is judged by a shape that the discriminator never sees.
        judged = self.discriminator(self._noised(fake), layers.frozen())
        late = progress.is_late
        terms = {
            "adversarial": (1.0, losses.adversarial_loss(judged)),
            "bicubic": (progress.weight_bicubic, losses.bicubic_loss(fake, target)),
            "sum": (config.weight_sum, losses.sum_loss(kernel)),
            "boundaries": (config.weight_boundaries, losses.boundaries_loss(kernel, self.mask)),
            "centralised": (late * config.weight_centralised, losses.centralised_loss(kernel, TRAINED_SCALE)),
            "sparsity": (late * config.weight_sparsity, losses.sparsity_loss(kernel, config.sparsity_power)),
        }
        # Only what counts is differentiated: before it counts, the centre of mass of almost nothing is wild.
        self._update(0, torch.stack([weight * value for weight, value in terms.values() if weight]).sum())
        self.values = {name: value.detach() for name, (_, value) in terms.items()}
        self.kernel = self.generator()

    def _train_discriminator(self, looks: Tensor, layers: Layers, step: int) -> None:
        top, left = self.real_corners[step - 1]
        real = self.image[None, :, top : top + self.side, left : left + self.side]
        crops = torch.cat((real, self._downscale(looks, self.kernel.detach())))
        judged = self.discriminator(self._noised(crops), layers)
        loss = losses.discriminator_loss(judged)
        self._update(1, loss)
        self.values["discriminator"] = loss.detach()

    def _noised(self, crops: Tensor) -> Tensor:
        noise = torch.randn(crops.shape, generator=self.rng, dtype=crops.dtype, device=crops.device)
        # The crops are in [−1, 1], the noise is given for [0, 1].
        return crops + 2 * self.config.discriminator_noise * noise

    def _update(self, network: int, loss: Tensor) -> None:
        self.optimisers[network].zero_grad()
        torch.autograd.backward(loss)
        self.optimisers[network].step()

    def report(self, step: int) -> dict[str, float]:
        """The losses of a step that is to be reported, checked and kept; nothing for the others."""
        if step % self.config.report_every and step != self.config.iterations:
            return {}
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

    def result(self, scale: int) -> KernelEstimate:
        raw = self.kernel.detach().double().cpu().numpy()
        cleaned = to_kernel(raw, self.config)
        return KernelEstimate(
            kernel=to_scale(kernels.centre(cleaned), scale),
            method=_STAGE,
            settings=asdict(self.config),
            history={name: tuple(values) for name, values in self.history.items()},
            figures={
                "bicubic_loss": self.history["bicubic"][-1],
                "raw_sum": float(raw.sum()),
                "raw_centroid_y": float(cleaned.centroid[0]),
                "raw_centroid_x": float(cleaned.centroid[1]),
            },
            notes=_doubts(float(raw.sum())),
        )


def _doubts(total: float) -> tuple[str, ...]:
    if abs(total - 1) <= _SUM_TOLERANCE:
        return ()
    return (
        f"KernelGAN did not converge: its weights sum to {total:.2f} instead of 1 before they are normalised. "
        "Do not trust this kernel; try another seed or more iterations.",
    )


def _check_image(lr: Tensor, config: KernelGANConfig) -> None:
    if lr.ndim != 4 or lr.shape[0] != 1 or lr.shape[1] < 1 or not lr.is_floating_point():
        raise ImageError(
            f"KernelGAN needs one floating-point image (1, C, H, W), got {tuple(lr.shape)} of {lr.dtype}; "
            "add the missing axes, or call it once for each image."
        )
    least = least_side(config)
    if min(lr.shape[-2:]) < least:
        raise ImageError(
            f"KernelGAN needs an image of at least {least}×{least} px, got {lr.shape[-2]}×{lr.shape[-1]}; "
            "take a larger image, or give a known kernel."
        )
    if not bool(torch.isfinite(lr).all()):
        raise ImageError("the image must be finite, it holds NaN or infinity; replace those pixels first.")


def _flat_estimate(scale: int, config: KernelGANConfig, listener: Listener) -> KernelEstimate:
    note = "The image is flat: nothing in it shows the kernel, so the bicubic one is returned."
    listener(Notice(stage=_STAGE, message=note))
    listener(StageDone(stage=_STAGE, steps=0, reason="the image is flat"))
    return KernelEstimate(kernel=kernels.bicubic(scale), method=_STAGE, settings=asdict(config), notes=(note,))
