"""Interpolation as upscalers: Pillow as the oracle, alignment, tiles."""

import numpy as np
import pytest
import torch
from PIL import Image

from blindsr.events import ignore
from blindsr.kernels import gaussian
from blindsr.ops import imresize
from blindsr.ops.windows import TensorSource
from blindsr.registry import UPSCALERS
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.tiling import tiled_rows
from tests.images import photograph, psnr

METHODS = ["nearest", "bilinear", "bicubic", "lanczos"]


def fitted(name, lr, scale):
    degradation = Degradation(kernel=gaussian(1.0, scale))
    return UPSCALERS.create(name).fit(TensorSource(lr), degradation, listener=ignore)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", METHODS)
def test_pillow_gives_the_same_away_from_the_borders(name, scale):
    lr = photograph(bands=1)
    resample = getattr(Image.Resampling, name.upper())
    size = (lr.shape[-1] * scale, lr.shape[-2] * scale)
    expected = np.asarray(Image.fromarray(lr[0, 0].numpy(), "F").resize(size, resample))
    sr = fitted(name, lr, scale).predict(lr)[0, 0].numpy()
    border = 3 * scale  # Pillow renormalises the weights at the borders, where blindsr mirrors the image
    inner = (slice(border, -border), slice(border, -border))
    np.testing.assert_allclose(sr[inner], expected[inner].clip(0, 1), atol=2e-5)


@pytest.mark.parametrize("scale", [2, 3, 4, 6])
@pytest.mark.parametrize("name", METHODS)
def test_a_ramp_stays_aligned_and_a_constant_constant(name, scale):
    ramp = torch.linspace(0.1, 0.9, 30).expand(1, 1, 24, 30)
    inner = slice(4 * scale, -4 * scale)
    sr = fitted(name, ramp, scale).predict(ramp)[..., inner, inner]
    step = 0.8 / 29
    position = (torch.arange(30 * scale) + 0.5) / scale - 0.5  # of every HR pixel on the LR grid
    off = (sr - (0.1 + step * position)[inner]).mean() / step
    # Three lobes and no normalisation for slopes: Lanczos keeps a ramp's place, not its values.
    assert abs(float(off)) < 1e-3
    flat = fitted(name, torch.full((1, 3, 9, 11), 0.3), scale).predict(torch.full((1, 3, 9, 11), 0.3))
    torch.testing.assert_close(flat, torch.full((1, 3, 9 * scale, 11 * scale), 0.3))


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_tiles_equal_the_whole_image_and_the_input_is_left_unchanged(name, scale):
    lr = photograph(90, 70)
    before, model, source = lr.clone(), fitted(name, lr, scale), TensorSource(lr)
    whole, tiled = (torch.cat(list(tiled_rows(model, source, tile=tile)), -2) for tile in (None, 32))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)
    assert torch.equal(lr, before)
    assert not torch.equal(whole, imresize(lr, scale, method="bicubic" if name != "bicubic" else "lanczos").clamp(0, 1))


def test_of_a_smooth_photograph_the_longer_filters_are_nearer():
    hr = photograph(96, 96, name="astronaut")
    lr = imresize(hr, 0.5)
    nearest, bilinear, bicubic, lanczos = (psnr(fitted(name, lr, 2).predict(lr), hr) for name in METHODS)
    assert nearest < bilinear < bicubic < lanczos
