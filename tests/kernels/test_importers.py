"""Kernels of the wild in every container: the source's own operation and ours give the same LR image."""

import io
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.io import savemat

from blindsr.errors import KernelError
from blindsr.kernels import Kernel, from_convention, gaussian, kernel_bytes, matlab, read_kernel, to_convention
from blindsr.kernels.files import read_kernels, stack_bytes, stated_scale
from blindsr.ops import degrade

OPERATIONS = {
    "kernelgan": ndimage.correlate,
    "generator": ndimage.correlate,
    "fkp": ndimage.correlate,
    "mzsr": ndimage.correlate,
    "kair": ndimage.convolve,
}
KEYS = {"kernelgan": "Kernel", "generator": "ker", "fkp": "Kernel", "mzsr": "kernel", "kair": "kernels"}


def ours(image, kernel):
    tensor = torch.from_numpy(image)[None, None]
    return degrade(tensor, kernel.tensor(tensor), kernel.scale)[0, 0].numpy()


def assert_same(image, kernel, array, convention):
    expected = OPERATIONS[convention](image, array / array.sum(), mode="wrap")[:: kernel.scale, :: kernel.scale]
    actual = ours(image, kernel)
    margin = max(kernel.size, len(array)) // kernel.scale + 2
    difference = (actual - expected[: actual.shape[0], : actual.shape[1]])[margin:-margin, margin:-margin]
    assert difference.size > 30
    assert np.abs(difference).max() < 1e-6


def blob(rng, size, centre):
    index = np.arange(size) - centre
    array = np.exp(-(index[:, None] ** 2) / 3 - index[None, :] ** 2 / 4)
    return array * (1 + 0.1 * rng.uniform(-1, 1, array.shape))


def mat_v5(**arrays):
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return buffer.getvalue()


def mat_v73(path, name, arrays):
    """As MATLAB writes it: axes turned over, a cell array as references."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        if isinstance(arrays, list):
            cells = [file.create_dataset(f"#refs#/{i}", data=a.T) for i, a in enumerate(arrays)]
            table = file.create_dataset(name, (len(cells), 1), dtype=h5py.ref_dtype)
            for i, cell in enumerate(cells):
                table[i, 0] = cell.ref
        else:
            file.create_dataset(name, data=arrays.T)
    content = bytearray(path.read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    path.write_bytes(content)


@settings(max_examples=40, deadline=None)
@given(
    convention=st.sampled_from(sorted(OPERATIONS)),
    scale=st.integers(1, 5),
    size=st.integers(1, 14),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_convention_size_scale_and_parity_keeps_the_operation(convention, scale, size, seed):
    rng = np.random.default_rng(seed)
    array = rng.random((size, size)) + 0.01
    image = rng.random((scale * 48 + 3, scale * 46 + 1))
    kernel = from_convention(array, scale, convention)
    assert (kernel.size - scale) % 2 == 0
    assert_same(image, kernel, array, convention)
    # And back: what is written for them does the same in their hands.
    again = to_convention(kernel, convention)
    assert_same(image, kernel, again, convention)
    assert from_convention(again, scale, convention).digest == kernel.digest or again.shape != array.shape


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("container", ["mat", "mat73", "npy", "npz", "txt", "csv"])
@pytest.mark.parametrize("convention", ["kernelgan", "kair", "mzsr"])
def test_every_container_gives_the_lr_of_the_source(tmp_path, rng, container, convention, scale):
    array = rng.random((9, 9))
    array /= array.sum()
    path = tmp_path / f"k.{container.removesuffix('73')}"
    if container == "mat":
        path.write_bytes(mat_v5(**{KEYS[convention]: array}))
    elif container == "mat73":
        mat_v73(path, KEYS[convention], array)
    elif container == "npy":
        np.save(path, array)
    elif container == "npz":
        np.savez(path, kernel=array)
    else:
        np.savetxt(path, array, delimiter="," if container == "csv" else " ")
    kernel, _ = read_kernel(path, scale=scale, convention=convention)
    assert_same(rng.random((97, 89)), kernel, array, convention)


@pytest.mark.parametrize(
    ("key", "convention", "centre"),
    [("Kernel", "kernelgan", 5.5), ("ker", "generator", 6.0), ("kernel", "mzsr", 5.0), ("kernels", "kair", 4.5)],
)
def test_auto_finds_the_source_says_it_and_marks_it_as_a_guess(tmp_path, rng, key, convention, centre):
    array = blob(rng, 11, centre)
    path = tmp_path / "k.mat"
    path.write_bytes(mat_v5(**{key: array}))
    kernel, notes = read_kernel(path, scale=2)
    assert kernel.provenance["convention"] == convention
    assert kernel.provenance["convention_guessed"] is True
    assert any("was read in the convention of" in note and repr(key) in note for note in notes)
    assert_same(rng.random((80, 84)), kernel, array, convention)
    named, _ = read_kernel(path, scale=2, convention=convention)
    assert "convention_guessed" not in named.provenance
    assert named.digest == kernel.digest


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_a_cell_array_gives_the_kernel_that_is_chosen(tmp_path, rng, version):
    arrays = [rng.random((size, size)) for size in (7, 9, 5)]
    path = tmp_path / "kernels.mat"
    if version == "v5":
        cells = np.empty((1, 3), dtype=object)
        for i, array in enumerate(arrays):
            cells[0, i] = array
        path.write_bytes(mat_v5(kernels=cells))
    else:
        mat_v73(path, "kernels", arrays)
    with pytest.raises(KernelError, match=r"holds 3 kernels; choose one with index= \(--kernel-index\), 0 to 2"):
        read_kernel(path, scale=2)
    for i, array in enumerate(arrays):
        kernel, _ = read_kernel(path, scale=2, index=i)
        assert_same(rng.random((80, 84)), kernel, array, "kair")
    with pytest.raises(KernelError, match="holds 3 kernels, index 3 was asked for"):
        read_kernel(path, scale=2, index=3)
    assert len(read_kernels(path, scale=2)[0]) == 3


@pytest.mark.parametrize(("container", "axis"), [("mat", 2), ("npy", 0), ("npy", 2)])
def test_a_stack_gives_the_kernel_that_is_chosen(tmp_path, rng, container, axis):
    arrays = rng.random((4, 9, 9))
    stack = np.moveaxis(arrays, 0, axis)
    path = tmp_path / f"k.{container}"
    if container == "mat":
        path.write_bytes(mat_v5(kernels=stack))
    else:
        np.save(path, stack)
    kernel, _ = read_kernel(path, scale=3, index=2, convention="kair")
    assert_same(rng.random((80, 84)), kernel, arrays[2], "kair")


def test_v73_without_h5py_says_what_to_install(tmp_path, monkeypatch):
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
    with pytest.raises(KernelError, match="it holds nothing"):
        read_kernel(tmp_path / "k.mat", scale=2)
    raw = np.ones((3, 3))
    (tmp_path / "raw.bin").write_bytes(raw.tobytes())
    with h5py.File(tmp_path / "e.mat", "w") as file:
        file.create_dataset("Kernel", (3, 3), "f8", external=[(str(tmp_path / "raw.bin"), 0, 72)])
    with pytest.raises(KernelError, match="refers to data outside itself"):
        read_kernel(tmp_path / "e.mat", scale=2)


@pytest.mark.parametrize(
    "text",
    [
        "1 2 1\n2 4 2\n1 2 1",
        "# k\n1,2,1\n2,4,2\n1,2,1\n",
        "1;2;1\n2;4;2\n1;2;1",
        "\ufeff1\t2\t1\n2\t4\t2 # x\n\n1\t2\t1",
    ],
)
def test_rows_of_numbers_are_read_however_they_are_parted(tmp_path, text):
    (tmp_path / "k.txt").write_text(text, encoding="utf-8")
    kernel, notes = read_kernel(tmp_path / "k.txt", scale=3)
    np.testing.assert_allclose(kernel.array, np.outer([1, 2, 1], [1, 2, 1]) / 16)
    assert any("sums to 16 and was normalised" in note for note in notes)


def test_decimal_commas_are_read_and_said(tmp_path):
    (tmp_path / "k.csv").write_text("0,25;0,25\n0,25;0,25", encoding="utf-8")
    kernel, notes = read_kernel(tmp_path / "k.csv", scale=2)
    assert kernel.array.tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert "the commas in k.csv were read as decimal points." in notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n1", "rows of one length, it has rows of 1, 2"),
        ("", "rows of one length"),
        ("a b\nc d", "must hold numbers alone"),
    ],
)
def test_a_text_that_is_no_table_is_refused(tmp_path, text, words):
    (tmp_path / "k.txt").write_text(text, encoding="utf-8")
    with pytest.raises(KernelError, match=words):
        read_kernel(tmp_path / "k.txt", scale=2)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat", ".txt", ".csv"])
def test_what_is_written_is_the_same_kernel_when_it_is_read(tmp_path, suffix):
    kernel = gaussian([[2.0, 0.7], [0.7, 1.2]], 2)
    (tmp_path / f"k{suffix}").write_bytes(kernel_bytes(kernel, suffix))
    again, _ = read_kernel(tmp_path / f"k{suffix}", scale=2)
    np.testing.assert_allclose(again.centroid, kernel.centroid, atol=1e-12)
    np.testing.assert_allclose(again.covariance, kernel.covariance, atol=1e-12)


@pytest.mark.parametrize("convention", sorted(OPERATIONS))
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_mat_file_for_others_has_their_key_and_their_effect(tmp_path, rng, convention, scale):
    kernel = Kernel.normalised(rng.random((8 + scale, 8 + scale)), scale)
    (tmp_path / "k.mat").write_bytes(kernel_bytes(kernel, ".mat", convention))
    again, _ = read_kernel(tmp_path / "k.mat", scale=scale, convention=convention, key=KEYS[convention])
    image = rng.random((80, 84))
    inner = slice(8, -8)
    np.testing.assert_allclose(ours(image, again)[inner, inner], ours(image, kernel)[inner, inner], atol=1e-12)


def test_a_stack_of_bands_keeps_names_and_scale(tmp_path):
    kernels = (gaussian(1.0, 2), gaussian(2.0, 2))
    (tmp_path / "k.npz").write_bytes(stack_bytes(kernels, ("B4", "B3")))
    again, names, notes = read_kernels(tmp_path / "k.npz", scale=2)
    assert names == ("B4", "B3")
    assert notes == ("the kernel was read in blindsr's own convention: the file states its scale.",)
    assert stated_scale(tmp_path / "k.npz") == 2
    for kernel, read in zip(kernels, again, strict=True):
        np.testing.assert_allclose(read.covariance, kernel.covariance, atol=1e-12)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    # One element of v5 that unpacks to 40 MiB of zeros.
    monkeypatch.setattr(matlab, "_LARGEST_CONTENT", 10 << 20)
    body = zlib.compress(b"\0" * (40 << 20), 1)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "k.mat").write_bytes(header + np.array([15, len(body)], "<u4").tobytes() + body)
    with pytest.raises(KernelError, match="unpacks to over 10 MiB"):
        read_kernel(tmp_path / "k.mat", scale=2)
    np.savez_compressed(tmp_path / "k.npz", kernel=np.zeros((6000, 6000), bool))
    with pytest.raises(KernelError, match="check that it is no image"):
        read_kernel(tmp_path / "k.npz", scale=2)
