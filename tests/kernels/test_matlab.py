"""MATLAB files: valid files of every version are read, dangerous ones are refused before SciPy reads them."""

import zlib

import numpy as np
import pytest
from kernel_helpers import mat_v73
from scipy.io import savemat

from blindsr.errors import KernelError
from blindsr.kernels import gaussian, matlab
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.kernels.matlab import check_elements

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
def test_files_of_scipy_are_valid(tmp_path, content, compressed):
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
    with pytest.raises(KernelError, match=r"a\.mat is not a valid MATLAB v5 file: it is damaged"):
        read_kernel(written, scale=2)


def test_an_element_that_is_longer_than_what_it_lies_in_is_refused(written):
    data = bytearray(written.read_bytes())
    place = data.index(DOUBLE, 160)
    data[place + 4 : place + 8] = (2**31).to_bytes(4, "little")
    written.write_bytes(data)
    with pytest.raises(KernelError, match="not a valid MATLAB v5 file"):
        check_elements(written)


def test_the_name_of_an_array_is_not_quoted_at_length(tmp_path):
    savemat(
        tmp_path / "a.mat", {"k" * 63: np.eye(3), **{f"{'m' * 40}{i}": 1 for i in range(30)}}, long_field_names=True
    )
    with pytest.raises(KernelError, match="must contain an array named") as caught:
        read_kernel(tmp_path / "a.mat", scale=2)
    assert len(str(caught.value)) < 1000


def test_v73_without_h5py_names_the_package_to_install(tmp_path, monkeypatch):
    import builtins

    mat_v73(tmp_path / "k.mat", "Kernel", np.ones((3, 3)))
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(KernelError, match=r"needs h5py: pip install 'blindsr\[mat73\]'"):
        read_kernel(tmp_path / "k.mat", scale=2)


def test_v73_never_follows_links_out_of_the_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.mat", "w") as file:
        file.create_dataset("Kernel", data=np.ones((3, 3)))
    with h5py.File(tmp_path / "k.mat", "w") as file:
        file["Kernel"] = h5py.ExternalLink("secret.mat", "/Kernel")
    with pytest.raises(KernelError, match="it contains nothing"):
        read_kernel(tmp_path / "k.mat", scale=2)
    raw = np.ones((3, 3))
    (tmp_path / "raw.bin").write_bytes(raw.tobytes())
    with h5py.File(tmp_path / "e.mat", "w") as file:
        file.create_dataset("Kernel", (3, 3), "f8", external=[(str(tmp_path / "raw.bin"), 0, 72)])
    with pytest.raises(KernelError, match="refers to data outside the file"):
        read_kernel(tmp_path / "e.mat", scale=2)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    # One element of v5 that unpacks to 40 MiB of zeros.
    monkeypatch.setattr(matlab, "_MAX_CONTENT", 10 << 20)
    body = zlib.compress(b"\0" * (40 << 20), 1)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "k.mat").write_bytes(header + np.array([15, len(body)], "<u4").tobytes() + body)
    with pytest.raises(KernelError, match="unpacks to more than 10 MiB"):
        read_kernel(tmp_path / "k.mat", scale=2)
    np.savez_compressed(tmp_path / "k.npz", kernel=np.zeros((6000, 6000), bool))
    with pytest.raises(KernelError, match="check that it is not an image"):
        read_kernel(tmp_path / "k.npz", scale=2)
