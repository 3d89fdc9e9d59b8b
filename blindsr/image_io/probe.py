"""How large a picture is, from the first bytes of its file: for plans, which must not read everything."""

from pathlib import Path

from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io.camera_raw import RAW_SUFFIXES, camera_raw_size
from blindsr.image_io.decoding import decoding
from blindsr.image_io.heic import heic_size, is_heic
from blindsr.image_io.metadata import exif_orientation
from blindsr.image_io.reading import TIFF_SIGNATURES

__all__ = ["picture_size"]

_HEAD = 32  # bytes that tell the format
_ORIENTATION, _ON_ITS_SIDE = 274, (5, 6, 7, 8)
_ANY_SIZE = 2**62  # Pillow's own limit would hide the size of the largest


def picture_size(path: Path) -> tuple[int, int, int] | None:
    """Height, width and bands as the file's header says them, upright; None if it does not say them here.

    Nothing is decoded and nothing is judged: whether the picture can be read is found out by reading it.
    """
    try:
        with decoding(path, _ANY_SIZE):
            if not path.is_file():  # who opens a pipe may wait for ever
                return None
            if path.suffix.lower() in RAW_SUFFIXES:  # Pillow would tell the size of its preview
                return camera_raw_size(path)
            with path.open("rb") as file:
                head = file.read(_HEAD)
            if head.startswith(TIFF_SIGNATURES):
                return _tiff_size(path)
            return heic_size(path) if is_heic(head) else _pillow_size(path)
    except ImageError:  # whatever a foreign header makes a decoder do, a plan goes on without its size
        return None


def _pillow_size(path: Path) -> tuple[int, int, int]:
    with Image.open(path) as image:
        bands = 3 if image.mode == "P" else len(image.getbands())
        return _upright(image.height, image.width, bands, exif_orientation(image.info.get("exif")))


def _tiff_size(path: Path) -> tuple[int, int, int]:
    from tifffile import TiffFile

    with TiffFile(path) as file:
        page = file.pages.first
        orientation = page.tags.valueof(_ORIENTATION, 1)
        return _upright(page.imagelength, page.imagewidth, page.samplesperpixel, orientation)


def _upright(height: int, width: int, bands: int, orientation: object) -> tuple[int, int, int]:
    return (width, height, bands) if orientation in _ON_ITS_SIDE else (height, width, bands)
