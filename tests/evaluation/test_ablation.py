import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import blindsr
from blindsr import registry
from blindsr.errors import ConfigError, DeviceError, ImageError, OutputError
from blindsr.evaluation import ablation
from blindsr.evaluation.ablation import AblationPlan, Cell, ablate
from blindsr.evaluation.dataset import read_dataset
from blindsr.evaluation.results import Store, split_method, summarise
from blindsr.evaluation.score import read_8bit, score_image
from blindsr.events import Notice, StageDone, StageStarted, StepDone
from blindsr.settings import Settings, preset

COMPARED = ("spectral", "kernelgan")


def plan_of(dataset, **fields):
    return AblationPlan(**{"images": read_dataset(dataset), "estimators": COMPARED, **fields})


def test_every_image_is_run_with_every_kernel_and_seed(dataset, methods, tmp_path):
    results = ablate(plan_of(dataset, seeds=(0, 1)), tmp_path)
    cells = {(row["image"], row["method"], row["seed"]) for row in results.rows}
    kernels = ("bicubic", "spectral", "kernelgan", "true")
    expected = {(i, f"{k}+pretrained", s) for i in ("astronaut", "coffee") for k in kernels for s in (0, 1)}
    expected |= {(i, "interpolation", 0) for i in ("astronaut", "coffee")}
    assert cells == expected
    assert results.missing == 0
    assert len(methods.runs) == 16


def test_estimators_and_upscalers_are_crossed(dataset, methods, tmp_path):
    results = ablate(plan_of(dataset, estimators=("l0",), upscalers=("pretrained", "zssr", "bicubic")), tmp_path)
    assert results.plan["methods"] == [
        "interpolation",
        *("bicubic+pretrained", "l0+pretrained", "true+pretrained"),
        *("bicubic+zssr", "l0+zssr", "true+zssr"),
    ]
    assert results.missing == 0
    assert len(methods.runs) == 12
    rows = {row["method"]: row for row in summarise(results).methods}
    # Gains are relative to the same upscaler.
    assert rows["l0+zssr"]["gain"] == pytest.approx(rows["l0+zssr"]["psnr_y"] - rows["bicubic+zssr"]["psnr_y"])
    assert rows["interpolation"]["gain"] == pytest.approx(
        rows["interpolation"]["psnr_y"] - rows["bicubic+pretrained"]["psnr_y"]
    )


def test_the_methods_come_from_the_registries(dataset):
    class Toy:
        pass

    registry.ESTIMATORS.register("toy", Toy)
    registry.UPSCALERS.register("toy_upscaler", Toy)
    try:
        everything = AblationPlan(images=read_dataset(dataset))
        assert everything.estimators == tuple(n for n in registry.ESTIMATORS.names() if n != "bicubic")
        assert "toy" in everything.estimators
        assert everything.upscalers == ("pretrained",)
        assert "toy+toy_upscaler" in plan_of(dataset, estimators=("toy",), upscalers=("toy_upscaler",)).methods
    finally:
        registry.ESTIMATORS.unregister("toy")
        registry.UPSCALERS.unregister("toy_upscaler")


def test_an_upscaler_that_uses_no_kernel_has_one_row(dataset, tmp_path):
    plan = plan_of(dataset, estimators=("spectral",), upscalers=("nearest", "dkp", "pretrained"))
    assert plan.methods[:3] == ("interpolation", "own+nearest", "own+dkp")
    assert plan.methods[3:] == ("bicubic+pretrained", "spectral+pretrained", "true+pretrained")
    without = replace(plan, with_bicubic_kernel=False)
    assert without.methods == tuple(method for method in plan.methods if method != "bicubic+pretrained")
    cell = next(cell for cell in plan.cells() if cell.method == "own+dkp")
    assert (cell.settings.estimator, cell.settings.upscaler) == ("bicubic", "dkp")
    from blindsr.upscalers.deep_prior import DKPConfig

    tiny = DKPConfig(steps=1, steps_per_round=1, warm_up=1, channels=2, skip_channels=2, precision="fp32")
    settings = Settings(configs={"dkp": tiny})
    plan = plan_of(dataset, estimators=(), upscalers=("nearest", "dkp"), settings=settings)
    rows = {row["method"]: row for row in ablate(replace(plan, images=plan.images[:1]), tmp_path).rows}
    assert "kernel" not in rows["own+nearest"]
    assert rows["own+dkp"]["kernel"]["ncc"] > 0
    assert rows["own+nearest"]["scores"]["psnr_y"] < rows["interpolation"]["scores"]["psnr_y"]


def test_settings_of_a_cell_have_its_estimator_upscaler_and_seed(dataset):
    plan = plan_of(dataset, upscalers=("zssr",), seeds=(3,), settings=preset("fast"))
    for cell in plan.cells():
        kernel, upscaler = split_method(cell.method)
        assert (cell.settings.upscaler, cell.settings.seed) == (upscaler, 3)
        assert cell.settings.estimator == {"": "bicubic", "true": "auto"}.get(kernel, kernel)


def test_the_events_count_the_cells(dataset, methods, tmp_path):
    events = []
    ablate(plan_of(dataset), tmp_path, listener=events.append)
    assert events[0] == StageStarted(stage="ablate", max_steps=10)
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, 11))
    assert events[-1] == StageDone(stage="ablate", steps=10)


def test_a_row_has_time_and_peak_memory(dataset, methods, tmp_path):
    rows = ablate(plan_of(dataset, estimators=()), tmp_path).rows
    for row in rows:
        assert row["seconds"] >= 0
        if sys.platform == "linux" and os.access("/proc/self/clear_refs", os.W_OK):
            assert 20 < row["peak_mib"] < 10_000, "not the resident memory of a process with torch"


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's clear_refs")
def test_peak_memory_is_that_of_the_cell_alone(dataset, methods, tmp_path, monkeypatch):
    real = methods.super_resolve

    def wasteful(cell, image):
        if cell.method.startswith("bicubic"):
            memory = bytearray(os.urandom(1)) * (300 * 2**20)
            del memory
        return real(cell, image)

    monkeypatch.setattr(ablation, "super_resolve", wasteful)
    rows = ablate(plan_of(dataset, estimators=()), tmp_path).rows
    peaks = {row["method"]: row["peak_mib"] for row in rows if row["image"] == "astronaut"}
    assert peaks["bicubic+pretrained"] > peaks["interpolation"] + 250
    assert peaks["true+pretrained"] < peaks["bicubic+pretrained"] - 250


def test_finished_cells_are_kept(dataset, methods, tmp_path):
    first = ablate(plan_of(dataset), tmp_path)
    count = len(methods.runs)
    events = []
    again = ablate(plan_of(dataset), tmp_path, listener=events.append)
    assert len(methods.runs) == count
    assert again.rows == first.rows
    assert Notice(stage="ablate", message="10 of 10 cells are finished already.", is_plain=True) in events


def test_another_setting_or_seed_runs_anew_and_earlier_cells_are_kept(dataset, methods, tmp_path):
    ablate(plan_of(dataset), tmp_path)
    count = len(methods.runs)
    ablate(plan_of(dataset, settings=preset("fast")), tmp_path)
    assert len(methods.runs) == 2 * count
    ablate(plan_of(dataset, seeds=(0, 1)), tmp_path)
    assert len(methods.runs) == 3 * count
    assert {seed for _, _, seed in methods.runs[2 * count :]} == {1}


def test_the_key_depends_on_files_method_and_seed(dataset, tmp_path):
    image = read_dataset(dataset)[0]
    cell = Cell(image=image, method="bicubic+pretrained", seed=0, settings=Settings())
    changed = tmp_path / "changed.png"
    changed.write_bytes(image.lr.read_bytes() + b" ")
    others = [replace(cell, image=replace(image, **{part: changed})) for part in ("lr", "hr", "kernel")]
    others += [replace(cell, method="true+pretrained"), replace(cell, seed=1)]
    assert replace(cell, image=replace(image)).key() == cell.key()
    assert len({cell.key(), *(other.key() for other in others)}) == 6


def test_the_key_depends_on_the_content_of_files_in_the_settings(dataset, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"one")
    settings = preset("fast", init=weights)
    cell = Cell(image=read_dataset(dataset)[0], method="bicubic+pretrained", seed=0, settings=settings)
    before = cell.key()
    weights.write_bytes(b"two")
    assert cell.key() != before


PACKAGE = Path(blindsr.__file__).parent
# Whole folders: a file that is added to one of them changes the key as well.
DECISIVE = [folder.name for folder in PACKAGE.iterdir() if folder.is_dir()]
DECISIVE = sorted(set(DECISIVE) & {"estimators", "kernelgan", "kernels", "ops", "pipelines", "upscalers", "zssr"})


@pytest.fixture
def copied_package(tmp_path, monkeypatch):
    """A copy of the package whose files decide the keys."""
    copy = tmp_path / "blindsr"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(registry, "__file__", str(copy / "registry.py"))
    monkeypatch.setattr(ablation, "__file__", str(copy / "evaluation" / "ablation.py"))
    yield copy
    registry.source_digest.cache_clear()
    ablation.scoring_digest.cache_clear()


def test_editing_any_file_that_decides_a_result_changes_the_key(dataset, copied_package):
    cell = next(plan_of(dataset).cells())

    def key():
        registry.source_digest.cache_clear()
        ablation.scoring_digest.cache_clear()
        return cell.key()

    original = key()
    files = [path for folder in DECISIVE for path in sorted((copied_package / folder).rglob("*.py"))]
    files += [copied_package / "evaluation" / f"{name}.py" for name in ("ablation", "score", "dataset")]
    assert len(files) > 40
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content + b"\n# edited\n")
        assert key() != original, f"an edited {path.relative_to(copied_package)} keeps stale results"
        path.write_bytes(content)
    for folder in DECISIVE:
        added = copied_package / folder / "added_method.py"
        added.touch()
        assert key() != original, f"a new file in {folder}/ keeps stale results"
        added.unlink()
    for name in ("cli/main.py", "evaluation/results.py", "evaluation/report/comparison.py"):
        (copied_package / name).write_bytes(b"# edited")
    assert key() == original, "an edited table or page throws hours of results away"


def test_a_failing_cell_is_reported_left_out_and_tried_again(dataset, methods, tmp_path):
    methods.failing = "kernelgan"
    events = []
    results = ablate(plan_of(dataset), tmp_path, listener=events.append)
    assert results.missing == 2
    assert [row["error"] for row in results.failures] == ["the loss is NaN at step 3; lower the rate."] * 2
    message = "coffee, kernelgan+pretrained, seed 0: the loss is NaN at step 3; lower the rate."
    assert Notice(stage="ablate", message=message) in events
    assert "2 of 10 cells are missing or failed" in (tmp_path / "table.md").read_text()
    methods.failing = None
    count = len(methods.runs)
    assert ablate(plan_of(dataset), tmp_path).missing == 0
    assert len(methods.runs) == count + 2


def test_a_bug_in_one_cell_does_not_stop_the_others(dataset, methods, tmp_path, monkeypatch):
    def broken(cell, image):
        if cell.method.startswith("spectral"):
            raise IndexError("list index out of range")
        return methods.super_resolve(cell, image)

    monkeypatch.setattr(ablation, "super_resolve", broken)
    results = ablate(plan_of(dataset), tmp_path)
    assert results.missing == 2
    assert results.failures[0]["error"] == "IndexError: list index out of range"


def test_a_full_disk_stops_the_ablation(dataset, methods, tmp_path, monkeypatch):
    def full(path, content, *, overwrite):
        raise OutputError("No space left on device")

    monkeypatch.setattr(ablation, "atomic_write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        ablate(plan_of(dataset), tmp_path)


def test_an_interrupt_passes_through_and_finished_cells_stay(dataset, methods, tmp_path):
    def interrupt(event):
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(plan_of(dataset), tmp_path, listener=interrupt)
    assert len(Store(tmp_path).rows()) == 3
    assert len(methods.runs) == 2
    assert ablate(plan_of(dataset), tmp_path).missing == 0
    assert len(methods.runs) == 8


KILLED = """
import os, signal, sys
from pathlib import Path
from blindsr.evaluation import ablation
from blindsr.evaluation.dataset import read_dataset
from blindsr.kernels import bicubic
from blindsr.ops import imresize

def super_resolve(cell, image):
    if cell.method == "true+pretrained":
        os.kill(os.getpid(), signal.SIGKILL)
    return imresize(image, 2.0).clamp(0, 1), bicubic(2), {}

ablation.super_resolve = super_resolve
plan = ablation.AblationPlan(images=read_dataset(Path(sys.argv[1])), estimators=())
ablation.ablate(plan, Path(sys.argv[2]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_after_a_kill_the_rest_is_run_and_a_torn_line_is_ignored(dataset, methods, tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(dataset), str(tmp_path)], check=False, env=os.environ)
    assert process.returncode == -signal.SIGKILL
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "torn", "image": "astr')
    results = ablate(plan_of(dataset, estimators=()), tmp_path)
    assert results.missing == 0
    # Of six cells two were finished before the kill: interpolation and the bicubic kernel of the first image.
    assert len(methods.runs) == 3
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert sum("torn" in line for line in lines) == 1
    whole = [json.loads(line)["method"] for line in lines if "torn" not in line]
    assert whole[:2] == ["interpolation", "bicubic+pretrained"]


def test_a_cell_whose_image_was_deleted_is_run_anew(dataset, methods, tmp_path):
    results = ablate(plan_of(dataset), tmp_path)
    (tmp_path / next(row for row in results.rows if "spectral" in row["method"])["files"]["sr"]).unlink()
    count = len(methods.runs)
    assert ablate(plan_of(dataset), tmp_path).missing == 0
    assert len(methods.runs) == count + 1


@pytest.mark.slow
@pytest.mark.usefixtures("ready_workers")
def test_two_processes_compute_the_same_as_one(dataset, tmp_path):
    plan = plan_of(dataset, estimators=("spectral",), settings=preset("fast"), device="cpu")
    plan = replace(plan, images=plan.images[:1])
    one = ablate(plan, tmp_path / "one", threads=1)
    two = ablate(plan, tmp_path / "two", jobs=2, threads=1)

    def scores(results):
        return {row["method"]: (row["key"], row["scores"], row.get("kernel")) for row in results.rows}

    assert scores(one) == scores(two)
    kernels = {row["method"]: row["kernel"] for row in one.rows if "kernel" in row}
    assert list(kernels) == ["bicubic+pretrained", "spectral+pretrained", "true+pretrained"]
    assert kernels["true+pretrained"]["ncc"] == pytest.approx(1)
    assert kernels["spectral+pretrained"]["ncc"] < 0.9999


def stop_process(cell, folder, *, device):
    if cell.method == "interpolation":
        os._exit(3)
    return cell.row() | {"error": "of its own."}


@pytest.mark.slow
def test_a_worker_that_dies_is_a_failed_cell(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "run_or_report", stop_process)
    if sys.platform == "linux":  # workers that need not import torch
        fork = multiprocessing.get_context("fork")
        monkeypatch.setattr(multiprocessing, "get_context", lambda method: fork)
    images = read_dataset(dataset, limit=1)
    results = ablate(plan_of(dataset, images=images, estimators=()), tmp_path, jobs=2, threads=1)
    errors = {row["method"]: row["error"] for row in results.failures}
    assert "exited with code 3" in errors.pop("interpolation")
    assert errors == dict.fromkeys(("bicubic+pretrained", "true+pretrained"), "of its own.")


def test_the_scores_are_those_of_the_written_images(dataset, methods, tmp_path):
    results = ablate(plan_of(dataset), tmp_path)
    for row in results.rows:
        sr, hr = (read_8bit(tmp_path / row["files"][role]) for role in ("sr", "hr"))
        expected = score_image(sr, hr[: sr.shape[0], : sr.shape[1]], scale=2)
        assert row["scores"]["psnr_y"] == pytest.approx(expected.psnr_y)
        assert row["scores"]["psnr_rgb"] == pytest.approx(expected.psnr_rgb)


def test_a_test_set_without_kernels_has_no_true_kernel(dataset, methods, tmp_path):
    bare = tmp_path / "bare"
    for part in ("hr", "lr"):
        shutil.copytree(dataset / part, bare / part)
    results = ablate(plan_of(bare, estimators=("spectral",)), tmp_path / "out")
    assert results.plan["methods"] == ["interpolation", "bicubic+pretrained", "spectral+pretrained"]
    assert summarise(results).methods[2]["gap_closed"] is None


def test_a_test_set_of_another_scale_is_refused_before_anything_is_written(dataset, methods, tmp_path):
    with pytest.raises(ImageError, match=r"a scale of ×2\.00 instead of ×3; give the scale of the test set"):
        ablate(plan_of(dataset, settings=Settings(scale=3)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_measurements_are_compared_in_the_range_of_hr(dataset, methods, tmp_path):
    """Signed integers: the same gains as with 8 bits, to what their rounding makes."""
    heights = tmp_path / "heights"
    for part in ("hr", "lr"):
        (heights / part).mkdir(parents=True)
        for path in (dataset / part).iterdir():
            samples = np.asarray(Image.open(path)).astype(np.int16) * 20 - 1700
            tifffile.imwrite(heights / part / f"{path.stem}.tif", samples, photometric="rgb")
    shutil.copytree(dataset / "kernel", heights / "kernel")
    plans = (plan_of(folder, estimators=("spectral",)) for folder in (dataset, heights))
    expected, measured = (ablate(plan, tmp_path / f"out{i}") for i, plan in enumerate(plans))
    bytes_, numbers = (
        [row["scores"]["psnr_rgb"] for row in results.rows if "scores" in row] for results in (expected, measured)
    )
    assert numbers
    # Where HR has no black or no white its range is less than 0 to 255, and so is its PSNR.
    np.testing.assert_allclose(numbers, bytes_, atol=1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": ()}, "at least one image"),
        ({"estimators": ("oracle",)}, "estimator must be one of auto, .*, got 'oracle'"),
        ({"upscalers": ("oracle",)}, "upscaler must be one of pretrained, .*, got 'oracle'"),
        ({"seeds": (0, 0)}, "no seed twice"),
        ({"seeds": ()}, "at least one seed"),
        ({"settings": Settings(scale=2.5)}, r"integer scale, got 2\.5"),
    ],
)
def test_an_impossible_plan_is_refused(dataset, fields, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(dataset, **fields)


def test_impossible_arguments_are_refused(dataset, tmp_path):
    with pytest.raises(ConfigError, match="jobs must be 1 or more"):
        ablate(plan_of(dataset), tmp_path / "out", jobs=0)
    with pytest.raises(DeviceError):
        ablate(plan_of(dataset, device="abacus"), tmp_path / "out")
    with pytest.raises(ImageError, match="has no hr/"):
        read_dataset(tmp_path)
