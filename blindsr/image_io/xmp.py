"""XMP packets: what blindsr adds to the one of a photograph, or says in one of its own.

Source: ISO 16684-1 (XMP, part 1), sections 7.3 and 7.4; IPTC Photo Metadata Standard 2023.1, Digital Source Type.
"""

import re
from xml.sax.saxutils import escape, quoteattr

__all__ = ["NAMESPACE", "clean_xmp", "xmp_for_size", "xmp_with_provenance"]

NAMESPACE = "https://github.com/blindsr/blindsr/ns/1.0/"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))[2-8]")
_ACROSS = re.compile(rb"((?:exif:PixelXDimension|tiff:ImageWidth)(?:\s*=\s*[\"']|\s*>\s*))\d+")
_DOWN = re.compile(rb"((?:exif:PixelYDimension|tiff:ImageLength)(?:\s*=\s*[\"']|\s*>\s*))\d+")
# Cut out by searching, not by expressions: those take the square of the length where an end is missing.
_THUMBNAILS = ((b"<xmp:Thumbnails", b"</xmp:Thumbnails>"), (b"<xap:Thumbnails", b"</xap:Thumbnails>"))
_DESCRIPTION, _END_OF_DESCRIPTION = b"<rdf:Description ", b"</rdf:Description>"
_OUR_SPACE = b"xmlns:blindsr="
_ABOUT = re.compile(rb"rdf:about\s*=\s*(\"[^\"<]*\"|'[^'<]*')")
_END = b"</rdf:RDF>"
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="r"?>'
).encode()


def clean_xmp(xmp: bytes | str | None) -> bytes | None:
    """Reset the orientation that an XMP packet may repeat, and drop its thumbnails, which show the old picture."""
    if not xmp:
        return None
    packet = xmp.encode("utf-8", errors="replace") if isinstance(xmp, str) else xmp
    packet = _ORIENTATION.sub(rb"\g<1>1", packet.rstrip(b"\x00"))
    for start, end in _THUMBNAILS:
        packet = _without(packet, start, end)
    return packet or None


def _without(packet: bytes, start: bytes, end: bytes) -> bytes:
    kept, at = [], 0
    while (first := packet.find(start, at)) >= 0 and (last := packet.find(end, first)) >= 0:
        kept.append(packet[at:first])
        at = last + len(end)
    return b"".join((*kept, packet[at:]))


def _without_ours(packet: bytes) -> bytes:
    """Drop what an earlier run said: the description that brings our namespace."""
    space = packet.find(_OUR_SPACE)
    first = packet.rfind(_DESCRIPTION, 0, max(0, space))
    last = packet.find(_END_OF_DESCRIPTION, max(0, space))
    if space < 0 or first < 0 or last < 0:
        return packet
    return packet[:first].rstrip() + packet[last + len(_END_OF_DESCRIPTION) :]


def xmp_for_size(xmp: bytes | None, size: tuple[int, int]) -> bytes | None:
    """Write width and height into a packet, where it repeats them."""
    if not xmp:
        return None
    across, down = (rb"\g<1>%d" % side for side in size)
    return _DOWN.sub(down, _ACROSS.sub(across, xmp))


def xmp_with_provenance(xmp: bytes | None, program: str, details: str) -> bytes:
    """Say in a packet which program made the picture, how, and that an algorithm enhanced it.

    What an earlier run said is replaced. A packet that is not written in the usual way is left as it is.

    Args:
        xmp: The photograph's packet; None makes one.
        program: Name and version.
        details: JSON.

    Returns:
        The packet, UTF-8.
    """
    packet = _without_ours(xmp) if xmp else _EMPTY
    end = packet.rfind(_END)
    if end < 0 or b"xmlns:rdf=" not in packet:
        return packet
    about = _ABOUT.search(packet)
    lines = [f"<blindsr:program>{escape(program)}</blindsr:program>", f"<blindsr:run>{escape(details)}</blindsr:run>"]
    spaces = [f"xmlns:blindsr={quoteattr(NAMESPACE)}"]
    # A property stands once in a packet: what the photograph's own says already is left to it.
    if b"CreatorTool" not in packet:
        spaces.append('xmlns:xmp="http://ns.adobe.com/xap/1.0/"')
        lines.append(f"<xmp:CreatorTool>{escape(program)}</xmp:CreatorTool>")
    if b"DigitalSourceType" not in packet:
        spaces.append('xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"')
        lines.append(f"<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>")
    opening = f"<rdf:Description {' '.join(spaces)} rdf:about=".encode() + (about[1] if about else b'""') + b">"
    ours = b"\n".join([opening, *(line.encode("utf-8") for line in lines), b"</rdf:Description>\n"])
    return packet[:end] + ours + packet[end:]
