"""JPEG 2000, as Sentinel-2 is delivered: decoded by OpenJPEG (imagecodecs), metadata read box by box.

Sources: ISO/IEC 15444-1, annexes A (code stream) and I (JP2 boxes); GeoJP2 (a GeoTIFF without samples in a UUID box);
OGC 08-085r8, GML in JPEG 2000.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.codecs import Decoded, check_page_number, check_size, unprinted, with_bands
from blindsr.image_io.codecs.geo import georeference_of_gml
from blindsr.image_io.codecs.tiff import georeference_of
from blindsr.image_io.samples import PhotoHeader

_SUPERBOXES = (b"jp2h", b"asoc", b"res ")
_MAX_DEPTH = 8
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_GEO = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
_EXIF = b"JpgTiffExif->JP2"
_CODING_STYLE, _START_OF_TILE = b"\xff\x52", b"\xff\x90"
_REVERSIBLE = b"\x01"  # transform in the coding style
_START_OF_CODESTREAM, _END_OF_CODESTREAM = b"\xff\x4f\xff\x51", b"\xff\xd9"
_OPACITY, _PREMULTIPLIED_OPACITY = 1, 2  # types of a channel in the box "cdef"
_RGB_SPACES = (16, 18)  # enumerated colour spaces: sRGB and sYCC


@dataclass(slots=True)
class _Boxes:
    """What the boxes of a file contain; a bare code stream has none."""

    width: int
    height: int
    components: int
    bits: int
    is_signed: bool
    codestream_end: bytes
    lossy_bytes: int | None  # of the code stream, unless its transform is reversible
    colour_space: int | None = None
    icc_profile: bytes | None = None
    channel_types: dict[int, int] = field(default_factory=dict)
    uuids: dict[bytes, bytes] = field(default_factory=dict)  # by identifier: metadata in other formats
    gml: bytes | None = None


def _boxes(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of every box, also within the boxes that contain others."""
    while start + 8 <= end:
        length, name = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        head = 16 if length == 1 else 8
        if length == 1:
            length = int.from_bytes(data[start + 8 : start + 16], "big")
        stop = end if length == 0 else start + length
        if stop < start + head or stop > end:
            raise ImageError("a box of the JPEG 2000 file ends beyond the file; get an intact copy")
        if name in _SUPERBOXES and depth < _MAX_DEPTH:
            yield from _boxes(data, start + head, stop, depth + 1)
        else:
            yield name, start + head, stop
        start = stop


def _read(data: bytes) -> _Boxes:
    """Read the boxes, and the size from the code stream."""
    is_bare = data.startswith(_START_OF_CODESTREAM)
    boxes = [(b"jp2c", 0, len(data))] if is_bare else list(_boxes(data, 0, len(data)))
    start, stop = next(((start, stop) for name, start, stop in boxes if name == b"jp2c"), (-1, -1))
    if start < 0:
        raise ImageError("the JPEG 2000 file has no code stream; get an intact copy")
    head = data[start : start + 44]
    if len(head) < 44 or not head.startswith(_START_OF_CODESTREAM):
        raise ImageError("the JPEG 2000 code stream does not begin as one; get an intact copy")
    x1, y1, x0, y0 = struct.unpack(">IIII", head[8:24])
    components, depth = struct.unpack(">HB", head[40:43])
    end = data[stop - 2 : stop]
    lossy_bytes = None if _is_reversible(data, start) else stop - start
    header = _Boxes(x1 - x0, y1 - y0, components, (depth & 0x7F) + 1, bool(depth & 0x80), end, lossy_bytes)
    for name, start, stop in boxes:
        body = data[start : min(stop, start + 16)] if name == b"jp2c" else data[start:stop]
        if name == b"colr" and header.colour_space is None and header.icc_profile is None:
            if body[:1] == b"\x01" and len(body) >= 7:
                header.colour_space = int.from_bytes(body[3:7], "big")
            elif body[:1] == b"\x02":
                header.icc_profile = body[3:]
        elif name == b"cdef":
            rows = struct.iter_unpack(">HHH", body[2 : 2 + (len(body) - 2) // 6 * 6])
            header.channel_types = {channel: kind for channel, kind, _ in rows}
        elif name == b"uuid":
            header.uuids[body[:16]] = body[16:]
        elif name == b"xml " and b"gml" in body[:4096]:
            header.gml = body
    return header


def _is_reversible(data: bytes, start: int) -> bool:
    """Whether the code stream from `start` on uses the wavelets of whole numbers, which lose nothing (A.6.1)."""
    position = start + 2  # of the marker after that of the start
    while data[position : position + 1] == b"\xff":
        marker = data[position : position + 2]
        if marker == _CODING_STYLE:
            return data[position + 13 : position + 14] == _REVERSIBLE
        if marker == _START_OF_TILE:
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and components."""
    header = _read(file.read())
    return header.height, header.width, header.components


def decode(file: BinaryIO, *, page: int | None, max_pixels: int) -> Decoded:
    """Decode a JP2 file or a bare code stream of 1 to 16 bits per sample."""
    data = file.read()
    header = _read(data)
    check_size(header.width, header.height, max_pixels, samples=header.components)
    check_page_number(page, 1)
    if header.bits > 16:
        raise ImageError(f"a JPEG 2000 file needs 16 bits per sample or fewer, this one has {header.bits}; convert it")
    if header.codestream_end != _END_OF_CODESTREAM:  # OpenJPEG would fill up what is missing
        raise ImageError("the JPEG 2000 file ends early; get an intact copy")
    with unprinted():
        samples: NDArray[Any] = imagecodecs.jpeg2k_decode(data)
    samples = with_bands(samples, (header.height, header.width), "JPEG 2000 file")
    warnings = []
    if header.bits not in (1, 8, 16):
        kind = "16-bit" if header.bits > 8 else "8-bit"
        warnings.append(f"samples of {header.bits} bits are kept as {kind} ones with the same values")
    if header.bits == 1:
        samples = (samples != 0).astype(np.uint8) * np.uint8(255)
    bands = samples.shape[2]
    kinds = header.channel_types.values()
    has_alpha = header.channel_types.get(bands - 1) == _OPACITY and bands in (2, 4) and not header.is_signed
    if _PREMULTIPLIED_OPACITY in kinds or (_OPACITY in kinds and not has_alpha):
        warnings.append("an alpha channel among other bands is treated as one of the bands")
    geo = nodata = None
    if header.gml is not None and _GEO not in header.uuids:
        geo = georeference_of_gml(header.gml)
        if geo is None:
            warnings.append(
                "the georeference of this JPEG 2000 file is GML of another kind than that of Sentinel-2 (UTM, rows "
                "from north to south): it is not carried over"
            )
    if _GEO in header.uuids:  # of GeoJP2: a TIFF of one pixel with the tags of a GeoTIFF
        geo, nodata = georeference_of(io.BytesIO(header.uuids[_GEO]), warnings)
    photo = PhotoHeader(
        has_alpha=has_alpha,
        dtype=samples.dtype,
        format="JPEG2000",
        is_rgb=header.colour_space in _RGB_SPACES if header.colour_space and bands >= 3 else None,
        icc_profile=header.icc_profile,
        exif=header.uuids.get(_EXIF),
        xmp=header.uuids.get(_XMP),
        geo=geo,
        nodata=nodata,
        warnings=tuple(warnings),
    )
    lossy_bytes = header.lossy_bytes if samples.dtype == np.uint8 else None
    return Decoded(samples=samples, header=photo, orientation=1, lossy_bytes=lossy_bytes)
