import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from blindsr.errors import ImageError
from blindsr.metrics import rgb_to_y
from blindsr.pipelines.alignment import find_shift

HR = rgb_to_y(data.coffee()[100:251, 150:331])


@pytest.mark.parametrize("shift", [(0, 0), (0.3, -0.2), (-0.5, 0.5), (1.5, -2.25), (0, 4)])
def test_a_known_shift_is_found_and_its_sign_says_where_sr_lies(shift):
    moved = ndimage.shift(HR, shift, order=5, mode="reflect")
    assert find_shift(moved, HR) == pytest.approx(shift, abs=0.05)


def test_blur_and_aliasing_pull_nowhere():
    lr = ndimage.gaussian_filter(HR, 0.8)[:150:2, :180:2]  # aliased, and looking at 2·i
    again = ndimage.zoom(lr, 2, order=3, mode="reflect", grid_mode=True)  # as if centred: half a pixel
    assert find_shift(again, HR[:150, :180]) == pytest.approx((0.5, 0.5), abs=0.06)


def test_a_flat_image_lies_nowhere_else():
    assert find_shift(np.full((40, 37), 80.0), np.full((40, 37), 80.0)) == (0, 0)


@pytest.mark.parametrize("shape", [(40, 36), (12, 37)])
def test_planes_that_cannot_be_compared_are_refused(shape):
    with pytest.raises(ImageError, match="two planes of one size, 16 px or more"):
        find_shift(np.zeros(shape), np.zeros((12, 37) if shape[0] == 12 else (40, 37)))
