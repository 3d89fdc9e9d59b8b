"""The automatic estimator: the learned posterior, and a free-form kernel where both agree.

The learned estimator recognises camera shake, but its posterior mean is a blurred version of the path. Blind
deconvolution finds the path itself, or something entirely different: its error is bimodal, and neither the agreement of
two halves of an image nor the sparsity of a prediction separates the two. The posterior does. On photographs that were
not trained on, 18 of 19 free-form kernels within a distance of 0.31 of the posterior mean were better than the mean,
and 33 of 34 beyond it were worse (docs/notes/2026-11-28-learned-kernel.md). Two independent estimates that agree are
averaged; their weight falls smoothly with the distance.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from blindsr.estimators import blind_l0
from blindsr.estimators.blind_l0.estimator import MIN_SIDE as FREE_FORM_SIDE
from blindsr.estimators.blind_l0.estimator import L0Config
from blindsr.estimators.learned.estimator import MIN_SIDE, ImagePosterior, LearnedConfig, estimate_of, posterior_of
from blindsr.estimators.learned.network import KINDS
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate

__all__ = ["AutoConfig", "AutomaticEstimator"]

STAGE = "auto"
_SHAKE = KINDS.index("shake")
_SHAKE_PROBABILITY = 0.3  # above which a free-form kernel is estimated; it costs about a second
# Distances of the free-form kernel from the posterior mean between which its weight falls to 0.
_AGREEMENT = (0.24, 0.32)
_MAX_WEIGHT = 0.75  # about what inverse variances give: the two errors are 0.1 and 0.2
_FREE_FORM_ERROR = 0.12  # kernel_error of the average


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
            The estimate as of `blindsr.estimators.learned.estimate_of`. The metrics have `free_form_weight`, the share
            of the free-form kernel, and `free_form_distance`, where one was estimated.

        Raises:
            ImageError: Not (1, C, H, W), or a side is shorter than 32 px.
            ConfigError: Another scale.
        """
        config = self.config
        listener(StageStarted(stage=STAGE))
        posterior = posterior_of(lr, scale, config.learned)
        estimate = estimate_of(posterior, scale, config.learned)
        is_shake = posterior is not None and posterior.kinds[_SHAKE] > _SHAKE_PROBABILITY
        if posterior is not None and is_shake and min(lr.shape[-2:]) >= FREE_FORM_SIDE:
            free = blind_l0.estimate_kernel(lr, scale, config.l0)
            estimate = _combined(estimate, posterior, free.kernel, config.learned)
        for warning in estimate.warnings:
            listener(Notice(stage=STAGE, message=warning))
        listener(StageDone(stage=STAGE, steps=1))
        return replace(estimate, kernel=_named(estimate), method=STAGE)


def _named(estimate: KernelEstimate) -> Kernel:
    """The kernel of an estimate, with this estimator and the error of the estimate in its provenance."""
    kernel = estimate.kernel
    if "in_place_of" in kernel.provenance:
        return kernel
    own = {"made_by": STAGE, "kernel_error": round(float(estimate.kernel_error or 0.0), 4)}
    return Kernel(kernel.array, kernel.scale, {**kernel.provenance, **own})


def _combined(
    estimate: KernelEstimate, posterior: ImagePosterior, free: Kernel, config: LearnedConfig
) -> KernelEstimate:
    """The mean of the learned estimate and a free-form kernel, by how far they agree."""
    distance = posterior.distance(free)
    near, far = _AGREEMENT
    weight = _MAX_WEIGHT * float(np.clip((far - distance) / (far - near), 0, 1))
    metrics = {**estimate.metrics, "free_form_distance": distance, "free_form_weight": weight}
    if weight == 0:
        return replace(estimate, metrics=metrics)
    joint = estimate_of(posterior.mixed(free, weight), estimate.kernel.scale, config)
    share = weight / _MAX_WEIGHT
    kernel_error = share * _FREE_FORM_ERROR + (1 - share) * float(joint.kernel_error or 0.0)
    metrics = {**joint.metrics, **metrics, "kernel_error": kernel_error}
    return replace(joint, metrics=metrics, kernel_error=kernel_error)
