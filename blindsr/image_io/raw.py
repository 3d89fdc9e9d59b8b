"""What a decoder hands over."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

__all__ = ["RawImage"]


@dataclass(slots=True, kw_only=True)
class RawImage:
    """What a decoder found, before it is turned upright and mapped to [0, 1]."""

    samples: NDArray[Any]
    has_alpha: bool
    format: str
    orientation: int = 1
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | str | None = None
    dpi: tuple[float, float] | None = None
    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    notes: list[str] = field(default_factory=list)
