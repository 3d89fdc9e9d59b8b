"""Synthetic images, kernels and noise of the training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blindsr.errors import ConfigError
from blindsr.image_io import jpeg_noise_sigma, open_image
from blindsr.kernels import gaussian
from blindsr.kernels.random import training_kernel, training_kernel_size
from blindsr.ops import degrade
from blindsr.ops.degrade import degrade_perturbed, perturbed_transfer
from blindsr.ops.wiener import transfer
from blindsr.training import degradations
from blindsr.training.dataset import SHARD, DeadLeavesCache
from blindsr.training.dead_leaves import DeadLeavesConfig, _radii, dead_leaves, draw_texture, power_law
from blindsr.training.degradations import KernelBank, NoiseLaw, add_noise, draw_noise_sigma

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
    for index in range(24):
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


def test_the_cache_holds_the_images_of_the_series(tmp_path):
    config = DeadLeavesConfig(size=16)
    cache = DeadLeavesCache(tmp_path, 2, config)
    assert np.array_equal(cache[SHARD + 3], dead_leaves(2, SHARD + 3, config))
    assert cache.path(1).exists()
    assert not cache.path(0).exists()
    assert np.array_equal(DeadLeavesCache(tmp_path, 2, config)[SHARD + 3], cache[SHARD + 3])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_random_kernels_are_normalised_and_of_one_size(scale):
    rng = np.random.default_rng(0)
    for _ in range(40):
        kernel = training_kernel(rng, scale)
        assert kernel.shape == (training_kernel_size(scale),) * 2
        assert (kernel.shape[0] - scale) % 2 == 0
        assert kernel.sum() == pytest.approx(1.0, abs=1e-9)


def test_random_kernels_of_a_family_that_blurs_are_not_all_gaussians():
    """Excess kurtosis of the marginal: 0 for Gaussians, −1.2 for a box; the families must be distinguishable."""
    rng = np.random.default_rng(0)
    x = np.arange(training_kernel_size(2)) - (training_kernel_size(2) - 1) / 2
    excess = []
    for _ in range(80):
        marginal = np.clip(training_kernel(rng, 2), 0, None).sum(0)
        marginal /= marginal.sum()
        centred = x - marginal @ x
        excess.append(marginal @ centred**4 / (marginal @ centred**2) ** 2 - 3)
    assert np.min(excess) < -0.5
    assert np.mean(np.abs(excess) < 0.3) > 0.3


def test_a_bank_draws_the_same_kernels_for_the_same_seed():
    first, second, other = (KernelBank(seed, 16).draw(np.random.default_rng(0), 3) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_noise_law_gives_the_share_of_noisy_images_and_their_noise():
    rng = np.random.default_rng(0)
    sigmas = np.array([draw_noise_sigma(rng, NoiseLaw(noisy_share=0.35, max_sigma=10.0)) for _ in range(2000)])
    assert 0.6 < (sigmas == 0).mean() < 0.7
    assert 5 / 255 < sigmas.max() <= 10 / 255


def test_white_noise_is_as_strong_as_in_the_conditioning_and_clean_images_stay_clean():
    flat, sigma = torch.full((3, 64, 64), 0.5), torch.tensor([0.0, 0.02, 0.08])
    noisy, conditioning = add_noise(flat, sigma, NoiseLaw(), np.random.default_rng(0))
    assert torch.equal(conditioning, sigma)
    assert (noisy[0] - 0.5).abs().max() <= 0.5 / 255 + 1e-6
    assert noisy[1:].std((1, 2)).tolist() == pytest.approx([0.02, 0.08], rel=0.05)


def test_speckle_grows_with_the_brightness():
    ramp = torch.linspace(0.1, 0.9, 64).expand(8, 64, 64)
    law = NoiseLaw(speckle_share=1.0)
    noisy, conditioning = add_noise(ramp, torch.full((8,), 0.03), law, np.random.default_rng(0))
    spread = (noisy - ramp).std((0, 1))
    assert float(spread[-8:].mean() / spread[:8].mean()) == pytest.approx(0.85 / 0.15, rel=0.2)
    assert 0.01 < conditioning.min() < conditioning.max() < 0.09
    assert len(conditioning.unique()) == 8


def _tables(path):
    with open_image(path) as image:
        return image.jpeg_tables


@pytest.mark.parametrize("quality", [25, 60, 95])
def test_compression_equals_that_of_a_jpeg_encoder(quality, tmp_path):
    image = dead_leaves(3, 1, DeadLeavesConfig(size=64))
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(path, quality=quality)
    lr = torch.from_numpy(image.astype(np.float32) / 255)[None]
    law = NoiseLaw(jpeg_share=1.0)
    # libjpeg is the oracle; its transforms are in integers, and a coefficient half-way between two steps may fall the
    # other way, which changes one block.
    with Image.open(path) as decoded:
        expected = torch.from_numpy(np.asarray(decoded, np.float32))
    result = degradations._compressed(lr[0], quality, np.zeros(2, np.int64)) * 255
    differences = (result - expected).abs()
    assert (differences < 1.1).float().mean() > 0.9
    assert differences.mean() < 0.1 * (lr[0] * 255 - expected).abs().mean() + 0.3
    assert degradations._quantisation_noise(quality) == pytest.approx(jpeg_noise_sigma(_tables(path)), rel=1e-6)
    noisy, conditioning = add_noise(lr, torch.tensor([0.1]), law, np.random.default_rng(quality))
    assert not torch.equal(noisy, lr)
    assert conditioning[0] > 0


def test_the_blocks_of_a_compressed_patch_may_be_shifted():
    image = torch.from_numpy(dead_leaves(3, 2, DeadLeavesConfig(size=64)).astype(np.float32) / 255)
    moved = degradations._compressed(image.roll((3, 5), (0, 1)), 50, np.array([3, 5]))
    assert torch.equal(moved, degradations._compressed(image, 50, np.zeros(2, np.int64)).roll((3, 5), (0, 1)))


def test_a_perturbed_transfer_function_keeps_the_sum_and_differs_by_a_little():
    kernels = gaussian([[2.0, 0.5], [0.5, 1.2]], 2).tensor()[None].repeat(20, 1, 1)
    response = transfer(kernels, 2, 40, 36)
    actual = perturbed_transfer(kernels, response, 2, np.random.default_rng(0))
    assert torch.allclose(actual[:, 0, 0].abs(), torch.ones(20), atol=1e-4)
    error = (actual - response).abs()
    assert (error.amax((1, 2)) > 0.01).all()
    assert error.square().mean().sqrt() < 0.08
    # A real image stays real: the response at −f is the conjugate of that at f.
    mirrored = actual.roll((-1, -1), (1, 2)).flip(1, 2)
    assert torch.allclose(actual[:, 1:20, 1:18], mirrored.conj()[:, 1:20, 1:18], atol=1e-5)


def test_degrading_by_a_perturbed_kernel_is_near_to_degrading_by_the_kernel():
    hr = torch.from_numpy(dead_leaves(0, 3, DeadLeavesConfig(size=80)) / 255.0).float()[None, None, :72]
    kernel = gaussian([[2.0, 0.5], [0.5, 1.2]], 2).tensor()
    exact = degrade(hr, kernel, 2)
    first, second = (degrade_perturbed(hr, kernel, 2, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == exact.shape
    assert 1e-4 < (first - exact).square().mean().sqrt() < 0.03
    assert not torch.equal(first, second)
