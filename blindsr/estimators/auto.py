"""The automatic estimator: the learned posterior, and for camera shake the path or the free-form kernel that is proven.

The learned estimator recognises camera shake, but its posterior mean is a blurred version of the path. Two methods find
the path itself, or something entirely different: blind deconvolution, from three starts, and the fit of a smooth path
to the zeros of the spectrum. What tells right ones from wrong ones is how well they explain the spectrum of the image,
which blind deconvolution has not used (docs/notes/2026-11-29-zeros-of-the-spectrum.md). The best one and those near to
it are averaged; the share of their mean falls smoothly with what it leaves unexplained.
"""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindsr.estimators import blind_l0
from blindsr.estimators.blind_l0 import MIN_SIDE as FREE_FORM_SIDE
from blindsr.estimators.blind_l0 import L0Config
from blindsr.estimators.learned.estimator import (
    MIN_SIDE,
    ImagePosterior,
    LearnedConfig,
    Plane,
    estimate_of,
    frequencies_of,
    kernel_of,
    posterior_of,
    textured_tiles,
    transfer_distance,
    transfer_of,
)
from blindsr.estimators.learned.network import KINDS
from blindsr.estimators.learned.wide import ramp, sparsity_without
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.ops import luma
from blindsr.ops.shapes import Line, Path, residual_of
from blindsr.ops.spectrum import ExponentPrior

__all__ = ["AutoConfig", "AutomaticEstimator"]

STAGE = "auto"
_SHAKE = KINDS.index("shake")
_SHAKE_PROBABILITY = 0.3  # above which a free-form kernel is estimated; it costs about a second
# Residuals of the spectrum, over that of a Gaussian, between which the share of the best candidate falls to 0. They are
# lower by up to _FAR where it is far from the posterior mean, between these distances.
_RESIDUALS, _FAR, _DISTANCES = (0.85, 0.95), 0.15, (0.3, 0.45)
_TOO_FAR = (0.5, 0.65)  # distances between which it falls to 0 whatever is explained
_CERTAIN = (0.3, 0.6)  # probabilities of a shake between which what is found for it gets its share
_FITTED = 0.12  # by which the residual of the path is too small, because it was fitted to the spectrum
# Candidates that are averaged: within this distance of the best one, and with a residual at most so much larger. Their
# weights fall by a factor of e for each _TEMPERATURE.
_NEAR, _WORSE, _TEMPERATURE = 0.18, 0.25, 0.07
# Where the residuals prove nothing: distances between two free-form kernels from different starts, and of their mean
# from the posterior mean, between which the share of this mean falls to 0.
_AGREEMENT, _MAX_DISTANCE = (0.12, 0.2), (0.3, 0.36)
# kernel_error of what is proven by the residuals: the least, what is added between these ones, and for the distance.
_PROVEN_ERROR, _UNEXPLAINED, _UNEXPLAINED_RESIDUALS, _PROVEN_SLOPE = 0.035, 0.035, (0.5, 0.85), 0.06
_SURE = 0.5  # share of an agreement, above which nothing that is not near to it counts
_AGREED_ERROR, _ERROR_SLOPE = 0.06, 0.1  # the same of what is proven by agreement, and its growth with the distance
# Starts of the fit of the path: so many that are near to the posterior mean, and a straight motion bent by shares.
_NEAR_PATHS, _BENDS = 2, ((0.4, 0.0), (0.0, 0.4), (0.4, 0.4))
_TILES = 16  # most textured tiles on which a path is told from its reflection


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """Settings of the estimators that the automatic one combines."""

    learned: LearnedConfig = field(default_factory=LearnedConfig)
    l0: L0Config = field(default_factory=L0Config)


class AutomaticEstimator:
    """The learned estimator, and for camera shake the path or the free-form kernel that is proven (default)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = AutoConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = 0.1

    def __init__(self, config: AutoConfig | None = None) -> None:
        self.config = AutoConfig() if config is None else config

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate the kernel of an image.

        Args:
            lr: (1, C, h, w), float, [0, 1].
            scale: Factor from LR to HR.
            listener: Receives the events.

        Returns:
            The estimate as of `blindsr.estimators.learned.estimate_of`. Where a shake is likely, the metrics have
            `shake_share`, the share of the kernel that was found for it; `shake_residual`, how much of the spectrum
            that kernel leaves unexplained, over what a Gaussian does; and `shake_distance`, its distance from the
            posterior mean.

        Raises:
            ImageError: Not (1, C, H, W), or a side is shorter than 32 px.
            ConfigError: Another scale.
        """
        config = self.config
        listener(StageStarted(stage=STAGE))
        posterior = posterior_of(lr, scale, config.learned)
        is_shake = posterior is not None and posterior.kinds[_SHAKE] > _SHAKE_PROBABILITY
        if posterior is not None and is_shake and min(lr.shape[-2:]) >= FREE_FORM_SIDE:
            estimate = _with_shake(posterior, _shake_of(lr, posterior, config.l0), config.learned)
        else:
            estimate = estimate_of(posterior, scale, config.learned)
        for warning in estimate.warnings:
            listener(Notice(stage=STAGE, message=warning))
        listener(StageDone(stage=STAGE, steps=1))
        return replace(estimate, kernel=_named(estimate), method=STAGE)


@dataclass(frozen=True)
class _Shake:
    """What was found for a shake: its transfer function, how far it is proven, and its kernel_error."""

    transfer: Plane
    share: float
    error: float
    residual: float
    distance: float


def _shake_of(lr: Tensor, posterior: ImagePosterior, config: L0Config) -> _Shake:
    """The mean of the candidates that explain the spectrum best, or of free-form kernels that agree."""
    scale, path = posterior.scale, _path_of(lr, posterior)
    starts = [posterior.kernel] + ([] if path is None else [kernel_of(path[0], scale)])
    free = blind_l0.independent_kernels(lr, scale, starts, config)
    transfers, data = [transfer_of(kernel) for kernel in free], posterior.spectral.data
    agreed = _agreed(transfers[0], transfers[1], posterior)
    if path is None or data is None:
        return agreed
    gaussian = posterior.spectral.residual
    scores = [residual_of(data, kernel.array, scale, ExponentPrior()) / gaussian for kernel in free]
    transfers, scores = [*transfers, path[0]], [*scores, path[1] / gaussian + _FITTED]
    best = min(range(len(scores)), key=scores.__getitem__)
    near = [
        i
        for i, transfer in enumerate(transfers)
        if scores[i] < scores[best] + _WORSE and transfer_distance(transfer, transfers[best]) < _NEAR
    ]
    weights = np.exp([(scores[best] - scores[i]) / _TEMPERATURE for i in near])
    mean = np.asarray(np.tensordot(weights / weights.sum(), np.stack([transfers[i] for i in near]), 1))
    distance = transfer_distance(mean, posterior.transfer)
    shift = _FAR * (1 - _falling(distance, _DISTANCES))
    share = _falling(scores[best] + shift, _RESIDUALS) * _falling(distance, _TOO_FAR)
    share *= ramp(float(posterior.kinds[_SHAKE]), _CERTAIN)
    error = _PROVEN_ERROR + _UNEXPLAINED * ramp(scores[best], _UNEXPLAINED_RESIDUALS) + _PROVEN_SLOPE * distance
    proven = _Shake(mean, share, error, scores[best], distance)
    # Two free forms from different starts that agree, and another candidate that is the best: the agreement counts.
    contradicted = agreed.share > _SURE and transfer_distance(mean, agreed.transfer) > _NEAR
    return replace(agreed, residual=scores[best]) if contradicted or agreed.share > share else proven


def _path_of(lr: Tensor, posterior: ImagePosterior) -> tuple[Plane, float] | None:
    """The transfer function of the smooth path that explains the spectrum best, and its residual.

    The spectrum does not tell a path from its point reflection: the one whose removal leaves sparser edges is taken.
    """
    data, prior = posterior.spectral.data, ExponentPrior()
    if data is None:
        return None
    line = Line.fit(data, prior, [Line.starts(c) for c in (posterior.covariance, posterior.spectral.covariance)])
    starts = [*Path.near(posterior.transfer, line, _NEAR_PATHS), *(Path.bent(line, *bends) for bends in _BENDS)]
    path = Path.fit(data, prior, starts)
    tiles = textured_tiles(luma(lr.detach()).cpu().float() * 255, _TILES)
    given, reflected = (
        sparsity_without(tiles, lambda f, sign=sign: _reflected(path.transfer(f), sign))  # type: ignore[misc]
        for sign in (1, -1)
    )
    transfer = path.transfer(frequencies_of(posterior.scale))
    return _reflected(transfer, 1 if given > reflected else -1), path.residual


def _reflected(transfer: NDArray[np.inexact], sign: int) -> Plane:
    return np.asarray(transfer.real + sign * 1j * transfer.imag, np.complex128)


def _agreed(first: Plane, second: Plane, posterior: ImagePosterior) -> _Shake:
    """The mean of two free-form kernels, by how far they agree with each other and with the posterior mean."""
    mean = (first + second) / 2
    distance = transfer_distance(mean, posterior.transfer)
    share = _falling(transfer_distance(first, second), _AGREEMENT) * _falling(distance, _MAX_DISTANCE)
    return _Shake(mean, share, _AGREED_ERROR + _ERROR_SLOPE * distance, math.nan, distance)


def _with_shake(posterior: ImagePosterior, shake: _Shake, config: LearnedConfig) -> KernelEstimate:
    """The learned estimate with what was found for a shake by its share."""
    config = replace(config, spectral_weight=(1 - shake.share) * config.spectral_weight)
    mean = replace(posterior.mixed(shake.transfer, shake.share), shape=None)  # a straight motion is a path as well
    estimate = estimate_of(mean, posterior.scale, config, free_form=(shake.share, shake.error))
    metrics = {"shake_share": shake.share, "shake_distance": shake.distance}
    if math.isfinite(shake.residual):
        metrics["shake_residual"] = shake.residual
    return replace(estimate, metrics={**estimate.metrics, **metrics})


def _named(estimate: KernelEstimate) -> Kernel:
    """The kernel of an estimate, with this estimator in its provenance."""
    kernel = estimate.kernel
    if "in_place_of" in kernel.provenance:
        return kernel
    return Kernel(kernel.array, kernel.scale, {**kernel.provenance, "made_by": STAGE})


def _falling(value: float, bounds: tuple[float, float]) -> float:
    """1 below the first bound, 0 above the second, linear between."""
    return 1 - ramp(value, bounds)
