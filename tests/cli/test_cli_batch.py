"""Many photographs on the command line. The work is done in this process (--executor inline), by fakes."""

import json
import os
import shutil

import pytest
from PIL import Image

from blindsr.cli import _batch

INLINE = ("--executor", "inline")


@pytest.fixture
def folder(photo, tmp_path_factory):
    """Three photographs, one in a folder of its own."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a.png", "b c.png", "deep/er/d.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, path)
        # Equal pictures with unequal bytes: what follows a PNG's end is no part of it.
        path.write_bytes(path.read_bytes() + name.encode())
    return folder


def _images(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png") if ".kernel" not in p.name)


def test_a_folder_gives_paths_on_stdout_and_a_summary_on_stderr(run, folder, fakes, tmp_path):
    out = tmp_path / "out"
    result = run("estimate-and-upscale", folder, "-r", "-o", out, *INLINE)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{out}/a_blindsr_x2.png",
        f"{out}/b c_blindsr_x2.png",
        f"{out}/deep/er/d_blindsr_x2.png",
    ]
    assert _images(out) == ["a_blindsr_x2.png", "b c_blindsr_x2.png", "deep/er/d_blindsr_x2.png"]
    assert "photographs ┃ 3" in result.stderr
    assert "done        │ 3" in result.stderr


def test_run_again_it_keeps_what_is_done(run, folder, fakes, tmp_path):
    arguments = ("estimate-and-upscale", folder, "-o", tmp_path / "out", *INLINE)
    run(*arguments)
    again = run(*arguments)
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr.startswith("2 of 2 photographs are done already and kept.\n")
    assert len(fakes.settings) == 2


def test_results_beside_the_photographs_are_no_photographs(run, folder, fakes):
    run("estimate-and-upscale", folder, *INLINE)
    again = run("estimate-and-upscale", folder, *INLINE, "--json")
    records = [json.loads(line) for line in again.stdout.splitlines()]
    assert [record["status"] for record in records] == ["kept", "kept"]
    assert records[0]["files"]["image"] == f"{folder}/a_blindsr_x2.png"
    assert (folder / "blindsr-manifest.jsonl").is_file()
    # The same by names, as a shell expands *.png.
    named = run("estimate-and-upscale", *sorted(folder.glob("*.png")), *INLINE)
    assert (named.exit_code, named.stdout) == (0, "")


def test_one_bad_file_is_said_the_rest_goes_on_and_the_exit_code_is_one(run, folder, fakes):
    (folder / "a.png").write_bytes(b"hello, I am a letter")
    result = run("estimate-and-upscale", folder, *INLINE)
    assert result.exit_code == 1
    assert result.stdout == f"{folder}/b c_blindsr_x2.png\n"
    first = result.stderr.splitlines()[0]
    assert first.startswith(f"failed: {folder}/a.png: needed PNG")
    assert "failed      │ 1" in result.stderr
    assert f"{folder}/a.png │ needed PNG" in result.stderr
    assert "run the same command again for the rest" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_name_of_a_failed_photograph_is_said_once(run, folder, fakes, monkeypatch):
    """Workers know it by its absolute name, the user by the one that was given."""
    monkeypatch.chdir(folder)
    (folder / "a.png").write_bytes(b"no picture")
    os.mkfifo(folder / "pipe.png")
    plan = run("estimate-and-upscale", "a.png", "pipe.png", "-o", "out", "--dry-run")
    assert "fails: pipe.png: this is a device or a pipe; save it as a file.\n" in plan.stdout
    result = run("estimate-and-upscale", "a.png", "pipe.png", "-o", "out", *INLINE)
    assert "failed: a.png: needed PNG, JPEG" in result.stderr
    assert str(folder) not in result.stderr


def test_quiet_says_errors_and_nothing_else(run, folder, fakes, monkeypatch):
    (folder / "a.png").write_bytes(b"hello, I am a letter")
    result = run("estimate-and-upscale", folder, *INLINE, "-q")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"failed: {folder}/a.png: needed PNG")
    assert result.stderr.count("\n") == 1
    fakes.fail = OSError(28, "No space left on device")
    full = run("estimate-and-upscale", folder, "-r", *INLINE, "-q").stderr.splitlines()
    assert full[-1].startswith("stopped: ")


def test_json_is_one_record_for_each_photograph(run, folder, fakes):
    (folder / "a.png").write_bytes(b"hello")
    result = run("estimate-and-upscale", folder, *INLINE, "--json", "-q")
    assert result.stderr == ""
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["status"] for record in records] == ["failed", "done"]
    assert records[0]["source"] == f"{folder}/a.png"
    assert "needed PNG" in records[0]["error"]
    assert records[1]["files"]["image"] == f"{folder}/b c_blindsr_x2.png"
    assert records[1]["consistency"]["psnr_db"] == 51.26
    assert "history" not in records[1]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(run, folder, fakes, tmp_path):
    out = tmp_path / "out"
    result = run("estimate-and-upscale", folder, "-r", "-o", out, "--dry-run")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"to do: {folder}/a.png → {out}/a_blindsr_x2.png or .tif, about ")
    assert lines[-1].startswith("3 photographs: 3 to do. About ")
    assert "memory up to about " in lines[-1]
    assert lines[-1].endswith("Nothing was done.")
    assert not out.exists()
    assert fakes.settings == []


def test_a_dry_run_as_json(run, folder, fakes, tmp_path):
    result = run("estimate-and-upscale", folder, "-o", tmp_path / "out", "--dry-run", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["status"] for row in rows] == ["open", "open"]
    assert all(row["expected_seconds"] > 0 for row in rows)


def test_two_results_in_one_place_are_refused_before_any_work(run, folder, fakes, tmp_path):
    arguments = (folder / "a.png", folder / "deep" / "er" / "d.png", "-o", tmp_path / "out", *INLINE)
    shutil.move(folder / "deep" / "er" / "d.png", folder / "deep" / "er" / "a.png")
    arguments = (folder / "a.png", folder / "deep" / "er" / "a.png", "-o", tmp_path / "out", *INLINE)
    result = run("estimate-and-upscale", *arguments)
    assert (result.exit_code, result.stdout, fakes.settings) == (1, "", [])
    assert result.stderr.startswith("error: two photographs would have one result: ")
    assert run("estimate-and-upscale", *arguments, "--name", "{folder}_{stem}.png").exit_code == 0
    assert _images(tmp_path / "out") == ["er_a.png", f"{folder.name}_a.png"]


def test_results_that_exist_are_refused_skipped_or_replaced(run, folder, fakes):
    taken = folder / "a_blindsr_x2.png"
    taken.write_bytes(b"precious")
    arguments = ("estimate-and-upscale", folder / "a.png", folder / "b c.png", *INLINE)
    refused = run(*arguments)
    assert (refused.exit_code, fakes.settings) == (1, [])
    assert "Nothing was done; keep them (--skip-existing), replace them (--force)" in refused.stderr
    skipped = run(*arguments, "--skip-existing")
    assert skipped.exit_code == 0
    assert "1 of 2 photographs have a result and are skipped." in skipped.stderr
    assert taken.read_bytes() == b"precious"
    forced = run(*arguments, "--force")
    assert forced.exit_code == 0
    assert taken.read_bytes() != b"precious"


def test_a_format_and_a_template_name_the_results(run, folder, fakes, tmp_path):
    out = tmp_path / "out"
    run("estimate-and-upscale", folder, "-o", out, "--format", "jpeg", "--name", "{stem}-{preset}", *INLINE)
    assert sorted(p.name for p in out.glob("*.jpg")) == ["a-default.jpg", "b c-default.jpg"]


def test_upscale_takes_many_with_one_kernel(run, folder, fakes, tmp_path):
    result = run("upscale", folder, "-o", tmp_path / "out", "--kernel", "gaussian:1.2", *INLINE)
    assert result.exit_code == 0
    assert len(fakes.kernels) == 2
    record = json.loads((tmp_path / "out" / "a_blindsr_x2.json").read_text())
    assert record["estimate"] is None
    again = run("upscale", folder, "-o", tmp_path / "out", "--kernel", "gaussian:1.3", *INLINE)
    assert "results exist already" in again.stderr, "another kernel is another result"


def test_a_glob_in_quotes(run, folder, fakes, tmp_path):
    result = run("estimate-and-upscale", folder / "b*.png", "-o", tmp_path / "out", *INLINE)
    assert result.stdout == f"{tmp_path}/out/b c_blindsr_x2.png\n"


def test_a_report_for_each(run, folder, fakes, tmp_path):
    result = run("estimate-and-upscale", folder, "-o", tmp_path / "out", "--report", *INLINE)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "b c_blindsr_x2.html").is_file()


def test_names_that_could_steer_a_terminal_are_written_as_escapes(run, folder, fakes, tmp_path):
    evil = folder / "x\x1b[31m\nred.png"
    evil.write_bytes(b"no picture")
    result = run("estimate-and-upscale", folder, "-o", tmp_path / "out", *INLINE)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert "x\\x1b[31m\\nred.png" in result.stderr


def test_a_name_that_is_no_text_is_printed_as_its_bytes(run, folder, fakes, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(folder / "a.png", folder / name)
    except OSError:
        pytest.skip("this file system takes text alone")
    result = run("estimate-and-upscale", folder, "-o", tmp_path / "out", *INLINE)
    assert result.exit_code == 0, result.stderr
    assert b"caf\xe9_blindsr_x2.png\n" in result.stdout_bytes


def test_an_interruption_is_one_line_and_keeps_what_is_done(run, folder, fakes, tmp_path):
    arguments = ("estimate-and-upscale", folder, "-o", tmp_path / "out", *INLINE)
    run("estimate-and-upscale", folder / "a.png", "-o", tmp_path / "out", *INLINE, "--jobs", 1)
    fakes.fail = KeyboardInterrupt()
    result = run(*arguments)
    assert result.exit_code == 130
    assert result.stderr.endswith("error: interrupted; nothing was left half-written.\n")
    fakes.fail = None
    assert run(*arguments).stdout == f"{tmp_path}/out/b c_blindsr_x2.png\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "out.png"), "-o names a folder"),
        (("--skip-existing", "--force"), "give one of them"),
        (("--executor", "dask"), "go together"),
        (("--scheduler", "tcp://x:1"), "go together"),
        (("--task-resources", "GPU=1"), "is for --executor dask"),
        (("--executor", "dask", "--scheduler", "tcp://x:1", "--jobs", "2"), "--jobs is for this machine"),
        (("--executor", "inline", "--jobs", "2"), "is one process"),
    ],
)
def test_a_contradiction_is_a_usage_error(run, folder, fakes, arguments, words):
    result = run("estimate-and-upscale", folder, *arguments)
    assert (result.exit_code, result.stdout, fakes.settings) == (2, "", [])
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize("template", ["{stem.__class__}", "larger", "a/{stem}"])
def test_a_template_that_cannot_be_used_is_one_line(run, folder, fakes, template):
    result = run("estimate-and-upscale", folder, "--name", template)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the template")


def test_threads_are_divided_and_devices_go_round(run, folder, fakes, tmp_path, monkeypatch):
    made = []

    class Engine:
        def __init__(self, devices, *, retries):
            made.append((devices, retries))

        def run(self, tasks, listener):
            for task in tasks:
                made.append(task.threads)
                yield task, {"status": "failed", "error": "not today"}

    monkeypatch.setattr("blindsr.pipelines.batch.processes.ProcessEngine", Engine)
    out = ("-o", tmp_path / "out")
    run("estimate-and-upscale", folder, *out, "--jobs", 3, "--device", "cpu,auto", "--threads", 7, "--retries", 5)
    assert made == [(("cpu", "auto", "cpu"), 5), 2, 2]
    made.clear()
    run("estimate-and-upscale", folder, *out, "--device", "cpu,cpu", "--threads", 1)
    assert made == [(("cpu", "cpu"), 2), 1, 1]


def test_memory_is_divided_among_the_jobs_and_not_among_other_machines(run, folder, fakes, tmp_path, monkeypatch):
    shares = []

    class Engine:
        def __init__(self, *_, **__):
            pass

        def run(self, tasks, listener):
            for task in tasks:
                shares.append(task.options.photo["max_memory"])
                yield task, {"status": "failed", "error": "not today"}

    monkeypatch.setattr("blindsr.pipelines.batch.processes.ProcessEngine", Engine)
    monkeypatch.setattr("blindsr.pipelines.batch.cluster.DaskEngine", Engine)
    monkeypatch.setattr(_batch, "available_memory", lambda: 30 * 2**30)
    arguments = ("estimate-and-upscale", folder / "a.png", "-o", tmp_path / "out")
    dask = ("--executor", "dask", "--scheduler", "tcp://x:1", "--device", "cpu,cpu")
    for options in (
        ("--jobs", 4, "--max-memory", "6GB"),
        ("--jobs", 3),
        ("--jobs", 100),
        (*dask, "--max-memory", "6GB"),
        dask,
    ):
        run(*arguments, *options)
    # Without a limit what is free is divided, but a job is not sent to work by strips for that.
    assert shares == [(6 * 1024 - 320) * 2**18, 10 * 2**30, 2 * 2**30, 6 * 2**30, None]


def test_a_device_that_is_not_here_is_one_line(run, folder, fakes):
    result = run("estimate-and-upscale", folder, "--device", "cpu,cuda:77")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: device must be auto or one of ")


def test_a_shared_kernel_is_estimated_once_and_used_for_all(run, folder, fakes, tmp_path):
    options = ("--shared-kernel", *INLINE, "--estimator", "spectral")
    arguments = ("estimate-and-upscale", folder, "-o", tmp_path / "out", *options)
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "note: one kernel for all, from 2 of 2 photographs: σ 1.52 px along 118°" in result.stderr
    assert fakes.kernels[0].digest == fakes.kernels[1].digest
    assert (tmp_path / "out" / "blindsr-shared.kernel.npz").is_file()
    assert json.loads((tmp_path / "out" / "a_blindsr_x2.json").read_text())["estimate"] is None
    count = len(fakes.images)
    assert "2 of 2 photographs are done already" in run(*arguments).stderr
    assert len(fakes.images) == count, "the kernel is kept too"


def test_a_shared_kernel_is_for_the_one_factor_that_a_size_means(run, folder, fakes, tmp_path):
    arguments = ("estimate-and-upscale", folder, "--shared-kernel", *INLINE, "-o", tmp_path / "out")
    result = run(*arguments, "--size", "120x144")
    assert result.exit_code == 0, result.stderr
    assert {kernel.scale for kernel in fakes.kernels} == {3}
    Image.new("RGB", (100, 120)).save(folder / "large.png")
    result = run(*arguments, "--size", "120x144", "--force")
    assert result.exit_code == 1
    assert (
        "one kernel is for one factor, this --size needs ×2 and ×3 of these photographs; use --scale" in result.stderr
    )


def test_the_manifest_lies_where_all_photographs_are(tmp_path):
    from blindsr.pipelines.batch.inputs import Found, Inputs

    found = Inputs((Found(tmp_path / "a" / "x.png"), Found(tmp_path / "b" / "c" / "y.png")))
    assert _batch._together(found) == tmp_path
