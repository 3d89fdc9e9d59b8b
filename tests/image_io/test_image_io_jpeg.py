import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.image_io.jpeg import jpeg_noise


@pytest.fixture
def saved(tmp_path):
    def save(name, **options):
        path = tmp_path / name
        Image.fromarray(np.ascontiguousarray(data.chelsea()[:37, :31])).save(path, **options)
        return path

    return save


def test_coarser_compression_is_more_noise(saved):
    levels = [255 * jpeg_noise(saved(f"{quality}.jpg", quality=quality)) for quality in (95, 75, 45)]
    assert 0 < levels[0] < 2 < levels[1] < levels[2] < 15


def test_a_file_that_is_no_jpeg_has_none(saved, tmp_path):
    assert jpeg_noise(saved("x.png")) == 0
    (tmp_path / "x.jpg").write_bytes(b"no image")
    assert jpeg_noise(tmp_path / "x.jpg") == 0
