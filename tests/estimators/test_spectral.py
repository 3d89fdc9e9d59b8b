"""The spectral estimator: Gaussians, and the discs of defocus with their rings of zeros."""

from functools import cache

import images
import numpy as np
import pytest
import torch
from kernel_helpers import estimating
from skimage import data

from blindsr.errors import ConfigError, ImageError
from blindsr.estimators.spectral import SpectralConfig, SpectralEstimator, disc_kernel
from blindsr.events import Notice
from blindsr.kernels import bicubic, defocus, flip, gaussian, normalised_cross_correlation
from blindsr.ops import degrade, dihedral, luma
from blindsr.ops.shapes import Disc

estimate_kernel = estimating(SpectralEstimator)
TRUE = gaussian([[3.5, 1.2], [1.2, 1.5]], 2)


@cache
def photograph():
    pixels = images.photograph(512, 512, name="astronaut", top=0, left=0).double()
    return degrade(pixels, TRUE.tensor(pixels), 2)


def test_the_kernel_of_a_photograph_is_closer_to_the_truth_than_bicubic():
    estimate = estimate_kernel(photograph(), 2).kernel
    ncc = normalised_cross_correlation(estimate, TRUE)
    assert ncc > 0.95
    assert ncc > normalised_cross_correlation(bicubic(2), TRUE) + 0.05


@pytest.mark.parametrize("view", [1, 4])
def test_a_turned_photograph_has_the_turned_kernel(view):
    lr = photograph()[..., :256, :256]
    straight = estimate_kernel(lr, 2).kernel
    turned = estimate_kernel(dihedral(lr, view), 2).kernel
    np.testing.assert_allclose(turned.covariance, flip(straight, view).covariance, atol=2e-2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_estimate_follows_the_scale_law(scale):
    config = SpectralConfig(splits=0)
    estimate = estimate_kernel(photograph(), scale, config)
    sigma_lr = estimate.metrics["sigma_lr_long"]
    assert estimate.kernel.sigmas[0] == pytest.approx(sigma_lr * np.sqrt(scale**2 - config.residual_hr_blur), rel=0.02)
    assert estimate.kernel.scale == scale


def test_a_flat_image_gets_the_bicubic_kernel_and_a_warning():
    events = []
    estimate = estimate_kernel(torch.full((1, 3, 80, 70), 0.3), 2, listener=events.append)
    assert np.array_equal(estimate.kernel.array, bicubic(2).array)
    assert "flat" in estimate.warnings[0]
    assert any(isinstance(event, Notice) for event in events)


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_banded_images_work(channels):
    lr = photograph().mean(1, keepdim=True).repeat(1, channels, 1, 1)
    assert normalised_cross_correlation(estimate_kernel(lr, 2).kernel, TRUE) > 0.9


def test_chroma_has_no_effect():
    grey = photograph().mean(1, keepdim=True).repeat(1, 3, 1, 1)
    noise = torch.rand(grey.shape[-2:], generator=torch.Generator().manual_seed(0), dtype=grey.dtype) * 0.2
    tinted = grey.clone()
    tinted[:, 0] += noise / 0.299
    tinted[:, 1] -= noise / 0.587
    torch.testing.assert_close(luma(tinted), luma(grey))


def test_a_too_small_image_is_rejected_with_the_smallest_size():
    with pytest.raises(ImageError, match="at least 16×16 px"):
        estimate_kernel(torch.rand(1, 1, 15, 40), 2)


def test_a_batch_is_rejected():
    with pytest.raises(ImageError, match="one image"):
        estimate_kernel(torch.rand(2, 1, 40, 40), 2)


def test_the_input_is_left_unchanged():
    lr = photograph()
    before = lr.clone()
    estimate_kernel(lr, 2)
    assert torch.equal(before, lr)


@cache
def estimate_of_a_part(config):
    return estimate_kernel(photograph()[..., :128, :128], 2, config).kernel


@pytest.mark.parametrize(
    "change",
    [{"exponent": 3.0}, {"exponent_sigma": 0.05}, {"residual_hr_blur": 0.9}, {"tile": 32}, {"prior_weight": 1.0}],
)
def test_each_setting_changes_the_estimate(change):
    assert estimate_of_a_part(SpectralConfig(**change)).digest != estimate_of_a_part(SpectralConfig()).digest


@pytest.mark.parametrize(
    "bad", [{"tile": 15}, {"max_tiles": 0}, {"exponent_sigma": 0.0}, {"residual_hr_blur": 1.5}, {"prior_weight": -1.0}]
)
def test_settings_out_of_bounds_name_the_field(bad):
    with pytest.raises(ConfigError, match=f"spectral.{next(iter(bad))} must"):
        SpectralConfig(**bad)


def test_the_class_is_the_function_with_its_settings():
    lr, config = photograph(), SpectralConfig(splits=0, exponent=2.0)
    estimate = SpectralEstimator(config).estimate(lr, 2)
    assert np.array_equal(estimate.kernel.array, estimate_kernel(lr, 2, config).kernel.array)
    assert SpectralEstimator.config_type is SpectralConfig
    assert SpectralEstimator().config == SpectralConfig()


WITH_DISCS = SpectralConfig(discs=True, splits=0)


def degraded(kernel):
    photograph = torch.from_numpy(data.camera()[:384, :448].copy())[None, None].float() / 255
    return (degrade(photograph, kernel.tensor(), kernel.scale) * 255).round() / 255


@pytest.mark.parametrize("diameter", [6.0, 7.0])
def test_the_radius_of_a_defocused_photograph_is_estimated(diameter):
    estimate = estimate_kernel(degraded(defocus(diameter, 2)), 2, WITH_DISCS)
    assert estimate.metrics["disc_radius_lr"] == pytest.approx(diameter / 4, rel=0.1)
    assert np.allclose(estimate.kernel.centroid, 0, atol=1e-9)


def test_a_gaussian_is_not_taken_for_a_disc():
    for covariance in (1.2, [[3.0, 0.8], [0.8, 1.5]]):
        assert "disc_radius_lr" not in estimate_kernel(degraded(gaussian(covariance, 2)), 2, WITH_DISCS).metrics


def test_discs_are_not_fitted_by_default():
    assert "disc_radius_lr" not in estimate_kernel(degraded(defocus(5.0, 2)), 2).metrics


def test_the_variance_of_the_kernel_is_that_of_disc_gaussian_and_pixel():
    kernel = disc_kernel(Disc(radius=1.5, softness=0.3, residual=0.1), 3)
    expected = (4.5**2) / 4 + 0.9**2 + 1 / 12
    assert np.diag(kernel.covariance) == pytest.approx([expected] * 2, rel=0.01)
    assert kernel.array == pytest.approx(kernel.array.T)
    assert kernel.array == pytest.approx(kernel.array[::-1])
