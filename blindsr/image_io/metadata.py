"""Metadata: orientation, EXIF, XMP, IPTC and provenance; what is applied, reset, carried over or added.

Sources: TIFF 6.0, tag 274; Exif 2.32; ISO 16684-1 (XMP, part 1), sections 7.3 and 7.4; IPTC Photo Metadata Standard
2023.1, Digital Source Type; IPTC-NAA IIM 4.2; Adobe, Photoshop File Formats Specification, "Image Resource Blocks".
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape  # that of xml.sax imports urllib
from numbers import Real
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from blindsr.image_io.samples import PhotoHeader

# ---------------------------------------------------------------------------------------------------- orientation


def upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn (H, W, …) samples as EXIF orientation 1–8 demands; another value leaves them as they are."""
    if swaps_axes(orientation):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def stored_window(
    window: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """The window (top, bottom, left, right) of a file that `upright` turns into this window of an image of `size`."""
    top, bottom, left, right = window
    width, height = size
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    return (left, right, top, bottom) if swaps_axes(orientation) else (top, bottom, left, right)


def upright_size(height: int, width: int, orientation: object) -> tuple[int, int]:
    """Height and width of an image after `upright`."""
    return (width, height) if swaps_axes(orientation) else (height, width)


def swaps_axes(orientation: object) -> bool:
    """Whether the orientation exchanges width and height."""
    return orientation in (5, 6, 7, 8)


# ----------------------------------------------------------------------------------------------------------- EXIF

_EXIF_HEADER = b"Exif\x00\x00"
_MIN_DPI = 0.1  # PNG counts whole pixels per metre
_ORIENTATION = int(ExifTags.Base.Orientation)
#: Tags of the directories within an EXIF block.
EXIF_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_RESOLUTION = (int(ExifTags.Base.XResolution), int(ExifTags.Base.YResolution))
_UNIT = int(ExifTags.Base.ResolutionUnit)
_INCH, _UNITS = 2, {2: 1.0, 3: 2.54}  # EXIF's inch and centimetre, in inches
_EXIF_WIDTH_HEIGHT = ((int(ExifTags.Base.ExifImageWidth), 0), (int(ExifTags.Base.ExifImageHeight), 1))
# Tags of the first directory that describe the photograph. All others describe how a TIFF or DNG stores its samples,
# and would be wrong, or very long, in another file.
_KEPT_TAGS = {
    *(269, 270, 271, 272, _ORIENTATION, *_RESOLUTION, _UNIT, 305, 306, 315, 316, 33432, *EXIF_DIRECTORIES),
    *(18246, 18249),  # rating, as stars and in per cent
    *range(40091, 40096),  # title, comment, author, keywords and subject of Windows
}


def load_exif(exif: bytes | None) -> Image.Exif:
    """Parse an EXIF block with or without its header; None is an empty one."""
    block = Image.Exif()
    if exif:
        block.load(exif if exif.startswith(_EXIF_HEADER) else _EXIF_HEADER + exif)
    return block


def exif_orientation(exif: bytes | None) -> int:
    """Orientation of an EXIF block; 1 if there is none or it makes no sense."""
    value = load_exif(exif).get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def clean_exif(exif: bytes | None) -> bytes | None:
    """Reset the orientation, drop the thumbnail and the tags of a file's own storage; None if nothing remains."""
    block = load_exif(exif)
    for tag in [tag for tag in block if tag not in _KEPT_TAGS]:
        del block[tag]
    if _ORIENTATION in block:
        block[_ORIENTATION] = 1
    return block.tobytes() if len(block) else None  # Exif.tobytes writes no second directory: no thumbnail


def exif_for_size(exif: bytes | None, size: tuple[int, int], dpi: tuple[float, float] | None = None) -> bytes | None:
    """Update width and height in an EXIF block that has such tags; add a resolution, for which None makes a block."""
    if not exif and dpi is None:
        return None
    block = load_exif(exif)
    details = block.get_ifd(ExifTags.IFD.Exif)
    details.update({tag: size[axis] for tag, axis in _EXIF_WIDTH_HEIGHT if tag in details})
    block.update({**dict(zip(_RESOLUTION, dpi, strict=True)), _UNIT: _INCH} if dpi else {})
    return block.tobytes()


def exif_resolution(exif: bytes | None) -> tuple[float, float] | None:
    """Resolution of an EXIF block in pixels per inch; None if it has none, or one that makes no sense."""
    block = load_exif(exif)
    factor = _UNITS.get(block.get(_UNIT, _INCH), 0.0)
    values = (block.get(tag) for tag in _RESOLUTION)
    return plausible_dpi(tuple(float(value) * factor for value in values if isinstance(value, Real)))


def exif_of_tiff(stream: BinaryIO) -> bytes | None:
    """Collect the camera's tags of a TIFF, or of a raw file that is one, into an EXIF block; None if there are none."""
    try:
        stream.seek(0)
        head = stream.read(8)
        stream.seek(0)
        if head[2:3] == b"+" or head[3:4] == b"+":  # BigTIFF
            tags = Image.open(stream, formats=("TIFF",)).getexif()
        else:
            tags = Image.Exif()
            tags.load_from_fp(stream)
        block = Image.Exif()  # Pillow would write that of a BigTIFF with offsets of 64 bits, which no EXIF has
        block.update({tag: tags[tag] for tag in tags if tag in _KEPT_TAGS and tag not in EXIF_DIRECTORIES})
        for directory in EXIF_DIRECTORIES:
            block.get_ifd(directory).update(tags.get_ifd(directory))
        return block.tobytes() if len(block) or any(map(block.get_ifd, EXIF_DIRECTORIES)) else None
    except Exception:  # no TIFF, or a damaged one: the samples are what matters
        return None


def plausible_dpi(dpi: object) -> tuple[float, float] | None:
    """A resolution in pixels per inch, if it is one that an image may have."""
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    x, y = float(dpi[0]), float(dpi[1])
    return (x, y) if _MIN_DPI <= x <= 1e6 and _MIN_DPI <= y <= 1e6 else None


# ----------------------------------------------------------------------------------------------------------- IPTC


def iptc_marker(iptc: bytes) -> bytes | None:
    """Build the JPEG marker APP13 with a block of IPTC records; None if it is too long for one marker."""
    body = b"Photoshop 3.0\x008BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    return None if len(body) > 0xFFFD else b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


# ------------------------------------------------------------------------------------------------------------ XMP

NAMESPACE = "https://github.com/blindsr/blindsr/ns/1.0/"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))[2-8]")
_XMP_WIDTH = re.compile(rb"((?:exif:PixelXDimension|tiff:ImageWidth)(?:\s*=\s*[\"']|\s*>\s*))\d+")
_XMP_HEIGHT = re.compile(rb"((?:exif:PixelYDimension|tiff:ImageLength)(?:\s*=\s*[\"']|\s*>\s*))\d+")
#: Property that refers to a second packet of a JPEG, which Pillow does not read.
EXTENDED_XMP = b"HasExtendedXMP"
_REFERENCE = re.compile(rb"xmpNote:HasExtendedXMP\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')\s?")
_DROPPED_ELEMENTS = ("xmp:Thumbnails", "xap:Thumbnails", "xmpNote:HasExtendedXMP")
_DESCRIPTION, _END_OF_DESCRIPTION = b"<rdf:Description ", b"</rdf:Description>"
_OWN_NAMESPACE = b"xmlns:blindsr="
_ABOUT = re.compile(rb"rdf:about\s*=\s*(\"[^\"<]*\"|'[^'<]*')")
_END = b"</rdf:RDF>"
_EMPTY = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()


def xmp_bytes(xmp: object) -> bytes | None:
    """A packet as bytes, whatever type a decoder gives it; None if it is none."""
    xmp = xmp.encode("utf-8", errors="replace") if isinstance(xmp, str) else xmp
    return xmp if isinstance(xmp, bytes) else None


def clean_xmp(xmp: bytes | None) -> bytes | None:
    """Reset the orientation that an XMP packet may repeat; drop thumbnails and a reference to a second packet."""
    if not xmp:
        return None
    packet = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp.rstrip(b"\x00"))
    # Cut out by searching, not by expressions: those take quadratic time where an end is missing.
    for element in _DROPPED_ELEMENTS:
        start, end, parts, at = f"<{element}".encode(), f"</{element}>".encode(), [], 0
        while (first := packet.find(start, at)) >= 0 and (last := packet.find(end, first)) >= 0:
            parts.append(packet[at:first])
            at = last + len(end)
        packet = b"".join((*parts, packet[at:]))
    return _REFERENCE.sub(b"", packet) or None


def xmp_for_size(xmp: bytes | None, size: tuple[int, int]) -> bytes | None:
    """Update width and height in a packet that repeats them."""
    if not xmp:
        return None
    width, height = (rb"\g<1>%d" % side for side in size)
    return _XMP_HEIGHT.sub(height, _XMP_WIDTH.sub(width, xmp))


def xmp_with_provenance(xmp: bytes | None, program: str, details: str) -> bytes:
    """Record in a packet (UTF-8) which program made the image, how (JSON), and that an algorithm enhanced it.

    The record of an earlier run is replaced. A packet in an unusual notation is left as it is; None makes one.
    """
    packet = xmp or _EMPTY
    own = packet.find(_OWN_NAMESPACE)  # declared by the description of an earlier run, which is dropped
    first, last = packet.rfind(_DESCRIPTION, 0, max(0, own)), packet.find(_END_OF_DESCRIPTION, max(0, own))
    if own >= 0 and first >= 0 and last >= 0:
        packet = packet[:first].rstrip() + packet[last + len(_END_OF_DESCRIPTION) :]
    end = packet.rfind(_END)
    if end < 0 or b"xmlns:rdf=" not in packet:
        return packet
    about = _ABOUT.search(packet)
    program, details = escape(program, quote=False), escape(details, quote=False)
    lines = [f"<blindsr:program>{program}</blindsr:program>", f"<blindsr:run>{details}</blindsr:run>"]
    namespaces = [f'xmlns:blindsr="{NAMESPACE}"']
    # A property may occur once in a packet: those that the photograph has already are not added.
    if b"CreatorTool" not in packet:
        namespaces.append('xmlns:xmp="http://ns.adobe.com/xap/1.0/"')
        lines.append(f"<xmp:CreatorTool>{program}</xmp:CreatorTool>")
    if b"DigitalSourceType" not in packet:
        namespaces.append('xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"')
        lines.append(f"<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>")
    opening = f"<rdf:Description {' '.join(namespaces)} rdf:about=".encode() + (about[1] if about else b'""') + b">"
    record = b"\n".join([opening, *(line.encode("utf-8") for line in lines), b"</rdf:Description>\n"])
    return packet[:end] + record + packet[end:]


# ----------------------------------------------------------------------------------------------------- provenance

#: Keyword of the text in a PNG, and of the one that becomes a TIFF's ImageDescription.
PROVENANCE_KEYWORD = "blindsr"
_SOFTWARE = "Software"
OWN_KEYWORDS = (_SOFTWARE, PROVENANCE_KEYWORD)
_Header = TypeVar("_Header", bound=PhotoHeader)


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How an image was made."""

    program: str  # name and version
    details: Mapping[str, object]  # anything that JSON holds: settings, the digests of kernel and input


def with_provenance(header: _Header, provenance: Provenance) -> _Header:
    """Record the provenance: EXIF Software, XMP, texts of a PNG, ImageDescription of a TIFF."""
    details = json.dumps(provenance.details, separators=(",", ":"), sort_keys=True)
    texts = tuple(pair for pair in header.texts if pair[0] not in OWN_KEYWORDS)
    exif = load_exif(header.exif)
    exif[int(ExifTags.Base.Software)] = provenance.program
    return replace(
        header,
        exif=exif.tobytes(),
        xmp=xmp_with_provenance(header.xmp, provenance.program, details),
        texts=(*texts, (_SOFTWARE, provenance.program), (PROVENANCE_KEYWORD, details)),
    )


def has_foreign_exif(exif: bytes | None) -> bool:
    """Whether an EXIF block holds more than the provenance."""
    return bool(set(load_exif(exif)) - {int(ExifTags.Base.Software)})


def has_foreign_xmp(xmp: bytes | None) -> bool:
    """Whether an XMP packet holds more than the provenance."""
    packet = xmp or b""
    return packet.count(_DESCRIPTION.rstrip()) > packet.count(_OWN_NAMESPACE)


def without_metadata(header: _Header) -> _Header:
    """Drop what identifies persons, places and devices: EXIF, XMP, IPTC, texts, georeference, calibration, FITS cards.

    Colour profile and resolution stay, because the image would look or print differently without them; so do the
    no-data value and the mask.
    """
    return replace(header, exif=None, xmp=None, iptc=None, texts=(), geo=None, calibration=None, cards=None)
