"""Samples of PNG files: a reader for 16 bits and a writer for 8 and 16.

Pillow, and with it imageio and scikit-image, cuts RGB, RGBA and gray-with-alpha of 16 bits to 8 without a word
(python-pillow/Pillow#1888), and cannot write them.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.png_chunks import SIGNATURE, Header, chunk
from blindsr.image_io.png_filters import filter_rows, unfilter_rows

__all__ = ["encode_png", "png_parts", "read_samples16"]

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
_COLOUR_TYPES = {1: 0, 3: 2, 2: 4, 4: 6}
#: Adam7: first row and column and the steps of each pass (spec, section 8.1).
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_BAND = 256  # rows that are in work at once
_COMPRESSION = 6  # zlib's own default; 9 takes thrice the time for about 1 %


def read_samples16(header: Header, compressed: list[bytes]) -> NDArray[np.uint16]:
    """Decode the samples of a PNG with 16 bits per sample.

    Args:
        header: Header of the file; `depth` is 16.
        compressed: Contents of its IDAT chunks.

    Returns:
        Samples, (H, W, C) uint16 with C = 1, 3, or 2 and 4 where the last is alpha.

    Raises:
        ImageError: The colour type does not exist in 16 bits, or the data end early.
    """
    channels = _CHANNELS.get(header.colour_type)
    if channels is None:
        raise ImageError(f"a 16-bit PNG has colour type 0, 2, 4 or 6, found {header.colour_type}; get an intact copy")
    samples = np.zeros((header.height, header.width, channels), ">u2")
    stream = _Inflater(compressed)
    passes = _ADAM7 if header.interlace else ((0, 0, 1, 1),)
    for top, left, row_step, column_step in passes:
        target = samples[top::row_step, left::column_step]
        if target.size:
            _read_pass(stream, target)
    return samples.astype(np.uint16)


def _read_pass(stream: "_Inflater", target: NDArray[np.uint16]) -> None:
    height, width, channels = target.shape
    size = 2 * channels
    previous = np.zeros((width, size), np.uint8)
    for top in range(0, height, _BAND):
        count = min(_BAND, height - top)
        packed = np.frombuffer(stream.take(count * (1 + width * size)), np.uint8).reshape(count, -1)
        rows = unfilter_rows(packed[:, 0], packed[:, 1:].reshape(count, width, size), previous)
        previous = rows[-1]
        target[top : top + count] = np.ascontiguousarray(rows).view(">u2").reshape(count, width, channels)


class _Inflater:
    """Gives out the next bytes of a compressed stream, never more of them than asked for."""

    def __init__(self, compressed: list[bytes]) -> None:
        self._engine = zlib.decompressobj()
        self._parts = iter(compressed)
        self._pending = b""

    def take(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            self._pending = self._pending or next(self._parts, b"")
            if not self._pending:
                raise ImageError("the PNG ends before its last row; get an intact copy")
            taken += self._engine.decompress(self._pending, count - len(taken))
            self._pending = self._engine.unconsumed_tail
            if self._engine.eof and len(taken) < count:
                raise ImageError("the PNG holds fewer rows than it says; get an intact copy")
        return bytes(taken)


def encode_png(samples: NDArray[Any], extra_chunks: bytes = b"") -> bytes:
    """Encode a PNG of 8 or 16 bits per sample: `png_parts` of a picture in memory."""
    return b"".join(png_parts(samples.shape, samples.dtype, iter([samples]), extra_chunks))


def png_parts(
    shape: tuple[int, ...], dtype: np.dtype[Any], rows: Iterator[NDArray[Any]], extra_chunks: bytes = b""
) -> Iterator[bytes]:
    """Encode a PNG of 8 or 16 bits per sample while its rows come.

    Args:
        shape: (H, W, C); C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA.
        dtype: uint8 or uint16.
        rows: Samples from top to bottom, (h, W, C), H rows in all.
        extra_chunks: Finished chunks that stand between the header and the samples.

    Yields:
        The file, in parts.
    """
    height, width, channels = shape
    header = struct.pack(">IIBBBBB", width, height, 8 * dtype.itemsize, _COLOUR_TYPES[channels], 0, 0, 0)
    yield SIGNATURE + chunk(b"IHDR", header) + extra_chunks
    size = channels * dtype.itemsize
    engine = zlib.compressobj(_COMPRESSION)
    previous = np.zeros((width, size), np.uint8)
    for part in rows:
        for top in range(0, len(part), _BAND):
            band = part[top : top + _BAND]
            big_endian = np.ascontiguousarray(band, band.dtype.newbyteorder(">"))
            filtered = big_endian.view(np.uint8).reshape(len(band), width, size)
            if packed := engine.compress(filter_rows(filtered, previous).tobytes()):
                yield chunk(b"IDAT", packed)
            previous = filtered[-1]
    yield chunk(b"IDAT", engine.flush()) + chunk(b"IEND", b"")
