"""The frame of a MATLAB v5 file, looked over before SciPy reads it: an element of an unknown type crashes SciPy 1.17.

Source: MathWorks, MAT-File Format, R2020a, chapter 1, "Level 5 MAT-File Format".
"""

import struct
import zlib
from pathlib import Path
from typing import Final

from blindsr.errors import KernelError

__all__ = ["check_elements"]

_HEADER: Final = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15
_TYPES: Final = frozenset((*range(1, 8), 9, 12, 13, _MATRIX, _COMPRESSED, 16, 17, 18))
_DEEPEST: Final = 16  # cells in cells


def check_elements(path: Path) -> None:
    """Refuse a v5 file with an element of an unknown type, or one that is longer than what it lies in.

    Args:
        path: The file; one that is no v5 file is left to SciPy. What it unpacks to must have been bounded before.

    Raises:
        KernelError: As above.
    """
    data = path.read_bytes()
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        return
    order = "<" if data[126:128] == b"IM" else ">"
    if not _is_sound(data[_HEADER:], order, 0):
        raise KernelError(f"{path.name} is no sound MATLAB v5 file: it is damaged or of another kind; save it again.")


def _is_sound(data: bytes, order: str, depth: int) -> bool:
    place = 0
    while place + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # a small element: type and length share a word, the content is the next
            kind, length = kind & 0xFFFF, kind >> 16
            if kind not in _TYPES or length > 4:
                return False
            place += 8
            continue
        end = place + 8 + length
        if kind not in _TYPES or end > len(data) or not _content_is_sound(data[place + 8 : end], kind, order, depth):
            return False
        place = end if kind == _COMPRESSED else end + -end % 8
    return True


def _content_is_sound(content: bytes, kind: int, order: str, depth: int) -> bool:
    if kind == _COMPRESSED:
        return depth == 0 and _is_sound(zlib.decompressobj().decompress(content), order, depth + 1)
    return kind != _MATRIX or (depth < _DEEPEST and _is_sound(content, order, depth + 1))
