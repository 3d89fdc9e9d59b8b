import math
from pathlib import Path

import numpy as np
import pytest
import torch
from images import random_image
from PIL import Image
from tolerances import assert_near

from blindsr.errors import ImageError
from blindsr.kernels import bicubic
from blindsr.ops import degrade, imresize

GOLDEN = Path(__file__).parent.parent / "golden" / "imresize_resize_right.npz"


def cubic(x):
    """Keys' cubic with a = −0.5, for one number."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def matlab_rows(image, out_height, scale, *, replicate=False):
    """MATLAB's documented resizing of the first axis, pixel by pixel in plain Python."""
    height = image.shape[0]
    stretch = max(1.0, 1 / scale)
    out = np.zeros((out_height, image.shape[1]))
    for i in range(out_height):
        centre = (i + 0.5) / scale - 0.5
        taps = range(math.floor(centre - 2 * stretch) - 1, math.ceil(centre + 2 * stretch) + 2)
        weights = np.array([cubic((centre - t) / stretch) for t in taps])
        for t, weight in zip(taps, weights / weights.sum(), strict=True):
            position = t % (2 * height)
            mirrored = min(position, 2 * height - 1 - position)
            out[i] += weight * image[min(max(t, 0), height - 1) if replicate else mirrored]
    return out


def matlab_resize(image, size, scales):
    return matlab_rows(matlab_rows(image, size[0], scales[0]).T, size[1], scales[1]).T


@pytest.mark.parametrize("name", [n for n in np.load(GOLDEN).files if n != "image"])
def test_imresize_equals_resize_right(name):
    golden = np.load(GOLDEN)
    size = tuple(map(int, name.split("x")))
    resized = imresize(torch.from_numpy(golden["image"])[None, None], size=size)
    assert_near(resized[0, 0], torch.from_numpy(golden[name]))


@pytest.mark.parametrize(
    ("size", "scales"),
    [((19, 16), (0.5, 0.5)), ((50, 42), (1.35, 1.35)), ((13, 62), (1 / 3, 2.0)), ((40, 20), (1.07, 0.61))],
)
def test_imresize_equals_a_literal_restatement(rng, size, scales):
    image = random_image(rng)
    expected = matlab_resize(image[0, 0].numpy(), size, scales)
    assert_near(imresize(image, scales, size=size)[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shrinking_equals_degrading_with_the_bicubic_kernel(rng, scale):
    image = random_image(rng, 12 * scale, 9 * scale)
    assert_near(imresize(image, 1 / scale), degrade(image, bicubic(scale).tensor(image), scale))


def test_halving_an_impulse_gives_matlabs_weights():
    # Weights of imresize at 1/2, known from MATLAB's help pages: (−3, −9, 29, 111, 111, 29, −9, −3) / 256.
    taps = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    image = torch.eye(24, dtype=torch.float64)[None, None]
    middle = imresize(image, (0.5, 1.0))[0, 0, 6]
    assert_near(middle[9:17], torch.from_numpy(taps))
    assert float(middle.abs().sum() - middle[9:17].abs().sum()) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("scale", [0.5, 1 / 3, 0.7, 1.6, 2.0, 3.0])
@pytest.mark.parametrize("axis", [-1, -2])
def test_flipping_the_input_flips_the_output_borders_included(rng, scale, axis):
    image = random_image(rng, 36, 30)
    size = (round(36 * scale), round(30 * scale))
    assert_near(imresize(image.flip(axis), size=size), imresize(image, size=size).flip(axis))


@pytest.mark.parametrize("border", ["symmetric", "replicate"])
@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.7, 4.0])
def test_a_constant_image_stays_itself(scale, border):
    resized = imresize(torch.full((1, 2, 37, 31), 0.3, dtype=torch.float64), scale, border=border)
    assert_near(resized, torch.full_like(resized, 0.3))


# At shrinking scales other than 1/n a stretched cubic does not keep a ramp exactly, MATLAB's neither.
@pytest.mark.parametrize("scale", [0.25, 0.5, 1 / 3, 1.5, 2.0, 3.0])
def test_a_ramp_stays_a_ramp_in_the_interior(scale):
    ramp = torch.arange(60.0, dtype=torch.float64).expand(1, 1, 36, 60)
    resized = imresize(ramp, scale)[0, 0, 5]
    expected = (torch.arange(len(resized), dtype=torch.float64) + 0.5) / scale - 0.5
    inside = (expected > 8) & (expected < 51)
    assert inside.sum() >= 10
    assert_near(resized[inside], expected[inside])


def test_scale_one_is_the_identity(rng):
    image = random_image(rng)
    assert_near(imresize(image, 1.0), image)


def test_the_input_is_unchanged(rng):
    image = random_image(rng)
    before = image.clone()
    imresize(image, 0.5)
    imresize(image, 0.5, legacy_8bit=True)
    assert torch.equal(image, before)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (19, 16)), (0.1, (4, 4)), ((2.0, 0.5), (74, 16)), (1.5, (56, 47))])
def test_without_a_size_it_is_the_ceiling_of_size_times_scale(rng, scale, size):
    assert tuple(imresize(random_image(rng), scale).shape[-2:]) == size


def test_a_whole_product_is_not_rounded_up():
    # 30 · 0.1 is 3.0000000000000004 or 3 by the order of rounding; it must be 3.
    assert tuple(imresize(torch.zeros(1, 1, 30, 70), 0.1).shape[-2:]) == (3, 7)


def test_with_scale_and_size_the_grid_follows_the_scale(rng):
    image = random_image(rng)
    assert_near(imresize(image, 0.5, size=(10, 8)), imresize(image, 0.5)[..., :10, :8])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_follows_the_image(rng, dtype):
    image = random_image(rng)
    resized = imresize(image.to(dtype), 0.5)
    assert resized.dtype == dtype
    # Eight taps a pass, each rounded: twice the table's 1 % at bfloat16.
    torch.testing.assert_close(
        resized.double(), imresize(image, 0.5), atol={torch.bfloat16: 2e-2, torch.float32: 1e-6}[dtype], rtol=0
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_older_matlab_is_restated_literally(rng, scale):
    image = rng.integers(0, 256, (12 * scale, 9 * scale))
    levels = image.astype(np.float64)
    for size in (12, 9):  # rows first, then columns, each rounded with ties upwards
        rows = matlab_rows(levels, size, 1 / scale, replicate=True)
        # Weights like 111/256 make exact ties; what is within 1e-9 of a half is one.
        levels = np.floor(np.clip(rows, 0, 255) + 0.5 + 1e-9).T
    expected = levels
    given = torch.from_numpy(image / 255.0)[None, None]
    resized = imresize(given, 1 / scale, border="replicate", legacy_8bit=True)
    assert torch.equal(torch.round(resized[0, 0] * 255), torch.from_numpy(expected))


def test_the_older_matlab_rounds_ties_upwards():
    # 2 3 2 3 …: the even taps weigh 1/2 and so do the odd ones, so that every value is 2.5 exactly.
    image = torch.full((1, 1, 16, 4), 2.0, dtype=torch.float64)
    image[:, :, 1::2] = 3.0
    levels = torch.round(imresize(image / 255, (0.5, 1.0), legacy_8bit=True)[0, 0, 3:5] * 255)
    assert torch.equal(levels, torch.full_like(levels, 3.0))


def test_without_antialiasing_shrinking_interpolates(rng):
    # At 1/3 every output centre is an input pixel.
    image = random_image(rng, 36, 30)
    assert_near(imresize(image, 1 / 3, antialias=False), image[..., 1::3, 1::3])


def test_older_matlab_works_in_single_precision(rng):
    image = torch.from_numpy(rng.integers(0, 256, (1, 3, 36, 30)) / 255.0)
    single = imresize(image.float(), 0.5, border="replicate", legacy_8bit=True)
    assert single.dtype == torch.float32
    assert_near(single, imresize(image, 0.5, border="replicate", legacy_8bit=True).float())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "a scale, a size, or both"),
        ({"scale": 0.0}, "positive and finite"),
        ({"scale": float("nan")}, "positive and finite"),
        ({"scale": (-1.0, 1.0)}, "positive and finite"),
        ({"scale": 1.0, "size": (0, 4)}, "at least 1×1 px, got 0×4"),
    ],
)
def test_an_unusable_scale_or_size_is_refused(arguments, words):
    with pytest.raises(ImageError, match=words):
        imresize(torch.zeros(1, 1, 9, 9), **arguments)


@pytest.mark.parametrize("image", [torch.zeros(3, 9, 9), torch.zeros(1, 3, 9, 9, dtype=torch.uint8)])
def test_an_image_of_another_shape_or_type_is_refused(image):
    with pytest.raises(ImageError, match="floating-point"):
        imresize(image, 0.5)


@pytest.mark.parametrize(("method", "resample"), [("bilinear", "BILINEAR"), ("lanczos", "LANCZOS"), ("nearest", "BOX")])
@pytest.mark.parametrize("scale", [0.5, 1 / 3, 0.37])
def test_the_other_filters_are_stretched_as_pillows_are(rng, method, resample, scale):
    image = random_image(rng, 60, 48).float()
    size = (math.ceil(60 * scale), math.ceil(48 * scale))
    pillow = Image.fromarray(image[0, 0].numpy(), "F").resize((size[1], size[0]), Image.Resampling[resample])
    resized = imresize(image, size=size, method=method)[0, 0].numpy()
    # Pillow renormalises the weights at the borders, and leaves out pixels that a filter hardly touches.
    np.testing.assert_allclose(resized[4:-4, 4:-4], np.asarray(pillow)[4:-4, 4:-4], atol=1e-3)


def test_an_unknown_filter_is_rejected_with_the_known_ones():
    with pytest.raises(ImageError, match="nearest, bilinear, bicubic, lanczos, got 'spline'"):
        imresize(torch.zeros(1, 1, 8, 8), 2, method="spline")
