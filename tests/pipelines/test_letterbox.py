"""Bars beside a content: found where they were drawn onto its pixels, and kept out of its upscaling."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from blindsr import SuperResolver
from blindsr.image_io import FileOptions, read_photo
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.files import upscale_file
from blindsr.pipelines.letterbox import content_of
from tests.images import INTERPOLATE, photograph, psnr, quick_settings

pytestmark = pytest.mark.usefixtures("small_network")

TRUE = gaussian([[2.5, 0.0], [0.0, 2.5]], 2)
BLACK, WHITE, MAROON = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.1, 0.2)
LETTERBOX, PILLARS, FRAME, ONE_SIDE = (14, 14, 0, 0), (0, 0, 11, 16), (14, 9, 11, 16), (0, 12, 0, 0)
WIDE = (40, 60, 70, 50)  # the content is less than half of each side


@pytest.fixture(scope="module")
def hr():
    return photograph(192, 224, name="astronaut", top=0, left=120)


@pytest.fixture(scope="module")
def lr(hr):
    return (degrade(hr, TRUE.tensor(), 2) * 255).round().div(255).clamp(0, 1)


def framed(image, color, widths, scale=1):
    """An image with bars above, below, left and right."""
    top, bottom, left, right = (scale * width for width in widths)
    height, width = image.shape[-2:]
    canvas = torch.as_tensor(color)[None, :, None, None].repeat(1, 1, height + top + bottom, width + left + right)
    canvas[..., top : top + height, left : left + width] = image
    return canvas


def place(image):
    """Top, bottom, left and right of the content in an image."""
    content = content_of(TensorSource(image))
    height, width = image.shape[-2:]
    probe = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    shape = content.shape
    content._source = TensorSource(probe)  # which pixels its windows show
    shown = content.window(slice(0, shape[1]), slice(0, shape[2])).long()[0, 0]
    top, left, bottom, right = shown[0, 0] // width, shown[0, 0] % width, shown[-1, -1] // width, shown[-1, -1] % width
    return int(top), height - 1 - int(bottom), int(left), width - 1 - int(right)


def jpeg(image, quality):
    pixels = Image.fromarray((image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    stream = io.BytesIO()
    pixels.save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(stream)).copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("color", [BLACK, WHITE, MAROON])
@pytest.mark.parametrize("widths", [LETTERBOX, PILLARS, FRAME, WIDE, ONE_SIDE, (0, 0, 0, 0)])
def test_bars_of_any_colour_on_any_sides_are_found_to_the_pixel(lr, color, widths):
    assert place(framed(lr, color, widths)) == widths


@pytest.mark.parametrize("quality", [60, 85, 95])
def test_bars_of_a_compressed_picture_are_found_within_a_pixel(lr, quality):
    found = place(jpeg(framed(lr, WHITE, FRAME), quality))
    assert np.abs(np.subtract(found, FRAME)).max() <= 1


def test_a_bar_that_shares_a_line_with_the_photograph_is_a_part_of_it(lr):
    shared = framed(lr, BLACK, (10, 0, 0, 0))
    shared[..., 9, :] = 0.4 * lr[..., 0, :]
    assert place(shared) == (0, 0, 0, 0)


@pytest.mark.usefixtures("trained_network")
@pytest.mark.parametrize("width", [24, 25])  # on the grid of the pixels, and between
def test_a_frame_that_was_reduced_with_the_photograph_is_sharpened_with_it(width):
    hr = photograph(192, 192, name="coffee")
    framed_hr = framed(hr[..., width:-width, width:-width], WHITE, (width,) * 4)
    lr = (degrade(framed_hr, bicubic(2).tensor(hr), 2).clamp(0, 1) * 255).round() / 255
    sharp, plain = (
        torch.from_numpy(SuperResolver(scale=2, **how)(lr[0].permute(1, 2, 0).numpy(), kernel="bicubic").image)
        for how in ({"preset": "fast"}, {"upscaler": "bicubic"})
    )
    truth = framed_hr[0].permute(1, 2, 0)
    errors = [float((image - truth)[8:-8, 8:-8].square().mean()) for image in (sharp, plain)]
    assert errors[0] < 0.8 * errors[1]


def test_an_edge_as_soft_as_the_photograph_is_a_part_of_it(hr):
    assert place(degrade(framed(hr, BLACK, (31, 31, 0, 0)), TRUE.tensor(), 2).clamp(0, 1)) == (0, 0, 0, 0)


def test_lettering_charts_skies_and_flat_images_have_no_bars(lr):
    pages = []
    for size in (10, 16, 24, 40, 60):
        page = Image.new("RGB", (10 * size, 5 * size), "white")
        ImageDraw.Draw(page).text((20, 20), "The quick\nbrown fox", font=ImageFont.load_default(size), fill="black")
        pages.append(torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1)[None] / 255)
    chart = torch.full((1, 3, 80, 90), 0.3)
    chart[..., 45:] = 0.7
    sky = lr.clone()
    sky[..., :30, :] = torch.linspace(0.8, 0.7, 30)[:, None]
    for image in (*pages, chart, sky, torch.full((1, 3, 80, 90), 0.2)):
        assert place(image) == (0, 0, 0, 0)


@pytest.mark.parametrize("color", [BLACK, WHITE])
@pytest.mark.usefixtures("trained_network")
def test_a_picture_in_bars_is_upscaled_as_without_them(lr, hr, color):
    settings = quick_settings(noise_sigma=0.0)
    alone = blind.run(TensorSource(lr), settings, kernel=TRUE)
    result = blind.run(TensorSource(framed(lr, color, FRAME)), settings, kernel=TRUE)
    assert torch.equal(result.image, framed(alone.image, color, FRAME, 2))
    assert result.consistency_db == alone.consistency_db
    assert result.warnings == alone.warnings
    assert psnr(result.image, framed(hr, color, FRAME, 2)) > psnr(imresize(framed(lr, color, FRAME), 2.0).clamp(0, 1),
                                                                 framed(hr, color, FRAME, 2)) + 2  # fmt: skip


def test_tiles_and_files_give_the_same_pixels(lr, tmp_path):
    settings, lr = quick_settings(noise_sigma=0.0), lr[..., :48, :]  # three tiles beside each other
    image = framed(lr, MAROON, FRAME).mul(255).round().div(255)
    whole = blind.run(TensorSource(image), settings, kernel=TRUE).image
    tiled = blind.run(TensorSource(image), settings, kernel=TRUE, tile=48).image
    alone = TensorSource(lr.mul(255).round().div(255))
    assert torch.equal(
        tiled, framed(blind.run(alone, settings, kernel=TRUE, tile=48).image, image[0, :, 0, 0], FRAME, 2)
    )
    path = tmp_path / "photo.png"
    Image.fromarray((image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    written = read_photo(upscale_file(path, settings, kernel=TRUE, device="cpu").outputs.image).pixels
    np.testing.assert_allclose(written, whole[0].permute(1, 2, 0).numpy(), rtol=0, atol=0.51 / 255)


def test_all_frames_of_an_animation_are_upscaled_without_their_bars(lr, tmp_path):
    frames = [framed(part, BLACK, LETTERBOX) for part in (lr, lr.flip(-1))]
    arrays = [Image.fromarray((part[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)) for part in frames]
    arrays[0].save(tmp_path / "film.webp", save_all=True, append_images=arrays[1:], lossless=True)
    result = upscale_file(
        tmp_path / "film.webp", INTERPOLATE, device="cpu", files=FileOptions(page="all", format="png")
    )
    with Image.open(result.outputs.image) as film:
        for number, part in enumerate((lr, lr.flip(-1))):
            film.seek(number)
            expected = framed(imresize(part, 2.0).clamp(0, 1), BLACK, LETTERBOX, 2)[0].permute(1, 2, 0).numpy()
            np.testing.assert_allclose(np.asarray(film.convert("RGB")) / 255, expected, rtol=0, atol=0.51 / 255)


@pytest.mark.parametrize("scale", [1.5, 2.5, 3.0])
@pytest.mark.usefixtures("trained_network")
def test_between_bars_a_picture_lies_where_it_lies_in_the_whole_result(lr, scale):
    settings = replace(INTERPOLATE, scale=scale)
    image = framed(lr, BLACK, FRAME)
    result = blind.run(TensorSource(image), settings).image
    whole = imresize(image, size=tuple(result.shape[-2:])).clamp(0, 1)
    inner = np.s_[..., 60:120, 60:150]
    assert psnr(result[inner], whole[inner]) > 45
    top, left = round(scale * FRAME[0]), round(scale * FRAME[2])
    assert not result[..., : top - 1, :].any()
    assert not result[..., : left - 1].any()
    assert result[..., top + 1, left + 2 : 200].max() > 0.1


def test_factors_that_differ_by_axis_place_bars_by_their_own(lr):
    settings = replace(INTERPOLATE, scale=2.0, factors=(1.5, 2.0))  # horizontal, vertical
    result = blind.run(TensorSource(framed(lr, BLACK, FRAME)), settings).image
    rows, columns = (result.amax((0, 1)).amax(axis) > 0 for axis in (1, 0))
    assert (int(rows.nonzero()[0]), int(columns.nonzero()[0])) == (28, 16)
    # The result has 208 columns of 139/208 px each: the centre of the last one that shows the content is at 122.6 px.
    assert (int(rows.nonzero()[-1]), int(columns.nonzero()[-1])) == (219, 183)


def test_deblurring_without_enlarging_leaves_bars_exactly_as_they_are(lr):
    image = framed(lr, MAROON, FRAME)
    result = blind.run(TensorSource(image), quick_settings(scale=1.0, noise_sigma=0.0), kernel=gaussian(1.2, 1)).image
    outside = framed(torch.zeros_like(lr), WHITE, FRAME).bool().expand_as(image)
    assert torch.equal(result[outside], image[outside])
    assert float((result - image)[~outside].abs().max()) > 0.02
