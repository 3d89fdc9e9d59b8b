"""The process itself: threads and memory."""

import subprocess
import sys

import pytest

from blindsr.errors import ConfigError
from blindsr.runtime import prepare_process

# Page faults of ten tensors of 64 MB, made and freed one after the other, after ten others.
_FAULTS = """
import resource, sys, torch
from blindsr.runtime import prepare_process, release_memory
if sys.argv[1] == "prepared":
    prepare_process(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
before = faults()
for _ in range(10):
    torch.ones(2**24)
kept = faults() - before
release_memory()
before = faults()
torch.ones(2**24)
print(kept, faults() - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
    return [int(count) for count in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's habit")
def test_freed_memory_is_used_again_until_it_is_released():
    kept, after_release = faults("prepared")
    plain, _ = faults("plain")
    assert kept < plain / 5
    assert after_release > plain / 20  # of one tensor instead of ten


def test_threads_are_counted_from_one():
    with pytest.raises(ConfigError, match="1 or more"):
        prepare_process(0)
