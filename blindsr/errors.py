"""The errors of blindsr: one family, so that a caller can catch all of them or one of them.

They are also of the standard type that fits, so that `except ValueError` catches what it should.
Every message names what was expected, what was found, and the next step.
"""

import errno
import os
from collections.abc import Iterable, Sequence

__all__ = [
    "BlindSRError", "ConfigError", "DeviceError", "DivergenceError", "ImageError", "KernelError", "OutputError",
    "did_you_mean", "is_disk_full", "is_out_of_memory", "listed", "reason_of",
]  # fmt: skip


# File names may hold line breaks, and sequences that a terminal obeys.
_SHOWN = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remark in a message on an unknown name, " (did you mean 'gaussian'?)"; nothing where no name is similar."""
    import difflib  # heavy, and needed only after a mistake

    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Sequence[object], limit: int, separator: str = ", ") -> str:
    """Names in a message, at most `limit` of them: "a.png, b.png and 7 more"."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return separator.join(map(str, names[:limit])) + more


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the host's or a device's, could not be allocated.

    torch has a class of its own for devices, known by its name here, as the command line must not import torch; its
    CPU allocator raises a RuntimeError, whose text is all that tells it from others.
    """
    if isinstance(error, MemoryError) or "OutOfMemoryError" in {base.__name__ for base in type(error).__mro__}:
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "not enough memory" in text)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or the part of it that is ours, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def reason_of(error: BaseException) -> str:
    """Why something failed, in one line without the path that an OSError repeats: "Permission denied"."""
    if isinstance(error, OSError):
        said = error.strerror or (os.strerror(error.errno) if error.errno else "")
        if said:
            return said
    return " ".join(str(error).split()) or type(error).__name__


class BlindSRError(Exception):
    """Base of all errors that blindsr raises on purpose. As text it is one line, whatever names are in it."""

    def __str__(self) -> str:
        return super().__str__().translate(_SHOWN)


class ConfigError(BlindSRError, ValueError):
    """A setting is out of its bounds, unknown, or contradicts another."""


class ImageError(BlindSRError, ValueError):
    """An image cannot be read, or the method cannot work on it."""


class KernelError(BlindSRError, ValueError):
    """An array or a file is no usable downscaling kernel."""


class OutputError(BlindSRError, OSError):
    """A result cannot be written: it exists, the folder refuses, the disk is full."""


class DeviceError(BlindSRError, RuntimeError):
    """The device or precision asked for is not available here."""


class DivergenceError(BlindSRError, RuntimeError):
    """A training produced NaN or infinity."""
