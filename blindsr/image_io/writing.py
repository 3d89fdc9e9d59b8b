"""Write a photograph in the depth, channels and colour space that it came in: as a whole, or while its rows come."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import BlindSRError, OutputError
from blindsr.image_io.formats import check_format, default_suffix, losses
from blindsr.image_io.output import atomic_file, check_output
from blindsr.image_io.photo import Photo, PhotoHeader, Strip
from blindsr.image_io.png16 import png_parts
from blindsr.image_io.png_metadata import png_metadata
from blindsr.image_io.samples import file_samples
from blindsr.image_io.writing_heic import encode_heic
from blindsr.image_io.writing_pillow import encode_avif, encode_jpeg, encode_webp

__all__ = ["write_photo", "write_strips"]


@dataclass(frozen=True, kw_only=True)
class _Target:
    """What an encoder is asked for; `shape` is (H, W, C with alpha)."""

    header: PhotoHeader
    shape: tuple[int, int, int]
    quality: int | None
    notes: list[str] = field(default_factory=list)

    def rows(self, strips: Iterable[Strip], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """The samples of the file, strip by strip; they are counted.

        Raises:
            OutputError: The strips do not fill the picture.
        """
        height, width, channels = self.shape
        done = 0
        for strip in _marked(strips):
            samples = file_samples(strip, self.header, dtype)
            done += len(samples)
            if samples.shape[1:] != (width, channels) or done > height:
                raise OutputError(
                    f"a strip must be (h, {width}, {channels}) and all together {height} rows, got {samples.shape} "
                    f"and {done} rows; this is a defect"
                )
            yield samples
        if done != height:
            raise OutputError(f"the strips must be {height} rows together, they are {done}; this is a defect")


class _StripsError(Exception):
    """Carries what the caller's strips raised past those who would take it for a failure to write."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _marked(strips: Iterable[Strip]) -> Iterator[Strip]:
    try:
        yield from strips
    except Exception as error:
        raise _StripsError(error) from error


def write_photo(photo: Photo, path: Path, *, overwrite: bool = False, quality: int | None = None) -> tuple[str, ...]:
    """Write a photo; the suffix of `path` names its format, one of `formats.WRITTEN`.

    PNG and TIFF keep every bit. WebP is lossless unless `quality` is given. The file is there as a whole or not
    at all.

    Args:
        photo: What is written, with its depth, alpha, profile, EXIF, XMP, resolution and georeference.
        path: The file.
        overwrite: Replace a file that exists.
        quality: 1 to 100 for the lossy formats; None is 95, lossless for WebP.

    Returns:
        Sentences on what the format could not keep.

    Raises:
        OutputError: The suffix is not known, the format cannot hold the channels, alpha or floats, the file
            exists, the folder refuses, or the disk is full. Nothing is left behind.
    """
    is_transparent = photo.alpha is not None
    check_format(photo, photo.channels, path, size=photo.size, is_transparent=is_transparent, quality=quality)
    return _write(photo, photo.channels, path, photo.size, [photo.samples], overwrite=overwrite, quality=quality)


def write_strips(
    header: PhotoHeader,
    path: Path,
    *,
    size: tuple[int, int],
    channels: int,
    strips: Iterable[Strip],
    overwrite: bool = False,
    quality: int | None = None,
) -> tuple[str, ...]:
    """Write a photo while its rows come; a TIFF that may pass 4 GB becomes a BigTIFF.

    Args:
        header: Everything but the samples.
        path: The file; see `write_photo`.
        size: Width and height.
        channels: Without alpha.
        strips: Rows from top to bottom, each strip of any height. PNG and TIFF are written as they come; other
            formats are collected first, in 8 bits, or 16 for a HEIC of such a photo. What it raises passes through, and
            nothing is left behind.
        overwrite: Replace a file that exists.
        quality: As for `write_photo`.

    Returns:
        Sentences on what the format could not keep.

    Raises:
        OutputError: As `write_photo`; or the strips do not fill the picture.
    """
    check_format(header, channels, path, size=size, is_transparent=False, quality=quality)
    return _write(header, channels, path, size, strips, overwrite=overwrite, quality=quality)


def _write(
    header: PhotoHeader,
    channels: int,
    path: Path,
    size: tuple[int, int],
    strips: Iterable[Strip],
    *,
    overwrite: bool,
    quality: int | None,
) -> tuple[str, ...]:
    check_output(path, overwrite=overwrite)
    target = _Target(header=header, shape=(size[1], size[0], channels + header.has_alpha), quality=quality)
    target.notes.extend(losses(header, path))
    try:
        with atomic_file(path, overwrite=overwrite) as file:
            _ENCODERS[path.suffix.lower()](target, strips, file)
    except _StripsError as failed:
        raise failed.error from failed.error.__cause__
    except MemoryError as error:
        raise OutputError(f"not enough memory to encode {path.name}; write a smaller picture") from error
    return tuple(target.notes)


def _encode_png(target: _Target, strips: Iterable[Strip], file: BinaryIO) -> None:
    dtype = target.header.dtype
    chunks = png_metadata(target.header, (target.shape[1], target.shape[0]))
    for part in png_parts(target.shape, dtype, target.rows(strips, dtype), chunks):
        file.write(part)


def _encode_tiff(target: _Target, strips: Iterable[Strip], file: BinaryIO) -> None:
    from blindsr.image_io.writing_tiff import encode_tiff  # tifffile is loaded only for a TIFF

    encode_tiff(target.header, target.shape, target.rows(strips, target.header.dtype), file)


def _collected(
    encode: Callable[[PhotoHeader, NDArray[Any], list[str], int | None], bytes],
    *,
    keeps_depth: bool = False,
) -> Callable[[_Target, Iterable[Strip], BinaryIO], None]:
    def encode_collected(target: _Target, strips: Iterable[Strip], file: BinaryIO) -> None:
        samples = np.empty(target.shape, target.header.dtype if keeps_depth else np.uint8)
        top = 0
        for rows in target.rows(strips, samples.dtype):
            samples[top : top + len(rows)] = rows
            top += len(rows)
        try:
            data = encode(target.header, samples, target.notes, target.quality)
        except (OSError, ValueError) as error:
            if isinstance(error, BlindSRError):
                raise
            better = default_suffix(target.header, target.shape[2] - target.header.has_alpha)
            raise OutputError(f"cannot encode this picture: {error}; choose {better}") from error
        file.write(data)

    return encode_collected


_ENCODERS: dict[str, Callable[[_Target, Iterable[Strip], BinaryIO], None]] = {
    ".png": _encode_png,
    ".tif": _encode_tiff,
    ".tiff": _encode_tiff,
    ".jpg": _collected(encode_jpeg),
    ".jpeg": _collected(encode_jpeg),
    ".webp": _collected(encode_webp),
    ".avif": _collected(encode_avif),
    ".heic": _collected(encode_heic, keeps_depth=True),
    ".heif": _collected(encode_heic, keeps_depth=True),
}
