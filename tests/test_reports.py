"""What users of such programs report, each report as a small input of its kind with the right result."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage import data

import blindsr
from blindsr.kernels import gaussian
from blindsr.ops import degrade
from tests.images import photograph, samples


def rgb_psnr(first, second, border=8):
    difference = (np.asarray(first, float) - np.asarray(second, float))[border:-border, border:-border]
    return 10 * np.log10(255**2 / (difference**2).mean())


def disc(soft):
    y, x = np.mgrid[:64, :64] - 31.5
    distance = 22 - np.hypot(y, x)
    alpha = np.clip(distance + 0.5, 0, 1) if soft else (distance > 0).astype(float)
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 1] = 255  # hidden green
    pixels[alpha > 0, :3] = (220, 30, 30)
    pixels[..., 3] = np.rint(255 * alpha)
    return pixels


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("kernel", [None, "gaussian:1.2"])
def test_a5_a_flat_cut_out_keeps_its_colour_up_to_its_edge(soft, kernel):
    result = blindsr.SuperResolver(scale=2, preset="fast")(disc(soft), has_alpha=True, kernel=kernel).image
    visible = result[..., 3] > 0
    error = np.abs(result[visible][:, :3].astype(int) - (220, 30, 30)).max()
    assert error <= 2


@pytest.mark.parametrize("alpha", [3, 128, 255])
def test_a5_constant_alpha_does_not_change_the_colours(alpha):
    image = samples(60, 70)
    constant = np.dstack([image, np.full((60, 70), alpha, np.uint8)])
    resolver = blindsr.SuperResolver(scale=2, preset="fast")
    result = resolver(constant, has_alpha=True, kernel="gaussian:1.2").image
    np.testing.assert_array_equal(result[..., :3], resolver(image, kernel="gaussian:1.2").image)
    assert (result[..., 3] == alpha).all()


def test_a3_colour_noise_is_suppressed_in_rgb():
    hr = photograph(288, 288, name="astronaut", top=0, left=120)
    kernel = gaussian(1.44, 2)
    lr = 255 * degrade(hr, kernel.tensor(), 2)[0].permute(1, 2, 0).numpy()
    noisy = np.clip(np.rint(lr + 4 * np.random.default_rng(0).normal(size=lr.shape)), 0, 255).astype(np.uint8)
    truth = 255 * hr[0].permute(1, 2, 0).numpy()
    interpolated = Image.fromarray(noisy).resize((288, 288), Image.Resampling.BICUBIC)
    result = blindsr.SuperResolver(scale=2, preset="fast")(noisy, kernel=kernel).image
    assert rgb_psnr(result, truth) > rgb_psnr(interpolated, truth) + 1.5


@pytest.mark.parametrize(("width", "height", "scale"), [(65, 13, 2), (129, 27, 4), (1, 1, 8), (400, 20, 4)])
@pytest.mark.usefixtures("small_network")
def test_a11_small_crops_are_upscaled_at_every_scale(width, height, scale):
    image = samples(height, width)
    result = blindsr.SuperResolver(scale=scale, preset="fast")(image)
    assert result.image.shape == (scale * height, scale * width, 3)
    assert np.abs(result.image.mean((0, 1)) - image.mean((0, 1))).max() < 2
    assert blindsr.upscale(image, "bicubic", scale, preset="fast").shape == (scale * height, scale * width, 3)


@pytest.mark.parametrize("kernel", ["bicubic", "gaussian:1.2"])
@pytest.mark.parametrize(("dark", "bright"), [(0, 186), (20, 255), (90, 255)])
def test_a14_a_checkerboard_keeps_its_mean(dark, bright, kernel):
    image = np.where(np.indices((64, 64)).sum(0) % 2, bright, dark).astype(np.uint8)
    result = blindsr.upscale(image, kernel, 2, preset="fast")
    assert abs(result[16:-16, 16:-16].mean() - image.mean()) < 0.5


@pytest.mark.parametrize("kernel", ["gaussian:0.5", "gaussian:1.2"])
@pytest.mark.parametrize("period", [2, 3])
def test_a14_a_pattern_in_colour_is_no_noise(period, kernel):
    rows, columns = np.indices((96, 96))
    pattern = (rows + columns) % 2 if period == 2 else (rows % 3 == 0) & (columns % 3 == 0)
    grey = np.where(pattern, 255, 90).astype(np.uint8)
    image = np.stack([grey, grey, grey // 2], -1)
    result = blindsr.SuperResolver(scale=2, preset="fast")(image, kernel=kernel)
    assert not [warning for warning in result.warnings if "noise" in warning]
    assert np.abs(result.image[18:-18, 18:-18].mean((0, 1)) - image[9:-9, 9:-9].mean((0, 1))).max() < 1


@pytest.mark.parametrize("kernel", ["bicubic", "gaussian:1.2"])
def test_small_letters_are_not_covered_by_a_haze(kernel):
    """Strokes at the limit of the pixels, as of a screenshot: their page stays white, and they stay dark."""
    page = Image.new("RGB", (120, 64), "white")
    for row in range(5):
        ImageDraw.Draw(page).text((3, 2 + 12 * row), "million illicit fill mmm", fill="black")
    result = blindsr.SuperResolver(scale=2, preset="fast")(page, kernel=kernel)
    larger = np.asarray(page.resize((240, 128), Image.Resampling.BICUBIC), float)
    assert result.consistency_db > (20 if kernel == "bicubic" else 13)
    assert abs(result.image.mean() - np.asarray(page).mean()) < 1.5
    assert np.percentile(result.image, 50) > 250
    assert result.image.std() > 0.9 * larger.std()


def test_b4_noise_that_is_suppressed_is_no_low_consistency():
    lr = 255 * degrade(photograph(288, 288, name="astronaut", top=0, left=120), gaussian(1.44, 2).tensor(), 2)
    noisy = lr[0].permute(1, 2, 0).numpy() + 13 * np.random.default_rng(0).normal(size=(144, 144, 3))
    noisy = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    result = blindsr.SuperResolver(scale=2, preset="fast")(noisy, kernel=gaussian(1.44, 2))
    assert result.consistency_db < 35
    assert [warning for warning in result.warnings if "noise" in warning]
    assert not [warning for warning in result.warnings if "consistency" in warning]


def test_b6_the_strength_of_a_jpeg_is_its_error():
    file = io.BytesIO()
    original = data.astronaut()[:256, 100:356]
    Image.fromarray(original).save(file, "JPEG", quality=30)
    with Image.open(file) as image:
        error = float((np.asarray(image, float) - original).std())
        result = blindsr.SuperResolver(scale=2, preset="fast")(image, kernel="bicubic")
    assert 0.4 * error < 255 * result.degradation.compression_sigma < 2.5 * error
    assert result.warnings[0].startswith("JPEG compression")
