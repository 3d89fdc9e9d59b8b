"""The automatic estimator: the learned posterior, and for camera shake the kernel that a network makes of several.

The learned estimator recognises camera shake, but its posterior mean is a blurred version of the path. Two methods find
the path itself, or something entirely different: blind deconvolution, from three starts, and the fit of a smooth path
to the zeros of the spectrum. A network that has seen which of them is right makes one kernel of them, and predicts its
error; a candidate that explains the spectrum is averaged with it (docs/notes/2026-11-30-kernels-of-shakes.md).
"""

from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindsr.estimators.base import ConfiguredEstimator
from blindsr.estimators.blind_l0 import MIN_SIDE as FREE_FORM_SIDE
from blindsr.estimators.blind_l0 import L0Config, independent_kernels
from blindsr.estimators.learned.estimator import MIN_SIDE, ImagePosterior, LearnedConfig, estimate_of, posterior_of
from blindsr.estimators.learned.network import KINDS
from blindsr.estimators.learned.shake import ShakeEvidence, shake_kernel
from blindsr.estimators.learned.tiles import textured_tiles
from blindsr.estimators.learned.transfers import Plane, frequencies_of, kernel_of, transfer_distance, transfer_of
from blindsr.estimators.learned.wide import ramp, sparsity_without
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.ops import luma
from blindsr.ops.shapes import Line, Path, residual_of
from blindsr.ops.spectrum import ExponentPrior

__all__ = ["AutoConfig", "AutomaticEstimator", "evidence_of"]

STAGE = "auto"
_SHAKE = KINDS.index("shake")
# Probabilities of a shake between which the kernel that is made for it gets its share, and expected errors of it, over
# this probability, between which the share falls to 0: a kernel for an image that is not shaken is worse than expected.
_SHAKE_PROBABILITIES, _SHAKE_ERRORS = (0.3, 0.4), (0.12, 0.3)
# Residuals of the spectrum, over that of a Gaussian, between which the share of the best candidate falls to 0. They are
# lower by up to _FAR where it is far from the posterior mean, between these distances; its share falls to 0 between the
# next ones, and with the probability of a shake.
_RESIDUALS, _FAR, _DISTANCES = (0.85, 0.95), 0.15, (0.3, 0.45)
_TOO_FAR, _CERTAIN = (0.5, 0.65), (0.3, 0.6)
# Half of the kernel, at most, is that of the best candidate, and less of one that is this far from the network's.
_MAX_PROVEN, _UNLIKE = 0.5, (0.15, 0.3)
_FITTED = 0.12  # by which the residual of the path is too small, because it was fitted to the spectrum
# Candidates that are averaged: within this distance of the best one, and with a residual at most so much larger. Their
# weights fall by a factor of e for each _TEMPERATURE.
_NEAR, _WORSE, _TEMPERATURE = 0.18, 0.25, 0.07
# kernel_error of what is proven: the least, what is added between these residuals, and for the distance.
_PROVEN_ERROR, _UNEXPLAINED, _UNEXPLAINED_RESIDUALS, _PROVEN_SLOPE = 0.035, 0.035, (0.5, 0.85), 0.06
# Starts of the fit of the path: so many that are near to the posterior mean, and a straight motion bent by shares.
_NEAR_PATHS, _BENDS = 2, ((0.4, 0.0), (0.0, 0.4), (0.4, 0.4))
_TILES = 16  # most textured tiles on which a path is told from its reflection


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """Settings of the estimators that the automatic one combines."""

    learned: LearnedConfig = field(default_factory=LearnedConfig)
    l0: L0Config = field(default_factory=L0Config)


class AutomaticEstimator(ConfiguredEstimator[AutoConfig]):
    """The learned estimator, and for camera shake a kernel that a network makes of several (default)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = AutoConfig
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = 0.1

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate the kernel of an image.

        Args:
            lr: (1, C, h, w), float, [0, 1].
            scale: Factor from LR to HR.
            listener: Receives the events.

        Returns:
            The estimate as of `blindsr.estimators.learned.estimate_of`. Where a shake is likely, the metrics have
            `shake_share`, the share of the kernel that was made for it; `shake_error`, its expected error;
            `shake_distance`, its distance from the posterior mean; and `shake_proven_share`, the part of that share
            that a candidate has by what it explains of the spectrum.

        Raises:
            ImageError: Not (1, C, H, W), or a side is shorter than 32 px.
            ConfigError: Another scale.
        """
        config = self.config
        listener(StageStarted(stage=STAGE))
        posterior = posterior_of(lr, scale, config.learned)
        evidence = None
        is_shaken = posterior is not None and posterior.kinds[_SHAKE] > _SHAKE_PROBABILITIES[0]
        if posterior is not None and is_shaken and min(lr.shape[-2:]) >= FREE_FORM_SIDE:
            evidence = evidence_of(lr, posterior, config.l0)
        if evidence is None:
            estimate = estimate_of(posterior, scale, config.learned)
        else:
            estimate = _with_shake(evidence, config.learned)
        for warning in estimate.warnings:
            listener(Notice(stage=STAGE, message=warning))
        listener(StageDone(stage=STAGE, steps=1))
        return replace(estimate, kernel=_named(estimate), method=STAGE, settings=asdict(config))


def evidence_of(lr: Tensor, posterior: ImagePosterior, config: L0Config) -> ShakeEvidence | None:
    """What blind deconvolution and the fit of a path find for an image that may be shaken.

    Args:
        lr: (1, C, H, W), [0, 1]; sides of 64 px or more.
        posterior: Of the image.
        config: Settings of the blind deconvolution.

    Returns:
        None for an image without a spectrum, which is flat.
    """
    data, prior, scale = posterior.spectral.data, ExponentPrior(), posterior.scale
    if data is None:
        return None
    line = Line.fit(data, prior, [Line.starts(c) for c in (posterior.covariance, posterior.spectral.covariance)])
    starts = [*Path.near(posterior.transfer, line, _NEAR_PATHS), *(Path.bent(line, *bends) for bends in _BENDS)]
    path = Path.fit(data, prior, starts)
    tiles = textured_tiles(luma(lr.detach()).cpu().float() * 255, _TILES)
    # The spectrum does not tell a path from its point reflection; the one whose removal leaves sparser edges is taken.
    given, reflected = (
        sparsity_without(tiles, lambda f, sign=sign: _reflected(path.transfer(f), sign))  # type: ignore[misc]
        for sign in (1, -1)
    )
    transfer = _reflected(path.transfer(frequencies_of(scale)), 1 if given > reflected else -1)
    first, second, third = independent_kernels(lr, scale, [posterior.kernel, kernel_of(transfer, scale)], config)
    unexplained = [residual_of(data, kernel.array, scale, prior) for kernel in (first, second, third)]
    unexplained += [path.residual, line.residual]
    one, two, three, four, five = (residual / posterior.spectral.residual for residual in unexplained)
    return ShakeEvidence(
        posterior=posterior,
        free=(transfer_of(first), transfer_of(second), transfer_of(third)),
        path=transfer,
        residuals=(one, two, three, four, five),
        sparsities=(given, reflected),
        pixels=lr.shape[-2] * lr.shape[-1],
    )


def _reflected(transfer: NDArray[np.inexact], sign: int) -> Plane:
    return np.asarray(transfer.real + sign * 1j * transfer.imag, np.complex128)


def _with_shake(evidence: ShakeEvidence, config: LearnedConfig) -> KernelEstimate:
    """The learned estimate with the kernel that was made for a shake, and the proven candidates, by their shares."""
    posterior = evidence.posterior
    transfer, error = shake_kernel(evidence)
    probability = float(posterior.kinds[_SHAKE])
    made = ramp(probability, _SHAKE_PROBABILITIES) * (1 - ramp(error / probability, _SHAKE_ERRORS))
    best, proven, best_error = _proven(evidence)
    proven *= 1 - ramp(transfer_distance(best, transfer), _UNLIKE)
    share = 1 - (1 - made) * (1 - proven)
    if share > 0:
        part = proven / share  # the network has its share of the rest
        transfer, error = (1 - part) * transfer + part * best, (1 - part) * error + part * best_error
    rest = {name: (1 - share) * getattr(config, name) for name in ("spectral_weight", "max_shape_share")}
    mean = posterior.mixed(transfer, share)
    estimate = estimate_of(mean, posterior.scale, replace(config, **rest), free_form=(share, error))
    metrics = {
        "shake_share": share,
        "shake_error": error,
        "shake_distance": transfer_distance(transfer, posterior.transfer),
        "shake_proven_share": proven,
    }
    return replace(estimate, metrics={**estimate.metrics, **metrics})


def _proven(evidence: ShakeEvidence) -> tuple[Plane, float, float]:
    """The mean of the candidates that explain the spectrum best, its share (0 to `_MAX_PROVEN`) and its kernel_error.

    The constants are those of docs/notes/2026-11-29-zeros-of-the-spectrum.md.
    """
    posterior = evidence.posterior
    transfers = [*evidence.free, evidence.path]
    *scores, of_path = evidence.residuals[:4]
    scores.append(of_path + _FITTED)
    best = min(range(len(scores)), key=scores.__getitem__)
    near = [
        i
        for i, transfer in enumerate(transfers)
        if scores[i] < scores[best] + _WORSE and transfer_distance(transfer, transfers[best]) < _NEAR
    ]
    weights = np.exp([(scores[best] - scores[i]) / _TEMPERATURE for i in near])
    mean = np.asarray(np.tensordot(weights / weights.sum(), np.stack([transfers[i] for i in near]), 1))
    distance = transfer_distance(mean, posterior.transfer)
    shift = _FAR * ramp(distance, _DISTANCES)
    share = (1 - ramp(scores[best] + shift, _RESIDUALS)) * (1 - ramp(distance, _TOO_FAR))
    share *= _MAX_PROVEN * ramp(float(posterior.kinds[_SHAKE]), _CERTAIN)
    error = _PROVEN_ERROR + _UNEXPLAINED * ramp(scores[best], _UNEXPLAINED_RESIDUALS) + _PROVEN_SLOPE * distance
    return mean, share, error


def _named(estimate: KernelEstimate) -> Kernel:
    """The kernel of an estimate, with this estimator in its provenance."""
    kernel = estimate.kernel
    if kernel.is_replacement:
        return kernel
    return Kernel(kernel.array, kernel.scale, {**kernel.provenance, "made_by": STAGE})
