import os
from pathlib import Path, PurePath

import pytest

from blindsr.errors import ImageError
from blindsr.image_io.probe import picture_size
from blindsr.pipelines.batch.inputs import find_photos


@pytest.fixture
def tree(tmp_path):
    for name in ("a.png", "b.JPG", "notes.txt", ".hidden.png", "sub/c.tif", "sub/deep/d.png", ".git/e.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def _names(inputs):
    return [(str(found.folder), found.path.name) for found in inputs.photos]


def test_a_folder_gives_the_pictures_directly_in_it(tree):
    found = find_photos([tree])
    assert _names(found) == [(".", "a.png"), (".", "b.JPG")]
    assert found.passed_over == 1


def test_recursive_goes_into_folders_and_keeps_their_places(tree):
    assert _names(find_photos([tree], recursive=True)) == [
        (".", "a.png"),
        (".", "b.JPG"),
        ("sub", "c.tif"),
        (str(PurePath("sub/deep")), "d.png"),
    ]


def test_the_place_of_the_results_is_not_looked_into(tree):
    assert ("sub", "c.tif") not in _names(find_photos([tree], recursive=True, avoid=tree / "sub"))


def test_links_in_a_circle_end(tree):
    (tree / "sub" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "self").symlink_to(tree / "self")
    names = _names(find_photos([tree], recursive=True))
    assert sorted(name for _, name in names) == ["a.png", "b.JPG", "c.tif", "d.png"]


def test_a_link_to_another_folder_is_followed(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "z.png").touch()
    (tree / "link").symlink_to(other, target_is_directory=True)
    assert ("link", "z.png") in _names(find_photos([tree], recursive=True))


def test_a_glob_is_expanded_and_keeps_the_tree_below_it(tree):
    assert _names(find_photos([tree / "*.png"])) == [(".", "a.png")]
    assert _names(find_photos([tree / "**" / "*.png"])) == [(".", "a.png"), (str(PurePath("sub/deep")), "d.png")]
    with pytest.raises(ImageError, match="no picture fits"):
        find_photos([tree / "*.webp"])


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tree):
    (tree / "x[1].png").touch()
    assert _names(find_photos([tree / "x[1].png"])) == [(".", "x[1].png")]


def test_a_photograph_that_is_named_twice_is_one(tree):
    assert len(find_photos([tree / "a.png", tree, tree / "sub" / ".." / "a.png"]).photos) == 2


def test_a_missing_file_is_left_to_the_run(tree):
    assert _names(find_photos([tree / "a.png", tree / "gone.png"])) == [(".", "a.png"), (".", "gone.png")]


@pytest.mark.parametrize("name", ["a b.png", 'it\'s "q".png', "new\nline.png", "Köln 日本.png", "-x.png", "$(rm).png"])
def test_odd_names_are_names(tmp_path, name):
    (tmp_path / name).touch()
    assert [found.path.name for found in find_photos([tmp_path]).photos] == [name]


def test_a_name_that_is_no_text_is_a_name(tmp_path):
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))).touch()
    except OSError:
        pytest.skip("this file system takes text alone")
    assert len(find_photos([tmp_path]).photos) == 1


def _as_result(path):
    for suffix in (".png", ".json", ".kernel.npz", ".kernel.png"):
        path.with_name(path.name + suffix).touch()


def test_what_blindsr_made_is_left_out_but_not_if_it_is_named_alone(tree):
    _as_result(tree / "a_blindsr_x2")
    result = tree / "a_blindsr_x2.png"
    assert _names(find_photos([tree])) == [(".", "a.png"), (".", "b.JPG")]
    assert find_photos([tree]).results == 1
    assert _names(find_photos([tree / "a.png", result, tree / "a_blindsr_x2.kernel.png"])) == [(".", "a.png")]
    assert _names(find_photos([tree / "*.png"])) == [(".", "a.png")]
    assert _names(find_photos([result])) == [(".", result.name)]


def test_nothing_at_all_says_what_to_do(tmp_path):
    with pytest.raises(ImageError, match="name files, or folders"):
        find_photos([tmp_path])
    (tmp_path / "sub").mkdir()
    with pytest.raises(ImageError, match="--recursive"):
        find_photos([tmp_path])
    _as_result(tmp_path / "b")
    with pytest.raises(ImageError, match="1 pictures"):
        find_photos([tmp_path], recursive=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_a_problem_and_nobody_waits_for_it(tree):
    os.mkfifo(tree / "pipe.png")
    for arguments in ([tree], [tree / "pipe.png", tree / "a.png", tree / "b.JPG"]):
        found = find_photos(arguments)
        assert _names(found) == [(".", "a.png"), (".", "b.JPG")]
        assert [(path.name, "a device or a pipe" in why) for path, why in found.problems] == [("pipe.png", True)]
    assert picture_size(tree / "pipe.png") is None


def test_a_folder_that_cannot_be_looked_into_is_a_problem_and_the_rest_goes_on(tree, monkeypatch):
    iterdir = Path.iterdir

    def refuse(self):
        if self.name == "sub":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = find_photos([tree], recursive=True)
    assert _names(found) == [(".", "a.png"), (".", "b.JPG")]
    assert [(path.name, "Permission denied" in why) for path, why in found.problems] == [("sub", True)]
