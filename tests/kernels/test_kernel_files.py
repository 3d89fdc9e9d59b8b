import io
import json

import numpy as np
import pytest
from scipy.io import savemat

from blindsr.errors import KernelError
from blindsr.kernels import Kernel, detect, gaussian, kernel_bytes, read_kernel

KERNEL = gaussian([[2.0, 0.7], [0.7, 1.2]], 2)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def mat(**arrays):
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_what_is_written_is_read_again(tmp_path, suffix, scale):
    kernel = gaussian([[2.0, 0.7], [0.7, 1.2]], scale)
    path = write(tmp_path, f"k{suffix}", kernel_bytes(kernel, suffix))
    again, notes = read_kernel(path, scale=scale)
    inner = again.array[: kernel.size, : kernel.size] if suffix != ".mat" else again.array
    if suffix == ".mat" and scale > 1:  # zeros were added at the start to make an odd array
        assert again.size == kernel.size + 2 * (scale - 1)
        inner = again.array[scale - 1 : scale - 1 + kernel.size, scale - 1 : scale - 1 + kernel.size]
    np.testing.assert_allclose(inner, kernel.array, atol=1e-15)
    np.testing.assert_allclose(again.centroid, kernel.centroid, atol=1e-12)
    assert len(notes) == 1


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat"])
def test_the_same_kernel_gives_the_same_bytes(suffix):
    assert kernel_bytes(KERNEL, suffix) == kernel_bytes(KERNEL, suffix)


def test_a_mat_file_does_not_tell_the_platform():
    assert b"Platform" not in kernel_bytes(KERNEL, ".mat")


def test_an_npz_keeps_scale_and_provenance(tmp_path):
    path = write(tmp_path, "k.npz", kernel_bytes(KERNEL, ".npz"))
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["kernel", "provenance", "scale"]
        assert int(archive["scale"]) == 2
        assert json.loads(str(archive["provenance"]))["made_by"] == "gaussian"
    kernel, notes = read_kernel(path, scale=2)
    assert dict(kernel.provenance) == dict(KERNEL.provenance)
    assert notes == ("the kernel was read in blindsr's own convention: the file states its scale.",)


def test_a_file_of_others_names_itself_as_the_origin(tmp_path):
    kernel, _ = read_kernel(write(tmp_path, "theirs.mat", mat(Kernel=np.ones((3, 3)) / 9)), scale=2)
    assert kernel.provenance["file"] == "theirs.mat"


@pytest.mark.parametrize("key", ["Kernel", "ker", "kernel"])
def test_the_keys_of_the_wild_are_found(tmp_path, key):
    array = np.ones((5, 5)) / 25
    kernel, notes = read_kernel(write(tmp_path, "k.mat", mat(**{key: array})), scale=2)
    assert kernel.size == 6
    assert notes == (detect(array, 2, key)[1],)


def test_a_convention_that_is_named_is_taken(tmp_path):
    path = write(tmp_path, "k.mat", mat(Kernel=np.arange(25.0).reshape(5, 5) / 300))
    kernel, notes = read_kernel(path, scale=2, convention="kair")
    np.testing.assert_allclose(kernel.array[:5, :5], np.arange(25.0).reshape(5, 5)[::-1, ::-1] / 300)
    assert notes == ("the kernel was read in the convention 'kair', as asked for.",)


def test_a_key_that_is_named_is_taken(tmp_path):
    path = write(tmp_path, "k.npz", npz(kernel=np.zeros((4, 4)), mine=KERNEL.array))
    assert read_kernel(path, scale=2, key="mine")[0].digest == KERNEL.digest


def test_a_sum_other_than_one_is_normalised_and_said(tmp_path):
    kernel, notes = read_kernel(write(tmp_path, "k.npy", npy(KERNEL.array * 1.02)), scale=2)
    np.testing.assert_allclose(kernel.array, KERNEL.array, rtol=1e-12)
    assert "the kernel sums to 1.02 and was normalised to 1." in notes


def test_an_array_that_is_not_square_is_padded_and_said(tmp_path):
    kernel, notes = read_kernel(write(tmp_path, "k.npy", npy(np.ones((3, 5)) / 15)), scale=1)
    assert kernel.size == 5
    np.testing.assert_allclose(kernel.array.sum(1), [0, 1 / 3, 1 / 3, 1 / 3, 0])
    assert "k.npy is 3×5 and was padded with zeros to 5×5." in notes


def test_an_npz_without_a_scale_takes_the_callers_and_says_so(tmp_path):
    kernel, notes = read_kernel(write(tmp_path, "k.npz", npz(kernel=KERNEL.array)), scale=2)
    assert kernel.digest == KERNEL.digest
    assert "k.npz does not say its scale; 2 was taken, as asked for." in notes


def test_a_kernel_of_whole_numbers_is_read(tmp_path):
    kernel, notes = read_kernel(write(tmp_path, "k.npy", npy(np.ones((2, 2), np.uint8))), scale=2)
    assert kernel.array.tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert len(notes) == 2


def test_a_kernel_for_another_scale_is_refused_with_both_scales(tmp_path):
    path = write(tmp_path, "k.npz", kernel_bytes(KERNEL, ".npz"))
    with pytest.raises(
        KernelError,
        match=r"for scale 2, but scale 4 was asked for; run with scale 2, or carry it over: blindsr kernel convert",
    ):
        read_kernel(path, scale=4)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4)), "is all zero"),
        (np.ones(4), "must be a 2-D array, k.npy holds 1-D"),
        (np.ones((3, 4, 4)), r"holds 3 kernels; choose one with index= \(--kernel-index\), 0 to 2"),
        (np.ones((3, 4, 4, 2)), "1 to 1001 px a side, k.npy holds 3×4×4×2"),
        (np.full((4, 4), np.nan), "holds NaN or infinity"),
        (np.array([[1.0, -1.0], [-1.0, 1.0]]), "sums to 0: it is no blur kernel"),
        (np.ones((0, 4)), "1 to 1001 px a side"),
        (np.ones((1002, 2)), "check that it is no image"),
        (np.ones((2, 2), complex), "must hold numbers, it holds complex"),
        (np.array([["a", "b"], ["c", "d"]]), "must hold numbers"),
    ],
)
def test_an_array_that_is_no_kernel_is_refused(tmp_path, array, words):
    with pytest.raises(KernelError, match=words):
        read_kernel(write(tmp_path, "k.npy", npy(array)), scale=2)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(KernelError, match="is missing; name a kernel file"):
        read_kernel(tmp_path / "none.npz", scale=2)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "k.npz").mkdir()
    with pytest.raises(KernelError, match="is a folder; name a kernel file"):
        read_kernel(tmp_path / "k.npz", scale=2)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(KernelError, match=r"must be one of \.npz, \.npy, \.mat, \.txt, \.csv, got k\.doc"):
        read_kernel(write(tmp_path, "k.doc", b"1 2 3"), scale=2)
    with pytest.raises(KernelError, match=r"got '\.doc'"):
        kernel_bytes(KERNEL, ".doc")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_a_damaged_file_is_refused(tmp_path, suffix, damage):
    whole = kernel_bytes(KERNEL, suffix)
    content = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"no kernel, but words " * 40}[damage]
    with pytest.raises(KernelError, match=f"k{suffix}"):
        read_kernel(write(tmp_path, f"k{suffix}", content), scale=2)


def test_bytes_flipped_in_an_archive_are_noticed(tmp_path):
    content = bytearray(kernel_bytes(KERNEL, ".npz"))
    content[400] ^= 0xFF
    with pytest.raises(KernelError, match="cannot be read"):
        read_kernel(write(tmp_path, "k.npz", bytes(content)), scale=2)


def test_pickles_are_never_loaded(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(KernelError, match=r"cannot be read as a .npy kernel file"):
        read_kernel(write(tmp_path, "k.npy", buffer.getvalue()), scale=2)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_an_unknown_key_is_refused_with_the_keys_found(tmp_path, suffix):
    content = {".npz": npz, ".mat": mat}[suffix](psf=np.ones((3, 3)), other=np.ones(2))
    with pytest.raises(KernelError, match="named kernel or Kernel or ker or kernels, it holds other, psf"):
        read_kernel(write(tmp_path, f"k{suffix}", content), scale=2)
    with pytest.raises(KernelError, match="named blur, it holds other, psf"):
        read_kernel(tmp_path / f"k{suffix}", scale=2, key="blur")


def test_a_key_for_a_npy_file_is_refused(tmp_path):
    with pytest.raises(KernelError, match="has no name; leave key out"):
        read_kernel(write(tmp_path, "k.npy", npy(KERNEL.array)), scale=2, key="Kernel")


def test_a_cell_array_of_several_kernels_is_refused(tmp_path):
    cells = np.empty((1, 3), dtype=object)
    for i in range(3):
        cells[0, i] = np.ones((3, 3)) / 9
    with pytest.raises(KernelError, match="holds 3 kernels; choose one with index="):
        read_kernel(write(tmp_path, "k.mat", mat(kernels=cells)), scale=2)


@pytest.mark.parametrize("scale", [np.array([2, 3]), np.float64(2.5), np.str_("2"), np.int64(0), np.float64(np.nan)])
def test_a_scale_that_is_no_whole_number_is_refused(tmp_path, scale):
    with pytest.raises(KernelError, match=r"the scale in k\.npz must be one whole number"):
        read_kernel(write(tmp_path, "k.npz", npz(kernel=KERNEL.array, scale=scale)), scale=2)


@pytest.mark.parametrize("provenance", ["[1]", "no json"])
def test_a_provenance_that_is_no_json_object_is_refused(tmp_path, provenance):
    content = npz(kernel=KERNEL.array, scale=2, provenance=provenance)
    with pytest.raises(KernelError, match=r"must be a JSON object|cannot be read"):
        read_kernel(write(tmp_path, "k.npz", content), scale=2)


def test_a_wrong_parity_in_our_own_file_is_refused(tmp_path):
    with pytest.raises(KernelError, match="got K = 3"):
        read_kernel(write(tmp_path, "k.npz", npz(kernel=np.ones((3, 3)) / 9, scale=2)), scale=2)


def test_reading_does_not_centre(tmp_path):
    weights = np.zeros((8, 8))
    weights[1, 6] = 1
    kernel, notes = read_kernel(write(tmp_path, "k.npz", kernel_bytes(Kernel(weights, 2), ".npz")), scale=2)
    assert kernel.centroid.tolist() == [-2.5, 2.5]
    assert len(notes) == 1
