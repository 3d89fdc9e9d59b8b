"""A window of a TIFF page: only the strips or tiles that it touches are read and decoded."""

import math
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.decoding import unprinted

__all__ = ["PageRows", "is_windowable", "segment_count"]


def is_windowable(page: tifffile.TiffPage) -> bool:
    """Tell whether `PageRows` reads this page: with segments that are placed independently, and a codec at hand."""
    if page.jpegheader is not None or (page.is_subsampled and page.compression == 1):
        return False
    if page.is_contiguous:
        return bool(page.is_memmappable)
    try:
        page.decode(None, 0)  # the decoder is built now, or tells that its package is missing
    except (ValueError, RuntimeError, ImportError, NotImplementedError):
        return False
    return True


def segment_count(page: tifffile.TiffPage) -> int:
    """Strips or tiles that the page must have; 1 where they lie one after another."""
    if page.is_contiguous:
        return 1
    planes, _, height, width, _ = page.shaped
    if page.is_tiled:
        return int(planes * math.ceil(height / max(1, page.tilelength)) * math.ceil(width / max(1, page.tilewidth)))
    return int(planes * math.ceil(height / max(1, page.rowsperstrip)))


class PageRows:
    """The samples of a page, (H, W, S), by windows."""

    def __init__(self, page: tifffile.TiffPage) -> None:
        self._page = page
        self._planes, _, self.height, self.width, self._contiguous = (int(n) for n in page.shaped)
        # Of the last window: the next one mostly begins in the segments that this one ended in.
        self._decoded: dict[int, NDArray[Any] | None] = {}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples, in the machine's byte order."""
        return np.dtype(self._page.dtype).newbyteorder("=")

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
        """Read rows top … bottom − 1 and columns left … right − 1 as (rows, columns, S).

        Raises:
            ImageError: The file ends early or a segment has another size than it says.
            Exception: Whatever the decoder raises on damaged segments.
        """
        shape = (self._planes, bottom - top, right - left, self._contiguous)
        window = np.empty(shape, self.dtype)
        if self._page.is_memmappable:
            self._read_stored(window, top, left)
        else:
            self._read_segments(window, top, left)
        # Planes, then samples within a pixel: one of the two numbers is 1.
        return np.ascontiguousarray(np.moveaxis(window, 0, -1).reshape(bottom - top, right - left, -1))

    def _read_stored(self, window: NDArray[Any], top: int, left: int) -> None:
        """Of a page whose samples lie one after another, not compressed."""
        handle = self._page.parent.filehandle
        planes, rows, columns, contiguous = window.shape
        stored = np.dtype(self._page.parent.byteorder + self.dtype.char)
        row_samples = self.width * contiguous
        for plane in range(planes):
            offset = self._page.dataoffsets[0] + (plane * self.height + top) * row_samples * stored.itemsize
            handle.seek(offset)
            data = handle.read(rows * row_samples * stored.itemsize)
            if len(data) != rows * row_samples * stored.itemsize:
                raise ImageError("the TIFF ends before its last row; get an intact copy")
            whole = np.frombuffer(data, stored).reshape(rows, self.width, contiguous)
            window[plane] = whole[:, left : left + columns]

    def _read_segments(self, window: NDArray[Any], top: int, left: int) -> None:
        rows, columns = window.shape[1:3]
        touched = self._touched(top, top + rows, left, left + columns)
        self._decoded = {index: self._decoded[index] for index in touched if index in self._decoded}
        for index in touched:
            if index not in self._decoded:
                self._decoded[index] = self._segment(index)
            plane, y, x = self._place(index)
            segment = self._decoded[index]
            height, width = self._segment_size if segment is None else segment.shape[:2]
            # Where segment and window meet, in coordinates of the page; a tile may stand out over the page's edge.
            y0, y1 = max(y, top), min(y + height, top + rows, self.height)
            x0, x1 = max(x, left), min(x + width, left + columns, self.width)
            target = window[plane, y0 - top : y1 - top, x0 - left : x1 - left]
            target[...] = self._page.nodata if segment is None else segment[y0 - y : y1 - y, x0 - x : x1 - x]

    @property
    def _segment_size(self) -> tuple[int, int]:
        page = self._page
        return (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.width)

    def _touched(self, top: int, bottom: int, left: int, right: int) -> list[int]:
        height, width = self._segment_size
        down, across = math.ceil(self.height / height), math.ceil(self.width / width)
        rows, columns = range(top // height, (bottom - 1) // height + 1), range(left // width, (right - 1) // width + 1)
        planes = range(self._planes)
        return [(plane * down + row) * across + column for plane in planes for row in rows for column in columns]

    def _place(self, index: int) -> tuple[int, int, int]:
        height, width = self._segment_size
        down, across = math.ceil(self.height / height), math.ceil(self.width / width)
        return index // (down * across), index // across % down * height, index % across * width

    def _segment(self, index: int) -> NDArray[Any] | None:
        """Read and decode one strip or tile, (h, w, S); None where the file leaves it out."""
        page = self._page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count or not offset:
            return None
        handle = page.parent.filehandle
        handle.seek(offset)
        data = handle.read(count)
        with unprinted():  # libjpeg
            segment, _, shape = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        if segment is None:
            return None
        if segment.shape[0] != 1 or segment.shape[3] != self._contiguous:
            raise ImageError(f"a segment of the TIFF has the shape {segment.shape}, needed {shape}; get an intact copy")
        plain: NDArray[Any] = segment[0]
        return plain
