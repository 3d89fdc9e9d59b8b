"""Camera raw files through the optional package rawpy (LibRaw)."""

import importlib
import io
import re
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io.codecs import Decoded, check_page_number, check_size, missing_package, srgb_profile, unprinted
from blindsr.image_io.metadata import exif_of_tiff
from blindsr.image_io.samples import PhotoHeader

_TURNED_FLIPS = (5, 6)  # LibRaw's codes for a quarter turn, left and right
_DAMAGE = re.compile("data corrupted at|nexpected end of file")
_SRGB_GAMMA = (2.4, 12.92)  # IEC 61966-2-1: exponent, and slope of the straight part


def decode(file: BinaryIO, *, page: int | None, max_pixels: int) -> Decoded:
    """Develop a raw file: the camera's white balance, sRGB, 16 bits, no automatic brightness, upright."""
    rawpy = _rawpy()
    check_page_number(page, 1)
    data = file.read()
    with unprinted() as printed, rawpy.imread(io.BytesIO(data)) as raw:
        check_size(raw.sizes.raw_width, raw.sizes.raw_height, max_pixels)
        options: Any = {"output_bps": 16, "gamma": _SRGB_GAMMA, "output_color": rawpy.ColorSpace.sRGB}
        samples = np.asarray(raw.postprocess(use_camera_wb=True, no_auto_bright=True, **options))
        exif = exif_of_tiff(io.BytesIO(data)) or _exif_of_preview(raw)
    # LibRaw only prints this, and fills what is missing with whatever the memory holds.
    if damage := [line for line in printed if _DAMAGE.search(line)]:
        raise ImageError(f"the raw file is damaged or ends early ({damage[0][:160]}); get an intact copy")
    warnings = ["the raw file was developed to sRGB with the camera's white balance, 16 bits, no further correction"]
    if exif is None:
        warnings.append("no EXIF block was found in the raw file: camera, date and place are not kept")
    header = PhotoHeader(
        dtype=samples.dtype, format="RAW", icc_profile=srgb_profile().tobytes(), exif=exif, warnings=tuple(warnings)
    )
    return Decoded(samples=samples, header=header, orientation=1)


def _rawpy() -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module("rawpy")
    except ImportError:
        raise missing_package("camera raw file", "rawpy", "raw", "develop it to a TIFF of 16 bits") from None


def _exif_of_preview(raw: Any) -> bytes | None:  # noqa: ANN401 - rawpy has no types
    """EXIF of the JPEG preview, for raw files that are no TIFF (CR3, RAF, ORF, RW2)."""
    try:
        with Image.open(io.BytesIO(raw.extract_thumb().data), formats=("JPEG",)) as preview:
            exif = preview.info.get("exif")
            return exif if isinstance(exif, bytes) else None
    except Exception:  # there is no preview, or none in a JPEG: the samples are what matters
        return None


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and bands that the developed image will have, upright."""
    with unprinted(), _rawpy().imread(file) as raw:
        height, width = raw.sizes.height, raw.sizes.width
        return (width, height, 3) if raw.sizes.flip in _TURNED_FLIPS else (height, width, 3)
