"""KernelGAN as a whole: short runs for what must hold at every step, one real training for what it is for."""

import copy
from dataclasses import replace

import images
import numpy as np
import pytest
import torch
from kernel_helpers import estimating
from skimage.data import camera, coffee
from torch.nn import functional

from blindsr import kernels
from blindsr.errors import ConfigError, DivergenceError, ImageError
from blindsr.events import Notice, StageDone, StageStarted, StepDone
from blindsr.kernelgan import KernelGANConfig, losses
from blindsr.kernelgan.estimator import (
    KernelGANEstimator,
    Training,
    crop_weights,
    draw_corners,
    gradient_magnitude,
    min_side,
)
from blindsr.kernelgan.losses import Progress
from blindsr.ops import degrade

estimate_kernel = estimating(KernelGANEstimator)

# Every rule of the schedule acts within sixteen steps, on networks that cost next to nothing. At the paper's calm rate:
# at a fast one, chance and the processor's rounding can leave no positive weight.
SHORT = KernelGANConfig(
    iterations=16,
    report_every=1,
    generator_channels=8,
    discriminator_channels=8,
    learning_rate_every=12,
    bicubic_threshold=10.0,
    bicubic_streak=1,
    bicubic_every=2,
)


def photograph(height=75, width=83, bands=3):
    return images.photograph(height, width, name="coffee", top=100, left=200).repeat(1, 2, 1, 1)[:, :bands].contiguous()


def test_the_input_is_left_unchanged():
    image = photograph()
    before = image.clone()
    estimate_kernel(image, 2, SHORT)
    assert torch.equal(image, before)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(plain):
    again = estimate_kernel(photograph(), 2, SHORT)
    other = estimate_kernel(photograph(), 2, replace(SHORT, seed=1))
    assert np.array_equal(plain.kernel.array, again.kernel.array)
    assert plain.history == again.history
    assert not np.array_equal(plain.kernel.array, other.kernel.array)


def test_the_callers_random_state_neither_matters_nor_changes(plain):
    torch.manual_seed(2)  # `plain` began at another state
    state = torch.get_rng_state()
    second = estimate_kernel(photograph(), 2, SHORT)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(plain.kernel.array, second.kernel.array)


def test_a_listener_does_not_change_the_result(plain):
    events = []
    listened = estimate_kernel(photograph(), 2, SHORT, listener=events.append)
    assert np.array_equal(plain.kernel.array, listened.kernel.array)
    assert events


def test_every_step_is_an_event_and_the_losses_are_reported_when_due():
    events = []
    estimate = estimate_kernel(photograph(), 2, replace(SHORT, report_every=6), listener=events.append)
    assert events[0] == StageStarted(stage="kernelgan", max_steps=16)
    assert events[-1] == StageDone(stage="kernelgan", steps=16)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, 17))
    assert [event.step for event in steps if event.values] == [6, 12, 16]
    assert estimate.history["step"] == (6, 12, 16)
    assert estimate.history["sparsity"] == tuple(event.values["sparsity"] for event in steps if event.values)


def test_an_exception_of_the_listener_stops_the_run_and_passes_through():
    def cancel(event):
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate_kernel(photograph(), 2, SHORT, listener=cancel)


CHANGES = {
    "iterations": 15,
    "variant": "e-kernelgan",
    "seed": 5,
    "report_every": 2,
    "generator_filters": (7, 5, 3, 1),
    "generator_channels": 9,
    "discriminator_patch": 5,
    "discriminator_layers": 6,
    "discriminator_channels": 9,
    "crop_size": 52,
    "discriminator_noise": 0.01,
    "learning_rate": 3e-4,
    "beta1": 0.6,
    "beta2": 0.99,
    "learning_rate_every": 4,
    "learning_rate_divisor": 5.0,
    "weight_sum": 0.6,
    "weight_bicubic": 4.0,
    "weight_boundaries": 0.6,
    "weight_centralised": 2.0,
    "weight_sparsity": 4.0,
    "sparsity_power": 0.3,
    "boundaries_length": 1.0,
    "bicubic_threshold": 0.0,
    "bicubic_streak": 4,
    "bicubic_every": 3,
    "bicubic_divisor": 10.0,
    "weight_bicubic_floor": 0.01,
    "late_below": 1e-9,
    "clean_up_rank": 20,
    "clean_up_share": 0.5,
}


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(1)
    return estimate_kernel(photograph(), 2, SHORT)


@pytest.fixture(scope="module")
def plain_grey():
    return estimate_kernel(photograph(bands=1), 2, SHORT)


@pytest.mark.parametrize("field", sorted(SHORT.__dataclass_fields__.keys() - {"enhanced"}))
def test_each_setting_changes_something(field, plain_grey):
    assert CHANGES[field] != getattr(SHORT, field)
    changed = estimate_kernel(photograph(bands=1), 2, replace(SHORT, **{field: CHANGES[field]}))
    same_kernel = np.array_equal(changed.kernel.array, plain_grey.kernel.array)
    assert changed.history != plain_grey.history or not same_kernel, field


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_any_number_of_bands_is_accepted(bands):
    kernel = estimate_kernel(photograph(bands=bands), 2, SHORT).kernel
    assert kernel.size == 14
    assert kernel.array.min() >= 0
    assert np.abs(kernel.centroid).max() < 0.01


@pytest.mark.parametrize("scale", [3, 4])
def test_other_scales_follow_from_the_kernel_for_two(scale, plain):
    kernel = estimate_kernel(photograph(), scale, SHORT).kernel
    law = (scale**2 - 1) / 3
    assert kernel.scale == scale
    np.testing.assert_allclose(np.trace(kernel.covariance), law * np.trace(plain.kernel.covariance), rtol=0.05)


def test_the_estimate_records_how_it_was_made(plain):
    assert plain.method == "kernelgan"
    assert plain.settings["learning_rate"] == SHORT.learning_rate
    assert {len(curve) for curve in plain.history.values()} == {16}
    assert set(plain.metrics) == {"bicubic_loss", "raw_sum", "raw_centroid_y", "raw_centroid_x"}


def test_a_run_that_did_not_converge_has_a_warning(plain):
    assert abs(plain.metrics["raw_sum"] - 1) > 0.5, "choose a shorter run for this test"
    assert "did not converge" in plain.warnings[0]


def test_a_callers_no_grad_does_not_stop_the_training(plain):
    with torch.no_grad():
        quiet = estimate_kernel(photograph(), 2, SHORT)
    with torch.inference_mode():
        quieter = estimate_kernel(photograph(), 2, SHORT)
    assert np.array_equal(quiet.kernel.array, plain.kernel.array)
    assert np.array_equal(quieter.kernel.array, plain.kernel.array)


def test_double_precision_stays_double(plain):
    double = estimate_kernel(photograph().double(), 2, SHORT)
    assert not np.array_equal(double.kernel.array, plain.kernel.array)


@pytest.mark.parametrize("size", [(39, 50), (57, 39), (64, 65)])
def test_smaller_images_get_smaller_crops(size):
    assert estimate_kernel(photograph(*size), 2, SHORT).kernel.size == 14


@pytest.mark.parametrize("size", [(38, 80), (80, 38)])
def test_a_too_small_image_is_rejected_with_the_smallest_size(size):
    assert min_side(SHORT) == 39
    with pytest.raises(ImageError, match="at least 39×39 px"):
        estimate_kernel(photograph(*size), 2, SHORT)


@pytest.mark.parametrize(
    "image",
    [torch.zeros(3, 64, 64), torch.zeros(2, 3, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)],
    ids=["3-D", "two images", "whole numbers"],
)
def test_other_input_than_one_image_is_rejected(image):
    with pytest.raises(ImageError, match=r"\(1, C, H, W\)"):
        estimate_kernel(image, 2, SHORT)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_rejected(value):
    image = photograph()
    image[0, 1, 20, 30] = value
    with pytest.raises(ImageError, match="finite"):
        estimate_kernel(image, 2, SHORT)


@pytest.mark.parametrize("scale", [1, 6])
def test_a_scale_without_a_rule_is_rejected(scale):
    with pytest.raises(ConfigError, match="2, 3 or 4"):
        estimate_kernel(photograph(), scale, SHORT)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_flat_image_gets_the_bicubic_kernel_and_a_warning(scale):
    events = []
    estimate = estimate_kernel(torch.full((1, 3, 75, 83), 0.4), scale, SHORT, listener=events.append)
    assert np.array_equal(estimate.kernel.array, kernels.bicubic(scale).array)
    assert "flat" in estimate.warnings[0]
    assert any(isinstance(event, Notice) for event in events)
    assert isinstance(events[-1], StageDone)


def test_a_loss_that_is_not_finite_stops_the_run_with_its_name_and_step():
    image = photograph().double() * 1e200  # finite, but its square is not
    with pytest.raises(DivergenceError, match=r"its \w+ loss is (inf|nan) at step 7;.*learning_rate"):
        estimate_kernel(image, 2, replace(SHORT, report_every=7))


@pytest.mark.slow
def test_training_brings_the_kernel_nearer_to_the_truth_than_bicubic():
    truth = kernels.gaussian([[4.0, 1.5], [1.5, 1.6]], 2, size=14)
    scene = torch.from_numpy(coffee()[:, 100:500]).permute(2, 0, 1)[None].float() / 255
    image = degrade(scene, truth.tensor(), 2).clamp(0, 1)
    estimate = estimate_kernel(image, 2, KernelGANConfig(iterations=150))
    before = kernels.normalised_cross_correlation(kernels.bicubic(2), truth)
    after = kernels.normalised_cross_correlation(estimate.kernel, truth)
    assert after > before + 0.05, f"NCC with the truth: {before:.3f} of bicubic, {after:.3f} of the estimate"
    assert not estimate.warnings


def test_the_class_is_the_function_with_its_settings(plain):
    assert KernelGANEstimator.config_type is KernelGANConfig
    assert KernelGANEstimator.min_side == min_side(KernelGANConfig()) == 39
    estimate = KernelGANEstimator(SHORT).estimate(photograph(), 2)
    assert np.array_equal(estimate.kernel.array, plain.kernel.array)
    assert KernelGANEstimator().config == KernelGANConfig()


# One step, against the same step through the paper's layers.

STEP = KernelGANConfig(iterations=5, generator_channels=6, discriminator_channels=8, crop_size=44)
PROGRESS = {"early": Progress(5.0), "late": Progress(0.05, is_released=True, is_late=True)}


def make_training(bands, progress):
    image = torch.rand(1, bands, 53, 60, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    training = Training(image, STEP)
    training.progress = progress
    with torch.no_grad():
        for weight in training.generator.filters:
            weight.mul_(4)  # a kernel that is not close to zero
    training.kernel = training.generator.kernel()
    return training


def cut(image, corner, side):
    top, left = corner
    return image[None, :, top : top + side, left : left + side].clone()


def downscaled(training, generator):
    crop = cut(training.image, [2 * place for place in training.input_corners[0]], 44)
    return generator(crop.transpose(0, 1)).transpose(0, 1)


def generator_loss(training, generator, discriminator, noise):
    """All losses of the generator at the first step, by its layers."""
    fake, progress = downscaled(training, generator), training.progress
    bicubic = cut(training.bicubic, [place + 3 for place in training.input_corners[0]], 16)
    layers = discriminator.normalise()
    impulse = functional.pad(torch.ones(1, 1, 1, 1, dtype=fake.dtype), (12,) * 4)
    for weight in generator.filters:
        impulse = functional.conv2d(impulse, weight)
    kernel = impulse[0, 0].flip((0, 1))
    terms = [
        losses.adversarial_loss(discriminator(fake + noise, layers)),
        progress.weight_bicubic * losses.bicubic_loss(fake, bicubic),
        STEP.weight_sum * losses.sum_loss(kernel),
        STEP.weight_boundaries * losses.boundaries_loss(kernel, training.mask),
    ]
    if progress.is_late:
        terms.append(STEP.weight_centralised * losses.centralised_loss(kernel, 2))
        terms.append(STEP.weight_sparsity * losses.sparsity_loss(kernel, STEP.sparsity_power))
    return torch.stack(terms).sum(), layers


def assert_near_to_the_largest(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("progress", PROGRESS.values(), ids=PROGRESS.keys())
def test_a_step_follows_the_gradients_of_all_losses_through_the_papers_layers(bands, progress):
    training = make_training(bands, progress)
    source = torch.Generator()
    source.set_state(training.rng.get_state())
    first, second = (
        2 / 255 * torch.randn(count, bands, 16, 16, generator=source, dtype=torch.float64) for count in (1, 2)
    )
    generator, discriminator = copy.deepcopy(training.generator), copy.deepcopy(training.discriminator)
    loss, layers = generator_loss(training, generator, discriminator, first)
    expected = torch.autograd.grad(loss, list(generator.parameters()), retain_graph=True)

    training.step(1)

    for weight, gradient in zip(training.generator.filters, expected, strict=True):
        assert_near_to_the_largest(weight.grad, gradient)
    real = cut(training.image, training.real_corners[0], 16)
    after = downscaled(training, training.generator).detach()
    maps = discriminator(torch.cat((real, after)) + second, layers)
    names, weights = zip(*discriminator.named_parameters(), strict=True)
    expected = torch.autograd.grad(losses.discriminator_loss(maps), weights)
    actual = dict(training.discriminator.named_parameters())
    for name, gradient in zip(names, expected, strict=True):
        assert_near_to_the_largest(actual[name].grad, gradient)


def test_the_first_step_has_the_length_of_the_learning_rate():
    training = make_training(1, PROGRESS["early"])
    networks = (training.generator, training.discriminator)
    before = [copy.deepcopy(network) for network in networks]
    training.step(1)
    for old, network in zip(before, networks, strict=True):
        # Adam's first step moves every weight with a gradient by the learning rate.
        steps = [
            float((new - was).detach().abs().max())
            for new, was in zip(network.parameters(), old.parameters(), strict=True)
        ]
        assert max(steps) == pytest.approx(STEP.learning_rate, rel=1e-4)


def test_the_adam_of_the_training_has_the_papers_decays():
    for optimiser in make_training(1, PROGRESS["early"])._optimisers.values():
        assert optimiser.betas == (0.5, 0.999)


def test_the_weight_of_a_crop_is_the_mean_gradient_magnitude_inside():
    image = torch.rand(3, 37, 31, dtype=torch.float64)
    expected = gradient_magnitude(image).unfold(0, 9, 1).unfold(1, 9, 1).mean((-1, -2))
    torch.testing.assert_close(crop_weights(image, 9), expected, rtol=1e-9, atol=1e-12)


def test_there_is_one_weight_for_every_position_of_the_crop():
    assert crop_weights(torch.rand(1, 37, 31), 9).shape == (29, 23)
    assert crop_weights(torch.rand(1, 37, 31), 31).shape == (7, 1)


def test_the_gradient_of_a_ramp_is_its_slope():
    ramp = 0.03 * torch.arange(31.0).expand(3, 37, 31) + 0.04 * torch.arange(37.0)[:, None]
    torch.testing.assert_close(gradient_magnitude(ramp), torch.full((37, 31), 0.05), rtol=1e-4, atol=1e-6)


def test_no_crop_is_drawn_in_a_flat_area():
    image = torch.zeros(1, 37, 61)
    image[..., 40:] = torch.rand(1, 37, 21)
    corners = draw_corners(crop_weights(image, 9), 200, torch.Generator().manual_seed(0))
    # Central differences see one pixel beyond the step.
    assert all(left + 9 > 39 for _, left in corners)


def test_crops_are_drawn_in_proportion_to_their_weights():
    weights = torch.tensor([[1.0, 0.0, 3.0], [0.0, 4.0, 2.0]], dtype=torch.float64)
    corners = draw_corners(weights, 20000, torch.Generator().manual_seed(0))
    counts = torch.zeros(2, 3, dtype=torch.float64)
    for top, left in corners:
        counts[top, left] += 1
    # Five standard deviations of a binomial frequency are 0.018 here.
    assert float((counts / 20000 - weights / 10).abs().max()) < 0.018
    assert float(counts[weights == 0].sum()) == 0


def test_a_flat_image_is_sampled_evenly():
    assert torch.equal(crop_weights(torch.full((3, 20, 22), 0.5), 9), torch.ones(12, 14, dtype=torch.float64))


def test_the_same_seed_draws_the_same_crops_and_another_seed_others():
    weights = crop_weights(torch.from_numpy(camera()[None, :97, :83] / 255), 26)
    first, again, other = (draw_corners(weights, 50, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first == again
    assert first != other
