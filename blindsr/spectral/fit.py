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
        parameters: θ of the model, from which the fit of a similar periodogram may start.
    """

    covariance: NDArray[np.float64]
    exponent: float
    noise: float
    residual: float
    parameters: NDArray[np.float64]


class _Model:
    """log[Σ_m A|f+m|^−α exp(−4π²(f+m)ᵀΣ(f+m)) + N] and its derivatives by θ = (log A, α, log N, a, b, c), Σ = LLᵀ.

    Args:
        aliases: (M, F, 2), far away where an alias is beyond HR: the Gaussian takes these to zero.
    """

    def __init__(self, aliases: NDArray[np.float64]) -> None:
        y, x = aliases[..., 0], aliases[..., 1]
        self._log_radius = 0.5 * np.log(y * y + x * x)
        self._products = np.stack([y * y, 2 * y * x, x * x])

    def __call__(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.logaddexp(self._signal(theta)[0], theta[2]))

    def slopes(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """(F, 6)."""
        log_signal, shares = self._signal(theta)
        signal = np.exp(log_signal - np.logaddexp(log_signal, theta[2]))
        radius = np.einsum("mf,mf->f", shares, self._log_radius)
        yy, yx, xx = -4 * np.pi**2 * np.einsum("mf,kmf->kf", shares, self._products)
        a, b, c = theta[3:]
        of_signal = [np.ones_like(signal), -radius, 2 * a * yy + b * yx, a * yx + 2 * b * xx, 2 * c * xx]
        slopes = [signal * slope for slope in of_signal]
        return np.stack([*slopes[:2], 1 - signal, *slopes[2:]], -1)

    def _signal(self, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log of the sum over the aliases, (F,), and each one's share of it, (M, F)."""
        covariance = _covariance(theta)
        weights = np.array([covariance[0, 0], covariance[0, 1], covariance[1, 1]])
        logs = theta[0] - theta[1] * self._log_radius - 4 * np.pi**2 * np.tensordot(weights, self._products, 1)
        highest = logs.max(0)
        shares = np.exp(logs - highest)
        total = shares.sum(0)
        return highest + np.log(total), shares / total


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


def fit_spectrum(
    points: SpectrumPoints, config: SpectralConfig, start: NDArray[np.float64] | None = None
) -> SpectrumFit:
    """Fit A, α, N and Σ to a mean periodogram with a Huber loss and a Gaussian prior on α.

    The spectrum of photographs falls as |f|^−α with α near 2 (Field, JOSA A 1987); what falls faster, and not
    equally in all directions, is the blur. α and the width of an isotropic blur trade off, hence the prior.

    Args:
        points: Of an image that is not flat.
        config: The prior.
        start: `parameters` of a similar fit, which makes it three times as fast; None guesses.

    Returns:
        The parameters at the optimum.
    """
    model = _Model(points.aliases)
    slope = points.prior(1.0, config) - points.prior(0.0, config)

    def residuals(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(points.log_power - model(theta), points.prior(theta[1], config))

    def slopes(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.vstack([-model.slopes(theta), [0, slope, 0, 0, 0, 0]])

    if start is None:
        floor = float(np.quantile(points.log_power, 0.01)) - 2.0
        start = np.array([points.amplitude(config.exponent), config.exponent, floor, 0.6, 0.0, 0.6])
    fitted = optimize.least_squares(residuals, start, slopes, loss="huber", f_scale=0.5, max_nfev=200)
    return SpectrumFit(
        covariance=_covariance(fitted.x),
        exponent=float(fitted.x[1]),
        noise=float(np.exp(fitted.x[2] - points.lowest_power)),
        residual=float(np.sqrt(np.mean(fitted.fun[:-1] ** 2))),
        parameters=np.asarray(fitted.x),
    )
