"""The estimator "auto": what kind of kernel a photograph shows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.events import Notice, ignore
from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.shapes import defocus
from blindsr.ops import degrade
from blindsr.pipelines import auto
from blindsr.pipelines.auto import choose_kernel
from blindsr.pipelines.settings import preset

FAST = preset("fast")
FAST = replace(FAST, zssr=replace(FAST.zssr, precision="fp32"))


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
    estimate = choose_kernel(lr(truth), FAST, listener=heard.append)
    assert estimate.method == "spectral"
    assert estimate.notes == ()
    assert not [event for event in heard if isinstance(event, Notice)]
    assert likeness(estimate.kernel, truth) > 0.95
    assert 0.9 < estimate.figures["halves_ncc"] <= 1
    assert 0 <= estimate.figures["halves_spread"] < 0.3


@pytest.mark.slow
def test_a_picture_made_small_on_a_computer_gets_the_bicubic_kernel():
    estimate = choose_kernel(lr(bicubic(2)), FAST, listener=ignore)
    assert estimate.kernel.digest == bicubic(2).digest
    assert "bicubic" in estimate.notes[0]


@pytest.mark.slow
def test_defocus_gets_a_disc():
    estimate = choose_kernel(lr(defocus(6.0, 2)), FAST, listener=ignore)
    assert estimate.figures["disc_radius_lr"] == pytest.approx(1.5, rel=0.1)
    assert likeness(estimate.kernel, defocus(6.0, 2)) > 0.98


def test_a_blur_that_nothing_explains_falls_back_to_the_safe_kernel(monkeypatch):
    monkeypatch.setattr(auto, "_spectrum_missed_the_blur", lambda *_: True)
    monkeypatch.setattr(auto, "_free_form", lambda *_: None)
    estimate = choose_kernel(lr(gaussian(2.4, 2), np.s_[60:260, 120:340]), FAST, listener=ignore)
    assert estimate.kernel.digest == bicubic(2).digest
    assert "safe" in estimate.notes[0]


def test_flat_and_tiny_images_have_a_kernel():
    flat = choose_kernel(torch.full((1, 1, 40, 50), 0.5), FAST, listener=ignore)
    assert "flat" in flat.notes[0]
    tiny = torch.rand(1, 1, 17, 30, generator=torch.Generator().manual_seed(1))
    assert choose_kernel(tiny, replace(FAST, scale=4.0), listener=ignore).kernel.scale == 4


def test_images_that_tell_no_blur_say_so_and_get_the_safe_kernel():
    noise = (0.5 + 0.15 * torch.randn(1, 1, 120, 140, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    gradient = (torch.linspace(0.2, 0.8, 140).expand(1, 1, 120, 140) * 255).round() / 255
    tiny = lr(gaussian(2.0, 2), np.s_[60:108, 120:168])
    for image, word in ((noise, "noise"), (gradient, "texture"), (tiny, "24 px is too short")):
        heard = []
        estimate = choose_kernel(image, FAST, listener=heard.append)
        assert estimate.kernel.digest == bicubic(2).digest
        assert estimate.kernel.provenance["in_place_of"]["made_by"] == "spectral"
        assert word in estimate.notes[0]
        assert "safe" in estimate.notes[0]
        assert [event.message for event in heard if isinstance(event, Notice)] == list(estimate.notes)


def test_halves_that_disagree_get_the_safe_kernel(monkeypatch):
    monkeypatch.setattr(auto, "_DISAGREEMENT", -1.0)
    monkeypatch.setattr(auto, "_DISAGREEMENT_IN_NOISE", -1.0)
    monkeypatch.setattr(auto, "_spectrum_missed_the_blur", lambda *_: False)
    estimate = choose_kernel(lr(gaussian(2.4, 2), np.s_[60:260, 120:340]), FAST, listener=ignore)
    assert estimate.kernel.digest == bicubic(2).digest
    assert "halves" in estimate.notes[0]


def test_the_input_is_left_alone_and_the_same_image_gives_the_same_kernel():
    image = lr(gaussian(2.0, 2), np.s_[60:260, 120:340])
    before = image.clone()
    first, second = (choose_kernel(image, FAST, listener=ignore).kernel.digest for _ in range(2))
    assert first == second
    assert torch.equal(image, before)
