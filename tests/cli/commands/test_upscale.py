"""`estimate-and-upscale` and `upscale` with one photograph: what is printed and what is written."""

import errno
import io
import json
import math
import os

import click
import numpy as np
import pytest
import tifffile
import torch
from images import photograph, psnr, samples
from PIL import Image

from blindsr.image_io import read_photo
from blindsr.kernels import Kernel, KernelEstimate, bicubic, box, gaussian
from blindsr.kernels.files import kernel_bytes, mat_bytes, read_kernel
from blindsr.ops import degrade, imresize
from blindsr.pipelines import blind
from blindsr.runtime import available_devices

pytestmark = pytest.mark.usefixtures("small_network")

SUMMARY = """kernel: bicubic (8×8 for ×2)
consistency: 36.0 dB. PSNR between the input and the result degraded by the kernel. A low value is an alarm; \
a high one does not prove the kernel, as a wrong one can be consistent too.
done in {seconds} s: 80×96 px
files: {folder}/photo_blindsr_x2.png, with photo_blindsr_x2.kernel.npz, photo_blindsr_x2.kernel.png, \
photo_blindsr_x2.json beside it
"""


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _size(path):
    with Image.open(path) as image:
        return image.size


def _kernel(path, scale=2):
    return read_kernel(path, scale=scale)[0]


def _text(result):
    return " ".join(result.stderr.split())


def test_the_path_is_printed_with_a_summary_and_four_files_are_written(quick, photo):
    result = quick(photo)
    folder = photo.parent
    record = json.loads((folder / "photo_blindsr_x2.json").read_text())
    assert result.exit_code == 0
    assert result.stdout == f"{folder}/photo_blindsr_x2.png\n"
    seconds = result.stderr.split("done in ")[1].split(" s")[0]
    assert abs(float(seconds) - record["seconds"]) < 0.5
    assert result.stderr == SUMMARY.format(seconds=seconds, folder=folder)
    assert _names(folder) == [
        "photo.png",
        "photo_blindsr_x2.json",
        "photo_blindsr_x2.kernel.npz",
        "photo_blindsr_x2.kernel.png",
        "photo_blindsr_x2.png",
    ]
    assert _size(folder / "photo_blindsr_x2.png") == (80, 96)


def test_json_is_one_line_on_stdout_with_paths_and_without_curves(quick, photo):
    result = quick(photo, "--json", "-q")
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    folder = photo.parent
    assert record["files"] == {
        "image": f"{folder}/photo_blindsr_x2.png",
        "kernel": f"{folder}/photo_blindsr_x2.kernel.npz",
        "kernel_plot": f"{folder}/photo_blindsr_x2.kernel.png",
        "record": f"{folder}/photo_blindsr_x2.json",
    }
    assert "history" not in record
    assert record["consistency"]["psnr_db"] == pytest.approx(36.05, abs=0.05)
    assert "does not prove" in record["consistency"]["meaning"]


def test_quiet_prints_nothing_on_stderr(quick, photo):
    result = quick(photo, "--quiet")
    assert (result.stdout, result.stderr) == (f"{photo.parent}/photo_blindsr_x2.png\n", "")


def test_verbose_prints_stages(quick, photo):
    assert quick(photo, "--verbose").stderr.startswith("bicubic: started\nbicubic: 0 steps done\nkernel: ")


def test_warnings_are_printed_and_kept_in_the_record(quick, tmp_path):
    path = tmp_path / "a.tif"
    pages = np.zeros((2, 40, 48), np.uint8)
    pages[:, 10:30, 10:30] = 200
    tifffile.imwrite(path, pages, photometric="minisblack")
    result = quick(path)
    assert result.exit_code == 0, result.stderr
    assert "warning: " in result.stderr
    assert "page 1" in result.stderr
    assert any("page 1" in text for text in json.loads((tmp_path / "a_blindsr_x2.json").read_text())["warnings"])
    assert quick(path, "--page", 2, "-q", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("options", "name", "size", "kernel_scale"),
    [
        (["--scale", "2.5"], "photo_blindsr_x2.5", (100, 120), 3),
        (["--scale", "1x2"], "photo_blindsr_x1x2", (40, 96), 2),
        (["--scale", "6"], "photo_blindsr_x6", (240, 288), 6),
        (["--size", "100x120"], "photo_blindsr_100x120", (100, 120), 3),
        (["--size", "80x"], "photo_blindsr_80x", (80, 96), 2),
        (["--size", "x120"], "photo_blindsr_x120", (100, 120), 3),
    ],
)
def test_scales_and_sizes(quick, photo, options, name, size, kernel_scale):
    result = quick(photo, *options, "-q")
    assert (result.stdout, result.stderr) == (f"{photo.parent}/{name}.png\n", "")
    assert _size(photo.parent / f"{name}.png") == size
    assert _kernel(photo.parent / f"{name}.kernel.npz", kernel_scale).scale == kernel_scale


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scale", "2.5"], "the kernel for ×3 is used, and the result of 120×144 px is reduced to 100×120 px"),
        (["--scale", "1x2"], "the kernel for ×2 is used, and the result of 80×96 px is reduced to 40×96 px"),
        (["--scale", "3"], None),
    ],
)
def test_a_scale_that_is_computed_by_a_larger_one_is_explained(quick, photo, options, words):
    lines = [line for line in quick(photo, *options).stderr.splitlines() if line.startswith("scale: ")]
    assert lines == ([] if words is None else [f"scale: {words}"])


def test_a_size_of_another_aspect_ratio_is_reported(quick, photo):
    result = quick(photo, "--size", "100x60")
    assert "warning: the size 100×60 px has another aspect ratio than the photograph of 40×48 px" in result.stderr
    assert "a width of 100 px alone keeps it (100×120 px)" in result.stderr
    assert _size(photo.parent / "photo_blindsr_100x60.png") == (100, 60)


@pytest.mark.parametrize("size", ["30x30", "30x"])
def test_a_size_that_does_not_enlarge_is_an_error(quick, photo, size):
    result = quick(photo, "--size", size)
    assert result.exit_code == 1
    assert (
        f"the size must enlarge the photograph of 40×48 px, by 8 at most, or keep its size, got {size}; "
        in result.stderr
    )


@pytest.mark.parametrize("size", ["900x900", "900x"])
def test_a_size_that_is_too_large_is_told_the_largest(quick, photo, size):
    line = quick(photo, "--size", size).stderr
    assert f"of 40×48 px by 8 at most, got {size}; give up to 320×384 px.\n" in line
    assert "smaller" not in line


def test_a_size_is_that_of_the_upright_picture(known, photo):
    exif = Image.Exif()
    exif[274] = 6  # 40×48 px in the file, 48×40 upright
    turned = photo.with_name("turned.jpg")
    Image.open(photo).save(turned, exif=exif)
    result = known(turned, "--kernel", "gaussian:1.2", "--size", "96x80", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert _size(photo.with_name("turned_blindsr_96x80.png")) == (96, 80)


def test_sidecar_files_follow_the_name_of_the_output(quick, photo):
    target = photo.parent / "out" / "big.tif"
    target.parent.mkdir()
    result = quick(photo, "-o", target, "-q")
    assert result.stdout == f"{target}\n"
    assert _names(target.parent) == ["big.json", "big.kernel.npz", "big.kernel.png", "big.tif"]


@pytest.mark.parametrize("name", ["existing", "new/", "new/deeper/"])
def test_an_output_folder_receives_the_result_under_its_usual_name(quick, photo, name):
    folder = photo.parent / "somewhere"
    (folder / "existing").mkdir(parents=True)
    result = quick(photo, "-o", f"{folder}/{name}", "--scale", "2.5", "--report")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{folder / name}/photo_blindsr_x2.5.png\n"
    assert _names(folder / name) == [
        f"photo_blindsr_x2.5{suffix}" for suffix in (".html", ".json", ".kernel.npz", ".kernel.png", ".png")
    ]


def test_a_new_folder_of_a_run_that_fails_is_removed(quick, photo):
    assert quick(photo.parent / "no.png", "-o", f"{photo.parent}/new/deeper/").exit_code == 1
    assert _names(photo.parent) == ["photo.png"]


def test_a_new_name_without_suffix_may_mean_a_folder(quick, photo):
    result = quick(photo, "-o", photo.parent / "new")
    assert result.exit_code == 2
    assert f"write {photo.parent}/new/ for a folder, or {photo.parent}/new.png for a file" in _text(result)


def test_options_become_settings(run, photo, upscaled, applied):
    from blindsr.errors import ConfigError

    upscaled.error = ConfigError("stop here.")
    run(
        *("estimate-and-upscale", photo, "--preset", "fast", "--estimator", "kernelgan", "--seed", 5, "--scale", 3),
        *("--region", "1,2,16,20", "--precision", "fp32", "--device", "cpu", "--threads", 1, "--noise", 2.55, "-q"),
        *("--max-memory", "3GB", "--max-pixels", "5M", "--force"),
    )
    ((arguments, options),) = upscaled.calls
    settings = arguments[1]
    assert (settings.estimator, settings.seed, settings.scale) == ("kernelgan", 5, 3)
    assert (settings.create_upscaler().config.seed, settings.create_estimator().config.seed) == (5, 5)
    assert (settings.region.x, settings.region.y, settings.region.width, settings.region.height) == (1, 2, 16, 20)
    assert settings.noise_sigma == pytest.approx(0.01)
    assert settings.create_upscaler().config.precision == "fp32"
    assert settings.create_upscaler().config.steps == 0
    assert (options["device"], options["max_memory"], options["overwrite"]) == ("cpu", 3 * 2**30, True)
    assert options["files"].max_pixels == 5_000_000
    run("upscale", photo, "--kernel", "bicubic", "--zssr-setting", "ideal", "-q")
    zssr = upscaled.calls[1][0][1].create_upscaler()
    assert (zssr.name, zssr.config.setting, zssr.config.ensemble, zssr.config.back_projections) == (
        *("zssr", "ideal", True),
        (10,),
    )


def test_there_is_one_thread_for_each_free_core_unless_threads_are_given(quick, photo, monkeypatch):
    requested = []
    monkeypatch.setattr("blindsr.runtime.torch.set_num_threads", requested.append)
    for name in ("cores_of_affinity", "usable_cores"):
        monkeypatch.setattr(f"blindsr.cores.{name}", lambda: 7)
    monkeypatch.setattr("blindsr.cores.cores_of_others", lambda: 0.1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "Other programs" not in quick(photo, "--force").stderr
    monkeypatch.setattr("blindsr.cores.cores_of_others", lambda: 4.52)
    note = (
        "Other programs use 4.5 of 7 processor cores, so that 2 threads are fastest now. --threads 7 uses all of them."
    )
    assert note in quick(photo, "--force").stderr
    assert quick(photo, "-q", "--force").stderr == ""
    assert requested == [7, 2, 2]
    assert "Other programs" not in quick(photo, "--force", "--threads", 3).stderr
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "Other programs" not in quick(photo, "--force").stderr
    assert requested == [7, 2, 2, 3, 5]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scale", "0.9"],
        ["--scale", "nan"],
        ["--size", "100"],
        ["--region", "1,2,3"],
        ["--threads", "0"],
        ["--seed", "-1"],
        ["--preset", "slow"],
        ["--config", "nowhere.toml"],
        ["--estimator", "nope"],
        ["--upscaler", "nope"],
        ["--noise", "200"],
        ["--max-memory", "4"],
        ["--max-pixels", "1T"],
        ["--quality", "0"],
        ["--page", "0"],
        ["--format", "bmp"],
    ],
)
def test_a_value_out_of_bounds_is_a_usage_error(run, photo, applied, arguments):
    result = run("estimate-and-upscale", photo, *arguments)
    assert (result.exit_code, result.stdout, applied.calls) == (2, "", [])
    assert arguments[0] in result.stderr
    assert _names(photo.parent) == ["photo.png"]


@pytest.mark.parametrize("device", ["cuda:77", "toaster"])
def test_a_device_that_does_not_exist_is_one_line(quick, photo, device):
    result = quick(photo, "--device", device)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: the device must be auto or one that this machine has (")
    assert f"got '{device}'" in result.stderr
    assert f"; use --device {available_devices()[0]} (in Python device=" in result.stderr


def test_the_same_command_gives_the_same_files(quick, photo):
    for name in ("a.png", "b.png"):
        assert quick(photo, "-o", photo.parent / name, "-q").exit_code == 0
    for suffix in (".png", ".kernel.npz", ".kernel.png"):
        assert (photo.parent / f"a{suffix}").read_bytes() == (photo.parent / f"b{suffix}").read_bytes()


class TestFiles:
    """Formats, metadata, limits and names of picture files."""

    def test_format_and_quality(self, quick, photo):
        result = quick(photo, "--format", "jpeg", "--quality", "80", "-q")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{photo.with_name('photo_blindsr_x2.jpg')}\n"
        assert read_photo(photo.with_name("photo_blindsr_x2.jpg")).format == "JPEG"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--quality", "80"], "quality is for JPEG, WebP, AVIF and HEIC"),
            (["-o", "o.bmp"], "BMP is not written; name the output o.png"),
            (["-o", "o.gif", "--quality", "80"], "a GIF has none to choose"),
            (["-o", "o.png", "--format", "jpeg"], "name it o.jpg"),
            (["--page", "3"], "page 3 was requested, the file has 1"),
        ],
    )
    def test_what_a_file_cannot_be_is_one_line(self, quick, photo, monkeypatch, options, words):
        monkeypatch.chdir(photo.parent)
        result = quick(photo, *options, "-q")
        assert result.exit_code == 1
        assert words in result.stderr
        assert _names(photo.parent) == ["photo.png"]

    def test_metadata_are_stripped(self, known, photo):
        config = photo.with_name("run.toml")
        config.write_text("[files]\nstrip_metadata = true\n")
        for options, expected in (
            ([], True),
            (["--strip-metadata", "--force"], False),
            (["--config", config, "--force"], False),
            (["--config", config, "--keep-metadata", "--force"], True),
        ):
            result = known(photo, "--kernel", "bicubic", "-q", *options)
            assert result.exit_code == 0, result.stderr
            assert (b"blindsr" in photo.with_name("photo_blindsr_x2.png").read_bytes()) is expected

    @pytest.mark.parametrize(("limit", "code"), [("1000", 1), ("0.001M", 1), ("2k", 0), ("1G", 0)])
    def test_the_limit_of_pixels(self, quick, photo, limit, code):
        result = quick(photo, "--max-pixels", limit, "-q")
        assert result.exit_code == code
        assert ("at most 1000 pixels" in result.stderr) is (code == 1)

    @pytest.mark.parametrize("name", ['it\'s "one"', "two\nlines", "写真 é", "$(touch x); `y` & z", "-dash"])
    def test_names_of_any_kind(self, quick, photo, name):
        source = photo.with_name(f"{name}.png")
        Image.open(photo).save(source)
        result = quick("-q", source)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{source.with_name(f'{name}_blindsr_x2.png')}\n"
        assert source.with_name(f"{name}_blindsr_x2.json").exists()
        assert not photo.with_name("x").exists()

    def test_a_name_that_is_no_text_is_printed_as_its_bytes(self, quick, photo):
        source = photo.with_name(os.fsdecode(b"caf\xe9.png"))
        try:
            source.write_bytes(photo.read_bytes())
        except OSError:
            pytest.skip("this file system takes text alone")
        assert quick("-q", source).stdout_bytes.endswith(b"caf\xe9_blindsr_x2.png\n")


class TestPipe:
    """Standard input and output."""

    @staticmethod
    def _image(data):
        with Image.open(io.BytesIO(data)) as image:
            return image.format, image.size

    def test_a_picture_in_gives_a_picture_out_without_sidecar_files(self, quick, photo):
        result = quick("-", data=photo.read_bytes())
        assert result.exit_code == 0
        assert self._image(result.stdout_bytes) == ("PNG", (80, 96))
        assert "files: to standard output" in result.stderr
        assert _names(photo.parent) == ["photo.png"]

    def test_a_file_to_standard_output(self, known, photo):
        result = known(photo, "--kernel", "bicubic", "-o", "-", "-q")
        assert self._image(result.stdout_bytes) == ("PNG", (80, 96))
        assert (result.stderr, _names(photo.parent)) == ("", ["photo.png"])

    def test_standard_input_to_a_file_with_its_sidecar_files(self, quick, photo, tmp_path):
        target = tmp_path / "big.png"
        result = quick("-", "-o", target, "--report", data=photo.read_bytes())
        assert result.stdout == f"{target}\n"
        assert sorted(p.name for p in tmp_path.glob("big*")) == [
            *("big.html", "big.json", "big.kernel.npz", "big.kernel.png", "big.png")
        ]

    def test_the_format_can_be_chosen(self, quick, photo):
        assert self._image(quick("-", "--format", "webp", data=photo.read_bytes()).stdout_bytes)[0] == "WEBP"

    def test_what_png_cannot_hold_becomes_tiff(self, quick, tmp_path):
        path = tmp_path / "float.tif"
        tifffile.imwrite(path, np.linspace(0, 1, 40 * 48, dtype=np.float32).reshape(40, 48))
        assert quick("-", data=path.read_bytes()).stdout_bytes[:4] in (b"II*\x00", b"MM\x00*")

    def test_a_full_disk_behind_the_pipe_is_one_line(self, quick, photo, monkeypatch):
        echo = click.echo

        def full(message=None, **options):
            if isinstance(message, bytes):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            echo(message, **options)

        monkeypatch.setattr(click, "echo", full)
        result = quick(photo, "-o", "-")
        assert (result.exit_code, result.stdout) == (1, "")
        last = result.stderr.splitlines()[-1]
        assert last.startswith("error: standard output took no image (No space left on device)")
        assert "files:" not in result.stderr

    @pytest.mark.parametrize(("data", "words"), [(b"", "standard input is empty; expected"), (b"hello", "needed PNG")])
    def test_what_is_no_picture_is_one_line(self, quick, data, words):
        result = quick("-", data=data)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert words in result.stderr
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("-", "other.png"), "several photographs"),
            (("-", "--jobs", "2"), "--jobs"),
            (("-", "--json"), "--json need a file"),
            (("-", "--report"), "need a file"),
            (("-", "-o", "folder/"), "name a file by -o, not a folder"),
        ],
    )
    def test_what_a_pipe_cannot_do_is_a_usage_error(self, quick, photo, arguments, words):
        result = quick(*arguments, data=photo.read_bytes())
        assert result.exit_code == 2
        assert words in _text(result)


class TestKnownKernel:
    """`upscale` with --kernel or --sensor."""

    def test_an_estimated_kernel_can_be_given_to_upscale(self, run, known, photo):
        kernel = run("estimate-kernel", photo, "--estimator", "spectral", "-q").stdout.strip()
        before = _kernel(kernel).array
        result = known(photo, "--kernel", kernel)
        assert result.exit_code == 0
        assert np.array_equal(_kernel(photo.parent / "photo_blindsr_x2.kernel.npz").array, before)
        assert "convention" not in result.stderr
        record = json.loads((photo.parent / "photo_blindsr_x2.json").read_text())
        assert record["estimate"] is None

    def test_another_kernel_than_the_one_of_this_name_needs_force(self, run, known, photo):
        run("estimate-kernel", photo, "--estimator", "spectral", "-q")
        before = (photo.parent / "photo_blindsr_x2.kernel.npz").read_bytes()
        result = known(photo, "--kernel", "bicubic")
        assert result.exit_code == 1
        assert "photo_blindsr_x2.kernel.npz exists already; use --force to overwrite it" in result.stderr
        assert (photo.parent / "photo_blindsr_x2.kernel.npz").read_bytes() == before

    @pytest.mark.parametrize(
        ("text", "expected", "words"),
        [
            ("bicubic", bicubic(2), "kernel: given, bicubic (8×8 for ×2)\n"),
            ("box", box(2), "kernel: given, box (2×2 for ×2)\n"),
            ("gaussian:1.2", gaussian(1.44, 2), "kernel: given, FWHM 2.83 px in all directions (12×12"),
            ("gaussian:2,1,0", gaussian([[1, 0], [0, 4]], 2), "kernel: given, FWHM 4.71 px along 0°, 2.39 px across"),
            ("gaussian:2,1,90", gaussian([[4, 0], [0, 1]], 2), "kernel: given, FWHM 4.71 px along 90°, 2.39 px across"),
            ("motion:6,30", None, "kernel: given, FWHM "),
            ("defocus:5", None, "kernel: given, FWHM "),
        ],
    )
    def test_kernels_by_name(self, known, photo, text, expected, words):
        result = known(photo, "--kernel", text)
        assert result.exit_code == 0
        assert words in result.stderr
        if expected is not None:
            assert np.allclose(_kernel(photo.parent / "photo_blindsr_x2.kernel.npz").array, expected.array, atol=1e-12)

    def test_the_angle_of_a_gaussian_is_the_one_that_is_printed(self, known, photo):
        result = known(photo, "--kernel", "gaussian:2,1,30")
        assert "kernel: given, FWHM 4.71 px along 30°, 2.37 px across" in result.stderr

    def test_the_convention_key_and_index_of_a_kernel_file(self, known, photo, tmp_path):
        path = tmp_path / "k.npy"
        np.save(path, np.outer([1, 2, 1], [1, 2, 1]) / 16)
        result = known(photo, "--kernel", path, "--kernel-convention", "mzsr")
        assert "'mzsr'" in result.stderr.splitlines()[0]
        assert np.allclose(_kernel(photo.parent / "photo_blindsr_x2.kernel.npz").centroid, [-0.5, -0.5])
        stack = np.stack([gaussian(1.0, 2).array, gaussian(1.2, 2, size=10).array])
        np.savez(tmp_path / "k.npz", mine=stack)
        options = (
            "--kernel-key",
            "mine",
            "--kernel-index",
            1,
            "--kernel-convention",
            "blindsr",
            "--recenter",
            "--force",
        )
        assert known(photo, "--kernel", tmp_path / "k.npz", *options, "-q").exit_code == 0
        kernel = _kernel(photo.parent / "photo_blindsr_x2.kernel.npz")
        assert kernel.sigmas[0] == pytest.approx(np.sqrt(1.2), rel=0.01)

    @pytest.mark.parametrize("key", [None, "kernel"])
    def test_a_kernel_off_centre_is_warned_of_once_with_what_to_pass(self, run, photo, tmp_path, key):
        Image.fromarray(samples(80, 90)).save(photo)
        index = np.arange(15) - 7
        array = np.exp(-(index[:, None] ** 2 + index[None, :] ** 2) / 5)
        path = tmp_path / ("k.npy" if key is None else "k.mat")
        if key is None:
            np.save(path, array / array.sum())
        else:
            path.write_bytes(mat_bytes({key: array / array.sum()}))
        config = tmp_path / "fast.toml"
        config.write_text("[pretrained]\nsteps = 0\n")
        result = run("upscale", photo, "--kernel", path, "--config", config)
        said = [line for line in result.stderr.splitlines() if "--kernel-convention" in line or "displaced by" in line]
        assert result.exit_code == 0
        assert len(said) == 1
        centre = _kernel(photo.parent / "photo_blindsr_x2.kernel.npz").centroid
        assert np.allclose(centre, 0 if key is None else -0.5, atol=1e-3)

    def test_a_kernel_for_another_scale_is_refused(self, known, photo, tmp_path, applied):
        path = tmp_path / "k.npz"
        path.write_bytes(kernel_bytes(bicubic(3), ".npz"))
        result = known(photo, "--kernel", path, "--scale", "2")
        assert result.exit_code == 1
        assert result.stderr.startswith("error: k.npz is a kernel for scale 3, but scale 2")
        assert applied.calls == []

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            ([], 2, "--kernel FILE|NAME, --kernel-map FILE or --sensor NAME[:BAND]|SPEC.toml"),
            (["--kernel", "gaussian"], 2, "--kernel: the kernel gaussian is written gaussian:SIGMA"),
            (["--kernel", "gaussian:x"], 2, "the kernel gaussian is written gaussian:SIGMA or"),
            (["--kernel", ""], 2, "a kernel is needed, got an empty text; give a file"),
            (["--kernel", "gaussian:0"], 2, "--kernel"),
            (["--kernel", "gaussian:1,2"], 2, "--kernel"),
            (["--kernel", "bicubic:2"], 2, "--kernel"),
            (["--kernel", "gausian:2"], 2, "no file 'gausian:2' (did you mean 'gaussian'?); give a kernel file"),
            (["--kernel", "motion:5"], 2, "motion:LENGTH,ANGLE"),
            (["--kernel", "box", "--sensor", "phone"], 2, "exclude each other"),
            (["--kernel", "box", "--kernel-index", "0"], 2, "apply to kernel files, not to 'box'"),
            (["--kernel", "bicubic", "--kernel-convention", "mzsr"], 2, "--kernel-convention"),
            (["--kernel", "box", "--kernel-index", "x"], 2, "needs a whole number counted from 0, or all"),
            (["--sensor", "nikon"], 1, "fullframe, phone, sentinel2, widefield"),
            (["--sensor", "sentinel2:B9"], 1, "has the bands B2, B3, B4, B8"),
            (["--sensor", "sentinel2"], 1, "error: 4 kernels (B2, B3, B4, B8) need"),
        ],
    )
    def test_a_kernel_that_is_none_is_one_line(self, known, photo, applied, arguments, code, words):
        result = known(photo, *arguments)
        assert (result.exit_code, result.stdout, applied.calls) == (code, "", [])
        assert words in _text(result)

    def test_a_sensor(self, known, photo):
        result = known(photo, "--sensor", "sentinel2:B4")
        assert result.exit_code == 0
        said = "kernel of Sentinel-2 MSI, band B4: model ratio, 10×10 px."
        assert result.stderr.splitlines().count(said) == 1
        assert "warning: kernel of" not in result.stderr
        record = json.loads((photo.parent / "photo_blindsr_x2.json").read_text())
        assert said in record["warnings"]
        assert record["kernel"]["provenance"]["sensor"] == "Sentinel-2 MSI"

    def test_a_kernel_for_each_band(self, known, photo):
        result = known(photo, "--sensor", "sentinel2:B4,B3,B2", "--kernel-model", "psf")
        assert result.exit_code == 0
        record = json.loads((photo.parent / "photo_blindsr_x2.json").read_text())
        assert list(record["band_kernels"]) == ["B4", "B3", "B2"]
        with np.load(photo.parent / "photo_blindsr_x2.kernel.npz") as archive:
            assert archive["bands"].tolist() == ["B4", "B3", "B2"]
        # The file is a kernel file like any other.
        kernel = photo.parent / "photo_blindsr_x2.kernel.npz"
        assert known(photo, "--kernel", kernel, "-o", photo.parent / "b.png").exit_code == 0
        with Image.open(photo.parent / "photo_blindsr_x2.png") as first, Image.open(photo.parent / "b.png") as second:
            assert np.array_equal(np.asarray(first), np.asarray(second))

    def test_linear_light_is_reported_and_can_be_switched_off(self, known, photo):
        on = known(photo, "--sensor", "phone", "-o", photo.parent / "a.png").stderr
        assert "linear light" in on
        off = known(photo, "--sensor", "phone", "--linear-light", "off", "-o", photo.parent / "b.png").stderr
        assert "linear light" not in off
        a, b = (np.asarray(Image.open(photo.parent / f"{n}.png"), dtype=int) for n in "ab")
        assert 0 < np.abs(a - b).max() < 60


def test_a_page_of_one_photograph(run, quick, photo):
    result = quick(photo, "--report")
    page = photo.parent / "photo_blindsr_x2.html"
    assert f"report: {page}\n" in result.stderr
    text = page.read_text(encoding="utf-8")
    assert "to 80×96 px" in text
    assert "http" not in text
    again = quick(photo, "--report")
    assert again.exit_code == 1
    assert "exists already" in again.stderr


@pytest.fixture
def blurred(tmp_path):
    """A photograph of known blur: the sharp original, 192 × 160 px, and the path of its LR image."""
    hr = photograph(192, 160, top=60, left=100)
    lr = degrade(hr, torch.tensor(gaussian(1.96, 2).array, dtype=torch.float32), 2).clamp(0, 1)
    path = tmp_path / "lr.png"
    Image.fromarray(np.rint(255 * lr[0].permute(1, 2, 0).numpy()).astype(np.uint8)).save(path)
    return hr, path


def _decibels(hr, path):
    with Image.open(path) as image:
        sr = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    return psnr(sr, hr, border=8)


@pytest.mark.usefixtures("trained_network")
def test_a_blurred_photograph_gains_decibels_and_both_ways_agree(run, blurred):
    """End to end: estimate, upscale by the pretrained network, write; the same by two commands."""
    hr, path = blurred
    options = ("--preset", "fast", "--precision", "fp32", "--threads", 1)
    result = run("estimate-and-upscale", path, *options, "--estimator", "spectral", "--json", "-q")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["estimate"]["method"] == "spectral"
    baseline = psnr(imresize(photograph_lr(path), 2).clamp(0, 1), hr, border=8)
    gain = _decibels(hr, record["files"]["image"]) - baseline
    assert gain > 2, gain
    kernel = _kernel(record["files"]["kernel"])
    assert kernel.digest == record["kernel"]["digest"]
    assert kernel.sigmas[0] == pytest.approx(1.4, abs=0.3)
    two = run("upscale", path, "--kernel", record["files"]["kernel"], *options, "-o", path.with_name("two.png"), "-q")
    assert two.exit_code == 0, two.stderr
    with Image.open(record["files"]["image"]) as first, Image.open(two.stdout.strip()) as second:
        difference = np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int))
    assert difference.max() == 0


def photograph_lr(path):
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


PRETRAINED = "[pretrained]\nsteps = 2\nbatch = 1\ncrop = 8\n"


@pytest.mark.parametrize(
    ("options", "text", "method", "size"),
    [
        (
            ["--init", "random", "--scale", "2.5"],
            PRETRAINED,
            "bicubic",
            (100, 120),
        ),
        (
            ["--preset", "paper"],
            "[zssr]\nmax_steps = 2\nlayers = 2\nchannels = 4\ncrop = 16\n[kernelgan]\niterations = 2\n",
            "kernelgan",
            (194, 160),
        ),
    ],
)
def test_configured_networks_run(run, drawing, tmp_path, options, text, method, size):
    pixels = photograph(*((48, 40) if method == "bicubic" else (80, 97)))[0].permute(1, 2, 0).numpy()
    Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "run.toml").write_text(text)
    estimator = ["--estimator", "bicubic"] if method == "bicubic" else []
    result = run(
        *("estimate-and-upscale", tmp_path / "wide.png", "--config", tmp_path / "run.toml", *estimator, *options),
        *("--threads", 1, "--json"),
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert _size(record["files"]["image"]) == size
    assert _size(record["files"]["kernel_plot"])[0] > 300
    assert record["estimate"]["method"] == method


def test_the_summary_of_an_estimate_names_the_method_and_its_uncertainty(quick, run, photo, monkeypatch):
    kernel = Kernel(gaussian([[2.0, 0.6], [0.6, 1.2]], 2).array, 2, {"made_by": "spectral"})
    estimate = KernelEstimate(kernel=kernel, method="spectral", warnings=("the photograph is rather flat.",))
    monkeypatch.setattr(blind, "estimate_kernel", lambda *args, **kwargs: estimate)
    result = run("estimate-and-upscale", photo, "--upscaler", "bicubic", "--noise", 0)
    assert "kernel: estimated by spectral, FWHM 3.61 px along 118°, 2.24 px across (14×14 for ×2)\n" in result.stderr
    assert "warning: the photograph is rather flat.\n" in result.stderr
    assert math.isfinite(json.loads((photo.parent / "photo_blindsr_x2.json").read_text())["consistency"]["psnr_db"])


def test_the_scale_one_deblurs_without_enlarging(known, photo):
    result = known(photo, "--scale", "1", "--kernel", "gaussian:1")
    assert result.exit_code == 0, result.stderr
    assert _size(photo.with_name("photo_blindsr_x1.png")) == _size(photo)
    kernel = _kernel(photo.with_name("photo_blindsr_x1.kernel.npz"))
    assert kernel.scale == 2
    again = known(photo, "--scale", "1", "--kernel", photo.with_name("photo_blindsr_x1.kernel.npz"), "--force")
    assert again.exit_code == 0, again.stderr


def test_a_checkpoint_is_named_with_its_file_and_is_read_before_anything_else(run, photo):
    result = run("upscale", photo, "--kernel", "bicubic", "--upscaler", "checkpoint:missing.pth")
    assert result.exit_code == 1
    assert "missing.pth" in result.stderr
    result = run("upscale", photo, "--kernel", "bicubic", "--upscaler", "checkpoint")
    assert result.exit_code == 1
    assert "--upscaler checkpoint:FILE" in " ".join(result.stderr.split())


def test_each_requested_page_has_a_result_of_its_own_and_no_warning_of_the_others(quick, tmp_path):
    pages = [samples(40, 44, top=top) for top in (60, 90, 120)]
    tifffile.imwrite(tmp_path / "a.tif", np.stack(pages), photometric="rgb")
    for page in (1, 2, 3):
        result = quick(tmp_path / "a.tif", "--page", page, "--report")
        assert result.exit_code == 0
        assert "warning" not in result.stderr
        assert result.stdout == f"{tmp_path}/a_page{page}_blindsr_x2.png\n"
        assert f"report: {tmp_path}/a_page{page}_blindsr_x2.html\n" in result.stderr
        enlarged = read_photo(tmp_path / f"a_page{page}_blindsr_x2.png").pixels
        assert abs(enlarged.mean() - pages[page - 1].mean() / 255) < 0.01
    folder = quick(tmp_path / "a.tif", "--page", 2, "-o", f"{tmp_path}/out/")
    assert folder.stdout == f"{tmp_path}/out/a_page2_blindsr_x2.png\n"
    several = quick(tmp_path / "a.tif", tmp_path / "a.tif", "--page", 3, "-o", tmp_path / "all", "--executor", "inline")
    assert several.stdout == f"{tmp_path}/all/a_page3_blindsr_x2.png\n"
    assert "the TIFF has 3 pages: page 1 is used" in quick(tmp_path / "a.tif").stderr


def test_a_setting_of_zssr_for_another_upscaler_is_refused(run, photo):
    result = run("estimate-and-upscale", photo, "--upscaler", "bicubic", "--zssr-setting", "ideal")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: --zssr-setting is for the published ZSSR, and --upscaler is bicubic ([run] in run.toml); leave out one "
        "of them.\n"
    )


def test_more_threads_than_cores_are_warned_of(quick, photo, monkeypatch):
    requested = []
    monkeypatch.setattr("blindsr.runtime.torch.set_num_threads", requested.append)
    monkeypatch.setattr("blindsr.cores.usable_cores", lambda: 2)
    words = "warning: 8 threads on 2 processor cores wait for each other, and are many times slower than 2; --threads 2"
    assert words in quick(photo, "--force", "--threads", 8).stderr
    assert "wait for each other" not in quick(photo, "--force", "--threads", 2).stderr
    assert quick(photo, "-q", "--force", "--threads", 8).stderr == ""
    assert requested == [8, 2, 8]


def test_the_scale_is_that_of_the_kernel_file_unless_one_is_given(known, photo, tmp_path):
    (tmp_path / "k.npz").write_bytes(kernel_bytes(gaussian(1.5, 3), ".npz"))
    result = known(photo, "--kernel", str(tmp_path / "k.npz"))
    assert result.exit_code == 0, result.stderr
    assert _size(photo.with_name("photo_blindsr_x3.png")) == (120, 144)
    refused = known(photo, "--kernel", str(tmp_path / "k.npz"), "--scale", "2")
    assert refused.exit_code != 0
    assert "is a kernel for scale 3, but scale 2 was requested" in _text(refused)


def test_weights_of_another_upscaler_are_refused(quick, photo):
    result = quick(photo, "--init", "leaves", "--upscaler", "lanczos")
    assert result.exit_code != 0
    assert "--init ([run] init) chooses the weights of the pretrained upscaler, and --upscaler is lanczos" in _text(
        result
    )
