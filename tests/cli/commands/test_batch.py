"""`estimate-and-upscale` and `upscale` with many photographs; the work is done in this process."""

import json
import os
import shutil

import pytest
from PIL import Image

from blindsr.batch import cluster
from blindsr.batch import run as batch_run

pytestmark = pytest.mark.usefixtures("small_network")

INLINE = ("--executor", "inline")


@pytest.fixture
def folder(photo, tmp_path_factory):
    """Three photographs, one in a folder below."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a.png", "b c.png", "deep/er/d.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Equal pictures with unequal bytes: what follows the end of a PNG is no part of the picture.
        path.write_bytes(photo.read_bytes() + name.encode())
    return folder


def _images(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png") if ".kernel" not in p.name)


def test_a_folder_gives_paths_on_stdout_and_a_summary_on_stderr(quick, folder, tmp_path):
    out = tmp_path / "out"
    result = quick(folder, "-r", "-o", out, *INLINE)
    assert result.exit_code == 0, result.stderr
    names = ["a_blindsr_x2.png", "b c_blindsr_x2.png", "deep/er/d_blindsr_x2.png"]
    assert result.stdout.splitlines() == [f"{out}/{name}" for name in names]
    assert _images(out) == names
    assert "done in " in result.stderr.splitlines()[0]
    assert "photographs ┃ 3" in result.stderr
    assert "done        │ 3" in result.stderr
    again = quick(folder, "-r", "-o", out, *INLINE)
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr.startswith("3 of 3 photographs are done already and kept.\n")


def test_results_beside_the_photographs_are_no_photographs(quick, folder):
    quick(folder, *INLINE)
    again = quick(folder, *INLINE, "--json")
    records = [json.loads(line) for line in again.stdout.splitlines()]
    assert [record["status"] for record in records] == ["kept", "kept"]
    assert records[0]["files"]["image"] == f"{folder}/a_blindsr_x2.png"
    assert (folder / "blindsr-manifest.jsonl").is_file()
    # The same by names, as a shell expands *.png.
    named = quick(*sorted(folder.glob("*.png")), *INLINE)
    assert (named.exit_code, named.stdout) == (0, "")


def test_a_bad_file_is_reported_the_others_continue_and_the_exit_code_is_one(quick, folder):
    (folder / "a.png").write_bytes(b"hello, I am a letter")
    result = quick(folder, *INLINE)
    assert result.exit_code == 1
    assert result.stdout == f"{folder}/b c_blindsr_x2.png\n"
    assert result.stderr.splitlines()[0].startswith(f"failed: {folder}/a.png: needed PNG")
    assert "failed      │ 1" in result.stderr
    assert f"{folder}/a.png │ needed PNG" in result.stderr
    assert (
        "What is done is kept: correct the causes of the failures, and run the same command again. (" in result.stderr
    )
    assert "Traceback" not in result.stderr


def test_a_name_that_no_file_has_is_to_be_corrected(quick, folder):
    result = quick(folder / "a.png", folder / "typo.png", *INLINE)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    words = "Check the name; put quotes around a name with spaces. What is done is kept. ("
    assert last.startswith(f"This file does not exist: {folder}/typo.png. {words}")
    (folder / "b c.png").write_bytes(b"no picture")
    both = quick(folder / "a.png", folder / "b c.png", folder / "typo.png", *INLINE).stderr.splitlines()[-1]
    assert "What is done is kept: correct the causes of the failures, and run the same command again. (" in both


def test_a_warning_is_printed_once_with_the_names_of_its_photographs(quick, folder):
    for number in range(7):
        Image.new("RGBA", (24 + number, 20), (9, 99, 199, 255)).save(folder / f"opaque{number}.png")
    for _ in range(2):  # done, then kept
        result = quick(folder, "--format", "jpeg", *INLINE)
        assert result.exit_code == 0
        assert "with warnings │ 7" in " ".join(result.stderr.split())
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
        assert "alpha" in line
        names = ", ".join(f"{folder}/opaque{number}.png" for number in range(5))
        assert line.endswith(f" ({names} and 2 more)")


def test_warnings_that_differ_in_their_numbers_are_one(quick, folder):
    for number, side in enumerate((30, 40)):
        Image.new("RGB", (side, 30)).save(folder / f"black{number}.png")
    result = quick(folder, "--size", "90x60", *INLINE)
    (line,) = [line for line in result.stderr.splitlines() if "aspect ratio" in line and "black0" in line]
    assert "than the photograph of 30–40×30–48 px" in line


def test_a_failed_photograph_has_the_name_that_the_user_gave(quick, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "a.png").write_bytes(b"no picture")
    os.mkfifo(folder / "pipe.png")
    plan = quick("a.png", "pipe.png", "-o", "out", "--dry-run")
    assert "fails: pipe.png: this is a device or a pipe; save it as a file.\n" in plan.stdout
    result = quick("a.png", "pipe.png", "-o", "out", *INLINE)
    assert "failed: a.png: needed PNG" in result.stderr
    assert str(folder) not in result.stderr


def test_quiet_prints_errors_and_nothing_else(quick, folder, applied):
    (folder / "a.png").write_bytes(b"hello, I am a letter")
    result = quick(folder, *INLINE, "-q")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"failed: {folder}/a.png: needed PNG")
    assert result.stderr.count("\n") == 1
    applied.error = OSError(28, "No space left on device")
    full = quick(folder, "-r", *INLINE, "-q").stderr.splitlines()
    assert full[-1].startswith("stopped: ")


def test_json_is_one_record_for_each_photograph(quick, folder):
    (folder / "a.png").write_bytes(b"hello")
    result = quick(folder, *INLINE, "--json", "-q")
    assert result.stderr == ""
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["status"] for record in records] == ["failed", "done"]
    assert records[0]["source"] == f"{folder}/a.png"
    assert "needed PNG" in records[0]["error"]
    assert records[1]["files"]["image"] == f"{folder}/b c_blindsr_x2.png"
    assert records[1]["consistency"]["psnr_db"] == pytest.approx(36.05, abs=0.05)
    assert "history" not in records[1]


def test_a_dry_run_lists_what_would_be_done_and_does_nothing(quick, folder, applied, tmp_path):
    out = tmp_path / "out"
    result = quick(folder, "-r", "-o", out, "--dry-run")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"to do: {folder}/a.png (40×48 px) → {out}/a_blindsr_x2.png or .tif (80×96 px)"
    assert lines[-1].startswith("3 photographs: 3 to do. Memory: up to about ")
    assert lines[-1].endswith(" GiB. Nothing was done.")
    rows = [json.loads(line) for line in quick(folder, "-o", out, "--dry-run", "--json").stdout.splitlines()]
    assert [(row["status"], row["width"], row["height"], row["bands"]) for row in rows] == 2 * [("open", 40, 48, 3)]
    assert [(row["result_width"], row["result_height"]) for row in rows] == 2 * [(80, 96)]
    sized = quick(folder / "a.png", "-o", out, "--size", "100x", "--dry-run").stdout
    assert "_blindsr_100x.png or .tif (100×120 px)\n" in sized
    assert not out.exists()
    assert applied.calls == []


def test_a_dry_run_names_the_files_that_cannot_be_read_and_fails(quick, folder, applied, tmp_path):
    (folder / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:20])
    (folder / "text.jpg").write_text("no photograph")
    arguments = (folder, folder / "gone.tif", "-o", tmp_path / "out", "--dry-run")
    result = quick(*arguments)
    assert result.exit_code == 1 == quick(*arguments[:-1], *INLINE).exit_code
    lines = result.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["to do", "to do", "fails", "fails", "fails", "5 photographs"]
    for line, name in zip(lines[2:5], ("damaged.png", "text.jpg", "gone.tif"), strict=True):
        assert line.startswith(f"fails: {folder / name}: ")
    assert lines[3].count("text.jpg") == 1
    assert lines[4].endswith("gone.tif: no such file; check the name")
    assert lines[5].startswith("5 photographs: 2 to do, 3 failing. ")
    rows = [json.loads(line) for line in quick(*arguments, "--json", "--force").stdout.splitlines()]
    assert [row["status"] for row in rows] == ["kept", "kept", "failed", "failed", "failed"]
    assert rows[4]["error"] == "no such file; check the name"
    large = quick(folder / "a.png", "-o", tmp_path / "new", "--dry-run", "--max-pixels", "1000")
    assert large.exit_code == 1
    assert "a.png: at most 1000 pixels" in large.stdout


def test_two_results_of_one_name_are_refused_before_any_work(quick, folder, applied, tmp_path):
    shutil.move(folder / "deep" / "er" / "d.png", folder / "deep" / "er" / "a.png")
    arguments = (folder / "a.png", folder / "deep" / "er" / "a.png", "-o", tmp_path / "out", *INLINE)
    result = quick(*arguments)
    assert (result.exit_code, result.stdout, applied.calls) == (1, "", [])
    assert result.stderr.startswith("error: two images would have one result: ")
    assert quick(*arguments, "--name", "{folder}_{stem}.png").exit_code == 0
    assert _images(tmp_path / "out") == ["er_a.png", f"{folder.name}_a.png"]


def test_results_that_exist_are_refused_skipped_or_replaced(quick, folder, applied):
    existing = folder / "a_blindsr_x2.png"
    existing.write_bytes(b"precious")
    arguments = (folder / "a.png", folder / "b c.png", *INLINE)
    refused = quick(*arguments)
    assert (refused.exit_code, applied.calls) == (1, [])
    assert "replace them (overwrite=True, --force), or choose another folder" in refused.stderr
    skipped = quick(*arguments, "--skip-existing")
    assert skipped.exit_code == 0
    assert "1 of 2 photographs have a result and are skipped." in skipped.stderr
    assert existing.read_bytes() == b"precious"
    assert quick(*arguments, "--force").exit_code == 0
    assert existing.read_bytes() != b"precious"


def test_a_format_and_a_template_name_the_results(quick, folder, tmp_path):
    out = tmp_path / "out"
    quick(folder, "-o", out, "--format", "jpeg", "--name", "{stem}-{preset}", *INLINE)
    assert sorted(p.name for p in out.glob("*.jpg")) == ["a-default.jpg", "b c-default.jpg"]


def test_upscale_takes_many_with_one_kernel(known, folder, tmp_path):
    result = known(folder, "-o", tmp_path / "out", "--kernel", "gaussian:1.2", *INLINE)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert json.loads((tmp_path / "out" / "a_blindsr_x2.json").read_text())["estimate"] is None
    again = known(folder, "-o", tmp_path / "out", "--kernel", "gaussian:1.3", *INLINE)
    assert again.exit_code == 1, "another kernel is another result"
    assert "this run would replace" in again.stderr
    sized = known(folder, "-o", tmp_path / "sized", "--kernel", "gaussian:1.2", "--size", "100x", *INLINE)
    assert sized.exit_code == 0, sized.stderr
    with Image.open(tmp_path / "sized" / "a_blindsr_100x.png") as image:
        assert image.size == (100, 120)


def test_a_glob_in_quotes_and_a_report_for_each(quick, folder, tmp_path):
    result = quick(folder / "b*.png", "-o", tmp_path / "out", "--report", *INLINE)
    assert result.stdout == f"{tmp_path}/out/b c_blindsr_x2.png\n"
    assert (tmp_path / "out" / "b c_blindsr_x2.html").is_file()


def test_a_report_with_a_known_kernel(known, folder, tmp_path):
    result = known(folder / "a.png", "--kernel", "box", "-o", tmp_path / "o.png", "--report")
    assert result.exit_code == 0
    assert "The kernel was given" in (tmp_path / "o.html").read_text(encoding="utf-8")


def test_names_that_could_control_a_terminal_are_written_as_escapes(quick, folder, tmp_path):
    evil = folder / "x\x1b[31m\nred.png"
    evil.write_bytes(b"no picture")
    result = quick(folder, "-o", tmp_path / "out", *INLINE)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert "x\\x1b[31m\\nred.png" in result.stderr


def test_an_interruption_is_one_line_and_keeps_what_is_done(quick, folder, applied, tmp_path):
    arguments = (folder, "-o", tmp_path / "out", *INLINE)
    quick(folder / "a.png", "-o", tmp_path / "out", *INLINE)
    applied.error = KeyboardInterrupt()
    result = quick(*arguments)
    assert result.exit_code == 130
    assert result.stderr.endswith(
        "1 of 2 photographs are done and kept: run the same command again for the rest.\n"
        "error: interrupted; no incomplete file was left.\n"
    )
    assert "done and kept" not in quick(*arguments, "-q").stderr
    applied.error = None
    assert quick(*arguments).stdout == f"{tmp_path}/out/b c_blindsr_x2.png\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "out.png"), "-o names a folder"),
        (("--skip-existing", "--force"), "give one of them"),
        (("--executor", "dask"), "belong together"),
        (("--scheduler", "tcp://x:1"), "belong together"),
        (("--task-resources", "GPU=1"), "is for --executor dask"),
        (("--executor", "dask", "--scheduler", "tcp://x:1", "--jobs", "2"), "--jobs is for this machine"),
        (("--executor", "inline", "--jobs", "2"), "is one process"),
    ],
)
def test_a_contradiction_is_a_usage_error(quick, folder, applied, arguments, words):
    result = quick(folder, *arguments)
    assert (result.exit_code, result.stdout, applied.calls) == (2, "", [])
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize("template", ["{stem.__class__}", "larger", "a/{stem}"])
def test_a_template_that_cannot_be_used_is_one_line(quick, folder, template):
    result = quick(folder, "--name", template)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the name template")
    assert result.stderr.count("\n") == 1


def test_an_address_among_photographs_is_refused(quick, folder):
    result = quick(folder / "a.png", "https://example.com/b.png", *INLINE)
    assert result.exit_code == 2
    assert "https://example.com/b.png is an address" in result.stderr


def test_options_of_a_batch_reach_the_library(quick, folder, spy, tmp_path):
    from blindsr.errors import ConfigError

    call = spy(batch_run, "upscale_files")
    call.error = ConfigError("stop here.")
    options = ("--jobs", 3, "--device", "cpu,auto", "--threads", 1, "--retries", 5, "--max-memory", "6GB")
    quick(folder, "-o", tmp_path / "out", *options, "--manifest", tmp_path / "m.jsonl", "-r")
    quick(folder, *("--executor", "dask", "--scheduler", "tcp://x:1", "--task-resources", "GPU=1"))
    (_, first), (_, second) = call.calls
    assert (first["jobs"], first["device"], first["threads"], first["retries"]) == (3, "cpu,auto", 1, 5)
    assert (first["max_memory"], first["manifest"]) == (6 * 2**30, tmp_path / "m.jsonl")
    assert (first["executor"], first["recursive"]) == ("processes", True)
    assert (second["executor"], second["scheduler"], second["task_resources"]) == ("dask", "tcp://x:1", "GPU=1")
    assert (second["jobs"], second["retries"], second["recursive"]) == (None, 2, False)


def test_a_device_that_does_not_exist_is_one_line(quick, folder):
    result = quick(folder, "--device", "cpu,cuda:77")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the device must be auto or one that this machine has")


def test_a_scheduler_that_is_not_reached_is_one_line(quick, folder, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.2)
    result = quick(folder, "-o", tmp_path / "out", "--executor", "dask", "--scheduler", "tcp://127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in result.stderr


def test_a_shared_kernel_is_estimated_once_and_used_for_all(run, folder, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text("[spectral]\nsplits = 0\n")  # without the estimates of halves, three quarters of the time
    options = ("--shared-kernel", *INLINE, "--estimator", "spectral", "--upscaler", "bicubic", "--config", config)
    arguments = ("estimate-and-upscale", folder, "-o", tmp_path / "out", *options)
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("shared kernel from 2 of 2 images: FWHM ")
    assert "warning: shared kernel" not in result.stderr
    records = [json.loads((tmp_path / "out" / f"{name}_blindsr_x2.json").read_text()) for name in ("a", "b c")]
    assert records[0]["kernel"]["digest"] == records[1]["kernel"]["digest"]
    assert records[0]["estimate"] is None
    assert (tmp_path / "out" / "blindsr-shared.kernel.npz").is_file()
    assert "2 of 2 photographs are done already" in run(*arguments).stderr
    planned = run(*arguments, "--dry-run")
    assert (planned.exit_code, planned.stderr) == (0, "")
    assert "2 photographs: 0 to do, 2 kept" in planned.stdout
    kernel = (tmp_path / "out" / "blindsr-shared.kernel.json").read_bytes()
    assert "Nothing was done" in run(*arguments, "--seed", 1).stderr
    assert (tmp_path / "out" / "blindsr-shared.kernel.json").read_bytes() == kernel
    Image.new("RGB", (100, 120)).save(folder / "large.png")
    sized = run(*arguments, "--size", "120x144", "--force")
    assert sized.exit_code == 1
    assert "needs ×2 and ×3 for these images; give a scale (scale=, --scale)" in sized.stderr
