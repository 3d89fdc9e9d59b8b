"""Transfer functions on the grid of the learned estimator."""

import numpy as np
import pytest

from blindsr.estimators.learned.transfers import central, frequencies_of, kernel_of, transfer_distance, transfer_of
from blindsr.kernels import bicubic, gaussian, normalised_cross_correlation
from blindsr.ops.wiener import transfer


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_kernel_is_that_of_its_transfer_function(scale):
    kernel = gaussian([[3.5, 1.2], [1.2, 1.5]], scale)
    assert normalised_cross_correlation(kernel_of(transfer_of(kernel), scale), kernel) > 0.999
    assert central(transfer_of(kernel)).shape == (33, 33)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_transfer_function_is_that_of_the_wiener_filter(scale):
    kernel = gaussian([[3.5, 1.2], [1.2, 1.5]], scale)
    side = 16 * scale  # the grid has the frequencies of an image of this side
    expected = transfer(kernel.tensor()[None].double(), scale, side, side)[0].numpy()
    places = np.round(frequencies_of(scale)[:-1] * 16).astype(int) % side
    # Even kernels are centred between pixels: the phase of half a pixel at the limit of the grid has either sign.
    np.testing.assert_allclose(
        np.abs(transfer_of(kernel)[:-1, :-1]), np.abs(expected[np.ix_(places, places)]), atol=1e-6
    )


def test_the_distance_is_that_of_a_wider_kernel():
    first, wider = transfer_of(gaussian(2.0, 2)), transfer_of(gaussian(2.0, 2), 1.1)
    assert transfer_distance(first, first) == 0
    assert 0 < transfer_distance(first, wider) < transfer_distance(first, transfer_of(bicubic(2)))
