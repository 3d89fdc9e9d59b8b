"""KernelGAN: estimate the downscaling kernel of one image from the image alone.

Bell-Kligler, Shocher, Irani, "Blind Super-Resolution Kernel Estimation using an Internal-GAN", NeurIPS
2019, arXiv:1909.06581. A linear generator downscales crops of the image; a discriminator learns to tell the
patches of the result from the patches of the image; the kernel of the generator is the estimate.
"""

from dataclasses import asdict

import torch
from torch import Tensor

from blindsr import kernels
from blindsr.errors import ImageError
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.extraction import TRAINED_SCALE, check_scale, to_kernel, to_scale
from blindsr.kernelgan.training import Training
from blindsr.kernels import KernelEstimate

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
    training = Training(lr, config)
    for step in range(1, config.iterations + 1):
        listener(StepDone(stage=_STAGE, step=step, values=training.step(step)))
    listener(StageDone(stage=_STAGE, steps=config.iterations))
    return _result(training, scale)


def _result(training: Training, scale: int) -> KernelEstimate:
    raw = training.kernel.double().cpu().numpy()
    cleaned = to_kernel(raw, training.config)
    return KernelEstimate(
        kernel=to_scale(kernels.centre(cleaned), scale),
        method=_STAGE,
        settings=asdict(training.config),
        history={name: tuple(values) for name, values in training.history.items()},
        figures={
            "bicubic_loss": training.history["bicubic"][-1],
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
