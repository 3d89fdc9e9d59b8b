"""Real worker processes: one of them is killed, and the batch does not lose a photograph by it."""

import os
import signal
from multiprocessing import active_children

import pytest
from batch_fakes import make_photos, run, statuses

from blindsr.errors import ConfigError, DeviceError
from blindsr.kernels import gaussian
from blindsr.pipelines.batch import processes
from blindsr.pipelines.batch.events import PhotoStarted
from blindsr.pipelines.batch.processes import ProcessEngine
from blindsr.pipelines.batch.task import Options
from blindsr.pipelines.settings import preset


def test_a_worker_that_dies_costs_nothing_but_time(tmp_path):
    make_photos(tmp_path / "in", *(f"{i}.png" for i in range(4)))
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    victims = []

    def listener(event):
        # The second photograph has been given to a worker: every worker is at work, or is just beginning.
        if isinstance(event, PhotoStarted) and event.source.name == "2.png" and not victims:
            victims.extend(active_children())
            os.kill(victims[0].pid, signal.SIGKILL)

    options = Options(settings=preset("fast"), kernel=gaussian(1.44, 2))
    result = run(
        tmp_path / "in", tmp_path / "out", options=options, engine=ProcessEngine(("cpu", "cpu")), listener=listener
    )
    assert victims
    assert statuses(result) == {"bad.png": "failed"} | {f"{i}.png": "done" for i in range(4)}
    assert not [process for process in active_children() if process in victims]


def _dies(tasks, lifeline, device):
    os._exit(9)


def test_workers_that_cannot_begin_are_one_error(tmp_path, monkeypatch):
    make_photos(tmp_path / "in", "a.png")
    monkeypatch.setattr(processes, "serve", _dies)
    with pytest.raises(DeviceError, match="no worker process can be started"):
        run(tmp_path / "in", tmp_path / "out", engine=ProcessEngine(("cpu",)))
    assert active_children() == []


@pytest.mark.parametrize(("devices", "retries"), [((), 2), (("cpu",), -1)])
def test_an_engine_without_sense_is_refused(devices, retries):
    with pytest.raises(ConfigError):
        ProcessEngine(devices, retries=retries)


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "SIGKILL.*memory runs out"), (-11, "SIGSEGV"), (1, "exit code 1"), (-250, "signal 250")]
)
def test_a_death_in_words(code, words):
    import re

    assert re.search(words, processes._death(code))
