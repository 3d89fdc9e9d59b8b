import math

import numpy as np
import pytest

from blindsr.errors import KernelError
from blindsr.kernels import (
    Kernel,
    SplitHalf,
    bicubic,
    box,
    compare,
    describe,
    flip,
    gaussian,
    kernel_bytes,
    read_kernel,
    shift,
)
from blindsr.kernels.metrics import (
    FWHM_PER_SIGMA,
    covariance_error,
    fwhm,
    kernel_warnings,
    mtf_at_nyquist,
    normalised_cross_correlation,
    provenance_text,
    widths_text,
)


@pytest.mark.parametrize(("long", "short", "angle"), [(2.0, 1.0, 30.0), (1.5, 1.5, 0.0), (3.0, 1.2, 110.0)])
@pytest.mark.parametrize("scale", [2, 3])
def test_the_width_of_a_gaussian_is_2_355_sigma(long, short, angle, scale):
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    axes = np.array([[-s, c], [c, s]])  # (y, x) of the long and the short axis
    kernel = gaussian(axes @ np.diag([long**2, short**2]) @ axes.T, scale)
    assert fwhm(kernel) == pytest.approx((2.35482 * long, 2.35482 * short), rel=0.01)


def test_the_text_of_the_widths_has_the_direction_of_the_larger_one():
    tails = gaussian(np.diag([0.5, 16.0]), 2)  # its long tails along x make that the long axis
    core = gaussian(np.diag([1.0, 0.6]), 2, size=tails.size)
    kernel = Kernel(0.96 * core.array + 0.04 * tails.array, 2)
    along, across = fwhm(kernel)
    assert kernel.angle == pytest.approx(0, abs=1e-6)
    assert across > 1.1 * along
    assert widths_text(kernel) == f"FWHM {across:.2f} px along 90°, {along:.2f} px across"


def test_the_width_follows_a_kernel_that_is_off_centre():
    moved = shift(gaussian(2.0, 2, size=20), (1.5, -2.0))
    assert fwhm(moved) == pytest.approx((2.35482 * math.sqrt(2),) * 2, rel=0.02)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_mtf_at_both_nyquist_frequencies(scale):
    kernel = gaussian(1.3, scale)
    assert mtf_at_nyquist(kernel, scale) == pytest.approx(
        (math.exp(-2 * math.pi**2 * 1.3 * (0.5 / scale) ** 2),) * 2, rel=0.01
    )
    # A box of s pixels at LR's Nyquist frequency: the Dirichlet kernel.
    expected = math.sin(math.pi / 2) / (scale * math.sin(math.pi / 2 / scale))
    assert mtf_at_nyquist(box(scale), scale) == pytest.approx((expected,) * 2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_isotropic_kernel_is_measured_along_the_axes(scale):
    assert describe(bicubic(scale)).angle_degrees == 0
    assert mtf_at_nyquist(bicubic(scale), scale) == pytest.approx((0.49, 0.49), abs=0.01)


def test_all_metrics():
    metrics = describe(box(3))
    assert metrics.energy_outside_lr_pixel == 0
    assert metrics.centroid_yx == (0, 0)
    assert metrics.negative_share == 0
    assert describe(bicubic(2)).negative_share > 0.05
    assert describe(gaussian(4.0, 2)).energy_outside_lr_pixel == pytest.approx(
        1 - math.erf(0.5 / math.sqrt(2)) ** 2, abs=0.01
    )


def test_a_kernel_compared_with_itself_is_the_same():
    found = compare(gaussian(1.3, 2), gaussian(1.3, 2))
    assert found.ncc == pytest.approx(1)
    assert (found.covariance_error, found.shift_yx, found.lr_psnr) == (0, (0, 0), math.inf)
    assert found.as_dict()["lr_psnr"] is None


def test_a_wider_and_a_shifted_kernel_are_distinguished():
    a = gaussian(2.0, 2, size=20)
    wider, moved = compare(a, gaussian(2.88, 2, size=20)), compare(a, shift(a, (0.0, 1.0)))
    assert wider.width_ratio == pytest.approx(1.2, rel=0.01)
    assert wider.shift_yx == pytest.approx((0, 0), abs=1e-9)
    assert moved.shift_yx == pytest.approx((0, 1), abs=0.01)
    assert moved.ncc == pytest.approx(1, abs=1e-3)
    assert moved.lr_psnr < 30 < compare(a, gaussian(2.05, 2, size=20)).lr_psnr


@pytest.mark.parametrize(
    ("first", "second", "error"), [(bicubic(2), gaussian(1.0, 2), None), (gaussian(1.0, 2), bicubic(2), 1.0)]
)
def test_widths_relative_to_the_bicubic_kernel_are_not_defined(first, second, error):
    found = compare(first, second).as_dict()
    assert found["width_ratio"] is None
    assert found["covariance_error"] == (error if error is None else pytest.approx(error))


@pytest.mark.parametrize(
    ("provenance", "text"),
    [
        ({}, "provenance unknown"),
        ({"made_by": "spectral", "split_half": {"ncc": 1}, "covariance_yx": [[1]]}, "made by spectral"),
        (
            {"made_by": "bicubic", "in_place_of": {"made_by": "l0"}},
            "made by bicubic, because no kernel could be estimated",
        ),
    ],
)
def test_the_provenance_is_words_without_arrays(provenance, text):
    assert provenance_text(Kernel(bicubic(2).array, 2, provenance)) == text


def test_kernels_for_different_scales_are_not_compared():
    with pytest.raises(KernelError, match="kernel convert --to-scale"):
        compare(gaussian(1.0, 2), gaussian(1.0, 3))


@pytest.mark.parametrize("kernel", [bicubic(2), bicubic(3), box(2), gaussian(1.0, 2)])
def test_ordinary_kernels_have_no_warnings(kernel):
    assert kernel_warnings(kernel) == ()


def test_the_covariance_error_is_relative_and_blind_to_a_shift():
    truth = gaussian([[2.0, 0.0], [0.0, 2.0]], 2, size=20)
    assert covariance_error(truth, truth) == 0
    assert covariance_error(shift(truth, (1.0, 2.0)), truth) < 1e-3
    assert covariance_error(gaussian([[2.2, 0.0], [0.0, 2.2]], 2, size=20), truth) == pytest.approx(0.1, abs=1e-3)


def test_a_kernel_correlates_with_itself_wherever_it_is():
    kernel = gaussian(COVARIANCE, 2, size=20)
    assert normalised_cross_correlation(kernel, kernel) == pytest.approx(1)
    assert normalised_cross_correlation(kernel, shift(kernel, (1.3, -0.7))) > 0.999


def test_correlation_sees_a_wrong_direction():
    kernel = gaussian([[4.0, 0.0], [0.0, 0.7]], 2)
    assert normalised_cross_correlation(kernel, flip(kernel, 1)) < 0.85


def test_correlation_of_kernels_of_different_scales_is_refused():
    with pytest.raises(KernelError, match=r"different scales \(2 and 4\)"):
        normalised_cross_correlation(box(2), box(4))


COVARIANCE = np.array([[2.0, 0.7], [0.7, 1.2]])
ONE = gaussian([[3.0, 0.8], [0.8, 1.5]], 2)
WIDER = gaussian([[3.6, 0.8], [0.8, 1.8]], 2)


def test_equal_halves_have_no_uncertainty():
    halves = SplitHalf.from_pairs([(ONE, ONE)])
    assert halves.ncc == pytest.approx(1)
    assert halves.relative_difference == 0
    assert halves.sigma_errors == (0, 0)


def test_the_uncertainty_grows_with_the_difference_of_the_halves():
    near, far = SplitHalf.from_pairs([(ONE, WIDER)]), SplitHalf.from_pairs([(ONE, gaussian(9.0, 2))])
    assert far.ncc < near.ncc < 1
    assert 0 < near.relative_difference < far.relative_difference < 1
    widths = np.array([kernel.sigmas for kernel in (ONE, WIDER)])
    assert near.sigma_errors == pytest.approx(tuple(widths.std(0)))


def test_the_metrics_and_the_text_of_the_uncertainty_agree():
    halves = SplitHalf.from_pairs([(ONE, WIDER), (WIDER, ONE)])
    assert set(halves.metrics) == {
        "split_half_ncc",
        "split_half_difference",
        "split_half_sigma_long",
        "split_half_sigma_short",
    }
    assert f"±{FWHM_PER_SIGMA * halves.metrics['split_half_sigma_long']:.2f} px along the long" in str(halves)
    assert str(halves).startswith("the FWHM of 4 split-half estimates")


def test_a_kernel_file_stores_the_uncertainty(tmp_path):
    halves = SplitHalf.from_pairs([(ONE, WIDER)])
    path = tmp_path / "k.npz"
    path.write_bytes(kernel_bytes(halves.attach(ONE), ".npz"))
    read = SplitHalf.from_kernel(read_kernel(path, scale=2)[0])
    assert read.covariances == pytest.approx(halves.covariances, abs=1e-4)
    assert read.ncc == pytest.approx(halves.ncc, abs=1e-4)


def test_the_uncertainty_does_not_apply_to_a_changed_kernel():
    noted = SplitHalf.from_pairs([(ONE, WIDER)]).attach(ONE)
    assert SplitHalf.from_kernel(noted) is not None
    assert SplitHalf.from_kernel(Kernel(WIDER.array, 2, noted.provenance)) is None
    assert SplitHalf.from_kernel(ONE) is None


@pytest.mark.parametrize(
    "change",
    [
        {"covariance_yx": "wide"},
        {"covariance_yx": [[1.0, 0.0], [0.0, 1.0]]},
        {"covariance_yx": [[[1.0, 0.0], [0.0, 1.0]]]},
        {"covariance_yx": [[[np.nan, 0.0], [0.0, 1.0]]] * 2},
        {"ncc": None},
    ],
)
def test_invalid_uncertainties_in_a_file_are_ignored(change):
    noted = SplitHalf.from_pairs([(ONE, WIDER)]).attach(ONE).provenance["split_half"]
    assert SplitHalf.from_kernel(Kernel(ONE.array, 2, {"split_half": {**noted, **change}})) is None


@pytest.mark.parametrize("scale", [1, 3])
def test_kernels_of_odd_scales_are_compared(scale):
    found = compare(gaussian(1.3, scale), gaussian(1.5, scale))
    assert found.width_ratio == pytest.approx(math.sqrt(1.5 / 1.3), rel=0.01)
    assert 20 < found.lr_psnr < 80
