"""A batch is killed with SIGKILL at random moments: the campaign of benchmarks/kills.py, made short."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trials are forks")
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("kills.py", ("--kills", "8", "--photos", "2")),
        ("faults.py", ("--faults", "3", "--photos", "2", "--kinds", "full disk,truncated input,worker death")),
    ],
)
def test_nothing_is_lost_torn_or_done_twice(tmp_path, script, arguments):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "-o", str(tmp_path / "a.json"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    found = found.get("forks", found)
    assert found["wrong"] == []
    assert found["tracebacks"] == ""
    assert found.get("kills", 8) >= 8
    assert found.get("total", 3) == 3
