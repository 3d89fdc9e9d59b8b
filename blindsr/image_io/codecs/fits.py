"""FITS images of astronomy, through the optional package astropy: 2-D, or 3-D with planes as bands.

The header is kept card by card, its world coordinates are scaled with the image. Rows stay in the order of the file:
the first one is the lowest on the screen of most programs for FITS.

Sources: FITS Standard 4.0, sections 4.4 (keywords), 5 (data), 8 (world coordinates); Shupe et al., "The SIP Convention
for Representing Distortion in FITS Image Headers", ADASS XIV, 2005; the FITS dictionary of NOAO for LTV and LTM.
"""

import importlib
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.codecs import Decoded, Target, check_page_number, check_size, missing_package
from blindsr.image_io.formats import FileFormat
from blindsr.image_io.metadata import OWN_KEYWORDS, PROVENANCE_KEYWORD
from blindsr.image_io.samples import PhotoHeader

_BLOCK = 2880  # bytes; header and data fill whole blocks
# Integers that FITS does not have are stored with an offset (section 5.2.5).
_ZEROS = {"int8": -(2**7), "uint16": 2**15, "uint32": 2**31}
_BITS = {"uint8": 8, "int8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "float32": -32}
# What describes the storage of the old samples, or is computed from them.
_STORAGE = re.compile(
    r"(SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|DATAMIN|DATAMAX|CHECKSUM|DATASUM|"
    r"ZIMAGE|ZTENSION|ZCMPTYPE|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZNAME\d+|ZVAL\d+|ZQUANTIZ|ZDITHER0|ZBLANK|ZSIMPLE|ZEXTEND|END)"
)
_REFERENCE = re.compile(r"CRPIX([12])([A-Z]?)")
_MATRIX = re.compile(r"(CD|PC)(\d+)_([12])([A-Z]?)")
_STEP = re.compile(r"CDELT([12])([A-Z]?)")
_SIP = re.compile(r"(A|B|AP|BP)_(\d)_(\d)")
_PIXEL_SIZE = re.compile(r"(?:XPIXSZ|PIXSCAL1|SECPIX1|PIXSIZE1|(YPIXSZ|PIXSCAL2|SECPIX2|PIXSIZE2)|PIXSCALE|SECPIX)")
_TABLES = ("CPDIS1", "CPDIS2", "CPDIS1A", "DP1", "DP2", "D2IMDIS1", "D2IMDIS2")


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and planes of the first image."""
    shape = _shape(_images(_opened(file))[0].shape)
    return shape[1], shape[2], shape[0]


def decode(file: BinaryIO, *, page: int | None, max_pixels: int) -> Decoded:
    """Decode an image: of those of the file the one numbered `page`, or the first one."""
    images = _images(_opened(file))
    page, warnings = check_page_number(page, len(images), "FITS file")
    image = images[page - 1]
    planes, height, width = _shape(image.shape)
    check_size(width, height, max_pixels, samples=planes)
    cards, blank = image.header.copy(), image.header.get("BLANK")
    zero, scale = cards.get("BZERO", 0), cards.get("BSCALE", 1)
    is_integer = cards.get("BITPIX", -32) > 0
    samples = np.asarray(image.data).reshape(planes, height, width)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    nodata = float(blank * scale + zero) if blank is not None and is_integer else None
    if nodata is not None and samples.dtype.kind == "f":  # scaled integers
        samples = np.where(samples == samples.dtype.type(nodata), np.nan, samples)
        nodata = None
    lost = [name for name in _TABLES if name in cards]
    if lost:
        warnings.append(f"the distortion tables of the FITS header ({', '.join(lost)}) are not scaled: it is left out")
    header = PhotoHeader(
        dtype=samples.dtype,
        format="FITS",
        nodata=nodata,
        cards="".join(str(card) for card in _kept(cards)),
        warnings=tuple(warnings),
    )
    return Decoded(samples=np.ascontiguousarray(np.moveaxis(samples, 0, -1)), header=header, orientation=1)


def missing(format_: FileFormat) -> str | None:
    """Why this installation cannot write FITS; None if it can."""
    try:
        _astropy()
    except ImageError:
        return f'{format_.title} needs the package astropy; run pip install "blindsr[astro]"'
    return None


def _astropy() -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module("astropy.io.fits")
    except ImportError:
        raise missing_package("FITS image", "astropy", "astro", "convert it to a TIFF of floats") from None


def _opened(file: BinaryIO) -> Any:  # noqa: ANN401 - a list of HDUs
    file.seek(0)
    # astropy would make floats with NaN of integers with a value for missing samples.
    return _astropy().open(file, mode="readonly", memmap=False, lazy_load_hdus=True, ignore_blank=True)


def _images(units: Any) -> list[Any]:  # noqa: ANN401
    """The units of a file that have pixels: the primary one, or image extensions, packed ones too."""
    images = [unit for unit in units if unit.is_image and unit.shape and 0 not in unit.shape]
    if not images:
        raise ImageError("needed an image, this FITS file has none (only tables, or headers); choose another file")
    return images


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Planes, height and width; axes of length 1 before them, as of radio telescopes, are left out."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) not in (2, 3):
        lengths = "×".join(map(str, shape[::-1])) or "no"
        raise ImageError(f"a FITS image needs 2 axes, or 3 with planes, this one has {lengths} px; cut a plane out")
    return (1, *shape) if len(shape) == 2 else shape  # type: ignore[return-value]


def _kept(cards: Any) -> Iterator[Any]:  # noqa: ANN401 - a Header
    """The cards that are true of the result, or become so when they are scaled."""
    for card in cards.cards:
        if not _STORAGE.fullmatch(card.keyword) and card.keyword not in _TABLES:
            yield card


def scale_coordinates(cards: Any, x: float, y: float) -> None:  # noqa: ANN401 - a Header
    """Scale the world coordinates of a header for an image with `x` times the columns and `y` times the rows.

    The centre of the first pixel is (1, 1): a position p becomes (p − ½)·f + ½. A matrix is scaled by columns, the
    polynomials of SIP by their powers.
    """
    factors = (x, y)
    versions = {match[2] for key in cards if (match := _REFERENCE.fullmatch(key))}
    matrices = {match[4]: match[1] for key in cards if (match := _MATRIX.fullmatch(key))}
    for version, kind in matrices.items():
        if kind == "PC":  # what is left out is that of the unit matrix
            for axis in (1, 2):
                cards.setdefault(f"PC{axis}_{axis}{version}", 1.0)
    for version in versions - set(matrices):
        for axis in (1, 2):
            cards.setdefault(f"CDELT{axis}{version}", 1.0)
    for key in list(dict.fromkeys(cards)):
        value = cards[key] if key not in ("", "COMMENT", "HISTORY") else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if match := _REFERENCE.fullmatch(key):
            cards[key] = (value - 0.5) * factors[int(match[1]) - 1] + 0.5
        elif match := _MATRIX.fullmatch(key):
            cards[key] = value / factors[int(match[3]) - 1]
        elif (match := _STEP.fullmatch(key)) and match[2] not in matrices:
            cards[key] = value / factors[int(match[1]) - 1]
        elif match := _SIP.fullmatch(key):
            own = x if match[1].startswith("A") else y
            cards[key] = value * own / (x ** int(match[2]) * y ** int(match[3]))
        elif key in ("A_DMAX", "B_DMAX"):
            cards[key] = value * (x if key.startswith("A") else y)
        elif key in ("LTM1_1", "LTM2_2"):
            cards[key] = value * factors[int(key[3]) - 1]
        elif key in ("LTV1", "LTV2"):
            factor = factors[int(key[3]) - 1]
            cards[key] = value * factor + 0.5 * (1 - factor)
        elif match := _PIXEL_SIZE.fullmatch(key):
            cards[key] = value / (y if match[1] else x)


class FitsEncoder:
    """Writes one image into the primary unit, plane by plane, as its rows come."""

    def __init__(self, target: Target) -> None:
        self._file, self._row = target.file, 0
        self.dtype = target.header.dtype
        height, width, planes = target.shape
        self._shape, name = (planes, height, width), self.dtype.name
        self._stored = np.dtype(f">i{self.dtype.itemsize}") if name != "float32" else np.dtype(">f4")
        self._zero = _ZEROS.get(name, 0)
        if name in ("uint8", "int8"):
            self._stored = np.dtype(np.uint8)
        self._file.write(_header_of(target).tostring().encode("ascii"))
        self._start = self._file.tell()

    def write(self, samples: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Write the next rows, (h, W, C)."""
        _, height, width = self._shape
        if self._zero:
            samples = samples.astype(np.int64) - self._zero
        stored = samples.astype(self._stored)
        for plane in range(stored.shape[2]):
            self._file.seek(self._start + (plane * height + self._row) * width * self._stored.itemsize)
            self._file.write(stored[..., plane].tobytes())
        self._row += len(samples)

    def close(self) -> None:
        """Fill the last block with zeros."""
        planes, height, width = self._shape
        length = planes * height * width * self._stored.itemsize
        self._file.seek(self._start + length)
        self._file.write(bytes(-length % _BLOCK))


encoder = FitsEncoder


def _header_of(target: Target) -> Any:  # noqa: ANN401 - a Header
    """The header of the result: its own structure, the kept cards, and a HISTORY."""
    fits, header = _astropy(), target.header
    height, width, planes = target.shape
    name = header.dtype.name
    cards = fits.Header()
    cards["SIMPLE"] = (True, "conforms to the FITS standard")
    cards["BITPIX"] = (_BITS[name], "bits of a sample; negative: floats")
    axes = (width, height) if planes == 1 else (width, height, planes)
    cards["NAXIS"] = (len(axes), "number of axes")
    for number, length in enumerate(axes, 1):
        cards[f"NAXIS{number}"] = length
    if name in _ZEROS:
        cards["BSCALE"], cards["BZERO"] = 1, _ZEROS[name]
    if header.nodata is not None and header.dtype.kind != "f":
        cards["BLANK"] = int(header.nodata) - _ZEROS.get(name, 0)
    if header.cards:
        kept = fits.Header.fromstring(header.cards)
        scale_coordinates(kept, *header.scale_to(target.size))
        cards.extend(kept.cards, bottom=True)
    texts = dict(header.texts)
    if (record := texts.get(PROVENANCE_KEYWORD)) is not None:
        cards.add_history(f"{texts.get(OWN_KEYWORDS[0], PROVENANCE_KEYWORD)}: {record}")
    return cards
