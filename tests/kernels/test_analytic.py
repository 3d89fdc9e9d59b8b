"""Kernels by formula and by text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_helpers import ramp_error

from blindsr.errors import KernelError
from blindsr.kernels import bicubic, box, defocus, gaussian, motion, parse_kernel
from blindsr.kernels.analytic import KERNEL_FORMS, disc_areas, gaussian_size, rotated_covariance


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
def test_an_invalid_covariance_is_refused(covariance, words):
    with pytest.raises(KernelError, match=words):
        gaussian(covariance, 2)


def test_the_box_is_the_mean_over_one_lr_pixel():
    kernel = box(3)
    assert kernel.size == 3
    np.testing.assert_allclose(kernel.array, 1 / 9)


@settings(max_examples=25, deadline=None)
@given(
    length=st.floats(0.3, 12),
    angle=st.floats(0, 180),
    scale=st.integers(2, 4),
    is_motion=st.booleans(),
    detector=st.booleans(),
)
def test_every_shape_is_centred_and_has_its_width(length, angle, scale, is_motion, detector):
    kernel = motion(length, angle, scale, detector=detector) if is_motion else defocus(length, scale, detector=detector)
    assert ramp_error(kernel) < 0.02
    side = scale if detector else 1
    variance = length**2 / (12 if is_motion else 8) + 2 * side**2 / 12
    # Sampled at whole pixels, the trace is off by what aliases: least where an LR pixel is averaged over.
    if detector:
        assert np.trace(kernel.covariance) == pytest.approx(variance, abs=0.35)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_known_shapes_keep_a_ramp(scale):
    for kernel in (bicubic(scale), box(scale), gaussian([[2.0, 0.5], [0.5, 1.0]], scale)):
        assert ramp_error(kernel) < 0.02


def test_motion_is_exact_along_an_axis():
    assert motion(6, 0, 2).array[3].tolist() == pytest.approx(
        [1 / 48, 1 / 16, 1 / 12, 1 / 12, 1 / 12, 1 / 12, 1 / 16, 1 / 48]
    )
    assert pytest.approx(motion(6, 0, 2).array) == motion(6, 90, 2).array.T


def test_a_rising_motion_rises_as_seen():
    assert motion(9, 30, 2).angle == pytest.approx(30, abs=2)


@pytest.mark.parametrize("make", [lambda v: motion(v, 0, 2), lambda v: defocus(v, 2)])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), 400.0])
def test_a_length_out_of_range_is_refused(make, value):
    with pytest.raises(KernelError, match=r"positive number of HR pixels|up to 255 px a side"):
        make(value)


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("bicubic", bicubic(3)),
        ("box", box(3)),
        ("gaussian:1.2", gaussian(1.44, 3)),
        ("gaussian:2,1,30", gaussian(rotated_covariance(4, 1, 30), 3)),
        ("motion:5,20", motion(5, 20, 3)),
        ("defocus:4", defocus(4, 3)),
    ],
)
def test_a_text_describes_a_kernel(text, kernel):
    assert text.partition(":")[0] in KERNEL_FORMS
    np.testing.assert_allclose(parse_kernel(text, 3).array, kernel.array, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "gauss:1",
            r"must be bicubic, box, gaussian:SIGMA or gaussian:SX,SY,ANGLE, .*\(did you mean 'gaussian'\?\)",
        ),
        ("bicubic:2", "the kernel bicubic takes no numbers, got 'bicubic:2'"),
        ("gaussian", "is written gaussian:SIGMA or gaussian:SX,SY,ANGLE"),
        ("gaussian:1,2", "is written gaussian:SIGMA or gaussian:SX,SY,ANGLE"),
        ("gaussian:1,0,30", "must be positive"),
        ("gaussian:-1", "must be positive"),
        ("gaussian:nan", "must be finite"),
        ("gaussian:wide", "the kernel gaussian is written gaussian:SIGMA or .*, got 'gaussian:wide'"),
        ("gaussian:1e6", "can be up to 1001 px a side"),
        ("motion:5", "is written motion:LENGTH,ANGLE"),
        ("motion:0,3", "the length of a motion must be a positive number of HR pixels"),
        ("defocus:-1", "the diameter of a defocus disc must be a positive number"),
    ],
)
def test_a_text_that_describes_no_kernel_is_refused(text, words):
    with pytest.raises(KernelError, match=words):
        parse_kernel(text, 2)


@pytest.mark.parametrize("angle", [0, 30, 90, 145])
def test_a_rotated_covariance_has_its_variances_along_and_across_the_angle(angle):
    kernel = gaussian(rotated_covariance(9, 2, angle), 2)
    assert kernel.sigmas == pytest.approx((3, 2**0.5), abs=0.02)
    assert kernel.angle == pytest.approx(angle, abs=0.1)
    assert (rotated_covariance(3, 3, angle) == 3 * np.eye(2)).all() or angle % 90


def test_the_area_of_a_disc_is_shared_among_the_squares_that_it_covers():
    y, x = np.arange(-5, 6) - 0.3, np.arange(-6, 7) + 0.4
    areas = disc_areas(6.5, y, x, 1)
    assert areas.shape == (11, 13)
    assert areas.sum() == pytest.approx(np.pi * 6.5**2 / 4, rel=1e-4)
    fine = (np.arange(50) + 0.5) / 50 - 0.5
    inside = np.hypot((y[:, None] + fine)[:, :, None, None], (x[:, None] + fine)[None, None]) <= 6.5 / 2
    np.testing.assert_allclose(areas, inside.mean((1, 3)), atol=5e-3)
