import numpy as np
import pytest
from scipy import optimize, special

from blindsr.errors import ConfigError
from blindsr.sensors import widths


def edge(x, sigma):
    return 0.5 * (1 + special.erf(x / (sigma * np.sqrt(2))))


@pytest.mark.parametrize(("mtf", "sigma"), [(0.24, 0.538), (0.26, 0.522), (0.30, 0.494), (0.35, 0.461)])
def test_the_figures_of_published_mtfs(mtf, sigma):
    assert widths.sigma_from_mtf(mtf) == pytest.approx(sigma, abs=5e-4)
    assert widths.mtf_at_nyquist(widths.sigma_from_mtf(mtf)) == pytest.approx(mtf, rel=1e-12)


def test_an_mtf_at_another_frequency():
    sigma = widths.sigma_from_mtf(0.4, 0.3)
    assert np.exp(-2 * np.pi**2 * sigma**2 * 0.3**2) == pytest.approx(0.4)


def test_mtf50():
    assert widths.sigma_from_mtf50(0.25) == pytest.approx(0.18739 / 0.25, rel=1e-4)


def test_full_width_at_half_maximum():
    sigma = widths.sigma_from_fwhm(3.0)
    assert np.exp(-0.5 * (1.5 / sigma) ** 2) == pytest.approx(0.5)


@pytest.mark.parametrize("sigma", [0.35, 0.6, 1.4])
def test_the_relative_edge_response_is_the_rise_over_one_pixel(sigma):
    assert widths.sigma_from_rer(edge(0.5, sigma) - edge(-0.5, sigma)) == pytest.approx(sigma)


@pytest.mark.parametrize("sigma", [0.35, 0.6, 1.4])
def test_the_edge_slope_is_that_between_40_and_60_percent(sigma):
    gsd = 15.0
    ends = [optimize.brentq(lambda x, p=p: edge(x, sigma) - p, -9, 9) * gsd for p in (0.4, 0.6)]
    assert widths.sigma_from_edge_slope(0.2 / (ends[1] - ends[0]), gsd) == pytest.approx(sigma)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: widths.sigma_from_mtf(24), r"between 0 and 1 \(0.24, not 24 %\), got 24"),
        (lambda: widths.sigma_from_mtf(0.0), "between 0 and 1"),
        (lambda: widths.sigma_from_mtf50(-1), "positive number of cycles per pixel"),
        (lambda: widths.sigma_from_fwhm(float("nan")), "positive number of pixels, got nan"),
        (lambda: widths.sigma_from_rer(1.0), "between 0 and 1"),
        (lambda: widths.sigma_from_edge_slope(0.02, 0), "positive number of metres"),
    ],
)
def test_what_is_out_of_range_is_refused(call, words):
    with pytest.raises(ConfigError, match=words):
        call()
