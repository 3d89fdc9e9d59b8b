"""Kernels and noise of the photographs of one camera, collected in a file from which degradations are drawn.

References:
    Zhou, Süsstrunk, "Kernel Modeling Super-Resolution on Real Low-Resolution Images", ICCV 2019; Ji et al., "Real-World
    Super-Resolution via Kernel Estimation and Noise Injection", CVPR Workshops 2020 (RealSR).
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError, reason_of
from blindsr.kernels.arrays import opened_npz, provenance_in, scale_in_file, stack_members, unpacked_sizes
from blindsr.kernels.kernel import MAX_SIZE, Kernel
from blindsr.kernels.transform import fit, zero_margins

__all__ = ["KernelPool", "noise_patches", "read_pool"]

_MAX_BYTES: Final = 1 << 30
# Of patches that are noise, as RealSR takes them: a variance of 20 grey levels squared, and their means.
_MAX_SIGMA: Final = 20**0.5 / 255
_MEANS: Final = (0.1, 0.9)


@dataclass(frozen=True, eq=False)
class KernelPool:
    """Kernels for one scale, and patches of noise.

    Args:
        kernels: One or more, of one scale.
        names: The photographs that they were estimated from.
        noise: (N, P, P, C) float32, zero mean, [0, 1] units; N may be 0.

    Raises:
        KernelError: There is no kernel, or not one name for each.
    """

    kernels: tuple[Kernel, ...]
    names: tuple[str, ...]
    noise: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check the shapes."""
        if not self.kernels or len(self.kernels) != len(self.names):
            raise KernelError(
                f"a pool needs kernels and a name for each, got {len(self.kernels)} and {len(self.names)} names."
            )
        if len({kernel.scale for kernel in self.kernels}) > 1:
            raise KernelError("the kernels of a pool must be for one scale; resample some.")
        if self.noise.ndim != 4 or self.noise.shape[1] != self.noise.shape[2]:
            raise KernelError(f"the noise of a pool must be (N, P, P, C), got shape {self.noise.shape}.")

    @property
    def scale(self) -> int:
        """Factor from LR to HR."""
        return self.kernels[0].scale

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the kernels and the noise."""
        content = " ".join(kernel.digest for kernel in self.kernels).encode() + self.noise.astype(np.float16).tobytes()
        return hashlib.sha256(content).hexdigest()[:12]

    def draw_kernel(self, rng: np.random.Generator) -> Kernel:
        """One of the kernels."""
        return self.kernels[int(rng.integers(len(self.kernels)))]

    def draw_noise(self, height: int, width: int, bands: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Noise for a whole image: patches side by side, each drawn anew, in one of its eight views.

        Args:
            height: Of the image, px.
            width: Of the image, px.
            bands: Of the image; a patch with another number is averaged, and repeated for each band.
            rng: Random generator.

        Returns:
            (height, width, bands).

        Raises:
            KernelError: The pool has no noise.
        """
        if not len(self.noise):
            raise KernelError("the pool has no patches of noise: its photographs have no smooth part; leave it out.")
        side = self.noise.shape[1]
        rows, columns = -(-height // side), -(-width // side)
        canvas = np.empty((rows * side, columns * side, self.noise.shape[3]), np.float32)
        for row in range(rows):
            for column in range(columns):
                patch = np.rot90(self.noise[int(rng.integers(len(self.noise)))], int(rng.integers(4)))
                patch = patch[:, ::-1] if rng.random() < 0.5 else patch
                canvas[row * side : (row + 1) * side, column * side : (column + 1) * side] = patch
        canvas = canvas[:height, :width]
        if canvas.shape[2] != bands:
            canvas = np.repeat(canvas.mean(2, keepdims=True), bands, 2)
        return canvas

    def to_bytes(self) -> bytes:
        """The content of a .npz file, which also is a file of several kernels (`blindsr.kernels.load_kernel`)."""
        buffer = io.BytesIO()
        noise = self.noise.astype(np.float16)  # of noise, half precision keeps three digits
        np.savez_compressed(buffer, **stack_members(self.kernels, self.names), noise=noise)
        return buffer.getvalue()


def read_pool(path: Path) -> KernelPool:
    """Read a pool that `KernelPool.to_bytes` wrote.

    Raises:
        KernelError: The file cannot be read, or is no pool.
    """
    try:
        with opened_npz(path) as archive:
            if {"kernels", "bands", "scale"} - set(archive.files):
                raise KernelError(f"{path.name} is no pool of kernels; make one with `blindsr kernel pool`.")
            if sum(unpacked_sizes(archive).values()) > _MAX_BYTES:
                raise KernelError(f"{path.name} unpacks to more than a gigabyte; a pool is smaller.")
            arrays, names, scale = archive["kernels"], archive["bands"], scale_in_file(archive["scale"], path.name)
            origin = provenance_in(archive, {})
            noise = archive["noise"] if "noise" in archive.files else np.zeros((0, 1, 1, 1))
    except OSError as error:
        raise KernelError(
            f"{path} cannot be read ({reason_of(error)}); give a pool of `blindsr kernel pool`."
        ) from error
    except KernelError:
        raise
    except Exception as error:  # the parsers raise anything for a damaged file
        raise KernelError(f"{path.name} is no pool of kernels; make one with `blindsr kernel pool`.") from error
    if arrays.dtype.kind not in "fiub" or noise.dtype.kind not in "fiub" or noise.ndim != 4:
        raise KernelError(f"{path.name} must hold kernels and noise as numbers, got {arrays.dtype} and {noise.dtype}.")
    if arrays.ndim != 3 or arrays.shape[1] > MAX_SIZE or len(arrays) != names.size:
        raise KernelError(f"{path.name} must hold kernels (N, K, K) with a name each, got shape {arrays.shape}.")
    texts = tuple(str(name) for name in names.ravel())
    given = origin if isinstance(origin, dict) else {}
    provenances = {name: each for name, each in given.items() if isinstance(each, dict)}
    kernels = tuple(
        _trimmed(Kernel.normalised(array, scale, provenances.get(name)))
        for array, name in zip(arrays, texts, strict=True)
    )
    return KernelPool(kernels, texts, np.asarray(noise, np.float32))


def _trimmed(kernel: Kernel) -> Kernel:
    """Without the rings of zeros that made the kernels of a file equally large."""
    ring = min(*zero_margins(kernel.array), (kernel.size - kernel.scale) // 2)
    return fit(kernel, kernel.size - 2 * ring) if ring else kernel


def noise_patches(pixels: NDArray[np.float32], *, side: int = 64) -> NDArray[np.float32]:
    """The smooth patches of a photograph without their means: its noise, as RealSR takes it.

    The photograph is cut into squares. One is noise if it varies little, is neither black nor white, and holds no
    gradient: its four quarters have nearly the same mean.

    Args:
        pixels: (H, W, C), [0, 1].
        side: Of the squares, px. RealSR's are 256; smaller ones are found in more photographs.

    Returns:
        (N, side, side, C), zero mean in each band; N may be 0.
    """
    height, width, bands = pixels.shape
    rows, columns = height // side, width // side
    if not rows or not columns:
        return np.zeros((0, side, side, bands), np.float32)
    cut = pixels[: rows * side, : columns * side].reshape(rows, side, columns, side, bands)
    cut = cut.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, bands)
    means = cut.mean((1, 2), keepdims=True)
    noise = cut - means
    sigma = noise.std((1, 2)).max(1)
    half = side // 2
    quarters = noise[:, : 2 * half, : 2 * half].reshape(-1, 2, half, 2, half, bands).mean((2, 4))
    # The mean of a quarter of white noise has a standard deviation of σ / half.
    is_level = np.abs(quarters).max((1, 2, 3)) < 0.25 * sigma + 4 * sigma / half
    level = means.mean((1, 2, 3))
    chosen = (sigma > 0) & (sigma < _MAX_SIGMA) & (level > _MEANS[0]) & (level < _MEANS[1]) & is_level
    return np.ascontiguousarray(noise[chosen], np.float32)
