"""What a TIFF page says beside its samples: pages, resolution, EXIF, XMP, georeference, "no data"."""

from typing import BinaryIO

import tifffile

from blindsr.image_io.georeference import GEO_TAGS, NODATA_TAG, Georeference, is_usable
from blindsr.image_io.metadata import exif_of_tiff, plausible_dpi
from blindsr.image_io.raw import RawHeader

__all__ = ["tiff_header"]

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _XMP = 274, 282, 283, 296, 700
_IPTC, _SUBFILE_TYPE = 33723, 254
_MOST_LOOKED_AT = 100  # pages; more are no overviews
_INCH, _CENTIMETRE = 2, 3
_CENTIMETRES_PER_INCH = 2.54
_IS_PAGE_OF_SAME_PICTURE = {1, 5}  # NewSubfileType: reduced resolution (overview), and its mask


def tiff_header(file: tifffile.TiffFile, page: tifffile.TiffPage, stream: BinaryIO) -> RawHeader:
    """Gather it; alpha and profile, which depend on the samples, are left open."""
    notes: list[str] = []
    others = _other_pages(file)
    if others:
        notes.append(f"the TIFF has {others + 1} pages: page 1 is used")
    orientation = page.tags.valueof(_ORIENTATION, 1)
    xmp, iptc = page.tags.valueof(_XMP), page.tags.valueof(_IPTC)
    return RawHeader(
        has_alpha=False,
        format="TIFF",
        orientation=int(orientation) if isinstance(orientation, int) else 1,
        exif=exif_of_tiff(stream),
        iptc=iptc if isinstance(iptc, bytes) else None,
        xmp=xmp if isinstance(xmp, bytes | str) else None,
        dpi=_dpi(page),
        geo=_georeference(page, notes),
        nodata=_nodata(page, notes),
        notes=notes,
    )


def _other_pages(file: tifffile.TiffFile) -> int:
    """Pages after the first that are no overviews of it."""
    if len(file.pages) > _MOST_LOOKED_AT:
        return len(file.pages) - 1
    count = 0
    for index in range(1, len(file.pages)):
        page = file.pages[index]
        kind = page.tags.valueof(_SUBFILE_TYPE, 0) if isinstance(page, tifffile.TiffPage) else 0
        count += kind not in _IS_PAGE_OF_SAME_PICTURE
    return count


def _georeference(page: tifffile.TiffPage, notes: list[str]) -> Georeference | None:
    found = {code: page.tags.valueof(code) for code in GEO_TAGS if code in page.tags}
    tags = {code: value if isinstance(value, str | tuple) else (value,) for code, value in found.items()}
    if tags and not is_usable(tags):
        notes.append("the georeference of the TIFF is damaged: it is not carried over")
        return None
    return Georeference(tags=tags) if tags else None


def _nodata(page: tifffile.TiffPage, notes: list[str]) -> float | None:
    text = page.tags.valueof(NODATA_TAG)
    if text is None:
        return None
    try:
        return float(str(text).strip("\x00 "))
    except ValueError:
        notes.append("the TIFF's value for no data is no number: it is left out")
        return None


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = page.tags.valueof(_RESOLUTION_UNIT, _INCH)
    values = []
    for tag in (_X_RESOLUTION, _Y_RESOLUTION):
        ratio = page.tags.valueof(tag)
        if not isinstance(ratio, tuple) or len(ratio) != 2 or not ratio[0] or not ratio[1]:
            return None
        values.append(ratio[0] / ratio[1] * (_CENTIMETRES_PER_INCH if unit == _CENTIMETRE else 1.0))
    return plausible_dpi((values[0], values[1])) if unit in (_INCH, _CENTIMETRE) else None
