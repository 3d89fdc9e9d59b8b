"""Kernels from files, arrays and texts: a source's own operation and ours give the same LR image."""

import io
import json
import re

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import mat_v73
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from blindsr.errors import BlindSRError, ConfigError, KernelError
from blindsr.kernels import (
    Kernel,
    KernelEstimate,
    KernelStack,
    as_kernel,
    detect,
    from_convention,
    gaussian,
    kernel_bytes,
    load_kernel,
    read_kernel,
    shift,
    to_convention,
)
from blindsr.kernels.files import stated_scale
from blindsr.ops import degrade

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
def test_a_written_kernel_is_read_back(tmp_path, suffix, scale):
    kernel = gaussian([[2.0, 0.7], [0.7, 1.2]], scale)
    path = write(tmp_path, f"k{suffix}", kernel_bytes(kernel, suffix))
    again, warnings = read_kernel(path, scale=scale)
    inner = again.array[: kernel.size, : kernel.size] if suffix != ".mat" else again.array
    if suffix == ".mat" and scale > 1:  # zeros were added at the start to make an odd array
        assert again.size == kernel.size + 2 * (scale - 1)
        inner = again.array[scale - 1 : scale - 1 + kernel.size, scale - 1 : scale - 1 + kernel.size]
    np.testing.assert_allclose(inner, kernel.array, atol=1e-15)
    np.testing.assert_allclose(again.centroid, kernel.centroid, atol=1e-12)
    assert len(warnings) == (suffix != ".npz")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat"])
def test_the_same_kernel_gives_the_same_bytes(suffix):
    assert kernel_bytes(KERNEL, suffix) == kernel_bytes(KERNEL, suffix)


def test_a_mat_file_does_not_contain_the_platform():
    assert b"Platform" not in kernel_bytes(KERNEL, ".mat")


def test_an_npz_keeps_scale_and_provenance(tmp_path):
    path = write(tmp_path, "k.npz", kernel_bytes(KERNEL, ".npz"))
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["kernel", "provenance", "scale"]
        assert int(archive["scale"]) == 2
        assert json.loads(str(archive["provenance"]))["made_by"] == "gaussian"
    kernel, warnings = read_kernel(path, scale=2)
    assert dict(kernel.provenance) == dict(KERNEL.provenance)
    assert warnings == ()
    np.savez(tmp_path / "scale.npz", kernel=KERNEL.array, scale=2)  # it may be anyone's
    assert read_kernel(tmp_path / "scale.npz", scale=2)[1] == (
        "the kernel was read in blindsr's own convention: the file states its scale.",
    )


def test_another_file_is_recorded_as_the_origin(tmp_path):
    kernel, _ = read_kernel(write(tmp_path, "theirs.mat", mat(Kernel=np.ones((3, 3)) / 9)), scale=2)
    assert kernel.provenance["file"] == "theirs.mat"


@pytest.mark.parametrize("key", ["Kernel", "ker", "kernel"])
def test_the_usual_keys_are_found(tmp_path, key):
    array = np.pad(np.ones((4, 4)) / 16, (1, 0))
    kernel, warnings = read_kernel(write(tmp_path, "k.mat", mat(**{key: array})), scale=2)
    assert kernel.size == 6
    assert warnings == (detect(array, 2, key)[1],)


def test_a_given_convention_is_used(tmp_path):
    path = write(tmp_path, "k.mat", mat(Kernel=np.arange(25.0).reshape(5, 5) / 300))
    kernel, warnings = read_kernel(path, scale=2, convention="kair")
    np.testing.assert_allclose(kernel.array[:5, :5], np.arange(25.0).reshape(5, 5)[::-1, ::-1] / 300)
    assert warnings == ("the kernel was read in the convention 'kair', as requested.",)


def test_a_given_key_is_used(tmp_path):
    path = write(tmp_path, "k.npz", npz(kernel=np.zeros((4, 4)), mine=KERNEL.array))
    assert read_kernel(path, scale=2, key="mine")[0].digest == KERNEL.digest


def test_a_sum_other_than_one_is_normalised_with_a_warning(tmp_path):
    kernel, warnings = read_kernel(write(tmp_path, "k.npy", npy(KERNEL.array * 1.02)), scale=2)
    np.testing.assert_allclose(kernel.array, KERNEL.array, rtol=1e-12)
    assert "the kernel sums to 1.02 and was normalised to 1." in warnings


def test_an_array_that_is_not_square_is_padded_with_a_warning(tmp_path):
    kernel, warnings = read_kernel(write(tmp_path, "k.npy", npy(np.ones((3, 5)) / 15)), scale=1)
    assert kernel.size == 5
    np.testing.assert_allclose(kernel.array.sum(1), [0, 1 / 3, 1 / 3, 1 / 3, 0])
    assert "k.npy is 3×5 and was padded with zeros to 5×5." in warnings


def test_an_npz_without_a_scale_gets_the_requested_one_with_a_warning(tmp_path):
    kernel, warnings = read_kernel(write(tmp_path, "k.npz", npz(kernel=KERNEL.array)), scale=2)
    assert kernel.digest == KERNEL.digest
    assert "k.npz does not state its scale; 2 is assumed, as requested." in warnings


def test_a_kernel_of_whole_numbers_is_read(tmp_path):
    kernel, warnings = read_kernel(write(tmp_path, "k.npy", npy(np.ones((2, 2), np.uint8))), scale=2)
    assert kernel.array.tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert len(warnings) == 2


def test_a_kernel_for_another_scale_is_refused_with_both_scales(tmp_path):
    (tmp_path / "my kernels").mkdir()
    path = write(tmp_path / "my kernels", "k.npz", kernel_bytes(KERNEL, ".npz"))
    advice = f"use scale 2, or convert it: blindsr kernel convert '{path}' new.npz --from-scale 2 --to-scale 4 "
    with pytest.raises(KernelError, match=re.escape(f"for scale 2, but scale 4 was requested; {advice}")):
        read_kernel(path, scale=4)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4)), "is all zero"),
        (np.ones(4), "must be a 2-D array, k.npy is 1-D"),
        (
            np.ones((3, 4, 4)),
            r"contains 3 kernels; choose one with index= in Python or --kernel-index .*, 0 to 2",
        ),
        (np.ones((3, 4, 4, 2)), "2 dimensions, or 3 with one kernel for each band, k.npy has 4: 3×4×4×2"),
        (np.full((4, 4), np.nan), "contains NaN or infinity"),
        (np.array([[1.0, -1.0], [-1.0, 1.0]]), "sums to 0: it is not a blur kernel"),
        (np.ones((0, 4)), "1 to 1001 px a side"),
        (np.ones((1002, 2)), "check that it is not an image"),
        (np.ones((2, 2), complex), "must contain numbers, it contains complex"),
        (np.array([["a", "b"], ["c", "d"]]), "must contain numbers"),
    ],
)
def test_an_array_that_is_no_kernel_is_refused(tmp_path, array, words):
    with pytest.raises(KernelError, match=words):
        read_kernel(write(tmp_path, "k.npy", npy(array)), scale=2)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(KernelError, match="is missing; give a kernel file"):
        read_kernel(tmp_path / "none.npz", scale=2)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "k.npz").mkdir()
    with pytest.raises(KernelError, match="is a folder; give a kernel file"):
        read_kernel(tmp_path / "k.npz", scale=2)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(
        KernelError,
        match=r"must be one of \.npz, \.npy, \.mat, \.txt, \.csv, or an image of a PSF: .*, \.bmp; got k\.doc",
    ):
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
    with pytest.raises(KernelError, match="named kernel or Kernel or ker or kernels, it contains other, psf"):
        read_kernel(write(tmp_path, f"k{suffix}", content), scale=2)
    with pytest.raises(KernelError, match="named blur, it contains other, psf"):
        read_kernel(tmp_path / f"k{suffix}", scale=2, key="blur")


def test_a_key_for_a_npy_file_is_refused(tmp_path):
    with pytest.raises(KernelError, match="has no name; leave key out"):
        read_kernel(write(tmp_path, "k.npy", npy(KERNEL.array)), scale=2, key="Kernel")


def test_a_cell_array_of_several_kernels_is_refused(tmp_path):
    cells = np.empty((1, 3), dtype=object)
    for i in range(3):
        cells[0, i] = np.ones((3, 3)) / 9
    with pytest.raises(KernelError, match="contains 3 kernels; choose one with index="):
        read_kernel(write(tmp_path, "k.mat", mat(kernels=cells)), scale=2)


@pytest.mark.parametrize("scale", [np.array([2, 3]), np.float64(2.5), np.str_("2"), np.int64(0), np.float64(np.nan)])
def test_a_scale_that_is_no_whole_number_is_refused(tmp_path, scale):
    with pytest.raises(KernelError, match=r"the scale in k\.npz must be one whole number"):
        read_kernel(write(tmp_path, "k.npz", npz(kernel=KERNEL.array, scale=scale)), scale=2)


@pytest.mark.parametrize("provenance", ['[{"kernel_error": 0.1}, 3]', '[{"kernel_error": 0.1}]', "{}"])
def test_a_map_whose_provenance_is_no_list_of_mappings_is_refused(tmp_path, provenance):
    path = tmp_path / "map.npz"
    np.savez(path, kernel_map=np.stack([[KERNEL.array, KERNEL.array]]), scale=2, provenance=provenance)
    with pytest.raises(KernelError, match=r"map\.npz must be a list with a mapping for each of its 2 kernels"):
        load_kernel(path, 2)


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
    kernel, warnings = read_kernel(write(tmp_path, "k.npz", kernel_bytes(Kernel(weights, 2), ".npz")), scale=2)
    assert kernel.centroid.tolist() == [-2.5, 2.5]
    assert warnings == ()


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
def test_auto_detects_the_convention_and_marks_it_as_a_guess(tmp_path, rng, key, convention, centre):
    array = blob(rng, 11, centre)
    path = tmp_path / "k.mat"
    path.write_bytes(mat_v5(**{key: array}))
    kernel, warnings = read_kernel(path, scale=2)
    assert kernel.provenance["convention"] == convention
    assert kernel.provenance["convention_guessed"] is True
    assert any("was read in the convention of" in warning and repr(key) in warning for warning in warnings)
    assert_same(rng.random((80, 84)), kernel, array, convention)
    named, _ = read_kernel(path, scale=2, convention=convention)
    assert "convention_guessed" not in named.provenance
    assert named.digest == kernel.digest


@pytest.mark.parametrize("size", [13, 15])
@pytest.mark.parametrize(("container", "key"), [("npy", None), ("mat", "Kernel"), ("mat", "h"), ("txt", None)])
def test_an_odd_kernel_that_is_centred_on_its_middle_tap_moves_nothing(tmp_path, container, key, size):
    index = np.arange(size) - size // 2
    array = np.exp(-(index[:, None] ** 2 + index[None, :] ** 2) / (2 * 1.8**2))
    path = tmp_path / f"k.{container}"
    if container == "npy":
        np.save(path, array / array.sum())
    elif container == "mat":
        path.write_bytes(mat_v5(**{key: array / array.sum()}))
    else:
        np.savetxt(path, array / array.sum())
    for scale, shift_ in ((2, 0.5), (4, 1.5)):
        kernel, warnings = load_kernel(path, scale, key=key)
        np.testing.assert_allclose(kernel.centroid, 0, atol=1e-3)
        assert kernel.covariance[0, 0] == pytest.approx(1.8**2, rel=0.02)
        assert "convention_guessed" not in kernel.provenance
        told = [text for text in warnings if "convention" in text or "moved" in text]
        assert len(told) == 1
        assert f"moved by (+{shift_:.2f}, +{shift_:.2f}) HR pixels (y, x)" in told[0]
        assert "name the convention mzsr (convention=, --kernel-convention)" in told[0]
        kept = load_kernel(path, scale, key=key, convention="mzsr")[0]
        np.testing.assert_allclose(kept.centroid, -shift_, atol=1e-3)


def test_a_kernel_with_the_key_and_the_centre_of_mzsr_is_kept_with_advice(tmp_path, rng):
    path = tmp_path / "k.mat"
    path.write_bytes(mat_v5(kernel=blob(rng, 11, 5.0)))
    kernel, warnings = load_kernel(path, 2)
    np.testing.assert_allclose(kernel.centroid, -0.5, atol=0.2)
    assert "move it there (recentre=True, --recenter) or name the right convention" in " ".join(warnings)


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
    with pytest.raises(
        KernelError,
        match=r"contains 3 kernels; choose one with index= in Python or --kernel-index .*, 0 to 2",
    ):
        read_kernel(path, scale=2)
    for i, array in enumerate(arrays):
        kernel, _ = read_kernel(path, scale=2, index=i)
        assert_same(rng.random((80, 84)), kernel, array, "kair")
    with pytest.raises(KernelError, match="contains 3 kernels, index 3 was requested"):
        read_kernel(path, scale=2, index=3)
    assert len(load_kernel(path, 2, index="all")[0].kernels) == 3


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
    kernel, warnings = read_kernel(tmp_path / "k.txt", scale=3)
    np.testing.assert_allclose(kernel.array, np.outer([1, 2, 1], [1, 2, 1]) / 16)
    assert any("sums to 16 and was normalised" in warning for warning in warnings)


def test_decimal_commas_are_read_with_a_warning(tmp_path):
    (tmp_path / "k.csv").write_text("0,25;0,25\n0,25;0,25", encoding="utf-8")
    kernel, warnings = read_kernel(tmp_path / "k.csv", scale=2)
    assert kernel.array.tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert "the commas in k.csv were read as decimal points." in warnings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n1", "rows of one length, it has rows of 1, 2"),
        ("", "must contain rows of numbers, it has none"),
        ("a b\nc d", "must contain only numbers, it has 'a'; begin comments with #"),
        ("1 2\n3 " + "4x" * 900, "must contain only numbers, it has '" + 20 * "4x" + "'; begin"),
    ],
)
def test_a_text_that_is_no_table_is_refused(tmp_path, text, words):
    (tmp_path / "k.txt").write_text(text, encoding="utf-8")
    with pytest.raises(KernelError, match=words):
        read_kernel(tmp_path / "k.txt", scale=2)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat", ".txt", ".csv"])
def test_every_format_is_read_back_as_the_same_kernel(tmp_path, suffix):
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
    (tmp_path / "k.npz").write_bytes(kernel_bytes(KernelStack(kernels, ("B4", "B3")), ".npz"))
    again, warnings = load_kernel(tmp_path / "k.npz", 2)
    assert again.names == ("B4", "B3")
    assert warnings == ()
    assert stated_scale(tmp_path / "k.npz") == 2
    for kernel, read in zip(kernels, again.kernels, strict=True):
        np.testing.assert_allclose(read.covariance, kernel.covariance, atol=1e-12)


def _seed(suffix):
    if suffix == ".mat":
        buffer = io.BytesIO()
        savemat(buffer, {"kernels": np.ones((5, 5, 2))}, do_compression=True)
        return buffer.getvalue()
    return kernel_bytes(KERNEL, suffix)


SEEDS = {suffix: _seed(suffix) for suffix in (".npz", ".npy", ".mat", ".txt", ".csv")}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from(sorted(SEEDS)))
def test_a_broken_kernel_file_is_read_or_refused_in_one_line(tmp_path, data, suffix):
    content = bytearray(SEEDS[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        change = data.draw(st.sampled_from(["byte", "cut", "insert", "end"]))
        if change == "byte" and content:
            content[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif change == "insert":
            content[at:at] = data.draw(st.binary(max_size=12))
        else:
            del content[at:]
    path = tmp_path / f"k{suffix}"
    path.write_bytes(content)
    try:
        stack, warnings = load_kernel(path, 2, index="all")
    except BlindSRError as error:
        message = str(error)
    else:
        message = ""
        assert all(abs(kernel.array.sum() - 1) < 1e-6 for kernel in stack.kernels)
        assert warnings or suffix == ".npz"
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickles_are_never_executed(tmp_path, suffix):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trap"), "w"))

    path = tmp_path / f"k{suffix}"
    array = np.array([[Trap()]], dtype=object)
    if suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, kernel=array)
    with pytest.raises(BlindSRError):
        load_kernel(path, 2, index="all")
    assert not (tmp_path / "trap").exists()


def point(size=21, sigma=1.2, centre=0.0):
    c = np.arange(size) - (size - 1) / 2 - centre
    return np.exp(-(c[:, None] ** 2 + c[None, :] ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("size", [20, 21])
def test_an_image_of_a_psf_is_rotated_and_normalised(tmp_path, size):
    tifffile.imwrite(tmp_path / "psf.tif", (0.1 + 0.8 * point(size)).astype(np.float32))
    kernel, warnings = load_kernel(tmp_path / "psf.tif", 2)
    assert kernel.sigmas[0] == pytest.approx(1.2, rel=0.02)
    np.testing.assert_allclose(kernel.centroid, 0, atol=1e-3)
    assert any("background" in warning for warning in warnings)
    assert any("rotated by 180°" in warning and "normalised" in warning for warning in warnings)


def test_an_image_of_eight_bits_is_read_with_a_warning(tmp_path):
    Image.fromarray(np.round(255 * point()).astype(np.uint8)).save(tmp_path / "psf.png")
    kernel, warnings = load_kernel(tmp_path / "psf.png", 3)
    assert kernel.sigmas[0] == pytest.approx(1.2, rel=0.03)
    assert any("has 8 bits" in warning for warning in warnings)


def test_an_image_can_be_an_array_in_a_convention(tmp_path):
    tifffile.imwrite(tmp_path / "k.tif", point(11, centre=0.5).astype(np.float32))
    kernel, warnings = load_kernel(tmp_path / "k.tif", 2, convention="kernelgan")
    np.testing.assert_allclose(kernel.centroid, 0, atol=0.01)
    assert "the kernel was read in the convention 'kernelgan', as requested." in warnings


def test_importing_recentres_only_on_request(tmp_path):
    moved = shift(gaussian(1.4, 2, size=18), (1.5, -0.5))
    (tmp_path / "k.npz").write_bytes(kernel_bytes(moved, ".npz"))
    kept, _ = load_kernel(tmp_path / "k.npz", 2)
    assert kept.digest == moved.digest
    centred, warnings = load_kernel(tmp_path / "k.npz", 2, recentre=True)
    np.testing.assert_allclose(centred.centroid, 0, atol=1e-3)
    assert "the kernel was moved by (-1.50, +0.50) HR pixels (y, x) to centre it." in warnings


def test_a_file_with_bands_gives_a_kernel_for_each(tmp_path):
    (tmp_path / "k.npz").write_bytes(
        kernel_bytes(KernelStack([gaussian(1.0, 2), gaussian(2.0, 2)], ["B4", "B3"]), ".npz")
    )
    assert load_kernel(tmp_path / "k.npz", 2)[0].names == ("B4", "B3")
    one = load_kernel(tmp_path / "k.npz", 2, index=1)[0]
    assert one.sigmas[0] == pytest.approx(np.sqrt(2), rel=0.01)
    np.save(tmp_path / "k.npy", np.ones((3, 4, 4)))
    assert load_kernel(tmp_path / "k.npy", 2, index="all")[0].names == ("0", "1", "2")


def test_a_very_low_or_high_mtf_gives_a_warning(tmp_path):
    for variance, words in (
        (9.0, "hardly anything aliases"),
        (0.15, "more than that of bicubic"),
        (1.0, ""),
    ):
        (tmp_path / f"{variance}.npz").write_bytes(kernel_bytes(gaussian(variance, 2), ".npz"))
        warnings = load_kernel(tmp_path / f"{variance}.npz", 2)[1]
        assert [words in warning for warning in warnings] == [True] * bool(words)


def test_a_file_that_is_not_a_psf_is_refused(tmp_path):
    with pytest.raises(KernelError, match=r"none\.png is missing; give an image of the PSF"):
        load_kernel(tmp_path / "none.png", 2)
    with pytest.raises(KernelError, match=r"must be one of .*\.bmp; got k\.jpg"):
        load_kernel(write(tmp_path, "k.jpg", b"no picture"), 2)


def test_an_image_that_is_not_a_psf_is_refused(tmp_path):
    (tmp_path / "k.png").write_bytes(b"no picture")
    with pytest.raises(KernelError, match="cannot be read as an image of a PSF"):
        load_kernel(tmp_path / "k.png", 2)
    Image.new("L", (1002, 8)).save(tmp_path / "wide.png")
    with pytest.raises(KernelError, match="name a kernel, or crop the image around the point"):
        load_kernel(tmp_path / "wide.png", 2)


@pytest.mark.parametrize(
    "value",
    [
        KERNEL.array,
        KERNEL.array.tolist(),
        KERNEL.array.astype(">f8"),
        np.ma.masked_array(KERNEL.array),
        torch.from_numpy(KERNEL.array.copy())[None, None],
        torch.nn.Parameter(torch.from_numpy(KERNEL.array.copy())),
        KERNEL,
        KernelEstimate(kernel=KERNEL, method="m"),
    ],
    ids=["array", "list", "big-endian", "masked", "torch (1, 1, K, K)", "torch parameter", "kernel", "estimate"],
)
def test_a_kernel_is_made_of_any_value(value):
    kernel = as_kernel(value, 2)
    np.testing.assert_allclose(kernel.array, KERNEL.array, atol=1e-15)


def test_an_array_in_memory_names_no_file_as_its_origin():
    kernel, warnings = load_kernel(2 * KERNEL.array, 2, convention="blindsr")
    assert dict(kernel.provenance) == {"made_by": "array", "convention": "blindsr"}
    assert warnings[0] == "the kernel sums to 2 and was normalised to 1."
    assert load_kernel(KERNEL.array, 2)[0].provenance["convention_guessed"] is True


@pytest.mark.parametrize("address", ["https://a.org/k.npz", "http://a.org/k", "s3://bucket/k.npy"])
def test_an_address_is_no_kernel_and_keeps_its_slashes(address):
    with pytest.raises(KernelError, match=f"^{address} is an address, and nothing is fetched over a network"):
        as_kernel(address, 2)


def test_a_kernel_is_made_of_a_text_a_path_and_a_sensor(tmp_path):
    (tmp_path / "k.npz").write_bytes(kernel_bytes(KERNEL, ".npz"))
    assert as_kernel(tmp_path / "k.npz", 2).digest == as_kernel(str(tmp_path / "k.npz"), 2).digest == KERNEL.digest
    assert as_kernel("gaussian:1.2", 3).digest == gaussian(1.44, 3).digest
    one, stack = as_kernel("sensor:sentinel2:B4", 2), as_kernel("sensor:sentinel2:B4,B3", 2)
    assert isinstance(stack, KernelStack)
    assert stack.names == ("B4", "B3")
    assert stack.kernels[0].digest == one.digest


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box").write_text("1 1\n1 1")
    with pytest.raises(KernelError, match="a kernel file must be one of"):
        as_kernel("box", 2)


def test_a_3d_array_is_a_kernel_for_each_band():
    stack, warnings = load_kernel(np.stack([KERNEL.array, KERNEL.array[::-1]]), 2)
    assert stack.names == ("0", "1")
    assert len(warnings) == 1
    assert load_kernel(KERNEL.array, 2, index="all")[0].names == ("0",)
    assert load_kernel(np.stack([KERNEL.array, KERNEL.array[::-1]]), 2, index=1)[0].digest == stack.kernels[1].digest
    weights = torch.from_numpy(KERNEL.array.copy()).expand(3, 1, -1, -1)
    assert len(as_kernel(weights, 2).kernels) == 3


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_leading_axes_of_length_one_are_dropped(tmp_path, suffix):
    content = {".npy": npy, ".npz": lambda a: npz(kernel=a), ".mat": lambda a: mat(kernel=a)}[suffix]
    path = write(tmp_path, f"k{suffix}", content(KERNEL.array[None, None]))
    np.testing.assert_allclose(read_kernel(path, scale=2, convention="blindsr")[0].array, KERNEL.array, atol=1e-15)


def test_all_kernels_of_a_stack_are_centred_on_request():
    moved = shift(gaussian(1.4, 2, size=18), (1.5, -0.5))
    stack, warnings = load_kernel(KernelStack([moved, gaussian(1.4, 2)], ("R", "G")), 2, recentre=True)
    assert np.abs([kernel.centroid for kernel in stack.kernels]).max() < 1e-3
    assert warnings == ("the kernel was moved by (-1.50, +0.50) HR pixels (y, x) to centre it.",)


@pytest.mark.parametrize(
    ("value", "options", "words"),
    [
        (KERNEL, {"scale": 3}, "is for scale 2, but scale 3 was requested; use scale 2, or convert it"),
        ("nothing.npz", {}, "nothing.npz is missing; give a kernel file"),
        (
            "gausian:1",
            {},
            r"no file 'gausian:1' \(did you mean 'gaussian'\?\); give a kernel file \(\.npz.*\.bmp\) or .*sensor:NAME",
        ),
        ("gaussian:1", {"key": "k"}, "apply to kernel files, not to 'gaussian:1'; leave them out"),
        ("sensor:sentinel2:B4", {"index": 0}, "apply to kernel files, not to 'sensor:sentinel2:B4'"),
        (None, {}, "must be a Kernel, an array, a path or text .*, got NoneType"),
        ({"kernel": 1}, {}, "got dict"),
        ([[1, 2], [3]], {}, "rows of equal length"),
        (np.ones((2, 2, 2, 2)), {}, "must have 2 dimensions, or 3 with one kernel for each band"),
        (np.ones((2000, 2000)), {}, "check that it is not an image"),
        (np.ones((2, 2, 2)), {"index": "some"}, "a whole number from 0, or 'all', got 'some'"),
    ],
)
def test_a_value_that_describes_no_kernel_is_refused(value, options, words):
    with pytest.raises(KernelError, match=words):
        load_kernel(value, **{"scale": 2, **options})


def test_an_unknown_sensor_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="must be one of fullframe, phone, sentinel2, widefield"):
        as_kernel("sensor:landsat", 2)


def test_a_stack_is_written_as_npz_only():
    with pytest.raises(KernelError, match=r"must be one of \.npz, got '\.mat'"):
        kernel_bytes(KernelStack([KERNEL], ["R"]), ".mat")


def test_an_array_with_the_name_of_an_archive_is_refused(tmp_path):
    path = write(tmp_path, "k.npz", npy(KERNEL.array))
    for read in (load_kernel, lambda path, scale: read_kernel(path, scale=scale), lambda path, _: stated_scale(path)):
        with pytest.raises(KernelError, match=r"k\.npz is not a \.npz archive; if it is a \.npy array, rename it"):
            read(path, 2)
