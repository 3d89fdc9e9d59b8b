"""The displacement of colours against each other is found where all of the image agrees on it, and only there."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from blindsr.ops.registration import TILE, Displacement, estimate_displacements
from blindsr.ops.resize import sampling_taps, weighted_sums
from tests.images import photograph

SIZE = (256, 320)
CORNERS = [(top, left) for top in range(0, 256 - TILE + 1, 32) for left in range(0, 320 - TILE + 1, 32)]


def displaced(shift, growth):
    """A grey photograph in three bands, of which the last shows at p + shift + growth·(p − centre) what is at p."""
    plane = photograph(*SIZE, name="astronaut", top=0, left=100)[0].mean(0).numpy()
    centre = [(side - 1) / 2 for side in SIZE]
    places = [
        c + (p - c - s) / (1 + growth) for p, c, s in zip(np.indices(SIZE).astype(float), centre, shift, strict=True)
    ]
    moved = map_coordinates(plane, places, order=5, mode="reflect")
    return torch.from_numpy(np.stack([plane, plane, moved]).astype(np.float32))


def measured(image):
    tiles = torch.stack([image[:, top : top + TILE, left : left + TILE] for top, left in CORNERS])
    return estimate_displacements(tiles, CORNERS, SIZE, 1)


@pytest.mark.parametrize("shift", [(0.0, 0.8), (-1.3, 0.4), (4.0, -2.5)])
def test_a_shift_is_measured_to_a_twentieth_of_a_pixel(shift):
    red, green, blue = measured(displaced(shift, 0.0))
    assert red is None
    assert green is None
    assert blue.shift == pytest.approx(shift, abs=0.05)
    assert blue.growth == 0
    assert blue.largest == pytest.approx(np.hypot(*shift), abs=0.05)


@pytest.mark.parametrize("growth", [0.006, -0.008])
def test_the_enlargement_of_a_lens_is_measured(growth):
    *_, blue = measured(displaced((0.0, 0.0), growth))
    assert blue.growth == pytest.approx(growth, rel=0.1)
    assert blue.shift == pytest.approx((0, 0), abs=0.08)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.1, -0.1), (0.0, 0.21)])
def test_colours_that_are_nearly_in_place_stay(shift):
    assert measured(displaced(shift, 0.0)) == (None, None, None)


def test_bands_that_show_different_things_have_no_displacement():
    image = photograph(*SIZE, name="astronaut", top=0, left=100)[0]
    others = photograph(*SIZE, name="coffee", top=0, left=100)[0]
    assert measured(torch.stack([image[0], image[1], others[2]])) == (None, None, None)
    assert measured(torch.rand(3, *SIZE)) == (None, None, None)
    assert measured(torch.full((3, *SIZE), 0.5)) == (None, None, None)


@pytest.mark.parametrize("period", [6, 9, 12, 18])
def test_stripes_of_three_colours_do_not_say_which_displacement_is_meant(period):
    column = torch.arange(SIZE[1])
    stripes = torch.stack([((column + period * band // 3) % period < period / 3).float() for band in range(3)])
    noise = 0.01 * torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    assert measured(stripes[:, None].expand(3, *SIZE) * 0.7 + 0.1 + noise) == (None, None, None)


def test_a_caption_says_nothing_about_the_photograph_behind_it():
    image = torch.full((3, *SIZE), 0.5) + 0.002 * torch.rand(3, *SIZE)
    caption = (torch.rand(1, 30, 320, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    image[:, 20:50] = caption
    image[2, 20:50] = caption[0].roll(2, -1)
    assert measured(image) == (None, None, None)


def test_a_displacement_beyond_the_reach_is_none():
    assert measured(displaced((0.0, 8.6), 0.0)) == (None, None, None)


def test_a_faint_image_has_no_displacement():
    assert measured(0.5 + 0.01 * displaced((0.0, 2.0), 0.0)) == (None, None, None)


def test_few_tiles_have_no_displacement():
    image = displaced((0.0, 2.0), 0.0)
    tiles = torch.stack([image[:, top : top + TILE, :TILE] for top in (0, 64, 128)])
    assert estimate_displacements(tiles, [(0, 0), (64, 100), (128, 200)], SIZE, 1) == (None, None, None)


def test_parts_that_disagree_have_no_displacement():
    image = displaced((0.0, 2.0), 0.0)
    image[2, :, :160] = displaced((0.0, -2.0), 0.0)[2, :, :160]
    assert measured(image) == (None, None, None)


def test_an_axis_is_read_between_its_pixels():
    ramp = torch.arange(40, dtype=torch.float64)[None, None, None]
    places = torch.tensor([7.0, 12.25, 20.5, 31.9], dtype=torch.float64)
    index, weight = sampling_taps(places, 40)
    assert weighted_sums(ramp, -1, index, weight).flatten().tolist() == pytest.approx(places.tolist(), abs=0.02)
    wave = torch.cos(0.6 * np.pi * torch.arange(40, dtype=torch.float64) + 0.3)[None, None, None]
    expected = torch.cos(0.6 * np.pi * places + 0.3)
    assert weighted_sums(wave, -1, index, weight).flatten().tolist() == pytest.approx(expected.tolist(), abs=0.02)
    index, _ = sampling_taps(torch.tensor([-3.5, 39.5], dtype=torch.float64), 40)
    assert 0 <= int(index.min()) <= int(index.max()) < 40


def test_the_places_of_a_band():
    found = Displacement((0.5, -1.0), 0.01, (49.5, 99.5))
    assert found.positions(0, 0, 100)[[0, 99]].tolist() == pytest.approx([0.5 - 0.495, 99.5 + 0.495])
    assert found.positions(1, 100, 101).tolist() == pytest.approx([99.005])
    assert found.largest == pytest.approx(np.hypot(0.5 + 0.495, 1.0 + 0.995))
