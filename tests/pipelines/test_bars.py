"""Bars around a picture."""

import torch
from skimage import data

from blindsr.kernels import gaussian
from blindsr.ops import degrade
from blindsr.pipelines.bars import without_bars
from blindsr.pipelines.blind import estimate_kernel
from blindsr.pipelines.settings import Region, Settings

TRUTH = gaussian([[3.2, 0.9], [0.9, 1.9]], 2)


def photograph():
    sharp = torch.from_numpy(data.camera()[20:404, 60:508].copy())[None, None].float() / 255
    return (degrade(sharp, TRUTH.tensor(), 2) * 255).round() / 255


def letterboxed(image, level=0.0):
    boxed = torch.full((1, 1, image.shape[-2] + 60, image.shape[-1] + 24), level)
    boxed[..., 30:-30, 12:-12] = image
    return boxed


def test_bars_on_all_sides_are_cut_off():
    image = photograph()
    found = without_bars(letterboxed(image))
    assert torch.equal(found, image[..., 2:-2, 2:-2])


def test_bars_of_a_compressed_film_are_found_too():
    image = photograph()
    noise = torch.rand(1, 1, image.shape[-2] + 60, image.shape[-1] + 24, generator=torch.Generator().manual_seed(0))
    found = without_bars((letterboxed(image, 0.06) + (noise - 0.5) * 2 / 255).clamp(0, 1))
    assert found.shape == image[..., 2:-2, 2:-2].shape


def test_a_photograph_without_bars_is_left_alone():
    image = photograph()
    assert without_bars(image) is image or torch.equal(without_bars(image), image)


def test_a_flat_image_is_left_whole():
    flat = torch.full((1, 3, 80, 90), 0.2)
    assert without_bars(flat).shape == flat.shape


def test_a_letterbox_does_not_change_the_estimate():
    settings = Settings(estimator="spectral")
    image = photograph()
    cut, boxed = (estimate_kernel(given, settings).kernel for given in (image[..., 2:-2, 2:-2], letterboxed(image)))
    assert boxed.digest == cut.digest
    region = Settings(estimator="spectral", region=Region(x=0, y=0, width=248, height=252))
    assert estimate_kernel(letterboxed(image), region).kernel.digest != cut.digest
