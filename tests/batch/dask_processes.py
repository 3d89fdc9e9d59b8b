"""A Dask scheduler with workers, each a process of its own; torch is loaded once for all of them."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

# They are forks of one process, which tells their numbers, and then how each of them ended.
FORKS = """
import json, os, sys
import blindsr.pipelines.files, blindsr.upscalers.pretrained
from distributed.cli import dask_scheduler, dask_worker
commands = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
calls = json.loads(sys.argv[1])
for name, *arguments in calls:
    child = os.fork()
    if child == 0:
        commands[name](arguments)
    print(child, flush=True)
for _ in calls:
    child, status = os.wait()
    print(child, os.waitstatus_to_exitcode(status), flush=True)
"""


class DaskProcesses:
    """The address of a scheduler, and the process numbers of its workers."""

    def __init__(self, launcher, address, processes):
        self.launcher, self.address, self.processes = launcher, address, processes
        self.workers = processes[1:]

    @staticmethod
    def kill(process):
        """Kill a process, if it has not ended."""
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def end_of(self, process):
        """The exit code of a process that ends; minus the number of the signal that killed it."""
        for line in self.launcher.stdout:
            ended, code = line.split()
            if int(ended) == process:
                self.processes.remove(process)
                return int(code)
        return None


@contextmanager
def dask_processes(folder, *, workers, options=(), environment=os.environ):
    """Run a scheduler and workers with so many options, which have their files in a folder."""
    place = folder / "scheduler.json"
    common = ("--scheduler-file", str(place), "--no-dashboard")
    worker = ("worker", *common, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder), *options)
    calls = [("scheduler", *common, "--host", "127.0.0.1", "--port", "0"), *[worker] * workers]
    log = folder / "cluster.log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-c", FORKS, json.dumps(calls)],
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as launcher,
    ):
        processes = []
        try:
            for _ in calls:
                line = launcher.stdout.readline()
                assert line, log.read_text()
                processes.append(int(line))
            deadline = time.monotonic() + 60
            while not place.exists():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield DaskProcesses(launcher, json.loads(place.read_text())["address"], processes)
        finally:
            for process in processes:
                DaskProcesses.kill(process)
            with suppress(subprocess.TimeoutExpired):
                launcher.wait(10)  # it ends after them
            launcher.kill()
