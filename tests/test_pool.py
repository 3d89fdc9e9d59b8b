"""Worker processes: real ones, which are killed, and fakes for the order of attempts."""

import contextlib
import importlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import active_children

import pytest

from blindsr import pool
from blindsr.errors import ConfigError, DeviceError
from blindsr.pool import Outcome, WorkerDiedError, current_worker, run_in_processes

# Worker processes import the functions by name, so they live in a module of their own.
FUNCTIONS = """
import os, signal, sys, threading, time
from pathlib import Path
import torch
from blindsr.pool import current_worker

class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

def blas_threads(_):
    return os.environ["OPENBLAS_NUM_THREADS"]

def square(n):
    current_worker().send(("start", n))
    return n * n

def fail(n):
    if n == 1:
        raise ValueError("one is not allowed")
    if n == 2:
        raise OddError("an argument", "another")  # cannot be unpickled
    return threading.Lock() if n == 3 else n  # a lock cannot be pickled

def describe(n):
    time.sleep(0.2)  # so that every worker gets one
    return current_worker().number, torch.get_num_threads()

def die_once(path):
    if path.exists() or path.name == "stays":
        path.touch()
        return os.getpid()
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)

def wait_for_ever(path):
    try:
        current_worker().send(os.getpid())
        time.sleep(600)
    finally:
        path.touch()
"""
PARENT = """
import multiprocessing
import signal
import sys
from pathlib import Path
from blindsr import pool
from functions_of_workers import wait_for_ever
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    pool.multiprocessing.get_context = lambda method: context
    # A suite that a shell runs in the background has SIGINT ignored, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tell = lambda index, message: print(message, flush=True)
    list(pool.run_in_processes(wait_for_ever, [Path(sys.argv[1])], jobs=1, threads=1, listener=tell))
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "functions_of_workers.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("functions_of_workers")
    sys.modules.pop("functions_of_workers")
    assert active_children() == []


@pytest.fixture
def forked(functions, monkeypatch):
    """The functions, in workers that need not import torch."""
    if sys.platform != "linux":
        return functions
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda method: fork)
    return functions


def test_outcomes_and_messages_arrive_with_the_index_of_their_task(forked):
    messages = []
    outcomes = run_in_processes(
        forked.square, iter([3, 4, 5]), jobs=2, threads=1, listener=lambda *both: messages.append(both)
    )
    assert sorted((o.index, o.task, o.value, o.error) for o in outcomes) == [
        (0, 3, 9, None),
        (1, 4, 16, None),
        (2, 5, 25, None),
    ]
    assert sorted(messages) == [(0, ("start", 3)), (1, ("start", 4)), (2, ("start", 5))]


def test_an_error_fails_its_task_alone(forked):
    outcomes = {o.index: o for o in run_in_processes(forked.fail, range(5), jobs=1, threads=1, retries=2)}
    assert [outcomes[i].value for i in (0, 4)] == [0, 4]
    assert isinstance(outcomes[1].error, ValueError)
    assert str(outcomes[2].error) == "OddError: an argument and another"
    assert "pickle" in str(outcomes[3].error)
    assert {o.attempts for o in outcomes.values()} == {1}


def test_workers_are_numbered_and_divide_the_cores(forked, monkeypatch):
    monkeypatch.setattr(pool, "default_threads", lambda: 4)
    found = {o.value for o in run_in_processes(forked.describe, range(2), jobs=2)}
    assert found == {(0, 2), (1, 2)}


def test_workers_have_no_more_threads_of_blas_than_they_are_to_have(forked, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    (outcome,) = run_in_processes(forked.blas_threads, [0], jobs=1, threads=3)
    assert outcome.value == "3"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    (outcome,) = run_in_processes(forked.blas_threads, [0], jobs=1, threads=3)
    assert outcome.value == os.environ["OPENBLAS_NUM_THREADS"] == "2"


def test_a_killed_worker_costs_its_task_an_attempt_and_others_nothing(forked, tmp_path):
    tasks = [tmp_path / "dies", tmp_path / "stays"]
    outcomes = {o.index: o for o in run_in_processes(forked.die_once, tasks, jobs=2, threads=1, retries=1)}
    assert [(outcomes[i].error, outcomes[i].attempts) for i in range(2)] == [(None, 2), (None, 1)]
    tasks = [tmp_path / "dies again"]
    (outcome,) = run_in_processes(forked.die_once, tasks, jobs=1, threads=1, retries=0)
    assert isinstance(outcome.error, WorkerDiedError)
    assert "killed (SIGKILL); the system does this when memory runs out" in str(outcome.error)


def test_a_worker_that_is_killed_before_it_is_ready_is_replaced(forked, monkeypatch):
    serve = pool._serve

    def begin_late(*arguments):
        time.sleep(0.5)  # for so long, and longer, a worker that is spawned imports torch
        serve(*arguments)

    if sys.platform == "linux":
        monkeypatch.setattr(pool, "_serve", begin_late)
    killed = []

    def kill_a_starting_worker():
        yield 0
        killed.extend(active_children())
        os.kill(killed[0].pid, signal.SIGKILL)
        yield from (1, 2, 3)

    outcomes = run_in_processes(forked.square, kill_a_starting_worker(), jobs=2, threads=1)
    assert sorted(o.value for o in outcomes) == [0, 1, 4, 9]
    assert [process.exitcode for process in killed] == [-signal.SIGKILL]


def test_an_idle_worker_that_is_killed_breaks_nothing(forked):
    outcomes = run_in_processes(forked.square, [2, 3], jobs=2, threads=1, retries=0)
    values = []
    for outcome in outcomes:
        values.append(outcome.value)
        for process in active_children():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        break
    with contextlib.suppress(StopIteration):
        values.append(next(outcomes))
    outcomes.close()
    assert values[0] in (4, 9)


def test_closing_ends_the_workers_tidily(forked, tmp_path):
    pids = []

    def stop(index, pid):
        pids.append(pid)
        raise KeyboardInterrupt

    outcomes = run_in_processes(forked.wait_for_ever, [tmp_path / "cleaned up"], jobs=1, threads=1, listener=stop)
    with pytest.raises(KeyboardInterrupt), contextlib.closing(outcomes):
        next(outcomes)
    assert (tmp_path / "cleaned up").exists(), "`finally` blocks of the task run"
    assert not _exists(pids[0])


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
# The worker of one is a fork of its parent, which has no threads: a worker that is spawned loads torch again.
@pytest.mark.parametrize(("number", "start"), [(signal.SIGKILL, "spawn"), (signal.SIGINT, "fork")])
def test_workers_end_with_their_parent(functions, tmp_path, number, start):
    (tmp_path / "parent.py").write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "cleaned up"), start]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(number)
        try:
            parent.wait(60)
        finally:
            parent.kill()
    deadline = time.monotonic() + 60
    while _exists(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (tmp_path / "cleaned up").exists() == (number == signal.SIGINT)


def _exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_that_cannot_start_are_one_error(monkeypatch):
    monkeypatch.setattr(pool, "_serve", os._exit)
    start = pool.multiprocessing.process.BaseProcess.start

    def with_exit_code(process):
        process._args = (9,)
        start(process)

    monkeypatch.setattr(pool.multiprocessing.process.BaseProcess, "start", with_exit_code)
    with pytest.raises(DeviceError, match=r"no worker process can be started \(the worker process exited with code 9"):
        list(run_in_processes(abs, [1], jobs=1))
    assert active_children() == []


@pytest.mark.parametrize(("jobs", "retries"), [(0, 2), (1, -1)])
def test_impossible_numbers_are_refused_at_once(jobs, retries):
    with pytest.raises(ConfigError):
        run_in_processes(abs, [1], jobs=jobs, retries=retries)


def test_outside_a_pool_messages_are_discarded():
    assert current_worker().number == 0
    assert current_worker().send("message") is None


class FakePipe:
    """A pipe whose other end calls `function` for each task; a value of None is the death of the process."""

    def __init__(self, function):
        self.function = function
        self.messages = [("ready", None)]

    def send(self, task):
        value = self.function(task)
        self.messages.append(None if value is None else value if isinstance(value, tuple) else ("value", value))

    def recv(self):
        message = self.messages.pop(0)
        if message is None:
            raise EOFError
        return message

    def close(self):
        pass


class FakeProcess:
    exitcode = -9

    def join(self, timeout=None):
        pass

    def terminate(self):
        pass

    kill = terminate


@pytest.fixture
def run(monkeypatch):
    """Run a function on tasks by workers that return at once."""

    def start(self, function, number, threads):
        self.number, self.attempt, self.is_ready = number, None, False
        self.pipe, self.process = FakePipe(function), FakeProcess()

    def run_fakes(function, tasks, *, retries=2, **options):
        outcomes = run_in_processes(function, tasks, jobs=2, retries=retries, **options)
        return {o.task: o for o in outcomes}

    monkeypatch.setattr(pool._Process, "__init__", start)
    monkeypatch.setattr(pool, "wait", lambda pipes: [pipe for pipe in pipes if pipe.messages])
    return run_fakes


def test_each_task_has_one_outcome(run):
    outcomes = run(str.upper, "abcde")
    assert outcomes == {name: Outcome(index=i, task=name, value=name.upper()) for i, name in enumerate("abcde")}


def test_a_task_that_kills_its_workers_fails_after_its_attempts_and_the_others_are_done(run):
    attempts = Counter()

    def function(task):
        attempts[task] += 1
        return None if task == "c" else task

    outcomes = run(function, "abcde", retries=2)
    assert attempts == {"a": 1, "b": 1, "c": 3, "d": 1, "e": 1}
    assert [name for name, outcome in outcomes.items() if outcome.error] == ["c"]
    assert outcomes["c"].attempts == 3


def test_what_ran_out_of_memory_is_tried_again_after_all_others_and_alone(run):
    order = []

    def function(task):
        order.append(task)
        return ("error", MemoryError()) if task == "a" and order.count("a") == 1 else task

    outcomes = run(function, "abcd")
    assert order[-1] == "a"
    assert [outcome.error for outcome in outcomes.values()] == [None] * 4


def test_a_value_may_ask_for_another_attempt(run):
    attempts = Counter()

    def function(task):
        attempts[task] += 1
        return {"again": task == "b"}

    outcomes = run(function, "ab", retries=1, should_retry=lambda value: value["again"])
    assert attempts == {"a": 1, "b": 2}
    assert outcomes["b"].value == {"again": True}


def test_other_errors_are_not_tried_again(run):
    attempts = Counter()

    def function(task):
        attempts[task] += 1
        return ("error", ValueError("damaged"))

    run(function, "ab")
    assert set(attempts.values()) == {1}


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "SIGKILL.*memory runs out"), (-11, "SIGSEGV"), (1, "code 1"), (-250, "signal 250")]
)
def test_the_reason_of_an_exit(code, words):
    worker = object.__new__(pool._Process)
    worker.process = FakeProcess()
    worker.process.exitcode = code
    assert re.search(words, worker.exit_reason())
