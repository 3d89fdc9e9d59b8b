"""Formats and options that the other files do not go through: depths of a PNG, AVIF, limits, odd names."""

import importlib
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, features

from blindsr.errors import ConfigError, ImageError, OutputError
from blindsr.image_io import (
    DEFAULT_FILES,
    FileOptions,
    check_format,
    default_suffix,
    format_of,
    read_photo,
    readable_suffixes,
    writable_suffixes,
    write_photo,
)
from blindsr.image_io.codecs.png import SIGNATURE, chunk
from blindsr.image_io.formats import FORMATS, MAX_PIXELS, writable_formats

HEIGHT, WIDTH = 31, 37
SAMPLES = np.ascontiguousarray(skimage.data.astronaut()[:HEIGHT, 200 : 200 + WIDTH])


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_gray_png_of_few_bits_has_all_its_levels(tmp_path, depth, transparent):
    levels = np.random.default_rng(depth).integers(0, 2**depth, (HEIGHT, WIDTH), np.uint8)
    bits = (levels[..., None] >> np.arange(depth - 1, -1, -1) & 1).astype(np.uint8).reshape(HEIGHT, -1)
    rows = np.concatenate([np.zeros((HEIGHT, 1), np.uint8), np.packbits(bits, axis=1)], axis=1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, 0, 0, 0, 0))
    key = chunk(b"tRNS", struct.pack(">H", 1)) if transparent else b""
    body = chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(SIGNATURE + header + key + body)
    photo = read_photo(tmp_path / "a.png")
    assert f"grey of {depth} bit" in photo.warnings[0]
    np.testing.assert_allclose(photo.pixels[..., 0], levels / (2**depth - 1), atol=1e-6)
    if transparent:
        np.testing.assert_array_equal(photo.alpha, levels != 1)
    write_photo(photo, tmp_path / "b.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png").pixels, photo.pixels)


@pytest.mark.parametrize("suffix", [".avif", ".webp", ".jpg"])
def test_lossy_formats_are_near_and_nearer_at_higher_quality(tmp_path, suffix):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    errors = []
    for quality in (20, 95):
        write_photo(photo, tmp_path / f"{quality}{suffix}", quality=quality)
        errors.append(np.abs(read_photo(tmp_path / f"{quality}{suffix}").pixels - photo.pixels).mean() * 255)
    assert errors[1] < errors[0] / 2
    assert errors[1] < 4


def test_alpha_goes_through_avif(tmp_path):
    samples = np.dstack([SAMPLES, np.full((HEIGHT, WIDTH), 128, np.uint8)])
    Image.fromarray(samples).save(tmp_path / "a.png")
    write_photo(read_photo(tmp_path / "a.png"), tmp_path / "a.avif")
    np.testing.assert_allclose(read_photo(tmp_path / "a.avif").alpha * 255, 128, atol=2)


def test_a_progressive_cmyk_jpeg_of_adobe_is_not_inverted(tmp_path):
    cmyk = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    cmyk[..., 1:3] = 255  # magenta and yellow: red
    Image.fromarray(cmyk, "CMYK").save(tmp_path / "a.jpg", progressive=True, quality=95)
    red, green, blue = read_photo(tmp_path / "a.jpg").pixels.mean(axis=(0, 1))
    assert red > 0.9
    assert max(green, blue) < 0.1


NAMES = ["with space", "it's", 'say "hello"', "two\nlines", "Łódź 写真 📷", "-o", "a;rm -rf x", "$(x) `y`", "%s{0}"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_names_of_any_kind_are_read_and_written(tmp_path, name, suffix):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    path = tmp_path / f"{name}{suffix}"
    write_photo(photo, path)
    assert read_photo(path).size == (WIDTH, HEIGHT)
    assert sorted(found.name for found in tmp_path.iterdir()) == sorted({"a.png", path.name})


def test_a_name_with_a_line_break_gives_a_message_of_one_line(tmp_path):
    path = tmp_path / "two\nlines.png"
    path.write_bytes(b"x")
    for wrong in (path, tmp_path / "no\nfile.png"):
        with pytest.raises(ImageError) as caught:
            read_photo(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(OutputError) as refused:
        write_photo(_photo(tmp_path), path)
    assert "\n" not in str(refused.value)


def _photo(folder):
    Image.fromarray(SAMPLES).save(folder / "photo.png")
    return read_photo(folder / "photo.png")


def test_links_that_go_in_a_circle_end(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png"):
        read_photo(tmp_path / "a.png")


def test_the_limit_of_pixels_can_be_raised_and_lowered(tmp_path):
    for suffix in (".png", ".tif", ".jpg", ".webp"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(SAMPLES).save(path)
        with pytest.raises(ImageError, match=r"at most 1146 pixels .* raise the limit \(max_pixels=, --max-pixels\)"):
            read_photo(path, max_pixels=HEIGHT * WIDTH - 1)
        assert read_photo(path, max_pixels=HEIGHT * WIDTH).size == (WIDTH, HEIGHT)


def test_bands_count_as_pixels(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((40, HEIGHT, WIDTH), np.uint8), photometric="minisblack", planarconfig="separate"
    )
    with pytest.raises(ImageError, match="with 40 bands"):
        read_photo(tmp_path / "a.tif", max_pixels=HEIGHT * WIDTH * 9)
    assert read_photo(tmp_path / "a.tif", max_pixels=HEIGHT * WIDTH * 10).channels == 40


def test_the_format_asked_for_decides_the_suffix_and_must_fit_the_name():
    assert DEFAULT_FILES.max_pixels == MAX_PIXELS
    assert FileOptions().suffix(".png") == ".png"
    assert FileOptions(format="jpeg").suffix(".png") == ".jpg"
    for name in ("a.jpg", "a.JPEG"):
        FileOptions(format="jpeg").check_name(Path(name))
    with pytest.raises(OutputError, match=r"requested format is jpeg, but the output is named a\.png; name it a\.jpg"):
        FileOptions(format="jpeg").check_name(Path("a.png"))


@pytest.mark.parametrize("wrong", [{"format": "bmp"}, {"quality": 0}, {"quality": 101}, {"max_pixels": 0}, {"page": 0}])
def test_options_out_of_their_bounds_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be"):
        FileOptions(**wrong)


def test_what_a_result_is_made_of_does_not_depend_on_the_limit():
    assert repr(FileOptions(max_pixels=1)) == repr(FileOptions())
    assert repr(FileOptions(quality=1)) != repr(FileOptions())


def test_signed_integers_keep_their_range_and_type(tmp_path):
    samples = np.random.default_rng(0).integers(-500, 9000, (HEIGHT, WIDTH, 5)).astype(np.int16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="minisblack", planarconfig="contig")
    photo = read_photo(tmp_path / "a.tif")
    low, high = photo.value_range
    assert low < samples.min() <= samples.max() < high
    assert default_suffix(photo) == ".tif"
    write_photo(photo, tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), samples)


@pytest.mark.parametrize(("suffix", "longest"), [(".jpg", 65500), (".webp", 16383)])
def test_a_side_that_a_format_cannot_hold_is_refused(tmp_path, suffix, longest):
    photo = _photo(tmp_path).with_result(np.zeros((1, longest + 1, 3), np.float32))
    with pytest.raises(OutputError, match=f"at most {longest} px a side, the result has {longest + 1}×1; write a.png"):
        write_photo(photo, tmp_path / f"a{suffix}")


def test_every_list_of_suffixes_is_that_of_the_table():
    assert writable_formats() == ("png", "tiff", "jpeg", "webp", "avif", "heic", "fits", "gif")
    assert set(writable_suffixes()) < set(readable_suffixes())
    assert {".jp2", ".heic", ".dng", ".gif", ".tif"} < set(readable_suffixes())
    suffixes = [suffix for row in FORMATS for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes))
    for row in FORMATS:
        assert all(format_of(Path(f"a{suffix.upper()}")) is row for suffix in row.suffixes)
        assert not row.is_written or row.codec
    assert format_of(Path("a.xyz")) is None


def test_every_codec_of_the_table_has_the_functions_of_a_codec():
    for row in FORMATS:
        if row.codec is not None:
            module = importlib.import_module(f"blindsr.image_io.codecs.{row.codec}")
            assert callable(module.decode)
            assert callable(module.size)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("o.bmp", "BMP is not written; name the output o.png"),
        ("o.jp2", "JPEG 2000 is not written; name the output o.png"),
    ],
)
def test_a_format_that_is_only_read_is_named_with_a_remedy(tmp_path, name, advice):
    with pytest.raises(OutputError, match=advice):
        write_photo(_photo(tmp_path), tmp_path / name)


def test_the_remedy_for_floats_is_a_tiff(tmp_path):
    photo = replace(_photo(tmp_path), dtype=np.dtype(np.float32))
    with pytest.raises(OutputError, match=r"BMP is not written; name the output o\.tif"):
        write_photo(photo, tmp_path / "o.bmp")


def test_what_can_be_written_is_known_without_encoding(tmp_path, monkeypatch):
    photo = _photo(tmp_path)
    monkeypatch.setattr(Image.Image, "save", None)
    without_extras = [row for row in FORMATS if row.is_written and row.extra != "astro"]
    for suffix in (suffix for row in without_extras for suffix in row.suffixes):
        check_format(photo, 3, tmp_path / f"a{suffix}", size=(74, 62), is_transparent=False)
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(OutputError, match=r"this Pillow was built without AVIF; write a\.png"):
        check_format(photo, 3, tmp_path / "a.avif", size=(74, 62), is_transparent=False)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
