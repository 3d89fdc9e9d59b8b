"""One photograph in memory: its samples as floats, and everything else of the file that has to survive."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError

__all__ = ["Photo", "premultiply", "unpremultiply"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A photograph as `read_photo` found it, upright, with what the output file needs to be of the same kind.

    Args:
        pixels: Colour, gray or band samples without alpha, (H, W, C) float32, not premultiplied. Integer files
            are divided by their largest value, float files are mapped by `value_range`: [0, 1] either way.
        alpha: Opacity, (H, W) float32 in [0, 1]; None where the file has none or is opaque everywhere.
        has_alpha: Whether the file has an alpha channel at all; an opaque one is written back as such.
        dtype: Sample type of the file that is written: uint8, uint16 or float32.
        format: Name of the container: "PNG", "JPEG", "TIFF", "WEBP", "AVIF", "BMP", "GIF".
        icc_profile: Colour profile that `pixels` are in.
        exif: EXIF block with its "Exif" header, orientation 1, without thumbnail.
        xmp: XMP packet, orientation 1.
        dpi: Horizontal and vertical resolution, pixels per inch.
        png_colour: PNG chunks that say what the samples mean (sRGB, gAMA, cHRM, cICP), as (name, content).
        value_range: (low, high) of the file's values that became 0 and 1; (0, 255) or (0, 65535) for integers.
        notes: Sentences for the user: what was converted, what was left out.
    """

    pixels: NDArray[np.float32]
    alpha: NDArray[np.float32] | None = None
    has_alpha: bool = False
    dtype: np.dtype[Any]
    format: str
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    value_range: tuple[float, float]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or 0 in self.pixels.shape:
            raise ImageError(f"pixels must be (H, W, C) and not empty, got shape {self.pixels.shape}")
        if self.alpha is not None and self.alpha.shape != self.pixels.shape[:2]:
            raise ImageError(f"alpha must be (H, W) = {self.pixels.shape[:2]} like the pixels, got {self.alpha.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width, _ = self.pixels.shape
        return width, height

    @property
    def channels(self) -> int:
        """Number of channels without alpha."""
        return int(self.pixels.shape[2])

    def with_result(self, pixels: NDArray[np.float32], alpha: NDArray[np.float32] | None = None) -> "Photo":
        """Put new samples, of any size, in the place of the old ones; the rest of the file stays as it is.

        Args:
            pixels: Samples, (H', W', C) with the C of this photo, not premultiplied.
            alpha: Opacity, (H', W'). None is opaque: it is written only if the file had an alpha channel.

        Raises:
            ImageError: The number of channels differs, or the two shapes disagree.
        """
        if pixels.ndim != 3 or pixels.shape[2] != self.channels:
            raise ImageError(f"the result must be (H, W, {self.channels}) like the photo, got shape {pixels.shape}")
        return replace(self, pixels=pixels, alpha=alpha, has_alpha=self.has_alpha or alpha is not None)


def premultiply(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply (H, W, C) colour by (H, W) opacity: what is safe to filter, as hidden colour weighs nothing in it."""
    return pixels * alpha[..., None]


def unpremultiply(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo `premultiply`. Where alpha is 0 (or below, after filtering) the colour is lost and becomes 0."""
    visible = alpha > 0
    divisor = np.where(visible, alpha, 1)[..., None]
    return np.where(visible[..., None], pixels / divisor, 0).astype(np.float32, copy=False)
