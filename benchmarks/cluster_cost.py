"""Photographs an hour and what a thousand cost, against the number of workers: a simulation fed with measured times.

    python benchmarks/cluster_cost.py PHOTOS -o cost.json [--price 0.05] [--deaths 0.1] [--preset default]

Every photograph of the folder PHOTOS is upscaled once, on one thread; from the processor seconds that each takes the
work of a simulated photograph is drawn. What a cluster adds is measured here, on a real dask scheduler and worker
of this machine: how long a task is on its way, and how many the scheduler and this client can hand out in a second
(each with its line in a manifest, on the disk). The simulation plays every photograph: workers that begin, tasks handed
out one at a time, workers that die and come back, and the last photograph that all wait for.
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

from blindsr.pipelines.batch.inputs import find_photos
from blindsr.pipelines.batch.manifest import Manifest
from blindsr.pipelines.batch.task import Options, Task, run_task
from blindsr.pipelines.settings import preset


@dataclass(frozen=True)
class Overheads:
    """Seconds that a cluster adds."""

    begin: float  # of a worker: the process and its imports, once
    journey: float  # of a task to a worker and its row back, beside its work
    hand_out: float  # between two tasks of one client, whose workers are many
    restart: float = (
        30.0  # until a dead worker is missed and its place is filled; dask's default patience, not measured
    )


def measure_overheads(tasks: int = 300) -> Overheads:
    """Ask a real scheduler with one real worker."""
    from distributed import Client, LocalCluster

    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.submit(_load).result()
            begin = time.perf_counter() - began
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
                manifest.note(Path(f"{i}.png"), Path(f"{i}"), {"status": "done"})
            many = (time.perf_counter() - started) / tasks
    return Overheads(begin=round(begin, 2), journey=round(statistics.median(single), 4), hand_out=round(many, 4))


def _load() -> None:
    import blindsr.pipelines.photo  # noqa: F401


def _nothing(number: int) -> int:
    return number


def measure_photographs(folder: Path, name: str) -> list[float]:
    """Processor seconds of each photograph in a folder; the first is done twice, to warm up."""
    torch.set_num_threads(1)
    options = Options(settings=preset(name))
    found: list[float] = []
    photographs = [item.path for item in find_photos([folder]).photos]
    with TemporaryDirectory() as results:
        for number, source in enumerate([photographs[0], *photographs]):
            target = Path(results) / str(number)
            task = Task(source=source, target=target, whole=False, key=str(number), digest="", options=options)
            started = time.process_time()
            row = run_task(task, "cpu")
            if row["status"] != "done":
                raise SystemExit(row["error"])
            found.append(round(time.process_time() - started, 3))
            print(f"{source.name}: {found[-1]:.2f} s", flush=True)
    return found[1:]


def simulate(
    seconds: Sequence[float], photographs: int, workers: int, cost: Overheads, deaths: float, rng: random.Random
) -> dict[str, float]:
    """Play a batch.

    Args:
        seconds: To draw the work of a photograph from.
        photographs: How many.
        workers: At once.
        cost: What the cluster adds.
        deaths: Of a worker, an hour.
        rng: Source of everything random.

    Returns:
        Hours of the batch and of its workers, photographs done again after a death.
    """
    free = [cost.begin for _ in range(workers)]
    heapq.heapify(free)
    open_, clock, end, again = photographs, 0.0, 0.0, 0
    while open_:
        ready = heapq.heappop(free)
        clock = max(clock + cost.hand_out, ready)  # one client hands out one task after the other
        work = rng.choice(seconds) + cost.journey
        life = rng.expovariate(deaths / 3600) if deaths else float("inf")
        if life < work:
            again += 1
            heapq.heappush(free, clock + life + cost.restart + cost.begin)
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
    parser.add_argument("--seconds", help="of each photograph, separated by commas, in place of measuring them")
    parser.add_argument("--price", type=float, default=0.05, help="of a worker's hour, in any currency")
    parser.add_argument("--deaths", type=float, default=0.1, help="of a worker, an hour")
    arguments = parser.parse_args()
    given = arguments.seconds
    seconds = (
        [float(s) for s in given.split(",")] if given else measure_photographs(arguments.photographs, arguments.preset)
    )
    cost = measure_overheads()
    print(f"{len(seconds)} photographs, median {statistics.median(seconds):.2f} s; {cost}")
    table = []
    for workers in (int(part) for part in arguments.workers.split(",")):
        found = simulate(seconds, arguments.count, workers, cost, arguments.deaths, random.Random(0))
        rate = arguments.count / found["hours"]
        table.append(
            {
                "workers": workers,
                "hours": round(found["hours"], 2),
                "an_hour": round(rate),
                "efficiency": round(rate / workers * statistics.fmean(seconds) / 3600, 3),
                "a_thousand_cost": round(1000 * found["worker_hours"] * arguments.price / arguments.count, 3),
                "again": found["again"],
            }
        )
        row = table[-1]
        print(
            f"| {workers} | {row['an_hour']:,} | {row['hours']:.2f} | {row['efficiency']:.0%} | "
            f"{row['a_thousand_cost']:.2f} | {row['again']} |"
        )
    content = {**circumstances(), "arguments": {k: str(v) for k, v in vars(arguments).items()}, "seconds": seconds}
    content |= {"overheads": asdict(cost), "table": table}
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
