"""Samples that were never measured: NaN, infinity, and the value that a file names for "no data".

They are filled before the work, as a network spreads one NaN over everything, and are put back after it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_holes", "measured", "upscale_valid", "usable_nodata"]


def usable_nodata(nodata: float, dtype: np.dtype[Any]) -> float | None:
    """The value as a sample of `dtype` would hold it; None if none can."""
    if np.isnan(nodata):
        return nodata if dtype.kind == "f" else None
    if dtype.kind == "f":
        # −3.4028235e38 is written with fewer or more digits than float32 has: its nearest value is meant.
        with np.errstate(over="ignore"):
            stored = float(dtype.type(nodata))
        return stored if np.isfinite(stored) else None
    limits = np.iinfo(dtype)
    return nodata if nodata.is_integer() and limits.min <= nodata <= limits.max else None


def measured(samples: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Tell which samples were measured: finite, and not the file's `nodata` value (one of `usable_nodata`)."""
    if samples.dtype.kind == "f":
        valid = np.isfinite(samples)
        if nodata is not None and np.isfinite(nodata):
            valid &= samples != samples.dtype.type(nodata)
        return np.asarray(valid)
    if nodata is None:
        return np.ones(samples.shape, np.bool_)
    return np.asarray(samples != int(nodata))


def fill_holes(pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give every hole the value of the nearest measured sample of its band; a band without any becomes 0.

    Args:
        pixels: Samples, (H, W, C).
        valid: Where they were measured, (H, W, C).

    Returns:
        Samples without holes, (H, W, C), a new array.
    """
    from scipy.ndimage import distance_transform_edt

    filled = pixels.copy()
    same_as, nearest = -1, None  # bands mostly have their holes in the same places
    for band in range(pixels.shape[2]):
        is_hole = ~valid[..., band]
        if not is_hole.any():
            continue
        if is_hole.all():
            filled[..., band] = 0
            continue
        if nearest is None or (valid[..., band] != valid[..., same_as]).any():
            same_as = band
            nearest = distance_transform_edt(is_hole, return_distances=False, return_indices=True)
        rows, columns = nearest[:, is_hole]
        filled[is_hole, band] = pixels[rows, columns, band]
    return filled


def upscale_valid(valid: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Repeat a mask to another size: each place of the result asks the place of the input that its centre lies in.

    Args:
        valid: (H, W, C) or (H, W).
        height: Of the result.
        width: Of the result.

    Returns:
        (height, width, …).
    """
    rows = ((np.arange(height) + 0.5) * valid.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * valid.shape[1] / width).astype(np.intp)
    return np.ascontiguousarray(valid[rows[:, None], columns])
