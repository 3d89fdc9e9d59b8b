"""JPEG 2000: samples of 1 to 16 bits, boxes, and files that are damaged."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile

from blindsr.errors import ImageError
from blindsr.image_io import default_suffix, image_size, open_image, read_photo, write_photo

SAMPLES = np.ascontiguousarray(skimage.data.coffee()[100:131, 200:237])


def box(name, body):
    return struct.pack(">I", 8 + len(body)) + name + body


def jp2(samples, extra=b"", **options):
    """A lossless JP2 with boxes before its code stream."""
    data = imagecodecs.jpeg2k_encode(samples, level=0, **options)
    at = data.index(b"jp2c") - 4
    return data[:at] + extra + data[at:]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossless_samples_come_back_to_the_bit(tmp_path, dtype, channels):
    limits = np.iinfo(dtype)
    samples = np.random.default_rng(0).integers(limits.min, limits.max, (31, 37, channels), dtype, endpoint=True)
    (tmp_path / "a.jp2").write_bytes(jp2(np.squeeze(samples)))
    photo = read_photo(tmp_path / "a.jp2")
    assert (photo.format, photo.dtype, photo.pixels.shape) == ("JPEG2000", dtype, (31, 37, channels))
    write_photo(photo, tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), np.squeeze(samples))
    assert image_size(tmp_path / "a.jp2") == (31, 37, channels)


def test_15_bits_as_of_sentinel_2_keep_their_values_with_a_warning(tmp_path):
    samples = np.random.default_rng(0).integers(0, 10000, (31, 37), np.uint16)
    (tmp_path / "a.jp2").write_bytes(jp2(samples, bitspersample=15))
    photo = read_photo(tmp_path / "a.jp2")
    np.testing.assert_array_equal(np.round(photo.pixels[..., 0] * 65535), samples)
    assert photo.warnings == ("samples of 15 bits are kept as 16-bit ones with the same values",)


@pytest.mark.parametrize(("is_reversible", "kind"), [(True, "j2k"), (False, "j2k"), (False, "jp2")])
def test_bits_are_counted_of_a_code_stream_that_lost_something(tmp_path, is_reversible, kind):
    samples = np.ascontiguousarray(skimage.data.coffee()[:128, :128])
    level = 0 if is_reversible else 50
    data = imagecodecs.jpeg2k_encode(samples, level=level, codecformat=kind, reversible=is_reversible)
    (tmp_path / f"a.{kind}").write_bytes(data)
    with open_image(tmp_path / f"a.{kind}") as source:
        if is_reversible:
            assert source.lossy_coding is None
        else:
            assert source.lossy_coding == ("JPEG2000", pytest.approx(8 * len(data) / 128**2, rel=0.1))


def test_a_bare_code_stream_is_read(tmp_path):
    data = imagecodecs.jpeg2k_encode(SAMPLES, level=0, codecformat="j2k")
    assert data.startswith(b"\xff\x4f\xff\x51")
    (tmp_path / "a.j2k").write_bytes(data)
    np.testing.assert_array_equal(np.round(read_photo(tmp_path / "a.j2k").pixels * 255), SAMPLES)


def test_the_channel_that_is_opacity_becomes_alpha(tmp_path):
    samples = np.dstack([SAMPLES, SAMPLES[..., 0]])
    definition = struct.pack(">H", 4) + b"".join(
        struct.pack(">HHH", channel, channel == 3, 0 if channel == 3 else channel + 1) for channel in range(4)
    )
    data = jp2(samples)
    at = data.index(b"jp2h") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    old = data.find(b"cdef", at, at + length)
    assert old < 0
    header = struct.pack(">I", length + 8 + len(definition)) + data[at + 4 : at + length] + box(b"cdef", definition)
    (tmp_path / "a.jp2").write_bytes(data[:at] + header + data[at + length :])
    photo = read_photo(tmp_path / "a.jp2")
    np.testing.assert_array_equal(np.round(photo.pixels * 255), SAMPLES)
    np.testing.assert_array_equal(np.round(photo.alpha * 255), samples[..., 3])


def test_xmp_and_the_georeference_of_geojp2_are_read(tmp_path):
    tags = [(33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 4e5, 5e6, 0.0), True)]
    degenerate = io.BytesIO()
    tifffile.imwrite(degenerate, np.zeros((1, 1), np.uint8), extratags=tags, metadata=None)
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    boxes = box(b"uuid", bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03") + degenerate.getvalue())
    boxes += box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet)
    (tmp_path / "a.jp2").write_bytes(jp2(SAMPLES, boxes))
    photo = read_photo(tmp_path / "a.jp2")
    assert photo.geo.tags[33550] == (10.0, 10.0, 0.0)
    assert photo.xmp == packet
    assert default_suffix(photo) == ".tif"
    write_photo(photo.with_result(photo.pixels.repeat(2, 0).repeat(2, 1)), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages.first.tags[33550].value == (5.0, 5.0, 0.0)


GML = """<?xml version="1.0" encoding="UTF-8"?>
<gml:FeatureCollection xmlns:gml="http://www.opengis.net/gml"><gml:featureMember><gml:FeatureCollection>
<gml:featureMember><gml:RectifiedGridCoverage><gml:rectifiedGridDomain><gml:RectifiedGrid dimension="2">
<gml:origin><gml:Point srsName="urn:ogc:def:crs:EPSG::{code}"><gml:pos>600005 4899995</gml:pos></gml:Point></gml:origin>
<gml:offsetVector srsName="urn:ogc:def:crs:EPSG::{code}">{across}</gml:offsetVector>
<gml:offsetVector srsName="urn:ogc:def:crs:EPSG::{code}">0 -10</gml:offsetVector>
</gml:RectifiedGrid></gml:rectifiedGridDomain></gml:RectifiedGridCoverage></gml:featureMember>
</gml:FeatureCollection></gml:featureMember></gml:FeatureCollection>"""


def with_gml(samples, code=32631, across="10 0"):
    """A JP2 with the georeference that ESA's Sentinel-2 products have: GML, and nothing else."""
    text = GML.format(code=code, across=across).encode()
    label = box(b"asoc", box(b"lbl ", b"gml.root-instance") + box(b"xml ", text))
    return jp2(samples, box(b"asoc", box(b"lbl ", b"gml.data") + label))


def test_the_georeference_of_sentinel_2_is_kept_in_a_tiff_and_scaled(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    (tmp_path / "a.jp2").write_bytes(with_gml(SAMPLES[..., 0]))
    photo = read_photo(tmp_path / "a.jp2")
    assert photo.warnings == ()
    assert default_suffix(photo) == ".tif"
    write_photo(photo.with_result(photo.pixels.repeat(2, 0).repeat(2, 1)), tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as tiff:
        assert tiff.crs.to_epsg() == 32631
        assert tiff.transform.to_gdal() == (600000, 5, 0, 4900000, 0, -5)


@pytest.mark.parametrize("other", [{"code": 4326}, {"code": 2180}, {"across": "10 1"}, {"across": "-10 0"}])
def test_other_gml_is_reported(tmp_path, other):
    (tmp_path / "a.jp2").write_bytes(with_gml(SAMPLES, **other))
    photo = read_photo(tmp_path / "a.jp2")
    assert photo.geo is None
    assert any("GML of another kind than that of Sentinel-2" in warning for warning in photo.warnings)


@pytest.mark.parametrize("part", [0.01, 0.2, 0.5, 0.8, 0.97, 0.999])
def test_a_truncated_file_is_refused(tmp_path, part):
    data = jp2(skimage.data.coffee()[:128, :128].copy())
    (tmp_path / "a.jp2").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=r"a\.jp2: .*; get an intact copy"):
        read_photo(tmp_path / "a.jp2")


def test_a_code_stream_that_is_cut_within_a_box_of_matching_length_is_refused(tmp_path):
    data = imagecodecs.jpeg2k_encode(skimage.data.coffee()[:128, :128].copy(), level=0, codecformat="j2k")
    (tmp_path / "a.j2k").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(ImageError, match="ends early"):
        read_photo(tmp_path / "a.j2k")


def test_the_pixel_limit_is_applied_before_decoding(tmp_path, monkeypatch):
    (tmp_path / "a.jp2").write_bytes(jp2(SAMPLES))
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", None)
    with pytest.raises(ImageError, match=r"at most 1146 pixels .* has 37×31"):
        read_photo(tmp_path / "a.jp2", max_pixels=1146)
