"""Pages, masks and colours of TIFF files."""

import struct

import numpy as np
import pytest
import tifffile

from blindsr.errors import ImageError
from blindsr.image_io import default_suffix, open_image, read_photo, write_photo
from blindsr.image_io.codecs import tiff
from tests.images import upscale_valid

HEIGHT, WIDTH = 31, 37
pytestmark = pytest.mark.filterwarnings("ignore:The given matrix is equal", "ignore:Dataset has no geotransform")


@pytest.fixture(params=["cached", "by windows"], autouse=True)
def limit_of_cached_tiffs(request, monkeypatch):
    if request.param == "by windows":
        monkeypatch.setattr(tiff, "_CACHED_BYTES", 0)


def test_a_page_is_chosen_and_overviews_are_not_counted(tmp_path):
    first, second = np.full((32, 32), 10, np.uint8), np.full((48, 16), 200, np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(first, metadata=None)
        file.write(first[::2, ::2], subfiletype=1, metadata=None)
        file.write(second, metadata=None)
    assert read_photo(tmp_path / "a.tif", page=2).size == (16, 48)
    assert (np.round(read_photo(tmp_path / "a.tif", page=2).pixels * 255) == 200).all()
    with pytest.raises(ImageError, match="page 3 was requested, the file has 2"):
        read_photo(tmp_path / "a.tif", page=3)


def masked(rasterio, path, **options):
    samples = np.random.default_rng(0).integers(1, 255, (3, HEIGHT, WIDTH), np.uint8)
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[3:9, 5:20] = False
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=3, dtype="uint8", **options) as file,
    ):
        file.write(samples)
        file.write_mask(mask)
    return samples, mask


@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_the_internal_mask_of_gdal_is_missing_data_and_no_page(tmp_path, options):
    rasterio = pytest.importorskip("rasterio")
    samples, mask = masked(rasterio, tmp_path / "a.tif", transform=rasterio.Affine(1, 0, 0, 0, -1, 0), **options)
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.valid, np.repeat(mask[..., None], 3, axis=2))
    np.testing.assert_array_equal(np.round(photo.pixels[mask] * 255), samples.transpose(1, 2, 0)[mask])
    assert photo.has_mask
    assert photo.warnings == (
        f"missing data in {3 * 90} samples: filled from the neighbours for the work, no data in the result",
    )
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.window(slice(2, 7), slice(4, 9)).valid, photo.valid[2:7, 4:9])


def test_the_mask_is_written_and_rasterio_reads_it(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    _, mask = masked(rasterio, tmp_path / "a.tif", transform=rasterio.Affine(1, 0, 0, 0, -1, 0))
    photo = read_photo(tmp_path / "a.tif")
    assert default_suffix(photo) == ".tif"
    pixels = photo.pixels.repeat(2, 0).repeat(2, 1)
    result = photo.with_result(pixels, valid=upscale_valid(photo.valid, *pixels.shape[:2]))
    assert write_photo(result, tmp_path / "b.tif") == ()
    with rasterio.open(tmp_path / "b.tif") as file:
        np.testing.assert_array_equal(file.dataset_mask() > 0, mask.repeat(2, 0).repeat(2, 1))
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), np.round(pixels * 255))
    again = read_photo(tmp_path / "b.tif")
    np.testing.assert_array_equal(again.valid, result.valid)
    assert "mask of missing data is kept in a TIFF only" in write_photo(result, tmp_path / "b.png")[-1]


def test_a_mask_of_another_size_is_ignored_with_a_warning(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.full((32, 32), 10, np.uint8), metadata=None)
        file.write(np.ones((16, 16), np.uint8), subfiletype=2, metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        struct.pack_into("<I", data, file.pages[1].tags[254].valueoffset, 4)
    (tmp_path / "a.tif").write_bytes(data)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.valid is None
    assert photo.warnings == ("the mask of the TIFF does not fit its image: it is ignored",)


def test_a_colour_map_of_8_bits_is_not_black(tmp_path):
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 7)]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colours, metadata=None)
    pixels = np.round(read_photo(tmp_path / "a.tif").pixels * 255).reshape(256, 3)
    np.testing.assert_array_equal(pixels, colours.T)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "lerc", "lzma", "jpeg2000", "packbits", "deflate"])
def test_codecs_of_imagecodecs_come_without_an_extra(tmp_path, compression):
    samples = np.random.default_rng(0).integers(0, 65535, (HEIGHT, WIDTH), np.uint16)
    options = {"compressionargs": {"level": 0}} if compression == "jpeg2000" else {}
    tifffile.imwrite(tmp_path / "a.tif", samples, compression=compression, **options)
    np.testing.assert_array_equal(np.round(read_photo(tmp_path / "a.tif").pixels[..., 0] * 65535), samples)
