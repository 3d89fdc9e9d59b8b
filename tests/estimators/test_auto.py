"""The estimator "auto": what kind of kernel a photograph shows."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from blindsr.estimators import auto
from blindsr.estimators.auto import DIRECTIONS, AutomaticEstimator, along, edge_widths, normalised_sparsity
from blindsr.events import Notice, ignore
from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.analytic import defocus
from blindsr.ops import degrade


def choose_kernel(image, scale=2, *, listener=ignore):
    return AutomaticEstimator().estimate(image, scale, listener=listener)


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    monkeypatch.setattr(auto, "choose_dtype", lambda *_: torch.float32)


def lr(kernel, part=np.s_[20:404, 60:508]):
    photograph = torch.from_numpy(data.camera()[part].copy())[None, None].float() / 255
    return (degrade(photograph, kernel.tensor(), kernel.scale) * 255).round() / 255


def likeness(first, second):
    size = max(first.size, second.size)
    a, b = (np.pad(kernel.array, (size - kernel.size) // 2) for kernel in (first, second))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.slow
def test_a_gaussian_blur_stays_the_spectral_estimate():
    truth = gaussian([[3.2, 0.9], [0.9, 1.9]], 2)
    heard = []
    estimate = choose_kernel(lr(truth), listener=heard.append)
    assert estimate.method == "spectral"
    assert estimate.warnings == ()
    assert not [event for event in heard if isinstance(event, Notice)]
    assert likeness(estimate.kernel, truth) > 0.95
    assert 0.9 < estimate.metrics["split_half_ncc"] <= 1
    assert 0 <= estimate.metrics["split_half_difference"] < 0.3


@pytest.mark.slow
def test_a_picture_made_small_on_a_computer_gets_the_bicubic_kernel():
    estimate = choose_kernel(lr(bicubic(2)))
    assert estimate.kernel.digest == bicubic(2).digest
    assert "bicubic" in estimate.warnings[0]


@pytest.mark.slow
def test_defocus_gets_a_disc():
    estimate = choose_kernel(lr(defocus(6.0, 2)))
    assert estimate.metrics["disc_radius_lr"] == pytest.approx(1.5, rel=0.1)
    assert likeness(estimate.kernel, defocus(6.0, 2)) > 0.98


def test_a_blur_that_nothing_explains_falls_back_to_the_safe_kernel(monkeypatch):
    monkeypatch.setattr(auto, "_spectrum_missed_the_blur", lambda *_: True)
    monkeypatch.setattr(auto, "_free_form", lambda *_: None)
    estimate = choose_kernel(lr(gaussian(2.4, 2), np.s_[60:260, 120:340]))
    assert estimate.kernel.digest == bicubic(2).digest
    assert "safe" in estimate.warnings[0]


def test_flat_and_tiny_images_have_a_kernel():
    flat = choose_kernel(torch.full((1, 1, 40, 50), 0.5))
    assert "flat" in flat.warnings[0]
    tiny = torch.rand(1, 1, 17, 30, generator=torch.Generator().manual_seed(1))
    assert choose_kernel(tiny, 4).kernel.scale == 4


def test_images_that_tell_no_blur_say_so_and_get_the_safe_kernel():
    noise = (0.5 + 0.15 * torch.randn(1, 1, 120, 140, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    gradient = (torch.linspace(0.2, 0.8, 140).expand(1, 1, 120, 140) * 255).round() / 255
    tiny = lr(gaussian(2.0, 2), np.s_[60:108, 120:168])
    for image, word in ((noise, "noise"), (gradient, "texture"), (tiny, "24 px is too short")):
        heard = []
        estimate = choose_kernel(image, listener=heard.append)
        assert estimate.kernel.digest == bicubic(2).digest
        assert estimate.kernel.provenance["in_place_of"]["made_by"] == "spectral"
        assert word in estimate.warnings[0]
        assert "safe" in estimate.warnings[0]
        assert [event.message for event in heard if isinstance(event, Notice)] == list(estimate.warnings)


def test_halves_that_disagree_get_the_safe_kernel(monkeypatch):
    monkeypatch.setattr(auto, "_DISAGREEMENT", -1.0)
    monkeypatch.setattr(auto, "_DISAGREEMENT_IN_NOISE", -1.0)
    monkeypatch.setattr(auto, "_spectrum_missed_the_blur", lambda *_: False)
    estimate = choose_kernel(lr(gaussian(2.4, 2), np.s_[60:260, 120:340]))
    assert estimate.kernel.digest == bicubic(2).digest
    assert "halves" in estimate.warnings[0]


def test_the_input_is_left_alone_and_the_same_image_gives_the_same_kernel():
    image = lr(gaussian(2.0, 2), np.s_[60:260, 120:340])
    before = image.clone()
    first, second = (choose_kernel(image).kernel.digest for _ in range(2))
    assert first == second
    assert torch.equal(image, before)


def camera():
    return torch.from_numpy(data.camera()[60:260, 120:340].copy())[None, None].float() / 255


def test_the_true_kernel_leads_to_a_sparser_prediction_than_narrower_and_wider_ones():
    kernel = gaussian([[2.6, 0.6], [0.6, 1.8]], 2)
    lr = degrade(camera(), kernel.tensor(), 2)
    narrow, true, wide = normalised_sparsity(lr, [auto._narrowed(kernel, 0.6), kernel, auto._narrowed(kernel, 1.6)])
    assert true < narrow
    assert true < wide


def test_a_kernel_that_is_far_too_wide_rings():
    lr = degrade(camera(), gaussian(0.5, 2).tensor(), 2)
    right, wide = normalised_sparsity(lr, [gaussian(0.5, 2), gaussian(3.0, 2)])
    assert right < 0.95 * wide


def test_colour_is_judged_by_its_luma_and_the_input_is_left_alone():
    gray = degrade(camera(), gaussian(0.8, 2).tensor(), 2)
    before = gray.clone()
    one, three = (normalised_sparsity(image, [gaussian(1.8, 2)])[0] for image in (gray, gray.repeat(1, 3, 1, 1)))
    assert one == pytest.approx(three, rel=1e-4)
    assert torch.equal(gray, before)


def test_a_narrowed_kernel_has_the_share_of_the_width():
    kernel = gaussian([[2.6, 0.6], [0.6, 1.8]], 2)
    assert np.allclose(auto._narrowed(kernel, 0.7).covariance, 0.49 * kernel.covariance, atol=0.03)


def squares(sigma):
    """A chequerboard of large squares, turned a little so that the edges pass between the pixels, blurred by σ."""
    y, x = np.indices((960, 960)) / 4
    turned = np.floor((x * 0.98 + y * 0.2) / 40) + np.floor((y * 0.98 - x * 0.2) / 40)
    fine = ndimage.gaussian_filter(0.2 + 0.6 * (turned % 2), 4 * sigma)
    return torch.from_numpy(fine.reshape(240, 4, 240, 4).mean((1, 3)))[None, None]


@pytest.mark.parametrize("sigma", [0.6, 0.9, 1.3])
def test_the_width_of_ideal_edges_is_that_of_the_blur(sigma):
    across, _, down, _ = edge_widths(squares(sigma))[1, 1]
    # The mean over a pixel adds 1/12 to the variance.
    for width in (across, down):
        assert width == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=0.12)


def test_contrast_and_sign_do_not_matter():
    image = squares(0.8)
    assert np.allclose(edge_widths(image)[1], edge_widths(1 - image)[1], rtol=1e-6)
    assert np.allclose(edge_widths(image)[0], edge_widths(0.5 * image)[0], rtol=0.1)


def test_turning_the_image_turns_the_directions():
    image = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    widths, turned = edge_widths(image), edge_widths(image.rot90(1, (2, 3)))
    assert np.allclose(turned[..., [2, 3, 0, 1]], widths, atol=0.02)


def test_variances_along_the_directions():
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    variances = along(covariance)
    assert variances == pytest.approx([1.0, 2.0, 2.0, 1.0])
    assert len(variances) == len(DIRECTIONS)


def test_a_flat_image_has_widths_too():
    assert np.isfinite(edge_widths(torch.full((1, 3, 40, 40), 0.5))).all()
