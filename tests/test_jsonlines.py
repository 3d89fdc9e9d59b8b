import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindsr import jsonlines
from blindsr.errors import OutputError
from blindsr.jsonlines import append_line, read_lines

ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(), st.none()), max_size=3))


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, kept=st.floats(0, 1), more=ROWS)
def test_a_file_truncated_anywhere_keeps_its_complete_lines_and_can_be_appended(tmp_path_factory, rows, kept, more):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    for row in rows:
        append_line(path, row)
    whole = path.read_bytes() if path.exists() else b""
    torn = whole[: round(kept * len(whole))]
    path.write_bytes(torn)
    last = torn.rpartition(b"\n")[2]
    # A line that lacks its end alone can still be read.
    survivors = torn.count(b"\n") + (last != b"" and last + b"\n" in whole.splitlines(keepends=True))
    for row in more:
        append_line(path, row)
    assert list(read_lines(path)) == rows[:survivors] + more


def test_names_that_are_no_valid_utf8_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9\n\"'.png")
    append_line(tmp_path / "a", {"source": name})
    assert [row["source"] for row in read_lines(tmp_path / "a")] == [name]


def test_what_is_no_json_object_is_skipped(tmp_path):
    (tmp_path / "a").write_bytes(b'\xff\xfe\n[1]\n"x"\n{"a": 1}\n{"b"')
    assert list(read_lines(tmp_path / "a")) == [{"a": 1}]
    assert list(read_lines(tmp_path / "none")) == []


def test_a_full_disk_leaves_the_file_unchanged(tmp_path, monkeypatch):
    path = tmp_path / "a"
    append_line(path, {"a": 1})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(jsonlines.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        append_line(path, {"b": 2})
    assert path.read_bytes() == before
