"""Orientation, EXIF, ICC profile, XMP, resolution; provenance, and its absence if metadata are stripped."""

import io
import json
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, IptcImagePlugin
from PIL.PngImagePlugin import PngInfo

from blindsr.image_io import Provenance, read_photo, with_provenance, without_metadata, write_photo
from blindsr.image_io.codecs.png import SIGNATURE, chunk
from blindsr.image_io.metadata import NAMESPACE, clean_exif, clean_xmp, iptc_marker, xmp_for_size, xmp_with_provenance

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
def test_the_image_is_turned_as_pillow_turns_it(tmp_path, orientation, suffix):
    path = described(tmp_path / f"a{suffix}", orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    photo = read_photo(path)
    np.testing.assert_allclose(photo.pixels * 255, expected, atol=0.01)
    exif = Image.Exif()
    exif.load(photo.exif)
    assert exif[ExifTags.Base.Orientation] == 1


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_too(tmp_path, orientation, compression):
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
def test_a_resolution_that_only_exif_contains(tmp_path, unit, expected):
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


def test_the_colour_chunks_of_a_png_are_kept_and_left_out_elsewhere(tmp_path):
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
    warnings = write_photo(photo, tmp_path / f"b{suffix}")
    again = read_photo(tmp_path / f"b{suffix}")
    assert again.iptc == IPTC
    assert again.xmp == photo.xmp
    if suffix == ".jpg":
        assert (warnings, again.texts) == ((), photo.texts)
        with Image.open(tmp_path / "b.jpg") as written:
            assert IptcImagePlugin.getiptcinfo(written) == {(2, 120): b"A title", (2, 25): b"key"}
    else:
        assert warnings == ("the comment of the file is kept in a PNG or JPEG only: it is left out",)


def test_captions_that_a_png_has_no_place_for_are_left_out_with_a_warning(tmp_path):
    Image.fromarray(SAMPLES).save(tmp_path / "a.jpg", extra=iptc_marker(IPTC), comment="Grüße")
    warnings = write_photo(read_photo(tmp_path / "a.jpg"), tmp_path / "b.png")
    assert warnings == ("the IPTC captions are kept in a TIFF or JPEG only: they are left out",)
    assert read_photo(tmp_path / "b.png").texts == (("Comment", "Grüße"),)
    assert iptc_marker(bytes(65600)) is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_what_xmp_repeats_of_size_and_image_is_set_right(tmp_path, suffix):
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


PROVENANCE = Provenance(program="blindsr 9.9", details={"scale": 2, "kernel": "abc", "text": "<&>\"'"})


RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


OTHERS = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="uuid:1" '
    b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Camera &quot;X&quot;" xmp:Rating="5"/></rdf:RDF>'
    b'</x:xmpmeta><?xpacket end="w"?>'
)


def photograph(path, **options):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 37, 3), np.uint8)).save(path, **options)
    return read_photo(path)


def properties(xmp):
    """Every property of a packet with its value; a property that stands twice is an error of the packet."""
    found = {}
    for description in ElementTree.fromstring(xmp).iter(f"{RDF}Description"):
        pairs = [(key, value) for key, value in description.attrib.items() if not key.startswith(RDF)]
        for key, value in [*pairs, *((child.tag, child.text) for child in description)]:
            assert key not in found
            found[key] = value
    return found


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("xmp", [None, OTHERS])
def test_every_format_records_its_provenance(tmp_path, suffix, xmp):
    photo = replace(photograph(tmp_path / "a.png"), xmp=xmp)
    warnings = write_photo(with_provenance(photo, PROVENANCE), tmp_path / f"b{suffix}")
    assert warnings == ()
    again = read_photo(tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as written:
        assert written.getexif()[ExifTags.Base.Software] == "blindsr 9.9"
    recorded = properties(again.xmp)
    assert recorded[f"{{{NAMESPACE}}}program"] == "blindsr 9.9"
    assert json.loads(recorded[f"{{{NAMESPACE}}}run"]) == PROVENANCE.details
    assert recorded["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"].endswith(
        "algorithmicallyEnhanced"
    )
    tool = recorded["{http://ns.adobe.com/xap/1.0/}CreatorTool"]
    assert tool == ("blindsr 9.9" if xmp is None else 'Camera "X"')
    if suffix == ".png":
        assert json.loads(dict(again.texts)["blindsr"]) == PROVENANCE.details
        assert dict(again.texts)["Software"] == "blindsr 9.9"
    if suffix == ".tif":
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert json.loads(file.pages.first.tags[270].value) == PROVENANCE.details


def test_the_photographers_description_of_a_tiff_stays(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "Aunt Mary"
    photo = photograph(tmp_path / "a.jpg", exif=exif)
    write_photo(with_provenance(photo, PROVENANCE), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages.first.tags[270].value == "Aunt Mary"


def test_a_second_run_replaces_the_record_of_the_first(tmp_path):
    once = with_provenance(photograph(tmp_path / "a.png"), PROVENANCE)
    twice = with_provenance(once, Provenance(program="blindsr 10", details={"scale": 3}))
    recorded = properties(twice.xmp)
    assert recorded[f"{{{NAMESPACE}}}program"] == "blindsr 10"
    assert [keyword for keyword, _ in twice.texts] == ["Software", "blindsr"]
    assert b"9.9" not in twice.xmp


@pytest.mark.parametrize("packet", [b"<x/>", b"not xml", OTHERS.replace(b"rdf:RDF>", b"other:RDF>")])
def test_a_packet_that_is_written_in_another_way_is_left_alone(packet):
    assert xmp_with_provenance(packet, "blindsr", "{}") == packet


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_stripped_metadata_are_nowhere_in_the_file_and_the_profile_is(tmp_path, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Secret Name"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = photograph(tmp_path / "a.jpg", exif=exif, icc_profile=profile, dpi=(300, 300), xmp=OTHERS)
    write_photo(without_metadata(photo), tmp_path / f"b{suffix}")
    data = (tmp_path / f"b{suffix}").read_bytes()
    for secret in (b"Secret", b"Camera", b"GPS", b"xpacket", b"blindsr"):
        assert secret not in data
    again = read_photo(tmp_path / f"b{suffix}")
    assert again.icc_profile == profile
    assert again.xmp is None


def test_the_texts_of_a_png_are_kept_and_left_out_elsewhere(tmp_path):
    info = PngInfo()
    info.add_text("Author", "Zoë")
    info.add_text("Copyright", "© Łukasz")  # beyond Latin-1: written as iTXt
    info.add_text("Comment", "long " * 500, zip=True)
    info.add_itxt("Title", "Überschrift", "de", "Titel", zip=True)
    info.add_text("Raw profile type exif", "\nexif\n 8\n4949")
    photo = photograph(tmp_path / "a.png", pnginfo=info)
    expected = {"Author": "Zoë", "Copyright": "© Łukasz", "Comment": "long " * 500, "Title": "Überschrift"}
    assert dict(photo.texts) == expected
    assert write_photo(photo, tmp_path / "b.png") == ()
    with Image.open(tmp_path / "b.png") as written:
        written.load()
        assert written.text == expected
    assert "Author, Copyright, Title" in write_photo(photo, tmp_path / "b.jpg")[0]


@pytest.mark.parametrize(
    "part",
    [
        b" ",
        b"<xmp:Thumbnails>",
        b"<rdf:Description xmlns:blindsr=",
        b"tiff:Orientation ",
        b"rdf:about='",
        b"tiff:ImageWidth>",
    ],
)
def test_a_packet_made_to_take_forever_does_not(part):
    packet = b'<rdf:RDF xmlns:rdf="x">' + part * (2**22 // len(part)) + b"</rdf:RDF>"
    cleaned = clean_xmp(packet)
    assert len(xmp_with_provenance(xmp_for_size(cleaned, (9, 9)), "blindsr", "{}")) > 100


def test_tags_that_describe_the_storage_of_a_raw_file_are_dropped(tmp_path):
    # A DNG repeats its mosaic, matrices and look tables in the first directory; they may fill a whole marker of a JPEG.
    exif = exif_block()
    exif[33421], exif[50706], exif[50981] = (2, 2), b"\x01\x04\x00\x00", tuple(float(n) for n in range(60000))
    exif[18246] = 4
    cleaned = Image.Exif()
    cleaned.load(clean_exif(exif.tobytes()))
    assert set(cleaned) == {271, 274, 18246, 34665, 34853}
    assert cleaned.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] == 50


def test_the_rating_and_the_texts_of_windows_reach_a_tiff(tmp_path):
    exif = Image.Exif()
    exif[18246], exif[40091] = 4, "Title".encode("utf-16-le") + b"\0\0"
    photo = photograph(tmp_path / "a.jpg", exif=exif)
    write_photo(photo, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = file.pages.first.tags
        assert tags[18246].value == 4
        assert bytes(tags[40091].value) == exif[40091]


def test_iptc_that_photoshop_stores_as_numbers_is_read_without_a_complaint(tmp_path):
    records = IPTC + bytes(-len(IPTC) % 4)
    words = np.frombuffer(records, "<u4")
    tags = [(33723, "I", len(words), tuple(int(word) for word in words), True)]
    tifffile.imwrite(tmp_path / "a.tif", SAMPLES, photometric="rgb", extratags=tags, metadata=None)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.iptc == records
    assert photo.warnings == ()
