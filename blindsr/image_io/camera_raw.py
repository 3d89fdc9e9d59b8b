"""Camera raw files through the optional package rawpy (LibRaw)."""

import importlib.util
import io
from pathlib import Path

import numpy as np
from PIL import ImageCms

from blindsr.errors import ImageError
from blindsr.image_io.decoding import check_size, unprinted
from blindsr.image_io.metadata import exif_of_tiff
from blindsr.image_io.raw import RawImage

__all__ = ["RAW_SUFFIXES", "camera_raw_size", "decode_camera_raw"]

#: Most of them are TIFF files whose first page is a small preview: the suffix has to tell.
RAW_SUFFIXES = (
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".iiq"),
    *(".erf", ".kdc", ".mef", ".mos", ".mrw", ".rwl", ".x3f"),
)
_ON_ITS_SIDE = (5, 6)  # what LibRaw calls a quarter turn, left and right
_SRGB_GAMMA = (2.4, 12.92)  # IEC 61966-2-1: exponent, and slope of the straight part


def decode_camera_raw(data: bytes, path: Path, max_pixels: int) -> RawImage:
    """Develop a raw file: the camera's white balance, sRGB, 16 bits, no automatic brightness, upright.

    Raises:
        ImageError: rawpy is not installed, or the picture is too large.
        Exception: Whatever LibRaw raises on damaged files.
    """
    try:
        import rawpy
    except ImportError:
        raise ImageError(
            f'{path}: this is a camera raw file, which needs the package rawpy; run pip install "blindsr[raw]", '
            "or develop it to a TIFF of 16 bits"
        ) from None
    with unprinted() as printed, rawpy.imread(io.BytesIO(data)) as file:
        check_size(file.sizes.raw_width, file.sizes.raw_height, path, max_pixels)
        samples = file.postprocess(
            output_bps=16,
            gamma=_SRGB_GAMMA,
            output_color=rawpy.ColorSpace.sRGB,
            use_camera_wb=True,
            no_auto_bright=True,
        )
    if printed:  # LibRaw says so, and fills what is missing with what lies in memory
        raise ImageError(f"the raw file is damaged or ends early ({printed[0][:160]}); get an intact copy")
    return RawImage(
        samples=np.asarray(samples),
        has_alpha=False,
        format="RAW",
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        exif=exif_of_tiff(io.BytesIO(data)),
        notes=["the raw file was developed to sRGB with the camera's white balance, 16 bits, no further correction"],
    )


def camera_raw_size(path: Path) -> tuple[int, int, int] | None:
    """Height, width and bands that the developed picture will have, upright; None without rawpy.

    Raises:
        Exception: Whatever LibRaw raises on damaged files.
    """
    if importlib.util.find_spec("rawpy") is None:
        return None
    import rawpy

    with unprinted(), rawpy.imread(str(path)) as file:
        height, width = file.sizes.height, file.sizes.width
        return (width, height, 3) if file.sizes.flip in _ON_ITS_SIDE else (height, width, 3)
