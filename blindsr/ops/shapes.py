"""Discs of defocus and straight motions, fitted to the mean periodogram of an image as `fit_spectrum` fits a Gaussian.

Their spectra have zeros, which no photograph and no other blur has: where such a shape explains the spectrum better
than a Gaussian does, with as many parameters or fewer, the blur is that shape.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from blindsr.ops.spectrum import ExponentPrior, SpectrumPoints

__all__ = ["Disc", "Line", "Shape"]

_Array = NDArray[np.float64]
_ZERO = 1e-6  # of a squared transfer function, near which its logarithm is bounded
_MAX_STEPS = 40


@dataclass(frozen=True)
class Shape(ABC):
    """A shape convolved with a small Gaussian, by its parameters in LR pixels, and how well it explains a spectrum."""

    softness: float  # σ of the Gaussian, LR pixels
    residual: float  # root mean square of log P − model, as in `SpectrumFit`

    bounds: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]  # of the shape's parameters, then of the softness

    @classmethod
    def fit(cls, points: SpectrumPoints, prior: ExponentPrior, starts: Sequence[Sequence[float]]) -> Self:
        """Fit A, α, N, the shape's parameters and its softness σ, with a Huber loss and a Gaussian prior on α.

        The model of the spectrum is Σ_m A |f+m|^−α |S(f+m)|² exp(−4π²σ²|f+m|²) + N, where S is the transfer function
        of the shape.

        Args:
            points: Data of the periodogram.
            prior: Prior on α.
            starts: Values of the shape's parameters and of the softness from which the fit starts; the best one wins.
        """
        y, x = points.aliases[..., 0], points.aliases[..., 1]
        outside = np.hypot(y, x) > points.beyond
        y, x = np.where(outside, 1.0, y), np.where(outside, 1.0, x)
        squared, count = y * y + x * x, len(points.log_power)
        log_radius = np.log(squared) / 2

        def parts_of(theta: _Array) -> tuple[_Array, list[_Array]]:
            log_gain, slopes = cls._log_gain(theta[3:-1], y, x)
            signal = theta[0] - theta[1] * log_radius + log_gain - 4 * np.pi**2 * theta[-1] ** 2 * squared
            return np.where(outside, -300.0, signal), slopes

        def residuals(theta: _Array) -> _Array:
            model = np.logaddexp(np.logaddexp.reduce(parts_of(theta)[0], axis=0), theta[2])
            return np.append(points.log_power - model, prior.residual(theta[1], count))

        def jacobian(theta: _Array) -> _Array:
            signal, slopes = parts_of(theta)
            model = np.logaddexp(np.logaddexp.reduce(signal, axis=0), theta[2])
            # Share of each alias in the power; the noise has the rest.
            shares = np.where(outside, 0.0, np.exp(signal - model))
            level = shares.sum(0)
            by_softness = -8 * np.pi**2 * theta[-1] * (shares * squared).sum(0)
            columns = [level, -(shares * log_radius).sum(0), 1 - level]
            columns += [(shares * slope).sum(0) for slope in slopes] + [by_softness]
            last = np.zeros(len(theta))
            last[1] = prior.residual(1.0, count) - prior.residual(0.0, count)
            return np.vstack([-np.stack(columns, -1), last])

        low, high = (np.array(values) for values in cls.bounds)
        bounds = np.array([-50, 0, -60, *low]), np.array([50, 5, 20, *high])
        noise = float(np.quantile(points.log_power, 0.01)) - 2
        fits = []
        for start in starts:
            # For an image without texture, such as a gradient, all of these may be out of bounds.
            theta = [points.amplitude(prior.mean), prior.mean, noise, *start]
            inside = np.clip(theta, bounds[0] + 1e-3, bounds[1] - 1e-3)
            fits.append(
                optimize.least_squares(
                    residuals, inside, jacobian, loss="huber", f_scale=0.5, max_nfev=_MAX_STEPS, bounds=bounds
                )
            )
        best = min(fits, key=lambda fit: float(fit.cost))
        return cls._of(best.x[3:], float(np.sqrt(np.mean(best.fun[:-1] ** 2))))

    def transfer(self, frequencies: _Array) -> _Array:
        """Transfer function, (F, F), order (y, x), at frequencies, (F,), in cycles per LR pixel."""
        y, x = frequencies[:, None], frequencies[None]
        return np.asarray(self._gain(y, x) * np.exp(-2 * np.pi**2 * self.softness**2 * (y * y + x * x)))

    @classmethod
    @abstractmethod
    def starts(cls, covariance: _Array) -> list[float]:
        """The parameters of the shape that has this covariance, (2, 2), order (y, x), LR px²; for `fit`."""

    @abstractmethod
    def _gain(self, y: _Array, x: _Array) -> _Array:
        """Transfer function of the shape."""

    @classmethod
    @abstractmethod
    def _log_gain(cls, parameters: _Array, y: _Array, x: _Array) -> tuple[_Array, list[_Array]]:
        """Log |S|², and its derivative by each parameter."""

    @classmethod
    @abstractmethod
    def _of(cls, parameters: _Array, residual: float) -> Self:
        """The shape of these parameters, of which the last one is the softness."""


@dataclass(frozen=True)
class Disc(Shape):
    """The disc of a lens out of focus: S(f) = 2 J₁(2πR|f|)/(2πR|f|).

    References:
        Goodman, "Introduction to Fourier Optics", §6.4.
    """

    radius: float  # LR pixels

    bounds = ((0.1, 0.05), (10.0, 0.4))

    @classmethod
    def starts(cls, covariance: _Array) -> list[float]:
        """A disc of the same mean variance, R²/4 along each axis."""
        return [math.sqrt(2 * max(float(np.trace(covariance)) - 0.08, 0.1)), 0.2]

    def _gain(self, y: _Array, x: _Array) -> _Array:
        argument = np.maximum(2 * np.pi * self.radius * np.hypot(y, x), 1e-9)
        return np.asarray(2 * special.j1(argument) / argument)

    @classmethod
    def _log_gain(cls, parameters: _Array, y: _Array, x: _Array) -> tuple[_Array, list[_Array]]:
        radius = np.hypot(y, x)
        argument = np.maximum(2 * np.pi * parameters[0] * radius, 1e-9)
        transfer = 2 * special.j1(argument) / argument
        second = transfer - special.j0(argument)  # J₂
        slope = -8 * np.pi * radius * transfer * second / (argument * (transfer**2 + _ZERO))
        return np.log(transfer**2 + _ZERO), [slope]

    @classmethod
    def _of(cls, parameters: _Array, residual: float) -> Self:
        return cls(radius=float(parameters[0]), softness=float(parameters[1]), residual=residual)


@dataclass(frozen=True)
class Line(Shape):
    """A straight, even motion along a vector v: S(f) = sin(π v·f)/(π v·f)."""

    motion: tuple[float, float]  # v, order (y, x), LR pixels

    bounds = ((-15.0, -15.0, 0.05), (15.0, 15.0, 0.8))

    @classmethod
    def starts(cls, covariance: _Array) -> list[float]:
        """A motion along the long axis; its variance is |v|²/12."""
        variances, axes = np.linalg.eigh(covariance)
        short = max(float(variances[0]), 0.01)
        length = math.sqrt(12 * max(float(variances[1]) - short, 0.05))
        return [*(length * axes[:, 1]).tolist(), min(math.sqrt(short), 0.5)]

    def _gain(self, y: _Array, x: _Array) -> _Array:
        return np.asarray(np.sinc(self.motion[0] * y + self.motion[1] * x))

    @classmethod
    def _log_gain(cls, parameters: _Array, y: _Array, x: _Array) -> tuple[_Array, list[_Array]]:
        along = parameters[0] * y + parameters[1] * x
        along = np.where(np.abs(along) < 1e-6, 1e-6, along)
        transfer = np.sinc(along)
        slope = 2 * transfer * (np.cos(np.pi * along) - transfer) / (along * (transfer**2 + _ZERO))
        return np.log(transfer**2 + _ZERO), [slope * y, slope * x]

    @classmethod
    def _of(cls, parameters: _Array, residual: float) -> Self:
        return cls(
            motion=(float(parameters[0]), float(parameters[1])), softness=float(parameters[2]), residual=residual
        )
