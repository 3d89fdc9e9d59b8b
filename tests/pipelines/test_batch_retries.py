"""What a process engine does with attempts, seen without processes: slots that answer at once."""

from collections import Counter
from pathlib import Path

import pytest

from blindsr.pipelines.batch import processes
from blindsr.pipelines.batch.processes import ProcessEngine
from blindsr.pipelines.batch.task import Options, Task
from blindsr.pipelines.batch.worker import READY, ROW


class Pipe:
    """A pipe whose other end runs `answer` for each task; an answer of None is the death of the process."""

    def __init__(self, answer):
        self.answer = answer
        self.waiting = [(READY, None)]

    def send(self, task):
        row = self.answer(task)
        self.waiting.append(None if row is None else (ROW, row))

    def recv(self):
        message = self.waiting.pop(0)
        if message is None:
            raise EOFError
        return message

    def close(self):
        pass


class Process:
    exitcode = -9
    pid = 0

    def join(self, timeout=None):
        pass

    def terminate(self):
        pass

    def is_alive(self):
        return False


@pytest.fixture
def engine_with(monkeypatch):
    def make(answer, *, slots=2, retries=2):
        def start(self):
            self.pipe, self.lifeline, self.process, self.ready = Pipe(answer), Pipe(None), Process(), False

        monkeypatch.setattr(processes._Slot, "start", start)
        monkeypatch.setattr(processes, "Connection", Pipe)
        monkeypatch.setattr(processes, "wait", lambda pipes: [pipe for pipe in pipes if pipe.waiting])
        return ProcessEngine(("cpu",) * slots, retries=retries)

    return make


def _tasks(*names):
    return iter([Task(source=Path(n), target=Path(n), whole=True, key=n, digest=n, options=Options()) for n in names])


def _rows(engine, *names):
    said = []
    return {task.key: row for task, row in engine.run(_tasks(*names), said.append)}


def test_each_task_gives_one_row(engine_with):
    assert _rows(engine_with(lambda task: {"status": "done"}), *"abcde") == {n: {"status": "done"} for n in "abcde"}


def test_a_photograph_that_kills_its_workers_fails_after_its_attempts_and_the_others_are_done(engine_with):
    tries = Counter()

    def answer(task):
        tries[task.key] += 1
        return None if task.key == "c" else {"status": "done"}

    rows = _rows(engine_with(answer, retries=2), *"abcde")
    assert tries == {"a": 1, "b": 1, "c": 3, "d": 1, "e": 1}
    assert {name: row["status"] for name, row in rows.items()} == {n: "failed" if n == "c" else "done" for n in "abcde"}
    assert "SIGKILL" in rows["c"]["error"]
    assert rows["c"]["attempts"] == 3


def test_a_death_by_chance_is_made_good(engine_with):
    tries = Counter()

    def answer(task):
        tries[task.key] += 1
        return None if task.key == "b" and tries["b"] == 1 else {"status": "done"}

    assert _rows(engine_with(answer), *"abc")["b"] == {"status": "done", "attempts": 2}


def test_what_ran_out_of_memory_is_tried_again_at_the_end_and_alone(engine_with):
    order = []

    def answer(task):
        order.append(task.key)
        if task.key == "a" and order.count("a") == 1:
            return {"status": "failed", "error": "memory ran out", "retry": True}
        return {"status": "done"}

    rows = _rows(engine_with(answer), *"abcd")
    assert order[-1] == "a"
    assert all(row["status"] == "done" for row in rows.values())


def test_other_failures_are_not_tried_again(engine_with):
    tries = Counter()

    def answer(task):
        tries[task.key] += 1
        return {"status": "failed", "error": "it is damaged"}

    _rows(engine_with(answer), *"ab")
    assert set(tries.values()) == {1}


def test_without_retries_a_death_is_a_failure(engine_with):
    assert _rows(engine_with(lambda task: None, retries=0), "a")["a"]["status"] == "failed"
