"""What edges show of an unsharp mask, and the network that estimates it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from blindsr.estimators.learned.features import tile_features
from blindsr.estimators.learned.sharpening import (
    INPUTS,
    RINGS,
    edge_codes,
    load_network,
    network_input,
)
from blindsr.ops import dihedral
from tests.images import noise, photograph

BINS = 378


def tiles_of(image):
    """Four tiles of 96×96 px, grey levels."""
    grey = 255 * image.mean((0, 1))
    return torch.stack([grey[y : y + 96, x : x + 96] for y in (0, 96) for x in (0, 96)])


def sharpened(tiles, amount):
    blurred = torch.from_numpy(ndimage.gaussian_filter(tiles.numpy(), (0, 1, 1)))
    return (tiles + amount * (tiles - blurred)).clamp(0, 255).round()


TILES = tiles_of(photograph(384, 384, name="coffee", top=0, left=0)[..., ::2, ::2]).round()


def test_histograms_are_those_of_every_view_and_sum_to_one():
    codes = edge_codes(TILES)
    for view in range(8):
        assert torch.equal(edge_codes(dihedral(TILES[None], view)[0]), codes)
    for part in (codes[:, :BINS], codes[:, BINS : 2 * BINS]):
        assert torch.allclose(part.square().sum(1), torch.ones(4))


def test_an_ideal_edge_has_no_overshoot_and_a_sharpened_one_has():
    edge = torch.zeros(1, 96, 96)
    edge[..., 48:] = 200.0
    soft = torch.from_numpy(ndimage.gaussian_filter(edge.numpy(), (0, 1, 1)))
    assert edge_codes(soft)[0, -5:].max() < 1e-3
    halos = edge_codes(soft + 1.5 * (soft - torch.from_numpy(ndimage.gaussian_filter(soft.numpy(), (0, 2, 2)))))
    assert halos[0, -3:].min() > 0.05


def test_flat_tiles_have_no_edges():
    codes = edge_codes(torch.stack([torch.full((96, 96), 90.0), TILES[0]]))
    assert codes[0].abs().sum() == 0
    assert torch.equal(codes[1], edge_codes(TILES[:1])[0])


def test_the_estimate_follows_the_amount_and_depends_on_no_view():
    network = load_network()
    inputs = [network_input(t, tile_features(t).flat) for t in (TILES, sharpened(TILES, 0.7), sharpened(TILES, 1.5))]
    assert inputs[0].shape == (INPUTS,)
    result = network(torch.stack(inputs))
    assert result.mask.shape == result.total.shape == (3, len(RINGS))
    assert result.logit[0] < 0 < result.logit[1] < result.logit[2]
    true = np.log1p(1.5 * (1 - np.exp(-2 * (np.pi * np.array(RINGS[:3])) ** 2)))
    assert result.mask[2, :3].numpy() == pytest.approx(true, rel=0.5)
    assert (result.total[2] > result.total[0]).all()
    turned = dihedral(TILES[None], 5)[0].contiguous()
    again = network(network_input(turned, tile_features(turned).flat)[None])
    assert torch.allclose(again.mask, result.mask[:1], atol=0.02)


def test_noise_is_no_sharpening():
    tiles = tiles_of(noise(192, 192, 0.05))
    result = load_network()(network_input(tiles, tile_features(tiles).flat)[None])
    assert result.logit[0] < 1
