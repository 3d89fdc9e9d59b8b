"""Write a photograph in the depth, channels and colour space that it came in."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blindsr.errors import BlindSRError, OutputError
from blindsr.image_io.metadata import exif_for_size
from blindsr.image_io.output import atomic_write_bytes, check_output
from blindsr.image_io.photo import Photo
from blindsr.image_io.png16 import encode_png
from blindsr.image_io.png_metadata import png_metadata
from blindsr.image_io.samples import file_samples

__all__ = ["default_suffix", "write_photo"]

#: JPEG and AVIF quality; 95 is the highest that Pillow's documentation recommends for JPEG.
DEFAULT_QUALITY = 95
_JPEG_EXIF_LIMIT = 65533  # bytes of one marker


def default_suffix(photo: Photo) -> str:
    """Name the file type that holds the photo as it is: ".png" if it can (8 or 16 bits, gray or RGB), else ".tif"."""
    return ".png" if _fits_png(photo) else ".tif"


def write_photo(photo: Photo, path: Path, *, overwrite: bool = False, quality: int | None = None) -> tuple[str, ...]:
    """Write a photo; the suffix of `path` names the format: .png, .tif(f), .jp(e)g, .webp, .avif.

    PNG and TIFF keep every bit. WebP is lossless unless `quality` is given. The file is there as a whole or not
    at all.

    Args:
        photo: What is written, with its depth, alpha, profile, EXIF, XMP and resolution.
        path: The file.
        overwrite: Replace a file that exists.
        quality: 1 to 100 for the lossy formats; None is 95 for JPEG and AVIF, lossless for WebP.

    Returns:
        Sentences on what the format could not keep.

    Raises:
        OutputError: The suffix is not known, the format cannot hold the channels, alpha or floats, the file
            exists, the folder refuses, or the disk is full. Nothing is left behind.
    """
    encode = _encoder(photo, path, quality)
    check_output(path, overwrite=overwrite)
    notes: list[str] = []
    try:
        data = encode(photo, notes, quality)
    except MemoryError as error:
        raise OutputError(f"not enough memory to encode {path.name}; write a smaller picture") from error
    except (OSError, ValueError) as error:
        if isinstance(error, BlindSRError):
            raise
        raise OutputError(f"cannot encode {path.name}: {error}; choose {default_suffix(photo)}") from error
    atomic_write_bytes(path, data, overwrite=overwrite)
    return tuple(notes)


def _encoder(photo: Photo, path: Path, quality: int | None) -> Callable[[Photo, list[str], int | None], bytes]:
    suffix = path.suffix.lower()
    if suffix not in _ENCODERS:
        raise OutputError(
            f"the suffix of the output must be one of {', '.join(_ENCODERS)}, got {suffix!r}; rename {path.name}"
        )
    if quality is not None and not 1 <= quality <= 100:
        raise OutputError(f"quality must be 1 to 100, got {quality}; choose one of these")
    if quality is not None and suffix in (".png", ".tif", ".tiff"):
        raise OutputError(f"quality is for JPEG, WebP and AVIF, {suffix} keeps every bit; leave it out")
    if suffix not in (".tif", ".tiff"):
        if photo.dtype.kind == "f":
            raise OutputError(f"{suffix} holds no floats; write {path.stem}.tif")
        if photo.channels not in (1, 3):
            raise OutputError(f"{suffix} holds gray or RGB, not {photo.channels} bands; write {path.stem}.tif")
    if suffix in (".jpg", ".jpeg") and photo.alpha is not None:
        raise OutputError(f"{suffix} holds no alpha channel; write {path.stem}.png")
    return _ENCODERS[suffix]


def _fits_png(photo: Photo) -> bool:
    return photo.dtype.kind == "u" and photo.channels in (1, 3)


def _encode_png(photo: Photo, notes: list[str], _quality: int | None) -> bytes:
    return encode_png(file_samples(photo, photo.dtype), png_metadata(photo))


def _encode_tiff(photo: Photo, notes: list[str], _quality: int | None) -> bytes:
    from blindsr.image_io.writing_tiff import encode_tiff  # tifffile is loaded only for a TIFF

    _say_lost_png_colour(photo, notes)
    return encode_tiff(photo)


def _encode_jpeg(photo: Photo, notes: list[str], quality: int | None) -> bytes:
    if photo.has_alpha:
        notes.append("JPEG holds no alpha channel: the one of the file, opaque everywhere, is left out")
    samples = _eight_bits(photo, notes, "JPEG")[..., : photo.channels]
    # 4:4:4, as 4:2:0 would halve the colour resolution that was just computed.
    return _encode_pillow(photo, samples, notes, "JPEG", {"quality": quality or DEFAULT_QUALITY, "subsampling": 0})


def _encode_webp(photo: Photo, notes: list[str], quality: int | None) -> bytes:
    samples = _as_colour(_eight_bits(photo, notes, "WebP"), notes, "WebP")
    options: dict[str, Any] = {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    return _encode_pillow(photo, samples, notes, "WEBP", options)


def _encode_avif(photo: Photo, notes: list[str], quality: int | None) -> bytes:
    samples = _as_colour(_eight_bits(photo, notes, "AVIF"), notes, "AVIF")
    return _encode_pillow(
        photo, samples, notes, "AVIF", {"quality": quality or DEFAULT_QUALITY, "subsampling": "4:4:4"}
    )


def _eight_bits(photo: Photo, notes: list[str], name: str) -> NDArray[Any]:
    if photo.dtype != np.uint8:
        notes.append(f"{name} holds 8 bits: the {8 * photo.dtype.itemsize}-bit samples were rounded")
    return file_samples(photo, np.dtype(np.uint8))


def _as_colour(samples: NDArray[Any], notes: list[str], name: str) -> NDArray[Any]:
    if samples.shape[2] > 2:
        return samples
    notes.append(f"{name} holds no gray: it was written as RGB")
    return np.concatenate([np.repeat(samples[..., :1], 3, axis=2), samples[..., 1:]], axis=2)


def _encode_pillow(
    photo: Photo, samples: NDArray[Any], notes: list[str], format_: str, options: dict[str, Any]
) -> bytes:
    _say_lost_png_colour(photo, notes)
    if photo.dpi and format_ == "JPEG":
        options["dpi"] = photo.dpi
    if photo.icc_profile:
        options["icc_profile"] = photo.icc_profile
    exif = exif_for_size(photo.exif, photo.size)
    if exif and format_ == "JPEG" and len(exif) > _JPEG_EXIF_LIMIT:
        notes.append(f"JPEG holds {_JPEG_EXIF_LIMIT} bytes of EXIF, this photo has {len(exif)}: it is left out")
    elif exif:
        options["exif"] = exif
    if photo.xmp and format_ == "JPEG" and len(photo.xmp) > _JPEG_EXIF_LIMIT - 29:  # less the XMP signature
        notes.append("the XMP packet is too long for a JPEG: it is left out")
    elif photo.xmp:
        options["xmp"] = photo.xmp
    file = io.BytesIO()
    Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(file, format_, **options)
    return file.getvalue()


def _say_lost_png_colour(photo: Photo, notes: list[str]) -> None:
    # sRGB is what a reader without a profile assumes anyway, and a profile outranks the others but for cICP.
    lost = [name.decode() for name, _ in photo.png_colour if name != b"sRGB"]
    has_srgb = any(name == b"sRGB" for name, _ in photo.png_colour)
    if lost and not has_srgb and not photo.icc_profile:
        notes.append(f"the PNG's colour description ({', '.join(lost)}) is kept in a PNG only: it is left out")


_ENCODERS: dict[str, Callable[[Photo, list[str], int | None], bytes]] = {
    ".png": _encode_png,
    ".tif": _encode_tiff,
    ".tiff": _encode_tiff,
    ".jpg": _encode_jpeg,
    ".jpeg": _encode_jpeg,
    ".webp": _encode_webp,
    ".avif": _encode_avif,
}
