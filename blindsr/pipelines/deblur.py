"""Deblurring without enlarging (scale 1): super-resolution by two, reduced to the size of the photograph.

A photograph y that is blurred by g on its own grid, y = x ⋆ g, is a degraded version of an image z that is twice as
large and whose bicubic reduction is x: y = (z ⋆ k)↓2 with k = b₂ ∗ (g dilated by 2), b₂ the bicubic kernel. So every
estimator and every upscaler deblurs. The reduction of the result is the degradation by b₂: where no blur is found, and
k is the bicubic kernel, the result is the photograph.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from blindsr.estimators.base import KernelEstimator
from blindsr.events import Event, Listener, Notice
from blindsr.kernels import Kernel, KernelEstimate, bicubic, bicubic_in_place_of, compose, dilate
from blindsr.kernels.files import DEBLUR_SCALE
from blindsr.kernels.transform import zero_margins
from blindsr.ops import imresize

__all__ = ["HeldNotices", "estimate_blur", "for_run"]

_REDUCTIONS = (2, 4)  # sizes at which a blur is measured that leaves no detail near the limit of the pixels
_FOUND_SHARE = 0.5  # share of the bicubic kernel below which a blur was found
_UNCERTAIN_ERROR = 0.15  # predicted error above which its width is so uncertain that a reduced photograph is tried
# Of a blur that was found at a reduced size: predicted and expected error, and probability of a Gaussian or a disc.
_MAX_ERROR, _MAX_EXPECTED_ERROR, _MIN_PROBABILITY = 0.2, 0.15, 0.8
_MIN_VARIANCE = 0.8  # px²; a narrower blur would have been found at full size
_METRICS = {"bicubic_share", "predicted_error", "expected_error", "kind_gaussian", "kind_disc"}  # that decide
_MIN_BICUBIC = 0.3  # transfer of the bicubic filter below which it is not divided out
_GRID, _RADIUS = 96, 24  # samples of the transfer function, and radius of the kernel, px
_RIPPLE = 0.004  # weights below this share of the largest are ripple
_NOTHING_FOUND = (
    "no blur was found, so nothing is sharpened; if you know the blur in pixels of the photograph, use `blindsr "
    "upscale --scale 1 --kernel …` (kernel= in Python)."
)


class HeldNotices:
    """A listener that holds back the notices of an estimate until it is known whether the estimate is used."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._held: list[Notice] = []

    def __call__(self, event: Event, /) -> None:
        """Hold a notice, and pass on every other event."""
        if isinstance(event, Notice):
            self._held.append(event)
        else:
            self._listener(event)

    def release(self) -> None:
        """Pass on what was held."""
        for notice in self._held:
            self._listener(notice)


def for_run(kernel: Kernel, width: float = 1.0) -> Kernel:
    """The kernel for ×2 that is equivalent to a blur on the photograph's own grid, a kernel for the scale 1.

    A kernel that is for ×2 already, such as one that an earlier run wrote, is returned as it is, with the width 1.

    Args:
        kernel: For the scale 1 or 2.
        width: Factor of the width of the blur. The bicubic kernel, by which the result is reduced, is no part of the
            blur and keeps its width: a narrower blur changes the photograph less, and no blur stays none.
    """
    if kernel.scale == 1:
        return _composed(dilate(kernel, width))
    if width == 1 or kernel.made_by == "bicubic":
        return kernel
    return _composed(dilate(_without_bicubic(kernel, DEBLUR_SCALE), width))


def _composed(blur: Kernel) -> Kernel:
    return Kernel(compose(bicubic(DEBLUR_SCALE), blur).array, DEBLUR_SCALE, {**blur.provenance, "deblurs": True})


def estimate_blur(
    estimate: KernelEstimate, crop: Tensor, estimator: KernelEstimator, listener: Listener
) -> KernelEstimate:
    """An estimate of the blur that also holds for photographs without any detail near the limit of their pixels.

    Whether such a photograph is blurred or shows a soft subject often cannot be told, so that estimators return the
    bicubic kernel, which leaves it as it is. At scale 1 the user has asked for deblurring, so that the blur is measured
    at half or a quarter of the size, where it is narrow enough.

    Where none is found, the kernel is the bicubic one, with a warning. The estimate of a method that does not give the
    metrics of the learned estimator is returned as it is.

    Args:
        estimate: At full size, for ×2.
        crop: What it was estimated from, (1, C, h, w).
        estimator: The estimator.
        listener: Receives the events.
    """
    if not estimate.metrics.keys() >= _METRICS:
        return estimate
    # An aliased photograph is sharp, and has a kernel that is narrower than the bicubic one.
    share = max(estimate.metrics["bicubic_share"], estimate.metrics.get("aliased_share", 0.0))
    error = estimate.metrics["predicted_error"]
    # A wide Gaussian that fits the spectrum may be a disc, whose shape shows at a reduced size.
    is_wide = estimate.metrics.get("wide_share", 0.0) > 0
    if share < _FOUND_SHARE and error < _UNCERTAIN_ERROR and not is_wide:
        return estimate
    bound = _MAX_ERROR if is_wide else min(error, _MAX_ERROR)
    for factor in _REDUCTIONS:
        if min(crop.shape[-2:]) < factor * estimator.min_side:
            break
        reduced = imresize(crop, 1 / factor).clamp(0, 1)
        held = HeldNotices(listener)
        smaller = estimator.estimate(reduced, factor, listener=held)
        metrics = smaller.metrics
        if not metrics.keys() >= _METRICS:  # nothing but fine texture, which is flat at this size
            break
        is_found = metrics["bicubic_share"] < _FOUND_SHARE and metrics["predicted_error"] < bound
        is_certain = (
            metrics["kind_gaussian"] + metrics["kind_disc"] > _MIN_PROBABILITY
            and metrics["expected_error"] < _MAX_EXPECTED_ERROR
        )
        if is_found and is_certain and float(np.trace(smaller.kernel.covariance)) / 2 > _MIN_VARIANCE:
            held.release()
            kernel = _composed(_without_bicubic(smaller.kernel))
            return replace(smaller, kernel=kernel, metrics={**metrics, "estimated_at_size": 1 / factor})
    if share < _FOUND_SHARE and (is_wide or error < _UNCERTAIN_ERROR):
        return estimate
    listener(Notice(stage=estimator.name, message=_NOTHING_FOUND))
    kernel = bicubic_in_place_of(estimate.method, DEBLUR_SCALE)
    return replace(estimate, kernel=kernel, warnings=(_NOTHING_FOUND,), kernel_error=0.0)


def _without_bicubic(kernel: Kernel, pixel: int = 1) -> Kernel:
    """The blur that together with bicubic reduction is a kernel: the quotient of the transfer functions.

    Args:
        kernel: For a scale of 2 or more.
        pixel: Side of the pixels of the blur, in HR pixels of the kernel.

    Returns:
        The blur, for the scale 1 on its own pixels.
    """
    frequencies = np.fft.fftfreq(_GRID)
    wanted = frequencies * kernel.scale / pixel
    reduction = bicubic(kernel.scale).transfer_plane(wanted).real
    quotient = kernel.transfer_plane(wanted) / np.maximum(reduction, _MIN_BICUBIC)
    r = np.arange(-_RADIUS, _RADIUS + 1)
    phase = np.exp(-2j * np.pi * np.outer(r, frequencies))
    weights = (phase @ quotient @ phase.T).real
    weights = np.where(np.abs(weights) > _RIPPLE * weights.max(), weights, 0)
    margin = min(zero_margins(weights))
    inner = weights[margin : len(weights) - margin, margin : len(weights) - margin]
    return Kernel.normalised(inner, 1, kernel.provenance)
