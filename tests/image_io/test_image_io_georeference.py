"""A GeoTIFF stays where it is on the Earth: rasterio reads what blindsr writes, and the other way round."""

import numpy as np
import pytest
import tifffile

from blindsr.image_io import default_suffix, read_photo, upscale_valid, write_photo
from blindsr.image_io.georeference import Georeference, is_usable
from blindsr.image_io.strips import open_strips

HEIGHT, WIDTH = 31, 37


def upscaled(path, target, y, x):
    photo = read_photo(path)
    height, width = round(HEIGHT * y), round(WIDTH * x)
    rows, columns = np.arange(height) * HEIGHT // height, np.arange(width) * WIDTH // width
    valid = None if photo.valid is None else upscale_valid(photo.valid, height, width)
    write_photo(photo.with_result(photo.pixels[rows[:, None], columns], valid=valid), target)
    return photo


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio")


def written(rasterio, path, *, transform, is_point=False, **options):
    rng = np.random.default_rng(0)
    samples = rng.integers(1, 3000, (4, HEIGHT, WIDTH)).astype(options.pop("dtype", "uint16"))
    samples[:, 4:9, 6:20] = 0
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 4, "dtype": samples.dtype, **options}
    with rasterio.open(path, "w", transform=transform, **profile) as file:
        file.write(samples)
        if is_point:
            file.update_tags(AREA_OR_POINT="Point")
        file.update_tags(1, STATISTICS_MEAN="17", wavelength="490 nm")
        file.update_tags(ACQUIRED="2026-05-01")
    return samples


# a, b, c, d, e, f of x = a·column + b·row + c, y = d·column + e·row + f
TRANSFORMS = {
    "north up": (10.0, 0.0, 399960.0, 0.0, -10.0, 5300040.0),
    "turned": (8.66, 6.0, 500000.0, 5.0, -10.39, 5e6),
}


def place(file, column, row):
    a, b, c, d, e, f = file.transform[:6]
    return a * column + b * row + c, d * column + e * row + f


@pytest.mark.parametrize("factors", [(2, 2), (3, 3), (1.5, 2.5)])
@pytest.mark.parametrize("is_point", [False, True])
@pytest.mark.parametrize("kind", ["north up", "turned"])
def test_reference_system_place_and_no_data_are_kept(tmp_path, rasterio, kind, is_point, factors):
    transform = rasterio.Affine(*TRANSFORMS[kind])
    samples = written(rasterio, tmp_path / "a.tif", transform=transform, is_point=is_point, crs="EPSG:32632", nodata=0)
    y, x = factors
    photo = upscaled(tmp_path / "a.tif", tmp_path / "b.tif", y, x)
    assert photo.channels == 4
    with rasterio.open(tmp_path / "a.tif") as before, rasterio.open(tmp_path / "b.tif") as after:
        assert after.crs == before.crs
        assert after.nodata == 0
        assert after.tags().get("AREA_OR_POINT") == before.tags().get("AREA_OR_POINT")
        # The four corners of the picture lie where they lay.
        for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
            old = place(before, column * before.width, row * before.height)
            new = place(after, column * after.width, row * after.height)
            np.testing.assert_allclose(new, old, rtol=0, atol=1e-6)
        mask = upscale_valid(before.dataset_mask() > 0, *after.shape)
        np.testing.assert_array_equal(after.dataset_mask() > 0, mask)
        assert after.tags(1) == {"wavelength": "490 nm"}
        assert after.tags()["ACQUIRED"] == "2026-05-01"
        if factors == (2, 2):
            np.testing.assert_array_equal(after.read(), samples.repeat(2, 1).repeat(2, 2))


def test_a_compressed_tiled_geotiff_with_overviews_is_one_picture(tmp_path, rasterio):
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    options = {"crs": "EPSG:4326", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw", "predictor": 2}
    written(rasterio, path, transform=rasterio.Affine(*TRANSFORMS["north up"]), **options)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    photo = read_photo(path)
    assert photo.notes == ()
    with open_strips(path) as source:
        np.testing.assert_array_equal(source.read(3, 20).pixels, photo.pixels[3:20])


def test_a_geotiff_goes_into_a_tiff_and_what_a_png_loses_is_said(tmp_path):
    tags = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (42113, "s", 0, "0", True)]
    tifffile.imwrite(tmp_path / "a.tif", np.full((5, 4, 3), 9, np.uint8), photometric="rgb", extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    assert default_suffix(photo) == ".tif"
    assert write_photo(photo, tmp_path / "b.png") == (
        "the georeference is kept in a TIFF only: it is left out",
        "that 0 means no data can be said in a TIFF only",
    )


@pytest.mark.parametrize(
    "tag", [(33550, "d", 2, (1.0, 1.0)), (33922, "d", 5, (1.0,) * 5), (33550, "d", 3, (1.0, np.nan, 0.0))]
)
def test_a_damaged_georeference_is_left_out_and_this_is_said(tmp_path, tag):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4), np.uint8), extratags=[(*tag, True)])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.geo is None
    assert photo.notes == ("the georeference of the TIFF is damaged: it is not carried over",)


def test_the_georeference_of_a_turned_tiff_is_missed_aloud(tmp_path):
    tags = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4), np.uint8), extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.geo is None
    assert "before it was turned upright" in photo.notes[0]


def test_a_rational_polynomial_counts_lines_at_the_centres_of_pixels():
    numbers = tuple(float(n) for n in range(92))
    scaled = Georeference(tags={50844: numbers}).scaled(3, 2).tags[50844]
    assert scaled[2:4] == (2.5 * 2 - 0.5, 3.5 * 3 - 0.5)
    assert scaled[7:9] == (7 * 2, 8 * 3)
    assert scaled[:2] + scaled[4:7] + scaled[9:] == numbers[:2] + numbers[4:7] + numbers[9:]


def test_types_that_no_georeference_has_are_not_usable():
    assert is_usable({33550: (1.0, 1.0, 0.0), 34737: "text"})
    assert not is_usable({33550: "text"})
    assert not is_usable({34737: (1.0,)})
    assert not is_usable({34735: ("1",)})
    assert not is_usable({34735: (1, 1, 0, 2**16)})
