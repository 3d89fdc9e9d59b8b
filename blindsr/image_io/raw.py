"""What a decoder hands over."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from blindsr.image_io.georeference import Georeference

__all__ = ["RawHeader", "RawImage"]


@dataclass(slots=True, kw_only=True)
class RawHeader:
    """What a decoder found beside the samples, before anything is turned upright or cleaned."""

    has_alpha: bool
    format: str
    orientation: int = 1
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | str | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    geo: Georeference | None = None
    nodata: float | None = None
    texts: tuple[tuple[str, str], ...] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class RawImage(RawHeader):
    """The samples with them, (H, W, C), as the file stores them."""

    samples: NDArray[Any]
