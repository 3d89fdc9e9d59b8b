import math
import pickle

import numpy as np
import pytest

from blindsr.errors import KernelError
from blindsr.kernels import BandKernels, bicubic, box, compare, describe, gaussian, shift
from blindsr.kernels.figures import fwhm, kernel_cautions, nyquist


@pytest.mark.parametrize(("long", "short", "angle"), [(2.0, 1.0, 30.0), (1.5, 1.5, 0.0), (3.0, 1.2, 110.0)])
@pytest.mark.parametrize("scale", [2, 3])
def test_the_width_of_a_gaussian_is_2_355_sigma(long, short, angle, scale):
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    axes = np.array([[-s, c], [c, s]])  # (y, x) of the long and the short axis
    kernel = gaussian(axes @ np.diag([long**2, short**2]) @ axes.T, scale)
    assert fwhm(kernel) == pytest.approx((2.35482 * long, 2.35482 * short), rel=0.01)


def test_the_width_follows_a_kernel_that_is_off_centre():
    moved = shift(gaussian(2.0, 2, size=20), (1.5, -2.0))
    assert fwhm(moved) == pytest.approx((2.35482 * math.sqrt(2),) * 2, rel=0.02)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_mtf_at_both_nyquist_frequencies(scale):
    kernel = gaussian(1.3, scale)
    assert nyquist(kernel, scale) == pytest.approx(
        (math.exp(-2 * math.pi**2 * 1.3 * (0.5 / scale) ** 2),) * 2, rel=0.01
    )
    # A box of s pixels at LR's Nyquist frequency: the Dirichlet kernel.
    expected = math.sin(math.pi / 2) / (scale * math.sin(math.pi / 2 / scale))
    assert nyquist(box(scale), scale) == pytest.approx((expected,) * 2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_isotropic_kernel_is_looked_at_along_the_axes(scale):
    assert describe(bicubic(scale)).angle_degrees == 0
    assert nyquist(bicubic(scale), scale) == pytest.approx((0.49, 0.49), abs=0.01)


def test_all_figures():
    figures = describe(box(3))
    assert figures.energy_outside_lr_pixel == 0
    assert figures.centroid_yx == (0, 0)
    assert figures.negative_share == 0
    assert describe(bicubic(2)).negative_share > 0.05
    assert describe(gaussian(4.0, 2)).energy_outside_lr_pixel == pytest.approx(
        1 - math.erf(0.5 / math.sqrt(2)) ** 2, abs=0.01
    )


def test_a_kernel_compared_with_itself_is_the_same():
    found = compare(gaussian(1.3, 2), gaussian(1.3, 2))
    assert found.similarity == pytest.approx(1)
    assert (found.covariance_error, found.shift_yx, found.lr_psnr) == (0, (0, 0), math.inf)
    assert found.as_dict()["lr_psnr"] is None


def test_what_differs_is_told_apart():
    a = gaussian(2.0, 2, size=20)
    wider, moved = compare(a, gaussian(2.88, 2, size=20)), compare(a, shift(a, (0.0, 1.0)))
    assert wider.width_ratio == pytest.approx(1.2, rel=0.01)
    assert wider.shift_yx == pytest.approx((0, 0), abs=1e-9)
    assert moved.shift_yx == pytest.approx((0, 1), abs=0.01)
    assert moved.similarity == pytest.approx(1, abs=1e-3)
    assert moved.lr_psnr < 30 < compare(a, gaussian(2.05, 2, size=20)).lr_psnr


def test_kernels_for_different_scales_are_not_compared():
    with pytest.raises(KernelError, match="kernel convert --to-scale"):
        compare(gaussian(1.0, 2), gaussian(1.0, 3))


@pytest.mark.parametrize("kernel", [bicubic(2), bicubic(3), box(2), gaussian(1.0, 2)])
def test_plain_kernels_are_not_warned_of(kernel):
    assert kernel_cautions(kernel) == ()


def test_band_kernels_travel_to_other_processes():
    again = pickle.loads(pickle.dumps(BandKernels([gaussian(1.0, 2), gaussian(2.0, 2)], ("B4", "B3"))))
    assert again.names == ("B4", "B3")
    assert again.kernels[1].digest == gaussian(2.0, 2).digest
