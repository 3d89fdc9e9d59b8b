"""A kernel as the physics of deepinv, and back: the same image but for the border, to the rounding of floats."""

import io
import warnings

import numpy as np
import pytest
import torch

from blindsr.kernels import Kernel, from_convention, gaussian
from blindsr.kernels.tools import tool_bytes
from blindsr.ops import degrade

with warnings.catch_warnings():  # those of its own imports
    warnings.simplefilter("ignore")
    physics = pytest.importorskip("deepinv.physics", reason="deepinv is not installed", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore")


def skewed(scale):
    """A kernel without any symmetry."""
    array = gaussian([[2.6, 0.5], [0.5, 1.3]], scale).array * np.random.default_rng(0).uniform(0.5, 1.5)
    array[: len(array) // 2] *= 1.4
    array[:, : len(array) // 3] *= 0.7
    return Kernel(array / array.sum(), scale, {})


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("padding", ["circular", "replicate", "reflect"])
def test_downsampling_and_blur_are_the_degradation_of_the_kernel(scale, padding):
    kernel = skewed(scale)
    weights = torch.from_numpy(np.load(io.BytesIO(tool_bytes(kernel, "deepinv", ".npy")[0])))
    hr = torch.rand(2, 3, 24 * scale, 30 * scale, generator=torch.Generator().manual_seed(0))
    ours = degrade(hr, kernel.tensor(hr), scale)
    theirs = physics.Downsampling(img_size=hr.shape[1:], filter=weights, factor=scale, padding=padding)(hr)
    blurred = physics.Blur(filter=weights, padding=padding)(hr)[..., ::scale, ::scale]
    border = weights.shape[-1] // (2 * scale) + 1
    inner = (..., slice(border, -border), slice(border, -border))
    assert ours.shape == theirs.shape == blurred.shape
    assert (ours - theirs)[inner].abs().max() < 1e-6
    assert (ours - blurred)[inner].abs().max() < 1e-6


@pytest.mark.parametrize("scale", [2, 3])
def test_the_filter_of_a_physics_is_the_kernel_again(scale):
    kernel = skewed(scale)
    weights = torch.from_numpy(np.load(io.BytesIO(tool_bytes(kernel, "deepinv", ".npy")[0])))
    operator = physics.Downsampling(img_size=(1, 32 * scale, 32 * scale), filter=weights, factor=scale)
    again = from_convention(operator.filter[0, 0].numpy(), scale, "kair")
    size = max(again.size, kernel.size)
    padded = [np.pad(each.array, (size - each.size) // 2) for each in (again, kernel)]
    np.testing.assert_allclose(*padded, atol=1e-7)
