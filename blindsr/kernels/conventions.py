"""Kernels of other projects, converted when they are read, so that their own operation and `degrade` give the same LR.

As correlation weights, the kernel of every source weights the HR pixels s·i + first … s·i + first + K − 1 of LR pixel
i; sources differ in `first`, in whether the array is flipped, and in where they put the centre of mass. Only the first
two change the operation. The third is a property of the kernel: it is detected and reported, never corrected.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blindsr.errors import KernelError
from blindsr.kernels.kernel import Kernel

Convention = Literal["blindsr", "kernelgan", "generator", "fkp", "mzsr", "kair"]

_TITLES: Final[dict[str, str]] = {
    "blindsr": "blindsr",
    "kernelgan": "KernelGAN and DIV2KRK",
    "generator": "the dataset generator and ZSSR",
    "fkp": "FKP and DKP",
    "mzsr": "MZSR",
    "kair": "KAIR and USRNet",
}
# Conventions that a key allows, the likelier first: where two have the same centre of mass, the first one is used.
_BY_KEY: Final[dict[str | None, tuple[Convention, ...]]] = {
    "Kernel": ("kernelgan", "generator", "fkp", "mzsr", "blindsr"),
    "ker": ("generator", "kernelgan", "fkp", "mzsr", "blindsr"),
    "kernel": ("mzsr", "kernelgan", "generator", "fkp", "blindsr"),
    "kernels": ("kair",),
    None: ("blindsr", "kernelgan", "generator", "kair", "mzsr"),
}
# Of an array without a name: taps from the centre of mass up to which another convention than ours is meant, and from
# our own centre up to which a kernel is a little off it.
_CLOSE, _OFF_CENTRE = 0.1, 0.5
_TOLERANCE: Final = 0.35  # px; half of the distance between neighbouring conventions at ×2, plus noise of the taps
_MIN_REPORTED_SHIFT: Final = 0.25  # HR px
_MAX_OFF_TAP: Final = 0.1  # px; a centre of mass so near the middle tap lies on it


def _check_name(convention: str) -> None:
    if convention not in _TITLES:
        raise KernelError(f"a kernel convention must be one of {', '.join(_TITLES)}, got {convention!r}.")


def from_convention(array: ArrayLike, scale: int, convention: Convention) -> Kernel:
    """Convert an array that follows a convention to a `Kernel` whose `degrade` equals the source's own operation.

    An odd K×K kernel of KernelGAN gets s − 1 zero rows and columns at its end. The centre of mass keeps its position
    relative to the LR pixel: a kernel that shifts the image by half a pixel still does.

    Args:
        array: (K, K), any K ≥ 1, any sum other than zero; normalised here.
        scale: Factor from LR to HR.
        convention: Convention of the array.

    Raises:
        KernelError: The convention is unknown, the array is not square, or it breaks a rule of `Kernel`.

    Example:
        >>> from_convention([[0, 0, 0], [0, 1, 0], [0, 0, 0]], 2, "mzsr").size
        4
    """
    _check_name(convention)
    values = np.array(array, dtype=np.float64)
    provenance = {"convention": convention}
    if convention == "blindsr":
        return Kernel.normalised(values, scale, provenance)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0:
        raise KernelError(f"a kernel must be a square 2-D array, got shape {values.shape}; pad it with zeros.")
    size = values.shape[0]
    # y[j] = Σ k[m] x[j + m − K//2] (SciPy's correlate), then every s-th pixel from the first.
    first = -(size // 2)
    if convention == "kair":
        # y[j] = Σ k[m] x[j + K//2 − m], a true convolution: as correlation weights the array is rotated by 180°.
        values, first = values[::-1, ::-1], size // 2 - size + 1
    # Zeros around the weights, which start at s·i + first, so that they cover −p … p + s − 1, as in `Kernel`.
    margin = max(-first, first + size - scale, 0)
    before = margin + first
    return Kernel.normalised(np.pad(values, (before, 2 * margin + scale - size - before)), scale, provenance)


def to_convention(kernel: Kernel, convention: Convention) -> NDArray[np.float64]:
    """Convert a `Kernel` to the odd-sized array that has the same effect in another source's operation.

    "kernelgan", "generator", "fkp" and "mzsr" share one operation and therefore one array. The conversion is exact:
    zeros are added or, where the last s − 1 rows and columns are zero, removed. The array is (K', K'), K' odd and
    K − s + 1 or K + s − 1; for "blindsr" it is a copy of the kernel's own.

    Raises:
        KernelError: The convention is unknown.
    """
    _check_name(convention)
    weights = np.array(kernel.array)
    if convention == "blindsr":
        return weights
    extra = kernel.scale - 1
    end = kernel.size - extra
    if end > 0 and not weights[end:].any() and not weights[:, end:].any():
        weights = weights[:end, :end]
    else:
        weights = np.pad(weights, (extra, 0))
    return weights[::-1, ::-1].copy() if convention == "kair" else weights


def _expected_centre(convention: Convention, size: int, scale: int) -> float:
    """Index of the centre of mass of a convention's kernels along one axis."""
    half = (scale - 1) / 2
    return {
        "blindsr": (size - 1) / 2,
        "kernelgan": size // 2 + half,
        "generator": size // 2 + half + 0.5,
        "fkp": (size - scale) / 2,
        "mzsr": float(size // 2),
        "kair": size // 2 - half,
    }[convention]


def is_centred_on_tap(array: ArrayLike, key: str | None) -> bool:
    """Whether a kernel has its centre of mass on its middle tap, and no key that says what that means.

    Such a kernel is a blur that someone has drawn around a pixel: that it displaces the image by half of an LR pixel,
    as MZSR's operation would, is not meant.
    """
    values = np.asarray(array, dtype=np.float64)
    size = values.shape[0]
    off_tap = float(np.abs(_centre_of_mass(values) - size // 2).max())
    return size % 2 == 1 and key != "kernel" and off_tap <= _MAX_OFF_TAP


def _centre_of_mass(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Index of the centre of mass along each axis."""
    index = np.arange(values.shape[0])
    return np.asarray(np.array([values.sum(1) @ index, values.sum(0) @ index]) / values.sum(), dtype=np.float64)


def detect(array: ArrayLike, scale: int, key: str | None = None) -> tuple[Convention, str]:
    """Guess the convention of an array from its key in the file and from its centre of mass.

    Args:
        array: (K, K), finite, sum other than zero.
        scale: Factor from LR to HR.
        key: Name of the array in the file ("Kernel", "ker", "kernel", "kernels"); None if it has no name.

    Returns:
        The convention, and a sentence with the reason and with the shift that the kernel causes, if any.
    """
    values = np.asarray(array, dtype=np.float64)
    size = values.shape[0]
    centre = _centre_of_mass(values)
    allowed = [
        c for c in _BY_KEY.get(key, _BY_KEY[None]) if c != "blindsr" or (size >= scale and (size - scale) % 2 == 0)
    ]
    distances = [float(np.abs(centre - _expected_centre(c, size, scale)).max()) for c in allowed]
    nearest = int(np.argmin(np.round(distances, 6)))
    if allowed[0] == "blindsr" and distances[nearest] > _CLOSE and distances[0] <= _OFF_CENTRE:
        nearest = 0  # a kernel that is a little off its centre has no other convention for that
    is_known = distances[nearest] <= _TOLERANCE or len(allowed) == 1
    convention = allowed[nearest if is_known else 0]
    named = f"its key is {key!r}" if key else "it has no key"
    position = f"its centre of mass is at ({centre[0]:.2f}, {centre[1]:.2f}) of {size}×{size}"
    reason = f"the kernel was read in the convention of {_TITLES[convention]}"
    if is_known:
        reason += f": {named} and {position}"
    else:
        reason += f", because {named}; {position}, which fits no known convention"
        reason += ", so set the convention if the result is shifted"
    y, x = from_convention(values, scale, convention).centroid
    if max(abs(y), abs(x)) >= _MIN_REPORTED_SHIFT:
        reason += (
            f"; it is ({y:+.2f}, {x:+.2f}) HR pixels (y, x) off the centre of the LR pixel, which was kept: if the "
        )
        reason += (
            "result must not be displaced, move it there (recentre=True, --recenter) or name the right convention "
        )
        reason += "(convention=, --kernel-convention)"
    return convention, f"{reason}."
