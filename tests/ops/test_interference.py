"""Waves over a whole image: where they are found, and that patterns of the scene are none."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from blindsr.ops.interference import find_interference, waves_of, without_interference
from blindsr.ops.windows import TensorSource
from tests.images import photograph


def scene(name="coffee", side=192):
    """A photograph that a lens has blurred, in 8 bits."""
    image = photograph(side, side, name=name)[0].double().numpy()
    return np.stack([gaussian_filter(band, 1.0) for band in image])


def disturbed(image, *waves):
    """An image, (C, H, W), with waves of an amplitude in grey levels, f_y and f_x, in 8 bits."""
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    total = sum(a / 255 * np.sin(2 * np.pi * (fy * y + fx * x) + 0.7) for a, fy, fx in waves)
    return torch.from_numpy(np.round(255 * (image + total).clip(0, 1)) / 255)[None].float()


@pytest.mark.parametrize("amplitude", [1.5, 4.0])
@pytest.mark.parametrize(
    ("fy", "fx"), [(0.17, 0.31), (-0.231, 0.118), (0.4, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 0.2)]
)
def test_a_wave_is_measured_and_removed(amplitude, fy, fx):
    image = scene()
    lr = disturbed(image, (amplitude, fy, fx))
    (wave,) = find_interference(lr)
    assert wave.period == pytest.approx(1 / math.hypot(fy, fx), rel=0.01)
    # At the limit of the pixels only the phase of the samples counts.
    seen = amplitude * (math.sin(0.7) if (2 * fy).is_integer() and (2 * fx).is_integer() else 1)
    assert 255 * wave.strength == pytest.approx(seen, rel=0.25)
    clean = torch.from_numpy(image)[None].float()
    error, before = ((x - clean).square().mean().sqrt() for x in (without_interference(lr, (wave,), (0, 0)), lr))
    assert error < 0.35 * before
    # A part has the pixels of the whole.
    part = without_interference(lr[..., 31:90, 7:80], (wave,), (31, 7))
    torch.testing.assert_close(part, without_interference(lr, (wave,), (0, 0))[..., 31:90, 7:80])


def test_several_waves_are_found_one_after_another():
    waves = find_interference(disturbed(scene(), (4.0, 0.17, 0.31), (3.0, 0.4, -0.11), (2.0, -0.2, 0.2)))
    assert sorted(round(wave.period, 1) for wave in waves) == [2.4, 2.8, 3.5]


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "brick", "grass", "gravel", "cat", "page", "retina"])
def test_photographs_and_textures_have_none(name):
    assert find_interference(photograph(180, 190, name=name).float()) == ()


def test_patterns_of_a_scene_and_drawn_ones_are_none():
    image, side = scene(), 192
    y, x = np.mgrid[:side, :side]
    cloth = image + (x < side // 2) * (8 / 255) * np.sin(2 * np.pi * 0.3 * x)  # it ends
    receding = image + (8 / 255) * np.sin(2 * np.pi * (0.2 * x + 0.0004 * x * y))  # perspective
    drawn = np.repeat(0.5 + 0.4 * np.sin(2 * np.pi * 0.2 * (x + y))[None], 3, 0)
    checks = np.repeat(((x // 2 + y // 2) % 2)[None].astype(float), 3, 0)
    for each in (cloth, receding, drawn, checks, np.full((3, side, side), 0.5), image[:, :80, :80]):
        assert find_interference(torch.from_numpy(each.clip(0, 1))[None].float()) == ()


def woven(image, period, depth=0.2):
    """An image on linen: threads in both directions, whose phase wanders a little and on which its light falls."""
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    warp = np.sin(2 * np.pi * y / period + 0.3 * np.sin(x / 23)) + np.sin(2 * np.pi * x / period + 0.2 * np.sin(y / 31))
    return (image * (1 + depth / 2 * warp)).clip(0, 1)


@pytest.mark.parametrize("period", [3.25, 4.5, 6.5])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "cat"])
def test_threads_on_which_the_light_of_a_picture_falls_are_no_waves(name, period):
    canvas = 0.9 * woven(scene(name), period)
    assert find_interference(disturbed(canvas)) == ()


@pytest.mark.parametrize("name", ["astronaut", "coffee", "cat"])
def test_a_wave_is_found_beside_threads(name):
    (wave,) = find_interference(disturbed(0.9 * woven(scene(name), 5.3, 0.1), (4.0, 0.17, 0.31)))
    assert wave.period == pytest.approx(2.83, rel=0.01)


def large():
    """A photograph of 2.2 megapixels, (3, H, W), that a lens has blurred."""
    part = scene(side=300)
    return np.tile(np.concatenate([part, part[:, :, ::-1]], 2), (1, 4, 3))[:, :1200, :1800]


@pytest.mark.parametrize(("fy", "fx"), [(0.1731, 0.3117), (0.0, 0.5), (-0.2213, 0.0901)])
def test_a_wave_of_a_large_image_fits_up_to_its_corners(fy, fx):
    image = large()
    lr = disturbed(image, (2.0, fy, fx))
    (wave,) = waves_of(TensorSource(lr))
    assert wave.frequency == pytest.approx((fy, fx), abs=2e-5)
    clean = torch.from_numpy(image)[None].float()
    left, before = without_interference(lr, (wave,), (0, 0)) - clean, lr - clean
    for corner in ((slice(0, 200), slice(0, 200)), (slice(-200, None), slice(-200, None))):
        assert left[..., *corner].square().mean().sqrt() < 0.5 * before[..., *corner].square().mean().sqrt()


def test_a_pattern_in_the_middle_of_a_large_image_is_no_wave():
    image = large()
    middle = np.zeros(image.shape[1:])
    middle[150:1050, 450:1350] = 1
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    cloth = image + 4 / 255 * middle * np.sin(2 * np.pi * (0.17 * y + 0.31 * x))
    assert waves_of(TensorSource(torch.from_numpy(cloth.clip(0, 1))[None].float())) == ()
    assert waves_of(TensorSource(torch.from_numpy(image)[None].float())) == ()


def page(side=200, pitch=6, seed=3):
    """Lines of words in the rows of a page, blurred, grey, (3, H, W)."""
    rng = np.random.default_rng(seed)
    ink = np.zeros((side, side))
    for top in range(2, side - 4, pitch):
        ink[top : top + 3] = (rng.random((3, side)) < 0.6) * (gaussian_filter(rng.random(side), 2) > 0.48)
    return np.repeat(gaussian_filter(0.9 - 0.75 * ink, 0.7)[None], 3, 0)


def test_lines_of_text_are_no_wave_but_a_wave_on_the_paper_is():
    found = 0
    for pitch in (5, 6, 7):
        text = page(pitch=pitch)
        assert find_interference(disturbed(text)) == ()
        (wave, *others) = find_interference(disturbed(text, (4.0, 0.23, 0.31))) or (None,)
        found += wave is not None and wave.period == pytest.approx(2.59, rel=0.02) and not others
    assert found == 3


def test_clipped_samples_and_black_bars_get_no_wave():
    image = 1.3 * scene()
    image[:, :19] = 0
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    lr = image + (image > 0) * 4 / 255 * np.sin(2 * np.pi * (0.17 * y + 0.31 * x))
    lr = torch.from_numpy(np.round(255 * lr.clip(0, 1)) / 255)[None].float()
    (wave,) = find_interference(lr)
    result = without_interference(lr, (wave,), (0, 0))
    blown = torch.from_numpy(image > 1.03)[None]
    assert blown.float().mean() > 0.001
    assert (result[blown] == 1).all()
    assert (result[:, :, :19] == 0).all()
    assert not torch.equal(result, lr)
