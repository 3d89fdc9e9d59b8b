"""MATLAB files: v4 to v7 through SciPy, v7.3 (HDF5) through h5py, which is an optional extra."""

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.loading import MOST, Found, check_shape, pick, split_stack
from blindsr.kernels.matlab_elements import check_elements

if TYPE_CHECKING:
    import h5py

__all__ = ["load_mat"]

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_COMPRESSED: Final = 15  # type of a deflated element in MATLAB v5
_LARGEST_CONTENT: Final = 1 << 28  # bytes, unpacked


def load_mat(path: Path, key: str | None) -> Found:
    """Read the kernels of a MATLAB file.

    Raises:
        KernelError: It holds none, or h5py is needed and not installed.
    """
    with path.open("rb") as file:
        start = file.read(520)
    if start.startswith(_HDF5) or start[512:] == _HDF5 or start.startswith(b"MATLAB 7.3"):
        return _load_v73(path, key)
    return _load_v5(path, key)


def _load_v5(path: Path, key: str | None) -> Found:
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    _check_unpacked(path)
    check_elements(path)
    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        name = pick(list(shapes), key, path)
        if len(shapes[name]) == 2:
            check_shape(shapes[name], path)
        value = np.asarray(loadmat(path, variable_names=[name])[name])
    except MatReadError as error:
        raise KernelError(f"{path.name} is no MATLAB v5 file ({error}); save it again.") from error
    if value.dtype != object:
        return Found(split_stack(value, index_last=True), name)
    cells = [np.asarray(cell) for cell in value.ravel(order="F")]
    if not 0 < len(cells) <= MOST:
        raise KernelError(f"{name} in {path.name} holds {len(cells)} kernels, 1 to {MOST} are read.")
    return Found(tuple(cells), name)


def _check_unpacked(path: Path) -> None:
    """Refuse a v5 file that unpacks to far more than kernels, before anything unpacks it into memory."""
    data = path.read_bytes()
    if len(data) < 136 or data[126:128] not in (b"IM", b"MI"):
        return  # v4, or no MATLAB file at all: SciPy says so
    order = "<" if data[126:128] == b"IM" else ">"
    place, total = 128, 0
    while place + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, place)
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            rest = data[place + 8 : place + 8 + length]
            while rest and not unpacker.eof:
                total += len(unpacker.decompress(rest, 1 << 22))
                rest = unpacker.unconsumed_tail
                if total > _LARGEST_CONTENT:
                    raise KernelError(f"{path.name} unpacks to over {_LARGEST_CONTENT >> 20} MiB: it holds no kernels.")
        place += 8 + length


def _load_v73(path: Path, key: str | None) -> Found:
    try:
        import h5py
    except ImportError as error:
        raise KernelError(
            f"{path.name} is a MATLAB v7.3 (HDF5) file, which needs h5py: pip install 'blindsr[mat73]'; or save it in "
            "MATLAB with save(…, '-v7')."
        ) from error
    with h5py.File(path, "r") as file:
        # Links may lead into other files of the machine: only what lies in this one is looked at.
        names = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        name = pick([n for n in names if not n.startswith("#")], key, path)
        node = file[name]
        if not isinstance(node, h5py.Dataset):
            raise KernelError(f"{name} in {path.name} is a structure, not an array; name the array with key=.")
        if node.dtype == h5py.ref_dtype:
            if not 0 < node.size <= MOST:
                raise KernelError(f"{name} in {path.name} holds {node.size} kernels, 1 to {MOST} are read.")
            return Found(tuple(_values(file[cell], path) for cell in node[()].ravel()), name)
        return Found(split_stack(_values(node, path), index_last=True), name)


def _values(node: "h5py.Dataset", path: Path) -> NDArray[Any]:
    """An array in MATLAB's order: HDF5 stores it with its axes turned over."""
    if not hasattr(node, "shape") or node.external or node.is_virtual:
        raise KernelError(f"{path.name} refers to data outside itself; save it again in one file.")
    check_shape(tuple(node.shape), path)
    return np.asarray(node[()]).T
