"""Kernels for other tools: the tool's own operation on the file's own array gives the LR image of `degrade`."""

import io

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.io import loadmat

from blindsr.errors import KernelError
from blindsr.kernels import Kernel, bicubic, compose, gaussian, motion, read_kernel, shift
from blindsr.kernels.tools import TOOLS, srmd_covariance, srmd_kernel, tool_bytes
from blindsr.ops import degrade

EXACT = [name for name in TOOLS if name != "srmd"]


def own_array(content, tool):
    """What the tool itself takes out of the file."""
    if tool == "deepinv":
        return np.load(io.BytesIO(content))[0, 0].astype(np.float64)
    value = loadmat(io.BytesIO(content))[TOOLS[tool].key]
    return value[0, 0] if tool == "usrnet" else value


def own_operation(image, array, tool, scale):
    """KAIR and deepinv convolve, the others correlate, about the middle of the odd array; then every s-th pixel."""
    operation = ndimage.convolve if tool in ("usrnet", "deepinv") else ndimage.correlate
    return operation(image, array, mode="wrap")[::scale, ::scale]


def skewed(scale):
    """A kernel without any symmetry."""
    weights = np.random.default_rng(scale).random((10 + scale % 2, 10 + scale % 2))
    weights[:4] *= 3
    return Kernel.normalised(weights, scale)


@pytest.mark.parametrize("tool", EXACT)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_operation_of_the_tool_gives_the_same_lr(tool, scale, rng):
    image, kernel = rng.random((84, 96)), skewed(scale)
    content, warnings = tool_bytes(kernel, tool, TOOLS[tool].suffix)
    array = own_array(content, tool)
    assert not warnings
    assert array.shape[0] == array.shape[1]
    assert array.shape[0] % 2 == 1
    tensor = torch.from_numpy(image)[None, None]
    expected = degrade(tensor, kernel.tensor(tensor), scale)[0, 0].numpy()
    inner = (slice(8, -8),) * 2
    actual = own_operation(image, array, tool, scale)
    np.testing.assert_allclose(actual[inner], expected[inner], atol=1e-12 if tool != "deepinv" else 1e-6)


@pytest.mark.parametrize("tool", EXACT)
def test_a_file_is_read_back_as_the_same_kernel(tool, tmp_path):
    kernel = skewed(2)
    path = tmp_path / f"k{TOOLS[tool].suffix}"
    path.write_bytes(tool_bytes(kernel, tool, path.suffix)[0])
    again, _ = read_kernel(path, scale=2, convention=TOOLS[tool].convention)
    margin = (again.size - kernel.size) // 2
    np.testing.assert_allclose(again.array, np.pad(kernel.array, margin), atol=1e-8)


def test_the_same_kernel_gives_the_same_bytes():
    assert tool_bytes(skewed(2), "usrnet", ".mat") == tool_bytes(skewed(2), "usrnet", ".mat")


@pytest.mark.parametrize("variance", [1.0, 2.0])
def test_the_gaussian_for_srmd_is_nearer_to_the_kernel_than_one_of_the_same_widths(variance, rng):
    """The LR image by SRMD's own model, blur and bicubic downscaling, against that of the kernel."""
    image = torch.from_numpy(ndimage.gaussian_filter(rng.random((96, 96)), 0.7))[None, None]
    kernel = gaussian([[variance, 0.2], [0.2, 0.8 * variance]], 2)

    def error(weights):
        total = compose(Kernel.normalised(weights, 1), bicubic(2))
        difference = degrade(image, total.tensor(image), 2) - degrade(image, kernel.tensor(image), 2)
        return float(difference.square().mean())

    weights, warnings = srmd_kernel(kernel)
    assert not warnings
    assert weights.shape == (15, 15)
    assert weights.sum() == pytest.approx(1)
    assert error(weights) < 0.6 * error(gaussian(kernel.covariance, 1, size=15).array)


def test_the_covariance_for_srmd_is_the_rule_with_its_bound():
    kernel = gaussian([[3.0, 0.5], [0.5, 2.0]], 2)
    np.testing.assert_allclose(srmd_covariance(kernel), kernel.covariance - 0.4 * np.eye(2), atol=1e-9)
    np.testing.assert_allclose(srmd_covariance(bicubic(2)), 0.04 * np.eye(2), atol=1e-9)


def test_what_srmd_cannot_keep_is_said():
    assert "NCC of 0." in srmd_kernel(motion(9, 30, 2))[1][0]
    off = shift(gaussian(2.0, 2), (0.5, 0.0))
    assert "this one is (+0.50, " in srmd_kernel(off)[1][0]


def test_an_unknown_tool_and_another_kind_of_file_are_refused():
    with pytest.raises(KernelError, match=r"one of srmd, .*, got 'edsr'"):
        tool_bytes(skewed(2), "edsr", ".mat")
    with pytest.raises(KernelError, match=r"deepinv must be written as \.npy, got '\.mat'"):
        tool_bytes(skewed(2), "deepinv", ".mat")
