import numpy as np
import pytest
import torch
from tolerances import assert_near

from blindsr.errors import KernelError
from blindsr.kernels import (
    Kernel,
    bicubic,
    box,
    centre,
    compose,
    defocus,
    dilate,
    fit,
    flip,
    gaussian,
    normalised_cross_correlation,
    resample,
    shift,
)
from blindsr.kernels.transform import centre_with_warning, zero_margins
from blindsr.ops import degrade

COVARIANCE = np.array([[2.0, 0.7], [0.7, 1.2]])


def off_centre(scale, offset=(0.6, -0.4)):
    return shift(gaussian(COVARIANCE, scale), offset)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("offset", [(0.6, -0.4), (0.5, 0.5), (-1.7, 2.0)])
def test_centring_moves_the_centre_of_mass_home_and_keeps_the_shape(scale, offset):
    kernel = off_centre(scale, offset)
    centred = centre(kernel)
    assert centred.size == kernel.size
    assert np.abs(kernel.centroid).max() > 0.3
    np.testing.assert_allclose(centred.centroid, 0, atol=1e-4)
    # A cubic spline blurs a little with each shift.
    np.testing.assert_allclose(centred.covariance, COVARIANCE, atol=0.15)


@pytest.mark.parametrize("scale", [2, 3])
def test_centring_twice_is_centring_once(scale):
    once = centre(off_centre(scale))
    assert np.array_equal(centre(once).array, once.array)


def test_centring_leaves_a_centred_kernel_as_it_is():
    kernel = bicubic(2)
    assert centre(kernel) is kernel


def test_centring_noisy_kernels_works(rng):
    for _ in range(20):
        kernel = off_centre(2, tuple(rng.uniform(-1.5, 1.5, 2)))
        noisy = Kernel.normalised(kernel.array * rng.uniform(0.75, 1.25, kernel.array.shape), 2)
        assert np.abs(centre(noisy).centroid).max() <= 1e-4


def test_a_kernel_whose_weights_cancel_cannot_be_centred():
    weights = np.zeros((8, 8))
    weights[0, 0], weights[7, 7] = 10.0, -9.0
    with pytest.raises(KernelError, match="cannot be centred"):
        centre(Kernel(weights, 2))


def test_a_shift_moves_the_centre_of_mass_by_what_was_asked():
    kernel = shift(gaussian(1.5, 2, size=16), (1.0, -0.5))
    np.testing.assert_allclose(kernel.centroid, (1.0, -0.5), atol=0.01)


def test_a_shift_makes_no_negative_weights():
    assert shift(box(4), (0.3, 0.3)).array.min() >= 0


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_fitting_grows_and_shrinks_around_the_centre(scale):
    kernel = gaussian(COVARIANCE, scale)
    larger = fit(kernel, kernel.size + 6)
    np.testing.assert_allclose(larger.array[3:-3, 3:-3], kernel.array, atol=1e-15)
    np.testing.assert_allclose(fit(larger, kernel.size).array, kernel.array, atol=1e-15)
    assert fit(kernel, kernel.size - 4).array.sum() == pytest.approx(1)


@pytest.mark.parametrize("size", [1, 7, 0])
def test_fitting_to_the_wrong_parity_or_size_is_refused(size):
    with pytest.raises(KernelError, match=r"size must be ≥ 2 and ≡ 2"):
        fit(gaussian(1.0, 2), size)


def test_fitting_does_not_cut_half_the_kernel():
    with pytest.raises(KernelError, match=r"leaves .* of it; centre it"):
        fit(shift(gaussian(0.5, 2, size=16), (5.0, 5.0)), 4)


@pytest.mark.parametrize(("first", "second"), [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_composing_equals_degrading_twice(rng, first, second):
    one, two = gaussian([[0.9, 0.3], [0.3, 0.6]], first), gaussian(0.8, second)
    scale = first * second
    image = torch.from_numpy(rng.random((1, 1, 14 * scale, 13 * scale)))
    twice = degrade(degrade(image, one.tensor(image), first), two.tensor(image), second)
    once = degrade(image, compose(one, two).tensor(image), scale)
    # Borders differ: twice mirrors the LR image of the first pass.
    inner = (..., slice(4, -4), slice(4, -4))
    assert_near(once[inner], twice[inner])


def test_composing_multiplies_the_covariance_by_five():
    kernel = gaussian(COVARIANCE, 2)
    composed = compose(kernel, kernel)
    assert composed.scale == 4
    np.testing.assert_allclose(composed.covariance, 5 * kernel.covariance, rtol=1e-12)


def test_composing_keeps_the_origin_and_records_the_scales():
    kernel = gaussian(COVARIANCE, 2)
    provenance = compose(kernel, kernel).provenance
    assert provenance["made_by"] == "gaussian"
    assert provenance["composed_of_scales"] == [2, 2]


@pytest.mark.parametrize("beta", [0.0, 0.48, 1.0])
@pytest.mark.parametrize(("old", "new"), [(2, 3), (2, 4), (3, 4), (4, 2), (2, 2)])
def test_resampling_follows_the_scale_law(old, new, beta):
    kernel = gaussian(3.0 * COVARIANCE, old)
    ratio = (new**2 - beta) / (old**2 - beta)
    resampled = resample(kernel, new, residual_hr_blur=beta)
    assert resampled.scale == new
    # The support cut at 3.5 σ and the spline cost under 1.5 %.
    np.testing.assert_allclose(resampled.covariance, ratio * kernel.covariance, rtol=0.015)
    np.testing.assert_allclose(resampled.centroid, 0, atol=1e-6)


def test_from_two_to_three_the_covariance_grows_by_eight_thirds():
    kernel = gaussian(3.0 * COVARIANCE, 2)
    np.testing.assert_allclose(resample(kernel, 3).covariance, 8 / 3 * kernel.covariance, rtol=0.015)


def test_resampling_to_four_agrees_with_composing():
    kernel = gaussian(2.0 * COVARIANCE, 2)
    assert normalised_cross_correlation(resample(kernel, 4), compose(kernel, kernel)) > 0.999


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1)])
def test_resampling_from_or_to_scale_one_is_refused(old, new):
    with pytest.raises(KernelError, match="scales of 2 or more"):
        resample(gaussian(1.0, old), new)


def test_flipping_turns_counter_clockwise():
    kernel = gaussian([[1.0, 0.0], [0.0, 4.0]], 2)
    assert kernel.angle == pytest.approx(0, abs=1e-6)
    assert flip(kernel, 1).angle == pytest.approx(90)


def test_centring_for_a_user_reports_the_shift():
    moved = shift(gaussian(1.4, 2, size=18), (1.5, -0.5))
    centred, warnings = centre_with_warning(Kernel(moved.array, 2, {"convention_guessed": True}))
    assert centred.centroid == pytest.approx([0, 0], abs=1e-3)
    assert warnings == ("the kernel was moved by (-1.50, +0.50) HR pixels (y, x) to centre it.",)
    assert centred.provenance["recentred_by"] == pytest.approx([-1.5, 0.5], abs=0.01)
    assert "convention_guessed" not in centred.provenance
    assert centre_with_warning(bicubic(2)) == (bicubic(2), ()) or centre_with_warning(bicubic(2))[1] == ()


@pytest.mark.parametrize("factor", [0.25, 0.7, 0.9, 1.1, 1.5, 2.0, 3.7])
@pytest.mark.parametrize("kernel", [off_centre(2), off_centre(3, (-1.2, 0.9)), defocus(5, 2), bicubic(4), box(3)])
def test_a_dilated_kernel_keeps_its_centre_of_mass_and_has_another_width(kernel, factor):
    wider = dilate(kernel, factor)
    assert wider.scale == kernel.scale
    np.testing.assert_allclose(wider.centroid, kernel.centroid, atol=2e-3)
    np.testing.assert_allclose(wider.covariance, factor**2 * kernel.covariance, rtol=3e-3, atol=0.01)


def test_a_dilated_kernel_is_that_of_the_formula():
    for factor in (0.7, 1.0, 1.6):
        ncc = normalised_cross_correlation(dilate(gaussian(2.25, 2), factor), gaussian(2.25 * factor**2, 2))
        assert ncc > 0.9995, factor
    frequencies = np.linspace(0, 0.15, 9)
    for factor in (0.75, 1.5):
        wider = dilate(bicubic(3), factor)
        np.testing.assert_allclose(wider.transfer(frequencies), bicubic(3).transfer(factor * frequencies), atol=0.02)
    kernel = bicubic(2)
    assert dilate(kernel, 1) is kernel


@pytest.mark.parametrize("view", range(8))
def test_dilation_commutes_with_flips(view):
    kernel = off_centre(2)
    np.testing.assert_allclose(dilate(flip(kernel, view), 1.3).array, flip(dilate(kernel, 1.3), view).array, atol=1e-12)


@pytest.mark.parametrize("factor", [0, -1, float("nan")])
def test_a_width_is_changed_by_a_positive_factor(factor):
    with pytest.raises(KernelError, match="by a factor above 0"):
        dilate(bicubic(2), factor)


@pytest.mark.parametrize(
    ("rows", "columns", "margins"),
    [((2, 4), (2, 7), (2, 2)), ((0, 1), (4, 5), (0, 4)), ((3, 6), (0, 9), (0, 0)), ((0, 0), (0, 0), (0, 0))],
)
def test_as_many_rows_or_columns_of_zeros_count_on_opposite_sides(rows, columns, margins):
    weights = np.zeros((6, 9))
    weights[slice(*rows), slice(*columns)] = 0.5
    assert zero_margins(weights) == margins


def test_a_kernel_of_too_few_weights_cannot_be_centred():
    with pytest.raises(
        KernelError, match=r"its 2×2 weights are too few to be moved by 0\.50 px; surround them with zeros"
    ):
        centre(Kernel.normalised(np.array([[1.0, 0.0], [0.0, 0.0]]), 2))
