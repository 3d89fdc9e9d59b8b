"""The frame of a .mat file is looked over before SciPy reads it, and sound files of every kind pass."""

import numpy as np
import pytest
from scipy.io import savemat

from blindsr.errors import KernelError
from blindsr.kernels import gaussian
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.kernels.matlab_elements import check_elements

DOUBLE = b"\x09\x00\x00\x00"  # tag of the weights: miDOUBLE


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        {"Kernel": np.eye(13)},
        {"k": np.eye(3, dtype=np.uint8), "text": "é words", "empty": np.zeros((0, 0))},
        {"cells": np.array([np.eye(3), "x"], dtype=object), "record": {"a": 1, "b": {"c": [1.0, 2.0]}}},
        {"complex": np.eye(2) * 1j, "flag": np.array([True, False]), "stack": np.ones((3, 3, 5))},
    ],
)
def test_what_scipy_writes_is_sound(tmp_path, content, compressed):
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    check_elements(tmp_path / "a.mat")


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(kernel_bytes(gaussian([[2.0, 0.3], [0.3, 1.0]], 2), ".mat"))
    return path


def test_an_element_of_an_unknown_type_is_refused_where_scipy_would_crash(written):
    data = bytearray(written.read_bytes())
    place = data.index(DOUBLE, 160)
    data[place + 1] = 0x40
    written.write_bytes(data)
    with pytest.raises(KernelError, match=r"a\.mat is no sound MATLAB v5 file: .*; save it again"):
        read_kernel(written, scale=2)


def test_an_element_that_is_longer_than_what_it_lies_in_is_refused(written):
    data = bytearray(written.read_bytes())
    place = data.index(DOUBLE, 160)
    data[place + 4 : place + 8] = (2**31).to_bytes(4, "little")
    written.write_bytes(data)
    with pytest.raises(KernelError, match="no sound MATLAB v5 file"):
        check_elements(written)


def test_the_name_of_an_array_is_not_quoted_at_length(tmp_path):
    savemat(
        tmp_path / "a.mat", {"k" * 63: np.eye(3), **{f"{'m' * 40}{i}": 1 for i in range(30)}}, long_field_names=True
    )
    with pytest.raises(KernelError, match="must hold an array named") as caught:
        read_kernel(tmp_path / "a.mat", scale=2)
    assert len(str(caught.value)) < 1000
