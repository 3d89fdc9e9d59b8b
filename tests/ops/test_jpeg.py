import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from blindsr.errors import ImageError
from blindsr.ops.jpeg import estimate_jpeg_error, jpeg_noise_sigma

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


def test_a_photograph_that_was_resized_since_has_no_blocks():
    pixels, _ = compressed(astronaut(), quality=75)
    assert estimate_jpeg_error(luma(Image.fromarray(pixels).resize((150, 150), Image.Resampling.LANCZOS))) == 0


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


def test_the_input_is_unchanged_and_small_images_are_refused():
    image = luma(compressed(astronaut(), quality=75)[0])
    before = image.clone()
    estimate_jpeg_error(image)
    assert torch.equal(image, before)
    for shape in ((1, 1, 31, 64), (1, 3, 64, 64), (64, 64)):
        with pytest.raises(ImageError, match="32 px"):
            estimate_jpeg_error(torch.zeros(shape))
