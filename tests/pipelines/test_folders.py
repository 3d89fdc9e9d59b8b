from pathlib import Path

import pytest

from blindsr.errors import ImageError
from blindsr.pipelines.folders import images_in, kernels_in, matched, stems


def test_a_folder_gives_its_pictures_in_order_without_kernel_pictures(tmp_path):
    for name in ("b.png", "a.JPG", "b.kernel.png", "notes.txt", "c.npz"):
        (tmp_path / name).touch()
    assert [p.name for p in images_in([tmp_path])] == ["a.JPG", "b.png"]
    assert [p.name for p in kernels_in(tmp_path)] == ["c.npz"]


def test_a_missing_path_and_a_folder_without_pictures_are_refused(tmp_path):
    with pytest.raises(ImageError, match="is missing"):
        images_in([tmp_path / "none"])
    with pytest.raises(ImageError, match="no picture"):
        images_in([tmp_path])


def test_a_result_belongs_to_the_longest_name_that_it_begins_with():
    truths = stems([Path("a.png"), Path("a_b.png"), Path("a1.png")])
    results = [Path(n) for n in ("a_x2.png", "a_b_x2.png", "a_b.png", "a12.png", "a1-sr.png", "z.png")]
    assert {name: path.name for name, path in matched(truths, results).items()} == {
        "a": "a_x2.png",
        "a_b": "a_b.png",
        "a1": "a1-sr.png",
    }
