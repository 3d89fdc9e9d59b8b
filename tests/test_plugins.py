"""A toy estimator and a toy upscaler in a package outside of the tree, found by their entry points alone.

The package is written into a folder with the metadata of an installed distribution; processes that have the folder on
their path know the methods. Every way of running blindsr has to take them: options, run.toml, batches in processes,
Dask, ablations, and lists of methods.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from images import samples
from PIL import Image

from tests.batch.dask_processes import dask_processes

PACKAGE = '''
from dataclasses import dataclass

import torch
from blindsr.events import ignore
from blindsr.kernels import KernelEstimate, gaussian
from blindsr.upscalers.base import TiledModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyKernelConfig:
    variance: float = 1.0


class ToyEstimator:
    """Toy estimator: always the same Gaussian."""

    name = "toy-kernel"
    config_type = ToyKernelConfig
    scales = (2, 3)
    min_side = 4
    kernel_error = 0.0

    def __init__(self, config=None):
        self.config = ToyKernelConfig() if config is None else config

    def estimate(self, lr, scale, *, listener=ignore):
        return KernelEstimate(kernel=gaussian(self.config.variance, scale), method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig:
    level: float = 0.5


class ToyUpscaler:
    """Toy upscaler: repeats pixels, and shifts them to a mean level."""

    name = "toy"
    config_type = ToyConfig
    scales = (2, 3)
    needs_whole_image = False

    def __init__(self, config=None):
        self.config = ToyConfig() if config is None else config

    @staticmethod
    def min_side(scale):
        return 1

    def fit(self, source, degradation, *, listener=ignore):
        scale, level = degradation.scale, self.config.level

        def predict(window):
            larger = window.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
            return torch.full_like(larger, level)

        return TiledModel(scale=scale, predict=predict)
'''
ENTRY_POINTS = """[blindsr.estimators]
toy-kernel = toy_methods:ToyEstimator

[blindsr.upscalers]
toy = toy_methods:ToyUpscaler
"""
# What the tests of one process have in common: a command line, the exit codes, and what was printed.
RUNNER = """
import json, sys
from click.testing import CliRunner
from blindsr.cli.main import cli

def main():
    results = []
    for arguments in json.loads(sys.stdin.read()):
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        results.append({"code": result.exit_code, "out": result.stdout, "err": result.stderr})
    print(json.dumps(results))

if __name__ == "__main__":  # worker processes import this file again
    main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two photographs, settings, and the package as `pip install` would leave it."""
    folder = tmp_path_factory.mktemp("plugins")
    site = folder / "site"
    information = site / "toy_methods-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "toy_methods.py").write_text(PACKAGE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-methods\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "photos").mkdir()
    for name, left in (("a.png", 150), ("b.png", 170)):
        Image.fromarray(samples(24, 20, left=left)).save(folder / "photos" / name)
    (folder / "run.toml").write_text(
        '[run]\nestimator = "toy-kernel"\nupscaler = "toy"\n[toy-kernel]\nvariance = 4\n[toy]\nlevel = 0.25\n'
    )
    (folder / "runner.py").write_text(RUNNER)
    return folder


@pytest.fixture(scope="module")
def environment(folder):
    paths = (str(folder / "site"), *(path for path in sys.path if path))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def _run(folder, environment, *commands):
    """Run commands in one process that knows the package."""
    texts = [[str(argument) for argument in arguments] for arguments in commands]
    done = subprocess.run(
        [sys.executable, folder / "runner.py"],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert all(r["code"] == 0 or "--config" in text for r, text in zip(results, texts, strict=True)), results
    return results


WITH_DASK = hasattr(os, "fork") and importlib.util.find_spec("distributed") is not None
TOY = ("--estimator", "toy-kernel", "--upscaler", "toy")


def _levels(path):
    with Image.open(path) as image:
        return image.size, np.unique(np.asarray(image)).tolist()


@pytest.fixture(scope="module")
def results(folder, environment, tmp_path_factory):
    """What every command printed, by a name; one process runs them all, for most of their time goes into its start."""
    photo, out = folder / "photos" / "a.png", folder / "out"
    out.mkdir()
    main = "estimate-and-upscale"
    (folder / "bad.toml").write_text("[toy]\nlevl = 1\n")
    commands = {
        "options": (main, photo, *TOY, "-o", out / "options.png", "--json"),
        "file": (main, photo, "--config", folder / "run.toml", "-o", out / "file.png", "--json"),
        "wrong": (main, photo, *TOY, "--config", folder / "bad.toml"),
        "batch": (main, folder / "photos", *TOY, "-o", out / "batch", "--jobs", 1, "--threads", 1),
        "methods": ("methods", "--json"),
        "help": (main, "--help"),
        "degrade": ("degrade", folder / "photos", "-o", out / "set", "--law", "gaussian:1", "-q"),
        "ablate": (
            *("ablate", out / "set", "-o", out / "ablation", "--estimators", "toy-kernel", "--upscalers", "toy"),
            *("--threads", 1, "--json"),
        ),
    }
    with contextlib.ExitStack() as stack:
        if WITH_DASK:
            place = tmp_path_factory.mktemp("cluster")
            cluster = stack.enter_context(dask_processes(place, workers=1, environment=environment))
            dask = ("--executor", "dask", "--scheduler", cluster.address, "--device", "cpu")
            commands["dask"] = (main, photo, *TOY, "-o", out / "dask", *dask)
        return dict(zip(commands, _run(folder, environment, *commands.values()), strict=True))


def test_options_have_the_defaults_of_the_methods(folder, results):
    record = json.loads(results["options"]["out"])
    assert record["estimate"]["method"] == "toy-kernel"
    assert record["settings"]["upscaler"] == "toy"
    assert record["settings"]["configs"] == {"toy-kernel": {"variance": 1.0}, "toy": {"level": 0.5}}
    assert record["kernel"]["sigma_long"] == pytest.approx(1, abs=0.01)
    assert _levels(folder / "out" / "options.png") == ((40, 48), [128])


def test_run_toml_has_a_table_for_each_of_them(folder, results):
    record = json.loads(results["file"]["out"])
    assert record["settings"]["configs"] == {"toy-kernel": {"variance": 4.0}, "toy": {"level": 0.25}}
    assert record["kernel"]["sigma_long"] == pytest.approx(2, abs=0.05)
    assert _levels(folder / "out" / "file.png") == ((40, 48), [64])
    wrong = results["wrong"]
    assert (wrong["code"], wrong["err"]) == (1, "error: bad.toml: [toy] has no key 'levl' (did you mean 'level'?).\n")


def test_a_worker_process_finds_them(folder, results):
    out = folder / "out" / "batch"
    assert sorted(results["batch"]["out"].split()) == [f"{out}/{name}_blindsr_x2.png" for name in "ab"]
    assert _levels(out / "b_blindsr_x2.png") == ((40, 48), [128])


def test_they_are_listed_with_their_descriptions_and_in_help(results):
    methods = json.loads(results["methods"]["out"])
    assert methods["estimators"]["toy-kernel"] == "Toy estimator: always the same Gaussian."
    assert methods["upscalers"]["toy"] == "Toy upscaler: repeats pixels, and shifts them to a mean level."
    assert "|toy]" in results["help"]["out"]
    assert "toy-kernel" in results["help"]["out"]


def test_they_are_columns_of_an_ablation(folder, results):
    content = json.loads(results["ablate"]["out"])
    assert content["missing"] == 0
    assert any("toy-kernel" in row["method"] for row in content["methods"]), content["methods"]
    assert results["degrade"]["out"] == f"{folder}/out/set\n"


@pytest.mark.skipif(not WITH_DASK, reason="the processes of Dask are forks")
def test_dask_workers_run_them(folder, results):
    out = folder / "out" / "dask"
    assert results["dask"]["out"] == f"{out}/a_blindsr_x2.png\n"
    assert _levels(out / "a_blindsr_x2.png") == ((40, 48), [128])


def test_help_does_not_import_methods_of_other_packages(folder, environment):
    code = (
        "import sys; from blindsr.cli.main import cli\n"
        "cli(['estimate-and-upscale', '--help'], standalone_mode=False)\n"
        "print([name for name in ('toy_methods', 'torch', 'numpy') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == "[]\n"
    assert "Of another package" in done.stdout
