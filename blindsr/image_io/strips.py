"""Pictures that do not fit into memory as floats: read and written by rows.

TIFF files are read from their strips and tiles, PNG and TIFF files are written as the rows come; other formats are
held in their own depth, 8 bits mostly, which is a fourth of what the methods work on.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.decoding import MAX_PIXELS, decoding
from blindsr.image_io.header import complete_header, draft_header
from blindsr.image_io.metadata import stored_window, upright
from blindsr.image_io.photo import Photo, PhotoHeader, Strip
from blindsr.image_io.raw import RawHeader
from blindsr.image_io.reading import decode_file, is_plain_tiff, named_errors, opened
from blindsr.image_io.samples import SampleScan, map_samples, needs_scan
from blindsr.image_io.stored import InMemory, Stored, stored_tiff
from blindsr.image_io.writing import write_strips

__all__ = ["PhotoSource", "Strip", "open_strips", "write_strips"]

_SCAN_SAMPLES = 2**22  # looked at together when a file is scanned


class PhotoSource:
    """An open picture file, upright, read by windows. See `open_strips`.

    Args:
        raw: What the decoder found beside the samples.
        stored: Where the samples come from.
        path: For messages.

    Raises:
        ImageError: The samples cannot be kept or are damaged, or none was measured.
    """

    def __init__(self, raw: RawHeader, stored: Stored, path: Path) -> None:
        self._stored, self._path = stored, path
        height, width = stored.shape
        draft, self._orientation = draft_header(raw, stored.dtype, (width, height), path)
        self.size: tuple[int, int] = draft.source_size or (width, height)
        first = stored.read(0, 1, 0, 1)
        self.channels: int = first.shape[2] - raw.has_alpha
        self._scan = SampleScan(stored.dtype, draft.nodata, has_alpha=raw.has_alpha)
        if needs_scan(stored.dtype, draft.nodata, has_alpha=raw.has_alpha):
            rows = max(1, _SCAN_SAMPLES // (width * first.shape[2]))
            for top in range(0, height, rows):
                self._scan.add(stored.read(top, min(height, top + rows), 0, width))
        self.header: PhotoHeader = complete_header(draft, self._scan)

    @property
    def is_transparent(self) -> bool:
        """Whether alpha is under 1 anywhere; then every window has it, else none."""
        return self.header.has_alpha and not self._scan.is_opaque

    @property
    def has_holes(self) -> bool:
        """Whether any sample is no data; then every window says where, else none."""
        return self._scan.holes > 0

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> Photo:
        """Read rows top … bottom − 1, and of them columns left … right − 1 (None: to the last).

        Holes are filled from what the window holds.

        Raises:
            ImageError: The window does not lie in the picture, or the file is damaged.
        """
        width, height = self.size
        right = width if right is None else right
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ImageError(
                f"a window must lie in the {width}×{height} picture and not be empty, got rows {top} to {bottom}, "
                f"columns {left} to {right}"
            )
        with named_errors(self._path):
            window = self._stored.read(*stored_window((top, bottom, left, right), self.size, self._orientation))
        samples: NDArray[Any] = upright(window, self._orientation)
        header = self.header
        mapped = map_samples(samples, self._scan, header.value_range, header.nodata, has_alpha=header.has_alpha)
        return header.with_samples(mapped.pixels, mapped.alpha, mapped.valid)


@contextmanager
def open_strips(path: Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[PhotoSource]:
    """Open a picture file of any kind to read it by windows; what they hold is what `read_photo` gives there.

    Samples that are NaN or "no data" are the exception: they are filled from the window, not from the whole picture.

    Args:
        path: The file.
        max_pixels: A larger picture is refused.

    Yields:
        The open file. Of a TIFF (other than one turned by 90°) no more is in memory than what is read; of other
        formats all samples are, in the file's own depth.

    Raises:
        ImageError: As `read_photo`.
    """
    with opened(path) as file, ExitStack() as stack:
        with named_errors(path):
            raw: RawHeader | None = None
            stored: Stored | None = None
            if is_plain_tiff(file, path):
                with decoding(path, max_pixels) as said:
                    tiff = stack.enter_context(tifffile.TiffFile(file))
                    found = stored_tiff(tiff, file, path, max_pixels)
                if found is not None:
                    raw, stored = found
                    raw.notes.extend(f"the decoder says: {text}" for text in said)
            if raw is None or stored is None:
                file.seek(0)
                image = decode_file(file, path, max_pixels)
                raw, stored = image, InMemory(image)
            source = PhotoSource(raw, stored, path)
        yield source
