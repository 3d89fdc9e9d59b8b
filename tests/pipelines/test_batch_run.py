"""A batch in one process: what is done is done once, what fails is said, and nothing that was there is lost."""

import errno
import json
import os
import shutil
from dataclasses import replace

import pytest
from batch_fakes import Fakes, make_photos, run, snapshot, statuses

from blindsr.errors import OutputError
from blindsr.kernels import bicubic, gaussian
from blindsr.pipelines import outputs as outputs_module
from blindsr.pipelines.batch.events import BatchStarted, PhotoDone, PhotoStarted
from blindsr.pipelines.batch.manifest import MANIFEST, Manifest, locked
from blindsr.pipelines.batch.task import Options, task_key
from blindsr.pipelines.settings import Settings, preset
from blindsr.zssr.start.config import StartConfig


@pytest.fixture
def fakes(monkeypatch):
    return Fakes(monkeypatch)


@pytest.fixture
def photos(tmp_path):
    make_photos(tmp_path / "in", "a.png", "b.png", "sub/c.png")
    return tmp_path / "in"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "out"


def _lines(results):
    return [json.loads(line) for line in (results / MANIFEST).read_text().splitlines()]


def test_every_photograph_gives_a_result_in_the_mirrored_tree(photos, results, fakes):
    said = []
    result = run(photos, results, listener=said.append)
    assert result.complete
    assert statuses(result) == {"a.png": "done", "b.png": "done", "c.png": "done"}
    assert (results / "a_blindsr_x2.png").is_file()
    assert (results / "sub" / "c_blindsr_x2.kernel.npz").is_file()
    assert said[0] == BatchStarted(photos=3, open=3)
    assert [type(event) for event in said[1:] if isinstance(event, PhotoStarted | PhotoDone)] == 3 * [
        *(PhotoStarted, PhotoDone)
    ]
    assert [line["status"] for line in _lines(results)] == ["done"] * 3


def test_run_again_it_does_nothing_and_changes_nothing(photos, results, fakes):
    run(photos, results)
    before = snapshot(results)
    again = run(photos, results)
    assert statuses(again) == {"a.png": "kept", "b.png": "kept", "c.png": "kept"}
    assert again.complete
    assert len(fakes.runs) == 3
    assert snapshot(results) == before


def test_one_bad_file_is_reported_and_the_rest_goes_on(photos, results, fakes):
    (photos / "a.png").write_bytes(b"hello, I am a letter")
    result = run(photos, results)
    assert statuses(result) == {"a.png": "failed", "b.png": "done", "c.png": "done"}
    assert "needed PNG" in result.rows[0][1]["error"]
    assert not result.complete
    assert not list(results.glob("a_*"))


def test_a_bug_in_one_photograph_is_a_failure_of_that_one(photos, results, fakes):
    def fail(width):
        if width == 21:
            raise RuntimeError("a bug\nin two lines")

    fakes.fail = fail
    result = run(photos, results)
    assert statuses(result)["b.png"] == "failed"
    assert result.rows[1][1]["error"] == "RuntimeError: a bug in two lines"


def test_what_failed_is_tried_again_by_the_next_run_and_what_is_done_is_not(photos, results, fakes):
    fakes.fail = lambda width: (_ for _ in ()).throw(MemoryError()) if width == 20 else None
    assert "memory ran out" in run(photos, results).rows[0][1]["error"]
    fakes.fail = lambda width: None
    assert statuses(run(photos, results)) == {"a.png": "done", "b.png": "kept", "c.png": "kept"}
    assert fakes.runs == [20, 21, 22, 20]


def test_an_interruption_keeps_what_is_done(photos, results, fakes):
    def fail(width):
        if width == 21:
            raise KeyboardInterrupt

    fakes.fail = fail
    with pytest.raises(KeyboardInterrupt):
        run(photos, results)
    assert not [p for p in results.iterdir() if p.name.startswith(".blindsr-") and p.is_dir()]
    fakes.fail = lambda width: None
    assert statuses(run(photos, results)) == {"a.png": "kept", "b.png": "done", "c.png": "done"}


def test_a_result_without_its_line_proves_itself(photos, results, fakes):
    run(photos, results)
    (results / MANIFEST).unlink()
    assert statuses(run(photos, results)) == {"a.png": "kept", "b.png": "kept", "c.png": "kept"}
    assert len(fakes.runs) == 3
    assert len(_lines(results)) == 3, "what proved itself gets its line"


def test_the_beginning_of_a_result_is_completed(photos, results, fakes):
    """What a kill between the files of one result leaves: its record, some papers, and no image."""
    run(photos, results)
    (results / "a_blindsr_x2.png").unlink()
    (results / "a_blindsr_x2.kernel.npz").unlink()
    assert statuses(run(photos, results)) == {"a.png": "done", "b.png": "kept", "c.png": "kept"}


def test_hidden_folders_of_a_killed_run_are_cleared_away(photos, results, fakes, monkeypatch):
    monkeypatch.setattr(outputs_module.shutil, "rmtree", lambda *args, **kwargs: None)
    run(photos, results)
    hidden = [p for p in results.rglob(".blindsr-*") if p.is_dir()]
    monkeypatch.undo()
    Fakes(monkeypatch)
    assert hidden
    (results / MANIFEST).unlink()
    (results / "a_blindsr_x2.png").unlink()
    run(photos, results)
    assert not [p for p in results.rglob(".blindsr-*") if p.is_dir()]


def test_a_stranger_at_the_place_of_a_result_stops_everything_before_the_work(photos, results, fakes):
    results.mkdir()
    (results / "b_blindsr_x2.png").write_bytes(b"precious")
    before = snapshot(results)
    with pytest.raises(OutputError, match=r"b_blindsr_x2.png.*Nothing was done.*--skip-existing.*--force"):
        run(photos, results)
    assert fakes.runs == []
    assert {name: content for name, content in snapshot(results).items() if "lock" not in name} == before


def test_a_retouched_result_is_a_stranger(photos, results, fakes):
    run(photos, results)
    (results / "a_blindsr_x2.png").write_bytes(b"retouched by hand")
    with pytest.raises(OutputError, match="exist already"):
        run(photos, results)
    assert (results / "a_blindsr_x2.png").read_bytes() == b"retouched by hand"


def test_strangers_are_skipped_or_replaced_if_asked(photos, results, fakes):
    results.mkdir()
    (results / "b_blindsr_x2.png").write_bytes(b"precious")
    skipped = run(photos, results, skip_existing=True)
    assert statuses(skipped) == {"a.png": "done", "b.png": "skipped", "c.png": "done"}
    assert (results / "b_blindsr_x2.png").read_bytes() == b"precious"
    forced = run(photos, results, overwrite=True)
    assert statuses(forced) == {"a.png": "kept", "b.png": "done", "c.png": "kept"}
    assert (results / "b_blindsr_x2.png").read_bytes() != b"precious"


def test_other_settings_are_another_result(photos, results, fakes):
    run(photos, results)
    other = Options(settings=preset("best"))
    with pytest.raises(OutputError, match="exist already"):
        run(photos, results, options=other)
    assert statuses(run(photos, results, options=other, overwrite=True)) == dict.fromkeys(
        ("a.png", "b.png", "c.png"), "done"
    )


def test_another_content_under_the_same_name_is_done_anew(photos, results, fakes):
    run(photos, results)
    shutil.copy(photos / "b.png", photos / "a.png")
    with pytest.raises(OutputError, match=r"a_blindsr_x2\.png"):
        run(photos, results)
    assert statuses(run(photos, results, overwrite=True))["a.png"] == "done"


def test_two_equal_photographs_are_two_results(photos, results, fakes):
    shutil.copy(photos / "a.png", photos / "twin.png")
    assert statuses(run(photos, results))["twin.png"] == "done"
    assert (results / "twin_blindsr_x2.png").read_bytes() == (results / "a_blindsr_x2.png").read_bytes()
    assert set(statuses(run(photos, results)).values()) == {"kept"}


def test_a_full_disk_ends_the_batch_and_the_next_run_goes_on(photos, results, fakes, monkeypatch):
    fsync = os.fsync

    def full(descriptor):
        if len(fakes.runs) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = run(photos, results)
    assert statuses(result) == {"a.png": "done", "b.png": "failed", "c.png": "left"}
    assert "the disk is full" in result.stopped
    assert not result.complete
    monkeypatch.setattr(os, "fsync", fsync)
    assert statuses(run(photos, results)) == {"a.png": "kept", "b.png": "done", "c.png": "done"}


def test_a_manifest_that_cannot_be_written_ends_the_batch_and_loses_nothing(photos, results, fakes, monkeypatch):
    def full(self, *args, **kwargs):
        raise OutputError("cannot write the manifest: No space left on device; free some space.")

    monkeypatch.setattr(Manifest, "note", full)
    result = run(photos, results)
    assert "cannot write the manifest" in result.stopped
    monkeypatch.undo()
    Fakes(monkeypatch)
    assert statuses(run(photos, results)) == {"a.png": "kept", "b.png": "done", "c.png": "done"}


def test_a_photograph_that_goes_while_the_batch_runs_is_one_failure(photos, results, fakes):
    fakes.fail = lambda width: (photos / "b.png").unlink(missing_ok=True)
    result = run(photos, results)
    assert statuses(result) == {"a.png": "done", "b.png": "failed", "c.png": "done"}
    assert "cannot be read" in result.rows[1][1]["error"]


def test_one_batch_at_a_time_writes_here(photos, results, fakes):
    with locked(results / MANIFEST), pytest.raises(OutputError, match="another blindsr works on this batch"):
        run(photos, results)


def test_a_photograph_is_not_read_again_to_know_that_it_is_done(photos, results, fakes, monkeypatch):
    run(photos, results)
    monkeypatch.setattr("blindsr.pipelines.batch.manifest.file_digest", lambda path: pytest.fail("it was read"))
    assert set(statuses(run(photos, results)).values()) == {"kept"}


def test_a_tree_that_was_moved_is_still_done(photos, results, fakes, tmp_path):
    run(photos, results)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    photos.rename(moved / "in")
    results.rename(moved / "out")
    assert set(statuses(run(moved / "in", moved / "out")).values()) == {"kept"}


def test_the_key_knows_what_decides_a_result_and_nothing_else(tmp_path):
    options = Options()
    key = task_key("a", options)
    assert key == task_key("a", replace(options, report=True))
    assert key == task_key("a", replace(options, photo={"kernel_notes": ("read from a file.",)}))
    others = [
        task_key("b", options),
        task_key("a", replace(options, settings=Settings(seed=1))),
        task_key("a", replace(options, kernel=bicubic(2))),
        task_key("a", replace(options, kernel=gaussian(2.0, 2))),
        task_key("a", replace(options, photo={"quality": 80})),
    ]
    assert len({key, *others}) == 6
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    trained = Options(settings=Settings(zssr=StartConfig(weights=weights)))
    before = task_key("a", trained)
    weights.write_bytes(b"two")
    assert task_key("a", trained) != before
