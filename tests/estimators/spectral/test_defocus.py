"""Defocus: the rings of zeros of a disc."""

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.estimators import spectral
from blindsr.estimators.spectral import SpectralConfig
from blindsr.estimators.spectral.defocus import DiscFit, disc_kernel
from blindsr.kernels import defocus, gaussian
from blindsr.ops import degrade

WITH_DISCS = SpectralConfig(discs=True)


def lr(kernel):
    photograph = torch.from_numpy(data.camera()[:384, :448].copy())[None, None].float() / 255
    return (degrade(photograph, kernel.tensor(), kernel.scale) * 255).round() / 255


@pytest.mark.parametrize("diameter", [6.0, 7.0])
def test_the_radius_of_a_defocused_photograph_is_estimated(diameter):
    estimate = spectral.estimate_kernel(lr(defocus(diameter, 2)), 2, WITH_DISCS)
    assert estimate.metrics["disc_radius_lr"] == pytest.approx(diameter / 4, rel=0.1)
    assert np.allclose(estimate.kernel.centroid, 0, atol=1e-9)


def test_a_gaussian_is_not_taken_for_a_disc():
    for covariance in (1.2, [[3.0, 0.8], [0.8, 1.5]]):
        assert "disc_radius_lr" not in spectral.estimate_kernel(lr(gaussian(covariance, 2)), 2, WITH_DISCS).metrics


def test_discs_are_not_fitted_by_default():
    assert "disc_radius_lr" not in spectral.estimate_kernel(lr(defocus(5.0, 2)), 2).metrics


def test_the_variance_of_the_kernel_is_that_of_disc_gaussian_and_pixel():
    kernel = disc_kernel(DiscFit(radius=1.5, softness=0.3, residual=0.1), 3)
    expected = (4.5**2) / 4 + 0.9**2 + 1 / 12
    assert np.diag(kernel.covariance) == pytest.approx([expected] * 2, rel=0.01)
    assert kernel.array == pytest.approx(kernel.array.T)
    assert kernel.array == pytest.approx(kernel.array[::-1])
