"""DKP with small networks and few rounds, and the place of a method that estimates its own kernel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_similarity

from blindsr.errors import ConfigError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.kernel import KernelStack
from blindsr.ops import degrade
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.checks import find_shift
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.deep_prior import DKPConfig, DKPUpscaler
from blindsr.upscalers.deep_prior.dkp import kernel_side, random_kernels, sample_weights
from blindsr.upscalers.deep_prior.image_prior import structural_similarity
from tests.images import photograph
from tests.upscalers.test_deep_prior import shapes

SMALL = DKPConfig(
    steps=60, structural_rounds=5, warm_up=40, channels=8, skip_channels=8, kernel_rate=1e-3, precision="fp32"
)
TINY = replace(SMALL, steps=4, steps_per_round=2, warm_up=2, channels=4, skip_channels=2, report_every=1)


def fitted(lr, config, scale=2, **listening):
    return DKPUpscaler(config).fit(TensorSource(lr), Degradation(kernel=bicubic(scale)), **listening)


def test_the_loss_falls_and_the_kernel_turns_to_the_truth_and_image_and_kernel_are_displaced_together():
    hr, kernel = shapes(), gaussian([[5.0, 1.5], [1.5, 3.0]], 2)
    lr = degrade(hr, kernel.tensor(), 2)
    model = fitted(lr, SMALL)
    losses = model.history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    sr = model.predict(lr)
    # The kernel's centre of mass is free, as in the paper. So early they agree to 0.2 px.
    shift = np.array(find_shift(sr[0, 0].double().numpy(), hr[0, 0].double().numpy()))
    assert np.abs(shift - model.kernel.centroid).max() < 0.25
    # The samples have a mean covariance of 7.2 I: direction and width come from the image. Measured: 0.57; 6.11, 4.57.
    estimated = model.kernel.covariance
    assert estimated[0, 1] > 0.3
    assert estimated[1, 1] < estimated[0, 0] < 7


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_samples_follow_the_law(scale):
    kernels = random_kernels(np.random.default_rng(0), 20, scale)
    side = kernel_side(scale)
    assert (side - scale) % 2 == 0
    assert kernels.shape == (20, side, side)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(20))
    assert bool((kernels >= 0).all())
    torch.testing.assert_close(kernels, kernels.flip(1, 2), atol=1e-6, rtol=0)  # centred


def test_the_best_samples_have_the_largest_weights():
    weights = sample_weights(torch.tensor([0.02, 0.001, 0.01, 0.001]))
    assert weights.argmax() in (1, 3)
    assert weights[1] > weights[2] > weights[0]
    assert bool((sample_weights(torch.zeros(3)) > 0).all())


def test_the_structural_similarity_is_that_of_scikit_image():
    first, second = photograph(40, 44, bands=1), photograph(40, 44, top=101, bands=1)
    _, expected = skimage_similarity(
        *(image[0, 0].double().numpy() for image in (first, second)),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    ours = float(structural_similarity(first.double(), second.double()))
    assert ours == pytest.approx(expected[5:-5, 5:-5].mean(), abs=1e-4)
    assert float(structural_similarity(first, first)) == pytest.approx(1, abs=1e-5)


def test_the_same_seed_gives_the_same_bits_and_the_input_is_left_unchanged():
    lr = photograph(33, 36)
    before = lr.clone()
    first, second = (fitted(lr, TINY) for _ in range(2))
    assert torch.equal(first.predict(lr), second.predict(lr))
    assert np.array_equal(first.kernel.array, second.kernel.array)
    assert torch.equal(lr, before)
    assert not torch.equal(first.predict(lr), fitted(lr, replace(TINY, seed=1)).predict(lr))


def test_every_round_is_reported_and_a_listener_can_stop_the_run():
    lr, events = photograph(33, 36), []
    fitted(lr, TINY, listener=events.append)
    assert events[0] == StageStarted(stage="dkp", max_steps=2)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2]
    assert events[-1] == StageDone(stage="dkp", steps=2)

    def stop(event):
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(lr, TINY, listener=stop)


def test_a_run_takes_the_kernel_of_the_method_and_runs_no_estimator(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("the estimator must not run")

    monkeypatch.setattr(blind, "estimate_kernel", fail)
    settings = Settings(upscaler="dkp", configs={"dkp": TINY})
    result = blind.run(TensorSource(photograph(33, 36)), settings)
    assert result.image.shape == (1, 3, 66, 72)
    assert result.estimate.method == "dkp"
    assert result.kernel is result.degradation.kernel
    assert result.kernel.provenance["made_by"] == "dkp"
    assert "dkp.loss" in result.history
    known = blind.run(TensorSource(photograph(33, 36)), settings, kernel=gaussian(1.5, 2))
    assert torch.equal(known.image, result.image)
    assert any("given one is not used" in warning for warning in known.warnings)
    assert not any("not used" in warning for warning in result.warnings)
    with pytest.raises(ConfigError, match="one kernel for the whole image"):
        blind.run(TensorSource(photograph(33, 36)), settings, kernel=KernelStack((bicubic(2),) * 3, ("R", "G", "B")))


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("warm_up", -1), ("kernel_rate", 0.0)])
def test_settings_out_of_bounds_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"dkp.*{field}"):
        DKPConfig(**{field: value})
