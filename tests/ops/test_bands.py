"""Which three bands are the colours of one picture."""

import pytest
import torch

from blindsr.ops.bands import are_colors, detailed_bands
from tests.images import noise, photograph

PLACES = (
    {"name": "chelsea"},
    {"name": "astronaut", "top": 20, "left": 180},
    {"name": "coffee", "top": 60, "left": 240},
)


def composite(*, size=112):
    """Three bands, each of another photograph."""
    return torch.cat([photograph(size, size, **place, bands=1) for place in PLACES], 1)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place["name"])
@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.06])
def test_a_photograph_has_colours_with_noise_or_without(place, sigma):
    image = photograph(112, 112, **place)
    assert are_colors((image + noise(112, 112, sigma, bands=3) - 0.5).clamp(0, 1))


@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_three_pictures_in_one_file_are_no_colours(sigma):
    assert not are_colors((composite() + noise(112, 112, sigma, bands=3) - 0.5).clamp(0, 1))


@pytest.mark.parametrize("band", range(3))
def test_a_band_of_far_lower_contrast_is_no_colour(band):
    image = photograph(112, 112)
    weak = image.clone()
    weak[:, band] = 0.5 + 0.1 * (image[:, band] - 0.5)
    assert not are_colors(weak)
    weak[:, band] = 0.5 + 0.6 * (image[:, band] - 0.5)
    assert are_colors(weak)


def test_a_band_that_is_cut_off_at_black_is_a_colour():
    """In a red flower, blue is weak where it is not black: luma and chroma are what all have in common."""
    image = photograph(112, 112)
    image[:, 2] = (0.3 * image[:, 1] - 0.09).clamp(min=0) * 0.6
    assert (image[:, 2] == 0).float().mean() > 0.1
    assert are_colors(image)
    image[:, 2] = 0
    assert not are_colors(image)


def test_what_has_no_details_has_colours():
    assert are_colors(torch.full((1, 3, 64, 64), 0.4))
    assert are_colors(noise(128, 128, 0.03, bands=3))
    assert are_colors(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_another_number_of_bands_is_no_colour_image(bands):
    assert not are_colors(torch.rand(1, bands, 64, 64))


def test_one_band_with_details_is_found():
    image = torch.zeros(1, 3, 80, 80)
    image[:, 2] = photograph(80, 80, bands=1)[:, 0]
    assert torch.equal(detailed_bands(image), image[:, 2:])
    assert torch.equal(detailed_bands(photograph(80, 80)), photograph(80, 80))
    assert torch.equal(detailed_bands(torch.zeros(1, 3, 80, 80)), torch.zeros(1, 3, 80, 80))


def test_a_single_pixel_has_no_details():
    assert detailed_bands(torch.rand(1, 3, 1, 1)).shape == (1, 3, 1, 1)
    assert are_colors(torch.rand(1, 3, 1, 1))
