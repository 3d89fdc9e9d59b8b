"""The process itself: threads and memory."""

import subprocess
import sys

import pytest

from blindsr.errors import ConfigError
from blindsr.runtime import prepare_process

# Page faults of ten tensors of 64 MB, made and freed one after the other, after ten others: by default, in a process
# that is prepared, and there of one tensor after a release.
_FAULTS = """
import resource, torch
from blindsr.runtime import prepare_process, release_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def of_ten():
    for _ in range(10):
        torch.ones(2**24)
    before = faults()
    for _ in range(10):
        torch.ones(2**24)
    return faults() - before
plain = of_ten()
prepare_process(1)
kept = of_ten()
release_memory()
before = faults()
torch.ones(2**24)
print(plain, kept, faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's habit")
def test_freed_memory_is_used_again_until_it_is_released():
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    plain, kept, after_release = (int(count) for count in done.stdout.split())
    assert kept < plain / 5
    assert after_release > plain / 20  # of one tensor instead of ten


def test_threads_are_counted_from_one():
    with pytest.raises(ConfigError, match="1 or more"):
        prepare_process(0)
