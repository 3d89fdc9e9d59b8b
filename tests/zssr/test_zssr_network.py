import pytest
import torch

from blindsr.ops import imresize
from blindsr.zssr.network import InterpolatedNet, ShuffleNet
from blindsr.zssr.tiling import run_tiled


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_network_multiplies_the_size_by_the_scale(channels, scale):
    network = ShuffleNet(channels, scale, layers=3, channels=4, generator=generator())
    assert network(torch.rand(2, channels, 7, 9)).shape == (2, channels, 7 * scale, 9 * scale)


def test_the_same_generator_makes_the_same_weights():
    first, second, other = (ShuffleNet(1, 2, layers=3, channels=4, generator=generator(s)) for s in (0, 0, 1))
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_both_networks_start_near_the_interpolated_image():
    image = torch.rand(1, 3, 17, 13, generator=generator())
    interpolated = imresize(image, 2.0)
    ours = ShuffleNet(3, 2, layers=8, channels=64, generator=generator())
    paper = InterpolatedNet(3, layers=8, channels=64, init_sigma=None, generator=generator())
    with torch.no_grad():
        assert (ours(image) - interpolated).abs().mean() < 0.1
        assert (paper(interpolated) - interpolated).abs().mean() < 0.1


@pytest.mark.parametrize("size", [(37, 31), (20, 50), (16, 16)])
def test_tiles_with_a_halo_equal_the_whole_image(size):
    network = ShuffleNet(2, 2, layers=5, channels=6, generator=generator()).double()
    image = torch.rand(1, 2, *size, generator=generator()).double()
    with torch.no_grad():
        whole = network.residual(image)
        tiled = run_tiled(network.residual, image, scale=2, halo=network.halo, max_tile=12)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


def test_a_halo_that_is_too_small_shows():
    network = ShuffleNet(1, 2, layers=5, channels=6, generator=generator()).double()
    image = torch.rand(1, 1, 30, 30, generator=generator()).double()
    with torch.no_grad():
        tiled = run_tiled(network.residual, image, scale=2, halo=1, max_tile=12)
        assert not torch.allclose(tiled, network.residual(image), atol=1e-6)
