import base64
import io

import numpy as np
import pytest
from PIL import Image

from blindsr.report.pictures import choose_crops, data_uri, shrunk


@pytest.fixture
def flat(rng):
    """Noise of one grey level, 101×87, which every picture shares."""
    return rng.integers(100, 102, (101, 87, 3)).astype(np.uint8)


def test_the_crop_is_where_the_pictures_differ(flat):
    other = flat.copy()
    other[52:68, 40:56] += 60
    top, left, side = choose_crops([flat, flat, other], size=24)[0]
    assert side == 24
    assert top <= 52 < 68 <= top + side
    assert left <= 40 < 56 <= left + side


def test_what_differs_at_the_very_border_alone_is_left_out(flat):
    other = flat.copy()
    other[:4, :4] += 120
    other[60:62, 60:62] += 30
    top, left, _ = choose_crops([flat, other], size=24)[0]
    assert top <= 60 < top + 24
    assert left <= 60 < left + 24


def test_more_crops_keep_apart_and_the_first_differs_most(flat):
    other = flat.copy()
    other[20:24, 20:24] += 30
    other[70:74, 50:54] += 90
    first, second = choose_crops([flat, other], 2, size=12)
    assert first[0] <= 70 < first[0] + 12
    assert second[0] <= 20 < second[0] + 12


def test_a_picture_smaller_than_the_crop_is_shown_whole():
    small = np.zeros((20, 31, 1), np.uint8)
    assert choose_crops([small, small], 3)[0][2] == 20
    assert choose_crops([small[:, :20], small[:, :20]], 3) == [(0, 0, 20)]


def test_a_large_picture_is_shrunk_by_whole_blocks_and_a_small_one_left_alone(rng):
    picture = rng.integers(0, 256, (97, 203, 3)).astype(np.uint8)
    assert shrunk(picture, 203) is picture
    half = shrunk(picture, 120)
    assert half.shape == (48, 101, 3)
    assert half[3, 5].tolist() == np.round(picture[6:8, 10:12].mean((0, 1))).tolist()


def test_a_data_uri_holds_the_picture(rng):
    picture = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    head, body = data_uri(picture, "png").split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert np.array_equal(np.asarray(image), picture)
