"""What the header says of a picture's size is what the reader gives."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data

from blindsr.image_io import read_photo
from blindsr.image_io.probe import picture_size

PIXELS = np.ascontiguousarray(data.astronaut()[:31, 150:187])


def written(path, orientation):
    if path.suffix == ".tif":
        tifffile.imwrite(path, PIXELS, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    elif path.suffix == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        exif = Image.Exif()
        exif[274] = orientation
        pillow_heif.from_bytes("RGB", (37, 31), PIXELS.tobytes()).save(path, quality=80, exif=exif.tobytes())
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(PIXELS).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif", ".heic"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_has_the_size_that_it_is_read_with(tmp_path, suffix, orientation):
    path = written(tmp_path / f"a{suffix}", orientation)
    height, width, bands = read_photo(path).pixels.shape
    assert picture_size(path) == (height, width, bands)


def test_a_tiff_is_known_whatever_its_name(tmp_path):
    tifffile.imwrite(
        tmp_path / "stdin", np.zeros((31, 37, 7), np.float32), photometric="minisblack", planarconfig="contig"
    )
    assert picture_size(tmp_path / "stdin") == (31, 37, 7)


def test_what_is_no_picture_has_no_size(tmp_path):
    (tmp_path / "a.dng").write_bytes(b"II*\x00" + bytes(100))
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(100))
    (tmp_path / "a.png").write_bytes(b"")
    for name in ("a.dng", "a.heic", "a.png", "gone.png"):
        assert picture_size(tmp_path / name) is None
