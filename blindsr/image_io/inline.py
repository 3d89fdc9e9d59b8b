"""Pictures as bytes in memory: for pages that carry them, and for the damage that compression does."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blindsr.errors import ImageError

__all__ = ["eight_bits", "jpeg_round_trip", "picture_bytes"]

_FORMATS = {"png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}


def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Samples of 8 bits from floats in [0, 1], clipped and rounded; uint8 is left as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.asarray(np.round(np.clip(pixels, 0, 1) * 255), dtype=np.uint8)


def picture_bytes(samples: NDArray[np.uint8], kind: str, *, quality: int = 88) -> bytes:
    """Encode an 8-bit picture.

    Args:
        samples: (H, W), (H, W, 1) or (H, W, 3).
        kind: "png", "webp" or "jpeg".
        quality: 1 to 100, for the last two.

    Raises:
        ImageError: The kind or the shape is another one.
    """
    if kind not in _FORMATS:
        raise ImageError(f"a picture in memory must be one of {', '.join(_FORMATS)}, got {kind!r}.")
    buffer = io.BytesIO()
    options = {"optimize": True} if kind == "png" else {"quality": quality}
    _picture(samples).save(buffer, _FORMATS[kind], **options)
    return buffer.getvalue()


def jpeg_round_trip(samples: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """What is left of an 8-bit picture after JPEG with 4:2:0 chroma: what most cameras and sites write.

    Args:
        samples: (H, W, 1) or (H, W, 3).
        quality: 1 to 100.

    Returns:
        Samples of the same shape.
    """
    buffer = io.BytesIO()
    _picture(samples).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(buffer) as decoded:
        return np.asarray(decoded, dtype=np.uint8).reshape(samples.shape)


def _picture(samples: NDArray[np.uint8]) -> Image.Image:
    if samples.dtype != np.uint8 or samples.ndim not in (2, 3) or samples.shape[2:] not in ((), (1,), (3,)):
        raise ImageError(f"a picture in memory must be uint8 gray or RGB, got {samples.shape} of {samples.dtype}.")
    return Image.fromarray(samples[..., 0] if samples.shape[2:] == (1,) else samples)
