"""PNG, JPEG, WebP, AVIF, BMP and GIF."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from blindsr.errors import ImageError
from blindsr.image_io.colour import cmyk_to_srgb
from blindsr.image_io.decoding import check_size
from blindsr.image_io.metadata import plausible_dpi
from blindsr.image_io.png16 import read_samples16
from blindsr.image_io.png_chunks import PngChunks, read_chunks
from blindsr.image_io.raw import RawImage

__all__ = ["NEEDED", "decode_pillow", "decode_png"]

#: The formats, as error messages name them.
NEEDED = "PNG, JPEG, TIFF, WebP, AVIF, BMP, GIF, HEIC or camera raw"

# Formats whose samples Pillow gives in full. Others (JPEG 2000, PPM, …) may have more bits than it passes on.
_IPTC = 0x0404  # among the resources of a JPEG's marker APP13
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF")


def decode_png(data: bytes, path: Path, max_pixels: int) -> RawImage:
    """Decode a PNG of any kind: its own reader for 16 bits, Pillow for the others.

    Raises:
        ImageError: The header, a checksum or the size is wrong, or the samples end early.
        Exception: Whatever Pillow raises on damaged files.
    """
    chunks = read_chunks(data)
    header = chunks.header
    check_size(header.width, header.height, path, max_pixels)
    notes = []
    if header.depth == 16:
        samples: NDArray[Any] = read_samples16(header, chunks.compressed)
        has_alpha = header.colour_type in (4, 6)
    else:
        samples, has_alpha = _palette_free(_open(data))
        if header.depth < 8 and header.colour_type == 0:
            notes.append(f"gray of {header.depth} bit is written with 8 bits, as an upscaled one needs the levels")
    if header.colour_type in (0, 2) and b"tRNS" in chunks.single:
        samples = np.dstack([samples[..., : 3 if header.colour_type else 1], _keyed_alpha(samples, chunks)])
        has_alpha = True
    if b"acTL" in chunks.single:
        notes.append("the PNG is animated: its first picture is used")
    return RawImage(
        samples=samples,
        has_alpha=has_alpha,
        format="PNG",
        icc_profile=chunks.icc_profile,
        exif=chunks.exif,
        xmp=chunks.xmp,
        dpi=plausible_dpi(chunks.dpi),
        png_colour=chunks.colour,
        texts=tuple(chunks.texts),
        notes=notes,
    )


def _keyed_alpha(samples: NDArray[Any], chunks: PngChunks) -> NDArray[Any]:
    # tRNS of gray and RGB names one colour, in the file's own depth, that is transparent; all others are opaque.
    depth = chunks.header.depth
    colours = 3 if chunks.header.colour_type else 1
    key = np.frombuffer(chunks.single[b"tRNS"][: 2 * colours], ">u2").astype(np.int64)
    if depth < 8:
        key = key * (255 // (2**depth - 1))
    is_clear = (samples[..., :colours] == key).all(axis=-1)
    return np.where(is_clear, 0, np.iinfo(samples.dtype).max).astype(samples.dtype)


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)


def decode_pillow(data: bytes, path: Path, max_pixels: int) -> RawImage:
    """Decode one of the other formats.

    Raises:
        ImageError: The format is not known, or the picture is too large.
        Exception: Whatever Pillow raises on damaged files.
    """
    try:
        picture = _open(data)
    except UnidentifiedImageError:
        raise ImageError(
            f"{path}: needed {NEEDED}, this file is none of them or is damaged; convert it, or get an intact copy"
        ) from None
    check_size(*picture.size, path, max_pixels)
    notes = []
    format_ = "JPEG" if picture.format == "MPO" else str(picture.format)
    frames = int(getattr(picture, "n_frames", 1))
    if frames > 1:
        notes.append(f"the file has {frames} pictures: the first is used")
    if format_ == "AVIF":
        notes.append("AVIF is read with 8 bits per channel")
    icc_profile = picture.info.get("icc_profile")
    picture.load()
    if picture.mode == "CMYK":
        picture_info = picture.info
        picture, icc_profile, note = cmyk_to_srgb(picture, icc_profile)
        picture.info = picture_info
        notes.append(note)
    exif = picture.info.get("exif")
    xmp = picture.info.get("xmp")
    iptc = picture.info.get("photoshop", {}).get(_IPTC)
    comment = picture.info.get("comment")
    samples, has_alpha = _palette_free(picture)
    return RawImage(
        samples=samples,
        has_alpha=has_alpha,
        format=format_,
        icc_profile=icc_profile,
        exif=exif,
        xmp=xmp,
        iptc=iptc if isinstance(iptc, bytes) else None,
        texts=(("Comment", _text(comment)),) if isinstance(comment, bytes | str) and comment else (),
        dpi=plausible_dpi(picture.info.get("dpi")),
        notes=notes,
    )


def _text(comment: bytes | str) -> str:
    if isinstance(comment, str):
        return comment
    try:
        return comment.decode("utf-8")
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def _palette_free(picture: Image.Image) -> tuple[NDArray[Any], bool]:
    """Expand palettes and single bits: (H, W, C) uint8, and whether the last channel is alpha."""
    picture.load()
    mode = picture.mode
    if mode in ("P", "PA"):
        picture = picture.convert("RGBA" if mode == "PA" or "transparency" in picture.info else "RGB")
    elif mode == "1":
        picture = picture.convert("L")
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        raise ImageError(
            f"the picture must be gray, RGB, palette or CMYK, this one is {mode}; convert it to one of them"
        )
    samples = np.asarray(picture)
    return (samples[..., None] if samples.ndim == 2 else samples), picture.mode in ("LA", "RGBA")
