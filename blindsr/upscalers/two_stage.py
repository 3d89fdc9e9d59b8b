"""Two-stage upscaling for the factors 6 and 8, which no network is trained for: ×3 or ×4 first, then ×2."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from blindsr.events import Listener
from blindsr.kernels import Kernel, KernelEstimate, gaussian
from blindsr.kernels.transform import resample
from blindsr.ops.windows import Source, TensorSource, most_textured, spread_windows
from blindsr.upscalers.base import Degradation, TiledModel, Upscaler

__all__ = ["FIRST_STAGE", "RESIDUAL_BLUR", "fit_two_stages", "resampled_estimate", "split_kernel"]

FIRST_STAGE = {6: 3, 8: 4}  # scale: factor of the first stage; the second one is ×2
#: Residual HR blur β of the scale law cov(k_s) = (s² − β)·Σ, by which the first stage gets its kernel.
RESIDUAL_BLUR = 0.25
_MIN_VARIANCE = 0.25  # HR px², smallest variance of the second stage's kernel: about that of a pixel's own area
_SAMPLE_SIDE = 192  # side of the window of the first result that the second stage is fitted to, LR pixels


def resampled_estimate(estimate: KernelEstimate, scale: int) -> KernelEstimate:
    """An estimate for ×3 or ×4, resampled for ×6 or ×8 by the scale law."""
    return replace(estimate, kernel=resample(estimate.kernel, scale, residual_hr_blur=RESIDUAL_BLUR))


def split_kernel(kernel: Kernel) -> tuple[Kernel, Kernel]:
    """The kernels of the two stages of a kernel for 6 or 8.

    The first stage gets the kernel that the scale law has for its factor. Degrading by the second kernel and then by
    the first equals degrading by the whole (`blindsr.kernels.compose`), so that covariances add up: the second kernel
    is a Gaussian of the remaining covariance.
    """
    factor = FIRST_STAGE[kernel.scale]
    first = resample(kernel, factor, residual_hr_blur=RESIDUAL_BLUR)
    values, vectors = np.linalg.eigh(kernel.covariance - (kernel.scale // factor) ** 2 * first.covariance)
    rest = (vectors * np.maximum(values, _MIN_VARIANCE)) @ vectors.T
    return first, gaussian(rest, kernel.scale // factor)


Correct = Callable[[Tensor, Tensor, Degradation], Tensor]


def fit_two_stages(upscaler: Upscaler, source: Source, degradation: Degradation, *, listener: Listener) -> TiledModel:
    """Fit an upscaler twice, the second time to a sample of the first stage's result, and join both models.

    An upscaler that has the methods `correct(sr, window, degradation)` and `correction_halo(degradation)` gets the
    joint result for one correction towards the input by the whole kernel, where there is no noise. One that has the
    method `for_size(pixels)` is called for the second stage, which is fitted to a sample of a result of that size.

    Args:
        upscaler: A method that can process windows.
        source: The photograph.
        degradation: Its degradation, with a kernel for 6 or 8.
        listener: Receives the events of both fits.

    Raises:
        ImageError, KernelError, ConfigError, DivergenceError: As the upscaler's `fit`.
    """
    kernels = split_kernel(degradation.kernel)
    first = upscaler.fit(source, replace(degradation, kernel=kernels[0]), listener=listener)
    window = most_textured(source, spread_windows(source, _SAMPLE_SIDE, 16), 1)[0]
    sample = TensorSource(first.predict(source.window(*window)))
    # The first stage's result is free of noise.
    clean = replace(degradation, kernel=kernels[1], noise_sigma=(0.0,), compression_sigma=0.0, mosaic_sigma=0.0)
    for_size = getattr(upscaler, "for_size", None)
    pixels = source.shape[1] * source.shape[2] * degradation.scale**2
    second = (upscaler if for_size is None else for_size(pixels)).fit(sample, clean, listener=listener)
    correct: Correct | None = getattr(upscaler, "correct", None)

    def joined(stages: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], window: Tensor) -> Tensor:
        sr = stages[1](stages[0](window))
        if correct is None:
            return sr
        with torch.no_grad():
            return correct(sr, window, degradation)

    def halo() -> int:
        width = first.halo() + -(-second.halo() // first.scale)
        return width if correct is None else max(width, upscaler.correction_halo(degradation))  # type: ignore[attr-defined]

    return TiledModel(
        scale=degradation.scale,
        predict=lambda window: joined((first.predict, second.predict), window),
        retry=lambda window: joined((first.retry or first.predict, second.retry or second.predict), window),
        halo=halo,
        whole_image=first.whole_image,
        steps=first.steps + second.steps,
        history={**first.history, **{f"second stage {name}": curve for name, curve in second.history.items()}},
        dtype=first.dtype,
        warnings=(*first.warnings, *(f"second stage: {text}" for text in second.warnings)),
    )
