"""degrade, evaluate, ablate and report, from the arguments to what is printed."""

import csv
import importlib.util
import io
import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.kernels.files import read_kernel


@pytest.fixture
def made(run, photo, tmp_path):
    """A set of one image, 40×48 px."""
    result = run("degrade", photo, "-o", tmp_path / "set", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path}/set\n", "")
    return tmp_path / "set"


def test_degrade_makes_a_set_and_prints_its_folder(made):
    assert sorted(path.name for path in made.iterdir()) == ["hr", "kernel", "lr", "manifest.jsonl"]
    with Image.open(made / "lr" / "photo.png") as lr:
        assert lr.size == (20, 24)


def test_degrade_hands_every_option_down(run, photo, tmp_path):
    options = (
        "--law gaussian:1.5 --scale 4 --phase corner --noise 0.02 --speckle 0.01 --jpeg 60 --seed 7 --kernel-format mat"
    )
    result = run("degrade", photo, "-o", tmp_path / "set", *options.split(), "--json", "-q")
    (row,) = json.loads(result.stdout)
    assert row["degradation"] == {
        "scale": 4,
        "blur": "gaussian:1.5",
        "phase": "corner",
        "noise_sigma": 0.02,
        "pool_noise": False,
        "speckle_sigma": 0.01,
        "jpeg_quality": 60,
    }
    assert row["seed"] == 7
    assert row["files"]["kernel"] == "kernel/photo.mat"


def test_degrade_takes_one_kernel_for_all(run, photo, made, tmp_path):
    kernel = made / "kernel" / "photo.npz"
    result = run("degrade", photo, "-o", tmp_path / "again", "--kernel", kernel, "--json", "-q")
    assert json.loads(result.stdout)[0]["kernel"]["digest"] == read_kernel(kernel, scale=2)[0].digest


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--law bsrgam", 2, "bicubic, bsrgan, got 'bsrgam' (did you mean 'bsrgan'?)"),
        ("--kernel bicubic --law motion", 2, "--kernel replaces --law"),
        ("--noise 4", 1, "--noise (noise_sigma=) must be in [0, 1] (white is 1), got 4; 4 grey levels are 0.0157."),
        ("--kernel-convention kair", 2, "--kernel-convention is for --kernel"),
        ("--scale 5", 2, "needs a whole number from 2 to 4, got '5'"),
    ],
)
def test_degrade_refuses_what_contradicts_itself(run, photo, tmp_path, options, code, words):
    result = run("degrade", photo, "-o", tmp_path / "set", *options.split())
    assert result.exit_code == code
    assert words in result.stderr
    assert not (tmp_path / "set").exists()


def test_degrade_continues_after_a_broken_picture_and_reports_it(run, photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    result = run("degrade", photo, tmp_path / "broken.png", "-o", tmp_path / "set")
    assert result.exit_code == 1
    assert "warning: broken.png was left out" in result.stderr
    assert "done: 1 image in" in result.stderr


def test_evaluate_prints_the_same_metrics_as_table_json_and_csv(run, made, tmp_path):
    hr = made / "hr" / "photo.png"
    with Image.open(hr) as image:
        noisy = np.asarray(image) // 2 + 20
    Image.fromarray(noisy.astype(np.uint8)).save(tmp_path / "sr.png")
    arguments = ("evaluate", tmp_path / "sr.png", hr, "--kernels", made / "kernel", "--true-kernels", made / "kernel")
    content = json.loads(run(*arguments, "--json").stdout)
    metrics = content["images"]["photo"]
    (row,) = csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout))
    assert float(row["psnr_y"]) == metrics["psnr_y"]
    assert metrics["redegraded_psnr"] is None, "infinity is no JSON"
    assert row["redegraded_psnr"] == "inf"
    table = run(*arguments).stdout
    assert f"{metrics['psnr_y']:.3f}" in table
    assert f"{metrics['ssim_y']:.4f}" in table
    assert "∞" in table


def test_evaluate_reports_a_pair_that_does_not_fit_and_exits_with_one(run, made, tmp_path):
    Image.fromarray(np.ascontiguousarray(data.coffee()[:30, :40])).save(tmp_path / "sr.png")
    result = run("evaluate", tmp_path / "sr.png", made / "hr" / "photo.png")
    assert result.exit_code == 1
    assert "error: sr.png has 40×30 px and photo.png 40×48 px; they must have one size" in result.stderr


def test_evaluate_prints_one_thing(run, made):
    result = run("evaluate", made / "hr", made / "hr", "--json", "--csv")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


# Two methods that differ in their kernel alone, without steps on the image.
QUICK = ("--estimators", "bicubic", "--preset", "fast", "--threads", "1")


@pytest.fixture
def cells(spy):
    """The calls of `super_resolve`, one for each cell that is computed."""
    from blindsr.evaluation import ablation

    return spy(ablation, "super_resolve")


@pytest.fixture
def ablated(run, made, cells, tmp_path):
    return run("ablate", made, "-o", tmp_path / "out", *QUICK)


def test_ablate_prints_the_table_and_leaves_a_complete_folder(run, made, ablated, cells, tmp_path):
    assert ablated.exit_code == 0
    for label in ("bicubic interpolation", "bicubic kernel", "true kernel"):
        assert label in ablated.stdout
    files = next(line for line in ablated.stderr.splitlines() if line.startswith("files: "))
    for name in ("ablation.json", "results.jsonl", "summary.csv", "images.csv", "table.md", "table.tex", "report.html"):
        assert f"{tmp_path / 'out' / name}" in files
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {
        *("results.jsonl", "ablation.json", "summary.csv", "images.csv", "table.md", "table.tex", "report.html")
    }
    count = len(cells.calls)
    again = run("ablate", made, "-o", tmp_path / "out", *QUICK, "--json")
    assert len(cells.calls) == count > 0
    assert f"{count} of {count} cells are finished already.\n" in again.stderr
    content = json.loads(again.stdout)
    assert content["missing"] == 0
    assert {row["method"].split("+")[0] for row in content["methods"]} >= {"interpolation"}


def test_ablate_takes_a_preset_and_a_file_of_settings(run, made, cells, tmp_path):
    (tmp_path / "run.toml").write_text("[pretrained]\nlearning_rate = 0.004\n")
    result = run("ablate", made, "-o", tmp_path / "out", *QUICK, "--config", tmp_path / "run.toml", "--no-report", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    configs = [arguments[0].settings.configs["pretrained"] for arguments, _ in cells.calls]
    assert {(config.learning_rate, config.steps) for config in configs} == {(0.004, 0)}
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_failing_cell_is_reported_and_the_exit_code_is_one(run, made, cells, tmp_path):
    cells.error = ValueError("no luck")
    result = run("ablate", made, "-o", tmp_path / "out", *QUICK)
    assert result.exit_code == 1
    assert "ValueError: no luck" in result.stderr
    assert result.stderr.startswith("warning: photo")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--estimators", "nope"], "estimator must be one of auto, spectral"),
        (["--upscalers", "nope"], "upscaler must be one of pretrained, zssr"),
        (["--images", "nope"], "has no LR image for nope"),
    ],
)
def test_a_name_that_does_not_exist_is_one_line(run, made, tmp_path, options, words):
    result = run("ablate", made, "-o", tmp_path / "out", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_plot_without_matplotlib_is_refused_before_the_work(run, made, cells, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else real(name, *rest)
    )
    result = run("ablate", made, "-o", tmp_path / "out", "--plot")
    assert result.exit_code == 1
    assert "pip install 'blindsr[plot]'" in result.stderr
    assert not cells.calls


def test_report_makes_the_page_again(run, ablated, tmp_path):
    page = tmp_path / "out" / "report.html"
    page.unlink()
    result = run("report", tmp_path / "out")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{page}\n", "")
    assert page.is_file()


def test_report_of_no_ablation_is_refused_in_one_line(run, made, tmp_path):
    result = run("report", made)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "contains no ablation" in result.stderr
    missing = run("report", tmp_path / "none")
    assert "is not a folder" in missing.stderr
    assert not (tmp_path / "none").exists()
