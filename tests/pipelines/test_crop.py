"""The part of an image that its kernel is estimated from."""

import pytest
import torch

from blindsr.kernels import gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind, crop
from blindsr.pipelines.crop import estimation_crop, without_gutters, without_letterbox
from blindsr.settings import Region, Settings
from tests.images import photograph as part

TRUTH = gaussian([[3.2, 0.9], [0.9, 1.9]], 2)
SPECTRAL = Settings(estimator="spectral")


@pytest.fixture(scope="module")
def photograph():
    sharp = part(384, 448, name="camera", top=20, left=60, bands=1)
    return (degrade(sharp, TRUTH.tensor(), 2) * 255).round() / 255


def letterboxed(image, level=0.0):
    boxed = torch.full((1, 1, image.shape[-2] + 60, image.shape[-1] + 24), level)
    boxed[..., 30:-30, 12:-12] = image
    return boxed


def estimate(image, settings=SPECTRAL):
    return blind.estimate_kernel(TensorSource(image), settings).kernel.digest


def test_bars_on_all_sides_are_cut(photograph):
    assert torch.equal(without_letterbox(letterboxed(photograph)), photograph[..., 2:-2, 2:-2])


def test_noisy_bars_of_a_compressed_film_are_cut(photograph):
    shape = (1, 1, photograph.shape[-2] + 60, photograph.shape[-1] + 24)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    cut = without_letterbox((letterboxed(photograph, 0.06) + (noise - 0.5) * 2 / 255).clamp(0, 1))
    assert cut.shape == photograph[..., 2:-2, 2:-2].shape


def test_a_photograph_without_bars_and_a_flat_image_are_left_whole(photograph):
    assert torch.equal(without_letterbox(photograph), photograph)
    assert without_letterbox(torch.full((1, 3, 80, 90), 0.2)).shape == (1, 3, 80, 90)


def test_a_letterbox_does_not_change_the_estimate(photograph):
    cut = estimate(photograph[..., 2:-2, 2:-2])
    assert estimate(letterboxed(photograph)) == cut
    region = Settings(estimator="spectral", region=Region(x=0, y=0, width=248, height=252))
    assert estimate(letterboxed(photograph), region) != cut


def test_of_a_large_image_the_most_textured_window_is_used(photograph, monkeypatch):
    monkeypatch.setattr(crop, "ESTIMATION_SIDE", 64)
    image = torch.full((1, 1, 200, 150), 0.5)
    image[..., 130:200, 80:150] = photograph[..., 40:110, 40:110]
    window = estimation_crop(TensorSource(image), None)
    assert window.shape == (1, 1, 64, 64)
    assert torch.equal(window, image[..., 136:200, 86:150])


def collage(image, width, level):
    """The same image with lines of one colour, drawn from side to side in thirds."""
    drawn = image.clone()
    for side, axis in ((image.shape[-2], -2), (image.shape[-1], -1)):
        for place in (side // 3, 2 * side // 3):
            drawn.narrow(axis, place, width).fill_(level)
    return drawn


@pytest.mark.parametrize("width", [1, 2, 8])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_lines_between_the_pictures_of_a_collage_do_not_count(width, level):
    image = part(260, 300, name="astronaut", top=20, left=90)
    drawn = collage(image, width, level)
    cleaned = without_gutters(drawn)
    changed = (drawn != image).any(1)
    assert cleaned.shape == image.shape
    before, after = ((each - image).abs().amax(1)[changed].mean() for each in (drawn, cleaned))
    assert after < 0.5 * before
    assert torch.equal(without_gutters(cleaned), cleaned)


def test_no_photograph_and_no_page_of_text_is_a_collage(photograph):
    assert without_gutters(photograph) is photograph
    page = torch.ones(1, 1, 240, 200)
    page[..., 20:200:30, 20:170] = 0.1  # strokes of letters, with a line of the page between them
    page[..., 26:206:30, 24:160] = 0.2
    assert without_gutters(page) is page
    flat = torch.full((1, 3, 80, 90), 0.2)
    assert without_gutters(flat) is flat


def test_a_gap_that_was_blurred_with_the_scene_and_the_rows_of_a_table_stay(photograph):
    """The edges of a gap between planks are the best of what the scene shows of its blur."""
    scene = part(400, 320, name="camera", top=20, left=60, bands=1)
    scene[..., 180:202, :] = 0.02
    blurred = degrade(scene, gaussian(1.6, 2).tensor(), 2)
    assert without_gutters(blurred) is blurred
    table = torch.full((1, 1, 200, 160), 0.8)
    table[..., 5:195, 10:50] = 0.3
    for row in range(20, 200, 20):
        table[..., row, :] = 1.0
    assert without_gutters(table) is table


def test_a_collage_of_sharp_pictures_is_not_sharpened():
    """The lines had been taken for the halos of a camera: the kernel had a negative variance."""
    image = (imresize(part(384, 384, name="astronaut", top=0, left=60), 0.5).clamp(0, 1) * 255).round() / 255
    used = blind.estimate_kernel(TensorSource(collage(image, 2, 1.0)), Settings()).kernel
    assert min(used.sigmas) > 0
    alone = blind.estimate_kernel(TensorSource(image), Settings()).kernel
    assert used.sigmas == pytest.approx(alone.sigmas, abs=0.15)
