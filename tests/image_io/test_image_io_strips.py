"""Windows of a file are what the whole file gives there, and rows that are written make the file of the whole."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from blindsr.errors import ImageError, OutputError
from blindsr.image_io import Photo, Strip, read_photo, write_photo, write_strips
from blindsr.image_io import writing_tiff as writing_tiff_module
from blindsr.image_io.strips import open_strips

HEIGHT, WIDTH = 67, 83
WINDOWS = [(0, 67, 0, 83), (0, 1, 0, 1), (66, 67, 82, 83), (10, 31, 0, 83), (17, 50, 15, 40), (31, 33, 63, 65)]


def samples_of(dtype, channels, seed=0):
    values = np.random.default_rng(seed).random((HEIGHT, WIDTH, channels))
    if np.dtype(dtype).kind == "f":
        return (values * 3 - 1).astype(dtype)
    limits = np.iinfo(dtype)
    return (values * (float(limits.max) - limits.min) + limits.min).astype(dtype)


def assert_windows_agree(path):
    whole = read_photo(path)
    with open_strips(path) as source:
        assert source.size == whole.size
        assert source.channels == whole.channels
        assert source.is_transparent == (whole.alpha is not None)
        assert source.header.value_range == whole.value_range
        assert source.header.notes == whole.notes
        assert source.header.exif == whole.exif
        width, height = source.size
        windows = WINDOWS if (height, width) == (HEIGHT, WIDTH) else [(w[2], w[3], w[0], w[1]) for w in WINDOWS]
        for top, bottom, left, right in windows:
            part = source.read(top, bottom, left, right)
            np.testing.assert_array_equal(part.pixels, whole.pixels[top:bottom, left:right])
            if whole.alpha is not None:
                np.testing.assert_array_equal(part.alpha, whole.alpha[top:bottom, left:right])


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "deflate": {"compression": "zlib", "rowsperstrip": 7, "predictor": True},
    "deflate in tiles": {"compression": "zlib", "tile": (16, 32)},
    "deflate in one strip": {"compression": "zlib", "rowsperstrip": HEIGHT},
    "big": {"bigtiff": True, "rowsperstrip": 9},
    "big-endian": {"byteorder": ">"},
    "big-endian strips": {"byteorder": ">", "rowsperstrip": 5, "compression": "zlib"},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_of_a_tiff(tmp_path, layout, dtype):
    options = dict(LAYOUTS[layout])
    if np.dtype(dtype).kind == "f":
        options.pop("predictor", None)
    tifffile.imwrite(tmp_path / "a.tif", samples_of(dtype, 3), photometric="rgb", **options)
    assert_windows_agree(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 7}, {"tile": (16, 16), "compression": "zlib"}])
def test_windows_of_planes(tmp_path, options):
    planes = np.moveaxis(samples_of(np.uint16, 5), -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", planarconfig="separate", **options)
    assert_windows_agree(tmp_path / "a.tif")


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_windows_with_alpha(tmp_path, extra):
    samples = samples_of(np.uint8, 4)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=[extra], rowsperstrip=7)
    assert_windows_agree(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_windows_are_upright(tmp_path, suffix, orientation):
    samples = samples_of(np.uint8, 3)
    if suffix == ".tif":
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", rowsperstrip=7, extratags=tags)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(samples).save(tmp_path / "a.png", exif=exif)
    assert_windows_agree(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_windows_of_other_colours(tmp_path, mode):
    picture = Image.fromarray(skimage.data.coffee()[:HEIGHT, :WIDTH])
    (picture.quantize(16) if mode == "P" else picture.convert(mode)).save(tmp_path / "a.tif")
    assert_windows_agree(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["lzw", "jpeg", "zstd", "packbits"])
def test_windows_of_other_codecs(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    samples = np.ascontiguousarray(skimage.data.coffee()[:HEIGHT, :WIDTH])
    options = {"tile": (32, 32)} if compression == "jpeg" else {"rowsperstrip": 7}
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", compression=compression, **options)
    assert_windows_agree(tmp_path / "a.tif")


def test_windows_of_a_jpeg(tmp_path):
    Image.fromarray(skimage.data.coffee()[:HEIGHT, :WIDTH]).save(tmp_path / "a.jpg")
    assert_windows_agree(tmp_path / "a.jpg")


def test_a_sparse_tiff_is_dark_where_it_has_no_tile(tmp_path):
    samples = samples_of(np.uint8, 1)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", samples, tile=(32, 32), compression="zlib")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        for tag in ("TileOffsets", "TileByteCounts"):
            struct.pack_into("<I", data, file.pages.first.tags[tag].valueoffset, 0)
    (tmp_path / "a.tif").write_bytes(data)
    assert_windows_agree(tmp_path / "a.tif")
    with open_strips(tmp_path / "a.tif") as source:
        assert not source.read(0, 32, 0, 32).pixels.any()


@pytest.mark.parametrize("window", [(-1, 5), (5, 5), (0, 68), (0, 5, 3, 3), (0, 5, 0, 84)])
def test_a_window_outside_is_refused(tmp_path, window):
    tifffile.imwrite(tmp_path / "a.tif", samples_of(np.uint8, 3), photometric="rgb")
    with open_strips(tmp_path / "a.tif") as source, pytest.raises(ImageError, match="must lie in the 83×67 picture"):
        source.read(*window)


def test_only_what_is_read_is_in_memory(tmp_path):
    height, width = 1500, 1000
    tifffile.imwrite(tmp_path / "a.tif", shape=(height, width, 3), dtype=np.uint16, photometric="rgb", tile=(64, 64))
    tracemalloc.start()
    with open_strips(tmp_path / "a.tif") as source:
        for top in range(0, height, 50):
            source.read(top, top + 50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < height * width * 3 * 2 / 2, "half of the file's samples were in memory at once"


def header_of(dtype, **options):
    high = 1.0 if np.dtype(dtype).kind == "f" else float(np.iinfo(dtype).max)
    return Photo(
        pixels=np.zeros((1, 1, 3), np.float32), dtype=np.dtype(dtype), format="TIFF", value_range=(0, high), **options
    )


def cut(photo, heights):
    top = 0
    for height in heights:
        rows = slice(top, top + height)
        yield Strip(photo.pixels[rows], None if photo.alpha is None else photo.alpha[rows])
        top += height


@pytest.mark.parametrize("heights", [[67], [1] * 67, [13, 50, 4], [60, 7]])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(s, d) for s in (".png", ".tif", ".webp") for d in (np.uint8, np.uint16)] + [(".tif", np.float32)],
)
def test_rows_make_the_same_file_as_the_whole(tmp_path, suffix, dtype, heights, monkeypatch):
    monkeypatch.setattr(writing_tiff_module, "_STRIP_BYTES", 5000)
    pixels = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    alpha = np.random.default_rng(1).random((HEIGHT, WIDTH), np.float32)
    photo = header_of(dtype, has_alpha=True).with_result(pixels, alpha)
    write_photo(photo, tmp_path / f"a{suffix}")
    write_strips(photo, tmp_path / f"b{suffix}", size=photo.size, channels=3, strips=cut(photo, heights))
    one, other = read_photo(tmp_path / f"a{suffix}"), read_photo(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.alpha, other.alpha)
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), tifffile.imread(tmp_path / "a.tif"))


def test_a_tiff_that_may_pass_4_gb_is_a_bigtiff_with_all_its_metadata(tmp_path, monkeypatch):
    monkeypatch.setattr(writing_tiff_module, "CLASSIC_LIMIT", 1000)
    exif = Image.Exif()
    exif[271] = "Maker"
    exif.get_ifd(34665)[37386] = 50.0
    exif.get_ifd(34853)[1] = "N"
    pixels = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    photo = header_of(np.uint16, exif=exif.tobytes(), dpi=(300.0, 300.0)).with_result(pixels)
    write_photo(photo, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_allclose(file.asarray() / 65535, pixels, atol=1 / 65535)
    again = Image.Exif()
    again.load(read_photo(tmp_path / "a.tif").exif)
    assert again[271] == "Maker"
    assert again.get_ifd(34665)[37386] == 50
    assert again.get_ifd(34853)[1] == "N"


@pytest.mark.parametrize("heights", [[66], [60, 8], []])
def test_rows_that_do_not_fill_the_picture_leave_nothing(tmp_path, heights):
    photo = header_of(np.uint8).with_result(np.zeros((80, WIDTH, 3), np.float32))
    for suffix in (".tif", ".png", ".jpg"):
        with pytest.raises(OutputError, match="rows"):
            write_strips(photo, tmp_path / f"a{suffix}", size=(WIDTH, 67), channels=3, strips=cut(photo, heights))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, ValueError, OSError, MemoryError])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_what_the_rows_raise_passes_and_leaves_nothing(tmp_path, suffix, error):
    photo = header_of(np.uint8).with_result(np.zeros((67, WIDTH, 3), np.float32))

    def strips():
        yield from cut(photo, [20])
        raise error

    with pytest.raises(error) as caught:
        write_strips(photo, tmp_path / f"a{suffix}", size=photo.size, channels=3, strips=strips())
    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == []
