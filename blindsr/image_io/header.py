"""From what a decoder found to the header of a photo: turned, cleaned, and with a sentence for every change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from blindsr.image_io.decoding import decoding
from blindsr.image_io.holes import usable_nodata
from blindsr.image_io.metadata import clean_exif, exif_orientation, exif_resolution, swaps_axes
from blindsr.image_io.photo import PhotoHeader
from blindsr.image_io.raw import RawHeader
from blindsr.image_io.samples import SampleScan, stored_dtype
from blindsr.image_io.xmp import clean_xmp

__all__ = ["complete_header", "draft_header"]

_TURNED_BY_DECODER = ("TIFF", "HEIC", "RAW")  # or it read the orientation itself
_FLOAT32_COUNTS_TO = 2**24
_IPTC_RECORD_HEAD = 5  # bytes


def draft_header(raw: RawHeader, dtype: np.dtype[Any], size: tuple[int, int], path: Path) -> tuple[PhotoHeader, int]:
    """Settle what can be settled before the samples are looked at.

    Args:
        raw: What the decoder found.
        dtype: Type of the file's samples.
        size: Width and height as the file stores them.
        path: For messages.

    Returns:
        A header that lacks `value_range`, and the orientation, 1 to 8, that the samples are still to be turned by.

    Raises:
        ImageError: Samples of this type cannot be kept.
    """
    notes = list(raw.notes)
    orientation, exif, dpi = raw.orientation, None, raw.dpi
    with decoding(path) as said:
        try:
            if raw.format not in _TURNED_BY_DECODER:
                orientation = exif_orientation(raw.exif)
            exif = clean_exif(raw.exif)
            dpi = dpi or exif_resolution(raw.exif)
        except Exception:  # a damaged EXIF block must not cost the picture
            notes.append("the EXIF block of the file is damaged: it is not kept")
        xmp = clean_xmp(raw.xmp)
    if said:
        notes.append("the EXIF block of the file is damaged in places: what could be read of it is kept")
    if dtype == np.float64:
        notes.append("64-bit floats are read and written as 32-bit ones")
    stored = stored_dtype(dtype)
    nodata = None if raw.nodata is None else usable_nodata(raw.nodata, stored)
    if raw.nodata is not None and nodata is None:
        notes.append(f"no {stored} sample can be {raw.nodata:g}, the file's value for no data: it is left out")
    geo = raw.geo
    if geo is not None and orientation != 1:
        geo = None
        notes.append("the georeference fits the picture before it was turned upright: it is not carried over")
    swap = swaps_axes(orientation)
    header = PhotoHeader(
        has_alpha=raw.has_alpha,
        dtype=stored,
        format=raw.format,
        source_size=size[::-1] if swap else size,
        icc_profile=raw.icc_profile,
        exif=exif,
        xmp=xmp,
        iptc=raw.iptc if raw.iptc and len(raw.iptc) > _IPTC_RECORD_HEAD else None,
        dpi=dpi[::-1] if dpi and swap else dpi,
        png_colour=raw.png_colour,
        geo=geo,
        texts=raw.texts,
        value_range=(0.0, 1.0),
        nodata=nodata,
        notes=tuple(dict.fromkeys(notes)),
    )
    return header, orientation


def complete_header(draft: PhotoHeader, scan: SampleScan) -> PhotoHeader:
    """Add what the samples told.

    Raises:
        ImageError: No sample was measured.
    """
    low, high = scan.value_range
    notes = list(draft.notes)
    if draft.dtype.kind == "f" and (low < 0 or high > 1):
        notes.append(f"the values span [{low:g}, {high:g}]: that range is kept")
    elif draft.dtype.kind != "f" and high - low > _FLOAT32_COUNTS_TO:
        notes.append(f"the values span [{low:.0f}, {high:.0f}]: they are kept to about 7 digits")
    if scan.holes:
        as_what = "NaN" if draft.nodata is None else f"{draft.nodata:g}"
        samples = f"{scan.holes} sample{'s' * (scan.holes != 1)}"
        notes.append(f"no data in {samples}: filled from the neighbours for the work, {as_what} in the result")
    return replace(draft, value_range=(low, high), notes=tuple(dict.fromkeys(notes)))
