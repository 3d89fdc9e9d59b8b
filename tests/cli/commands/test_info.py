import json
import tomllib
from pathlib import Path

import torch

from blindsr import __version__
from blindsr.cli.commands import info
from blindsr.cores import default_threads, usable_cores
from blindsr.registry import ESTIMATORS, UPSCALERS
from blindsr.runtime import bf16_reason


def test_methods_lists_every_method_with_its_description(run):
    lines = [" ".join(line.split()) for line in run("methods").stdout.splitlines()]
    table = json.loads(run("methods", "--json").stdout)
    assert list(table) == ["estimators", "upscalers"]
    for registry in (ESTIMATORS, UPSCALERS):
        assert f"{registry.kind}s (--{registry.kind})" in lines
        assert list(table[f"{registry.kind}s"]) == list(registry.names())
        for name in registry.names():
            assert registry.describe(name).endswith(".")
            assert f"{name} {registry.describe(name)}" in lines


def test_doctor_shows_versions_devices_cores_and_the_reason_for_the_arithmetic(run):
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "versions"
    assert f"blindsr {__version__}" in lines
    assert f"torch {torch.__version__}" in lines
    assert any(line.startswith(f"cores {usable_cores()} usable") for line in lines)
    assert any(line.startswith(f"threads {default_threads()} without --threads") for line in lines)
    is_native, reason = bf16_reason(torch.device("cpu"))
    assert f"cpu --precision auto is {'bf16' if is_native else 'fp32'}: {reason}" in lines
    assert "extras" in lines


def test_doctor_json_has_the_same_facts(run):
    result = run("doctor", "--json")
    assert result.stdout.count("\n") == 1
    facts = json.loads(result.stdout)
    assert facts == info._examine() | {"machine": facts["machine"]}
    assert set(facts) == {"versions", "machine", "devices", "extras"}


def test_doctor_names_an_extra_that_is_missing_and_its_purpose(run, monkeypatch):
    monkeypatch.setattr(info, "_EXTRAS", {"no-such-package": "do nothing"})
    assert "not found; needed to do nothing" in run("doctor").stdout


def test_doctor_knows_a_package_of_every_extra(run):
    pyproject = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    shown = set(json.loads(run("doctor", "--json").stdout)["extras"])
    for name in set(extras) - {"dev", "docs"}:
        assert shown & {requirement.partition(">")[0] for requirement in extras[name]}, name
