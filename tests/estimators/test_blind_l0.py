"""The free-form estimator: shaken photographs with known kernels, and the two steps that alternate."""

import images
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_helpers import estimating
from scipy import ndimage

from blindsr.errors import ConfigError, ImageError
from blindsr.estimators.blind_l0 import (
    MIN_NCC,
    BlindL0Estimator,
    L0Config,
    _on_hr_grid,
    _on_lr_grid,
    independent_kernels,
    kernel_for,
    sharp_image,
    shifted_ncc,
)
from blindsr.kernels import Kernel, centre, gaussian, normalised_cross_correlation
from blindsr.ops import degrade

estimate_kernel = estimating(BlindL0Estimator)


def photograph():
    return images.photograph(384, 384, name="camera", top=20, left=100, bands=1)


def bent_path(side=22):
    """Camera shake: an arc, thick by a pixel."""
    angle = np.linspace(0, 2.2, 400)
    canvas = np.zeros((side, side))
    for t in angle:
        y, x = (side - 1) / 2 + 6 * np.sin(t) - 4, (side - 1) / 2 + 6 * np.cos(t)
        rows, columns = np.indices(canvas.shape)
        canvas += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 0.8**2))
    return Kernel.normalised(canvas, 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3))
def test_the_ncc_does_not_depend_on_a_shift(down, right):
    kernel = np.zeros((15, 15), np.float32)
    kernel[5:10, 6:8] = np.arange(1, 11).reshape(5, 2)
    assert shifted_ncc(kernel, np.roll(kernel, (down, right), (0, 1))) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_bent_path_is_estimated():
    truth = bent_path()
    lr = (degrade(photograph(), truth.tensor(), 2) * 255).round() / 255
    before = lr.clone()
    estimate = estimate_kernel(lr, 2, L0Config(side=13))
    assert torch.equal(lr, before)
    estimated = estimate.kernel
    size = max(truth.size, estimated.size)
    first, second = (np.pad(k.array, (size - k.size) // 2) for k in (truth, estimated))
    assert shifted_ncc(first, second) > 0.85
    assert estimated.array.min() >= 0
    assert np.allclose(estimated.centroid, 0, atol=0.1)
    assert estimate.metrics["split_half_ncc_lr"] > MIN_NCC
    assert estimate.metrics["proven_share"] == 1
    assert estimate.kernel_error == pytest.approx(0.1)
    again = estimate_kernel(lr, 2, L0Config(side=13))
    assert again.kernel.digest == estimated.digest


def test_bad_input_is_rejected():
    with pytest.raises(ImageError, match="64×64"):
        estimate_kernel(torch.rand(1, 1, 40, 100), 2)
    with pytest.raises(ImageError, match="one image"):
        estimate_kernel(torch.rand(2, 1, 100, 100), 2)
    with pytest.raises(ConfigError, match="odd"):
        L0Config(side=12)


@pytest.mark.parametrize(
    "bad",
    [
        {"side": 12},
        {"gradient_weight": 0.0},
        {"kernel_weight": -1.0},
        {"iterations": 0},
        {"window": 20},
        {"min_share": 1.0},
    ],
)
def test_settings_out_of_bounds_name_the_field(bad):
    with pytest.raises(ConfigError, match=f"l0.{next(iter(bad))} must"):
        L0Config(**bad)


def test_the_class_is_the_function_with_its_settings():
    config = L0Config(side=5, iterations=1, refinements=0, window=64)
    estimate = BlindL0Estimator(config).estimate(photograph()[..., :64, :64], 2)
    expected = estimate_kernel(photograph()[..., :64, :64], 2, config)
    assert estimate.kernel.digest == expected.kernel.digest
    assert BlindL0Estimator.config_type is L0Config


def test_halves_that_give_different_kernels_lead_to_a_warning():
    plane = photograph()[0, 0, :160, :160].numpy()
    top, bottom = ndimage.uniform_filter1d(plane[:80], 9, 1), ndimage.uniform_filter1d(plane[80:], 9, 0)
    lr = torch.from_numpy(np.concatenate([top, bottom]))[None, None]
    estimate = estimate_kernel(lr, 2, L0Config(side=11, iterations=2, refinements=0))
    assert estimate.metrics["split_half_ncc_lr"] < MIN_NCC
    assert "different kernels" in estimate.warnings[0]


@pytest.mark.parametrize("name", ["text", "brick", "page"])
@pytest.mark.parametrize("sigma", [0.9, 1.6])
def test_structure_of_the_image_is_no_shake(name, sigma):
    """A narrow Gaussian moves nothing, and its kernel may not either: its phase stays near zero in the LR band."""
    hr = images.photograph(256, 256, name=name, top=0, left=0, bands=1)
    lr = (degrade(hr, gaussian(sigma**2, 2).tensor(), 2) * 255).round() / 255
    estimate = estimate_kernel(lr, 2)
    frequencies = np.array([-0.1, 0, 0.1])  # cycles per HR pixel
    phases = np.angle(estimate.kernel.transfer_plane(frequencies))
    assert np.abs(phases).max() / (2 * np.pi * 0.1) < 0.25  # HR px
    assert estimate.kernel.sigmas[0] < 2 * sigma + 0.6
    share = estimate.metrics["proven_share"] + estimate.metrics["confirmed_share"]
    assert bool(estimate.warnings) == (share < 0.5 or estimate.metrics["split_half_ncc_lr"] < MIN_NCC)
    assert estimate.kernel_error == pytest.approx(0.1 * share + 0.2 * (1 - share))
    assert estimate.kernel.provenance["kernel_error"] == pytest.approx(estimate.kernel_error, abs=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_kernel_of_the_lr_grid_becomes_exactly_s_times_as_wide(scale):
    offsets = np.arange(17) - 8.0
    taps = np.exp(-0.5 * (offsets[:, None] ** 2 / 2.5 + offsets**2 / 4.0)).astype(np.float32)
    taps /= taps.sum()
    fine = _on_hr_grid(taps, scale)
    # Without the variance of edges at whole pixels; weights under a hundredth are cut off.
    np.testing.assert_allclose(np.diag(fine.covariance) / scale**2, [2.47, 3.97], rtol=0.06)
    np.testing.assert_allclose(_on_lr_grid(fine, 17), taps, atol=0.003)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_thin_path_of_a_shake_is_found_again_beyond_the_limit_of_the_lr_grid(scale):
    """The LR grid shows the transfer function up to half a cycle per pixel; a non-negative path has the rest."""
    path = bent_path().array
    truth = centre(Kernel.normalised(path if scale == 2 else ndimage.zoom(path, 1.5, order=1), scale))
    taps = _on_lr_grid(truth, 17)
    found = _on_hr_grid(taps, scale)
    # What a spline makes of the LR grid, as a comparison.
    spline = ndimage.zoom(
        np.pad(taps[::-1, ::-1], 1).astype(float), scale, order=3, grid_mode=True, mode="grid-constant"
    )
    padding = (spline.shape[0] - scale) % 2
    interpolated = centre(Kernel.normalised(np.pad(spline.clip(0), ((0, padding), (0, padding))), scale))
    ncc = normalised_cross_correlation
    assert ncc(found, truth) > max(0.98, ncc(interpolated, truth) + 0.01)


def test_two_starts_end_in_the_same_kernel_where_there_are_edges():
    truth = bent_path()
    lr = (degrade(photograph(), truth.tensor(), 2) * 255).round() / 255
    first, second = independent_kernels(lr, 2, [Kernel(ndimage.gaussian_filter(truth.array, 2.0), 2)])
    for kernel in (first, second):
        assert kernel.scale == 2
        assert normalised_cross_correlation(kernel, truth) > 0.9
    assert normalised_cross_correlation(first, second) > 0.95


def test_sharp_image_of_a_blurred_square_is_nearly_the_square():
    square = np.zeros((64, 64), np.float32)
    square[20:44, 16:40] = 0.8
    kernel = np.zeros((7, 7), np.float32)
    kernel[3, 1:6] = 0.2
    blurred = np.real(
        np.fft.ifft2(np.fft.fft2(square) * np.fft.fft2(np.roll(np.pad(kernel, (0, 57)), (-3, -3), (0, 1))))
    )
    sharp = sharp_image(blurred.astype(np.float32), kernel, 2e-3, 1e5)
    assert np.abs(sharp - square).mean() < 0.2 * np.abs(blurred - square).mean()


def test_a_constant_stays_constant():
    kernel = np.full((5, 5), 0.04, np.float32)
    assert np.allclose(sharp_image(np.full((32, 40), 0.3, np.float32), kernel, 2e-3, 1e5), 0.3, atol=1e-5)


def test_kernel_for_recovers_the_kernel_that_blurred_a_known_image():
    rng = np.random.default_rng(0)
    sharp = np.kron(rng.random((16, 16)), np.ones((8, 8))).astype(np.float32)
    kernel = np.zeros((9, 9), np.float32)
    kernel[2:7, 4] = 0.1
    kernel[6, 4:7] = (0.2, 0.2, 0.2)
    kernel /= kernel.sum()
    response = np.fft.fft2(np.roll(np.pad(kernel, (0, 119)), (-4, -4), (0, 1)))
    blurred = np.real(np.fft.ifft2(np.fft.fft2(sharp) * response)).astype(np.float32)
    assert shifted_ncc(kernel, kernel_for(sharp, blurred, 9, 0.01, 0.05)) > 0.98


def test_a_flat_image_gives_a_delta():
    flat = np.full((40, 40), 0.5, np.float32)
    kernel = kernel_for(flat, flat, 9, 2.0, 0.05)
    assert kernel[4, 4] == 1
    assert kernel.sum() == 1
