"""Each formula against an integral over the shape that it is the transform of, and against published numbers."""

import numpy as np
import pytest
from scipy import integrate, optimize, special

from blindsr.errors import ConfigError
from blindsr.sensors import Curve, System, design, transfer

FREQUENCIES = np.array([0.0, 0.03, 0.11, 0.27, 0.5, 0.74])


def test_diffraction_at_nyquist_is_the_published_figure():
    q = 0.55 * 8 / 3.76
    assert q == pytest.approx(1.1702, abs=1e-4)
    assert float(transfer.diffraction(0.5, q)) == pytest.approx(0.300, abs=5e-4)
    system = float(transfer.diffraction(0.5, q)) * float(transfer.detector(0.0, 0.5, 1.0))
    assert system == pytest.approx(0.191, abs=5e-4)


def test_diffraction_is_the_transform_of_the_airy_pattern():
    # A radial integral (Hankel) of [2 J1(πr/λN)/(πr/λN)]², with λN = Q pixels; its tail is cut at 400 λN.
    q = 1.3
    radius = np.linspace(1e-9, 400 * q, 800_001)
    v = np.pi * radius / q
    airy = (2 * special.j1(v) / v) ** 2
    total = integrate.simpson(airy * radius, x=radius)
    for f in FREQUENCIES[1:]:
        found = integrate.simpson(airy * special.j0(2 * np.pi * f * radius) * radius, x=radius) / total
        assert float(transfer.diffraction(f, q)) == pytest.approx(found, abs=3e-3)


@pytest.mark.parametrize("obstruction", [0.2, 0.45])
def test_an_annular_pupil_is_the_autocorrelation_of_the_pupil(obstruction):
    n = 801
    c = np.linspace(-2, 2, n)
    radius = np.hypot(c[:, None], c[None, :])
    pupil = ((radius <= 1) & (radius >= obstruction)).astype(float)
    for nu in (0.05, 0.2, 0.4, 0.7, 0.95):
        moved = (np.hypot(c[:, None], c[None, :] - 2 * nu) <= 1) & (
            np.hypot(c[:, None], c[None, :] - 2 * nu) >= obstruction
        )
        found = (pupil * moved).sum() / pupil.sum()
        assert float(transfer.diffraction(nu / 1.7, 1.7, obstruction)) == pytest.approx(found, abs=6e-3)


def test_without_an_obstruction_both_pupils_are_one():
    expected = transfer.diffraction(FREQUENCIES, 1.2)
    np.testing.assert_allclose(transfer.diffraction(FREQUENCIES, 1.2, 1e-4), expected, atol=1e-6)


@pytest.mark.parametrize("width", [1.0, 0.7])
def test_the_detector_is_the_transform_of_a_box(width):
    for f in FREQUENCIES:
        found = integrate.quad(lambda x, f=f: np.cos(2 * np.pi * f * x), -width / 2, width / 2)[0] / width
        assert float(transfer.detector(0.0, f, width)) == pytest.approx(found, abs=1e-10)
    assert float(transfer.detector(0.5, 0.0, 1.0)) == pytest.approx(0.6366, abs=5e-5)


def test_the_gaussian_is_the_transform_of_a_gaussian():
    covariance = np.array([[0.8, 0.3], [0.3, 0.5]])
    inverse = np.linalg.inv(covariance)
    c = np.arange(-8, 8, 0.05)
    y, x = np.meshgrid(c, c, indexing="ij")
    weights = np.exp(-0.5 * (inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x))
    for fy, fx in [(0.1, 0.2), (0.3, -0.1), (0.0, 0.4)]:
        found = (weights * np.cos(2 * np.pi * (fy * y + fx * x))).sum() / weights.sum()
        assert float(transfer.gaussian(fy, fx, covariance)) == pytest.approx(found, abs=1e-8)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 145.0])
def test_motion_is_the_transform_of_a_line_that_is_seen_at_its_angle(angle):
    length = 3.2
    t = np.linspace(-length / 2, length / 2, 20001)
    x, y = t * np.cos(np.radians(angle)), -t * np.sin(np.radians(angle))
    for fy, fx in [(0.1, 0.2), (-0.3, 0.1)]:
        found = np.cos(2 * np.pi * (fy * y + fx * x)).mean()
        assert float(transfer.motion(fy, fx, length, angle)) == pytest.approx(found, abs=1e-4)


def test_defocus_is_the_transform_of_a_disc():
    diameter = 4.4
    for f in FREQUENCIES:
        # Across the disc: chords of length 2·√(R² − x²).
        chord = lambda x, f=f: 2 * np.sqrt((diameter / 2) ** 2 - x * x) * np.cos(2 * np.pi * f * x)  # noqa: E731
        found = integrate.quad(chord, -diameter / 2, diameter / 2)[0] / (np.pi * diameter**2 / 4)
        assert float(transfer.defocus(f, diameter)) == pytest.approx(found, abs=1e-8)


def test_four_spots_are_the_transform_of_four_points():
    d = 0.8
    for fy, fx in [(0.1, 0.2), (0.5, 0.3)]:
        spots = [np.cos(2 * np.pi * (fy * sy + fx * sx)) for sy in (-d / 2, d / 2) for sx in (-d / 2, d / 2)]
        assert float(transfer.four_spots(fy, fx, d)) == pytest.approx(np.mean(spots), abs=1e-12)


def test_every_part_is_one_at_zero():
    parts = [
        transfer.diffraction(0.0, 1.2),
        transfer.diffraction(0.0, 1.2, 0.3),
        transfer.detector(0.0, 0.0, 0.9),
        transfer.gaussian(0.0, 0.0, np.eye(2)),
        transfer.motion(0.0, 0.0, 3.0, 20.0),
        transfer.defocus(0.0, 3.0),
        transfer.four_spots(0.0, 0.0, 0.7),
    ]
    np.testing.assert_allclose(parts, 1, atol=1e-12)


def edge(x, sigma):
    return 0.5 * (1 + special.erf(x / (sigma * np.sqrt(2))))


@pytest.mark.parametrize(("mtf", "sigma"), [(0.24, 0.538), (0.26, 0.522), (0.30, 0.494), (0.35, 0.461)])
def test_the_widths_of_published_mtfs(mtf, sigma):
    assert transfer.sigma_from_mtf(mtf) == pytest.approx(sigma, abs=5e-4)
    assert np.exp(-0.5 * (np.pi * transfer.sigma_from_mtf(mtf)) ** 2) == pytest.approx(mtf, rel=1e-12)


def test_an_mtf_at_another_frequency():
    sigma = transfer.sigma_from_mtf(0.4, 0.3)
    assert np.exp(-2 * np.pi**2 * sigma**2 * 0.3**2) == pytest.approx(0.4)


def test_mtf50():
    assert transfer.sigma_from_mtf(0.5, 0.25) == pytest.approx(0.18739 / 0.25, rel=1e-4)


def test_full_width_at_half_maximum():
    sigma = transfer.sigma_from_fwhm(3.0)
    assert np.exp(-0.5 * (1.5 / sigma) ** 2) == pytest.approx(0.5)


@pytest.mark.parametrize("sigma", [0.35, 0.6, 1.4])
def test_the_relative_edge_response_is_the_rise_over_one_pixel(sigma):
    assert transfer.sigma_from_rer(edge(0.5, sigma) - edge(-0.5, sigma)) == pytest.approx(sigma)


@pytest.mark.parametrize("sigma", [0.35, 0.6, 1.4])
def test_the_edge_slope_is_that_between_40_and_60_percent(sigma):
    gsd = 15.0
    ends = [optimize.brentq(lambda x, p=p: edge(x, sigma) - p, -9, 9) * gsd for p in (0.4, 0.6)]
    assert transfer.sigma_from_edge_slope(0.2 / (ends[1] - ends[0]), gsd) == pytest.approx(sigma)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: transfer.sigma_from_mtf(24), r"between 0 and 1 \(0.24, not 24 %\), got 24"),
        (lambda: transfer.sigma_from_mtf(0.0), "between 0 and 1"),
        (lambda: transfer.sigma_from_mtf(0.5, -1), "positive number of cycles per pixel"),
        (lambda: transfer.sigma_from_fwhm(float("nan")), "positive number of pixels, got nan"),
        (lambda: transfer.sigma_from_rer(1.0), "between 0 and 1"),
        (lambda: transfer.sigma_from_edge_slope(0.02, 0), "positive number of metres"),
    ],
)
def test_numbers_out_of_range_are_refused(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_a_curve_is_what_it_was_made_from():
    f = np.linspace(0.02, 0.5, 25)
    sigma = 0.5
    values = tuple(np.exp(-2 * np.pi**2 * sigma**2 * f**2))
    system = System(curve=Curve(frequencies=tuple(f), along_x=values, along_y=values))
    assert system.nyquist() == pytest.approx((values[-1], values[-1]))
    assert design(system, 2, model="psf").kernel.sigmas[0] == pytest.approx(2 * sigma, rel=0.05)


@pytest.mark.parametrize(
    ("f", "v", "words"),
    [
        ((0.1,), (0.5,), "two rows or more"),
        ((0.2, 0.1), (0.5, 0.4), "increase from row to row"),
        ((0.1, 0.2), (90.0, 50.0), "divide percents by 100"),
        ((0.1, 0.2), (1.0, 1.0), "fall below 1"),
    ],
)
def test_an_invalid_curve_is_refused(f, v, words):
    with pytest.raises(ConfigError, match=words):
        Curve(frequencies=f, along_x=v, along_y=v)
