"""Every file that cannot be used gives one `ImageError` of one line that names it and says what to do."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io import header_size, image_size, read_photo
from blindsr.image_io.codecs.png import SIGNATURE, chunk

PICTURE = Image.fromarray(skimage.data.coffee()[:31, :37])


def refused(path, match):
    with pytest.raises(ImageError, match=match) as caught:
        read_photo(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.count(path.name) == 1
    assert ";" in message, "a message ends with what to do"


def encoded(format_, **options):
    file = io.BytesIO()
    PICTURE.save(file, format_, **options)
    return file.getvalue()


def png16():
    rows = np.random.default_rng(0).integers(0, 256, (31, 1 + 37 * 6), np.uint8)
    rows[:, 0] %= 5
    return png_of(struct.pack(">IIBBBBB", 37, 31, 16, 2, 0, 0, 0), zlib.compress(rows.tobytes()))


def png_of(header, packed):
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


FILES = {
    "a.png": encoded("PNG"),
    "b.png": png16(),
    "a.jpg": encoded("JPEG"),
    "a.webp": encoded("WEBP"),
    "a.tif": encoded("TIFF"),
    "b.tif": encoded("TIFF", compression="tiff_lzw"),
    "a.bmp": encoded("BMP"),
    "a.gif": encoded("GIF"),
}


def test_a_missing_file(tmp_path):
    refused(tmp_path / "a.png", "a.png: no such file; check the name")


def test_a_folder(tmp_path):
    refused(tmp_path, r"this is a folder; expected an image \(PNG.*\); name a file in it")


def test_an_empty_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    refused(tmp_path / "a.png", r"the file is empty; expected an image \(PNG.*\); get an intact copy")


def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    refused(tmp_path / "a.png", "a device or a pipe")


@pytest.mark.parametrize("content", [b"hello", bytes(1000)])
def test_something_that_is_no_image(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    refused(tmp_path / "a.jpg", "needed PNG, TIFF, JPEG")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.8, 0.97])
def test_a_truncated_file(tmp_path, name, part):
    data = FILES[name]
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * part)])
    refused(path, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_damaged_bytes_is_read_or_refused_in_words(tmp_path, name):
    rng, messages = np.random.default_rng(0), []
    path = tmp_path / name
    for _ in range(40):
        data = bytearray(FILES[name])
        for position in rng.integers(0, len(data), 4):
            data[position] = int(rng.integers(256))
        path.write_bytes(bytes(data))
        try:
            assert np.isfinite(read_photo(path).pixels).all()
        except ImageError as error:
            messages.append(str(error))
    assert "\n" not in "".join(messages)


def test_a_wrong_checksum_in_a_16_bit_png(tmp_path):
    data = bytearray(png16())
    data[-20] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", "damaged or ends early .*IDAT")


def test_a_16_bit_png_that_unpacks_to_more_than_its_header_states_stops_at_its_size(tmp_path):
    header = struct.pack(">IIBBBBB", 37, 31, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png_of(header, zlib.compress(bytes(10**7))))
    assert read_photo(tmp_path / "a.png").pixels.shape == (31, 37, 3)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_decompression_bomb(tmp_path, depth):
    header = struct.pack(">IIBBBBB", 2**16, 2**13, depth, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png_of(header, zlib.compress(bytes(100))))
    refused(tmp_path / "a.png", "at most 268435456 pixels .* has 65536×8192")


def test_a_hundred_megapixels_are_no_bomb(tmp_path):
    # The size passes; that the samples then end is found without a warning of Pillow's about the size.
    header = struct.pack(">IIBBBBB", 10000, 10000, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png_of(header, zlib.compress(bytes(100))))
    refused(tmp_path / "a.png", "ends early")


def test_the_limit_of_pillow_is_put_back(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(FILES["a.png"])
    read_photo(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_image_without_a_single_measured_value(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((31, 37), np.nan, np.float32))
    refused(tmp_path / "a.tif", "every sample is NaN, infinite or marked as no data; there is nothing to enlarge")


@pytest.mark.parametrize("dtype", [np.uint64, np.complex64])
def test_sample_types_that_cannot_be_kept(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((31, 37), dtype))
    refused(tmp_path / "a.tif", np.dtype(dtype).name)


def test_alpha_out_of_its_range(tmp_path):
    samples = np.full((31, 37, 4), 2, np.float32)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["unassalpha"])
    refused(tmp_path / "a.tif", r"alpha must lie in \[0, 1\], it spans \[2, 2\]")


def test_a_damaged_exif_block_does_not_cost_the_image(tmp_path):
    PICTURE.save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\x12" * 40)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == (31, 37, 3)
    assert any("EXIF" in note for note in photo.warnings)


def test_a_tiff_with_fewer_strips_than_it_needs_is_not_filled_up_by_chance(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((31, 37), np.uint16), compression="zlib", rowsperstrip=31)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages.first.tags["RowsPerStrip"].valueoffset
    struct.pack_into("<H", data, place, 8)
    (tmp_path / "a.tif").write_bytes(data)
    refused(tmp_path / "a.tif", "needs 4 strips or tiles, it has 1; get an intact copy")


@pytest.mark.parametrize(
    ("package", "name", "content", "extra"),
    [
        ("rawpy", "a.cr2", b"II*\x00", "raw"),
        ("pillow_heif", "a.heic", struct.pack(">I", 24) + b"ftypheic" + bytes(12), "heic"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, package, name, content, extra):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=rf'run pip install "blindsr\[{extra}\]"') as caught:
        read_photo(tmp_path / name)
    assert "\n" not in str(caught.value)


PIXELS = np.ascontiguousarray(skimage.data.astronaut()[:31, 150:187])


def written(path, orientation):
    if path.suffix == ".tif":
        tifffile.imwrite(path, PIXELS, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    elif path.suffix == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        exif = Image.Exif()
        exif[274] = orientation
        pillow_heif.from_bytes("RGB", (37, 31), PIXELS.tobytes()).save(path, quality=80, exif=exif.tobytes())
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(PIXELS).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif", ".heic"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_has_the_size_that_it_is_read_with(tmp_path, suffix, orientation):
    path = written(tmp_path / f"a{suffix}", orientation)
    height, width, bands = read_photo(path).pixels.shape
    assert image_size(path) == (height, width, bands)


def test_a_tiff_is_known_whatever_its_name(tmp_path):
    tifffile.imwrite(
        tmp_path / "stdin", np.zeros((31, 37, 7), np.float32), photometric="minisblack", planarconfig="contig"
    )
    assert image_size(tmp_path / "stdin") == (31, 37, 7)


def test_what_is_no_image_has_no_size(tmp_path):
    (tmp_path / "a.dng").write_bytes(b"II*\x00" + bytes(100))
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(100))
    (tmp_path / "a.png").write_bytes(b"")
    for name in ("a.dng", "a.heic", "a.png", "gone.png"):
        assert image_size(tmp_path / name) is None
        with pytest.raises(ImageError) as caught:
            header_size(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_a_header_is_judged_by_the_limit_of_pixels(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    assert header_size(tmp_path / "a.png", 31 * 37) == (31, 37, 3)
    with pytest.raises(ImageError, match=r"a\.png: at most 1146 pixels .* this file has 37×31; if you trust"):
        header_size(tmp_path / "a.png", 31 * 37 - 1)


UNREAD = {
    "DICOM": bytes(128) + b"DICM",
    "Photoshop": b"8BPS" + bytes(40),
    "PDF": b"%PDF-1.7",
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "OpenEXR": b"\x76\x2f\x31\x01" + bytes(20),
    "Netpbm": b"P6 1 1 65535 " + bytes(6),
    "SVG": b"<svg></svg>",
}


@pytest.mark.parametrize("title", UNREAD)
def test_a_format_that_is_not_read_is_named(tmp_path, title):
    (tmp_path / "a.jpg").write_bytes(UNREAD[title])
    refused(tmp_path / "a.jpg", rf"{title}.* is not read \(only PNG, .*\); convert it to TIFF or PNG")


OTHER_FILES = {
    "a.mp4": (b"\x00\x00\x00\x20ftypisom" + bytes(40), "a film .* is not read .*ffmpeg"),
    "a.mov": (b"\x00\x00\x00\x14ftypqt  " + bytes(40), "a film .* is not read .*ffmpeg"),
    "a.html": (b"<!doctype html>\n<html>", "an HTML page is not read .*; save the image itself"),
    "photo.jpg": (b"<html><body>404", "an HTML page is not read .*; save the image itself"),
    "a.zip": (b"PK\x03\x04" + bytes(40), "a ZIP archive is not read .*; unpack it"),
    "a.docx": (b"PK\x03\x04" + bytes(40), "a ZIP archive is not read .*; unpack it"),
    "a.npz": (b"PK\x03\x04" + bytes(40), "a NumPy archive is not read .* in Python"),
    "a.npy": (b"\x93NUMPY\x01\x00" + bytes(40), "a NumPy array is not read .* in Python"),
    "a.czi": (b"ZISRAWFILE" + bytes(40), "Zeiss CZI is not read .*; convert it to TIFF or PNG"),
    "a.xcf": (b"gimp xcf v011" + bytes(40), r"GIMP \(XCF\) is not read .*; convert it to TIFF or PNG"),
    "a.txt": (b"a letter", "a text file is not read .*; name an image"),
    "a.unknown": (b"a letter", "this file is none of them or is damaged"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_file_of_another_kind_is_named_as_what_it_is(tmp_path, name):
    content, words = OTHER_FILES[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, words)


@pytest.mark.parametrize("content", [SIGNATURE + b"\x00\x00\x00\x0dIHXR" + bytes(40), SIGNATURE + bytes(60), SIGNATURE])
def test_a_png_with_its_signature_is_not_told_that_it_lacks_it(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", "the header of the PNG .* is damaged or missing; get an intact copy")


def test_a_broken_raw_file_gives_the_words_of_the_decoder(tmp_path):
    pytest.importorskip("rawpy")
    (tmp_path / "a.cr2").write_bytes(b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(400))
    refused(tmp_path / "a.cr2", r"ends early \(Unsupported file format or not RAW file\); get an intact copy")


def test_a_format_without_a_signature_is_named_by_its_suffix(tmp_path):
    (tmp_path / "a.tga").write_bytes(bytes(100))
    refused(tmp_path / "a.tga", "TGA is not read")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\x00.png"])
def test_a_name_that_no_file_can_have_gives_one_line(tmp_path, name):
    with pytest.raises(ImageError, match=r"the file cannot be read .*; check the name"):
        read_photo(tmp_path / name)
    assert image_size(tmp_path / name) is None


def test_the_size_of_a_png_whose_exif_block_follows_the_samples(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    data = encoded("PNG")
    block = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00"))
    (tmp_path / "a.png").write_bytes(data[:-12] + block + data[-12:])
    assert image_size(tmp_path / "a.png") == (37, 31, 3) == read_photo(tmp_path / "a.png").pixels.shape
