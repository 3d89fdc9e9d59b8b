"""How large a picture is, from the first bytes of its file: for plans, which must not read everything."""

from pathlib import Path

from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io.camera_raw import RAW_SUFFIXES
from blindsr.image_io.decoding import decoding

__all__ = ["picture_size"]

_ANY_SIZE = 2**62  # Pillow's own limit would hide the size of the largest


def picture_size(path: Path) -> tuple[int, int, int] | None:
    """Height, width and bands as the file's header says them, before any turning; None if it does not say them here.

    Nothing is decoded and nothing is judged: whether the picture can be read is found out by reading it.
    """
    try:
        with decoding(path, _ANY_SIZE):
            if path.suffix.lower() in (".tif", ".tiff"):
                return _tiff_size(path)
            if path.suffix.lower() in RAW_SUFFIXES:  # Pillow would tell the size of the preview
                return None
            with Image.open(path) as image:
                return image.height, image.width, 3 if image.mode == "P" else len(image.getbands())
    except ImageError:  # whatever a foreign header makes a decoder do, a plan goes on without its size
        return None


def _tiff_size(path: Path) -> tuple[int, int, int]:
    from tifffile import TiffFile

    with TiffFile(path) as file:
        page = file.pages.first
        return page.imagelength, page.imagewidth, page.samplesperpixel
