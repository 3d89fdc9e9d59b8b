import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_helpers import ramp_error
from scipy import special

from blindsr.errors import ConfigError, KernelError
from blindsr.kernels import box, kernel_bytes
from blindsr.sensors import System, design, parse_sensor
from blindsr.sensors.system import design_warnings

CAMERA = System(q=0.55 * 8 / 3.76, detector=1.0)
SENTINEL = System(covariance=((0.53777**2, 0.0), (0.0, 0.53777**2)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_gaussian_has_its_closed_forms(scale):
    sigma = 0.53777
    assert design(SENTINEL, scale, model="psf").kernel.sigmas[0] == pytest.approx(scale * sigma, rel=2e-3)
    ratio = design(SENTINEL, scale, model="ratio").kernel.sigmas[0]
    assert ratio == pytest.approx(scale * sigma * np.sqrt(1 - 1 / scale**2), rel=4e-3)


def test_the_published_widths_of_sentinel_2():
    # published widths of B4: ×2 1.076 and 0.931, ×4 2.151 and 2.083 HR px.
    for scale, model, sigma in [(2, "psf", 1.076), (2, "ratio", 0.931), (4, "psf", 2.151), (4, "ratio", 2.083)]:
        assert design(SENTINEL, scale, model=model).kernel.sigmas[0] == pytest.approx(sigma, rel=4e-3)


@pytest.mark.parametrize("model", ["psf", "ratio"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_pure_box_is_the_mean_of_the_pixels(scale, model):
    assert design(System(detector=1.0), scale, model=model).kernel.digest == box(scale).digest


@pytest.mark.parametrize("scale", [2, 3])
def test_the_sampled_psf_of_a_lens_is_the_airy_pattern(scale):
    q = 1.3
    kernel = design(System(q=q), scale, model="psf", size=20 * scale + scale % 2).kernel
    c = (np.arange(kernel.size) - (kernel.size - 1) / 2) / scale
    v = np.pi * np.maximum(np.hypot(c[:, None], c[None, :]), 1e-9) / q
    airy = (2 * special.j1(v) / v) ** 2
    np.testing.assert_allclose(kernel.array, airy / airy.sum(), atol=2e-3 * kernel.array.max())


@pytest.mark.parametrize("model", ["psf", "ratio"])
def test_a_numerical_gaussian_agrees_with_the_closed_form(model):
    covariance = ((0.5, 0.15), (0.15, 0.3))
    exact = design(System(covariance=covariance), 2, model=model).kernel
    # A motion of a thousandth of a pixel changes nothing but the way that is taken.
    numerical = design(System(covariance=covariance, motion=1e-3), 2, model=model).kernel
    # The ratio is cut off at HR's Nyquist frequency, where the closed form goes on.
    rtol = 1e-3 if model == "psf" else 0.06
    np.testing.assert_allclose(numerical.covariance, exact.covariance, rtol=rtol, atol=2e-3)


def test_the_transfer_of_the_psf_kernel_is_that_of_the_system():
    kernel = design(CAMERA, 4, model="psf", size=128).kernel
    f = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7])
    expected = CAMERA.transfer(np.zeros(6), f)
    np.testing.assert_allclose(kernel.transfer(f / 4), expected, atol=0.012)


def test_the_transfer_of_the_ratio_kernel_is_the_ratio():
    kernel = design(CAMERA, 2, model="ratio", size=80).kernel
    f = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7])
    expected = CAMERA.transfer(np.zeros(6), f) / CAMERA.transfer(np.zeros(6), f / 2)
    np.testing.assert_allclose(kernel.transfer(f / 2), expected, atol=0.012)


systems = st.builds(
    System,
    q=st.none() | st.floats(0.2, 1.4),
    obstruction=st.sampled_from([0.0, 0.3]),
    detector=st.none() | st.floats(0.5, 1.0),
    covariance=st.tuples(st.floats(0.1, 1.0), st.floats(-0.05, 0.05), st.floats(0.1, 1.0)).map(
        lambda v: ((v[0], v[1]), (v[1], v[2]))
    ),
    motion=st.sampled_from([0.0, 2.0]),
    motion_angle=st.floats(0, 180),
    defocus=st.sampled_from([0.0, 2.5]),
    spots=st.sampled_from([0.0, 0.6]),
)


@settings(max_examples=12, deadline=None)
@given(system=systems, scale=st.integers(2, 3), model=st.sampled_from(["psf", "ratio"]))
def test_every_system_gives_a_kernel_that_moves_nothing(system, scale, model):
    made = design(system, scale, model=model)
    kernel = made.kernel
    assert (kernel.size - scale) % 2 == 0
    assert abs(kernel.array.sum() - 1) < 1e-9
    np.testing.assert_allclose(kernel.array, kernel.array[::-1, ::-1], atol=1e-9)
    assert ramp_error(kernel) < 0.02
    assert -0.01 < made.energy_lost < 0.1


def test_the_same_specification_gives_the_same_bytes():
    assert kernel_bytes(design(CAMERA, 2).kernel, ".npz") == kernel_bytes(design(CAMERA, 2).kernel, ".npz")


def test_a_size_that_is_too_small_gives_a_warning_with_the_loss():
    small = design(CAMERA, 2, model="psf", size=6)
    large = design(CAMERA, 2, model="psf", size=60)
    assert small.kernel.size == 6
    assert small.energy_lost > 0.1 > 0.02 > large.energy_lost
    assert any("cuts off" in warning for warning in design_warnings(CAMERA, small))
    gaussian_cut = design(SENTINEL, 2, size=4)
    assert gaussian_cut.energy_lost > 0.04


def test_sampling_beyond_the_optics_gives_a_warning():
    oversampled = System(q=2.885, detector=1.0)
    assert any("can only deconvolve" in warning for warning in design_warnings(oversampled, design(oversampled, 2)))
    blurred = System(covariance=((1.5, 0.0), (0.0, 1.5)))
    assert any("hardly anything aliases" in warning for warning in design_warnings(blurred, design(blurred, 2)))
    sharp = System(covariance=((0.04, 0.0), (0.0, 0.04)))
    assert any("more than that of bicubic" in warning for warning in design_warnings(sharp, design(sharp, 2)))
    assert design_warnings(CAMERA, design(CAMERA, 2)) == ()


def test_invalid_requests_are_refused():
    with pytest.raises(ConfigError, match=r"psf .* or ratio .*, got 'sharp'"):
        design(CAMERA, 2, model="sharp")
    with pytest.raises(ConfigError, match="up to 255 HR pixels a side"):
        design(System(q=2.0, defocus=59.0, motion=90.0), 4)
    with pytest.raises(KernelError, match=r"K ≡ 2 \(mod 2\)"):
        design(CAMERA, 2, size=7)


def test_the_microscope_of_the_literature():
    text = "[sensor]\nna = 1.4\nwavelength_um = 0.525\ncamera_pixel_um = 6.5\nmagnification = 100"
    system = parse_sensor(text, "m").system()
    assert system.q == pytest.approx(2.885, abs=1e-3)
    # The best Gaussian of an Airy disc: σ = 0.4206 λN, here 0.2103 λ/NA over a pixel of 65 nm.
    assert 0.4206 * system.q == pytest.approx(1.213, abs=1e-3)
