"""Discs of defocus and straight motions, fitted to the mean periodogram of an image as `fit_spectrum` fits a Gaussian.

Their spectra have zeros, which no photograph and no other blur has: where such a shape explains the spectrum better
than a Gaussian does, with as many parameters or fewer, the blur is that shape.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from blindsr.ops.spectrum import ExponentPrior, SpectrumPoints

__all__ = ["Disc", "Line", "Path", "Shape", "residual_of"]

_Array = NDArray[np.float64]
_Complex = NDArray[np.complex128]
_ZERO = 1e-6  # of a squared transfer function, near which its logarithm is bounded
_SMALL = 1e-5  # the same of kernels that are not exact
_MAX_STEPS = 40
_DISC_ZERO = float(special.jn_zeros(1, 1)[0])  # of J₁
# Multiples of the frequency of the first zero between which the power at the zero, and in the lobe behind it, is taken.
_AROUND_ZERO, _FIRST_LOBE, _MIN_POINTS = (0.9, 1.1), (1.15, 1.75), 6
_STRIDE = 2  # every second frequency is fitted: neighbours share the window of the tiles


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
        log_power, aliases = points.log_power[::_STRIDE], points.aliases[:, ::_STRIDE]
        y, x = aliases[..., 0], aliases[..., 1]
        outside = np.hypot(y, x) > points.beyond
        y, x = np.where(outside, 1.0, y), np.where(outside, 1.0, x)
        squared, count = y * y + x * x, len(log_power)
        log_radius = np.log(squared) / 2
        latest: dict[bytes, tuple[_Array, _Array, list[_Array]]] = {}

        def everywhere(values: _Array) -> _Array:
            plane = np.zeros(outside.shape)
            plane[~outside] = values
            return plane

        def parts_of(theta: _Array) -> tuple[_Array, _Array, list[_Array]]:
            key = theta.tobytes()
            if key not in latest:  # residuals and derivatives are asked for one after the other
                log_gain, slopes = cls._log_gain(theta[3:-1], y[~outside], x[~outside])
                signal = theta[0] - theta[1] * log_radius + everywhere(log_gain)
                signal = signal - 4 * np.pi**2 * theta[-1] ** 2 * squared
                latest.clear()
                signal = np.where(outside, -300.0, signal)
                model = np.logaddexp(np.logaddexp.reduce(signal, axis=0), theta[2])
                latest[key] = signal, model, [everywhere(slope) for slope in slopes]
            return latest[key]

        def residuals(theta: _Array) -> _Array:
            return np.append(log_power - parts_of(theta)[1], prior.residual(theta[1], count))

        def jacobian(theta: _Array) -> _Array:
            signal, model, slopes = parts_of(theta)
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

    def transfer(self, frequencies: _Array) -> _Array | _Complex:
        """Transfer function, (F, F), order (y, x), at frequencies, (F,), in cycles per LR pixel."""
        y, x = np.meshgrid(frequencies, frequencies, indexing="ij")
        gain: _Array | _Complex = self._gain(y, x) * np.exp(-2 * np.pi**2 * self.softness**2 * (y * y + x * x))
        return gain

    def softened(self, transfer: _Complex, frequencies: _Array) -> Self:
        """This shape with a softness between its own and the one that is nearest to another estimate.

        The softness that a spectrum shows is also that of the HR image, and depends on the exponent of the photograph.

        Args:
            transfer: The other estimate, (F, F), order (y, x).
            frequencies: (F,), cycles per LR pixel.
        """
        inside = np.abs(frequencies) <= 1
        near, given = frequencies[inside], transfer[np.ix_(inside, inside)]

        def distance(softness: float) -> float:
            return float(np.square(np.abs(replace(self, softness=softness).transfer(near) - given)).sum())

        nearest = float(optimize.minimize_scalar(distance, bounds=(0.02, 0.8), method="bounded").x)
        return replace(self, softness=math.sqrt((self.softness**2 + nearest**2) / 2))

    def lobe_contrast(self, points: SpectrumPoints) -> float:
        """How much the spectrum rises from the shape's first zero to the lobe behind it.

        The zeros of a blur leave a valley, which noise fills: −0.15 and more for nine of ten true discs. The spectrum
        of a smooth subject, or of an image that was enlarged, falls on and on: −0.2 and less for most.

        Args:
            points: Data of the periodogram.

        Returns:
            Difference of the medians of the natural logarithm of the power; −∞ where the lobe lies beyond the
            frequencies of the image, so that no zero can be seen.
        """
        over_zero = self._over_zero(points.frequencies[:, 0], points.frequencies[:, 1])
        zero, lobe = (
            points.log_power[(over_zero > low) & (over_zero < high)] for low, high in (_AROUND_ZERO, _FIRST_LOBE)
        )
        if min(len(zero), len(lobe)) < _MIN_POINTS:
            return -math.inf
        return float(np.median(lobe) - np.median(zero))

    @classmethod
    @abstractmethod
    def starts(cls, covariance: _Array) -> list[float]:
        """The parameters of the shape that has this covariance, (2, 2), order (y, x), LR px²; for `fit`."""

    @abstractmethod
    def _gain(self, y: _Array, x: _Array) -> _Array | _Complex:
        """Transfer function of the shape."""

    @abstractmethod
    def _over_zero(self, y: _Array, x: _Array) -> _Array:
        """Frequencies as multiples of that of the first zero along their direction; 0 of a shape without zeros."""

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

    def _over_zero(self, y: _Array, x: _Array) -> _Array:
        return np.asarray(2 * np.pi * self.radius * np.hypot(y, x) / _DISC_ZERO)

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

    def _over_zero(self, y: _Array, x: _Array) -> _Array:
        return np.abs(self.motion[0] * y + self.motion[1] * x)

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


_TIMES, _WEIGHTS = np.polynomial.legendre.leggauss(28)  # of the shutter, from −1 to 1
_WEIGHTS = _WEIGHTS / 2
_DEGREE = 3
# Halves of the Legendre polynomials of degree 1 to 3: the first one is a straight motion of length 1.
_COURSES = np.stack([np.polynomial.legendre.Legendre.basis(n)(_TIMES) / 2 for n in range(1, _DEGREE + 1)])
_BENDS = [(bend, turn) for bend in (0.0, 0.25, -0.25, 0.5, -0.5) for turn in (0.0, 0.3, -0.3)]
_STEPS, _REACH = 16, 10  # of a mean transfer function: per cycle per LR pixel, and how many are fitted


@dataclass(frozen=True)
class Path(Shape):
    """The path of a camera during the exposure, a curve of third degree in time: S(f) = ∫ exp(2πi f·p(t)) dt.

    The spectrum does not tell a path from its point reflection, S from its conjugate.
    """

    course: tuple[float, ...]  # coefficients of three Legendre polynomials along y, then along x, LR pixels

    bounds = ((-15.0,) * (2 * _DEGREE) + (0.05,), (15.0,) * (2 * _DEGREE) + (0.6,))

    @classmethod
    def starts(cls, covariance: _Array) -> list[float]:
        """A straight motion along the long axis."""
        y, x, softness = Line.starts(covariance)
        return [y, 0.0, 0.0, x, 0.0, 0.0, softness]

    @classmethod
    def bent(cls, line: Line, bend: float, turn: float) -> list[float]:
        """A straight motion that is bent by shares of its length: to one side, and to one and then the other."""
        y, x = line.motion
        return [y, -bend * x, -turn * x, x, bend * y, turn * y, line.softness]

    @classmethod
    def near(cls, transfer: _Complex, line: Line, count: int) -> list[list[float]]:
        """Paths whose transfer functions are near to a given one, the nearest first; starts for `fit`.

        Args:
            transfer: (16·s + 1, 16·s + 1), at multiples of 1/16 cycle per LR pixel, order (y, x); those up to 10/16 are
                fitted.
            line: A straight motion, which is bent in fifteen ways before it is fitted.
            count: Number of paths.
        """
        middle = len(transfer) // 2
        r = np.arange(-_REACH, _REACH + 1)
        y, x = np.meshgrid(r / _STEPS, r / _STEPS, indexing="ij")
        half = (x > 0) | ((x == 0) & (y > 0))  # the other half is its conjugate
        given = transfer[middle - _REACH : middle + _REACH + 1, middle - _REACH : middle + _REACH + 1][half]
        y, x = y[half], x[half]
        squared = y * y + x * x
        weights = (np.sqrt(squared) + 0.1) ** -0.5

        def residuals(theta: _Array) -> _Array:
            gain = _integral(theta[:-1], y, x)[0] * np.exp(-2 * np.pi**2 * theta[-1] ** 2 * squared)
            difference = (gain - given) * weights
            return np.concatenate([difference.real, difference.imag])

        def jacobian(theta: _Array) -> _Array:
            gain, slopes = _integral(theta[:-1], y, x)
            soft = weights * np.exp(-2 * np.pi**2 * theta[-1] ** 2 * squared)
            columns = np.stack(
                [slope * soft for slope in slopes] + [-4 * np.pi**2 * theta[-1] * squared * gain * soft], -1
            )
            return np.concatenate([columns.real, columns.imag])

        fits = [
            optimize.least_squares(residuals, cls.bent(line, bend, turn), jacobian, max_nfev=60)
            for bend, turn in _BENDS
        ]
        fits.sort(key=lambda fit: float(fit.cost))
        return [fit.x.tolist() for fit in fits[:count]]

    def _gain(self, y: _Array, x: _Array) -> _Complex:
        return _integral(np.array(self.course), y, x)[0]

    def _over_zero(self, y: _Array, x: _Array) -> _Array:
        return np.zeros(np.broadcast_shapes(y.shape, x.shape))  # a curve that is not even has no zeros

    @classmethod
    def _log_gain(cls, parameters: _Array, y: _Array, x: _Array) -> tuple[_Array, list[_Array]]:
        gain, slopes = _integral(parameters, y, x)
        power = gain.real**2 + gain.imag**2 + _SMALL
        return np.log(power), [2 * (gain.real * s.real + gain.imag * s.imag) / power for s in slopes]

    @classmethod
    def _of(cls, parameters: _Array, residual: float) -> Self:
        values = [float(value) for value in parameters]
        return cls(course=tuple(values[:-1]), softness=values[-1], residual=residual)


def _integral(course: _Array, y: _Array, x: _Array) -> tuple[_Complex, list[_Complex]]:
    """The transfer function of a path, and its derivative by each coefficient."""
    along_y, along_x = course[:_DEGREE] @ _COURSES, course[_DEGREE:] @ _COURSES
    terms = _waves(y, along_y) * _waves(x, along_x) * _WEIGHTS
    moments = terms @ _COURSES.T
    slopes = [2j * np.pi * axis * moments[..., i] for axis in (y, x) for i in range(_DEGREE)]
    return terms.sum(-1), slopes


def _waves(frequencies: _Array, places: _Array) -> _Complex:
    """exp(2πi f·p) of every frequency and place, (..., P): once for each of the frequencies of a grid."""
    each, index = np.unique(frequencies, return_inverse=True)
    return np.asarray(np.exp(2j * np.pi * each[:, None] * places)[index.reshape(frequencies.shape)])


def residual_of(points: SpectrumPoints, kernel: _Array, scale: int, prior: ExponentPrior) -> float:
    """How well a kernel explains a spectrum: the residual as in `SpectrumFit`, after a fit of A, α and N alone.

    Args:
        points: Data of the periodogram.
        kernel: (K, K), order (y, x), sum 1, on the HR grid.
        scale: Factor from LR to HR.
        prior: Prior on α.
    """
    y, x = points.aliases[..., 0], points.aliases[..., 1]
    outside = np.hypot(y, x) > points.beyond
    y, x = np.where(outside, 1.0, y), np.where(outside, 1.0, x)
    r = (np.arange(len(kernel)) - (len(kernel) - 1) / 2) / scale
    by_y, by_x = np.exp(2j * np.pi * y[..., None] * r), np.exp(2j * np.pi * x[..., None] * r)
    gain = np.einsum("mfi,ij,mfj->mf", by_y, kernel, by_x, optimize=True)
    log_power = np.where(outside, -300.0, np.log(np.abs(gain) ** 2 + _SMALL))
    log_radius, count = np.log(y * y + x * x) / 2, len(points.log_power)

    def residuals(theta: _Array) -> _Array:
        model = np.logaddexp(np.logaddexp.reduce(theta[0] - theta[1] * log_radius + log_power, axis=0), theta[2])
        return np.append(points.log_power - model, prior.residual(theta[1], count))

    start = [points.amplitude(prior.mean), prior.mean, float(np.quantile(points.log_power, 0.01)) - 2]
    fit = optimize.least_squares(residuals, start, loss="huber", f_scale=0.5, max_nfev=_MAX_STEPS)
    return float(np.sqrt(np.mean(fit.fun[:-1] ** 2)))
