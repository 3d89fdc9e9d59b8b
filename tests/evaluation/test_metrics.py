import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from blindsr.errors import ImageError
from blindsr.evaluation.metrics import psnr, psnr_y, rgb_to_y, ssim_y


@pytest.fixture(scope="module")
def pair():
    """A photograph and a noisy copy, uint8, 96×83."""
    hr = data.astronaut()[40:136, 180:263]
    noise = np.random.default_rng(1).normal(0, 12, hr.shape)
    return np.clip(hr + noise, 0, 255).round().astype(np.uint8), hr


def test_psnr_of_a_known_error():
    assert psnr(np.zeros((5, 4)), np.full((5, 4), 0.1), data_range=1.0) == pytest.approx(20.0)


def test_psnr_equals_scikit_image(pair):
    sr, hr = pair
    assert psnr(sr, hr, data_range=255) == pytest.approx(peak_signal_noise_ratio(hr, sr, data_range=255), abs=1e-9)


def test_eight_bit_images_do_not_wrap_around():
    dark, bright = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert psnr(dark, bright, data_range=255) == 0
    assert psnr(bright, dark, data_range=255) == 0


def test_the_border_is_left_out():
    image = np.zeros((9, 7))
    other = image.copy()
    other[0] = 1
    assert psnr(image, other, data_range=1.0) < 20
    assert psnr(image, other, data_range=1.0, border=1) == math.inf


def test_identical_images_are_infinitely_good(pair):
    hr = pair[1]
    assert psnr(hr, hr, data_range=255) == math.inf
    assert psnr_y(hr, hr, border=2) == math.inf
    assert ssim_y(hr, hr, border=2) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rgb", "luma"),
    [((0, 0, 0), 16), ((1, 1, 1), 235), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)],
)
def test_luma_is_matlabs(rgb, luma):
    assert rgb_to_y(np.array(rgb, float).reshape(1, 1, 3))[0, 0] == pytest.approx(luma)


def test_luma_of_whole_numbers_is_that_of_their_range():
    assert rgb_to_y(np.full((2, 2, 3), 255, np.uint8))[0, 0] == pytest.approx(235)
    assert rgb_to_y(np.full((2, 2, 3), 65535, np.uint16))[0, 0] == pytest.approx(235)


def test_luma_of_gray_is_that_of_equal_channels(pair):
    grey = pair[1][..., 0]
    expected = rgb_to_y(np.stack([grey] * 3, -1))
    np.testing.assert_allclose(rgb_to_y(grey), expected)
    np.testing.assert_allclose(rgb_to_y(grey[..., None]), expected)


def test_psnr_y_is_restated_literally(pair):
    sr, hr = pair
    luma = [i.astype(float) @ np.array([65.481, 128.553, 24.966]) / 255 + 16 for i in (sr, hr)]
    first, second = (y[3:-3, 3:-3] for y in luma)
    expected = 10 * np.log10(255**2 / np.mean((first - second) ** 2))
    assert psnr_y(sr, hr, border=3) == pytest.approx(expected, abs=1e-9)


def test_floats_are_rounded_to_eight_bits_first(pair):
    sr, hr = pair
    fine = sr / 255 + 0.3 / 255
    assert psnr_y(fine, hr / 255, border=2) == pytest.approx(psnr_y(sr, hr, border=2), abs=1e-12)


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint16, 257), (np.uint32, 16843009), (np.int16, 32767 / 255)])
def test_integers_of_every_type_are_those_of_their_range(pair, dtype, factor):
    more = [np.rint(image.astype(np.float64) * factor).astype(dtype) for image in pair]
    for metric in (psnr_y, ssim_y):
        assert metric(*more, border=2) == pytest.approx(metric(*pair, border=2), abs=1e-6)


def test_other_ranges_and_tensors_are_refused(pair):
    for metric in (psnr_y, ssim_y):
        with pytest.raises(ImageError, match=r"floats must be in \[0, 1\], got .*divide by the value of white"):
            metric(*(image.astype(np.float64) for image in pair), border=2)
        with pytest.raises(ImageError, match=r"NumPy arrays.* got Tensor"):
            metric(*map(torch.from_numpy, pair), border=2)


def test_floats_beyond_the_range_are_clipped(pair):
    sr, hr = pair
    clipped = np.where(sr == 255, 1.4, sr / 255)
    assert psnr_y(clipped, hr, border=2) == pytest.approx(psnr_y(sr, hr, border=2))


def gaussian_window():
    index = np.arange(11) - 5
    taps = np.exp(-(index**2) / (2 * 1.5**2))
    return np.outer(taps, taps) / taps.sum() ** 2


def test_ssim_is_restated_literally(pair):
    sr, hr = pair
    x, y = (rgb_to_y(i)[2:-2, 2:-2] for i in (sr, hr))
    views = [np.lib.stride_tricks.sliding_window_view(i, (11, 11)) for i in (x, y)]
    window = gaussian_window()

    def mean(values):
        return (values * window).sum((-1, -2))

    mx, my = mean(views[0]), mean(views[1])
    vx, vy = mean(views[0] ** 2) - mx**2, mean(views[1] ** 2) - my**2
    vxy = mean(views[0] * views[1]) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = ((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert ssim_y(sr, hr, border=2) == pytest.approx(value, abs=1e-9)


def test_the_inputs_are_unchanged(pair):
    sr, hr = (i.copy() for i in pair)
    psnr_y(sr, hr, border=2)
    ssim_y(sr, hr, border=2)
    assert np.array_equal(sr, pair[0])
    assert np.array_equal(hr, pair[1])


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
def test_images_of_different_sizes_are_refused(metric):
    with pytest.raises(ImageError, match="must have one shape"):
        metric(np.zeros((20, 30, 3)), np.zeros((20, 31, 3)), border=2)


def test_images_with_alpha_have_no_luma():
    with pytest.raises(ImageError, match="drop alpha"):
        psnr_y(np.zeros((20, 30, 4)), np.zeros((20, 30, 4)), border=2)


@pytest.mark.parametrize("border", [-1, 10])
def test_a_border_that_leaves_nothing_is_refused(border):
    with pytest.raises(ImageError, match="cannot crop"):
        psnr(np.zeros((20, 30)), np.zeros((20, 30)), data_range=1.0, border=border)


def test_ssim_needs_a_whole_window():
    with pytest.raises(ImageError, match="11×11 px after cropping the border, got 10×26"):
        ssim_y(np.zeros((14, 30)), np.zeros((14, 30)), border=2)


@pytest.mark.parametrize("data_range", [0, -1, float("nan")])
def test_a_peak_that_is_none_is_refused(data_range):
    with pytest.raises(ImageError, match="data_range must be positive"):
        psnr(np.zeros((4, 4)), np.zeros((4, 4)), data_range=data_range)
