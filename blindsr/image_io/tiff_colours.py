"""The colours of a TIFF page as gray, RGB or bands. Every rule works pixel by pixel: on a page or on rows of it."""

from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io.colour import cmyk_to_srgb
from blindsr.image_io.photo import unpremultiply

__all__ = ["page_colours"]

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_PREMULTIPLIED, _ALPHA = 1, 2  # values of ExtraSamples; 0 is a band of unknown meaning
_ICC_PROFILE = 34675


def page_colours(
    page: tifffile.TiffPage, samples: NDArray[Any], notes: list[str], *, is_pillow: bool
) -> tuple[NDArray[Any], bool, bytes | None]:
    """Turn the page's colours into gray, RGB or bands.

    Args:
        page: Where the samples are from.
        samples: (h, W, S) as they are stored.
        notes: Gets a sentence for every change.
        is_pillow: Whether Pillow decoded them; it inverts and expands by itself.

    Returns:
        Samples (h, W, C), whether the last channel is alpha, and the profile that they are in.

    Raises:
        ImageError: The colours are of another kind.
    """
    photometric = int(page.photometric)
    profile = page.tags.valueof(_ICC_PROFILE)
    profile = bytes(profile) if profile else None
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * np.uint8(255)
        notes.append("gray of 1 bit is written with 8 bits, as an upscaled one needs the levels")
    if photometric == _MIN_IS_WHITE and not is_pillow:
        samples = _inverted(samples)
    elif photometric == _PALETTE:
        return _from_palette(page, samples), False, profile
    elif photometric == _CMYK:
        if samples.dtype != np.uint8 or samples.shape[2] != 4:
            raise ImageError("a CMYK TIFF must have 8 bits and four channels; convert it to RGB")
        picture, profile, note = cmyk_to_srgb(Image.fromarray(samples, "CMYK"), profile)
        notes.append(note)
        return np.asarray(picture), False, profile
    elif photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _YCBCR):
        name = getattr(page.photometric, "name", photometric)
        raise ImageError(f"a TIFF must be gray, RGB, palette or CMYK, this one is {name}; convert it to RGB")
    return *_with_plain_alpha(page, samples, notes), profile


def _with_plain_alpha(page: tifffile.TiffPage, samples: NDArray[Any], notes: list[str]) -> tuple[NDArray[Any], bool]:
    extras = tuple(int(extra) for extra in page.extrasamples)
    colours = samples.shape[2] - len(extras)
    if _PREMULTIPLIED not in extras and _ALPHA not in extras:
        return samples, False
    if len(extras) > 1 or colours not in (1, 3) or samples.dtype.kind == "i":
        notes.append("an alpha channel among other bands is treated as one of the bands")
        return samples, False
    if extras[0] == _PREMULTIPLIED:
        samples = _unpremultiplied(samples)
        notes.append("the colours were premultiplied with alpha in the file, and are written without")
    return samples, True


def _unpremultiplied(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.dtype.kind == "f":
        alpha = samples[..., -1].astype(np.float32)
        return np.dstack([unpremultiply(samples[..., :-1].astype(np.float32), alpha), alpha])
    high = np.iinfo(samples.dtype).max
    alpha = (samples[..., -1] / np.float64(high)).astype(np.float32)
    colour = unpremultiply((samples[..., :-1] / np.float64(high)).astype(np.float32), alpha)
    whole = np.floor(np.clip(colour, 0, 1).astype(np.float64) * high + 0.5).astype(samples.dtype)
    return np.dstack([whole, samples[..., -1]])


def _inverted(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.dtype.kind != "u":
        raise ImageError("a TIFF in which 0 is white must have unsigned integers, this one has others; convert it")
    return np.iinfo(samples.dtype).max - samples


def _from_palette(page: tifffile.TiffPage, samples: NDArray[Any]) -> NDArray[Any]:
    colours = page.colormap
    if samples.shape[2] == 3:  # Pillow expanded it already
        return samples
    if colours is None or samples.dtype.kind != "u" or int(samples.max()) >= colours.shape[1]:
        raise ImageError("a palette TIFF needs a colour for each of its values, this one lacks some; convert it")
    # The map has 16 bits, of which the low repeat.
    expanded: NDArray[np.uint8] = (colours >> 8).astype(np.uint8).T[samples[..., 0]]
    return expanded
