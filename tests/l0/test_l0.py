"""The free-form estimator: its two half-steps, and shaken photographs of known kernels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from blindsr.errors import ConfigError, ImageError
from blindsr.kernels import Kernel
from blindsr.l0 import L0Config, estimate_kernel
from blindsr.l0.deconvolution import kernel_for, sharp_image
from blindsr.l0.estimator import agreement
from blindsr.ops import degrade


def photograph():
    return torch.from_numpy(data.camera()[20:404, 100:484].copy())[None, None].float() / 255


def bent_path(side=22):
    """Camera shake: an arc, thick by a pixel."""
    angle = np.linspace(0, 2.2, 400)
    canvas = np.zeros((side, side))
    for t in angle:
        y, x = (side - 1) / 2 + 6 * np.sin(t) - 4, (side - 1) / 2 + 6 * np.cos(t)
        rows, columns = np.indices(canvas.shape)
        canvas += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 0.8**2))
    return Kernel.normalised(canvas, 2)


def test_sharp_image_of_a_blurred_square_is_nearly_the_square():
    square = np.zeros((64, 64), np.float32)
    square[20:44, 16:40] = 0.8
    kernel = np.zeros((7, 7), np.float32)
    kernel[3, 1:6] = 0.2
    blurred = np.real(
        np.fft.ifft2(np.fft.fft2(square) * np.fft.fft2(np.roll(np.pad(kernel, (0, 57)), (-3, -3), (0, 1))))
    )
    sharp = sharp_image(blurred.astype(np.float32), kernel, 2e-3, 1e5)
    assert np.abs(sharp - square).mean() < 0.2 * np.abs(blurred - square).mean()


def test_a_constant_stays_constant():
    kernel = np.full((5, 5), 0.04, np.float32)
    assert np.allclose(sharp_image(np.full((32, 40), 0.3, np.float32), kernel, 2e-3, 1e5), 0.3, atol=1e-5)


def test_kernel_for_finds_the_kernel_that_blurred_a_known_image():
    rng = np.random.default_rng(0)
    sharp = np.kron(rng.random((16, 16)), np.ones((8, 8))).astype(np.float32)
    kernel = np.zeros((9, 9), np.float32)
    kernel[2:7, 4] = 0.1
    kernel[6, 4:7] = (0.2, 0.2, 0.2)
    kernel /= kernel.sum()
    response = np.fft.fft2(np.roll(np.pad(kernel, (0, 119)), (-4, -4), (0, 1)))
    blurred = np.real(np.fft.ifft2(np.fft.fft2(sharp) * response)).astype(np.float32)
    assert agreement(kernel, kernel_for(sharp, blurred, 9, 0.01, 0.05)) > 0.98


def test_nothing_to_see_is_no_blur():
    flat = np.full((40, 40), 0.5, np.float32)
    kernel = kernel_for(flat, flat, 9, 2.0, 0.05)
    assert kernel[4, 4] == 1
    assert kernel.sum() == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3))
def test_agreement_does_not_mind_a_shift(down, right):
    kernel = np.zeros((15, 15), np.float32)
    kernel[5:10, 6:8] = np.arange(1, 11).reshape(5, 2)
    assert agreement(kernel, np.roll(kernel, (down, right), (0, 1))) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_bent_path_is_found_where_a_gaussian_is_far_off():
    truth = bent_path()
    lr = (degrade(photograph(), truth.tensor(), 2) * 255).round() / 255
    before = lr.clone()
    estimate = estimate_kernel(lr, 2, L0Config(side=13))
    assert torch.equal(lr, before)
    found = estimate.kernel
    size = max(truth.size, found.size)
    first, second = (np.pad(k.array, (size - k.size) // 2) for k in (truth, found))
    assert agreement(first, second) > 0.85
    assert found.array.min() >= 0
    assert np.allclose(found.centroid, 0, atol=0.1)
    assert estimate.figures["agreement"] > 0.8
    again = estimate_kernel(lr, 2, L0Config(side=13))
    assert again.kernel.digest == found.digest


def test_bad_input_is_refused():
    with pytest.raises(ImageError, match="64×64"):
        estimate_kernel(torch.rand(1, 1, 40, 100), 2)
    with pytest.raises(ImageError, match="one image"):
        estimate_kernel(torch.rand(2, 1, 100, 100), 2)
    with pytest.raises(ConfigError, match="odd"):
        L0Config(side=12)
