"""Arrays from MATLAB files: v4 to v7 through SciPy, v7.3 (HDF5) through h5py, which is an optional extra.

A v5 file is checked before SciPy reads it: an element of an unknown type crashes SciPy 1.17, and a compressed one may
unpack to any size.

References:
    MathWorks, "MAT-File Format", R2020a, chapter 1, "Level 5 MAT-File Format".
"""

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.arrays import RawArrays, check_shape, select_name, split_stack

if TYPE_CHECKING:
    import h5py

_MAX_CELLS: Final = 4096  # kernels in one cell array
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_V5_HEADER: Final = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15
_ELEMENT_TYPES: Final = frozenset((*range(1, 8), 9, 12, 13, _MATRIX, _COMPRESSED, 16, 17, 18))
_MAX_DEPTH: Final = 16  # cells in cells
_MAX_CONTENT: Final = 1 << 28  # bytes, unpacked


def load_mat(path: Path, key: str | None) -> RawArrays:
    """Read the requested variable of a MATLAB file of any version.

    Raises:
        KernelError: The file is damaged or not a MATLAB file, or h5py is needed and not installed.
    """
    with path.open("rb") as file:
        start = file.read(520)
    if start.startswith(_HDF5) or start[512:] == _HDF5 or start.startswith(b"MATLAB 7.3"):
        return _read_v73(path, key)
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    check_elements(path)
    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        name = select_name(list(shapes), key, path)
        if len(shapes[name]) == 2:
            check_shape(shapes[name], path.name)
        value = np.asarray(loadmat(path, variable_names=[name])[name])
    except MatReadError as error:
        raise KernelError(f"{path.name} is not a MATLAB v5 file ({error}); save it again.") from error
    if value.dtype != object:
        return RawArrays(split_stack(value, index_last=True), path.name, name)
    _check_count(value.size, name, path)
    return RawArrays(tuple(np.asarray(cell) for cell in value.ravel(order="F")), path.name, name)


def _check_count(count: int, name: str, path: Path) -> None:
    if not 0 < count <= _MAX_CELLS:
        raise KernelError(f"{name} in {path.name} contains {count} kernels, 1 to {_MAX_CELLS} can be read.")


def check_elements(path: Path) -> None:
    """Refuse a v5 file with elements of an unknown type, of a wrong length, or that unpack to far more than kernels."""
    data = path.read_bytes()
    if len(data) < _V5_HEADER or data[126:128] not in (b"IM", b"MI"):
        return
    if not _is_valid(data[_V5_HEADER:], "<" if data[126:128] == b"IM" else ">", 0, path.name):
        raise KernelError(
            f"{path.name} is not a valid MATLAB v5 file: it is damaged or of another kind; save it again."
        )


def _is_valid(data: bytes, order: str, depth: int, file: str) -> bool:
    position = unpacked = 0
    while position + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, position)
        if kind >> 16:  # a small element: type and length share a word, and the content is the next word
            kind, length = kind & 0xFFFF, kind >> 16
            if kind not in _ELEMENT_TYPES or length > 4:
                return False
            position += 8
            continue
        end = position + 8 + length
        if kind not in _ELEMENT_TYPES or end > len(data):
            return False
        content = data[position + 8 : end]
        if kind == _COMPRESSED:
            if depth > 0:
                return False
            content = zlib.decompressobj().decompress(content, _MAX_CONTENT - unpacked + 1)
            unpacked += len(content)
            if unpacked > _MAX_CONTENT:
                raise KernelError(f"{file} unpacks to more than {_MAX_CONTENT >> 20} MiB: these are no kernels.")
        if kind in (_MATRIX, _COMPRESSED) and (depth >= _MAX_DEPTH or not _is_valid(content, order, depth + 1, file)):
            return False
        position = end if kind == _COMPRESSED else end + -end % 8
    return True


def _read_v73(path: Path, key: str | None) -> RawArrays:
    try:
        import h5py
    except ImportError as error:
        raise KernelError(
            f"{path.name} is a MATLAB v7.3 (HDF5) file, which needs h5py: pip install 'blindsr[mat73]'; or save it in "
            "MATLAB with save(…, '-v7')."
        ) from error

    def values(node: "h5py.Dataset") -> NDArray[Any]:
        if not hasattr(node, "shape") or node.external or node.is_virtual:
            raise KernelError(f"{path.name} refers to data outside the file; save it again in one file.")
        check_shape(tuple(node.shape), path.name)
        return np.asarray(node[()]).T  # HDF5 stores the axes in reverse order

    with h5py.File(path, "r") as file:
        # Links may point to other files of the machine: only data in this file is read.
        names = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        name = select_name([n for n in names if not n.startswith("#")], key, path)
        node = file[name]
        if not isinstance(node, h5py.Dataset):
            raise KernelError(f"{name} in {path.name} is a structure, not an array; choose the key of an array.")
        if node.dtype != h5py.ref_dtype:
            return RawArrays(split_stack(values(node), index_last=True), path.name, name)
        _check_count(node.size, name, path)
        return RawArrays(tuple(values(file[cell]) for cell in node[()].ravel()), path.name, name)
