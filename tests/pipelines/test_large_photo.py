"""Photographs by strips: the same file as in memory; sizes, factors, and the memory that a job may take."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data

from blindsr.errors import ConfigError, ImageError
from blindsr.image_io import FileOptions, read_photo, upscale_valid
from blindsr.image_io.strips import PhotoSource
from blindsr.kernels import Kernel, compose, gaussian
from blindsr.ops import degrade, imresize
from blindsr.pipelines import blind, known, large_photo, memory, passes, sampling
from blindsr.pipelines.batch.manifest import Manifest
from blindsr.pipelines.batch.shared_job import shared_kernel_for
from blindsr.pipelines.photo import estimate_photo_kernel, upscale_photo
from blindsr.pipelines.result import consistency
from blindsr.pipelines.rows import ConsistencyMeter, resized
from blindsr.pipelines.settings import NETWORK_SCALES, Region, Settings
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.source import TensorSource
from blindsr.zssr.start.config import StartConfig

PASS = Settings(zssr=StartConfig(steps=0, noise_sigma=0.0, precision="fp32"))
MEASURED_NOISE = Settings(zssr=StartConfig(steps=0, precision="fp32"))
KERNEL = gaussian([[1.5, 0.3], [0.3, 1.0]], 2)


@pytest.fixture
def by_strips(monkeypatch):
    monkeypatch.setattr(large_photo, "LARGE", 0)


def random(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("cut", [5, 64, 500])
@pytest.mark.parametrize(("scale", "height", "width"), [(2, 75, 37), (3, 40, 41)])
def test_the_consistency_of_strips_is_that_of_the_whole(scale, height, width, cut):
    lr, sr, kernel = random(1, 3, height, width), random(1, 3, scale * height, scale * width), gaussian(2.0, scale)
    meter = ConsistencyMeter(TensorSource(lr), kernel)
    through = torch.cat(list(meter.watch(iter(sr.split(cut, -2)))), -2)
    assert torch.equal(through, sr)
    assert meter.psnr == pytest.approx(consistency(sr, lr, kernel), abs=1e-6)


@pytest.mark.parametrize("cut", [5, 64, 500])
@pytest.mark.parametrize("size", [(125, 50), (161, 74), (20, 13), (150, 74)])
def test_strips_are_resized_like_the_whole(cut, size):
    sr = random(1, 3, 150, 74)
    strips = list(resized(iter(sr.split(cut, -2)), (150, 74), size))
    torch.testing.assert_close(torch.cat(strips, -2), imresize(sr, size=size).clamp(0, 1), rtol=0, atol=1e-6)


def write(folder, kind):
    """A photograph of some kind, 62×50."""
    pixels = data.astronaut()[20:70, 200:262]
    path = folder / {"uint16": "photo.tif", "float holes": "photo.tif", "bands": "photo.tif"}.get(kind, "photo.png")
    if kind == "alpha":
        alpha = np.tile(np.linspace(0, 255, 62).astype(np.uint8), (50, 1))
        Image.fromarray(np.dstack([pixels, alpha])).save(path)
    elif kind == "uint16":
        tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="rgb", rowsperstrip=8)
    elif kind == "float holes":
        floats = pixels[..., 0].astype(np.float32) * 3 - 100
        floats[10:14, 20:30] = np.nan
        tifffile.imwrite(path, floats)
    elif kind == "bands":
        tifffile.imwrite(path, np.dstack([pixels, pixels[..., :1]]), photometric="minisblack", planarconfig="contig")
    elif kind == "heic":
        path = folder / "photo.heic"
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.from_bytes("RGB", (62, 50), pixels.tobytes()).save(path, quality=95)
    elif kind == "turned":
        path = folder / "photo.jpg"
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(pixels).save(path, quality=100, exif=exif)
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("kind", ["plain", "alpha", "uint16", "float holes", "bands", "heic", "turned"])
def test_by_strips_the_file_is_the_same(tmp_path, monkeypatch, kind):
    source = write(tmp_path, kind)
    whole = upscale_photo(source, PASS, kernel=KERNEL, output=tmp_path / "whole.tif", device="cpu")
    monkeypatch.setattr(large_photo, "LARGE", 0)
    monkeypatch.setattr(memory, "default_tile", lambda scale: 32)
    strips = upscale_photo(source, PASS, kernel=KERNEL, output=tmp_path / "strips.tif", device="cpu")
    first, second = read_photo(whole.outputs.image), read_photo(strips.outputs.image)
    assert (first.dtype, first.pixels.shape, first.has_alpha) == (second.dtype, second.pixels.shape, second.has_alpha)
    if first.valid is None:
        # Values beside a hole are filled from the window: only photographs without holes are compared in full.
        np.testing.assert_allclose(first.pixels, second.pixels, atol=1.5 / 255)
    else:
        assert np.array_equal(first.valid, second.valid)
    if first.alpha is not None:
        np.testing.assert_allclose(first.alpha, second.alpha, atol=1.01 / 255)
    assert strips.upscaled.image.device.type == "meta"
    assert strips.upscaled.consistency == pytest.approx(whole.upscaled.consistency, abs=0.5)
    assert strips.record["output"] == whole.record["output"]


def test_the_whole_job_by_strips_estimates_the_kernel_and_keeps_the_record(tmp_path, by_strips):
    source = tmp_path / "photo.jpg"
    Image.fromarray(data.astronaut()[20:148, 200:330]).save(source, quality=85)
    settings = Settings(scale=2.5, estimator="spectral", zssr=StartConfig(steps=1, batch=1, precision="fp32"))
    result = upscale_photo(source, settings, device="cpu")
    assert result.outputs.image.name == "photo_blindsr_x2.5.png"
    with Image.open(result.outputs.image) as larger:
        assert larger.size == (325, 320)
    record = json.loads(result.outputs.record.read_text(encoding="utf-8"))
    assert record["estimate"]["method"] == "spectral"
    assert record["kernel"]["scale"] == 3
    assert any("JPEG compression" in note for note in result.notes)


@pytest.mark.parametrize(("wanted", "noise"), [("auto", None), ("on", 0.02), ("off", None)])
def test_light_by_strips_is_light_in_memory(tmp_path, monkeypatch, wanted, noise):
    source = write(tmp_path, "plain")
    kernel = Kernel(KERNEL.array, 2, {"made_by": "psf"})
    settings = Settings(zssr=StartConfig(steps=0, noise_sigma=noise, precision="fp32"))

    def job(name):
        output = tmp_path / f"{name}.tif"
        return upscale_photo(source, settings, kernel=kernel, linear_light=wanted, output=output, device="cpu")

    whole = job("whole")
    monkeypatch.setattr(large_photo, "LARGE", 0)
    monkeypatch.setattr(memory, "default_tile", lambda scale: 32)
    strips = job("strips")
    assert strips.upscaled.image.device.type == "meta"
    first, second = (read_photo(result.outputs.image).pixels for result in (whole, strips))
    # Dark samples spread when light is encoded: a quarter of a grey level of light is more of them.
    assert np.abs(first - second).mean() < 0.3 / 255
    assert np.abs(first - second).max() < 5 / 255
    assert [note for note in whole.notes if "light" in note] == [note for note in strips.notes if "light" in note]
    assert any("in linear light" in note for note in strips.notes) is (wanted == "auto")
    if noise is not None:
        assert strips.upscaled.settings.zssr.noise_sigma == pytest.approx(
            whole.upscaled.settings.zssr.noise_sigma, rel=1e-6
        )


@pytest.mark.parametrize("scale", [2.0, 1.5])
def test_a_geotiff_by_strips_is_where_rasterio_expects_it(tmp_path, by_strips, monkeypatch, scale):
    rasterio = pytest.importorskip("rasterio")
    samples = data.astronaut()[20:68, 200:264, :1].astype(np.uint16).transpose(2, 0, 1) * 11 + 1
    samples = np.concatenate([samples, samples[:, ::-1], samples[:, :, ::-1], samples // 2 + 1])
    samples[:, 10:20, 30:40] = 0
    transform = rasterio.Affine(10.0, 0.0, 399960.0, 0.0, -10.0, 5300040.0)
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 4, "dtype": "uint16", "crs": "EPSG:32632"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=transform, nodata=0, tiled=True, **profile) as file:
        file.write(samples)
    monkeypatch.setattr(memory, "default_tile", lambda scale: 32)
    settings = Settings(scale=scale, zssr=PASS.zssr)
    result = upscale_photo(tmp_path / "a.tif", settings, kernel=KERNEL, device="cpu")
    assert result.outputs.image.suffix == ".tif"
    with rasterio.open(tmp_path / "a.tif") as before, rasterio.open(result.outputs.image) as after:
        assert (after.width, after.height, after.count) == (64 * scale, 48 * scale, 4)
        assert (after.crs, after.nodata, after.dtypes) == (before.crs, before.nodata, before.dtypes)
        # As rasterio's documentation scales a transform: pixels are smaller, the corner stays.
        expected = (10 / scale, 0, 399960, 0, -10 / scale, 5300040)
        assert tuple(after.transform)[:6] == pytest.approx(expected, abs=1e-9)
        assert after.bounds == pytest.approx(before.bounds)
        hole = after.read_masks(1) == 0
        assert np.array_equal(hole, ~upscale_valid(before.read_masks(1) > 0, *hole.shape))
        assert after.read(1)[~hole].min() > 0


def test_a_large_jpeg_of_any_name_is_known_as_one(tmp_path, by_strips):
    source = tmp_path / "stdin"
    Image.fromarray(data.astronaut()[20:84, 200:264]).save(source, "JPEG", quality=60)
    result = upscale_photo(source, MEASURED_NOISE, kernel=KERNEL, output=tmp_path / "x.png", device="cpu")
    assert any("JPEG compression" in note for note in result.notes)


@pytest.fixture
def small_windows(monkeypatch):
    """Kernels are estimated from 96 px a side; the sizes of what is read are noted."""
    read, sizes = PhotoSource.read, []

    def noted(self, top, bottom, left=0, right=None):
        sizes.append((bottom - top, (self.size[0] if right is None else right) - left))
        return read(self, top, bottom, left, right)

    monkeypatch.setattr(PhotoSource, "read", noted)
    monkeypatch.setattr(sampling, "ESTIMATED_SIDE", 96)
    return sizes


def test_the_kernel_of_a_large_photograph_is_estimated_from_windows(tmp_path, small_windows):
    pixels = data.astronaut()[:300, :340].copy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    settings = Settings(estimator="spectral")
    result = estimate_photo_kernel(tmp_path / "photo.png", settings, device="cpu")
    assert max(rows * columns for rows, columns in small_windows) == 96 * 96
    assert result.record["input"]["width"] == 340
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    assert blind.estimate_kernel(image, settings).kernel.digest == result.kernel.digest


def test_of_a_large_photograph_only_the_region_is_read(tmp_path, small_windows):
    Image.fromarray(data.astronaut()[:300, :340]).save(tmp_path / "photo.png")
    settings = Settings(estimator="spectral", region=Region(x=40, y=70, width=80, height=90))
    result = estimate_photo_kernel(tmp_path / "photo.png", settings, device="cpu")
    assert set(small_windows) == {(90, 80)}
    assert result.record["settings"]["region"] == {"x": 40, "y": 70, "width": 80, "height": 90}
    with pytest.raises(ConfigError, match="the region must lie inside the image of 340×300 px"):
        estimate_photo_kernel(
            tmp_path / "photo.png", Settings(region=Region(x=300, y=0, width=80, height=80)), overwrite=True
        )


def test_a_shared_kernel_is_estimated_from_windows_too(tmp_path, small_windows):
    for name, left in (("a", 0), ("b", 150)):
        Image.fromarray(data.astronaut()[100:340, left : left + 340]).save(tmp_path / f"{name}.png")
    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    manifest = Manifest(tmp_path / "out.jsonl")
    found = shared_kernel_for(photos, Settings(estimator="spectral"), manifest, device="cpu")
    assert max(rows * columns for rows, columns in small_windows) == 96 * 96
    assert "from 2 of 2 photographs" in found.notes[0]
    (tmp_path / "blindsr-shared.kernel.json").unlink()
    with pytest.raises(ImageError, match="none of 2 photographs"):
        shared_kernel_for(photos, Settings(), manifest, device="cpu", files=FileOptions(max_pixels=1000))


def test_an_error_while_strips_are_made_leaves_nothing(tmp_path, by_strips, monkeypatch):
    source = write(tmp_path, "plain")

    def fail(*_, **__):
        raise ImageError("the estimate has failed")

    monkeypatch.setattr(blind, "estimate_kernel", fail)
    with pytest.raises(ImageError, match="has failed"):
        upscale_photo(source, PASS, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_the_tile_follows_the_memory(monkeypatch):
    shape, size = (3, 3000, 4000), (6000, 8000)
    plenty, little = (memory.choose_tile(shape, 2, size, budget=n * 2**20) for n in (8000, 1600))
    assert plenty == 1024
    assert 32 <= little < 1024
    assert memory.needed_memory(3000, 4000, 3, 2, little) <= 1600 * 2**20
    with pytest.raises(ImageError, match=r"even in tiles of 32 px, --max-memory allows it 0\.5 GiB"):
        memory.choose_tile(shape, 2, size, budget=2**29)
    monkeypatch.setattr(memory, "available_memory", lambda device: None)
    assert memory.choose_tile(shape, 4, size) == 512


def test_needed_memory_is_bounded_but_for_the_input_and_the_width():
    tall, taller = (memory.needed_memory(height, 4000, 3, 2) for height in (4000, 8000))
    assert taller - tall == 4000 * 4000 * 3 * 2


@pytest.mark.parametrize(
    ("settings", "network", "size", "label"),
    [
        (Settings(scale=3), 3, (120, 150), "x3"),
        (Settings(scale=4.5), 6, (180, 225), "x4.5"),
        (Settings(scale=7), 8, (280, 350), "x7"),
        (Settings(factors=(2, 3)), 3, (120, 100), "x2x3"),
        (Settings(factors=(1, 1.5)), 2, (60, 50), "x1x1.5"),
        (Settings(size=(90, 99)), 3, (99, 90), "90x99"),
    ],
)
def test_factors_and_sizes_run_the_next_whole_number(settings, network, size, label):
    found = settings.for_image(40, 50)
    assert found.network_scale == network
    assert found.network_scale in NETWORK_SCALES
    assert found.output_size(40, 50) == size
    assert settings.label == label


@pytest.mark.parametrize("size", [(30, 99), (50, 40), (500, 40)])
def test_a_size_that_does_not_enlarge_is_refused(size):
    with pytest.raises(ConfigError, match="must enlarge the photograph of 50×40 px"):
        Settings(size=size).for_image(40, 50)


@pytest.mark.parametrize("factors", [(0.5, 2), (2, 9), (1, 1)])
def test_factors_out_of_bounds_are_refused(factors):
    with pytest.raises(ConfigError):
        Settings(factors=factors)


def test_a_size_decides_the_factors_of_each_axis():
    lr = random(1, 1, 30, 40)
    result = known.upscale(lr, gaussian(1.5, 3), Settings(size=(61, 88), zssr=PASS.zssr))
    assert result.image.shape == (1, 1, 88, 61)


@pytest.mark.parametrize("scale", [6, 8])
def test_the_kernels_of_two_passes_make_the_whole_kernel(scale):
    kernel = gaussian([[9.0, 1.0], [1.0, 6.0]], scale)
    first, second = passes.split_kernel(kernel)
    assert (first.scale, second.scale) == (passes.FIRST_PASS[scale], 2)
    whole = compose(second, first)
    assert whole.scale == scale
    # The second kernel is never narrower than a pixel, so the whole one may come out wider by that much.
    np.testing.assert_allclose(whole.covariance, kernel.covariance, atol=0.25)


def test_eight_times_in_two_passes_is_blindly_estimated_and_beats_interpolation():
    pixels = torch.from_numpy(data.astronaut()[:256, 60:380].copy()).permute(2, 0, 1)[None].float() / 255
    kernel = gaussian([[9.0, 1.0], [1.0, 7.0]], 8)
    lr = torch.round(degrade(pixels, kernel.tensor(), 8).clamp(0, 1) * 255) / 255

    def psnr(sr):
        return float(-10 * torch.log10((sr - pixels)[..., 8:-8, 8:-8].square().mean()))

    settings = Settings(scale=8, zssr=PASS.zssr)
    sr = known.upscale(lr, kernel, settings)
    assert sr.image.shape == pixels.shape
    assert psnr(sr.image) > psnr(imresize(lr, 8.0)) + 0.5
    assert sr.consistency > 35
    assert blind.estimate_kernel(lr, Settings(scale=8, estimator="spectral")).kernel.scale == 8


def test_the_published_algorithm_and_small_results_stay_in_memory(tmp_path):
    source = write(tmp_path, "plain")
    assert not large_photo.is_large(source, Settings(), None)
    assert large_photo.is_large(source, Settings(), 2**30)
    paper = Settings(zssr=PaperZSSRConfig())
    assert not large_photo.is_large(source, paper, 2**30)
