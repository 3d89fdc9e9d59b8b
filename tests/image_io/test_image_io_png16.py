"""The PNG codec against a plain, byte-by-byte reading of the specification, and against Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from blindsr.image_io.png16 import encode_png, read_samples16
from blindsr.image_io.png_chunks import SIGNATURE, chunk, read_chunks
from blindsr.image_io.png_filters import filter_rows, unfilter_rows

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


@pytest.mark.parametrize("shape", [(31, 37, 6), (1, 37, 4), (31, 1, 8), (1, 1, 2), (37, 31, 1)])
def test_the_diagonals_undo_all_filters_as_the_specification_says(shape):
    rng = np.random.default_rng(1)
    types, rows = rng.integers(0, 5, shape[0], np.uint8), rng.integers(0, 256, shape, np.uint8)
    previous = rng.integers(0, 256, shape[1:], np.uint8)
    expected = unfilter_byte_by_byte(types, rows, previous)
    np.testing.assert_array_equal(unfilter_rows(types, rows, previous), expected)


def test_filtering_and_unfiltering_cancel_and_use_more_than_one_filter():
    rows = samples16(3).astype(">u2").view(np.uint8).reshape(HEIGHT, WIDTH, 6)
    previous = np.zeros((WIDTH, 6), np.uint8)
    filtered = filter_rows(rows, previous)
    assert len(set(filtered[:, 0].tolist())) > 1
    restored = unfilter_rows(filtered[:, 0], filtered[:, 1:].reshape(rows.shape), previous)
    np.testing.assert_array_equal(restored, rows)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_come_back_to_the_bit(channels):
    chunks = read_chunks(encode_png(samples16(channels)))
    assert chunks.header.depth == 16
    np.testing.assert_array_equal(read_samples16(chunks.header, chunks.compressed), samples16(channels))


def test_bands_of_rows_join_without_a_seam():
    samples = np.random.default_rng(0).integers(0, 1000, (600, 5, 3)).cumsum(axis=0).astype(np.uint16)
    chunks = read_chunks(encode_png(samples))
    np.testing.assert_array_equal(read_samples16(chunks.header, chunks.compressed), samples)


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
    chunks = read_chunks(data)
    np.testing.assert_array_equal(read_samples16(chunks.header, chunks.compressed), samples)


def test_the_file_is_as_small_as_pillows():
    samples = skimage.data.astronaut()
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG")
    assert len(encode_png(samples)) < 1.05 * len(file.getvalue())
