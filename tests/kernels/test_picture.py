import io

import numpy as np
import pytest
from PIL import Image

from blindsr.kernels import Kernel, bicubic, box, compose, gaussian, kernel_picture
from blindsr.kernels.picture import colour_map


def pixels(kernel, **arguments):
    image = Image.open(io.BytesIO(kernel_picture(kernel, **arguments)))
    assert image.format == "PNG"
    return np.array(image)


@pytest.mark.parametrize(
    "kernel",
    [
        gaussian([[2.0, 1.1], [1.1, 1.6]], 2),
        bicubic(3),
        box(2),
        compose(gaussian(3.0, 2), gaussian(3.0, 2)),
        Kernel([[1.0]], 1),
        Kernel([[1.0]], 1, {"made_by": "Würfel\nσ × 日本" * 30}),
    ],
    ids=["gaussian", "bicubic", "box", "composed", "delta", "odd words"],
)
def test_a_picture_is_drawn_and_not_blank(kernel):
    picture = pixels(kernel)
    assert picture.shape == (960, 1500, 3)
    # White paper, ink and at least two colours: all three panels and the words have left traces.
    for rows, columns in [
        ((100, 720), (90, 710)),
        ((100, 352), (930, 1450)),
        ((468, 720), (930, 1450)),
        ((820, 920), (70, 1450)),
    ]:
        panel = picture[slice(*rows), slice(*columns)].reshape(-1, 3)
        assert len(np.unique(panel, axis=0)) > 5
    assert (picture == 255).all(-1).mean() > 0.3


def test_the_brightest_weight_is_drawn_where_it_is():
    weights = np.zeros((8, 8))
    weights[1, 6] = 1
    picture = pixels(Kernel(weights, 2)).astype(int).sum(-1)
    cell = 620 / 8
    at = (int(100 + 1.3 * cell), int(90 + 6.7 * cell))
    elsewhere = (int(100 + 6.7 * cell), int(90 + 1.3 * cell))
    assert picture[at] > picture[elsewhere] + 500


def test_the_title_is_drawn():
    assert not np.array_equal(pixels(box(2), title="Mine")[:80], pixels(box(2))[:80])


def test_the_same_kernel_gives_the_same_picture():
    assert kernel_picture(bicubic(2)) == kernel_picture(bicubic(2))


def test_the_colours_grow_evenly_lighter():
    colours = colour_map()
    assert colours.shape == (256, 3)
    linear = np.where(colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    lightness = np.cbrt(luminance)
    steps = np.diff(lightness)
    # Rounding to 8 bits makes single steps uneven; over sixteen of them it averages out.
    coarse = lightness[::16][1:] - lightness[::16][:-1]
    assert steps.min() > -0.004
    assert coarse.min() > 0.5 * coarse.mean()
    assert coarse.max() < 1.7 * coarse.mean()
