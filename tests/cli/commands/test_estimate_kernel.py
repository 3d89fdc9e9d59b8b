import json

import pytest
from PIL import Image

from blindsr.kernels import bicubic
from blindsr.kernels.files import read_kernel
from tests.images import samples


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def estimate(run, photo):
    def invoke(*arguments):
        return run("estimate-kernel", photo, "--estimator", "bicubic", *arguments)

    return invoke


def test_the_path_of_the_kernel_is_printed_and_three_files_are_written(estimate, photo):
    result = estimate()
    folder = photo.parent
    assert result.exit_code == 0
    assert result.stdout == f"{folder}/photo_blindsr_x2.kernel.npz\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "kernel: bicubic (8×8 for ×2)"
    assert lines[1].startswith("done in ")
    assert lines[2] == (
        f"files: {folder}/photo_blindsr_x2.kernel.npz, with photo_blindsr_x2.kernel.png, "
        "photo_blindsr_x2.kernel.json beside it"
    )
    assert _names(folder) == [
        "photo.png",
        "photo_blindsr_x2.kernel.json",
        "photo_blindsr_x2.kernel.npz",
        "photo_blindsr_x2.kernel.png",
    ]
    kernel, _ = read_kernel(folder / "photo_blindsr_x2.kernel.npz", scale=2)
    assert kernel.digest == bicubic(2).digest
    again = estimate()
    assert again.exit_code == 1
    assert "photo_blindsr_x2.kernel.npz exists already" in again.stderr
    assert estimate("--force", "-q").stderr == ""


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
def test_the_suffix_of_the_output_chooses_the_format(estimate, photo, suffix):
    target = photo.parent / f"k{suffix}"
    assert estimate("-o", target, "-q").stdout == f"{target}\n"
    assert {"k.kernel.json", "k.kernel.png", f"k{suffix}"} <= set(_names(photo.parent))


@pytest.mark.parametrize("name", ["existing", "new/"])
def test_an_output_folder(estimate, photo, name):
    (photo.parent / "existing").mkdir()
    result = estimate("-o", f"{photo.parent}/{name}", "--scale", "2.5")
    assert "scale: ×2.5 is upscaled at ×3, which the kernel is for, and reduced\n" in result.stderr
    assert result.stdout == f"{photo.parent / name}/photo_blindsr_x2.5.kernel.npz\n"
    assert len(_names(photo.parent / name)) == 3


def test_the_widths_of_the_bicubic_kernel_are_null_in_the_record(estimate):
    kernel = json.loads(estimate("--json", "-q").stdout)["kernel"]
    assert [kernel[name] for name in ("sigma_long", "sigma_short", "angle_degrees")] == [None] * 3


def test_json_and_the_estimate_of_a_real_estimator(run, photo):
    result = run("estimate-kernel", photo, "--estimator", "spectral", "--json", "--threads", 1)
    record = json.loads(result.stdout)
    assert record["estimate"]["method"] == "spectral"
    assert record["files"]["kernel"] == f"{photo.parent}/photo_blindsr_x2.kernel.npz"
    assert "kernel: estimated by spectral, FWHM " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "k.txt"], 1, "a kernel file must end in .npz, .npy, .mat, got k.txt"),
        (["-o", "-"], 2, "- is for estimate-and-upscale and upscale"),
        (["--region", "30,30,20,20"], 1, "inside the image of 40×48 px"),
        (["--device", "cuda:77"], 1, "the device must be auto or one that this machine has"),
    ],
)
def test_what_cannot_be_is_one_line(estimate, photo, monkeypatch, arguments, code, words):
    monkeypatch.chdir(photo.parent)
    result = estimate(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in " ".join(result.stderr.split())
    assert _names(photo.parent) == ["photo.png"]


def test_several_photographs_are_refused_with_the_commands_for_them(run, photo):
    result = run("estimate-kernel", photo, photo)
    assert (result.exit_code, result.stdout) == (2, "")
    said = " ".join(result.stderr.split())
    assert "estimate-kernel takes one photograph, got 2; for one kernel of several photographs: blindsr" in said
    assert _names(photo.parent) == ["photo.png"]


def test_standard_input_is_no_photograph_here(run):
    result = run("estimate-kernel", "-")
    assert result.exit_code == 2
    assert "estimate-kernel reads a file" in result.stderr


def test_the_page_of_a_file_is_said_without_an_advice_that_the_command_refuses(run, tmp_path):
    frames = [Image.fromarray(samples(40, 44, top=top)) for top in (60, 90, 120)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    result = run("estimate-kernel", tmp_path / "film.gif", "--estimator", "bicubic", "--page", 2)
    assert "warning" not in result.stderr
    assert result.stdout == f"{tmp_path / 'film_page2_blindsr_x2.kernel.npz'}\n"
    first = run("estimate-kernel", tmp_path / "film.gif", "--estimator", "bicubic")
    assert first.stderr.splitlines()[0] == "warning: the file has 3 images: image 1 is used."
    assert "--page all" not in first.stderr
    assert run("estimate-kernel", tmp_path / "film.gif", "--page", "all", "--force").exit_code == 1
    upscaled = run("estimate-and-upscale", tmp_path / "film.gif", "--estimator", "bicubic", "--upscaler", "bicubic")
    assert 'image 1 is used; page="all" (--page all) upscales every image' in upscaled.stderr
