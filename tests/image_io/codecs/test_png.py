"""The PNG codec against a plain, byte-by-byte reading of the specification, and against Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io import header_size, open_image, read_photo, write_photo
from blindsr.image_io.codecs.png import SIGNATURE, PngEncoder, chunk, decode, filter_rows, read_chunks

HEIGHT, WIDTH = 31, 37
PASSES = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # x, y, dx, dy


def encode_png(samples, extra_chunks=b"", rows=1000):
    file = io.BytesIO()
    encoder = PngEncoder(file, samples.shape, samples.dtype, extra_chunks)
    for top in range(0, len(samples), rows):
        encoder.write(samples[top : top + rows])
    encoder.close()
    return file.getvalue()


def decoded(data):
    return decode(io.BytesIO(data), page=1, max_pixels=10**9).samples


def samples16(channels):
    base = skimage.data.coffee()[100 : 100 + HEIGHT, 200 : 200 + WIDTH].astype(np.uint16) * 257
    noise = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH, 4), np.uint16)
    return (np.dstack([base, base[..., :1]]) // 2 + noise)[..., :channels]


def unfilter_byte_by_byte(types, rows, previous):
    """Section 9.2 of the specification as it stands, in Python integers."""
    n, m, b = rows.shape
    done = np.zeros((n + 1, m + 1, b), int)
    done[0, 1:] = previous
    for y in range(1, n + 1):
        for x in range(1, m + 1):
            for i in range(b):
                left, above, corner = int(done[y, x - 1, i]), int(done[y - 1, x, i]), int(done[y - 1, x - 1, i])
                p = left + above - corner
                nearest = min((abs(p - left), 0, left), (abs(p - above), 1, above), (abs(p - corner), 2, corner))[2]
                predicted = [0, left, above, (left + above) // 2, nearest][types[y - 1]]
                done[y, x, i] = (int(rows[y - 1, x - 1, i]) + predicted) % 256
    return done[1:, 1:]


def test_filtering_and_unfiltering_cancel_and_use_more_than_one_filter():
    rows = samples16(3).astype(">u2").view(np.uint8).reshape(HEIGHT, WIDTH, 6)
    previous = np.zeros((WIDTH, 6), np.uint8)
    filtered = filter_rows(rows, previous)
    assert len(set(filtered[:, 0].tolist())) > 1
    restored = unfilter_byte_by_byte(filtered[:, 0], filtered[:, 1:].reshape(rows.shape), previous)
    np.testing.assert_array_equal(restored, rows)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_come_back_to_the_bit(channels):
    data = encode_png(samples16(channels))
    assert read_chunks(io.BytesIO(data)).depth == 16
    np.testing.assert_array_equal(decoded(data), samples16(channels))


def test_bands_of_rows_join_without_a_seam():
    samples = np.random.default_rng(0).integers(0, 1000, (600, 5, 3)).cumsum(axis=0).astype(np.uint16)
    for rows in (1, 7, 256, 600):
        np.testing.assert_array_equal(decoded(encode_png(samples, rows=rows)), samples)


def test_pillow_finds_all_of_16_bit_gray():
    with Image.open(io.BytesIO(encode_png(samples16(1)))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), samples16(1)[..., 0])


@pytest.mark.parametrize("channels", [3, 4])
def test_pillow_finds_the_upper_bytes_of_16_bit_colour(channels):
    with Image.open(io.BytesIO(encode_png(samples16(channels)))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), samples16(channels) >> 8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_reads_the_8_bit_files_too(channels):
    samples = (samples16(channels) >> 8).astype(np.uint8)
    with Image.open(io.BytesIO(encode_png(samples))) as picture:
        np.testing.assert_array_equal(np.asarray(picture).reshape(samples.shape), samples)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (3, 2), (1, 1)])
def test_interlaced_files_are_read(size):
    samples = samples16(3)[: size[0], : size[1]]
    packed = b""
    for x, y, dx, dy in PASSES:
        part = np.ascontiguousarray(samples[y::dy, x::dx], ">u2")
        if part.size:
            rows = part.view(np.uint8).reshape(part.shape[0], part.shape[1], 6)
            packed += filter_rows(rows, np.zeros(rows.shape[1:], np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", size[1], size[0], 16, 2, 0, 0, 1)
    data = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decoded(data), samples)


def test_the_file_is_as_small_as_pillows():
    samples = skimage.data.astronaut()
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG")
    assert len(encode_png(samples)) < 1.05 * len(file.getvalue())


class CountingFile(io.BytesIO):
    """Counts the bytes that are copied out of it."""

    count = 0

    def read(self, size=-1, /):
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize("name", [b"IDAT", b"tEXt", b"teSt"])
def test_the_chunks_of_a_png_are_copied_once_at_most(name):
    # A 16-bit PNG of libpng has a chunk for every 8 KB of samples: copying the rest of the file for each took 79 s.
    body = b"a\x00" + bytes(50)
    samples = encode_png(samples16(3))
    many = samples[:33] + chunk(name, body) * 5000 + samples[33:]
    file = CountingFile(many)
    read_chunks(file)
    assert file.count <= len(many)
    if name == b"IDAT":
        assert file.count < len(many) / 2, "samples are not read with the metadata"


def test_a_raw_profile_of_imagemagick_is_the_exif_block_where_there_is_no_other(tmp_path):
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    block = exif.tobytes()
    text = f"\nexif\n{len(block):8}\n".encode() + b"\n".join(
        block.hex().encode()[at : at + 72] for at in range(0, 2 * len(block), 72)
    )
    raw = chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(text))
    data = encode_png((samples16(3) >> 8).astype(np.uint8))
    (tmp_path / "a.png").write_bytes(data[:33] + raw + data[33:])
    photo = read_photo(tmp_path / "a.png")
    assert photo.size == (HEIGHT, WIDTH), "turned by a quarter"
    kept = Image.Exif()
    kept.load(photo.exif)
    assert (kept[271], kept[274]) == ("Maker", 1)
    assert photo.texts == ()


def test_the_chunks_of_high_dynamic_range_are_kept(tmp_path):
    chunks = {b"cICP": bytes([9, 16, 0, 1]), b"mDCV": bytes(range(24)), b"cLLI": bytes(range(8))}
    data = encode_png(samples16(3), b"".join(chunk(name, body) for name, body in chunks.items()))
    (tmp_path / "a.png").write_bytes(data)
    write_photo(read_photo(tmp_path / "a.png"), tmp_path / "b.png")
    with (tmp_path / "b.png").open("rb") as file:
        single = read_chunks(file).single
    assert {name: single[name] for name in chunks} == chunks


def test_two_texts_of_one_keyword_are_both_kept(tmp_path):
    data = encode_png(samples16(1), chunk(b"tEXt", b"Author\x00A") + chunk(b"tEXt", b"Author\x00B"))
    (tmp_path / "a.png").write_bytes(data)
    assert read_photo(tmp_path / "a.png").texts == (("Author", "A"), ("Author", "B"))


def test_an_animated_png_gives_its_first_image(tmp_path):
    frames = [Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with open_image(tmp_path / "a.png") as source:
        assert source.warnings == ("the PNG has 2 images: image 1 is used",)
        assert (source.read().pixels == np.float32(10) / np.float32(255)).all()


@pytest.mark.parametrize("cut", [4, 8, 12, 14, 17, 40])
def test_the_size_is_refused_where_the_samples_cannot_be_read_because_the_file_ends(tmp_path, cut):
    """The last chunk, of 12 bytes, is not needed; those before it are."""
    data = encode_png(samples16(3))
    (tmp_path / "a.png").write_bytes(data[:-cut])
    if cut <= 12:
        assert header_size(tmp_path / "a.png") == read_photo(tmp_path / "a.png").pixels.shape
        return
    with pytest.raises(ImageError, match=r"a\.png: "):
        read_photo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png: the file ends before its samples do; get an intact copy"):
        header_size(tmp_path / "a.png")


@pytest.mark.parametrize(("depth", "words"), [(1, "1 bit"), (2, "2 bits"), (4, "4 bits")])
def test_grey_of_few_bits_is_counted_right(tmp_path, depth, words):
    header = struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 + depth))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(SIGNATURE + data)
    (warning,) = read_photo(tmp_path / "a.png").warnings
    assert warning.startswith(f"grey of {words} is written with 8 bits: ")
