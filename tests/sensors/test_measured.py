import re

import numpy as np
import pytest
from scipy import signal

from blindsr.errors import ConfigError, KernelError
from blindsr.kernels import gaussian
from blindsr.sensors.measured import MeasuredPSF, kernel_from_psf

COVARIANCE = np.array([[2.0, 0.5], [0.5, 1.2]])  # HR px²


def sampled(per_hr_pixel, half, offset=(0.0, 0.0)):
    """A Gaussian PSF on a finer grid."""
    c = np.arange(-half, half + 1) / per_hr_pixel
    y, x = np.meshgrid(c - offset[0], c - offset[1], indexing="ij")
    inverse = np.linalg.inv(COVARIANCE)
    return np.exp(-0.5 * (inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_fine_psf_becomes_its_kernel(scale):
    psf = 7.0 * sampled(4, 30)
    kernel, _ = kernel_from_psf(psf, scale, MeasuredPSF(samples_per_pixel=4 * scale, model="psf"))
    np.testing.assert_allclose(kernel.covariance, COVARIANCE, rtol=0.01)
    np.testing.assert_allclose(kernel.centroid, 0, atol=1e-6)
    exact = gaussian(COVARIANCE, scale, size=kernel.size)
    np.testing.assert_allclose(kernel.array, exact.array, atol=1e-3)


def test_the_kernel_is_the_psf_turned_as_convolution_wants(rng):
    # The camera convolves with its PSF; degrading by the kernel must do the same.
    import torch

    from blindsr.ops import degrade

    psf = rng.random((6, 6))
    psf[0, 0] = psf[-1, -1] = psf.mean()
    kernel, _ = kernel_from_psf(psf, 2, MeasuredPSF(model="psf", background=False))
    image = rng.random((40, 38))
    ours = degrade(torch.from_numpy(image)[None, None], torch.from_numpy(kernel.array.copy()), 2)[0, 0].numpy()
    # Sample n of the full convolution is Σ h[m]·x[n − m]: the middle of h, 2.5, lies over x[2i + 0.5] at n = 2i + 3.
    full = signal.convolve2d(image, psf / psf.sum())[3::2, 3::2]
    np.testing.assert_allclose(ours[4:-4, 4:-4], full[4:16, 4:15], atol=1e-12)


def test_a_fine_psf_is_turned_too():
    psf = sampled(4, 40) + 0.6 * sampled(4, 40, offset=(3.0, 1.0))
    kernel, warnings = kernel_from_psf(psf, 2, MeasuredPSF(samples_per_pixel=8, model="psf"))
    assert kernel.centroid[0] < -0.5
    assert kernel.centroid[1] < -0.2
    assert any("off the middle of the array, which was kept" in warning for warning in warnings)


def test_a_psf_is_moved_onto_its_centroid_on_request():
    psf = sampled(4, 30, offset=(0.4, -0.3))
    kernel, warnings = kernel_from_psf(psf, 2, MeasuredPSF(samples_per_pixel=8, model="psf", centre="centroid"))
    np.testing.assert_allclose(kernel.centroid, 0, atol=1e-3)
    np.testing.assert_allclose(kernel.covariance, COVARIANCE, rtol=0.01)
    assert any("was moved by (-0.40, +0.30) HR pixels" in warning for warning in warnings)


def test_a_background_is_subtracted_with_a_warning(rng):
    psf = 100 + 50 * sampled(4, 30) + 0.2 * rng.standard_normal((61, 61))
    kernel, warnings = kernel_from_psf(psf, 2, MeasuredPSF(samples_per_pixel=8, model="psf"))
    np.testing.assert_allclose(kernel.covariance, COVARIANCE, rtol=0.12)
    assert any(re.search(r"a background of (199|200)\.\d+ % of the peak and noise", warning) for warning in warnings)


def test_the_ratio_of_a_gaussian_has_the_width_of_the_formula():
    kernel, _ = kernel_from_psf(sampled(4, 40), 2, MeasuredPSF(samples_per_pixel=8, model="ratio"))
    # Compared by their transfer: the cut at HR's Nyquist frequency rings, and moments feel that more than pictures do.
    f = np.linspace(0, 0.45, 10)
    exact = gaussian(COVARIANCE * 0.75, 2)
    for angle in (0.0, 45.0, 90.0):
        np.testing.assert_allclose(kernel.transfer(f, angle), exact.transfer(f, angle), atol=0.03)


def test_a_detector_is_added_on_request():
    plain, _ = kernel_from_psf(sampled(4, 40), 2, MeasuredPSF(samples_per_pixel=8, model="psf"))
    with_pixel, _ = kernel_from_psf(sampled(4, 40), 2, MeasuredPSF(samples_per_pixel=8, model="psf", detector=True))
    np.testing.assert_allclose(with_pixel.covariance - plain.covariance, np.eye(2) * 4 / 12, atol=0.02)


def test_too_few_samples_give_a_warning():
    _, warnings = kernel_from_psf(sampled(0.5, 6), 2, MeasuredPSF(samples_per_pixel=1))
    assert any("1 samples per LR pixel, fewer than the 2" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("psf", "words"),
    [
        (np.zeros((5, 5)), "must have a positive sum"),
        (np.ones((5, 5)), "brighter in its middle"),
        (-np.ones((5, 5)), "must have a positive sum"),
        (np.full((5, 5), np.nan), "must be finite"),
        (np.ones((2, 5)), "3 to 1001 px a side, got 2×5"),
        (np.ones(5), "3 to 1001 px a side"),
        (1 - np.pad(np.ones((3, 3)), 2), "brighter in its middle"),
    ],
)
def test_an_array_that_is_not_a_psf_is_refused(psf, words):
    with pytest.raises(KernelError, match=words):
        kernel_from_psf(psf, 2, MeasuredPSF())


def test_noise_alone_is_no_psf(rng):
    with pytest.raises(KernelError, match=r"brighter than the noise"):
        kernel_from_psf(rng.uniform(0, 1, (21, 21)), 2, MeasuredPSF())


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(ConfigError, match=r"from 0.25 to 100, got 0\.1"):
        MeasuredPSF(samples_per_pixel=0.1)
    with pytest.raises(ConfigError, match="middle or centroid, got 'peak'"):
        MeasuredPSF(centre="peak")
