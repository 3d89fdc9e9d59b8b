"""Synthetic images of the training."""

from dataclasses import replace

import numpy as np
import pytest

from blindsr.errors import ConfigError
from blindsr.training.dead_leaves import DeadLeavesConfig, _radii, dead_leaves, draw_texture, power_law
from blindsr.training.train import TrainingConfig

SMALL = DeadLeavesConfig(size=64)
PHOTOGRAPHIC = DeadLeavesConfig(size=64, texture_contrast=2.0, varied_textures=1.0, sharpening=1.0, noise=1.0)


def test_the_same_index_gives_the_same_bits():
    assert np.array_equal(dead_leaves(3, 5, SMALL), dead_leaves(3, 5, SMALL))


@pytest.mark.parametrize("other", [(3, 6), (4, 5)])
def test_another_index_or_series_gives_another_image(other):
    assert not np.array_equal(dead_leaves(3, 5, SMALL), dead_leaves(*other, SMALL))


def test_images_are_one_band_of_bytes_with_contrast():
    image = dead_leaves(0, 0, DeadLeavesConfig(size=50))
    assert image.shape == (50, 50)
    assert image.dtype == np.uint8
    assert image.std() > 5


def test_the_mean_spectrum_falls_as_that_of_photographs():
    """P ∝ f^−α with α near 2: between 0.02 and 0.2 cycles per pixel, averaged over images."""
    config = DeadLeavesConfig(size=128)
    power = np.zeros((128, 128))
    window = np.outer(np.hanning(128), np.hanning(128))
    for index in range(16):
        image = dead_leaves(1, index, config) / 255.0
        power += np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    inside = (radius > 0.02) & (radius < 0.2)
    slope = np.polyfit(np.log(radius[inside]), np.log(power[inside]), 1)[0]
    assert -2.8 < slope < -1.6


def test_sizes_of_shapes_follow_the_inverse_cube_law():
    """Density r⁻³ between the bounds means that radii over r number as r⁻²: doubling r leaves a quarter."""
    config = DeadLeavesConfig(size=192, min_radius=(1.0, 1.0), max_radius=1000.0, coverage=40.0)
    radii = _radii(np.random.default_rng(0), config, 384, factor=1.0)
    counts = np.array([(radii > r).sum() for r in (2.0, 4.0, 8.0)])
    assert counts[0] == len(radii)
    assert counts[1] / counts[0] == pytest.approx(0.25, rel=0.05)
    assert counts[2] / counts[0] == pytest.approx(0.0625, rel=0.1)


def test_images_with_varied_textures_are_reproducible_and_differ_from_those_without():
    image = dead_leaves(3, 5, PHOTOGRAPHIC)
    assert image.shape == (64, 64)
    assert image.std() > 5
    assert np.array_equal(image, dead_leaves(3, 5, PHOTOGRAPHIC))
    assert not np.array_equal(image, dead_leaves(3, 5, SMALL))


@pytest.mark.parametrize(
    ("texture", "means"),
    [
        (1.0, [[200.4, 209.6, 106.3, 117.4], [152.8, 141.5, 133.7, 147.4]]),
        (2.0, [[202.6, 208.9, 116.1, 124.5], [148.2, 134.4, 129.7, 150.2]]),
    ],
)
def test_the_images_of_earlier_trainings_are_reproduced(texture, means):
    """The bundled weights are reproducible only as long as the order of the random numbers does not change."""
    image = dead_leaves(2, 1, DeadLeavesConfig(size=64, texture_contrast=texture))
    assert image.reshape(4, 16, 4, 16).mean((1, 3))[:2] == pytest.approx(np.array(means), abs=0.5)


def test_the_images_of_the_bundled_weights_are_reproduced():
    config = TrainingConfig()
    image = dead_leaves(config.leaves_seed, 3, config.dead_leaves)
    means = np.array([[96.5, 98.6, 102.5, 90.5], [154.8, 154.0, 82.5, 82.5]])
    assert image.reshape(4, 64, 4, 64).mean((1, 3))[:2] == pytest.approx(means, abs=0.5)


def test_noise_and_sharpening_of_the_image_itself_add_fine_detail():
    def detail(config: DeadLeavesConfig) -> float:
        images = [dead_leaves(1, i, config) / 255.0 for i in range(6)]
        return float(np.mean([np.abs(np.diff(image, 2)).mean() for image in images]))

    soft = DeadLeavesConfig(size=64, blur=1.0, max_blur_sigma=3.0)
    assert detail(replace(soft, sharpening=1.0)) > 1.02 * detail(soft)
    assert detail(replace(soft, noise=1.0)) > 1.02 * detail(soft)


@pytest.mark.parametrize("seed", range(24))
def test_textures_have_mean_zero_and_deviation_one(seed):
    field = draw_texture(np.random.default_rng(seed), 96, 2)
    assert field.shape == (96, 96)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()
    assert abs(float(field.mean())) < 1e-3
    assert float(field.std()) == pytest.approx(1.0, abs=1e-3)
    assert np.array_equal(field, draw_texture(np.random.default_rng(seed), 96, 2))


def test_textures_are_not_gaussian_fields():
    """Excess kurtosis of the differences of neighbours: 0 for power-law noise, far above it where there are edges."""

    def tail(field: np.ndarray) -> float:
        steps = np.diff(field).ravel()
        return float((steps**4).mean() / (steps**2).mean() ** 2 - 3)

    plain = [tail(power_law(np.random.default_rng(i), 128, 1.2)) for i in range(8)]
    rich = [tail(draw_texture(np.random.default_rng(i), 128, 2)) for i in range(24)]
    assert np.abs(plain).max() < 0.5
    assert np.median(rich) > 1.0


@pytest.mark.parametrize("slope", [0.6, 1.6])
def test_power_law_noise_has_its_slope(slope):
    power = np.mean([np.abs(np.fft.fft2(power_law(np.random.default_rng(i), 64, slope))) ** 2 for i in range(20)], 0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :])
    inside = (frequency > 0.04) & (frequency < 0.4)
    measured = np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0]
    assert measured == pytest.approx(-2 * slope, abs=0.1)


@pytest.mark.parametrize(
    "fault",
    [
        {"size": 8},
        {"min_radius": (5.0, 1.0)},
        {"min_radius": (1.0, 200.0)},
        {"texture_contrast": -1.0},
        {"varied_textures": 1.5},
        {"noise": -0.1},
    ],
)
def test_invalid_parameters_of_dead_leaves_raise(fault):
    with pytest.raises(ConfigError, match="leaves"):
        DeadLeavesConfig(**fault)
