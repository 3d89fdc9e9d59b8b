"""Super-resolution with a kernel that is known."""

import time
from dataclasses import replace

from torch import Tensor

from blindsr.errors import KernelError
from blindsr.events import Listener, ignore
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.ops import imresize
from blindsr.pipelines.checks import check_image
from blindsr.pipelines.place import place_caution
from blindsr.pipelines.prepare import prepare
from blindsr.pipelines.result import CONSISTENCY_ALARM, Upscaled, consistency
from blindsr.pipelines.settings import Settings
from blindsr.zssr import PaperZSSRConfig, ZSSRResult, upscale_paper
from blindsr.zssr.source import TensorSource
from blindsr.zssr.start.config import ESTIMATED_KERNEL_ERROR, StartConfig

__all__ = ["ESTIMATORS", "doubted", "super_resolve", "trusted", "upscale"]

ESTIMATORS = ("spectral", "l0", "kernelgan")
_FREE_FORM_KERNEL_ERROR = 0.1
_CHOSEN_KERNEL_ERROR = 0.0  # the bicubic kernel is chosen, not estimated: the result is that of `--kernel bicubic`


def upscale(
    image: Tensor, kernel: Kernel, settings: Settings | None = None, *, listener: Listener = ignore
) -> Upscaled:
    """Super-resolve an image with a known kernel.

    Args:
        image: (1, C, H, W), float, [0, 1]; left unchanged. Everything runs on its device.
        kernel: Downscaling kernel for `settings.network_scale`.
        settings: The default preset if None.
        listener: Takes the events of the run.

    Returns:
        The image, (1, C, round(r·H), round(r·W)) for a scale r, and what led to it. A real r, a size and factors that
        differ by axis run the next whole number that networks are for, and are resized.

    Raises:
        ImageError: Not one float image in [0, 1], or too small.
        KernelError: The kernel is for another scale, or larger than the image.
        DivergenceError: A training left the finite numbers.
    """
    check_image(image)
    settings = (Settings() if settings is None else settings).for_image(image.shape[-2], image.shape[-1])
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
    settings, estimated = trusted(kernel, estimate, settings)
    started = time.perf_counter()
    result = _zssr(image, kernel, settings, listener)
    seconds = time.perf_counter() - started
    agreement = consistency(result.image, image, kernel)
    notes = [*(estimate.notes if estimate else ()), *result.notes, *doubted(agreement)]
    if not estimated and (aside := place_caution(image, result.image, kernel)):
        notes.append(aside)
    sr = result.image
    size = settings.output_size(image.shape[-2], image.shape[-1])
    if size != tuple(sr.shape[-2:]):
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


def trusted(kernel: Kernel, estimate: KernelEstimate | None, settings: Settings) -> tuple[Settings, bool]:
    """The settings with how far the kernel is to be trusted, and whether it was estimated."""
    chosen = "in_place_of" in kernel.provenance
    estimated = estimate is not None or chosen or kernel.provenance.get("made_by") in ESTIMATORS
    if estimated and isinstance(settings.zssr, StartConfig) and settings.zssr.kernel_error is None:
        # Also a kernel read from a file, if an estimator made it: both halves of the job give what the whole one gives.
        settings = replace(settings, zssr=replace(settings.zssr, kernel_error=_error_of(kernel)))
    return settings, estimated


def _error_of(kernel: Kernel) -> float:
    """How wrong an estimate usually is: measured by the PSNR that each gives (docs/kernel-estimation.md)."""
    if "in_place_of" in kernel.provenance:
        return _CHOSEN_KERNEL_ERROR
    return _FREE_FORM_KERNEL_ERROR if kernel.provenance.get("made_by") == "l0" else ESTIMATED_KERNEL_ERROR


def doubted(agreement: float) -> tuple[str, ...]:
    """A sentence for the user where the result does not explain the input."""
    if agreement >= CONSISTENCY_ALARM:
        return ()
    return (
        f"the result does not explain the input: degraded again it is only {agreement:.1f} dB near it "
        f"({CONSISTENCY_ALARM:g} dB or more is usual); the kernel or the training is doubtful.",
    )


def _zssr(image: Tensor, kernel: Kernel, settings: Settings, listener: Listener) -> ZSSRResult:
    if isinstance(settings.zssr, PaperZSSRConfig):
        return upscale_paper(image, kernel, settings.zssr, listener=listener)
    return prepare(TensorSource(image), kernel, settings, listener=listener).result(listener=listener)
