"""Codecs, one module per library or format, and what they share: limits, isolation of third-party code, interfaces.

Each module that reads has `decode(file, *, page, max_pixels) -> Decoded`, where no page (None) is the first one, and
`size(file) -> (height, width, bands)`, each that writes `encoder(target) -> Encoder`. A module whose files may hold
several images has `frames(file, *, max_pixels) -> Frames` as well. The caller prefixes the text of an error with the
name of the file.
"""

import logging
import os
import re
import tempfile
import threading
import warnings as python_warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from blindsr.errors import ImageError
from blindsr.image_io.formats import MAX_PIXELS, FileFormat, readable_titles
from blindsr.image_io.metadata import exif_for_size, xmp_for_size
from blindsr.image_io.samples import Animation, PhotoHeader, StoredSamples

#: Why few bits become 8.
LEVELS_NEEDED = "the enlarged image needs the levels between"
#: The beginning of an advice at the end of a warning, which `open_image` leaves out where it cannot be followed.
ALL_PAGES_ADVICE = '; page="all" (--page all)'
#: Quality of lossy formats; 95 is the highest that Pillow's documentation recommends for JPEG.
DEFAULT_QUALITY = 95
# A pixel may have this many samples before an image counts as so much larger: RGB with alpha has four.
_SAMPLES_PER_PIXEL = 4
_STDERR = 2
_MAX_PRINTED = 2**16
# Lines that the C libraries below the codecs print. Everything else on stderr is another thread's and is passed on.
_LIBRARY_LINE = re.compile(
    rb"lib\w+[: ]|\w+ (?:warning|error): |Corrupt JPEG|Premature end of JPEG|"
    rb".*data corrupted at|.*nexpected end of file"
)
# Warnings about tags that are not used, or are reported in better words.
_IGNORED_LOG = re.compile(r"GDAL_NODATA|Metadata Warning, tag \d+ had too many entries")

# Categories of warnings about a file; ResourceWarning, DeprecationWarning and others are about programs.
_OF_DECODERS = (UserWarning, RuntimeWarning, UnicodeWarning)

# Pillow's limit, the warning filters and stderr are global; two threads must not restore each other's.
_lock = threading.RLock()


@dataclass(slots=True, kw_only=True)
class Decoded:
    """The result of a decoder, not turned upright yet."""

    samples: StoredSamples  # (H, W, S) as the file stores them, alpha last: an array, or a reader of windows
    header: PhotoHeader  # with the metadata as they are in the file
    orientation: int | None = None  # that is still to be applied; None is that of the EXIF block
    jpeg_tables: tuple[tuple[int, ...], ...] | None = None
    lossy_bytes: int | None = None  # of the image, coded by another lossy codec than JPEG; None where that is unknown
    is_premultiplied: bool = False  # the colours are multiplied by alpha
    mask: StoredSamples | None = None  # (H, W, 1 or C), zero where a sample is missing, like `samples`; None: nowhere


class Frames(Protocol):
    """The images of one file, decoded one at a time, in any order; the one after the last one costs least."""

    @property
    def animation(self) -> Animation | None:
        """Durations and loops; None where the images are pages."""

    @property
    def channels(self) -> tuple[int, ...]:
        """For each image a number that those of one optical channel share: they have one kernel, noise and range."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Decoded:
        """Decode an image, counted from 0, without a warning that there are others."""


class SingleFrame:
    """The one image of a file without several; `decode` is that of its codec."""

    animation, channels = None, (0,)

    def __init__(self, decode: Callable[..., Decoded], file: BinaryIO, *, max_pixels: int) -> None:
        self._decode, self._file, self._max_pixels = decode, file, max_pixels

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int, /) -> Decoded:
        self._file.seek(0)
        return self._decode(self._file, page=1, max_pixels=self._max_pixels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What an encoder writes."""

    file: BinaryIO  # empty, open for writing and reading
    format: FileFormat
    header: PhotoHeader
    size: tuple[int, int]  # width and height
    channels: int  # without alpha
    quality: int | None = None
    warnings: list[str] = field(default_factory=list)  # what is lost
    animation: Animation | None = None  # of a file with several frames
    images: int = 1  # that will be written

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, and channels with alpha."""
        return self.size[1], self.size[0], self.channels + self.header.has_alpha


class Encoder(Protocol):
    """Writes the rows of one image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Sample type that `write` expects."""

    def write(self, samples: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Write the next rows, (h, W, C with alpha), and which of their samples are valid, (h, W, C)."""

    def next_image(self, target: Target) -> None:
        """End an image, and begin the next one of the same file; of formats that have several (`FileFormat.frames`)."""

    def close(self) -> None:
        """Write the rest of the file."""


class CollectingEncoder:
    """Collects all rows for a format whose library encodes whole images."""

    def __init__(self, target: Target, encode: Callable[[Target, NDArray[Any]], bytes], dtype: np.dtype[Any]) -> None:
        bits = target.header.bits or 8 * target.header.dtype.itemsize
        if bits > (stored := target.format.bits):
            target.warnings.append(f"{target.format.title} stores {stored} bits: the {bits}-bit samples were rounded")
        self._target, self._encode, self.dtype = target, encode, dtype
        self._samples, self._rows = np.empty(target.shape, dtype), 0
        self._earlier: list[NDArray[Any]] = []

    def write(self, samples: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Collect rows."""
        self._samples[self._rows : self._rows + len(samples)] = samples
        self._rows += len(samples)

    def next_image(self, target: Target) -> None:
        """Keep an image, and collect the next one."""
        self._earlier.append(self._samples)
        self._samples, self._rows = np.empty(target.shape, self.dtype), 0

    def close(self) -> None:
        """Encode and write: one image, (H, W, C), or the frames of an animation, (N, H, W, C)."""
        samples = np.stack([*self._earlier, self._samples]) if self._earlier else self._samples
        self._target.file.write(self._encode(self._target, samples))


def gray_as_rgb(target: Target, samples: NDArray[Any], suffix: str = "") -> tuple[NDArray[Any], bytes | None]:
    """Repeat grey for a format that has only RGB, and drop a profile of grey samples: samples and profile to write."""
    profile = target.header.icc_profile
    if samples.shape[2] > 2:
        return samples, profile
    target.warnings.append(f"{target.format.title}{suffix} cannot store grey: it was written as RGB")
    if profile is not None and profile[16:20] != b"RGB ":
        target.warnings.append("the colour profile is for grey samples: it is left out")
        profile = None
    return np.concatenate([np.repeat(samples[..., :1], 3, axis=2), samples[..., 1:]], axis=2), profile


def check_size(width: int, height: int, max_pixels: int, *, samples: int = 1) -> None:
    """Refuse an image without pixels or with too many (of four samples on average), before memory is allocated."""
    if width < 1 or height < 1 or samples < 1:
        raise ImageError(f"an image needs at least one pixel, this one has {width}×{height}; get an intact copy")
    if width * height * max(1, samples / _SAMPLES_PER_PIXEL) > max_pixels:
        bands = f" with {samples} bands" if samples > _SAMPLES_PER_PIXEL else ""
        raise _too_large(max_pixels, f"{width}×{height}{bands}")


def check_page_number(
    page: int | None, count: int, title: str = "file", unit: str = "image", *, has_frames: bool = False
) -> tuple[int, list[str]]:
    """The page to read: the requested one, else the first one, with a warning where the file has others.

    Of a file with `has_frames`, `Frames` may give all, which the warning advises. A page that the file does not have is
    refused.
    """
    if page is not None and not 1 <= page <= count:
        remedy = "leave the page out" if count == 1 else f"choose a number from 1 to {count}"
        raise ImageError(f"page {page} was requested, the file has {count}; {remedy}")
    if page is not None or count == 1:
        return page or 1, []
    advice = f"{ALL_PAGES_ADVICE} upscales every {unit}" if has_frames else ""
    return 1, [f"the {title} has {count} {unit}s: {unit} 1 is used{advice}"]


def with_bands(samples: NDArray[Any], size: tuple[int, int], title: str) -> NDArray[Any]:
    """Samples of a whole image as (H, W, S); refused if they have another size than the header of the file."""
    if samples.shape[:2] != size:
        raise ImageError(f"the {title} unpacks to another size than its header states; get an intact copy")
    return samples[..., None] if samples.ndim == 2 else samples


def unknown_format() -> ImageError:
    """The error for a file whose content is of no format that is read."""
    remedy = "convert it, or get an intact copy"
    return ImageError(f"needed {readable_titles()}, this file is none of them or is damaged; {remedy}")


def missing_package(kind: str, package: str, extra: str, instead: str) -> ImageError:
    """The error for a file that an optional package reads."""
    install = f'run pip install "blindsr[{extra}]"'
    return ImageError(f"this is a {kind}, which needs the package {package}; {install}, or {instead}")


def straight_alpha(samples: NDArray[Any]) -> NDArray[Any]:
    """Divide colours by the last channel, with which they are premultiplied in the file; 0 where that is 0."""
    high = 1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max)
    scaled = (samples / np.float64(high)).astype(np.float32)
    alpha = scaled[..., -1:]
    colour = np.where(alpha > 0, scaled[..., :-1] / np.where(alpha > 0, alpha, 1), 0).astype(np.float32, copy=False)
    if samples.dtype.kind == "f":
        return np.dstack([colour, scaled[..., -1]])
    whole = np.floor(np.clip(colour, 0, 1).astype(np.float64) * high + 0.5).astype(samples.dtype)
    return np.dstack([whole, samples[..., -1]])


def srgb_profile() -> Any:  # noqa: ANN401 - not declared by Pillow as what its functions take
    """The profile of sRGB; `tobytes()` is what a file contains."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def embedded_metadata(target: Target, profile: bytes | None, dpi: tuple[float, float] | None) -> dict[str, bytes]:
    """Profile, EXIF (with a resolution) and XMP of a result as keywords of Pillow and pillow-heif."""
    exif, xmp = exif_for_size(target.header.exif, target.size, dpi), xmp_for_size(target.header.xmp, target.size)
    blocks = {"icc_profile": profile, "exif": exif, "xmp": xmp}
    return {name: content for name, content in blocks.items() if content}


def _too_large(max_pixels: int, size: str) -> ImageError:
    return ImageError(
        f"at most {max_pixels} pixels ({max_pixels / 1e6:.4g} megapixels) are read, this file has {size}; "
        "if you trust this file, raise the limit (max_pixels=, --max-pixels), or cut it into parts"
    )


@contextmanager
def decoding(max_pixels: int = MAX_PIXELS) -> Iterator[list[str]]:
    """Isolate third-party decoders: capture warnings and logs, apply the pixel limit, convert exceptions to ImageError.

    The list holds, after the block, the warnings of the decoders. Others that come up meanwhile are passed on: those of
    other threads, of files that the garbage collector finds open, and of outdated functions.
    """
    collected: list[str] = []

    def collect(text: str) -> None:
        if not _IGNORED_LOG.search(text):
            collected.append(" ".join(text.split()))

    show, thread = python_warnings.showwarning, threading.get_ident()

    def collect_own(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:  # noqa: ANN401
        if issubclass(category, _OF_DECODERS) and threading.get_ident() == thread:
            collect(str(message))
        else:
            show(message, category, *where, **more)

    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: collect(record.getMessage())  # type: ignore[method-assign]
    with _lock, python_warnings.catch_warnings():
        python_warnings.showwarning = collect_own
        for category in _OF_DECODERS:
            python_warnings.simplefilter("always", category)
        python_warnings.simplefilter("error", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        # Without a handler their messages would go to stderr.
        loggers = [logging.getLogger(name) for name in ("tifffile", "PIL")]
        propagated = [logger.propagate for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.propagate = False
        try:
            yield collected
        except ImageError:
            raise
        except MemoryError as error:
            remedy = "close other programs, or cut it into parts"
            raise ImageError(f"not enough memory to read this image; {remedy}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(max_pixels, "more") from error
        except Warning:  # the caller made errors of them; they say nothing about the file
            raise
        except Exception as error:  # a decoder may raise anything on damaged bytes, and all of it means this
            # LibRaw's messages are bytes.
            said = b"".join(error.args).decode(errors="replace") if _are_bytes(error.args) else str(error)
            reason = " ".join(said.split()) or type(error).__name__
            text = f"the file is damaged or ends early ({reason[:160]}); get an intact copy"
            raise ImageError(text) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            for logger, propagate in zip(loggers, propagated, strict=True):
                logger.removeHandler(handler)
                logger.propagate = propagate


def _are_bytes(parts: tuple[object, ...]) -> TypeGuard[tuple[bytes, ...]]:
    return bool(parts) and all(isinstance(part, bytes) for part in parts)


@contextmanager
def unprinted() -> Iterator[list[str]]:
    """Capture what decoders in C print to the standard error stream: a list that is filled after the block.

    The stream belongs to the whole process: lines that no decoder prints (another thread's log) are passed on.
    """
    printed: list[str] = []
    with _lock:
        try:
            stderr = os.dup(_STDERR)
        except OSError:  # there is none
            yield printed
            return
        with tempfile.TemporaryFile() as caught:
            try:
                os.dup2(caught.fileno(), _STDERR)
                yield printed
            finally:
                os.dup2(stderr, _STDERR)
                os.close(stderr)
                caught.seek(0)
                for line in caught.read(_MAX_PRINTED).splitlines(keepends=True):
                    if _LIBRARY_LINE.match(line):
                        printed.append(line.decode(errors="replace").strip())
                    else:
                        os.write(_STDERR, line)
