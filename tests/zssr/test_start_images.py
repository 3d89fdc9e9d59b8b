"""The synthetic images and kernels that the start learns from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blindsr.errors import ConfigError
from blindsr.image_io.jpeg import jpeg_noise
from blindsr.kernels import gaussian
from blindsr.ops import degrade
from blindsr.zssr.start import degradations
from blindsr.zssr.start.degradations import (
    KernelBank,
    NoiseLaw,
    add_noise,
    canvas_side,
    degrade_unlike,
    random_kernel,
    random_noise_sigma,
    unlike,
)
from blindsr.zssr.start.leaves import LeavesConfig, leaves
from blindsr.zssr.start.materials import material, power_law
from blindsr.zssr.start.pool import SHARD, LeavesPool
from blindsr.zssr.start.wiener import transfer

SMALL = LeavesConfig(size=64)
PHOTOGRAPHIC = LeavesConfig(size=64, texture=2.0, materials=1.0, own_sharpening=1.0, own_noise=1.0)


def test_the_same_number_paints_the_same_bits():
    assert np.array_equal(leaves(3, 5, SMALL), leaves(3, 5, SMALL))


@pytest.mark.parametrize("other", [(3, 6), (4, 5)])
def test_another_number_or_series_paints_another_image(other):
    assert not np.array_equal(leaves(3, 5, SMALL), leaves(*other, SMALL))


def test_images_are_one_band_of_bytes_with_contrast():
    image = leaves(0, 0, LeavesConfig(size=50))
    assert image.shape == (50, 50)
    assert image.dtype == np.uint8
    assert image.std() > 5


def test_the_mean_spectrum_falls_as_that_of_photographs():
    """P ∝ f^−α with α near 2: between 0.02 and 0.2 cycles per pixel, averaged over images."""
    config = LeavesConfig(size=128)
    power = np.zeros((128, 128))
    window = np.outer(np.hanning(128), np.hanning(128))
    for index in range(24):
        image = leaves(1, index, config) / 255.0
        power += np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    inside = (radius > 0.02) & (radius < 0.2)
    slope = np.polyfit(np.log(radius[inside]), np.log(power[inside]), 1)[0]
    assert -2.8 < slope < -1.6


def test_sizes_of_leaves_follow_the_inverse_cube_law():
    """Density r⁻³ between the bounds means that radii over r number as r⁻²: doubling r leaves a quarter."""
    from blindsr.zssr.start.leaves import _radii

    config = LeavesConfig(size=192, least_radius=(1.0, 1.0), largest_radius=1000.0, coverage=40.0)
    radii = _radii(np.random.default_rng(0), config, 384, calm=1.0)
    counts = np.array([(radii > r).sum() for r in (2.0, 4.0, 8.0)])
    assert counts[0] == len(radii)
    assert counts[1] / counts[0] == pytest.approx(0.25, rel=0.05)
    assert counts[2] / counts[0] == pytest.approx(0.0625, rel=0.1)


def test_images_of_materials_are_painted_alike_twice_and_unlike_those_without():
    image = leaves(3, 5, PHOTOGRAPHIC)
    assert image.shape == (64, 64)
    assert image.std() > 5
    assert np.array_equal(image, leaves(3, 5, PHOTOGRAPHIC))
    assert not np.array_equal(image, leaves(3, 5, SMALL))


@pytest.mark.parametrize(
    ("texture", "means"),
    [
        (1.0, [[200.4, 209.6, 106.3, 117.4], [152.8, 141.5, 133.7, 147.4]]),
        (2.0, [[202.6, 208.9, 116.1, 124.5], [148.2, 134.4, 129.7, 150.2]]),
    ],
)
def test_the_images_of_the_earlier_trainings_are_still_painted(texture, means):
    """The shipped weights are made again from them: one random number more or less in the painter, and they are not."""
    image = leaves(2, 1, LeavesConfig(size=64, texture=texture))
    assert image.reshape(4, 16, 4, 16).mean((1, 3))[:2] == pytest.approx(np.array(means), abs=0.5)


def test_noise_and_sharpening_of_the_image_itself_add_fine_detail():
    def detail(config: LeavesConfig) -> float:
        images = [leaves(1, i, config) / 255.0 for i in range(6)]
        return float(np.mean([np.abs(np.diff(image, 2)).mean() for image in images]))

    soft = LeavesConfig(size=64, own_blur=1.0, own_blur_sigma=3.0)
    assert detail(replace(soft, own_sharpening=1.0)) > 1.02 * detail(soft)
    assert detail(replace(soft, own_noise=1.0)) > 1.02 * detail(soft)


@pytest.mark.parametrize("seed", range(24))
def test_materials_are_textures_of_mean_zero_and_deviation_one(seed):
    field = material(np.random.default_rng(seed), 96, 2)
    assert field.shape == (96, 96)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()
    assert abs(float(field.mean())) < 1e-3
    assert float(field.std()) == pytest.approx(1.0, abs=1e-3)
    assert np.array_equal(field, material(np.random.default_rng(seed), 96, 2))


def test_materials_are_not_gaussian_fields():
    """Excess kurtosis of the differences of neighbours: 0 for power-law noise, far above it where there are edges."""

    def tail(field: np.ndarray) -> float:
        steps = np.diff(field).ravel()
        return float((steps**4).mean() / (steps**2).mean() ** 2 - 3)

    plain = [tail(power_law(np.random.default_rng(i), 128, 1.2)) for i in range(8)]
    rich = [tail(material(np.random.default_rng(i), 128, 2)) for i in range(24)]
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
        {"least_radius": (5.0, 1.0)},
        {"least_radius": (1.0, 200.0)},
        {"texture": -1.0},
        {"materials": 1.5},
        {"own_noise": -0.1},
    ],
)
def test_impossible_leaves_are_refused(fault):
    with pytest.raises(ConfigError, match="leaves"):
        LeavesConfig(**fault)


def test_a_pool_gives_the_images_of_the_series_and_keeps_them(tmp_path):
    config = LeavesConfig(size=16)
    pool = LeavesPool(tmp_path, 2, config)
    assert np.array_equal(pool[SHARD + 3], leaves(2, SHARD + 3, config))
    assert pool.path(1).exists()
    assert not pool.path(0).exists()
    assert np.array_equal(LeavesPool(tmp_path, 2, config)[SHARD + 3], pool[SHARD + 3])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_random_kernels_are_normalised_and_of_one_size(scale):
    rng = np.random.default_rng(0)
    for _ in range(40):
        kernel = random_kernel(rng, scale)
        assert kernel.shape == (canvas_side(scale),) * 2
        assert (kernel.shape[0] - scale) % 2 == 0
        assert kernel.sum() == pytest.approx(1.0, abs=1e-9)


def test_random_kernels_of_a_family_that_blurs_are_not_all_gaussians():
    """Excess kurtosis of the marginal: 0 for Gaussians, −1.2 for a box; the families must be told apart."""
    rng = np.random.default_rng(0)
    x = np.arange(canvas_side(2)) - (canvas_side(2) - 1) / 2
    excess = []
    for _ in range(80):
        marginal = np.clip(random_kernel(rng, 2), 0, None).sum(0)
        marginal /= marginal.sum()
        centred = x - marginal @ x
        excess.append(marginal @ centred**4 / (marginal @ centred**2) ** 2 - 3)
    assert np.min(excess) < -0.5
    assert np.mean(np.abs(excess) < 0.3) > 0.3


def test_a_bank_draws_the_same_kernels_for_the_same_seed():
    first, second, other = (KernelBank(seed, 16).draw(np.random.default_rng(0), 3) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_law_says_how_many_images_are_noisy_and_how_noisy():
    rng = np.random.default_rng(0)
    sigmas = np.array([random_noise_sigma(rng, NoiseLaw(share=0.35, largest=10.0)) for _ in range(2000)])
    assert 0.6 < (sigmas == 0).mean() < 0.7
    assert 5 / 255 < sigmas.max() <= 10 / 255


def test_white_noise_is_as_strong_as_the_network_is_told_and_clean_images_stay_clean():
    flat, sigma = torch.full((3, 64, 64), 0.5), torch.tensor([0.0, 0.02, 0.08])
    noisy, told = add_noise(flat, sigma, NoiseLaw(), np.random.default_rng(0))
    assert torch.equal(told, sigma)
    assert (noisy[0] - 0.5).abs().max() <= 0.5 / 255 + 1e-6
    assert noisy[1:].std((1, 2)).tolist() == pytest.approx([0.02, 0.08], rel=0.05)


def test_speckle_grows_with_the_brightness():
    ramp = torch.linspace(0.1, 0.9, 64).expand(8, 64, 64)
    law = NoiseLaw(speckle=1.0)
    noisy, told = add_noise(ramp, torch.full((8,), 0.03), law, np.random.default_rng(0))
    spread = (noisy - ramp).std((0, 1))
    assert float(spread[-8:].mean() / spread[:8].mean()) == pytest.approx(0.85 / 0.15, rel=0.2)
    assert 0.01 < told.min() < told.max() < 0.09
    assert len(told.unique()) == 8


@pytest.mark.parametrize("quality", [25, 60, 95])
def test_compression_is_what_a_jpeg_encoder_does(quality, tmp_path):
    image = leaves(3, 1, LeavesConfig(size=64))
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(path, quality=quality)
    lr = torch.from_numpy(image.astype(np.float32) / 255)[None]
    law = NoiseLaw(jpeg=1.0)
    # libjpeg is the oracle; its transforms are in integers, and a coefficient half-way between two steps may fall the
    # other way, which changes one block.
    with Image.open(path) as decoded:
        expected = torch.from_numpy(np.asarray(decoded, np.float32))
    ours = degradations._compressed(lr[0], quality, np.zeros(2, np.int64)) * 255
    differences = (ours - expected).abs()
    assert (differences < 1.1).float().mean() > 0.9
    assert differences.mean() < 0.1 * (lr[0] * 255 - expected).abs().mean() + 0.3
    assert degradations._quantisation_noise(quality) == pytest.approx(jpeg_noise(path), rel=1e-6)
    noisy, told = add_noise(lr, torch.tensor([0.1]), law, np.random.default_rng(quality))
    assert not torch.equal(noisy, lr)
    assert told[0] > 0


def test_the_blocks_of_a_compressed_patch_begin_anywhere():
    image = torch.from_numpy(leaves(3, 2, LeavesConfig(size=64)).astype(np.float32) / 255)
    moved = degradations._compressed(image.roll((3, 5), (0, 1)), 50, np.array([3, 5]))
    assert torch.equal(moved, degradations._compressed(image, 50, np.zeros(2, np.int64)).roll((3, 5), (0, 1)))


def test_what_a_true_kernel_may_be_keeps_the_sum_and_differs_by_a_little():
    kernels = gaussian([[2.0, 0.5], [0.5, 1.2]], 2).tensor()[None].repeat(20, 1, 1)
    response = transfer(kernels, 2, 40, 36)
    actual = unlike(kernels, response, 2, np.random.default_rng(0))
    assert torch.allclose(actual[:, 0, 0].abs(), torch.ones(20), atol=1e-4)
    error = (actual - response).abs()
    assert (error.amax((1, 2)) > 0.01).all()
    assert error.square().mean().sqrt() < 0.08
    # A real image stays real: the response at −f is the conjugate of that at f.
    mirrored = actual.roll((-1, -1), (1, 2)).flip(1, 2)
    assert torch.allclose(actual[:, 1:20, 1:18], mirrored.conj()[:, 1:20, 1:18], atol=1e-5)


def test_degrading_by_what_the_kernel_may_be_is_near_to_degrading_by_the_kernel():
    hr = torch.from_numpy(leaves(0, 3, LeavesConfig(size=80)) / 255.0).float()[None, None, :72]
    kernel = gaussian([[2.0, 0.5], [0.5, 1.2]], 2).tensor()
    exact = degrade(hr, kernel, 2)
    first, second = (degrade_unlike(hr, kernel, 2, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == exact.shape
    assert 1e-4 < (first - exact).square().mean().sqrt() < 0.03
    assert not torch.equal(first, second)
