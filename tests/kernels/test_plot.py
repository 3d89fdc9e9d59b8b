import io

import numpy as np
import pytest
from PIL import Image

from blindsr.kernels import (
    Kernel,
    KernelStack,
    SplitHalf,
    bicubic,
    box,
    compose,
    gaussian,
    kernel_plot_png,
    stack_plot_png,
)
from blindsr.kernels.plot import colour_map

ONE = gaussian([[3.0, 0.8], [0.8, 1.5]], 2)


def pixels(kernel, **arguments):
    image = Image.open(io.BytesIO(kernel_plot_png(kernel, **arguments)))
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
def test_a_plot_is_not_blank(kernel):
    picture = pixels(kernel)
    assert picture.shape == (960, 1500, 3)
    # All three panels and the caption contain several colours.
    for rows, columns in [
        ((100, 720), (90, 710)),
        ((100, 352), (930, 1450)),
        ((468, 720), (930, 1450)),
        ((820, 920), (70, 1450)),
    ]:
        panel = picture[slice(*rows), slice(*columns)] @ np.array([65536, 256, 1])
        assert len(np.unique(panel)) > 5
    assert (picture == 255).all(-1).mean() > 0.3


def test_the_largest_weight_is_plotted_at_its_position():
    weights = np.zeros((8, 8))
    weights[1, 6] = 1
    picture = pixels(Kernel(weights, 2)).astype(int).sum(-1)
    cell = 620 / 8
    at = (int(100 + 1.3 * cell), int(90 + 6.7 * cell))
    elsewhere = (int(100 + 6.7 * cell), int(90 + 1.3 * cell))
    assert picture[at] > picture[elsewhere] + 500


def test_the_title_is_plotted():
    assert not np.array_equal(pixels(box(2), title="Mine")[:80], pixels(box(2))[:80])


def test_the_same_kernel_gives_the_same_plot():
    assert kernel_plot_png(bicubic(2)) == kernel_plot_png(bicubic(2))


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


def test_the_plot_shows_the_split_half_uncertainty():
    def pixels(kernel):
        return np.array(Image.open(io.BytesIO(kernel_plot_png(kernel)))).astype(int)

    far = gaussian(6.0, 2)
    plain, precise, uncertain = (
        pixels(kernel)
        for kernel in (
            ONE,
            SplitHalf.from_pairs([(ONE, ONE)]).attach(ONE),
            SplitHalf.from_pairs([(far, far)]).attach(ONE),
        )
    )
    # One line more: the last one has moved down.
    last = np.s_[922:950, 70:1450]
    assert (plain[last] == 255).all()
    assert not (precise[last] == 255).all()
    # The ring of σ = √6 px, to the right of the centre, on a field of 16 px across 620.
    at = np.s_[405:415, 395 + int(np.sqrt(6) * 620 / ONE.size) : 405 + int(np.sqrt(6) * 620 / ONE.size)]
    assert (uncertain[at].min(-1) > 200).any()
    assert not (precise[at].min(-1) > 200).any()


def test_a_stack_is_plotted_one_band_below_the_other():
    stack = KernelStack([box(2), bicubic(2)], ("B4", "B3"))
    sheet = Image.open(io.BytesIO(stack_plot_png(stack)))
    assert sheet.size == (1500, 1920)
    first = Image.open(io.BytesIO(kernel_plot_png(box(2), title="Downscaling kernel of band B4")))
    assert np.array_equal(np.array(sheet)[:960], np.array(first))
    many = KernelStack([box(2)] * 9, [str(i) for i in range(9)])
    assert Image.open(io.BytesIO(stack_plot_png(many))).size == (1500, 8 * 960)
