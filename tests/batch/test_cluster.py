"""A real dask scheduler with two workers, each a process of its own, and one of them killed in the middle."""

import json
import os
import signal

import pytest

from blindsr.batch.cluster import Cluster, read_resources
from blindsr.batch.plan import MANIFEST
from blindsr.batch.task import ImageDone, ImageEvent, ImageStarted, TaskOptions
from blindsr.errors import ConfigError, DeviceError
from blindsr.kernels import gaussian
from blindsr.settings import preset
from tests.batch.batch_fakes import make_photos, run, statuses
from tests.batch.dask_processes import dask_processes

pytest.importorskip("distributed")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of Dask are forks")
def test_a_worker_that_dies_loses_nothing(tmp_path):
    with dask_processes(tmp_path, workers=2, options=("--resources", "PHOTO=1")) as cluster:
        _a_worker_dies(cluster, tmp_path)


def _a_worker_dies(cluster, tmp_path):
    make_photos(tmp_path / "in", *(f"{i}.png" for i in range(6)))
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    events = []

    def listener(event):
        events.append(event)
        if len([e for e in events if isinstance(e, ImageDone)]) == 2:
            cluster.kill(cluster.workers[0])

    options = TaskOptions(settings=preset("fast"), kernel=gaussian(1.44, 2))
    engine = Cluster(scheduler=cluster.address, device="cpu", resources={"PHOTO": 1}).run
    result = run(tmp_path / "in", tmp_path / "out", options=options, engine=engine, listener=listener)
    assert cluster.end_of(cluster.workers[0]) == -signal.SIGKILL
    assert statuses(result) == {"bad.png": "failed"} | {f"{i}.png": "done" for i in range(6)}
    rows = [json.loads(line) for line in (tmp_path / "out" / MANIFEST).read_text().splitlines()]
    assert sorted(row["target"] for row in rows if row["status"] == "done") == [f"{i}_blindsr_x2" for i in range(6)]
    # Progress comes from the workers.
    assert {e.source.name for e in events if isinstance(e, ImageStarted)} >= {f"{i}.png" for i in range(6)}
    assert any(isinstance(e, ImageEvent) and e.event.stage == "pretrained" for e in events)
    again = run(tmp_path / "in", tmp_path / "out", options=options, engine=engine)
    assert statuses(again) == {"bad.png": "failed"} | {f"{i}.png": "kept" for i in range(6)}


def test_a_scheduler_that_does_not_answer_is_one_error(tmp_path, monkeypatch):
    make_photos(tmp_path / "in", "a.png")
    monkeypatch.setattr("blindsr.batch.cluster._CONNECT_SECONDS", 0.5)
    with pytest.raises(DeviceError, match=r"no Dask scheduler answers at tcp://127\.0"):
        run(tmp_path / "in", tmp_path / "out", engine=Cluster(scheduler="tcp://127.0.0.1:9").run)


def test_resources_are_names_and_numbers():
    assert read_resources("GPU=1, MEMORY=4e9") == {"GPU": 1.0, "MEMORY": 4e9}
    assert read_resources(None) == {}
    with pytest.raises(ConfigError, match="GPU"):
        read_resources("GPU")
