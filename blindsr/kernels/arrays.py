"""Arrays of kernels from .npz, .npy and text files, before anything is known of what they contain.

Files may come from anywhere: nothing in them is executed (no pickles), and no array is read that is larger than a
kernel can be.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.kernel import MAX_SIZE, Kernel

__all__ = [
    "MAP_KEY", "MAX_BYTES", "RawArrays", "check_shape", "load_npy", "load_npz", "load_text", "opened_npz",
    "origin_members", "provenance_in", "scale_in_file", "select_name", "split_stack", "stack_members", "too_large",
    "unpacked_sizes",
]  # fmt: skip

MAP_KEY: Final = "kernel_map"  # array (rows, columns, K, K) of a file with a map
MAX_BYTES: Final = 1 << 28  # of a file, and of an array in it
_KEYS: Final = ("kernel", "Kernel", "ker", "kernels")
_MAX_COUNT: Final = 4096  # kernels in one file
_MAX_NUMBERS: Final = 1 << 25  # in one array

_Warnings = tuple[str, ...]


@dataclass(frozen=True)
class RawArrays:
    """The content of a file, or an array in memory, unchecked."""

    arrays: tuple[NDArray[Any], ...]  # one, or one for each kernel of a stack
    file: str | None = None  # its name
    key: str | None = None  # name of the array in the file
    scale: int | None = None  # as the file states it
    provenance: dict[str, object] | None = None  # of a .npz file
    names: tuple[str, ...] = ()  # names of the bands, as the file states them
    is_own: bool = False  # it has scale and provenance, as blindsr writes them
    warnings: _Warnings = ()  # what was assumed in reading

    def select(self, index: int | str | None) -> NDArray[Any]:
        """One of the arrays, counted from 0; None is the only one."""
        name = self.file or "memory"
        count = len(self.arrays)
        if isinstance(index, str):
            raise KernelError(f"the index of a kernel must be a whole number from 0, or 'all', got {index!r}.")
        if index is None and count != 1:
            raise KernelError(
                f"{self.key or 'the array'} in {name} contains {count} kernels; choose one with index= in Python or "
                f"--kernel-index on the command line, 0 to {count - 1}."
            )
        if index is not None and not 0 <= index < count:
            raise KernelError(f"{name} contains {count} kernel{'s' * (count != 1)}, index {index} was requested.")
        return self.arrays[index or 0]


def select_name(names: list[str], key: str | None, path: Path) -> str:
    """The name of the requested array, of those in a file."""
    requested = _KEYS if key is None else (key,)
    for name in requested:
        if name in names:
            return name
    listed = ", ".join(name[:40] for name in sorted(names)[:20]) or "nothing"
    raise KernelError(
        f"{path.name} must contain an array named {' or '.join(requested)}, it contains {listed}; choose one with key= "
        "in Python or --kernel-key on the command line."
    )


def scale_in_file(value: NDArray[Any], name: str) -> int:
    """The scale that the array `scale` of a file states.

    Raises:
        KernelError: It is not one whole number of 1 or more.
    """
    if value.size != 1 or value.dtype.kind not in "fiu" or not float(value.item()).is_integer() or value.item() < 1:
        raise KernelError(
            f"the scale in {name} must be one whole number, 1 or more, it is {str(value)[:60]}; correct it."
        )
    return int(value.item())


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Refuse, before it is read, a shape that neither a kernel nor a stack of kernels has."""
    shape = _squeezed(shape)
    sides = sorted(shape)[:2] if len(shape) == 3 else []
    is_too_large = max(shape, default=0) > _MAX_COUNT or prod(shape) > _MAX_NUMBERS
    if len(shape) > 3 and not is_too_large:
        raise KernelError(
            f"a kernel must have 2 dimensions, or 3 with one kernel for each band, {name} has {len(shape)}: "
            f"{'×'.join(map(str, shape))}."
        )
    if any(n > MAX_SIZE for n in sides) or is_too_large:
        raise too_large(shape, name)


def too_large(shape: tuple[int, ...], name: str) -> KernelError:
    """The error of an array with a side that no kernel has."""
    sides = f"{name} has {'×'.join(map(str, shape))}"
    return KernelError(f"a kernel must have 1 to {MAX_SIZE} px a side, {sides}; check that it is not an image.")


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the first axes of length 1 that are too many: (1, 1, K, K) of PyTorch is (1, K, K)."""
    while len(shape) > 3 and 1 in shape:
        first = shape.index(1)
        shape = (*shape[:first], *shape[first + 1 :])
    return shape


def split_stack(array: NDArray[Any], *, index_last: bool = False) -> tuple[NDArray[Any], ...]:
    """The kernels of a 3-D array: the axis that differs from the two equal ones counts them."""
    array = array.reshape(_squeezed(array.shape))
    if array.ndim != 3:
        return (array,)
    first, middle, last = array.shape
    axis = 2 if index_last else 0
    if first == middle != last:
        axis = 2
    elif middle == last != first:
        axis = 0
    return tuple(np.moveaxis(array, axis, 0))


def load_npy(path: Path, key: str | None) -> RawArrays:
    """Read a .npy file; `key` is refused."""
    if key is not None:
        raise KernelError(f"{path.name} is a .npy file, whose one array has no name; leave key out.")
    with path.open("rb") as file:
        check_shape(_npy_shape(file), path.name)
        file.seek(0)
        return RawArrays(split_stack(np.lib.format.read_array(file, allow_pickle=False)), path.name)


@contextmanager
def opened_npz(path: Path) -> Iterator[NpzFile]:
    """A .npz file whose arrays are unpacked when they are asked for; a damaged one raises anything.

    Raises:
        KernelError: It is a .npy array.
    """
    # NumPy leaks a file that it opened itself if the archive in it is damaged.
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise KernelError(f"{path.name} is not a .npz archive; if it is a .npy array, rename it.")
        with archive:
            yield archive


def unpacked_sizes(archive: NpzFile) -> dict[str, int]:
    """Bytes of each array of an archive, before anything is unpacked, by the names of its entries."""
    return {info.filename: info.file_size for info in archive.zip.infolist()}  # type: ignore[union-attr]


def provenance_in(archive: NpzFile, default: object) -> Any:  # noqa: ANN401 - JSON
    """The provenance in an archive, or a default."""
    return json.loads(str(archive["provenance"][()])) if "provenance" in archive.files else default


def stack_members(kernels: Sequence[Kernel], names: Sequence[str]) -> dict[str, Any]:
    """The arrays of a .npz file with several kernels of one scale, each with a name: padded to the largest of them."""
    side = max(kernel.size for kernel in kernels)
    return {
        "kernels": np.stack([kernel.padded(side) for kernel in kernels]),
        "bands": np.array(names),
        **origin_members(kernels[0].scale, {name: dict(k.provenance) for name, k in zip(names, kernels, strict=True)}),
    }


def origin_members(scale: int, provenance: object) -> dict[str, Any]:
    """Scale and provenance as arrays of a .npz file."""
    return {"scale": np.int64(scale), "provenance": np.str_(json.dumps(provenance, default=str))}


def load_npz(path: Path, key: str | None) -> RawArrays:
    """Read the requested array of a .npz file, with its scale, its provenance and the names of its bands."""
    with opened_npz(path) as archive:
        names = list(archive.files)
        if MAP_KEY in names and key is None:
            raise KernelError(
                f"{path.name} is a map of kernels that vary over an image, and one kernel is needed; `blindsr upscale "
                "--kernel-map` takes it, and `blindsr kernel convert --kernel-index N` writes the kernel of one cell."
            )
        name = select_name(names, key, path)
        # A member that would fill the memory when it is unpacked is refused.
        entries = {info.filename: info for info in archive.zip.infolist()}  # type: ignore[union-attr]
        for member in {name, "scale", "provenance", "bands"} & set(names):
            entry = entries.get(f"{member}.npy", entries.get(member))
            if entry is None or entry.file_size > MAX_BYTES:
                raise KernelError(f"{member} in {path.name} is far too large for a kernel.")
            with archive.zip.open(entry) as unpacked:  # type: ignore[union-attr]
                check_shape(_npy_shape(unpacked), path.name)
        scale = scale_in_file(archive["scale"], path.name) if "scale" in names else None
        provenance = provenance_in(archive, {})
        if not isinstance(provenance, dict):
            raise KernelError(f"the provenance in {path.name} must be a JSON object, it is {str(provenance)[:40]!r}.")
        bands = tuple(str(band) for band in np.atleast_1d(archive["bands"])) if "bands" in names else ()
        arrays = split_stack(archive[name])
        bands = bands if len(bands) == len(arrays) else ()
        is_own = {"scale", "provenance"} <= set(names)
        return RawArrays(arrays, path.name, name, scale, provenance, bands, is_own)


def load_text(path: Path, key: str | None) -> RawArrays:
    """Rows of numbers, separated by blanks, tabs, commas or semicolons; comments begin with #."""
    if key is not None:
        raise KernelError(f"{path.name} is a text file, whose one array has no name; leave key out.")
    text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in (raw.split("#")[0].strip() for raw in text.splitlines()) if line]
    warnings: _Warnings = ()
    if lines and all(";" in line for line in lines) and "." not in text and "," in text:
        lines = [line.replace(",", ".") for line in lines]
        warnings = (f"the commas in {path.name} were read as decimal points.",)
    if not lines:
        raise KernelError(f"{path.name} must contain rows of numbers, it has none.")
    check_shape((len(lines), 1), path.name)
    rows = [[part for part in re.split(r"[\s,;]+", line) if part] for line in lines]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise KernelError(
            f"{path.name} must contain rows of one length, it has rows of "
            f"{', '.join(map(str, sorted(lengths)[:8]))} numbers."
        )
    check_shape((len(rows), *lengths), path.name)
    numbers: list[float] = []
    for word in (word for row in rows for word in row):
        try:
            numbers.append(float(word))
        except ValueError as error:
            raise KernelError(
                f"{path.name} must contain only numbers, it has {word[:40]!r}; begin comments with #."
            ) from error
    values = np.array(numbers).reshape(len(rows), *lengths)
    return RawArrays((values,), path.name, warnings=warnings)


def _npy_shape(file: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(file)[0]
    return shape
