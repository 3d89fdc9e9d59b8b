"""Checks of a result that arrives in rows: consistency and registration."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from blindsr.errors import ImageError
from blindsr.evaluation.metrics import rgb_to_y
from blindsr.kernels import as_kernel, gaussian, shift
from blindsr.ops import degrade, imresize
from blindsr.ops.resize import RowResizer
from blindsr.ops.windows import TensorSource
from blindsr.pipelines.checks import (
    CONSISTENCY_ALARM,
    CONSISTENCY_MEANING,
    ConsistencyMeter,
    RegistrationCheck,
    consistency_meaning,
    consistency_warning,
    find_shift,
    psnr_of,
)
from blindsr.settings import Settings
from tests.images import photograph

HR = rgb_to_y(data.coffee()[100:251, 150:331])


def random(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def consistency(sr, lr, kernel, rows):
    meter = ConsistencyMeter(TensorSource(lr), kernel)
    for part in sr.split(rows, -2):
        meter.update(part)
    return psnr_of([meter])


@pytest.mark.parametrize("rows", [5, 64, 500])
@pytest.mark.parametrize(("scale", "height", "width"), [(2, 75, 37), (3, 40, 41)])
def test_consistency_is_the_psnr_of_the_degraded_result(scale, height, width, rows):
    lr, sr, kernel = random(1, 3, height, width), random(1, 3, scale * height, scale * width), gaussian(2.0, scale)
    error = (degrade(sr, kernel.tensor(), scale) - lr)[..., 4:-4, 4:-4].double().square().mean()
    assert consistency(sr, lr, kernel, rows) == pytest.approx(-10 * math.log10(error), abs=1e-6)


def test_consistency_is_infinite_for_an_exact_pair_and_low_for_a_wrong_one():
    hr, kernel = photograph(60, 80), gaussian(1.5, 2)
    lr = degrade(hr, kernel.tensor(), 2)
    assert consistency(hr, lr, kernel, 500) > 120
    assert consistency(hr, 1 - lr, kernel, 500) < 10


@pytest.mark.parametrize("rows", [5, 64, 500])
@pytest.mark.parametrize("size", [(125, 50), (161, 74), (20, 13), (150, 74)])
def test_rows_are_resized_like_the_whole(rows, size):
    sr, resizer = random(1, 3, 150, 74), RowResizer((150, 74), size)
    parts = [part for taken in sr.split(rows, -2) for part in resizer.push(taken)]
    torch.testing.assert_close(torch.cat(parts, -2), imresize(sr, size=size).clamp(0, 1), rtol=0, atol=1e-6)


def registration(sr, lr, kernel, rows=37):
    check = RegistrationCheck(TensorSource(lr), kernel)
    for part in sr.split(rows, -2):
        check.update(part)
    return check.warning()


def test_a_registered_result_has_no_warning_and_a_displaced_one_has():
    hr, kernel = photograph(200, 240), gaussian(1.2, 2)
    lr = degrade(hr, kernel.tensor(), 2)
    assert registration(hr, lr, kernel) == ()
    displaced = registration(torch.roll(hr, (1, -2), (-2, -1)), lr, kernel)
    assert "displaced by (+0.9" in displaced[0] or "displaced by (+1.0" in displaced[0]
    assert "blindsr kernel show" in displaced[0]


def test_the_shift_of_a_kernel_that_is_off_centre_is_expected():
    hr = photograph(200, 240)
    kernel = shift(gaussian(1.2, 2), (1.0, 0.0))
    lr = degrade(hr, kernel.tensor(), 2)
    assert registration(hr, lr, kernel) == ()
    assert registration(imresize(lr, 2.0), lr, kernel) != ()


@pytest.mark.parametrize(
    ("text", "name"), [("defocus:18", "grass"), ("gaussian:5", "rocket"), ("motion:24,30", "brick")]
)
def test_a_wide_kernel_displaces_nothing(text, name):
    kernel = as_kernel(text, 2)
    hr = photograph(288, 288, name=name)
    assert registration(hr, degrade(hr, kernel.tensor(hr), 2), kernel) == ()
    displaced = registration(torch.roll(hr, (2, 0), (-2, -1)), degrade(hr, kernel.tensor(hr), 2), kernel)
    assert "displaced by (+" in displaced[0]


def test_tiny_and_flat_images_have_no_registration():
    kernel = gaussian(1.0, 2)
    assert registration(random(1, 1, 40, 40), random(1, 1, 20, 20), kernel) == ()
    assert registration(torch.full((1, 1, 80, 80), 0.5), torch.full((1, 1, 40, 40), 0.5), kernel) == ()


@pytest.mark.parametrize("offset", [(0, 0), (0.3, -0.2), (-0.5, 0.5), (1.5, -2.25), (0, 4)])
def test_a_known_shift_is_measured_with_its_sign(offset):
    moved = ndimage.shift(HR, offset, order=5, mode="reflect")
    assert find_shift(moved, HR) == pytest.approx(offset, abs=0.05)


def test_blur_and_aliasing_do_not_bias_the_shift():
    lr = ndimage.gaussian_filter(HR, 0.8)[:150:2, :180:2]  # aliased, and sampled at 2·i
    again = ndimage.zoom(lr, 2, order=3, mode="reflect", grid_mode=True)  # as if centred: half a pixel
    assert find_shift(again, HR[:150, :180]) == pytest.approx((0.5, 0.5), abs=0.06)


@pytest.mark.parametrize(
    "changed", [lambda x: x // 2, lambda x: 0.7 * x, lambda x: 0.1 * x + 40, lambda x: 2.5 * x, lambda x: 0.8 * x - 9]
)
@pytest.mark.parametrize("offset", [(0, 0), (0.3, -0.2), (-0.6, 1.4)])
def test_brightness_and_contrast_do_not_bias_the_shift(changed, offset):
    moved = ndimage.shift(HR, offset, order=5, mode="reflect")
    for first, second, expected in ((changed(moved), HR, offset), (HR, changed(moved), np.negative(offset))):
        assert find_shift(first, second) == pytest.approx(tuple(expected), abs=0.03)


def test_a_flat_image_has_no_shift():
    assert find_shift(np.full((40, 37), 80.0), np.full((40, 37), 80.0)) == (0, 0)


@pytest.mark.parametrize("shape", [(40, 36), (12, 37)])
def test_planes_that_cannot_be_compared_are_refused(shape):
    with pytest.raises(ImageError, match="one size and of 16 px a side or more"):
        find_shift(np.zeros(shape), np.zeros((12, 37) if shape[0] == 12 else (40, 37)))


def test_the_meaning_names_the_dials_that_follow():
    assert consistency_meaning(Settings(denoise=0.5, kernel_width=0.9, halo=1.0)) == CONSISTENCY_MEANING
    assert consistency_meaning(Settings(halo=0.5)).endswith("before strength and halo.")
    assert consistency_meaning(Settings(), (1.0, 0.5)).endswith("before strength and halo.")


def test_a_low_consistency_is_below_the_usual_one_as_it_is_written():
    (text,) = consistency_warning(CONSISTENCY_ALARM - 0.1)
    assert f"only {CONSISTENCY_ALARM - 0.1:.1f} dB PSNR ({CONSISTENCY_ALARM:.0f} dB or more" in text
    assert "at only 34.9 dB" in consistency_warning(34.86)[0]  # as the summary rounds it
    assert "check the kernel" in text
    (text,) = consistency_warning(30.0, kernel_width=1.5)
    assert text.endswith("kernel_width=1.5 (--kernel-width) makes it differ from the kernel of the image.")
    assert consistency_warning(CONSISTENCY_ALARM) == ()
    assert consistency_warning(CONSISTENCY_ALARM - 0.01) == ()  # the summary says 35.0 dB
