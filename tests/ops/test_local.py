"""Mean and maximum over a square, against SciPy's filters."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from blindsr.ops.local import local_maximum, local_mean


@pytest.mark.parametrize("side", [1, 3, 9, 17, 23])
def test_they_are_those_of_scipy(side):
    image = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = (1, 1, side, side)
    sums, counts = (
        ndimage.uniform_filter(x, size, mode="constant") for x in (image.numpy(), np.ones_like(image.numpy()))
    )
    assert np.allclose(local_mean(image, side), sums / counts)
    largest = ndimage.maximum_filter(image.numpy(), size, mode="constant", cval=-np.inf)
    assert np.array_equal(local_maximum(image, side), largest)


def test_a_constant_stays_constant_and_a_part_is_a_part_to_the_bit():
    flat = torch.full((1, 1, 20, 30), 0.3)
    assert torch.allclose(local_mean(flat, 9), flat)
    image = torch.rand(1, 1, 60, 70, generator=torch.Generator().manual_seed(1))
    inner = (..., slice(20, 40), slice(20, 40))
    for function in (local_mean, local_maximum):
        part = function(image[..., 10:50, 10:50], 17)[..., 10:30, 10:30]
        assert torch.equal(part, function(image, 17)[inner])
