"""The flow prior, and KernelGAN with it."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import images
import numpy as np
import pytest
import torch

from benchmarks.training.flow import draw_gaussians, train_flow
from blindsr import kernels
from blindsr.errors import ConfigError, ImageError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernelgan.prior import FKPConfig, FlowTraining, KernelGANFKPEstimator
from blindsr.kernels import Kernel, gaussian, normalised_cross_correlation
from blindsr.kernels.flow import SIDE, WEIGHTS, KernelFlow, load_flow
from blindsr.ops import degrade

SHORT = FKPConfig(iterations=8, report_every=4)


def photograph():
    return images.photograph(75, 83, name="coffee", top=100, left=200)


def as_kernel(weights):
    return Kernel.normalised(np.pad(weights.detach().double().numpy(), (0, 1)), 2)


def latent(seed):
    point = torch.randn(SIDE**2, generator=torch.Generator().manual_seed(seed))
    return point * SIDE / point.norm()


# The flow.


def test_the_flow_and_its_inverse_undo_each_other():
    flow = deepcopy(load_flow()).double()
    logits = torch.randn(3, SIDE**2, generator=torch.Generator().manual_seed(0)).double()
    latents, _ = flow(logits)
    torch.testing.assert_close(flow.inverse(latents), logits, rtol=1e-6, atol=1e-6)


def test_the_determinant_is_that_of_the_jacobian():
    flow = KernelFlow(seed=3).double()
    logits = torch.randn(1, SIDE**2, generator=torch.Generator().manual_seed(0)).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x)[0][0], logits)[:, 0]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], flow(logits)[1][0], rtol=1e-9, atol=1e-9)


def test_the_kernels_of_the_training_are_gaussians_of_kernelgans_convention():
    drawn = draw_gaussians(20, torch.Generator().manual_seed(0))
    for weights in drawn:
        kernel = as_kernel(weights)
        assert np.abs(kernel.centroid).max() < 0.12  # the frame cuts the widest ones on one side
        assert normalised_cross_correlation(gaussian(kernel.covariance, 2), kernel) > 0.98


@pytest.mark.parametrize("seed", range(6))
def test_a_point_of_the_sphere_is_a_kernel_near_a_gaussian(seed):
    kernel = as_kernel(load_flow().kernel(latent(seed)))
    assert kernel.array.min() >= 0
    assert kernel.array.sum() == pytest.approx(1)
    assert np.abs(kernel.centroid).max() < 0.5
    values = np.linalg.eigvalsh(kernel.covariance)
    assert 0.2 < values[0] <= values[1] < 9
    assert normalised_cross_correlation(gaussian(kernel.covariance, 2), kernel) > 0.85


def test_a_training_lowers_the_loss_and_leaves_the_random_state_alone():
    events = []
    state = torch.get_rng_state()
    # The loss of the first step is 0.19.
    train_flow(100, batch=15, listener=events.append)
    assert torch.equal(state, torch.get_rng_state())
    (loss,) = [event.values["loss"] for event in events if event.values]
    assert loss < 0.05
    first, again = (train_flow(3, batch=15) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_the_weights_are_small():
    assert WEIGHTS.stat().st_size < 1_000_000


# KernelGAN with it.


def test_the_kernel_is_centred_and_the_input_unchanged():
    image = photograph()
    before = image.clone()
    kernel = KernelGANFKPEstimator(SHORT).estimate(image, 2).kernel
    assert torch.equal(image, before)
    assert np.abs(kernel.centroid).max() < 0.01
    assert kernel.array.min() >= 0
    assert kernel.array.sum() == pytest.approx(1)


CHANGES = {
    "iterations": 7,
    "latent_rate": 0.5,
    "discriminator_rate": 1e-3,
    "averaged_share": 1.0,
    "report_every": 3,
    "seed": 4,
}


@cache
def plain():
    return KernelGANFKPEstimator(SHORT).estimate(photograph(), 2)


def test_a_seed_fixes_the_bits():
    again = KernelGANFKPEstimator(SHORT).estimate(photograph(), 2)
    assert np.array_equal(plain().kernel.array, again.kernel.array)
    assert plain().history == again.history


@pytest.mark.parametrize("field", list(FKPConfig.__dataclass_fields__))
def test_each_setting_changes_something(field):
    other = KernelGANFKPEstimator(replace(SHORT, **{field: CHANGES[field]})).estimate(photograph(), 2)
    assert not np.array_equal(plain().kernel.array, other.kernel.array) or plain().history != other.history


def test_every_step_is_an_event():
    events = []
    estimate = KernelGANFKPEstimator(SHORT).estimate(photograph(), 2, listener=events.append)
    assert events[0] == StageStarted(stage="kernelgan-fkp", max_steps=8)
    assert events[-1] == StageDone(stage="kernelgan-fkp", steps=8)
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, 9))
    assert estimate.history["step"] == (4, 8)


def test_the_latent_stays_on_the_sphere():
    training = FlowTraining(photograph(), SHORT)
    for step in range(1, 5):
        training.step(step)
        assert float(training.latent.point.detach().norm()) == pytest.approx(SIDE, rel=1e-5)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_flat_image_gets_the_bicubic_kernel_and_a_warning(scale):
    estimate = KernelGANFKPEstimator().estimate(torch.full((1, 3, 75, 83), 0.4), scale)
    assert np.array_equal(estimate.kernel.array, kernels.bicubic(scale).array)
    assert estimate.method == "kernelgan-fkp"
    assert "flat" in estimate.warnings[0]


def test_what_does_not_fit_is_refused():
    for field in FKPConfig.__dataclass_fields__:
        with pytest.raises(ConfigError, match=rf"kernelgan-fkp\.{field}"):
            replace(SHORT, **{field: -1})
    with pytest.raises(ImageError, match="at least 39×39"):
        KernelGANFKPEstimator().estimate(torch.rand(1, 3, 38, 60), 2)
    with pytest.raises(ConfigError, match="2, 3 or 4"):
        KernelGANFKPEstimator().estimate(photograph(), 6)


@pytest.mark.slow
def test_training_brings_the_kernel_nearer_to_the_truth_than_bicubic():
    truth = gaussian([[4.0, 1.5], [1.5, 1.6]], 2, size=14)
    scene = images.photograph(400, 400, name="coffee", top=0, left=100)
    image = degrade(scene, truth.tensor(), 2).clamp(0, 1)
    estimate = KernelGANFKPEstimator(FKPConfig(iterations=140)).estimate(image, 2)
    before = normalised_cross_correlation(kernels.bicubic(2), truth)
    assert normalised_cross_correlation(estimate.kernel, truth) > before + 0.05
