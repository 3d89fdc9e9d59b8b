"""The files of a run: their names, and the staging folder."""

import pytest

from blindsr.errors import OutputError
from blindsr.pipelines.outputs import image_outputs, kernel_outputs, leftovers, staged


@pytest.mark.parametrize(("scale", "name"), [(2.0, "x2"), (2.5, "x2.5"), (4.0, "x4"), (1.3333, "x1.3333")])
def test_names_have_the_scale(tmp_path, scale, name):
    photo = tmp_path / "my.photo.jpg"
    outputs = image_outputs(photo, scale, ".png")
    assert outputs.image == tmp_path / f"my.photo_blindsr_{name}.png"
    assert outputs.kernel == tmp_path / f"my.photo_blindsr_{name}.kernel.npz"
    assert kernel_outputs(photo, scale).kernel == outputs.kernel


def test_a_kernel_file_needs_a_known_suffix(tmp_path):
    with pytest.raises(OutputError, match=r"must end in \.npz, \.npy, \.mat, got k\.txt"):
        kernel_outputs(tmp_path / "a.png", 2, tmp_path / "k.txt")


def test_the_result_is_renamed_last(tmp_path):
    outputs = image_outputs(tmp_path / "a.png", 2, ".png")
    assert outputs.all()[-1] == outputs.image
    assert kernel_outputs(tmp_path / "a.png", 2).all()[-1] == tmp_path / "a_blindsr_x2.kernel.npz"


def test_a_staging_folder_is_removed_after_any_end(tmp_path):
    outputs = image_outputs(tmp_path / "a.png", 2, ".png")

    def interrupted():
        with staged(outputs, "run") as staging:
            staging.path(outputs.image).write_bytes(b"half")
            assert len(leftovers(outputs, "run")) == 1
            assert leftovers(outputs, "other run") == ()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_release_that_fails_removes_the_new_files(tmp_path, monkeypatch):
    outputs = image_outputs(tmp_path / "a.png", 2, ".png")
    outputs.image.write_bytes(b"older")
    with staged(outputs) as staging:
        for path in outputs.all():
            staging.path(path).write_bytes(b"new")
        outputs.kernel.mkdir()  # a folder in the place of a file: its rename fails
        with pytest.raises(OutputError):
            staging.release(outputs, overwrite=True)
    assert outputs.image.read_bytes() == b"older"
    assert not outputs.record.exists()
