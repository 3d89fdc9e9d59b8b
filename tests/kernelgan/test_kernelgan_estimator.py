"""KernelGAN as a whole: short runs for what must hold at every step, one real training for what it is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.data import coffee

from blindsr import kernels
from blindsr.errors import ConfigError, DivergenceError, ImageError
from blindsr.events import Notice, StageDone, StageStarted, StepDone
from blindsr.kernelgan import KernelGANConfig
from blindsr.kernelgan.estimator import estimate_kernel, least_side
from blindsr.ops import degrade

# Every rule of the schedule acts within thirty steps, on networks that cost next to nothing. At the paper's calm rate:
# at a fast one, chance and the processor's rounding can leave no positive weight.
SHORT = KernelGANConfig(
    iterations=30,
    report_every=1,
    generator_channels=8,
    discriminator_channels=8,
    learning_rate_every=20,
    bicubic_threshold=10.0,
    bicubic_streak=1,
    bicubic_every=2,
)


def photograph(height=75, width=83, bands=3):
    picture = torch.from_numpy(coffee()[100 : 100 + height, 200 : 200 + width]).permute(2, 0, 1) / 255
    return picture.float().repeat(2, 1, 1)[:bands][None].contiguous()


def test_the_input_is_left_unchanged():
    image = photograph()
    before = image.clone()
    estimate_kernel(image, 2, SHORT)
    assert torch.equal(image, before)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    image = photograph()
    first, again = (estimate_kernel(image, 2, SHORT) for _ in range(2))
    other = estimate_kernel(image, 2, replace(SHORT, seed=1))
    assert np.array_equal(first.kernel.array, again.kernel.array)
    assert first.history == again.history
    assert not np.array_equal(first.kernel.array, other.kernel.array)


def test_the_callers_random_state_neither_matters_nor_changes():
    image = photograph()
    torch.manual_seed(1)
    first = estimate_kernel(image, 2, SHORT)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = estimate_kernel(image, 2, SHORT)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(first.kernel.array, second.kernel.array)


def test_a_listener_does_not_change_the_result():
    image, events = photograph(), []
    silent = estimate_kernel(image, 2, SHORT)
    heard = estimate_kernel(image, 2, SHORT, listener=events.append)
    assert np.array_equal(silent.kernel.array, heard.kernel.array)


def test_every_step_is_told_and_the_losses_when_they_are_due():
    events = []
    estimate = estimate_kernel(photograph(), 2, replace(SHORT, report_every=8), listener=events.append)
    assert events[0] == StageStarted(stage="kernelgan", max_steps=30)
    assert events[-1] == StageDone(stage="kernelgan", steps=30)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, 31))
    assert [event.step for event in steps if event.values] == [8, 16, 24, 30]
    assert estimate.history["step"] == (8, 16, 24, 30)
    assert estimate.history["sparsity"] == tuple(event.values["sparsity"] for event in steps if event.values)


def test_an_exception_of_the_listener_stops_the_run_and_passes_through():
    def cancel(event):
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate_kernel(photograph(), 2, SHORT, listener=cancel)


CHANGES = {
    "iterations": 29,
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
    return estimate_kernel(photograph(), 2, SHORT)


@pytest.mark.parametrize("field", list(SHORT.__dataclass_fields__))
def test_each_setting_changes_something(field, plain):
    assert CHANGES[field] != getattr(SHORT, field)
    changed = estimate_kernel(photograph(), 2, replace(SHORT, **{field: CHANGES[field]}))
    assert changed.history != plain.history or not np.array_equal(changed.kernel.array, plain.kernel.array), field


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_any_number_of_bands_will_do(bands):
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


def test_the_result_says_how_it_was_made(plain):
    assert plain.method == "kernelgan"
    assert plain.settings["learning_rate"] == SHORT.learning_rate
    assert {len(curve) for curve in plain.history.values()} == {30}
    assert set(plain.figures) == {"bicubic_loss", "raw_sum", "raw_centroid_y", "raw_centroid_x"}


def test_a_run_that_did_not_converge_says_so(plain):
    assert abs(plain.figures["raw_sum"] - 1) > 0.5, "choose a shorter run for this test"
    assert "did not converge" in plain.notes[0]


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
def test_a_too_small_image_is_refused_with_the_least_size(size):
    assert least_side(SHORT) == 39
    with pytest.raises(ImageError, match="at least 39×39 px"):
        estimate_kernel(photograph(*size), 2, SHORT)


@pytest.mark.parametrize(
    "image",
    [torch.zeros(3, 64, 64), torch.zeros(2, 3, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)],
    ids=["3-D", "two images", "whole numbers"],
)
def test_what_is_not_one_image_is_refused(image):
    with pytest.raises(ImageError, match=r"\(1, C, H, W\)"):
        estimate_kernel(image, 2, SHORT)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_refused(value):
    image = photograph()
    image[0, 1, 20, 30] = value
    with pytest.raises(ImageError, match="finite"):
        estimate_kernel(image, 2, SHORT)


@pytest.mark.parametrize("scale", [1, 6])
def test_a_scale_without_a_rule_is_refused(scale):
    with pytest.raises(ConfigError, match="2, 3 or 4"):
        estimate_kernel(photograph(), scale, SHORT)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_flat_image_gives_the_bicubic_kernel_and_says_so(scale):
    events = []
    estimate = estimate_kernel(torch.full((1, 3, 75, 83), 0.4), scale, SHORT, listener=events.append)
    assert np.array_equal(estimate.kernel.array, kernels.bicubic(scale).array)
    assert "flat" in estimate.notes[0]
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
    estimate = estimate_kernel(image, 2, KernelGANConfig(iterations=600))
    before = kernels.normalised_cross_correlation(kernels.bicubic(2), truth)
    after = kernels.normalised_cross_correlation(estimate.kernel, truth)
    assert after > before + 0.05, f"NCC with the truth: {before:.3f} of bicubic, {after:.3f} of the estimate"
    assert not estimate.notes
