"""Traces of an earlier enlargement, and images that have none."""

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from blindsr.ops.resampling import MIN_SIDE, find_enlargement
from tests.images import noise, photograph


def plane(side, name="coffee", **options):
    return (255 * photograph(side, side, name=name, bands=1, **options)[0, 0]).round().clamp(0, 255)


def enlarged(image, factor, method):
    size = round(image.shape[-1] * factor)
    pixels = Image.fromarray(image.numpy().astype(np.uint8)).resize((size, size), method)
    return torch.from_numpy(np.asarray(pixels).copy()).float()


@pytest.mark.parametrize("method", [Image.LANCZOS, Image.BICUBIC])
@pytest.mark.parametrize("factor", [1.25, 1.5, 1.7])
@pytest.mark.parametrize("name", ["coffee", "astronaut", "chelsea"])
def test_the_factor_is_that_of_the_enlargement(factor, method, name):
    image = enlarged(plane(160, name), factor, method)
    assert find_enlargement(image) == pytest.approx(factor, abs=0.015)
    assert find_enlargement(image[3:, 7:200]) == pytest.approx(factor, abs=0.02)


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "brick", "grass", "gravel", "cat", "page", "retina"])
def test_photographs_textures_and_noise_have_none(name):
    assert find_enlargement(plane(190, name)) == 1
    assert find_enlargement(plane(MIN_SIDE - 1, name)) == 1


@pytest.mark.parametrize("quality", [30, 50, 75])
def test_blocks_of_webp_are_no_enlargement(quality, tmp_path):
    part = Image.fromarray(data.immunohistochemistry()).resize((256, 256)).crop((50, 20, 250, 220))
    part.save(tmp_path / "a.webp", quality=quality)
    decoded = np.asarray(Image.open(tmp_path / "a.webp").convert("L")).astype(np.float32)
    assert find_enlargement(torch.from_numpy(decoded)) == 1


def test_the_wavelets_of_jpeg_2000_are_no_enlargement():
    for left in (0, 40, 90):
        part = np.asarray(Image.fromarray(data.coffee()).crop((left, 0, left + 400, 400)).resize((200, 200)))
        decoded = imagecodecs.jpeg2k_decode(imagecodecs.jpeg2k_encode(part, level=35, reversible=False))
        assert find_enlargement(torch.from_numpy(decoded.mean(2))) == 1


def test_blocks_of_a_compression_and_flat_images_are_no_enlargement(tmp_path):
    Image.fromarray(plane(200).numpy().astype(np.uint8)).save(tmp_path / "a.jpg", quality=40)
    blocks = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.jpg")).copy()).float()
    for image in (blocks, torch.full((150, 150), 90.0), 255 * noise(150, 150, 0.1)[0, 0]):
        assert find_enlargement(image) == 1
