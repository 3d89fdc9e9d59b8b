"""Read a photograph and everything of the file that has to survive."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blindsr.errors import ImageError
from blindsr.image_io.camera_raw import RAW_SUFFIXES, decode_camera_raw
from blindsr.image_io.decoding import MAX_PIXELS, decoding
from blindsr.image_io.header import complete_header, draft_header
from blindsr.image_io.heic import decode_heic, is_heic
from blindsr.image_io.metadata import upright
from blindsr.image_io.photo import Photo
from blindsr.image_io.png_chunks import SIGNATURE
from blindsr.image_io.raw import RawImage
from blindsr.image_io.reading_pillow import NEEDED, decode_pillow, decode_png
from blindsr.image_io.samples import SampleScan, map_samples, needs_scan

__all__ = ["TIFF_SIGNATURES", "decode_file", "is_plain_tiff", "named_errors", "opened", "read_photo"]

TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_SIGNATURE_LENGTH = 32


def read_photo(path: Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a picture file: PNG, JPEG, TIFF and GeoTIFF, WebP, AVIF, BMP, GIF; with their extras HEIC and camera raw.

    The picture is turned upright, palettes are expanded, CMYK becomes sRGB; the colour space is otherwise the
    file's. Of several pages or frames the first is used. Samples that are NaN, infinite or the file's "no data" are
    filled from their neighbours, and `Photo.valid` says where. `Photo.notes` says what was changed.

    Args:
        path: The file.
        max_pixels: A larger picture is refused: a small file may unpack to more than the memory.

    Returns:
        The photo, samples in [0, 1], colour not premultiplied.

    Raises:
        ImageError: The file is missing, empty, a folder, no picture, damaged, too large, its samples are of a type
            that cannot be kept, or it needs a package that is not installed. The message is one line and names the
            file.
    """
    with opened(path) as file, named_errors(path):
        return _photo(decode_file(file, path, max_pixels), path)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a picture file.

    Raises:
        ImageError: It is missing, empty, a folder, no file, or may not be read.
    """
    needed = f"needed a picture file ({NEEDED})"
    try:
        if path.is_dir():
            raise ImageError(f"{path}: {needed}, this is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise ImageError(
                f"{path}: {needed}, this is a device or a pipe; save it as a file, or send it to "
                "standard input and say - instead of a name"
            )
        size, file = path.stat().st_size, path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{path}: {needed}, there is no such file; check the name") from None
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path}: the file cannot be read ({reason}); check its permissions") from error
    with file:
        if not size:
            raise ImageError(f"{path}: {needed}, the file is empty; get an intact copy")
        yield file


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Put the file's name before every message, and end the want of memory and a failing disk in one.

    Raises:
        ImageError: As above.
    """
    try:
        yield
    except ImageError as error:
        text = str(error.args[0])
        if text.startswith(str(path)):
            raise
        raise ImageError(f"{path}: {text}") from error.__cause__
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory for this picture; cut it into parts") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"{path}: the file cannot be read ({reason}); copy it to another disk") from error


def is_plain_tiff(file: BinaryIO, path: Path) -> bool:
    """Tell a TIFF or BigTIFF that is no camera's raw file by its first bytes and its name; leaves the file at 0."""
    head = _head(file)
    return head.startswith(TIFF_SIGNATURES) and path.suffix.lower() not in RAW_SUFFIXES


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    head = file.read(_SIGNATURE_LENGTH)
    file.seek(0)
    return head


def decode_file(file: BinaryIO, path: Path, max_pixels: int) -> RawImage:
    """Decode an open file by what its first bytes say, and add what the decoders said to the notes.

    Raises:
        ImageError: See `read_photo`; the name of the file may still lack.
    """
    with decoding(path, max_pixels) as said:
        raw = _decode(file, path, max_pixels)
    raw.notes.extend(f"the decoder says: {text}" for text in said)
    return raw


def _decode(file: BinaryIO, path: Path, max_pixels: int) -> RawImage:
    if path.suffix.lower() in RAW_SUFFIXES:
        return decode_camera_raw(file.read(), path, max_pixels)
    if is_plain_tiff(file, path):
        from blindsr.image_io.reading_tiff import decode_tiff  # tifffile is loaded only for a TIFF

        return decode_tiff(file, path, max_pixels)
    data = file.read()
    if data.startswith(SIGNATURE):
        return decode_png(data, path, max_pixels)
    if is_heic(data[:_SIGNATURE_LENGTH]):
        return decode_heic(data, path, max_pixels)
    return decode_pillow(data, path, max_pixels)


def _photo(raw: RawImage, path: Path) -> Photo:
    samples = raw.samples
    header, orientation = draft_header(raw, samples.dtype, (samples.shape[1], samples.shape[0]), path)
    scan = SampleScan(samples.dtype, header.nodata, has_alpha=raw.has_alpha)
    if needs_scan(samples.dtype, header.nodata, has_alpha=raw.has_alpha):
        scan.add(samples)
    header = complete_header(header, scan)
    mapped = map_samples(
        upright(samples, orientation), scan, header.value_range, header.nodata, has_alpha=raw.has_alpha
    )
    return header.with_samples(mapped.pixels, mapped.alpha, mapped.valid)
