"""HEIC photographs, as phones write them, through the optional package pillow-heif."""

import importlib
import io
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io.codecs import (
    DEFAULT_QUALITY,
    CollectingEncoder,
    Decoded,
    Target,
    check_page_number,
    check_size,
    embedded_metadata,
    gray_as_rgb,
    missing_package,
)
from blindsr.image_io.formats import FileFormat
from blindsr.image_io.metadata import xmp_bytes
from blindsr.image_io.samples import PhotoHeader

# Samples per pixel by the mode of pillow-heif, in which ";16" follows for 16 bits. "RGBa" is premultiplied with alpha.
_CHANNELS = {"L": 1, "I": 1, "RGB": 3, "RGBA": 4, "RGBa": 4}
_BITS = 12  # of HEVC in a HEIC at most
_BOX_BYTES = 480  # of the boxes around the image, about


def decode(file: BinaryIO, *, page: int | None, max_pixels: int) -> Decoded:
    """Decode the main image of a HEIC file (page 1, or None) or another one: 8 bits, or 10 and 12 bits as 16."""
    data = file.read()
    container: Any = _pillow_heif().open_heif(data, convert_hdr_to_8bit=False)
    images = [container[container.primary_index]]
    images += [container[index] for index in range(len(container)) if index != container.primary_index]
    page, warnings = check_page_number(page, len(images))
    image = images[page - 1]
    width, height = image.size
    check_size(width, height, max_pixels)
    mode = image.mode.removesuffix(";16")
    if mode not in _CHANNELS:
        raise ImageError(f"a HEIC image must be grey or RGB, this one is {image.mode}; save it as PNG")
    dtype, channels = np.dtype(np.uint16 if image.mode.endswith(";16") else np.uint8), _CHANNELS[mode]
    # The rows may end with padding.
    rows: Any = np.frombuffer(image.data, np.uint8).reshape(height, image.stride)
    row_bytes = width * channels * dtype.itemsize
    samples = np.ascontiguousarray(rows[:, :row_bytes]).view(dtype).reshape(height, width, channels)
    header = PhotoHeader(
        has_alpha=channels == 4,
        bits=image.info.get("bit_depth"),
        dtype=samples.dtype,
        format="HEIC",
        icc_profile=image.info.get("icc_profile") or None,
        exif=image.info.get("exif"),
        xmp=xmp_bytes(image.info.get("xmp")),
        warnings=tuple(warnings),
    )
    metadata_bytes = sum(len(block or b"") for block in (header.exif, header.icc_profile, header.xmp))
    return Decoded(
        samples=samples,
        header=header,
        orientation=1,
        lossy_bytes=max(1, len(data) - metadata_bytes - _BOX_BYTES) if len(images) == 1 else None,
        is_premultiplied=mode == "RGBa",
    )


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and samples per pixel of the main image, upright."""
    container: Any = _pillow_heif().open_heif(file, convert_hdr_to_8bit=False)
    image: Any = container[container.primary_index]
    width, height = image.size
    return height, width, _CHANNELS[image.mode.removesuffix(";16")]


def _pillow_heif() -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module("pillow_heif")
    except ImportError:
        raise missing_package("HEIC photograph", "pillow-heif", "heic", "save it as PNG") from None


def missing(format_: FileFormat) -> str | None:
    """Why this installation cannot write HEIC; None if it can."""
    try:
        library = _pillow_heif()
    except ImageError:
        return 'HEIC needs the package pillow-heif (run pip install "blindsr[heic]")'
    return None if library.libheif_info().get("HEIF") else "this pillow-heif reads HEIC but does not write it"


def encoder(target: Target) -> CollectingEncoder:
    """Begin a HEIC of 8 bits, or of 12 for 16-bit samples."""
    return CollectingEncoder(target, _encode, target.header.dtype)


def _encode(target: Target, samples: NDArray[Any]) -> bytes:
    profile = target.header.icc_profile
    if samples.shape[2] == 2:  # HEIC has grey, but not with alpha
        samples, profile = gray_as_rgb(target, samples, " with alpha")
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    # 4:4:4: the colours at full resolution.
    options: dict[str, Any] = {"quality": target.quality or DEFAULT_QUALITY, "chroma": 444}
    if samples.dtype == np.uint16:
        mode, options["bit_depth"] = f"{mode};16", _BITS
    file, data = io.BytesIO(), np.ascontiguousarray(samples).tobytes()
    options |= embedded_metadata(target, profile, target.header.dpi)
    _pillow_heif().encode(mode, target.size, data, file, **options)
    return file.getvalue()
