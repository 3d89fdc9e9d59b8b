"""The estimator "auto": the learned posterior, and a free-form kernel where both agree."""

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.errors import ConfigError, ImageError
from blindsr.estimators import auto
from blindsr.estimators.auto import AutomaticEstimator
from blindsr.estimators.learned import LearnedConfig, estimate_kernel
from blindsr.estimators.learned.estimator import posterior_of
from blindsr.events import Notice, StageDone, StageStarted
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
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
    assert "free_form_weight" not in estimate.metrics
    assert [type(event) for event in heard] == [StageStarted, StageDone]
    assert torch.equal(image, before)
    assert choose_kernel(image).kernel.digest == estimate.kernel.digest


def shake():
    """A bent path of 12 HR pixels."""
    return Kernel(motion(12, 30, 2).array, 2)


@pytest.fixture
def shaken(monkeypatch):
    """A photograph with motion blur, taken for shake for certain; returns it and a function that sets the free form."""
    image = lr(shake())
    posterior = posterior_of(image, 2, LearnedConfig())
    certain = type(posterior)(posterior.transfer, posterior.variance, np.array([0, 0, 0, 1.0]), posterior.metrics)
    monkeypatch.setattr(auto, "posterior_of", lambda *_: certain)

    def with_free_form(kernel):
        found = KernelEstimate(kernel=kernel, method="l0")
        monkeypatch.setattr(auto.blind_l0, "estimate_kernel", lambda *_, **__: found)
        return choose_kernel(image), certain

    return with_free_form


def test_a_free_form_kernel_that_agrees_is_averaged_with_the_learned_one(shaken):
    estimate, posterior = shaken(shake())
    learned = auto.estimate_of(posterior, 2, LearnedConfig())
    distance, weight = (estimate.metrics[f"free_form_{name}"] for name in ("distance", "weight"))
    assert distance == pytest.approx(posterior.distance(shake()))
    assert weight == pytest.approx(0.75 * np.clip((0.32 - distance) / 0.08, 0, 1))
    assert weight > 0.2
    assert ncc(estimate.kernel, shake()) > ncc(learned.kernel, shake())
    assert estimate.kernel_error == estimate.metrics["kernel_error"] != learned.kernel_error
    assert estimate.kernel.provenance["kernel_error"] == pytest.approx(estimate.kernel_error, abs=1e-4)


def test_a_free_form_kernel_that_disagrees_is_left_out(shaken):
    estimate, posterior = shaken(Kernel(np.pad(np.ones((2, 2)) / 4, 11), 2))
    learned = auto.estimate_of(posterior, 2, LearnedConfig())
    assert estimate.metrics["free_form_weight"] == 0
    assert estimate.kernel.digest == learned.kernel.digest
    assert estimate.kernel_error == learned.kernel_error


def test_an_image_too_small_for_a_free_form_kernel_gets_the_learned_one(monkeypatch):
    monkeypatch.setattr(auto, "_SHAKE_PROBABILITY", -1.0)
    monkeypatch.setattr(auto.blind_l0, "estimate_kernel", lambda *_, **__: pytest.fail("too small"))
    assert "free_form_weight" not in choose_kernel(lr(shake(), np.s_[60:180, 120:244])).metrics


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
    with pytest.raises(ConfigError, match="got 5"):
        choose_kernel(torch.rand(1, 1, 40, 60), 5)
