"""Noise that is constant along rows or columns."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from blindsr.ops import imresize
from blindsr.ops.stripes import estimate_stripes, row_differences, row_offsets
from tests.images import photograph


def clean(name="astronaut"):
    return imresize(photograph(400, 360, name=name, top=0, left=80, bands=1), 0.5).clamp(0, 1)


def stripes(rows, sigma, seed=0):
    return (
        sigma / 255 * torch.from_numpy(np.random.default_rng(seed).standard_normal(rows)).float()[None, None, :, None]
    )


@pytest.mark.parametrize("name", ["astronaut", "coffee", "camera"])
@pytest.mark.parametrize("sigma", [1.5, 3.0, 6.0])
def test_stripes_of_a_photograph_are_measured(name, sigma):
    image = clean(name)
    noise = stripes(image.shape[-2], sigma)
    assert 255 * estimate_stripes(image + noise) == pytest.approx(sigma, rel=0.2)
    # Along the columns there are none.
    assert estimate_stripes((image + noise).mT) == 0


def test_stripes_are_removed_and_the_photograph_is_left():
    image = clean()
    noise = stripes(image.shape[-2], 5.0)
    sigma = estimate_stripes(image + noise)
    offsets = row_offsets(*row_differences(image + noise), sigma).float()
    fine = torch.tensor([1.0, -2.0, 1.0])[None, None] / 6**0.5
    left, before = (
        float(torch.nn.functional.conv1d(part[None, None], fine).square().mean().sqrt())
        for part in (noise.flatten() - offsets, noise.flatten())
    )
    assert left < 0.3 * before  # of what sharpening would amplify
    assert float((noise.flatten() - offsets).std()) < 0.7 * float(noise.std())


def test_photographs_and_white_noise_have_no_stripes():
    for name in ("astronaut", "coffee", "camera", "brick", "grass"):
        image = clean(name)
        noisy = image + 6 / 255 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
        assert estimate_stripes(image) == estimate_stripes(image.mT) == 0
        assert estimate_stripes(noisy) == estimate_stripes(noisy.mT) == 0


def test_what_crosses_the_image_is_no_stripe():
    page = torch.from_numpy(data.page()[:180, :350]).float()[None, None] / 255
    lines = torch.zeros(1, 1, 150, 160)
    lines[..., ::5, :] = 1
    # Waves, whose crests cross a part of the image each.
    rng = np.random.default_rng(0)
    waves = ndimage.gaussian_filter(rng.standard_normal((160, 200)), (0.7, 25))
    waves = torch.from_numpy(0.5 + 0.04 * waves / waves.std()).float()[None, None]
    for image in (page, lines, waves, lines * 0 + 0.5):
        assert estimate_stripes(image) == estimate_stripes(image.mT) == 0


@pytest.mark.parametrize("period", [9.0, 13.0, 18.0])
def test_threads_of_a_canvas_are_no_stripes_but_noise_of_rows_is(period):
    image = clean("coffee")[..., :160]
    row = torch.arange(image.shape[-2])[:, None]
    canvas = image * (1 + 0.06 * ((row / period * 2).floor() % 2))
    assert estimate_stripes(canvas) == estimate_stripes(canvas.mT) == 0
    assert 255 * estimate_stripes(image + stripes(image.shape[-2], 3.0)) == pytest.approx(3, rel=0.2)


def test_lines_of_text_are_no_stripes_but_stripes_of_the_paper_are():
    rng = np.random.default_rng(5)
    side = 208
    ink = np.zeros((side, side))
    for top in range(2, side - 4, 5):
        ink[top : top + 3] = (rng.random((3, side)) < 0.6) * (ndimage.gaussian_filter(rng.random(side), 2) > 0.47)
    text = torch.from_numpy(ndimage.gaussian_filter(0.9 - 0.75 * ink, 0.8))[None, None].float()
    assert estimate_stripes(text) == 0
    assert 255 * estimate_stripes(text + stripes(side, 4.0)) > 2
