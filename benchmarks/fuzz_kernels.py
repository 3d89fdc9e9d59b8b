"""Give broken kernel files and specifications to their readers: each must be read, or refused in one line.

    python benchmarks/fuzz_kernels.py --inputs 20000 --seed 1

Small valid files (.mat of v5, compressed and not, .mat of v7.3, .npz, .npy, .txt, .csv, TOML) are mutated: bytes
flipped, set to boundary values, removed, doubled, exchanged with those of other files; in texts also whole words. Each
batch runs in a process of its own, so that a crash of a C library is counted, too. Anything but a kernel or a
`BlindSRError` of one line is a failure: another exception, a warning, a crash, more than ten seconds. An audit hook
detects readers that run code from a file, as `pickle` does.
"""

import argparse
import collections
import io
import json
import multiprocessing
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.io import savemat

from blindsr.errors import BlindSRError
from blindsr.kernels import KernelStack, gaussian, kernel_bytes
from blindsr.kernels.files import load_kernel
from blindsr.sensors import parse_sensor, shipped_sensors

SECONDS = 10
BATCH = 500
BOUNDARY = (0, 1, 2, 4, 8, 0x0F, 0x40, 0x7F, 0x80, 0xFE, 0xFF)
WORDS = (
    "nan",
    "inf",
    "-1",
    "0",
    "1e308",
    "9" * 400,
    "true",
    "[]",
    "{}",
    "''",
    '"',
    "\n",
    "=",
    "[",
    "]]",
    "\0",
    "é",
    "-0.0",
)
FORBIDDEN = ("pickle.find_class", "os.system", "subprocess.Popen", "exec", "socket.connect")


def seeds() -> dict[str, list[bytes]]:
    """Valid files by suffix."""
    kernel = gaussian([[2.0, 0.7], [0.7, 1.2]], 2)
    files = {s: [kernel_bytes(kernel, s)] for s in (".npz", ".npy", ".mat", ".txt", ".csv")}
    files[".npz"].append(kernel_bytes(KernelStack([kernel, kernel], ["a", "b"]), ".npz"))
    cells = np.empty((1, 3), dtype=object)
    for i in range(3):
        cells[0, i] = np.ones((3 + 2 * i,) * 2)
    for content, compressed in (({"kernels": cells}, False), ({"kernels": cells}, True), ({"Kernel": np.eye(5)}, True)):
        buffer = io.BytesIO()
        savemat(buffer, content, do_compression=compressed)
        files[".mat"].append(buffer.getvalue())
    files[".mat73"] = [hdf5()] if hdf5() else []
    folder = Path(sys.modules["blindsr.sensors"].__file__ or "").parent / "shipped"
    files[".toml"] = [(folder / f"{name}.toml").read_bytes() for name in shipped_sensors()]
    return files


def hdf5() -> bytes:
    try:
        import h5py
    except ImportError:
        return b""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "k.mat"
        with h5py.File(path, "w") as file:
            cells = [file.create_dataset(f"#refs#/{i}", data=np.eye(5)) for i in range(2)]
            table = file.create_dataset("kernels", (2, 1), dtype=h5py.ref_dtype)
            for i, cell in enumerate(cells):
                table[i, 0] = cell.ref
        return path.read_bytes()


def mutate(content: bytes, others: list[bytes], rng: np.random.Generator, *, text: bool) -> bytes:
    """Break a file in one to six places."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 7))):
        at = int(rng.integers(0, len(data) + 1))
        length = int(2 ** rng.uniform(0, 8))
        kind = int(rng.integers(0, 7))
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and data:
            data[min(at, len(data) - 1)] = int(rng.choice(BOUNDARY))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            other = others[int(rng.integers(0, len(others)))]
            start = int(rng.integers(0, len(other)))
            data[at : at + length] = other[start : start + length]
        elif kind == 5 and text:
            data[at : at + int(rng.integers(0, 8))] = WORDS[int(rng.integers(0, len(WORDS)))].encode()
        elif kind == 5:
            data[at : at + 4] = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 65536])).to_bytes(4, "little")
        else:
            del data[at:]
    return bytes(data)


def read(suffix: str, content: bytes, folder: Path) -> str:
    """Read one input, and return the outcome."""
    if suffix == ".toml":
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return "no text"
        sensor = parse_sensor(text, "fuzz")
        for band in (sensor.bands or (None,))[:2]:
            sensor.kernel(2, band=band)
        return "read"
    path = folder / f"k{suffix.removesuffix('73')}"
    path.write_bytes(content)
    load_kernel(path, 2, index="all")
    return "read"


def trial(suffix: str, content: bytes, folder: Path) -> tuple[str, str]:
    """The outcome of one input, and its failure or ""."""
    seen: list[str] = []
    HOOKED.append(seen)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            outcome = read(suffix, content, folder)
    except BlindSRError as error:
        outcome = f"refused ({type(error).__name__})"
        if "\n" in str(error) or len(str(error)) > 900:
            return outcome, f"not one line: {str(error)[:200]!r}"
    except Exception as error:  # what the fuzzer looks for
        return "failed", f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        HOOKED.pop()
    return outcome, f"ran {seen[0]}" if seen else ""


HOOKED: list[list[str]] = []


def watch(event: str, _: tuple[object, ...]) -> None:
    if HOOKED and event in FORBIDDEN:
        HOOKED[-1].append(event)


def batch(seed: int, count: int, results: "multiprocessing.Queue[tuple[str, str, str, bytes]]") -> None:
    files = {suffix: contents for suffix, contents in seeds().items() if contents}
    # A first import executes a module, which the audit hook must not count.
    with tempfile.TemporaryDirectory() as name:
        for suffix, contents in files.items():
            trial(suffix, contents[0], Path(name))
        sys.addaudithook(watch)
        rng = np.random.default_rng(seed)
        for _ in range(count):
            suffix = str(rng.choice(list(files)))
            contents = files[suffix]
            source = contents[int(rng.integers(0, len(contents)))]
            content = mutate(source, contents, rng, text=suffix in (".toml", ".txt", ".csv"))
            results.put((suffix, "started", "", content))
            signal.alarm(SECONDS)
            outcome, failure = trial(suffix, content, Path(name))
            signal.alarm(0)
            results.put((suffix, outcome, failure, content if failure else b""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that fail")
    arguments = parser.parse_args()
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    failures: list[tuple[str, str, bytes]] = []
    started = time.perf_counter()
    for number in range(0, arguments.inputs, BATCH):
        results = multiprocessing.get_context("spawn").SimpleQueue()
        worker = multiprocessing.get_context("spawn").Process(
            target=batch, args=(arguments.seed * 10_000_019 + number, min(BATCH, arguments.inputs - number), results)
        )
        worker.start()
        last = ("", b"")
        while worker.is_alive() or not results.empty():
            if results.empty():
                time.sleep(0.005)
                continue
            suffix, outcome, failure, content = results.get()
            if outcome == "started":
                last = (suffix, content)
                continue
            counts[suffix][outcome] += 1
            last = ("", b"")
            if failure:
                failures.append((suffix, failure, content))
        if worker.exitcode:
            failures.append((last[0], f"the process died with {worker.exitcode}", last[1]))
    for number, (suffix, failure, content) in enumerate(failures):
        print(f"FAILURE {suffix}: {failure}")
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{number}{suffix}").write_bytes(content)
    print(json.dumps({suffix: dict(count) for suffix, count in sorted(counts.items())}, indent=2))
    total = sum(sum(count.values()) for count in counts.values())
    print(f"{total} inputs, {len(failures)} failures, {time.perf_counter() - started:.0f} s")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
