"""TIFF files: integers of 1 to 32 bits and floats, grey, RGB, palettes, CMYK, any number of bands.

Read by windows: tifffile finds the strips and tiles, imagecodecs decodes those that a window touches. Written row by
row, samples kept to the bit, with profile, EXIF, XMP, georeference, calibration and mask: the strips are written as
their rows come, the directories that describe them at the end of the file.

Source: TIFF 6.0, sections 2, 8, 14, 20 and 21; Adobe TIFF technical notes 1 (ExtraSamples) and 3 (predictor of floats).
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from blindsr.errors import ImageError
from blindsr.image_io import metadata
from blindsr.image_io.codecs import (
    LEVELS_NEEDED,
    Decoded,
    Target,
    check_page_number,
    check_size,
    decoding,
    geo,
    unprinted,
)
from blindsr.image_io.codecs.pillow import cmyk_to_srgb
from blindsr.image_io.samples import PhotoHeader, StoredSamples

_DESCRIPTION, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 274, 282, 283, 296
_XMP, _IPTC, _ICC_PROFILE, _DNG_VERSION, _SUBFILE_TYPE, _SUB_DIRECTORIES = 700, 33723, 34675, 50706, 254, 330
_IMAGEJ, _IMAGEJ_COUNTS = 50839, 50838
_TOGETHER = 1  # value of PlanarConfiguration: the samples of a pixel are
_NO_UNIT, _INCH, _CENTIMETRE = 1, 2, 3
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)  # photometric interpretations
_JPEG = (6, 7, 33007, 34892)  # compressions whose decoder converts YCbCr to RGB
_COEFFICIENTS, _REFERENCES = 529, 532  # of YCbCr
_BT601, _FULL_RANGE = (0.299, 0.587, 0.114), (0, 255, 128, 255, 128, 255)  # their defaults
_PREMULTIPLIED, _ALPHA = 1, 2  # values of ExtraSamples; 0 is a band of unknown meaning

# -------------------------------------------------------------------------------------------------------- reading

_MAX_TYPED_PAGES = 100  # of more pages the kind is not examined: they are no overviews
_REDUCED_PAGE, _MASK_PAGE = 1, 4  # bits of NewSubfileType: overview; transparency mask
_CENTIMETRES_PER_INCH = 2.54
_SEVERAL_OME_IMAGES = (
    "the OME description is not of these pages as one image: they are written as plain pages, without pixel size"
)
_CACHED_BYTES = 2**26  # images up to this size are decoded once, larger ones by windows


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and samples per pixel of the first page, upright."""
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        orientation = page.tags.valueof(_ORIENTATION, 1)
        return (*metadata.upright_size(page.imagelength, page.imagewidth, orientation), page.samplesperpixel)


def decode(file: BinaryIO, *, page: int | None, max_pixels: int) -> Decoded:
    """Open a page of a TIFF; None is the first one."""
    tiff = tifffile.TiffFile(file)
    pages, masks = _pages(tiff)
    page, warnings = check_page_number(page, len(pages), "TIFF", "page", has_frames=True)
    place = (pages[page - 1], len(tiff.pages))
    return _decoded(tiff, pages[page - 1], masks.get(page), place, file, max_pixels, warnings)


class TiffPages:
    """The pages of a TIFF that are images of their own, each with its channel if ImageJ or OME describe a stack."""

    animation = None

    def __init__(self, file: BinaryIO, *, max_pixels: int) -> None:
        self._tiff, self._file, self._max_pixels = tifffile.TiffFile(file), file, max_pixels
        self._pages, self._masks = _pages(self._tiff)
        tags = self._tiff.pages.first.tags
        text, self._display = tags.valueof(_DESCRIPTION), geo.imagej_display(tags.valueof(_IMAGEJ))
        self._stack = geo.read_stack(text, len(self._pages)) if isinstance(text, str) else None
        self.channels = (0,) * len(self._pages) if self._stack is None else self._stack.channels

    def __len__(self) -> int:
        return len(self._pages)

    def __getitem__(self, index: int, /) -> Decoded:
        """Open a page."""
        mask = self._masks.get(index + 1)
        # As of a file of its own: the description of all pages is added here.
        decoded = _decoded(self._tiff, self._pages[index], mask, (0, 1), self._file, self._max_pixels, [])
        header = decoded.header
        calibration = header.calibration
        if calibration is None or len(self) == 1:
            return decoded
        if self._stack is not None:
            calibration = replace(calibration, stack=self._stack, display=self._display)
        elif calibration.convention == "OME":  # one description of one image would not be true of all pages
            calibration = None
            header = replace(header, warnings=(*header.warnings, _SEVERAL_OME_IMAGES))
        return replace(decoded, header=replace(header, calibration=calibration))


def frames(file: BinaryIO, *, max_pixels: int) -> TiffPages:
    """The pages of a TIFF."""
    return TiffPages(file, max_pixels=max_pixels)


def _decoded(
    tiff: tifffile.TiffFile,
    index: int,
    mask_index: int | None,
    place: tuple[int, int],
    file: BinaryIO,
    max_pixels: int,
    warnings: list[str],
) -> Decoded:
    """A page, with the page that masks it, by their indices; `place` is its number of how many, as described."""
    chosen = _page(tiff, index)
    length = file.seek(0, os.SEEK_END)
    _check_page(chosen, max_pixels, length)
    header, orientation = _header(tiff, chosen, place, file, warnings), chosen.tags.valueof(_ORIENTATION, 1)
    orientation = orientation if isinstance(orientation, int) else 1
    reader, mask = TiffSamples(chosen, warnings), None
    if mask_index is not None:  # GDAL's
        mask_page = _page(tiff, mask_index)
        if (mask_page.imagelength, mask_page.imagewidth, mask_page.samplesperpixel) == (*reader.shape[:2], 1):
            _check_page(mask_page, reader.shape[0] * reader.shape[1], length)
            mask = TiffSamples(mask_page, [])
        else:
            warnings.append("the mask of the TIFF does not fit its image: it is ignored")
    samples: StoredSamples = reader
    if metadata.swaps_axes(orientation) or math.prod(reader.shape) * reader.dtype.itemsize <= _CACHED_BYTES:
        samples = reader[0 : reader.shape[0], 0 : reader.shape[1]]  # a row of a turned image is a column of the file
    is_rgb = int(chosen.photometric) in (_RGB, _PALETTE, _CMYK, _YCBCR)
    header = replace(
        header,
        has_alpha=reader.has_alpha,
        has_mask=mask is not None,
        # Three colours beside alpha are RGB, whatever the tag says: there is no other reading of them.
        is_rgb=is_rgb or (reader.has_alpha and reader.shape[2] == 4),
        dtype=reader.dtype,
        icc_profile=reader.icc_profile,
        warnings=tuple(warnings),
    )
    is_premultiplied = reader.has_alpha and int(chosen.extrasamples[0]) == _PREMULTIPLIED
    return Decoded(
        samples=samples, header=header, orientation=orientation, is_premultiplied=is_premultiplied, mask=mask
    )


def _pages(tiff: tifffile.TiffFile) -> tuple[list[int], dict[int, int]]:
    """Indices of the pages that are images of their own, and of their masks by number, counted from 1."""
    count = len(tiff.pages)
    if count > _MAX_TYPED_PAGES:
        return list(range(count)), {}
    images: list[int] = []
    masks: dict[int, int] = {}
    for index in range(count):
        kind = _page(tiff, index).tags.valueof(_SUBFILE_TYPE, 0)
        kind = kind if isinstance(kind, int) else 0
        if index == 0 or not kind & (_REDUCED_PAGE | _MASK_PAGE):
            images.append(index)
        elif kind == _MASK_PAGE:
            masks.setdefault(len(images), index)
    return images, masks


def _page(tiff: tifffile.TiffFile, index: int) -> tifffile.TiffPage:
    page = tiff.pages.get(index, cache=True)
    if not isinstance(page, tifffile.TiffPage):
        raise ImageError("a page of the TIFF cannot be read on its own; get an intact copy")
    return page


def _check_page(page: tifffile.TiffPage, max_pixels: int, length: int) -> None:
    """Refuse a page that is too large, of an unsupported kind, or whose samples are beyond the end of the file."""
    check_size(page.imagewidth, page.imagelength, max_pixels, samples=page.samplesperpixel)
    if _DNG_VERSION in page.tags:
        raise ImageError("this is a camera raw file with another suffix; name it .dng")
    if page.tags.valueof(_SUBFILE_TYPE, 0) == _REDUCED_PAGE and _SUB_DIRECTORIES in page.tags:
        raise ImageError("the first page of this TIFF is a preview, as in a camera raw file; name it like one (.nef …)")
    if (bits := page.bitspersample) not in (1, 8, 16, 32, 64):
        raise ImageError(f"a TIFF needs 1, 8, 16 or 32 bits per sample, or floats, this one has {bits}; convert it")
    if page.imagedepth > 1:
        raise ImageError(f"needed a flat image, this TIFF is a volume of {page.imagedepth} slices; cut one out")
    if _is_subsampled(page):
        raise ImageError("YCbCr with reduced colour resolution is not read; convert it to RGB")
    planes, _, height, width, _ = page.shaped
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    needed = planes * math.ceil(height / max(1, rows)) * math.ceil(width / max(1, columns))
    needed = 1 if page.is_contiguous else needed
    if (count := min(len(page.dataoffsets), len(page.databytecounts))) < needed:  # tifffile leaves the others to chance
        raise ImageError(f"the TIFF needs {needed} strips or tiles, it has {count}; get an intact copy")
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False) if count]
    end = max(ends, default=0)
    if not 0 < end <= length:
        raise ImageError(f"the TIFF needs samples up to byte {end}, the file has {length} bytes; get an intact copy")


def _is_subsampled(page: tifffile.TiffPage) -> bool:
    """Whether the samples are YCbCr with fewer of the colours, and not those of a JPEG, whose decoder repeats them.

    A file that does not say it has half of them in both directions, by the standard.
    """
    is_one_jpeg = page.compression in _JPEG and page.planarconfig == _TOGETHER
    return int(page.photometric) == _YCBCR and bool(page.is_subsampled) and not is_one_jpeg


# ------------------------------------------------------------------------------------------------------- metadata


def _header(
    tiff: tifffile.TiffFile, page: tifffile.TiffPage, place: tuple[int, int], file: BinaryIO, warnings: list[str]
) -> PhotoHeader:
    """Metadata of a page at a place in a stack; what depends on the samples is added later."""
    georeference, nodata = _georeference(page, warnings)
    first, exif, calibration = tiff.pages.first, metadata.exif_of_tiff(file), None
    unit, text = first.tags.valueof(_RESOLUTION_UNIT, _INCH), first.tags.valueof(_DESCRIPTION)
    if isinstance(text, str) and (plain := geo.plain_description(text)) != text:
        # The description is of the old size, and does not remain in the EXIF block.
        known = unit if unit in (_INCH, _CENTIMETRE) else _NO_UNIT
        display = geo.imagej_display(first.tags.valueof(_IMAGEJ))
        calibration = geo.read_calibration(
            text, _resolution(first), known, page=place[0], pages=place[1], display=display
        )
        block = metadata.load_exif(exif)
        block.pop(_DESCRIPTION, None)
        block.update({_DESCRIPTION: plain} if plain else {})
        exif = block.tobytes() if len(block) else None
    iptc = page.tags.valueof(_IPTC)
    if isinstance(iptc, tuple) and all(isinstance(part, int) and 0 <= part < 2**32 for part in iptc):
        iptc = np.asarray(iptc, page.parent.byteorder + "u4").tobytes()  # Photoshop stores bytes as LONG
    factor = {_INCH: 1.0, _CENTIMETRE: _CENTIMETRES_PER_INCH}.get(page.tags.valueof(_RESOLUTION_UNIT, _INCH), 0.0)
    resolution = None if calibration else _resolution(page)
    return PhotoHeader(
        dtype=np.dtype(np.uint8),
        format="TIFF",
        exif=exif,
        iptc=iptc if isinstance(iptc, bytes) else None,
        xmp=metadata.xmp_bytes(page.tags.valueof(_XMP)),
        dpi=metadata.plausible_dpi(tuple(value * factor for value in resolution)) if resolution else None,
        geo=georeference,
        calibration=calibration,
        nodata=nodata,
    )


def georeference_of(file: BinaryIO, warnings: list[str]) -> tuple[geo.Georeference | None, float | None]:
    """Georeference and no-data value of the first page of a TIFF; sentences on damaged ones go to `warnings`."""
    with tifffile.TiffFile(file) as tiff:
        return _georeference(tiff.pages.first, warnings)


def _georeference(page: tifffile.TiffPage, warnings: list[str]) -> tuple[geo.Georeference | None, float | None]:
    values = {code: page.tags.valueof(code) for code in geo.GEO_TAGS if code in page.tags}
    tags = {code: value if isinstance(value, str | tuple) else (value,) for code, value in values.items()}
    if tags and not geo.is_usable(tags):
        warnings.append("the georeference of the TIFF is damaged: it is not carried over")
        tags = {}
    nodata, text = None, page.tags.valueof(geo.NODATA_TAG)
    if text is not None:
        try:
            nodata = float(str(text).strip("\x00 "))
        except ValueError:
            warnings.append("the TIFF's no-data value is no number: it is left out")
    return geo.Georeference(tags=tags) if tags else None, nodata


def _resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    ratios = [page.tags.valueof(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    if not all(isinstance(ratio, tuple) and len(ratio) == 2 and all(ratio) for ratio in ratios):
        return None
    return ratios[0][0] / ratios[0][1], ratios[1][0] / ratios[1][1]


# -------------------------------------------------------------------------------------------------------- samples


def _is_windowable(page: tifffile.TiffPage) -> bool:
    """Whether the segments of a page can be decoded one by one, and their codec is known."""
    if page.jpegheader is not None or (page.is_subsampled and page.compression == 1):
        return False
    if page.is_contiguous:
        return bool(page.is_memmappable)
    try:
        page.decode(None, 0)  # builds the decoder, or raises if there is none
    except (ValueError, RuntimeError, ImportError, NotImplementedError):
        return False
    return True


class TiffSamples:
    """Samples of a page, (H, W, C), its colours converted to grey, RGB or bands; read by windows."""

    def __init__(self, page: tifffile.TiffPage, warnings: list[str]) -> None:
        self._page = page
        self._planes, _, self._height, self._width, self._contiguous = (int(n) for n in page.shaped)
        # Segments of the last window: the next one mostly begins in those that this one ended in.
        self._decoded: dict[int, NDArray[Any] | None] = {}
        self._stored_dtype = np.dtype(page.dtype).newbyteorder("=")
        self._segment_size = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self._width)
        height, width = (max(1, side) for side in self._segment_size)
        self._grid = math.ceil(self._height / height), math.ceil(self._width / width)
        self._whole = None if _is_windowable(page) else self._read_whole()
        first, self.has_alpha, self.icc_profile = _converted(page, self._read(0, 1, 0, 1), warnings)
        self.dtype: np.dtype[Any] = first.dtype
        self.shape: tuple[int, int, int] = (self._height, self._width, first.shape[2])

    def __getitem__(self, window: tuple[slice, slice], /) -> NDArray[Any]:
        """Read a window from the file, (h, w, C)."""
        rows, columns = window
        with decoding():
            return _converted(self._page, self._read(rows.start, rows.stop, columns.start, columns.stop), [])[0]

    def _read_whole(self) -> NDArray[Any]:
        page = self._page
        with unprinted():
            samples: NDArray[Any] = page.asarray(maxworkers=1)
        if samples.size != page.imagewidth * page.imagelength * page.samplesperpixel:
            raise ImageError("the TIFF has another number of samples than its header states; get an intact copy")
        if samples.ndim == 3 and page.axes.startswith("S"):
            samples = np.moveaxis(samples, 0, -1)
        return samples.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)

    def _read(self, top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
        """Samples as they are stored, (rows, columns, S)."""
        if self._whole is not None:
            return self._whole[top:bottom, left:right]
        window = np.empty((self._planes, bottom - top, right - left, self._contiguous), self._stored_dtype)
        if self._page.is_memmappable:
            self._read_contiguous(window, top, left)
        else:
            with unprinted():
                self._read_segments(window, top, left)
        # Planes, then samples within a pixel: one of the two numbers is 1.
        return np.ascontiguousarray(np.moveaxis(window, 0, -1).reshape(bottom - top, right - left, -1))

    def _read_contiguous(self, window: NDArray[Any], top: int, left: int) -> None:
        planes, rows, columns, contiguous = window.shape
        stored = np.dtype(self._page.parent.byteorder + self._stored_dtype.char)
        row_samples = self._width * contiguous
        for plane in range(planes):
            offset = self._page.dataoffsets[0] + (plane * self._height + top) * row_samples * stored.itemsize
            whole = self._page.parent.filehandle.read_array(stored, rows * row_samples, offset)
            window[plane] = whole.reshape(rows, self._width, contiguous)[:, left : left + columns]

    def _read_segments(self, window: NDArray[Any], top: int, left: int) -> None:
        bottom, right = top + window.shape[1], left + window.shape[2]
        (high, wide), (down, across) = self._segment_size, self._grid
        places = [
            ((plane * down + row) * across + column, plane, row * high, column * wide)
            for plane in range(self._planes)
            for row in range(top // high, (bottom - 1) // high + 1)
            for column in range(left // wide, (right - 1) // wide + 1)
        ]
        self._decoded = {index: self._decoded[index] for index, *_ in places if index in self._decoded}
        for index, plane, y, x in places:
            if index not in self._decoded:
                self._decoded[index] = self._segment(index)
            segment = self._decoded[index]
            height, width = self._segment_size if segment is None else segment.shape[:2]
            # Intersection of segment and window, in coordinates of the page; a tile may exceed the page.
            y0, y1 = max(y, top), min(y + height, bottom, self._height)
            x0, x1 = max(x, left), min(x + width, right, self._width)
            target = window[plane, y0 - top : y1 - top, x0 - left : x1 - left]
            target[...] = self._page.nodata if segment is None else segment[y0 - y : y1 - y, x0 - x : x1 - x]

    def _segment(self, index: int) -> NDArray[Any] | None:
        """Read and decode one strip or tile, (h, w, S); None where a sparse file has none."""
        page = self._page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count or not offset:
            return None
        handle = page.parent.filehandle
        handle.seek(offset)
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        segment, _, shape = page.decode(handle.read(count), index, **tables)
        if segment is not None and (segment.shape[0] != 1 or segment.shape[3] != self._contiguous):
            raise ImageError(f"a segment of the TIFF has the shape {segment.shape}, needed {shape}; get an intact copy")
        return None if segment is None else np.asarray(segment[0])


def _converted(
    page: tifffile.TiffPage, samples: NDArray[Any], warnings: list[str]
) -> tuple[NDArray[Any], bool, bytes | None]:
    """Convert a page's colours to grey, RGB or bands, pixel by pixel, so that any window can be given."""
    photometric = int(page.photometric)
    profile = page.tags.valueof(_ICC_PROFILE)
    profile = bytes(profile) if profile else None
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * np.uint8(255)
        warnings.append(f"grey of 1 bit is written with 8 bits: {LEVELS_NEEDED}")
    if photometric == _MIN_IS_WHITE:
        if samples.dtype.kind != "u":
            raise ImageError("a TIFF in which 0 is white must have unsigned integers, this one has others; convert it")
        samples = np.iinfo(samples.dtype).max - samples
    elif photometric == _PALETTE:
        return _from_palette(page, samples), False, profile
    elif photometric == _CMYK:
        if samples.dtype != np.uint8 or samples.shape[2] != 4:
            raise ImageError("a CMYK TIFF must have 8 bits and four channels; convert it to RGB")
        image, profile, warning = cmyk_to_srgb(Image.fromarray(samples, "CMYK"), profile)
        warnings.append(warning)
        return np.asarray(image), False, profile
    elif photometric == _YCBCR and page.compression not in _JPEG:
        samples = _from_ycbcr(page, samples)
    elif photometric not in (_MIN_IS_BLACK, _RGB, _YCBCR) and not page.is_mask:
        name = getattr(page.photometric, "name", photometric)
        raise ImageError(f"a TIFF must be grey, RGB, palette or CMYK, this one is {name}; convert it to RGB")
    return samples, _has_alpha(page, samples, warnings), profile


def _from_ycbcr(page: tifffile.TiffPage, samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert luma and the differences of blue and red to it (section 21); bands after the three stay as they are."""
    colours = samples.shape[2] - len(page.extrasamples)
    if samples.dtype != np.uint8 or colours != 3:
        raise ImageError("a YCbCr TIFF must have 8 bits and three channels; convert it to RGB")
    red, green, blue = _numbers(page, _COEFFICIENTS, _BT601)
    black_y, white_y, *references = _numbers(page, _REFERENCES, _FULL_RANGE)
    ranges = (white_y - black_y, references[1] - references[0], references[3] - references[2])
    if min(green, *ranges) <= 0:
        raise ImageError("the YCbCr of the TIFF is described by numbers that give no colours; convert it to RGB")
    values = samples[..., :3].astype(np.float32)
    y = (values[..., 0] - black_y) * (255 / ranges[0])
    cb, cr = ((values[..., band] - references[2 * band - 2]) * (127 / ranges[band]) for band in (1, 2))
    r, b = y + (2 - 2 * red) * cr, y + (2 - 2 * blue) * cb
    rgb = np.stack([r, (y - blue * b - red * r) / green, b], 2)
    whole = np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8)
    return np.concatenate([whole, samples[..., 3:]], 2)


def _numbers(page: tifffile.TiffPage, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """The fractions in a tag, or a default where it is missing or damaged."""
    value = page.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != 2 * len(default) or not all(value[1::2]):
        return default
    return tuple(a / b for a, b in zip(value[::2], value[1::2], strict=True))


def _has_alpha(page: tifffile.TiffPage, samples: NDArray[Any], warnings: list[str]) -> bool:
    extras = tuple(int(extra) for extra in page.extrasamples)
    colours = samples.shape[2] - len(extras)
    if _PREMULTIPLIED not in extras and _ALPHA not in extras:
        return False
    if len(extras) > 1 or colours not in (1, 3) or samples.dtype.kind == "i":
        warnings.append("an alpha channel among other bands is treated as one of the bands")
        return False
    return True


def _from_palette(page: tifffile.TiffPage, samples: NDArray[Any]) -> NDArray[Any]:
    colours = page.colormap
    if colours is None or samples.dtype.kind != "u" or int(samples.max()) >= colours.shape[1]:
        raise ImageError("a palette TIFF needs a colour for each of its values, this one lacks some; convert it")
    # 16 bits per colour by the standard; some writers store 8 in them.
    levels = colours >> 8 if int(colours.max()) > 255 else colours
    return np.asarray(levels.astype(np.uint8).T[samples[..., 0]])


# -------------------------------------------------------------------------------------------------------- writing

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _DOUBLE, _LONG8 = 1, 2, 3, 4, 5, 7, 12, 16
_FORMATS = {_SHORT: "H", _LONG: "I", _DOUBLE: "d", _LONG8: "Q"}
_TEXT_TAGS = (_DESCRIPTION, 269, 271, 272, 305, 306, 315, 316, 33432)  # make, model, software, date, artist …
_RATING_TAGS, _WINDOWS_TAGS = (18246, 18249), tuple(range(40091, 40096))
_INTEROPERABILITY = int(ExifTags.IFD.Interop)  # an offset into the old file, of no use in another
_STRIP_BYTES = 2**20  # unpacked; a reader of a window unpacks whole strips
#: Offsets of a classic TIFF have 32 bits. The effect of compression is not known beforehand.
CLASSIC_LIMIT = 2**32 - 2**25
_COMPRESSION_LEVEL, _DEFLATE = 6, 8
_NO_DIFFERENCES, _HORIZONTAL_DIFFERENCES, _FLOAT_DIFFERENCES = 1, 2, 3
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}

_Entries = dict[int, tuple[int, Any]]  # tag: type, and a text, bytes, or numbers


def _imagej_entries(display: Mapping[str, Any]) -> _Entries:
    """The tags of ImageJ's metadata; none if there is nothing."""
    tags = tifffile.tifffile.imagej_metadata_tag(dict(display), "<") if display else ()
    packed = {code: content for code, _, _, content, _ in tags}
    if not packed:
        return {}
    counts = np.frombuffer(packed[_IMAGEJ_COUNTS], "<u4").tolist()
    return {_IMAGEJ: (_BYTE, packed[_IMAGEJ]), _IMAGEJ_COUNTS: (_LONG, counts)}


class _Strips:
    """Rows regrouped into strips of equal height, compressed and written; offsets and sizes are kept."""

    def __init__(self, file: BinaryIO, rows_per_strip: int, *, has_predictor: bool = True) -> None:
        self.offsets: list[int] = []
        self.counts: list[int] = []
        self.rows_per_strip, self._file, self._has_predictor = rows_per_strip, file, has_predictor
        self._pending: list[NDArray[Any]] = []
        self._pending_rows = 0

    def write(self, rows: NDArray[Any]) -> None:
        """Add rows, (h, …); complete strips are written."""
        at = 0
        while at < len(rows):
            part = rows[at : at + self.rows_per_strip - self._pending_rows]
            self._pending.append(part)
            at, self._pending_rows = at + len(part), self._pending_rows + len(part)
            if self._pending_rows == self.rows_per_strip:
                self.flush()

    def flush(self) -> None:
        """Write the last strip, which may be lower."""
        if not self._pending:
            return
        strip = np.concatenate(self._pending)
        plain = strip.astype(strip.dtype.newbyteorder("<"), copy=False)
        samples = _with_predictor(strip) if self._has_predictor else plain.tobytes()
        packed = imagecodecs.deflate_encode(samples, _COMPRESSION_LEVEL)
        self._pending, self._pending_rows = [], 0
        self.offsets.append(self._file.tell())
        self.counts.append(self._file.write(packed))


def _with_predictor(strip: NDArray[Any]) -> bytes:
    """Replace samples by differences to the pixel before, which compress better; bits of a mask stay as they are."""
    if strip.ndim == 2:
        return strip.tobytes()
    if strip.dtype.kind == "f":
        packed: NDArray[Any] = imagecodecs.floatpred_encode(np.ascontiguousarray(strip, "<f4"), axis=-2)
        return packed.tobytes()
    differences: NDArray[Any] = imagecodecs.delta_encode(np.ascontiguousarray(strip), axis=-2)  # modulo 2ⁿ
    return differences.astype(differences.dtype.newbyteorder("<"), copy=False).tobytes()


class TiffEncoder:
    """Writes one deflated image, and its mask as a second one, or several pages; a BigTIFF if it may pass 4 GB."""

    def __init__(self, target: Target) -> None:
        self._file, self._page = target.file, 0
        height, width, channels = target.shape
        page_bytes = height * width * channels * target.header.dtype.itemsize
        self._is_big = page_bytes * target.images > CLASSIC_LIMIT
        self._offset, self._pointer = (_LONG8, "<Q") if self._is_big else (_LONG, "<I")
        # The offset of each directory is filled in when it is written, after its strips: here that of the first one.
        self._link_at = 8 if self._is_big else 4
        self._file.write(b"II+\x00\x08\x00\x00\x00" + bytes(8) if self._is_big else b"II*\x00" + bytes(4))
        self._begin(target)

    def _begin(self, target: Target) -> None:
        """Begin a page."""
        self._target, self.dtype = target, target.header.dtype
        height, width, channels = target.shape
        row_bytes = width * channels * self.dtype.itemsize
        # ImageJ undoes the differences of LZW only, and shows them otherwise.
        calibration = target.header.calibration
        self._has_predictor = calibration is None or calibration.convention != "ImageJ"
        rows = min(height, max(1, _STRIP_BYTES // row_bytes))
        self._strips = _Strips(self._file, rows, has_predictor=self._has_predictor)
        self._mask = _Strips(self._file, min(height, max(1, _STRIP_BYTES * 8 // width)))

    def next_image(self, target: Target) -> None:
        """End a page, and begin the next one."""
        self.close()
        self._page += 1
        self._begin(target)

    def write(self, samples: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Write the next rows, (h, W, C), and which of their samples are valid."""
        self._strips.write(samples)
        if self._target.header.has_mask:
            pixels = np.ones(samples.shape[:2], np.bool_) if valid is None else valid.all(axis=2)
            self._mask.write(np.packbits(pixels, axis=1))

    def close(self) -> None:
        """Write the last strips and the directories of a page."""
        self._strips.flush()
        self._mask.flush()
        exif = metadata.load_exif(metadata.exif_for_size(self._target.header.exif, self._target.size))
        entries = self._sample_entries() | self._strip_entries(self._strips) | self._metadata_entries(exif)
        for tag in metadata.EXIF_DIRECTORIES:
            if values := exif.get_ifd(tag):
                entries[tag] = (self._offset, [self._write_exif(tag, values)])
        directories = [entries]
        if self._target.header.has_mask:
            mask = {254: (_LONG, [_MASK_PAGE]), 258: (_SHORT, [1]), 262: (_SHORT, [_MASK]), 277: (_SHORT, [1])}
            directories.append(mask | self._strip_entries(self._mask))
        for directory in directories:
            link_at = self._link_at
            self._link(link_at, self._write_directory(directory))

    def _sample_entries(self) -> _Entries:
        header, colours, channels = self._target.header, self._target.channels, self._target.shape[2]
        is_rgb = colours >= 3 if header.is_rgb else colours == 3 and header.is_rgb is None
        extras = [0] * (colours - (3 if is_rgb else 1)) + [
            _PREMULTIPLIED if header.is_premultiplied else _ALPHA
        ] * header.has_alpha
        predictor = _FLOAT_DIFFERENCES if self.dtype.kind == "f" else _HORIZONTAL_DIFFERENCES
        predictor = predictor if self._has_predictor else _NO_DIFFERENCES
        entries: _Entries = {
            258: (_SHORT, [8 * self.dtype.itemsize] * channels),
            262: (_SHORT, [_RGB if is_rgb else _MIN_IS_BLACK]),
            277: (_SHORT, [channels]),
            317: (_SHORT, [predictor]),
            339: (_SHORT, [_SAMPLE_FORMATS[self.dtype.kind]] * channels),
        }
        return entries | ({338: (_SHORT, extras)} if extras else {})

    def _strip_entries(self, strips: _Strips) -> _Entries:
        """The size of an image, and the positions of its strips."""
        height, width, _ = self._target.shape
        return {
            256: (_LONG, [width]),
            257: (_LONG, [height]),
            259: (_SHORT, [_DEFLATE]),
            273: (self._offset, strips.offsets),
            278: (_LONG, [strips.rows_per_strip]),
            279: (self._offset, strips.counts),
            284: (_SHORT, [_TOGETHER]),
        }

    def _metadata_entries(self, exif: Image.Exif) -> _Entries:
        header, size = self._target.header, self._target.size
        entries: _Entries = {tag: (_ASCII, exif[tag]) for tag in _TEXT_TAGS if isinstance(exif.get(tag), str)}
        for tag in _RATING_TAGS:
            if isinstance(value := exif.get(tag), int) and 0 <= value < 2**16:
                entries[tag] = (_SHORT, [value])
        entries |= {tag: (_BYTE, exif[tag]) for tag in _WINDOWS_TAGS if isinstance(exif.get(tag), bytes)}
        blocks = {
            _XMP: (_BYTE, metadata.xmp_for_size(header.xmp, size)),
            _IPTC: (_UNDEFINED, header.iptc),
            _ICC_PROFILE: (_UNDEFINED, header.icc_profile),
        }
        entries |= {tag: block for tag, block in blocks.items() if block[1]}
        resolution, unit = header.dpi, _INCH
        if header.calibration is not None:
            calibration = header.calibration.scaled(*header.scale_to(size))
            entries.pop(_DESCRIPTION, None)
            if self._page == 0:  # that of the first page describes all
                entries[_DESCRIPTION] = (_ASCII, calibration.description(self._target.shape, self.dtype.name))
                entries |= _imagej_entries(calibration.display)
            if isinstance(calibration.unit, int):  # ImageJ reads the resolution, OME its own description
                resolution, unit = calibration.resolution, calibration.unit
        elif (record := dict(header.texts).get(metadata.PROVENANCE_KEYWORD)) is not None:
            entries.setdefault(_DESCRIPTION, (_ASCII, record))  # the photographer's has precedence
        if resolution is not None:
            entries |= {_X_RESOLUTION: (_RATIONAL, resolution[0]), _Y_RESOLUTION: (_RATIONAL, resolution[1])}
            entries[_RESOLUTION_UNIT] = (_SHORT, [unit])
        if header.geo is not None:
            for tag, value in header.geo.scaled(*header.scale_to(size)).tags.items():
                kind = _ASCII if isinstance(value, str) else _SHORT if tag == geo.GEO_KEYS else _DOUBLE
                entries[tag] = (kind, value)
        if header.nodata is not None:
            entries[geo.NODATA_TAG] = (_ASCII, f"{header.nodata:.17g}")
        return entries

    def _write_exif(self, tag: int, values: Any) -> int:  # noqa: ANN401 - a dictionary of Pillow
        """Write the EXIF or GPS directory; return its offset."""
        start = self._aligned()
        prefix = b"II+\x00\x08\x00\x00\x00" + struct.pack("<Q", 16) if self._is_big else b"II*\x00\x08\x00\x00\x00"
        directory = TiffImagePlugin.ImageFileDirectory_v2(prefix, group=tag)
        for key, value in values.items():
            if key != _INTEROPERABILITY:
                directory[key] = value
        self._file.write(directory.tobytes(start))
        return start

    def _write_directory(self, entries: _Entries) -> int:
        """Write a directory, and then what does not fit into it; return its offset."""
        start = self._aligned()
        count, entry, inline = ("<Q", "<HHQ", 8) if self._is_big else ("<H", "<HHI", 4)
        self._link_at = start + struct.calcsize(count) + len(entries) * (struct.calcsize(entry) + inline)
        at = self._link_at + inline
        directory, contents = [struct.pack(count, len(entries))], []
        for tag, (kind, value) in sorted(entries.items()):
            number, content = _packed(kind, value)
            if len(content) > inline:
                contents.append(content + bytes(len(content) % 2))
                content = struct.pack(self._pointer, at)
                at += len(contents[-1])
            directory.append(struct.pack(entry, tag, kind, number) + content.ljust(inline, b"\x00"))
        self._file.write(b"".join((*directory, bytes(inline), *contents)))
        return start

    def _aligned(self) -> int:
        """Directories begin at even offsets."""
        position = self._file.tell()
        return position + (self._file.write(b"\x00") if position % 2 else 0)

    def _link(self, at: int, offset: int) -> None:
        end = self._file.tell()
        self._file.seek(at)
        self._file.write(struct.pack(self._pointer, offset))
        self._file.seek(end)


encoder = TiffEncoder


def _packed(kind: int, value: Any) -> tuple[int, bytes]:  # noqa: ANN401 - of any type
    """Number and content of the values of a tag."""
    if kind == _RATIONAL:
        limit = min(1_000_000, int(2**31 / max(value, 1)))  # so that both numbers fit into 32 bits
        ratio = Fraction(value).limit_denominator(max(1, limit))
        return 1, struct.pack("<II", min(ratio.numerator, 2**32 - 1), ratio.denominator)
    if kind in _FORMATS:
        numbers = value if kind == _DOUBLE else map(int, value)
        return len(value), struct.pack(f"<{len(value)}{_FORMATS[kind]}", *numbers)
    content = value if isinstance(value, bytes) else value.encode("utf-8", errors="replace") + b"\x00"
    return len(content), content
