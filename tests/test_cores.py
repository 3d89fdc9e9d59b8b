"""Cores of the machine, of a container, and those that other programs use; with the files of Linux made up."""

import os

import pytest

from blindsr import cores

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class _Machine:
    """A machine of four cores, of which this process may use 0, 1 and 3 as long as `usable` is not changed."""

    def __init__(self, folder, monkeypatch):
        self.usable, self.idle, self.own, self.clock = {0, 1, 3}, [0.0] * 4, 0.0, 100.0
        self.stat, self.limit = folder / "stat", None
        self.write()
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(cores, "_STAT", self.stat)
        monkeypatch.setattr(cores, "core_limit", lambda: self.limit)
        monkeypatch.setattr(cores, "_first", None)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: self.usable, raising=False)
        monkeypatch.setattr(os, "times", lambda: os.times_result((self.own, 0.0, 0.0, 0.0, 0.0)))
        monkeypatch.setattr(cores.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(cores.time, "sleep", lambda seconds: seconds and self.run(seconds, [0.0] * 4))
        cores.cores_of_others.cache_clear()

    def write(self):
        ticks = [round(seconds * _TICKS) for seconds in self.idle]
        rows = [f"cpu{number} 9 9 9 {idle - 5} 5 9 9 9 0 0" for number, idle in enumerate(ticks)]
        self.stat.write_text(f"cpu  36 36 36 {sum(ticks)} 20 36 36 36 0 0\n" + "\n".join(rows) + "\nintr 9 9\n")

    def run(self, seconds, busy, *, own=0.0):
        """Let time pass with these shares of each core in use, `own` of them by this process."""
        self.clock += seconds
        self.own += own * seconds
        self.idle = [idle + (1 - share) * seconds for idle, share in zip(self.idle, busy, strict=True)]
        self.write()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    yield _Machine(tmp_path, monkeypatch)
    cores.cores_of_others.cache_clear()


@pytest.mark.parametrize(
    ("busy", "own", "others", "threads"),
    [
        ([0, 0, 0, 0], 0, 0, 3),
        ([1, 0, 0, 0], 1, 0, 3),  # this process alone, as while it imports torch
        ([1, 1, 0, 0], 1, 1, 2),
        ([0, 0, 1, 0], 0, 0, 3),  # a core that this process may not use
        ([0.3, 0, 0, 0], 0, 0.3, 3),
        ([0.2, 0.1, 0, 0.1], 0, 0.4, 2),
        ([1, 1, 1, 1], 1, 2, 1),
        ([1, 1, 1, 1], 0, 3, 1),
    ],
)
def test_cores_of_other_programs_are_left_to_them(machine, busy, own, others, threads):
    cores.watch_load()
    machine.run(2.0, busy, own=own)
    assert cores.cores_of_others() == pytest.approx(others, abs=0.011)
    assert cores.default_threads() == threads
    machine.run(100.0, [0, 0, 0, 0])
    assert cores.default_threads() == threads  # all parts of a run have the same number


def test_the_load_is_measured_for_a_fifth_of_a_second_at_least(machine):
    cores.watch_load()
    assert cores.cores_of_others() == pytest.approx(0, abs=0.06)
    assert machine.clock == pytest.approx(100.2)


def test_without_watch_load_the_load_does_not_count(machine):
    machine.run(2.0, [1, 1, 1, 1])
    assert cores.cores_of_others() == 0
    assert cores.default_threads() == cores.usable_cores() == 3


@pytest.mark.parametrize("text", ["", "cpu0 9\n", "cpu0 a b c d e\n", "cpu0 9 9 9 9 9 9\n"])
def test_where_the_system_does_not_count_all_cores_count_as_free(machine, text):
    for write_first in (True, False):
        if write_first:
            machine.write()
        else:
            machine.stat.write_text(text)
        cores.watch_load()
        machine.clock += 2.0
        machine.stat.write_text(text)
        assert cores.default_threads() == 3
    machine.stat.unlink()
    cores.watch_load()
    assert cores.default_threads() == 3


@pytest.mark.parametrize(("limit", "usable"), [(None, 3), (1, 1), (2, 2), (64, 3)])
def test_a_container_has_as_many_cores_as_its_limit(machine, limit, usable):
    machine.limit = limit
    assert cores.usable_cores() == cores.default_threads() == usable


def test_a_container_on_a_busy_machine_has_its_limit_as_long_as_so_many_cores_are_free(machine):
    machine.usable = {0, 1, 2, 3}
    machine.limit = 2
    cores.watch_load()
    machine.run(2.0, [1, 1, 0, 0])
    assert cores.default_threads() == 2


@pytest.mark.parametrize(("value", "threads"), [("5", 5), ("4,2", 4), ("0", 3), ("x", 3), ("", 3)])
def test_the_environment_decides_before_the_load(machine, monkeypatch, value, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cores.default_threads() == threads
    assert cores.threads_of_environment() == (threads if threads > 3 else None)


def test_a_system_without_affinity_uses_all_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(cores, "core_limit", lambda: None)
    cores.watch_load()
    assert cores.default_threads() == cores.usable_cores() == 6
