"""TIFF files, written row by row: samples kept to the bit, with profile, EXIF, XMP, georeference, calibration, mask.

The strips are written as their rows come, the directories that describe them at the end of the file.

Source: TIFF 6.0, sections 2, 8 and 14; Adobe TIFF technical notes 1 (ExtraSamples) and 3 (predictor of floats).
"""

import struct
from fractions import Fraction
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from blindsr.image_io.codecs import Target
from blindsr.image_io.codecs.geo import GEO_KEYS, NODATA_TAG
from blindsr.image_io.formats import FileFormat
from blindsr.image_io.metadata import EXIF_DIRECTORIES, PROVENANCE_KEYWORD, exif_for_size, load_exif, xmp_for_size

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _DOUBLE, _LONG8 = 1, 2, 3, 4, 5, 7, 12, 16
_FORMATS = {_BYTE: "B", _SHORT: "H", _LONG: "I", _DOUBLE: "d", _LONG8: "Q"}
_DESCRIPTION, _XMP, _IPTC, _ICC_PROFILE = 270, 700, 33723, 34675
_TEXT_TAGS = (_DESCRIPTION, 269, 271, 272, 305, 306, 315, 316, 33432)  # make, model, software, date, artist …
_RATING_TAGS, _WINDOWS_TAGS = (18246, 18249), tuple(range(40091, 40096))
_INTEROPERABILITY = int(ExifTags.IFD.Interop)  # an offset into the old file, of no use in another
_STRIP_BYTES = 2**20  # unpacked; a reader of a window unpacks whole strips
#: Offsets of a classic TIFF have 32 bits. The effect of compression is not known beforehand.
CLASSIC_LIMIT = 2**32 - 2**25
_COMPRESSION_LEVEL, _DEFLATE = 6, 8
_HORIZONTAL_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3
_MIN_IS_BLACK, _RGB, _MASK = 1, 2, 4
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_ALPHA = 2  # of ExtraSamples: not premultiplied; 0 is unspecified
_INCH = 2

_Entries = dict[int, tuple[int, int, bytes]]  # tag: type, count, content


class _Strips:
    """Rows regrouped into strips of equal height, compressed and written; offsets and sizes are kept."""

    def __init__(self, file: BinaryIO, rows_per_strip: int) -> None:
        self.offsets: list[int] = []
        self.counts: list[int] = []
        self.rows_per_strip, self._file = rows_per_strip, file
        self._pending: list[NDArray[Any]] = []
        self._pending_rows = 0

    def write(self, rows: NDArray[Any]) -> None:
        """Add rows, (h, …); complete strips are written."""
        at = 0
        while at < len(rows):
            part = rows[at : at + self.rows_per_strip - self._pending_rows]
            self._pending.append(part)
            at, self._pending_rows = at + len(part), self._pending_rows + len(part)
            if self._pending_rows == self.rows_per_strip:
                self.flush()

    def flush(self) -> None:
        """Write the last strip, which may be lower."""
        if not self._pending:
            return
        packed = imagecodecs.deflate_encode(_with_predictor(np.concatenate(self._pending)), _COMPRESSION_LEVEL)
        self._pending, self._pending_rows = [], 0
        self.offsets.append(self._file.tell())
        self.counts.append(self._file.write(packed))


def _with_predictor(strip: NDArray[Any]) -> bytes:
    """Replace samples by differences to the pixel before, which compress better; bits of a mask stay as they are."""
    if strip.ndim == 2:
        return strip.tobytes()
    if strip.dtype.kind == "f":
        packed: NDArray[Any] = imagecodecs.floatpred_encode(np.ascontiguousarray(strip, "<f4"), axis=-2)
        return packed.tobytes()
    differences: NDArray[Any] = imagecodecs.delta_encode(np.ascontiguousarray(strip), axis=-2)  # modulo 2ⁿ
    return differences.astype(differences.dtype.newbyteorder("<"), copy=False).tobytes()


class TiffEncoder:
    """Writes one deflated image, and its mask as a second one; a BigTIFF if it may pass 4 GB."""

    def __init__(self, target: Target) -> None:
        self._target, self._file = target, target.file
        self.dtype = target.header.dtype
        height, width, channels = target.shape
        row_bytes = width * channels * self.dtype.itemsize
        self._is_big = height * row_bytes > CLASSIC_LIMIT
        self._strips = _Strips(self._file, min(height, max(1, _STRIP_BYTES // row_bytes)))
        self._mask = _Strips(self._file, min(height, max(1, _STRIP_BYTES * 8 // width)))
        # The offset of the first directory, which is written last, is filled in by `close`.
        self._file.write(b"II+\x00\x08\x00\x00\x00" + bytes(8) if self._is_big else b"II*\x00" + bytes(4))

    def write(self, samples: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Write the next rows, (h, W, C), and which of their samples are valid."""
        self._strips.write(samples)
        if self._target.header.has_mask:
            pixels = np.ones(samples.shape[:2], np.bool_) if valid is None else valid.all(axis=2)
            self._mask.write(np.packbits(pixels, axis=1))

    def close(self) -> None:
        """Write the last strips and the directories."""
        self._strips.flush()
        self._mask.flush()
        exif = load_exif(exif_for_size(self._target.header.exif, self._target.size))
        entries = self._entries(self._strips, self._photometric_entries())
        entries |= self._metadata_entries(exif)
        for tag in EXIF_DIRECTORIES:
            if values := exif.get_ifd(tag):
                entries[tag] = self._numbers(_LONG8 if self._is_big else _LONG, [self._write_exif(tag, values)])
        first = self._write_directory(entries)
        if self._target.header.has_mask:
            kind = {254: (_LONG, [_MASK]), 258: (_SHORT, [1]), 262: (_SHORT, [_MASK]), 277: (_SHORT, [1])}
            mask = {tag: self._numbers(*value) for tag, value in kind.items()}
            self._link(self._next_link, self._write_directory(self._entries(self._mask, mask)))
        self._link(8 if self._is_big else 4, first)

    def _photometric_entries(self) -> _Entries:
        header, (_, _, channels) = self._target.header, self._target.shape
        colours = channels - header.has_alpha
        is_rgb = colours >= 3 if header.is_rgb else colours == 3 and header.is_rgb is None
        extras = [0] * (colours - (3 if is_rgb else 1)) + [_ALPHA] * header.has_alpha
        is_float = self.dtype.kind == "f"
        values = {
            258: (_SHORT, [8 * self.dtype.itemsize] * channels),
            262: (_SHORT, [_RGB if is_rgb else _MIN_IS_BLACK]),
            277: (_SHORT, [channels]),
            317: (_SHORT, [_FLOAT_DIFFERENCES if is_float else _HORIZONTAL_DIFFERENCES]),
            338: (_SHORT, extras),
            339: (_SHORT, [_SAMPLE_FORMATS[self.dtype.kind]] * channels),
        }
        return {tag: self._numbers(*value) for tag, value in values.items() if value[1]}

    def _entries(self, strips: _Strips, entries: _Entries) -> _Entries:
        """Complete the tags of an image by its size and the positions of its strips."""
        height, width, _ = self._target.shape
        offset_type = _LONG8 if self._is_big else _LONG
        values: dict[int, tuple[int, list[int]]] = {
            256: (_LONG, [width]),
            257: (_LONG, [height]),
            259: (_SHORT, [_DEFLATE]),
            273: (offset_type, strips.offsets),
            278: (_LONG, [strips.rows_per_strip]),
            279: (offset_type, strips.counts),
            284: (_SHORT, [1]),  # samples of a pixel together
        }
        return entries | {tag: self._numbers(*value) for tag, value in values.items()}

    def _metadata_entries(self, exif: Image.Exif) -> _Entries:
        header, size = self._target.header, self._target.size
        entries: _Entries = {tag: _text(exif[tag]) for tag in _TEXT_TAGS if isinstance(exif.get(tag), str)}
        for tag in _RATING_TAGS:
            if isinstance(value := exif.get(tag), int) and 0 <= value < 2**16:
                entries[tag] = self._numbers(_SHORT, [value])
        windows = {tag: exif[tag] for tag in _WINDOWS_TAGS if isinstance(exif.get(tag), bytes)}
        blocks = {_XMP: xmp_for_size(header.xmp, size), **windows}
        entries |= {tag: (_BYTE, len(content), content) for tag, content in blocks.items() if content}
        undefined = {_IPTC: header.iptc, _ICC_PROFILE: header.icc_profile}
        entries |= {tag: (_UNDEFINED, len(content), content) for tag, content in undefined.items() if content}
        resolution, unit = header.dpi, _INCH
        if header.calibration is not None:
            calibration = header.calibration.scaled(*header.scale_to(size))
            entries[_DESCRIPTION] = _text(calibration.description(self._target.shape, self.dtype.name))
            if isinstance(calibration.unit, int):  # ImageJ reads the resolution, OME its own description
                resolution, unit = calibration.resolution, calibration.unit
        elif PROVENANCE_KEYWORD in (texts := dict(header.texts)):
            entries.setdefault(_DESCRIPTION, _text(texts[PROVENANCE_KEYWORD]))  # the photographer's has precedence
        if resolution is not None:
            entries |= {tag: _rational(value) for tag, value in zip((282, 283), resolution, strict=True)}
            entries[296] = self._numbers(_SHORT, [unit])
        if header.geo is not None:
            for tag, value in header.geo.scaled(*header.scale_to(size)).tags.items():
                kind = _SHORT if tag == GEO_KEYS else _DOUBLE
                entries[tag] = _text(value) if isinstance(value, str) else self._numbers(kind, value)
        if header.nodata is not None:
            entries[NODATA_TAG] = _text(f"{header.nodata:.17g}")
        return entries

    @staticmethod
    def _numbers(kind: int, values: Any) -> tuple[int, int, bytes]:  # noqa: ANN401 - numbers of either type
        numbers = values if kind == _DOUBLE else [int(value) for value in values]
        return kind, len(numbers), struct.pack(f"<{len(numbers)}{_FORMATS[kind]}", *numbers)

    def _write_exif(self, tag: int, values: Any) -> int:  # noqa: ANN401 - a dictionary of Pillow
        """Write the EXIF or GPS directory; return its offset."""
        start = self._aligned()
        prefix = b"II+\x00\x08\x00\x00\x00" + struct.pack("<Q", 16) if self._is_big else b"II*\x00\x08\x00\x00\x00"
        directory = TiffImagePlugin.ImageFileDirectory_v2(prefix, group=tag)
        for key, value in values.items():
            if key != _INTEROPERABILITY:
                directory[key] = value
        self._file.write(directory.tobytes(start))
        return start

    def _write_directory(self, entries: _Entries) -> int:
        """Write a directory, and then what does not fit into it; return its offset."""
        start = self._aligned()
        count, entry, pointer, inline = ("<Q", "<HHQ", "<Q", 8) if self._is_big else ("<H", "<HHI", "<I", 4)
        entry_bytes = struct.calcsize(entry) + inline
        self._next_link = start + struct.calcsize(count) + len(entries) * entry_bytes
        at = self._next_link + inline
        directory, contents = [struct.pack(count, len(entries))], []
        for tag, (kind, number, content) in sorted(entries.items()):
            value = content.ljust(inline, b"\x00")
            if len(content) > inline:
                value = struct.pack(pointer, at)
                contents.append(content + bytes(len(content) % 2))
                at += len(contents[-1])
            directory.append(struct.pack(entry, tag, kind, number) + value)
        self._file.write(b"".join((*directory, bytes(inline), *contents)))
        return start

    def _aligned(self) -> int:
        """Directories begin at even offsets."""
        position = self._file.tell()
        return position + (self._file.write(b"\x00") if position % 2 else 0)

    def _link(self, at: int, offset: int) -> None:
        end = self._file.tell()
        self._file.seek(at)
        self._file.write(struct.pack("<Q" if self._is_big else "<I", offset))
        self._file.seek(end)


def encoder(format_: FileFormat, target: Target) -> TiffEncoder:
    """Begin a TIFF."""
    return TiffEncoder(target)


def _text(text: str) -> tuple[int, int, bytes]:
    content = text.encode("utf-8", errors="replace") + b"\x00"
    return _ASCII, len(content), content


def _rational(value: float) -> tuple[int, int, bytes]:
    limit = min(1_000_000, int(2**31 / max(value, 1)))  # so that both numbers fit into 32 bits
    ratio = Fraction(value).limit_denominator(max(1, limit))
    return _RATIONAL, 1, struct.pack("<II", min(ratio.numerator, 2**32 - 1), ratio.denominator)
