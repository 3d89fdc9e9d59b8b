import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from blindsr.errors import ConfigError, KernelError
from blindsr.kernels import bicubic, box, gaussian, kernel_bytes
from blindsr.kernels.shapes import defocus, motion
from blindsr.ops import degrade
from blindsr.sensors import Curve, System, design, parse_sensor
from blindsr.sensors.cautions import design_cautions

CAMERA = System(q=0.55 * 8 / 3.76, detector=1.0)
SENTINEL = System(covariance=((0.53777**2, 0.0), (0.0, 0.53777**2)))


def ramp_error(kernel):
    """How far a ramp moves, HR px: the worst of both axes, away from the border."""
    scale = kernel.scale
    side = (3 * kernel.size // scale + 12) * scale
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    worst = 0.0
    for ramp in (y, x):
        lr = degrade(ramp[None, None], kernel.tensor(ramp), scale)[0, 0]
        expected = degrade(ramp[None, None], box(scale).tensor(ramp), scale)[0, 0]
        margin = kernel.size // scale + 2
        worst = max(worst, float((lr - expected)[margin:-margin, margin:-margin].abs().max()))
    return worst


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_gaussian_has_its_closed_forms(scale):
    sigma = 0.53777
    assert design(SENTINEL, scale, model="psf").kernel.sigmas[0] == pytest.approx(scale * sigma, rel=2e-3)
    ratio = design(SENTINEL, scale, model="ratio").kernel.sigmas[0]
    assert ratio == pytest.approx(scale * sigma * np.sqrt(1 - 1 / scale**2), rel=4e-3)


def test_the_published_widths_of_sentinel_2():
    # ecosystem figures of B4: ×2 1.076 and 0.931, ×4 2.151 and 2.083 HR px.
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


@settings(max_examples=25, deadline=None)
@given(
    length=st.floats(0.3, 12),
    angle=st.floats(0, 180),
    scale=st.integers(2, 4),
    is_motion=st.booleans(),
    detector=st.booleans(),
)
def test_every_shape_is_centred_and_as_wide_as_it_says(length, angle, scale, is_motion, detector):
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
def test_an_absurd_shape_is_refused(make, value):
    with pytest.raises(KernelError, match=r"positive number of HR pixels|up to 255 px a side"):
        make(value)


def test_the_same_specification_gives_the_same_bytes():
    assert kernel_bytes(design(CAMERA, 2).kernel, ".npz") == kernel_bytes(design(CAMERA, 2).kernel, ".npz")


def test_a_size_that_is_too_small_is_said_with_what_it_loses():
    small = design(CAMERA, 2, model="psf", size=6)
    large = design(CAMERA, 2, model="psf", size=60)
    assert small.kernel.size == 6
    assert small.energy_lost > 0.1 > 0.02 > large.energy_lost
    assert any("cuts off" in note for note in design_cautions(CAMERA, small))
    gaussian_cut = design(SENTINEL, 2, size=4)
    assert gaussian_cut.energy_lost > 0.04


def test_sampling_beyond_the_optics_is_warned_of():
    oversampled = System(q=2.885, detector=1.0)
    assert any("can only deconvolve" in note for note in design_cautions(oversampled, design(oversampled, 2)))
    blurred = System(covariance=((1.5, 0.0), (0.0, 1.5)))
    assert any("hardly anything aliases" in note for note in design_cautions(blurred, design(blurred, 2)))
    sharp = System(covariance=((0.04, 0.0), (0.0, 0.04)))
    assert any("more than bicubic" in note for note in design_cautions(sharp, design(sharp, 2)))
    assert design_cautions(CAMERA, design(CAMERA, 2)) == ()


def test_absurd_requests_are_refused():
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


def test_a_curve_is_what_it_was_made_from():
    f = np.linspace(0.02, 0.5, 25)
    sigma = 0.5
    values = tuple(np.exp(-2 * np.pi**2 * sigma**2 * f**2))
    system = System(curve=Curve(frequencies=tuple(f), along_x=values, along_y=values))
    assert system.nyquist() == pytest.approx((values[-1], values[-1]))
    assert design(system, 2, model="psf").kernel.sigmas[0] == pytest.approx(2 * sigma, rel=0.05)


@pytest.mark.parametrize(
    ("f", "v", "words"),
    [
        ((0.1,), (0.5,), "two rows or more"),
        ((0.2, 0.1), (0.5, 0.4), "grow from row to row"),
        ((0.1, 0.2), (90.0, 50.0), "divide percents by 100"),
        ((0.1, 0.2), (1.0, 1.0), "fall below 1"),
    ],
)
def test_what_is_no_curve_is_refused(f, v, words):
    with pytest.raises(ConfigError, match=words):
        Curve(frequencies=f, along_x=v, along_y=v)
