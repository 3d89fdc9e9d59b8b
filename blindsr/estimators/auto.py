"""The automatic estimator: the learned posterior, and a free-form kernel for camera shake where all agree.

The learned estimator recognises camera shake, but its posterior mean is a blurred version of the path. Blind
deconvolution finds the path itself, or something entirely different: its error is bimodal, and neither the agreement of
two halves of an image nor the sparsity of a prediction separates the two. Two runs do that start from different
kernels, one from coarse to fine and one from the posterior mean: where they end in the same kernel, and that is not far
from the posterior, it is right in nearly all cases (docs/notes/2026-11-29-independent-estimates.md). Its weight falls
smoothly with the distances.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from blindsr.estimators import blind_l0
from blindsr.estimators.blind_l0 import MIN_SIDE as FREE_FORM_SIDE
from blindsr.estimators.blind_l0 import L0Config
from blindsr.estimators.learned.estimator import (
    MIN_SIDE,
    ImagePosterior,
    LearnedConfig,
    estimate_of,
    posterior_of,
    transfer_distance,
    transfer_of,
)
from blindsr.estimators.learned.network import KINDS
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate

__all__ = ["AutoConfig", "AutomaticEstimator"]

STAGE = "auto"
_SHAKE = KINDS.index("shake")
_SHAKE_PROBABILITY = 0.3  # above which a free-form kernel is estimated; it costs about a second
_MAX_SHAPE_SHARE = 0.5  # beyond, it is a straight motion, and its few parameters say more than a free form
# Distances between the two free-form kernels, and of their mean from the posterior mean, between which the weight of
# their mean falls to 0.
_AGREEMENT, _MAX_DISTANCE = (0.12, 0.2), (0.3, 0.36)
_FREE_FORM_ERROR, _ERROR_SLOPE = 0.06, 0.1  # kernel_error of their mean, and its growth with the second distance


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """Settings of the estimators that the automatic one combines."""

    learned: LearnedConfig = field(default_factory=LearnedConfig)
    l0: L0Config = field(default_factory=L0Config)


class AutomaticEstimator:
    """The learned estimator, and a free-form kernel for camera shake where both agree (default)."""

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
            The estimate as of `blindsr.estimators.learned.estimate_of`. Where free-form kernels were estimated, the
            metrics have `free_form_weight`, the share of their mean; `free_form_spread`, the distance between them; and
            `free_form_distance`, that of their mean from the posterior mean.

        Raises:
            ImageError: Not (1, C, H, W), or a side is shorter than 32 px.
            ConfigError: Another scale.
        """
        config = self.config
        listener(StageStarted(stage=STAGE))
        posterior = posterior_of(lr, scale, config.learned)
        estimate = estimate_of(posterior, scale, config.learned)
        is_shake = (
            posterior is not None
            and posterior.kinds[_SHAKE] > _SHAKE_PROBABILITY
            and posterior.shape_share(config.learned)[0] < _MAX_SHAPE_SHARE
        )
        if posterior is not None and is_shake and min(lr.shape[-2:]) >= FREE_FORM_SIDE:
            free = blind_l0.independent_kernels(lr, scale, posterior.kernel, config.l0)
            estimate = _combined(estimate, posterior, free, config.learned)
        for warning in estimate.warnings:
            listener(Notice(stage=STAGE, message=warning))
        listener(StageDone(stage=STAGE, steps=1))
        return replace(estimate, kernel=_named(estimate), method=STAGE)


def _named(estimate: KernelEstimate) -> Kernel:
    """The kernel of an estimate, with this estimator in its provenance."""
    kernel = estimate.kernel
    if "in_place_of" in kernel.provenance:
        return kernel
    return Kernel(kernel.array, kernel.scale, {**kernel.provenance, "made_by": STAGE})


def _combined(
    estimate: KernelEstimate, posterior: ImagePosterior, free: tuple[Kernel, Kernel], config: LearnedConfig
) -> KernelEstimate:
    """The learned estimate, or the mean of two free-form kernels, by how far all of them agree."""
    first, second = (transfer_of(kernel) for kernel in free)
    mean = (first + second) / 2
    spread, distance = transfer_distance(first, second), transfer_distance(mean, posterior.transfer)
    weight = _falling(spread, _AGREEMENT) * _falling(distance, _MAX_DISTANCE)
    metrics = {"free_form_spread": spread, "free_form_distance": distance, "free_form_weight": weight}
    if weight == 0:
        return replace(estimate, metrics={**estimate.metrics, **metrics})
    config = replace(
        config,
        spectral_weight=(1 - weight) * config.spectral_weight,
        shape_weight=(1 - weight) * config.shape_weight,
    )
    free_form = weight, _FREE_FORM_ERROR + _ERROR_SLOPE * distance
    joint = estimate_of(posterior.mixed(mean, weight), estimate.kernel.scale, config, free_form=free_form)
    return replace(joint, metrics={**joint.metrics, **metrics})


def _falling(value: float, bounds: tuple[float, float]) -> float:
    """1 below the first bound, 0 above the second, linear between."""
    return float(np.clip((bounds[1] - value) / (bounds[1] - bounds[0]), 0, 1))
