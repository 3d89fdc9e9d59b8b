"""Kill a batch with SIGKILL at random moments, run it again, and look for lost, torn and doubled results.

    python benchmarks/kills.py -o kills.json [--kills 250] [--photos 4] [--seed 0]

Each trial begins with an empty folder, a quarter of them with older results that are to be replaced; the batch is
killed some times and then runs to its end. Half of the kills come after a random time, half before a random system call
that writes: fsync, rename, mkdir, open, unlink. The batch runs in a fork of a process that has loaded torch, so that a
trial takes a second. With --command the command itself is killed too, at random times; its worker processes must end
with it.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import batch_trials as trials
from machine import circumstances

_CALLS = ("fsync", "replace", "rename", "mkdir", "open", "unlink", "link", "rmdir")


def kill_before_call(number: int) -> None:
    """Kill this process before its `number`-th writing system call."""
    left = number

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))


def one_run(photos: Path, results: Path, log: Path, *, overwrite: bool, dies_at: int | None) -> int:
    """The batch, in the fork."""
    trials.count_releases(log)
    if dies_at is not None:
        kill_before_call(dies_at)
    return trials.batch(photos, results, overwrite=overwrite)


def forks(folder: Path, kills: int, count: int, rng: random.Random) -> dict[str, object]:
    """The trials in forks."""
    photos, results, log, errors = folder / "in", folder / "out", folder / "releases.log", folder / "errors.log"
    trials.make_photos(photos, count)
    trials.warm_up(photos, results)
    began = time.perf_counter()
    trials.forked(lambda: trials.batch(photos, trials.fresh(results)), log=errors)
    seconds = time.perf_counter() - began
    expected = trials.images(results)
    assert len(expected) == count, errors.read_text() if errors.exists() else expected
    tally: Counter[str] = Counter()
    wrong: list[object] = []
    while tally["kills"] < kills:
        trials.fresh(results)
        log.unlink(missing_ok=True)
        overwrite = rng.random() < 0.25
        if overwrite:  # older results exist, and are to be replaced
            for name in expected:
                (results / name).parent.mkdir(parents=True, exist_ok=True)
                (results / name).write_bytes(b"older")
        for _ in range(rng.randint(1, 6)):
            by_call = rng.random() < 0.5
            at = rng.randint(1, 30 * count) if by_call else None
            code = trials.forked(
                partial(one_run, photos, results, log, overwrite=overwrite, dies_at=at),
                kill_after=None if by_call else rng.uniform(0, seconds * 1.1),
                log=errors,
            )
            tally["kills"] += code == -signal.SIGKILL
            tally["kills before a call" if by_call else "kills after a time"] += code == -signal.SIGKILL
            tally["ended before the kill"] += code == 0
            if code not in (0, -signal.SIGKILL):
                wrong.append(["exit code", code])
            if not overwrite:
                wrong += _faults(results, expected, log, tally, whole=False)
        last = partial(one_run, photos, results, log, overwrite=overwrite, dies_at=None)
        code = trials.forked(last, log=errors)
        if code:
            wrong.append(["last run", code])
        wrong += _faults(results, expected, log, tally, whole=True)
        tally["trials"] += 1
        tally["photographs"] += count
        trials.report(f"{tally['kills']} kills, {tally['trials']} trials, {len(wrong)} faults")
    text = errors.read_text() if errors.exists() else ""
    return {**tally, "seconds of an undisturbed batch": round(seconds, 2), "wrong": wrong, "tracebacks": text}


def command(folder: Path, kills: int, count: int, rng: random.Random) -> dict[str, object]:
    """The same trials with the command itself, whose workers must end with it."""
    photos, results = folder / "in", folder / "out"
    trials.make_photos(photos, count)
    call = [sys.executable, "-m", "blindsr", "estimate-and-upscale", str(photos), "-r", "-o", str(results)]
    call += ["--preset", "fast", "--jobs", "2", "--threads", "2", "-q"]
    trials.fresh(results)
    began = time.perf_counter()
    subprocess.run(call, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    expected = trials.images(results)
    tally: Counter[str] = Counter()
    wrong: list[object] = []
    while tally["kills"] < kills:
        trials.fresh(results)
        for _ in range(rng.randint(1, 3)):
            with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                time.sleep(rng.uniform(0.3 * seconds, seconds))
                process.kill()
                process.communicate()
                tally["kills"] += process.returncode == -signal.SIGKILL
            wrong += _faults(results, expected, folder / "none", tally, whole=False)
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            wrong.append(["last run", done.returncode, done.stderr])
        wrong += _faults(results, expected, folder / "none", tally, whole=True)
        tally["trials"] += 1
        tally["photographs"] += count
        trials.report(f"command: {tally['kills']} kills, {tally['trials']} trials, {len(wrong)} faults")
    return {**tally, "seconds of an undisturbed batch": round(seconds, 2), "wrong": wrong}


def _faults(results: Path, expected: dict[str, str], log: Path, tally: Counter[str], *, whole: bool) -> list[object]:
    faults = trials.faults_of(results, expected, log, whole=whole)
    for kind, names in faults.items():
        tally[kind] += len(names)
    return [[kind, list(names)] for kind, names in faults.items() if names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=250, help="number of kills in forks")
    parser.add_argument("--command", type=int, default=0, help="number of kills of the command itself")
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with TemporaryDirectory(prefix="blindsr-kills-") as folder:
        content: dict[str, object] = {**circumstances()}
        content["forks"] = forks(Path(folder) / "forks", arguments.kills, arguments.photos, rng)
        if arguments.command:
            content["command"] = command(Path(folder) / "command", arguments.command, arguments.photos, rng)
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: content[key] for key in ("forks", "command") if key in content}, indent=1))


if __name__ == "__main__":
    main()
