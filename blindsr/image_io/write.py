"""Write a photograph in the depth, channels and colour space that it came in, row by row; files as a whole or not."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from blindsr.errors import BlindSRError, OutputError, is_disk_full, reason_of
from blindsr.image_io.codecs import Encoder, Target
from blindsr.image_io.formats import FileFormat, default_suffix, format_of, writable_suffixes
from blindsr.image_io.metadata import OWN_KEYWORDS, has_foreign_exif, has_foreign_xmp
from blindsr.image_io.samples import Animation, Photo, PhotoHeader, Strip, file_samples

_COMMENT = "Comment"  # the keyword of a text
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_EXISTS = "{} exists already; use --force to overwrite it (overwrite=True in Python), or -o for another name"
_FOLDER_REFUSES = "cannot write in the folder {}; change its permissions, or choose another"
# What os.link returns on a file system without hard links (FAT, some network mounts).
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EACCES}


def check_format(
    header: PhotoHeader,
    channels: int,
    path: Path,
    *,
    size: tuple[int, int],
    is_transparent: bool,
    quality: int | None = None,
    images: int = 1,
    animation: Animation | None = None,
) -> FileFormat:
    """Refuse, before the work and without encoding anything, what could not be written.

    Args:
        header: Type of the samples and metadata of the result.
        channels: Number of bands, without alpha.
        path: The file, whose suffix decides the format.
        size: Width and height, px.
        is_transparent: Whether some pixels are not opaque.
        quality: 1 to 100, for JPEG, WebP, AVIF and HEIC; None is the default.
        images: Number of pages or frames.
        animation: Durations and loops of frames; None for pages, or one image.

    Returns:
        The format.

    Raises:
        OutputError: The suffix is unknown or of a format that is only read; the format cannot hold the samples, bands,
            alpha, size or quality; or its encoder is not installed.
    """
    format_ = format_of(path)
    suffix, stem = path.suffix.lower(), path.stem
    is_transparent = is_transparent or header.alpha_is_data
    header, channels = _as_stored(header, channels)
    if format_ is not None and not format_.is_written:
        raise OutputError(f"{format_.title} is not written; name the output {stem}{default_suffix(header, channels)}")
    if format_ is None:
        raise OutputError(
            f"the suffix of the output must be one of {', '.join(writable_suffixes())}, got {suffix!r}; "
            f"rename {path.name}"
        )
    if quality is not None and not 1 <= quality <= 100:
        raise OutputError(f"quality must be from 1 to 100, got {quality}")
    if quality is not None and format_.lossless:
        raise OutputError(f"quality is for JPEG, WebP, AVIF and HEIC, {suffix} keeps every bit; leave it out")
    if quality is not None and format_.name == "gif":
        raise OutputError("quality is for JPEG, WebP, AVIF and HEIC, a GIF has none to choose; leave it out")
    if header.dtype.name not in format_.dtypes:
        kind = "floats" if header.dtype.kind == "f" else f"{header.dtype} samples"
        raise OutputError(f"{suffix} holds no {kind}; write {stem}.tif")
    if format_.bands is not None and channels not in format_.bands:
        raise OutputError(f"{suffix} holds grey or RGB, not {channels} bands; write {stem}.tif")
    if format_.max_side is not None and max(size) > format_.max_side:
        raise OutputError(
            f"{suffix} holds at most {format_.max_side} px a side, the result has {size[0]}×{size[1]}; write {stem}.png"
        )
    if is_transparent and not format_.alpha:
        raise OutputError(f"{suffix} holds no alpha channel; write {stem}.png")
    if images > 1 and format_.frames != "pages" and (animation is None or not format_.frames):
        kind = "frames: write .png, .webp, .gif or .tif" if animation else f"pages: write {stem}.tif"
        raise OutputError(f"{suffix} cannot store {images} {kind}, or choose one page")
    missing = getattr(format_.module, "missing", None)
    if missing is not None and (reason := missing(format_)) is not None:
        raise OutputError(f"{reason}; write {stem}.png")
    return format_


def _as_stored(header: PhotoHeader, channels: int) -> tuple[PhotoHeader, int]:
    """Header and number of bands without alpha as a file has them: a last band that it called alpha is so again."""
    if not header.alpha_is_data:
        return header, channels
    return replace(header, has_alpha=True, alpha_is_data=False), channels - 1


def _losses(target: Target) -> list[str]:
    """Sentences on the metadata that a format has no place for."""
    header, format_ = target.header, target.format
    warnings: list[str] = []
    if target.animation is not None and format_.frames != "animation":
        warnings.append("the durations of the frames are kept in a PNG, WebP or GIF only: they are left out")
    # sRGB is what a reader without a profile assumes anyway, and a profile has precedence over all others but cICP.
    chunks = [name.decode() for name, _ in header.png_colour if name != b"sRGB"]
    has_srgb = any(name == b"sRGB" for name, _ in header.png_colour)
    keeps = format_.keeps
    if header.is_premultiplied and format_.name != "tiff":
        warnings.append(
            "the colours are multiplied by the alpha channel, which is data, and stay so; only a TIFF can say it"
        )
    if "colour chunks" not in keeps and chunks and not has_srgb and not header.icc_profile:
        warnings.append(f"the PNG's colour description ({', '.join(chunks)}) is kept in a PNG only: it is left out")
    kept = (*OWN_KEYWORDS, _COMMENT) if "comment" in keeps else OWN_KEYWORDS
    names = list(dict.fromkeys(keyword for keyword, _ in header.texts if keyword not in kept))
    if "texts" not in keeps and names == [_COMMENT]:
        warnings.append("the comment of the file is kept in a PNG or JPEG only: it is left out")
    elif "texts" not in keeps and names:
        where = "a PNG only (the comment in a JPEG as well)" if _COMMENT in names else "a PNG only"
        warnings.append(f"texts of the file ({', '.join(names)}) are kept in {where}: they are left out")
    if header.iptc and "iptc" not in keeps:
        warnings.append("the IPTC captions are kept in a TIFF or JPEG only: they are left out")
    described = {
        "profile": ("the colour profile", header.icc_profile is not None),
        "exif": ("the EXIF block", has_foreign_exif(header.exif)),
        "xmp": ("the XMP packet", has_foreign_xmp(header.xmp)),
        "resolution": ("the resolution", header.dpi is not None),
    }
    lost = [name for key, (name, is_there) in described.items() if is_there and key in format_.lacks]
    if lost:
        together = " and ".join([", ".join(lost[:-1]), lost[-1]] if lost[1:] else lost)
        verb, what = ("have", "they are") if lost[1:] else ("has", "it is")
        warnings.append(f"{together} {verb} no place in a {format_.title} file: {what} left out")
    if header.cards and "cards" not in keeps:
        warnings.append("the header of the FITS file, with its sky coordinates, is kept in a FITS file only: left out")
    measured = {
        "the georeference": header.geo is not None,
        "the size of a pixel (ImageJ, OME)": header.calibration is not None,
        # FITS has a value of its own for missing data.
        f"the no-data value {header.nodata or 0:g}": header.nodata is not None and format_.name != "fits",
    }
    losses = [f"{name} is kept in a TIFF only: it is left out" for name, is_there in measured.items() if is_there]
    if header.has_mask:
        losses.append("the mask of missing data is kept in a TIFF only: it is left out, and the filled values stay")
    return warnings + (losses if "geo" not in keeps else [])


class ImageWriter:
    """Writes one image, rows from top to bottom. See `open_writer`."""

    def __init__(self, target: Target, path: Path, header: PhotoHeader) -> None:
        self._target, self._path, self._header, self._rows = target, path, header, 0
        target.warnings.extend(_losses(target))
        with self._errors():
            self._encoder: Encoder = target.format.module.encoder(target)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what the format cannot keep; complete once the writer is closed."""
        return tuple(dict.fromkeys(self._target.warnings))

    def next_image(self, header: PhotoHeader, *, size: tuple[int, int], channels: int) -> None:
        """End an image, and begin the next page or frame of the same file."""
        self._check_rows()
        self._rows = 0
        self._header, (stored, bands) = header, _as_stored(header, channels)
        self._target = replace(self._target, header=stored, size=size, channels=bands)
        with self._errors():
            self._encoder.next_image(self._target)

    def write(self, rows: Strip) -> None:
        """Write the next rows, over the whole width, any number of them."""
        height, width, channels = self._target.shape
        samples = file_samples(rows, self._header, self._encoder.dtype)
        self._rows += len(samples)
        if samples.shape[1:] != (width, channels) or self._rows > height:
            raise OutputError(
                f"rows must be (h, {width}, {channels}) and {height} in all, got {samples.shape} and {self._rows} "
                "rows; internal error; please report it"
            )
        with self._errors():
            self._encoder.write(samples, rows.valid)

    def close(self) -> None:
        """Finish the content; an OutputError if rows are missing, or the encoder or the system refuses."""
        self._check_rows()
        with self._errors():
            self._encoder.close()
            self._target.file.flush()

    def _check_rows(self) -> None:
        if self._rows != self._target.shape[0]:
            raise OutputError(
                f"{self._target.shape[0]} rows must be written, got {self._rows}; internal error; please report it"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert what encoders and the file system raise to an OutputError of one line."""
        try:
            yield
        except BlindSRError:
            raise
        except MemoryError as error:
            raise OutputError(f"not enough memory to encode {self._path.name}; write a smaller image") from error
        except Exception as error:  # encoders in C raise ValueError, OSError, RuntimeError and others
            if isinstance(error, OSError) and error.errno is not None:
                with _output_errors(self._path, 0 if self._target.file.closed else self._target.file.tell()):
                    raise
            better = default_suffix(self._target.header, self._target.channels)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OutputError(f"cannot encode this image: {reason[:160]}; choose {better}") from error


@contextlib.contextmanager
def open_writer(
    path: Path,
    header: PhotoHeader,
    *,
    size: tuple[int, int],
    channels: int,
    quality: int | None = None,
    images: int = 1,
    animation: Animation | None = None,
) -> Iterator[ImageWriter]:
    """Open an image file for writing, row by row; if the block of the context manager raises, the file is removed.

    It writes to `path` itself, and replaces a file that exists: give it a path in a staging folder, or use
    `write_photo`, which is atomic. PNG and TIFF are written as the rows come; other formats are collected first, in 8
    bits, or 16 for a HEIC of such a photograph. A TIFF that may pass 4 GB becomes a BigTIFF.

    Args:
        path: The file; its suffix names the format, one of `writable_suffixes()`.
        header: A `PhotoHeader` or `Photo`: everything but the samples.
        size: Width and height of the result.
        channels: Bands without alpha; alpha is written if the header has it, or the last band is data of that name.
        quality: 1 to 100 for JPEG, WebP, AVIF and HEIC; None is 95, and lossless for WebP.
        images: Images that the file will have; from the second on, each begins with `ImageWriter.next_image`.
        animation: Durations and loops, where they are frames.

    Raises:
        OutputError: As `check_format`, or the system refuses.
    """
    several: dict[str, Any] = {"images": images, "animation": animation}
    format_ = check_format(header, channels, path, size=size, is_transparent=False, quality=quality, **several)
    with _output_errors(path):
        file = path.open("w+b")
    try:
        stored, bands = _as_stored(header, channels)
        target = Target(file=file, format=format_, header=stored, size=size, channels=bands, quality=quality, **several)
        writer = ImageWriter(target, path, header)
        yield writer
        writer.close()
        with _output_errors(path):
            file.close()
    except BaseException:
        with contextlib.suppress(OSError):  # closing flushes again what could not be written
            file.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def write_photo(photo: Photo, path: Path, *, overwrite: bool = False, quality: int | None = None) -> tuple[str, ...]:
    """Write a photograph, with its metadata, atomically: the file exists as a whole or not at all.

    Args:
        photo: The photograph.
        path: The file, whose suffix decides the format.
        overwrite: Replace an existing file.
        quality: 1 to 100, for JPEG, WebP, AVIF and HEIC; None is the default.

    Returns:
        Sentences on what the format cannot keep.

    Raises:
        OutputError: As `check_format`; or the file exists, the folder refuses, or the disk is full. Nothing is left.
    """
    size, channels, is_transparent = photo.size, photo.channels, photo.alpha is not None
    format_ = check_format(photo, channels, path, size=size, is_transparent=is_transparent, quality=quality)
    with atomic_file(path, overwrite=overwrite) as file:
        stored, bands = _as_stored(photo, channels)
        target = Target(file=file, format=format_, header=stored, size=size, channels=bands, quality=quality)
        writer = ImageWriter(target, path, photo)
        writer.write(photo.samples)
        writer.close()
    return writer.warnings


# ------------------------------------------------------------------------------------------------- atomic files


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that could not be written, by an OutputError with a remedy, before any work goes into it."""
    with _output_errors(path):
        if path.is_dir():
            raise OutputError(f"the output must be a file, {path} is a folder; name a file in it")
        if os.path.lexists(path) and not overwrite:
            raise OutputError(_EXISTS.format(path))
        if not path.parent.exists():
            raise OutputError(f"the folder of the output is missing: {path.parent}; create it, or choose another")
        if not path.parent.is_dir():
            raise OutputError(f"{path.parent} must be a folder to write {path.name} in, it is a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(_FOLDER_REFUSES.format(path.parent))


def atomic_write_bytes(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file so that, whatever happens, `path` holds all of `data` or what it held before; see `atomic_file`."""
    with atomic_file(path, overwrite=overwrite, expected=len(data)) as file, _output_errors(path, len(data)):
        file.write(data)
        file.flush()


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool, expected: int = 0) -> Iterator[BinaryIO]:
    """Open a file for writing (and reading back) that gets its name only after the block has ended well.

    The bytes go to a hidden file in the same folder and to the disk, which is then renamed. Without `overwrite`, a file
    that another program creates meanwhile is kept, and this one is refused. Exceptions of the block pass unchanged.
    `expected` are the bytes that the file will have, as far as they are known, for the message about a full disk.

    Raises:
        OutputError: The file exists, the folder refuses, or the disk is full. Nothing is left behind.
    """
    check_output(path, overwrite=overwrite)
    temporary = path.with_name(f".blindsr-{secrets.token_hex(8)}.tmp")
    try:
        with _output_errors(path, expected):
            # With the permissions of any file, less the umask; tempfile would make it private. Closed below.
            file = open(temporary, "x+b", opener=lambda name, flags: os.open(name, flags, 0o666))  # noqa: SIM115
        try:
            yield file
            size = max(expected, file.tell())
            with _output_errors(path, size):
                file.flush()
                os.fsync(file.fileno())
                file.close()
        finally:
            with contextlib.suppress(OSError):  # closing flushes again what could not be written
                file.close()
        with _output_errors(path, size):
            if overwrite:
                temporary.replace(path)
            else:
                _name_if_free(temporary, path)
            with contextlib.suppress(OSError):  # the name is in the folder, which not every system lets one open
                folder = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    finally:  # also after Ctrl-C
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _output_errors(path: Path, size: int = 0) -> Iterator[None]:
    """Convert errors of the file system, and null bytes in a name, to an OutputError of one line with a remedy."""
    try:
        yield
    except BlindSRError:
        raise
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        text = f"cannot write {path}: {reason_of(error)}; choose another place"
        if is_disk_full(error):
            needs = f"{path.name} needs {size / 1e6:.1f} MB in {path.parent}"
            text = f"the disk is full: {needs}; free some space, or write to another disk"
        elif number in _FORBIDDEN:
            text = _FOLDER_REFUSES.format(path.parent)
        elif number == errno.ENAMETOOLONG:
            text = f"the name of the output is too long for the file system: {path}; choose a shorter one"
        raise OutputError(text) from error


def _name_if_free(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)  # fails if the name is in use, in one step, unlike a rename
    except FileExistsError:
        raise OutputError(_EXISTS.format(path)) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise OutputError(_EXISTS.format(path)) from None
        temporary.replace(path)
