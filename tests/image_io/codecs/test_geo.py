"""A GeoTIFF stays where it is on the Earth: rasterio reads what blindsr writes, and the other way round."""

import numpy as np
import pytest
import tifffile

from blindsr.image_io import default_suffix, open_image, read_photo, without_metadata, write_photo
from blindsr.image_io.codecs.geo import Georeference, is_usable, plain_description, read_calibration
from tests.images import upscale_valid

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


def test_a_compressed_tiled_geotiff_with_overviews_is_one_image(tmp_path, rasterio):
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    options = {"crs": "EPSG:4326", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw", "predictor": 2}
    written(rasterio, path, transform=rasterio.Affine(*TRANSFORMS["north up"]), **options)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    photo = read_photo(path)
    assert photo.warnings == ()
    with open_image(path) as source:
        np.testing.assert_array_equal(source.window(slice(3, 20), slice(0, source.size[0])).pixels, photo.pixels[3:20])


def test_a_geotiff_goes_into_a_tiff_and_what_a_png_loses_is_reported(tmp_path):
    tags = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (42113, "s", 0, "0", True)]
    tifffile.imwrite(tmp_path / "a.tif", np.full((5, 4, 3), 9, np.uint8), photometric="rgb", extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    assert default_suffix(photo) == ".tif"
    assert write_photo(photo, tmp_path / "b.png") == (
        "the georeference is kept in a TIFF only: it is left out",
        "the no-data value 0 is kept in a TIFF only: it is left out",
    )


@pytest.mark.parametrize(
    "tag", [(33550, "d", 2, (1.0, 1.0)), (33922, "d", 5, (1.0,) * 5), (33550, "d", 3, (1.0, np.nan, 0.0))]
)
def test_a_damaged_georeference_is_left_out_with_a_warning(tmp_path, tag):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4), np.uint8), extratags=[(*tag, True)])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.geo is None
    assert photo.warnings == ("the georeference of the TIFF is damaged: it is not carried over",)


def test_the_georeference_of_a_turned_tiff_is_left_out_with_a_warning(tmp_path):
    tags = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4), np.uint8), extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.geo is None
    assert "before it was turned upright" in photo.warnings[0]


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


def doubled(path, target):
    photo = read_photo(path)
    write_photo(photo.with_result(photo.pixels.repeat(2, 0).repeat(3, 1)), target)
    return photo


def test_an_imagej_stack_becomes_a_single_image_with_its_calibration_scaled(tmp_path):
    stack = np.random.default_rng(0).integers(0, 65535, (3, HEIGHT, WIDTH), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(250 / 27, 100 / 9), metadata={"axes": "ZYX", "unit": "um"}
    )
    photo = doubled(tmp_path / "a.tif", tmp_path / "b.tif")
    assert default_suffix(photo) == ".tif"
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages.first
        assert file.is_imagej
        assert "images" not in file.imagej_metadata
        assert "slices" not in file.imagej_metadata
        assert file.imagej_metadata["unit"] == "um"
        assert page.tags["ResolutionUnit"].value == 1
        x, y = (page.tags[name].value for name in ("XResolution", "YResolution"))
        np.testing.assert_allclose((x[0] / x[1], y[0] / y[1]), (3 * 250 / 27, 2 * 100 / 9), rtol=1e-6)
    assert tifffile.imread(tmp_path / "b.tif").shape == (2 * HEIGHT, 3 * WIDTH)
    assert "the size of a pixel (ImageJ, OME) is kept in a TIFF only" in write_photo(photo, tmp_path / "b.png")[0]
    assert b"ImageJ" not in (tmp_path / "b.png").read_bytes()


def test_an_ome_tiff_describes_its_result(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH), np.uint8)
    metadata = {"axes": "ZYX", "Name": "cell <1>", "PhysicalSizeX": 0.108, "PhysicalSizeY": 0.2}
    metadata |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, ome=True, metadata=metadata)
    doubled(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        assert file.is_ome
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        pixels = image["Pixels"]
        assert image["Name"] == "cell <1>"
        assert [pixels[f"Size{axis}"] for axis in "XYZTC"] == [3 * WIDTH, 2 * HEIGHT, 1, 1, 1]
        np.testing.assert_allclose((pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]), (0.108 / 3, 0.1))
        assert pixels["PhysicalSizeXUnit"] == "µm"
        assert pixels["Type"] == "uint8"
        assert file.series[0].shape == (2 * HEIGHT, 3 * WIDTH)


def test_the_shape_that_tifffile_writes_is_removed_and_the_rest_kept(tmp_path):
    samples = np.zeros((HEIGHT, WIDTH), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", samples, metadata={"axes": "YX", "sample": "7b"})
    tifffile.imwrite(tmp_path / "c.tif", samples)
    for name in ("a", "c"):
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
            assert file.is_shaped
        doubled(tmp_path / f"{name}.tif", tmp_path / "b.tif" if name == "a" else tmp_path / "d.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert not file.is_shaped
        assert file.pages.first.description == '{"sample": "7b"}'
    with tifffile.TiffFile(tmp_path / "d.tif") as file:
        assert file.pages.first.description == ""


@pytest.mark.parametrize(
    "text", ["<OME", "<a></OME>", "<?xml version='1.0'?><OME>", "<!DOCTYPE x [<!ENTITY a 'b'>]><OME>&a;</OME>"]
)
def test_a_damaged_ome_description_is_no_calibration(text):
    assert read_calibration(text, None, 1) is None


def test_an_own_description_is_left_alone():
    assert plain_description("Aunt Mary") == "Aunt Mary"
    assert plain_description('{"shape": oh') is None


def test_stripping_the_metadata_drops_the_calibration(tmp_path):
    stack = np.zeros((HEIGHT, WIDTH), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"unit": "um", "Info": "secret"})
    write_photo(without_metadata(read_photo(tmp_path / "a.tif")), tmp_path / "b.tif")
    assert b"ImageJ" not in (tmp_path / "b.tif").read_bytes()
