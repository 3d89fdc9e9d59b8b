"""HEIC: 8 bits, or 12 of 16, encoded by the optional package pillow-heif from all rows at once."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import OutputError
from blindsr.image_io.metadata import exif_for_size, exif_with_resolution
from blindsr.image_io.photo import PhotoHeader
from blindsr.image_io.writing_pillow import DEFAULT_QUALITY
from blindsr.image_io.xmp import xmp_for_size

__all__ = ["check_heic", "encode_heic"]

_DEPTH = 12  # bits of what HEVC in a HEIC can have at most


def check_heic(path: Path) -> None:
    """Refuse a HEIC where it could not be written.

    Raises:
        OutputError: pillow-heif is not installed, or has no encoder.
    """
    if importlib.util.find_spec("pillow_heif") is None:
        raise OutputError(
            f'a HEIC needs the package pillow-heif; run pip install "blindsr[heic]", or write {path.stem}.png'
        )
    import pillow_heif

    if not pillow_heif.libheif_info().get("HEIF"):
        raise OutputError(f"this pillow-heif reads HEIC and does not write it; write {path.stem}.png")


def encode_heic(header: PhotoHeader, samples: NDArray[Any], notes: list[str], quality: int | None) -> bytes:
    """Encode (H, W, C) uint8 or uint16 as a HEIC, its colours at full resolution (4:4:4).

    Raises:
        OSError, ValueError: The encoder refuses.
    """
    import pillow_heif

    height, width, channels = samples.shape
    if channels == 2:  # there is no gray with alpha
        notes.append("HEIC holds no gray with alpha: it was written as RGB")
        samples = np.concatenate([np.repeat(samples[..., :1], 3, axis=2), samples[..., 1:]], axis=2)
        channels = 4
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    options: dict[str, Any] = {"quality": quality or DEFAULT_QUALITY, "chroma": 444}
    if samples.dtype == np.uint16:
        notes.append(f"HEIC holds {_DEPTH} bits: the 16-bit samples were rounded")
        mode, options["bit_depth"] = f"{mode};16", _DEPTH
    size = (width, height)
    found = {
        "icc_profile": header.icc_profile,
        "exif": exif_for_size(exif_with_resolution(header.exif, header.dpi), size),
        "xmp": xmp_for_size(header.xmp, size),
    }
    options |= {name: content for name, content in found.items() if content}
    file = io.BytesIO()
    try:
        pillow_heif.encode(mode, size, np.ascontiguousarray(samples).tobytes(), file, **options)
    except RuntimeError as error:  # what libheif answers
        raise ValueError(" ".join(str(error).split())) from error
    return file.getvalue()
