"""A batch in one process: each image is done once, failures are reported, and no existing file is lost."""

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from multiprocessing import active_children

import pytest
from filelock import FileLock
from PIL import Image

from blindsr.batch import run as run_module
from blindsr.batch.plan import MANIFEST, Manifest, locked
from blindsr.batch.run import upscale_files
from blindsr.batch.task import BatchStarted, ImageDone, ImageEvent, ImageStarted, TaskOptions, task_key
from blindsr.errors import ConfigError, OutputError
from blindsr.events import Notice
from blindsr.image_io import FileOptions, default_suffix, read_photo
from blindsr.kernels import bicubic, gaussian
from blindsr.pipelines import outputs as outputs_module
from blindsr.pipelines.memory import needed_memory
from blindsr.settings import Settings, preset
from blindsr.upscalers.pretrained.config import PretrainedConfig
from tests.batch.batch_fakes import FAST, Fakes, make_photos, run, snapshot, statuses


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
    events = []
    result = run(photos, results, listener=events.append)
    assert result.complete
    assert statuses(result) == {"a.png": "done", "b.png": "done", "c.png": "done"}
    assert (results / "a_blindsr_x2.png").is_file()
    assert (results / "sub" / "c_blindsr_x2.kernel.npz").is_file()
    assert events[0] == BatchStarted(images=3, open=3)
    assert [type(event) for event in events[1:] if isinstance(event, ImageStarted | ImageDone)] == 3 * [
        *(ImageStarted, ImageDone)
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


def test_images_that_are_not_read_are_one_line(photos, results, fakes):
    (photos / "b.jxl").touch()
    heard = []
    upscale_files([photos], results, dry_run=True, listener=heard.append)
    lines = [event.message for event in heard if isinstance(event, Notice)]
    assert lines == ["1 file of a kind that is not read: .jxl (1); convert it to PNG or TIFF."]


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


def test_existing_foreign_output_aborts_before_processing(photos, results, fakes):
    results.mkdir()
    (results / "b_blindsr_x2.png").write_bytes(b"precious")
    before = snapshot(results)
    with pytest.raises(OutputError, match=r"b_blindsr_x2.png.*Nothing was done.*--skip-existing.*--force"):
        run(photos, results)
    assert fakes.runs == []
    assert snapshot(results) == before, "not even a lock file is left"


def test_an_edited_result_is_a_foreign_file(photos, results, fakes):
    run(photos, results)
    (results / "a_blindsr_x2.png").write_bytes(b"retouched by hand")
    with pytest.raises(OutputError, match="files exist that this run would replace"):
        run(photos, results)
    assert (results / "a_blindsr_x2.png").read_bytes() == b"retouched by hand"


def test_foreign_files_are_skipped_or_replaced_on_request(photos, results, fakes):
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
    other = TaskOptions(settings=replace(FAST, seed=1))
    with pytest.raises(OutputError, match="files exist that this run would replace"):
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

    monkeypatch.setattr(Manifest, "write", full)
    result = run(photos, results)
    assert "cannot write the manifest" in result.stopped
    monkeypatch.undo()
    Fakes(monkeypatch)
    assert statuses(run(photos, results)) == {"a.png": "kept", "b.png": "done", "c.png": "done"}


def test_a_photograph_that_goes_while_the_batch_runs_is_one_failure(photos, results, fakes):
    fakes.fail = lambda width: (photos / "b.png").unlink(missing_ok=True)
    result = run(photos, results)
    assert statuses(result) == {"a.png": "done", "b.png": "failed", "c.png": "done"}
    assert result.rows[1][1]["error"] == f"{photos / 'b.png'}: no such file; check the name."


def test_one_batch_at_a_time_writes_here(photos, results, fakes):
    with (
        locked(results / MANIFEST),
        pytest.raises(OutputError, match="another blindsr process is working"),
    ):
        run(photos, results)


def test_no_lock_file_stays_and_a_removed_one_locks_nothing(photos, results, fakes, monkeypatch):
    run(photos, results)
    lock = results / f".{MANIFEST}.lock"
    assert [path.name for path in results.iterdir() if path.name.startswith(".")] == []
    acquire, removed = FileLock.acquire, []

    def removed_meanwhile(self, *arguments, **options):
        """Another batch ends, and a third one begins, between the opening of the file and the check."""
        held = acquire(self, *arguments, **options)
        if not removed:
            lock.unlink()
            lock.touch()
            removed.append(lock.stat().st_ino)
        return held

    monkeypatch.setattr(FileLock, "acquire", removed_meanwhile)
    with locked(results / MANIFEST):
        assert lock.stat().st_ino == removed[0]
        with pytest.raises(OutputError, match="another blindsr process"), locked(results / MANIFEST):
            pytest.fail("two batches")
    assert not lock.exists()


def test_a_photograph_is_not_read_again_to_know_that_it_is_done(photos, results, fakes, monkeypatch):
    run(photos, results)
    monkeypatch.setattr("blindsr.batch.plan.file_digest", lambda path: pytest.fail("it was read"))
    assert set(statuses(run(photos, results)).values()) == {"kept"}


def test_a_tree_that_was_moved_is_still_done(photos, results, fakes, tmp_path):
    run(photos, results)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    photos.rename(moved / "in")
    results.rename(moved / "out")
    assert set(statuses(run(moved / "in", moved / "out")).values()) == {"kept"}


def test_the_key_knows_what_decides_a_result_and_nothing_else(tmp_path):
    options = TaskOptions()
    key = task_key("a", options)
    assert key == task_key("a", replace(options, report=True))
    assert key == task_key("a", replace(options, kernel_warnings=("read from a file.",), max_memory=10**9))
    # Defaults count as if they were given, and the settings of a method that is not run do not.
    assert key == task_key("a", replace(options, settings=preset("default")))
    unused = Settings().with_config("kernelgan", iterations=7)
    assert key == task_key("a", replace(options, settings=unused))
    others = [
        task_key("b", options),
        task_key("a", replace(options, settings=Settings(seed=1))),
        task_key("a", replace(options, kernel=bicubic(2))),
        task_key("a", replace(options, kernel=gaussian(2.0, 2))),
        task_key("a", replace(options, files=FileOptions(format="jpeg", quality=80))),
    ]
    assert len({key, *others}) == 6
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    trained = TaskOptions(settings=Settings(configs={"pretrained": PretrainedConfig(weights=weights)}))
    before = task_key("a", trained)
    weights.write_bytes(b"two")
    assert task_key("a", trained) != before


def test_a_name_that_is_too_long_fails_its_image_alone(photos, results, fakes):
    # The image would still have its name, its kernel would not.
    name = 235 * "x" + ".png"
    shutil.copy(photos / "a.png", photos / name)
    plan = upscale_files([photos], results / "new", executor="inline", settings=FAST, dry_run=True)
    assert statuses(plan) == {"a.png": "open", "b.png": "open", name: "failed"}
    result = run(photos, results)
    assert statuses(result) == {"a.png": "done", "b.png": "done", "c.png": "done", name: "failed"}
    (row,) = [row for path, row in result.rows if path.name == name]
    assert row["error"].startswith("the name of a result is too long for this file system")
    plan = upscale_files([photos], results, executor="inline", settings=FAST, dry_run=True)
    assert statuses(plan) == {"a.png": "kept", "b.png": "kept", name: "failed"}


def test_images_of_one_stem_have_different_results(photos, results, fakes):
    shutil.copy(photos / "b.png", photos / "a.tif")
    events = []
    result = run(photos, results, listener=events.append)
    assert result.complete
    assert sorted(path.name for path in results.glob("a*x2.png")) == ["a_png_blindsr_x2.png", "a_tif_blindsr_x2.png"]
    notes = [event.message for event in events if isinstance(event, Notice)]
    assert notes == [
        "2 images differ in their suffix alone; it is in the names of their results: a_png_blindsr_x2 (.png or .tif)."
    ]


def test_results_with_warnings_are_counted_also_by_later_runs(photos, results, fakes):
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.new("RGB", (24, 20), (9, 99, 199)).save(photos / name)
    Image.new("RGBA", (24, 20), (9, 99, 199, 255)).save(photos / "opaque.png")  # its alpha is dropped, with a warning
    options = TaskOptions(settings=FAST, files=FileOptions(format="jpeg"))
    first, second = (run(photos, results, options=options) for _ in range(2))
    assert first.with_warnings == second.with_warnings == 1
    assert set(statuses(second).values()) == {"kept"}
    (results / MANIFEST).unlink()
    assert run(photos, results, options=options).with_warnings == 1, "the record knows it too"


def test_a_dry_run_names_the_suffix_of_a_fits_image(photos, results):
    (photos / "star.fits").write_bytes(b"")
    plans = [
        upscale_files([photos], results, dry_run=True, files=FileOptions(strip_metadata=strip)).plan
        for strip in (False, True)
    ]
    named = [[plan.file(item).name for item in plan.items if item.source.stem in ("a", "star")] for plan in plans]
    assert named[0] == ["a_blindsr_x2.png or .tif", "star_blindsr_x2.fits"]
    assert named[1] == ["a_blindsr_x2.png or .tif", "star_blindsr_x2.png or .tif"]  # without its header it is plain


def test_a_dry_run_says_png_where_nothing_else_can_be(results, tmp_path):
    folder = tmp_path / "eight"
    folder.mkdir()
    for name in ("a.jpg", "b.webp", "c.avif", "d.gif", "e.bmp", "f.png", "g.tif"):
        Image.new("RGB", (24, 20), (9, 99, 199)).save(folder / name)

    def planned(**options):
        plan = upscale_files([folder], results, dry_run=True, files=FileOptions(**options)).plan
        return {item.source.name: plan.file(item).name.partition("_x2")[2] for item in plan.items}

    either = dict.fromkeys(("f.png", "g.tif"), ".png or .tif")
    expected = dict.fromkeys(("a.jpg", "b.webp", "c.avif", "d.gif", "e.bmp"), ".png") | either
    assert planned() == planned(alpha="data") == planned(strip_metadata=True) == expected
    assert planned(page="all")["a.jpg"] == ".png or .tif"
    assert {default_suffix(read_photo(folder / name)) for name in expected} == {".png"}


def test_the_options_of_files_are_checked(photos, results):
    with pytest.raises(ConfigError, match=r"files must be FileOptions, .*, got \{'quality': 3\}"):
        upscale_files([photos], results, files={"quality": 3})


@pytest.mark.parametrize("options", [{"dry_run": True}, {}])
def test_a_refused_batch_and_a_dry_run_leave_nothing(photos, fakes, options):
    (photos / "b_blindsr_x2.png").write_bytes(b"precious")
    before = snapshot(photos)
    with pytest.raises(OutputError, match="files exist"):
        upscale_files([photos / "b.png"], executor="inline", settings=FAST, **options)
    assert snapshot(photos) == before


def test_a_dry_run_plans_with_sizes_and_memory(photos, results, fakes):
    (photos / "no image.png").write_bytes(b"no image")
    result = upscale_files([photos], results, recursive=True, jobs=2, dry_run=True)
    assert [item.size for item in result.plan.items] == [(20, 20, 3), (20, 21, 3), None, (20, 22, 3)]
    assert statuses(result) == {**dict.fromkeys(("a.png", "b.png", "c.png"), "open"), "no image.png": "failed"}
    one = upscale_files([photos / "a.png"], results, dry_run=True)
    assert one.memory < result.memory < 3 * one.memory
    whole = upscale_files([photos / "a.png"], results, settings=preset("paper"), dry_run=True)
    assert whole.memory == needed_memory(20, 20, 3, 2, whole_image=True)
    limited = upscale_files([photos], results, recursive=True, jobs=2, max_memory=2**29, dry_run=True)
    assert limited.memory <= 2**29
    assert not results.exists()


def test_files_are_upscaled_by_one_call(photos, results, fakes):
    events = []
    result = upscale_files(
        [photos], str(results), recursive=True, executor="inline", settings=FAST, name="{stem}!", listener=events.append
    )
    assert statuses(result) == {"a.png": "done", "b.png": "done", "c.png": "done"}
    assert (results / "sub" / "c!.png").is_file()
    assert isinstance(events[-1], ImageDone)
    beside = upscale_files([photos / "a.png", photos / "sub"], executor="inline", settings=FAST)
    assert beside.complete
    assert (photos / "sub" / "c_blindsr_x2.png").is_file()
    assert beside.plan.manifest.path == photos / MANIFEST, "in the folder that contains all images"


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_single_path_is_one_input(photos, results, fakes, kind):
    result = upscale_files(kind(photos / "a.png"), results, executor="inline", settings=FAST)
    assert statuses(result) == {"a.png": "done"}


def test_a_preset_chooses_the_settings_and_names_the_result(photos, results):
    def planned(**how):
        plan = upscale_files([photos / "a.png"], results, name="{stem}_{preset}", dry_run=True, **how).plan
        return plan.options.settings, plan.items[0].target.name

    for name in ("fast", "paper"):
        assert planned(preset=name) == (preset(name), f"a_{name}")
        assert planned(settings=name) == (preset(name), f"a_{name}")
    assert planned() == (Settings(), "a_default")
    assert planned(settings=replace(preset("best"), scale=3)) == (replace(preset("best"), scale=3), "a_best")
    assert planned(settings=FAST)[1] == "a_custom"
    assert planned(settings=FAST, preset="best") == (FAST, "a_best")
    with pytest.raises(ConfigError, match="preset must be one of"):
        planned(preset="nope")
    with pytest.raises(ConfigError, match=r"settings must be blindsr\.Settings or the name of a preset .* got int"):
        planned(settings=3)


def test_a_file_is_no_output_folder(photos, fakes):
    with pytest.raises(OutputError, match="must be a folder"):
        upscale_files([photos], photos / "a.png", executor="inline", settings=FAST)


def test_a_cluster_needs_a_scheduler(photos, results):
    with pytest.raises(ConfigError, match="dask with a scheduler"):
        upscale_files([photos], results, executor="dask")


@pytest.fixture
def engines(monkeypatch):
    """What the engines were made with; every task fails in them."""
    made = []

    def on_processes(tasks, listener, **options):
        made.append({**options, "max_memory": next(task.options.max_memory for task in tasks)})
        yield from ()

    class FakeCluster:
        def __init__(self, **options):
            self.options = options

        def run(self, tasks, listener):
            return on_processes(tasks, listener, **self.options)

    monkeypatch.setattr(run_module, "run_on_processes", on_processes)
    monkeypatch.setattr("blindsr.batch.cluster.Cluster", FakeCluster)
    monkeypatch.setattr(run_module, "default_threads", lambda: 8)
    monkeypatch.setattr(run_module, "available_memory", lambda: 30 * 2**30)
    return made


@pytest.mark.parametrize(
    ("options", "devices", "threads"),
    [
        ({"jobs": 3, "device": "cpu,auto", "threads": 7}, ("cpu", "auto", "cpu"), 2),
        ({"device": "cpu, cpu"}, ("cpu", "cpu"), 4),
        ({"jobs": 2, "threads": 1}, ("auto", "auto"), 1),
        ({}, ("auto",), 8),
    ],
)
def test_workers_take_the_devices_in_turn_and_divide_the_threads(photos, results, engines, options, devices, threads):
    upscale_files([photos], results, **options)
    assert (engines[0]["devices"], engines[0]["threads"]) == (devices, threads)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"jobs": 4, "max_memory": 6 * 2**30}, (6 * 1024 - 320) * 2**18),
        ({"jobs": 3}, 10 * 2**30),
        ({"jobs": 100}, 2 * 2**30),  # with less, small images would be tiled
        ({"jobs": 1}, None),
        ({"executor": "dask", "scheduler": "tcp://x:1", "device": "cpu,cpu", "max_memory": 6 * 2**30}, 6 * 2**30),
        ({"executor": "dask", "scheduler": "tcp://x:1", "device": "cpu,cpu"}, None),
    ],
)
def test_workers_divide_the_memory_of_this_machine(photos, results, engines, options, share):
    upscale_files([photos], results, **options)
    assert engines[0]["max_memory"] == share


@pytest.mark.usefixtures("ready_workers")
def test_real_processes_run_a_batch_and_survive_the_death_of_one(photos, results):
    (photos / "bad.png").write_bytes(b"no image")
    events, killed = [], []

    def listener(event):
        events.append(event)
        if isinstance(event, ImageStarted) and event.source.name == "b.png" and not killed:
            killed.extend(active_children())
            os.kill(killed[0].pid, signal.SIGKILL)

    result = upscale_files(
        [photos],
        results,
        recursive=True,
        settings=preset("fast"),
        kernel=gaussian(1.44, 2),
        device="cpu,cpu",
        threads=2,
        listener=listener,
    )
    assert killed
    assert statuses(result) == {"a.png": "done", "b.png": "done", "bad.png": "failed", "c.png": "done"}
    assert any(isinstance(e, ImageEvent) and e.event.stage == "pretrained" for e in events)
    assert {e.worker for e in events if isinstance(e, ImageStarted)} <= {"1 (cpu)", "2 (cpu)"}
    assert active_children() == []
