"""A file of JSON lines that survives a kill at any moment: a line that can be read is whole, and it is on the disk."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blindsr.errors import OutputError

__all__ = ["append_line", "read_lines"]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a file; none if it is not there. The torn last line of a killed run is passed over."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:  # no JSON, or no UTF-8
                continue
            if isinstance(row, dict):
                yield row


def append_line(path: Path, row: Mapping[str, object]) -> None:
    """Add a line, on the disk when this returns. A torn line before it stays alone.

    Names of files that are no UTF-8 are kept: everything beyond ASCII is written as an escape.

    Raises:
        OutputError: The disk refuses; the file is then as long as it was.
    """
    line = (json.dumps(row, allow_nan=False) + "\n").encode("ascii")
    try:
        with path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(line if _ends_a_line(path, end) else b"\n" + line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                _cut(path, end)
                raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; free some space there, and run it again.") from error


def _ends_a_line(path: Path, end: int) -> bool:
    if end == 0:
        return True
    with path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"


def _cut(path: Path, length: int) -> None:
    # A full disk takes a part of the line: without it the next line is not torn.
    try:
        os.truncate(path, length)
    except OSError:
        return
