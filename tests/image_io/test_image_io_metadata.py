"""Orientation, EXIF, ICC profile, XMP and resolution."""

import io
import struct

import numpy as np
import pytest
import skimage.data
from PIL import ExifTags, Image, ImageCms, ImageOps, IptcImagePlugin

from blindsr.image_io import read_photo, write_photo
from blindsr.image_io.iptc import iptc_marker
from blindsr.image_io.png_chunks import SIGNATURE, chunk

SAMPLES = skimage.data.rocket()[100:131, 200:237]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'


def exif_block(orientation=6):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "A maker"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExifImageWidth] = 37
    details[ExifTags.Base.ExifImageHeight] = 31
    details[ExifTags.Base.FocalLength] = 50.0
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


def described(path, orientation=6):
    Image.fromarray(SAMPLES).save(
        path, exif=exif_block(orientation), icc_profile=PROFILE, dpi=(300, 150), xmp=XMP, quality=95
    )
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_turned_as_pillow_turns_it(tmp_path, orientation, suffix):
    path = described(tmp_path / f"a{suffix}", orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    photo = read_photo(path)
    np.testing.assert_allclose(photo.pixels * 255, expected, atol=0.01)
    exif = Image.Exif()
    exif.load(photo.exif)
    assert exif[ExifTags.Base.Orientation] == 1


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_too_by_either_decoder(tmp_path, request, orientation, compression):
    if compression is not None:
        request.getfixturevalue("without_imagecodecs")
    Image.fromarray(SAMPLES).save(tmp_path / "a.tif", tiffinfo={274: orientation}, compression=compression)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(SAMPLES).save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_allclose(read_photo(tmp_path / "a.tif").pixels * 255, expected, atol=0.01)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif"])
def test_metadata_arrive_with_the_new_size_and_without_the_turn(tmp_path, suffix):
    photo = read_photo(described(tmp_path / "a.jpg"))
    doubled = photo.pixels.repeat(2, axis=0).repeat(2, axis=1)
    write_photo(photo.with_result(doubled), tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as written:
        exif = written.getexif()
        details, gps = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
        assert written.size == (62, 74)
        assert written.info["icc_profile"] == PROFILE
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert exif[ExifTags.Base.Make] == "A maker"
        assert details[ExifTags.Base.ExifImageWidth] == 62
        assert details[ExifTags.Base.ExifImageHeight] == 74
        assert details[ExifTags.Base.FocalLength] == 50
        assert gps[ExifTags.GPS.GPSLatitudeRef] == "N"
    again = read_photo(tmp_path / f"b{suffix}")
    assert again.xmp == XMP.replace(b'"6"', b'"1"')
    assert again.icc_profile == PROFILE
    np.testing.assert_allclose(again.dpi, (150, 300), rtol=1e-4)


@pytest.mark.parametrize(("unit", "expected"), [(2, (300, 150)), (3, (762, 381)), (1, None)])
def test_a_resolution_that_only_exif_says(tmp_path, unit, expected):
    exif = Image.Exif()
    exif[282], exif[283] = 300.0, 150.0
    exif[296] = unit
    Image.fromarray(SAMPLES).save(tmp_path / "a.webp", exif=exif)
    assert read_photo(tmp_path / "a.webp").dpi == expected
    exif[282] = 0.0
    Image.fromarray(SAMPLES).save(tmp_path / "b.webp", exif=exif)
    assert read_photo(tmp_path / "b.webp").dpi is None


def test_a_tiff_gives_its_metadata_back(tmp_path):
    photo = read_photo(described(tmp_path / "a.jpg", 1))
    write_photo(photo, tmp_path / "b.tif")
    write_photo(read_photo(tmp_path / "b.tif"), tmp_path / "c.png")
    exif = Image.Exif()
    exif.load(read_photo(tmp_path / "c.png").exif)
    assert exif[ExifTags.Base.Make] == "A maker"
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] == 50
    assert 273 not in exif, "the strip offsets of the TIFF have no meaning in a PNG"


def test_the_thumbnail_is_dropped(tmp_path):
    thumbnail = io.BytesIO()
    Image.fromarray(SAMPLES[::4, ::4]).save(thumbnail, "JPEG")
    first = struct.pack("<HHHII", 1, 274, 3, 1, 6)
    second = struct.pack("<HHHIIHHII", 2, 513, 4, 1, 56, 514, 4, 1, len(thumbnail.getvalue()))
    block = b"II*\x00\x08\x00\x00\x00" + first + struct.pack("<I", 26) + second + bytes(4) + thumbnail.getvalue()
    Image.fromarray(SAMPLES).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00" + block)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == (37, 31, 3)
    assert len(photo.exif) < 60


def test_the_colour_chunks_of_a_png_are_kept_and_missed_elsewhere(tmp_path):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    (tmp_path / "a.png").write_bytes(data[:33] + gamma + data[33:])
    photo = read_photo(tmp_path / "a.png")
    assert write_photo(photo, tmp_path / "b.png") == ()
    with Image.open(tmp_path / "b.png") as written:
        assert written.info["gamma"] == 1.0
    assert "gAMA" in write_photo(photo, tmp_path / "b.tif")[0]


def test_metadata_after_the_samples_of_a_png_are_found(tmp_path):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    body = exif_block(3).tobytes().removeprefix(b"Exif\x00\x00")
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk(b"eXIf", body) + data[-12:])
    assert data.startswith(SIGNATURE)
    np.testing.assert_allclose(read_photo(tmp_path / "a.png").pixels * 255, SAMPLES[::-1, ::-1], atol=0.01)


IPTC = b"\x1c\x02\x78\x00\x07A title" + b"\x1c\x02\x19\x00\x03key"


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_iptc_captions_and_the_comment_of_a_jpeg_are_kept(tmp_path, suffix):
    Image.fromarray(SAMPLES).save(tmp_path / "a.jpg", extra=iptc_marker(IPTC), comment="Grüße", xmp=XMP)
    photo = read_photo(tmp_path / "a.jpg")
    assert (photo.iptc, photo.texts) == (IPTC, (("Comment", "Grüße"),))
    notes = write_photo(photo, tmp_path / f"b{suffix}")
    again = read_photo(tmp_path / f"b{suffix}")
    assert again.iptc == IPTC
    assert again.xmp == photo.xmp
    if suffix == ".jpg":
        assert (notes, again.texts) == ((), photo.texts)
        with Image.open(tmp_path / "b.jpg") as written:
            assert IptcImagePlugin.getiptcinfo(written) == {(2, 120): b"A title", (2, 25): b"key"}
    else:
        assert "Comment" in notes[0]


def test_captions_that_a_png_has_no_place_for_are_missed_aloud(tmp_path):
    Image.fromarray(SAMPLES).save(tmp_path / "a.jpg", extra=iptc_marker(IPTC), comment="Grüße")
    notes = write_photo(read_photo(tmp_path / "a.jpg"), tmp_path / "b.png")
    assert notes == ("the IPTC captions are kept in a TIFF or JPEG only: they are left out",)
    assert read_photo(tmp_path / "b.png").texts == (("Comment", "Grüße"),)
    assert iptc_marker(bytes(65600)) is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_what_xmp_repeats_of_size_and_picture_is_set_right(tmp_path, suffix):
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d exif:PixelXDimension="37" tiff:ImageLength=\'31\'>'
        b"<exif:PixelYDimension>31</exif:PixelYDimension><tiff:ImageWidth> 37</tiff:ImageWidth>"
        b"<xmp:Thumbnails><a>old\npicture</a></xmp:Thumbnails><xmp:Rating>5</xmp:Rating></d></x:xmpmeta>"
    )
    Image.fromarray(SAMPLES).save(tmp_path / "a.jpg", xmp=packet)
    photo = read_photo(tmp_path / "a.jpg")
    write_photo(photo.with_result(photo.pixels.repeat(2, axis=0).repeat(3, axis=1)), tmp_path / f"b{suffix}")
    assert read_photo(tmp_path / f"b{suffix}").xmp == (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d exif:PixelXDimension="111" tiff:ImageLength=\'62\'>'
        b"<exif:PixelYDimension>62</exif:PixelYDimension><tiff:ImageWidth> 111</tiff:ImageWidth>"
        b"<xmp:Rating>5</xmp:Rating></d></x:xmpmeta>"
    )
