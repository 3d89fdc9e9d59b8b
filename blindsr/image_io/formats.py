"""What each format can hold: asked before the work, and said after it."""

from pathlib import Path

import numpy as np

from blindsr.errors import OutputError
from blindsr.image_io.photo import Photo, PhotoHeader
from blindsr.image_io.provenance import OWN_KEYWORDS
from blindsr.image_io.writing_heic import check_heic

__all__ = ["WRITTEN", "check_format", "default_suffix", "losses"]

#: Suffixes of files that are written.
WRITTEN = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif")
_PNG_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
# Pixels a side: of libjpeg, of the 14 bits in a WebP, and of x265.
_LONGEST = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383, ".heic": 65535, ".heif": 65535}
_TIFF, _JPEG, _HEIC = (".tif", ".tiff"), (".jpg", ".jpeg"), (".heic", ".heif")
_LOSSLESS = (".png", *_TIFF)


def default_suffix(photo: PhotoHeader, channels: int | None = None) -> str:
    """Name the file type that holds the photo as it is: ".png" if it can (8 or 16 bits, gray or RGB), else ".tif".

    Args:
        photo: The photo or its header.
        channels: Without alpha; needed of a header alone.
    """
    bands = photo.channels if isinstance(photo, Photo) else channels
    is_plain = photo.dtype in _PNG_DTYPES and photo.geo is None and photo.nodata is None
    return ".png" if is_plain and bands in (1, 3) else ".tif"


def check_format(
    header: PhotoHeader,
    channels: int,
    path: Path,
    *,
    size: tuple[int, int],
    is_transparent: bool,
    quality: int | None = None,
) -> None:
    """Refuse a format that cannot hold such a photo.

    Args:
        header: Of the photo.
        channels: Without alpha.
        path: The file; its suffix names the format.
        size: Width and height of what will be written.
        is_transparent: Alpha is under 1 anywhere.
        quality: As for `write_photo`.

    Raises:
        OutputError: The suffix is not known, the format cannot hold the size, channels, alpha, floats or quality, or
            it needs a package that is not here.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise OutputError(
            f"the suffix of the output must be one of {', '.join(WRITTEN)}, got {suffix!r}; rename {path.name}"
        )
    if quality is not None and not 1 <= quality <= 100:
        raise OutputError(f"quality must be 1 to 100, got {quality}; choose one of these")
    if quality is not None and suffix in _LOSSLESS:
        raise OutputError(f"quality is for JPEG, WebP, AVIF and HEIC, {suffix} keeps every bit; leave it out")
    if suffix not in _TIFF:
        if header.dtype not in _PNG_DTYPES:
            kind = "floats" if header.dtype.kind == "f" else f"{header.dtype} samples"
            raise OutputError(f"{suffix} holds no {kind}; write {path.stem}.tif")
        if channels not in (1, 3):
            raise OutputError(f"{suffix} holds gray or RGB, not {channels} bands; write {path.stem}.tif")
    if max(size) > (longest := _LONGEST.get(suffix, max(size))):
        raise OutputError(
            f"{suffix} holds at most {longest} px a side, the result has {size[0]}×{size[1]}; write {path.stem}.png"
        )
    if suffix in _JPEG and is_transparent:
        raise OutputError(f"{suffix} holds no alpha channel; write {path.stem}.png")
    if suffix in _HEIC:
        check_heic(path)


def losses(header: PhotoHeader, path: Path) -> list[str]:
    """Sentences on the metadata of a photo that the format of `path` has no place for."""
    suffix = path.suffix.lower()
    notes: list[str] = []
    # sRGB is what a reader without a profile assumes anyway, and a profile outranks the others but for cICP.
    lost = [name.decode() for name, _ in header.png_colour if name != b"sRGB"]
    has_srgb = any(name == b"sRGB" for name, _ in header.png_colour)
    if suffix != ".png":
        if lost and not has_srgb and not header.icc_profile:
            notes.append(f"the PNG's colour description ({', '.join(lost)}) is kept in a PNG only: it is left out")
        kept = (*OWN_KEYWORDS, "Comment") if suffix in _JPEG else OWN_KEYWORDS
        names = dict.fromkeys(keyword for keyword, _ in header.texts if keyword not in kept)
        if names:
            notes.append(f"texts of the file ({', '.join(names)}) are kept in a PNG only: they are left out")
    if header.iptc and suffix not in (*_TIFF, *_JPEG):
        notes.append("the IPTC captions are kept in a TIFF or JPEG only: they are left out")
    if suffix not in _TIFF:
        if header.geo is not None:
            notes.append("the georeference is kept in a TIFF only: it is left out")
        if header.nodata is not None:
            notes.append(f"that {header.nodata:g} means no data can be said in a TIFF only")
    return notes
