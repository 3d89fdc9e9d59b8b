"""The spectrum of a photograph out of focus: that of a disc, which has rings of zeros where a Gaussian has none."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from scipy.ndimage import gaussian_filter

from blindsr.kernels import Kernel
from blindsr.ops.spectrum import ExponentPrior, SpectrumFit, SpectrumPoints

__all__ = ["DiscFit", "disc_kernel", "fit_disc"]

_MAX_SOFTNESS = 0.4  # LR pixels
_OVERSAMPLING = 9


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
