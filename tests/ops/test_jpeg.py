import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from blindsr.errors import ImageError
from blindsr.ops.jpeg import estimate_jpeg_error, estimate_resized_jpeg_error, jpeg_noise_sigma

_SIDE = 200


def luma(pixels):
    """(H, W) or (H, W, 3), 8 bits, as (1, 1, H, W), [0, 1]."""
    pixels = np.asarray(pixels, dtype=np.float64)
    grey = pixels @ np.array([0.299, 0.587, 0.114]) if pixels.ndim == 3 else pixels
    return torch.from_numpy(grey / 255)[None, None]


def compressed(pixels, **options):
    """Decoded pixels of a JPEG, and the error of its table."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    with Image.open(file) as image:
        return np.asarray(image), jpeg_noise_sigma([image.quantization[0]])


def astronaut():
    """A part of a photograph that never was a JPEG."""
    return data.astronaut()[:_SIDE, 130 : 130 + _SIDE]


def test_the_error_of_equal_steps_is_that_of_a_uniform_quantiser():
    assert jpeg_noise_sigma([[12] * 64]) == pytest.approx(12 / 12**0.5 / 255)
    assert jpeg_noise_sigma([[12] * 64, [99] * 64]) == jpeg_noise_sigma([[12] * 64])
    assert jpeg_noise_sigma(None) == 0


def test_coarser_compression_has_a_larger_error():
    sigmas = [255 * compressed(astronaut(), quality=quality)[1] for quality in (95, 75, 45)]
    assert 0 < sigmas[0] < 2 < sigmas[1] < sigmas[2] < 15


@pytest.mark.parametrize("quality", [15, 40, 75, 90])
@pytest.mark.parametrize("offset", [(0, 0), (3, 5), (7, 1)])
def test_the_table_is_read_from_the_pixels_wherever_the_blocks_begin(quality, offset):
    for subsampling in (0, 2):
        pixels, sigma = compressed(astronaut(), quality=quality, subsampling=subsampling)
        part = luma(pixels)[..., offset[0] :, offset[1] :]
        for view in (part, part.mT, part.flip(-1)):
            assert estimate_jpeg_error(view) == pytest.approx(sigma, rel=0.05)


def test_the_table_of_a_camera_or_an_editor_is_read_too():
    order = np.add.outer(np.arange(8), np.arange(8))
    table = np.rint(3 + 0.25 * order**2.3).astype(int).ravel().tolist()
    pixels, sigma = compressed(data.camera()[:_SIDE, :_SIDE], qtables=[table])
    assert estimate_jpeg_error(luma(pixels[2:, 6:])) == pytest.approx(sigma, rel=0.25)


@pytest.mark.parametrize("second", [90, 97])
def test_of_two_compressions_the_stronger_one_counts(second):
    pixels, sigma = compressed(data.astronaut()[:300, 100:400], quality=50)
    again, _ = compressed(np.ascontiguousarray(pixels[3:, 5:]), quality=second)
    assert estimate_jpeg_error(luma(again)) == pytest.approx(sigma, rel=0.1)


def test_windows_of_an_image_are_measured_together():
    pixels, sigma = compressed(data.astronaut(), quality=80)
    image = luma(pixels[1:, 2:])
    origins = [(0, 0), (57, 203), (301, 99), (340, 340)]
    windows = torch.cat([image[..., y : y + 96, x : x + 96] for y, x in origins])
    assert estimate_jpeg_error(windows, origins) == pytest.approx(sigma, rel=0.1)


def test_after_a_change_of_brightness_the_seams_tell_the_error():
    pixels, sigma = compressed(astronaut(), quality=50)
    darker = np.rint(200 * (pixels / 255) ** 1.7)
    assert 0.4 * sigma < estimate_jpeg_error(luma(darker[5:, 3:])) < 1.6 * sigma


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "brick", "grass", "gravel", "text", "clock"])
def test_what_was_never_compressed_has_no_error(name):
    picture = getattr(data, name)()
    for part in (picture[:160, :160], picture[-150:, -170:]):
        assert estimate_jpeg_error(luma(part)) == 0


def resized(pixels, factor, method=Image.Resampling.BICUBIC):
    """Decoded pixels, resized by a factor."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize([round(factor * side) for side in image.size], method))


@pytest.mark.parametrize("factor", [0.75, 0.9, 1.1, 1.25, 1.35])
@pytest.mark.parametrize("quality", [30, 60])
def test_of_a_jpeg_that_was_resized_the_seams_tell_the_error(factor, quality):
    for picture in (data.astronaut()[:300, 100:400], data.coffee()[50:350, 150:450]):
        pixels, sigma = compressed(picture, quality=quality)
        for method in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
            copy = luma(resized(pixels, factor, method))
            assert estimate_jpeg_error(copy) == 0
            found = [estimate_resized_jpeg_error(view) for view in (copy, copy.mT, copy.flip(-1), copy[..., 3:, 5:])]
            assert min(found) > 0.25 * sigma
            assert max(found) < 1.2 * sigma
            assert max(found) < 1.4 * min(found)


def test_windows_of_a_resized_jpeg_are_measured_together():
    copy = luma(resized(compressed(data.astronaut(), quality=60)[0], 0.9))
    windows = torch.cat([copy[..., y : y + 128, x : x + 128] for y in (0, 150, 300) for x in (20, 170, 320)])
    assert estimate_resized_jpeg_error(windows) == pytest.approx(estimate_resized_jpeg_error(copy), rel=0.25)


@pytest.mark.parametrize("factor", [0.7, 0.8, 0.93, 1, 1.05, 1.17, 1.25, 1.33, 1.5])
def test_what_was_resized_without_compression_has_no_error(factor):
    for name in ("astronaut", "camera", "coffee", "brick", "grass", "gravel", "clock"):
        picture = getattr(data, name)()[-200:, :220]
        for method in (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR):
            assert estimate_resized_jpeg_error(luma(resized(picture, factor, method))) == 0


def test_a_jpeg_of_its_own_size_was_not_resized():
    for quality in (40, 75, 92):
        assert estimate_resized_jpeg_error(luma(compressed(astronaut(), quality=quality)[0][3:, 5:])) == 0


def _patterns():
    y, x = np.mgrid[:240, :240]
    rng = np.random.default_rng(0)
    few = Image.fromarray(rng.integers(0, 255, (30, 30)).astype(np.uint8))
    tones = rng.integers(0, 256, (8, 3))[rng.integers(0, 8, (30, 30))]
    drawing = np.full((240, 240), 250)
    for _ in range(40):
        top, left, height, width = 8 * rng.integers(1, 26, 4)
        drawing[top : top + height, left : left + width] = rng.integers(0, 255)
    yield "squares of 8 px", 255 * ((x // 8 + y // 8) % 2)
    yield "noisy squares of 8 px", 60 + 120 * ((x // 8 + y // 8) % 2) + rng.normal(0, 3, (240, 240))
    for side in (16, 24, 32):
        yield f"squares of {side} px", 40 + 170 * ((x // side + y // side) % 2)
        yield f"noisy squares of {side} px", 40 + 170 * ((x // side + y // side) % 2) + rng.normal(0, 4, (240, 240))
    yield "lines each 8 px", np.where((x % 8 == 0) | (y % 8 == 0), 0, 220)
    grey = data.camera()[100:340, 100:340]
    screen = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) * 16 + 8
    dithered = 255.0 * (grey > screen[y % 4, x % 4])
    yield "an ordered dither of 4 px, blurred", np.rint(gaussian_filter(dithered, 0.8))
    yield "waves of 8 px", 128 + 60 * np.sin(np.pi * x / 4) + 60 * np.sin(np.pi * y / 4)
    yield "a drawing on a grid of 8 px", drawing
    yield "the same with noise", drawing * 0.9 + 9 + rng.normal(0, 2, (240, 240))
    for times in (4, 8, 16):
        yield f"repeated {times} times", np.kron(tones[: 240 // times, : 240 // times, 0], np.ones((times, times)))
    for method in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
        yield f"enlarged 8 times, {method.name}", few.resize((240, 240), method)
    yield "flat", np.full((240, 240), 128)
    yield "black and white", np.where(rng.random((240, 240)) < 0.5, 0, 255)


@pytest.mark.parametrize(
    ("name", "pixels"), list(_patterns()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_pattern_of_eight_pixels_is_no_compression(name, pixels):
    assert estimate_jpeg_error(luma(pixels)) == 0, name
    assert estimate_resized_jpeg_error(luma(pixels)) == 0, name


def pixelated(picture, block, part):
    """A picture, (H, W) or (H, W, 3), in whose middle each block has one value, as where a face is censored."""
    side = int(len(picture) * part) // block * block
    start = (len(picture) - side) // 2 // block * block
    inner = slice(start, start + side), slice(start, start + side)
    blocks = picture[inner].reshape(side // block, block, side // block, block, -1).mean((1, 3))
    result = picture.copy()
    result[inner] = np.kron(blocks, np.ones((block, block, 1))).reshape(result[inner].shape)
    return result


@pytest.mark.parametrize("block", [7, 8, 9, 10, 11, 12])
def test_censored_parts_are_no_compression(block):
    for picture in (data.astronaut()[:240, 120:360], data.coffee()[50:290, 150:390], data.camera()[100:340, 100:340]):
        for part in (0.3, 0.5):
            censored = luma(pixelated(picture, block, part))
            assert estimate_jpeg_error(censored) == estimate_resized_jpeg_error(censored) == 0


@pytest.mark.parametrize("block", [8, 11])
def test_compression_beside_censored_parts_is_found(block):
    pixels, sigma = compressed(data.astronaut()[:300, 100:400], quality=60)
    assert estimate_jpeg_error(luma(pixelated(pixels, block, 0.3))) == pytest.approx(sigma, rel=0.1)
    copy = luma(pixelated(resized(pixels, 0.9), block, 0.3))
    assert 0.25 * sigma < estimate_resized_jpeg_error(copy) < 1.2 * sigma


def test_the_input_is_unchanged_and_small_images_are_refused():
    image = luma(compressed(astronaut(), quality=75)[0])
    before = image.clone()
    for estimate in (estimate_jpeg_error, estimate_resized_jpeg_error):
        estimate(image)
        assert torch.equal(image, before)
        for shape in ((1, 1, 31, 64), (1, 3, 64, 64), (64, 64)):
            with pytest.raises(ImageError, match="32 px"):
                estimate(torch.zeros(shape))
        assert estimate(torch.rand(1, 1, 32, 33)) == 0
