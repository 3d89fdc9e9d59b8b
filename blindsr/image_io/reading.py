"""Read a photograph and everything of the file that has to survive."""

from pathlib import Path

import numpy as np

from blindsr.errors import ImageError
from blindsr.image_io.decoding import decoding
from blindsr.image_io.metadata import clean_exif, clean_xmp, exif_orientation, swaps_axes, upright
from blindsr.image_io.photo import Photo
from blindsr.image_io.png_chunks import SIGNATURE
from blindsr.image_io.raw import RawImage
from blindsr.image_io.reading_pillow import NEEDED, decode_pillow, decode_png
from blindsr.image_io.samples import pixels_from_samples

__all__ = ["read_photo"]

_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def read_photo(path: Path) -> Photo:
    """Read a picture file: PNG (1 to 16 bits), JPEG, TIFF (8, 16 bits, floats, any bands), WebP, AVIF, BMP, GIF.

    The picture is turned upright, palettes are expanded, CMYK becomes sRGB; the colour space is otherwise the
    file's. Of several pages or frames the first is used. `Photo.notes` says what was changed.

    Args:
        path: The file.

    Returns:
        The photo, samples in [0, 1], colour not premultiplied.

    Raises:
        ImageError: The file is missing, empty, a folder, no picture, damaged, too large, or its samples are of
            a type that cannot be kept. The message is one line and names the file.
    """
    data = _read_bytes(path)
    with decoding(path) as said:
        try:
            raw = _decode(data, path)
        except ImageError as error:
            text = str(error)
            raise (error if text.startswith(str(path)) else ImageError(f"{path}: {text}")) from error.__cause__
    raw.notes.extend(f"the decoder says: {text}" for text in said)
    try:
        return _photo(raw, path)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory for this picture; cut it into parts") from error


def _read_bytes(path: Path) -> bytes:
    needed = f"needed a picture file ({NEEDED})"
    try:
        if path.is_dir():
            raise ImageError(f"{path}: {needed}, this is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path}: {needed}, this is a device or a pipe; save it as a file first")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: {needed}, there is no such file; check the name") from None
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path}: {needed}, this one is larger than the memory; cut it into parts") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path}: the file cannot be read ({reason}); check its permissions") from error
    if not data:
        raise ImageError(f"{path}: {needed}, the file is empty; get an intact copy")
    return data


def _decode(data: bytes, path: Path) -> RawImage:
    if data.startswith(_TIFF_SIGNATURES):
        from blindsr.image_io.reading_tiff import decode_tiff  # tifffile is loaded only for a TIFF

        return decode_tiff(data, path)
    if data.startswith(SIGNATURE):
        return decode_png(data, path)
    return decode_pillow(data, path)


def _photo(raw: RawImage, path: Path) -> Photo:
    notes = list(raw.notes)
    orientation, exif, xmp = raw.orientation, None, None
    with decoding(path) as said:
        try:
            if raw.format != "TIFF":
                orientation = exif_orientation(raw.exif)
            exif = clean_exif(raw.exif)
        except Exception:  # a damaged EXIF block must not cost the picture
            notes.append("the EXIF block of the file is damaged: it is not kept")
        xmp = clean_xmp(raw.xmp)
    if said:
        notes.append("the EXIF block of the file is damaged in places: what could be read of it is kept")
    samples = upright(raw.samples, orientation)
    if samples.dtype == np.float64:
        notes.append("64-bit floats are read and written as 32-bit ones")
    pixels, alpha, value_range = pixels_from_samples(samples, has_alpha=raw.has_alpha)
    if value_range[0] < 0 or (samples.dtype.kind == "f" and value_range[1] > 1):
        notes.append(f"the values span [{value_range[0]:g}, {value_range[1]:g}]: that range is kept")
    dpi = raw.dpi[::-1] if raw.dpi and swaps_axes(orientation) else raw.dpi
    return Photo(
        pixels=pixels,
        alpha=alpha,
        has_alpha=raw.has_alpha,
        dtype=np.dtype(np.float32) if samples.dtype.kind == "f" else samples.dtype,
        format=raw.format,
        icc_profile=raw.icc_profile,
        exif=exif,
        xmp=xmp,
        dpi=dpi,
        png_colour=raw.png_colour,
        value_range=value_range,
        notes=tuple(dict.fromkeys(notes)),
    )
