"""PNG: samples are decoded by libpng (imagecodecs), metadata read chunk by chunk, rows written as they come.

Pillow cuts RGB, RGBA and grey-with-alpha of 16 bits to 8 (python-pillow/Pillow#1888), and no library writes a 16-bit
PNG row by row with all of its metadata.

Source: W3C, Portable Network Graphics (PNG) Specification, Third Edition, sections 5, 9, 11 and 12.7.
"""

import contextlib
import io
import struct
import zlib
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.codecs import (
    LEVELS_NEEDED,
    Decoded,
    Frames,
    SingleFrame,
    Target,
    check_page_number,
    check_size,
    unprinted,
    with_bands,
)
from blindsr.image_io.codecs.pillow import PillowFrames
from blindsr.image_io.metadata import exif_for_size, exif_orientation, plausible_dpi, upright_size, xmp_for_size
from blindsr.image_io.samples import Animation, PhotoHeader

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
# sBIT, the number of significant bits, is not kept: all bits of the result are significant.
_COLOUR = (b"sRGB", b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI")
_SINGLE = (b"tRNS", b"iCCP", b"eXIf", b"pHYs", b"acTL", *_COLOUR)
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_RAW_PROFILE = "Raw profile type "  # hexadecimal copies that ImageMagick and ExifTool wrote before eXIf existed
_MAX_UNPACKED = 1 << 26  # a profile or a packet of more than 64 MiB is an attack
_MAX_TEXT = 1 << 20
_MAX_TEXTS = 1000
_INCH = 0.0254  # metres
_EXIF_HEADER = b"Exif\x00\x00"
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; 3 is a palette
_COLOUR_TYPES = {1: 0, 3: 2, 2: 4, 4: 6}
_BLOCK = 64  # rows that are filtered together
_LEAVE, _REPLACE = 0, 0  # values of dispose_op and blend_op of a frame
_MAX_DELAY = 2**16 - 1  # of numerator and denominator of a duration in seconds
_COMPRESSION = 6  # zlib's own default; 9 takes three times as long for about 1 %
_Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class PngHeader:
    """Everything of a PNG file but its samples: the fields of IHDR, and the chunks that are used."""

    width: int
    height: int
    depth: int
    colour_type: int
    single: dict[bytes, bytes] = field(default_factory=dict)
    xmp: bytes | None = None
    texts: list[tuple[str, str]] = field(default_factory=list)
    raw_profiles: dict[str, bytes] = field(default_factory=dict)
    lacks_samples: bool = False  # a chunk of samples goes on beyond the end of the file

    @property
    def images(self) -> int:
        """Number of frames of an animation; 1 of any other PNG."""
        return max(1, int.from_bytes(self.single.get(b"acTL", b"")[:4], "big"))

    @property
    def exif(self) -> bytes | None:
        """EXIF block: of the chunk, otherwise of a text by ImageMagick."""
        return self.single.get(b"eXIf") or self.raw_profiles.get("exif") or self.raw_profiles.get("APP1")


def read_chunks(file: BinaryIO) -> PngHeader:
    """Read the chunks that describe the image; those with samples are skipped. A truncated file gives those it has."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(33)
    if not start.startswith(SIGNATURE):
        raise ImageError("a PNG begins with its signature, this file does not; get an intact copy")
    if start[12:16] != b"IHDR" or len(start) < 33:
        raise ImageError("the header of the PNG (its chunk IHDR) is damaged or missing; get an intact copy")
    header = PngHeader(*struct.unpack(">IIBB", start[16:26]))
    _check(b"IHDR", start[16:29], start[29:33])
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if name not in (*_SINGLE, *_TEXTS):
            header.lacks_samples |= file.seek(length + 4, io.SEEK_CUR) > end and name == b"IDAT"
            continue
        body, checksum = file.read(length), file.read(4)
        if len(checksum) == 4:
            _check(name, body, checksum)
        if name in _SINGLE:
            header.single.setdefault(name, body)
        elif name == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\x00"):
            header.xmp = _international(body, _MAX_UNPACKED)
        elif len(header.texts) < _MAX_TEXTS:
            _add_text(header, name, body)
    return header


def _check(name: bytes, body: bytes, checksum: bytes) -> None:
    if zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(checksum, "big"):
        raise ImageError(f"the checksum of a PNG chunk {name.decode()} is wrong; get an intact copy")


def _add_text(header: PngHeader, name: bytes, body: bytes) -> None:
    keyword, separator, rest = body.partition(b"\x00")
    if not separator or not keyword:
        return
    if name == b"iTXt":
        text = _international(body, _MAX_TEXT)
    else:
        text = rest if name == b"tEXt" else _unpack(rest[1:], _MAX_TEXT)
    if text is None or len(text) > _MAX_TEXT:
        return
    title = keyword.decode("latin-1")
    if title.startswith(_RAW_PROFILE):  # name, length, and the content in hexadecimal, on lines of their own
        with contextlib.suppress(ValueError):
            profile = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("latin-1"))
            header.raw_profiles[title.removeprefix(_RAW_PROFILE)] = profile
        return
    header.texts.append((title, text.decode("utf-8" if name == b"iTXt" else "latin-1", errors="replace")))


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


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and bands (alpha included), upright."""
    header = read_chunks(file)
    if header.lacks_samples:
        raise ImageError("the file ends before its samples do; get an intact copy")
    bands = _CHANNELS.get(header.colour_type, 3) + (b"tRNS" in header.single)
    return (*upright_size(header.height, header.width, exif_orientation(header.exif)), bands)


def decode(file: BinaryIO, *, page: int | None, max_pixels: int) -> Decoded:
    """Decode a PNG of any kind; of an animation the image `page`, or the first one."""
    header = read_chunks(file)
    check_size(header.width, header.height, max_pixels)
    count = header.images
    page, warnings = check_page_number(page, count, "PNG", has_frames=True)
    if page > 1:
        frame = frames(file, max_pixels=max_pixels)[page - 1]
        return replace(frame, header=replace(frame.header, warnings=(*warnings, *frame.header.warnings)))
    if header.depth < 8 and header.colour_type == 0:
        bits = f"{header.depth} bit{'s' * (header.depth > 1)}"
        warnings.append(f"grey of {bits} is written with 8 bits: {LEVELS_NEEDED}")
    file.seek(0)
    with unprinted():
        samples: NDArray[Any] = imagecodecs.png_decode(file.read())
    samples = with_bands(samples, (header.height, header.width), "PNG")
    _, has_profile, profile = header.single.get(b"iCCP", b"").partition(b"\x00")
    pixels, dpi = header.single.get(b"pHYs", b""), None
    if len(pixels) == 9 and pixels[8] == 1:  # otherwise it gives an aspect ratio only
        dpi = tuple(number * _INCH for number in struct.unpack(">II", pixels[:8]))
    photo = PhotoHeader(
        has_alpha=samples.shape[2] in (2, 4),
        dtype=samples.dtype,
        format="PNG",
        icc_profile=_unpack(profile[1:]) if has_profile else None,
        exif=header.exif,
        xmp=header.xmp or header.raw_profiles.get("xmp"),
        iptc=_iptc_records(header.raw_profiles.get("iptc")),
        dpi=plausible_dpi(dpi),
        png_colour=tuple((name, header.single[name]) for name in _COLOUR if name in header.single),
        texts=tuple(header.texts),
        warnings=tuple(warnings),
    )
    return Decoded(samples=samples, header=photo)


def frames(file: BinaryIO, *, max_pixels: int) -> Frames:
    """The frames of an animation (APNG), as they look after those before them; a PNG without one has one image."""
    chunks = read_chunks(file)
    if chunks.images == 1:
        return SingleFrame(decode, file, max_pixels=max_pixels)
    header = decode(file, page=1, max_pixels=max_pixels).header
    warnings = tuple(text for text in header.warnings if "image 1 is used" not in text)
    if chunks.depth > 8:
        warnings += ("the frames of an animated PNG of 16 bits are read with 8",)
    file.seek(0)
    # What describes the samples is that of the frame.
    return PillowFrames(file, max_pixels=max_pixels, header=replace(header, warnings=warnings))


def _iptc_records(profile: bytes | None) -> bytes | None:
    """The records of a profile that ImageMagick wrote: bare, or in a resource block of Photoshop's."""
    if profile is None or not profile.startswith(b"8BIM\x04\x04"):
        return profile
    name = profile[6] + 1 + (profile[6] + 1) % 2
    length = int.from_bytes(profile[6 + name : 10 + name], "big")
    return profile[10 + name : 10 + name + length]


def chunk(name: bytes, body: bytes) -> bytes:
    """Build one chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _metadata(header: PhotoHeader, image_size: tuple[int, int]) -> bytes:
    """The chunks between IHDR and the samples, in the order that the specification demands."""
    chunks = [chunk(name, body) for name, body in header.png_colour if not (header.icc_profile and name == b"sRGB")]
    if header.icc_profile:  # sRGB and iCCP exclude each other
        chunks.append(chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(header.icc_profile)))
    if header.dpi:
        x, y = (round(value / _INCH) for value in header.dpi)
        chunks.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if exif := exif_for_size(header.exif, image_size):
        chunks.append(chunk(b"eXIf", exif.removeprefix(_EXIF_HEADER)))
    if xmp := xmp_for_size(header.xmp, image_size):  # uncompressed, as the XMP specification demands
        chunks.append(chunk(b"iTXt", _XMP_KEYWORD + bytes(5) + xmp))
    for keyword, text in header.texts:
        name = keyword.encode("latin-1", errors="replace")[:79]
        try:
            chunks.append(chunk(b"tEXt", name + b"\x00" + text.encode("latin-1")))
        except UnicodeEncodeError:
            chunks.append(chunk(b"iTXt", name + bytes(5) + text.encode("utf-8", errors="replace")))
    return b"".join(chunks)


class PngEncoder:
    """Writes a PNG of uint8 or uint16, (H, W, 1 to 4), row by row; `metadata` are chunks between header and samples.

    The frames of an animation (sections 7 and 11.3.6) are complete images: each replaces the one before it.
    """

    def __init__(
        self,
        file: BinaryIO,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        metadata: bytes = b"",
        animation: Animation | None = None,
    ) -> None:
        height, width, channels = shape
        self.dtype, self._file, self._animation = dtype, file, animation
        self._size, self._frame, self._sequence = (width, height), -1, 0
        self._row_shape = (width, channels * dtype.itemsize)
        header = struct.pack(">IIBBBBB", width, height, 8 * dtype.itemsize, _COLOUR_TYPES[channels], 0, 0, 0)
        file.write(SIGNATURE + chunk(b"IHDR", header))
        if animation is not None:
            file.write(chunk(b"acTL", struct.pack(">II", len(animation.durations), animation.plays)))
        file.write(metadata)
        self._begin()

    def _begin(self) -> None:
        """Begin a frame."""
        self._engine = zlib.compressobj(_COMPRESSION)
        self._previous = np.zeros(self._row_shape, np.uint8)
        self._frame += 1
        if self._animation is None:
            return
        seconds = min(_MAX_DELAY, self._animation.durations[self._frame] / 1000)
        delay = Fraction(seconds).limit_denominator(int(_MAX_DELAY / max(1, seconds)))
        control = (*self._size, 0, 0, delay.numerator, delay.denominator, _LEAVE, _REPLACE)
        self._file.write(chunk(b"fcTL", struct.pack(">IIIIIHHBB", self._next_number(), *control)))

    def _next_number(self) -> int:
        """The sequence number of a chunk of an animation."""
        self._sequence += 1
        return self._sequence - 1

    def _write_packed(self, packed: bytes) -> None:
        if self._frame == 0:
            self._file.write(chunk(b"IDAT", packed))
        else:
            self._file.write(chunk(b"fdAT", struct.pack(">I", self._next_number()) + packed))

    def next_image(self, target: Target) -> None:
        """End a frame, and begin the next one."""
        self._write_packed(self._engine.flush())
        self._begin()

    def write(self, samples: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> None:
        """Write the next rows, (h, W, C)."""
        for top in range(0, len(samples), _BLOCK):
            block = samples[top : top + _BLOCK]
            big_endian = np.ascontiguousarray(block, self.dtype.newbyteorder(">"))
            rows = big_endian.view(np.uint8).reshape(len(block), *self._previous.shape)
            if packed := self._engine.compress(filter_rows(rows, self._previous).tobytes()):
                self._write_packed(packed)
            self._previous = rows[-1]

    def close(self) -> None:
        """Write the end of the file."""
        self._write_packed(self._engine.flush())
        self._file.write(chunk(b"IEND", b""))


def encoder(target: Target) -> PngEncoder:
    """Begin a PNG."""
    metadata = _metadata(target.header, target.size)
    return PngEncoder(target.file, target.shape, target.header.dtype, metadata, target.animation)


def filter_rows(rows: _Bytes, previous: _Bytes) -> _Bytes:
    """Filter consecutive rows by libpng, which chooses the filter of each (section 12.7).

    Rows are (n, m, b): n rows of m pixels of b bytes; `previous`, (m, b), is the row above, zeros above the first.
    The result, (n, 1 + m·b), has the filter types before the bytes.
    """
    n, m, b = rows.shape
    block = np.concatenate([previous[None], rows])
    samples = block.view(">u2").astype(np.uint16) if b > 4 else block[..., 0] if b == 1 else block
    file, packed = io.BytesIO(imagecodecs.png_encode(samples, level=0)), b""
    file.seek(len(SIGNATURE))
    while (head := file.read(8)) and head[4:] != b"IEND":
        body = file.read(int.from_bytes(head[:4], "big") + 4)
        packed += body[:-4] if head[4:] == b"IDAT" else b""
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(n + 1, 1 + m * b)[1:]
