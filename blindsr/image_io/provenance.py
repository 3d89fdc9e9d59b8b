"""What a picture says of its making: which program, which settings, which kernel; or nothing, if so wished."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from blindsr.image_io.metadata import exif_with_software
from blindsr.image_io.photo import PhotoHeader
from blindsr.image_io.xmp import xmp_with_provenance

__all__ = ["OWN_KEYWORDS", "PROVENANCE_KEYWORD", "Provenance", "with_provenance", "without_metadata"]

#: Keyword of the text in a PNG, and of the one that becomes a TIFF's ImageDescription.
PROVENANCE_KEYWORD = "blindsr"
_SOFTWARE = "Software"
OWN_KEYWORDS = (_SOFTWARE, PROVENANCE_KEYWORD)
_Header = TypeVar("_Header", bound=PhotoHeader)


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How a picture was made.

    Args:
        program: Name and version.
        details: Anything that JSON holds: settings, the digests of kernel and input.
    """

    program: str
    details: Mapping[str, object]


def with_provenance(header: _Header, provenance: Provenance) -> _Header:
    """Note it where formats have a place: EXIF Software, XMP, texts of a PNG, ImageDescription of a TIFF."""
    details = json.dumps(provenance.details, separators=(",", ":"), sort_keys=True)
    kept = tuple(pair for pair in header.texts if pair[0] not in OWN_KEYWORDS)
    return replace(
        header,
        exif=exif_with_software(header.exif, provenance.program),
        xmp=xmp_with_provenance(header.xmp, provenance.program, details),
        texts=(*kept, (_SOFTWARE, provenance.program), (PROVENANCE_KEYWORD, details)),
    )


def without_metadata(header: _Header) -> _Header:
    """Drop what tells of persons, places and devices: EXIF, XMP, IPTC, texts, georeference.

    The colour profile and the resolution stay, as the picture would look or print otherwise; so does "no data".
    """
    return replace(header, exif=None, xmp=None, iptc=None, texts=(), geo=None)
