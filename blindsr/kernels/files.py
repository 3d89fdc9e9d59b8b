"""Kernel files: read with words about what was assumed, and written.

Reading gives a `Kernel` and sentences for the user; writing gives bytes, which the caller puts into a file.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.conventions import Convention, detect, from_convention, to_convention
from blindsr.kernels.kernel import Kernel
from blindsr.kernels.loading import LARGEST, Found, load

__all__ = ["judge_array", "kernel_bytes", "read_kernel", "read_kernels", "stack_bytes", "stated_scale"]

_WRITTEN: Final = (".npz", ".npy", ".mat", ".txt", ".csv")
Wanted = Convention | Literal["auto"]


def read_kernel(
    path: Path | str,
    *,
    scale: int,
    convention: Wanted = "auto",
    key: str | None = None,
    index: int | None = None,
) -> tuple[Kernel, tuple[str, ...]]:
    """Read a downscaling kernel.

    Args:
        path: A .npz (array `kernel`, number `scale`, JSON text `provenance`), .npy, .txt or .csv file, or a .mat file
            of any version (v7.3 needs h5py).
        scale: The factor that the kernel is wanted for. A file that states another one is refused.
        convention: Whose operation the array was made for; "auto" decides by the key and the centre of
            mass.
        key: Name of the array in the file; None takes the first of `kernel`, `Kernel`, `ker`, `kernels`.
        index: Which kernel of a stack (a cell array or a 3-D array), counted from 0; None is the only one.

    Returns:
        The kernel, and sentences for the user: the convention and why, a sum that was normalised, zeros
        added.

    Raises:
        KernelError: The file is missing, corrupt, of another kind, for another scale, or holds no usable
            kernel; or it holds several and none was chosen.
    """
    path = Path(path)
    found = load(path, key)
    count = len(found.arrays)
    if index is None and count != 1:
        raise KernelError(
            f"{found.key or 'the array'} in {path.name} holds {count} kernels; choose one with index= "
            f"(--kernel-index), 0 to {count - 1}."
        )
    if index is not None and not 0 <= index < count:
        raise KernelError(f"{path.name} holds {count} kernel{'s' * (count != 1)}, index {index} was asked for.")
    _check_scale(found, path, scale)
    return _judge(found, found.arrays[index or 0], path, scale, convention)


def read_kernels(
    path: Path | str, *, scale: int, convention: Wanted = "auto", key: str | None = None
) -> tuple[tuple[Kernel, ...], tuple[str, ...], tuple[str, ...]]:
    """Read all kernels of a file, as for the bands of an image.

    Args:
        path: As for `read_kernel`.
        scale: As for `read_kernel`.
        convention: As for `read_kernel`, of all of them.
        key: As for `read_kernel`.

    Returns:
        The kernels, the names of their bands (empty where the file has none), and sentences for the user.

    Raises:
        KernelError: As for `read_kernel`.
    """
    path = Path(path)
    found = load(path, key)
    _check_scale(found, path, scale)
    read = [_judge(found, array, path, scale, convention) for array in found.arrays]
    notes = tuple(dict.fromkeys(note for _, notes in read for note in notes))
    return tuple(kernel for kernel, _ in read), found.names, notes


def stated_scale(path: Path | str) -> int | None:
    """The scale that a file states; None where its format has no place for it."""
    return load(Path(path), None).scale if Path(path).suffix.lower() == ".npz" else None


def _check_scale(found: Found, path: Path, scale: int) -> None:
    if found.scale is not None and found.scale != scale:
        raise KernelError(
            f"{path.name} is a kernel for scale {found.scale}, but scale {scale} was asked for; run with scale "
            f"{found.scale}, or carry it over: blindsr kernel convert {path.name} new.npz --from-scale {found.scale} "
            f"--to-scale {scale} (blindsr.kernels.resample)."
        )


def judge_array(
    array: NDArray[Any], name: str, scale: int, convention: Wanted = "auto"
) -> tuple[Kernel, tuple[str, ...]]:
    """Make a `Kernel` of an array of the wild that is in memory; `name` is what errors and notes call it.

    Raises:
        KernelError: It is no usable kernel.
    """
    return _judge(Found((array,)), array, Path(name), scale, convention)


def _judge(
    found: Found, array: NDArray[Any], path: Path, scale: int, convention: Wanted
) -> tuple[Kernel, tuple[str, ...]]:
    values = _checked(array, path)
    notes = list(found.notes)
    if path.suffix.lower() == ".npz" and found.scale is None:
        notes.append(f"{path.name} does not say its scale; {scale} was taken, as asked for.")
    values = _squared(values, path, notes)
    total = float(values.sum())
    if abs(total) <= 1e-8 * float(np.abs(values).max()):
        raise KernelError(f"{path.name} sums to {total:.3g}: it is no blur kernel (an image or a derivative?).")
    if abs(total - 1) > 1e-4:
        notes.append(f"the kernel sums to {total:.4g} and was normalised to 1.")
    taken, guessed = _decide(found, values, scale, convention, notes)
    kernel = from_convention(values, scale, taken)
    origin: dict[str, object] = {"made_by": "file", "file": path.name, "convention": taken}
    if guessed:
        # The run compares where the result lies: a convention that was guessed may be the wrong one.
        origin["convention_guessed"] = True
    return Kernel(kernel.array, scale, found.provenance or origin), tuple(notes)


def _decide(
    found: Found, array: NDArray[np.float64], scale: int, convention: Wanted, notes: list[str]
) -> tuple[Convention, bool]:
    """The convention, and whether it is a guess."""
    if convention != "auto":
        notes.append(f"the kernel was read in the convention {convention!r}, as asked for.")
        return convention, False
    if found.scale is not None and found.key in ("kernel", "kernels"):
        notes.append("the kernel was read in blindsr's own convention: the file states its scale.")
        return "ours", False
    # A .npz without a scale is not ours, and its key is anyone's: only the centre of mass can tell.
    key = None if found.provenance is not None else found.key
    taken, reason = detect(array, scale, key)
    notes.append(reason)
    return taken, True


def _checked(array: NDArray[Any], path: Path) -> NDArray[np.float64]:
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise KernelError(f"{path.name} must hold numbers, it holds {array.dtype}; save the kernel as a float array.")
    if array.ndim != 2:
        raise KernelError(f"a kernel must be a 2-D array, {path.name} holds {array.ndim}-D of shape {array.shape}.")
    if array.size == 0 or max(array.shape) > LARGEST:
        raise KernelError(
            f"a kernel must have 1 to {LARGEST} px a side, {path.name} holds "
            f"{array.shape[0]}×{array.shape[1]}; check that it is no image."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise KernelError(f"a kernel must be finite, {path.name} holds NaN or infinity; estimate or save it again.")
    if not values.any():
        raise KernelError(f"a kernel must have a weight other than zero, {path.name} is all zero; save it again.")
    # Sums and squares of absurd numbers overflow; a kernel's own are about 1.
    if np.abs(values).max() > 1e100 or np.abs(values).max() < 1e-100:
        raise KernelError(f"the weights in {path.name} are absurd, up to {np.abs(values).max():.3g}; save it again.")
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


def kernel_bytes(kernel: Kernel, suffix: str, convention: Convention | None = None) -> bytes:
    """The content of a kernel file; the same kernel gives the same bytes.

    Args:
        kernel: Any kernel.
        suffix: ".npz" (our convention, with scale and provenance), ".npy", ".txt" or ".csv" (the weights alone) or
            ".mat" (MATLAB v5).
        convention: Of the weights that are written; None is KernelGAN's for .mat and ours for the others.

    Raises:
        KernelError: The suffix is another one, or a .npz is wanted in a convention that is not ours.
    """
    if suffix == ".npz":
        if convention not in (None, "ours"):
            raise KernelError(f"a .npz is in blindsr's own convention, got {convention!r}; write .mat, .npy or .txt.")
        provenance = json.dumps(dict(kernel.provenance), default=str)
        return _npz(kernel=kernel.array, scale=np.int64(kernel.scale), provenance=np.str_(provenance))
    if suffix not in _WRITTEN:
        raise KernelError(f"a kernel file must be one of {', '.join(_WRITTEN)}, got {suffix!r}.")
    weights = to_convention(kernel, convention or ("kernelgan" if suffix == ".mat" else "ours"))
    if suffix == ".mat":
        return _mat(weights, {"kair": "kernels", "mzsr": "kernel", "generator": "ker"}.get(convention or "", "Kernel"))
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, weights, allow_pickle=False)
    else:
        np.savetxt(buffer, weights, fmt="%.17g", delimiter="," if suffix == ".csv" else " ")
    return buffer.getvalue()


def stack_bytes(kernels: Sequence[Kernel], names: Sequence[str]) -> bytes:
    """One .npz with a kernel for each band: `kernels` (N, K, K), `bands`, `scale` and `provenance`.

    Raises:
        KernelError: There is none, or they are for different scales.
    """
    if not kernels or len({kernel.scale for kernel in kernels}) != 1:
        raise KernelError("a stack of kernels needs one or more, all for one scale.")
    side = max(kernel.size for kernel in kernels)
    stack = np.stack([np.pad(kernel.array, (side - kernel.size) // 2) for kernel in kernels])
    provenance = {name: dict(kernel.provenance) for name, kernel in zip(names, kernels, strict=True)}
    return _npz(
        kernels=stack,
        bands=np.array(list(names)),
        scale=np.int64(kernels[0].scale),
        provenance=np.str_(json.dumps(provenance, default=str)),
    )


def _npz(**arrays: Any) -> bytes:  # noqa: ANN401 - whatever NumPy stores
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _mat(weights: NDArray[np.float64], name: str) -> bytes:
    from scipy.io import savemat

    buffer = io.BytesIO()
    # The stubs know paths alone; SciPy documents open files too.
    savemat(buffer, {name: weights})  # type: ignore[arg-type]
    # SciPy puts the clock and the platform into the first 116 bytes, which are free text.
    return b"MATLAB 5.0 MAT-file, kernel written by blindsr".ljust(116) + buffer.getvalue()[116:]
