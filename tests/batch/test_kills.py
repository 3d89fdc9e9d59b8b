"""A batch is killed with SIGKILL at random moments: the campaigns of benchmarks/kills.py and faults.py, made short."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


# One process for both: most of the time goes into loading torch.
BOTH = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import faults, kills
folder = sys.argv[1]
for campaign, *arguments in (
    (kills, "--kills", "8"),
    (faults, "--faults", "3", "--kinds", "full disk,truncated input,worker death"),
):
    sys.argv = [campaign.__file__, "-o", f"{folder}/{campaign.__name__}.json", "--photos", "2", *arguments]
    campaign.main()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trials are forks")
def test_nothing_is_lost_torn_or_done_twice(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BOTH, str(BENCHMARKS), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    killed, faulty = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("kills", "faults"))
    for found in (killed["forks"], faulty):
        assert found["wrong"] == []
        assert found["tracebacks"] == ""
    assert killed["forks"]["kills"] >= 8
    assert faulty["total"] == 3
