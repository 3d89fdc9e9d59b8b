"""Files that are there as a whole or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from blindsr.errors import BlindSRError, OutputError

__all__ = ["atomic_file", "atomic_write_bytes", "check_output"]

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# What os.link answers on a file system without hard links (FAT, some network mounts).
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EACCES}


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that could not be written, before any work goes into it.

    Raises:
        OutputError: `path` exists and `overwrite` is off, it is a folder, its folder is missing, is no folder,
            or cannot be written in.
    """
    try:
        if path.is_dir():
            raise OutputError(f"the output must be a file, {path} is a folder; name a file in it")
        if os.path.lexists(path) and not overwrite:
            raise _exists(path)
        if not path.parent.exists():
            raise OutputError(f"the folder of the output is missing: {path.parent}; create it, or choose another")
        if not path.parent.is_dir():
            raise OutputError(f"{path.parent} must be a folder to write {path.name} in, it is a file")
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        if isinstance(error, OutputError):
            raise
        raise _explained(error, path) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write in the folder {path.parent}; change its permissions, or choose another")


def atomic_write_bytes(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file so that, whatever happens, `path` holds all of `data` or what it held before.

    Raises:
        OutputError: The file exists, the folder refuses, or the disk is full. Nothing is left behind.
    """
    with atomic_file(path, overwrite=overwrite, expected=len(data)) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool, expected: int = 0) -> Iterator[BinaryIO]:
    """Open a file for writing (and reading back) that gets its name only after the block has ended well.

    The bytes go to a hidden file in the same folder, to the disk, and only then get their name. Without
    `overwrite` a file that appears meanwhile wins, and this one is refused.

    Args:
        path: The file.
        overwrite: Replace a file that exists.
        expected: Bytes that it will have, as far as they are known: what a full disk is told to lack.

    Yields:
        The hidden file, open as "w+b".

    Raises:
        OutputError: The file exists, the folder refuses, or the disk is full. Nothing is left behind.
    """
    check_output(path, overwrite=overwrite)
    temporary = path.with_name(f".blindsr-{secrets.token_hex(8)}.tmp")
    size = expected
    try:
        with open(temporary, "x+b", opener=_create) as file:
            try:
                yield file
            finally:
                with contextlib.suppress(OSError, ValueError):
                    size = max(size, file.tell())
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            _name_if_free(temporary, path)
        _sync_folder(path.parent)
    except BlindSRError:
        raise
    except (OSError, ValueError) as error:
        raise _explained(error, path, size) from error
    finally:  # also after Ctrl-C
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)


def _create(name: str, flags: int) -> int:
    return os.open(name, flags, 0o666)  # less the umask, like any file; tempfile would make it private


def _name_if_free(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)  # fails if the name is taken, in one step, unlike a rename
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise _exists(path) from None
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    # The name is in the folder, and the folder has a cache of its own. Not every system lets one be opened.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path} exists already; choose another name, or ask to overwrite it (--force)")


def _explained(error: OSError | ValueError, path: Path, size: int = 0) -> OutputError:
    number = error.errno if isinstance(error, OSError) else None
    if number in _DISK_FULL:
        return OutputError(
            f"the disk is full: {path.name} needs {size / 1e6:.1f} MB in {path.parent}; free some space,"
            " or write to another disk"
        )
    if number in _FORBIDDEN:
        return OutputError(f"cannot write in the folder {path.parent}; change its permissions, or choose another")
    if number == errno.ENAMETOOLONG:
        return OutputError(f"the name of the output is too long for the file system: {path}; choose a shorter one")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OutputError(f"cannot write {path}: {reason}; choose another place")
