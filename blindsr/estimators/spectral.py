"""Kernel estimation from the fall-off of the image's spectrum: a Gaussian, or a disc of defocus."""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from scipy.ndimage import gaussian_filter
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.estimators.base import check_image, flat_estimate
from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate, SplitHalf, gaussian
from blindsr.kernels.analytic import gaussian_size
from blindsr.ops import luma
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

__all__ = ["DiscFit", "SpectralConfig", "SpectralEstimator", "disc_kernel", "estimate_kernel", "fit_disc"]

STAGE = "spectral"
# Side of the largest kernel, LR pixels. A wider blur leaves nothing above the noise that it could be estimated from.
_MAX_SIDE_LR = 10
_MAX_SOFTNESS = 0.4  # LR pixels
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
        if self.tile < MIN_SIDE or self.tile % 2:
            raise ConfigError(f"spectral.tile must be even and {MIN_SIDE} or more, got {self.tile}.")
        if self.splits < 0:
            raise ConfigError(f"spectral.splits must be 0 or more, got {self.splits}.")
        if self.max_tiles < 1:
            raise ConfigError(f"spectral.max_tiles must be 1 or more, got {self.max_tiles}.")
        if self.exponent_sigma <= 0:
            raise ConfigError(f"spectral.exponent_sigma must be positive, got {self.exponent_sigma}.")
        if self.prior_weight < 0:
            raise ConfigError(f"spectral.prior_weight must be 0 or more, got {self.prior_weight}.")
        if not 0 <= self.residual_hr_blur <= 1:
            raise ConfigError(f"spectral.residual_hr_blur must be in [0, 1], got {self.residual_hr_blur}.")

    @property
    def prior(self) -> ExponentPrior:
        """The prior on the exponent of the spectrum."""
        return ExponentPrior(self.exponent, self.exponent_sigma, self.prior_weight)


class SpectralEstimator:
    """Gaussian kernel (or defocus disc) from the fall-off of the mean spectrum."""

    name: ClassVar[str] = "spectral"
    config_type: ClassVar[type] = SpectralConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = 0.04

    def __init__(self, config: SpectralConfig | None = None) -> None:
        self.config = SpectralConfig() if config is None else config

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate the kernel of one image; see `estimate_kernel`."""
        return estimate_kernel(lr, scale, self.config, listener=listener)


def estimate_kernel(
    lr: Tensor, scale: int, config: SpectralConfig | None = None, *, listener: Listener = ignore
) -> KernelEstimate:
    """Fit a Gaussian kernel, or a disc of defocus, to the mean spectrum of an image's luma.

    The blur that the spectrum shows, Σ in LR px², is that of the whole way from the scene to the LR image. The
    downscaling kernel excludes HR's own residual blur: cov(k_s) = (s² − β)·Σ (docs/method/kernel-estimation.md).

    Args:
        lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
        scale: Factor from LR to HR: 2, 3 or 4.
        config: Settings; the defaults if None.
        listener: Receives the events of the stage "spectral".

    Returns:
        A centred Gaussian kernel, or a disc if `config.discs` is set and the spectrum has its rings. A flat image gets
        the bicubic kernel and a warning. The split-half uncertainty is in the metrics and in the kernel's provenance.

    Raises:
        ImageError: Not (1, C, H, W), or a side is shorter than 16 px.
    """
    config = SpectralConfig() if config is None else config
    check_image(lr, scale, SpectralEstimator)
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
    disc = fit_disc(points, fit, config.prior) if config.discs else None
    if disc is not None and disc.is_plausible(fit):
        sizes = {"disc_radius_lr": disc.radius, "disc_softness_lr": disc.softness, "disc_residual": disc.residual}
        return disc_kernel(disc, scale), metrics | sizes, fit
    covariance = gaussian_blur(fit, scale, config.residual_hr_blur)
    max_size = _MAX_SIDE_LR * scale
    max_size += (max_size - scale) % 2
    kernel = gaussian(covariance, scale, size=min(gaussian_size(covariance, scale), max_size))
    kernel = Kernel(kernel.array, scale, {"made_by": STAGE, "covariance_yx": covariance.round(6).tolist()})
    long = math.sqrt(kernel.sigmas[0] ** 2 / (scale**2 - config.residual_hr_blur))
    return kernel, metrics | {"sigma_lr_long": long}, fit


@dataclass(frozen=True)
class DiscFit:
    """A disc convolved with a small Gaussian."""

    radius: float  # of the disc, LR pixels
    softness: float  # σ of the Gaussian, LR pixels
    residual: float  # as in `SpectrumFit`

    def is_plausible(self, gaussian: SpectrumFit) -> bool:
        """Whether the blur may be a disc.

        Any other blur drives the softness to its bound, or the radius to zero; a sharp photograph has no softness. A
        residual far above that of the Gaussian, which has one more parameter, rules out a disc as well.
        """
        is_soft = 0.08 <= self.softness <= 0.36
        return self.radius >= 0.6 and is_soft and self.residual <= 1.2 * gaussian.residual


def fit_disc(points: SpectrumPoints, gaussian: SpectrumFit, prior: ExponentPrior) -> DiscFit:
    """Fit A, α, N, the radius R and the softness σ to a mean periodogram, as `fit_spectrum` does for a Gaussian.

    The transfer function is 2 J₁(2πRf)/(2πRf) · exp(−2π²σ²f²).

    Args:
        points: Data of the periodogram.
        gaussian: The fit of a Gaussian, which determines the initial radius.
        prior: Prior on α.

    References:
        Goodman, "Introduction to Fourier Optics", §6.4 (the transfer function of a defocused lens).
    """
    radius = np.linalg.norm(points.aliases, axis=-1)
    outside = radius > points.beyond
    radius = np.where(outside, 1.0, radius)
    log_radius, squared, count = np.log(radius), radius**2, len(points.log_power)

    def transfer_of(theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        argument = np.maximum(2 * np.pi * theta[3] * radius, 1e-9)
        return argument, 2 * special.j1(argument) / argument

    def signal_of(theta: NDArray[np.float64], transfer: NDArray[np.float64]) -> NDArray[np.float64]:
        signal = theta[0] - theta[1] * log_radius + np.log(transfer**2 + 1e-6) - 4 * np.pi**2 * theta[4] ** 2 * squared
        return np.where(outside, -300.0, signal)

    def residuals(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        signal = signal_of(theta, transfer_of(theta)[1])
        model = np.logaddexp(np.logaddexp.reduce(signal, axis=0), theta[2])
        return np.append(points.log_power - model, prior.residual(theta[1], count))

    def jacobian(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        argument, transfer = transfer_of(theta)
        signal = signal_of(theta, transfer)
        model = np.logaddexp(np.logaddexp.reduce(signal, axis=0), theta[2])
        # Share of each alias in the power; the noise has the rest.
        shares = np.where(outside, 0.0, np.exp(signal - model))
        second = transfer - special.j0(argument)  # J₂
        by_radius = -4 * transfer * second / argument / (transfer**2 + 1e-6) * 2 * np.pi * radius
        parts = [shares, -shares * log_radius, shares * by_radius, -8 * np.pi**2 * theta[4] * shares * squared]
        level, exponent, size, softness = (part.sum(0) for part in parts)
        by_parameter = np.stack([level, exponent, 1 - level, size, softness], -1)
        slope = prior.residual(1.0, count) - prior.residual(0.0, count)
        return np.vstack([-by_parameter, [0, slope, 0, 0, 0]])

    # The variance of a disc along an axis is R²/4.
    likely = math.sqrt(2 * max(float(np.trace(gaussian.covariance)) - 0.08, 0.1))
    amplitude, noise = points.amplitude(prior.mean), float(np.quantile(points.log_power, 0.01)) - 2
    bounds = ([-50, 0, -60, 0.1, 0.05], [50, 5, 20, 10, _MAX_SOFTNESS])
    # For an image without texture, such as a gradient, all of these may be out of bounds.
    initial = [[amplitude, prior.mean, noise, share * likely, 0.2] for share in (0.8, 1.0, 1.2)]
    inside = np.clip(initial, np.array(bounds[0]) + 1e-3, np.array(bounds[1]) - 1e-3)
    fits = [
        optimize.least_squares(residuals, start, jacobian, loss="huber", f_scale=0.5, max_nfev=40, bounds=bounds)
        for start in inside
    ]
    best = min(fits, key=lambda fit: float(fit.cost))
    return DiscFit(float(best.x[3]), float(best.x[4]), float(np.sqrt(np.mean(best.fun[:-1] ** 2))))


def disc_kernel(fit: DiscFit, scale: int) -> Kernel:
    """The disc on the HR grid: each weight is the mean over its HR pixel."""
    radius, softness = fit.radius * scale, fit.softness * scale
    side = 2 * math.ceil(radius + 3 * softness + 1) + scale
    fine = (np.arange(side * _OVERSAMPLING) - (side * _OVERSAMPLING - 1) / 2) / _OVERSAMPLING
    disc = np.clip((radius - np.hypot(fine[:, None], fine)) * _OVERSAMPLING + 0.5, 0, 1)
    soft = gaussian_filter(disc, softness * _OVERSAMPLING)
    weights = soft.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).mean((1, 3))
    provenance = {"made_by": "spectral", "disc_radius_lr": round(fit.radius, 4), "softness_lr": round(fit.softness, 4)}
    return Kernel.normalised(weights, scale, provenance)
