"""Limits of Linux's control groups: what a container or a SLURM job may use of the machine.

The limit of a process may be that of its own group or of any parent, so that all of them are read. Inside a container
the group may be named by its path on the host, which is not mounted there: the mount point itself is then its group.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["core_limit", "free_memory"]

_MOUNTED, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# The two versions of control groups: name of the controller in `_OWN` and of its folder, files of limit and use of
# memory, and name in memory.stat of the cached files that can be released at once.
_MEMORY = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def core_limit() -> int | None:
    """Whole cores that the process may use (`docker run --cpus`, a limit of Kubernetes); None without a limit."""
    limits = [_read(folder / "cpu.max").split() for folder in _groups("")]
    limits += [[_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")] for folder in _groups("cpu")]
    numbers = [[int(word) for word in words] for words in limits if all(map(str.isdigit, words))]  # not "max", not −1
    found = [max(1, number[0] // number[1]) for number in numbers if len(number) == 2 and min(number) > 0]
    return min(found, default=None)


def free_memory() -> int | None:
    """Bytes that the limit leaves, while /proc/meminfo shows the whole machine; None without a limit."""
    found = []
    for controller, limit_file, use_file, cache in _MEMORY:
        for folder in _groups(controller):
            limit, used = _read(folder / limit_file), _read(folder / use_file)
            if limit.isdigit() and used.isdigit():
                words = (line.split() for line in _read(folder / "memory.stat").splitlines())
                cached = next((int(word[1]) for word in words if word[:1] == [cache]), 0)
                found.append(max(0, int(limit) - max(0, int(used) - cached)))
    return min(found, default=None)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the own group and of its parents, of a controller of version 1, or "" for version 2."""
    lines = (line.split(":", 2) for line in _read(_OWN).splitlines())
    path = next((line[2].strip("/") for line in lines if len(line) == 3 and controller in line[1].split(",")), "")
    for base in _mounts(controller):
        yield base / path
        yield from (base / parent for parent in Path(path).parents)


def _mounts(controller: str) -> Sequence[Path]:
    """Where a controller is mounted; those of version 1 may share a folder, such as cpu,cpuacct."""
    if not controller:
        return [_MOUNTED]
    try:
        return [folder for folder in sorted(_MOUNTED.iterdir()) if controller in folder.name.split(",")]
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
