"""The outer layer of PNG: signature, chunks, checksums, and the chunks that describe the picture.

Source: W3C, Portable Network Graphics (PNG) Specification, Third Edition, sections 5 and 11.
"""

import struct
import zlib
from dataclasses import dataclass, field

from blindsr.errors import ImageError

__all__ = ["SIGNATURE", "Header", "PngChunks", "chunk", "read_chunks", "xmp_chunk"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_COLOUR = (b"sRGB", b"gAMA", b"cHRM", b"cICP")
_SINGLE = (b"tRNS", b"iCCP", b"eXIf", b"pHYs", b"acTL", *_COLOUR)
_MAX_UNPACKED = 1 << 26  # a profile or a text of more than 64 MiB is an attack
_INCH = 0.0254  # metres


@dataclass(frozen=True, slots=True)
class Header:
    """IHDR: width and height in pixels, bits per sample, colour type (0, 2, 3, 4, 6), interlacing (0, 1)."""

    width: int
    height: int
    depth: int
    colour_type: int
    interlace: int


@dataclass(slots=True)
class PngChunks:
    """A PNG file taken apart: its header, the compressed samples, and its other chunks by name."""

    header: Header
    compressed: list[bytes] = field(default_factory=list)
    single: dict[bytes, bytes] = field(default_factory=dict)
    xmp: bytes | None = None

    @property
    def colour(self) -> tuple[tuple[bytes, bytes], ...]:
        """The chunks that say what the samples mean, but for the profile."""
        return tuple((name, self.single[name]) for name in _COLOUR if name in self.single)

    @property
    def exif(self) -> bytes | None:
        """EXIF block without header."""
        return self.single.get(b"eXIf")

    @property
    def icc_profile(self) -> bytes | None:
        """Colour profile; None if there is none or it cannot be unpacked."""
        body = self.single.get(b"iCCP", b"")
        _, separator, rest = body.partition(b"\x00")
        return _unpack(rest[1:]) if separator else None

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch; None where pHYs is missing or gives an aspect ratio only."""
        body = self.single.get(b"pHYs", b"")
        if len(body) != 9 or body[8] != 1:
            return None
        x, y = struct.unpack(">II", body[:8])
        return (x * _INCH, y * _INCH) if x and y else None


def read_chunks(data: bytes) -> PngChunks:
    """Take a PNG apart. A file that ends early gives the chunks that are there.

    Raises:
        ImageError: There is no signature or header, or a chunk that is used fails its checksum.
    """
    if not data.startswith(SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        raise ImageError("a PNG begins with its signature and a header, this file does not; get an intact copy")
    width, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    parts = PngChunks(Header(width, height, depth, colour_type, interlace))
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        whole = len(body) == length and at + 12 + length <= len(data)
        if name == b"IEND":
            break
        if name in (b"IHDR", b"IDAT", b"iTXt", *_SINGLE):
            if whole and zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(data[at + 8 + length :][:4], "big"):
                raise ImageError(f"the checksum of a PNG chunk {name.decode()} is wrong; get an intact copy")
            _keep(parts, name, body)
        at += 12 + length
    return parts


def chunk(name: bytes, body: bytes) -> bytes:
    """Build one chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def xmp_chunk(xmp: bytes) -> bytes:
    """Build the iTXt chunk of an XMP packet, uncompressed as the XMP specification asks."""
    return chunk(b"iTXt", _XMP_KEYWORD + bytes(5) + xmp)


def _keep(parts: PngChunks, name: bytes, body: bytes) -> None:
    if name == b"IDAT":
        parts.compressed.append(body)
    elif name in _SINGLE:
        parts.single.setdefault(name, body)
    elif name == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\x00"):
        flags, rest = body[len(_XMP_KEYWORD) + 1 :][:2], body[len(_XMP_KEYWORD) + 3 :]
        text = rest.split(b"\x00", 2)[-1]  # after language and translated keyword
        parts.xmp = _unpack(text) if flags[:1] == b"\x01" else text


def _unpack(packed: bytes) -> bytes | None:
    try:
        engine = zlib.decompressobj()
        unpacked = engine.decompress(packed, _MAX_UNPACKED)
    except zlib.error:
        return None
    return unpacked if engine.eof else None
