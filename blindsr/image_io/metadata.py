"""Orientation and EXIF: what is applied, what is reset, what is carried over."""

from numbers import Real
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

__all__ = [
    "clean_exif",
    "exif_for_size",
    "exif_of_tiff",
    "exif_orientation",
    "exif_resolution",
    "exif_with_resolution",
    "exif_with_software",
    "plausible_dpi",
    "stored_window",
    "swaps_axes",
    "upright",
]

_HEADER = b"Exif\x00\x00"
_LEAST_DPI = 0.1  # PNG counts whole pixels per metre
_ORIENTATION = int(ExifTags.Base.Orientation)
_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_RESOLUTION = (int(ExifTags.Base.XResolution), int(ExifTags.Base.YResolution))
_UNIT = int(ExifTags.Base.ResolutionUnit)
_INCH, _UNITS = 2, {2: 1.0, 3: 2.54}  # what EXIF's inch and centimetre are, in inches
_EXIF_WIDTH_HEIGHT = ((int(ExifTags.Base.ExifImageWidth), 0), (int(ExifTags.Base.ExifImageHeight), 1))
# Tags that describe how a TIFF stores its samples; in the EXIF of another file they would be wrong.
_STORAGE_TAGS = (
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 301, 317, 320, 322, 323, 324, 325, 330, 338, 339}
    | {347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 37724}
    | {33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113, 50844}
)


def upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn (H, W, …) samples as EXIF orientation 1–8 asks; another value leaves them as they are.

    Source: TIFF 6.0, tag 274: the value names where row 0 and column 0 of the file belong in the picture.
    """
    if swaps_axes(orientation):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def stored_window(
    window: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Find where a window of the upright picture lies in the file's samples: `upright` of those is the window.

    Args:
        window: Rows top … bottom, columns left … right of the upright picture.
        size: Width and height of the upright picture.
        orientation: As for `upright`.
    """
    top, bottom, left, right = window
    width, height = size
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    return (left, right, top, bottom) if swaps_axes(orientation) else (top, bottom, left, right)


def swaps_axes(orientation: int) -> bool:
    """Tell whether the orientation exchanges width and height."""
    return orientation in (5, 6, 7, 8)


def exif_orientation(exif: bytes | None) -> int:
    """Read the orientation of an EXIF block, 1 if there is none or it makes no sense."""
    if not exif:
        return 1
    value = _load(exif).get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def clean_exif(exif: bytes | None) -> bytes | None:
    """Reset the orientation, drop the thumbnail and the tags of a TIFF's own storage; None if nothing remains.

    Raises:
        Exception: Whatever Pillow raises on a damaged block; the caller drops the block and says so.
    """
    if not exif:
        return None
    block = _load(exif)
    for tag in _STORAGE_TAGS:
        if tag in block:
            del block[tag]
    if _ORIENTATION in block:
        block[_ORIENTATION] = 1
    return block.tobytes() if len(block) else None  # Exif.tobytes writes no second directory: no thumbnail


def exif_for_size(exif: bytes | None, size: tuple[int, int]) -> bytes | None:
    """Write width and height into an EXIF block, where it has such tags."""
    if not exif:
        return None
    block = _load(exif)
    details = block.get_ifd(ExifTags.IFD.Exif)
    for tag, axis in _EXIF_WIDTH_HEIGHT:
        if tag in details:
            details[tag] = size[axis]
    return block.tobytes()


def exif_with_software(exif: bytes | None, program: str) -> bytes:
    """Name the program that made the picture in an EXIF block; None makes one."""
    block = Image.Exif() if exif is None else _load(exif)
    block[int(ExifTags.Base.Software)] = program
    return block.tobytes()


def exif_resolution(exif: bytes | None) -> tuple[float, float] | None:
    """Read the resolution of an EXIF block in pixels per inch; None if it has none, or one that makes no sense."""
    if not exif:
        return None
    block = _load(exif)
    factor = _UNITS.get(block.get(_UNIT, _INCH), 0.0)
    values = (block.get(tag) for tag in _RESOLUTION)
    return plausible_dpi(tuple(float(value) * factor for value in values if isinstance(value, Real)))


def exif_with_resolution(exif: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """Put a resolution into an EXIF block, where the format has no other place for it; None makes a block."""
    if dpi is None:
        return exif
    block = _load(exif) if exif else Image.Exif()
    for tag, value in zip(_RESOLUTION, dpi, strict=True):
        block[tag] = value
    block[_UNIT] = _INCH
    return block.tobytes()


def exif_of_tiff(stream: BinaryIO) -> bytes | None:
    """Gather the camera's tags of a TIFF, or of a raw file that is one, into an EXIF block; None if there are none."""
    try:
        found = _tags_of_tiff(stream)
        block = Image.Exif()  # what Pillow makes of a BigTIFF has offsets of 64 bits, which no EXIF has
        block.update({tag: value for tag, value in found.items() if tag not in {*_STORAGE_TAGS, *_DIRECTORIES}})
        for directory in _DIRECTORIES:
            block.get_ifd(directory).update(found.get_ifd(directory))
        return block.tobytes()
    except Exception:  # no TIFF, or a damaged one: the samples are what matters
        return None


def plausible_dpi(dpi: object) -> tuple[float, float] | None:
    """A resolution in pixels per inch, if it is one that a picture may have."""
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    x, y = float(dpi[0]), float(dpi[1])
    return (x, y) if _LEAST_DPI <= x <= 1e6 and _LEAST_DPI <= y <= 1e6 else None


def _tags_of_tiff(stream: BinaryIO) -> Image.Exif:
    stream.seek(0)
    head = stream.read(8)
    stream.seek(0)
    if head[2:3] == b"+" or head[3:4] == b"+":  # BigTIFF
        return Image.open(stream, formats=("TIFF",)).getexif()
    found = Image.Exif()
    found.load_from_fp(stream)
    return found


def _load(exif: bytes) -> Image.Exif:
    block = Image.Exif()
    block.load(exif if exif.startswith(_HEADER) else _HEADER + exif)
    return block
