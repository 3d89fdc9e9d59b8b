"""The process itself: threads and memory."""

import subprocess
import sys

import pytest

from blindsr.errors import ConfigError
from blindsr.runtime import prepare_process

# Page faults of three tensors of 64 MB, made and freed one after the other, after as many others: in a process as it
# begins and in a prepared one; and of one tensor after the memory was released.
_FAULTS = """
import resource, torch
from blindsr.runtime import prepare_process, release_memory
def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(3)
plain = faults(3)
prepare_process(1)
faults(3)
kept = faults(3)
release_memory()
print(plain, kept, faults(1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's habit")
def test_freed_memory_is_used_again_until_it_is_released():
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    plain, kept, after_release = (int(count) for count in done.stdout.split())
    assert kept < plain / 5
    assert after_release > plain / 6  # of one tensor instead of three


def test_threads_are_counted_from_one():
    with pytest.raises(ConfigError, match="1 or more"):
        prepare_process(0)
