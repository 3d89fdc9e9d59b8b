"""Give broken files to every reader, and count those that are neither read nor refused with an error message.

    python benchmarks/fuzz_readers.py --inputs 100000 --seed 1 --out fuzz.json

Files are made from small valid ones by mutations of bytes and of the parts of a format (benchmarks/fuzzing). An input
with a new outcome becomes a seed of further ones. A worker process reads them, so that a crash of a decoder is counted,
too; printed text, a warning, and more than a minute for one file are failures as well.
"""

import argparse
import collections
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

BATCH = 10_000
SECONDS = 60  # for one input
MEMORY = 8 * 2**30
MAX_SEEDS = 40  # per format


def run_batch(seed: int, count: int, folder: Path, only: str) -> dict[str, object]:
    """Read `count` broken files; called in a worker process.

    Returns:
        Counts by format and outcome, and the failures.
    """
    from fuzzing.mutations import mutate
    from fuzzing.seeds import seeds
    from fuzzing.targets import ReaderError, attempt

    rng = random.Random(seed)
    by_suffix: dict[str, list[tuple[str, bytes]]] = collections.defaultdict(list)
    for name, data in seeds().items():
        if only in name:
            by_suffix[name.rpartition(".")[2]].append((name, data))
    pool = [(name, data) for family in by_suffix.values() for name, data in family]
    outcomes: collections.Counter[str] = collections.Counter()
    seen, failures, slowest = set(), [], 0.0
    printed = (folder / "printed").stat().st_size
    for number in range(count):
        name, data = rng.choice(pool)
        suffix = name.rpartition(".")[2]
        family = by_suffix[suffix]
        if rng.random() < 0.5:
            data = rng.choice(family)[1]
        path = folder / f"input.{suffix}"
        path.write_bytes(mutate(data, name, rng, rng.choice(family)[1]))
        began = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            kind, message = attempt(name, path)
        except ReaderError as error:
            failures.append({"seed": seed, "number": number, "name": name, "failure": str(error)[:500]})
            shutil.copy(path, folder / f"failure-{seed}-{number}.{suffix}")
            kind, message = "failed", str(error)
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
        if (now := (folder / "printed").stat().st_size) != printed:
            text = (folder / "printed").read_bytes()[printed:][:300].decode(errors="replace")
            failures.append({"seed": seed, "number": number, "name": name, "failure": f"printed {text!r}"})
            shutil.copy(path, folder / f"printed-{seed}-{number}.{suffix}")
            printed = now
        outcomes[f"{suffix} {kind}"] += 1
        if (suffix, kind, message) not in seen:
            seen.add((suffix, kind, message))
            if len(family) < MAX_SEEDS:
                family.append((name, path.read_bytes()))
    return {"outcomes": dict(outcomes), "failures": failures, "different": len(seen), "slowest": round(slowest, 2)}


def worker(arguments: argparse.Namespace) -> None:
    """Read a batch in this process, whose standard streams go to a file."""
    folder = Path(arguments.folder)
    result = folder / "result.json"
    stream = os.open(folder / "printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    faulthandler.enable(all_threads=False)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    outcome = run_batch(arguments.seed, arguments.inputs, folder, arguments.only)
    result.write_text(json.dumps(outcome))


def main() -> None:
    """Run batches until the number of inputs is reached, and write the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only seeds whose names contain this text")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        worker(arguments)
        return
    began = time.perf_counter()
    outcomes: collections.Counter[str] = collections.Counter()
    failures, done, different, slowest = [], 0, 0, 0.0
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        seed = arguments.seed * 1_000_000
        while done < arguments.inputs:
            count = min(BATCH, arguments.inputs - done)
            call = [sys.executable, __file__, "--folder", folder, "--seed", str(seed), "--inputs", str(count)]
            Path(folder, "result.json").unlink(missing_ok=True)
            Path(folder, "printed").write_bytes(b"")
            ended = subprocess.run([*call, "--only", arguments.only], check=False).returncode
            if Path(folder, "result.json").exists():
                result = json.loads(Path(folder, "result.json").read_text())
                outcomes.update(result["outcomes"])
                failures += result["failures"]
                different, slowest = max(different, result["different"]), max(slowest, result["slowest"])
                done += count
            else:
                tail = Path(folder, "printed").read_text(errors="replace")[-600:]
                latest = max(Path(folder).glob("input.*"), key=lambda path: path.stat().st_mtime)
                failures.append({"seed": seed, "name": latest.name, "failure": f"worker ended with {ended}: {tail}"})
                shutil.copy(latest, Path(folder, f"crash-{seed}{latest.suffix}"))
            seed += 1
            print(f"{done} inputs, {len(failures)} failures, {time.perf_counter() - began:.0f} s", file=sys.stderr)
        if arguments.out:
            kept = arguments.out.with_suffix("")
            for kind in ("failure", "printed", "crash"):
                for broken in Path(folder).glob(f"{kind}-*"):
                    kept.mkdir(parents=True, exist_ok=True)
                    shutil.copy(broken, kept)
    summary = {
        "inputs": done,
        "failures": len(failures),
        "seconds": round(time.perf_counter() - began),
        "slowest_input_seconds": slowest,
        "different_outcomes_in_a_batch": different,
        "outcomes": dict(sorted(outcomes.items())),
        "list": failures,
    }
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text if len(failures) < 40 else text[:6000])
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
