"""HEIC photographs, as telephones write them, through the optional package pillow-heif."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from blindsr.errors import ImageError
from blindsr.image_io.decoding import check_size
from blindsr.image_io.raw import RawImage

__all__ = ["decode_heic", "heic_size", "is_heic"]

# Brands of ISO/IEC 23008-12 with HEVC inside; "mif1" and "msf1" name the container alone.
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MODES = {"L": (np.uint8, 1), "RGB": (np.uint8, 3), "RGBA": (np.uint8, 4)}
_DEEP_MODES = {"I;16": (np.uint16, 1), "L;16": (np.uint16, 1), "RGB;16": (np.uint16, 3), "RGBA;16": (np.uint16, 4)}


def is_heic(head: bytes) -> bool:
    """Tell a HEIC file by its first bytes; AVIF, which has the same container, is none."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS and b"avif" not in head[8:32]


def decode_heic(data: bytes, path: Path, max_pixels: int) -> RawImage:
    """Decode the main picture of a HEIC file: 8 bits, or 10 and 12 bits as 16.

    Raises:
        ImageError: pillow-heif is not installed, or the picture is too large or of an unknown kind.
        Exception: Whatever pillow-heif raises on damaged files.
    """
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            f'{path}: this is a HEIC photograph, which needs the package pillow-heif; run pip install "blindsr[heic]", '
            "or save it as PNG"
        ) from None
    file: Any = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
    picture: Any = file[file.primary_index]
    width, height = picture.size
    check_size(width, height, path, max_pixels)
    notes = [f"the file has {len(file)} pictures: the main one is used"] if len(file) > 1 else []
    mode = picture.mode
    if mode not in _MODES and mode not in _DEEP_MODES:
        raise ImageError(f"a HEIC picture must be gray or RGB, this one is {mode}; save it as PNG")
    dtype, channels = _MODES.get(mode) or _DEEP_MODES[mode]
    if mode in _DEEP_MODES:
        notes.append("the samples of more than 8 bits are written with 16")
    # The rows may end with bytes of no meaning.
    rows: Any = np.frombuffer(picture.data, np.uint8).reshape(height, picture.stride)
    row_bytes = width * channels * np.dtype(dtype).itemsize
    samples = np.ascontiguousarray(rows[:, :row_bytes]).view(dtype).reshape(height, width, channels)
    profile = picture.info.get("icc_profile")
    return RawImage(
        samples=samples,
        has_alpha=channels == 4,
        format="HEIC",
        icc_profile=profile or None,
        exif=picture.info.get("exif"),
        xmp=picture.info.get("xmp"),
        notes=notes,
    )


def heic_size(path: Path) -> tuple[int, int, int] | None:
    """Height, width and bands of the main picture, upright; None without pillow-heif.

    Raises:
        Exception: Whatever pillow-heif raises on damaged files.
    """
    if importlib.util.find_spec("pillow_heif") is None:
        return None
    import pillow_heif

    file: Any = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    picture: Any = file[file.primary_index]
    width, height = picture.size
    _, bands = _MODES.get(picture.mode) or _DEEP_MODES[picture.mode]
    return height, width, bands
