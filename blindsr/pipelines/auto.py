"""The estimator "auto": what kind of kernel the photograph shows, by evidence, and then the kernel.

1. The spectral fit: a Gaussian. It is right for most blurs, and wrong in two ways.
2. A photograph that was made small on a computer is not blurred at all: its kernel is bicubic. The spectrum takes soft
   things for blur; the edges and the answer's sparsity know better.
3. Camera shake and strong defocus are no Gaussians: where the edges are far wider than the spectrum says, a free-form
   kernel is estimated, and taken if its answer is clearly sparser.
4. Where nothing can be measured (a tiny, smooth or noisy image), or random halves of the image do not agree, the
   bicubic kernel is the safe one.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindsr import l0, spectral
from blindsr.events import Listener, Notice
from blindsr.kernels import Kernel, KernelEstimate, bicubic
from blindsr.l0.estimator import AGREEMENT, LEAST_SIDE
from blindsr.pipelines.settings import Settings
from blindsr.spectral.edges import along, edge_widths
from blindsr.zssr.checks import least_side
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.plausibility import narrowed, roughness

__all__ = ["bicubic_instead", "choose_kernel", "evidence", "is_sharp", "sharpness"]

# Fitted by benchmarks/sharpness.py: the logarithm of the odds that the kernel is bicubic. In this order: a constant;
# mean and range of the spectral log-variances; log-variances of the sharpest edges (mean of the upper 2 % and 0.5 %
# at 30 grey levels, least direction of the former, upper 10 % at 12, upper 2 % at 60); exponent, log noise and log
# residual of the fit; log-ratios of the roughness against the bicubic kernel's and a narrower one's.
_WEIGHTS = (
    -3.974, -4.881, -1.531, -0.114, -0.129, -0.058, 0.493, -1.291, 0.117, 0.178, -0.692, 5.856, 5.557,
)  # fmt: skip
# The same from the two ratios alone: they still speak where the spectrum is absurd.
_RATIO_WEIGHTS = (1.194, 15.948, 9.041)
_SHARP, _SHARP_BY_RATIOS = 0.85, 2.7
_NARROWER = 0.7
# Mean of σ (spectrum) / σ (edges); Gaussians have 0.8 … 1.6. Below it the spectrum has missed the blur.
_MISSED = 0.8
_SPARSER_THAN_BICUBIC = 0.97  # roughness of a disc's answer; sharp photographs have 0.98 and more
_LEAST_SIDE = 32  # LR px; of images of 24 px, three of twelve lost by their kernels, up to 12 dB
_NO_TEXTURE = 4.0  # residual of the spectral fit; photographs have up to 2.3, a smooth gradient 15
_NOISE_ALONE = 0.5  # noise of the power at the lowest frequencies; photographs with σ 10 have up to 0.24, noise 0.97
# Of the halves' covariances: estimates that cost more than a dB had 0.28 and more; with noise, one of 0.16 cost a dB,
# and those that gain have 0.02 … 0.15, a few 0.18.
_DISAGREEMENT, _DISAGREEMENT_IN_NOISE = 0.25, 0.15
_NOISE = 1e-3  # at the lowest frequencies; photographs without noise have less
_SAFE = "the bicubic kernel is used, which is the safe one."
_CLEARLY = 0.92  # roughness against the better of the Gaussian and the bicubic kernel


def choose_kernel(image: Tensor, settings: Settings, *, listener: Listener) -> KernelEstimate:
    """Estimate the kernel of an image by what the image allows.

    Args:
        image: (1, C, H, W), float, [0, 1].
        settings: Scale and the settings of the estimators.
        listener: Takes the events.

    Returns:
        The spectral, the free-form or the bicubic kernel; a note says if it is not the first, and why.
    """
    scale = settings.network_scale
    estimate = spectral.estimate_kernel(image, scale, settings.spectral, listener=listener)
    if estimate.notes or (why := _hopeless(image, estimate)) is not None:
        return _safe(estimate, estimate.notes[0] if estimate.notes else f"{why}: {_SAFE}", listener)
    if min(image.shape[-2:]) < least_side(scale) or not isinstance(settings.zssr, StartConfig):
        return estimate
    disc = _disc(image, estimate, settings)
    if disc is not None:
        return disc
    odds = sharpness(image, estimate, settings.zssr)
    missed = _spectrum_missed_the_blur(image, estimate.kernel)
    if missed and (free := _free_form(image, estimate, settings, is_sharp(odds), listener)) is not None:
        return free
    estimate = replace(estimate, figures={**estimate.figures, "sharpness": odds[0]})
    if is_sharp(odds):
        note = "the photograph is as sharp as its pixels allow: the bicubic kernel explains it better and is used."
    elif missed:
        note = f"the blur could not be estimated with confidence: {_SAFE}"
    elif _halves_disagree(estimate):
        note = f"random halves of the photograph tell different blurs: {_SAFE}"
    else:
        return estimate
    return _safe(estimate, note, listener)


def _hopeless(image: Tensor, estimate: KernelEstimate) -> str | None:
    """Why no blur can be measured on an image, if so."""
    side, figures = min(image.shape[-2:]), estimate.figures
    if side < _LEAST_SIDE:
        return f"a side of {side} px is too short to tell a blur, {_LEAST_SIDE} px are needed"
    if figures["residual"] > _NO_TEXTURE:
        return "the image has no texture on which a blur could be measured"
    if figures["noise"] > _NOISE_ALONE:
        return "the image shows hardly anything but noise"
    return None


def _halves_disagree(estimate: KernelEstimate) -> bool:
    allowed = _DISAGREEMENT if estimate.figures["noise"] < _NOISE else _DISAGREEMENT_IN_NOISE
    return estimate.figures.get("halves_spread", 0.0) > allowed


def _safe(estimate: KernelEstimate, note: str, listener: Listener) -> KernelEstimate:
    """The bicubic kernel in place of an estimate, and a sentence that says why."""
    if note not in estimate.notes:
        listener(Notice(stage=estimate.method, message=note))
    return replace(estimate, kernel=bicubic_instead(estimate.kernel), notes=(note,))


def bicubic_instead(kernel: Kernel) -> Kernel:
    """The bicubic kernel of an estimate's scale; what it takes the place of is in its provenance ("in_place_of")."""
    told = {name: value for name, value in kernel.provenance.items() if name != "halves"}
    return Kernel(bicubic(kernel.scale).array, kernel.scale, {"made_by": "bicubic", "in_place_of": told})


def is_sharp(odds: tuple[float, float]) -> bool:
    """Whether `sharpness` speaks for the bicubic kernel."""
    return odds[0] > _SHARP or odds[1] > _SHARP_BY_RATIOS


def sharpness(image: Tensor, estimate: KernelEstimate, config: StartConfig) -> tuple[float, float]:
    """Logarithms of the odds that the kernel is bicubic and not the spectral Gaussian: all evidence; the answers alone.

    Args:
        image: (1, C, H, W), float, [0, 1].
        estimate: The spectral estimate of it.
        config: Weights and precision of the start that gives the answers.
    """
    seen = evidence(image, estimate, config)
    return float(np.dot(_WEIGHTS, seen)), float(np.dot(_RATIO_WEIGHTS, seen[[0, -2, -1]]))


def evidence(image: Tensor, estimate: KernelEstimate, config: StartConfig) -> NDArray[np.float64]:
    """What `sharpness` weighs, (13,): see `_WEIGHTS`."""
    kernel = estimate.kernel
    as_is, narrow, plain = roughness(image, (kernel, narrowed(kernel, _NARROWER), bicubic(kernel.scale)), config)
    beta = float(estimate.settings["own_blur"])  # type: ignore[arg-type]
    spectrum = np.log(along(kernel.covariance) / (kernel.scale**2 - beta) + 0.02)
    edges = 2 * np.log(edge_widths(image))
    figures = estimate.figures
    return np.array([
        1.0, spectrum.mean(), spectrum.max() - spectrum.min(),
        edges[1, 1].mean(), edges[1, 2].mean(), edges[1, 1].min(), edges[0, 0].mean(), edges[2, 1].mean(),
        figures["exponent"], math.log(figures["noise"] + 1e-6), math.log(figures["residual"] + 1e-6),
        math.log(as_is / plain), math.log(as_is / narrow),
    ])  # fmt: skip


def _disc(image: Tensor, estimate: KernelEstimate, settings: Settings) -> KernelEstimate | None:
    """A disc of defocus, if the spectrum allows for one and its answer is sparser than those of the other kernels."""
    scale, config = estimate.kernel.scale, replace(settings.spectral, discs=True)
    found = spectral.estimate_kernel(image, scale, replace(config, splits=0))
    if "disc_radius_lr" not in found.figures or found.kernel.size > min(image.shape[-2:]):
        return None
    start = settings.zssr if isinstance(settings.zssr, StartConfig) else None
    disc, gaussian, plain = roughness(image, (found.kernel, estimate.kernel, bicubic(scale)), start)
    if disc < gaussian and disc < _SPARSER_THAN_BICUBIC * plain:
        return spectral.estimate_kernel(image, scale, config)
    return None


def _spectrum_missed_the_blur(image: Tensor, kernel: Kernel) -> bool:
    """Whether the sharpest edges are far wider than an estimate says."""
    by_spectrum = np.sqrt(along(kernel.covariance)) / kernel.scale
    return float((by_spectrum / edge_widths(image)[1, 1]).mean()) < _MISSED


def _free_form(
    image: Tensor, estimate: KernelEstimate, settings: Settings, sharp: bool, listener: Listener
) -> KernelEstimate | None:
    """A free-form kernel, if both halves of the image tell it and its answer is sparser.

    Clearly sparser, where the photograph may be sharp: a wide kernel on a sharp photograph is the worst of all errors.
    """
    scale = estimate.kernel.scale
    if min(image.shape[-2:]) < LEAST_SIDE:
        return None
    free = l0.estimate_kernel(image, scale, settings.l0, listener=listener)
    if free.figures["agreement"] < AGREEMENT or free.kernel.size > min(image.shape[-2:]):
        return None
    config = settings.zssr if isinstance(settings.zssr, StartConfig) else None
    rough, *others = roughness(image, (free.kernel, estimate.kernel, bicubic(scale)), config)
    if rough > (_CLEARLY if sharp else 1.0) * min(others):
        return None
    note = "the edges are blurred by camera shake or defocus that is no Gaussian: a free-form kernel is used."
    listener(Notice(stage=free.method, message=note))
    return replace(free, notes=(*free.notes, note), figures={**free.figures, "roughness": rough})
