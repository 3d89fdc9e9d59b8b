"""How noisy an image is."""

import pytest
import torch
from skimage import data

from blindsr.errors import ImageError
from blindsr.kernels import gaussian
from blindsr.ops import degrade
from blindsr.ops.noise import estimate_noise


def noisy(image, sigma, seed=0):
    return image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def photograph():
    """A photograph that was made half as large, by a kernel wide enough to take its own grain away."""
    pixels = torch.from_numpy(data.astronaut()[:400, :360].copy()).permute(2, 0, 1)[None].float() / 255
    return degrade(pixels, gaussian(1.5, 2).tensor(), 2)


@pytest.mark.parametrize("sigma", [1 / 255, 5 / 255, 20 / 255])
def test_pure_noise_is_measured_within_a_tenth(sigma):
    assert estimate_noise(noisy(torch.full((1, 1, 131, 97), 0.5), sigma)) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("sigma", [2 / 255, 5 / 255, 15 / 255])
def test_noise_on_a_photograph_is_measured(sigma):
    assert estimate_noise(noisy(photograph(), sigma)) == pytest.approx(sigma, rel=0.15)


def test_a_clean_photograph_of_bytes_has_less_than_half_a_level():
    clean = torch.round(photograph() * 255) / 255
    assert estimate_noise(clean) < 0.5 / 255


def test_flat_and_clipped_images_have_none():
    assert estimate_noise(torch.full((1, 3, 64, 40), 0.3)) == 0.0
    assert estimate_noise(torch.zeros(1, 1, 64, 40)) == 0.0
    half = noisy(torch.full((1, 1, 128, 128), 0.5), 0.02)
    half[..., :64] = 1.0
    assert estimate_noise(half) == pytest.approx(0.02, rel=0.2)


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ImageError, match="32 px"):
        estimate_noise(torch.rand(1, 1, 31, 64))
    with pytest.raises(ImageError, match="32 px"):
        estimate_noise(torch.rand(64, 64))
