"""Alpha: sharp without overshoot, exact where it is constant, the same in tiles, and no rims in the colours."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, minimum_filter

import blindsr
from blindsr.image_io import MemorySource
from blindsr.kernels import bicubic, gaussian
from blindsr.ops.degrade import degrade
from blindsr.ops.resize import imresize
from blindsr.pipelines import alpha
from blindsr.pipelines.alpha import alpha_rows
from tests.images import INTERPOLATE, psnr, quick_settings

pytestmark = pytest.mark.usefixtures("small_network")

FAST = quick_settings()
CPU = torch.device("cpu")


def disc(side, radius, edge, opacity=1.0):
    """A disc of some opacity with a linear edge, (1, 1, side, side), float32."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return torch.from_numpy((opacity * np.clip((radius - np.hypot(y, x)) / edge + 0.5, 0, 1)).astype(np.float32))[
        None, None
    ]


def with_alpha(plane, colour=(200, 60, 30), hidden=(0, 255, 0)):
    """An image of one colour and another one where it is transparent, (H, W, 4) uint8."""
    opacity = np.rint(255 * plane[0, 0].numpy()).astype(np.uint8)
    colours = np.where((opacity == 0)[..., None], np.uint8(hidden), np.uint8(colour))
    return np.dstack([colours, opacity])


def enlarged(image, settings=FAST, tile=None):
    source = MemorySource(image, has_alpha=True)
    return torch.cat(list(alpha_rows(source, settings, CPU, tile)), -2)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("of", [bicubic, lambda scale: gaussian(1.0, scale)])
@pytest.mark.parametrize("opacity", [1.0, 0.6])
@pytest.mark.usefixtures("trained_network")
def test_alpha_is_nearer_to_the_truth_than_interpolated(scale, of, opacity):
    hr, kernel = disc(96, 31, 1, opacity), of(scale)
    image = with_alpha(degrade(hr, kernel.tensor(hr), scale).clamp(0, 1))
    lr = torch.from_numpy(image[..., 3] / np.float32(255))[None, None]
    result = enlarged(image, replace(FAST, scale=float(scale)))
    assert psnr(result, hr) > psnr(imresize(lr, scale).clamp(0, 1), hr) + 1.4
    assert float(result.max()) <= float(lr.max())
    assert float(result.min()) >= 0


@pytest.mark.parametrize("scale", [2.0, 2.5, 6.0])
def test_alpha_stays_exact_where_it_is_constant(scale):
    image = with_alpha(disc(48, 15, 2, 0.8))
    result = enlarged(image, replace(FAST, scale=scale))[0, 0].numpy() * 255
    lr = image[..., 3]
    places = ((np.arange(len(result)) + 0.5) / scale).astype(int)
    is_flat = (maximum_filter(lr, 5) == minimum_filter(lr, 5))[places][:, places]  # one more for a real scale
    assert is_flat.any()
    assert {0, 204} == set(lr[places][:, places][is_flat])
    np.testing.assert_allclose(result[is_flat], lr[places][:, places][is_flat], atol=1e-3)


@pytest.mark.usefixtures("trained_network")
def test_alpha_is_the_same_in_tiles():
    image = with_alpha(disc(110, 44, 3))
    np.testing.assert_allclose(enlarged(image, tile=32), enlarged(image), atol=0.3 / 255)


def test_the_network_is_run_only_where_alpha_has_an_edge(monkeypatch):
    seen, predict = [], alpha._limited
    spied = lambda inner, scale: predict(lambda window: seen.append(window.shape[-2:]) or inner(window), scale)  # noqa: E731
    monkeypatch.setattr(alpha, "_limited", spied)
    plane = torch.zeros(1, 1, 256, 256)
    plane[..., 5:12, 5:12] = 1
    enlarged(with_alpha(plane), tile=32)
    assert 1 <= len(seen) < 64 / 2
    opaque = MemorySource(with_alpha(torch.ones(1, 1, 24, 24)), has_alpha=True)
    assert alpha_rows(opaque, FAST, CPU) is None


@pytest.mark.parametrize("settings", [INTERPOLATE, replace(FAST, scale=1.0), quick_settings(random_weights=True)])
def test_alpha_is_interpolated_where_no_trained_network_enlarges_the_image(settings):
    image = with_alpha(disc(48, 15, 2))
    assert alpha_rows(MemorySource(image, has_alpha=True), settings, CPU) is None
    lr = torch.from_numpy(image[..., 3] / np.float32(255))[None, None]
    expected = np.floor(255 * imresize(lr, int(settings.scale)).clamp(0, 1)[0, 0].numpy() + 0.5)
    result = blindsr.upscale(image, "bicubic", settings.scale, preset=settings, device="cpu", has_alpha=True)
    np.testing.assert_array_equal(result[..., 3], expected)


@pytest.mark.parametrize("kernel", ["bicubic", "gaussian:1.2"])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_flat_disc_has_no_rim(scale, kernel):
    image = with_alpha(disc(64, 20, 1.5))
    result = blindsr.upscale(image, kernel, scale, preset=FAST, device="cpu", has_alpha=True).astype(int)
    visible = result[..., 3] > 0
    assert np.abs(result[visible][:, :3] - (200, 60, 30)).max() <= 2
    assert result[32 * scale, 32 * scale, 3] == 255
    assert result[0, 0, 3] == 0
