"""TIFF files: integers of 8 to 32 bits and floats, gray, RGB, palettes, CMYK, any number of bands.

tifffile reads them; what it needs imagecodecs for (LZW, JPEG, …) goes to Pillow's libtiff where that gives all
the bits, and is refused by name where it does not.
"""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from blindsr.errors import ImageError
from blindsr.image_io.decoding import check_size, unprinted
from blindsr.image_io.raw import RawHeader, RawImage
from blindsr.image_io.tiff_colours import page_colours
from blindsr.image_io.tiff_header import tiff_header
from blindsr.image_io.tiff_rows import PageRows, is_windowable, segment_count

__all__ = ["check_page", "decode_tiff"]

_PILLOW_MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16")
_DNG_VERSION, _SUBFILE_TYPE, _SUB_DIRECTORIES = 50706, 254, 330
_REDUCED = 1


def decode_tiff(stream: BinaryIO, path: Path, max_pixels: int) -> RawImage:
    """Decode the first page of a TIFF.

    Raises:
        ImageError: Its samples or colours are of a kind that is not handled, or its compression needs a codec
            that is not installed.
        Exception: Whatever tifffile and Pillow raise on damaged files.
    """
    with tifffile.TiffFile(stream) as file:
        page = file.pages.first
        check_page(page, path, max_pixels, _length(stream))
        header = tiff_header(file, page, stream)
        samples, decoded_by_pillow = _samples(page, stream)
        samples, header.has_alpha, header.icc_profile = page_colours(
            page, samples, header.notes, is_pillow=decoded_by_pillow
        )
        if decoded_by_pillow:
            header.orientation = 1  # Pillow turns a TIFF upright itself
        return RawImage(samples=samples, **{field.name: getattr(header, field.name) for field in fields(RawHeader)})


def check_page(page: tifffile.TiffPage, path: Path, max_pixels: int, length: int) -> None:
    """Refuse a page that is too large, of a kind that is not handled, or whose samples lie beyond the file's end.

    tifffile fills what is missing with zeros; a truncated file must not pass as a black one.

    Args:
        page: As tifffile read it.
        path: For the message.
        max_pixels: See `check_size`.
        length: Of the file, bytes.

    Raises:
        ImageError: As above.
    """
    check_size(page.imagewidth, page.imagelength, path, max_pixels, samples=page.samplesperpixel)
    if _DNG_VERSION in page.tags:
        raise ImageError(f"this is a camera raw file, named {path.suffix or 'without suffix'}; name it .dng")
    if page.tags.valueof(_SUBFILE_TYPE, 0) == _REDUCED and _SUB_DIRECTORIES in page.tags:
        raise ImageError(
            "the first page of this TIFF is a preview, as in a camera raw file; name it like one (.nef, …)"
        )
    if page.bitspersample not in (1, 8, 16, 32, 64):
        raise ImageError(
            f"a TIFF needs 1, 8, 16 or 32 bits per sample, or floats, this one has {page.bitspersample}; convert it"
        )
    if page.imagedepth > 1:
        raise ImageError(f"needed a flat picture, this TIFF is a volume of {page.imagedepth} slices; cut one out")
    count = min(len(page.dataoffsets), len(page.databytecounts))
    if count < segment_count(page):  # tifffile would leave the others to chance
        raise ImageError(f"the TIFF needs {segment_count(page)} strips or tiles, it has {count}; get an intact copy")
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False) if count]
    if not ends or max(ends) > length:
        raise ImageError(
            f"the TIFF needs samples up to byte {max(ends, default=0)}, the file has {length} bytes; get an intact copy"
        )


def _length(stream: BinaryIO) -> int:
    return stream.seek(0, os.SEEK_END)


def _samples(page: tifffile.TiffPage, stream: BinaryIO) -> tuple[NDArray[Any], bool]:
    """Decode to (H, W, C), and say whether Pillow did it."""
    if is_windowable(page):
        rows = PageRows(page)
        return rows.read(0, rows.height, 0, rows.width), False
    try:
        with unprinted():  # libjpeg, libtiff
            samples = page.asarray(maxworkers=1)
    except (ValueError, RuntimeError, ImportError) as error:
        if "imagecodecs" not in str(error):
            raise
        return _samples_of_pillow(page, stream), True
    if samples.size != page.imagewidth * page.imagelength * page.samplesperpixel:
        raise ImageError("the TIFF holds another number of samples than it says; get an intact copy")
    if samples.ndim == 3 and page.axes.startswith("S"):
        samples = np.moveaxis(samples, 0, -1)
    return samples.reshape(page.imagelength, page.imagewidth, page.samplesperpixel), False


def _samples_of_pillow(page: tifffile.TiffPage, stream: BinaryIO) -> NDArray[Any]:
    codec = getattr(page.compression, "name", str(page.compression))
    install = ImageError(
        f"this TIFF is compressed with {codec}, which needs the package imagecodecs;"
        ' run pip install "blindsr[tiff]", or save the file uncompressed'
    )
    if page.bitspersample > 8 and not (page.bitspersample == 16 and page.samplesperpixel == 1):
        raise install  # Pillow would cut it to 8 bits
    stream.seek(0)
    try:
        picture = Image.open(stream, formats=("TIFF",))
    except UnidentifiedImageError:
        raise install from None
    if picture.mode not in _PILLOW_MODES:
        raise install
    with unprinted():
        picture.load()
    samples = np.asarray(picture)
    return samples[..., None] if samples.ndim == 2 else samples
