"""Single pixels that say nothing about the scene, and those that do."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from blindsr.ops import imresize
from blindsr.ops.impulses import find_impulses, without_impulses
from tests.images import photograph


def clean():
    return imresize(photograph(320, 300, name="astronaut", top=0, left=100, bands=1), 0.5).clamp(0, 1)


def salted(share, values, seed=0):
    image = clean()
    rng = np.random.default_rng(seed)
    where = torch.from_numpy(rng.random(image.shape) < share)
    chosen = torch.from_numpy(rng.choice(values, image.shape)).float()
    return torch.where(where, chosen, image), where


def drawn(array):
    return torch.from_numpy(np.array(array, dtype=np.float32) / 255)[None, None]


@pytest.mark.parametrize(("share", "values"), [(0.02, (0.0, 1.0)), (0.003, (1.0,)), (0.001, (1.0,))])
def test_impulses_are_counted_and_replaced(share, values):
    image, where = salted(share, values)
    found = find_impulses(image)
    assert found is not None
    assert found.share == pytest.approx(float(where.double().mean()), rel=0.25)
    cleaned = without_impulses(image, found)
    error, before = ((part - clean()).square().mean().sqrt() for part in (cleaned, image))
    assert error < 0.15 * before
    # What is no impulse stays as it is, but for a few glints that are as white as one.
    assert float((cleaned != image)[~where].double().mean()) < 2e-4


def test_hot_pixels_of_any_value_are_found():
    image = clean()
    where = torch.from_numpy(np.random.default_rng(1).random(image.shape) < 0.01)
    hot = image + torch.from_numpy(np.random.default_rng(2).uniform(0.4, 0.5, image.shape)).float()
    image = torch.where(where & (image < 0.5), hot, image)
    found = find_impulses(image)
    assert found is not None
    assert found.of_any_value
    assert found.values == ()


def test_a_photograph_and_its_noise_have_none():
    assert find_impulses(clean()) is None
    noise = torch.randn(clean().shape, generator=torch.Generator().manual_seed(0))
    assert find_impulses((clean() + 20 / 255 * noise).clamp(0, 1)) is None


def text():
    page = Image.new("L", (280, 240), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    for top in range(0, 240, 13):
        draw.text((2, top), "i.e. j: 1.000.000; ... Lorem ipsum: dolor, sit. amet!", font=font, fill=0)
    return page


def stars():
    rng = np.random.default_rng(5)
    sky = np.zeros((8 * 160, 8 * 160))
    sky[rng.integers(0, 1280, 300), rng.integers(0, 1280, 300)] = 3000 * rng.pareto(1, 300)
    sky = ndimage.gaussian_filter(sky, 5).reshape(160, 8, 160, 8).mean((1, 3))
    return (20 + sky + rng.normal(0, 1.5, sky.shape)).clip(0, 255).round()


def lines():
    drawing = Image.new("L", (200, 200), 230)
    draw = ImageDraw.Draw(drawing)
    for number in range(40):
        draw.line((5 * number, 0, 199 - 3 * number, 199), fill=10)
    return drawing


def dots(noise=0.0):
    pattern = np.full((160, 160), 30.0)
    pattern[::7, ::9] = 220
    return (pattern + np.random.default_rng(0).normal(0, noise, pattern.shape) if noise else pattern).round()


def dithered():
    grey = Image.fromarray(np.uint8(255 * clean()[0, 0].numpy()))
    return grey.convert("1").convert("L")


def counted():
    return 60 * np.random.default_rng(0).poisson(np.tile(np.linspace(0, 1, 160), (160, 1)))


@pytest.mark.parametrize(
    "picture",
    [
        text(),
        text().convert("1", dither=Image.Dither.NONE).convert("L"),
        stars(),
        lines(),
        dots(),
        dots(3.0),
        dithered(),
        counted(),
        255 * (np.indices((160, 160)).sum(0) % 2),
    ],
    ids=["text", "text of two levels", "stars", "lines", "dots", "noisy dots", "dither", "photons", "checkerboard"],
)
def test_what_is_drawn_or_shines_is_no_impulse(picture):
    assert find_impulses(drawn(picture)) is None
