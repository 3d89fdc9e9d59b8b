"""The two alternating steps of the blind deconvolution."""

import numpy as np

from blindsr.estimators.blind_l0.deconvolution import kernel_for, sharp_image
from blindsr.estimators.blind_l0.estimator import shifted_ncc


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


def test_kernel_for_recovers_the_kernel_that_blurred_a_known_image():
    rng = np.random.default_rng(0)
    sharp = np.kron(rng.random((16, 16)), np.ones((8, 8))).astype(np.float32)
    kernel = np.zeros((9, 9), np.float32)
    kernel[2:7, 4] = 0.1
    kernel[6, 4:7] = (0.2, 0.2, 0.2)
    kernel /= kernel.sum()
    response = np.fft.fft2(np.roll(np.pad(kernel, (0, 119)), (-4, -4), (0, 1)))
    blurred = np.real(np.fft.ifft2(np.fft.fft2(sharp) * response)).astype(np.float32)
    assert shifted_ncc(kernel, kernel_for(sharp, blurred, 9, 0.01, 0.05)) > 0.98


def test_a_flat_image_gives_a_delta():
    flat = np.full((40, 40), 0.5, np.float32)
    kernel = kernel_for(flat, flat, 9, 2.0, 0.05)
    assert kernel[4, 4] == 1
    assert kernel.sum() == 1
