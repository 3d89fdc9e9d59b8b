import dataclasses
import pickle

import numpy as np
import pytest
import torch

from blindsr.errors import KernelError
from blindsr.kernels import Kernel, KernelEstimate, KernelStack, bicubic, box, gaussian


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


@pytest.mark.parametrize(
    ("kernel", "has_sigmas"),
    [(bicubic(2), False), (box(2), True), (gaussian(0.1, 2), True), (Kernel([[1.0]], 1), True)],
)
def test_second_moments_that_negative_weights_make_zero_are_no_widths(kernel, has_sigmas):
    assert kernel.has_sigmas is has_sigmas
    assert ("σ not defined" in repr(kernel)) is not has_sigmas


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


def test_the_centroid_is_the_offset_from_the_centre():
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


def test_band_kernels_travel_to_other_processes():
    again = pickle.loads(pickle.dumps(KernelStack([gaussian(1.0, 2), gaussian(2.0, 2)], ("B4", "B3"))))
    assert again.names == ("B4", "B3")
    assert again.kernels[1].digest == gaussian(2.0, 2).digest


def test_a_stack_has_one_scale_and_a_name_for_each_kernel():
    stack = KernelStack([gaussian(1.0, 2), gaussian(2.0, 2)], "RG")
    assert (stack.scale, stack.names) == (2, ("R", "G"))
    assert stack.digest != KernelStack(stack.kernels[::-1], "RG").digest
    stack.check_channels(2)
    with pytest.raises(KernelError, match=r"2 kernels \(R, G\) need an image with as many bands, this one has 3"):
        stack.check_channels(3)
    with pytest.raises(KernelError, match=r"for one scale, got \[2, 3\]"):
        KernelStack([gaussian(1.0, 2), gaussian(1.0, 3)], ("R", "G"))
    with pytest.raises(KernelError, match="a kernel and a name, got 1 kernels and 2 names"):
        KernelStack([gaussian(1.0, 2)], ("R", "G"))


def test_the_uncertainty_of_an_estimate_is_optional():
    plain = KernelEstimate(kernel=box(2), method="m")
    assert (plain.kernel_error, plain.confidence, plain.warnings, dict(plain.metrics)) == (None, None, (), {})
    sure = KernelEstimate(kernel=box(2), method="m", kernel_error=0.05, confidence=1.0)
    assert (sure.kernel_error, sure.confidence) == (0.05, 1.0)


@pytest.mark.parametrize(
    "change", [{"kernel_error": -0.1}, {"kernel_error": float("nan")}, {"confidence": 1.1}, {"confidence": -0.1}]
)
def test_an_uncertainty_out_of_range_is_refused(change):
    with pytest.raises(KernelError, match=f"{next(iter(change))} must be"):
        KernelEstimate(kernel=box(2), method="m", **change)
