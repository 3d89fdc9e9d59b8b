"""The sharpest edges bound the blur."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from blindsr.spectral.edges import DIRECTIONS, along, edge_widths


def squares(sigma):
    """A chequerboard of large squares, turned a little so that the edges pass between the pixels, blurred by σ."""
    y, x = np.indices((960, 960)) / 4
    turned = np.floor((x * 0.98 + y * 0.2) / 40) + np.floor((y * 0.98 - x * 0.2) / 40)
    fine = ndimage.gaussian_filter(0.2 + 0.6 * (turned % 2), 4 * sigma)
    return torch.from_numpy(fine.reshape(240, 4, 240, 4).mean((1, 3)))[None, None]


@pytest.mark.parametrize("sigma", [0.6, 0.9, 1.3])
def test_the_width_of_ideal_edges_is_that_of_the_blur(sigma):
    across, _, down, _ = edge_widths(squares(sigma))[1, 1]
    # The mean over a pixel adds 1/12 to the variance.
    for width in (across, down):
        assert width == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=0.12)


def test_contrast_and_sign_do_not_matter():
    image = squares(0.8)
    assert np.allclose(edge_widths(image)[1], edge_widths(1 - image)[1], rtol=1e-6)
    assert np.allclose(edge_widths(image)[0], edge_widths(0.5 * image)[0], rtol=0.1)


def test_turning_the_image_turns_the_directions():
    image = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    widths, turned = edge_widths(image), edge_widths(image.rot90(1, (2, 3)))
    assert np.allclose(turned[..., [2, 3, 0, 1]], widths, atol=0.02)


def test_variances_along_the_directions():
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    variances = along(covariance)
    assert variances == pytest.approx([1.0, 2.0, 2.0, 1.0])
    assert len(variances) == len(DIRECTIONS)


def test_a_flat_image_has_widths_too():
    assert np.isfinite(edge_widths(torch.full((1, 3, 40, 40), 0.5))).all()
