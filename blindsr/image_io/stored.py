"""Where windows of a file's samples come from: a TIFF's strips and tiles, or a picture decoded as a whole."""

from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from blindsr.image_io.decoding import decoding
from blindsr.image_io.metadata import swaps_axes
from blindsr.image_io.raw import RawHeader, RawImage
from blindsr.image_io.reading_tiff import check_page
from blindsr.image_io.tiff_colours import page_colours
from blindsr.image_io.tiff_header import tiff_header
from blindsr.image_io.tiff_rows import PageRows, is_windowable

__all__ = ["InMemory", "Stored", "TiffPageSamples", "stored_tiff"]


class Stored(Protocol):
    """Samples as the file stores them, not turned."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
        """Read a window, (rows, columns, S)."""


class InMemory:
    """Samples of a format that can only be decoded as a whole, kept in the file's own depth."""

    def __init__(self, raw: RawImage) -> None:
        self._samples = raw.samples

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self._samples.shape[0], self._samples.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""
        return self._samples.dtype

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
        """Give a view of a window."""
        return self._samples[top:bottom, left:right]


class TiffPageSamples:
    """Samples of the first page of a TIFF, its colours turned into gray, RGB or bands."""

    def __init__(self, page: tifffile.TiffPage, header: RawHeader, path: Path) -> None:
        self._page, self._path = page, path
        self._rows = PageRows(page)
        first = self._rows.read(0, 1, 0, 1)
        first, header.has_alpha, header.icc_profile = page_colours(page, first, header.notes, is_pillow=False)
        self._dtype: np.dtype[Any] = first.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self._rows.height, self._rows.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""
        return self._dtype

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
        """Read a window from the file.

        Raises:
            ImageError: The file is damaged there.
        """
        with decoding(self._path):
            samples = self._rows.read(top, bottom, left, right)
            return page_colours(self._page, samples, [], is_pillow=False)[0]


def stored_tiff(
    file: tifffile.TiffFile, stream: BinaryIO, path: Path, max_pixels: int
) -> tuple[RawHeader, TiffPageSamples] | None:
    """Open the first page for reading by windows; None if it has to be decoded as a whole.

    Raises:
        ImageError: See `decode_tiff`.
        Exception: Whatever tifffile raises on damaged files.
    """
    page = file.pages.first
    check_page(page, path, max_pixels, stream.seek(0, 2))
    if not is_windowable(page):
        return None
    header = tiff_header(file, page, stream)
    if swaps_axes(header.orientation):  # a row of the picture would be a column of the file
        return None
    return header, TiffPageSamples(page, header, path)
