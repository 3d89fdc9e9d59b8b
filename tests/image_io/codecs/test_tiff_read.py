"""Pages, masks and colours of TIFF files."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

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
    assert photo.warnings == (f"missing data in {3 * 90} samples: filled from the neighbours for the work",)
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


def test_a_mask_is_left_out_where_the_format_has_none(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    masked(rasterio, tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif")
    sentence = "the mask of missing data is kept in a TIFF only: it is left out, and the filled values stay"
    assert write_photo(photo, tmp_path / "b.png") == (sentence,)
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png").pixels, photo.pixels)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_ycbcr_becomes_rgb_once(tmp_path, compression):
    image = Image.new("RGB", (64, 48), (200, 40, 30))
    image.paste((30, 90, 220), (16, 16, 48, 32))
    options = {"quality": 100} if compression == "jpeg" else {}
    image.convert("YCbCr").save(tmp_path / "a.tif", compression=compression, **options)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.is_rgb
    assert np.abs(photo.pixels * 255 - np.asarray(image)).max() < 2.5


def ycbcr(path, samples, *tags, **options):
    """A TIFF of samples that are luma and differences of colours, with tags of numbers as fractions of 10,000."""
    extra = [
        (code, 5, len(values), sum(((round(10000 * v), 10000) for v in values), ()), True) for code, values in tags
    ]
    tifffile.imwrite(path, samples, photometric="ycbcr", extratags=extra, **options)
    return path


def test_ycbcr_is_converted_by_the_numbers_of_its_file(tmp_path):
    coded = np.array([[[16, 128, 128, 7], [235, 128, 128, 8], [100, 190, 60, 9]]], np.uint8).repeat(8, 0)
    video = (532, (16, 235, 128, 240, 128, 240))  # of broadcasting: not the whole range
    photo = read_photo(ycbcr(tmp_path / "a.tif", coded, video, (529, (0.2126, 0.7152, 0.0722)), extrasamples=[0]))
    y, cb, cr = (100 - 16) / 219 * 255, 62 / 112 * 127, -68 / 112 * 127
    r, b = y + 2 * (1 - 0.2126) * cr, y + 2 * (1 - 0.0722) * cb
    green = (y - 0.2126 * r - 0.0722 * b) / 0.7152
    expected = [[0, 0, 0, 7], [255, 255, 255, 8], [max(0, r), green, min(255, b), 9]]
    np.testing.assert_allclose(photo.pixels[0] * 255, expected, atol=0.51)


def test_ycbcr_that_is_not_converted_is_refused(tmp_path):
    refused = {
        "reduced colour resolution is not read; convert it to RGB": {"subsampling": (2, 2), "compression": "jpeg"},
        "must have 8 bits and three channels; convert it to RGB": {"dtype": np.uint16},
        "numbers that give no colours": {"tags": [(532, (0, 0, 128, 255, 128, 255))]},
    }
    for words, options in refused.items():
        options = dict(options)
        samples, tags = np.full((32, 32, 3), 99, options.pop("dtype", np.uint8)), options.pop("tags", [])
        path = ycbcr(tmp_path / "a.tif", samples, *tags, **options)
        if "subsampling" in options:  # tifffile writes such samples as a JPEG only
            with tifffile.TiffFile(path, mode="r+") as tiff:
                tiff.pages.first.tags[259].overwrite(1)
        with pytest.raises(ImageError, match=words):
            read_photo(path)
    path = ycbcr(tmp_path / "a.tif", np.full((32, 32, 3), 99, np.uint8))
    path.write_bytes(path.read_bytes().replace(struct.pack("<HHI", 530, 3, 2), struct.pack("<HHI", 531, 3, 2)))
    with pytest.raises(ImageError, match="reduced colour resolution"):  # which is the default
        read_photo(path)


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
