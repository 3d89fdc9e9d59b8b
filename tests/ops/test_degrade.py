import numpy as np
import pytest
import torch
from images import random_image
from scipy import ndimage
from tolerances import assert_near

from blindsr.errors import ImageError, KernelError
from blindsr.kernels import gaussian
from blindsr.ops import degrade

SIZES = [(37, 31), (36, 30), (31, 38), (9, 5)]


def random_kernel(rng, size):
    kernel = rng.random((size, size))
    return torch.from_numpy(kernel / kernel.sum())


def scipy_degrade(image, kernel, scale):
    """The definition, literally: correlate everywhere with reflected borders, then keep the LR pixels."""
    height, width = image.shape
    # SciPy's reference is index K // 2; our first LR pixel's window starts (K − s)/2 pixels before the image.
    blurred = ndimage.correlate(image, kernel, mode="reflect", origin=0)
    first = len(kernel) // 2 - (len(kernel) - scale) // 2
    return blurred[first::scale, first::scale][: height // scale, : width // scale]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("extra", [0, 2, 10])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_degrade_equals_scipys_correlation_with_reflected_borders(rng, scale, extra, height, width):
    image, kernel = random_image(rng, height, width), random_kernel(rng, scale + extra)
    expected = scipy_degrade(image[0, 0].numpy(), kernel.numpy(), scale)
    assert_near(degrade(image, kernel, scale)[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_centred_kernel_leaves_a_ramp_aligned(scale):
    ramp = torch.arange(60.0, dtype=torch.float64)[None, :] * 2 + torch.arange(48.0, dtype=torch.float64)[:, None]
    kernel = gaussian([[1.5, 0.4], [0.4, 0.9]], scale)
    lr = degrade(ramp[None, None], kernel.tensor(ramp), scale)[0, 0]
    rows, columns = (scale * torch.arange(n, dtype=torch.float64) + (scale - 1) / 2 for n in lr.shape)
    inner = (slice(5, -5), slice(5, -5))  # the kernel reaches 5 px or less beyond an LR pixel
    assert_near(lr[inner], (rows[:, None] + 2 * columns[None, :])[inner], what="the LR grid is shifted")


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_constant_image_stays_itself_up_to_the_border(rng, scale):
    image = torch.full((2, 3, 37, 31), 0.25, dtype=torch.float64)
    lr = degrade(image, random_kernel(rng, scale + 8), scale)
    assert_near(lr, torch.full_like(lr, 0.25))


def test_red_stays_red(rng):
    image = torch.zeros(1, 3, 37, 31, dtype=torch.float64)
    image[:, 0] = 1
    lr = degrade(image, random_kernel(rng, 8), 2)
    assert_near(lr[:, 0], torch.ones_like(lr[:, 0]))
    assert not lr[:, 1:].any()


def test_degrade_leaves_its_inputs_unchanged(rng):
    image, kernel = random_image(rng), random_kernel(rng, 6)
    before = image.clone(), kernel.clone()
    degrade(image, kernel, 2)
    assert torch.equal(image, before[0])
    assert torch.equal(kernel, before[1])


def test_batch_and_channels_are_degraded_one_by_one(rng):
    images, kernel = random_image(rng, bands=3, batch=2), random_kernel(rng, 6)
    whole = degrade(images, kernel, 2)
    for i in range(2):
        for c in range(3):
            assert_near(whole[i, c], degrade(images[i : i + 1, c : c + 1], kernel, 2)[0, 0])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_flipping_image_and_kernel_flips_the_result(rng, scale):
    image, kernel = random_image(rng, 12 * scale, 9 * scale), random_kernel(rng, scale + 6)
    flipped = degrade(image.flip(-1), kernel.flip(-1), scale)
    assert_near(flipped, degrade(image, kernel, scale).flip(-1))


def test_the_kernel_itself_is_not_flipped():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    image[0, 0, 4, 5] = 1
    kernel = torch.zeros(3, 3, dtype=torch.float64)
    kernel[1, 2] = 1  # looks one pixel to the right
    assert degrade(image, kernel, 1).nonzero().tolist() == [[0, 0, 4, 4]]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_size_is_the_floor_of_size_over_scale(rng, scale, height, width):
    lr = degrade(random_image(rng, height, width), random_kernel(rng, scale + 4), scale)
    assert tuple(lr.shape[-2:]) == (height // scale, width // scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_follows_the_image(rng, dtype):
    image, kernel = random_image(rng), random_kernel(rng, 6)
    lr = degrade(image.to(dtype), kernel, 2)
    assert lr.dtype == dtype
    assert_near(lr, degrade(image, kernel, 2).to(dtype))


def test_gradients_reach_the_kernel(rng):
    kernel = random_kernel(rng, 6).requires_grad_()
    degrade(random_image(rng), kernel, 2).square().sum().backward()
    assert kernel.grad is not None
    assert kernel.grad.abs().min() > 0


def test_an_image_without_batch_axis_is_refused():
    with pytest.raises(ImageError, match=r"must be \(B, C, H, W\)"):
        degrade(torch.zeros(3, 9, 9), torch.ones(2, 2), 2)


def test_an_image_below_one_lr_pixel_is_refused():
    with pytest.raises(ImageError, match="at least 4 px, got 3×9"):
        degrade(torch.zeros(1, 1, 3, 9), torch.ones(4, 4), 4)


@pytest.mark.parametrize(
    ("shape", "scale", "words"),
    [((3, 4), 2, "must be square"), ((5, 5), 2, "got K = 5"), ((1, 1), 3, "got K = 1"), ((2, 2), 0, "scale must be 1")],
)
def test_an_unusable_kernel_is_refused(shape, scale, words):
    with pytest.raises(KernelError, match=words):
        degrade(torch.zeros(1, 1, 9, 9), torch.ones(shape), scale)


def test_scipy_oracle_is_not_vacuous():
    # The oracle must see a change of the kernel's orientation, or the comparison above proves little.
    image, kernel = np.random.default_rng(0).random((9, 9)), np.arange(9.0).reshape(3, 3)
    assert np.abs(scipy_degrade(image, kernel, 1) - scipy_degrade(image, kernel.T, 1)).max() > 0.1
