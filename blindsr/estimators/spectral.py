"""Kernel estimation from the fall-off of the image's spectrum: a Gaussian, or a disc of defocus."""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import Tensor

from blindsr.estimators.base import ConfiguredEstimator, check_image, flat_estimate
from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate, SplitHalf, gaussian
from blindsr.kernels.analytic import gaussian_size
from blindsr.ops import luma
from blindsr.ops.shapes import Disc
from blindsr.ops.spectrum import (
    MIN_SIDE,
    RESIDUAL_HR_BLUR,
    ExponentPrior,
    Periodogram,
    SpectrumFit,
    SpectrumPoints,
    fit_spectrum,
    gaussian_blur,
    spectrum_points,
    tile_spectra,
)
from blindsr.registry import check_minimum, check_setting

__all__ = ["SpectralConfig", "SpectralEstimator", "disc_kernel", "is_disc"]

STAGE = "spectral"
# Side of the largest kernel, LR pixels. A wider blur leaves nothing above the noise that it could be estimated from.
_MAX_SIDE_LR = 10
_OVERSAMPLING = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralConfig:
    """Settings of the spectral fit: the mean periodogram, and the prior of the model.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    tile: int = 64  # side of the Hann-windowed luma tiles, even, LR pixels
    max_tiles: int = 4000  # number of tiles above which a random selection is used, which bounds the time
    exponent: float = 2.2  # prior mean of α in |f|^−α, the spectrum of photographs
    exponent_sigma: float = 0.3  # prior standard deviation of α
    prior_weight: float = 0.03  # weight of the prior relative to one fitted frequency, times their number
    residual_hr_blur: float = RESIDUAL_HR_BLUR  # β of `gaussian_blur`, the blur that HR has itself
    discs: bool = False  # also fit a disc of defocus, and use it if it explains the spectrum
    splits: int = 3  # number of random splits into halves, whose estimates give the uncertainty; 0 for none
    seed: int = 0  # seed of the selection of tiles and of the halves

    def __post_init__(self) -> None:
        """Check the bounds."""
        is_valid = self.tile >= MIN_SIDE and self.tile % 2 == 0
        check_setting(self, STAGE, "tile", is_valid, f"even and {MIN_SIDE} or more")
        check_minimum(self, STAGE, 0, "splits", "prior_weight")
        check_minimum(self, STAGE, 1, "max_tiles")
        check_setting(self, STAGE, "exponent_sigma", self.exponent_sigma > 0, "positive")
        check_setting(self, STAGE, "residual_hr_blur", 0 <= self.residual_hr_blur <= 1, "in [0, 1]")

    @property
    def prior(self) -> ExponentPrior:
        """The prior on the exponent of the spectrum."""
        return ExponentPrior(self.exponent, self.exponent_sigma, self.prior_weight)


class SpectralEstimator(ConfiguredEstimator[SpectralConfig]):
    """Gaussian kernel (or defocus disc) from the fall-off of the mean spectrum."""

    name: ClassVar[str] = "spectral"
    config_type: ClassVar[type] = SpectralConfig
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = 0.04

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Fit a Gaussian kernel, or a disc of defocus, to the mean spectrum of an image's luma.

        The blur that the spectrum shows, Σ in LR px², is that of the whole way from the scene to the LR image. The
        downscaling kernel excludes HR's own residual blur: cov(k_s) = (s² − β)·Σ (docs/method/kernel-estimation.md).

        Args:
            lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
            scale: Factor from LR to HR: 2, 3 or 4.
            listener: Receives the events of the stage "spectral".

        Returns:
            A centred Gaussian kernel, or a disc if `config.discs` is set and the spectrum has its rings. A flat image
            gets the bicubic kernel and a warning. The split-half uncertainty is in the metrics and in the kernel's
            provenance.

        Raises:
            ImageError: Not (1, C, H, W), or a side is shorter than 16 px.
        """
        config = self.config
        check_image(lr, scale, type(self))
        listener(StageStarted(stage=STAGE))
        spectra = tile_spectra(luma(lr), tile=config.tile, max_tiles=config.max_tiles, seed=config.seed)
        periodogram = spectra.mean()
        if periodogram.tiles == 0:
            return flat_estimate(STAGE, scale, asdict(config), listener)
        kernel, metrics, fit = _fit_kernel(periodogram, scale, config)
        pairs = []
        for split in range(config.splits):
            if (halves := spectra.halves(config.seed + split)) is not None:
                one, two = (_fit_kernel(spectra.mean(half), scale, config, fit)[0] for half in halves)
                pairs.append((one, two))
        if pairs:
            uncertainty = SplitHalf.from_pairs(pairs)
            kernel, metrics = uncertainty.attach(kernel), metrics | uncertainty.metrics
        listener(StageDone(stage=STAGE, steps=1))
        return KernelEstimate(kernel=kernel, method=STAGE, settings=asdict(config), metrics=metrics)


def _fit_kernel(
    periodogram: Periodogram, scale: int, config: SpectralConfig, similar: SpectrumFit | None = None
) -> tuple[Kernel, dict[str, float], SpectrumFit]:
    """The kernel, the metrics and the fit of a mean periodogram; `similar` is the fit of a similar one."""
    points = spectrum_points(periodogram, scale)
    fit = fit_spectrum(points, config.prior, None if similar is None else similar.parameters)
    metrics = {"exponent": fit.exponent, "noise": fit.noise, "residual": fit.residual}
    metrics["tiles"] = float(periodogram.tiles)
    if config.discs and is_disc(disc := _fitted_disc(points, fit, config.prior), fit):
        sizes = {"disc_radius_lr": disc.radius, "disc_softness_lr": disc.softness, "disc_residual": disc.residual}
        return disc_kernel(disc, scale), metrics | sizes, fit
    covariance = gaussian_blur(fit, scale, config.residual_hr_blur)
    max_size = _MAX_SIDE_LR * scale
    max_size += (max_size - scale) % 2
    kernel = gaussian(covariance, scale, size=min(gaussian_size(covariance, scale), max_size))
    kernel = Kernel(kernel.array, scale, {"made_by": STAGE, "covariance_yx": covariance.round(6).tolist()})
    long = math.sqrt(kernel.sigmas[0] ** 2 / (scale**2 - config.residual_hr_blur))
    return kernel, metrics | {"sigma_lr_long": long}, fit


def _fitted_disc(points: SpectrumPoints, gaussian: SpectrumFit, prior: ExponentPrior) -> Disc:
    radius, softness = Disc.starts(gaussian.covariance)
    return Disc.fit(points, prior, [(share * radius, softness) for share in (0.8, 1.0, 1.2)])


def is_disc(disc: Disc, gaussian: SpectrumFit) -> bool:
    """Whether the blur may be a disc.

    Any other blur drives the softness to its bound, or the radius to zero; a sharp photograph has no softness. A
    residual far above that of the Gaussian, which has one more parameter, rules out a disc as well.
    """
    is_soft = 0.08 <= disc.softness <= 0.36
    return disc.radius >= 0.6 and is_soft and disc.residual <= 1.2 * gaussian.residual


def disc_kernel(fit: Disc, scale: int) -> Kernel:
    """The disc on the HR grid: each weight is the mean over its HR pixel."""
    radius, softness = fit.radius * scale, fit.softness * scale
    side = 2 * math.ceil(radius + 3 * softness + 1) + scale
    fine = (np.arange(side * _OVERSAMPLING) - (side * _OVERSAMPLING - 1) / 2) / _OVERSAMPLING
    disc = np.clip((radius - np.hypot(fine[:, None], fine)) * _OVERSAMPLING + 0.5, 0, 1)
    soft = gaussian_filter(disc, softness * _OVERSAMPLING)
    weights = soft.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).mean((1, 3))
    provenance = {"made_by": "spectral", "disc_radius_lr": round(fit.radius, 4), "softness_lr": round(fit.softness, 4)}
    return Kernel.normalised(weights, scale, provenance)
