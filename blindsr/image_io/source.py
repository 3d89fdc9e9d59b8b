"""The only interface by which the pipeline reads an image: opened once, read by windows, from a file or an array."""

import errno
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError, reason_of
from blindsr.image_io import metadata
from blindsr.image_io.codecs import (
    ALL_PAGES_ADVICE,
    Decoded,
    Frames,
    SingleFrame,
    check_size,
    decoding,
    straight_alpha,
    unknown_format,
)
from blindsr.image_io.formats import (
    ALPHA_IS_COVERAGE,
    ALPHA_IS_DATA,
    DEFAULT_FILES,
    MAX_PIXELS,
    FileOptions,
    detect_format,
    readable_titles,
)
from blindsr.image_io.samples import (
    Animation,
    Mask,
    Photo,
    PhotoHeader,
    SampleScan,
    StoredSamples,
    Strip,
    stored_dtype,
    usable_nodata,
)

_SCAN_SAMPLES = 2**19  # read together when a file is scanned
_COLOURS = 3  # bands of a colour image
_ALPHA_OF_FRAMES = (
    "the alpha of an animation is the coverage of its frames, which are drawn over each other: alpha='data' (--alpha "
    "data) has no effect"
)
_HEAD_BYTES = 132  # DICOM's signature is at byte 128
_ANY_SIZE = 2**62  # Pillow's own limit would hide the size of the largest images
_MIN_IPTC_BYTES = 5  # of the head of one record
_MAX_FILLED_BYTES = 2**28  # of a file's samples whose missing data are filled at once: that takes 12 bytes a sample


class ImageSource:
    """An image that is read by windows: an open file, or an array in memory. Upright, without palette or CMYK.

    Attributes:
        path: The file; None for an array.
        header: All metadata.
        warnings: Sentences for the user: what was converted, what was left out.
        shape: Bands (alpha not counted), height and width; `channels` and `size` (width and height) are its parts.
        dtype: Sample type of the file, and of its result.
        is_transparent: Whether alpha is below 1 anywhere. Every window then has `alpha`; otherwise none has.
        has_missing_data: Whether any sample is NaN, infinite, no data or masked. Every window then has `valid`;
            otherwise none has.
        is_masked: Whether it came with a mask of missing data.
        jpeg_tables: Quantisation tables of a JPEG, each of 64 steps in row-major order, luma first; otherwise None.
        lossy_coding: Name of another lossy codec, as in `header.format`, and the bits per pixel; otherwise None.
    """

    def __init__(self, decoded: Decoded, path: Path | None = None, scan: SampleScan | None = None) -> None:
        header, self._orientation = _clean_header(decoded)
        self._samples, self._mask = samples, mask = decoded.samples, decoded.mask
        height, width, count = samples.shape
        self._scan = _scanned([decoded], header) if scan is None else scan
        warnings = dict.fromkeys((*header.warnings, *self._scan.warnings()))
        self.header = replace(header, value_range=self._scan.value_range, warnings=tuple(warnings))
        self.path, self.warnings, self.dtype = path, self.header.warnings, header.dtype
        self.size: tuple[int, int] = header.source_size or (0, 0)
        self.channels = count - header.has_alpha
        self.shape = (self.channels, self.size[1], self.size[0])
        self.is_transparent = header.has_alpha and not self._scan.is_opaque
        self.has_missing_data, self.is_masked = self._scan.missing > 0, mask is not None
        self.jpeg_tables = decoded.jpeg_tables
        self.lossy_coding: tuple[str, float] | None = None
        if decoded.lossy_bytes is not None:
            self.lossy_coding = str(header.format), 8 * decoded.lossy_bytes / (height * width)
        # Unless memory forbids it, the whole is filled at once: windows then do not depend on where they are cut.
        self._filled: Strip | None = None
        is_small = isinstance(samples, np.ndarray) and (path is None or samples.nbytes <= _MAX_FILLED_BYTES)
        if self.has_missing_data and is_small:
            whole = (slice(0, height), slice(0, width))
            self._filled = self._scan.map(samples[whole], None if mask is None else mask[whole])

    def read(self) -> Photo:
        """Read the whole image."""
        return self.window(slice(0, self.size[1]), slice(0, self.size[0]))

    def window(self, rows: slice, columns: slice) -> Photo:
        """Read a window; its slices lie inside the image and have no step.

        Missing samples are filled from their neighbours (of a TIFF that is read by windows: those in the window),
        `valid` identifies them.

        Raises:
            ImageError: The window is not inside the image, or the file is damaged there.
        """
        width, height = self.size
        if not (0 <= rows.start < rows.stop <= height and 0 <= columns.start < columns.stop <= width):
            raise ImageError(
                f"a window must be inside the {width}×{height} image and not empty, got rows {rows.start} to "
                f"{rows.stop}, columns {columns.start} to {columns.stop}"
            )
        bounds = (rows.start, rows.stop, columns.start, columns.stop)
        top, bottom, left, right = metadata.stored_window(bounds, self.size, self._orientation)
        stored = (slice(top, bottom), slice(left, right))
        if self._filled is not None:
            planes = (self._filled.pixels, self._filled.alpha, self._filled.valid)
            cut = (None if plane is None else metadata.upright(plane[stored], self._orientation) for plane in planes)
            return self.header.with_strip(Strip(*cut))  # type: ignore[arg-type]
        samples = metadata.upright(self._samples[stored], self._orientation)
        mask = None if self._mask is None else metadata.upright(self._mask[stored], self._orientation)
        return self.header.with_strip(self._scan.map(samples, mask))

    @cached_property
    def is_grey(self) -> bool:
        """Whether its three bands are equal wherever it is not transparent; read only as far as they are."""
        if self.channels != _COLOURS:
            return False
        width, height = self.size
        step = max(1, _SCAN_SAMPLES // (width * _COLOURS))
        for top in range(0, height, step):
            rows = self.window(slice(top, min(height, top + step)), slice(0, width))
            is_equal = (rows.pixels == rows.pixels[..., :1]).all(axis=2)
            if not (is_equal if rows.alpha is None else is_equal | (rows.alpha <= 0)).all():
                return False
        return True

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of shape and samples; of a file, of its bytes."""
        photo = self.read()
        digest = hashlib.sha256(repr(photo.pixels.shape).encode())
        for plane in (photo.pixels, photo.alpha, photo.valid):
            digest.update(b"" if plane is None else np.ascontiguousarray(plane).tobytes())
        return digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file, if there is one. Windows of formats that were decoded whole can still be read."""


class _StraightSamples:
    """Samples whose colours are multiplied by alpha in the file, divided by it."""

    def __init__(self, samples: StoredSamples) -> None:
        self._samples, self.shape = samples, samples.shape
        self.dtype = np.dtype(np.float32) if samples.dtype.kind == "f" else samples.dtype

    def __getitem__(self, window: tuple[slice, slice], /) -> NDArray[Any]:
        """Read a window, (rows, columns, S)."""
        return straight_alpha(self._samples[window])


def _with_alpha_as(meaning: str, decoded: Decoded) -> Decoded:
    """An image whose alpha channel is coverage, with colours that are not multiplied by it, or one of the bands."""
    header = decoded.header
    if not header.has_alpha:
        return decoded
    if meaning == ALPHA_IS_DATA:
        header = replace(header, has_alpha=False, alpha_is_data=True, is_premultiplied=decoded.is_premultiplied)
        return replace(decoded, header=header)
    if not decoded.is_premultiplied:
        return decoded
    warning = "the colours were premultiplied with alpha in the file, and are written without"
    samples = decoded.samples
    straight = straight_alpha(samples) if isinstance(samples, np.ndarray) else _StraightSamples(samples)
    return replace(decoded, samples=straight, header=replace(header, warnings=(*header.warnings, warning)))


def _scanned(images: Iterable[Decoded], header: PhotoHeader) -> SampleScan:
    """Statistics of all samples of images that have the same kind of samples as this header."""
    scan: SampleScan | None = None
    for image in images:
        samples, mask = image.samples, image.mask
        height, width, count = samples.shape
        if scan is None:
            has_mask = mask is not None
            scan = SampleScan(samples.dtype, header.nodata, has_alpha=header.has_alpha, has_mask=has_mask)
        step = max(1, _SCAN_SAMPLES // (width * count))
        for top in range(0, height, step):
            if scan.is_complete:
                return scan
            window = (slice(top, min(height, top + step)), slice(0, width))
            scan.add(samples[window], None if mask is None else mask[window])
    if scan is None:
        raise ImageError("the file has no image; get an intact copy")
    return scan


class FileSource(ImageSource):
    """An open image file. See `open_image`."""

    def __init__(
        self,
        path: Path,
        *,
        page: int | None,
        max_pixels: int,
        alpha: str = ALPHA_IS_COVERAGE,
        advises_all_pages: bool = False,
    ) -> None:
        self._file: BinaryIO = _open_file(path)
        try:
            with _named_errors(path):
                with decoding(max_pixels) as logged:
                    decoded = _codec_of(self._file, path).decode(self._file, page=page, max_pixels=max_pixels)
                    decoded = _with_alpha_as(alpha, decoded)
                warnings = (*decoded.header.warnings, *map(_of_decoder, logged))
                if not advises_all_pages:
                    warnings = tuple(text.partition(ALL_PAGES_ADVICE)[0] for text in warnings)
                super().__init__(replace(decoded, header=replace(decoded.header, warnings=warnings)), path)
        except BaseException:
            self._file.close()
            raise
        self._path = path

    def window(self, rows: slice, columns: slice) -> Photo:
        """Read a window, as of any source."""
        with _named_errors(self._path):
            return super().window(rows, columns)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the file's bytes, through the handle that is open: ask for it before `close`."""
        with _named_errors(self._path):
            self._file.seek(0)
            return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_image(
    path: Path,
    *,
    options: FileOptions = DEFAULT_FILES,
    max_pixels: int | None = None,
    advises_all_pages: bool = False,
) -> FileSource:
    """Open an image file of any readable kind; a context manager.

    The image is turned upright, palettes are expanded, CMYK becomes sRGB; otherwise the colour space is the file's.
    Large TIFF files are read by windows from their strips and tiles; smaller ones and all other formats are decoded
    once, and held in their own bit depth.

    Args:
        path: The file.
        options: Of these, `page`, `alpha` and `max_pixels` are used.
        max_pixels: Number of pixels above which a file is refused; None is that of the options.
        advises_all_pages: Whether the warning that a file has other images names the way to upscale them all.

    Raises:
        ImageError: One line that begins with the file's name: it is missing, empty, a folder, no image, damaged, too
            large, has samples of an unsupported type or no such page, or a package is not installed.
    """
    limit = options.max_pixels if max_pixels is None else max_pixels
    if isinstance(options.page, str):
        raise ImageError(f"{path}: one page is needed here, got {options.page!r}; choose a number from 1 on")
    return FileSource(
        path, page=options.page, max_pixels=limit, alpha=options.alpha, advises_all_pages=advises_all_pages
    )


class FrameSource:
    """The images of one file: frames of an animation, pages of a TIFF. See `open_frames`.

    Attributes:
        path: The file.
        animation: Durations and loops; None where the images are pages, or one image.
        channels: For each image a number that those of one optical channel share; all 0 where there are no channels.
        groups: For each image the number of its group: images of one channel and one kind of samples, which are mapped
            to [0, 1] by the same range, and have one kernel and noise.
    """

    def __init__(self, path: Path, *, max_pixels: int, alpha: str = ALPHA_IS_COVERAGE) -> None:
        self.path, self._file = path, _open_file(path)
        try:
            with _named_errors(path), decoding(max_pixels):
                codec = _codec_of(self._file, path)
                frames = getattr(codec, "frames", partial(SingleFrame, codec.decode))
                self._frames: Frames = frames(self._file, max_pixels=max_pixels)
                self.animation: Animation | None = self._frames.animation
            self._alpha = alpha
            self.channels = self._frames.channels
            self._max_pixels = max_pixels
            keys = []
            self._scans: list[SampleScan] = []
            for index in range(len(self)):
                decoded = self._decode(index)
                header = decoded.header
                alpha_is = (header.has_alpha, header.alpha_is_data)
                kind = (header.dtype, *alpha_is, decoded.samples.shape[2], decoded.mask is not None)
                keys.append((self.channels[index], *kind, header.nodata))
            order = list(dict.fromkeys(keys))
            self.groups = tuple(order.index(key) for key in keys)
            with _named_errors(path):
                for group in range(len(order)):
                    members = [index for index in range(len(self)) if self.groups[index] == group]
                    header = _clean_header(self._decode(members[0]))[0]
                    self._scans.append(_scanned(map(self._decode, members), header))
            # Frames are decoded with alpha, because any of them may be transparent.
            self._drops_alpha = self.animation is not None and all(scan.is_opaque for scan in self._scans)
            if self._drops_alpha:
                for scan in self._scans:
                    scan.drop_alpha()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._frames)

    def _decode(self, index: int) -> Decoded:
        with _named_errors(self.path), decoding(self._max_pixels) as logged:
            decoded = self._frames[index]
            # Frames of an animation are drawn over each other by it, which is done already.
            decoded = _with_alpha_as(self._alpha if self.animation is None else ALPHA_IS_COVERAGE, decoded)
        warnings = (*decoded.header.warnings, *map(_of_decoder, logged))
        return replace(decoded, header=replace(decoded.header, warnings=warnings))

    def __getitem__(self, index: int, /) -> ImageSource:
        """An image, counted from 0."""
        decoded = self._decode(index)
        if self._drops_alpha and decoded.header.has_alpha:
            rows, columns, _ = decoded.samples.shape
            colours = decoded.samples[slice(0, rows), slice(0, columns)][..., :-1]
            decoded = replace(decoded, samples=colours, header=replace(decoded.header, has_alpha=False))
        elif self.animation is not None and self._alpha == ALPHA_IS_DATA:
            warnings = (*decoded.header.warnings, _ALPHA_OF_FRAMES)
            decoded = replace(decoded, header=replace(decoded.header, warnings=warnings))
        with _named_errors(self.path):
            return _Frame(decoded, self.path, self._scans[self.groups[index]], self)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the file's bytes."""
        with _named_errors(self.path):
            position = self._file.tell()  # decoders of animations continue where they were
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]
            self._file.seek(position)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()


class _Frame(ImageSource):
    """One image of a file."""

    def __init__(self, decoded: Decoded, path: Path, scan: SampleScan, owner: FrameSource) -> None:
        super().__init__(decoded, path, scan)
        self._owner = owner

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return self._owner.sha256


def open_frames(path: Path, *, options: FileOptions = DEFAULT_FILES) -> FrameSource:
    """Open an image file as all of its images; a context manager. A file with one image has one.

    Each image is an `ImageSource` with its own header. All images of a group are mapped to [0, 1] by the same range, so
    that equal values of the file stay equal. They are decoded when they are asked for; in order is fastest.

    Raises:
        ImageError: As `open_image`, for any of the images.
    """
    return FrameSource(path, max_pixels=options.max_pixels, alpha=options.alpha)


def read_photo(path: Path, *, page: int | None = None, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a whole image file; page (or frame), limit and errors as for `open_image`."""
    with FileSource(path, page=page, max_pixels=max_pixels) as source:
        return source.read()


class MemorySource(ImageSource):
    """An array in memory, of any type that a file may have, mapped to [0, 1] by the rules for files.

    Samples are (H, W) or (H, W, C), of any byte order; `has_alpha` makes the last channel alpha. `mask` is True where a
    sample is missing, as in `numpy.ma`, and is broadcast to (H, W, C without alpha).

    Raises:
        ImageError: A type that cannot be kept, no valid sample, alpha outside [0, 1].
    """

    def __init__(
        self, samples: NDArray[Any], *, has_alpha: bool = False, nodata: float | None = None, mask: Mask | None = None
    ) -> None:
        samples = samples[..., None] if samples.ndim == 2 else samples
        if samples.ndim != 3 or 0 in samples.shape or samples.shape[2] <= has_alpha:
            raise ImageError(f"samples must be (H, W) or (H, W, C) and not empty, got shape {samples.shape}")
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        valid = None
        if mask is not None:
            mask = mask[..., None] if mask.ndim == 2 else mask
            valid = np.broadcast_to(~mask, (*samples.shape[:2], samples.shape[2] - has_alpha))
        header = PhotoHeader(dtype=samples.dtype, format="ARRAY", has_alpha=has_alpha, nodata=nodata)
        super().__init__(Decoded(samples=samples, header=header, orientation=1, mask=valid))


# ----------------------------------------------------------------------------------------------- files and headers


def _of_decoder(text: str) -> str:
    """A message of a decoder as a warning for the user."""
    if "invalid page offset" in text:
        return "the file is incomplete: it ends before its next page, and later pages are missing; get a complete copy"
    return f"the decoder reports: {text}"


def _open_file(path: Path) -> BinaryIO:
    """Open an image file; refuse it in one line if it is missing, empty, a folder, no file, or may not be read."""
    expected = f"expected an image ({readable_titles()})"
    try:
        if path.is_dir():
            raise ImageError(f"{path}: this is a folder; {expected}; name a file in it")
        if path.exists() and not path.is_file():  # opening a pipe may block
            remedy = "save it as a file, or send it to standard input and give - instead of a name"
            raise ImageError(f"{path}: this is a device or a pipe; {expected}; {remedy}")
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; check the name") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        is_name = not isinstance(error, OSError) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
        remedy = "check the name" if is_name else "check its permissions"
        raise ImageError(f"{path}: the file cannot be read ({reason_of(error)}); {remedy}") from error
    if not file.read(1):
        file.close()
        raise ImageError(f"{path}: the file is empty; {expected}; get an intact copy")
    file.seek(0)
    return file


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Put the file's name before every message; lack of memory and a failing disk become one, too."""
    try:
        yield
    except ImageError as error:
        if (text := str(error.args[0])).startswith(str(path)):
            raise
        raise ImageError(f"{path}: {text}") from error.__cause__
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory for this image; cut it into parts") from error
    except OSError as error:
        raise ImageError(f"{path}: the file cannot be read ({reason_of(error)}); copy it to another disk") from error


def image_size(path: Path) -> tuple[int, int, int] | None:
    """Height, width and samples per pixel as `header_size` gives them; None where it fails."""
    try:
        return header_size(path)
    except ImageError:
        return None


def header_size(path: Path, max_pixels: int = _ANY_SIZE) -> tuple[int, int, int]:
    """Height, width and samples per pixel by a file's header, upright.

    Nothing is decoded: whether the samples are intact turns out when they are read. The size of a JPEG 2000 file or a
    HEIC takes reading it whole.

    Raises:
        ImageError: As `open_image`, as far as the header shows it.
    """
    with _named_errors(path), decoding(_ANY_SIZE), _open_file(path) as file:
        height, width, bands = _codec_of(file, path).size(file)
        check_size(width, height, max_pixels)
        return height, width, bands


def _codec_of(file: BinaryIO, path: Path) -> Any:  # noqa: ANN401 - a module
    file.seek(0)
    format_ = detect_format(file.read(_HEAD_BYTES), path)
    file.seek(0)
    if format_ is None:
        raise unknown_format()
    if format_.codec is None:
        raise ImageError(f"{format_.title} is not read (only {readable_titles()}); {format_.remedy}")
    return format_.module


def _clean_header(decoded: Decoded) -> tuple[PhotoHeader, int]:
    """Metadata for an upright image, with a warning for every loss, and the orientation, 1 to 8, to turn it by."""
    header, warnings = decoded.header, list(decoded.header.warnings)
    orientation, exif, dpi = decoded.orientation or 1, None, header.dpi
    with decoding() as logged:
        try:
            if decoded.orientation is None:
                orientation = metadata.exif_orientation(header.exif)
            exif = metadata.clean_exif(header.exif)
            dpi = dpi or (None if header.calibration else metadata.exif_resolution(header.exif))
        except Exception:  # a damaged EXIF block must not cost the image
            warnings.append("the EXIF block of the file is damaged: it is not kept")
    if logged:
        warnings.append("the EXIF block of the file is damaged in places: only its readable parts are kept")
    if header.xmp and metadata.EXTENDED_XMP in header.xmp:
        warnings.append("the XMP of the file has a second part, which is not read: only the first part is kept")
    if header.dtype == np.float64:
        is_array = header.format == "ARRAY"  # whose result has its type again
        how = "computed with 32 bits" if is_array else "read and written as 32-bit ones"
        warnings.append(f"64-bit floats are {how}")
    dtype = stored_dtype(header.dtype)
    nodata = None if header.nodata is None else usable_nodata(header.nodata, dtype)
    if header.nodata is not None and nodata is None:
        warnings.append(f"no {dtype} sample can be {header.nodata:g}, the file's no-data value: it is left out")
    geo = header.geo
    if geo is not None and orientation != 1:
        geo = None
        warnings.append("the georeference describes the image before it was turned upright: it is not carried over")
    is_turned = metadata.swaps_axes(orientation)
    height, width = decoded.samples.shape[:2]
    cleaned = replace(
        header,
        dtype=dtype,
        source_size=(height, width) if is_turned else (width, height),
        exif=exif,
        xmp=metadata.clean_xmp(header.xmp),
        iptc=header.iptc if header.iptc and len(header.iptc) > _MIN_IPTC_BYTES else None,
        dpi=dpi[::-1] if dpi and is_turned else dpi,
        geo=geo,
        nodata=nodata,
        warnings=tuple(dict.fromkeys(warnings)),
    )
    return cleaned, orientation
