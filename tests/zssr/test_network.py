"""The network, and its application in tiles."""

import pytest
import torch

from blindsr.upscalers.tiling import run_tiled
from blindsr.zssr.network import ZSSRNetwork

LAYERS = 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, image_channels=2):
    return ZSSRNetwork(image_channels, layers=LAYERS, channels=6, init_sigma=None, generator=generator(seed))


def test_the_same_generator_makes_the_same_weights():
    first, second, other = (small(seed) for seed in (0, 0, 1))
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_the_network_starts_near_the_interpolated_image():
    image = torch.rand(1, 3, 34, 26, generator=generator())
    network = ZSSRNetwork(3, layers=8, channels=64, init_sigma=None, generator=generator())
    with torch.no_grad():
        assert (network(image) - image).abs().mean() < 0.1


@pytest.mark.parametrize("size", [(37, 31), (20, 50), (16, 16)])
def test_tiles_with_a_halo_equal_the_whole_image(size):
    network = small().double()
    image = torch.rand(1, 2, *size, generator=generator()).double()
    with torch.no_grad():
        tiled = run_tiled(network, image, halo=LAYERS, max_tile=12)
        torch.testing.assert_close(tiled, network(image), rtol=0, atol=1e-12)


def test_a_halo_that_is_too_small_changes_the_result():
    network = small(image_channels=1).double()
    image = torch.rand(1, 1, 30, 30, generator=generator()).double()
    with torch.no_grad():
        tiled = run_tiled(network, image, halo=1, max_tile=12)
        assert not torch.allclose(tiled, network(image), atol=1e-6)
