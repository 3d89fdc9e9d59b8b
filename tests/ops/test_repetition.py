"""Pixels and colours that were repeated in blocks: where they are found, and what interpolation makes of them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from blindsr.ops import imresize
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.repetition import MARGIN, RepeatedChroma, find_repeated_chroma, find_repetition, interpolated_chroma
from tests.images import photograph


def repeated(rows, columns, top=0, left=0, name="astronaut"):
    """A photograph whose chroma is the mean of blocks, as 8-bit RGB; the blocks begin at (top, left)."""
    rgb = (photograph(160, 176, name=name)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr")).copy()
    chroma = ycc[..., 1:].astype(float).reshape(160 // rows, rows, 176 // columns, columns, 2).mean((1, 3))
    ycc[..., 1:] = np.kron(chroma.round(), np.ones((rows, columns, 1)))
    blocks = np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB"))[top:, left:]
    full = rgb[top:, left:]
    return tuple(torch.from_numpy(a.copy()).permute(2, 0, 1)[None].float() / 255 for a in (blocks, full))


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (1, 2), (1, 4), (2, 1)])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (1, 3)])
def test_blocks_of_one_colour_are_found_wherever_they_begin(rows, columns, top, left):
    image, _ = repeated(rows, columns, top, left)
    found = find_repeated_chroma(image, [(0, 0)])
    assert found == RepeatedChroma((rows, columns), (-top % rows, -left % columns))
    # Parts of a large image are at any place.
    parts = torch.cat([image[..., 5:101, 7:103], image[..., 32:128, 50:146]])
    assert find_repeated_chroma(parts, [(5, 7), (32, 50)]) == found


@pytest.mark.parametrize("name", ["astronaut", "coffee", "retina"])
def test_photographs_and_enlargements_have_none(name):
    image = photograph(160, 176, name=name)
    assert find_repeated_chroma(image, [(0, 0)]) is None
    enlarged = image[..., :80, :88].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert find_repeated_chroma(enlarged, [(0, 0)]) is None
    assert find_repeated_chroma(image.mean(1, keepdim=True).expand(-1, 3, -1, -1), [(0, 0)]) is None


def colours(values):
    """A smooth colour map of values in [0, 1], (H, W): (1, 3, H, W) in 8 bits."""
    rgb = torch.stack([0.25 + 0.7 * values**2, 0.1 + 0.8 * values, 0.35 + 0.4 * (3 * values).sin()])[None]
    return (255 * rgb).round() / 255


@pytest.mark.parametrize("sigma", [0.6, 1.0])
@pytest.mark.parametrize("cell", [2, 6])
def test_cells_of_a_drawing_have_no_repeated_colours(cell, sigma):
    # As of a spectrogram: cells of a few pixels, smoothed and drawn with a colour map.
    rng = np.random.default_rng(cell)
    values = np.kron(np.log(rng.gamma(1, 1, (40, 40)) + 0.1), np.ones((2 * cell, 2 * cell)))
    values = gaussian_filter(values, sigma)
    cells = colours(torch.from_numpy((values - values.min()) / np.ptp(values)).float())
    reduced = (255 * imresize(cells, 0.5).clamp(0, 1)).round() / 255
    for image in (reduced, cells[..., ::2, ::2], reduced[..., 1:, 3:]):
        assert find_repeated_chroma(image, [(0, 0)]) is None


@pytest.mark.parametrize("noise", [0.0, 4.0])
def test_repeated_colours_of_blurred_and_of_noisy_pictures_are_found(noise):
    image, _ = repeated(2, 2)
    planes = to_planes(image)
    luma = functional.avg_pool2d(functional.pad(planes[:1], (2, 2, 2, 2), mode="replicate"), 5, 1)
    luma = luma + noise / 255 * torch.randn(luma.shape, generator=torch.Generator().manual_seed(1))
    blurred = (255 * from_planes(torch.cat([luma, planes[1:]])).clamp(0, 1)).round() / 255
    assert find_repeated_chroma(blurred, [(0, 0)]) == RepeatedChroma((2, 2), (0, 0))


def test_interpolated_colours_are_nearer_to_the_photograph_and_luma_stays():
    image, full = repeated(2, 2)
    found = find_repeated_chroma(image, [(0, 0)])
    result = interpolated_chroma(image, found, (0, 0))
    error, before = ((to_planes(x)[1:] - to_planes(full)[1:]).square().mean() for x in (result, image))
    assert error < 0.8 * before
    inside = ((result > 0) & (result < 1)).all(1)
    assert (to_planes(result)[0, 0] - to_planes(image)[0, 0])[inside[0]].abs().max() < 1e-5
    flat = torch.full((1, 3, 20, 24), 0.3)
    assert (interpolated_chroma(flat, found, (1, 1)) - flat).abs().max() < 1e-6


def test_a_part_has_the_pixels_of_the_whole():
    image, _ = repeated(2, 2, 1, 1)
    found = find_repeated_chroma(image, [(0, 0)])
    whole = interpolated_chroma(image, found, (0, 0))
    top, left = 33 - MARGIN, 50 - MARGIN
    part = interpolated_chroma(image[..., top : 90 + MARGIN, left : 120 + MARGIN], found, (top, left))
    inner = part[..., MARGIN : MARGIN + 57, MARGIN : MARGIN + 70]
    assert (inner - whole[..., 33:90, 50:120]).abs().max() < 1e-6


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3), (4, 4), (1, 2), (2, 1)])
def test_repeated_pixels_are_counted_wherever_the_blocks_begin(rows, columns):
    small = photograph(72, 80, name="coffee", bands=1)[0, 0]
    image = small.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    assert find_repetition(image) == (rows, columns)
    assert find_repetition(image[1:, 3:]) == (rows, columns)


@pytest.mark.parametrize("cell", [4, 6, 8, 10, 12])
def test_cells_of_a_drawing_are_no_smaller_pixels(cell):
    modules = (torch.rand(20, 20, generator=torch.Generator().manual_seed(cell)) < 0.5).float()
    drawing = modules.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    assert find_repetition(drawing) == ((cell, cell) if cell <= 6 else (1, 1))
    # Reduced by a filter, which spreads their edges, they are a drawing of any size.
    large = modules.repeat_interleave(2 * cell, 0).repeat_interleave(2 * cell, 1)[None, None]
    assert find_repetition(imresize(large, 0.5).clamp(0, 1)[0, 0]) == (1, 1)


def test_small_cells_that_all_differ_are_pixels_of_a_picture():
    picture = photograph(40, 40, name="coffee", bands=1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert find_repetition(imresize(picture, 0.5)[0, 0]) == (4, 4)


def test_lines_across_a_smooth_picture_are_no_borders_of_pixels():
    y, x = torch.meshgrid(torch.linspace(0, 1, 160), torch.linspace(0, 1, 160), indexing="ij")
    collage = (255 * (0.3 + 0.05 * (3 * x + 2 * y).sin())).round() / 255
    for top in range(8, 160, 20):
        collage[top : top + 8] = 1
        collage[:, top : top + 8] = 1
    assert find_repetition(collage) == (1, 1)


def test_repeated_pixels_are_counted_after_a_weak_compression():
    small = photograph(72, 80, name="coffee", bands=1)[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1)
    file = io.BytesIO()
    Image.fromarray((255 * small).round().byte().numpy()).save(file, "JPEG", quality=98)
    assert find_repetition(torch.from_numpy(np.asarray(Image.open(file)) / 255.0)) == (2, 2)


def test_what_was_not_repeated_is_not_counted():
    image = photograph(160, 160, name="coffee", bands=1)[0, 0]
    drawing = torch.ones(160, 160)
    drawing[::8] = 0  # lines at multiples of two
    drawing[:, 48:64] = 0
    for plane in (image, drawing, torch.full((64, 64), 0.5), torch.rand(64, 64), image[:9, :9]):
        assert find_repetition(plane) == (1, 1)
