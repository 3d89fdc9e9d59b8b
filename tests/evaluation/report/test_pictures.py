import base64
import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from blindsr.errors import ConfigError
from blindsr.evaluation.report.pictures import choose_crops, data_uri, method_colours, reduced, write_plots


@pytest.fixture
def flat(rng):
    """Noise of one grey level, 101×87 px, common to all images of a test."""
    return rng.integers(100, 102, (101, 87, 3)).astype(np.uint8)


def test_the_crop_is_where_the_images_differ(flat):
    other = flat.copy()
    other[52:68, 40:56] += 60
    top, left, side = choose_crops([flat, flat, other], size=24)[0]
    assert side == 24
    assert top <= 52 < 68 <= top + side
    assert left <= 40 < 56 <= left + side


def test_differences_at_the_border_are_ignored(flat):
    other = flat.copy()
    other[:4, :4] += 120
    other[60:62, 60:62] += 30
    top, left, _ = choose_crops([flat, other], size=24)[0]
    assert top <= 60 < top + 24
    assert left <= 60 < left + 24


def test_several_crops_do_not_overlap_and_the_first_differs_most(flat):
    other = flat.copy()
    other[20:24, 20:24] += 30
    other[70:74, 50:54] += 90
    first, second = choose_crops([flat, other], 2, size=12)
    assert first[0] <= 70 < first[0] + 12
    assert second[0] <= 20 < second[0] + 12


def test_an_image_smaller_than_the_crop_is_shown_whole():
    small = np.zeros((20, 31, 1), np.uint8)
    assert choose_crops([small, small], 3)[0][2] == 20
    assert choose_crops([small[:, :20], small[:, :20]], 3) == [(0, 0, 20)]


def test_a_large_image_is_reduced_by_blocks_and_a_small_one_unchanged(rng):
    image = rng.integers(0, 256, (97, 203, 3)).astype(np.uint8)
    assert reduced(image, 203) is image
    half = reduced(image, 120)
    assert half.shape == (48, 101, 3)
    assert half[3, 5].tolist() == np.round(image[6:8, 10:12].mean((0, 1))).tolist()


def test_a_data_uri_contains_the_image(rng):
    image = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    head, body = data_uri(image, "png").split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as decoded:
        assert np.array_equal(np.asarray(decoded), image)


def test_an_encoded_image_is_used_as_it_is():
    assert data_uri(b"abc", "png") == "data:image/png;base64,YWJj"


def test_every_kernel_has_its_own_colour():
    methods = ["interpolation", "bicubic+a", "auto+a", "spectral+a", "true+a"]
    colours = method_colours(methods)
    assert len(set(colours.values())) == 5
    assert method_colours(["interpolation", "bicubic+b", "true+b"]).items() >= {("interpolation", 0), ("true+b", 4)}


def test_without_matplotlib_the_error_names_the_extra(results, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'blindsr\[plot\]'"):
        write_plots(results)


def test_plots_are_reproducible(results):
    pytest.importorskip("matplotlib")
    first = [path.read_bytes() for path in write_plots(results)]
    assert [content[:4] for content in first] == [b"%PDF", b"\x89PNG"] * 2
    assert [path.read_bytes() for path in write_plots(results)] == first
