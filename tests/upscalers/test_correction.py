"""The correction filter, which needs no network."""

import numpy as np
import pytest
import torch

from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.pipelines.checks import find_shift
from blindsr.upscalers.checkpoint import correct, correction_radius, correction_spectrum
from tests.images import photograph, psnr

METHODS = ["natural", "paper"]


def degraded(hr, kernel, sigma=0.0):
    lr = degrade(hr, kernel.tensor(), kernel.scale)
    noise = torch.randn(lr.shape, generator=torch.Generator().manual_seed(1))
    return torch.round((lr + sigma * noise).clamp(0, 1) * 255) / 255


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_blurred_image_is_nearer_to_its_bicubic_version(method, scale):
    hr = photograph(240, 240, name="astronaut", top=20, left=60)
    kernel = gaussian(0.7 * scale, scale)
    lr, wanted = degraded(hr, kernel), imresize(hr, 1 / scale)
    # Measured: 9 to 13 dB.
    assert psnr(correct(lr, kernel, method=method), wanted) > psnr(lr, wanted) + 7


def test_for_an_elongated_kernel_the_natural_model_is_better_than_the_papers():
    hr = photograph(240, 240, name="coffee", top=20, left=60)
    kernel = gaussian([[4.0, 1.5], [1.5, 1.2]], 2)
    lr, wanted = degraded(hr, kernel), imresize(hr, 0.5)
    natural, paper = (psnr(correct(lr, kernel, method=method), wanted) for method in METHODS)
    assert natural > paper + 1.5
    assert paper > psnr(lr, wanted) + 1


def test_noise_regularises_the_filter():
    hr, kernel = photograph(200, 200, name="astronaut", top=20, left=60), gaussian(1.6, 2)
    lr, wanted = degraded(hr, kernel, 0.02), imresize(hr, 0.5)
    told, untold = (psnr(correct(lr, kernel, noise_sigma=(sigma,)), wanted) for sigma in (0.02, 0.0))
    assert told > untold + 3
    gains = [correction_spectrum(kernel, 32, 32, kernel_error=error).abs().max() for error in (0.0, 0.04, 0.2)]
    assert gains[0] > gains[1] > gains[2]


@pytest.mark.parametrize("method", METHODS)
def test_the_bicubic_kernel_needs_no_correction_and_a_constant_stays_constant(method):
    lr = photograph(60, 52)
    assert psnr(correct(lr, bicubic(2), method=method), lr) > 45
    flat = torch.full((1, 1, 20, 24), 0.4)
    torch.testing.assert_close(correct(flat, gaussian(1.5, 3), method=method), flat, atol=1e-4, rtol=0)


def test_a_displacement_by_the_kernel_is_undone():
    hr = photograph(160, 160, name="coffee", top=20, left=60)
    weights = np.pad(gaussian(1.2, 2).array, ((2, 0), (2, 0)))  # one HR pixel down and to the right
    kernel = Kernel.normalised(weights, 2)
    lr, wanted = degraded(hr, kernel), imresize(hr, 0.5)
    planes = [image.mean(1)[0].double().numpy() for image in (lr, correct(lr, kernel), wanted)]
    assert max(abs(value) for value in find_shift(planes[0], planes[2])) > 0.4
    assert max(abs(value) for value in find_shift(planes[1], planes[2])) < 0.05


def test_planes_have_their_own_noise_and_the_input_is_left_unchanged():
    lr, kernel = photograph(40, 40), gaussian(1.5, 2)
    before = lr.clone()
    mixed = correct(lr, kernel, noise_sigma=(0.0, 0.1, 0.1))
    assert torch.equal(lr, before)
    assert torch.equal(mixed[:, :1], correct(lr[:, :1], kernel))
    torch.testing.assert_close(mixed[:, 1:], correct(lr[:, 1:], kernel, noise_sigma=(0.1,)))


def test_the_radius_grows_with_the_blur_and_is_bounded():
    assert correction_radius(gaussian(0.7, 2)) < correction_radius(gaussian(1.6, 2)) <= 64
    assert correction_radius(gaussian(1.6, 2), noise_sigma=0.05) < correction_radius(gaussian(1.6, 2))
