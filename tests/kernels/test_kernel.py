import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blindsr.errors import KernelError
from blindsr.kernels import Kernel, bicubic, box, gaussian
from blindsr.kernels.families import gaussian_size


def bar(angle):
    """A bar through the centre at `angle` degrees as seen: row 0 is on top."""
    c = np.arange(21) - 10
    x, up = np.meshgrid(c, -c)
    across = -np.sin(np.radians(angle)) * x + np.cos(np.radians(angle)) * up
    along = np.cos(np.radians(angle)) * x + np.sin(np.radians(angle)) * up
    return Kernel.normalised(np.exp(-(across**2) / 2 - along**2 / 32), 1)


@pytest.mark.parametrize(
    ("array", "scale", "words"),
    [
        (np.ones(4) / 4, 2, "square 2-D array, got shape"),
        (np.ones((2, 4)) / 8, 2, "square 2-D array, got shape"),
        (np.ones((3, 3)) / 9, 2, r"K ≡ 2 \(mod 2\), got K = 3"),
        (np.ones((1, 1)), 3, "K ≥ 3 .* got K = 1"),
        (np.full((2, 2), np.nan), 2, "must be finite"),
        (np.ones((2, 2)), 2, "sums to 4; use Kernel.normalised"),
        (np.ones((1, 1)), 0, "whole number, 1 or more"),
        (np.ones((1, 1)), 1.5, "whole number, 1 or more"),
        (np.ones((1, 1)), True, "whole number, 1 or more"),
    ],
)
def test_an_array_that_breaks_a_rule_is_refused(array, scale, words):
    with pytest.raises(KernelError, match=words):
        Kernel(array, scale)


@pytest.mark.parametrize("array", [np.zeros((2, 2)), [[1.0, -1.0], [-1.0, 1.0]], np.full((2, 2), np.inf)])
def test_an_array_without_a_sum_cannot_be_normalised(array):
    with pytest.raises(KernelError, match="sum other than zero"):
        Kernel.normalised(array, 2)


def test_normalised_divides_by_the_sum():
    assert Kernel.normalised(np.full((2, 2), 3.0), 2).array.tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_negative_taps_are_kept():
    assert bicubic(2).array.min() < -0.003


def test_the_array_is_a_read_only_copy():
    given_array = np.full((2, 2), 0.25)
    kernel = Kernel(given_array, 2)
    given_array[0, 0] = 9
    assert kernel.array[0, 0] == 0.25
    with pytest.raises(ValueError, match="read-only"):
        kernel.array[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        kernel.scale = 3


@given(
    long=st.floats(1.2, 3.0), short=st.floats(0.9, 1.2), angle=st.floats(0, 179), scale=st.sampled_from([1, 2, 3, 4])
)
def test_a_gaussian_has_the_covariance_that_was_asked_for(long, short, angle, scale):
    turn = np.radians(angle)
    axes = np.array([[-np.sin(turn), np.cos(turn)], [np.cos(turn), np.sin(turn)]])  # long axis first, in (y, x)
    covariance = axes.T @ np.diag([long**2, short**2]) @ axes
    kernel = gaussian(covariance, scale)
    assert kernel.size % 2 == scale % 2
    # Cutting at 3.5 σ takes 0.2 % of the second moment.
    np.testing.assert_allclose(kernel.covariance, covariance, atol=0.01 * long**2)
    np.testing.assert_allclose(kernel.centroid, 0, atol=1e-12)


def test_a_number_is_an_isotropic_variance():
    kernel = gaussian(2.0, 2)
    np.testing.assert_allclose(kernel.covariance, 2 * np.eye(2), atol=0.01)
    assert kernel.sigmas == pytest.approx((2**0.5, 2**0.5), abs=0.01)


def test_a_gaussian_is_as_large_as_its_long_axis_needs():
    assert gaussian([[4.0, 0.0], [0.0, 1.0]], 2).size == gaussian_size([[4.0, 0.0], [0.0, 1.0]], 2) == 16
    assert gaussian(1.0, 3, size=7).size == 7


@pytest.mark.parametrize(
    ("covariance", "words"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "positive definite"),
        (-1.0, "positive definite"),
        ([[1.0, 0.5], [0.0, 1.0]], "symmetric 2×2"),
        ([[np.nan, 0.0], [0.0, 1.0]], "symmetric 2×2"),
        ([1.0, 2.0], "symmetric 2×2"),
    ],
)
def test_a_covariance_that_is_none_is_refused(covariance, words):
    with pytest.raises(KernelError, match=words):
        gaussian(covariance, 2)


def test_the_box_is_the_mean_over_one_lr_pixel():
    kernel = box(3)
    assert kernel.size == 3
    np.testing.assert_allclose(kernel.array, 1 / 9)


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 135, 170])
def test_angles_count_counter_clockwise_as_seen(angle):
    # At 45° the bar runs from bottom left to top right of the printed array.
    assert bar(angle).angle == pytest.approx(angle, abs=0.5)


def test_a_bar_at_45_degrees_is_bright_at_the_top_right():
    kernel = bar(45)
    assert kernel.array[5, 15] > 10 * kernel.array[5, 5]


def test_the_transfer_is_lowest_along_the_long_axis():
    kernel, frequencies = bar(45), np.array([0.0, 0.1])
    along, across = kernel.transfer(frequencies, 45), kernel.transfer(frequencies, 135)
    assert along[0] == pytest.approx(1)
    assert along[1] < 0.1 * across[1]


def test_the_transfer_is_the_fourier_transform(rng):
    weights = rng.random((8, 8))
    kernel = Kernel.normalised(weights, 2)
    expected = np.abs(np.fft.fft(kernel.array.sum(0)))[:5]
    np.testing.assert_allclose(kernel.transfer(np.arange(5) / 8), expected, atol=1e-12)


def test_the_boxs_transfer_at_nyquist_is_the_detectors():
    # sinc(1/2) in the limit of many HR pixels per LR pixel: 0.6366.
    assert box(64).transfer(np.array([0.5 / 64]))[0] == pytest.approx(2 / np.pi, abs=1e-3)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_support_ignores_zeros_around_the_kernel(scale):
    kernel = Kernel(np.pad(box(scale).array, 5), scale)
    assert kernel.support() == scale


def test_support_grows_with_the_energy():
    kernel = gaussian(2.0, 2)
    assert kernel.support(0.5) < kernel.support(0.9) < kernel.support(0.999) <= kernel.size


def test_the_centroid_says_where_the_kernel_looks():
    weights = np.zeros((6, 6))
    weights[1, 4] = 1
    np.testing.assert_allclose(Kernel(weights, 2).centroid, (-1.5, 1.5))


def test_the_digest_names_weights_and_scale_and_nothing_else():
    kernel = gaussian(2.0, 2)
    assert kernel.digest == Kernel(kernel.array, 2, {"made_by": "someone"}).digest
    assert kernel.digest != Kernel(kernel.array, 4).digest
    assert kernel.digest != gaussian(2.01, 2).digest
    assert len(kernel.digest) == 12


def test_the_digest_does_not_see_the_sign_of_zero():
    assert Kernel([[0.0, 1.0], [0.0, 0.0]], 2).digest == Kernel([[-0.0, 1.0], [0.0, 0.0]], 2).digest


def test_a_tensor_follows_its_model():
    kernel = gaussian(2.0, 2)
    assert kernel.tensor().dtype == torch.float32
    double = kernel.tensor(torch.zeros(1, dtype=torch.float64))
    assert double.dtype == torch.float64
    assert np.array_equal(double.numpy(), kernel.array)


def test_the_provenance_cannot_be_changed():
    kernel = gaussian(2.0, 2)
    assert kernel.provenance["made_by"] == "gaussian"
    with pytest.raises(TypeError):
        kernel.provenance["made_by"] = "me"


def test_the_repr_names_what_matters():
    assert repr(gaussian([[4.0, 0.0], [0.0, 1.0]], 2)) == "Kernel(16×16, scale=2, σ=2.00/1.00 px, 90°)"
