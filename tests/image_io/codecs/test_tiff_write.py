"""What the writer of TIFF files writes is what tifffile, Pillow and GDAL read."""

import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from blindsr.image_io import Photo, PhotoHeader, Strip, open_writer, read_photo, write_photo
from blindsr.image_io.codecs import tiff

HEIGHT, WIDTH = 67, 83
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def samples_of(dtype, channels):
    values = np.random.default_rng(0).random((HEIGHT, WIDTH, channels))
    if np.dtype(dtype).kind == "f":
        return (values * 3 - 1).astype(dtype)
    limits = np.iinfo(dtype)
    return (values * (float(limits.max) - limits.min) + limits.min).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int16, np.int32, np.uint32, np.float32])
def test_three_other_readers_find_the_samples(tmp_path, monkeypatch, dtype, channels):
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr(tiff, "_STRIP_BYTES", 5000)
    samples = samples_of(dtype, channels)
    options = {"planarconfig": "contig"} if channels > 1 else {}
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", np.squeeze(samples), photometric=photometric, metadata=None, **options)
    write_photo(read_photo(tmp_path / "a.tif"), tmp_path / "b.tif")
    found = tifffile.imread(tmp_path / "b.tif").reshape(samples.shape)
    tolerance = (
        {"rtol": 1e-6, "atol": 1e-6}
        if np.dtype(dtype).kind == "f"
        else {"atol": 2 ** (8 * np.dtype(dtype).itemsize - 24)}
    )
    np.testing.assert_allclose(found.astype(float), samples.astype(float), **tolerance)
    with rasterio.open(tmp_path / "b.tif") as file:
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), found)
    if channels in (1, 3) and dtype == np.uint8:
        with Image.open(tmp_path / "b.tif") as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), found)


CASES = [
    ("rgb", 3, ("RGB", ())),
    ("minisblack", 3, ("MINISBLACK", (0, 0))),
    ("rgb", 4, ("RGB", (0,))),
    ("minisblack", 4, ("MINISBLACK", (0, 0, 0))),
    ("minisblack", 1, ("MINISBLACK", ())),
]


@pytest.mark.parametrize(("photometric", "channels", "expected"), CASES)
def test_infrared_beside_rgb_and_three_measured_bands_stay_what_they_are(tmp_path, photometric, channels, expected):
    extras = {"extrasamples": [0] * len(expected[1])} if expected[1] else {}
    options = {"planarconfig": "contig", **extras} if channels > 1 else {}
    samples = np.squeeze(samples_of(np.uint8, channels))
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric=photometric, metadata=None, **options)
    write_photo(read_photo(tmp_path / "a.tif"), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages.first
        assert page.photometric.name == expected[0]
        assert tuple(int(extra) for extra in page.extrasamples) == expected[1]


def test_a_large_tiff_or_png_is_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_STRIP_BYTES", 2**17)
    height, width = 2000, 500
    rows = np.random.default_rng(0).random((50, width, 3), np.float32)
    header = PhotoHeader(dtype=np.dtype(np.uint16), format="PNG", value_range=(0, 65535))
    for suffix in (".tif", ".png"):
        tracemalloc.start()
        with open_writer(tmp_path / f"a{suffix}", header, size=(width, height), channels=3) as writer:
            for _ in range(height // 50):
                writer.write(Strip(rows))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < height * width * 3 * 2 / 2, suffix


def test_a_big_tiff_with_a_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "CLASSIC_LIMIT", 1000)
    pixels = np.random.default_rng(0).random((HEIGHT, WIDTH, 1), np.float32)
    valid = np.ones((HEIGHT, WIDTH, 1), bool)
    valid[5:9, 3:70] = False
    photo = Photo(
        pixels=pixels, valid=valid, has_mask=True, dtype=np.dtype(np.uint8), format="TIFF", value_range=(0, 255)
    )
    write_photo(photo, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        assert len(file.pages) == 2
    again = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(again.valid, valid)


@pytest.mark.parametrize("dpi", [(300.0, 300.0), (72.009, 1.5), (0.1, 1e6), (1 / 3, 299.99999)])
def test_a_resolution_survives(tmp_path, dpi):
    photo = Photo(pixels=np.zeros((5, 4, 3), np.float32), dtype=np.dtype(np.uint8), format="PNG", dpi=dpi)
    write_photo(photo, tmp_path / "a.tif")
    np.testing.assert_allclose(read_photo(tmp_path / "a.tif").dpi, dpi, rtol=1e-5)
