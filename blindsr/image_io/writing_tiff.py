"""TIFF files: samples kept to the bit, with profile, resolution, EXIF, XMP and georeference."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from blindsr.image_io.georeference import NODATA_TAG
from blindsr.image_io.metadata import exif_for_size
from blindsr.image_io.photo import PhotoHeader
from blindsr.image_io.provenance import PROVENANCE_KEYWORD
from blindsr.image_io.xmp import xmp_for_size

__all__ = ["encode_tiff"]

_BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED, _DOUBLE, _LONG8 = 1, 2, 3, 4, 7, 12, 16  # TIFF 6.0, section 2; BigTIFF
_DESCRIPTION, _XMP, _IPTC, _GEO_KEYS = 270, 700, 33723, 34735
_TEXT_TAGS = (_DESCRIPTION, 271, 272, 305, 306, 315, 33432)  # make, model, software, date, artist, copyright
_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_INTEROPERABILITY = int(ExifTags.IFD.Interop)  # an offset into the old file, of no use in another
_STRIP_BYTES = 2**20  # unpacked; a reader of a window unpacks whole strips
#: Offsets of a classic TIFF have 32 bits. What compression saves is not known beforehand.
CLASSIC_LIMIT = 2**32 - 2**25
_COMPRESSION = 6
_ExtraTag = tuple[int, int, int, object, bool]


def encode_tiff(header: PhotoHeader, shape: tuple[int, int, int], rows: Iterator[NDArray[Any]], file: BinaryIO) -> None:
    """Write one deflated page: three channels as RGB, others as gray or bands.

    Args:
        header: Of the photo.
        shape: (H, W, C with alpha).
        rows: Samples from top to bottom, of the header's type.
        file: Open for writing and reading, empty.
    """
    height, width, channels = shape
    colours = channels - header.has_alpha
    extra = channels - (3 if colours == 3 else 1)
    exif = Image.Exif()
    exif.load(exif_for_size(header.exif, (width, height)) or b"")
    row_bytes = width * channels * header.dtype.itemsize
    rows_per_strip = min(height, max(1, _STRIP_BYTES // row_bytes))
    is_big = height * row_bytes > CLASSIC_LIMIT
    tifffile.imwrite(
        file,
        _packed(rows, rows_per_strip),
        shape=shape if channels > 1 else (height, width),
        dtype=header.dtype,
        rowsperstrip=rows_per_strip,
        bigtiff=is_big,
        byteorder="<",
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=[*[0] * (extra - header.has_alpha), *[2] * header.has_alpha] if extra else None,
        compression="adobe_deflate",
        predictor=header.dtype.kind != "f",
        metadata=None,
        software=False,
        resolution=header.dpi,
        resolutionunit="inch" if header.dpi else None,
        iccprofile=header.icc_profile,
        extratags=_tags(header, exif, (width, height), is_big=is_big),
    )
    _add_directories(file, exif, is_big=is_big)


def _packed(rows: Iterator[NDArray[Any]], count: int) -> Iterator[bytes]:
    """Regroup rows into strips of `count`, and pack them; integers as differences to the pixel before."""
    for strip in _regrouped(rows, count):
        packed = np.ascontiguousarray(strip)
        if strip.dtype.kind != "f":
            packed = packed.view(f"<u{strip.dtype.itemsize}").copy()
            packed[:, 1:] -= packed[:, :-1].copy()  # modulo 2ⁿ, TIFF 6.0, section 14
        yield zlib.compress(packed.astype(packed.dtype.newbyteorder("<"), copy=False).tobytes(), _COMPRESSION)


def _regrouped(rows: Iterator[NDArray[Any]], count: int) -> Iterator[NDArray[Any]]:
    pending: list[NDArray[Any]] = []
    held = 0
    for part in rows:
        at = 0
        while at < len(part):
            taken = part[at : at + count - held]
            pending.append(taken)
            at, held = at + len(taken), held + len(taken)
            if held == count:
                yield np.concatenate(pending)
                pending, held = [], 0
    if pending:
        yield np.concatenate(pending)


def _tags(header: PhotoHeader, exif: Image.Exif, size: tuple[int, int], *, is_big: bool) -> list[_ExtraTag]:
    texts = {tag: exif[tag] for tag in _TEXT_TAGS if isinstance(exif.get(tag), str)}
    if PROVENANCE_KEYWORD in (provenance := dict(header.texts)):
        texts.setdefault(_DESCRIPTION, provenance[PROVENANCE_KEYWORD])  # the photograph's own words come first
    tags: list[_ExtraTag] = []
    for tag, text in texts.items():
        tags.append(_text_tag(tag, text))
    if xmp := xmp_for_size(header.xmp, size):
        tags.append((_XMP, _BYTE, len(xmp), xmp, True))
    if header.iptc:
        tags.append((_IPTC, _UNDEFINED, len(header.iptc), header.iptc, True))
    if header.geo is not None:
        old_width, old_height = header.source_size or size
        for tag, value in header.geo.scaled(size[0] / old_width, size[1] / old_height).tags.items():
            tags.append(_geo_tag(tag, value))
    if header.nodata is not None:
        tags.append(_text_tag(NODATA_TAG, f"{header.nodata:.17g}"))
    # Placeholders: where the directories lie is known once the file is written, and tifffile drops tags of these
    # two names. One less keeps the order of tags, and both numbers are unused.
    offset_type = _LONG8 if is_big else _LONG
    tags.extend((tag - 1, offset_type, 1, 0, True) for tag in _DIRECTORIES if exif.get_ifd(tag))
    return tags


def _text_tag(tag: int, text: str) -> _ExtraTag:
    data = text.encode("utf-8", errors="replace") + b"\x00"
    return tag, _ASCII, len(data), data, True


def _geo_tag(tag: int, value: tuple[float, ...] | str) -> _ExtraTag:
    if isinstance(value, str):
        return _text_tag(tag, value)
    if tag == _GEO_KEYS:
        return tag, _SHORT, len(value), tuple(int(number) for number in value), True
    return tag, _DOUBLE, len(value), value, True


def _add_directories(file: BinaryIO, exif: Image.Exif, *, is_big: bool) -> None:
    """Append the EXIF and GPS directories, which tifffile does not write, and point their tags at them."""
    file.seek(0)
    with tifffile.TiffFile(file) as written:
        tags = written.pages.first.tags
        entries = {tag: tags[tag - 1] for tag in _DIRECTORIES if exif.get_ifd(tag)}
        places = {tag: (entry.offset, entry.valueoffset) for tag, entry in entries.items()}
    prefix = b"II+\x00\x08\x00\x00\x00" + struct.pack("<Q", 16) if is_big else b"II*\x00\x08\x00\x00\x00"
    for tag, (entry_at, value_at) in places.items():
        start = file.seek(0, 2)
        if start % 2:  # directories begin at even offsets
            start += file.write(b"\x00")
        directory = TiffImagePlugin.ImageFileDirectory_v2(prefix, group=tag)
        for key, value in exif.get_ifd(tag).items():
            if key != _INTEROPERABILITY:
                directory[key] = value
        file.write(directory.tobytes(start))
        file.seek(entry_at)
        file.write(struct.pack("<H", tag))
        file.seek(value_at)
        file.write(struct.pack("<Q" if is_big else "<I", start))
    file.seek(0, 2)
