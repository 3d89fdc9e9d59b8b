"""FITS: samples to the bit, missing data, and sky coordinates that stay where the stars are."""

import sys
from dataclasses import replace

import numpy as np
import pytest

fits = pytest.importorskip("astropy.io.fits", reason="astropy is not installed (blindsr[astro])")
from astropy.wcs import WCS  # noqa: E402

from blindsr.errors import ImageError, OutputError  # noqa: E402
from blindsr.image_io import (  # noqa: E402
    FileOptions,
    Provenance,
    default_suffix,
    image_size,
    open_image,
    read_photo,
    with_provenance,
    without_metadata,
    write_photo,
)
from blindsr.image_io.codecs.fits import scale_coordinates  # noqa: E402

RNG = np.random.default_rng(0)
VALUES = RNG.integers(5, 120, (23, 31))


def saved(path, samples, header=None):
    fits.PrimaryHDU(samples, header).writeto(path)
    return path


def copied(path, target):
    """Read and write at the same size; the data and the header."""
    warnings = write_photo(read_photo(path), target)
    with fits.open(target, memmap=False, ignore_blank=True) as units:
        units.verify("exception")
        return units[0].data, units[0].header, warnings


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32"])
@pytest.mark.parametrize("planes", [None, 1, 3, 5])
def test_samples_of_every_type_are_kept(tmp_path, dtype, planes):
    samples = (VALUES if planes is None else RNG.integers(0, 100, (planes, 23, 31))).astype(dtype)
    saved(tmp_path / "a.fits", samples)
    assert image_size(tmp_path / "a.fits") == (23, 31, planes or 1)
    data, header, warnings = copied(tmp_path / "a.fits", tmp_path / "b.fits")
    assert header["BITPIX"] == 8 * np.dtype(dtype).itemsize * (-1 if dtype == "float32" else 1)
    np.testing.assert_allclose(data, np.squeeze(samples), atol=1e-4 if dtype == "float32" else 0)
    assert data.dtype == np.dtype(dtype).newbyteorder("=" if dtype in ("uint8", "int8") else data.dtype.byteorder)
    assert warnings == ()


def test_scaled_integers_become_the_values_that_they_mean(tmp_path):
    unit = fits.PrimaryHDU(VALUES.astype(np.int16))
    unit.header["BSCALE"], unit.header["BZERO"], unit.header["BLANK"] = 0.25, 10.0, 7
    unit.writeto(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", memmap=False) as units:
        expected = np.asarray(units[0].data)
    photo = read_photo(tmp_path / "a.fits")
    assert photo.dtype == np.float32
    low, high = photo.value_range
    values = photo.pixels[..., 0] * (high - low) + low
    np.testing.assert_allclose(values[np.isfinite(expected)], expected[np.isfinite(expected)], atol=1e-3)
    assert np.array_equal(np.isnan(expected), ~photo.valid[..., 0])


@pytest.mark.parametrize(("dtype", "blank"), [("int16", -32768), ("uint8", 255), ("int32", -9999)])
def test_blank_integers_stay_missing(tmp_path, dtype, blank):
    samples = VALUES.astype(dtype)
    samples[3:5, 7] = blank
    header = fits.Header()
    header["BLANK"] = blank
    saved(tmp_path / "a.fits", samples, header)
    photo = read_photo(tmp_path / "a.fits")
    assert int((~photo.valid).sum()) == 2
    data, header, warnings = copied(tmp_path / "a.fits", tmp_path / "b.fits")
    assert np.array_equal(data, samples)
    assert header["BLANK"] == blank
    assert warnings == ()


def test_nan_stays_missing_and_a_dynamic_range_of_a_million_is_kept(tmp_path):
    samples = RNG.normal(100, 2, (40, 50)).astype(np.float32)
    samples[10, 20], samples[5, 6] = 1e6, np.nan
    data, _, _ = copied(saved(tmp_path / "a.fits", samples), tmp_path / "b.fits")
    assert np.array_equal(np.isnan(data), np.isnan(samples))
    np.testing.assert_allclose(data, samples, rtol=0, atol=0.3)


def celestial(kind):
    """A header with world coordinates in one of the notations."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 250.4, 36.46, 12.3, 20.9
    step, c, s = 1.2 / 3600, np.cos(0.4), np.sin(0.4)
    matrix = {"1_1": -c, "1_2": s, "2_1": s, "2_2": c}
    if kind in ("CD", "SIP"):
        header.update({f"CD{key}": step * value for key, value in matrix.items()})
    elif kind == "PC":
        header["CDELT1"], header["CDELT2"] = step, step * 1.1
        header.update({f"PC{key}": value for key, value in matrix.items()})
    elif kind == "half PC":
        header["CDELT1"], header["CDELT2"], header["PC1_2"] = -step, step, 0.02
    elif kind in ("CDELT", "CROTA"):
        header["CDELT1"], header["CDELT2"] = -step, step * 1.1
        header.update({"CROTA2": 23.0} if kind == "CROTA" else {})
    if kind == "SIP":
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-4, "A_1_1": -1e-4, "B_0_2": 3e-4, "B_2_0": 1e-4})
        header.update({"AP_ORDER": 1, "BP_ORDER": 1, "AP_1_0": 1e-5, "BP_0_1": -2e-5})
    return header


@pytest.mark.parametrize("kind", ["CD", "PC", "half PC", "CDELT", "CROTA", "SIP"])
@pytest.mark.parametrize("factors", [(2, 2), (2, 3), (1.5, 1.5)])
def test_every_point_keeps_its_sky_coordinates(kind, factors):
    header = celestial(kind)
    scaled = header.copy()
    scale_coordinates(scaled, *factors)
    points = RNG.uniform(1, 30, (50, 2))
    moved = (points - 0.5) * factors + 0.5  # centres of pixels are whole numbers, counted from 1
    sky = WCS(header).all_pix2world(points, 1)
    found = WCS(scaled).all_world2pix(sky, 1) if kind == "SIP" else WCS(scaled).wcs_world2pix(sky, 1)
    # With another factor for each axis, SIP has a u·v term in both; all_world2pix solves to 1e-4 px.
    np.testing.assert_allclose(found, moved, atol=1e-3)


def test_the_detector_coordinates_and_the_pixel_size_are_scaled():
    header = fits.Header({"LTV1": -100.0, "LTM1_1": 0.5, "XPIXSZ": 3.76, "YPIXSZ": 3.76, "EXPTIME": 30.0, "CRPIX9": 4})
    scale_coordinates(header, 2, 2)
    # Of the detector's pixel 400 both give the same place: 0.5·400 − 100 = 100 → (100 − ½)·2 + ½.
    assert header["LTM1_1"] * 400 + header["LTV1"] == pytest.approx(199.5)
    assert (header["XPIXSZ"], header["YPIXSZ"], header["EXPTIME"]) == (1.88, 1.88, 30.0)


def test_the_cards_are_kept_and_the_run_is_in_the_history(tmp_path):
    header = celestial("CD")
    header["OBJECT"] = ("M 13", "the great cluster")
    header["DATAMAX"], header["BZERO"] = 7.0, 0.0
    header.add_history("flat-fielded")
    header.add_comment("a cold night")
    header["HIERARCH ESO DET GAIN"] = 1.1
    saved(tmp_path / "a.fits", VALUES.astype(np.float32), header)
    photo = read_photo(tmp_path / "a.fits")
    assert default_suffix(photo) == ".fits"
    photo = with_provenance(photo, Provenance(program="blindsr 1.0", details={"scale": 2}))
    write_photo(photo, tmp_path / "b.fits")
    result = fits.getheader(tmp_path / "b.fits")
    assert (result["OBJECT"], result.comments["OBJECT"]) == ("M 13", "the great cluster")
    assert result["ESO DET GAIN"] == 1.1
    assert "DATAMAX" not in result
    assert list(result["COMMENT"]) == ["a cold night"]
    assert list(result["HISTORY"]) == ["flat-fielded", 'blindsr 1.0: {"scale":2}']
    assert result["CRPIX1"] == header["CRPIX1"]
    write_photo(without_metadata(photo), tmp_path / "c.fits")
    assert len(fits.getheader(tmp_path / "c.fits")) == 5


def test_the_first_image_is_used_and_others_by_number(tmp_path):
    units = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[1, 2])])]
    units += [fits.ImageHDU(VALUES.astype(np.int16)), fits.CompImageHDU(2 * VALUES.astype(np.int16))]
    fits.HDUList(units).writeto(tmp_path / "a.fits")
    first = read_photo(tmp_path / "a.fits")
    assert first.warnings[0] == "the FITS file has 2 images: image 1 is used"
    for page, expected in ((1, VALUES), (2, 2 * VALUES)):
        photo = read_photo(tmp_path / "a.fits", page=page)
        write_photo(photo, tmp_path / f"{page}.fits")
        assert np.array_equal(fits.getdata(tmp_path / f"{page}.fits"), expected)
        assert "ZCMPTYPE" not in fits.getheader(tmp_path / f"{page}.fits")


@pytest.mark.parametrize("name", ["a.fits", "a.fit", "a.fts", "named.dat"])
def test_it_is_recognised_by_its_content(tmp_path, name):
    saved(tmp_path / name, VALUES.astype(np.int16))
    assert read_photo(tmp_path / name).format == "FITS"


def test_leading_axes_of_length_one_are_left_out(tmp_path):
    saved(tmp_path / "a.fits", VALUES.astype(np.float32)[None, None])
    assert read_photo(tmp_path / "a.fits").pixels.shape == (23, 31, 1)


def test_what_is_no_image_is_one_line(tmp_path):
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    saved(tmp_path / "cube.fits", np.zeros((2, 2, 8, 8), np.float32))
    saved(tmp_path / "whole.fits", np.arange(40000, dtype=np.float32).reshape(200, 200))
    saved(tmp_path / "long.fits", np.zeros((8, 8), np.int64))
    (tmp_path / "cut.fits").write_bytes((tmp_path / "whole.fits").read_bytes()[:60000])
    words = {
        "empty": "needed an image, this FITS file has none",
        "cube": r"needs 2 axes, or 3 with planes, this one has 8×8×2×2 px; cut a plane out",
        "cut": "damaged or ends early",
        "long": "integers of at most 32 bits, got int64",
    }
    for name, text in words.items():
        with pytest.raises(ImageError, match=rf"{name}\.fits: .*{text}"):
            read_photo(tmp_path / f"{name}.fits")


def test_other_formats_do_not_keep_the_header(tmp_path):
    photo = read_photo(saved(tmp_path / "a.fits", VALUES.astype(np.uint16), celestial("CD")))
    assert "the header of the FITS file" in write_photo(photo, tmp_path / "a.tif")[0]
    coloured = replace(photo, icc_profile=b"x" * 200)
    assert "colour profile has no place in a FITS file" in write_photo(coloured, tmp_path / "b.fits")[0]
    assert write_photo(without_metadata(photo), tmp_path / "b.tif") == ()


def test_without_astropy_the_extra_is_named(tmp_path, monkeypatch):
    photo = read_photo(saved(tmp_path / "a.fits", VALUES.astype(np.int16)))
    monkeypatch.setitem(sys.modules, "astropy.io.fits", None)
    with pytest.raises(
        ImageError, match=r'needs the package astropy; run pip install "blindsr\[astro\]", or convert it'
    ):
        open_image(tmp_path / "a.fits", options=FileOptions())
    with pytest.raises(OutputError, match=r'run pip install "blindsr\[astro\]"; write b\.'):
        write_photo(photo, tmp_path / "b.fits")
