"""From raw weights to a kernel."""

import numpy as np
import pytest
import torch

from blindsr import kernels
from blindsr.errors import ConfigError, DivergenceError
from blindsr.kernelgan import KernelGANConfig
from blindsr.kernelgan.postprocess import clean_up, to_kernel, to_scale
from blindsr.ops import degrade

PAPER = KernelGANConfig()


def raw_gaussian(offset=(0.0, 0.0)):
    y, x = np.mgrid[:13, :13] - 6.5
    return 0.9 * np.exp(-((y - offset[0]) ** 2) / 8 - (x - offset[1]) ** 2 / 3)


def test_clean_up_subtracts_a_share_of_the_fortieth_largest_weight():
    weights = np.arange(169.0).reshape(13, 13)
    floor = 0.75 * 129  # 168 is the first, 129 the fortieth
    expected = np.clip(weights - floor, 0, None)
    np.testing.assert_allclose(clean_up(weights, PAPER), expected / expected.sum(), rtol=1e-12)


def test_clean_up_raises_no_weight_when_the_fortieth_is_negative():
    weights = np.full((13, 13), -0.1)
    weights[6, 6] = weights[6, 7] = 0.5
    assert np.count_nonzero(clean_up(weights, PAPER)) == 2


def test_the_cleaned_kernel_is_fourteen_pixels_wide_and_sums_to_one():
    kernel = to_kernel(raw_gaussian(), PAPER)
    assert kernel.size == 14
    assert kernel.scale == 2
    assert kernel.array.sum() == pytest.approx(1)
    assert kernel.array.min() >= 0


def test_centring_does_not_grow_the_kernel():
    kernel = to_kernel(raw_gaussian((0.7, -0.4)), PAPER)
    assert np.abs(kernel.centroid).max() > 0.2
    centred = kernels.centre(kernel)
    assert centred.size == 14
    assert np.abs(centred.centroid).max() < 1e-3


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_constant_colour_stays_unchanged(scale):
    red = torch.tensor([0.9, 0.1, 0.2], dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 36, 48)
    kernel = to_scale(kernels.centre(to_kernel(raw_gaussian(), PAPER)), scale)
    torch.testing.assert_close(degrade(red, kernel.tensor(red), scale), red[..., : 36 // scale, : 48 // scale])


def test_the_even_kernel_downscales_like_the_odd_one(rng):
    image = torch.from_numpy(rng.random((1, 1, 38, 32)))
    weights = rng.random((13, 13))
    kernel = to_kernel(weights, PAPER)
    odd = torch.from_numpy(clean_up(weights, PAPER))
    # A valid correlation's first output covers pixels 0 … 12, which the even kernel's fourth output does as well.
    valid = torch.nn.functional.conv2d(image, odd[None, None], stride=2)
    ours = degrade(image, kernel.tensor(image), 2)[..., 3:-3, 3:-3]
    torch.testing.assert_close(ours, valid[..., : ours.shape[-2], : ours.shape[-1]])


def test_a_kernel_without_a_positive_weight_is_refused():
    with pytest.raises(DivergenceError, match="another seed"):
        to_kernel(-raw_gaussian(), PAPER)


@pytest.mark.parametrize(("scale", "factor"), [(2, 1.0), (3, 8 / 3), (4, 5.0)])
def test_the_covariance_follows_the_scale_law(scale, factor):
    kernel = kernels.centre(to_kernel(raw_gaussian(), PAPER))
    # The splines that stretch a kernel to ×3 blur it by a few per cent.
    np.testing.assert_allclose(to_scale(kernel, scale).covariance, factor * kernel.covariance, rtol=0.03, atol=0.05)
    assert to_scale(kernel, scale).scale == scale


@pytest.mark.parametrize("scale", [1, 5, 2.5])
def test_other_scales_are_refused(scale):
    with pytest.raises(ConfigError, match="2, 3 or 4"):
        to_scale(kernels.box(2), scale)
