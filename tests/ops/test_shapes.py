"""Discs and straight motions fitted to a spectrum: on spectra that the model made, and against drawn shapes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from blindsr.kernels import defocus
from blindsr.ops.shapes import Disc, Line, Path, residual_of
from blindsr.ops.spectrum import ExponentPrior, Periodogram, spectrum_points

PRIOR = ExponentPrior(weight=1e-6)
SHAPES = [
    Disc(radius=1.6, softness=0.25, residual=0.0),
    Disc(radius=0.9, softness=0.1, residual=0.0),
    Line(motion=(1.5, 3.0), softness=0.3, residual=0.0),
    Line(motion=(-4.0, 0.5), softness=0.2, residual=0.0),
    Path(course=(3.0, 0.4, -0.3, 1.0, -0.8, 0.5), softness=0.3, residual=0.0),
]


def spectrum(shape, scale=2, noise=1e-7, exponent=2.1):
    """What sampling makes of a photograph's spectrum after a shape's blur."""
    frequency = np.fft.fftfreq(64)
    points = spectrum_points(Periodogram(np.ones((64, 64)), frequency, 1), scale)
    y, x = points.aliases[..., 0], points.aliases[..., 1]
    radius = np.hypot(y, x)
    used = radius < points.beyond
    frequencies = np.unique(points.aliases)
    gain = np.abs(shape.transfer(frequencies))[np.searchsorted(frequencies, y), np.searchsorted(frequencies, x)]
    power = np.zeros(radius.shape)
    power[used] = radius[used] ** -exponent * gain[used] ** 2
    return replace(points, log_power=np.log(power.sum(0) + noise))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [2, 3])
def test_the_fit_finds_the_shape_that_made_a_spectrum(shape, scale):
    data = spectrum(shape, scale)
    # A path begins at what an estimate of its transfer function shows of it, not at a straight motion.
    start = [*shape.course, shape.softness] if isinstance(shape, Path) else type(shape).starts(true_covariance(shape))
    fit = type(shape).fit(data, PRIOR, [[0.85 * value for value in start]])
    frequencies = np.linspace(-1, 1, 33)
    found, true = fit.transfer(frequencies), shape.transfer(frequencies)
    # A path and its reflection have one spectrum.
    assert min(np.abs(found - true).max(), np.abs(found.conj() - true).max()) < 0.02
    assert fit.residual < 0.02


def true_covariance(shape):
    if isinstance(shape, Disc):
        return np.eye(2) * (shape.radius**2 / 4 + shape.softness**2)
    motion = np.array(shape.motion if isinstance(shape, Line) else (shape.course[0], shape.course[3]))
    return np.outer(motion, motion) / 12 + np.eye(2) * shape.softness**2


@pytest.mark.parametrize("shape", SHAPES)
def test_the_start_has_the_variance_of_the_shape(shape):
    start = type(shape).starts(true_covariance(shape))
    begun = type(shape)._of(np.array(start), 0.0)
    assert np.trace(true_covariance(begun)) == pytest.approx(np.trace(true_covariance(shape)), rel=0.15)


def test_the_transfer_of_a_disc_is_that_of_a_drawn_one():
    fine = 40
    r = (np.arange(8 * fine) - (8 * fine - 1) / 2) / fine
    disc = (np.hypot(r[:, None], r) <= 1.7).astype(float)
    frequencies = np.linspace(-0.9, 0.9, 13)
    phase = np.exp(2j * np.pi * np.outer(frequencies, r))
    drawn = (phase @ (disc / disc.sum()) @ phase.T).real
    soft = np.exp(-2 * np.pi**2 * 0.2**2 * (frequencies[:, None] ** 2 + frequencies**2))
    assert Disc(radius=1.7, softness=0.2, residual=0).transfer(frequencies) == pytest.approx(drawn * soft, abs=0.004)


def test_the_transfer_of_a_motion_is_that_of_points_along_it():
    frequencies = np.linspace(-0.9, 0.9, 13)
    y, x = frequencies[:, None, None], frequencies[None, :, None]
    along = np.linspace(-0.5, 0.5, 4001)
    drawn = np.cos(2 * np.pi * (2.0 * y - 3.0 * x) * along).mean(-1)
    motion = Line(motion=(2.0, -3.0), softness=1e-3, residual=0)
    assert motion.transfer(frequencies) == pytest.approx(drawn, abs=0.002)


@pytest.mark.parametrize(
    ("shape", "parameters"), [(Disc, [1.3]), (Line, [2.0, -1.5]), (Path, [2.0, 0.5, 0.2, -1.0, 0.7, 0.1])]
)
def test_the_derivatives_are_those_of_the_gain(shape, parameters):
    y, x = np.random.default_rng(0).uniform(-1, 1, (2, 200))
    for i, slope in enumerate(shape._log_gain(np.array(parameters), y, x)[1]):
        step = 1e-5 * (np.arange(len(parameters)) == i)
        above, below = (shape._log_gain(np.array(parameters) + sign * step, y, x)[0] for sign in (1, -1))
        assert slope == pytest.approx((above - below) / 2e-5, rel=1e-3, abs=1e-3)


def test_paths_near_a_transfer_function_are_that_path():
    shape = SHAPES[-1]
    transfer = np.asarray(shape.transfer(np.arange(-16, 17) / 16), np.complex128)
    line = Line(motion=(3.2, 0.8), softness=0.25, residual=0.0)
    best = Path.near(transfer, line, 2)
    assert len(best) == 2
    assert best[0] == pytest.approx([*shape.course, shape.softness], abs=0.02)


def test_a_bent_path_has_its_centre_of_mass_at_the_origin():
    slope = np.angle(SHAPES[-1].transfer(np.array([-0.01, 0.0, 0.01])))
    assert np.abs(slope).max() < 1e-3


def test_the_softness_lies_between_that_of_the_spectrum_and_of_another_estimate():
    frequencies = np.arange(-16, 17) / 16
    shape, other = (Disc(radius=1.5, softness=softness, residual=0.0) for softness in (0.4, 0.2))
    assert shape.softened(other.transfer(frequencies) + 0j, frequencies).softness == pytest.approx(
        math.sqrt((0.4**2 + 0.2**2) / 2), abs=0.005
    )


def test_the_right_kernel_leaves_least_of_a_spectrum_unexplained():
    data = spectrum(Disc(radius=1.5, softness=0.01, residual=0.0))
    right, small, wide = (defocus(d, 2, detector=False).array for d in (6.0, 4.5, 8.0))
    residuals = [residual_of(data, kernel, 2, PRIOR) for kernel in (right, small, wide)]
    assert residuals[0] < 0.6 * min(residuals[1:])


def test_a_spectrum_without_texture_leaves_a_shape_within_its_bounds():
    points = spectrum_points(Periodogram(np.full((16, 16), 1e-30), np.fft.fftfreq(16), 1), 2)
    for shape in (Disc, Line):
        fit = shape.fit(points, ExponentPrior(), [shape.starts(np.eye(2) * 50)])
        assert 0.05 <= fit.softness <= 0.8
        assert math.isfinite(fit.residual)


@pytest.mark.parametrize("noise", [1e-7, 1e-2])
def test_a_spectrum_rises_behind_the_zero_of_a_shape_that_made_it(noise):
    for shape in (Disc(radius=1.6, softness=0.25, residual=0.0), Line(motion=(1.5, 3.0), softness=0.3, residual=0.0)):
        assert shape.lobe_contrast(spectrum(shape, noise=noise)) > -0.1


def test_a_spectrum_that_falls_on_and_on_has_no_zero():
    gaussian = Disc(radius=1e-3, softness=0.7, residual=0.0)
    disc = Disc(radius=1.2, softness=0.2, residual=0.0)
    assert disc.lobe_contrast(spectrum(gaussian)) < -1


def test_a_lobe_beyond_the_limit_of_the_pixels_is_not_seen():
    small = Disc(radius=0.5, softness=0.2, residual=0.0)
    assert small.lobe_contrast(spectrum(small)) == -math.inf
    assert SHAPES[-1].lobe_contrast(spectrum(SHAPES[-1])) == -math.inf  # an uneven path has no zeros
