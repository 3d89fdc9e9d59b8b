from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindsr.errors import ConfigError, OutputError
from blindsr.pipelines.batch.inputs import Found
from blindsr.pipelines.batch.naming import Naming, check_collisions

PHOTO = Found(Path("/photos/trip/a.b.jpg"), PurePath("trip"))


def test_without_an_output_folder_the_result_lies_beside_the_photograph():
    assert Naming().place(PHOTO) == Path("/photos/trip/a.b_blindsr_x2")


def test_the_tree_is_mirrored_under_the_output_folder():
    assert Naming(output=Path("/out"), label="x2.5").place(PHOTO) == Path("/out/trip/a.b_blindsr_x2.5")


def test_every_field_of_a_template():
    naming = Naming(template="{folder}-{stem}-{suffix}-{label}-{scale}-{preset}.tif", label="x2x3", preset="best")
    assert naming.place(PHOTO).name == "trip-a.b-jpg-x2x3-2x3-best.tif"
    assert naming.decides_suffix


def test_a_format_is_the_suffix_of_every_name():
    naming = Naming(suffix=".png")
    assert naming.place(PHOTO).name == "a.b_blindsr_x2.png"
    assert Naming(template="{stem}_big.png", suffix=".png").place(PHOTO).name == "a.b_big.png"


@pytest.mark.parametrize(
    "template", ["{stem", "{stem.__class__}", "{stem!r}", "{stem:>9999}", "{stem}{nothing}", "{0}{stem}", "{stem[0]}"]
)
def test_a_template_that_cannot_be_filled_is_refused_before_any_work(template):
    with pytest.raises(ConfigError, match="the template of names"):
        Naming(template=template)


@pytest.mark.parametrize(("template", "words"), [("larger.png", "lacks {stem}"), ("../{stem}", "names files")])
def test_a_template_that_would_lose_results_is_refused(template, words):
    with pytest.raises(ConfigError, match=words):
        Naming(template=template)


@given(template=st.text(alphabet="{}stemscalef./\\x ü", max_size=20))
def test_no_template_leads_out_of_the_folder(template):
    try:
        naming = Naming(output=Path("/out"), template=template)
    except ConfigError:
        return
    assert naming.place(PHOTO).parent == Path("/out/trip")


def test_two_photographs_with_one_result_or_one_record_are_refused():
    pairs = [(Path("x/a.png"), Path("o/a_x2")), (Path("x/a.jpg"), Path("o/a_x2"))]
    with pytest.raises(OutputError, match=r"x/a.png and x/a.jpg → o/a_x2.*Nothing was done"):
        check_collisions(pairs, whole=False)
    # Their images differ in the suffix, their records do not.
    with pytest.raises(OutputError, match="one result"):
        check_collisions([(Path("a"), Path("o/a.png")), (Path("b"), Path("o/a.tif"))], whole=True)
    check_collisions([(Path("a"), Path("o/a.1")), (Path("b"), Path("o/a.2"))], whole=False)


def test_many_collisions_are_counted():
    with pytest.raises(OutputError, match="and 2 more"):
        check_collisions([(Path(str(i)), Path("same")) for i in range(6)], whole=False)
