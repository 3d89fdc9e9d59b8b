import json

import torch

from blindsr import __version__
from blindsr.cli import _examine
from blindsr.runtime import bf16_reason, usable_cores


def test_doctor_says_versions_devices_cores_and_why_bf16_or_not(run):
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "versions"
    assert f"blindsr {__version__}" in lines
    assert f"torch {torch.__version__}" in lines
    assert any(line.startswith(f"cores {usable_cores()} usable") for line in lines)
    pays, reason = bf16_reason(torch.device("cpu"))
    assert f"cpu --precision auto is {'bf16' if pays else 'fp32'}: {reason}" in lines
    assert "extras" in lines


def test_doctor_json_has_the_same_facts(run):
    result = run("doctor", "--json")
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == _examine.examine() | {"machine": json.loads(result.stdout)["machine"]}
    assert set(json.loads(result.stdout)) == {"versions", "machine", "devices", "extras"}


def test_doctor_names_an_extra_that_is_missing_and_what_it_is_for(run, monkeypatch):
    monkeypatch.setattr(_examine, "_EXTRAS", (("no-such-package", "no_such_package", "do nothing"),))
    assert "not found; it would do nothing" in run("doctor").stdout
