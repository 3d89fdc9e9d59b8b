"""What a batch has done, as JSON lines beside its results: the newest line on a photograph holds.

The proof of a result is its own record (`blindsr.pipelines.batch.task.finished_result`); the manifest makes asking
cheap, remembers failures, and lets one batch at a time write here.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from blindsr.errors import OutputError
from blindsr.pipelines.batch.task import Row
from blindsr.pipelines.jsonlines import append_line, read_lines
from blindsr.pipelines.record import file_digest

__all__ = ["MANIFEST", "Manifest", "locked"]

MANIFEST = "blindsr-manifest.jsonl"


class Manifest:
    """The lines of one batch, by photograph and place of the result.

    Args:
        path: The file; made with its folder at the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[tuple[str, str], Row] = {}
        self._digests: dict[str, tuple[list[int], str]] = {}
        for row in read_lines(path):
            self._take(row)

    def _take(self, row: Row) -> None:
        if isinstance(row.get("source"), str) and isinstance(row.get("target"), str):
            self._rows[row["source"], row["target"]] = row
            if "stamp" in row and "digest" in row:
                self._digests[row["source"]] = (row["stamp"], row["digest"])

    def row(self, source: Path, target: Path) -> Row | None:
        """The newest line on a photograph and a place."""
        return self._rows.get((self._name(source), self._name(target)))

    def rows(self) -> Iterator[Row]:
        """The newest line of each."""
        return iter(self._rows.values())

    def digest(self, source: Path) -> str:
        """SHA-256 of a photograph; one that is as long and as old as when it was read last is not read again.

        Raises:
            OSError: The file cannot be read.
        """
        name, now = self._name(source), _stamp(source)
        stamp, digest = self._digests.get(name, ([], ""))
        if not digest or stamp != now:
            digest = file_digest(source)
            self._digests[name] = (now, digest)
        return digest

    def note(self, source: Path, target: Path, row: Mapping[str, object]) -> None:
        """Add a line, on the disk when this returns.

        Raises:
            OutputError: The disk refuses.
        """
        stamp, digest = self._digests.get(self._name(source), (None, None))
        line: Row = {
            "source": self._name(source),
            "target": self._name(target),
            **({} if digest is None else {"stamp": stamp, "digest": digest}),
            **row,
            "noted": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        append_line(self.path, line)
        self._take(line)

    def _name(self, path: Path) -> str:
        """Relative to the manifest where that is shorter: the folder may move to another place, or another machine."""
        absolute = os.path.normpath(path.absolute())
        base = os.path.normpath(self.path.parent.absolute())
        try:
            relative = os.path.relpath(absolute, base)
        except ValueError:  # another drive
            return absolute
        return absolute if relative.startswith(os.pardir + os.sep + os.pardir) else relative


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Manifest]:
    """A manifest that no other batch writes to; the system gives the lock back whatever ends this process.

    Raises:
        OutputError: Another batch runs, or the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"another blindsr works on this batch ({path}); wait for it, or name another --manifest."
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write in {path.parent} ({reason}); choose another output folder.") from error
    try:
        yield Manifest(path)  # read under the lock: what was noted meanwhile counts
    finally:
        lock.release()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
