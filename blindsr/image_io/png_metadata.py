"""The chunks of a PNG that carry profile, resolution, EXIF and XMP of a photo."""

import struct
import zlib

from blindsr.image_io.metadata import exif_for_size
from blindsr.image_io.photo import PhotoHeader
from blindsr.image_io.png_chunks import chunk, text_chunk, xmp_chunk
from blindsr.image_io.xmp import xmp_for_size

__all__ = ["png_metadata"]

_INCH = 0.0254  # metres
_EXIF_HEADER = b"Exif\x00\x00"


def png_metadata(photo: PhotoHeader, size: tuple[int, int]) -> bytes:
    """Build the chunks between header and samples, in the order that the specification asks for."""
    chunks = [chunk(name, body) for name, body in photo.png_colour if not (photo.icc_profile and name == b"sRGB")]
    if photo.icc_profile:  # sRGB and iCCP exclude each other
        chunks.append(chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(photo.icc_profile)))
    if photo.dpi:
        x, y = (round(value / _INCH) for value in photo.dpi)
        chunks.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    exif = exif_for_size(photo.exif, size)
    if exif:
        chunks.append(chunk(b"eXIf", exif.removeprefix(_EXIF_HEADER)))
    if xmp := xmp_for_size(photo.xmp, size):
        chunks.append(xmp_chunk(xmp))
    chunks.extend(text_chunk(keyword, text) for keyword, text in photo.texts)
    return b"".join(chunks)
