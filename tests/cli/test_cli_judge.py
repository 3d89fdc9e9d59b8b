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
        ("--law nothing", 1, "error: a law must be one of div2krk"),
        ("--kernel bicubic --law motion", 2, "--kernel takes the place of --law"),
        ("--kernel-convention kair", 2, "no meaning without --kernel"),
        ("--noise 3", 1, "noise_sigma must be in [0, 1], got 3"),
        ("--scale 5", 2, "is not in the range"),
    ],
)
def test_degrade_refuses_what_contradicts_itself(run, photo, tmp_path, options, code, words):
    result = run("degrade", photo, "-o", tmp_path / "set", *options.split())
    assert result.exit_code == code
    assert words in result.stderr
    assert not (tmp_path / "set").exists()


def test_degrade_goes_on_after_a_broken_picture_and_says_so(run, photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    result = run("degrade", photo, tmp_path / "broken.png", "-o", tmp_path / "set")
    assert result.exit_code == 1
    assert "note: broken.png was left out" in result.stderr
    assert "done: 1 image in" in result.stderr


def test_evaluate_prints_a_table_or_json_or_csv_of_the_same_figures(run, made, tmp_path):
    hr = made / "hr" / "photo.png"
    with Image.open(hr) as image:
        noisy = np.asarray(image) // 2 + 20
    Image.fromarray(noisy.astype(np.uint8)).save(tmp_path / "sr.png")
    arguments = ("evaluate", tmp_path / "sr.png", hr, "--kernels", made / "kernel", "--true-kernels", made / "kernel")
    content = json.loads(run(*arguments, "--json").stdout)
    figures = content["images"]["photo"]
    (row,) = csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout))
    assert float(row["psnr_y"]) == figures["psnr_y"]
    assert figures["redegraded_psnr"] is None, "infinity is no JSON"
    assert row["redegraded_psnr"] == "inf"
    table = run(*arguments).stdout
    assert f"{figures['psnr_y']:.3f}" in table
    assert f"{figures['ssim_y']:.4f}" in table
    assert "∞" in table


def test_evaluate_reports_a_pair_that_does_not_fit_and_exits_with_one(run, made, tmp_path):
    Image.fromarray(np.ascontiguousarray(data.coffee()[:30, :40])).save(tmp_path / "sr.png")
    result = run("evaluate", tmp_path / "sr.png", made / "hr" / "photo.png")
    assert result.exit_code == 1
    assert "error: photo: sr.png is 40×30 px and photo.png 40×48; they must be of one size" in result.stderr


def test_evaluate_prints_one_thing(run, made):
    result = run("evaluate", made / "hr", made / "hr", "--json", "--csv")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


@pytest.fixture
def ablated(run, made, fakes, tmp_path):
    return run("ablate", made, "-o", tmp_path / "out", "--estimators", "spectral", "--seeds", "2", "--threads", "1")


def test_ablate_prints_the_table_and_leaves_a_folder_that_can_be_sent(ablated, tmp_path):
    assert ablated.exit_code == 0
    for label in ("bicubic interpolation", "SR, bicubic kernel", "SR, spectral kernel", "SR, true kernel"):
        assert label in ablated.stdout
    assert "files: " in ablated.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {
        "results.jsonl",
        "ablation.json",
        "summary.csv",
        "images.csv",
        "table.md",
        "table.tex",
        "report.html",
    }


def test_ablate_again_keeps_what_is_done(run, made, fakes, ablated, tmp_path):
    count = len(fakes.settings)
    again = run(
        "ablate", made, "-o", tmp_path / "out", "--estimators", "spectral", "--seeds", "2", "--json", "--threads", "1"
    )
    assert len(fakes.settings) == count
    assert "note: 7 of 7 cells are done already and kept." in again.stderr
    content = json.loads(again.stdout)
    assert content["missing"] == 0
    assert [row["method"] for row in content["methods"]] == ["interpolation", "bicubic", "spectral", "true"]


def test_ablate_takes_a_preset_and_a_file_of_settings(run, made, fakes, tmp_path):
    (tmp_path / "run.toml").write_text("[zssr]\nlearning_rate = 0.004\n")
    options = ("--preset", "fast", "--config", tmp_path / "run.toml", "--estimators", "kernelgan", "--no-report", "-q")
    assert run("ablate", made, "-o", tmp_path / "out", *options, "--threads", "1").exit_code == 0
    assert {settings.zssr.learning_rate for settings in fakes.settings} == {0.004}
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_failing_cell_is_a_note_and_the_exit_code_is_one(run, made, fakes, tmp_path):
    fakes.fail = ValueError("no luck")
    result = run("ablate", made, "-o", tmp_path / "out", "--estimators", "spectral", "--threads", "1")
    assert result.exit_code == 1
    assert "note: photo, spectral, seed 0: ValueError: no luck" in result.stderr


def test_a_plot_without_matplotlib_is_refused_before_the_work(run, made, fakes, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else real(name, *rest)
    )
    result = run("ablate", made, "-o", tmp_path / "out", "--plot")
    assert result.exit_code == 1
    assert "pip install 'blindsr[plot]'" in result.stderr
    assert not fakes.settings


def test_report_makes_the_page_again(run, ablated, tmp_path):
    page = tmp_path / "out" / "report.html"
    page.unlink()
    result = run("report", tmp_path / "out")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{page}\n", "")
    assert page.is_file()


def test_report_of_no_ablation_is_refused_in_one_line(run, made, tmp_path):
    result = run("report", made)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "holds no ablation" in result.stderr
    missing = run("report", tmp_path / "none")
    assert "is no folder" in missing.stderr
    assert not (tmp_path / "none").exists()


def test_the_main_job_makes_a_page_of_one_photograph(run, photo, fakes):
    result = run("estimate-and-upscale", photo, "--report")
    page = photo.parent / "photo_blindsr_x2.html"
    assert f"report: {page}\n" in result.stderr
    text = page.read_text(encoding="utf-8")
    assert "Enlarged to 80×96 px" in text
    assert "the photograph is rather flat." in text
    assert "http" not in text
    again = run("estimate-and-upscale", photo, "--report")
    assert again.exit_code == 1
    assert "exists already" in again.stderr
