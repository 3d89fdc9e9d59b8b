"""The estimator "auto": the learned posterior, and free-form kernels where all agree."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.errors import ConfigError, ImageError
from blindsr.estimators import auto
from blindsr.estimators.auto import AutomaticEstimator
from blindsr.estimators.learned import LearnedConfig, estimate_kernel
from blindsr.estimators.learned.estimator import posterior_of, transfer_distance, transfer_of
from blindsr.events import Notice, StageDone, StageStarted
from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.kernels.analytic import motion
from blindsr.kernels.metrics import normalised_cross_correlation as ncc
from blindsr.ops import degrade


def lr(kernel, part=np.s_[20:404, 60:508]):
    photograph = torch.from_numpy(data.camera()[part].copy())[None, None].float() / 255
    return (degrade(photograph, kernel.tensor(), kernel.scale) * 255).round() / 255


def choose_kernel(image, scale=2, **options):
    return AutomaticEstimator().estimate(image, scale, **options)


def test_without_shake_it_is_the_learned_estimate():
    image = lr(gaussian([[3.2, 0.9], [0.9, 1.9]], 2))
    before, heard = image.clone(), []
    estimate = choose_kernel(image, listener=heard.append)
    assert estimate.method == "auto"
    assert estimate.kernel.digest == estimate_kernel(image, 2).kernel.digest
    assert estimate.kernel.provenance["made_by"] == "auto"
    assert "shake_share" not in estimate.metrics
    assert [type(event) for event in heard] == [StageStarted, StageDone]
    assert torch.equal(image, before)
    assert choose_kernel(image).kernel.digest == estimate.kernel.digest


def shake():
    """A bent path of 12 HR pixels."""
    return Kernel(motion(12, 30, 2).array, 2)


OTHER = Kernel(np.pad(np.ones((2, 2)) / 4, 11), 2)


@cache
def shaken_photograph():
    image = lr(shake())
    return image, replace(posterior_of(image, 2, LearnedConfig()), kinds=np.array([0, 0, 0, 1.0]), shape=None)


@cache
def shaken_path():
    return auto._path_of(*shaken_photograph())


@pytest.fixture
def shaken(monkeypatch):
    """A photograph with motion blur, taken for shake for certain, and a function that sets the free forms."""
    image, certain = shaken_photograph()
    path = shaken_path()
    monkeypatch.setattr(auto, "posterior_of", lambda *_: certain)
    monkeypatch.setattr(auto, "_path_of", lambda *_: path)

    def with_free_forms(*kernels):
        monkeypatch.setattr(auto.blind_l0, "independent_kernels", lambda *_, **__: kernels)
        return choose_kernel(image), certain

    return with_free_forms


@pytest.fixture
def no_path(shaken, monkeypatch):
    monkeypatch.setattr(auto, "_path_of", lambda *_: None)


def test_the_kernel_of_a_shake_is_found_and_explains_the_spectrum():
    bent = shake_kernel()
    estimate = choose_kernel(lr(bent))
    learned = estimate_kernel(lr(bent), 2)
    errors = [transfer_distance(transfer_of(kernel), transfer_of(bent)) for kernel in (estimate.kernel, learned.kernel)]
    assert estimate.metrics["shake_share"] == 1
    assert estimate.metrics["shake_residual"] < 0.85
    assert errors[0] < min(0.06, 0.7 * errors[1])
    assert estimate.kernel_error == estimate.metrics["kernel_error"]
    assert 0.035 < estimate.kernel_error < 0.08


def shake_kernel():
    """A path of 9 LR pixels with a bend, which is not symmetric about its centre."""
    time = np.linspace(-1, 1, 801)
    y, x = 7 * time + 2.5 * time**3, 5 * time**2
    c = np.arange(36) - 17.5
    y, x = y - y.mean(), x - x.mean()
    spots = np.exp(-0.5 * ((c[:, None] - y) ** 2) / 0.7**2) @ np.exp(-0.5 * ((c[:, None] - x) ** 2) / 0.7**2).T
    return Kernel.normalised(spots, 2)


def test_a_path_is_told_from_its_reflection():
    """The test above has the path itself; its posterior mean is as near to the one as to the other."""
    kernel = Kernel(shake_kernel().array[::-1, ::-1], 2)
    image = lr(kernel)
    transfer, _ = auto._path_of(image, posterior_of(image, 2, LearnedConfig()))
    right, wrong = (transfer_distance(plane, transfer_of(kernel)) for plane in (transfer, transfer.conj()))
    assert right < 0.15
    assert right < wrong


def test_wrong_free_forms_are_left_out_where_the_path_explains_the_spectrum(shaken):
    estimate, _ = shaken(OTHER, OTHER, OTHER)
    assert estimate.metrics["shake_share"] > 0.8
    assert ncc(estimate.kernel, shake()) > 0.97


def test_free_forms_that_explain_the_spectrum_are_taken_even_if_no_other_agrees(shaken):
    estimate, _ = shaken(OTHER, shake(), OTHER)
    assert estimate.metrics["shake_share"] > 0.8
    assert ncc(estimate.kernel, shake()) > 0.97


def test_free_forms_that_agree_are_not_overruled_by_another_candidate(shaken):
    """They are half as long as the motion, so that the path explains the spectrum better."""
    short = Kernel(motion(8, 30, 2).array, 2)
    estimate, posterior = shaken(short, short, shake())
    agreed = auto._agreed(transfer_of(short), transfer_of(short), posterior)
    assert agreed.share > 0.5
    assert transfer_distance(transfer_of(short), transfer_of(shake())) > 0.18
    assert ncc(estimate.kernel, short) > 0.99


@pytest.mark.usefixtures("no_path")
def test_free_form_kernels_that_agree_with_each_other_and_the_posterior_are_used(shaken):
    estimate, posterior = shaken(shake(), shake())
    learned = auto.estimate_of(posterior, 2, LearnedConfig())
    distance = estimate.metrics["shake_distance"]
    assert distance == pytest.approx(transfer_distance(transfer_of(shake()), posterior.transfer))
    assert distance < 0.3
    assert estimate.metrics["shake_share"] == 1
    assert "shake_residual" not in estimate.metrics
    assert ncc(estimate.kernel, shake()) > 0.99 > ncc(learned.kernel, shake())
    assert estimate.kernel_error == pytest.approx(0.06 + 0.1 * distance)
    assert estimate.kernel_error == estimate.metrics["kernel_error"] < learned.kernel_error
    assert estimate.kernel.provenance["kernel_error"] == pytest.approx(estimate.kernel_error, abs=1e-4)


@pytest.mark.usefixtures("no_path")
def test_free_form_kernels_that_nearly_agree_are_averaged_with_the_posterior(shaken):
    near = Kernel(motion(12, 42, 2).array, 2)
    estimate, posterior = shaken(shake(), near)
    mean = (transfer_of(shake()) + transfer_of(near)) / 2
    share = (0.2 - transfer_distance(transfer_of(shake()), transfer_of(near))) / 0.08
    assert estimate.metrics["shake_share"] == pytest.approx(share)
    assert 0 < share < 1
    expected = posterior.mixed(mean, share).kernel
    assert ncc(estimate.kernel, expected) > 0.9999


@pytest.mark.usefixtures("no_path")
@pytest.mark.parametrize("kernels", [(OTHER, OTHER), (shake(), OTHER)])
def test_free_form_kernels_that_disagree_with_each_other_or_the_posterior_are_left_out(shaken, kernels):
    estimate, posterior = shaken(*kernels)
    learned = auto.estimate_of(posterior, 2, LearnedConfig())
    assert estimate.metrics["shake_share"] == 0
    assert estimate.kernel.digest == learned.kernel.digest
    assert estimate.kernel_error == learned.kernel_error


def test_an_image_too_small_for_a_free_form_kernel_gets_the_learned_one(monkeypatch):
    monkeypatch.setattr(auto, "_SHAKE_PROBABILITY", -1.0)
    monkeypatch.setattr(auto.blind_l0, "independent_kernels", lambda *_, **__: pytest.fail("too small"))
    assert "shake_share" not in choose_kernel(lr(shake(), np.s_[60:180, 120:244])).metrics


def test_a_flat_image_gets_the_bicubic_kernel_and_a_warning():
    heard = []
    estimate = choose_kernel(torch.full((1, 1, 40, 50), 0.5), listener=heard.append)
    assert np.array_equal(estimate.kernel.array, bicubic(2).array)
    assert estimate.kernel.provenance["in_place_of"] == {"made_by": "learned"}
    assert "flat" in estimate.warnings[0]
    assert [event.message for event in heard if isinstance(event, Notice)] == list(estimate.warnings)


def test_unfit_images_and_scales_are_refused():
    with pytest.raises(ImageError, match="32×32"):
        choose_kernel(torch.rand(1, 1, 31, 60))
    with pytest.raises(ConfigError, match="got ×5"):
        choose_kernel(torch.rand(1, 1, 40, 60), 5)
