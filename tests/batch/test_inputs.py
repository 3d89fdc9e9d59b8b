import os
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindsr.batch.inputs import InputFile, Inputs, Naming, find_inputs
from blindsr.errors import ConfigError, ImageError, OutputError
from blindsr.image_io import image_size


@pytest.fixture
def tree(tmp_path):
    for name in ("a.png", "b.JPG", "notes.txt", ".hidden.png", "sub/c.tif", "sub/deep/d.png", ".git/e.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def _names(inputs):
    return [(str(found.folder), found.path.name) for found in inputs.files]


def test_a_folder_stands_for_the_images_directly_in_it(tree):
    assert _names(find_inputs([tree])) == [(".", "a.png"), (".", "b.JPG")]


def test_recursive_descends_into_folders_and_keeps_the_tree(tree):
    assert _names(find_inputs([tree], recursive=True)) == [
        (".", "a.png"),
        (".", "b.JPG"),
        ("sub", "c.tif"),
        (str(PurePath("sub/deep")), "d.png"),
    ]


def test_the_output_folder_is_not_searched(tree):
    assert ("sub", "c.tif") not in _names(find_inputs([tree], recursive=True, exclude=tree / "sub"))


def test_links_in_a_circle_end(tree):
    (tree / "sub" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "self").symlink_to(tree / "self")
    names = _names(find_inputs([tree], recursive=True))
    assert sorted(name for _, name in names) == ["a.png", "b.JPG", "c.tif", "d.png"]


def test_a_link_to_another_folder_is_followed(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "z.png").touch()
    (tree / "link").symlink_to(other, target_is_directory=True)
    assert ("link", "z.png") in _names(find_inputs([tree], recursive=True))


def test_a_glob_is_expanded_and_keeps_the_tree_below_it(tree):
    assert _names(find_inputs([tree / "*.png"])) == [(".", "a.png")]
    assert _names(find_inputs([tree / "**" / "*.png"])) == [(".", "a.png"), (str(PurePath("sub/deep")), "d.png")]
    with pytest.raises(ImageError, match="no image matches"):
        find_inputs([tree / "*.webp"])


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tree):
    (tree / "x[1].png").touch()
    assert _names(find_inputs([tree / "x[1].png"])) == [(".", "x[1].png")]


def test_an_image_that_is_named_twice_is_taken_once(tree):
    assert len(find_inputs([tree / "a.png", tree, tree / "sub" / ".." / "a.png"]).files) == 2


def test_images_of_kinds_that_are_not_read_are_counted(tree, tmp_path_factory):
    assert find_inputs([tree]).unread == ""
    for name in ("b.jxl", "c.JXL", "d.exr", "notes.txt", "a.json", "scene.hdr"):
        (tree / name).touch()
    expected = "3 files of kinds that are not read: .exr (1), .jxl (2); convert them to PNG or TIFF"
    assert find_inputs([tree]).unread == expected
    alone = tmp_path_factory.mktemp("alone")
    (alone / "b.jxl").touch()
    with pytest.raises(ImageError, match=r"1 file of a kind that is not read: .jxl \(1\); convert it to PNG or TIFF."):
        find_inputs([alone])


def test_a_missing_file_is_left_to_the_run(tree):
    assert _names(find_inputs([tree / "a.png", tree / "gone.png"])) == [(".", "a.png"), (".", "gone.png")]


@pytest.mark.parametrize("name", ["a b.png", 'it\'s "q".png', "new\nline.png", "Köln 日本.png", "-x.png", "$(rm).png"])
def test_odd_names_are_names(tmp_path, name):
    (tmp_path / name).touch()
    assert [found.path.name for found in find_inputs([tmp_path]).files] == [name]


def test_a_name_that_is_no_valid_utf8_is_a_name(tmp_path):
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))).touch()
    except OSError:
        pytest.skip("this file system takes text alone")
    assert len(find_inputs([tmp_path]).files) == 1


def _as_result(path):
    for suffix in (".png", ".json", ".kernel.npz", ".kernel.png"):
        path.with_name(path.name + suffix).touch()


def test_results_are_left_out_unless_one_is_the_only_argument(tree):
    _as_result(tree / "a_blindsr_x2")
    result = tree / "a_blindsr_x2.png"
    assert _names(find_inputs([tree])) == [(".", "a.png"), (".", "b.JPG")]
    assert _names(find_inputs([tree / "a.png", result, tree / "a_blindsr_x2.kernel.png"])) == [(".", "a.png")]
    assert _names(find_inputs([tree / "*.png"])) == [(".", "a.png")]
    assert _names(find_inputs([result])) == [(".", result.name)]


def test_without_any_image_the_error_says_what_to_do(tmp_path):
    with pytest.raises(ImageError, match="name image files, or folders"):
        find_inputs([tmp_path])
    (tmp_path / "sub").mkdir()
    with pytest.raises(ImageError, match="--recursive"):
        find_inputs([tmp_path])
    _as_result(tmp_path / "b")
    with pytest.raises(ImageError, match="the image written by blindsr is left out"):
        find_inputs([tmp_path], recursive=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_reported_and_never_opened(tree):
    os.mkfifo(tree / "pipe.png")
    for arguments in ([tree], [tree / "pipe.png", tree / "a.png", tree / "b.JPG"]):
        found = find_inputs(arguments)
        assert _names(found) == [(".", "a.png"), (".", "b.JPG")]
        assert [(path.name, "a device or a pipe" in why) for path, why in found.problems] == [("pipe.png", True)]
    assert image_size(tree / "pipe.png") is None


def test_a_folder_that_cannot_be_listed_is_reported_and_the_rest_is_found(tree, monkeypatch):
    iterdir = Path.iterdir

    def refuse(self):
        if self.name == "sub":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = find_inputs([tree], recursive=True)
    assert _names(found) == [(".", "a.png"), (".", "b.JPG")]
    assert [(path.name, "Permission denied" in why) for path, why in found.problems] == [("sub", True)]


def test_a_name_at_the_limit_of_the_file_system_is_found(tmp_path):
    name = 251 * "x" + ".png"
    (tmp_path / name).touch()
    assert [file.path.name for file in find_inputs([tmp_path]).files] == [name]
    too_long = tmp_path / (300 * "x" + ".png")
    assert [file.path for file in find_inputs([too_long]).files] == [too_long], "the run reports it"


def test_the_common_folder_contains_all_images(tmp_path):
    inputs = Inputs((InputFile(tmp_path / "a" / "x.png"), InputFile(tmp_path / "b" / "c" / "y.png")))
    assert inputs.common_folder() == tmp_path
    assert Inputs(()).common_folder() == Path.cwd()


IMAGE = InputFile(Path("/photos/trip/a.b.jpg"), PurePath("trip"))


def test_without_an_output_folder_the_result_is_beside_the_image():
    assert Naming().target(IMAGE) == Path("/photos/trip/a.b_blindsr_x2")


def test_the_tree_is_mirrored_under_the_output_folder():
    assert Naming(output=Path("/out"), label="x2.5").target(IMAGE) == Path("/out/trip/a.b_blindsr_x2.5")


def test_every_field_of_a_template():
    naming = Naming(template="{folder}-{stem}-{suffix}-{label}-{scale}-{preset}.tif", label="x2x3", preset="best")
    assert naming.target(IMAGE).name == "trip-a.b-jpg-x2x3-2x3-best.tif"
    assert naming.has_suffix


def test_a_format_is_the_suffix_of_every_name():
    naming = Naming(suffix=".png")
    assert naming.target(IMAGE).name == "a.b_blindsr_x2.png"
    assert Naming(template="{stem}_big.png", suffix=".png").target(IMAGE).name == "a.b_big.png"


def test_a_requested_page_is_part_of_every_name():
    assert Naming(page="_page2").target(IMAGE).name == "a.b_page2_blindsr_x2"
    assert _targets("a.tif", "a.gif", page="_page2") == ["o/a_tif_page2_blindsr_x2", "o/a_gif_page2_blindsr_x2"]


@pytest.mark.parametrize(
    "template", ["{stem", "{stem.__class__}", "{stem!r}", "{stem:>9999}", "{stem}{nothing}", "{0}{stem}", "{stem[0]}"]
)
def test_a_template_that_cannot_be_filled_is_refused_before_any_work(template):
    with pytest.raises(ConfigError, match="the name template"):
        Naming(template=template)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("larger.png", "lacks {stem}"),
        ("../{stem}", "without a folder"),
        ("{stem}.bmp", "ends with .bmp, which is not written"),
    ],
)
def test_a_template_that_gives_one_name_or_a_folder_is_refused(template, words):
    with pytest.raises(ConfigError, match=words):
        Naming(template=template)


@given(template=st.text(alphabet="{}stemscalef./\\x ü", max_size=20))
def test_no_template_leads_out_of_the_folder(template):
    try:
        naming = Naming(output=Path("/out"), template=template)
    except ConfigError:
        return
    assert naming.target(IMAGE).parent == Path("/out/trip")


def _targets(*paths, **naming):
    files = [InputFile(Path(path), PurePath(path).parent) for path in paths]
    return [str(target) for target in Naming(output=Path("o"), **naming).targets(files)]


def test_images_that_differ_in_their_suffix_alone_get_it_into_the_names_of_their_results():
    assert _targets("a.jpg", "a.png", "b.png") == ["o/a_jpg_blindsr_x2", "o/a_png_blindsr_x2", "o/b_blindsr_x2"]
    # The images of the results would differ in the suffix, their records would not.
    assert _targets("a.CR2", "a.JPG", template="{stem}.{suffix}.png") == ["o/a.CR2.png", "o/a.JPG.png"]
    assert _targets("a.jpg", "a", suffix=".png") == ["o/a_jpg_blindsr_x2.png", "o/a_blindsr_x2.png"]
    assert _targets("d/a.jpg", "a.png") == ["o/d/a_blindsr_x2", "o/a_blindsr_x2"]


def test_two_images_with_one_result_or_one_record_are_refused():
    files = [InputFile(Path("x/a.png")), InputFile(Path("y/a.png"))]
    with pytest.raises(OutputError, match=r"x/a.png and y/a.png → a_png_blindsr_x2.*Nothing was done.*--recursive"):
        Naming(output=Path()).targets(files)
    with pytest.raises(OutputError, match="one result"):  # the last one gets the name that another has already
        _targets("a.jpg", "a.png", "a_png.tif")
    with pytest.raises(OutputError, match="and 2 more"):
        Naming(output=Path()).targets([InputFile(Path(str(i)) / "a.png") for i in range(6)])


@pytest.fixture
def product(tmp_path):
    """The folders of a Sentinel-2 product of level 2A, without the samples."""
    images = tmp_path / "S2A_MSIL2A_20240512T105621_T31TCJ.SAFE/GRANULE/L2A_T31TCJ_A0/IMG_DATA"
    for resolution, bands in (
        (10, ("AOT", "B02", "B03", "B04", "B08", "TCI", "WVP")),
        (20, ("B02", "B03", "B04", "B05", "B8A", "SCL")),
        (60, ("B01", "B04", "B09")),
    ):
        (images / f"R{resolution}m").mkdir(parents=True)
        for band in bands:
            (images / f"R{resolution}m" / f"T31TCJ_20240512T105621_{band}_{resolution}m.jp2").touch()
    masks = images.parent / "QI_DATA"
    masks.mkdir()
    (masks / "MSK_CLDPRB_20m.jp2").touch()
    return tmp_path


@pytest.mark.parametrize("recursive", [False, True])
def test_a_sentinel_2_product_stands_for_its_bands_at_their_own_resolution(product, recursive):
    (safe,) = product.iterdir()
    found = find_inputs([product if recursive else safe], recursive=recursive)
    assert [(file.band, file.path.parent.name) for file in found.files] == [
        ("B01", "R60m"), ("B02", "R10m"), ("B03", "R10m"), ("B04", "R10m"), ("B05", "R20m"), ("B08", "R10m"),
        ("B09", "R60m"), ("B8A", "R20m"),
    ]  # fmt: skip
    assert {str(file.folder) for file in found.files} == {safe.name if recursive else "."}


def test_a_product_of_level_1c_has_its_bands_in_one_folder(tmp_path):
    images = tmp_path / "S2A_MSIL1C.SAFE/GRANULE/L1C_T31TCJ_A0/IMG_DATA"
    images.mkdir(parents=True)
    for band in ("B02", "B10", "B8A", "TCI"):
        (images / f"T31TCJ_20240512T105621_{band}.jp2").touch()
    assert [file.band for file in find_inputs([tmp_path / "S2A_MSIL1C.SAFE"]).files] == ["B02", "B10", "B8A"]


def test_a_product_without_bands_is_reported(tmp_path):
    (tmp_path / "S2A.SAFE").mkdir()
    ((_, reason),) = find_inputs([tmp_path / "S2A.SAFE"]).problems
    assert reason.startswith("the Sentinel-2 product has no band")
