"""The parametric model of a photograph's spectrum after blur, subsampling and noise, and its fit."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from blindsr.spectral.config import SpectralConfig
from blindsr.spectral.periodogram import Periodogram

__all__ = ["SpectrumFit", "SpectrumPoints", "fit_spectrum", "spectrum_points"]

# Below this frequency (in tile harmonics) the Hann window leaks the mean into the spectrum.
_LOWEST_HARMONIC = 2.0
# A blur narrower than this (LR px²) cannot be told from none within one period of the spectrum.
_LEAST_VARIANCE = 0.01


@dataclass(frozen=True)
class SpectrumFit:
    """Parameters of the model.

    Args:
        covariance: Σ, (2, 2), LR px², order (y, x).
        exponent: α.
        noise: N over the power at the lowest fitted frequencies.
        residual: Root mean square of log P − model over the fitted frequencies; an ideal periodogram of n tiles
            has about 1/√n.
    """

    covariance: NDArray[np.float64]
    exponent: float
    noise: float
    residual: float


def _log_model(theta: NDArray[np.float64], aliases: NDArray[np.float64]) -> NDArray[np.float64]:
    """log[Σ_m A|f+m|^−α exp(−4π²(f+m)ᵀΣ(f+m)) + N]; `aliases` is (M, F, 2), NaN where an alias is beyond HR."""
    log_amplitude, exponent, log_noise = theta[:3]
    covariance = _covariance(theta)
    y, x = aliases[..., 0], aliases[..., 1]
    quadratic = covariance[0, 0] * y * y + 2 * covariance[0, 1] * y * x + covariance[1, 1] * x * x
    log_signal = log_amplitude - 0.5 * exponent * np.log(y * y + x * x) - 4 * np.pi**2 * quadratic
    return np.asarray(np.logaddexp(np.logaddexp.reduce(log_signal, axis=0), log_noise))


def _covariance(theta: NDArray[np.float64]) -> NDArray[np.float64]:
    factor = np.array([[theta[3], 0.0], [theta[4], theta[5]]])
    return np.asarray(factor @ factor.T + _LEAST_VARIANCE * np.eye(2))


def _aliases(frequencies: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """All f + m, m whole, inside HR's own Nyquist square |f + m| ≤ s/2: (M, F, 2), far away where outside."""
    reach = (scale + 1) // 2
    shifts = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(shifts, shifts, indexing="ij"), -1).reshape(-1, 1, 2)
    shifted = frequencies[None] + offsets
    outside = np.abs(shifted).max(-1) > scale / 2 + 1e-9
    shifted[outside] = 1e3  # the Gaussian takes these to zero
    return np.asarray(shifted[~outside.all(1)])


@dataclass(frozen=True)
class SpectrumPoints:
    """What a model is fitted to: half of the plane (a real image's spectrum is point symmetric).

    Args:
        frequencies: (F, 2), (y, x), cycles per LR pixel.
        log_power: (F,).
        aliases: (M, F, 2): what sampling folds onto each frequency; beyond `beyond` where there is nothing.
    """

    frequencies: NDArray[np.float64]
    log_power: NDArray[np.float64]
    aliases: NDArray[np.float64]
    beyond: float = 100.0

    def prior(self, exponent: float, config: SpectralConfig) -> float:
        """The residual that holds α.

        The points of one photograph share its structure: together they weigh far less than their number, so the
        prior is scaled up with it.
        """
        weight = math.sqrt(config.prior_weight * len(self.log_power))
        return weight * (exponent - config.exponent) / config.exponent_sigma

    def amplitude(self, exponent: float) -> float:
        """Log A by the lowest frequencies."""
        radius = np.linalg.norm(self.frequencies, axis=1)
        low = radius <= np.quantile(radius, 0.05)
        return float((self.log_power[low] + exponent * np.log(radius[low])).mean())

    @property
    def lowest_power(self) -> float:
        """Mean log-power at the lowest frequencies."""
        radius = np.linalg.norm(self.frequencies, axis=1)
        return float(self.log_power[radius <= np.quantile(radius, 0.05)].mean())


def spectrum_points(periodogram: Periodogram, scale: int) -> SpectrumPoints:
    """The points of a periodogram that are fitted; `scale` bounds the aliases."""
    n = len(periodogram.frequency)
    y, x = np.meshgrid(periodogram.frequency, periodogram.frequency, indexing="ij")
    used = (np.hypot(y, x) * n >= _LOWEST_HARMONIC) & ((x > 0) | ((x == 0) & (y > 0)))
    frequencies = np.stack([y[used], x[used]], -1)
    return SpectrumPoints(frequencies, np.log(periodogram.power[used] + 1e-300), _aliases(frequencies, scale))


def fit_spectrum(points: SpectrumPoints, config: SpectralConfig) -> SpectrumFit:
    """Fit A, α, N and Σ to a mean periodogram with a Huber loss and a Gaussian prior on α.

    The spectrum of photographs falls as |f|^−α with α near 2 (Field, JOSA A 1987); what falls faster, and not
    equally in all directions, is the blur. α and the width of an isotropic blur trade off, hence the prior.

    Args:
        points: Of an image that is not flat.
        config: The prior.

    Returns:
        The parameters at the optimum.
    """

    def residuals(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(points.log_power - _log_model(theta, points.aliases), points.prior(theta[1], config))

    floor = float(np.quantile(points.log_power, 0.01)) - 2.0
    start = np.array([points.amplitude(config.exponent), config.exponent, floor, 0.6, 0.0, 0.6])
    fitted = optimize.least_squares(residuals, start, loss="huber", f_scale=0.5, max_nfev=200)
    return SpectrumFit(
        covariance=_covariance(fitted.x),
        exponent=float(fitted.x[1]),
        noise=float(np.exp(fitted.x[2] - points.lowest_power)),
        residual=float(np.sqrt(np.mean(fitted.fun[:-1] ** 2))),
    )
