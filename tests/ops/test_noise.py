"""How noisy an image is."""

import io
import math

import images
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage import data
from torch.nn import functional

from blindsr.errors import ImageError
from blindsr.kernels import gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.noise import (
    ROUNDING,
    estimate_codec_error,
    estimate_floor,
    estimate_grain,
    estimate_mosaic_error,
    estimate_noise,
    estimate_photon_noise,
    estimate_quantization_error,
    largest_smoothed_noise,
)


def noisy(image, sigma, seed=0):
    return image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def photograph():
    """A photograph that was made half as large, by a kernel wide enough to take its own grain away."""
    pixels = images.photograph(400, 360, name="astronaut", top=0, left=0)
    return degrade(pixels, gaussian(1.5, 2).tensor(), 2)


def grainy(image, sigma, width, seed=0):
    """An image with noise of a Gaussian correlation, as film grain has it."""
    grain = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(image.shape[-2:]), width)
    return image + sigma / 255 * torch.from_numpy(grain / grain.std()).float()


@pytest.mark.parametrize("sigma", [4.0, 8.0, 14.0])
def test_grain_is_measured_where_it_is_sharpened(sigma):
    image = grainy(photograph()[:, :1], sigma, 0.7)
    assert estimate_noise(image) < 0.2 * sigma / 255
    assert 0.5 * sigma < 255 * estimate_grain(image) < 1.1 * sigma


def test_white_noise_is_never_grain_of_a_higher_level():
    assert 0 < estimate_grain(noisy(photograph()[:, :1], 5 / 255)) < 5 / 255


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "brick", "grass", "gravel", "cat", "page"])
def test_a_photograph_and_its_texture_have_no_grain(name):
    for pixels in (1, 2):
        image = images.photograph(180 * pixels, 190 * pixels, name=name, top=0, left=0, bands=1)
        assert estimate_grain(imresize(image, 1 / pixels).clamp(0, 1)) == 0


@pytest.mark.parametrize("sigma", [1 / 255, 5 / 255, 20 / 255])
def test_pure_noise_is_measured_within_a_tenth(sigma):
    assert estimate_noise(noisy(torch.full((1, 1, 131, 97), 0.5), sigma)) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("sigma", [2 / 255, 5 / 255, 15 / 255])
def test_noise_on_a_photograph_is_measured(sigma):
    assert estimate_noise(noisy(photograph(), sigma)) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("period", [2, 3, 6])
@pytest.mark.parametrize("sigma", [0, 1 / 255, 4 / 255])
def test_a_pattern_is_no_noise_and_noise_on_it_is_measured(period, sigma):
    rows, columns = torch.meshgrid(torch.arange(130), torch.arange(160), indexing="ij")
    pattern = torch.where((rows + 2 * columns) % period == 0, 0.8, 0.3)[None, None]
    assert estimate_noise(noisy(pattern, sigma)) == pytest.approx(sigma, rel=0.35, abs=0.1 / 255)


def test_a_clean_photograph_of_bytes_has_less_than_half_a_level():
    clean = torch.round(photograph() * 255) / 255
    assert estimate_noise(clean) < 0.5 / 255


@pytest.mark.parametrize("factor", [2, 3])
def test_fine_texture_is_not_taken_for_noise(factor):
    """In a small picture of much detail the smoothest tiles are texture, too; the fourth difference alone says 1."""
    pixels = torch.from_numpy(data.coffee()[:396, :600].copy()).permute(2, 0, 1)[None].float() / 255
    small = imresize(pixels, 1 / factor)[..., :96, -96:].mean(1, keepdim=True)
    small = torch.round(small * 255).clamp(0, 255) / 255
    assert estimate_noise(small) < 0.25 / 255
    assert estimate_noise(noisy(small, 3 / 255)) == pytest.approx(3 / 255, rel=0.4)


def test_flat_and_clipped_images_have_none():
    assert estimate_noise(torch.full((1, 3, 64, 40), 0.3)) == 0.0
    assert estimate_noise(torch.zeros(1, 1, 64, 40)) == 0.0
    half = noisy(torch.full((1, 1, 128, 128), 0.5), 0.02)
    half[..., :64] = 1.0
    assert estimate_noise(half) == pytest.approx(0.02, rel=0.2)


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ImageError, match="32 px"):
        estimate_noise(torch.rand(1, 1, 31, 64))
    with pytest.raises(ImageError, match="32 px"):
        estimate_noise(torch.rand(64, 64))


def speckled(strength):
    rows = torch.linspace(0.15, 0.8, 256, dtype=torch.float64)[:, None].expand(256, 256)
    clean = (rows + 0.05 * torch.sin(torch.arange(256) / 9))[None, None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return clean, (clean * (1 + strength * noise)).clamp(0, 1)


def test_speckle_is_judged_by_the_middle_tile():
    clean, noisy = speckled(0.2)
    true = float((noisy - clean).std())
    # Bright tiles are left out where they clip.
    assert 0.6 * true < estimate_noise(noisy) < 1.25 * true


def test_the_floor_under_a_wide_blur_is_measured_and_texture_is_none():
    wide = degrade(images.photograph(400, 360, name="astronaut", top=0, left=0), gaussian(3.6**2, 2).tensor(), 2)
    with_noise = torch.round(noisy(wide, 0.4 / 255) * 255) / 255
    assert estimate_floor(with_noise, ROUNDING) == pytest.approx(0.4 / 255, rel=0.15)
    assert 0 < estimate_floor(torch.round(wide * 255) / 255, ROUNDING) < 0.1 / 255
    assert estimate_floor(torch.round(wide * 255) / 255, ROUNDING, is_chroma=True) == 0
    assert estimate_floor(wide, ROUNDING) == 0  # a spectrum that falls to nothing
    sharp = imresize(images.photograph(400, 360, name="astronaut", top=0, left=0), 0.5)
    assert estimate_floor(torch.round(noisy(sharp, 0.4 / 255) * 255) / 255, ROUNDING) == 0
    assert estimate_floor(noisy(wide, 4 / 255), ROUNDING) == 0  # that of `estimate_noise`


@pytest.mark.parametrize("name", ["grass", "gravel"])
def test_fine_texture_is_little_noise_and_noise_on_it_is_measured(name):
    pixels = torch.from_numpy(getattr(data, name)()[:256, :256].copy())[None, None].float() / 255
    assert estimate_noise(pixels) < 1.5 / 255
    assert estimate_noise(noisy(pixels, 12 / 255)) == pytest.approx(12 / 255, rel=0.25)


def page(noise=0.0):
    sheet = Image.new("L", (1600, 1200), 255)
    draw, top = ImageDraw.Draw(sheet), 20
    for size in (40, 48, 60, 72, 90, 110):
        for _ in range(2):
            draw.text((20, top), "The quick brown fox jumps over 0123456789", font=ImageFont.load_default(size), fill=0)
            top += int(1.25 * size)
    pixels = np.asarray(sheet.reduce(8), dtype=np.float64)
    if noise:
        pixels = 0.8 * pixels + 30 + np.random.default_rng(0).normal(0, noise, pixels.shape)
    return torch.from_numpy(pixels.round().clip(0, 255) / 255).float()[None, None]


def test_a_clean_page_has_no_noise_and_a_noisy_one_has():
    assert estimate_noise(page()) == 0
    assert 255 * estimate_noise(page(4.0)) == pytest.approx(4, rel=0.3)


def test_noise_that_is_half_clipped_is_no_paper():
    sky = (2 / 255 + 4 / 255 * torch.randn((1, 1, 200, 200), generator=torch.Generator().manual_seed(0))).clamp_min(0)
    assert estimate_noise((255 * sky).round() / 255) > 2 / 255


def mosaic(image):
    """A colour image as a camera with one colour for each pixel sees it, with the others interpolated linearly."""
    result = torch.zeros_like(image)
    cross = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    square = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    for band, places, weights in ((0, [(0, 0)], square), (1, [(0, 1), (1, 0)], cross), (2, [(1, 1)], square)):
        samples = torch.zeros_like(image[:, :1])
        for y, x in places:
            samples[..., y::2, x::2] = image[:, band : band + 1, y::2, x::2]
        padded = functional.pad(samples, (1,) * 4, mode="reflect")
        result[:, band : band + 1] = functional.conv2d(padded, weights[None, None])
    return (255 * result).round() / 255


def test_colours_of_a_mosaic_have_an_error_and_those_of_a_photograph_have_none():
    image = imresize(images.photograph(320, 300, name="astronaut", top=0, left=100), 0.5).clamp(0, 1)
    assert 4 < 255 * estimate_mosaic_error(mosaic(image)) < 20
    # At whatever pixel a part of it begins.
    assert estimate_mosaic_error(mosaic(image)[..., 1:, :]) > 0
    assert estimate_mosaic_error(image) == 0
    assert estimate_mosaic_error(imresize(mosaic(image), 0.5)) == 0
    assert estimate_mosaic_error(torch.full((1, 3, 64, 64), 0.4)) == 0


@pytest.mark.parametrize(("format_", "name"), [("WEBP", "WEBP"), ("AVIF", "AVIF")])
@pytest.mark.parametrize("quality", [25, 60, 85])
def test_the_error_of_a_codec_is_estimated_from_its_bits(format_, name, quality):
    original = data.astronaut()[100:356, 100:356]
    file = io.BytesIO()
    Image.fromarray(original).save(file, format_, quality=quality)
    decoded = np.asarray(Image.open(file).convert("RGB")).astype(np.float32)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    error = float(((decoded - original) @ weights).std())
    luma = torch.from_numpy(decoded @ weights)[None, None] / 255
    estimate = 255 * estimate_codec_error(luma, name, 8 * len(file.getvalue()) / 256**2)
    assert error / 1.6 < estimate < 1.6 * error


def test_a_codec_without_a_fit_and_a_flat_image_have_no_error():
    flat = torch.full((2, 1, 32, 32), 0.5)
    assert estimate_codec_error(flat, "PNG", 1.0) == 0
    assert estimate_codec_error(flat, "WEBP", 0.05) == 0
    flat[1] = 0.8  # parts of an image may differ
    flat[:, :, ::2] += 1 / 255  # rounding
    assert estimate_codec_error(flat, "HEIC", 0.05) == 0
    flat[:, :, ::8] += 4 / 255
    assert 0 < estimate_codec_error(flat, "HEIC", 0.05) < 8 / 255


def quantized(form):
    """A photograph of bytes, (320, 320, 3), and the same with few levels or colours."""
    original = images.photograph(640, 640, name="astronaut", top=0, left=0)[0, :, ::2, ::2]
    original = np.asarray((original * 255).round().permute(1, 2, 0)).astype(np.uint8)
    if form.startswith("levels"):
        step = 255 / (int(form[6:]) - 1)
        return original, (np.round(original / step) * step).round().astype(np.uint8)
    image = Image.fromarray(original)
    palette = image.quantize(int(form[7:]))
    dither = Image.Dither.FLOYDSTEINBERG if form.startswith("dither") else Image.Dither.NONE
    return original, np.array(image.quantize(palette=palette, dither=dither).convert("RGB"))


def planes_of(pixels):
    """Luma, B − Y and R − Y of pixels, (3, H, W)."""
    bands = np.moveaxis(pixels.astype(float), -1, 0)
    luma = np.tensordot((0.299, 0.587, 0.114), bands, 1)
    return np.stack([luma, bands[2] - luma, bands[0] - luma])


@pytest.mark.parametrize(
    "form", ["levels8", "levels16", "levels48", "colours16", "colours256", "dither.64", "dither.256"]
)
def test_the_error_of_few_levels_and_of_a_palette_is_estimated(form):
    original, coarse = quantized(form)
    errors = (planes_of(coarse) - planes_of(original)).std((1, 2))
    estimates = estimate_quantization_error(torch.from_numpy(coarse).permute(2, 0, 1)[None] / 255)
    for error, estimate in zip(errors, estimates, strict=True):
        assert 0.25 * min(error, 10) < 255 * estimate < 1.5 * error
    assert 0.4 * errors[0] < 255 * estimates[0]
    grey_error = (np.round(original[..., 1] / 17) * 17 - original[..., 1]).std()
    grey = torch.from_numpy(np.round(original[..., 1] / 17) / 15).float()[None, None]
    (single,) = estimate_quantization_error(grey)
    assert 0.7 * grey_error < 255 * single < 1.1 * grey_error
    assert estimate_quantization_error(grey.expand(1, 3, -1, -1)) == (single, 0.0, 0.0)  # grey levels have no colour
    assert estimate_quantization_error(grey.expand(1, 4, -1, -1)) == (single,) * 4


@pytest.mark.parametrize("name", ["astronaut", "coffee", "camera", "moon", "page", "brick"])
def test_photographs_of_bytes_have_no_error_of_few_levels(name):
    pixels = getattr(data, name)()[:256, :256]
    image = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)[None] / 255
    assert max(estimate_quantization_error(image)) == 0
    assert max(estimate_quantization_error(image.double() ** 2.2)) == 0  # no other spacing of the levels
    assert max(estimate_quantization_error(image[..., :24, :24])) == 0


def test_a_drawing_has_no_error_of_few_levels():
    """Two colours are all that it has, and inside flat areas nothing was rounded."""
    drawing = torch.zeros(1, 3, 128, 128)
    drawing[..., 32:96, 32:96] = 1
    assert max(estimate_quantization_error(drawing)) == 0
    flags = torch.arange(8.0).repeat_interleave(16).div(7).expand(1, 1, 128, 128)  # eight vertical stripes
    assert estimate_quantization_error(flags)[0] < 0.4 * (1 / 7) / 12**0.5
    assert estimate_quantization_error(torch.full((1, 3, 64, 64), 0.5)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("peak", [4, 8, 15, 30])
def test_counted_photons_have_the_noise_of_their_number(peak):
    """σ² = step · mean, also where half of the image is black, and where the brightest counts are cut off at white."""
    rng = np.random.default_rng(peak)
    light = images.photograph(160, 160, bands=1)[0, 0].double().numpy() ** 2
    light[:, :60] = 0
    counts = rng.poisson(light * peak)
    band = torch.from_numpy(np.rint(255 * np.minimum(counts / peak, 1)) / 255)[None, None].float()
    assert estimate_photon_noise(band) == pytest.approx((light.mean() / peak) ** 0.5, rel=0.1)


@pytest.mark.parametrize("levels", [4, 8, 16, 32])
@pytest.mark.parametrize("is_dithered", [False, True])
def test_few_levels_of_a_photograph_are_no_photons(levels, is_dithered):
    image = images.photograph(160, 160, bands=1) * (levels - 1)
    offset = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) if is_dithered else 0.5
    assert estimate_photon_noise((image + offset).floor().clamp(0, levels - 1) / (levels - 1)) == 0
    assert estimate_photon_noise(images.photograph(160, 160, bands=1)) == 0


def test_noise_that_was_smoothed_is_in_the_flattest_parts():
    grains = ndimage.gaussian_filter(np.random.default_rng(3).normal(0, 6 / 255, (160, 160)), 0.7)
    image = images.photograph(160, 160, bands=1).double()
    assert largest_smoothed_noise((image + torch.from_numpy(grains)).clamp(0, 1)) > 6 / 255
    cells = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 2)
    assert largest_smoothed_noise(cells.repeat_interleave(8, 3)) == pytest.approx(0, abs=1e-6)
    assert largest_smoothed_noise(torch.ones(1, 1, 64, 64)) == math.inf
