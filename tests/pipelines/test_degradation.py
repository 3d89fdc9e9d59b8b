"""The measured degradation: noise of each plane, compression, and the uncertainty of the kernel."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage import data

from blindsr import upscale
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.jpeg import jpeg_noise_sigma
from blindsr.ops.windows import LinearLightSource, TensorSource
from blindsr.pipelines.degradation import (
    Noise,
    common_noise,
    degradation_warnings,
    kernel_error_of,
    measure_degradation,
)
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.pretrained.conditioning import conditioning_of
from tests.images import noise, photograph, psnr

pytestmark = pytest.mark.usefixtures("small_network")

KERNEL = gaussian(1.2, 2)


def measured_noise(source):
    return measure_degradation(source, bicubic(2), None, Settings()).noise_sigma


def measure(image, settings=None, *, compression_sigma=0.0, **options):
    settings = settings or Settings()
    degradation = measure_degradation(TensorSource(image), KERNEL, None, settings, compression_sigma=compression_sigma)
    return degradation, degradation_warnings(degradation, settings, compression_sigma=compression_sigma, **options)


def test_noise_of_a_gray_image_is_measured_and_reported():
    degradation, warnings = measure(noise(110, 100, 0.02))
    assert degradation.noise_sigma == pytest.approx((0.02,), rel=0.1)
    assert warnings[0].startswith("noise of 5.1 grey levels was measured, and is suppressed; ")


def test_chroma_has_its_own_noise():
    image = noise(200, 180, 0.03, bands=3)
    y, blue, red = measured_noise(TensorSource(image))
    # Independent noise of R, G and B: luma averages it, B − Y and R − Y do not.
    assert y == pytest.approx(0.03 * 0.668, rel=0.15)
    assert blue == pytest.approx(0.03 * 1.10, rel=0.15)
    assert red == pytest.approx(0.03 * 0.92, rel=0.15)


@pytest.mark.parametrize("sigma", [0.0, 3 / 255])
def test_bands_of_three_pictures_have_their_own_noise(sigma):
    """As chroma, noise of one band would be noise of all."""
    places = ({"name": "chelsea"}, {"name": "astronaut", "top": 20, "left": 180}, {"name": "coffee", "top": 60})
    image = torch.cat([photograph(160, 160, **place, bands=1) for place in places], 1)
    image[:, 1:2] += noise(160, 160, sigma) - 0.5
    measured = measure_degradation(TensorSource(image.clamp(0, 1)), bicubic(2), None, Settings())
    assert not measured.has_colors
    plain = measured_noise(TensorSource(image[:, :1]))
    assert measured.noise_sigma[0] == plain[0]
    assert measured.noise_sigma[1] > 0 or sigma == 0


def test_few_levels_of_one_band_of_three_pictures_are_its_own():
    places = ({"name": "chelsea"}, {"name": "astronaut", "top": 20, "left": 180}, {"name": "coffee", "top": 60})
    image = torch.cat([photograph(160, 160, **place, bands=1) for place in places], 1)
    image[:, 2] = (image[:, 2] * 15).round() / 15
    measured = measure_degradation(TensorSource(image), bicubic(2), None, Settings())
    assert not measured.has_colors
    alone = [measured_noise(TensorSource(image[:, band : band + 1]))[0] for band in range(3)]
    assert measured.noise_sigma == pytest.approx(alone)
    assert measured.noise_sigma[2] == pytest.approx(1 / 15 / 12**0.5, rel=0.4)


def test_the_noise_of_an_empty_band_is_that_of_the_others():
    """Half of it is cut off at black, so that it cannot be measured there, and would be sharpened."""
    rng = np.random.default_rng(4)
    image = np.zeros((3, 160, 160))
    image[1] = photograph(160, 160, bands=1)[0, 0].numpy()
    noisy = np.clip(np.rint(255 * image + rng.normal(0, 4, image.shape)), 0, 255) / 255
    measured = measure_degradation(TensorSource(torch.from_numpy(noisy)[None].float()), bicubic(2), None, Settings())
    assert not measured.has_colors
    assert 255 * np.array(measured.noise_sigma) == pytest.approx(4, rel=0.25)


def test_luma_noise_leaves_chroma_clean():
    image = noise(200, 180, 0.03).repeat(1, 3, 1, 1)
    y, blue, red = measured_noise(TensorSource(image))
    assert y == pytest.approx(0.03, rel=0.1)
    assert (blue, red) == (0.0, 0.0)


def test_a_small_image_and_a_clean_photograph_have_no_noise():
    assert measured_noise(TensorSource(noise(40, 120, 0.03))) == (0.0,)
    assert measured_noise(TensorSource(noise(56, 70, 0.03)))[0] == pytest.approx(0.03, rel=0.2)
    clean = imresize(photograph(240, 280, name="astronaut", top=0, left=120), 0.5).clamp(0, 1)
    assert measured_noise(TensorSource(clean)) == (0.0, 0.0, 0.0)


def test_compression_is_kept_apart_from_noise():
    degradation, warnings = measure(photograph(40, 50), compression_sigma=2.5 / 255)
    assert degradation.compression_sigma == 2.5 / 255
    assert degradation.noise_sigma == (0.0, 0.0, 0.0)
    assert warnings[0].startswith("JPEG compression at a quality of about 88 (of 100) has cost fine detail; use the ")
    assert measure(photograph(40, 50), compression_sigma=0.9 / 255)[1] == ()


@pytest.mark.parametrize("quality", [10, 30, 60, 85, 90])
def test_the_quality_of_a_jpeg_is_estimated_from_its_tables(quality):
    file = io.BytesIO()
    Image.fromarray(data.astronaut()[:64, :64]).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        sigma = jpeg_noise_sigma([image.quantization[0]])
    (warning,) = measure(photograph(40, 50), compression_sigma=sigma)[1]
    assert abs(int(warning.split("about ")[1].split()[0]) - quality) <= 1


def test_a_jpeg_as_cameras_write_it_is_no_reason_for_a_warning():
    assert measure(photograph(40, 50), compression_sigma=1.3 / 255, file_format="JPEG")[1] == ()  # quality 94
    assert "WebP" in measure(photograph(40, 50), compression_sigma=1.3 / 255, file_format="WEBP")[1][0]


def test_noise_of_the_user_is_one_of_the_encoded_samples():
    image = photograph(120, 140)
    settings = Settings(noise_sigma=0.02)
    assert measure(image, settings)[0].noise_sigma == (0.02,)
    linear = LinearLightSource(TensorSource(image))
    degradation = measure_degradation(linear, KERNEL, None, settings, linear_light=True)
    step = 1 / 255
    from blindsr.ops.color import srgb_to_linear

    slope = (srgb_to_linear(image + step) - srgb_to_linear(image)) / step
    assert degradation.noise_sigma[0] == pytest.approx(0.02 * float(slope.square().mean().sqrt()), rel=1e-3)


@pytest.mark.parametrize(
    ("provenance", "error"),
    [
        ({}, 0.0),
        ({"made_by": "sensor"}, 0.0),
        ({"made_by": "bicubic"}, 0.0),
        ({"made_by": "spectral"}, 0.04),
        ({"made_by": "l0"}, 0.1),
        ({"made_by": "kernelgan"}, 0.04),
        ({"made_by": "dkp"}, 0.1),
        ({"made_by": "dip-fkp"}, 0.1),
        ({"made_by": "dualsr"}, 0.1),
        ({"made_by": "bicubic", "in_place_of": {"made_by": "spectral"}}, 0.0),
    ],
)
def test_the_error_of_a_kernel_is_that_of_the_estimator_that_made_it(provenance, error):
    assert kernel_error_of(Kernel(KERNEL.array, 2, provenance), None) == error


def test_an_estimate_may_carry_its_own_error():
    estimate = KernelEstimate(kernel=bicubic(2), method="spectral", kernel_error=0.02)
    assert kernel_error_of(estimate.kernel, estimate) == 0.02
    settings = Settings(kernel_error=0.5)
    source = TensorSource(torch.rand(1, 1, 40, 40))
    assert measure_degradation(source, KERNEL, estimate, settings).kernel_error == 0.5


def test_noise_of_saturated_colours_is_measured_in_chroma():
    tint = torch.tensor([0.8, 0.45, 0.12])[None, :, None, None]  # B − Y is −0.4: far outside of [0, 1]
    y, blue, red = measured_noise(TensorSource((tint + noise(200, 180, 0.03, bands=3) - 0.5).clamp(0, 1)))
    assert y == pytest.approx(0.03 * 0.668, rel=0.15)
    assert blue == pytest.approx(0.03 * 1.10, rel=0.15)
    assert red == pytest.approx(0.03 * 0.92, rel=0.15)


@pytest.mark.parametrize("is_large", [False, True])
def test_what_was_a_jpeg_has_the_error_of_its_table_wherever_it_was_cut_out(is_large):
    file = io.BytesIO()
    pixels = np.tile(data.astronaut(), (2, 2, 1)) if is_large else data.astronaut()[:256, :256]
    Image.fromarray(pixels).save(file, "JPEG", quality=40)
    decoded = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)[None].float() / 255
    image = decoded[..., 3:, 5:].contiguous()
    degradation, warnings = measure(image)
    assert degradation.compression_sigma == pytest.approx(jpeg_noise_sigma(Image.open(file).quantization), rel=0.1)
    (warning,) = warnings
    end = "(of 100) has cost fine detail; use the original, or a less compressed copy, if there is one."
    assert re.fullmatch(
        r"JPEG compression of an earlier copy at a quality of about (38|39|40) " + re.escape(end), warning
    )
    if is_large:
        return  # the messages do not depend on the size
    assert measure(image, file_format="WEBP")[1] == (warning,)  # a lossless one
    _, warnings = measure(image, file_format="WEBP", compression_sigma=0.5 / 255)
    assert re.match("WebP compression, or JPEG before it, at a quality of about (38|39|40) ", warnings[0])
    # A file that states the same compression is no earlier copy.
    _, warnings = measure(image, compression_sigma=degradation.compression_sigma / 1.1, file_format="JPEG")
    assert warnings[0].startswith("JPEG compression at a quality of about 4")


def test_a_jpeg_that_was_resized_since_is_named_and_its_error_counts():
    file = io.BytesIO()
    Image.fromarray(data.astronaut()).save(file, "JPEG", quality=50)
    copy = np.asarray(Image.open(file).resize((461, 461), Image.Resampling.BICUBIC))
    image = torch.from_numpy(copy.copy()).permute(2, 0, 1)[None].float() / 255
    degradation, (warning,) = measure(image)
    level = 255 * degradation.compression_sigma
    assert 2 < level < 8
    assert warning == (
        "JPEG compression of an earlier copy, which was resized since, with an error of about "
        f"{level:.1f} grey levels, has cost fine detail; use the original, or a less compressed copy, if there is one."
    )
    # A file of a high quality has another error of its own.
    assert measure(image, compression_sigma=0.8 / 255, file_format="JPEG")[1] == (warning,)


@pytest.mark.parametrize(
    ("denoise", "words"),
    [
        ("auto", "and is suppressed"),
        (1.0, "and is suppressed"),
        (0.5, "of which 50 % is removed"),
        (0.0, "and is kept"),
    ],
)
def test_a_warning_says_what_becomes_of_the_noise(denoise, words):
    _, warnings = measure(noise(110, 100, 0.02), Settings(denoise=denoise))
    assert words in warnings[0]
    assert ("suppressed" in warnings[0]) == (denoise in ("auto", 1.0))


@pytest.mark.usefixtures("trained_network")
def test_few_levels_are_named_and_their_steps_are_not_sharpened():
    hr = photograph(320, 320, name="astronaut", top=0, left=100)
    levels = (degrade(hr, KERNEL.tensor(), 2).clamp(0, 1) * 15).round() / 15
    degradation, warnings = measure(levels)
    assert degradation.noise_sigma[0] == pytest.approx(1 / 15 / 12**0.5 * 0.67, rel=0.3)
    assert warnings[0].startswith("the image has few grey levels or colours, whose rounding error of ")
    assert (
        "in luma counts as noise, and is suppressed; denoise=0 (--denoise 0) keeps their steps; use a copy"
        in warnings[0]
    )
    # Dithering has up to twice this error, which is not the kernel's.
    assert degradation.unexplained_sigma == 2 * max(degradation.noise_sigma)
    assert degradation.band(1).is_quantized
    image = (255 * levels[0]).round().byte().permute(1, 2, 0).numpy()

    def quality(result):
        return psnr(torch.from_numpy(result).permute(2, 0, 1)[None] / 255, hr, border=8)

    result = upscale(image, KERNEL, scale=2, preset="fast")
    sharpened = upscale(image, KERNEL, scale=2, preset="fast", denoise=0.0)
    interpolated = upscale(image, KERNEL, scale=2, upscaler="bicubic")
    assert quality(result) > quality(interpolated) + 0.5
    assert quality(result) > quality(sharpened) + 0.3


def test_noise_is_no_warning_where_the_upscaler_removes_none():
    degradation, warnings = measure(noise(110, 100, 0.02), removes_noise=False)
    assert degradation.noise_sigma == pytest.approx((0.02,), rel=0.1)
    assert warnings == ()


def test_noise_of_chroma_beside_clipped_areas_is_no_more_than_that_of_the_bands():
    """Saturated lights in a night are texture of chroma; independent noise of the bands would be in luma as well."""
    rng = np.random.default_rng(11)
    places = rng.random((320, 320)) < 0.004
    colours = rng.uniform(0.4, 1, (3, 320, 320))
    lights = (
        ndimage.gaussian_filter(places * level * colour, (3, 1))
        for level, colour in zip((255.0, 220, 120), colours, strict=True)
    )
    hr = torch.from_numpy(np.stack([np.clip(plane * 900 + 6, 0, 255) for plane in lights])[None] / 255)
    lr = degrade(hr, bicubic(2).tensor(hr), 2) + torch.from_numpy(rng.normal(0, 3 / 255, (1, 3, 160, 160)))
    sigmas = np.array(measured_noise(TensorSource((lr.clamp(0, 1) * 255).round().float() / 255))) * 255
    assert sigmas[0] < 4
    assert sigmas[1:].max() < 1.7 * max(sigmas[0], 0.01)


def test_chroma_of_a_mosaic_has_an_error_of_its_own():
    degradation = Degradation(kernel=KERNEL, noise_sigma=(0.0, 0.0, 0.0), mosaic_sigma=0.03)
    assert conditioning_of(degradation, 0, colour=True).chroma_sigma == pytest.approx(0.03)
    assert conditioning_of(degradation, 0, colour=True).noise_sigma == 0
    assert conditioning_of(degradation, 0, colour=False).chroma_sigma == 0


@pytest.mark.parametrize(("name", "top", "left"), [("astronaut", 0, 60), ("coffee", 16, 150)])
def test_what_is_drawn_around_photographs_is_no_compression_and_no_few_levels(name, top, left):
    """The edges of lines have a period, and white is far from the brightest level of a dark photograph."""
    image = imresize(photograph(384, 384, name=name, top=top, left=left), 0.5).clamp(0, 1) * 0.8
    for place in (60, 124):
        image[..., place : place + 8, :] = 1
        image[..., place : place + 8] = 1
    image = (255 * image).round() / 255
    degradation = measure_degradation(TensorSource(image), bicubic(2), None, Settings())
    assert (degradation.compression_sigma, degradation.is_quantized) == (0, False)
    image[..., :80, :] = 1  # a cut-out
    assert not measure_degradation(TensorSource(image), bicubic(2), None, Settings()).is_quantized


def test_noise_that_flat_parts_do_not_have_is_not_there():
    """A heat map of crisp cells had "noise of 14 grey levels" from the networks, which have seen none."""
    cells = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 2)
    source = TensorSource(cells.repeat_interleave(8, 3))
    estimate = KernelEstimate(kernel=KERNEL, method="learned", noise_sigma=14 / 255)
    assert measure_degradation(source, KERNEL, estimate, Settings()).noise_sigma == (0, 0, 0)


@pytest.mark.parametrize(
    ("seen", "changed", "sigma"),
    [
        (1.2, {}, 1.2),
        (0.6, {}, 0.0),  # as fur and fabric without noise have
        (1.2, {"compression_sigma": 2 / 255}, 0.0),  # its error counts anyway
        (1.2, {"noise": Noise(sigmas=(0.0, 0.0, 0.0))}, 0.0),  # the frames of a film have one level
    ],
)
def test_noise_that_the_estimator_alone_sees_counts(seen, changed, sigma):
    estimate = KernelEstimate(kernel=KERNEL, method="learned", noise_sigma=seen / 255)
    source = TensorSource(imresize(photograph(240, 280, name="astronaut", top=0, left=120), 0.5).clamp(0, 1))
    degradation = measure_degradation(source, KERNEL, estimate, Settings(), **changed)
    assert degradation.noise_sigma == pytest.approx((sigma / 255, 0.0, 0.0))


def test_a_series_has_the_noise_of_its_more_frequent_kind():
    """One composite among the colour pages of a file had decided for all of them."""
    colour = [Noise(sigmas=(0.02 + 0.001 * i, 0.01, 0.01)) for i in (0, 1, 2)]
    composite = Noise(sigmas=(0.0, 0.0, 0.0), has_colors=False)
    common = common_noise([colour[0], composite, *colour[1:]])
    assert common == Noise(sigmas=(0.021, 0.01, 0.01))
    assert common_noise([composite, composite, colour[0]]) == composite
    assert common_noise([colour[0], Noise(sigmas=(0.0,))]) is None


@pytest.mark.parametrize(("sigmas", "words"), [((0.0, 0.0, 0.02), " in some of the bands,"), ((0.02,) * 3, ",")])
def test_noise_of_single_bands_is_said_to_be_theirs(sigmas, words):
    measured = Degradation(kernel=KERNEL, noise_sigma=sigmas, has_colors=False)
    (text,) = degradation_warnings(measured, Settings())
    assert text.startswith(f"noise of 5.1 grey levels was measured{words}")
