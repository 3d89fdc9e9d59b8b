"""Downscaling kernels as values: one kernel, one kernel per band, and an estimate of a kernel.

A `Kernel` is a correlation kernel on the HR grid: K×K with K ≡ s (mod 2), its geometric centre is the
reference point, its sum is 1. LR pixel i is centred at s·i + (s − 1)/2 (docs/method/conventions.md). Kernels of
other conventions are converted once, when they are read (`blindsr.kernels.conventions`).
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blindsr.errors import KernelError

if TYPE_CHECKING:
    import torch

MAX_MAP_SIDE: Final = 64  # kernels along a side of a map
MAX_SIZE: Final = 1001  # px a side; a larger array is an image, and the arithmetic on it would take minutes
_SUM_TOLERANCE = 1e-6
_BAND = re.compile(r"(?<![^_.-])[A-Za-z]{1,4}\d{1,2}[A-Za-z]?(?![^_.-])")  # "B04", "B8A", "SR_B2" has "B2"
_MIN_MOMENT = 1e-6  # HR px²; the second moments of the bicubic kernel are zero except for rounding


@dataclass(frozen=True, eq=False)
class Kernel:
    """A downscaling kernel: blur before subsampling, on the HR grid.

    Args:
        array: (K, K), K ≡ scale (mod 2), K ≥ scale, finite, sum 1; negative taps are allowed (bicubic has
            them). Copied to read-only float64.
        scale: Factor from LR to HR, 1 or more.
        provenance: Origin of the kernel, as short JSON-able values: `{"made_by": "gaussian"}`. Not compared.

    Raises:
        KernelError: `array` or `scale` breaks one of the rules above.

    Example:
        >>> Kernel([[0.25, 0.25], [0.25, 0.25]], 2).covariance.tolist()
        [[0.25, 0.0], [0.0, 0.25]]
    """

    array: NDArray[np.float64]
    scale: int
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __init__(self, array: ArrayLike, scale: int, provenance: Mapping[str, object] | None = None) -> None:
        values = np.array(array, dtype=np.float64)
        if isinstance(scale, bool) or int(scale) != scale or scale < 1:
            raise KernelError(f"scale must be a whole number, 1 or more (LR to HR), got {scale!r}.")
        if values.ndim != 2 or values.shape[0] != values.shape[1]:
            raise KernelError(f"a kernel must be a square 2-D array, got shape {values.shape}; pad it with zeros.")
        size = values.shape[0]
        if size < scale or (size - scale) % 2:
            raise KernelError(
                f"a kernel for scale {scale} must have K ≥ {scale} and K ≡ {scale} (mod 2), got K = {size}; "
                "blindsr.kernels.from_convention converts kernels of other conventions."
            )
        if not np.isfinite(values).all():
            raise KernelError("a kernel must be finite, it contains NaN or infinity; check the file.")
        if abs(values.sum() - 1) > _SUM_TOLERANCE:
            raise KernelError(f"a kernel must sum to 1, it sums to {values.sum():.6g}; use Kernel.normalised.")
        values.setflags(write=False)
        object.__setattr__(self, "array", values)
        object.__setattr__(self, "scale", int(scale))
        object.__setattr__(self, "provenance", MappingProxyType(dict(provenance or {})))

    @classmethod
    def normalised(cls, array: ArrayLike, scale: int, provenance: Mapping[str, object] | None = None) -> "Kernel":
        """Divide an array of the right shape by its sum and make it a `Kernel`.

        Raises:
            KernelError: The sum is (nearly) zero or not finite, or the shape is wrong.
        """
        values = np.array(array, dtype=np.float64)
        total = values.sum()
        if not np.isfinite(total) or abs(total) <= 1e-8 * max(1.0, float(np.abs(values).max(initial=0.0))):
            raise KernelError(
                f"a kernel needs a sum other than zero to be normalised, its sum is {total:.3g}; "
                "check that the file contains a blur kernel and not an image or a derivative."
            )
        # A sum that is 1 except for rounding is kept, so that a file is read back bit by bit.
        return cls(values if abs(total - 1) < 1e-12 else values / total, scale, provenance)

    @property
    def made_by(self) -> object:
        """The method, formula or kind of file that its provenance names; None if it names none."""
        return self.provenance.get("made_by")

    @property
    def is_replacement(self) -> bool:
        """Whether it was used because an estimator found none."""
        return "in_place_of" in self.provenance

    @property
    def is_plain_reduction(self) -> bool:
        """Whether it is that of an ordinary reduction, without optics: bicubic or a box."""
        return self.made_by in ("bicubic", "box")

    @property
    def size(self) -> int:
        """K, the side length in HR pixels."""
        return int(self.array.shape[0])

    def padded(self, size: int) -> NDArray[np.float64]:
        """The weights with zeros around them, (size, size), of the kernel's parity and at least its size."""
        return np.pad(self.array, (size - self.size) // 2)

    @cached_property
    def _coordinates(self) -> NDArray[np.float64]:
        return np.arange(self.size, dtype=np.float64) - (self.size - 1) / 2

    @cached_property
    def centroid(self) -> NDArray[np.float64]:
        """Centre of mass (y, x) in HR pixels from the geometric centre; (0, 0) for a centred kernel."""
        c = self._coordinates
        return np.array([self.array.sum(1) @ c, self.array.sum(0) @ c])

    @cached_property
    def covariance(self) -> NDArray[np.float64]:
        """Second central moments, (2, 2), HR px², order (y, x)."""
        y = self._coordinates - self.centroid[0]
        x = self._coordinates - self.centroid[1]
        yy = self.array.sum(1) @ y**2
        xx = self.array.sum(0) @ x**2
        yx = y @ self.array @ x
        return np.array([[yy, yx], [yx, xx]])

    @property
    def flat(self) -> tuple["Kernel", ...]:
        """All kernels: this one. A stack and a map have it as well."""
        return (self,)

    @property
    def representative(self) -> "Kernel":
        """The one kernel where only one is wanted: itself; of a stack the first, of a map the mean."""
        return self

    def each(self, function: Callable[["Kernel"], "Kernel"]) -> "Kernel":
        """What a function makes of this kernel."""
        return function(self)

    def transfer_plane(self, frequencies: NDArray[np.float64]) -> NDArray[np.complex128]:
        """The transfer function at all pairs of frequencies, (N, N), order (y, x).

        Args:
            frequencies: (N,), cycles per LR pixel.
        """
        r = (np.arange(self.size) - (self.size - 1) / 2) / self.scale
        phase = np.exp(2j * np.pi * np.outer(frequencies, r))
        return np.asarray(phase @ self.array @ phase.T)

    @property
    def has_sigmas(self) -> bool:
        """Whether the second moments are squared widths: negative weights can make them zero or negative.

        Where they are positive all the same, σ is that of the weights as they are, and the FWHM tells the width better.
        """
        return bool(self.array.min() >= 0 or np.linalg.eigvalsh(self.covariance)[0] > _MIN_MOMENT)

    @property
    def sigmas(self) -> tuple[float, float]:
        """Standard deviations along the long and the short principal axis, in HR pixels; 0 without `has_sigmas`."""
        short, long = np.sqrt(np.clip(np.linalg.eigvalsh(self.covariance), 0, None))
        return float(long), float(short)

    @property
    def angle(self) -> float:
        """Direction of the long axis, degrees counter-clockwise from the x axis in the displayed image, [0, 180)."""
        vector = np.linalg.eigh(self.covariance)[1][:, 1]
        return float(np.degrees(np.arctan2(-vector[0], vector[1])) % 180.0)

    def support(self, energy: float = 0.99) -> int:
        """Side of the smallest centred square, of the kernel's own parity, that contains `energy` of Σ|k|."""
        absolute = np.abs(self.array)
        for margin in range((self.size - 1) // 2, -1, -1):
            inner = absolute[margin : self.size - margin, margin : self.size - margin]
            if inner.sum() >= energy * absolute.sum():
                return self.size - 2 * margin
        return self.size

    def transfer(self, frequencies: NDArray[np.float64], angle: float = 0.0) -> NDArray[np.float64]:
        """Modulation transfer |K(f)|, (N,), along one direction, in degrees as `angle`.

        Frequencies, (N,), are in cycles per HR pixel: HR's Nyquist is 0.5, LR's is 0.5/scale.
        """
        radians = np.radians(angle)
        c = self._coordinates
        path = c[None, :] * np.cos(radians) - c[:, None] * np.sin(radians)
        phase = np.exp(-2j * np.pi * frequencies[:, None] * path.ravel()[None, :])
        return np.asarray(np.abs(phase @ self.array.ravel()), dtype=np.float64)

    def tensor(self, like: "torch.Tensor | None" = None) -> "torch.Tensor":
        """The weights as a tensor (K, K), with dtype and device of `like`; None is float32 on the CPU."""
        import torch

        values = torch.from_numpy(np.array(self.array))
        return values.to(torch.float32) if like is None else values.to(like)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the weights and the scale."""
        # Adding zero turns −0 into 0: equal weights have equal bytes.
        content = np.ascontiguousarray(self.array.round(9) + 0.0).tobytes() + str(self.scale).encode()
        return hashlib.sha256(content).hexdigest()[:12]

    def __reduce__(self) -> tuple[type["Kernel"], tuple[object, ...]]:
        # The read-only mapping cannot be pickled, and a batch sends kernels to its worker processes.
        return Kernel, (np.array(self.array), self.scale, dict(self.provenance))

    def __repr__(self) -> str:
        long, short = self.sigmas
        shape = f"σ={long:.2f}/{short:.2f} px, {self.angle:.0f}°" if self.has_sigmas else "σ not defined"
        return f"Kernel({self.size}×{self.size}, scale={self.scale}, {shape})"


def plain_name(name: str) -> str:
    """The name of a band in lower case, without the zeros before its numbers: "B04" is "b4"."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.lower())


@dataclass(frozen=True, slots=True)
class KernelStack:
    """The kernels of the bands of one image, in the order of its channels.

    Raises:
        KernelError: The scales differ, or there are not as many names as kernels.
    """

    kernels: tuple[Kernel, ...]  # one or more
    names: tuple[str, ...]  # of the bands

    def __init__(self, kernels: Sequence[Kernel], names: Sequence[str]) -> None:
        object.__setattr__(self, "kernels", tuple(kernels))
        object.__setattr__(self, "names", tuple(names))
        if not self.kernels or len(self.kernels) != len(self.names):
            raise KernelError(
                f"each band needs a kernel and a name, got {len(self.kernels)} kernels and {len(self.names)} names."
            )
        scales = sorted({kernel.scale for kernel in self.kernels})
        if len(scales) > 1:
            raise KernelError(f"the kernels of an image's bands must be for one scale, got {scales}; resample some.")

    @property
    def scale(self) -> int:
        """Factor from LR to HR."""
        return self.kernels[0].scale

    @property
    def flat(self) -> tuple[Kernel, ...]:
        """All kernels, in the order of the bands."""
        return self.kernels

    @property
    def representative(self) -> Kernel:
        """The kernel of the first band."""
        return self.kernels[0]

    def each(self, function: Callable[[Kernel], Kernel]) -> "KernelStack":
        """The stack of what a function makes of each kernel."""
        return KernelStack([function(kernel) for kernel in self.kernels], self.names)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the weights, the scale and the order."""
        return hashlib.sha256(" ".join(kernel.digest for kernel in self.kernels).encode()).hexdigest()[:12]

    @property
    def provenance(self) -> Mapping[str, object]:
        """Origin of the first kernel."""
        return self.kernels[0].provenance

    def of_file(self, name: str) -> tuple[str, Kernel] | None:
        """The band that the name of a file has as one of its words, and its kernel; None if there is none, or several.

        A satellite's product has a file for each band: "T31TCJ_20170808T105651_B04_10m.jp2" is of the band B4.
        """
        words = {plain_name(word) for word in _BAND.findall(name.rpartition(".")[0] or name)}
        found = [number for number, band in enumerate(self.names) if plain_name(band) in words]
        return (self.names[found[0]], self.kernels[found[0]]) if len(found) == 1 else None

    def check_channels(self, channels: int) -> None:
        """Raise a KernelError if an image has not as many channels as there are kernels."""
        if channels != len(self.kernels):
            raise KernelError(
                f"{len(self.kernels)} kernels ({', '.join(self.names)}) need an image with as many bands, this one has "
                f"{channels}; choose one kernel for all bands (--kernel-index, index= in Python), or name the band of "
                "each channel in order, as in sentinel2:B4,B3,B2."
            )


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Kernels that vary over an image: a grid that divides it equally, with the kernel of the middle of each cell.

    Between the middles of the cells, the result changes smoothly from one kernel to the next; beyond the outermost ones
    it stays that of theirs.

    Args:
        kernels: Rows from top to bottom, each from left to right.

    Raises:
        KernelError: A row is empty or has another length, the scales differ, or a side has more than 64 kernels.
    """

    kernels: tuple[tuple[Kernel, ...], ...]

    def __init__(self, kernels: Sequence[Sequence[Kernel]]) -> None:
        object.__setattr__(self, "kernels", tuple(tuple(row) for row in kernels))
        lengths = {len(row) for row in self.kernels}
        if len(lengths) != 1 or not 1 <= min(lengths) <= max(*lengths, len(self.kernels)) <= MAX_MAP_SIDE:
            raise KernelError(
                f"a kernel map must have 1 to {MAX_MAP_SIDE} rows of as many kernels each, got rows of "
                f"{sorted(lengths)} kernels; correct the grid."
            )
        scales = sorted({kernel.scale for kernel in self.flat})
        if len(scales) > 1:
            raise KernelError(f"the kernels of a map must be for one scale, got {scales}; resample some.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.kernels), len(self.kernels[0])

    @property
    def flat(self) -> tuple[Kernel, ...]:
        """The kernels row by row."""
        return tuple(kernel for row in self.kernels for kernel in row)

    @property
    def scale(self) -> int:
        """Factor from LR to HR."""
        return self.kernels[0][0].scale

    @property
    def size(self) -> int:
        """Side of the largest kernel, HR pixels."""
        return max(kernel.size for kernel in self.flat)

    def arrays(self) -> NDArray[np.float64]:
        """The weights, (rows, columns, K, K), of kernels that are padded with zeros to one size."""
        padded = [kernel.padded(self.size) for kernel in self.flat]
        return np.stack(padded).reshape(*self.shape, self.size, self.size)

    @cached_property
    def mean(self) -> Kernel:
        """The mean of the kernels, with the provenance of the first."""
        return Kernel.normalised(self.arrays().mean((0, 1)), self.scale, self.provenance)

    @property
    def representative(self) -> Kernel:
        """The mean of the kernels."""
        return self.mean

    def each(self, function: Callable[[Kernel], Kernel]) -> "KernelMap":
        """The map of what a function makes of each kernel."""
        return KernelMap([[function(kernel) for kernel in row] for row in self.kernels])

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the weights, the scale and the grid."""
        rows = "/".join(" ".join(kernel.digest for kernel in row) for row in self.kernels)
        return hashlib.sha256(rows.encode()).hexdigest()[:12]

    @property
    def provenance(self) -> Mapping[str, object]:
        """Origin of the first kernel."""
        return self.kernels[0][0].provenance


#: One kernel for an image, one for each of its bands, or a map of kernels that vary over it.
AnyKernel = Kernel | KernelStack | KernelMap


@dataclass(frozen=True, kw_only=True)
class KernelEstimate:
    """A kernel that was estimated from an image, and how.

    Raises:
        KernelError: `kernel_error` is negative, or `confidence` is outside [0, 1].
    """

    kernel: Kernel  # of a map, the mean
    method: str  # name of the estimator: "kernelgan", "spectral", …
    settings: Mapping[str, object] = field(default_factory=dict)  # of the estimator, JSON-able
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # training curves, one value per report
    metrics: Mapping[str, float] = field(default_factory=dict)  # single numbers by name, such as the residual of a fit
    warnings: tuple[str, ...] = ()  # sentences for the user, such as why a fallback was used
    kernel_error: float | None = None  # estimated standard deviation of the transfer function's error; None is unknown
    confidence: float | None = None  # reliability of the estimate, from 0 to 1; None is unknown
    kernel_map: KernelMap | None = None  # kernels that vary over the image; None is one for all of it
    noise_sigma: float = 0.0  # standard deviation of luma noise that the estimator sees, smoothed or not, [0, 1] units
    repetition: tuple[int, int] = (1, 1)  # how often each pixel of the image was repeated: in rows, in columns

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.kernel_error is not None and not self.kernel_error >= 0:
            raise KernelError(f"kernel_error must be 0 or more, got {self.kernel_error:g}.")
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise KernelError(f"confidence must be between 0 and 1, got {self.confidence:g}.")
