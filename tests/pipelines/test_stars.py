"""Stars on an empty sky: high dynamic range, no rings, no maze, and places and fluxes that can be measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import blindsr
from blindsr.ops.noise import estimate_background_noise
from blindsr.pipelines.files import upscale_file
from blindsr.settings import preset

SKY, NOISE, SIDE = 100.0, 2.0, 160


def field():
    """Stars of a Gaussian profile, σ 1.3 px, from barely visible to 2500 times the noise; their places and fluxes."""
    rng = np.random.default_rng(3)
    grid = np.arange(float(SIDE))
    places = np.stack(np.meshgrid([24, 62, 101, 138], [22, 60, 100, 137]), -1).reshape(-1, 2)
    places = places + rng.uniform(-0.5, 0.5, places.shape)
    fluxes = np.geomspace(300, 60000, 16)
    image = np.full((SIDE, SIDE), SKY)
    for (x, y), flux in zip(places, fluxes, strict=True):
        profiles = (np.exp(-((grid - centre) ** 2) / (2 * 1.3**2)) for centre in (y, x))
        image += flux / (2 * np.pi * 1.3**2) * np.outer(*profiles)
    return (image + rng.normal(0, NOISE, image.shape)).astype(np.float32), places, fluxes


@pytest.fixture(scope="module", params=["pretrained", "bicubic"])
def upscaled(tmp_path_factory, request):
    fits = pytest.importorskip("astropy.io.fits", reason="astropy is not installed (blindsr[astro])")
    folder = tmp_path_factory.mktemp("stars")
    image, places, fluxes = field()
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.6, "CRVAL2": 22.0, "CRPIX1": 70.0})
    header.update({"CRPIX2": 81.0, "CD1_1": -3e-4, "CD1_2": 1e-4, "CD2_1": 1e-4, "CD2_2": 3e-4})
    fits.PrimaryHDU(image, header).writeto(folder / "a.fits")
    result = upscale_file(folder / "a.fits", replace(preset("fast"), upscaler=request.param))
    with fits.open(result.outputs.image, memmap=False) as units:
        samples, after = np.asarray(units[0].data, float), units[0].header.copy()
    return image, places, fluxes, (header, after), samples, 0.01 if request.param == "bicubic" else 0.05


def test_the_sky_has_no_rings_and_no_maze(upscaled):
    image, places, _, _, result, _ = upscaled
    assert result.min() > image.min() - 3 * NOISE
    rows, columns = np.indices(result.shape)
    distances = np.min([np.hypot(columns / 2 - x, rows / 2 - y) for x, y in places], 0)
    rows, columns = (np.minimum(index, result.shape[0] - 1 - index) for index in (rows, columns))
    distances[np.minimum(rows, columns) < 8] = np.nan  # at the border there is more noise
    around, sky = result[(distances > 6) & (distances < 10)], result[distances > 12]
    assert sky.std() < 1.2 * NOISE
    assert around.std() < 1.6 * sky.std()


def test_a_star_keeps_its_sky_coordinates_and_its_flux(upscaled):
    image, places, fluxes, (before, after), result, tolerance = upscaled
    from astropy.wcs import WCS

    def measured(samples, x, y, radius):
        rows, columns = np.indices(samples.shape)
        weights = np.where(np.hypot(columns - x, rows - y) < radius, samples - SKY, 0)
        return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum(), weights.sum()

    for (x, y), flux in list(zip(places, fluxes, strict=True))[-4:]:
        (old, _), (new, total) = measured(image, x, y, 7), measured(result, 2 * x + 0.5, 2 * y + 0.5, 14)
        found = np.array(WCS(before).world_to_pixel(WCS(after).pixel_to_world(*new)))
        assert np.abs(found - old).max() < tolerance
        assert total / 4 == pytest.approx(flux, rel=1.2 * tolerance)  # four pixels for one, each with its intensity


def test_noise_of_a_background_finer_than_eight_bits_is_measured():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 128, 128, generator=generator, dtype=torch.float64)
    sky = 0.2 + 1e-4 * noise
    sky[..., 40:60, 50:70] += 0.5
    assert estimate_background_noise(sky) == pytest.approx(1e-4, rel=0.1)
    assert estimate_background_noise(0.2 + 0.01 * noise) == 0  # coarser: `estimate_noise` measures it
    texture = torch.nn.functional.avg_pool2d(noise, 5, 1, 2) * 1e-3
    assert estimate_background_noise(0.2 + texture) == 0
    assert estimate_background_noise(torch.full((1, 1, 64, 64), 0.5)) == 0


def test_with_the_true_kernel_stars_become_points_without_rings_and_keep_their_flux():
    image, places, fluxes = field()
    result = blindsr.upscale(image, "gaussian:2.6", 2, preset="fast", data_range=(-5000.0, 20000.0)).astype(float)
    assert result.min() > image.min() - 4 * NOISE
    assert result.max() > 1.5 * image.max()
    rows, columns = np.indices(result.shape)
    for (x, y), flux in list(zip(places, fluxes, strict=True))[-4:]:
        near = np.hypot(columns - 2 * x - 0.5, rows - 2 * y - 0.5) < 16
        assert (result - SKY)[near].sum() / 4 == pytest.approx(flux, rel=0.08)
