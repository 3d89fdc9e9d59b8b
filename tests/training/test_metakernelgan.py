"""KernelGAN from a start, and the meta-training of the start."""

from dataclasses import replace

import images
import numpy as np
import pytest
import torch

from benchmarks.training.flow import draw_gaussians
from benchmarks.training.metakernelgan import (
    MetaKernelGANConfig,
    MetaKernelGANEstimator,
    MetaKernelGANTrainingConfig,
    MetaTraining,
    kernel_distance,
    load_start,
    meta_train_kernelgan,
    save_start,
)
from blindsr import kernels
from blindsr.errors import ConfigError, ImageError
from blindsr.events import StageDone, StageStarted, StepDone

SHORT = MetaKernelGANConfig(iterations=6, rate_after=4, report_every=3)
BRIEF = MetaKernelGANTrainingConfig(
    steps=2, tasks=1, warm_up=150, side=96, inner=replace(SHORT, iterations=2, report_every=2), report_every=1
)


def photograph(bands=3):
    return images.photograph(75, 83, name="coffee", top=100, left=200, bands=bands)


def draw(rng, side):
    top, left = (int(start) for start in rng.integers(0, 200, 2))
    return images.photograph(side, side, name="astronaut", top=top, left=left)[0]


@pytest.fixture(scope="module")
def trained():
    events = []
    state = torch.get_rng_state()
    weights = meta_train_kernelgan(draw, BRIEF, listener=events.append)
    assert torch.equal(state, torch.get_rng_state())
    return weights, events


@pytest.fixture(scope="module")
def config(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_start(path, trained[0])
    return replace(SHORT, start=path)


@pytest.fixture(scope="module")
def plain(config):
    return MetaKernelGANEstimator(config).estimate(photograph(), 2)


def test_the_start_has_a_likely_kernel_and_is_small(trained, config):
    truths = draw_gaussians(30, torch.Generator().manual_seed(5))
    start = MetaTraining(photograph(), SHORT, trained[0]).kernel.detach()
    assert float(start.sum()) == pytest.approx(1, abs=0.2)
    # The best constant answer is the mean kernel.
    best = np.mean([float(kernel_distance(truths.mean(0), truth)) for truth in truths])
    assert np.mean([float(kernel_distance(start, truth)) for truth in truths]) < 1.5 * best
    assert config.start.stat().st_size < 1_000_000
    loaded = load_start(config.start)
    for name, value in trained[0].items():
        torch.testing.assert_close(loaded[name].float(), value, rtol=1e-3, atol=1e-4)


def test_the_meta_training_reports_its_losses_and_repeats_its_bits(trained):
    weights, events = trained
    assert events[0] == StageStarted(stage="train-metakernelgan", max_steps=2)
    assert events[-1] == StageDone(stage="train-metakernelgan", steps=2)
    assert all(set(event.values) == {"before", "after", "discriminator"} for event in events[1:-1])
    again = meta_train_kernelgan(draw, BRIEF)
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    other = meta_train_kernelgan(draw, replace(BRIEF, seed=1))
    assert not all(torch.equal(value, other[name]) for name, value in weights.items())


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_images_of_any_number_of_bands_begin_with_the_start(trained, bands):
    weights = trained[0]
    training = MetaTraining(photograph(3)[:, [0, 1, 2, 1][:bands]], SHORT, weights)
    before = {name: value.clone() for name, value in weights.items()}
    flat = torch.full((1, bands, 20, 20), 0.3)
    color = MetaTraining(photograph(3), SHORT, weights)
    maps = [
        one.discriminator(image, one.discriminator.normalise()).detach()
        for one, image in ((training, flat), (color, torch.full((1, 3, 20, 20), 0.3)))
    ]
    assert torch.isfinite(maps[0]).all()
    torch.testing.assert_close(maps[0], maps[1])
    training.step(1)
    assert all(torch.equal(value, before[name]) for name, value in weights.items())


def test_every_step_is_an_event_and_the_kernel_is_centred(config):
    image, events = photograph(), []
    before = image.clone()
    estimate = MetaKernelGANEstimator(config).estimate(image, 2, listener=events.append)
    assert torch.equal(image, before)
    assert events[0] == StageStarted(stage="metakernelgan", max_steps=6)
    assert events[-1] == StageDone(stage="metakernelgan", steps=6)
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, 7))
    assert estimate.history["step"] == (3, 6)
    assert estimate.method == "metakernelgan"
    assert np.abs(estimate.kernel.centroid).max() < 0.01
    assert estimate.kernel.array.min() >= 0


CHANGES = {"iterations": 5, "generator_rate": 0.02, "discriminator_rate": 0.4, "rate_after": 2}
CHANGES |= {"weight_sum": 5.0, "weight_boundaries": 5.0, "report_every": 2, "seed": 4}


@pytest.mark.parametrize("field", list(CHANGES))
def test_each_setting_changes_something(config, plain, field):
    other = MetaKernelGANEstimator(replace(config, **{field: CHANGES[field]})).estimate(photograph(), 2)
    assert not np.array_equal(plain.kernel.array, other.kernel.array) or plain.history != other.history


def test_a_seed_fixes_the_bits(config, plain):
    again = MetaKernelGANEstimator(config).estimate(photograph(), 2)
    assert np.array_equal(plain.kernel.array, again.kernel.array)
    assert plain.history == again.history


def test_a_flat_image_gets_the_bicubic_kernel_and_a_warning(config):
    estimate = MetaKernelGANEstimator(config).estimate(torch.full((1, 3, 75, 83), 0.4), 2)
    assert np.array_equal(estimate.kernel.array, kernels.bicubic(2).array)
    assert "flat" in estimate.warnings[0]


def test_what_does_not_fit_is_refused(config, tmp_path):
    for field in CHANGES:
        with pytest.raises(ConfigError, match=rf"metakernelgan\.{field}"):
            replace(config, **{field: -1})
    with pytest.raises(ConfigError, match="side even"):
        replace(BRIEF, side=97)
    with pytest.raises(ConfigError, match="none are part of blindsr"):
        MetaKernelGANEstimator().estimate(photograph(), 2)
    other = tmp_path / "other.safetensors"
    other.write_text("no weights")
    for path in (other, tmp_path / "missing.safetensors"):
        with pytest.raises(ConfigError, match="file of meta-trained weights"):
            MetaKernelGANEstimator(replace(config, start=path)).estimate(photograph(), 2)
    save_start(other, {"a": torch.zeros(2)})
    with pytest.raises(ConfigError, match="holds others"):
        MetaKernelGANEstimator(replace(config, start=other)).estimate(photograph(), 2)
    with pytest.raises(ImageError, match="at least 39×39"):
        MetaKernelGANEstimator(config).estimate(torch.rand(1, 3, 38, 60), 2)
