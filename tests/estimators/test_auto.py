"""The estimator "auto": the learned posterior, and for a shake the kernel that a network makes of several."""

from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
import torch
from kernel_helpers import estimating
from skimage import data

from blindsr.errors import ConfigError, ImageError
from blindsr.estimators import auto
from blindsr.estimators.auto import AutoConfig, AutomaticEstimator
from blindsr.estimators.blind_l0 import L0Config
from blindsr.estimators.learned import LearnedConfig, LearnedEstimator
from blindsr.estimators.learned.estimator import posterior_of
from blindsr.estimators.learned.transfers import transfer_distance, transfer_of
from blindsr.events import Notice, StageDone, StageStarted
from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.ops import degrade

estimate_kernel = estimating(LearnedEstimator)


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
    assert estimate.settings == asdict(AutoConfig())
    assert "shake_share" not in estimate.metrics
    assert [type(event) for event in heard] == [StageStarted, StageDone]
    assert torch.equal(image, before)
    assert choose_kernel(image).kernel.digest == estimate.kernel.digest


def shake_kernel():
    """A path of 9 LR pixels with a bend, which is not symmetric about its centre."""
    time = np.linspace(-1, 1, 801)
    y, x = 7 * time + 2.5 * time**3, 5 * time**2
    c = np.arange(36) - 17.5
    y, x = y - y.mean(), x - x.mean()
    spots = np.exp(-0.5 * ((c[:, None] - y) ** 2) / 0.7**2) @ np.exp(-0.5 * ((c[:, None] - x) ** 2) / 0.7**2).T
    return Kernel.normalised(spots, 2)


@cache
def shaken_photograph():
    image = lr(shake_kernel())
    return image, posterior_of(image, 2, LearnedConfig())


@cache
def shaken_evidence():
    return auto.evidence_of(*shaken_photograph(), L0Config())


def distance_of(kernel, truth):
    return transfer_distance(transfer_of(kernel), transfer_of(truth))


def test_the_kernel_of_a_shake_is_found():
    image, _ = shaken_photograph()
    before = image.clone()
    estimate, learned = choose_kernel(image), estimate_kernel(image, 2)
    error = distance_of(estimate.kernel, shake_kernel())
    assert estimate.metrics["shake_share"] == 1
    assert error < min(0.06, 0.7 * distance_of(learned.kernel, shake_kernel()))
    assert error / 2 < estimate.metrics["shake_error"] < 3 * error
    assert estimate.kernel_error == estimate.metrics["kernel_error"]
    assert estimate.kernel.provenance["kernel_error"] == pytest.approx(estimate.kernel_error, abs=1e-4)
    assert torch.equal(image, before)


def test_a_path_is_told_from_its_reflection():
    kernel = Kernel(shake_kernel().array[::-1, ::-1], 2)
    image = lr(kernel)
    evidence = auto.evidence_of(image, posterior_of(image, 2, LearnedConfig()), L0Config())
    right, wrong = (transfer_distance(plane, transfer_of(kernel)) for plane in (evidence.path, evidence.path.conj()))
    assert right < 0.15
    assert right < wrong
    learned = estimate_kernel(image, 2)
    assert distance_of(choose_kernel(image).kernel, kernel) < min(0.1, 0.7 * distance_of(learned.kernel, kernel))


@pytest.mark.parametrize(
    ("probability", "error", "share"),
    [(1.0, 0.1, 1.0), (1.0, 0.21, 0.5), (1.0, 0.3, 0.0), (0.5, 0.105, 0.5), (0.35, 0.03, 0.5), (0.3, 0.0, None)],
)
def test_the_share_of_what_was_made_for_a_shake(monkeypatch, probability, error, share):
    image, posterior = shaken_photograph()
    posterior = replace(posterior, kinds=np.array([0, 1 - probability, 0, probability]))
    evidence = replace(shaken_evidence(), posterior=posterior)
    monkeypatch.setattr(auto, "posterior_of", lambda *_: posterior)
    monkeypatch.setattr(auto, "evidence_of", lambda *_: evidence)
    monkeypatch.setattr(auto, "shake_kernel", lambda _: (transfer_of(shake_kernel()), error))
    monkeypatch.setattr(auto, "_MAX_PROVEN", 0.0)
    estimate = choose_kernel(image)
    learned = auto.estimate_of(posterior, 2, LearnedConfig())
    if share is None:
        assert "shake_share" not in estimate.metrics
    else:
        assert estimate.metrics["shake_share"] == pytest.approx(share)
    if not share:
        assert estimate.kernel.array == pytest.approx(learned.kernel.array)
        assert estimate.kernel_error == pytest.approx(learned.kernel_error)
    else:
        assert distance_of(estimate.kernel, shake_kernel()) < distance_of(learned.kernel, shake_kernel())
    if share == 1:
        assert distance_of(estimate.kernel, shake_kernel()) < 0.03
        assert estimate.kernel_error == pytest.approx(error)


def test_a_candidate_that_explains_the_spectrum_is_averaged_with_what_is_like_it(monkeypatch):
    evidence = shaken_evidence()
    certain = replace(evidence.posterior, kinds=np.array([0, 0, 0, 1.0]))
    truth = transfer_of(shake_kernel())
    wrong = transfer_of(gaussian(9.0, 2))
    for free, proven in (((truth, wrong, wrong), 0.5), ((wrong, wrong, wrong), 0.0)):
        found = replace(evidence, posterior=certain, free=free, path=wrong, residuals=(0.5, 1.1, 1.1, 1.1, 1.1))
        monkeypatch.setattr(auto, "shake_kernel", lambda _: (truth, 0.05))
        estimate = auto._with_shake(found, LearnedConfig())
        assert estimate.metrics["shake_proven_share"] == pytest.approx(proven)
        assert distance_of(estimate.kernel, shake_kernel()) < 0.03
    unexplained = replace(found, free=(truth, wrong, wrong), residuals=(1.0, 1.1, 1.1, 1.1, 1.1))
    assert auto._with_shake(unexplained, LearnedConfig()).metrics["shake_proven_share"] == 0


def test_an_image_too_small_for_a_free_form_kernel_gets_the_learned_one(monkeypatch):
    monkeypatch.setattr(auto, "_SHAKE_PROBABILITIES", (-1.0, -0.5))
    monkeypatch.setattr(auto, "independent_kernels", lambda *_, **__: pytest.fail("too small"))
    assert "shake_share" not in choose_kernel(lr(shake_kernel(), np.s_[60:180, 120:244])).metrics


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
