"""The parametric model of a photograph's spectrum after blur, subsampling and noise, and its fit."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from blindsr.estimators.spectral.periodogram import Periodogram

__all__ = ["ExponentPrior", "SpectrumFit", "SpectrumPoints", "fit_spectrum", "spectrum_points"]

# Below this frequency, in harmonics of the tile, the Hann window leaks the mean into the spectrum.
_MIN_HARMONIC = 2.0
# Smallest variance of the blur, LR px²: less cannot be distinguished from none within one period of the spectrum.
_MIN_VARIANCE = 0.01


@dataclass(frozen=True)
class ExponentPrior:
    """Gaussian prior on the exponent α of |f|^−α, which is hard to separate from the width of an isotropic blur."""

    mean: float = 2.2
    sigma: float = 0.3
    weight: float = 0.03  # relative to one fitted frequency, times their number

    def residual(self, exponent: float, count: int) -> float:
        """The residual of a value of α in a least-squares fit to `count` frequencies.

        The frequencies of one photograph share its structure: together they weigh far less than their number, so the
        prior is scaled up with it.
        """
        return math.sqrt(self.weight * count) * (exponent - self.mean) / self.sigma


@dataclass(frozen=True)
class SpectrumFit:
    """Parameters of the model."""

    covariance: NDArray[np.float64]  # Σ, (2, 2), LR px², order (y, x)
    exponent: float  # α
    noise: float  # N relative to the power at the lowest fitted frequencies
    residual: float  # root mean square of log P − model; an ideal periodogram of n tiles has about 1/√n
    parameters: NDArray[np.float64]  # θ of the model, from which the fit of a similar periodogram may start


@dataclass(frozen=True)
class SpectrumPoints:
    """The data of a fit: half of the frequency plane (the spectrum of a real image is point symmetric)."""

    frequencies: NDArray[np.float64]  # (F, 2), (y, x), cycles per LR pixel
    log_power: NDArray[np.float64]  # (F,)
    aliases: NDArray[np.float64]  # (M, F, 2), frequencies that sampling folds onto each frequency …
    beyond: float = 100.0  # … and larger than this where there are fewer than M

    def amplitude(self, exponent: float) -> float:
        """Initial value of log A, from the lowest frequencies; with the exponent 0 their mean log-power."""
        radius = np.linalg.norm(self.frequencies, axis=1)
        low = radius <= np.quantile(radius, 0.05)
        return float((self.log_power[low] + exponent * np.log(radius[low])).mean())


def spectrum_points(periodogram: Periodogram, scale: int) -> SpectrumPoints:
    """The frequencies of a periodogram that are fitted; the scale bounds their aliases."""
    n = len(periodogram.frequency)
    y, x = np.meshgrid(periodogram.frequency, periodogram.frequency, indexing="ij")
    used = (np.hypot(y, x) * n >= _MIN_HARMONIC) & ((x > 0) | ((x == 0) & (y > 0)))
    frequencies = np.stack([y[used], x[used]], -1)
    return SpectrumPoints(frequencies, np.log(periodogram.power[used] + 1e-300), _aliases(frequencies, scale))


def _aliases(frequencies: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """All f + m, m whole, inside HR's own Nyquist square |f + m| ≤ s/2: (M, F, 2), far away where outside."""
    bound = (scale + 1) // 2
    shifts = np.arange(-bound, bound + 1)
    offsets = np.stack(np.meshgrid(shifts, shifts, indexing="ij"), -1).reshape(-1, 1, 2)
    shifted = frequencies[None] + offsets
    outside = np.abs(shifted).max(-1) > scale / 2 + 1e-9
    shifted[outside] = 1e3  # so far that the Gaussian makes their power zero
    return np.asarray(shifted[~outside.all(1)])


def fit_spectrum(
    points: SpectrumPoints, prior: ExponentPrior, initial: NDArray[np.float64] | None = None
) -> SpectrumFit:
    """Fit A, α, N and Σ to a mean periodogram with a Huber loss and a Gaussian prior on α.

    The spectrum of photographs falls as |f|^−α with α near 2; what falls faster, and not equally in all directions,
    is the blur.

    Args:
        points: Data of an image that is not flat.
        prior: Prior on α.
        initial: `parameters` of a similar fit, which makes the fit three times as fast; None estimates them.

    Returns:
        The parameters at the optimum.

    References:
        Field, "Relations between the statistics of natural images and the response properties of cortical cells",
        JOSA A 1987 (the exponent).
    """
    model, count = _Model(points.aliases), len(points.log_power)
    slope = prior.residual(1.0, count) - prior.residual(0.0, count)

    def residuals(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(points.log_power - model(theta), prior.residual(theta[1], count))

    def jacobian(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.vstack([-model.jacobian(theta), [0, slope, 0, 0, 0, 0]])

    if initial is None:
        noise = float(np.quantile(points.log_power, 0.01)) - 2.0
        initial = np.array([points.amplitude(prior.mean), prior.mean, noise, 0.6, 0.0, 0.6])
    fit = optimize.least_squares(residuals, initial, jacobian, loss="huber", f_scale=0.5, max_nfev=200)
    return SpectrumFit(
        covariance=_covariance(fit.x),
        exponent=float(fit.x[1]),
        noise=float(np.exp(fit.x[2] - points.amplitude(0.0))),
        residual=float(np.sqrt(np.mean(fit.fun[:-1] ** 2))),
        parameters=np.asarray(fit.x),
    )


class _Model:
    """log[Σ_m A|f+m|^−α exp(−4π²(f+m)ᵀΣ(f+m)) + N] and its derivatives by θ = (log A, α, log N, a, b, c), Σ = LLᵀ."""

    def __init__(self, aliases: NDArray[np.float64]) -> None:
        y, x = aliases[..., 0], aliases[..., 1]
        self._log_radius = 0.5 * np.log(y * y + x * x)
        self._products = np.stack([y * y, 2 * y * x, x * x])

    def __call__(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.logaddexp(self._signal(theta)[0], theta[2]))

    def jacobian(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives, (F, 6)."""
        log_signal, shares = self._signal(theta)
        signal = np.exp(log_signal - np.logaddexp(log_signal, theta[2]))
        radius = np.einsum("mf,mf->f", shares, self._log_radius)
        yy, yx, xx = -4 * np.pi**2 * np.einsum("mf,kmf->kf", shares, self._products)
        a, b, c = theta[3:]
        of_signal = [np.ones_like(signal), -radius, 2 * a * yy + b * yx, a * yx + 2 * b * xx, 2 * c * xx]
        columns = [signal * derivative for derivative in of_signal]
        return np.stack([*columns[:2], 1 - signal, *columns[2:]], -1)

    def _signal(self, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log of the sum over the aliases, (F,), and each alias's share of it, (M, F)."""
        covariance = _covariance(theta)
        weights = np.array([covariance[0, 0], covariance[0, 1], covariance[1, 1]])
        logs = theta[0] - theta[1] * self._log_radius - 4 * np.pi**2 * np.tensordot(weights, self._products, 1)
        highest = logs.max(0)
        shares = np.exp(logs - highest)
        total = shares.sum(0)
        return highest + np.log(total), shares / total


def _covariance(theta: NDArray[np.float64]) -> NDArray[np.float64]:
    factor = np.array([[theta[3], 0.0], [theta[4], theta[5]]])
    return np.asarray(factor @ factor.T + _MIN_VARIANCE * np.eye(2))
