"""Inject faults into batches, remove the fault, run again, and look for lost, torn and doubled results.

    python benchmarks/faults.py -o faults.json [--faults 500] [--seed 0]      # as root: it mounts a small tmpfs

Each trial is one fault in one batch: the first run must end by itself, with the error in the photograph's row and no
traceback; the second run, without the fault, must end with every intact photograph upscaled once.

full disk         a real file system (tmpfs) of random size; where one cannot be mounted, writes that fail with ENOSPC
file too large    RLIMIT_FSIZE of random size: a write fails in its middle (EFBIG)
unwritable        a folder of the tree without write permission, for a process that is not root
corrupt           an input with random bytes changed; truncated: an input that ends early (PNG, JPEG, TIFF)
vanished          an input that is deleted, or a folder that has become unreadable, after the plan was made
write error       a random writing call of the system fails once with EIO
out of memory     RLIMIT_AS a little above what the process has: allocations fail for real
worker death      SIGKILL to a worker process at a random time, sometimes to two (forked workers, two at once)
"""

import argparse
import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import batch_trials as trials
from machine import circumstances
from PIL import Image

from blindsr import pool
from blindsr.batch.run import Engine, run_inline, run_on_processes
from blindsr.batch.task import BatchListener, Row, Task

_NOBODY = 65534
Trial = Callable[["Stage", random.Random], None]


class Stage:
    """The folders of one trial, and the runs in it."""

    def __init__(self, root: Path, count: int) -> None:
        self.root = root
        self.count = count
        self.photos = root / "in"
        self.results = root / "out"
        self.log = root / "releases.log"
        self.errors = root / "errors.log"
        self.expected: dict[str, str] = {}
        self.wrong: list[object] = []
        self.effective = 0  # trials whose fault had an effect: an incomplete run, or a worker that died

    def set_up(self) -> None:
        """Make fresh photographs, and remove all results."""
        trials.fresh(self.photos)
        trials.make_photos(self.photos, self.count)
        trials.fresh(self.results)
        self.log.unlink(missing_ok=True)

    def run(
        self, before: Callable[[], object] = lambda: None, *, engine: Callable[[], Engine | None] = lambda: None
    ) -> int:
        """Run the batch in a fork, after `before`."""

        def work() -> int:
            trials.count_releases(self.log)
            before()
            return trials.batch(self.photos, self.results, engine=engine())

        return trials.forked(work, log=self.errors)

    def faulty(self, code: int, *, allowed: tuple[int, ...] = (0, trials.INCOMPLETE)) -> None:
        """Check a run with the fault."""
        self.effective += code != 0
        if code not in allowed:
            self.wrong.append(["exit code", code])
        self._check(whole=False)

    def repaired(self, *, broken: int = 0) -> None:
        """Run without the fault; `broken` photographs remain broken."""
        code = self.run()
        if code != (trials.INCOMPLETE if broken else 0):
            self.wrong.append(["second run", code])
        self._check(whole=True)

    def _check(self, *, whole: bool) -> None:
        for kind, names in trials.faults_of(self.results, self.expected, self.log, whole=whole).items():
            if names:
                self.wrong.append([kind, list(names)])


def full_disk(stage: Stage, rng: random.Random) -> None:
    """The disk is too small, and then large enough."""
    size = rng.randrange(4, 30 * stage.count)
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(stage.results)]
    if subprocess.run(options, capture_output=True, check=False).returncode:
        stage.faulty(stage.run(lambda: _failing_writes(errno.ENOSPC, rng.randint(1, 60), once=False)))
        stage.repaired()
        return
    try:
        stage.faulty(stage.run())
        subprocess.run(["mount", "-o", "remount,size=64m", str(stage.results)], check=True)
        stage.repaired()
    finally:
        subprocess.run(["umount", str(stage.results)], check=True)


def too_large(stage: Stage, rng: random.Random) -> None:
    """The size of files is limited."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = rng.randrange(100, 25_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    stage.faulty(stage.run(limit))
    stage.repaired()


def unwritable(stage: Stage, rng: random.Random) -> None:
    """A folder is not writable; root becomes nobody, because permissions do not restrict root."""
    folder = stage.results / rng.choice(["", "deeper ü"])
    folder.mkdir(exist_ok=True)
    for path in (stage.root, stage.results, folder):
        os.chown(path, _NOBODY, _NOBODY)
    folder.chmod(0o555)
    # A batch that cannot write its manifest does not begin; the command reports it in one line (71).
    allowed = (0, trials.INCOMPLETE) if folder != stage.results else (0, trials.INCOMPLETE, 71)
    stage.faulty(stage.run(lambda: os.setuid(_NOBODY)), allowed=allowed)
    folder.chmod(0o755)
    stage.repaired()


def corrupt(stage: Stage, rng: random.Random) -> None:
    """Random bytes of an input are changed."""
    path, kind = _as_some_format(stage, rng)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 4, 30])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    _run_with(stage, path, bytes(data), kind)


def truncated(stage: Stage, rng: random.Random) -> None:
    """An input ends early."""
    path, kind = _as_some_format(stage, rng)
    data = path.read_bytes()
    _run_with(stage, path, data[: rng.randrange(len(data))], kind)


def _as_some_format(stage: Stage, rng: random.Random) -> tuple[Path, str]:
    kind = rng.choice([".png", ".jpg", ".tif"])
    path = stage.photos / f"extra{kind}"
    with Image.open(next(stage.photos.glob("*.png"))) as image:
        image.save(path)
    return path, kind


def _run_with(stage: Stage, path: Path, data: bytes, kind: str) -> None:
    """Run with a broken extra photograph, which must not affect the others, and again when it is repaired."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    path.write_bytes(data)
    code = stage.run()
    results = [p for p in stage.results.glob("extra_*") if p.suffix in (".png", ".tif")]
    if code == trials.INCOMPLETE and results:
        stage.wrong.append(["a result of a bad input", kind])
    if code == 0:  # the file can still be decoded, to different pixels
        for file in stage.results.glob("extra_*"):
            file.unlink()
    stage.faulty(code)
    if set(stage.expected) - set(trials.images(stage.results)):
        stage.wrong.append(["others were lost", kind])
    path.unlink()
    whole.save(path.with_name("repaired.png"))
    if stage.run():
        stage.wrong.append(["repaired input", kind])
    for file in stage.results.glob("repaired_*"):
        file.unlink()
    stage._check(whole=True)


def vanished(stage: Stage, rng: random.Random) -> None:
    """A photograph is deleted while the batch runs, and restored."""
    victim = rng.choice(sorted(stage.photos.rglob("*.png")))
    content = victim.read_bytes()

    def engine(tasks: Iterator[Task], listener: BatchListener) -> Generator[tuple[Task, Row], None, None]:
        victim.unlink()
        yield from run_inline(tasks, listener, device="cpu", threads=1)

    stage.faulty(stage.run(engine=lambda: engine))
    victim.write_bytes(content)
    stage.repaired()


def write_error(stage: Stage, rng: random.Random) -> None:
    """One writing call fails."""
    stage.faulty(stage.run(lambda: _failing_writes(errno.EIO, rng.randint(1, 30 * stage.count), once=True)))
    stage.repaired()


def _failing_writes(number: int, at: int, *, once: bool) -> None:
    left = at

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == 0 or (left < 0 and not once):
                raise OSError(number, os.strerror(number))
            return original(*args, **kwargs)

        return call

    for name in ("fsync", "replace", "rename", "mkdir", "link"):
        setattr(os, name, counted(getattr(os, name)))


def out_of_memory(stage: Stage, rng: random.Random) -> None:
    """Allocations fail."""

    def set_limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + rng.randrange(1, 40) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    # Without memory for the batch itself it ends as the command does, in one line (71), or by a signal.
    stage.faulty(stage.run(set_limit), allowed=(0, trials.INCOMPLETE, 71, -signal.SIGABRT, -signal.SIGSEGV, 127))
    stage.repaired()


def worker_death(stage: Stage, rng: random.Random) -> None:
    """Worker processes are killed; the batch must complete nevertheless."""
    deaths_log = stage.root / "died"
    deaths_log.unlink(missing_ok=True)

    def before() -> None:
        real = multiprocessing.get_context
        # Forked, because torch is loaded already: a spawned worker takes seconds to start.
        pool.multiprocessing.get_context = lambda method=None: real("fork")  # type: ignore[assignment]
        deaths = [rng.uniform(0, 1.2) for _ in range(rng.choice([1, 1, 2, 3]))]

        def reaper() -> None:
            for pause in sorted(deaths):
                time.sleep(pause)
                if alive := multiprocessing.active_children():
                    with suppress(ProcessLookupError, TypeError):
                        os.kill(rng.choice(alive).pid, signal.SIGKILL)  # type: ignore[arg-type]
                        deaths_log.touch()

        threading.Thread(target=reaper, daemon=True).start()

    stage.faulty(
        stage.run(before, engine=lambda: partial(run_on_processes, devices=("cpu", "cpu"), threads=1, retries=4)),
        allowed=(0,),
    )
    stage.effective += deaths_log.exists()
    stage.repaired()


_KINDS: dict[str, Trial] = {
    "full disk": full_disk,
    "file too large": too_large,
    "unwritable folder": unwritable,
    "corrupt input": corrupt,
    "truncated input": truncated,
    "vanished input": vanished,
    "write error": write_error,
    "out of memory": out_of_memory,
    "worker death": worker_death,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--kinds", default=",".join(_KINDS))
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    kinds = [kind.strip() for kind in arguments.kinds.split(",")]
    tally: Counter[str] = Counter()
    effective: Counter[str] = Counter()
    wrong: list[object] = []
    with TemporaryDirectory(prefix="blindsr-faults-") as folder:
        Path(folder).chmod(0o755)
        stage = Stage(Path(folder) / "trial", arguments.photos)
        stage.set_up()
        trials.warm_up(stage.photos, stage.results)
        code = stage.run()
        stage.expected = trials.images(stage.results)
        assert (code, len(stage.expected)) == (0, arguments.photos), "an undisturbed batch fails"
        for number in range(arguments.faults):
            kind = kinds[number % len(kinds)]
            stage.set_up()
            _KINDS[kind](stage, rng)
            tally[kind] += 1
            effective[kind] += stage.effective
            wrong += [[kind, number, fault] for fault in stage.wrong]
            stage.effective = 0
            stage.wrong = []
            if (number + 1) % 20 == 0:
                trials.report(f"{number + 1} of {arguments.faults} trials, {len(wrong)} failures")
        text = stage.errors.read_text() if stage.errors.exists() else ""
    lost = sum(fault[0] == "lost" for _, _, fault in wrong)  # type: ignore[misc]
    twice = sum(fault[0] == "twice" for _, _, fault in wrong)  # type: ignore[misc]
    content = {
        **circumstances(),
        "faults": dict(tally),
        "effective": dict(effective),
        "total": sum(tally.values()),
        "lost": lost,
        "twice": twice,
        "wrong": wrong,
        "tracebacks": text,
    }
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps({key: content[key] for key in ("faults", "total", "lost", "twice", "wrong", "tracebacks")}, indent=1)
    )


if __name__ == "__main__":
    main()
