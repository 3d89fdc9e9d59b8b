"""Photographs in memory: their samples as the floats in [0, 1] that the methods work on, and back to those of a file.

Missing data (NaN, infinity, the file's no-data value, masked pixels) are filled before the work, because a network
spreads one NaN over the whole image, and are written back as missing after it.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError

if TYPE_CHECKING:
    from blindsr.image_io.codecs.geo import Calibration, Georeference

#: Types of photographs, which use their whole range; in the other integer types are measurements.
_PHOTOGRAPHIC = (np.dtype(np.uint8), np.dtype(np.uint16))
_MEASUREMENTS = tuple(np.dtype(kind) for kind in (np.int8, np.int16, np.int32, np.uint32))
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_MAX_FLOAT = float(np.finfo(np.float32).max)
_MAX_EXACT_FLOAT = 2**24  # integers beyond are not all representable in float32
_SMALL_PART = 1 / 8  # uint16 and floats in [0, 1] that span less are mapped by their extremes
_HEADROOM = 0.5, 2.0  # below and above the extremes, of the span: deconvolution may triple the peak of a star
_MIN_LEVELS = 16  # the quantisation of an integer image with fewer must not become its contrast
_MIN_SPAN = 1e-5  # of floats, relative: smaller differences are rounding errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Animation:
    """How the frames of a file follow each other."""

    durations: tuple[float, ...]  # of each frame, ms
    plays: int = 0  # how often all frames are shown; 0 is without end


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoHeader:
    """Everything of a photograph but its samples: what the output file needs to be of the same kind."""

    has_alpha: bool = False  # an opaque alpha channel is written back as such
    alpha_is_data: bool = False  # the last band is what the file calls alpha; `has_alpha` is False then
    is_premultiplied: bool = False  # the colours stay multiplied by the alpha channel that is data
    has_mask: bool = False  # GDAL's internal mask of missing data in a GeoTIFF
    is_rgb: bool | None = None  # the first three bands are red, green, blue; None: if there are three
    bits: int | None = None  # that are significant in the samples of the input; None: all of its type
    dtype: np.dtype[Any]  # of the file that is written: uint8, uint16, float32; in a TIFF int8, int16, int32, uint32
    format: str  # name in capitals, as in the table of formats; "ARRAY" for an array in memory
    source_size: tuple[int, int] | None = None  # width and height of the input, upright
    icc_profile: bytes | None = None
    exif: bytes | None = None  # with its "Exif" header, orientation 1, without thumbnail
    xmp: bytes | None = None  # orientation 1
    iptc: bytes | None = None  # records of IPTC-IIM: captions, keywords, credits
    dpi: tuple[float, float] | None = None  # horizontal and vertical, pixels per inch
    png_colour: tuple[tuple[bytes, bytes], ...] = ()  # PNG chunks that define the colour space: name, content
    geo: "Georeference | None" = None
    calibration: "Calibration | None" = None  # size of a pixel, as microscopes write it into a TIFF
    cards: str | None = None  # the header of a FITS file, 80 characters for each card, without those of the storage
    value_range: tuple[float, float] = (0.0, 1.0)  # the file's values that are 0 and 1 in `Photo.pixels`
    nodata: float | None = None  # the value of missing samples in the file
    texts: tuple[tuple[str, str], ...] = ()  # under keywords, as a PNG has them
    warnings: tuple[str, ...] = ()  # sentences for the user: what was converted, what was left out

    def with_strip(self, strip: "Strip") -> "Photo":
        """Combine this header with samples."""
        values = {field.name: getattr(self, field.name) for field in fields(PhotoHeader)}
        values["has_alpha"] = self.has_alpha or strip.alpha is not None
        return Photo(pixels=strip.pixels, alpha=strip.alpha, valid=strip.valid, **values)

    def scale_to(self, size: tuple[int, int]) -> tuple[float, float]:
        """Horizontal and vertical factor from the size of the input to `size` (width and height)."""
        width, height = self.source_size or size
        return size[0] / width, size[1] / height


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Rows of an image, over its whole width: `pixels`, `alpha` and `valid` as in `Photo`."""

    pixels: Floats
    alpha: Floats | None = None
    valid: Mask | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo(PhotoHeader):
    """A photograph, or a window of one, upright.

    Raises:
        ImageError: The shapes disagree.
    """

    pixels: Floats  # (H, W, C) without alpha, not premultiplied, mapped to [0, 1] by `value_range`
    alpha: Floats | None = None  # (H, W) in [0, 1]; None if there is none or it is opaque everywhere
    valid: Mask | None = None  # (H, W, C); missing samples are filled in `pixels`; None: all are valid

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.pixels.ndim != 3 or 0 in self.pixels.shape:
            raise ImageError(f"pixels must be (H, W, C) and not empty, got shape {self.pixels.shape}")
        if self.alpha is not None and self.alpha.shape != self.pixels.shape[:2]:
            raise ImageError(f"alpha must be (H, W) = {self.pixels.shape[:2]} like the pixels, got {self.alpha.shape}")
        if self.valid is not None and self.valid.shape != self.pixels.shape:
            raise ImageError(f"valid must be {self.pixels.shape} like the pixels, got {self.valid.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def missing_pixels(self) -> int:
        """Number of pixels of which a sample is missing."""
        return 0 if self.valid is None else int((~self.valid).any(2).sum())

    @property
    def channels(self) -> int:
        """Number of bands without alpha."""
        return int(self.pixels.shape[2])

    @property
    def values(self) -> Floats:
        """The pixels as parts of white for uint8 and uint16, as the file's own values for other types."""
        low, high = self.value_range
        white = _white(self.dtype) if self.dtype in _PHOTOGRAPHIC else 1.0
        is_whole = self.value_range in ((0.0, 1.0), (0.0, white))
        return self.pixels if is_whole else ((self.pixels * np.float64(high - low) + low) / white).astype(np.float32)

    @property
    def samples(self) -> Strip:
        """All rows, without the header."""
        return Strip(self.pixels, self.alpha, self.valid)

    def with_result(self, pixels: Floats, alpha: Floats | None = None, valid: Mask | None = None) -> "Photo":
        """Replace the samples by others of any size, with the same bands; alpha None is opaque.

        Raises:
            ImageError: The number of bands differs, or the shapes disagree.
        """
        if pixels.ndim != 3 or pixels.shape[2] != self.channels:
            raise ImageError(f"the result must be (H, W, {self.channels}) like the photo, got shape {pixels.shape}")
        return self.with_strip(Strip(pixels, alpha, valid))


class StoredSamples(Protocol):
    """Samples as the file stores them, not turned upright: an array, or a reader that decodes windows on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and samples per pixel."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""

    def __getitem__(self, window: tuple[slice, slice], /) -> NDArray[Any]:
        """A window, (rows, columns, S)."""


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that samples of `dtype` are written back as: float32 for all floats."""
    if dtype.kind == "f":
        return np.dtype(np.float32)
    native = dtype.newbyteorder("=")
    if native in _PHOTOGRAPHIC or native in _MEASUREMENTS:
        return native
    raise ImageError(
        f"samples must be floats or integers of at most 32 bits, got {dtype}; convert them to one of these"
    )


def usable_nodata(nodata: float, dtype: np.dtype[Any]) -> float | None:
    """The no-data value as a sample of `dtype` holds it; None if none can."""
    if np.isnan(nodata):
        return nodata if dtype.kind == "f" else None
    if dtype.kind == "f":
        # −3.4028235e38 is written with fewer or more digits than float32 has: its nearest value is meant.
        with np.errstate(over="ignore"):
            stored = float(dtype.type(nodata))
        return stored if np.isfinite(stored) else None
    limits = np.iinfo(dtype)
    return nodata if nodata.is_integer() and limits.min <= nodata <= limits.max else None


def is_measured(samples: NDArray[Any], nodata: float | None) -> Mask:
    """Whether each sample is finite and not the file's no-data value (one that `usable_nodata` returned)."""
    if samples.dtype.kind == "f":
        valid = np.isfinite(samples)
        if nodata is not None and np.isfinite(nodata):
            valid &= samples != samples.dtype.type(nodata)
        return np.asarray(valid)
    return np.ones(samples.shape, np.bool_) if nodata is None else np.asarray(samples != int(nodata))


class SampleScan:
    """Statistics of all samples of a file, which are needed before the first is mapped; parts are added in any order.

    Attributes:
        missing: Number of missing samples.
        is_opaque: Whether alpha is 1 everywhere.
    """

    def __init__(
        self, dtype: np.dtype[Any], nodata: float | None, *, has_alpha: bool = False, has_mask: bool = False
    ) -> None:
        self.dtype = stored_dtype(dtype)
        self.missing, self._measured = 0, 0
        self.is_opaque = True
        self._low, self._high = np.inf, -np.inf
        self._nodata, self._has_alpha = nodata, has_alpha
        self._needs_all = nodata is not None or has_alpha or has_mask

    def add(self, samples: NDArray[Any], mask: NDArray[Any] | None = None) -> None:
        """Add (h, W, C) samples, and a mask, (h, W, 1 or C without alpha), that is zero where a sample is missing.

        Raises:
            ImageError: Alpha leaves [0, 1] or is NaN, or a value does not fit into float32.
        """
        colour = samples[..., :-1] if self._has_alpha else samples
        if self._has_alpha:
            alpha = samples[..., -1]
            if alpha.dtype.kind == "f" and not ((alpha >= 0) & (alpha <= 1)).all():
                raise ImageError(
                    f"alpha must lie in [0, 1], it spans [{alpha.min():g}, {alpha.max():g}]; scale it, or have it "
                    "treated as data (--alpha data, has_alpha=False in Python)"
                )
            self.is_opaque = self.is_opaque and bool((alpha == _white(alpha.dtype)).all())
        is_whole = samples.dtype.kind != "f" and self._nodata is None and mask is None
        measured = colour if is_whole else colour[self._valid(colour, mask)]
        self.missing += colour.size - measured.size
        self._measured += measured.size
        if measured.size:
            low, high = float(measured.min()), float(measured.max())
            if max(-low, high) > _MAX_FLOAT:
                raise ImageError(f"samples must fit in float32, they span [{low:g}, {high:g}]; scale the file before")
            self._low, self._high = min(self._low, low), max(self._high, high)

    def drop_alpha(self) -> None:
        """Samples that are mapped from now on have no alpha."""
        self._has_alpha = False

    @property
    def is_complete(self) -> bool:
        """Whether further samples cannot change anything: those of most photographs after the first rows."""
        is_full = self.dtype == np.uint8 or self._high - self._low >= _SMALL_PART * _white(self.dtype)
        return not self._needs_all and self.dtype in _PHOTOGRAPHIC and is_full

    @property
    def value_range(self) -> tuple[float, float]:
        """The values that become 0 and 1.

        8-bit samples are mapped by their type; so are 16-bit ones, and floats within [0, 1], unless they span less than
        an eighth of it (12 bits in a file of 16) or are constant. All others are mapped by minimum and maximum, with
        headroom of half the span below and twice the span above, within the limits of the type, and of [0, 1] for
        floats within it.
        """
        if self.missing and not self._measured:
            raise ImageError("every sample is NaN, infinite or marked as no data; there is nothing to enlarge")
        low, high, white = self._low, self._high, _white(self.dtype)
        is_float, span = self.dtype.kind == "f", high - low
        is_within = low >= 0 and high <= white and (is_float or self.dtype in _PHOTOGRAPHIC)
        if not self._measured or self.dtype == np.uint8 or (is_within and not 0 < span < _SMALL_PART * white):
            return 0.0, white
        smallest = (_MIN_SPAN * max(-low, high) if is_float else _MIN_LEVELS) - span / 2
        below, above = (max(part * span, smallest) for part in _HEADROOM)
        if is_float:
            limits = (0.0, 1.0) if is_within else (-_MAX_FLOAT, _MAX_FLOAT)
        else:
            limits = float(np.iinfo(self.dtype).min), float(np.iinfo(self.dtype).max)
        return max(limits[0], low - below), min(limits[1], high + above)

    def warnings(self) -> list[str]:
        """Sentences on an unusual range, and on missing data."""
        low, high = self.value_range
        is_float, warnings = self.dtype.kind == "f", []
        if not is_float and high - low > _MAX_EXACT_FLOAT:
            warnings.append(f"the values span [{self._low:.0f}, {self._high:.0f}]: they are kept to about 7 digits")
        elif is_float and (self._low < 0 or self._high > 1):
            warnings.append(
                f"the values span [{self._low:g}, {self._high:g}]: they are mapped to [0, 1] for the work, and back "
                "for the result"
            )
        if self.missing:
            # Other integers are missing by a mask, which not every format keeps: that is said where it is written.
            result = f", {self._nodata:g}" if self._nodata is not None else ", NaN" if is_float else ""
            result += " in the result" if result else ""
            count = f"{self.missing} sample{'s' * (self.missing != 1)}"
            warnings.append(f"missing data in {count}: filled from the neighbours for the work{result}")
        return warnings

    def map(self, samples: NDArray[Any], mask: NDArray[Any] | None = None) -> Strip:
        """Map (h, W, C) samples to [0, 1], separate the alpha channel, and fill missing data.

        `alpha` is None if it is 1 everywhere in the file, `valid` if no sample of the file is missing.
        """
        colour = samples[..., :-1] if self._has_alpha else samples
        low, high = self.value_range
        with np.errstate(over="ignore", invalid="ignore"):  # only missing samples
            if (low, high) == (0.0, _white(self.dtype)):
                pixels = np.divide(colour, np.float32(high), dtype=np.float32)
            else:  # float64: the difference of two large numbers
                pixels = ((colour.astype(np.float64) - low) / (high - low)).astype(np.float32)
        alpha = valid = None
        if self._has_alpha and not self.is_opaque:
            alpha = np.divide(samples[..., -1], np.float32(_white(samples.dtype)), dtype=np.float32)
        if self.missing:
            valid = self._valid(colour, mask)
            pixels = fill_missing(pixels, valid)
        return Strip(np.ascontiguousarray(pixels), alpha, valid)

    def _valid(self, colour: NDArray[Any], mask: NDArray[Any] | None) -> Mask:
        valid = is_measured(colour, self._nodata)
        return valid if mask is None else valid & (mask > 0)


def _white(dtype: np.dtype[Any]) -> float:
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def fill_missing(pixels: Floats, valid: Mask) -> Floats:
    """Replace every missing sample of a copy, (H, W, C), by the nearest valid one of its band; 0 if there is none."""
    from scipy.ndimage import distance_transform_edt

    filled = pixels.copy()
    same_as, nearest = -1, None  # bands mostly lack data in the same places
    for band in range(pixels.shape[2]):
        is_missing = ~valid[..., band]
        if is_missing.all():
            filled[..., band] = 0
        elif is_missing.any():
            if nearest is None or (valid[..., band] != valid[..., same_as]).any():
                same_as = band
                nearest = distance_transform_edt(is_missing, return_distances=False, return_indices=True)
            rows, columns = nearest[:, is_missing]
            filled[is_missing, band] = pixels[rows, columns, band]
    return filled


def file_samples(strip: Strip, header: PhotoHeader, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert rows of a photograph to the samples of a file, of uint8 or the header's type, alpha as the last channel.

    Integers are rounded half up and clipped; floats return to their own range and are not clipped. Missing samples
    become the file's no-data value, or NaN in floats; a valid sample never becomes that value.

    Raises:
        ImageError: A value is NaN or infinite.
    """
    for plane in (strip.pixels, strip.alpha):
        if plane is not None and not np.isfinite(plane).all():
            raise ImageError(
                "the result has NaN or infinite values, which no image can hold; internal error; please report it"
            )
    height, width, channels = strip.pixels.shape
    samples = np.empty((height, width, channels + header.has_alpha), dtype)
    colour, pixels = samples[..., :channels], strip.pixels
    low, high = header.value_range
    white = _white(header.dtype)
    is_whole = (low, high) in ((0.0, 1.0), (0.0, white))  # the values of a header without a range are those of its type
    if header.dtype in _PHOTOGRAPHIC or (is_whole and dtype.kind == "f"):
        if not is_whole:
            pixels = ((pixels.astype(np.float64) * (high - low) + low) / white).astype(np.float32)
        colour[...] = pixels if dtype.kind == "f" else _rounded(pixels, dtype)
    else:
        values = pixels.astype(np.float64) * (high - low) + low
        colour[...] = values if dtype.kind == "f" else _rounded_values(values, dtype)
    if dtype == header.dtype:
        nodata, is_float = header.nodata, dtype.kind == "f"
        if nodata is not None and np.isfinite(nodata) and (is_nodata := ~is_measured(colour, nodata)).any():
            value = dtype.type(nodata)
            if is_float:
                colour[is_nodata] = np.nextafter(value, np.float32(0) if value else np.float32(1))
            else:
                colour[is_nodata] = value + 1 if value < np.iinfo(dtype).max else value - 1
        if strip.valid is not None and (nodata is not None or is_float):
            colour[~strip.valid] = np.nan if nodata is None else nodata
    if header.has_alpha:
        opacity = np.ones((height, width), np.float32) if strip.alpha is None else np.clip(strip.alpha, 0, 1)
        samples[..., -1] = opacity if dtype.kind == "f" else _rounded(opacity, dtype)
    return samples


def _rounded(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    high = float(np.iinfo(dtype).max)
    if high >= _MAX_EXACT_FLOAT:
        return _rounded_values(values.astype(np.float64) * high, dtype)
    scaled = values * np.float32(high)
    scaled += np.float32(0.5)
    return np.clip(np.floor(scaled, out=scaled), 0, high, out=scaled).astype(dtype)


def _rounded_values(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    return np.clip(np.floor(values + 0.5), limits.min, limits.max).astype(dtype)
