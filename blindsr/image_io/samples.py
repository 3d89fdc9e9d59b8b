"""Between the samples of a file, integers or floats, and the floats in [0, 1] that the methods work on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.photo import Photo

__all__ = ["file_samples", "pixels_from_samples"]

_INTEGERS = (np.dtype(np.uint8), np.dtype(np.uint16))
_LARGEST = float(np.finfo(np.float32).max)


def pixels_from_samples(
    samples: NDArray[Any], *, has_alpha: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, tuple[float, float]]:
    """Map samples to [0, 1] and part the alpha channel from them.

    uint8 and uint16 are divided by 255 and 65535, by dtype and never by the values. Floats stay as they are if
    they lie in [0, 1]; else (min(0, least), max(1, greatest)) becomes (0, 1), one line for all channels.

    Args:
        samples: (H, W, C) uint8, uint16, or any float; alpha, if there is any, is the last channel.
        has_alpha: Whether the last channel is alpha.

    Returns:
        Pixels (H, W, C) float32; alpha (H, W) float32, or None if there is none or it is 1 everywhere; and the
        values (low, high) that became 0 and 1.

    Raises:
        ImageError: The dtype is none of these, a float is NaN or infinite, or alpha leaves [0, 1].
    """
    colour = samples[..., :-1] if has_alpha else samples
    if samples.dtype in _INTEGERS:
        high = float(np.iinfo(samples.dtype).max)
        pixels = np.divide(colour, np.float32(high), dtype=np.float32)
        opacity = np.divide(samples[..., -1], np.float32(high), dtype=np.float32) if has_alpha else None
        value_range = (0.0, high)
    elif samples.dtype.kind == "f":
        _refuse_non_finite(samples)
        pixels, value_range = _map_floats(colour)
        opacity = samples[..., -1].astype(np.float32) if has_alpha else None
    else:
        raise ImageError(
            f"samples must be uint8, uint16 or floats, these are {samples.dtype}; convert the file to one of them"
        )
    if opacity is not None and (float(opacity.min()) < 0 or float(opacity.max()) > 1):
        raise ImageError(
            f"alpha must lie in [0, 1], it spans [{opacity.min():g}, {opacity.max():g}]; scale it, or remove it"
        )
    is_opaque = opacity is None or bool((opacity == 1).all())
    return np.ascontiguousarray(pixels), None if is_opaque else opacity, value_range


def _refuse_non_finite(samples: NDArray[Any]) -> None:
    bad = ~np.isfinite(samples)
    count = int(bad.sum())
    if count:
        row, column = (int(place) for place in np.argwhere(bad)[0][:2])
        raise ImageError(
            f"samples must be finite, {count} of {samples.size} are NaN or infinite, the first at row {row},"
            f" column {column}; fill them before"
        )


def _map_floats(colour: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    pixels = colour.astype(np.float64)
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    if max(-low, high) > _LARGEST:
        raise ImageError(f"samples must fit in float32, they span [{low:g}, {high:g}]; scale the file before")
    if (low, high) != (0.0, 1.0):
        pixels = (pixels - low) / (high - low)
    return pixels.astype(np.float32), (low, high)


def file_samples(photo: Photo, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Turn a photo into the samples of a file, alpha as the last channel where it has any.

    Integers are rounded half up and clipped; floats go back to their own range and are not clipped.

    Args:
        photo: What is to be written.
        dtype: uint8, uint16 or float32.

    Returns:
        Samples, (H, W, C or C + 1), of `dtype`.

    Raises:
        ImageError: A value is NaN or infinite.
    """
    for plane in (photo.pixels, photo.alpha):
        if plane is not None and not np.isfinite(plane).all():
            raise ImageError("the result has NaN or infinite values, which no picture can hold; this is a defect")
    height, width, channels = photo.pixels.shape
    samples = np.empty((height, width, channels + photo.has_alpha), dtype)
    low, high = photo.value_range
    if dtype.kind == "u":
        samples[..., :channels] = _rounded(photo.pixels, dtype)
    elif (low, high) == (0.0, 1.0):
        samples[..., :channels] = photo.pixels
    else:
        samples[..., :channels] = photo.pixels.astype(np.float64) * (high - low) + low
    if photo.has_alpha:
        opacity = np.ones((height, width), np.float32) if photo.alpha is None else np.clip(photo.alpha, 0, 1)
        samples[..., -1] = _rounded(opacity, dtype) if dtype.kind == "u" else opacity
    return samples


def _rounded(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    high = float(np.iinfo(dtype).max)
    scaled = values * np.float32(high)
    scaled += np.float32(0.5)
    return np.clip(np.floor(scaled, out=scaled), 0, high, out=scaled).astype(dtype)
