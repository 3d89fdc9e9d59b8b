"""E-KernelGAN: its three terms alone, and a training with them."""

from dataclasses import replace

import images
import numpy as np
import pytest
import torch
from kernel_helpers import estimating
from skimage.data import coffee

from blindsr import kernels
from blindsr.kernelgan import KernelGANConfig, losses
from blindsr.kernelgan.config import EnhancedConfig
from blindsr.kernelgan.estimator import KernelGANEstimator, Training
from blindsr.ops import degrade

estimate_kernel = estimating(KernelGANEstimator)
SHORT = KernelGANConfig(
    variant="e-kernelgan",
    iterations=15,
    report_every=5,
    generator_channels=8,
    discriminator_channels=8,
    enhanced=EnhancedConfig(ranking_falls=5, ranking_ends=10),
)


def photograph():
    return images.photograph(75, 83, name="coffee", top=100, left=200)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_weight_of_the_ranking_is_constant_then_falls_to_zero():
    config = EnhancedConfig()
    weights = [losses.ranking_weight(step, config) for step in (1, 1000, 1200, 1400, 3000)]
    assert weights == pytest.approx([0.5, 0.5, 0.25, 0.0, 0.0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_blurrier_image_keeps_its_mean_and_loses_contrast(seed):
    image = torch.rand(1, 3, 24, 20, generator=generator(9), dtype=torch.float64)
    blurred = losses.blurrier(image, EnhancedConfig(), generator(seed))
    assert blurred.shape == image.shape
    assert float(blurred.var()) < float(image.var())
    constant = torch.full((1, 3, 9, 9), 0.3, dtype=torch.float64)
    torch.testing.assert_close(losses.blurrier(constant, EnhancedConfig(), generator(seed)), constant)


def test_the_centre_of_the_random_blur_has_the_weight_of_the_settings():
    impulse = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    impulse[0, 0, 4, 4] = 1
    filters = [losses.blurrier(impulse, EnhancedConfig(), generator(seed))[0, 0] for seed in range(20)]
    assert all(0.8 <= float(blur[4, 4]) <= 0.9 for blur in filters)
    assert len({float(blur[4, 4]) for blur in filters}) == 20
    assert all(float(blur.sum()) == pytest.approx(1) for blur in filters)


def test_the_ranking_loss_is_least_for_a_fake_far_above_the_blurrier_one():
    high, low = torch.full((4, 4), 0.9), torch.full((4, 4), 0.2)
    assert float(losses.ranking_loss(high, low)) == pytest.approx(0.15)
    assert float(losses.ranking_loss(low, high)) == pytest.approx(0.85)


def test_a_kernel_that_falls_along_all_rays_is_unimodal():
    index = torch.arange(13, dtype=torch.float64) - 6.5
    distance = torch.hypot(index[:, None], index)
    inner = losses.inner_neighbours(13, 6.5, distance)
    # A cone is linear along a ray, which bilinear interpolation nearly keeps.
    assert float(losses.unimodality_loss(10 - distance, inner)) < 1e-3
    peaks = torch.exp(-((distance - 4) ** 2))
    assert float(losses.unimodality_loss(peaks, inner)) > 0.05


def test_the_neighbours_of_a_constant_are_the_constant():
    inner = losses.inner_neighbours(13, 6.5, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(inner.sum(1), torch.ones(169, dtype=torch.float64))


CHANGES = {
    "weight_ranking": 0.3,
    "ranking_falls": 3,
    "ranking_ends": 8,
    "blur_centre_min": 0.7,
    "blur_centre_max": 0.8,
    "weight_unimodal": 50.0,
    "weight_boundaries": 0.5,
}


@pytest.fixture(scope="module")
def plain():
    return estimate_kernel(photograph(), 2, SHORT)


@pytest.mark.parametrize("field", list(EnhancedConfig.__dataclass_fields__))
def test_each_setting_of_the_variant_changes_something(field, plain):
    config = replace(SHORT, enhanced=replace(SHORT.enhanced, **{field: CHANGES[field]}))
    assert estimate_kernel(photograph(), 2, config).history != plain.history


@pytest.mark.parametrize("field", list(EnhancedConfig.__dataclass_fields__))
def test_the_published_kernelgan_ignores_the_settings_of_the_variant(field):
    config = replace(SHORT, variant="published", iterations=3)
    changed = replace(config, enhanced=replace(SHORT.enhanced, **{field: CHANGES[field]}))
    first, second = (estimate_kernel(photograph(), 2, settings) for settings in (config, changed))
    assert np.array_equal(first.kernel.array, second.kernel.array)


def test_the_same_seed_gives_the_same_bits_and_the_input_is_unchanged(plain):
    image = photograph()
    before = image.clone()
    again = estimate_kernel(image, 2, SHORT)
    assert torch.equal(image, before)
    assert np.array_equal(again.kernel.array, plain.kernel.array)
    assert np.abs(again.kernel.centroid).max() < 0.01
    assert again.kernel.array.sum() == pytest.approx(1)
    assert "unimodality" in plain.history


def test_the_ranking_compares_the_fake_with_its_blurrier_copy(monkeypatch):
    seen = []

    def remembered(fake, blurred):
        seen.append((fake.detach(), blurred.detach()))
        return fake.mean()

    training = Training(photograph(), replace(SHORT, discriminator_noise=0.0))
    gain = training.discriminator.gain
    monkeypatch.setattr(losses, "ranking_loss", remembered)
    monkeypatch.setattr(training.discriminator, "forward", lambda images, layers: images.mean(1) * gain[0, 0])
    training.step(1)
    fake, blurred = seen[0]
    assert float(blurred.var()) < float(fake.var())


@pytest.mark.slow
def test_training_brings_the_kernel_nearer_to_the_truth_than_bicubic():
    truth = kernels.gaussian([[4.0, 1.5], [1.5, 1.6]], 2, size=14)
    scene = torch.from_numpy(coffee()[:, 100:500]).permute(2, 0, 1)[None].float() / 255
    image = degrade(scene, truth.tensor(), 2).clamp(0, 1)
    estimate = estimate_kernel(image, 2, KernelGANConfig(variant="e-kernelgan", iterations=100))
    before = kernels.normalised_cross_correlation(kernels.bicubic(2), truth)
    assert kernels.normalised_cross_correlation(estimate.kernel, truth) > before + 0.05
