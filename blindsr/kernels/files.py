"""Kernel files: .npz (ours), .npy and KernelGAN's .mat, read with words about what was assumed.

Reading gives a `Kernel` and sentences for the user; writing gives bytes, which the caller puts into a file.
"""

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.conventions import Convention, detect, from_convention, to_convention
from blindsr.kernels.kernel import Kernel

__all__ = ["kernel_bytes", "read_kernel"]

_KEYS: Final = ("kernel", "Kernel", "ker", "kernels")
_SUFFIXES: Final = (".npz", ".npy", ".mat")
_LARGEST: Final = 1001  # px; beyond it the file holds an image, and the arithmetic on it would take minutes


@dataclass(frozen=True)
class _Found:
    """What a file holds, before any judgement."""

    array: NDArray[Any]
    key: str | None = None
    scale: int | None = None
    provenance: dict[str, object] | None = None


def read_kernel(
    path: Path | str,
    *,
    scale: int,
    convention: Convention | Literal["auto"] = "auto",
    key: str | None = None,
) -> tuple[Kernel, tuple[str, ...]]:
    """Read a downscaling kernel.

    Args:
        path: A .npz (array `kernel`, number `scale`, JSON text `provenance`), .npy or MATLAB v5 .mat file.
        scale: The factor that the kernel is wanted for. A file that states another one is refused.
        convention: Whose operation the array was made for; "auto" decides by the key and the centre of
            mass.
        key: Name of the array in the file; None takes the first of `kernel`, `Kernel`, `ker`, `kernels`.

    Returns:
        The kernel, and sentences for the user: the convention and why, a sum that was normalised, zeros
        added.

    Raises:
        KernelError: The file is missing, corrupt, of another kind, for another scale, or holds no usable
            kernel.
    """
    path = Path(path)
    found = _load(path, key)
    if found.scale is not None and found.scale != scale:
        raise KernelError(
            f"{path.name} is a kernel for scale {found.scale}, but scale {scale} was asked for; run "
            f"with scale "
            f"{found.scale}, or carry it over with blindsr.kernels.resample(kernel, {scale})."
        )
    array = _checked(found.array, path)
    notes: list[str] = []
    if path.suffix.lower() == ".npz" and found.scale is None:
        notes.append(f"{path.name} does not say its scale; {scale} was taken, as asked for.")
    array = _squared(array, path, notes)
    total = float(array.sum())
    if abs(total) <= 1e-8 * float(np.abs(array).max()):
        raise KernelError(f"{path.name} sums to {total:.3g}: it is no blur kernel (an image or a derivative?).")
    if abs(total - 1) > 1e-4:
        notes.append(f"the kernel sums to {total:.4g} and was normalised to 1.")
    taken = _decide(found, array, scale, convention, notes)
    kernel = from_convention(array, scale, taken)
    origin: dict[str, object] = {"made_by": "file", "file": path.name, "convention": taken}
    return Kernel(kernel.array, scale, found.provenance or origin), tuple(notes)


def _decide(
    found: _Found,
    array: NDArray[np.float64],
    scale: int,
    convention: Convention | Literal["auto"],
    notes: list[str],
) -> Convention:
    if convention != "auto":
        notes.append(f"the kernel was read in the convention {convention!r}, as asked for.")
        return convention
    if found.scale is not None and found.key == "kernel":
        notes.append("the kernel was read in blindsr's own convention: the file states its scale.")
        return "ours"
    # A .npz without a scale is not ours, and its key is anyone's: only the centre of mass can tell.
    key = None if found.provenance is not None else found.key
    taken, reason = detect(array, scale, key)
    notes.append(reason)
    return taken


def _checked(array: NDArray[Any], path: Path) -> NDArray[np.float64]:
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise KernelError(f"{path.name} must hold numbers, it holds {array.dtype}; save the kernel as a float array.")
    if array.ndim != 2:
        raise KernelError(f"a kernel must be a 2-D array, {path.name} holds {array.ndim}-D of shape {array.shape}.")
    if array.size == 0 or max(array.shape) > _LARGEST:
        raise KernelError(
            f"a kernel must have 1 to {_LARGEST} px a side, {path.name} holds "
            f"{array.shape[0]}×{array.shape[1]}; "
            "check that it is no image."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise KernelError(f"a kernel must be finite, {path.name} holds NaN or infinity; estimate or save it again.")
    if not values.any():
        raise KernelError(f"a kernel must have a weight other than zero, {path.name} is all zero; save it again.")
    return values


def _squared(array: NDArray[np.float64], path: Path, notes: list[str]) -> NDArray[np.float64]:
    height, width = array.shape
    if height == width:
        return array
    side = max(height, width)
    # Index n // 2 stays at n // 2, which is the reference pixel of every correlation in the wild.
    before = [side // 2 - n // 2 for n in (height, width)]
    padded = np.pad(array, [(b, side - n - b) for b, n in zip(before, (height, width), strict=True)])
    notes.append(f"{path.name} is {height}×{width} and was padded with zeros to {side}×{side}.")
    return padded


def _load(path: Path, key: str | None) -> _Found:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise KernelError(f"a kernel file must be one of {', '.join(_SUFFIXES)}, got {path.name}.")
    if not path.is_file():
        raise KernelError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; name a kernel file.")
    readers = {".npz": _load_npz, ".npy": _load_npy, ".mat": _load_mat}
    try:
        return readers[suffix](path, key)
    except KernelError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
        MemoryError,
    ) as error:
        raise KernelError(
            f"{path.name} cannot be read as a {suffix} kernel file ({type(error).__name__}): it is "
            f"damaged or of "
            "another kind; save it again."
        ) from error


def _pick(names: list[str], key: str | None, path: Path) -> str:
    wanted = _KEYS if key is None else (key,)
    for name in wanted:
        if name in names:
            return name
    raise KernelError(
        f"{path.name} must hold an array named {' or '.join(wanted)}, it holds "
        f"{', '.join(sorted(names)) or 'nothing'}; "
        "name the right one with key=."
    )


def _load_npy(path: Path, key: str | None) -> _Found:
    if key is not None:
        raise KernelError(f"{path.name} is a .npy file, whose one array has no name; leave key out.")
    with path.open("rb") as file:
        return _Found(np.lib.format.read_array(file, allow_pickle=False))


def _load_npz(path: Path, key: str | None) -> _Found:
    # NumPy leaks the file that it opened itself when the archive in it is damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise KernelError(f"{path.name} is no .npz archive; if it is a .npy array, rename it.")
        name = _pick(list(archive.files), key, path)
        scale = _whole(archive["scale"], path) if "scale" in archive.files else None
        text = str(archive["provenance"][()]) if "provenance" in archive.files else "{}"
        provenance = json.loads(text)
        if not isinstance(provenance, dict):
            raise KernelError(f"the provenance in {path.name} must be a JSON object, it is {text[:40]!r}.")
        return _Found(archive[name], name, scale, provenance)


def _whole(value: NDArray[Any], path: Path) -> int:
    if value.size != 1 or value.dtype.kind not in "fiu" or not float(value.item()).is_integer() or value.item() < 1:
        raise KernelError(f"the scale in {path.name} must be one whole number, 1 or more, it is {value.tolist()!r}.")
    return int(value.item())


def _load_mat(path: Path, key: str | None) -> _Found:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except NotImplementedError as error:
        raise KernelError(
            f"{path.name} is a MATLAB v7.3 (HDF5) file; save it in MATLAB with save(…, '-v7'), or as .npy."
        ) from error
    except MatReadError as error:
        raise KernelError(f"{path.name} is no MATLAB v5 file ({error}); save it again.") from error
    name = _pick([n for n in content if not n.startswith("__")], key, path)
    value = np.asarray(content[name])
    if value.dtype == object:
        if value.size != 1:
            raise KernelError(f"{name} in {path.name} holds {value.size} kernels; save the one you want as .npy.")
        value = np.asarray(value.item())
    return _Found(value, name)


def kernel_bytes(kernel: Kernel, suffix: str) -> bytes:
    """The content of a kernel file; the same kernel gives the same bytes.

    Args:
        kernel: Any kernel.
        suffix: ".npz" (our convention, with scale and provenance), ".npy" (our convention, the weights
            alone) or ".mat" (MATLAB v5, key `Kernel`, KernelGAN's convention).

    Raises:
        KernelError: The suffix is another one.
    """
    buffer = io.BytesIO()
    if suffix == ".npz":
        provenance = json.dumps(dict(kernel.provenance), default=str)
        np.savez(buffer, kernel=kernel.array, scale=np.int64(kernel.scale), provenance=np.str_(provenance))
    elif suffix == ".npy":
        np.save(buffer, kernel.array, allow_pickle=False)
    elif suffix == ".mat":
        from scipy.io import savemat

        # The stubs know paths alone; SciPy documents open files too.
        savemat(buffer, {"Kernel": to_convention(kernel, "kernelgan")})  # type: ignore[arg-type]
        # SciPy puts the clock and the platform into the first 116 bytes, which are free text.
        return b"MATLAB 5.0 MAT-file, kernel written by blindsr".ljust(116) + buffer.getvalue()[116:]
    else:
        raise KernelError(f"a kernel file must be one of {', '.join(_SUFFIXES)}, got {suffix!r}.")
    return buffer.getvalue()
