"""How plausible the answers are that kernels lead to."""

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.errors import ImageError
from blindsr.kernels import gaussian
from blindsr.ops import degrade
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.plausibility import narrowed, roughness

FP32 = StartConfig(precision="fp32")


def photograph():
    return torch.from_numpy(data.camera()[60:260, 120:340].copy())[None, None].float() / 255


def test_the_true_kernel_leads_to_a_sparser_answer_than_narrower_and_wider_ones():
    kernel = gaussian([[2.6, 0.6], [0.6, 1.8]], 2)
    lr = degrade(photograph(), kernel.tensor(), 2)
    narrow, true, wide = roughness(lr, [narrowed(kernel, 0.6), kernel, narrowed(kernel, 1.6)], FP32)
    assert true < narrow
    assert true < wide


def test_a_kernel_that_is_far_too_wide_rings():
    lr = degrade(photograph(), gaussian(0.5, 2).tensor(), 2)
    right, wide = roughness(lr, [gaussian(0.5, 2), gaussian(3.0, 2)], FP32)
    assert right < 0.95 * wide


def test_colour_is_judged_by_its_luma_and_the_input_is_left_alone():
    gray = degrade(photograph(), gaussian(0.8, 2).tensor(), 2)
    before = gray.clone()
    one, three = (roughness(image, [gaussian(1.8, 2)], FP32)[0] for image in (gray, gray.repeat(1, 3, 1, 1)))
    assert one == pytest.approx(three, rel=1e-4)
    assert torch.equal(gray, before)


def test_a_narrowed_kernel_has_the_share_of_the_width():
    kernel = gaussian([[2.6, 0.6], [0.6, 1.8]], 2)
    assert np.allclose(narrowed(kernel, 0.7).covariance, 0.49 * kernel.covariance, atol=0.03)


def test_a_flat_image_has_an_answer_and_a_small_one_is_refused():
    assert 0 < roughness(torch.full((1, 1, 40, 50), 0.5), [gaussian(1.2, 2)], FP32)[0] <= 1
    with pytest.raises(ImageError, match="16×16"):
        roughness(torch.rand(1, 1, 12, 50), [gaussian(1.2, 2)], FP32)
