"""The main job: estimate the kernel, then super-resolve with it."""

import time
from dataclasses import replace

from torch import Tensor

from blindsr import spectral
from blindsr.errors import ConfigError
from blindsr.events import Listener, Notice, ignore
from blindsr.kernelgan import estimator as kernelgan
from blindsr.kernels import Kernel, KernelEstimate, bicubic
from blindsr.pipelines.checks import check_image
from blindsr.pipelines.known import super_resolve
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Region, Settings
from blindsr.zssr.checks import least_side
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.plausibility import more_plausible

__all__ = ["estimate_and_upscale", "estimate_kernel"]


def estimate_kernel(image: Tensor, settings: Settings | None = None, *, listener: Listener = ignore) -> KernelEstimate:
    """Estimate the downscaling kernel of an image.

    Args:
        image: (1, C, H, W), float, [0, 1]; left unchanged.
        settings: The estimator, its settings, and the region to estimate from; the default preset if None.
        listener: Takes the events of the run.

    Returns:
        A kernel for ⌈settings.scale⌉, and how it came to be.

    Raises:
        ImageError: Not one float image in [0, 1], or too small for the estimator.
        ConfigError: The region is not inside the image.
        DivergenceError: A training left the finite numbers.
    """
    settings = Settings() if settings is None else settings
    check_image(image)
    looked_at = image if settings.region is None else crop_region(image, settings.region)
    if settings.estimator == "kernelgan":
        return kernelgan.estimate_kernel(looked_at, settings.network_scale, settings.kernelgan, listener=listener)
    # "auto" starts from the spectral fit: on data with known kernels it is nearer to the truth than KernelGAN's.
    estimate = spectral.estimate_kernel(looked_at, settings.network_scale, settings.spectral, listener=listener)
    if settings.estimator == "auto" and isinstance(settings.zssr, StartConfig) and not estimate.notes:
        return _guarded(looked_at, estimate, settings.zssr, listener)
    return estimate


def _guarded(image: Tensor, estimate: KernelEstimate, config: StartConfig, listener: Listener) -> KernelEstimate:
    """Narrow an estimate whose answer rings: a spectrum takes a sharp photograph of soft things for a blurred one."""
    if min(image.shape[-2:]) < least_side(estimate.kernel.scale):
        return estimate
    kernel = more_plausible(image, estimate.kernel, config)
    if kernel is estimate.kernel:
        return estimate
    how = "the bicubic kernel" if kernel.digest == bicubic(kernel.scale).digest else "a narrower one"
    note = f"with the kernel of the spectrum the result would ring; {how} explains the photograph better and is used."
    listener(Notice(stage=estimate.method, message=note))
    provenance = {**estimate.kernel.provenance, "guard": f"replaced by {how}"}
    return replace(estimate, kernel=Kernel(kernel.array, kernel.scale, provenance), notes=(note,))


def estimate_and_upscale(image: Tensor, settings: Settings | None = None, *, listener: Listener = ignore) -> Upscaled:
    """Estimate the kernel of an image, then super-resolve the image with it.

    Args:
        image: (1, C, H, W), float, [0, 1]; left unchanged. Everything runs on its device.
        settings: The default preset if None.
        listener: Takes the events of the run.

    Returns:
        The image, (1, C, round(r·H), round(r·W)) for a scale r, and what led to it.

    Raises:
        ImageError, ConfigError, KernelError, DivergenceError: As `estimate_kernel` and `known.upscale`.
    """
    settings = Settings() if settings is None else settings
    started = time.perf_counter()
    estimate = estimate_kernel(image, settings, listener=listener)
    seconds = time.perf_counter() - started
    result = super_resolve(image, estimate.kernel, estimate, settings, listener=listener)
    return replace(
        result,
        history={f"{estimate.method}.{name}": values for name, values in estimate.history.items()}
        | dict(result.history),
        timings={"kernel": seconds, **result.timings},
    )


def crop_region(image: Tensor, region: Region) -> Tensor:
    """Cut a region out of an image.

    Raises:
        ConfigError: The region is not inside the image.
    """
    height, width = image.shape[-2:]
    inside = (
        region.x >= 0
        and region.y >= 0
        and region.width > 0
        and region.height > 0
        and region.x + region.width <= width
        and region.y + region.height <= height
    )
    if not inside:
        raise ConfigError(
            f"the region must lie inside the image of {width}×{height} px, got "
            f"{region.x},{region.y},{region.width},{region.height} (left, top, width, height)."
        )
    return image[..., region.y : region.y + region.height, region.x : region.x + region.width]
