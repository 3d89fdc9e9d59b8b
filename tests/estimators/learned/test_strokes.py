"""The blur of dark strokes on an even ground, and what is no drawing."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from blindsr.estimators.learned import LearnedConfig, LearnedEstimator
from blindsr.estimators.learned.strokes import stroke_sigma
from blindsr.kernels import bicubic, gaussian, normalised_cross_correlation
from blindsr.ops import degrade
from tests.images import photograph

WORDS = ["the", "kernel", "of", "photographs", "and", "2026", "figures", "(a,", "b)", "nobody", "reads", "twice"]


def page(side=384, size=18, ink=30, paper=245):
    """Lines of text with smooth edges, (1, 1, H, W), [0, 1]."""
    image = Image.new("L", (3 * side, 3 * side), paper)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(3 * size)
    rng = np.random.default_rng(0)
    for top in range(20, 3 * side, round(4.2 * size)):
        draw.text((15, top), " ".join(rng.choice(WORDS, 12)), font=font, fill=ink)
    return torch.from_numpy(np.asarray(image.resize((side, side), Image.Resampling.BOX)) / 255.0)[None, None]


def levels(image):
    """In 8 bits, as grey levels, (H, W)."""
    return (255 * image[0, 0]).round().clamp(0, 255)


def blurred(image, sigma, scale=2):
    """Reduced by a Gaussian of σ LR px."""
    return degrade(image, gaussian((scale * sigma) ** 2, scale).tensor(image), scale)


@pytest.mark.parametrize("sigma", [0.5, 0.6, 0.7, 0.8])
@pytest.mark.parametrize("contrast", [1.0, 0.7])
def test_the_ground_tells_the_width_of_the_blur(sigma, contrast):
    lr = contrast * blurred(page(), sigma)
    assert stroke_sigma(levels(lr)) == pytest.approx(sigma, abs=0.06)
    assert stroke_sigma(levels(lr).mT.flip(0)) == pytest.approx(stroke_sigma(levels(lr)), abs=0.02)


def test_sharp_strokes_and_sharpened_ones_are_not_blurred():
    hr = page()
    sharp = degrade(hr, bicubic(2).tensor(hr), 2)
    assert stroke_sigma(levels(sharp)) < 0.38
    soft = blurred(hr, 0.6)
    mask = soft + (soft - torch.nn.functional.avg_pool2d(soft, 3, 1, 1))
    assert stroke_sigma(levels(mask)) < 0.42


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "brick", "grass", "cat", "retina", "clock", "moon"])
def test_photographs_are_no_drawings(name):
    for scale in (1, 2):
        image = photograph(200, 200, name=name, bands=1)
        assert stroke_sigma(levels(image if scale == 1 else blurred(image, 0.6))) == 0


def test_neither_are_pages_of_paper_bright_strokes_filled_areas_and_empty_pages():
    lr = blurred(page(), 0.6)
    noisy = lr + 4 / 255 * torch.randn(lr.shape, generator=torch.Generator().manual_seed(0))
    areas = torch.full((1, 1, 120, 120), 0.9)
    areas[..., 30:90, 30:90] = 0.2
    for image in (
        noisy,
        1 - lr,
        areas,
        torch.full((1, 1, 50, 60), 0.8),
        torch.from_numpy(data.cell() / 255)[None, None],
    ):
        assert stroke_sigma(levels(image)) == 0


def test_text_gets_the_kernel_of_its_blur():
    hr = page().float()
    lr = levels(blurred(hr, 0.65))[None, None] / 255
    estimate = LearnedEstimator().estimate(lr, 2)
    assert estimate.metrics["stroke_sigma"] == pytest.approx(0.65, abs=0.06)
    assert estimate.metrics["bicubic_share"] < 0.05
    covariance = estimate.kernel.covariance
    assert np.sqrt(np.diag(covariance)) / 2 == pytest.approx(0.65, abs=0.08)
    assert estimate.kernel_error < 0.06


def test_where_the_blur_is_not_round_the_ground_does_not_tell_it():
    hr = page()
    lr = degrade(hr, gaussian([[2.6, 0.0], [0.0, 0.8]], 2).tensor(hr), 2)  # σ 0.81 and 0.45 LR px
    config = LearnedConfig()
    without = LearnedConfig(stroke_sigmas=(8.0, 9.0))
    image = levels(lr)[None, None].float() / 255
    kernel, other = (LearnedEstimator(each).estimate(image, 2).kernel for each in (config, without))
    assert normalised_cross_correlation(kernel, other) > 0.999
