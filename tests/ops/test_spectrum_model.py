"""The parametric model of a spectrum, and its fit."""

import numpy as np
import pytest
from scipy import optimize

from blindsr.ops.shapes import Disc
from blindsr.ops.spectrum import ExponentPrior, Periodogram, SpectrumFit, _Model, fit_spectrum, spectrum_points


def test_the_parameters_of_a_synthetic_spectrum_are_recovered():
    n, covariance, exponent = 64, np.array([[0.5, 0.15], [0.15, 0.3]]), 2.2
    frequency = np.fft.fftfreq(n)
    y, x = np.meshgrid(frequency, frequency, indexing="ij")
    power = np.zeros((n, n))
    for my in (-1, 0, 1):
        for mx in (-1, 0, 1):
            u, v = y + my, x + mx
            inside = (np.abs(u) <= 1) & (np.abs(v) <= 1) & (np.hypot(u, v) > 0)
            quadratic = covariance[0, 0] * u * u + 2 * covariance[0, 1] * u * v + covariance[1, 1] * v * v
            radius = np.hypot(u, v) + (np.hypot(u, v) == 0)
            power += inside * radius**-exponent * np.exp(-4 * np.pi**2 * quadratic)
    fit = fit_spectrum(spectrum_points(Periodogram(power + 1e-9, frequency, 100), 2), ExponentPrior())
    np.testing.assert_allclose(fit.covariance, covariance, atol=0.02)
    assert fit.exponent == pytest.approx(exponent, abs=0.05)
    assert fit.residual < 0.02


def test_the_jacobian_is_that_of_finite_differences():
    aliases = np.random.default_rng(0).uniform(0.1, 1, (5, 20, 2))
    model = _Model(aliases)
    theta = np.array([1.0, 2.1, -3.0, 0.5, 0.1, 0.7])
    expected = optimize.approx_fprime(theta, model, 1e-7)
    np.testing.assert_allclose(model.jacobian(theta), expected, rtol=1e-4, atol=1e-5)


def test_a_similar_fit_as_the_initial_value_leads_to_the_same_optimum():
    rng = np.random.default_rng(1)
    frequency = np.fft.fftfreq(32)
    radius = np.hypot(frequency[:, None], frequency) + 1e-3
    power = radius**-2.0 * np.exp(-8 * radius**2) * rng.gamma(50, 1 / 50, (32, 32)) + 1e-4
    points = spectrum_points(Periodogram(power, frequency, 50), 2)
    first = fit_spectrum(points, ExponentPrior())
    again = fit_spectrum(points, ExponentPrior(), first.parameters * 1.1)
    np.testing.assert_allclose(again.covariance, first.covariance, atol=2e-3)


def test_the_weight_of_the_prior_grows_with_the_number_of_frequencies():
    prior = ExponentPrior(mean=2.0, sigma=0.5, weight=0.04)
    assert prior.residual(2.0, 100) == 0
    assert prior.residual(2.5, 100) == pytest.approx(2.0)
    assert prior.residual(2.5, 400) == pytest.approx(4.0)


def test_a_spectrum_without_texture_leaves_the_disc_within_its_bounds():
    frequency = np.fft.fftfreq(16)
    points = spectrum_points(Periodogram(np.full((16, 16), 1e-30), frequency, 1), 2)
    gaussian = SpectrumFit(np.eye(2) * 50, 2.0, 0.5, 0.1, np.zeros(6))
    disc = Disc.fit(points, ExponentPrior(), [Disc.starts(gaussian.covariance)])
    assert 0.1 <= disc.radius <= 10
    assert 0.05 <= disc.softness <= 0.4
