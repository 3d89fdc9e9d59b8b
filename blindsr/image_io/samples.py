"""Between the samples of a file, integers or floats, and the floats in [0, 1] that the methods work on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.holes import fill_holes, measured
from blindsr.image_io.photo import PhotoHeader, Strip

__all__ = ["SampleScan", "file_samples", "map_samples", "needs_scan", "stored_dtype"]

#: Integers that are divided by their greatest value, whatever the picture holds.
_PHOTOGRAPHIC = (np.dtype(np.uint8), np.dtype(np.uint16))
_MEASURED = tuple(np.dtype(kind) for kind in (np.int8, np.int16, np.int32, np.uint32))
_LARGEST = float(np.finfo(np.float32).max)


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that samples of `dtype` are written back as: all floats as float32.

    Raises:
        ImageError: It is none that can be kept.
    """
    if dtype.kind == "f":
        return np.dtype(np.float32)
    native = dtype.newbyteorder("=")
    if native in _PHOTOGRAPHIC or native in _MEASURED:
        return native
    raise ImageError(f"samples must be floats or integers of at most 32 bits, these are {dtype}; convert the file")


def needs_scan(dtype: np.dtype[Any], nodata: float | None, *, has_alpha: bool) -> bool:
    """Tell whether the samples must be seen before they can be mapped."""
    return dtype not in _PHOTOGRAPHIC or nodata is not None or has_alpha


class SampleScan:
    """What must be known of all samples of a file before the first is mapped; fed in any parts."""

    def __init__(self, dtype: np.dtype[Any], nodata: float | None, *, has_alpha: bool) -> None:
        self.dtype = stored_dtype(dtype)
        self.holes = 0
        self.is_opaque = True
        self._measured = 0
        self._low, self._high = np.inf, -np.inf
        self._nodata, self._has_alpha = nodata, has_alpha

    def add(self, samples: NDArray[Any]) -> None:
        """Look at (h, W, C) samples.

        Raises:
            ImageError: Alpha leaves [0, 1] or is NaN, or a value does not fit into float32.
        """
        colour = samples[..., :-1] if self._has_alpha else samples
        if self._has_alpha:
            self._look_at_alpha(samples[..., -1])
        is_whole = samples.dtype.kind != "f" and self._nodata is None
        seen = colour if is_whole else colour[measured(colour, self._nodata)]
        self.holes += colour.size - seen.size
        self._measured += seen.size
        if seen.size and samples.dtype not in _PHOTOGRAPHIC:
            low, high = float(seen.min()), float(seen.max())
            if max(-low, high) > _LARGEST:
                raise ImageError(f"samples must fit in float32, they span [{low:g}, {high:g}]; scale the file before")
            self._low, self._high = min(self._low, low), max(self._high, high)

    def _look_at_alpha(self, alpha: NDArray[Any]) -> None:
        if alpha.dtype.kind == "f" and not ((alpha >= 0) & (alpha <= 1)).all():
            raise ImageError(
                f"alpha must lie in [0, 1], it spans [{alpha.min():g}, {alpha.max():g}]; scale it, or remove it"
            )
        self.is_opaque = self.is_opaque and bool((alpha == _opaque(alpha.dtype)).all())

    @property
    def value_range(self) -> tuple[float, float]:
        """The values that become 0 and 1.

        Floats that lie in [0, 1] stay as they are; else it is (min(0, least), max(1, greatest)). Signed and 32-bit
        integers, which are measurements, are mapped by the least and the greatest.

        Raises:
            ImageError: No sample was measured.
        """
        if self.holes and not self._measured:
            raise ImageError("every sample is NaN, infinite or marked as no data; there is nothing to enlarge")
        if self.dtype in _PHOTOGRAPHIC:
            return 0.0, float(np.iinfo(self.dtype).max)
        if self.dtype.kind == "f":
            return min(0.0, self._low), max(1.0, self._high)
        return self._low, max(self._high, self._low + 1)


def map_samples(
    samples: NDArray[Any], scan: SampleScan, value_range: tuple[float, float], nodata: float | None, *, has_alpha: bool
) -> Strip:
    """Map samples to [0, 1], part the alpha channel from them, and fill the holes.

    Args:
        samples: (h, W, C); alpha, if there is any, is the last channel.
        scan: What was found out about the whole file.
        value_range: The values that become 0 and 1, one pair for all channels.
        nodata: The file's value for "no data".
        has_alpha: Whether the last channel is alpha.

    Returns:
        Alpha is None if it is 1 everywhere in the file, `valid` if there are no holes anywhere in it.
    """
    colour = samples[..., :-1] if has_alpha else samples
    low, high = value_range
    if low == 0 and colour.dtype.kind != "f" and high < 2**16:
        pixels = np.divide(colour, np.float32(high), dtype=np.float32)
    elif (low, high) == (0.0, 1.0):
        pixels = colour.astype(np.float32)
    else:  # float64: the difference of two great numbers
        with np.errstate(over="ignore", invalid="ignore"):  # only samples that are no data
            pixels = ((colour.astype(np.float64) - low) / (high - low)).astype(np.float32)
    alpha = None
    if has_alpha and not scan.is_opaque:
        alpha = np.divide(samples[..., -1], np.float32(_opaque(samples.dtype)), dtype=np.float32)
    valid = None
    if scan.holes:
        valid = measured(colour, nodata)
        pixels = fill_holes(pixels, valid)
    return Strip(np.ascontiguousarray(pixels), alpha, valid)


def _opaque(dtype: np.dtype[Any]) -> float:
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def file_samples(strip: Strip, header: PhotoHeader, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Turn rows of a photo into the samples of a file, alpha as the last channel where it has any.

    Integers are rounded half up and clipped; floats go back to their own range and are not clipped. Where nothing was
    measured, the samples are the file's "no data" value, or NaN; a measured sample never becomes that value.

    Args:
        strip: What is to be written.
        header: Of the photo.
        dtype: uint8, or the header's own.

    Returns:
        Samples, (h, W, C or C + 1), of `dtype`.

    Raises:
        ImageError: A value is NaN or infinite.
    """
    for plane in (strip.pixels, strip.alpha):
        if plane is not None and not np.isfinite(plane).all():
            raise ImageError("the result has NaN or infinite values, which no picture can hold; this is a defect")
    height, width, channels = strip.pixels.shape
    samples = np.empty((height, width, channels + header.has_alpha), dtype)
    low, high = header.value_range
    colour = samples[..., :channels]
    if dtype in _PHOTOGRAPHIC:
        colour[...] = _rounded(strip.pixels, dtype)
    elif (low, high) == (0.0, 1.0):
        colour[...] = strip.pixels
    else:
        values = strip.pixels.astype(np.float64) * (high - low) + low
        colour[...] = values if dtype.kind == "f" else _rounded_values(values, dtype)
    if dtype == header.dtype:
        _put_holes(colour, strip.valid, header.nodata)
    if header.has_alpha:
        opacity = np.ones((height, width), np.float32) if strip.alpha is None else np.clip(strip.alpha, 0, 1)
        samples[..., -1] = opacity if dtype.kind == "f" else _rounded(opacity, dtype)
    return samples


def _put_holes(colour: NDArray[Any], valid: NDArray[np.bool_] | None, nodata: float | None) -> None:
    """Write "no data" where nothing was measured, in place."""
    if nodata is not None and np.isfinite(nodata):
        is_taken = ~measured(colour, nodata)
        if is_taken.any():
            colour[is_taken] = _neighbour(colour.dtype.type(nodata))
    if valid is not None:
        colour[~valid] = np.nan if nodata is None else nodata


def _neighbour(value: Any) -> Any:  # noqa: ANN401 - a NumPy scalar of any type
    if isinstance(value, np.floating):
        return np.nextafter(value, np.float32(0) if value else np.float32(1))
    return value + 1 if value < np.iinfo(value.dtype).max else value - 1


def _rounded(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    high = float(np.iinfo(dtype).max)
    if high >= 2**24:  # more than float32 counts
        return _rounded_values(values.astype(np.float64) * high, dtype)
    scaled = values * np.float32(high)
    scaled += np.float32(0.5)
    return np.clip(np.floor(scaled, out=scaled), 0, high, out=scaled).astype(dtype)


def _rounded_values(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    return np.clip(np.floor(values + 0.5), limits.min, limits.max).astype(dtype)
