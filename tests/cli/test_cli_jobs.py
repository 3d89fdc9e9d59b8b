import json

import numpy as np
import pytest
from PIL import Image

from blindsr.cli._show import kernel_in_words
from blindsr.kernels import Kernel, bicubic, box, gaussian
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.pipelines.auto import bicubic_instead

SUMMARY = """note: the photograph is rather flat.
kernel: estimated by spectral, σ 1.52 px along 118°, 0.94 px across (14×14 for ×2)
consistency: 51.3 dB. PSNR between the input and the result degraded by the kernel. Low is an alarm; \
high proves nothing about the kernel: any kernel, right or wrong, can be made consistent.
done: 80×96 px in {seconds} s
files: {folder}/photo_blindsr_x2.png, and beside it photo_blindsr_x2.kernel.npz, photo_blindsr_x2.kernel.png, \
photo_blindsr_x2.json
"""


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _size(path):
    with Image.open(path) as image:
        return image.size


def test_the_main_job_prints_the_path_and_a_summary_and_writes_four_files(run, photo, fakes):
    result = run("estimate-and-upscale", photo)
    folder = photo.parent
    record = json.loads((folder / "photo_blindsr_x2.json").read_text())
    assert result.exit_code == 0
    assert result.stdout == f"{folder}/photo_blindsr_x2.png\n"
    seconds = result.stderr.split("px in ")[1].split(" s")[0]
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


def test_json_is_one_line_on_stdout_with_paths_and_without_curves(run, photo, fakes):
    result = run("estimate-and-upscale", photo, "--json", "-q")
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    folder = photo.parent
    assert record["files"] == {
        "image": f"{folder}/photo_blindsr_x2.png",
        "kernel": f"{folder}/photo_blindsr_x2.kernel.npz",
        "kernel_picture": f"{folder}/photo_blindsr_x2.kernel.png",
        "record": f"{folder}/photo_blindsr_x2.json",
    }
    assert "history" not in record
    assert record["consistency"]["psnr_db"] == 51.26
    assert "proves nothing" in record["consistency"]["meaning"]


def test_quiet_says_nothing_on_stderr(run, photo, fakes):
    result = run("estimate-and-upscale", photo, "--quiet")
    assert (result.stdout, result.stderr) == (f"{photo.parent}/photo_blindsr_x2.png\n", "")


def test_verbose_says_stages_and_losses(run, photo, fakes):
    text = run("estimate-and-upscale", photo, "--verbose").stderr
    assert text.startswith(
        "spectral: begins\nnote: the photograph is rather flat.\nspectral: 1 steps done\n"
        "zssr: at most 2 steps\nzssr: step 2  loss 0.01235\nzssr: 2 steps done\nkernel: "
    )


def test_a_real_scale_is_in_the_name(run, photo, fakes):
    result = run("estimate-and-upscale", photo, "--scale", "2.5", "-q")
    assert result.stdout == f"{photo.parent}/photo_blindsr_x2.5.png\n"
    assert _size(photo.parent / "photo_blindsr_x2.5.png") == (100, 120)
    assert (photo.parent / "photo_blindsr_x2.5.kernel.npz").is_file()
    assert fakes.settings[0].network_scale == 3


def test_the_papers_follow_the_name_of_the_output(run, photo, fakes):
    target = photo.parent / "out" / "big.tif"
    target.parent.mkdir()
    result = run("estimate-and-upscale", photo, "-o", target, "-q")
    assert result.stdout == f"{target}\n"
    assert _names(target.parent) == ["big.json", "big.kernel.npz", "big.kernel.png", "big.tif"]


def test_estimate_kernel_prints_the_path_of_the_kernel(run, photo, fakes):
    result = run("estimate-kernel", photo)
    folder = photo.parent
    assert result.exit_code == 0
    assert result.stdout == f"{folder}/photo_blindsr_x2.kernel.npz\n"
    lines = result.stderr.splitlines()
    assert lines[:2] == [
        "note: the photograph is rather flat.",
        "kernel: estimated by spectral, σ 1.52 px along 118°, 0.94 px across (14×14 for ×2)",
    ]
    assert lines[3] == (
        f"files: {folder}/photo_blindsr_x2.kernel.npz, and beside it photo_blindsr_x2.kernel.png, "
        "photo_blindsr_x2.kernel.json"
    )
    assert _names(folder) == [
        "photo.png",
        "photo_blindsr_x2.kernel.json",
        "photo_blindsr_x2.kernel.npz",
        "photo_blindsr_x2.kernel.png",
    ]
    kernel, _ = read_kernel(folder / "photo_blindsr_x2.kernel.npz", scale=2)
    assert np.allclose(kernel.array, gaussian([[2.0, 0.6], [0.6, 1.2]], 2).array)


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
def test_estimate_kernel_writes_the_kind_of_file_that_the_output_names(run, photo, fakes, suffix):
    target = photo.parent / f"k{suffix}"
    assert run("estimate-kernel", photo, "-o", target, "-q").stdout == f"{target}\n"
    assert {"k.kernel.json", "k.kernel.png", f"k{suffix}"} <= set(_names(photo.parent))


def test_an_estimated_kernel_can_be_given_to_upscale(run, photo, fakes):
    kernel = run("estimate-kernel", photo, "-q").stdout.strip()
    result = run("upscale", photo, "--kernel", kernel)
    assert result.exit_code == 0
    assert np.allclose(fakes.kernels[-1].array, gaussian([[2.0, 0.6], [0.6, 1.2]], 2).array)
    assert "blindsr's own convention" in result.stderr.splitlines()[0]
    record = json.loads((photo.parent / "photo_blindsr_x2.json").read_text())
    assert any("blindsr's own convention" in note for note in record["notes"])


def test_another_kernel_than_the_one_that_lies_there_needs_force(run, photo, fakes):
    run("estimate-kernel", photo, "-q")
    before = (photo.parent / "photo_blindsr_x2.kernel.npz").read_bytes()
    result = run("upscale", photo, "--kernel", "bicubic")
    assert result.exit_code == 1
    assert "photo_blindsr_x2.kernel.npz exists already; choose another name" in result.stderr
    assert (photo.parent / "photo_blindsr_x2.kernel.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bicubic", bicubic(2)),
        ("box", box(2)),
        ("gaussian:1.2", gaussian(1.44, 2)),
        ("gaussian:2,1,0", gaussian([[1, 0], [0, 4]], 2)),
        ("gaussian:2,1,90", gaussian([[4, 0], [0, 1]], 2)),
    ],
)
def test_kernels_by_name(run, photo, fakes, text, expected):
    assert run("upscale", photo, "--kernel", text, "-q").exit_code == 0
    assert np.allclose(fakes.kernels[0].array, expected.array, atol=1e-12)


def test_the_angle_of_a_gaussian_is_the_one_that_is_said_back(run, photo, fakes):
    result = run("upscale", photo, "--kernel", "gaussian:2,1,30")
    assert "kernel: given, σ 2.00 px along 30°, 1.00 px across" in result.stderr


@pytest.mark.parametrize(("name", "size"), [("bicubic", 8), ("box", 2)])
def test_bicubic_and_box_are_said_by_name(run, photo, fakes, name, size):
    text = run("upscale", photo, "--kernel", name).stderr
    assert text.startswith(f"kernel: given, {name} ({size}×{size} for ×2)\n")


def test_a_round_kernel_has_one_width(run, photo, fakes):
    assert (
        "kernel: given, σ 1.20 px in all directions (12×12" in run("upscale", photo, "--kernel", "gaussian:1.2").stderr
    )


def test_a_kernel_by_name_is_made_for_the_scale_of_the_network(run, photo, fakes):
    run("upscale", photo, "--kernel", "bicubic", "--scale", "2.5", "-q")
    assert fakes.kernels[0].scale == 3


@pytest.mark.parametrize("text", ["gaussian", "gaussian:", "gaussian:x", "gaussian:0", "gaussian:1,2", "bicubic:2"])
def test_a_kernel_name_with_wrong_numbers_is_a_usage_error(run, photo, fakes, text):
    result = run("upscale", photo, "--kernel", text)
    assert result.exit_code == 2
    assert "--kernel" in result.stderr
    assert fakes.kernels == []


def test_a_kernel_that_is_neither_a_name_nor_a_file_is_a_usage_error(run, photo, fakes):
    result = run("upscale", photo, "--kernel", "gausian:2")
    assert result.exit_code == 2
    assert "no file 'gausian:2'; give a kernel file, bicubic, box, gaussian:SIGMA" in " ".join(result.stderr.split())


def test_the_convention_of_a_kernel_file_can_be_named(run, photo, fakes, tmp_path):
    path = tmp_path / "k.npy"
    np.save(path, np.outer([1, 2, 1], [1, 2, 1]) / 16)
    result = run("upscale", photo, "--kernel", path, "--kernel-convention", "mzsr")
    assert result.stderr.startswith("note: the kernel was read in the convention 'mzsr', as asked for.\n")
    assert np.allclose(fakes.kernels[0].centroid, [-0.5, -0.5])


def test_a_convention_without_a_file_is_a_usage_error(run, photo, fakes):
    result = run("upscale", photo, "--kernel", "bicubic", "--kernel-convention", "mzsr")
    assert result.exit_code == 2
    assert "--kernel-convention" in result.stderr


def test_options_reach_the_pipeline(run, photo, fakes):
    run(
        *("estimate-and-upscale", photo, "--preset", "fast", "--estimator", "kernelgan", "--seed", 5, "--scale", 3),
        *("--region", "1,2,16,20", "--precision", "fp32", "--device", "cpu", "--threads", 1, "-q"),
    )
    settings = fakes.settings[0]
    assert (settings.estimator, settings.seed, settings.scale) == ("kernelgan", 5, 3)
    assert (settings.zssr.seed, settings.kernelgan.seed, settings.spectral.seed) == (5, 5, 5)
    assert (settings.region.x, settings.region.y, settings.region.width, settings.region.height) == (1, 2, 16, 20)
    assert settings.zssr.precision == "fp32"
    assert settings.zssr.steps == 0


def test_threads_are_one_per_core_unless_said(run, photo, fakes, monkeypatch):
    asked = []
    monkeypatch.setattr("blindsr.runtime.torch.set_num_threads", asked.append)
    monkeypatch.setattr("blindsr.runtime.usable_cores", lambda: 7)
    run("estimate-and-upscale", photo, "-q")
    run("estimate-and-upscale", photo, "-q", "--force", "--threads", 3)
    assert asked == [7, 3]


def test_the_published_settings_of_zssr_can_be_chosen_by_name(run, photo, fakes):
    run("upscale", photo, "--kernel", "bicubic", "--zssr-setting", "ideal", "-q")
    zssr = fakes.settings[0].zssr
    assert (type(zssr).__name__, zssr.setting, zssr.ensemble, zssr.back_projections) == (
        *("PaperZSSRConfig", "ideal", True),
        (10,),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["estimate-kernel", "--zssr-setting", "real"],
        ["estimate-kernel", "--precision", "fp32"],
        ["upscale", "--kernel", "bicubic", "--estimator", "spectral"],
        ["upscale", "--kernel", "bicubic", "--region", "0,0,8,8"],
    ],
)
def test_an_option_that_would_mean_nothing_is_refused(run, photo, fakes, arguments):
    assert run(*arguments, photo).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scale", "1"],
        ["--scale", "9"],
        ["--scale", "two"],
        ["--region", "1,2,3"],
        ["--region", "0,0,0,5"],
        ["--region", "-1,0,5,5"],
        ["--threads", "0"],
        ["--seed", "-1"],
        ["--preset", "slow"],
        ["--config", "nowhere.toml"],
    ],
)
def test_a_value_outside_of_an_option_is_a_usage_error(run, photo, fakes, arguments):
    result = run("estimate-and-upscale", photo, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert arguments[0] in result.stderr


def test_not_a_number_is_no_scale(run, photo, fakes):
    result = run("estimate-and-upscale", photo, "--scale", "nan")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nan" in result.stderr


def test_a_device_that_is_not_here_is_one_line(run, photo, fakes):
    result = run("estimate-and-upscale", photo, "--device", "cuda:77")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: device must be auto or one of ")
    assert result.stderr.endswith("got 'cuda:77'.\n")


def test_same_command_same_kernel_file_and_same_image(run, photo, fakes):
    first = run("estimate-and-upscale", photo, "-o", photo.parent / "a.png", "-q")
    second = run("estimate-and-upscale", photo, "-o", photo.parent / "b.png", "-q")
    assert first.exit_code == second.exit_code == 0
    for suffix in (".png", ".kernel.npz", ".kernel.png"):
        assert (photo.parent / f"a{suffix}").read_bytes() == (photo.parent / f"b{suffix}").read_bytes()


def test_a_kernel_for_another_scale_is_refused(run, photo, fakes, tmp_path):
    path = tmp_path / "k.npz"
    path.write_bytes(kernel_bytes(bicubic(3), ".npz"))
    result = run("upscale", photo, "--kernel", path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: k.npz is a kernel for scale 3, but scale 2 was asked for; run with scale 3")
    assert fakes.kernels == []


def test_a_bicubic_kernel_that_replaced_an_estimate_is_named():
    chosen = bicubic_instead(Kernel(gaussian(1.0, 2).array, 2, {"made_by": "spectral"}))
    assert kernel_in_words(chosen) == "bicubic, in place of the spectral estimate (8×8 for ×2)"
