"""The tiles of an image and what their mean spectrum ends with."""

import pytest
import torch
from images import photograph

from blindsr.estimators.learned.tiles import corner_noise, detail_ratios, textured_tiles
from blindsr.ops import luma


def test_tiles_are_the_most_textured_first():
    plane = torch.full((288, 288), 100.0)  # tiles start at multiples of 48
    plane[96:192, 192:288] += 20 * torch.rand(96, 96, generator=torch.Generator().manual_seed(0))
    tiles = textured_tiles(plane, 24)
    assert torch.equal(tiles[0], plane[96:192, 192:288])
    assert 1 <= len(tiles) < 24  # flat ones are left out


@pytest.mark.parametrize("size", [(300, 411), (257, 353), (96, 130), (80, 200), (160, 192)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_flipped_image_has_the_same_tiles(size, axes):
    plane = 255 * luma(photograph(*size)).float()
    tiles, flipped = textured_tiles(plane, 12), textured_tiles(plane.flip(axes), 12)
    assert len(tiles) > 0
    assert torch.equal(flipped.flip([axis + 1 for axis in axes]), tiles)


def test_the_detail_ratios_of_noise_are_one_and_those_of_a_sharp_image_are_not():
    noise = 128 + 20 * torch.randn(6, 96, 96, generator=torch.Generator().manual_seed(0))
    assert detail_ratios(noise) == pytest.approx((1, 1), rel=0.1)
    assert corner_noise(noise) == pytest.approx(20, rel=0.05)
    sharp = 255 * luma(photograph(192, 192, name="coins", bands=1)).float().unfold(0, 96, 96).unfold(1, 96, 96)
    first, second = detail_ratios(sharp.reshape(-1, 96, 96))
    assert first > second > 2
