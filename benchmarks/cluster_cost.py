"""Photographs per hour and their cost against the number of workers: a simulation with measured times.

    python benchmarks/cluster_cost.py PHOTOS -o cost.json [--price 0.05] [--deaths 0.1] [--preset default]

Every photograph of the folder PHOTOS is upscaled once, on one thread; processor seconds of simulated photographs are
drawn from these. The overheads of a cluster are measured with a real Dask scheduler and worker on this machine: the
latency of a task, and the time between two tasks that the scheduler and this client submit (each with a line in a
manifest on the disk). The simulation covers the launch of workers, the submission of tasks one at a time, workers that
die and are replaced, and the wait for the last photograph.
"""

import argparse
import heapq
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from machine import circumstances

from blindsr.batch.inputs import find_inputs
from blindsr.batch.plan import Manifest
from blindsr.batch.task import Task, TaskOptions, run_task
from blindsr.settings import preset


@dataclass(frozen=True)
class Overheads:
    """Overheads of a cluster in seconds."""

    launch: float  # launch of a worker: the process and its imports
    latency: float  # latency of a task and its row
    interval: float  # between two tasks that one client submits to many workers
    restart: float = 30.0  # until a dead worker is replaced: Dask's default timeout, not measured


def measure_overheads(tasks: int = 300) -> Overheads:
    """Measure the overheads with a real scheduler and one worker."""
    from distributed import Client, LocalCluster

    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.submit(_load).result()
            launch = time.perf_counter() - began
            single = []
            for i in range(50):
                started = time.perf_counter()
                client.submit(_nothing, i, pure=False).result()
                single.append(time.perf_counter() - started)
            manifest = Manifest(Path(folder) / "manifest.jsonl")
            started = time.perf_counter()
            futures = [client.submit(_nothing, i, pure=False) for i in range(tasks)]
            for i, future in enumerate(futures):
                future.result()
                manifest.write(Path(f"{i}.png"), Path(f"{i}"), {"status": "done"})
            many = (time.perf_counter() - started) / tasks
    return Overheads(launch=round(launch, 2), latency=round(statistics.median(single), 4), interval=round(many, 4))


def _load() -> None:
    import blindsr.pipelines.files  # noqa: F401


def _nothing(number: int) -> int:
    return number


def measure_photographs(folder: Path, name: str) -> list[float]:
    """Processor seconds of each photograph in a folder; the first one runs twice, to warm up."""
    torch.set_num_threads(1)
    options = TaskOptions(settings=preset(name))
    seconds: list[float] = []
    photographs = [item.path for item in find_inputs([folder]).files]
    with TemporaryDirectory() as results:
        for number, source in enumerate([photographs[0], *photographs]):
            target = Path(results) / str(number)
            task = Task(source=source, target=target, has_suffix=False, key=str(number), options=options)
            started = time.process_time()
            row = run_task(task, "cpu")
            if row["status"] != "done":
                raise SystemExit(row["error"])
            seconds.append(round(time.process_time() - started, 3))
            print(f"{source.name}: {seconds[-1]:.2f} s", flush=True)
    return seconds[1:]


def simulate(
    seconds: Sequence[float], photographs: int, workers: int, cost: Overheads, deaths: float, rng: random.Random
) -> dict[str, float]:
    """Simulate a batch.

    Args:
        seconds: Measured seconds of photographs.
        photographs: Number of photographs.
        workers: Number of workers.
        cost: Overheads of the cluster.
        deaths: Deaths of a worker per hour.
        rng: Random generator.

    Returns:
        Hours of the batch and of its workers, and the number of photographs that were repeated after a death.
    """
    free = [cost.launch for _ in range(workers)]
    heapq.heapify(free)
    open_, clock, end, again = photographs, 0.0, 0.0, 0
    while open_:
        ready = heapq.heappop(free)
        clock = max(clock + cost.interval, ready)  # one client submits one task after the other
        work = rng.choice(seconds) + cost.latency
        life = rng.expovariate(deaths / 3600) if deaths else float("inf")
        if life < work:
            again += 1
            heapq.heappush(free, clock + life + cost.restart + cost.launch)
            continue
        open_ -= 1
        end = max(end, clock + work)
        heapq.heappush(free, clock + work)
    return {"hours": end / 3600, "worker_hours": workers * end / 3600, "again": again}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--preset", default="default")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--workers", default="1,2,4,8,16,32,64,128,256,512")
    parser.add_argument("--count", type=int, default=10_000, help="photographs of the simulated batch")
    parser.add_argument("--seconds", help="seconds of each photograph, separated by commas, instead of measuring them")
    parser.add_argument("--price", type=float, default=0.05, help="price of a worker's hour, in any currency")
    parser.add_argument("--deaths", type=float, default=0.1, help="deaths of a worker per hour")
    arguments = parser.parse_args()
    seconds = (
        [float(s) for s in arguments.seconds.split(",")]
        if arguments.seconds
        else measure_photographs(arguments.photographs, arguments.preset)
    )
    cost = measure_overheads()
    print(f"{len(seconds)} photographs, median {statistics.median(seconds):.2f} s; {cost}")
    table = []
    for workers in (int(part) for part in arguments.workers.split(",")):
        outcome = simulate(seconds, arguments.count, workers, cost, arguments.deaths, random.Random(0))
        rate = arguments.count / outcome["hours"]
        table.append(
            {
                "workers": workers,
                "hours": round(outcome["hours"], 2),
                "per_hour": round(rate),
                "efficiency": round(rate / workers * statistics.fmean(seconds) / 3600, 3),
                "cost_per_thousand": round(1000 * outcome["worker_hours"] * arguments.price / arguments.count, 3),
                "repeated": outcome["again"],
            }
        )
        row = table[-1]
        print(
            f"| {workers} | {row['per_hour']:,} | {row['hours']:.2f} | {row['efficiency']:.0%} | "
            f"{row['cost_per_thousand']:.2f} | {row['repeated']} |"
        )
    content = {**circumstances(), "arguments": {k: str(v) for k, v in vars(arguments).items()}, "seconds": seconds}
    content |= {"overheads": asdict(cost), "table": table}
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
