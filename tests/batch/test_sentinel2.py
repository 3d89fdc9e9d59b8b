"""A Sentinel-2 product as input: each band with the kernel of its band, its georeference scaled."""

import imagecodecs
import numpy as np
import pytest
from skimage import data

from blindsr.batch.run import upscale_files
from blindsr.errors import ImageError
from blindsr.events import Notice
from blindsr.kernels.files import read_kernel
from blindsr.kernels.kernel import KernelStack, plain_name
from blindsr.pipelines.files import upscale_file
from blindsr.sensors.catalogue import kernel_from_sensor
from blindsr.settings import Settings

INTERPOLATED = Settings(upscaler="bicubic")


@pytest.fixture
def product(tmp_path):
    """A small product: two bands with a published MTF, one without, and a preview."""
    images = tmp_path / "S2A_MSIL2A_X.SAFE/GRANULE/L2A_T31TCJ_A0/IMG_DATA/R10m"
    images.mkdir(parents=True)
    samples = data.camera()[100:148, 60:124].astype(np.uint16) * 20
    for band in ("B04", "B08", "B05", "TCI"):
        encoded = imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=15)
        (images / f"T31TCJ_20240512T105621_{band}_10m.jp2").write_bytes(encoded)
    return tmp_path / "S2A_MSIL2A_X.SAFE"


def test_each_band_gets_the_kernel_of_its_name(product, tmp_path):
    kernel, warnings = kernel_from_sensor("sentinel2", 2)
    events = []
    batch = upscale_files(
        [product], tmp_path / "out", settings=INTERPOLATED, kernel=kernel, kernel_warnings=warnings, executor="inline",
        listener=events.append,
    )  # fmt: skip
    assert [row["status"] for _, row in batch.rows] == ["done", "done"]
    for band in ("B4", "B8"):
        name = f"T31TCJ_20240512T105621_B0{band[1]}_10m_blindsr_x2"
        used = read_kernel(tmp_path / "out" / f"{name}.kernel.npz", scale=2)[0]
        expected = kernel_from_sensor(f"sentinel2:{band}", 2)[0]
        np.testing.assert_allclose(used.array, expected.array, atol=1e-7)
        assert (tmp_path / "out" / f"{name}.png").is_file()
    (left,) = [event.message for event in events if isinstance(event, Notice) and "left out" in event.message]
    assert left == ("left out, because the sensor has no kernel for them: B05; its bands are B2, B3, B4, B8.")


def test_a_single_band_file_is_recognised_too(product, tmp_path):
    (path,) = product.glob("**/*_B08_10m.jp2")
    kernel, warnings = kernel_from_sensor("sentinel2", 2)
    result = upscale_file(path, INTERPOLATED, kernel=kernel, kernel_warnings=warnings, output=tmp_path / "b8.tif")
    assert result.kernel.digest == kernel_from_sensor("sentinel2:B8", 2)[0].digest
    assert not any(text.startswith("band B2") for text in result.warnings)


def test_bands_without_any_kernel_are_refused(product, tmp_path):
    kernel = KernelStack(kernel_from_sensor("sentinel2:B2,B3", 2)[0].kernels, ["B2", "B3"])
    with pytest.raises(ImageError, match="the sensor has kernels for B2, B3, the images are B04, B05, B08"):
        upscale_files([product], tmp_path / "out", settings=INTERPOLATED, kernel=kernel, executor="inline")


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("T31TCJ_20240512T105621_B04_10m.jp2", "B4"),
        ("LC08_L1TP_196030_B2.TIF", "B2"),
        ("b8.tif", "B8"),
        ("B08", "B8"),
        ("T31TCJ_B8A_20m.jp2", None),
        ("B02_B03.tif", None),
        ("AB04.tif", None),
        ("photo.jpg", None),
    ],
)
def test_the_band_in_the_name_of_a_file(name, band):
    found = kernel_from_sensor("sentinel2", 2)[0].of_file(name)
    assert (found and found[0]) == band
    assert plain_name("B04") == plain_name("b4")
