"""What is done with a broken file, and what of the answer is a failure."""

import contextlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from blindsr.errors import BlindSRError, ImageError
from blindsr.image_io import Photo, Provenance, read_photo, with_provenance, write_photo
from blindsr.image_io.jpeg import jpeg_noise
from blindsr.image_io.probe import picture_size
from blindsr.image_io.strips import open_strips

__all__ = ["READERS", "ReaderError", "attempt", "reader_of"]

#: Small seeds stay small: a header that says 2¹⁶ × 2¹⁶ is refused and not filled with zeros a thousand times over.
MAX_PIXELS = 2**22
_LONGEST_MESSAGE = 1000
_PROVENANCE = Provenance(program="blindsr", details={"scale": 2})


class ReaderError(Exception):
    """A reader did what none may do."""


def _photo(path: Path) -> str:
    """Read it whole, by windows, and write what was read."""
    picture_size(path)
    try:
        photo = read_photo(path, max_pixels=MAX_PIXELS)
    except ImageError:
        # What cannot be read as a whole may begin well; a window must then fail in words, too.
        with contextlib.suppress(ImageError), open_strips(path, max_pixels=MAX_PIXELS) as source:
            source.read(0, min(3, source.size[1]))
        raise
    if not (np.isfinite(photo.pixels).all() and photo.pixels.min() >= 0 and photo.pixels.max() <= 1):
        raise ReaderError("pixels leave [0, 1]")
    if photo.format != "RAW":  # LibRaw fills some of what a broken file lacks with what lies in memory
        _compare_windows(path, photo)
    photo = with_provenance(photo, _PROVENANCE)
    target = path.with_name("written.tif")
    write_photo(photo, target, overwrite=True)
    again = read_photo(target)
    if again.pixels.shape != photo.pixels.shape:
        raise ReaderError("the written file has another shape")
    if photo.dtype in (np.uint8, np.uint16) and photo.channels in (1, 3):
        write_photo(photo, path.with_name("written.png"), overwrite=True)
        if photo.alpha is None:
            write_photo(photo, path.with_name("written.jpg"), overwrite=True)
    return "; ".join(photo.notes)


def _compare_windows(path: Path, photo: Photo) -> None:
    with open_strips(path, max_pixels=MAX_PIXELS) as source:
        height = source.size[1]
        if source.size != photo.size or source.channels != photo.channels:
            raise ReaderError("windows say another size than the whole")
        middle = height // 2
        for top, bottom in ((0, middle), (middle, height)):
            if top == bottom:
                continue
            part = source.read(top, bottom)
            known = np.ones(part.pixels.shape, bool) if part.valid is None else part.valid
            if not np.array_equal(part.pixels[known], photo.pixels[top:bottom][known]):
                raise ReaderError("windows differ from the whole")


def _jpeg(path: Path) -> str:
    said = _photo_or_error(path)
    jpeg_noise(path)
    if isinstance(said, BlindSRError):
        raise said
    return said


def _photo_or_error(path: Path) -> str | BlindSRError:
    try:
        return _photo(path)
    except BlindSRError as error:
        return error


def _kernel(path: Path) -> str:
    from blindsr.kernels.files import read_kernel

    return str(read_kernel(path, scale=2)[1:])


def _config(path: Path) -> str:
    from blindsr.cli._configfile import read_tables, table_values
    from blindsr.spectral.config import SpectralConfig
    from blindsr.zssr.start.config import StartConfig

    tables = read_tables(path)
    table_values(tables["spectral"], SpectralConfig, "spectral")
    return str(sorted(table_values(tables["zssr"], StartConfig, "zssr")))


def _lines(path: Path) -> str:
    from blindsr.pipelines.jsonlines import read_lines

    return str(sum(1 for _ in read_lines(path)))


READERS: dict[str, Callable[[Path], str]] = {
    **dict.fromkeys(("png", "tif", "webp", "avif", "bmp", "gif", "heic", "dng"), _photo),
    "jpg": _jpeg,
    **dict.fromkeys(("npz", "npy", "mat", "txt", "csv"), _kernel),
    "toml": _config,
    "jsonl": _lines,
}


def reader_of(name: str) -> Callable[[Path], str]:
    """The reader of a seed."""
    return READERS[name.rpartition(".")[2]]


def attempt(name: str, path: Path) -> tuple[str, str]:
    """Give a file to its reader.

    Returns:
        "read" or "refused", and what was said of it with numbers left out: inputs that say something new are kept.

    Raises:
        ReaderError: Anything but a result or a `BlindSRError` of one line came of it; a warning is a failure, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            kind, said = "read", reader_of(name)(path)
        except BlindSRError as error:
            kind, said = "refused", str(error)
            if "\n" in said or len(said) > _LONGEST_MESSAGE or "defect" in said:
                raise ReaderError(f"a message is no good: {said[:300]!r}") from error
        except ReaderError:
            raise
        except Exception as error:
            raise ReaderError(f"{type(error).__name__}: {error}") from error
    return kind, re.sub(r"[\d.]+|0x[0-9a-f]+", "#", said.replace(str(path), ""))[:200]
