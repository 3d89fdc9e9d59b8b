"""The range that samples are mapped by, and missing samples: filled for the work, and back in the result."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from blindsr.image_io import MemorySource, Strip, open_image, read_photo, write_photo
from blindsr.image_io.codecs import tiff
from blindsr.image_io.samples import file_samples, fill_missing, is_measured, usable_nodata
from tests.images import upscale_valid

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
    assert photo.warnings == ("missing data in 18 samples: filled from the neighbours for the work, NaN in the result",)
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
    ("text", "expected"), [("-9999", "no uint8 sample can be -9999"), ("nan", "can be nan"), ("x", "is no number")]
)
def test_a_value_of_no_data_that_cannot_be_is_left_out_with_a_warning(tmp_path, text, expected):
    tags = [(42113, "s", 0, text, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4), np.uint8), extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.nodata is None
    assert expected in photo.warnings[0]


def test_windows_know_the_missing_samples_of_the_whole_file(tmp_path):
    samples = np.random.default_rng(0).random((HEIGHT, WIDTH)).astype(np.float32) * 5
    samples[3:9, 5:8] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", samples, rowsperstrip=4)
    whole = read_photo(tmp_path / "a.tif")
    with open_image(tmp_path / "a.tif") as source:
        assert source.has_missing_data
        assert source.header.warnings == whole.warnings
        for top in range(0, HEIGHT, 7):
            part = source.window(slice(top, min(HEIGHT, top + 7)), slice(0, source.size[0]))
            np.testing.assert_array_equal(part.valid, whole.valid[top : top + 7])
            assert np.isfinite(part.pixels).all()
            np.testing.assert_array_equal(part.pixels[part.valid], whole.pixels[top : top + 7][part.valid])


MASKS = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2**32 - 1), st.floats(0, 1))


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_a_missing_sample_gets_the_value_of_a_measured_sample_nearest_to_it(case):
    height, width, bands, seed, share = case
    rng = np.random.default_rng(seed)
    pixels, valid = rng.random((height, width, bands), np.float32), rng.random((height, width, bands)) >= share
    before = pixels.copy()
    filled = fill_missing(pixels, valid)
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


def test_no_data_with_more_digits_than_float32_has_is_found():
    value = usable_nodata(-3.4028234663852886e38, np.dtype(np.float32))
    samples = np.array([np.finfo(np.float32).min, 1.0], np.float32)
    assert is_measured(samples, value).tolist() == [False, True]
    assert usable_nodata(-1.7976931348623157e308, np.dtype(np.float32)) is None


# ------------------------------------------------------------------------------------------------- the working range


def scene(dtype, low, high, seed=0):
    """Noise between two values that both occur."""
    values = np.random.default_rng(seed).random((HEIGHT, WIDTH, 1))
    values[0, 0], values[0, 1] = 0, 1
    values = values * (float(high) - float(low)) + float(low)
    return (np.round(values) if np.dtype(dtype).kind in "iu" else values).astype(dtype)


def in_memory(samples, **options):
    source = MemorySource(samples, **options)
    return source.read(), source.header


def stored(pixels, header):
    return file_samples(Strip(pixels), header, header.dtype)


def test_a_12_bit_image_in_a_16_bit_file_is_mapped_by_its_own_extremes(tmp_path):
    samples = scene(np.uint16, 200, 1100)
    tifffile.imwrite(tmp_path / "a.tif", samples[..., 0], rowsperstrip=4)
    with open_image(tmp_path / "a.tif") as source:
        photo = source.read()
        np.testing.assert_array_equal(source.window(slice(7, 9), slice(0, source.size[0])).pixels, photo.pixels[7:9])
    assert photo.value_range == (0, 2900)
    assert np.ptp(photo.pixels) > 0.25
    write_photo(photo, tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), samples[..., 0])
    # Its values, and those of a result with fewer bits, remain as dim as they are.
    np.testing.assert_allclose(photo.values * 65535, samples, atol=1e-2)
    assert file_samples(photo.samples, photo, np.dtype(np.uint8)).max() == 4


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.uint8, 0, 255), (np.uint8, 3, 9), (np.uint16, 0, 65535), (np.uint16, 9000, 9000 + 8192)],
)
def test_photographs_are_mapped_by_their_type_to_the_bit(dtype, low, high):
    samples, white = scene(dtype, low, high), np.iinfo(dtype).max
    photo, header = in_memory(samples)
    assert header.value_range == (0, white)
    assert header.warnings == ()
    np.testing.assert_array_equal(photo.pixels, samples.astype(np.float32) / np.float32(white))
    np.testing.assert_array_equal(photo.values, photo.pixels)
    np.testing.assert_array_equal(stored(photo.pixels, header), samples)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "limits"),
    [
        (np.int16, 1180, 2340, (-(2**15), 2**15 - 1)),
        (np.int16, -32768, 32767, (-(2**15), 2**15 - 1)),
        (np.int16, 0, 3, (-(2**15), 2**15 - 1)),
        (np.int8, -100, 120, (-128, 127)),
        (np.int32, -(2**21), 2**21, (-(2**31), 2**31 - 1)),
        (np.uint32, 10, 5000, (0, 2**32 - 1)),
        (np.uint16, 65000, 65535, (0, 65535)),
    ],
)
def test_measurements_may_leave_their_extremes_within_the_limits_of_the_type(dtype, low, high, limits):
    samples = scene(dtype, low, high)
    photo, header = in_memory(samples)
    assert photo.pixels.min() >= 0
    assert photo.pixels.max() <= 1
    np.testing.assert_array_equal(stored(photo.pixels, header), samples)
    span = max(high - low, 16)
    expected = max(limits[0], low - span / 4), min(limits[1], high + span / 4)
    ends = stored(np.array([[[0.0], [1.0]]], np.float32), header).ravel().astype(float)
    assert limits[0] <= ends[0] <= expected[0]
    assert expected[1] <= ends[1] <= limits[1]


def test_the_peak_of_a_star_may_rise_and_the_sky_may_fall():
    samples = scene(np.float32, -0.09, 2)
    samples[11, 13] = 81.5
    photo, header = in_memory(samples)
    low, high = header.value_range
    assert low < -20
    assert high > 240
    assert photo.pixels.min() > 0.1
    assert photo.pixels.max() < 0.5
    np.testing.assert_allclose(stored(photo.pixels, header), samples, atol=2e-5)
    np.testing.assert_allclose(photo.values, samples, atol=2e-5)
    assert header.warnings == (
        "the values span [-0.09, 81.5]: they are mapped to [0, 1] for the work, and back for the result",
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, (0, 1)), (0.2, 0.4, (0, 1)), (0.004, 0.012, (0, 0.028)), (270, 310, (250, 390)), (-3e38, 3e38, None)],
)
def test_floats_are_mapped_by_what_they_span(low, high, expected):
    samples = scene(np.float32, low, high)
    photo, header = in_memory(samples)
    if expected is not None:
        np.testing.assert_allclose(header.value_range, expected, atol=1e-5 * high)
    assert photo.pixels.min() >= 0
    assert photo.pixels.max() <= 1
    assert np.isfinite(stored(np.array([[[0.0], [1.0]]], np.float32), header)).all()
    np.testing.assert_allclose(stored(photo.pixels, header), samples, rtol=0, atol=2e-7 * (high - low))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *[(np.uint8, 7), (np.uint16, 700), (np.int16, -5), (np.int32, 123456), (np.uint32, 0), (np.float32, 0.25)],
        *[(np.float32, 1e6), (np.float32, -273.15), (np.float32, 0)],
    ],
)
def test_constant_images_remain_as_they_are(dtype, value):
    samples = np.full((4, 5, 1), value, dtype)
    photo, header = in_memory(samples)
    assert np.ptp(photo.pixels) == 0
    np.testing.assert_array_equal(stored(photo.pixels, header), samples)


def test_missing_data_have_no_part_in_the_range():
    samples = scene(np.uint16, 200, 1100)
    samples[3:9, 5:8] = 65535
    _, header = in_memory(samples, nodata=65535.0)
    assert header.value_range == (0, 2900)


def test_a_large_photograph_is_not_scanned_to_its_end(tmp_path):
    samples = scene(np.uint16, 0, 65535).repeat(400, axis=0).repeat(40, axis=1)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", samples, compression="zlib", rowsperstrip=64)
    opened = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff, "_CACHED_BYTES", 0)
        read = tiff.TiffSamples.__getitem__
        counting = lambda samples, window: opened.append(window) or read(samples, window)  # noqa: E731
        patch.setattr(tiff.TiffSamples, "__getitem__", counting)
        with open_image(tmp_path / "a.tif") as source:
            assert source.header.value_range == (0, 65535)
    assert len(opened) == 1
