import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from blindsr.errors import ConfigError, OutputError
from blindsr.evaluation import ablation
from blindsr.evaluation.ablation import AblationPlan, ablate
from blindsr.evaluation.dataset import read_dataset
from blindsr.evaluation.results import (
    Store,
    caption,
    estimates,
    format_number,
    labels,
    method_name,
    split_method,
    summarise,
    summary_table,
)


@pytest.fixture(scope="module")
def results(dataset, fake_methods, tmp_path_factory):
    plan = AblationPlan(images=read_dataset(dataset), estimators=("spectral", "kernelgan"), seeds=(0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "super_resolve", fake_methods().super_resolve)
        return ablate(plan, tmp_path_factory.mktemp("results"))


def without(results, image, method):
    rows = tuple(row for row in results.rows if (row["image"], row["method"]) != (image, method))
    return replace(results, rows=rows)


def test_method_names_are_split_and_labelled():
    assert split_method(method_name("spectral", "pretrained")) == ("spectral", "pretrained")
    assert method_name("bicubic", "bicubic") == "interpolation"
    assert split_method("interpolation") == ("", "bicubic")
    one = ("interpolation", "bicubic+pretrained", "auto+pretrained", "true+pretrained")
    assert list(labels(one).values()) == ["bicubic interpolation", "bicubic kernel", "auto kernel", "true kernel"]
    assert labels(("interpolation", "auto+a", "auto+b"))["auto+b"] == "auto kernel, b"
    assert estimates(one) == ["auto+pretrained"]
    own = labels(("interpolation", "auto+pretrained", "own+nearest", "own+dkp"))
    assert list(own.values()) == ["bicubic interpolation", "auto kernel", "nearest", "dkp"]
    assert estimates(own) == ["auto+pretrained"]


def test_the_summary_averages_seeds_then_images(results):
    summary = summarise(results)
    rows = {row["method"]: row for row in summary.methods}
    spectral, bicubic = (
        {
            image: np.mean([r["scores"]["psnr_y"] for r in results.rows if (r["image"], r["method"]) == (image, name)])
            for image in ("astronaut", "coffee")
        }
        for name in ("spectral+pretrained", "bicubic+pretrained")
    )
    gains = {image: spectral[image] - bicubic[image] for image in spectral}
    row = rows["spectral+pretrained"]
    assert row["psnr_y"] == pytest.approx(np.mean(list(spectral.values())))
    assert row["worst_psnr_y"] == pytest.approx(min(spectral.values()))
    assert row["gain"] == pytest.approx(np.mean(list(gains.values())))
    assert row["gain_sd"] == pytest.approx(np.std(list(gains.values()), ddof=1))
    assert row["worst_gain"] == pytest.approx(min(gains.values()))
    assert row["worst_image"] == min(gains, key=gains.get)
    assert row["seed_sd"] > 0
    # All substitutes but that of the bicubic kernel compute the same image.
    assert row["gap_closed"] == pytest.approx(1)
    assert summary_table(summary)[1][2][7].text == "100 %"
    assert rows["true+pretrained"]["ncc"] == pytest.approx(1)
    assert row["worst_ncc"] <= row["ncc"] < 1
    assert row["seconds"] <= row["max_seconds"]
    assert rows["bicubic+pretrained"]["gain"] == 0
    assert rows["bicubic+pretrained"]["worst_image"] is None
    assert rows["interpolation"]["ncc"] is None
    psnr_rgb = [r["scores"]["psnr_rgb"] for r in results.rows if r["method"] == "interpolation"]
    assert rows["interpolation"]["psnr_rgb"] == pytest.approx(np.mean(psnr_rgb))


def test_a_covariance_error_that_is_not_defined_is_missing_and_not_infinite(results):
    rows = tuple(
        {**row, "kernel": {**row["kernel"], "covariance_error": None}} if row.get("kernel") else row
        for row in results.rows
    )
    assert {row["covariance_error"] for row in summarise(replace(results, rows=rows)).methods} == {None}


def test_peak_memory_is_a_maximum_and_may_be_unknown(results):
    rows = tuple({**row, "peak_mib": 100.0 + 50 * (row["image"] == "coffee")} for row in results.rows)
    assert {row["peak_mib"] for row in summarise(replace(results, rows=rows)).methods} == {150.0}
    rows = tuple({name: value for name, value in row.items() if name != "peak_mib"} for row in results.rows)
    assert {row["peak_mib"] for row in summarise(replace(results, rows=rows)).methods} == {None}


def test_identical_images_have_infinite_psnr(results):
    rows = tuple({**row, "scores": {**row["scores"], "psnr_y": None}} for row in results.rows)
    table = summary_table(summarise(replace(results, rows=rows)))[1]
    assert {row[1].text for row in table} == {"∞"}


def test_an_image_without_all_methods_counts_in_no_mean(results):
    summary = summarise(without(results, "coffee", "true+pretrained"))
    assert summary.incomplete == ("coffee",)
    assert {row["images"] for row in summary.methods} == {1}
    assert "Not included, because a method has no result: coffee." in caption(summary, results.plan)


def test_the_tables_agree_with_the_summary(results):
    summary = summarise(results)
    with (results.folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == results.plan["methods"]
    for row, expected in zip(rows, summary.methods, strict=True):
        for name in ("psnr_y", "psnr_rgb", "ssim_y", "gain", "seconds"):
            assert float(row[name]) == pytest.approx(expected[name], abs=1e-5)
    with (results.folder / "images.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * len(results.plan["methods"])
    row = summary.methods[2]
    markdown = (results.folder / "table.md").read_text()
    cells = [f"{row['psnr_y']:.2f} ± {row['seed_sd']:.2f}", f"{row['worst_psnr_y']:.2f}", f"{row['psnr_rgb']:.2f}"]
    assert f"| spectral kernel | {' | '.join(cells)} |" in markdown
    assert "| astronaut |" in markdown
    latex = (results.folder / "table.tex").read_text()
    assert latex.count(r"\\") == 6
    assert r"\toprule" in latex
    assert "%" not in latex.replace(r"\%", "").removeprefix("% needs")
    assert len({line.count("&") for line in latex.splitlines() if "&" in line}) == 1


def test_results_are_loaded_in_the_order_of_the_plan(results, tmp_path):
    folder = shutil.copytree(results.folder, tmp_path / "copy")
    lines = (folder / "results.jsonl").read_text().splitlines()
    (folder / "results.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    assert Store(folder).load().rows == results.rows


def test_results_of_version_0_1_0_are_still_read(results):
    """Their methods have no upscaler, and their rows no peak memory."""

    def old(name):
        return name.partition("+")[0]

    rows = [{k: v for k, v in row.items() if k != "peak_mib"} | {"method": old(row["method"])} for row in results.rows]
    plan = {**results.plan, "methods": [old(name) for name in results.plan["methods"]]}
    summary = summarise(replace(results, rows=tuple(rows), plan=plan))
    assert [row["psnr_y"] for row in summary.methods] == [row["psnr_y"] for row in summarise(results).methods]
    assert summary.methods[2]["gap_closed"] == pytest.approx(1)
    assert [cells[0].text for cells in summary_table(summary)[1]][2] == "spectral kernel"


def test_a_folder_without_an_ablation_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="contains no ablation"):
        Store(tmp_path / "empty").load()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create the folder"):
        Store(tmp_path / "file")
    (tmp_path / "ablation.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        Store(tmp_path).load()


def test_the_plan_is_json(results):
    plan = json.loads((results.folder / "ablation.json").read_text())
    assert plan["estimators"] == ["spectral", "kernelgan"]
    assert plan["upscalers"] == ["pretrained"]
    assert {"versions", "machine", "source", "settings", "keys"} <= set(plan)


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (1.234, False, "1.23"),
        (-1.234, True, "−1.23"),
        (0.5, True, "+0.50"),
        (None, True, "–"),
        (float("nan"), False, "–"),
        (float("inf"), False, "∞"),
    ],
)
def test_numbers_are_formatted_for_readers(value, signed, text):
    assert format_number(value, 2, signed=signed) == text
