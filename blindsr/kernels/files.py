"""Kernels from files, arrays and texts, and kernel files as bytes.

Reading returns a `Kernel` and warnings: sentences for the user about what was assumed. Files may come from anywhere:
nothing in them is executed (no pickles), and no array is read that is larger than a kernel can be.
"""

import io
import os
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blindsr.errors import KernelError, did_you_mean, reason_of
from blindsr.kernels.analytic import KERNEL_FORMS, parse_kernel
from blindsr.kernels.arrays import (
    MAP_KEY,
    MAX_BYTES,
    RawArrays,
    check_shape,
    load_npy,
    load_npz,
    load_text,
    opened_npz,
    origin_members,
    provenance_in,
    scale_in_file,
    split_stack,
    stack_members,
    too_large,
    unpacked_sizes,
)
from blindsr.kernels.conventions import Convention, detect, from_convention, is_centred_on_tap, to_convention
from blindsr.kernels.kernel import MAX_SIZE, AnyKernel, Kernel, KernelEstimate, KernelMap, KernelStack
from blindsr.kernels.metrics import kernel_warnings
from blindsr.kernels.transform import centre_with_warning
from blindsr.registry import kernel_source

ARRAY_SUFFIXES: Final = (".npz", ".npy", ".mat", ".txt", ".csv")
IMAGE_SUFFIXES: Final = (".tif", ".tiff", ".png", ".bmp")  # images of a PSF
_SUFFIXES: Final = f"{', '.join(ARRAY_SUFFIXES)}, or an image of a PSF: {', '.join(IMAGE_SUFFIXES)}"
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

AnyConvention = Convention | Literal["auto"]
_Kernels = AnyKernel
KernelLike = AnyKernel | ArrayLike | str | os.PathLike[str]  # what `as_kernel` makes a kernel of
_Warnings = tuple[str, ...]


DEBLUR_SCALE: Final = 2  # what is run for the scale 1 (`blindsr.pipelines.deblur`): a kernel for it serves as well


def as_kernel(value: object, scale: int, **options: Any) -> _Kernels:  # noqa: ANN401 - the options of load_kernel
    """Make a kernel of anything that describes one, as `load_kernel` does, without its warnings."""
    return load_kernel(value, scale, **options)[0]


def load_kernel(
    value: object,
    scale: int,
    *,
    convention: AnyConvention | None = None,
    key: str | None = None,
    index: int | str | None = None,
    recentre: bool = False,
) -> tuple[_Kernels, _Warnings]:
    """Make a kernel of anything that describes one, with warnings about what was assumed.

    Args:
        value: A `Kernel`, `KernelStack` or `KernelEstimate`; an array (K, K), or (N, K, K) for N bands, with any
            leading axes of length 1; the path of a kernel file or of an image of a PSF; a text as for
            `blindsr.kernels.parse_kernel`; or "sensor:" and the name of a sensor or the path of its specification,
            with bands after a second colon ("sensor:sentinel2:B4,B3,B2").
        scale: Factor from LR to HR.
        convention: Convention of an array or a file; None or "auto" detects it.
        key: Name of the array in a file.
        index: Which kernel of a stack or a map, counted from 0 (cells of a map are counted row by row); "all" is one
            for each band.
        recentre: Move the centre of mass to the centre; of a map, that of each kernel.

    Returns:
        One kernel, a `KernelStack` with one for each band, or the `KernelMap` of a file; and warnings, as
        sentences for the user.

    Raises:
        KernelError: The value does not describe a kernel for this scale.
        ConfigError: There is no such sensor or band.

    Example:
        >>> load_kernel([[1, 1], [1, 1]], 2)[0].sigmas, load_kernel("gaussian:1.2", 2)[0].size
        ((0.5, 0.5), 12)
    """
    try:
        kernels, warnings = _load(value, scale, convention or "auto", key, index)
    except OSError as error:  # the name is too long, or a folder cannot be searched
        raise _unreadable(value, error) from error
    if not recentre:
        return kernels, warnings
    if isinstance(kernels, KernelMap):  # one sentence for all of its kernels
        centred_map = kernels.each(lambda kernel: centre_with_warning(kernel)[0])
        moved = sum(a is not b for a, b in zip(kernels.flat, centred_map.flat, strict=True))
        text = f"{moved} of {len(kernels.flat)} kernels of the map were moved to centre them."
        return centred_map, (*warnings, text) if moved else warnings
    parts = kernels.kernels if isinstance(kernels, KernelStack) else (kernels,)
    centred, shifts = zip(*map(centre_with_warning, parts), strict=True)
    warnings = (*warnings, *(sentence for sentences in shifts for sentence in sentences))
    return KernelStack(centred, kernels.names) if isinstance(kernels, KernelStack) else centred[0], warnings


def _load(
    value: object, scale: int, convention: AnyConvention, key: str | None, index: int | str | None
) -> tuple[_Kernels, _Warnings]:
    value = (value.kernel_map or value.kernel) if isinstance(value, KernelEstimate) else value
    if isinstance(value, Kernel | KernelStack | KernelMap):
        if value.scale not in (scale, DEBLUR_SCALE if scale == 1 else scale):
            raise KernelError(
                f"the kernel is for scale {value.scale}, but scale {scale} was requested; use scale {value.scale}, or "
                "convert it with blindsr.kernels.resample."
            )
        return value, ()
    if isinstance(value, str | os.PathLike):
        path = Path(value)
        name, _, rest = str(value).partition(":")
        forms = ", ".join([*KERNEL_FORMS.values(), "sensor:NAME:BAND"])
        if not str(value).strip():
            raise KernelError(f"a kernel is needed, got an empty text; give a file ({_SUFFIXES}) or {forms}.")
        if _ADDRESS.match(str(value)):  # of which a path loses a slash
            raise KernelError(
                f"{value} is an address, and nothing is fetched over a network; download it, and name the file."
            )
        if not path.is_file() and (name == "sensor" or name in KERNEL_FORMS):
            if convention != "auto" or key is not None or index is not None:
                raise KernelError(
                    "convention, key and index (--kernel-convention, --kernel-key, --kernel-index) apply to kernel "
                    f"files, not to {value!r}; leave them out."
                )
            if name == "sensor":
                loaded: tuple[_Kernels, _Warnings] = kernel_source("sensor")(rest, max(scale, DEBLUR_SCALE))
                return loaded
            parsed = parse_kernel(str(value), scale)
            return parsed, kernel_warnings(parsed)
        if not path.exists() and path.suffix.lower() not in (*ARRAY_SUFFIXES, *IMAGE_SUFFIXES):
            close = did_you_mean(name, (*KERNEL_FORMS, "sensor"))
            raise KernelError(f"there is no file {str(value)!r}{close}; give a kernel file ({_SUFFIXES}) or {forms}.")
        if path.suffix.lower() == ".npz" and path.is_file() and key in (None, MAP_KEY) and _has_map(path):
            return _map_or_cell(path, scale, convention, index), ()
        kernels, warnings = _load_file(path, scale, convention, key, index)
    else:
        kernels, warnings = _kernels_of(_raw_array(value), scale, convention, index)
    return kernels, (*warnings, *kernel_warnings(kernels)) if isinstance(kernels, Kernel) else warnings


def _unreadable(value: object, error: OSError) -> KernelError:
    return KernelError(f"{value}: the kernel cannot be read ({reason_of(error)}); check the name and its permissions.")


def _raw_array(value: object) -> RawArrays:
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except ValueError as error:
        raise KernelError(f"a kernel must be an array with rows of equal length: {error}.") from error
    if array.dtype.kind not in "fiubc":
        kind = type(value).__name__
        raise KernelError(f"a kernel must be a Kernel, an array, a path or text as in 'gaussian:1.2', got {kind}.")
    check_shape(array.shape, "the array")
    return RawArrays(split_stack(array))


def _load_file(
    path: Path, scale: int, convention: AnyConvention, key: str | None, index: int | str | None
) -> tuple[Kernel | KernelStack, _Warnings]:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        if key is not None or index == "all":
            raise KernelError(f"{path.name} is an image with one PSF; leave key and index out.")
        loaded: tuple[Kernel, _Warnings] = kernel_source("psf")(path, scale, convention=convention, index=index)
        return loaded
    return _kernels_of(load_arrays(path, key), scale, convention, index, path)


def _kernels_of(
    raw: RawArrays, scale: int, convention: AnyConvention, index: int | str | None, path: Path | None = None
) -> tuple[Kernel | KernelStack, _Warnings]:
    if scale == 1 and raw.scale == DEBLUR_SCALE:
        scale = DEBLUR_SCALE
    if raw.scale is not None and raw.scale != scale:
        raise KernelError(
            f"{raw.file} is a kernel for scale {raw.scale}, but scale {scale} was requested; use scale {raw.scale}, "
            f"or convert it: blindsr kernel convert {shlex.quote(str(path))} new.npz --from-scale {raw.scale} "
            f"--to-scale {scale} (in Python blindsr.kernels.resample)."
        )
    has_bands = raw.names or (raw.file is None and len(raw.arrays) > 1)
    if index != "all" and (index is not None or not has_bands):
        return kernel_from_array(raw.select(index), scale, convention, raw)
    read = [kernel_from_array(array, scale, convention, raw) for array in raw.arrays]
    warnings = tuple(dict.fromkeys(sentence for _, sentences in read for sentence in sentences))
    names = raw.names or [str(i) for i in range(len(read))]
    return KernelStack([kernel for kernel, _ in read], names), warnings


def read_kernel(
    path: Path | str,
    *,
    scale: int,
    convention: AnyConvention = "auto",
    key: str | None = None,
    index: int | None = None,
) -> tuple[Kernel, _Warnings]:
    """Read one downscaling kernel.

    Args:
        path: A .npz (array `kernel`, number `scale`, JSON text `provenance`), .npy, .txt or .csv file, a .mat file of
            any version (v7.3 needs h5py), or an image of a PSF on the HR grid (.tif, .png, .bmp).
        scale: Factor from LR to HR. A file that states another one is refused.
        convention: Convention of the array; "auto" detects it by the key and the centre of mass.
        key: Name of the array in the file; None takes the first of `kernel`, `Kernel`, `ker`, `kernels`.
        index: Which kernel of a stack (a cell array or a 3-D array), counted from 0; None is the only one.

    Returns:
        The kernel, and warnings: the detected convention and the reason, a sum that was normalised, zeros added.

    Raises:
        KernelError: The file is not usable, is for another scale, or contains several kernels and none was chosen.
    """
    kernels, warnings = _load_file(Path(path), scale, convention, key, index)
    if isinstance(kernels, KernelStack):
        raise KernelError(f"{path} contains a kernel for each of {', '.join(kernels.names)}; choose one with index=.")
    return kernels, warnings


def kernel_from_array(
    array: NDArray[Any], scale: int, convention: AnyConvention, raw: RawArrays
) -> tuple[Kernel, _Warnings]:
    """Make a `Kernel`, with warnings, of an array (K, L) of `raw`, in any convention; "auto" detects it.

    Raises:
        KernelError: Wrong shape or type, not finite, too large, or weights that sum to zero.
    """
    origin: dict[str, object] = {"made_by": "file", "file": raw.file} if raw.file else {"made_by": "array"}
    name = raw.file or "the array"
    values = _checked(array, name)
    warnings = list(raw.warnings)
    if raw.provenance is not None and raw.scale is None:
        warnings.append(f"{name} does not state its scale; {scale} is assumed, as requested.")
    if values.shape[0] != values.shape[1]:
        height, width = values.shape
        side = max(height, width)
        # Index n // 2 stays at n // 2, the reference pixel of every correlation in use.
        before = [side // 2 - n // 2 for n in values.shape]
        values = np.pad(values, [(b, side - n - b) for b, n in zip(before, values.shape, strict=True)])
        warnings.append(f"{name} is {height}×{width} and was padded with zeros to {side}×{side}.")
    total = float(values.sum())
    if abs(total) <= 1e-8 * float(np.abs(values).max()):
        raise KernelError(f"{name} sums to {total:.3g}: it is not a blur kernel (an image or a derivative?).")
    if abs(total - 1) > 1e-4:
        warnings.append(f"the kernel sums to {total:.4g} and was normalised to 1.")
    if convention != "auto":
        warnings.append(f"the kernel was read in the convention {convention!r}, as requested.")
    elif raw.scale is not None and raw.key in ("kernel", "kernels"):
        convention = "blindsr"
        if not raw.is_own:
            warnings.append("the kernel was read in blindsr's own convention: the file states its scale.")
    else:
        # A .npz without a scale may be anyone's, and so may its key: only the centre of mass is evidence.
        key = None if raw.provenance is not None else raw.key
        convention, reason = detect(values, scale, key)
        if convention == "mzsr" and is_centred_on_tap(values, key):
            return _centred_on_pixel(values, scale, origin, warnings)
        # It may be wrong, so the registration of the result against the input is checked later.
        origin["convention_guessed"] = True
        warnings.append(reason)
    kernel = from_convention(values, scale, convention)
    return Kernel(kernel.array, scale, raw.provenance or {**origin, "convention": convention}), tuple(warnings)


def _centred_on_pixel(
    values: NDArray[np.float64], scale: int, origin: Mapping[str, object], warnings: Sequence[str]
) -> tuple[Kernel, _Warnings]:
    """A kernel that is centred on its middle tap, moved onto the centre of the LR pixel, with warnings."""
    kernel = from_convention(values, scale, "mzsr")
    y, x = kernel.centroid
    centred, _ = centre_with_warning(Kernel(kernel.array, scale, {**origin, "convention": "blindsr"}))
    size = len(values)
    text = (
        f"the kernel is centred on the middle of its {size}×{size} px, and was moved by ({-y:+.2f}, {-x:+.2f}) HR "
        "pixels (y, x) onto the centre of the LR pixel, so that the result is not displaced; if the photograph "
        f"was reduced by keeping the first of every {scale} pixels, name the convention mzsr (convention=, "
        "--kernel-convention)."
    )
    return centred, (*warnings, text)


def _has_map(path: Path) -> bool:
    """Whether a .npz file has a kernel map; of a damaged one the error comes when it is read."""
    try:
        with opened_npz(path) as archive:
            return MAP_KEY in archive.files
    except (KernelError, OSError, ValueError, EOFError, zipfile.BadZipFile):
        return False


def _map_or_cell(path: Path, scale: int, convention: AnyConvention, index: int | str | None) -> KernelMap | Kernel:
    """The map of a file, or the kernel of one of its cells."""
    if convention not in ("auto", "blindsr"):
        raise KernelError(f"a kernel map is in blindsr's own convention, got {convention!r}; leave it out.")
    kernel_map = _read_map(path, scale)
    if index is None or index == "all":
        return kernel_map
    cells = kernel_map.flat
    if not isinstance(index, int) or not 0 <= index < len(cells):
        raise KernelError(
            f"{path.name} is a map of {len(cells)} kernels, index {index!r} was requested; give 0 to {len(cells) - 1}, "
            "row by row."
        )
    return cells[index]


def _read_map(path: Path, scale: int | None) -> KernelMap:
    """Read a kernel map: `kernel_map` (rows, columns, K, K), `scale`, and `provenance`, a JSON list for each kernel.

    The scale None is that of the file.

    Raises:
        KernelError: The file is damaged, has another content, or is for another scale.
    """
    try:
        with opened_npz(path) as archive:
            for name in (MAP_KEY, "scale"):
                if name not in archive.files:
                    raise KernelError(f"{path.name} must contain {name} beside {MAP_KEY}; write it as documented.")
            for entry, size in unpacked_sizes(archive).items():
                if size > MAX_BYTES:
                    raise KernelError(f"{entry} in {path.name} is far too large for kernels.")
            arrays, own_scale = archive[MAP_KEY], archive["scale"]
            origins = provenance_in(archive, None)
    except KernelError:
        raise
    except Exception as error:  # the parsers raise anything for a damaged file
        raise KernelError(
            f"{path.name} cannot be read as a kernel map ({type(error).__name__}): it is damaged; save it again."
        ) from error
    shape = f"{'×'.join(map(str, arrays.shape))}"
    if arrays.ndim != 4 or arrays.dtype.kind not in "fiu" or 0 in arrays.shape:
        raise KernelError(f"{MAP_KEY} in {path.name} must be numbers (rows, columns, K, K), got {shape}.")
    own = scale_in_file(own_scale, path.name)
    if scale is not None and own not in (scale, _run_scale(scale)):
        raise KernelError(
            f"{path.name} is a kernel map for scale {own}, but scale {scale} was requested; estimate or make one "
            f"for this scale, or convert it: blindsr kernel convert {shlex.quote(str(path))} new.npz --to-scale "
            f"{scale}."
        )
    rows, columns = arrays.shape[:2]
    origins = [{}] * (rows * columns) if origins is None else origins
    if not isinstance(origins, list) or len(origins) != rows * columns or not all(isinstance(o, dict) for o in origins):
        raise KernelError(
            f"the provenance in {path.name} must be a list with a mapping for each of its {rows * columns} kernels; "
            "correct it, or leave it out."
        )
    flat = [
        Kernel.normalised(_checked(array, path.name), own, {"made_by": "file", **origin})
        for array, origin in zip(arrays.reshape(-1, *arrays.shape[2:]), origins, strict=True)
    ]
    return KernelMap([flat[row * columns : (row + 1) * columns] for row in range(rows)])


def _run_scale(scale: int) -> int:
    """The scale at which a run of this scale takes kernels as well."""
    return DEBLUR_SCALE if scale == 1 else scale


def stated_scale(path: Path | str) -> int | None:
    """The scale that a file states; None if its format does not store one."""
    path = Path(path)
    if path.suffix.lower() != ".npz":
        return None
    return _read_map(path, None).scale if path.is_file() and _has_map(path) else load_arrays(path, None).scale


def _checked(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise KernelError(f"{name} must contain numbers, it contains {array.dtype}; save the kernel as a float array.")
    if array.ndim != 2:
        raise KernelError(f"a kernel must be a 2-D array, {name} is {array.ndim}-D of shape {array.shape}.")
    if array.size == 0 or max(array.shape) > MAX_SIZE:
        raise too_large(array.shape, name)
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise KernelError(f"a kernel must be finite, {name} contains NaN or infinity; estimate or save it again.")
    if not values.any():
        raise KernelError(f"a kernel must have a weight other than zero, {name} is all zero; save it again.")
    # Sums and squares of extreme numbers overflow; the weights of a kernel are of the order of 1.
    if np.abs(values).max() > 1e100 or np.abs(values).max() < 1e-100:
        raise KernelError(f"the weights in {name} are extreme, up to {np.abs(values).max():.3g}; save it again.")
    return values


def load_arrays(path: Path, key: str | None) -> RawArrays:
    """Read the arrays of a file of any format in `ARRAY_SUFFIXES`, without checking what they contain.

    Raises:
        KernelError: The file is missing, damaged, far too large, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in ARRAY_SUFFIXES:
        raise KernelError(f"a kernel file must be one of {_SUFFIXES}; got {path.name}.")
    try:
        if not path.is_file():
            raise KernelError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; give a kernel file.")
        if path.stat().st_size > MAX_BYTES:
            raise KernelError(f"{path.name} is {path.stat().st_size >> 20} MiB, far too large for a kernel.")
        if suffix == ".mat":
            from blindsr.kernels.matlab import load_mat  # SciPy's reader is heavy

            return load_mat(path, key)
        return {".npz": load_npz, ".npy": load_npy, ".txt": load_text, ".csv": load_text}[suffix](path, key)
    except KernelError:
        raise
    except Exception as error:  # the parsers of these formats raise anything for a damaged file
        if isinstance(error, OSError) and error.filename is not None:  # of the path, and not of its content
            raise _unreadable(path, error) from error
        raise KernelError(
            f"{path.name} cannot be read as a {suffix} kernel file ({type(error).__name__}): it is "
            "damaged or of another kind; save it again."
        ) from error


def kernel_bytes(kernel: _Kernels, suffix: str, convention: Convention | None = None) -> bytes:
    """The content of a kernel file; the same kernel gives the same bytes.

    Args:
        kernel: Any kernel; a stack, with a kernel for each band, and a map for .npz alone.
        suffix: ".npz" (blindsr's convention, with scale and provenance), ".npy", ".txt" or ".csv" (the weights alone)
            or ".mat" (MATLAB v5).
        convention: Convention of the weights in the file; None is KernelGAN's for .mat and blindsr's for the others.

    Raises:
        KernelError: The suffix is unknown, or a .npz is requested in another convention than blindsr's.
    """
    is_several = isinstance(kernel, KernelStack | KernelMap)
    if suffix not in ARRAY_SUFFIXES or (is_several and suffix != ".npz"):
        formats = ".npz" if is_several else ", ".join(ARRAY_SUFFIXES)
        raise KernelError(f"a kernel file must be one of {formats}, got {suffix!r}.")
    if suffix == ".npz" and convention not in (None, "blindsr"):
        raise KernelError(f"a .npz is in blindsr's own convention, got {convention!r}; write .mat, .npy or .txt.")
    buffer = io.BytesIO()
    if suffix == ".npz" or isinstance(kernel, KernelStack | KernelMap):
        if isinstance(kernel, KernelMap):
            origins = [dict(part.provenance) for part in kernel.flat]
            content = {MAP_KEY: kernel.arrays(), **origin_members(kernel.scale, origins)}
        elif isinstance(kernel, KernelStack):
            content = stack_members(kernel.kernels, kernel.names)
        else:
            content = {"kernel": kernel.array, **origin_members(kernel.scale, dict(kernel.provenance))}
        np.savez(buffer, **content)
        return buffer.getvalue()
    weights = to_convention(kernel, convention or ("kernelgan" if suffix == ".mat" else "blindsr"))
    if suffix == ".npy":
        np.save(buffer, weights, allow_pickle=False)
    elif suffix == ".mat":
        key = {"kair": "kernels", "mzsr": "kernel", "generator": "ker"}.get(convention or "", "Kernel")
        return mat_bytes({key: weights})
    else:
        np.savetxt(buffer, weights, fmt="%.17g", delimiter="," if suffix == ".csv" else " ")
    return buffer.getvalue()


def mat_bytes(variables: dict[str, NDArray[Any]]) -> bytes:
    """A MATLAB v5 file; an array of objects is a cell array. The same variables give the same bytes."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, variables)  # type: ignore[arg-type] # the stubs know only paths, SciPy takes open files too
    # SciPy writes the time and the platform into the first 116 bytes, which are free text.
    return b"MATLAB 5.0 MAT-file, kernel written by blindsr".ljust(116) + buffer.getvalue()[116:]
