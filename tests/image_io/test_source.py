"""Windows of a source are what the whole image has there, whether it is a file or an array; a file is opened once."""

import builtins
import hashlib
import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io import FileOptions, MemorySource, open_image, read_photo
from blindsr.image_io.codecs import tiff
from blindsr.ops.jpeg import jpeg_noise_sigma

HEIGHT, WIDTH = 67, 83
WINDOWS = [(0, 67, 0, 83), (0, 1, 0, 1), (66, 67, 82, 83), (10, 31, 0, 83), (17, 50, 15, 40), (31, 33, 63, 65)]


@pytest.fixture(params=["cached", "by windows"], autouse=True)
def limit_of_cached_tiffs(request, monkeypatch):
    """TIFF files of these sizes are decoded once; with a limit of 0 they are read like large ones."""
    if request.param == "by windows":
        monkeypatch.setattr(tiff, "_CACHED_BYTES", 0)


def samples_of(dtype, channels, seed=0):
    values = np.random.default_rng(seed).random((HEIGHT, WIDTH, channels))
    if np.dtype(dtype).kind == "f":
        return (values * 3 - 1).astype(dtype)
    limits = np.iinfo(dtype)
    return (values * (float(limits.max) - limits.min) + limits.min).astype(dtype)


def assert_windows_agree(path):
    whole = read_photo(path)
    with open_image(path) as source:
        assert source.size == whole.size
        assert source.channels == whole.channels
        assert source.is_transparent == (whole.alpha is not None)
        assert source.header.value_range == whole.value_range
        assert source.header.warnings == whole.warnings
        assert source.header.exif == whole.exif
        width, height = source.size
        windows = WINDOWS if (height, width) == (HEIGHT, WIDTH) else [(w[2], w[3], w[0], w[1]) for w in WINDOWS]
        for top, bottom, left, right in windows:
            part = source.window(slice(top, bottom), slice(left, right))
            np.testing.assert_array_equal(part.pixels, whole.pixels[top:bottom, left:right])
            if whole.alpha is not None:
                np.testing.assert_array_equal(part.alpha, whole.alpha[top:bottom, left:right])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_an_image_is_grey_if_its_three_bands_are_equal_in_every_visible_pixel(tmp_path, dtype):
    def is_grey(samples):
        tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb")
        with open_image(tmp_path / "a.tif") as source:
            return source.is_grey

    samples = np.repeat(samples_of(dtype, 1), 3, axis=2)
    assert is_grey(samples)
    samples[-1, -1, 0] = 0 if samples[-1, -1, 0] else 1
    assert not is_grey(samples)
    assert not MemorySource(samples[..., :1]).is_grey
    assert not MemorySource(samples[..., [0, 0, 0, 0]]).is_grey
    if np.dtype(dtype).kind == "u":
        alpha = np.full((HEIGHT, WIDTH), np.iinfo(dtype).max, dtype)
        alpha[-1, -1] = 0
        assert MemorySource(np.dstack([samples, alpha]), has_alpha=True).is_grey
        alpha[-1, -1] = 1
        assert not MemorySource(np.dstack([samples, alpha]), has_alpha=True).is_grey


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
    with open_image(tmp_path / "a.tif") as source:
        assert not source.window(slice(0, 32), slice(0, 32)).pixels.any()


@pytest.mark.parametrize("window", [(-1, 5, 0, 83), (5, 5, 0, 83), (0, 68, 0, 83), (0, 5, 3, 3), (0, 5, 0, 84)])
def test_a_window_outside_is_refused(tmp_path, window):
    tifffile.imwrite(tmp_path / "a.tif", samples_of(np.uint8, 3), photometric="rgb")
    with open_image(tmp_path / "a.tif") as source, pytest.raises(ImageError, match="must be inside the 83×67 image"):
        source.window(slice(*window[:2]), slice(*window[2:]))


def test_only_what_is_read_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_CACHED_BYTES", 0)
    height, width = 1500, 1000
    tifffile.imwrite(tmp_path / "a.tif", shape=(height, width, 3), dtype=np.uint16, photometric="rgb", tile=(64, 64))
    tracemalloc.start()
    with open_image(tmp_path / "a.tif") as source:
        for top in range(0, height, 50):
            source.window(slice(top, top + 50), slice(0, source.size[0]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < height * width * 3 * 2 / 2, "half of the file's samples were in memory at once"


@pytest.fixture
def opened(monkeypatch):
    """Every path that is opened in this process, by Python's own functions."""
    paths = []
    real_open, real_io_open = builtins.open, io.open

    def counting(real):
        def open_(file, *args, **kwargs):
            paths.append(str(file))
            return real(file, *args, **kwargs)

        return open_

    monkeypatch.setattr(builtins, "open", counting(real_open))
    monkeypatch.setattr(io, "open", counting(real_io_open))
    return paths


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".jp2"])
def test_everything_that_a_job_needs_takes_one_open_file(tmp_path, opened, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(skimage.data.coffee()[:HEIGHT, :WIDTH]).save(path)
    opened.clear()
    with open_image(path) as source:
        assert source.shape == (3, HEIGHT, WIDTH)
        source.window(slice(0, 5), slice(3, 9))
        source.read()
        digest = source.sha256
        assert jpeg_noise_sigma(source.jpeg_tables) >= 0
        assert (source.header.has_alpha, source.is_transparent, source.has_missing_data) == (False, False, False)
    assert opened.count(str(path)) == 1
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.sha256 == digest, "it is kept"


def test_the_counter_of_open_files_counts(tmp_path, opened):
    (tmp_path / "a").touch()
    for _ in range(2):
        (tmp_path / "a").open("rb").close()
    assert opened.count(str(tmp_path / "a")) == 2


def test_a_closed_file_is_closed(tmp_path):
    Image.fromarray(samples_of(np.uint8, 3)).save(tmp_path / "a.tif")
    with open_image(tmp_path / "a.tif") as source:
        file = source._file
        assert not file.closed
    assert file.closed
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:500])
    with pytest.raises(ImageError):
        open_image(tmp_path / "b.tif")  # an error leaves no file open: a ResourceWarning would fail the test


ARRAYS = {
    "uint8": samples_of(np.uint8, 3),
    "uint16 grey": samples_of(np.uint16, 1)[..., 0],
    "int16": samples_of(np.int16, 5),
    "float32": samples_of(np.float32, 3),
    "big-endian": samples_of(np.uint16, 3).astype(">u2"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_has_the_windows_of_a_file_with_its_samples(tmp_path, name):
    samples = ARRAYS[name]
    options = {"photometric": "minisblack", **({"planarconfig": "contig"} if samples.ndim == 3 else {})}
    tifffile.imwrite(tmp_path / "a.tif", samples.astype(samples.dtype.newbyteorder("=")), **options)
    array = MemorySource(samples)
    with open_image(tmp_path / "a.tif") as file, array as memory:
        assert (memory.shape, memory.size, memory.channels) == (file.shape, file.size, file.channels)
        assert memory.dtype == file.dtype
        assert memory.header.value_range == file.header.value_range
        assert (memory.path, memory.jpeg_tables) == (None, None)
        for top, bottom, left, right in WINDOWS:
            rows, columns = slice(top, bottom), slice(left, right)
            np.testing.assert_array_equal(memory.window(rows, columns).pixels, file.window(rows, columns).pixels)
    with pytest.raises(ImageError, match="must be inside"):
        array.window(slice(0, HEIGHT + 1), slice(0, 3))


def test_missing_samples_of_an_array_are_those_that_are_masked_nodata_or_no_numbers():
    samples = samples_of(np.float32, 2)
    samples[3, 4, 0], samples[5, 6, 1] = np.nan, -9999
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[7, 8] = True
    source = MemorySource(samples, nodata=-9999, mask=mask)
    assert source.has_missing_data
    missing = np.argwhere(~source.read().valid).tolist()
    assert missing == [[3, 4, 0], [5, 6, 1], [7, 8, 0], [7, 8, 1]]
    assert np.isfinite(source.read().pixels).all()
    assert not source.window(slice(3, 4), slice(4, 5)).valid[0, 0, 0]


def test_windows_with_missing_data_do_not_depend_on_where_they_are_cut():
    samples = samples_of(np.float32, 1)
    samples[10:50, 20:60] = np.nan
    source = MemorySource(samples)
    whole = source.read().pixels
    for top in range(0, HEIGHT, 7):
        part = source.window(slice(top, min(HEIGHT, top + 7)), slice(10, 40))
        np.testing.assert_array_equal(part.pixels, whole[top : top + 7, 10:40])


def test_an_array_with_alpha():
    samples = samples_of(np.uint8, 4)
    source = MemorySource(samples, has_alpha=True)
    assert (source.shape, source.header.has_alpha, source.is_transparent) == ((3, HEIGHT, WIDTH), True, True)
    np.testing.assert_allclose(source.window(slice(2, 5), slice(0, WIDTH)).alpha * 255, samples[2:5, :, 3], atol=1e-3)
    opaque = MemorySource(np.full((5, 4, 4), 255, np.uint8), has_alpha=True)
    assert (opaque.header.has_alpha, opaque.is_transparent, opaque.read().alpha) == (True, False, None)


def test_floats_in_memory_are_given_as_they_are():
    pixels = np.random.default_rng(0).random((9, 8, 3), np.float32)
    source = MemorySource(pixels)
    assert (source.window(slice(1, 3), slice(0, 8)).pixels == pixels[1:3]).all()
    assert source.dtype == np.float32
    assert source.sha256 == MemorySource(pixels.copy()).sha256 != MemorySource(pixels[::-1]).sha256


@pytest.mark.parametrize(("wrong", "match"), [(np.zeros(3), "must be"), (np.zeros((3, 0)), "not empty")])
def test_an_array_that_is_no_image_is_refused(wrong, match):
    with pytest.raises(ImageError, match=match):
        MemorySource(wrong)


def test_the_page_of_the_options_is_opened(tmp_path):
    pages = samples_of(np.uint8, 3).transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    for page in (1, 2, 3):
        with open_image(tmp_path / "a.tif", options=FileOptions(page=page)) as source:
            assert source.warnings == ()  # it was asked for
            np.testing.assert_array_equal(np.round(source.read().pixels[..., 0] * 255), pages[page - 1])
    with open_image(tmp_path / "a.tif") as source:
        assert source.warnings == ("the TIFF has 3 pages: page 1 is used",)
    with pytest.raises(ImageError, match=r"a\.tif: page 4 was requested, the file has 3"):
        open_image(tmp_path / "a.tif", options=FileOptions(page=4))


def test_the_limit_of_the_options_is_applied(tmp_path):
    Image.fromarray(samples_of(np.uint8, 3)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="at most 10 pixels"):
        open_image(tmp_path / "a.png", options=FileOptions(max_pixels=10))
    with pytest.raises(ImageError, match="at most 11 pixels"):
        open_image(tmp_path / "a.png", options=FileOptions(max_pixels=10**9), max_pixels=11)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the list of open files is Linux's")
def test_no_file_remains_open(tmp_path):
    Image.fromarray(samples_of(np.uint8, 3)).save(tmp_path / "a.tif")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read_photo(tmp_path / "a.tif")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
