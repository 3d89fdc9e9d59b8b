"""The meta-training of MZSR with few and small steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.training.mzsr import MetaTrainingConfig, meta_train, random_kernel
from blindsr.errors import ConfigError
from blindsr.events import StageDone, StepDone
from blindsr.upscalers.mzsr.upscaler import MZSRNetwork, inner_steps
from tests.images import photograph

TINY = MetaTrainingConfig(
    first_steps=12,
    first_batch=1,
    first_side=24,
    first_rate=2e-3,
    warm_up=2,
    steps=2,
    patches=1,
    side=24,
    max_inner_steps=2,
    precision="fp32",
    report_every=4,
)
PHOTOGRAPH = photograph(60, 60, name="astronaut", top=40, left=160)[0]


def draw(rng, side):
    top, left = rng.integers(0, 60 - side + 1, 2)
    return PHOTOGRAPH[:, top : top + side, left : left + side]


def test_the_loss_falls_and_the_same_seed_gives_the_same_bits():
    events, kept = [], []
    first = meta_train(draw, TINY, keep=lambda weights, step: kept.append(step), listener=events.append)
    losses = [event.values["loss"] for event in events if isinstance(event, StepDone) and event.values]
    assert losses[2] < losses[0]
    assert [event.steps for event in events if isinstance(event, StageDone)] == [12, 2]
    assert kept == [4, 8, 12, 2]
    second = meta_train(draw, TINY)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = meta_train(draw, replace(TINY, seed=1, first_steps=1, steps=0))
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_stage_two_moves_a_given_start_and_leaves_it_unchanged():
    start = {name: value.detach().clone() for name, value in MZSRNetwork(torch.Generator()).named_parameters()}
    before = {name: value.clone() for name, value in start.items()}
    trained = meta_train(draw, replace(TINY, first_steps=0), start=start)
    assert all(torch.equal(start[name], before[name]) for name in start)
    assert not torch.equal(trained["layers.7.weight"], start["layers.7.weight"])


def test_inner_steps_lower_their_loss_and_leave_the_weights_unchanged():
    network = MZSRNetwork(torch.Generator().manual_seed(1))
    weights = dict(network.named_parameters())
    before = {name: value.detach().clone() for name, value in weights.items()}
    target = PHOTOGRAPH[None, :, :24, :24]
    adapted, losses = inner_steps(network, weights, target, 0.9 * target, (0.01,) * 3, torch.float32)
    assert losses[-1] < losses[0]
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    assert not torch.equal(adapted["layers.7.bias"], before["layers.7.bias"])


def test_kernels_follow_the_law():
    rng = np.random.default_rng(3)
    variances = np.array([np.sort(np.linalg.eigvalsh(random_kernel(rng, TINY).covariance)) for _ in range(60)])
    # Sampling a narrow Gaussian on the grid, and its frame, change a variance by some hundredths.
    assert variances.min() > TINY.min_variance - 0.1
    assert variances.max() < TINY.max_variance * TINY.scale + 0.1
    assert (variances[:, 1] / variances[:, 0]).max() > 2
    assert max(np.abs(random_kernel(rng, TINY).centroid)) < 1e-6


@pytest.mark.parametrize("change", [{"side": 26}, {"first_side": 25}, {"first_steps": 0, "steps": 0}])
def test_settings_out_of_bounds_are_refused(change):
    with pytest.raises(ConfigError, match=r"multiple|needs steps"):
        replace(TINY, **change)
