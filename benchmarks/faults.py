"""Inject faults into batches, take the fault away, run again, and look for lost, torn and doubled results.

    python benchmarks/faults.py -o faults.json [--faults 500] [--seed 0]      # as root: it mounts a small tmpfs

Each trial is one fault in one batch: the first run meets it and must end by itself, with the error in the photograph's
row and no traceback; the second run is without it and must end with every intact photograph upscaled once.

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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import batch_trials as trials
from machine import circumstances
from PIL import Image

from blindsr.pipelines.batch import processes, run
from blindsr.pipelines.batch.engine import Engine
from blindsr.pipelines.batch.processes import ProcessEngine

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
        self.met = 0  # trials whose fault was felt: a run that did not complete, or a worker that died

    def set_up(self) -> None:
        """Fresh photographs, and no results."""
        trials.fresh(self.photos)
        trials.make_photos(self.photos, self.count)
        trials.fresh(self.results)
        self.log.unlink(missing_ok=True)

    def run(
        self, before: Callable[[], object] = lambda: None, *, engine: Callable[[], Engine | None] = lambda: None
    ) -> int:
        """The batch in a fork, `before` in it first."""

        def work() -> int:
            trials.count_releases(self.log)
            before()
            return trials.batch(self.photos, self.results, engine=engine())

        return trials.forked(work, log=self.errors)

    def faulty(self, code: int, *, allowed: tuple[int, ...] = (0, trials.INCOMPLETE)) -> None:
        """Judge a run that met the fault."""
        self.met += code != 0
        if code not in allowed:
            self.wrong.append(["exit code", code])
        self._judge(whole=False)

    def mended(self, *, broken: int = 0) -> None:
        """The run without the fault; `broken` photographs stay as they are."""
        code = self.run()
        if code != (trials.INCOMPLETE if broken else 0):
            self.wrong.append(["second run", code])
        self._judge(whole=True)

    def _judge(self, *, whole: bool) -> None:
        for kind, names in trials.faults_of(self.results, self.expected, self.log, whole=whole).items():
            if names:
                self.wrong.append([kind, list(names)])


def full_disk(stage: Stage, rng: random.Random) -> None:
    """A disk that is too small, and then is not."""
    size = rng.randrange(4, 30 * stage.count)
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(stage.results)]
    if subprocess.run(options, capture_output=True, check=False).returncode:
        stage.faulty(stage.run(lambda: _failing_writes(errno.ENOSPC, rng.randint(1, 60), once=False)))
        stage.mended()
        return
    try:
        stage.faulty(stage.run())
        subprocess.run(["mount", "-o", "remount,size=64m", str(stage.results)], check=True)
        stage.mended()
    finally:
        subprocess.run(["umount", str(stage.results)], check=True)


def too_large(stage: Stage, rng: random.Random) -> None:
    """A limit on the size of a file."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = rng.randrange(100, 25_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    stage.faulty(stage.run(limit))
    stage.mended()


def unwritable(stage: Stage, rng: random.Random) -> None:
    """A folder that refuses; root is asked to be nobody, whom permissions concern."""
    folder = stage.results / rng.choice(["", "deeper ü"])
    folder.mkdir(exist_ok=True)
    for path in (stage.root, stage.results, folder):
        os.chown(path, _NOBODY, _NOBODY)
    folder.chmod(0o555)
    # Without a place for its manifest a batch does not begin; the command says so in one line (71).
    allowed = (0, trials.INCOMPLETE) if folder != stage.results else (0, trials.INCOMPLETE, 71)
    stage.faulty(stage.run(lambda: os.setuid(_NOBODY)), allowed=allowed)
    folder.chmod(0o755)
    stage.mended()


def corrupt(stage: Stage, rng: random.Random) -> None:
    """Bytes of an input are others."""
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
    """The extra photograph is bad; the others are done all the same, and so is it when it has been mended."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    path.write_bytes(data)
    code = stage.run()
    results = [p for p in stage.results.glob("extra_*") if p.suffix in (".png", ".tif")]
    if code == trials.INCOMPLETE and results:
        stage.wrong.append(["a result of a bad input", kind])
    if code == 0:  # the change left a picture: what it shows is its own affair
        for file in stage.results.glob("extra_*"):
            file.unlink()
    stage.faulty(code)
    if set(stage.expected) - set(trials.images(stage.results)):
        stage.wrong.append(["others were lost", kind])
    path.unlink()
    whole.save(path.with_name("mended.png"))
    if stage.run():
        stage.wrong.append(["mended input", kind])
    for file in stage.results.glob("mended_*"):
        file.unlink()
    stage._judge(whole=True)


def vanished(stage: Stage, rng: random.Random) -> None:
    """A photograph goes while the batch runs, and comes back."""
    victim = rng.choice(sorted(stage.photos.rglob("*.png")))
    content = victim.read_bytes()

    def before() -> None:
        original = run._Run.work

        def work(self: run._Run, engine: Engine) -> str:
            victim.unlink()
            return original(self, engine)

        run._Run.work = work  # type: ignore[method-assign]

    stage.faulty(stage.run(before))
    victim.write_bytes(content)
    stage.mended()


def write_error(stage: Stage, rng: random.Random) -> None:
    """The disk errs once."""
    stage.faulty(stage.run(lambda: _failing_writes(errno.EIO, rng.randint(1, 30 * stage.count), once=True)))
    stage.mended()


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

    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + rng.randrange(1, 40) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    # Where not even the batch itself has memory it ends as the command would, in one line (71), or by the system.
    stage.faulty(stage.run(limit), allowed=(0, trials.INCOMPLETE, 71, -signal.SIGABRT, -signal.SIGSEGV, 127))
    stage.mended()


def worker_death(stage: Stage, rng: random.Random) -> None:
    """Worker processes are killed; the batch must not notice more than the time."""
    deaths_log = stage.root / "died"
    deaths_log.unlink(missing_ok=True)

    def before() -> None:
        real = multiprocessing.get_context
        # Forked, as torch is loaded already: a spawned worker takes seconds to begin.
        processes.multiprocessing.get_context = lambda method=None: real("fork")  # type: ignore[assignment]
        deaths = [rng.uniform(0, 1.2) for _ in range(rng.choice([1, 1, 2, 3]))]

        def reaper() -> None:
            for pause in sorted(deaths):
                time.sleep(pause)
                if alive := multiprocessing.active_children():
                    with suppress(ProcessLookupError, TypeError):
                        os.kill(rng.choice(alive).pid, signal.SIGKILL)  # type: ignore[arg-type]
                        deaths_log.touch()

        threading.Thread(target=reaper, daemon=True).start()

    stage.faulty(stage.run(before, engine=lambda: ProcessEngine(("cpu", "cpu"), retries=4)), allowed=(0,))
    stage.met += deaths_log.exists()
    stage.mended()


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
    met: Counter[str] = Counter()
    wrong: list[object] = []
    with TemporaryDirectory(prefix="blindsr-faults-") as folder:
        Path(folder).chmod(0o755)
        stage = Stage(Path(folder) / "trial", arguments.photos)
        stage.set_up()
        code = stage.run()
        stage.expected = trials.images(stage.results)
        assert (code, len(stage.expected)) == (0, arguments.photos), "an undisturbed batch fails"
        for number in range(arguments.faults):
            kind = kinds[number % len(kinds)]
            stage.set_up()
            _KINDS[kind](stage, rng)
            tally[kind] += 1
            met[kind] += stage.met
            wrong += [[kind, number, fault] for fault in stage.wrong]
            stage.met = 0
            stage.wrong = []
            if (number + 1) % 20 == 0:
                trials.say(f"{number + 1} of {arguments.faults} faults, {len(wrong)} found wrong")
        text = stage.errors.read_text() if stage.errors.exists() else ""
    lost = sum(fault[0] == "lost" for _, _, fault in wrong)  # type: ignore[misc]
    twice = sum(fault[0] == "twice" for _, _, fault in wrong)  # type: ignore[misc]
    content = {
        **circumstances(),
        "faults": dict(tally),
        "felt": dict(met),
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
