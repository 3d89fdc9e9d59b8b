"""The learned estimator: from the tiles of an image to the posterior mean of its kernel, and the kernel's error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.estimators.base import ConfiguredEstimator, check_image, flat_estimate
from blindsr.estimators.learned.features import tile_features, view_tables
from blindsr.estimators.learned.network import KINDS, Posterior, formula_transfer, load_networks
from blindsr.estimators.learned.overlay import without_overlay
from blindsr.estimators.learned.sharpening import RINGS, SIGMA, Sharpening, estimate_sharpening
from blindsr.estimators.learned.strokes import stroke_sigma
from blindsr.estimators.learned.tiles import corner_noise, detail_ratios, field_motion, textured_tiles
from blindsr.estimators.learned.transfers import (
    STEPS,
    Plane,
    central,
    error_of,
    frequencies_of,
    kernel_of,
    radius_of,
    transfer_distance,
    transfer_of,
)
from blindsr.estimators.learned.wide import (
    POINTS,
    SpectralGaussian,
    fitted_gaussian,
    ramp,
    rounded,
    sparsity,
)
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic, box
from blindsr.ops import dihedral_inverse, luma
from blindsr.ops.repetition import find_repetition
from blindsr.ops.resampling import find_enlargement
from blindsr.ops.shapes import Disc, Line, Shape
from blindsr.ops.spectrum import ExponentPrior
from blindsr.registry import check_setting

__all__ = [
    "MIN_SIDE",
    "ImagePosterior",
    "LearnedConfig",
    "LearnedEstimator",
    "confidence_of",
    "estimate_of",
    "posterior_of",
    "width_error",
    "with_shape",
]

STAGE = "learned"
MIN_SIDE = 32  # LR px
_KERNEL_ERROR = 0.1  # of a kernel of this estimator without an error of its own
_MIN_SHARE = 0.0005  # share of the bicubic kernel from which the provenance has it
_NOISY = 2.0  # grey levels of predicted noise
_PATTERN = 0.5  # first of `detail_ratios`, 1 for noise, below which there is a pattern of single pixels
_DRAWN = 4.0  # grey levels of the finest detail, beyond which it is no rounding
_MORE = 2.0  # factor of an earlier enlargement from which the networks know it better than its trace
_KNOWN_KERNEL_ADVICE = "If you know the blur, use `blindsr upscale` with --kernel (kernel= in Python)."
_FLOOR = 2.0  # second of these ratios below which the spectrum ends in a noise floor
_WARNED_SHARE = 0.5  # share of the bicubic kernel above which there is a warning
# Probabilities of a sharp image or a Gaussian, between which the fitted spectrum gets its weight.
_GAUSSIAN_PROBABILITIES = (0.5, 0.8)
_DRAWN_PROBABILITIES = (0.3, 0.5)  # the same, between which strokes on an even ground tell the width
_DRAWN_RATIOS = (
    1.35,
    1.55,
)  # longest σ of the fitted Gaussian over that of strokes, between which these cease to count
_STROKE_LIMITS, _MAX_WIDER = (0.72, 0.8), 0.4  # LR px; share by which the fitted spectrum may be wider
_WIDE_PROBABILITIES = (0.4, 0.7)  # the same, between which a wide Gaussian is left to the fitted spectrum
# Probability of a disc or a shake, from which a disc or a straight motion is fitted to the spectrum, in 0.1 s.
_SHAPE_PROBABILITY = 0.2
_SHAPE_ERROR_SHARE = 0.55  # kernel_error as a share of the error, of such a shape
_GAUSSIAN, _DISC = KINDS.index("gaussian"), KINDS.index("disc")
_SHAPES: dict[str, type[Shape]] = {"disc": Disc, "shake": Line}
_MIN_SHARPENING, _WARNED_SHARPENING = 0.05, 0.5  # amounts from which the provenance has it, and there is a warning
_ALIASED = 0.75  # cycles per LR pixel, beyond the limit of the pixels
_SAMPLED = (0.55, 0.8)  # mean transfer function there, of the networks, from a box over the pixel to no blur at all
_MASKED = (0.7, 1.0)  # amounts of an unsharp mask between which an image does not count as aliased
_FIELD_MOTION = (0.6, 0.9)  # LR pixels of `field_motion` between which an image counts as interlaced
_FIELD_ERROR = 0.3  # kernel_error of such an image
_WIDTH_STEP = 0.1  # relative change of a kernel's width that measures how its transfer function depends on it


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedConfig:
    """Settings of the learned estimator; the defaults were chosen on photographs that were not trained on.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    max_tiles: int = 24  # number of the most textured tiles that are used, at most
    tiles_per_set: int = 8  # tiles from which the network computes one posterior; those of all sets are averaged
    views: int = 8  # dihedral views of each set whose posteriors are averaged: 1, 2, 4 or 8
    # The Gaussian of the fitted spectrum is an estimate that is independent of the network. Its weight in the mean, for
    # images that are sharp or have a Gaussian blur; 0 leaves it out. It falls to 0 between two distances of it from the
    # network's mean.
    spectral_weight: float = 0.5
    spectral_distances: tuple[float, float] = (0.3, 0.6)
    # Predicted JPEG qualities between which the weight of the fitted spectrum rises from 0 to 1: what compression adds
    # to the spectrum of a blurred image looks like detail. Below, the error is this share of what the networks predict.
    spectral_qualities: tuple[float, float] = (80.0, 92.0)
    unconfirmed_error: float = 0.8
    # Shortest σ of the fitted spectrum, LR px, between which it replaces this mean, and its error there: it fits wide
    # Gaussians to a few per cent, where the network predicts a soft subject.
    wide_sigmas: tuple[float, float] = (0.95, 1.15)
    max_wide_sigmas: tuple[float, float] = (2.4, 3.0)  # longest σ between which it ceases to
    wide_error: float = 0.08
    # σ, LR px, between which that of dark strokes on an even ground (`stroke_sigma`) replaces this mean, and its error.
    stroke_sigmas: tuple[float, float] = (0.38, 0.48)
    stroke_error: float = 0.06
    # A disc or a straight motion that was fitted to the spectrum as well is averaged with the networks' mean by the
    # inverse variance, times a share. The share falls to 0 between two ratios of its residual to that of the fitted
    # Gaussian, between two distances of it from that mean, and between two differences of log-power by which the
    # spectrum rises behind its first zero (`Shape.lobe_contrast`).
    max_shape_share: float = 1.0
    shape_residuals: tuple[float, float] = (0.95, 1.0)
    shape_distances: tuple[float, float] = (0.25, 0.35)
    shape_contrasts: tuple[float, float] = (-0.2, -0.1)
    shape_error: float = 0.04  # error of the shape; of its mean with the networks', plus a tenth of that distance
    # What the error of this mean is computed from: these shares of the predicted error and of that distance.
    error_parts: tuple[float, float] = (0.4, 0.6)
    # kernel_error as a share of this error, by kind (sharp, Gaussian, disc, shake).
    error_shares: tuple[float, float, float, float] = (0.5, 0.55, 0.55, 1.4)
    max_kernel_error: float = 0.3  # upper bound of kernel_error; the upscaler was not trained for more than 0.4
    # Errors between which the estimate of a sharp image or a Gaussian is blended into the bicubic kernel.
    fallback_errors: tuple[float, float] = (0.1, 0.16)
    max_fallback_share: float = 0.7  # share of the bicubic kernel from the second of these errors on; 0 for none
    # The same of an image that seems to be shaken. A shake is recognised by more than its width, but not on images with
    # structure of their own along curves.
    shake_fallback_errors: tuple[float, float] = (0.22, 0.3)
    max_shake_fallback_share: float = 0.9
    # Errors between which an image is given up as nothing that the networks know, and gets the bicubic kernel itself:
    # photographs hardly ever have more than 0.5, test charts of rising frequencies 0.8 to 1.2.
    unknown_errors: tuple[float, float] = (0.5, 0.75)
    # Probabilities of a sharp image between which the estimate is blended into the bicubic kernel.
    sharp_probabilities: tuple[float, float] = (0.15, 0.3)
    max_sharp_share: float = 0.75  # share of the bicubic kernel from the second of these probabilities on
    # The same for an image that was enlarged before, whose pixels have no blur of their own.
    enlarged_probabilities: tuple[float, float] = (0.6, 0.85)
    max_enlarged_share: float = 0.9
    # Amounts of an unsharp mask between which it counts as found, as far as blur and mask together exceed the fitted
    # Gaussian or the bicubic kernel: it is then part of these, so that its halos are removed.
    sharpening_amounts: tuple[float, float] = (0.2, 0.5)
    sharpening_margin: float = 0.25  # over the number of tiles, is added to both: one tile is little evidence
    # Power at half of the Nyquist frequency over that at the corners of the spectrum (the first of `detail_ratios`)
    # between which the estimate is blended into the bicubic kernel: the image is sharp, or its spectrum ends in a noise
    # floor, and nothing shows whether it was blurred or has a soft subject.
    oversampled_ratios: tuple[float, float] = (7.0, 12.0)
    max_oversampled_share: float = 0.97
    # Mean transfer function of the networks at 0.75 cycles per LR pixel, which the bicubic kernel has nearly removed
    # (0.12), between which the image counts as aliased, and the expected error of its kernel.
    aliased_transfers: tuple[float, float] = (0.35, 0.5)
    aliased_error: float = 0.03

    def __post_init__(self) -> None:
        """Check the bounds, which follow from the types and the names."""
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name == "views":
                is_valid, bounds = value in (1, 2, 4, 8), "1, 2, 4 or 8"
            elif field.type is int:
                is_valid, bounds = isinstance(value, int) and value >= 1, "a whole number of 1 or more"
            elif name in ("error_parts", "error_shares"):
                count, word = (2, "two") if name == "error_parts" else (len(KINDS), "four")
                is_valid = len(value) == count and all(share >= 0 for share in value)
                bounds = f"{word} numbers of 0 or more"
            elif field.type == tuple[float, float]:
                lowest = -math.inf if name == "shape_contrasts" else 0
                is_valid = len(value) == 2 and lowest <= value[0] < value[1]
                bounds = "two increasing numbers"
            elif name == "spectral_weight" or name.endswith("_share"):
                is_valid, bounds = 0 <= value <= 1, "in [0, 1]"
            else:
                is_valid, bounds = value >= 0, "0 or more"
            check_setting(self, STAGE, name, is_valid, bounds)


class LearnedEstimator(ConfiguredEstimator[LearnedConfig]):
    """Kernel of any shape by a network that was trained on degraded photographs."""

    name: ClassVar[str] = "learned"
    config_type: ClassVar[type] = LearnedConfig
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = _KERNEL_ERROR

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate a kernel as the posterior mean of a network (docs/method/learned-kernel.md).

        Args:
            lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
            scale: Factor from LR to HR: 2, 3 or 4.
            listener: Receives the events of the stage "learned".

        Returns:
            As `estimate_of`.

        Raises:
            ImageError: Not (1, C, H, W), or a side is shorter than 32 px.
            ConfigError: Another scale.
        """
        config = self.config
        listener(StageStarted(stage=STAGE))
        estimate = estimate_of(posterior_of(lr, scale, config), scale, config)
        for warning in estimate.warnings:
            listener(Notice(stage=STAGE, message=warning))
        listener(StageDone(stage=STAGE, steps=1))
        return estimate


@dataclass(frozen=True)
class ImagePosterior:
    """The posterior of an image, in numpy and in the orientation of the image.

    Args:
        transfer: (16·s + 1, 16·s + 1), mean transfer function at multiples of 1/16 cycle per LR pixel from −s/2 to s/2,
            order (y, x).
        variance: (33, 33), variance of its error, from −1 to 1 cycle per LR pixel.
        kinds: (4,), probabilities of `KINDS`.
        metrics: Sharpening, noise and the rest by name.
        spectral: The Gaussian of the fitted spectrum.
        shape: The disc or the straight motion that explains the spectrum best, if one of them is likely.
        unsharp: What edges show of an unsharp mask.
    """

    transfer: Plane
    variance: NDArray[np.float64]
    kinds: NDArray[np.float64]
    metrics: dict[str, float]
    spectral: SpectralGaussian
    shape: Shape | None = None
    unsharp: Sharpening | None = None

    @property
    def scale(self) -> int:
        """Factor from LR to HR."""
        return (len(self.transfer) - 1) // STEPS

    @property
    def error(self) -> float:
        """Predicted error of the mean transfer function (`blindsr.ops.wiener.error_level`)."""
        return error_of(self.variance)

    def drawn(self, config: LearnedConfig) -> float:
        """Share, from 0 to 1, of the width that the ground of a drawing tells, where there is one and it is blurred.

        The ground tells the narrowest axis: where the fitted Gaussian is far longer, the blur is not round.
        """
        if (share := ramp(self.metrics["stroke_sigma"], config.stroke_sigmas)) == 0:
            return 0.0
        share *= ramp(float(self.kinds[0] + self.kinds[1]), _DRAWN_PROBABILITIES)
        return share * (1 - ramp(max(self.spectral.sigmas) / self.drawn_sigma, _DRAWN_RATIOS))

    @property
    def drawn_sigma(self) -> float:
        """σ, LR px, of the blur of a drawing. Its halos show no more than the narrowest widths of `_STROKE_LIMITS`.

        From there on it is that of the fitted spectrum, if that is wider.
        """
        sigma, fitted = self.metrics["stroke_sigma"], math.sqrt(math.prod(self.spectral.sigmas))
        wider = min(max(0.0, fitted - sigma), _MAX_WIDER * sigma)
        return sigma + ramp(sigma, _STROKE_LIMITS) * wider

    @property
    def kernel(self) -> Kernel:
        """The kernel of the mean transfer function."""
        return kernel_of(self.transfer, self.scale)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of the kernel, (2, 2), order (y, x), LR px², from the fall-off of its transfer function."""
        middle, step = len(self.transfer) // 2, 2
        centre = abs(self.transfer[middle, middle])

        def variance(y: int, x: int) -> float:
            """Along (y, x), times the squared length of (y, x)."""
            relative = float(abs(self.transfer[middle + step * y, middle + step * x]) / centre)
            return -math.log(min(max(relative, 1e-3), 1.0)) / (2 * math.pi**2) * (STEPS / step) ** 2

        mixed = (variance(1, 1) - variance(1, -1)) / 4
        return np.array([[variance(1, 0), mixed], [mixed, variance(0, 1)]])

    def shape_share(self, config: LearnedConfig) -> tuple[float, float]:
        """How far the shape is proven, from 0 to 1, and its distance from the mean.

        Its zeros are seen where it explains the spectrum better than a Gaussian, which has no fewer parameters, and
        where the spectrum does not fall on beyond the first of them. The filter of an enlargement has zeros of its own.
        """
        data = self.spectral.data
        if self.shape is None or data is None or self.metrics.get("detail_ratio", math.inf) < _PATTERN:
            return 0.0, 0.0  # a regular pattern has a spectrum of its own
        fitted = self.shape.transfer(frequencies_of(self.scale)).astype(np.complex128)
        distance = transfer_distance(fitted, self.transfer)
        ratio = self.shape.residual / self.spectral.residual
        share = (1 - ramp(ratio, config.shape_residuals)) * (1 - ramp(distance, config.shape_distances))
        share *= ramp(self.shape.lobe_contrast(data), config.shape_contrasts)
        share *= 1 - ramp(self.metrics["enlarged_probability"], config.enlarged_probabilities)
        return share * config.max_shape_share, distance

    def sharpening(self, base: Plane, config: LearnedConfig) -> float:
        """Amount a of the unsharp mask, 1 + a·(1 − G), that an image with a kernel was sharpened with; 0 for none.

        Points on an empty background have no edges, and those of an enlarged image are not those of a mask.

        Args:
            base: Transfer function of the kernel, at the frequencies of `transfer`.
            config: Bounds between which the amount counts.
        """
        if self.unsharp is None:
            return 0.0
        radius = radius_of(self.scale)
        blur = np.array([np.abs(base)[np.abs(radius - ring) <= 1 / STEPS].mean() for ring in RINGS])
        enlarged = ramp(self.metrics["enlarged_probability"], config.enlarged_probabilities)
        share = (1 - self.spectral.pointedness) * (1 - enlarged)
        amount = self.unsharp.amount_after(blur)
        margin = config.sharpening_margin / self.unsharp.tiles
        return share * amount * ramp(amount - margin, config.sharpening_amounts)

    def sharpened(self, base: Plane, config: LearnedConfig) -> Plane:
        """The transfer function of a kernel times that of the mask of `sharpening`."""
        return np.asarray(base * (1 + self.sharpening(base, config) * (_unsharp_mask(self.scale) - 1)), np.complex128)

    def aliasing(self, config: LearnedConfig) -> tuple[float, Plane]:
        """How far the image is aliased, from 0 to 1, and its kernel, which is narrower than the bicubic one.

        Images that were reduced by averaging blocks of pixels, or by leaving out pixels, have detail beyond the limit
        of theirs, which the bicubic kernel would have removed. In the training of the networks such kernels were narrow
        Gaussians.

        Returns:
            The share, and the transfer function of the kernel: between a box over the pixel and no blur at all.
        """
        radius = radius_of(self.scale)
        beyond = float(np.abs(self.transfer)[np.abs(radius - _ALIASED) <= 1 / STEPS].mean())
        certain = ramp(float(self.kinds[0] + self.kinds[1]), _GAUSSIAN_PROBABILITIES)
        enlarged = ramp(self.metrics["enlarged_probability"], config.enlarged_probabilities)
        share = ramp(beyond, config.aliased_transfers) * certain * (1 - enlarged) * (1 - self.spectral.pointedness)
        if self.unsharp is not None:  # an unsharp mask looks the same to the networks
            share *= 1 - ramp(self.unsharp.amount, _MASKED)
        sampled = ramp(beyond, _SAMPLED)
        combed = _combed(self.metrics)
        share, sampled = max(share, combed), max(sampled, combed)  # the kernel that sharpens least
        return share, (1 - sampled) * transfer_of(box(self.scale)) + sampled * _sampled_transfer(self.scale)

    def mixed(self, transfer: Plane, weight: float) -> "ImagePosterior":
        """The posterior whose mean is (1 − w) times this one's and w times another transfer function."""
        return replace(self, transfer=(1 - weight) * self.transfer + weight * transfer)


def posterior_of(lr: Tensor, scale: int, config: LearnedConfig) -> ImagePosterior | None:
    """The posterior of an image; None of a flat one.

    Args:
        lr: (1, C, H, W), [0, 1].
        scale: Factor from LR to HR: 2, 3 or 4.
        config: Settings.

    Raises:
        ImageError: Not (1, C, H, W), or a side is shorter than 32 px.
        ConfigError: Another scale.
    """
    check_image(lr, scale, LearnedEstimator)
    plane, overlay = without_overlay(luma(lr.detach()).cpu().float() * 255)
    points = sparsity(plane)
    if points < POINTS:  # the noise of an empty background is finer than rounding
        plane = rounded(plane)
    tiles = textured_tiles(plane, config.max_tiles)
    if not len(tiles):
        return None
    spectral = fitted_gaussian(
        plane,
        tiles,
        scale,
        frequencies_of(scale),
        wide=config.wide_sigmas[0],
        points=points,
        is_grey=bool((lr == lr[:, :1]).all()),
    )
    posterior = _posterior_of(tiles, spectral, scale, config)
    if (factor := find_enlargement(plane)) > 1:  # what the networks guess; larger factors leave the same trace
        seen = posterior.metrics
        is_more = seen["enlarged_probability"] > config.enlarged_probabilities[0] and seen["enlarged_factor"] > _MORE
        found = {"enlarged_probability": 1.0, "enlarged_factor": seen["enlarged_factor"] if is_more else factor}
        posterior = replace(posterior, metrics={**seen, **found})
    ratios = zip(("detail_ratio", "fine_detail_ratio"), detail_ratios(tiles), strict=True)
    measured = {**dict(ratios), "corner_grey_levels": corner_noise(tiles), "overlay_share": overlay}
    measured["field_motion"] = field_motion(plane)
    measured["stroke_sigma"] = stroke_sigma(plane)
    measured["repeated_rows"], measured["repeated_columns"] = find_repetition(plane / 255)
    return replace(with_shape(posterior, config), metrics={**posterior.metrics, **measured})


def with_shape(posterior: ImagePosterior, config: LearnedConfig) -> ImagePosterior:
    """The posterior with the shape with zeros in its spectrum that explains that of the image best, of the likely ones.

    A disc whose zero the spectrum does not show, where it would be seen, is a Gaussian as far as anyone can tell.
    """
    data = posterior.spectral.data
    if data is None:
        return posterior
    covariances = posterior.covariance, posterior.spectral.covariance
    fits = [
        shape.fit(data, ExponentPrior(), [shape.starts(covariance) for covariance in covariances])
        for kind, shape in _SHAPES.items()
        if posterior.kinds[KINDS.index(kind)] > _SHAPE_PROBABILITY
    ]
    kinds = posterior.kinds.copy()
    for fit in fits:
        contrast = fit.lobe_contrast(data)
        if isinstance(fit, Disc) and math.isfinite(contrast):
            refuted = kinds[_DISC] * (1 - ramp(contrast, config.shape_contrasts))
            kinds[[_GAUSSIAN, _DISC]] += refuted, -refuted
    best = min(fits, key=lambda fit: fit.residual, default=None)
    shape = None if best is None else best.softened(posterior.transfer, frequencies_of(posterior.scale))
    return replace(posterior, kinds=kinds, shape=shape)


def estimate_of(
    posterior: ImagePosterior | None, scale: int, config: LearnedConfig, *, free_form: tuple[float, float] = (0.0, 0.0)
) -> KernelEstimate:
    """The estimate that follows from a posterior.

    An uncertain kernel, and one of an image that is probably sharp, is blended into the bicubic one: a kernel that is
    too wide costs more than one that is too narrow.

    Args:
        posterior: From `posterior_of`.
        scale: Factor from LR to HR.
        config: Settings. A sharpening that was found is part of the kernel, also of its bicubic part.
        free_form: Weight and error of the free-form part of the mean; 0 for none.

    Returns:
        The kernel with its `kernel_error`, and in its provenance `width_error`, the relative standard deviation of its
        width, unless most of it is the bicubic kernel; `confidence` is computed from it. A flat image gets the bicubic
        kernel, with a warning; there is a warning, too, if most of a kernel is the bicubic one by its uncertainty. The
        metrics have `kernel_error`, the expected error that it is computed from, what the networks predict of it, the
        share of the bicubic kernel, the probabilities of the kinds, and sharpening, noise in grey levels, JPEG quality
        and previous enlargement.
    """
    if posterior is None:
        return flat_estimate(STAGE, scale, asdict(config))
    transfer, error = _with_spectral(posterior, config)
    shape, _ = posterior.shape_share(config)
    error_share = (1 - shape) * float(np.dot(posterior.kinds, config.error_shares)) + shape * _SHAPE_ERROR_SHARE
    kernel_error = error_share * error
    error, kernel_error = ((1 - free_form[0]) * value + free_form[0] * free_form[1] for value in (error, kernel_error))
    shares = _Shares.of(posterior, error, config)
    safe, known = shares.safe, 1 - shares.unknown
    bases = posterior.spectral.transfer, _bicubic_transfer(scale)
    estimated, reduced = (known * posterior.sharpening(base, config) for base in bases)
    gaussian = ramp(float(posterior.kinds[0] + posterior.kinds[1]), _GAUSSIAN_PROBABILITIES)
    sharpening = (1 - safe) * gaussian * estimated + safe * reduced
    aliased, narrow = shares.aliased, posterior.sharpened(shares.narrow, config)
    mean = (1 - safe) * transfer + safe * _bicubic_transfer(scale) * (1 + reduced * (_unsharp_mask(scale) - 1))
    kernel = kernel_of((1 - aliased) * mean + aliased * narrow, scale, has_halos=sharpening > 0)
    # The bicubic part is no estimate.
    kernel_error = (1 - aliased) * kernel_error * math.sqrt(1 - safe) + aliased * config.aliased_error
    kernel_error = min(max(kernel_error, shares.combed * _FIELD_ERROR), config.max_kernel_error)
    # The error goes with the kernel, so that one that is read back from a file is trusted as much.
    provenance = {**kernel.provenance, "kernel_error": round(kernel_error, 4)}
    if max(safe, aliased) < _WARNED_SHARE:
        provenance["width_error"] = round(width_error(kernel, error), 3)
    if (1 - aliased) * safe >= _MIN_SHARE:
        provenance["bicubic_share"] = round((1 - aliased) * safe, 3)
    if sharpening >= _MIN_SHARPENING:
        provenance["sharpening"] = round(sharpening, 2)
    kernel = Kernel(kernel.array, scale, provenance)
    metrics = {
        "kernel_error": kernel_error,
        "predicted_error": posterior.error,
        "bicubic_share": safe,
        "expected_error": error,
        "wide_share": shares.wide,
        "aliased_share": aliased,
        "shape_share": shape,
        "spectral_distance": transfer_distance(posterior.transfer, posterior.spectral.transfer),
        **{f"kind_{name}": float(value) for name, value in zip(KINDS, posterior.kinds, strict=True)},
    }
    warning = _warning(posterior, shares, sharpening)
    return KernelEstimate(
        kernel=kernel,
        method=STAGE,
        settings=asdict(config),
        metrics=metrics | posterior.metrics,
        warnings=() if warning is None else (warning,),
        kernel_error=kernel_error,
        confidence=confidence_of(kernel),
        noise_sigma=posterior.metrics["noise_grey_levels"] / 255,
        repetition=_repetition_of(posterior.metrics),
    )


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """How far an image is one of those whose kernel is not, or not only, what the networks say; each from 0 to 1.

    Soft subjects (clouds, dunes) do not show whether they are blurred. Discs are recognised by more than their width
    and are kept; so are shakes, up to a larger error.
    """

    is_repeated: bool  # its pixels were repeated
    unknown: float  # its expected error is beyond that of photographs, or its pixels were repeated
    uncertain: float  # its expected error is large
    sharp: float
    enlarged: float
    oversampled: float  # its spectrum ends before the limit of its pixels
    wide: float  # its blur is wider than those that the networks were trained for
    smooth: float  # it is soft, and has none of the edges that a blur softens
    points: float  # it is flat but for a few points or edges
    aliased: float  # it has more detail than a bicubic reduction leaves
    narrow: Plane  # the transfer function of an aliased image
    combed: float  # its lines are those of two fields that do not fit each other

    @classmethod
    def of(cls, posterior: ImagePosterior, error: float, config: LearnedConfig) -> "_Shares":
        """The shares of an image, whose kernel has an expected error."""
        shape, _ = posterior.shape_share(config)
        sharp, gaussian, disc, shake = (float(probability) for probability in posterior.kinds)
        gaussian_or_sharp = min(1.0, 2 * (sharp + gaussian))
        shaken = (1 - gaussian_or_sharp) * shake / max(disc + shake, 1e-9)
        uncertain = gaussian_or_sharp * config.max_fallback_share * ramp(error, config.fallback_errors)
        uncertain += shaken * config.max_shake_fallback_share * ramp(error, config.shake_fallback_errors)
        metrics = posterior.metrics
        enlarged = config.max_enlarged_share * ramp(metrics["enlarged_probability"], config.enlarged_probabilities)
        ended = config.max_oversampled_share * (1 - ramp(metrics["detail_ratio"], config.oversampled_ratios))
        wide, smooth = _wideness(posterior, config)
        points = posterior.spectral.pointedness
        aliased, narrow = posterior.aliasing(config)
        untold = 1 - posterior.drawn(config)  # share of the width that no ground tells
        is_repeated = max(_repetition_of(metrics)) > 1
        unknown = 1.0 if is_repeated else ramp(error, config.unknown_errors)
        return cls(
            is_repeated=is_repeated,
            unknown=unknown,
            uncertain=untold * (1 - shape) * uncertain,
            sharp=untold * (1 - shape) * config.max_sharp_share * ramp(sharp, config.sharp_probabilities),
            enlarged=(1 - shape) * enlarged,
            oversampled=untold
            * max((1 - wide) * (1 - shape) * ended, max(points, smooth) * config.max_oversampled_share),
            wide=wide,
            smooth=smooth,
            points=points,
            aliased=(1 - unknown) * aliased,
            narrow=narrow,
            combed=_combed(metrics),
        )

    @property
    def safe(self) -> float:
        """The share of the bicubic kernel."""
        parts = self.uncertain, self.sharp, self.enlarged, self.oversampled, self.unknown
        return 1 - math.prod(1 - part for part in parts)


def _warning(posterior: ImagePosterior, shares: _Shares, sharpening: float) -> str | None:
    """The one thing that is said of an estimate: the first that holds, beginning with what explains most."""
    metrics = posterior.metrics
    if shares.is_repeated:
        rows, columns = _repetition_of(metrics)
        size = f"1/{columns} of its size"
        if rows != columns:
            size = f"1/{columns} of its width and 1/{rows} of its height"
        return (
            f"the image was enlarged by repeating each pixel {columns}×{rows} times: it has the edges of these blocks, "
            f"and its kernel is the bicubic one. For a sharp result reduce it to {size} first, without interpolation."
        )
    if shares.combed > _WARNED_SHARE:
        return (
            "every second line is displaced, as in a frame of interlaced video with motion, so that hardly anything is "
            "sharpened; deinterlace the video first (for example by the filter bwdif of ffmpeg)."
        )
    if shares.aliased > _WARNED_SHARE:
        return None  # hardly anything of the kernel is the bicubic one
    if shares.enlarged > _WARNED_SHARE:
        factor = metrics["enlarged_factor"]
        return (
            f"the image seems to have been enlarged before, by about ×{factor:.1f}: its kernel is drawn to the bicubic "
            f"one. For a sharper result use the original, or reduce it to {100 / factor:.0f} % of its size first."
        )
    if shares.points > _WARNED_SHARE:
        return (
            "the image is flat but for a few points or edges, around which the removal of a blur leaves rings: the "
            f"kernel is drawn to the bicubic one. {_KNOWN_KERNEL_ADVICE}"
        )
    if shares.smooth > _WARNED_SHARE:
        return (
            "the image is soft, but has none of the edges that a blur softens, as with a smooth subject: the kernel is "
            f"drawn to the bicubic one. {_KNOWN_KERNEL_ADVICE}"
        )
    if shares.oversampled > _WARNED_SHARE and metrics["fine_detail_ratio"] < _FLOOR:
        return (
            f"{_why_no_detail(metrics)}, so that its blur cannot be measured: the kernel is drawn to the bicubic one. "
            f"{_KNOWN_KERNEL_ADVICE}"
        )
    if shares.unknown > _WARNED_SHARE:
        return (
            "the image is unlike the photographs that the estimate knows, as test charts and regular patterns are, and "
            f"its blur cannot be measured: the kernel is the bicubic one. {_KNOWN_KERNEL_ADVICE}"
        )
    if shares.uncertain > _WARNED_SHARE and shares.sharp < _WARNED_SHARE:
        return (
            "the image does not show its blur clearly, as with soft subjects, large flat areas or noise: the kernel is "
            f"drawn to the bicubic one. {_KNOWN_KERNEL_ADVICE}"
        )
    if shares.wide > _WARNED_SHARE:
        sigma = math.sqrt(math.prod(posterior.spectral.sigmas))
        return (
            f"the image is softer than photographs usually are, by a blur of σ {sigma:.1f} px, which is removed. If "
            'its subject is soft by itself, use `blindsr upscale` with --kernel bicubic (kernel="bicubic" in Python).'
        )
    if sharpening > _WARNED_SHARPENING:
        return (
            "the image seems to have been sharpened by a camera or a program; the estimated kernel includes that, and "
            "removing it removes the halos as well."
        )
    return None


def _repetition_of(metrics: Mapping[str, float]) -> tuple[int, int]:
    """How often each pixel of an image was repeated along the columns and along the rows, from the metrics."""
    return round(metrics.get("repeated_rows", 1)), round(metrics.get("repeated_columns", 1))


def _why_no_detail(metrics: dict[str, float]) -> str:
    """Why the spectrum of an image ends before the limit of its pixels."""
    if metrics["detail_ratio"] < _PATTERN:
        return "the image has a regular pattern at the limit of its pixels"
    if metrics["noise_grey_levels"] > _NOISY:
        return "noise hides the finest detail of the image"
    if metrics["corner_grey_levels"] > _DRAWN:
        return "the image has as much detail at the limit of its pixels as anywhere, as drawn text and dithering have"
    return "the image has no detail near the limit of its pixels"


def _combed(metrics: dict[str, float]) -> float:
    """From 0 to 1, whether the lines of an image are those of two fields that do not fit each other."""
    return ramp(metrics.get("field_motion", 0.0), _FIELD_MOTION)


@torch.no_grad()
def _posterior_of(tiles: Tensor, spectral: SpectralGaussian, scale: int, config: LearnedConfig) -> ImagePosterior:
    """The posterior of an image from its tiles, (N, 96, 96), grey levels: the mean over networks, sets and views."""
    features = tile_features(tiles).flat
    indices, signs = view_tables()
    views = range(0, 8, 8 // config.views)
    sets = math.ceil(len(tiles) / config.tiles_per_set)
    parts = []
    for number in range(sets):
        part = features[number::sets]
        batch = torch.stack([part[:, indices[view]] * signs[view] for view in views])
        for network in load_networks():
            posteriors = network(batch, torch.full((len(batch),), scale))
            parts += [_of_view(posteriors, row, view, spectral) for row, view in enumerate(views)]
    unsharp = estimate_sharpening(tiles, features)
    mean = _mean(parts)
    metrics = mean.metrics | {"sharpening": unsharp.amount, "sharpened_probability": unsharp.probability}
    return replace(mean, metrics=metrics, unsharp=unsharp)


def _with_spectral(posterior: ImagePosterior, config: LearnedConfig) -> tuple[Plane, float]:
    """The mean of the posterior and the Gaussian of the fitted spectrum, and the error of this mean.

    The network's predicted error is that on photographs like those of its training. How far an estimate that was not
    trained is from it predicts the error on others better.
    """
    blurred = posterior.sharpened(posterior.spectral.transfer, config)
    distance = transfer_distance(posterior.transfer, blurred)
    gaussian = ramp(float(posterior.kinds[0] + posterior.kinds[1]), _GAUSSIAN_PROBABILITIES)
    counts = _spectral_reliability(posterior, config)
    weight = counts * config.spectral_weight * gaussian * (1 - ramp(distance, config.spectral_distances))
    predicted, apart = config.error_parts
    predicted = counts * predicted + (1 - counts) * config.unconfirmed_error
    error = math.hypot(predicted * posterior.error, counts * apart * distance)
    mean = posterior.mixed(blurred, weight)
    error = gaussian * error + (1 - gaussian) * posterior.error
    wide, _ = _wideness(posterior, config)
    mean, error = mean.mixed(blurred, wide), (1 - wide) * error + wide * config.wide_error
    drawn = posterior.drawn(config)
    mean = mean.mixed(_gaussian_transfer(posterior.drawn_sigma, posterior.scale), drawn)
    error = (1 - drawn) * error + drawn * config.stroke_error
    shape, distance = posterior.shape_share(config)
    if posterior.shape is not None and shape:
        fitted = posterior.shape.transfer(frequencies_of(posterior.scale)).astype(np.complex128)
        # Without the fitted Gaussian, which is no estimate of a shape.
        weight = posterior.error**2 / (posterior.error**2 + config.shape_error**2)
        mean = mean.mixed(posterior.transfer, shape).mixed(fitted, shape * weight)
        error = (1 - shape) * error + shape * (config.shape_error + distance / 10)
    return mean.transfer, error


def _wideness(posterior: ImagePosterior, config: LearnedConfig) -> tuple[float, float]:
    """Shares, from 0 to 1, of a blur beyond the widths that the networks were trained for, and of a smooth subject."""
    share = ramp(float(posterior.kinds[0] + posterior.kinds[1]), _WIDE_PROBABILITIES) * (
        1 - ramp(posterior.metrics["enlarged_probability"], config.enlarged_probabilities)
    )
    wide, smooth = posterior.spectral.wideness(config.wide_sigmas, config.max_wide_sigmas)
    return share * _spectral_reliability(posterior, config) * wide, share * smooth


def _spectral_reliability(posterior: ImagePosterior, config: LearnedConfig) -> float:
    """Whether the fitted spectrum is that of the blur, from 0 to 1, and not that of compression."""
    return ramp(posterior.metrics["jpeg_quality"], config.spectral_qualities)


def _of_view(posteriors: Posterior, row: int, view: int, spectral: SpectralGaussian) -> ImagePosterior:
    """One row of the network's output, computed from a dihedral view, in the orientation of the image."""
    scale = (len(spectral.transfer) - 1) // STEPS
    frequencies = torch.from_numpy(frequencies_of(scale)).float()
    middle = STEPS * scale // 2
    half = formula_transfer(posteriors.formulas[row : row + 1], frequencies, frequencies[middle:])[0]
    transfer = _full_plane(half.double().numpy().astype(np.complex128))
    free_form = posteriors.free_form[row].double().numpy()
    fade = np.clip((1.0 - radius_of(2)) / 0.25, 0, 1)
    central(transfer)[:] += fade * _full_plane(free_form[0] + 1j * free_form[1])
    variance = _full_plane(posteriors.log_variance[row].double().exp().numpy().astype(np.complex128))
    enlarged = posteriors.enlarged[row].double()
    return ImagePosterior(
        transfer=dihedral_inverse(torch.from_numpy(transfer), view).numpy(),
        variance=dihedral_inverse(torch.from_numpy(variance.real.copy()), view).numpy(),
        kinds=posteriors.kind[row].double().softmax(0).numpy(),
        metrics={
            "noise_grey_levels": max(0.0, float(posteriors.log_noise[row].exp()) - 0.3),
            "jpeg_quality": float(((posteriors.quality[row] + 1) * 50).clamp(30, 100)),
            "enlarged_probability": float(enlarged[0].sigmoid()),
            "enlarged_factor": float(enlarged[1].exp()),
        },
        spectral=spectral,
    )


def _full_plane(half: Plane) -> Plane:
    """The plane (2n + 1, 2n + 1) from its half f_x ≥ 0, (2n + 1, n + 1): the transfer of a real kernel is Hermitian."""
    side, n = half.shape[0], half.shape[1] - 1
    plane = np.empty((side, side), np.complex128)
    plane[:, n:] = half
    plane[:, :n] = np.conj(half[::-1, :0:-1])
    plane[:, n] = (plane[:, n] + np.conj(plane[::-1, n])) / 2
    return plane


def _mean(parts: Sequence[ImagePosterior]) -> ImagePosterior:
    """The mean of posteriors by their inverse variance; the variance between them adds to the mean variance."""
    weights = np.array([1 / (part.error**2 + 1e-4) for part in parts])
    weights = weights / weights.sum()
    transfer = np.asarray(np.tensordot(weights, np.stack([part.transfer for part in parts]), 1))
    deviations = np.stack([np.abs(central(part.transfer - transfer)) ** 2 for part in parts])
    between = np.tensordot(weights, deviations, 1)
    within = np.tensordot(weights, np.stack([part.variance for part in parts]), 1)
    return ImagePosterior(
        transfer=transfer,
        variance=np.asarray(within + 0.25 * between),
        kinds=np.asarray(np.tensordot(weights, np.stack([part.kinds for part in parts]), 1)),
        metrics={name: float(np.dot(weights, [part.metrics[name] for part in parts])) for name in parts[0].metrics},
        spectral=parts[0].spectral,
    )


@cache
def _unsharp_mask(scale: int) -> NDArray[np.float64]:
    """Transfer function of an unsharp mask of amount 1 on the LR grid, periodic with 1 cycle per LR pixel."""
    f = (frequencies_of(scale) + 0.5) % 1 - 0.5
    along = np.exp(-2 * (np.pi * SIGMA * f) ** 2)
    return np.asarray(2 - np.outer(along, along))


def _gaussian_transfer(sigma: float, scale: int) -> Plane:
    """Transfer function of a Gaussian of σ LR px."""
    along = np.exp(-2 * (np.pi * sigma * frequencies_of(scale)) ** 2)
    return np.outer(along, along).astype(np.complex128)


@cache
def _bicubic_transfer(scale: int) -> Plane:
    return transfer_of(bicubic(scale))


@cache
def _sampled_transfer(scale: int) -> Plane:
    """Transfer function of sampling without blur: a cubic through the HR pixels, at the centre of an LR pixel."""
    taps = np.array([0, 1, 0] if scale % 2 else [-1, 9, 9, -1]) / (1 if scale % 2 else 16)
    return transfer_of(Kernel.normalised(np.outer(taps, taps), scale))


def width_error(kernel: Kernel, error: float) -> float:
    """The relative error of a kernel's width that makes as large an error of its transfer function."""
    wider = transfer_of(kernel, 1 + _WIDTH_STEP)
    return _WIDTH_STEP * error / max(transfer_distance(transfer_of(kernel), wider), 1e-6)


def confidence_of(kernel: Kernel) -> float | None:
    """Probability that the width of an estimated kernel is right to a tenth; None of one that is mostly bicubic."""
    error = kernel.provenance.get("width_error")
    return math.erf(0.1 / (math.sqrt(2) * max(error, 1e-6))) if isinstance(error, float) else None
