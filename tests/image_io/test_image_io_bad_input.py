"""Every file that cannot be used gives one `ImageError` of one line that names it and says what to do."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io import read_photo
from blindsr.image_io.decoding import decoding, unprinted
from blindsr.image_io.png_chunks import SIGNATURE, chunk

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
    refused(tmp_path / "a.png", "no such file; check the name")


def test_a_folder(tmp_path):
    refused(tmp_path, "this is a folder; name a file in it")


def test_an_empty_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    refused(tmp_path / "a.png", "the file is empty; get an intact copy")


def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    refused(tmp_path / "a.png", "a device or a pipe")


@pytest.mark.parametrize("content", [b"hello", b"<svg></svg>", bytes(1000), b"P6 1 1 65535 " + bytes(6)])
def test_something_that_is_no_picture(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    refused(tmp_path / "a.jpg", "needed PNG, JPEG, TIFF")


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
    refused(tmp_path / "a.png", "checksum of a PNG chunk IDAT is wrong")


def test_a_16_bit_png_that_unpacks_to_more_than_it_says_stops_at_its_size(tmp_path):
    header = struct.pack(">IIBBBBB", 37, 31, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png_of(header, zlib.compress(bytes(10**7))))
    assert read_photo(tmp_path / "a.png").pixels.shape == (31, 37, 3)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_decompression_bomb(tmp_path, depth):
    header = struct.pack(">IIBBBBB", 2**16, 2**13, depth, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png_of(header, zlib.compress(bytes(100))))
    refused(tmp_path / "a.png", "at most 268435456 pixels .* says 65536×8192")


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


def test_a_picture_without_a_single_measured_value(tmp_path):
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


@pytest.mark.usefixtures("without_imagecodecs")
def test_a_codec_that_is_missing_is_named_with_its_extra(tmp_path):
    # A 16-bit RGB file in LZW: tifffile needs imagecodecs, and Pillow would cut it to 8 bits.
    tifffile.imwrite(tmp_path / "a.tif", np.ones((31, 37, 3), np.uint16), photometric="rgb", compression="zlib")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages.first.tags["Compression"].valueoffset
    struct.pack_into("<H", data, place, 5)
    (tmp_path / "a.tif").write_bytes(data)

    refused(tmp_path / "a.tif", r'LZW, which needs the package imagecodecs; run pip install "blindsr\[tiff\]"')


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path):
    PICTURE.save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\x12" * 40)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == (31, 37, 3)
    assert any("EXIF" in note for note in photo.notes)


def test_a_tiff_with_fewer_strips_than_it_needs_is_not_filled_up_by_chance(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((31, 37), np.uint16), compression="zlib", rowsperstrip=31)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages.first.tags["RowsPerStrip"].valueoffset
    struct.pack_into("<H", data, place, 8)
    (tmp_path / "a.tif").write_bytes(data)
    refused(tmp_path / "a.tif", "needs 4 strips or tiles, it has 1; get an intact copy")


def test_what_a_decoder_prints_does_not_reach_the_terminal(capfd):
    with unprinted() as printed:
        os.write(2, b"libsomething: error\nand more\n")
    os.write(2, b"of the program\n")
    assert printed == ["libsomething: error", "and more"]
    assert capfd.readouterr() == ("", "of the program\n")


def test_what_decoders_log_becomes_a_note(tmp_path, capfd):
    from PIL import TiffImagePlugin

    with decoding(tmp_path / "a.tif") as said:
        TiffImagePlugin.logger.error("More samples per pixel than can be decoded: %s", 5)
    assert said == ["More samples per pixel than can be decoded: 5"]
    assert capfd.readouterr() == ("", "")
