"""Factors beyond what the networks know, 6 and 8, in two passes: ×3 or ×4, then ×2."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from blindsr.kernels import Kernel, KernelEstimate, gaussian
from blindsr.kernels.transform import resample
from blindsr.zssr.prepared import Prepared
from blindsr.zssr.source import Source, TensorSource, most_detailed, spread_windows
from blindsr.zssr.start.inference import Trust, correct, from_planes, to_planes
from blindsr.zssr.strips import Margin

__all__ = ["FIRST_PASS", "OWN_BLUR", "carried", "join", "sample_of", "split_kernel"]

FIRST_PASS = {6: 3, 8: 4}  # factor: that of the first pass; the second one is ×2
#: β of the scale law cov(k_s) = (s² − β)·Σ, by which the first pass gets its kernel: the spectral estimator's.
OWN_BLUR = 0.25
_LEAST_VARIANCE = 0.25  # HR px², of what is left to the second pass: about that of a pixel's own area
_SAMPLE = 192  # side of the window of the first result that the second pass learns from, LR pixels


def carried(estimate: KernelEstimate, scale: int) -> KernelEstimate:
    """An estimate for ×3 or ×4, for 6 or 8 by the scale law."""
    return replace(estimate, kernel=resample(estimate.kernel, scale, own_blur=OWN_BLUR))


def split_kernel(kernel: Kernel) -> tuple[Kernel, Kernel]:
    """The kernels of the two passes of a kernel for 6 or 8.

    The first pass gets the kernel that the scale law has for its factor. Degrading by the second kernel and then by the
    first is degrading by the whole (`blindsr.kernels.compose`), so covariances add up: the second kernel is what is
    left, a Gaussian.
    """
    factor = FIRST_PASS[kernel.scale]
    first = resample(kernel, factor, own_blur=OWN_BLUR)
    values, vectors = np.linalg.eigh(kernel.covariance - (kernel.scale // factor) ** 2 * first.covariance)
    rest = (vectors * np.maximum(values, _LEAST_VARIANCE)) @ vectors.T
    return first, gaussian(rest, kernel.scale // factor)


def sample_of(first: Prepared) -> Source:
    """What the first pass makes of the image's most detailed window: the second pass learns from it."""
    source = first.source
    window = most_detailed(source, spread_windows(source, _SAMPLE, 16), 1)[0]
    return TensorSource(first.answer(source.window(*window)))


def join(first: Prepared, second: Prepared, kernel: Kernel, *, kernel_error: float) -> Prepared:
    """Both passes as one, and a correction towards the input by the whole kernel where there is no noise."""
    trust = Trust(noise_sigma=first.noise_sigma, kernel_error=kernel_error)
    iterations = 0 if first.noise_sigma else 1

    def joined(one: Prepared, two: Prepared, careful: bool, window: Tensor) -> Tensor:
        middle = (one.retry if careful else one.answer)(window)
        sr = (two.retry if careful else two.answer)(middle)
        with torch.no_grad():
            sr = correct(to_planes(sr), to_planes(window), kernel, trust=trust, iterations=iterations)
        return from_planes(sr).clamp_(0, 1)

    def margin() -> Margin:
        a, b = first.margin(), second.margin()
        return Margin(a.halo + -(-b.halo // first.scale), fade=a.fade)

    return Prepared(
        source=first.source,
        scale=kernel.scale,
        margin=margin,
        answer=lambda window: joined(first, second, False, window),
        retry=lambda window: joined(first, second, True, window),
        steps=first.steps + second.steps,
        history={**first.history, **{f"second pass {name}": curve for name, curve in second.history.items()}},
        dtype=first.dtype,
        noise_sigma=first.noise_sigma,
        notes=(*first.notes, *(f"second pass: {note}" for note in second.notes)),
    )
