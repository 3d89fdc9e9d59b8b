"""HEIC and camera raw files, read and written through their optional packages."""

import importlib.util
import struct
import sys

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageCms

from blindsr.errors import ImageError, OutputError
from blindsr.image_io import Photo, default_suffix, read_photo, write_photo
from blindsr.image_io.heic import is_heic
from blindsr.image_io.probe import picture_size

HEIGHT, WIDTH = 96, 130
SAMPLES = np.ascontiguousarray(skimage.data.astronaut()[:HEIGHT, 150 : 150 + WIDTH])


@pytest.fixture
def pillow_heif():
    return pytest.importorskip("pillow_heif")


def heic(pillow_heif, path, samples, mode, **info):
    file = pillow_heif.from_bytes(mode=mode, size=(samples.shape[1], samples.shape[0]), data=samples.tobytes())
    file.save(path, quality=-1, chroma=444, matrix_coefficients=0, **info)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4), ("L", 1)])
def test_a_heic_of_8_bits(tmp_path, pillow_heif, mode, channels):
    samples = np.dstack([SAMPLES, SAMPLES[::-1, :, 0]])[..., :channels]
    if mode == "L":
        pytest.importorskip("pillow_heif")
    heic(pillow_heif, tmp_path / "a.heic", np.ascontiguousarray(samples), mode)
    photo = read_photo(tmp_path / "a.heic")
    assert (photo.format, photo.dtype) == ("HEIC", np.uint8)
    if mode == "L":  # HEIC has gray, pillow-heif may give it as RGB
        assert np.abs(photo.pixels[..., :1] * 255 - samples).mean() < 2
    else:
        np.testing.assert_allclose(photo.pixels * 255, samples[..., :3], atol=0.01)
    if mode == "RGBA":
        np.testing.assert_allclose(photo.alpha * 255, samples[..., 3], atol=0.01)


def test_a_heic_of_10_bits_is_not_cut_to_8(tmp_path, pillow_heif):
    levels = np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3) // 40 % 1024
    heic(pillow_heif, tmp_path / "a.heic", (levels << 6).astype(np.uint16), "RGB;16")
    photo = read_photo(tmp_path / "a.heic")
    assert photo.dtype == np.uint16
    assert len(np.unique(photo.pixels)) > 700
    np.testing.assert_allclose(photo.pixels * 1023, levels, atol=1.1)
    assert "16" in photo.notes[0]


def test_a_heic_is_turned_once_and_keeps_its_metadata(tmp_path, pillow_heif):
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    heic(pillow_heif, tmp_path / "a.heic", SAMPLES, "RGB", exif=exif.tobytes())
    photo = read_photo(tmp_path / "a.heic")
    np.testing.assert_allclose(photo.pixels * 255, np.rot90(SAMPLES, -1), atol=0.01)
    write_photo(photo, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as written:
        assert written.getexif()[271] == "Maker"
        assert written.getexif().get(274, 1) == 1


@pytest.mark.parametrize(("kind", "bands"), [("gray", 1), ("colour", 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("is_transparent", [False, True])
def test_what_is_written_as_heic_is_read_again(tmp_path, pillow_heif, kind, bands, dtype, is_transparent):
    top = np.iinfo(dtype).max
    pixels = (SAMPLES[..., :bands] / np.float32(255)).astype(np.float32)
    alpha = np.linspace(0, 1, pixels[..., 0].size, dtype=np.float32).reshape(pixels.shape[:2])
    photo = Photo(
        pixels=pixels,
        alpha=alpha if is_transparent else None,
        has_alpha=is_transparent,
        dtype=np.dtype(dtype),
        format="PNG",
        value_range=(0, top),
    )
    notes = write_photo(photo, tmp_path / "a.heic", quality=100)
    again = read_photo(tmp_path / "a.heic")
    assert (again.format, again.dtype, again.size) == ("HEIC", dtype, photo.size)
    assert np.abs(again.pixels - pixels).max() < 7 / 255
    assert np.abs(again.pixels - pixels).mean() < 1 / 255
    assert (again.alpha is None) is not is_transparent
    if again.alpha is not None:
        np.testing.assert_allclose(again.alpha, alpha, atol=1.1 / 255)
    assert any("12 bits" in note for note in notes) is (dtype == np.uint16)
    assert any("no gray with alpha" in note for note in notes) is (is_transparent and bands == 1)


def test_a_heic_of_16_bits_has_12(tmp_path, pillow_heif):
    levels = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH, 1)
    photo = Photo(pixels=levels, dtype=np.dtype(np.uint16), format="PNG", value_range=(0, 65535))
    write_photo(photo, tmp_path / "a.heic", quality=100)
    assert len(np.unique(read_photo(tmp_path / "a.heic").pixels)) > 2**10


def test_profile_exif_and_xmp_go_into_a_heic(tmp_path, pillow_heif):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    Image.fromarray(SAMPLES).save(tmp_path / "a.jpg", exif=exif, icc_profile=profile, xmp=packet, dpi=(300, 300))
    photo = read_photo(tmp_path / "a.jpg")
    larger = photo.with_result(np.repeat(np.repeat(photo.pixels, 2, 0), 2, 1))
    write_photo(larger, tmp_path / "b.heic", quality=80)
    again = read_photo(tmp_path / "b.heic")
    assert again.size == (2 * HEIGHT, 2 * WIDTH)  # turned by the orientation of the JPEG, and not turned again
    assert again.icc_profile == profile
    kept = Image.Exif()
    kept.load(again.exif)
    assert kept[271] == "Maker"
    assert kept.get(274, 1) == 1
    assert b"xmpmeta" in again.xmp
    assert again.dpi == (300, 300)


def test_the_quality_of_a_heic(tmp_path, pillow_heif):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    sizes = []
    for quality in (10, 60, None):
        path = tmp_path / f"{quality}.heic"
        write_photo(photo, path, quality=quality)
        sizes.append(path.stat().st_size)
    assert sizes == sorted(set(sizes))


def test_a_heic_without_its_package_is_refused_before_the_work(tmp_path, monkeypatch):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r'run pip install "blindsr\[heic\]", or write b\.png'):
        write_photo(photo, tmp_path / "b.heic")
    assert not (tmp_path / "b.heic").exists()


def test_floats_do_not_become_a_heic(tmp_path, pillow_heif):
    photo = Photo(pixels=np.zeros((8, 9, 3), np.float32), dtype=np.dtype(np.float32), format="TIFF", value_range=(0, 1))
    with pytest.raises(OutputError, match=r"\.heic holds no floats; write b\.tif"):
        write_photo(photo, tmp_path / "b.heic")


def test_an_avif_is_no_heic(tmp_path):
    Image.fromarray(SAMPLES).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    assert not is_heic((tmp_path / "a.avif").read_bytes()[:32])
    assert read_photo(tmp_path / "a.avif").format == "AVIF"


def test_a_broken_heic_is_refused(tmp_path, pillow_heif):
    heic(pillow_heif, tmp_path / "a.heic", SAMPLES, "RGB")
    data = (tmp_path / "a.heic").read_bytes()
    for part in (0.1, 0.5, 0.9):
        (tmp_path / "b.heic").write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match=r"b\.heic: the file is damaged"):
            read_photo(tmp_path / "b.heic")


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
    gray = np.full((256, 320, 3), 0.2)
    digital_negative(tmp_path / "a.dng", (gray * 65535).round())
    photo = read_photo(tmp_path / "a.dng")
    assert (photo.format, photo.dtype, photo.size) == ("RAW", np.uint16, (320, 256))
    # Linear 0.2 is 0.4845 in sRGB (IEC 61966-2-1).
    np.testing.assert_allclose(photo.pixels[64:192, 64:192], 0.4845, atol=0.01)
    assert photo.icc_profile is not None
    assert default_suffix(photo) == ".png"
    assert picture_size(tmp_path / "a.dng") == (256, 320, 3)
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
    with pytest.raises(ImageError, match=r"camera raw file, named .tif; name it .dng"):
        read_photo(tmp_path / "a.tif")


def test_the_preview_of_a_raw_file_under_another_name_is_not_taken_for_the_picture(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SAMPLES[:8, :8], photometric="rgb", subfiletype=1, subifds=1)
        file.write(np.zeros((64, 64), np.uint16), photometric="minisblack")
    with pytest.raises(ImageError, match=r"is a preview, as in a camera raw file; name it like one"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("package", "name", "content", "extra"),
    [
        ("rawpy", "a.cr2", b"II*\x00", "raw"),
        ("pillow_heif", "a.heic", struct.pack(">I", 24) + b"ftypheic" + bytes(12), "heic"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, package, name, content, extra):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=rf'run pip install "blindsr\[{extra}\]"') as caught:
        read_photo(tmp_path / name)
    assert "\n" not in str(caught.value)
