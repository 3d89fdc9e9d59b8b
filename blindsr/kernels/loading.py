"""What kernel files hold, before any judgement: .npz, .npy, .txt and .csv; MATLAB's are in `matlab`.

Files come from anywhere: nothing in them is run (no pickles), and no array is read that is larger than a kernel can be.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError

__all__ = ["LARGEST", "MOST", "SUFFIXES", "Found", "check_shape", "load", "pick", "split_stack"]

_KEYS: Final = ("kernel", "Kernel", "ker", "kernels")
SUFFIXES: Final = (".npz", ".npy", ".mat", ".txt", ".csv")
LARGEST: Final = 1001  # px; beyond it the file holds an image, and the arithmetic on it would take minutes
MOST: Final = 4096  # kernels in one file
_LARGEST_FILE: Final = 1 << 28  # bytes
_MOST_NUMBERS: Final = 1 << 25  # in one array


@dataclass(frozen=True)
class Found:
    """What a file holds.

    Args:
        arrays: One array, or one for each kernel of a stack; not checked.
        key: Its name in the file, if the format has names.
        scale: The factor that the file states, if it does.
        provenance: Of a .npz; None for the other formats.
        names: Of the bands that the kernels of a stack belong to, if the file states them.
        notes: What was assumed in reading, for the user.
    """

    arrays: tuple[NDArray[Any], ...]
    key: str | None = None
    scale: int | None = None
    provenance: dict[str, object] | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def load(path: Path, key: str | None) -> Found:
    """Read a kernel file of any format, without judging what it holds.

    Raises:
        KernelError: The file is missing, damaged, far too large, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise KernelError(f"a kernel file must be one of {', '.join(SUFFIXES)}, got {path.name}.")
    if not path.is_file():
        raise KernelError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; name a kernel file.")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise KernelError(f"{path.name} is {path.stat().st_size >> 20} MiB, far too large for a kernel.")
        return _reader(suffix)(path, key)
    except KernelError:
        raise
    except Exception as error:  # the parsers behind these formats answer a damaged file with anything
        raise KernelError(
            f"{path.name} cannot be read as a {suffix} kernel file ({type(error).__name__}): it is "
            "damaged or of another kind; save it again."
        ) from error


def _reader(suffix: str) -> "Callable[[Path, str | None], Found]":
    if suffix == ".mat":
        from blindsr.kernels.matlab import load_mat

        return load_mat
    return {".npz": _load_npz, ".npy": _load_npy, ".txt": _load_text, ".csv": _load_text}[suffix]


def pick(names: list[str], key: str | None, path: Path) -> str:
    """The name of the array that is meant.

    Raises:
        KernelError: There is none of that name.
    """
    wanted = _KEYS if key is None else (key,)
    for name in wanted:
        if name in names:
            return name
    shown = ", ".join(name[:40] for name in sorted(names)[:20]) or "nothing"
    raise KernelError(
        f"{path.name} must hold an array named {' or '.join(wanted)}, it holds {shown}; name the right one with key=."
    )


def check_shape(shape: tuple[int, ...], path: Path) -> None:
    """Refuse a shape that no kernel and no stack of kernels has, before it is read.

    Raises:
        KernelError: It is larger than the largest kernel, or a stack of too many.
    """
    sides = sorted(shape)[:2] if len(shape) == 3 else []
    if len(shape) > 3 or any(n > LARGEST for n in sides) or max(shape, default=0) > MOST or prod(shape) > _MOST_NUMBERS:
        raise KernelError(
            f"a kernel must have 1 to {LARGEST} px a side, {path.name} holds {'×'.join(map(str, shape))}; "
            "check that it is no image."
        )


def split_stack(array: NDArray[Any], *, index_last: bool) -> tuple[NDArray[Any], ...]:
    """The kernels of a 3-D array: the axis that differs from the two equal ones counts them."""
    if array.ndim != 3:
        return (array,)
    first, middle, last = array.shape
    along = 2 if index_last else 0
    if first == middle != last:
        along = 2
    elif middle == last != first:
        along = 0
    return tuple(np.moveaxis(array, along, 0))


def _load_npy(path: Path, key: str | None) -> Found:
    if key is not None:
        raise KernelError(f"{path.name} is a .npy file, whose one array has no name; leave key out.")
    with path.open("rb") as file:
        check_shape(_npy_shape(file), path)
        file.seek(0)
        return Found(split_stack(np.lib.format.read_array(file, allow_pickle=False), index_last=False))


def _npy_shape(file: Any) -> tuple[int, ...]:  # noqa: ANN401 - whatever NumPy reads from
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(file)[0]
    return shape


def _load_npz(path: Path, key: str | None) -> Found:
    # NumPy leaks the file that it opened itself when the archive in it is damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise KernelError(f"{path.name} is no .npz archive; if it is a .npy array, rename it.")
        names = list(archive.files)
        name = pick(names, key, path)
        for member in {name, "scale", "provenance", "bands"} & set(names):
            _check_member(archive, member, path)
        scale = _whole(archive["scale"], path) if "scale" in names else None
        provenance = json.loads(str(archive["provenance"][()]) if "provenance" in names else "{}")
        if not isinstance(provenance, dict):
            raise KernelError(f"the provenance in {path.name} must be a JSON object, it is {str(provenance)[:40]!r}.")
        bands = tuple(str(band) for band in np.atleast_1d(archive["bands"])) if "bands" in names else ()
        arrays = split_stack(archive[name], index_last=False)
        return Found(arrays, name, scale, provenance, bands if len(bands) == len(arrays) else ())


def _check_member(archive: "np.lib.npyio.NpzFile", name: str, path: Path) -> None:
    """Refuse a member that would fill the memory when it is unpacked."""
    entries = {info.filename: info for info in archive.zip.infolist()}  # type: ignore[union-attr]
    entry = entries.get(f"{name}.npy", entries.get(name))
    if entry is None or entry.file_size > _LARGEST_FILE:
        raise KernelError(f"{name} in {path.name} is far too large for a kernel.")
    with archive.zip.open(entry) as file:  # type: ignore[union-attr]
        check_shape(_npy_shape(file), path)


def _whole(value: NDArray[Any], path: Path) -> int:
    if value.size != 1 or value.dtype.kind not in "fiu" or not float(value.item()).is_integer() or value.item() < 1:
        raise KernelError(f"the scale in {path.name} must be one whole number, 1 or more, it is {str(value)[:60]}.")
    return int(value.item())


def _load_text(path: Path, key: str | None) -> Found:
    """Rows of numbers, parted by blanks, tabs, commas or semicolons; what follows a # is a comment."""
    if key is not None:
        raise KernelError(f"{path.name} is a text file, whose one array has no name; leave key out.")
    text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in (raw.split("#")[0].strip() for raw in text.splitlines()) if line]
    notes: tuple[str, ...] = ()
    if lines and all(";" in line for line in lines) and "." not in text and "," in text:
        lines = [line.replace(",", ".") for line in lines]
        notes = (f"the commas in {path.name} were read as decimal points.",)
    check_shape((len(lines), 1), path)
    rows = [[part for part in re.split(r"[\s,;]+", line) if part] for line in lines]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise KernelError(
            f"{path.name} must hold rows of one length, it has rows of {', '.join(map(str, sorted(lengths)[:8])) or 0} "
            "numbers."
        )
    check_shape((len(rows), *lengths), path)
    try:
        return Found((np.array([[float(part) for part in row] for row in rows]),), notes=notes)
    except ValueError as error:
        raise KernelError(f"{path.name} must hold numbers alone ({error}); begin comments with #.") from error
