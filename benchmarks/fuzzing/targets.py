"""How a broken file is read, and which outcomes are failures."""

import contextlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np

from blindsr.errors import BlindSRError, ImageError
from blindsr.image_io import (
    FileOptions,
    Photo,
    Provenance,
    image_size,
    open_frames,
    open_image,
    read_photo,
    with_provenance,
    write_photo,
)
from blindsr.image_io.codecs import tiff
from blindsr.ops.jpeg import jpeg_noise_sigma

__all__ = ["READERS", "ReaderError", "attempt", "reader_of"]

# A mutated header of 2¹⁶ × 2¹⁶ px is refused; decoding it would fill 12 GB with zeros, thousands of times.
MAX_PIXELS = 2**22
_MAX_MESSAGE = 1000
_MAX_FRAMES = 20
_PROVENANCE = Provenance(program="blindsr", details={"scale": 2})


class ReaderError(Exception):
    """A reader did something that is a failure."""


def _photo(path: Path) -> str:
    """Read an image as a whole and by windows, and write it."""
    image_size(path)
    try:
        photo = read_photo(path, max_pixels=MAX_PIXELS)
    except ImageError:
        # The first rows may be intact; a window must then fail with an ImageError, too.
        with contextlib.suppress(ImageError), open_image(path, max_pixels=MAX_PIXELS) as source:
            source.window(slice(0, min(3, source.size[1])), slice(0, source.size[0]))
        raise
    if not (np.isfinite(photo.pixels).all() and photo.pixels.min() >= 0 and photo.pixels.max() <= 1):
        raise ReaderError("pixels are outside of [0, 1]")
    _all_frames(path)
    if photo.format != "RAW":  # LibRaw fills missing samples with uninitialised memory
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
    return "; ".join(photo.warnings)


def _all_frames(path: Path) -> None:
    """Read every image of the file; one that is broken is refused."""
    with contextlib.suppress(ImageError), open_frames(path, options=FileOptions(max_pixels=MAX_PIXELS)) as frames:
        for index in range(min(len(frames), _MAX_FRAMES)):
            image = frames[index]
            part = image.window(slice(0, min(3, image.size[1])), slice(0, image.size[0]))
            if not (np.isfinite(part.pixels).all() and part.pixels.min() >= 0 and part.pixels.max() <= 1):
                raise ReaderError(f"pixels of image {index + 1} are outside of [0, 1]")


def _compare_windows(path: Path, photo: Photo) -> None:
    # A limit of 0: small TIFF files are read by windows like large ones.
    with patch.object(tiff, "_CACHED_BYTES", 0), open_image(path, max_pixels=MAX_PIXELS) as source:
        if not jpeg_noise_sigma(source.jpeg_tables) >= 0 or len(source.sha256) != 64:
            raise ReaderError("a source has no digest or no noise level")
        height = source.size[1]
        if source.size != photo.size or source.channels != photo.channels:
            raise ReaderError("windows have another size than the whole")
        middle = height // 2
        for top, bottom in ((0, middle), (middle, height)):
            if top == bottom:
                continue
            part = source.window(slice(top, bottom), slice(0, source.size[0]))
            known = np.ones(part.pixels.shape, bool) if part.valid is None else part.valid
            if not np.array_equal(part.pixels[known], photo.pixels[top:bottom][known]):
                raise ReaderError("windows differ from the whole")


def _kernel(path: Path) -> str:
    """Read a kernel, one for each band, or a map of kernels."""
    from blindsr.kernels.files import load_kernel

    return str(load_kernel(path, 2)[1:])


def _config(path: Path) -> str:
    from blindsr.cli.options import Options
    from blindsr.cli.settings import make_run

    return str(make_run(Options(config=path)).settings.configs)


def _lines(path: Path) -> str:
    from blindsr.jsonlines import read_lines

    return str(sum(1 for _ in read_lines(path)))


READERS: dict[str, Callable[[Path], str]] = {
    **dict.fromkeys(("png", "jpg", "tif", "webp", "avif", "bmp", "gif", "heic", "dng", "jp2", "j2k", "fits"), _photo),
    **dict.fromkeys(("npz", "npy", "mat", "txt", "csv"), _kernel),
    "toml": _config,
    "jsonl": _lines,
}


def reader_of(name: str) -> Callable[[Path], str]:
    """The reader of a seed."""
    return READERS[name.rpartition(".")[2]]


def attempt(name: str, path: Path) -> tuple[str, str]:
    """Read a file.

    Returns:
        "read" or "refused", and its warnings or its error without numbers: inputs with a new one become seeds.

    Raises:
        ReaderError: The outcome is neither a result nor a `BlindSRError` of one line; a warning is a failure, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            kind, message = "read", reader_of(name)(path)
        except BlindSRError as error:
            kind, message = "refused", str(error)
            if "\n" in message or len(message) > _MAX_MESSAGE or "defect" in message:
                raise ReaderError(f"a message has several lines or is too long: {message[:300]!r}") from error
        except ReaderError:
            raise
        except Exception as error:
            raise ReaderError(f"{type(error).__name__}: {error}") from error
    return kind, re.sub(r"[\d.]+|0x[0-9a-f]+", "#", message.replace(str(path), ""))[:200]
