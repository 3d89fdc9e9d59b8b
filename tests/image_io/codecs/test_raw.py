"""Camera raw files, developed by LibRaw."""

import io
import os
import sys
import types

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io import default_suffix, image_size, read_photo

SAMPLES = np.ascontiguousarray(skimage.data.astronaut()[:96, 150:280])


def digital_negative(path, samples):
    """A DNG with a Bayer mosaic of `samples` (16 bits), linear, with a matrix of sRGB: what LibRaw reads."""
    mosaic = np.empty(samples.shape[:2], np.uint16)
    for (y, x), channel in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        mosaic[y::2, x::2] = samples[y::2, x::2, channel]
    xyz_to_srgb = np.array(
        [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
    )
    matrix = [part for value in xyz_to_srgb.ravel() for part in (round(value * 10000), 10000)]
    tags = [
        (271, "s", 0, "Maker", True),
        (272, "s", 0, "Camera", True),
        (274, "H", 1, 1, True),
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),  # CFAPattern
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNGVersion
        (50708, "s", 0, "Maker Camera", True),  # UniqueCameraModel
        (50714, "H", 1, 0, True),  # BlackLevel
        (50717, "H", 1, 65535, True),  # WhiteLevel
        (50721, "2i", 9, matrix, True),  # ColorMatrix1
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
    ]
    tifffile.imwrite(path, mosaic, photometric="cfa", extratags=tags, software=False, metadata=None)


def test_a_camera_raw_file_is_developed_to_16_bits(tmp_path):
    pytest.importorskip("rawpy")
    grey = np.full((256, 320, 3), 0.2)
    digital_negative(tmp_path / "a.dng", (grey * 65535).round())
    photo = read_photo(tmp_path / "a.dng")
    assert (photo.format, photo.dtype, photo.size) == ("RAW", np.uint16, (320, 256))
    # Linear 0.2 is 0.4845 in sRGB (IEC 61966-2-1).
    np.testing.assert_allclose(photo.pixels[64:192, 64:192], 0.4845, atol=0.01)
    assert photo.icc_profile is not None
    assert default_suffix(photo) == ".png"
    assert image_size(tmp_path / "a.dng") == (256, 320, 3)
    exif = Image.Exif()
    exif.load(photo.exif)
    assert exif[271] == "Maker"


def test_a_broken_raw_file_is_refused(tmp_path):
    pytest.importorskip("rawpy")
    (tmp_path / "a.nef").write_bytes(b"II*\x00" + bytes(500))
    with pytest.raises(ImageError, match=r"a\.nef: the file is damaged"):
        read_photo(tmp_path / "a.nef")


def test_a_raw_file_under_another_name_is_not_read_as_its_preview(tmp_path):
    digital_negative(tmp_path / "a.tif", np.zeros((64, 64, 3)))
    with pytest.raises(ImageError, match=r"camera raw file with another suffix; name it .dng"):
        read_photo(tmp_path / "a.tif")


def test_the_preview_of_a_raw_file_under_another_name_is_not_taken_for_the_image(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SAMPLES[:8, :8], photometric="rgb", subfiletype=1, subifds=1)
        file.write(np.zeros((64, 64), np.uint16), photometric="minisblack")
    with pytest.raises(ImageError, match=r"is a preview, as in a camera raw file; name it like one"):
        read_photo(tmp_path / "a.tif")


class FakeRaw:
    """What rawpy gives for a file; `postprocess` prints like LibRaw, or like another thread."""

    class sizes:  # noqa: N801 - rawpy's name
        raw_width, raw_height = 40, 30

    def __init__(self, printed, preview):
        self.printed, self.preview = printed, preview

    def __enter__(self):
        return self

    def __exit__(self, *_exc_info):
        pass

    def postprocess(self, **_options):
        os.write(2, self.printed)
        return np.zeros((30, 40, 3), np.uint16)

    def extract_thumb(self):
        return types.SimpleNamespace(data=self.preview)


def with_fake_rawpy(monkeypatch, printed=b"", preview=b""):
    fake = types.SimpleNamespace(
        imread=lambda _file: FakeRaw(printed, preview), ColorSpace=types.SimpleNamespace(sRGB=1)
    )
    monkeypatch.setitem(sys.modules, "rawpy", fake)


def test_a_log_line_of_another_thread_does_not_make_a_raw_file_damaged(tmp_path, monkeypatch, capfd):
    with_fake_rawpy(monkeypatch, b"INFO:root:a request was served\n")
    (tmp_path / "a.cr3").write_bytes(b"x")
    assert read_photo(tmp_path / "a.cr3").size == (40, 30)
    assert capfd.readouterr().err == "INFO:root:a request was served\n"


@pytest.mark.parametrize("line", [b"a.cr3: data corrupted at 1234\n", b"a.cr3: Unexpected end of file\n"])
def test_what_libraw_prints_of_missing_data_makes_a_raw_file_damaged(tmp_path, monkeypatch, line):
    with_fake_rawpy(monkeypatch, line)
    (tmp_path / "a.cr3").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"the raw file is damaged or ends early"):
        read_photo(tmp_path / "a.cr3")


def test_the_exif_of_a_raw_file_that_is_no_tiff_is_that_of_its_preview(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[271] = "Maker"
    preview = io.BytesIO()
    Image.fromarray(SAMPLES).save(preview, "JPEG", exif=exif)
    with_fake_rawpy(monkeypatch, preview=preview.getvalue())
    (tmp_path / "a.cr3").write_bytes(b"x")
    block = Image.Exif()
    block.load(read_photo(tmp_path / "a.cr3").exif)
    assert block[271] == "Maker"
    with_fake_rawpy(monkeypatch)
    photo = read_photo(tmp_path / "a.cr3")
    assert photo.exif is None
    assert any("no EXIF block was found in the raw file" in warning for warning in photo.warnings)
