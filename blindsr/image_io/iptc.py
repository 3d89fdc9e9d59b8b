"""IPTC captions, as JPEG keeps them: in a block of Photoshop's. TIFF has a tag for them, other formats no place.

Source: IPTC-NAA IIM 4.2; Adobe, Photoshop File Formats Specification, "Image Resource Blocks", resource 0x0404.
"""

import struct

__all__ = ["iptc_marker"]

_MARKER = b"\xff\xed"  # APP13
_SIGNATURE = b"Photoshop 3.0\x00"
_RESOURCE = 0x0404


def iptc_marker(iptc: bytes) -> bytes | None:
    """Build the marker segment that holds a block of IPTC records; None if it is too long for one."""
    body = _SIGNATURE + b"8BIM" + struct.pack(">HHI", _RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    return None if len(body) > 0xFFFD else _MARKER + struct.pack(">H", len(body) + 2) + body
