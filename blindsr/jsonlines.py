"""JSON Lines files that survive a kill at any moment: a line that parses is complete, and it is on the disk."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blindsr.errors import OutputError, reason_of

__all__ = ["append_line", "read_lines"]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every complete line of a file, none if the file is missing.

    A last line that a killed run left incomplete is skipped, as is any other line that is no JSON object.
    """
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
    """Append a line; it is on the disk when this returns. An incomplete line before it is not continued.

    Everything beyond ASCII is escaped, so that file names that are no valid UTF-8 survive.

    Raises:
        OutputError: The file cannot be written; its length is then unchanged.
    """
    line = (json.dumps(row, allow_nan=False) + "\n").encode("ascii")
    try:
        with path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            is_torn = file.read(1) not in (b"", b"\n")
            try:
                file.write(b"\n" + line if is_torn else line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # a full disk may have taken a part of the line
                    os.truncate(path, end)
                raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {reason_of(error)}; free some disk space and run it again.") from error
