"""TIFF files: 8 and 16 bits and floats, gray, RGB, palettes, CMYK, any number of bands.

tifffile reads them; what it needs imagecodecs for (LZW, JPEG, …) goes to Pillow's libtiff where that gives all
the bits, and is refused by name where it does not.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from blindsr.errors import ImageError
from blindsr.image_io.colour import cmyk_to_srgb
from blindsr.image_io.decoding import check_size
from blindsr.image_io.photo import unpremultiply
from blindsr.image_io.raw import RawImage
from blindsr.image_io.samples import pixels_from_samples

__all__ = ["decode_tiff"]

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_PREMULTIPLIED, _ALPHA = 1, 2  # values of ExtraSamples; 0 is a band of unknown meaning
_CENTIMETRES_PER_INCH = 2.54
_GEO_TAGS = (33550, 33922, 34264, 34735, 42113)
_PILLOW_MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16")


def decode_tiff(data: bytes, path: Path) -> RawImage:
    """Decode the first page of a TIFF.

    Raises:
        ImageError: Its samples or colours are of a kind that is not handled, or its compression needs a codec
            that is not installed.
        Exception: Whatever tifffile and Pillow raise on damaged files.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        check_size(page.imagewidth, page.imagelength, path)
        notes = _notes_on_pages(file, page)
        samples, decoded_by_pillow = _samples(page, data)
        samples, has_alpha, profile = _colours(page, samples, notes, is_pillow=decoded_by_pillow)
        orientation = page.tags.valueof(274, 1)
        return RawImage(
            samples=samples,
            has_alpha=has_alpha,
            format="TIFF",
            # Pillow turns a TIFF upright itself.
            orientation=int(orientation) if isinstance(orientation, int) and not decoded_by_pillow else 1,
            icc_profile=profile,
            exif=_exif(data),
            xmp=page.tags.valueof(700),
            dpi=_dpi(page),
            notes=notes,
        )


def _notes_on_pages(file: tifffile.TiffFile, page: tifffile.TiffPage) -> list[str]:
    notes = []
    count = len(file.pages)
    if count > 1:
        notes.append(f"the TIFF has {count} pages: page 1 is used")
    if any(tag in page.tags for tag in _GEO_TAGS):
        notes.append("the georeference of the TIFF is not carried over")
    return notes


def _samples(page: tifffile.TiffPage, data: bytes) -> tuple[NDArray[Any], bool]:
    """Decode to (H, W, C), and say whether Pillow did it."""
    if page.bitspersample not in (1, 8, 16, 32, 64):
        raise ImageError(
            f"a TIFF needs 1, 8 or 16 bits per sample, or floats, this one has {page.bitspersample}; convert it"
        )
    if page.imagedepth > 1:
        raise ImageError(f"needed a flat picture, this TIFF is a volume of {page.imagedepth} slices; cut one out")
    _check_length(page, len(data))
    try:
        samples = page.asarray(maxworkers=1)
    except (ValueError, RuntimeError, ImportError) as error:
        if "imagecodecs" not in str(error):
            raise
        return _samples_of_pillow(page, data), True
    if samples.size != page.imagewidth * page.imagelength * page.samplesperpixel:
        raise ImageError("the TIFF holds another number of samples than it says; get an intact copy")
    if samples.ndim == 3 and page.axes.startswith("S"):
        samples = np.moveaxis(samples, 0, -1)
    return samples.reshape(page.imagelength, page.imagewidth, page.samplesperpixel), False


def _check_length(page: tifffile.TiffPage, length: int) -> None:
    # tifffile fills what is missing with zeros; a truncated file must not pass as a black one.
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False) if count]
    if not ends or max(ends) > length:
        raise ImageError(
            f"the TIFF needs samples up to byte {max(ends, default=0)}, the file has {length} bytes; get an intact copy"
        )


def _samples_of_pillow(page: tifffile.TiffPage, data: bytes) -> NDArray[Any]:
    codec = getattr(page.compression, "name", str(page.compression))
    install = ImageError(
        f"this TIFF is compressed with {codec}, which needs the package imagecodecs;"
        ' run pip install "blindsr[tiff]", or save the file uncompressed'
    )
    if page.bitspersample > 8 and not (page.bitspersample == 16 and page.samplesperpixel == 1):
        raise install  # Pillow would cut it to 8 bits
    try:
        picture = Image.open(io.BytesIO(data), formats=("TIFF",))
    except UnidentifiedImageError:
        raise install from None
    if picture.mode not in _PILLOW_MODES:
        raise install
    picture.load()
    samples = np.asarray(picture)
    return samples[..., None] if samples.ndim == 2 else samples


def _colours(
    page: tifffile.TiffPage, samples: NDArray[Any], notes: list[str], *, is_pillow: bool
) -> tuple[NDArray[Any], bool, bytes | None]:
    """Turn the page's colours into gray, RGB or bands: samples, whether the last is alpha, and their profile."""
    photometric = int(page.photometric)
    profile = page.tags.valueof(34675)
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
    if len(extras) > 1 or colours not in (1, 3):
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
    pixels, alpha_or_none, (_, high) = pixels_from_samples(samples, has_alpha=True)
    if alpha_or_none is None:
        return samples
    colour = np.clip(unpremultiply(pixels, alpha_or_none), 0, 1) * high
    return np.dstack([np.floor(colour + 0.5).astype(samples.dtype), samples[..., -1]])


def _inverted(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.dtype.kind != "u":
        raise ImageError("a TIFF in which 0 is white must have integers, this one has floats; convert it")
    return np.iinfo(samples.dtype).max - samples


def _from_palette(page: tifffile.TiffPage, samples: NDArray[Any]) -> NDArray[Any]:
    colours = page.colormap
    if samples.shape[2] == 3:  # Pillow expanded it already
        return samples
    if colours is None or samples.dtype.kind != "u" or int(samples.max()) >= colours.shape[1]:
        raise ImageError("a palette TIFF needs a colour for each of its values, this one lacks some; convert it")
    expanded: NDArray[np.uint8] = (
        (colours >> 8).astype(np.uint8).T[samples[..., 0]]
    )  # the map has 16 bits, of which the low repeat
    return expanded


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = page.tags.valueof(296, 2)
    values = []
    for tag in (282, 283):
        ratio = page.tags.valueof(tag)
        if not isinstance(ratio, tuple) or len(ratio) != 2 or not ratio[0] or not ratio[1]:
            return None
        values.append(ratio[0] / ratio[1] * (_CENTIMETRES_PER_INCH if int(unit) == 3 else 1.0))
    return (values[0], values[1]) if int(unit) in (2, 3) else None


def _exif(data: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as picture:
            return picture.getexif().tobytes()
    except Exception:  # Pillow knows fewer TIFFs than tifffile; its camera tags are then not carried over
        return None
