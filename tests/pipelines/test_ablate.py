import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.errors import ConfigError, DivergenceError, ImageError, OutputError
from blindsr.events import Notice, StageDone, StageStarted, StepDone
from blindsr.kernels import KernelEstimate, gaussian
from blindsr.ops import imresize
from blindsr.pipelines import blind, known
from blindsr.pipelines.ablate import ablate
from blindsr.pipelines.ablation_plan import AblationPlan, Cell, read_dataset
from blindsr.pipelines.ablation_store import Store
from blindsr.pipelines.ablation_summary import summarise
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings
from blindsr.pipelines.simulate import simulate_set
from blindsr.simulation import Degradation, Law
from blindsr.zssr.start.config import StartConfig


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two images of 61×45 px at ×2, with kernels."""
    folder = tmp_path_factory.mktemp("dataset")
    photos = folder / "photos"
    photos.mkdir()
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:81, 200:245])).save(photos / "astronaut.png")
    Image.fromarray(np.ascontiguousarray(data.coffee()[90:151, 200:245])).save(photos / "coffee.png")
    simulate_set([photos], folder / "set", Degradation(blur=Law.parse("gaussian:1.6,0.9,40")))
    return folder / "set"


class Pipelines:
    """Fakes that enlarge bicubically, the sharper the nearer their kernel is to the true one; they count."""

    def __init__(self):
        self.runs = []
        self.fail_on = None

    def upscale(self, image, kernel, settings, *, listener):
        self.runs.append(("known", kernel.provenance.get("made_by"), settings.seed))
        return self._done(image, kernel, None, settings)

    def estimate_and_upscale(self, image, settings, *, listener):
        self.runs.append(("blind", settings.estimator, settings.seed))
        if settings.estimator == self.fail_on:
            raise DivergenceError("the loss is NaN at step 3; lower the rate.")
        kernel = gaussian([[1.5, 0.3], [0.3, 1.5]], settings.network_scale)
        return self._done(image, kernel, KernelEstimate(kernel=kernel, method=settings.estimator), settings)

    def _done(self, image, kernel, estimate, settings):
        width = 0.4 if estimate is None and kernel.provenance.get("made_by") == "bicubic" else 0.0
        sr = imresize(image, 2.0)
        # Seeds differ by a little, methods by more.
        sr = (sr * (1 - 0.1 * width) + 0.002 * settings.seed).clamp(0, 1)
        return Upscaled(
            image=sr, kernel=kernel, estimate=estimate, settings=settings, timings={"zssr": 0.1}, consistency=50
        )


@pytest.fixture
def pipelines(monkeypatch):
    made = Pipelines()
    monkeypatch.setattr(known, "upscale", made.upscale)
    monkeypatch.setattr(blind, "estimate_and_upscale", made.estimate_and_upscale)
    return made


def plan_of(dataset, **fields):
    return AblationPlan(images=read_dataset(dataset), **fields)


def test_every_image_is_run_with_every_kernel_and_seed(dataset, pipelines, tmp_path):
    results = ablate(plan_of(dataset, seeds=(0, 1)), tmp_path)
    cells = {(row["image"], row["method"], row["seed"]) for row in results.rows}
    methods = ("bicubic", "spectral", "kernelgan", "true")
    expected = {(i, m, s) for i in ("astronaut", "coffee") for m in methods for s in (0, 1)}
    expected |= {(i, "interpolation", 0) for i in ("astronaut", "coffee")}
    assert cells == expected
    assert results.missing == 0
    assert len(pipelines.runs) == 16
    assert ("known", "law", 1) in pipelines.runs, "the true kernel was not handed over with its provenance"


def test_the_events_count_the_cells(dataset, pipelines, tmp_path):
    said = []
    ablate(plan_of(dataset), tmp_path, listener=said.append)
    assert said[0] == StageStarted(stage="ablate", max_steps=10)
    assert [event.step for event in said if isinstance(event, StepDone)] == list(range(1, 11))
    assert said[-1] == StageDone(stage="ablate", steps=10)


def test_what_is_done_is_kept(dataset, pipelines, tmp_path):
    first = ablate(plan_of(dataset), tmp_path)
    count = len(pipelines.runs)
    said = []
    again = ablate(plan_of(dataset), tmp_path, listener=said.append)
    assert len(pipelines.runs) == count
    assert again.rows == first.rows
    assert Notice(stage="ablate", message="10 of 10 cells are done already and kept.") in said


def test_another_setting_or_seed_runs_anew_and_what_was_is_kept(dataset, pipelines, tmp_path):
    ablate(plan_of(dataset), tmp_path)
    count = len(pipelines.runs)
    other = replace(plan_of(dataset), settings=Settings(zssr=StartConfig(steps=77)))
    ablate(other, tmp_path)
    # The interpolation does not train, yet its key holds the settings too: simpler, and it costs nothing.
    assert len(pipelines.runs) == 2 * count
    ablate(plan_of(dataset, seeds=(0, 1)), tmp_path)
    assert len(pipelines.runs) == 3 * count
    assert {seed for _, _, seed in pipelines.runs[2 * count :]} == {1}


def test_a_changed_picture_is_run_anew(dataset, tmp_path):
    image = read_dataset(dataset)[0]
    cell = Cell(image=image, method="bicubic", seed=0, settings=Settings())
    other = tmp_path / "lr.png"
    other.write_bytes(image.lr.read_bytes() + b" ")
    assert cell.key() == replace(cell, image=replace(image)).key()
    assert cell.key() != replace(cell, image=replace(image, lr=other)).key()
    assert cell.key() != replace(cell, method="true").key()


def test_other_weights_under_the_same_name_are_run_anew(dataset, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"one")
    settings = replace(Settings(), zssr=StartConfig(weights=weights))
    cell = Cell(image=read_dataset(dataset)[0], method="bicubic", seed=0, settings=settings)
    before = cell.key()
    weights.write_bytes(b"two")
    assert cell.key() != before


def test_a_failing_cell_is_said_kept_out_and_tried_again(dataset, pipelines, tmp_path):
    pipelines.fail_on = "kernelgan"
    said = []
    results = ablate(plan_of(dataset), tmp_path, listener=said.append)
    assert results.missing == 2
    assert [row["error"] for row in results.failures] == ["the loss is NaN at step 3; lower the rate."] * 2
    assert (
        Notice(stage="ablate", message="coffee, kernelgan, seed 0: the loss is NaN at step 3; lower the rate.") in said
    )
    assert "2 of 10 cells are missing or failed" in (tmp_path / "table.md").read_text()
    pipelines.fail_on = None
    count = len(pipelines.runs)
    assert ablate(plan_of(dataset), tmp_path).missing == 0
    assert len(pipelines.runs) == count + 2


def test_a_bug_in_one_cell_does_not_stop_the_others(dataset, pipelines, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise IndexError("list index out of range")

    monkeypatch.setattr(blind, "estimate_and_upscale", broken)
    results = ablate(plan_of(dataset), tmp_path)
    assert {row["method"] for row in results.rows} == {"interpolation", "bicubic", "true"}
    assert results.failures[0]["error"] == "IndexError: list index out of range"


def test_an_interrupt_passes_through_and_what_was_done_stays(dataset, pipelines, tmp_path):
    def interrupt(event):
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(plan_of(dataset), tmp_path, listener=interrupt)
    assert len(Store(tmp_path).rows()) == 3
    count = len(pipelines.runs)
    assert ablate(plan_of(dataset), tmp_path).missing == 0
    assert len(pipelines.runs) == 8
    assert count == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from blindsr.ops import imresize
from blindsr.pipelines import known
from blindsr.pipelines.ablate import ablate
from blindsr.pipelines.ablation_plan import AblationPlan, read_dataset
from blindsr.pipelines.result import Upscaled

def upscale(image, kernel, settings, *, listener):
    if kernel.provenance.get("made_by") != "bicubic":
        os.kill(os.getpid(), signal.SIGKILL)
    return Upscaled(image=imresize(image, 2.0).clamp(0, 1), kernel=kernel, estimate=None, settings=settings)

known.upscale = upscale
ablate(AblationPlan(images=read_dataset(Path(sys.argv[1])), estimators=()), Path(sys.argv[2]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_after_a_kill_the_rest_is_run_and_a_torn_line_is_forgotten(dataset, pipelines, tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(dataset), str(tmp_path)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "torn", "image": "astr')
    results = ablate(plan_of(dataset, estimators=()), tmp_path)
    assert results.missing == 0
    # Of six cells two were done before the kill: interpolation and the bicubic kernel of the first image.
    assert len(pipelines.runs) == 3
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert sum("torn" in line for line in lines) == 1
    assert [json.loads(line)["method"] for line in lines if "torn" not in line][:2] == ["interpolation", "bicubic"]


def test_a_result_whose_picture_is_gone_is_run_anew(dataset, pipelines, tmp_path):
    results = ablate(plan_of(dataset), tmp_path)
    (tmp_path / next(row for row in results.rows if row["method"] == "spectral")["files"]["sr"]).unlink()
    count = len(pipelines.runs)
    assert ablate(plan_of(dataset), tmp_path).missing == 0
    assert len(pipelines.runs) == count + 1


@pytest.mark.slow
def test_two_processes_make_what_one_makes(dataset, tmp_path):
    settings = Settings(zssr=StartConfig(steps=2, learning_rate=5e-5, precision="fp32"))
    plan = AblationPlan(images=read_dataset(dataset, limit=1), estimators=(), settings=settings, device="cpu")
    one = ablate(plan, tmp_path / "one", threads=1)
    two = ablate(plan, tmp_path / "two", jobs=2, threads=1)

    def scores(results):
        return [(row["key"], row["scores"]) for row in results.rows]

    assert scores(one) == scores(two)
    assert len(one.rows) == 3


def test_scores_are_those_of_the_kept_pictures(dataset, pipelines, tmp_path):
    from blindsr.pipelines.evaluate import samples_8bit, score_image

    results = ablate(plan_of(dataset), tmp_path)
    for row in results.rows:
        sr, hr = (samples_8bit(tmp_path / row["files"][role]) for role in ("sr", "hr"))
        assert score_image(sr, hr[: sr.shape[0], : sr.shape[1]], scale=2).psnr_y == pytest.approx(
            row["scores"]["psnr_y"]
        )


def test_the_summary_averages_seeds_then_images(dataset, pipelines, tmp_path):
    results = ablate(plan_of(dataset, seeds=(0, 1)), tmp_path)
    summary = summarise(results)
    rows = {row.method: row for row in summary.methods}
    psnr = {
        image: np.mean(
            [r["scores"]["psnr_y"] for r in results.rows if (r["image"], r["method"]) == (image, "spectral")]
        )
        for image in ("astronaut", "coffee")
    }
    base = {row.image: row.psnr_y for row in summary.images if row.method == "bicubic"}
    gains = {image: psnr[image] - base[image] for image in psnr}
    assert rows["spectral"].psnr_y == pytest.approx(np.mean(list(psnr.values())))
    assert rows["spectral"].gain == pytest.approx(np.mean(list(gains.values())))
    assert rows["spectral"].gain_sd == pytest.approx(np.std(list(gains.values()), ddof=1))
    assert rows["spectral"].worst_gain == pytest.approx(min(gains.values()))
    assert rows["spectral"].worst_image == min(gains, key=gains.get)
    assert rows["spectral"].seed_sd > 0
    # All fakes but bicubic's make the same picture.
    assert rows["spectral"].gap_closed == pytest.approx(1)
    assert rows["true"].ncc == pytest.approx(1)
    assert rows["bicubic"].gain == 0
    assert rows["interpolation"].ncc is None


def test_an_image_without_all_methods_counts_in_no_mean(dataset, pipelines, tmp_path):
    results = ablate(plan_of(dataset), tmp_path)
    rows = tuple(r for r in results.rows if (r["image"], r["method"]) != ("coffee", "true"))
    summary = summarise(replace(results, rows=rows))
    assert summary.left_out == ("coffee",)
    assert {row.images for row in summary.methods} == {1}


def test_the_tables_are_there_and_agree(dataset, pipelines, tmp_path):
    import csv

    results = ablate(plan_of(dataset), tmp_path)
    summary = summarise(results)
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["interpolation", "bicubic", "spectral", "kernelgan", "true"]
    assert float(rows[2]["psnr_y"]) == pytest.approx(summary.methods[2].psnr_y, abs=1e-5)
    markdown = (tmp_path / "table.md").read_text()
    assert f"| SR, spectral kernel | {summary.methods[2].psnr_y:.2f} |" in markdown
    assert "| astronaut |" in markdown
    latex = (tmp_path / "table.tex").read_text()
    assert latex.count(r"\\") == 6
    assert r"\toprule" in latex
    assert "%" not in latex.replace(r"\%", "").removeprefix("% needs")


def test_a_set_without_kernels_has_no_ceiling(dataset, pipelines, tmp_path):
    import shutil

    bare = tmp_path / "bare"
    for part in ("hr", "lr"):
        shutil.copytree(dataset / part, bare / part)
    results = ablate(AblationPlan(images=read_dataset(bare), estimators=("spectral",)), tmp_path / "out")
    assert results.plan["methods"] == ["interpolation", "bicubic", "spectral"]
    assert summarise(results).methods[2].gap_closed is None


def test_a_set_of_another_scale_is_said(dataset, pipelines, tmp_path):
    results = ablate(plan_of(dataset, settings=Settings(scale=3)), tmp_path)
    assert "which is not ×3 but ×2.00; give the scale of the set" in results.failures[0]["error"]


def test_what_cannot_be_a_set_or_a_plan_is_refused(dataset, tmp_path):
    with pytest.raises(ImageError, match="lacks hr/"):
        read_dataset(tmp_path)
    with pytest.raises(ImageError, match="no LR image for moon"):
        read_dataset(dataset, names=("moon",))
    with pytest.raises(ConfigError, match="estimator must be"):
        plan_of(dataset, estimators=("oracle",))
    with pytest.raises(ConfigError, match="distinct seeds"):
        plan_of(dataset, seeds=(0, 0))
    with pytest.raises(ConfigError, match=r"whole scale, got 2\.5"):
        plan_of(dataset, settings=Settings(scale=2.5))
    with pytest.raises(ConfigError, match="jobs must be 1 or more"):
        ablate(plan_of(dataset), tmp_path / "out", jobs=0)
    with pytest.raises(ConfigError, match="holds no ablation"):
        Store(tmp_path / "empty").load()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the folder"):
        Store(tmp_path / "file")
