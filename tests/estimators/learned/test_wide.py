"""Wide Gaussian blurs: the fit of the spectrum, and what it is removed from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from images import photograph
from kernel_helpers import estimating
from scipy import ndimage
from skimage import data

import blindsr
from blindsr.estimators.learned import LearnedConfig, LearnedEstimator
from blindsr.estimators.learned.tiles import corner_noise, textured_tiles
from blindsr.estimators.learned.wide import (
    SpectralGaussian,
    edge_gain,
    fitted_gaussian,
    rounded,
    sparsity,
)
from blindsr.kernels import bicubic, gaussian, normalised_cross_correlation
from blindsr.ops import degrade, imresize

estimate_kernel = estimating(LearnedEstimator)
FREQUENCIES = np.arange(-16, 17) / 16


def blurred(sigma, name="astronaut"):
    """A photograph with a Gaussian blur of σ LR px, grey levels, (H, W)."""
    hr = photograph(400, 400, name=name, top=0, left=60, bands=1)
    return (degrade(hr, gaussian((2 * sigma) ** 2, 2).tensor(hr), 2) * 255).round()[0, 0]


def cell(factor=0.5):
    """A microscope image of many times too many pixels, reduced."""
    pixels = torch.from_numpy(data.cell()[:512, :512].astype(np.float32))[None, None] / 255
    return (imresize(pixels, factor).clamp(0, 1) * 255).round()[0, 0]


@pytest.mark.parametrize("sigma", [1.3, 1.8, 2.3])
def test_the_width_is_measured_in_bytes_and_in_floats_without_noise(sigma):
    in_bytes = blurred(sigma)
    hr = photograph(400, 400, name="astronaut", top=0, left=60, bands=1)
    exact = 255 * degrade(hr, gaussian((2 * sigma) ** 2, 2).tensor(hr), 2)[0, 0]
    for plane in (in_bytes, rounded(exact)):
        fit = fitted(plane)
        assert fit.sigmas == pytest.approx((sigma, sigma), rel=0.1)
        assert fit.wideness((0.95, 1.15), (2.4, 3.0)) == (1, 0)


def fitted(plane, *, is_grey=False):
    return fitted_gaussian(plane, textured_tiles(plane, 8), 2, FREQUENCIES, wide=0.95, points=3.0, is_grey=is_grey)


@pytest.mark.parametrize("sigma", [3, 5])
def test_a_random_field_without_edges_is_a_smooth_subject(sigma):
    """It is what a blur leaves of white noise, which no photograph shows; its differences stay Gaussian."""
    field = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(260, 260)), sigma / 2)
    image = np.rint(128 + 40 * field / field.std()).clip(0, 255).astype(np.uint8)
    fit = fitted(torch.from_numpy(image).float())
    assert fit.sharper == pytest.approx(np.pi / 2, abs=0.06)
    assert fit.wideness((0.95, 1.15), (2.4, 3.0)) == (0, 1)
    estimate = blindsr.estimate_kernel(image)
    assert normalised_cross_correlation(estimate.kernel, bicubic(2)) > 0.99
    assert "as with a smooth subject" in estimate.warnings[0]


@pytest.mark.parametrize("name", ["brick", "coins"])
def test_a_grey_image_without_any_noise_that_has_one_blur_is_sharpened(name):
    hr = torch.from_numpy(getattr(data, name)()[:300, :300].astype(np.float32))[None, None] / 255
    lr = (degrade(hr, gaussian(9.0, 2).tensor(hr), 2) * 255).round()[0, 0]
    fit = fitted(lr, is_grey=True)
    assert fit.is_noiseless
    assert fit.unevenness < 0.07
    assert fit.wideness((0.95, 1.15), (2.4, 3.0))[0] > 0.75


def test_a_grey_image_without_any_noise_is_hardly_a_photograph():
    plane = blurred(1.8)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=tuple(plane.shape))).float()
    assert fitted(plane, is_grey=True).is_noiseless
    assert not fitted(plane, is_grey=False).is_noiseless
    assert not fitted((plane + 0.6 * noise).round(), is_grey=True).is_noiseless
    assert corner_noise(textured_tiles(10 * noise, 8)) == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize(("top", "left"), [(330, 260), (0, 130), (260, 260), (130, 0)])
def test_parts_of_a_microscope_image_are_never_ruined(top, left):
    hr = ndimage.gaussian_filter(data.cell()[top : top + 240, left : left + 240].astype(float), 0.8, mode="mirror")
    truth = data.cell()[top : top + 240, left : left + 240]
    lr = np.rint(hr.reshape(120, 2, 120, 2).mean((1, 3))).astype(np.uint8)
    result = blindsr.estimate_and_upscale(lr, 2, preset="fast")
    plain = blindsr.upscale(lr, "bicubic", 2, upscaler="bicubic")
    errors = [float(np.square(image[8:-8, 8:-8] - truth[8:-8, 8:-8].astype(float)).mean()) for image in (result, plain)]
    assert 10 * np.log10(errors[0] / errors[1]) < 1.2  # of 55 dB, on which rounding has a part


def test_the_transfer_function_is_that_of_the_covariance():
    fit = SpectralGaussian(np.array([[1.0, 0.3], [0.3, 0.5]]), FREQUENCIES)
    assert fit.transfer.shape == (33, 33)
    assert fit.transfer[16, 16] == 1
    # One period of frequency 1/4 along y, and of 1/8 along x.
    quadratic = 1.0 / 16 + 2 * 0.3 / 32 + 0.5 / 64
    assert fit.transfer[20, 18].real == pytest.approx(np.exp(-2 * np.pi**2 * quadratic))
    assert fit.sigmas == pytest.approx(tuple(np.sqrt(np.linalg.eigvalsh(fit.covariance))))


def test_removed_blur_is_sparser_than_ripples_of_a_smooth_subject():
    wide = np.eye(2) * 1.8**2
    for name in ("astronaut", "coffee"):
        assert edge_gain(textured_tiles(blurred(1.8, name), 16), wide) > 0.9
    assert edge_gain(textured_tiles(cell(), 16), np.eye(2) * 2.0**2) < 0.78


def test_a_microscope_image_keeps_the_bicubic_kernel():
    estimate = estimate_kernel(cell()[None, None] / 255, 2)
    assert normalised_cross_correlation(estimate.kernel, bicubic(2)) > 0.99
    assert not [warning for warning in estimate.warnings if "softer than photographs" in warning]


@pytest.mark.parametrize(
    "change",
    [
        {"covariance": np.diag([1.8**2, 6.0**2])},
        {"covariance": np.diag([0.9**2, 1.8**2])},
        {"tiles": 4},
        {"points": 40.0},
        {"edges": 0.7},
        {"sharper": 1.6},
        {"is_noiseless": True, "edges": 0.92},
        {"unevenness": 0.12},
    ],
)
def test_each_reason_excludes_a_wide_blur(change):
    wide = SpectralGaussian(np.eye(2) * 1.8**2, FREQUENCIES, tiles=25, edges=1.0, points=3.0)
    bounds = LearnedConfig().wide_sigmas, LearnedConfig().max_wide_sigmas
    assert wide.wideness(*bounds) == (1, 0)
    is_smooth = bool({"edges", "sharper", "unevenness"} & change.keys())
    assert replace(wide, **change).wideness(*bounds) == (0, is_smooth)


def test_points_are_sparse_and_photographs_are_not():
    stars = torch.zeros(96, 96)
    stars[20::30, 14::25] = 200
    assert sparsity(stars) > 40
    estimate = estimate_kernel(stars[None, None] / 255, 2)
    assert "flat but for a few points or edges" in estimate.warnings[0]
    assert normalised_cross_correlation(estimate.kernel, bicubic(2)) > 0.99
    assert 1 < sparsity(blurred(0.5)) < 7
    assert sparsity(torch.full((32, 32), 7.0)) == 0
