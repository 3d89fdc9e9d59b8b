"""Samples that were never measured are filled for the work and are back in the result."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from blindsr.image_io import read_photo, upscale_valid, write_photo
from blindsr.image_io.holes import fill_holes, measured, usable_nodata
from blindsr.image_io.strips import open_strips

HEIGHT, WIDTH = 31, 37


def doubled(photo):
    """What an upscaler that repeats pixels would give."""
    pixels = photo.pixels.repeat(2, axis=0).repeat(2, axis=1)
    valid = None if photo.valid is None else upscale_valid(photo.valid, *pixels.shape[:2])
    return photo.with_result(pixels, valid=valid)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers_are_filled_counted_and_come_back_as_nan(tmp_path, value):
    samples = np.random.default_rng(0).random((HEIGHT, WIDTH)).astype(np.float32)
    samples[3:9, 5:8] = value
    tifffile.imwrite(tmp_path / "a.tif", samples)
    photo = read_photo(tmp_path / "a.tif")
    assert np.isfinite(photo.pixels).all()
    assert not photo.valid[3:9, 5:8].any()
    assert photo.valid.sum() == samples.size - 18
    assert photo.notes == ("no data in 18 samples: filled from the neighbours for the work, NaN in the result",)
    write_photo(doubled(photo), tmp_path / "b.tif")
    result = tifffile.imread(tmp_path / "b.tif")
    expected = np.where(np.isfinite(samples), samples, np.nan).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [(np.uint8, 0), (np.uint8, 255), (np.uint16, 0), (np.int16, -32768), (np.int32, -9999), (np.float32, -9999)],
)
def test_the_value_of_no_data_is_masked_and_kept(tmp_path, dtype, nodata):
    rng = np.random.default_rng(0)
    samples = rng.integers(1, 120, (HEIGHT, WIDTH, 3)).astype(dtype)
    samples[rng.random(samples.shape) < 0.2] = nodata
    tags = [(42113, "s", 0, str(nodata), True)]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.valid, samples != nodata)
    assert photo.pixels.min() >= 0
    assert photo.pixels.max() <= 1
    write_photo(doubled(photo), tmp_path / "b.tif")
    np.testing.assert_allclose(tifffile.imread(tmp_path / "b.tif"), samples.repeat(2, 0).repeat(2, 1), atol=1e-4)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert float(file.pages.first.tags[42113].value) == nodata


@pytest.mark.parametrize(("dtype", "nodata", "neighbour"), [(np.uint8, 0, 1), (np.uint8, 255, 254), (np.uint16, 7, 8)])
def test_a_measured_sample_never_becomes_no_data(tmp_path, dtype, nodata, neighbour):
    samples = np.full((5, 4), 100, dtype)
    tifffile.imwrite(tmp_path / "a.tif", samples, extratags=[(42113, "s", 0, str(nodata), True)])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.valid is None
    dark = photo.with_result(np.full((5, 4, 1), nodata / np.iinfo(dtype).max, np.float32))
    write_photo(dark, tmp_path / "b.tif")
    assert (tifffile.imread(tmp_path / "b.tif") == neighbour).all()


@pytest.mark.parametrize(
    ("text", "said"), [("-9999", "no uint8 sample can be -9999"), ("nan", "can be nan"), ("x", "is no number")]
)
def test_a_value_of_no_data_that_cannot_be_is_left_out_and_this_is_said(tmp_path, text, said):
    tags = [(42113, "s", 0, text, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4), np.uint8), extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.nodata is None
    assert said in photo.notes[0]


def test_windows_know_the_holes_of_the_whole_file(tmp_path):
    samples = np.random.default_rng(0).random((HEIGHT, WIDTH)).astype(np.float32) * 5
    samples[3:9, 5:8] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", samples, rowsperstrip=4)
    whole = read_photo(tmp_path / "a.tif")
    with open_strips(tmp_path / "a.tif") as source:
        assert source.has_holes
        assert source.header.notes == whole.notes
        for top in range(0, HEIGHT, 7):
            part = source.read(top, min(HEIGHT, top + 7))
            np.testing.assert_array_equal(part.valid, whole.valid[top : top + 7])
            assert np.isfinite(part.pixels).all()
            np.testing.assert_array_equal(part.pixels[part.valid], whole.pixels[top : top + 7][part.valid])


MASKS = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2**32 - 1), st.floats(0, 1))


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_a_hole_gets_the_value_of_a_measured_sample_nearest_to_it(case):
    height, width, bands, seed, share = case
    rng = np.random.default_rng(seed)
    pixels, valid = rng.random((height, width, bands), np.float32), rng.random((height, width, bands)) >= share
    before = pixels.copy()
    filled = fill_holes(pixels, valid)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(filled[valid], pixels[valid])
    for band in range(bands):
        places = np.argwhere(valid[..., band])
        for y, x in np.argwhere(~valid[..., band]):
            if not len(places):
                assert filled[y, x, band] == 0
                continue
            distances = ((places - (y, x)) ** 2).sum(axis=1)
            nearest = places[distances == distances.min()]
            assert filled[y, x, band] in pixels[nearest[:, 0], nearest[:, 1], band]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_mask_times_a_whole_number_is_the_mask_repeated(height, width, scale, seed):
    valid = np.random.default_rng(seed).random((height, width)) < 0.5
    expected = valid.repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(upscale_valid(valid, height * scale, width * scale), expected)


def test_no_data_with_more_digits_than_float32_has_is_found():
    value = usable_nodata(-3.4028234663852886e38, np.dtype(np.float32))
    samples = np.array([np.finfo(np.float32).min, 1.0], np.float32)
    assert measured(samples, value).tolist() == [False, True]
    assert usable_nodata(-1.7976931348623157e308, np.dtype(np.float32)) is None
