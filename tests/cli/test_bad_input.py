"""Every bad input of a user: one clear line, a non-zero exit, nothing lost and nothing incomplete."""

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data

from blindsr.kernels.files import read_kernel
from blindsr.pipelines import blind, memory


def _one_line_error(result, code=1):
    assert (result.exit_code, result.stdout) == (code, "")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def _snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} | {
        path.name: None for path in folder.iterdir() if path.is_dir()
    }


@pytest.mark.parametrize("command", ["estimate-and-upscale", "estimate-kernel"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"", "the file is empty"),
        ("a.png", b"hello, I am a letter", "needed PNG, TIFF, JPEG"),
        ("a.jpg", b"\xff\xd8\xff\xe0garbage", "a.jpg"),
        ("a.tif", b"II*\x00\x08\x00\x00\x00", "a.tif"),
    ],
)
def test_a_file_that_is_no_picture(run, applied, tmp_path, command, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    before = _snapshot(tmp_path)
    assert words in _one_line_error(run(command, path))
    assert _snapshot(tmp_path) == before
    assert applied.calls == []


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_truncated_picture(quick, applied, tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(data.coffee()[:90, :120]).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert path.name in _one_line_error(quick(path))
    assert applied.calls == []


def test_a_folder_without_pictures(quick, run, applied, tmp_path):
    assert "no image was found" in _one_line_error(quick(tmp_path))
    assert "this is a folder; expected an image (" in _one_line_error(run("estimate-kernel", tmp_path))


def test_a_missing_file(quick, applied, tmp_path):
    assert ": no such file; check the name" in _one_line_error(quick(tmp_path / "no.png"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_missing_data(quick, applied, tmp_path, bad):
    samples = data.camera()[:40, :48].astype(np.float32) / 255
    samples[3, 4] = bad
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, samples)
    result = quick(path)
    assert result.exit_code == 0
    assert "missing data in 1 sample: filled from the neighbours for the work, NaN in the result" in result.stderr
    assert np.isnan(tifffile.imread(tmp_path / "a_blindsr_x2.tif")).sum() == 4


def test_a_picture_that_is_too_small_for_an_estimator(run, quick, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(data.astronaut()[:8, :8]).save(path)
    line = _one_line_error(run("estimate-kernel", path, "--estimator", "spectral"))
    assert "8×8" in line or "8 px" in line
    assert "at least" in line or "or more" in line or "16 px" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]
    assert quick(path).exit_code == 0


def test_one_bit_and_cmyk_pictures_are_handled(quick, applied, tmp_path):
    bits = tmp_path / "bits.png"
    Image.fromarray(data.camera()[:40, :48] > 100).save(bits)
    cmyk = tmp_path / "cmyk.jpg"
    Image.fromarray(data.coffee()[:40, :48]).convert("CMYK").save(cmyk)
    for path, channels in ((bits, 1), (cmyk, 3)):
        result = quick(path)
        assert result.exit_code == 0, result.stderr
        assert applied.calls[-1][0][0].source.shape == (channels, 40, 48)
    assert "warning: " in result.stderr, "the conversion of CMYK must be reported"


def test_a_picture_that_does_not_fit_into_memory_is_refused_before_the_work(quick, applied, photo, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 100_000_000)
    line = _one_line_error(quick(photo))
    assert line == (
        "error: upscaling 40×48 px to 80×96 px needs about 258 MiB of memory even in tiles of 32 px, but 95 MiB are "
        "free; crop the photograph, choose a smaller scale, or allow more memory."
    )
    assert applied.calls == []


def test_a_hundred_megapixels_need_less_than_a_small_machine_has_in_small_tiles():
    assert memory.needed_memory(10_000, 10_000, 3, 2.0, tile=512) < 4 * 2**30 < 100_000_000 * 4 * 3 * 4


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((13, 13)), "all zero"),
        (np.ones(13) / 13, "must be a 2-D array"),
        (np.full((5, 5), np.nan), "must be finite"),
        (np.outer([1, 0, -1], [1, 1, 1]), "not a blur kernel"),
    ],
)
def test_an_array_that_is_no_kernel(known, applied, photo, tmp_path, array, words):
    path = tmp_path / "k.npy"
    np.save(path, array)
    assert words in _one_line_error(known(photo, "--kernel", path))
    assert applied.calls == []


def test_a_kernel_larger_than_the_picture(known, photo, tmp_path):
    path = tmp_path / "k.npy"
    np.save(path, np.ones((120, 120)))
    line = _one_line_error(known(photo, "--kernel", path))
    assert "kernel" in line
    assert "120" in line


def test_a_kernel_file_that_is_damaged_or_another_kind_of_file(known, applied, photo, tmp_path):
    path = tmp_path / "k.npz"
    path.write_bytes(b"PK\x03\x04 but no archive")
    assert "k.npz cannot be read" in _one_line_error(known(photo, "--kernel", path))
    assert "a kernel has one band, and those of photo.png differ" in _one_line_error(known(photo, "--kernel", photo))
    document = tmp_path / "k.docx"
    document.write_bytes(b"PK")
    assert ".npz, .npy, .mat" in _one_line_error(known(photo, "--kernel", document))


def test_a_kernel_that_does_not_sum_to_one_is_normalised_with_a_warning(known, applied, photo, tmp_path):
    path = tmp_path / "k.npy"
    np.save(path, np.outer([1, 3, 3, 1], [1, 3, 3, 1]))
    result = known(photo, "--kernel", path)
    assert result.exit_code == 0
    assert "warning: the kernel sums to 64 and was normalised to 1.\n" in result.stderr
    kernel, _ = read_kernel(photo.with_name("photo_blindsr_x2.kernel.npz"), scale=2)
    assert abs(kernel.array.sum() - 1) < 1e-12


@pytest.mark.parametrize("existing", ["photo_blindsr_x2.png", "photo_blindsr_x2.kernel.png", "photo_blindsr_x2.json"])
def test_a_result_that_exists_is_kept_unless_force(quick, applied, photo, existing):
    (photo.parent / existing).write_bytes(b"precious")
    before = _snapshot(photo.parent)
    line = _one_line_error(quick(photo))
    assert f"{existing} exists already; use --force to overwrite it" in line
    assert "--force" in line
    assert _snapshot(photo.parent) == before
    assert applied.calls == []
    assert quick(photo, "--force", "-q").exit_code == 0
    assert (photo.parent / existing).read_bytes() != b"precious"


def test_the_photograph_itself_is_never_overwritten(quick, applied, photo):
    before = photo.read_bytes()
    line = _one_line_error(quick(photo, "-o", photo, "--force"))
    assert "the photograph itself" in line
    assert photo.read_bytes() == before


@pytest.mark.parametrize("name", ["a.gif", "a.xyz", "a.jpg"])
def test_an_output_that_cannot_hold_the_picture_is_refused_before_the_work(quick, applied, tmp_path, name):
    path = tmp_path / "deep.tif"
    samples = np.dstack([data.camera()[:40, :48]] * 4).astype(np.float32) / 255
    tifffile.imwrite(path, samples, photometric="minisblack", planarconfig="contig")
    _one_line_error(quick(path, "-o", tmp_path / name))
    assert applied.calls == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep.tif"]


def test_a_kernel_output_of_another_kind_is_refused(run, applied, photo):
    line = _one_line_error(run("estimate-kernel", photo, "-o", photo.parent / "k.txt"))
    assert line == "error: a kernel file must end in .npz, .npy, .mat, got k.txt; choose one of these suffixes."


@pytest.mark.parametrize("target", ["nowhere/a.png", "photo.png/a.png"])
def test_an_output_folder_that_does_not_exist(quick, applied, photo, target):
    _one_line_error(quick(photo, "-o", photo.parent / target))
    assert applied.calls == []


@pytest.mark.parametrize("letters", [236, 247])  # too long for a sidecar file, and for the image as well
@pytest.mark.parametrize("command", ["estimate-and-upscale", "estimate-kernel"])
def test_a_photograph_whose_name_is_too_long_for_results(run, applied, photo, command, letters):
    path = photo.rename(photo.with_name("a" * letters + ".png"))
    before = _snapshot(path.parent)
    line = _one_line_error(run(command, path, "--estimator", "bicubic", "-q"))
    assert "the name of the output is too long for the file system" in line
    assert _snapshot(path.parent) == before
    assert applied.calls == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["estimate-and-upscale", "PHOTO", "-o", "LONG.png"], "the name of the output is too long"),
        (["estimate-and-upscale", "PHOTO", "-o", "LONG/"], "File name too long; choose a shorter name."),
        (["estimate-and-upscale", "LONG.png"], "the file cannot be read (File name too long); check the name"),
        (["estimate-kernel", "LONG.png"], "the file cannot be read (File name too long); check the name"),
        (["estimate-kernel", "PHOTO", "-o", "LONG.npz"], "the name of the output is too long"),
        (["upscale", "PHOTO", "--kernel-map", "LONG.npz"], "the kernel cannot be read (File name too long)"),
        (["upscale", "PHOTO", "--sensor", "LONG.toml"], "the file cannot be read (File name too long)"),
        (["kernel", "show", "LONG.npz"], "File name too long; choose a shorter name."),
        (["evaluate", "LONG.png", "PHOTO"], "File name too long; choose a shorter name."),
    ],
)
def test_a_path_with_a_name_that_is_too_long(run, applied, photo, arguments, words):
    before = _snapshot(photo.parent)
    long = {
        "PHOTO": str(photo),
        **{f"LONG{end}": str(photo.parent / ("b" * 300)) + end for end in (".png", ".npz", ".toml", "/")},
    }
    assert words in _one_line_error(run(*(long.get(word, word) for word in arguments)))
    assert _snapshot(photo.parent) == before
    assert applied.calls == []


def test_a_kernel_with_a_name_that_is_too_long(known, photo):
    result = known(photo, "--kernel", "k" * 300)
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "the kernel cannot be read (File name too long); check the name and its permissions.\n"
    )


@pytest.mark.parametrize("command", [[], ["--estimator", "spectral"]])
def test_a_folder_that_refuses_files_is_found_before_the_work(quick, spy, photo, monkeypatch, command):
    make = tempfile.TemporaryFile

    def refuse(**options):
        if options.get("dir") == photo.parent:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return make(**options)

    estimated = spy(blind, "estimate_kernel")
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    line = _one_line_error(quick(photo, *command))
    assert line.endswith(": its file system takes no new files; name an output in another folder.")
    assert "free some space" not in line
    assert estimated.calls == []


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"nothing", "header too small")])
def test_weights_that_cannot_be_read_are_found_before_the_work(run, spy, photo, tmp_path, content, words):
    estimated, path = spy(blind, "estimate_kernel"), tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert "w.safetensors" in (line := _one_line_error(run("estimate-and-upscale", photo, "--init", path)))
    assert words in line
    assert estimated.calls == []


def test_a_folder_without_write_permission(quick, applied, photo, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    line = _one_line_error(quick(photo))
    assert "cannot write in the folder" in line
    assert applied.calls == []


def _fill_disk_at(monkeypatch, ending):
    """A disk that is full as soon as a file whose name ends so is written."""
    write = Path.write_bytes

    def full(self, content):
        if self.name.endswith(ending):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)


@pytest.mark.parametrize("name", [".kernel.npz", ".kernel.png"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_full_disk_leaves_everything_as_it_was(quick, applied, photo, monkeypatch, name, force):
    if force:
        (photo.parent / "photo_blindsr_x2.png").write_bytes(b"older")
        (photo.parent / "photo_blindsr_x2.kernel.npz").write_bytes(b"older")
    before = _snapshot(photo.parent)
    _fill_disk_at(monkeypatch, name)
    line = _one_line_error(quick(photo, *force, "-q"))
    assert "the disk is full; free some space there" in line
    assert _snapshot(photo.parent) == before


def test_a_disk_that_is_full_for_the_image_leaves_everything_as_it_was(quick, applied, photo, monkeypatch):
    before = _snapshot(photo.parent)
    sync = os.fsync

    def full(descriptor):
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_size > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    line = _one_line_error(quick(photo, "-q"))
    assert "the disk is full; free some space there" in line
    assert str(photo.parent) in line
    assert _snapshot(photo.parent) == before


def test_a_rename_that_fails_takes_the_earlier_ones_back(quick, applied, photo, monkeypatch):
    before = _snapshot(photo.parent)
    replace = Path.replace

    def refuse(self, target):
        if str(target).endswith("x2.png"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    line = _one_line_error(quick(photo, "-q"))
    assert "Input/output error; name an output in another folder" in line
    assert _snapshot(photo.parent) == before


def test_an_interruption_leaves_nothing_and_exits_with_130(quick, applied, photo):
    before = _snapshot(photo.parent)
    applied.error = KeyboardInterrupt()
    line = _one_line_error(quick(photo, "-q"), code=130)
    assert line == "error: interrupted; no incomplete file was left."
    assert _snapshot(photo.parent) == before


@pytest.mark.parametrize("threads", [0, 99_999_999_999, 10**400], ids=["0", "64 bits", "no float"])
def test_no_number_of_threads_is_an_internal_error(run, photo, threads):
    result = run("estimate-and-upscale", photo, "--threads", threads)
    assert result.exit_code == 2
    assert "'--threads': needs a whole number from 1 to 4096" in " ".join(result.stderr.split())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_real_training_leaves_nothing_and_exits_with_130(photo, sent):
    config = photo.parent / "long.toml"
    config.write_text("[pretrained]\nsteps = 1000000\nreport_every = 1\nbatch = 1\nviews = [0]\nvalidation_side = 16\n")
    before = _snapshot(photo.parent)
    command = [
        sys.executable,
        "-m",
        "blindsr",
        "upscale",
        photo,
        "--kernel",
        "bicubic",
        "--config",
        config,
        "-v",
        "--threads",
        "1",
    ]
    # A suite that a shell runs in the background has SIGINT ignored, and its children inherit that.
    own = signal.signal(sent, signal.SIG_DFL)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(sent, own)
    with process:
        line = process.stderr.readline()
        while line and "step 3 " not in line:
            line = process.stderr.readline()
        assert line, "the training never began"
        process.send_signal(sent)
        try:
            out, err = process.communicate(timeout=60)  # a million steps would take a day
        finally:
            process.kill()  # nothing of a test that fails goes on
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "error: interrupted; no incomplete file was left."
    assert "Traceback" not in err
    assert _snapshot(photo.parent) == before


@pytest.mark.usefixtures("small_network")
def test_a_flat_picture_gets_a_safe_kernel_and_a_warning(run, tmp_path):
    path = tmp_path / "flat.png"
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(path)
    config = tmp_path / "quick.toml"
    config.write_text("[pretrained]\nsteps = 2\n")
    result = run("estimate-and-upscale", path, "--config", config, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert "warning: the image is flat" in result.stderr
    with Image.open(tmp_path / "flat_blindsr_x2.png") as image:
        values = np.asarray(image)
    assert values.shape == (80, 96, 3)


def test_a_region_outside_of_the_picture(run, photo):
    line = _one_line_error(run("estimate-kernel", photo, "--region", "30,30,20,20"))
    assert "inside the image of 40×48 px" in line


def test_an_unknown_key_in_the_config_file(quick, applied, photo, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[pretrained]\nstep = 3\n")
    line = _one_line_error(quick(photo, "--config", path))
    assert line == "error: run.toml: [pretrained] has no key 'step' (did you mean 'steps'?)."


def test_a_large_image_is_no_kernel(known, photo, tmp_path):
    path = tmp_path / "page.png"
    Image.new("L", (1200, 20), 9).save(path)
    line = _one_line_error(known(photo, "--kernel", path))
    assert "can be up to 1001 px a side, page.png has 1200×20, as a photograph; name a kernel" in line


def test_a_result_in_another_format_keeps_what_describes_the_first(quick, photo):
    assert quick(photo, "--format", "tiff", "-q").exit_code == 0
    before = _snapshot(photo.parent)
    line = _one_line_error(quick(photo, "--format", "webp"))
    assert "photo_blindsr_x2.json exists already, and describes " in line
    assert "photo_blindsr_x2.tif: two results that differ in their format alone have one name for it" in line
    assert _snapshot(photo.parent) == before
    assert quick(photo, "--format", "webp", "--force", "-q").exit_code == 0
    tiff = photo.with_name("photo_blindsr_x2.tif")
    assert _snapshot(photo.parent)[tiff.name] == before[tiff.name]


def test_a_missing_checkpoint_is_named_once(quick, photo, tmp_path):
    path = tmp_path / "none.pth"
    line = _one_line_error(quick(photo, "--upscaler", f"checkpoint:{path}"))
    assert f"the checkpoint {path} cannot be read: No such file or directory; check the name" in line
    assert "Errno" not in line


def test_a_page_that_a_file_of_one_image_does_not_have(quick, photo):
    assert "page 2 was requested, the file has 1; leave the page out" in _one_line_error(quick(photo, "--page", "2"))


def test_standard_input_that_is_no_image_is_called_so(run, tmp_path):
    result = run("estimate-and-upscale", "-", "-o", tmp_path / "a.png", data=b"hello")
    assert _one_line_error(result).startswith("error: standard input: needed PNG, ")
