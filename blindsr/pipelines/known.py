"""Super-resolution with a kernel that is known."""

import time
from dataclasses import replace

from torch import Tensor

from blindsr.errors import KernelError
from blindsr.events import Listener, ignore
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.ops import imresize
from blindsr.pipelines.checks import check_image
from blindsr.pipelines.result import CONSISTENCY_ALARM, Upscaled, consistency
from blindsr.pipelines.settings import Settings
from blindsr.zssr import PaperZSSRConfig, ZSSRConfig, ZSSRResult, upscale_paper
from blindsr.zssr import upscale as upscale_from_random
from blindsr.zssr.start.config import ESTIMATED_KERNEL_ERROR, StartConfig
from blindsr.zssr.start.upscaler import upscale_from_start

__all__ = ["ESTIMATORS", "super_resolve", "upscale"]

ESTIMATORS = ("spectral", "kernelgan")


def upscale(
    image: Tensor, kernel: Kernel, settings: Settings | None = None, *, listener: Listener = ignore
) -> Upscaled:
    """Super-resolve an image with a known kernel.

    Args:
        image: (1, C, H, W), float, [0, 1]; left unchanged. Everything runs on its device.
        kernel: Downscaling kernel for ⌈settings.scale⌉.
        settings: The default preset if None.
        listener: Takes the events of the run.

    Returns:
        The image, (1, C, round(r·H), round(r·W)) for a scale r, and what led to it. A real r runs the next whole
        number and is resized.

    Raises:
        ImageError: Not one float image in [0, 1], or too small.
        KernelError: The kernel is for another scale, or larger than the image.
        DivergenceError: A training left the finite numbers.
    """
    settings = Settings() if settings is None else settings
    check_image(image)
    if kernel.scale != settings.network_scale:
        raise KernelError(
            f"the run at ×{settings.scale:g} needs a kernel for scale {settings.network_scale}, this one is for "
            f"scale {kernel.scale}; blindsr.kernels.resample carries it over."
        )
    return super_resolve(image, kernel, None, settings, listener=listener)


def super_resolve(
    image: Tensor, kernel: Kernel, estimate: KernelEstimate | None, settings: Settings, *, listener: Listener
) -> Upscaled:
    """The second half of every pipeline: ZSSR with a kernel, then the figures of the result."""
    estimated = estimate is not None or kernel.provenance.get("made_by") in ESTIMATORS
    if estimated and isinstance(settings.zssr, StartConfig) and settings.zssr.kernel_error is None:
        # Also a kernel read from a file, if an estimator made it: both halves of the job give what the whole one gives.
        settings = replace(settings, zssr=replace(settings.zssr, kernel_error=ESTIMATED_KERNEL_ERROR))
    started = time.perf_counter()
    result = _zssr(image, kernel, settings, listener)
    seconds = time.perf_counter() - started
    agreement = consistency(result.image, image, kernel)
    notes = [*(estimate.notes if estimate else ()), *result.notes]
    if agreement < CONSISTENCY_ALARM:
        notes.append(
            f"the result does not explain the input: degraded again it is only {agreement:.1f} dB near it "
            f"({CONSISTENCY_ALARM:g} dB or more is usual); the kernel or the training is doubtful."
        )
    sr = result.image
    if settings.scale != settings.network_scale:
        size = (round(image.shape[-2] * settings.scale), round(image.shape[-1] * settings.scale))
        sr = imresize(sr, size=size).clamp(0, 1)
    return Upscaled(
        image=sr,
        kernel=kernel,
        estimate=estimate,
        settings=settings,
        history={f"zssr.{name}": values for name, values in result.history.items()},
        timings={"zssr": seconds},
        consistency=agreement,
        dtype=result.dtype,
        notes=tuple(notes),
    )


def _zssr(image: Tensor, kernel: Kernel, settings: Settings, listener: Listener) -> ZSSRResult:
    if isinstance(settings.zssr, PaperZSSRConfig):
        return upscale_paper(image, kernel, settings.zssr, listener=listener)
    if isinstance(settings.zssr, ZSSRConfig):
        return upscale_from_random(image, kernel, settings.zssr, listener=listener)
    return upscale_from_start(image, kernel, settings.zssr, listener=listener)
