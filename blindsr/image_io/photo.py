"""One photograph in memory: its samples as floats, and everything else of the file that has to survive."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError

if TYPE_CHECKING:
    from blindsr.image_io.georeference import Georeference

__all__ = ["Photo", "PhotoHeader", "Strip", "premultiply", "unpremultiply"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoHeader:
    """Everything of a photograph but its samples: what the output file needs to be of the same kind.

    Args:
        has_alpha: Whether the file has an alpha channel at all; an opaque one is written back as such.
        dtype: Sample type of the file that is written: uint8, uint16, float32; int8, int16, int32, uint32 in a TIFF.
        format: Name of the container: "PNG", "JPEG", "TIFF", "WEBP", "AVIF", "BMP", "GIF", "HEIC", "RAW".
        source_size: Width and height of the file that was read, upright; a georeference is scaled by it.
        icc_profile: Colour profile that the samples are in.
        exif: EXIF block with its "Exif" header, orientation 1, without thumbnail.
        xmp: XMP packet, orientation 1.
        iptc: Records of IPTC-IIM: captions, keywords, credits.
        dpi: Horizontal and vertical resolution, pixels per inch.
        png_colour: PNG chunks that say what the samples mean (sRGB, gAMA, cHRM, cICP), as (name, content).
        geo: Where on the Earth the picture lies.
        value_range: (low, high) of the file's values that became 0 and 1; (0, 255) or (0, 65535) for uint8 and uint16.
        nodata: The value that stands for "nothing was measured here" in the file; None if it names none.
        texts: Texts that the file carries under keywords, as PNG has them.
        notes: Sentences for the user: what was converted, what was left out.
    """

    has_alpha: bool = False
    dtype: np.dtype[Any]
    format: str
    source_size: tuple[int, int] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    geo: "Georeference | None" = None
    value_range: tuple[float, float]
    nodata: float | None = None
    texts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def with_samples(
        self,
        pixels: NDArray[np.float32],
        alpha: NDArray[np.float32] | None = None,
        valid: NDArray[np.bool_] | None = None,
    ) -> "Photo":
        """Make a photo of this kind with these samples."""
        kept = {field.name: getattr(self, field.name) for field in fields(PhotoHeader)}
        kept["has_alpha"] = self.has_alpha or alpha is not None
        return Photo(pixels=pixels, alpha=alpha, valid=valid, **kept)


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Rows of a picture, over its whole width: `pixels`, `alpha` and `valid` as in `Photo`."""

    pixels: NDArray[np.float32]
    alpha: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo(PhotoHeader):
    """A photograph as `read_photo` found it, upright.

    Args:
        pixels: Colour, gray or band samples without alpha, (H, W, C) float32, not premultiplied. Files of uint8 and
            uint16 are divided by their largest value, others are mapped by `value_range`: [0, 1] either way.
        alpha: Opacity, (H, W) float32 in [0, 1]; None where the file has none or is opaque everywhere.
        valid: Where a sample was measured, (H, W, C); elsewhere `pixels` is filled in. None is everywhere.
    """

    pixels: NDArray[np.float32]
    alpha: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or 0 in self.pixels.shape:
            raise ImageError(f"pixels must be (H, W, C) and not empty, got shape {self.pixels.shape}")
        if self.alpha is not None and self.alpha.shape != self.pixels.shape[:2]:
            raise ImageError(f"alpha must be (H, W) = {self.pixels.shape[:2]} like the pixels, got {self.alpha.shape}")
        if self.valid is not None and self.valid.shape != self.pixels.shape:
            raise ImageError(f"valid must be {self.pixels.shape} like the pixels, got {self.valid.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width, _ = self.pixels.shape
        return width, height

    @property
    def channels(self) -> int:
        """Number of channels without alpha."""
        return int(self.pixels.shape[2])

    @property
    def samples(self) -> Strip:
        """All rows, without the rest."""
        return Strip(self.pixels, self.alpha, self.valid)

    def with_result(
        self,
        pixels: NDArray[np.float32],
        alpha: NDArray[np.float32] | None = None,
        valid: NDArray[np.bool_] | None = None,
    ) -> "Photo":
        """Put new samples, of any size, in the place of the old ones; the rest of the file stays as it is.

        Args:
            pixels: Samples, (H', W', C) with the C of this photo, not premultiplied.
            alpha: Opacity, (H', W'). None is opaque: it is written only if the file had an alpha channel.
            valid: Where the result means something, (H', W', C); the other samples are written as "no data".

        Raises:
            ImageError: The number of channels differs, or the shapes disagree.
        """
        if pixels.ndim != 3 or pixels.shape[2] != self.channels:
            raise ImageError(f"the result must be (H, W, {self.channels}) like the photo, got shape {pixels.shape}")
        return self.with_samples(pixels, alpha, valid)


def premultiply(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply (H, W, C) colour by (H, W) opacity: what is safe to filter, as hidden colour weighs nothing in it."""
    return pixels * alpha[..., None]


def unpremultiply(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo `premultiply`. Where alpha is 0 (or below, after filtering) the colour is lost and becomes 0."""
    visible = alpha > 0
    divisor = np.where(visible, alpha, 1)[..., None]
    return np.where(visible[..., None], pixels / divisor, 0).astype(np.float32, copy=False)
