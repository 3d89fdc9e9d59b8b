"""The outer layer of PNG: signature, chunks, checksums, and the chunks that describe the picture.

Source: W3C, Portable Network Graphics (PNG) Specification, Third Edition, sections 5 and 11.
"""

import struct
import zlib
from dataclasses import dataclass, field

from blindsr.errors import ImageError

__all__ = ["SIGNATURE", "Header", "PngChunks", "chunk", "read_chunks", "text_chunk", "xmp_chunk"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_COLOUR = (b"sRGB", b"gAMA", b"cHRM", b"cICP")
_SINGLE = (b"tRNS", b"iCCP", b"eXIf", b"pHYs", b"acTL", *_COLOUR)
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_UNPACKED = 1 << 26  # a profile or a packet of more than 64 MiB is an attack
_MAX_TEXT = 1 << 20
_MAX_TEXTS = 1000
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
    texts: list[tuple[str, str]] = field(default_factory=list)

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
        if name in (b"IHDR", b"IDAT", *_TEXTS, *_SINGLE):
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


def text_chunk(keyword: str, text: str) -> bytes:
    """Build the chunk of a text: tEXt if Latin-1 can hold it, else iTXt."""
    name = keyword.encode("latin-1", errors="replace")[:79]
    try:
        return chunk(b"tEXt", name + b"\x00" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return chunk(b"iTXt", name + bytes(5) + text.encode("utf-8", errors="replace"))


def _keep(parts: PngChunks, name: bytes, body: bytes) -> None:
    if name == b"IDAT":
        parts.compressed.append(body)
    elif name in _SINGLE:
        parts.single.setdefault(name, body)
    elif name == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\x00"):
        parts.xmp = _international(body, _MAX_UNPACKED)
    elif name in _TEXTS and len(parts.texts) < _MAX_TEXTS:
        _keep_text(parts, name, body)


def _keep_text(parts: PngChunks, name: bytes, body: bytes) -> None:
    keyword, separator, rest = body.partition(b"\x00")
    # ImageMagick's copies of EXIF and XMP in hexadecimal: they would say the old orientation and size.
    if not separator or not keyword or keyword.startswith(b"Raw profile type"):
        return
    text = rest if name == b"tEXt" else _unpack(rest[1:], _MAX_TEXT) if name == b"zTXt" else None
    if name == b"iTXt":
        text = _international(body, _MAX_TEXT)
    if text is not None and len(text) <= _MAX_TEXT:
        encoding = "utf-8" if name == b"iTXt" else "latin-1"
        parts.texts.append((keyword.decode("latin-1"), text.decode(encoding, errors="replace")))


def _international(body: bytes, limit: int) -> bytes | None:
    """The text of an iTXt chunk: after keyword, two flags, language and translated keyword."""
    after = body.partition(b"\x00")[2]
    text = after[2:].split(b"\x00", 2)[-1]
    return _unpack(text, limit) if after[:1] == b"\x01" else text


def _unpack(packed: bytes, limit: int = _MAX_UNPACKED) -> bytes | None:
    try:
        engine = zlib.decompressobj()
        unpacked = engine.decompress(packed, limit)
    except zlib.error:
        return None
    return unpacked if engine.eof else None
