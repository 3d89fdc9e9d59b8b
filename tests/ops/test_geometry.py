import numpy as np
import pytest
import torch
from images import random_image
from scipy import ndimage
from tolerances import assert_near

from blindsr.errors import ImageError
from blindsr.kernels import Kernel, flip
from blindsr.ops import degrade, dihedral, dihedral_inverse
from blindsr.ops.geometry import local_maximum, local_mean, mirror


@pytest.mark.parametrize("view", range(8))
def test_the_inverse_undoes_the_view(rng, view):
    image = random_image(rng, bands=2)
    assert torch.equal(dihedral_inverse(dihedral(image, view), view), image)


def test_the_eight_views_are_distinct(rng):
    image = random_image(rng, 9, 9, bands=2)
    views = [dihedral(image, v) for v in range(8)]
    assert not any(torch.equal(views[i], views[j]) for i in range(8) for j in range(i))


def test_view_one_turns_counter_clockwise():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert dihedral(image, 1).tolist() == [[2.0, 4.0], [1.0, 3.0]]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("view", range(8))
def test_degrading_a_view_with_the_flipped_kernel_gives_the_view(rng, scale, view):
    weights = rng.random((scale + 6, scale + 6))
    kernel = Kernel(weights / weights.sum(), scale)
    image = random_image(rng, 8 * scale, 6 * scale, bands=2)
    seen = degrade(dihedral(image, view), flip(kernel, view).tensor(image), scale)
    assert_near(seen, dihedral(degrade(image, kernel.tensor(image), scale), view))


@pytest.mark.parametrize("view", [-1, 8])
@pytest.mark.parametrize("function", [dihedral, dihedral_inverse])
def test_a_ninth_view_is_refused(function, view):
    with pytest.raises(ImageError, match=f"0 … 7, got {view}"):
        function(torch.zeros(3, 3), view)


def test_mirroring_repeats_the_edge_sample_and_goes_on_for_ever():
    positions = mirror(torch.arange(-7, 8), 3)
    assert positions.tolist() == [0, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]


@pytest.mark.parametrize("side", [1, 3, 9, 17, 23])
def test_local_mean_and_maximum_are_those_of_scipy(side):
    image = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = (1, 1, side, side)
    sums, counts = (
        ndimage.uniform_filter(x, size, mode="constant") for x in (image.numpy(), np.ones_like(image.numpy()))
    )
    assert np.allclose(local_mean(image, side), sums / counts)
    largest = ndimage.maximum_filter(image.numpy(), size, mode="constant", cval=-np.inf)
    assert np.array_equal(local_maximum(image, side), largest)


def test_the_mean_of_a_constant_is_constant_and_a_part_is_a_part_to_the_bit():
    flat = torch.full((1, 1, 20, 30), 0.3)
    assert torch.allclose(local_mean(flat, 9), flat)
    image = torch.rand(1, 1, 60, 70, generator=torch.Generator().manual_seed(1))
    inner = (..., slice(20, 40), slice(20, 40))
    for function in (local_mean, local_maximum):
        part = function(image[..., 10:50, 10:50], 17)[..., 10:30, 10:30]
        assert torch.equal(part, function(image, 17)[inner])
