"""The main job: estimate the kernel, then super-resolve with it."""

import time
from dataclasses import replace

from torch import Tensor

from blindsr import l0, spectral
from blindsr.errors import ConfigError
from blindsr.events import Listener, ignore
from blindsr.kernelgan import estimator as kernelgan
from blindsr.kernels import KernelEstimate
from blindsr.pipelines.auto import choose_kernel
from blindsr.pipelines.bars import without_bars
from blindsr.pipelines.checks import check_image
from blindsr.pipelines.known import super_resolve
from blindsr.pipelines.passes import FIRST_PASS, carried
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.sampling import looked_at as part_to_look_at
from blindsr.pipelines.settings import Region, Settings

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
    if settings.network_scale in FIRST_PASS:
        first = replace(settings, scale=float(FIRST_PASS[settings.network_scale]), factors=None, size=None)
        return carried(estimate_kernel(image, first, listener=listener), settings.network_scale)
    asked_for = without_bars(image) if settings.region is None else crop_region(image, settings.region)
    looked_at = part_to_look_at(asked_for)
    if settings.estimator == "kernelgan":
        return kernelgan.estimate_kernel(looked_at, settings.network_scale, settings.kernelgan, listener=listener)
    if settings.estimator == "l0":
        return l0.estimate_kernel(looked_at, settings.network_scale, settings.l0, listener=listener)
    if settings.estimator == "spectral":
        return spectral.estimate_kernel(looked_at, settings.network_scale, settings.spectral, listener=listener)
    return choose_kernel(looked_at, settings, listener=listener)


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
    settings = (Settings() if settings is None else settings).for_image(image.shape[-2], image.shape[-1])
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
