"""JPEG, WebP and AVIF: 8 bits, encoded by Pillow from all rows at once."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blindsr.image_io.iptc import iptc_marker
from blindsr.image_io.metadata import exif_for_size, exif_with_resolution
from blindsr.image_io.photo import PhotoHeader
from blindsr.image_io.xmp import xmp_for_size

__all__ = ["DEFAULT_QUALITY", "encode_avif", "encode_jpeg", "encode_webp"]

#: JPEG and AVIF quality; 95 is the highest that Pillow's documentation recommends for JPEG.
DEFAULT_QUALITY = 95
_JPEG_MARKER_LIMIT = 65533  # bytes of one marker
_XMP_SIGNATURE = 29


def encode_jpeg(header: PhotoHeader, samples: NDArray[Any], notes: list[str], quality: int | None) -> bytes:
    """Encode (H, W, C) uint8 as a JPEG, without the alpha channel."""
    if header.has_alpha:
        notes.append("JPEG holds no alpha channel: the one of the file, opaque everywhere, is left out")
        samples = samples[..., :-1]
    _say_rounding(header, notes, "JPEG")
    # 4:4:4, as 4:2:0 would halve the colour resolution that was just computed.
    return _encode(header, samples, notes, "JPEG", {"quality": quality or DEFAULT_QUALITY, "subsampling": 0})


def encode_webp(header: PhotoHeader, samples: NDArray[Any], notes: list[str], quality: int | None) -> bytes:
    """Encode (H, W, C) uint8 as a WebP, lossless without a quality."""
    _say_rounding(header, notes, "WebP")
    options: dict[str, Any] = {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    return _encode(header, _as_colour(samples, notes, "WebP"), notes, "WEBP", options)


def encode_avif(header: PhotoHeader, samples: NDArray[Any], notes: list[str], quality: int | None) -> bytes:
    """Encode (H, W, C) uint8 as an AVIF."""
    _say_rounding(header, notes, "AVIF")
    options = {"quality": quality or DEFAULT_QUALITY, "subsampling": "4:4:4"}
    return _encode(header, _as_colour(samples, notes, "AVIF"), notes, "AVIF", options)


def _say_rounding(header: PhotoHeader, notes: list[str], name: str) -> None:
    if header.dtype != np.uint8:
        notes.append(f"{name} holds 8 bits: the {8 * header.dtype.itemsize}-bit samples were rounded")


def _as_colour(samples: NDArray[Any], notes: list[str], name: str) -> NDArray[Any]:
    if samples.shape[2] > 2:
        return samples
    notes.append(f"{name} holds no gray: it was written as RGB")
    return np.concatenate([np.repeat(samples[..., :1], 3, axis=2), samples[..., 1:]], axis=2)


def _encode(
    header: PhotoHeader, samples: NDArray[Any], notes: list[str], format_: str, options: dict[str, Any]
) -> bytes:
    is_jpeg = format_ == "JPEG"
    if header.dpi and is_jpeg:
        options["dpi"] = header.dpi
    if header.icc_profile:
        options["icc_profile"] = header.icc_profile
    size = (samples.shape[1], samples.shape[0])
    block = header.exif if is_jpeg else exif_with_resolution(header.exif, header.dpi)
    exif, xmp = exif_for_size(block, size), xmp_for_size(header.xmp, size)
    if exif and is_jpeg and len(exif) > _JPEG_MARKER_LIMIT:
        notes.append(f"JPEG holds {_JPEG_MARKER_LIMIT} bytes of EXIF, this photo has {len(exif)}: it is left out")
    elif exif:
        options["exif"] = exif
    if xmp and is_jpeg and len(xmp) > _JPEG_MARKER_LIMIT - _XMP_SIGNATURE:
        notes.append("the XMP packet is too long for a JPEG: it is left out")
    elif xmp:
        options["xmp"] = xmp
    if is_jpeg:
        if header.iptc and (marker := iptc_marker(header.iptc)) is None:
            notes.append("the IPTC block is too long for a JPEG: it is left out")
        elif header.iptc and marker is not None:
            options["extra"] = marker
        if comment := dict(header.texts).get("Comment", "").encode("utf-8", errors="replace"):
            options["comment"] = comment[:_JPEG_MARKER_LIMIT]
    file = io.BytesIO()
    Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(file, format_, **options)
    return file.getvalue()
