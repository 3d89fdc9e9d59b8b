import itertools

import pytest
import torch
from tolerances import assert_near

from blindsr.errors import ImageError
from blindsr.kernels import gaussian
from blindsr.ops import back_project, degrade, imresize


def scene(rng, scale, height, width):
    """A smooth random image, its LR and the kernel between them."""
    image = imresize(torch.from_numpy(rng.random((1, 3, 12, 10))), size=(height, width))
    kernel = gaussian([[0.8, 0.2], [0.2, 0.5]], scale).tensor(image)
    return image, degrade(image, kernel, scale), kernel


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 36, 30), (2, 37, 31), (3, 37, 31), (4, 36, 31)])
def test_each_correction_reduces_the_residual(rng, scale, height, width):
    _, lr, kernel = scene(rng, scale, height, width)
    sr = torch.zeros(1, 3, height, width, dtype=torch.float64)
    residuals = []
    for _ in range(5):
        residuals.append(float((lr - degrade(sr, kernel, scale)).square().mean()))
        sr = back_project(sr, lr, kernel, scale, iterations=1)
    assert all(after < 0.7 * before for before, after in itertools.pairwise(residuals)), residuals


def test_a_consistent_image_is_left_as_it_is(rng):
    image, lr, kernel = scene(rng, 2, 36, 30)
    assert_near(back_project(image, lr, kernel, 2, iterations=5), image)


def test_no_iteration_changes_nothing(rng):
    image, lr, kernel = scene(rng, 2, 36, 30)
    assert torch.equal(back_project(image + 0.1, lr, kernel, 2, iterations=0), image + 0.1)


def test_the_inputs_are_unchanged(rng):
    image, lr, kernel = scene(rng, 2, 36, 30)
    before = image.clone(), lr.clone()
    back_project(image, lr + 0, kernel, 2, iterations=2)
    assert torch.equal(image, before[0])
    assert torch.equal(lr, before[1])


def test_an_lr_image_of_another_size_is_refused(rng):
    image, lr, kernel = scene(rng, 2, 36, 30)
    with pytest.raises(ImageError, match="must be 18×15, got 17×15"):
        back_project(image, lr[..., 1:, :], kernel, 2, iterations=1)
