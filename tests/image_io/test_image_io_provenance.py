"""What a picture says of its making, and what it does not if metadata are stripped."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from blindsr.image_io import Provenance, read_photo, with_provenance, without_metadata, write_photo
from blindsr.image_io.xmp import NAMESPACE, clean_xmp, xmp_for_size, xmp_with_provenance

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
def test_every_format_says_who_made_it_and_how(tmp_path, suffix, xmp):
    photo = replace(photograph(tmp_path / "a.png"), xmp=xmp)
    notes = write_photo(with_provenance(photo, PROVENANCE), tmp_path / f"b{suffix}")
    assert notes == ()
    again = read_photo(tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as written:
        assert written.getexif()[ExifTags.Base.Software] == "blindsr 9.9"
    said = properties(again.xmp)
    assert said[f"{{{NAMESPACE}}}program"] == "blindsr 9.9"
    assert json.loads(said[f"{{{NAMESPACE}}}run"]) == PROVENANCE.details
    assert said["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"].endswith("algorithmicallyEnhanced")
    tool = said["{http://ns.adobe.com/xap/1.0/}CreatorTool"]
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


def test_a_second_run_replaces_what_the_first_said(tmp_path):
    once = with_provenance(photograph(tmp_path / "a.png"), PROVENANCE)
    twice = with_provenance(once, Provenance(program="blindsr 10", details={"scale": 3}))
    said = properties(twice.xmp)
    assert said[f"{{{NAMESPACE}}}program"] == "blindsr 10"
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


def test_the_texts_of_a_png_are_kept_and_missed_elsewhere(tmp_path):
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
