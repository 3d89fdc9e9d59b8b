"""Orientation, EXIF, XMP and resolution: what is applied, what is reset, what is carried over."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

__all__ = ["clean_exif", "clean_xmp", "exif_for_size", "exif_orientation", "swaps_axes", "upright"]

_HEADER = b"Exif\x00\x00"
_ORIENTATION = int(ExifTags.Base.Orientation)
_EXIF_WIDTH_HEIGHT = ((int(ExifTags.Base.ExifImageWidth), 0), (int(ExifTags.Base.ExifImageHeight), 1))
# Tags that describe how a TIFF stores its samples; in the EXIF of another file they would be wrong.
_STORAGE_TAGS = (
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 301, 317, 320, 322, 323, 324, 325, 330, 338, 339}
    | {347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 37724}
    | {33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}
)
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))[2-8]")


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


def clean_xmp(xmp: bytes | str | None) -> bytes | None:
    """Reset the orientation that an XMP packet may repeat."""
    if not xmp:
        return None
    packet = xmp.encode("utf-8") if isinstance(xmp, str) else xmp
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet.rstrip(b"\x00")) or None


def _load(exif: bytes) -> Image.Exif:
    block = Image.Exif()
    block.load(exif if exif.startswith(_HEADER) else _HEADER + exif)
    return block
