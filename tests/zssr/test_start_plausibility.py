"""Whether an estimated kernel is too wide for its image."""

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.errors import ImageError
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.plausibility import WIDTHS, more_plausible

FP32 = StartConfig(precision="fp32")


def photograph():
    return torch.from_numpy(data.camera()[60:260, 120:340].copy())[None, None].float() / 255


def test_the_true_kernel_is_kept():
    kernel = gaussian([[2.6, 0.6], [0.6, 1.8]], 2)
    assert more_plausible(degrade(photograph(), kernel.tensor(), 2), kernel, FP32) is kernel


def test_a_kernel_that_is_far_too_wide_is_narrowed():
    lr = degrade(photograph(), gaussian(0.5, 2).tensor(), 2)
    wide = gaussian(3.0, 2)
    assert more_plausible(lr, wide, FP32).sigmas[0] < 0.75 * wide.sigmas[0]


def test_a_picture_made_small_on_a_computer_is_not_deblurred_much():
    lr = degrade(photograph(), bicubic(2).tensor(), 2)
    chosen = more_plausible(lr, gaussian(1.6, 2), FP32)
    assert np.linalg.det(chosen.covariance) < WIDTHS[-1] ** 3 * 1.6**4


def test_colour_is_judged_by_its_luma_and_the_input_is_left_alone():
    gray = degrade(photograph(), gaussian(0.8, 2).tensor(), 2)
    before = gray.clone()
    one, three = (more_plausible(image, gaussian(1.8, 2), FP32) for image in (gray, gray.repeat(1, 3, 1, 1)))
    assert np.allclose(one.array, three.array)
    assert torch.equal(gray, before)


def test_a_flat_image_keeps_its_kernel_and_a_small_one_is_refused():
    kernel = gaussian(1.2, 2)
    assert more_plausible(torch.full((1, 1, 40, 50), 0.5), kernel, FP32).scale == 2
    with pytest.raises(ImageError, match="16×16"):
        more_plausible(torch.rand(1, 1, 12, 50), kernel, FP32)
