"""Transfer functions on the grid of the learned estimator: multiples of 1/16 cycle per LR pixel, up to HR's limit."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.kernels import Kernel
from blindsr.ops.wiener import error_level

__all__ = [
    "STEPS",
    "Plane",
    "central",
    "error_of",
    "frequencies_of",
    "kernel_of",
    "radius_of",
    "transfer_distance",
    "transfer_of",
]

MADE_BY = "learned"  # of the kernels
STEPS = 16  # of the grid in 1 cycle per LR pixel; kernels have up to ±8 LR pixels
_KERNEL_RADIUS = 8  # LR pixels
_RIPPLE, _RIPPLE_OF_HALOS = 0.006, 0.002  # shares of the largest weight, see `kernel_of`
_ENERGY = 0.998  # share of Σ|k| inside the frame of the kernel

Plane = NDArray[np.complex128]


@cache
def frequencies_of(scale: int) -> NDArray[np.float64]:
    """Multiples of 1/16 cycle per LR pixel from −s/2 to s/2: HR's sampling rate."""
    middle = STEPS * scale // 2
    return np.arange(-middle, middle + 1) / STEPS


@cache
def radius_of(scale: int) -> NDArray[np.float64]:
    """Moduli of the frequencies, (16·s + 1, 16·s + 1), cycles per LR pixel."""
    f = frequencies_of(scale)
    return np.asarray(np.hypot(f[:, None], f[None]))


def central(transfer: Plane) -> Plane:
    """The part of a transfer function from −1 to 1 cycle per LR pixel, (33, 33): a view."""
    middle = len(transfer) // 2
    return transfer[middle - STEPS : middle + STEPS + 1, middle - STEPS : middle + STEPS + 1]


def transfer_distance(first: Plane, second: Plane) -> float:
    """Difference between two transfer functions up to 1 cycle per LR pixel, in the measure of `kernel_error`."""
    return error_of(np.abs(central(first - second)) ** 2)


def error_of(squared_error: NDArray[np.float64]) -> float:
    """`error_level` of a plane up to 1 cycle per LR pixel, (33, 33)."""
    return error_level(torch.from_numpy(squared_error), torch.from_numpy(radius_of(2)))


def transfer_of(kernel: Kernel, factor: float = 1.0) -> Plane:
    """The transfer function at the frequencies of `ImagePosterior.transfer` of a kernel made wider by a factor."""
    return kernel.transfer_plane(factor * frequencies_of(kernel.scale))


def kernel_of(transfer: Plane, scale: int, *, has_halos: bool = False) -> Kernel:
    """The kernel on the HR grid with a transfer function that is given at `frequencies_of`.

    Weights below a small share of the largest become zero: they are the ripple of an uncertain transfer function.

    Args:
        transfer: (16·s + 1, 16·s + 1); it is divided by its value at the frequency 0.
        scale: Factor from LR to HR.
        has_halos: Whether the kernel has halos, which are wide and shallow: the share is smaller then.
    """
    ripple = _RIPPLE_OF_HALOS if has_halos else _RIPPLE
    middle = len(transfer) // 2
    transfer = transfer / transfer[middle, middle].real
    side = 2 * _KERNEL_RADIUS * scale - (scale % 2)
    r = (np.arange(side) - (side - 1) / 2) / scale
    frequencies = frequencies_of(scale)
    # Both ends of an axis are the same frequency on the HR grid, and count half.
    ends = np.ones(len(frequencies))
    ends[[0, -1]] = 0.5
    phase = np.exp(-2j * np.pi * np.outer(r, frequencies)) * ends
    array = (phase @ transfer @ phase.T).real
    array = np.sign(array) * np.maximum(np.abs(array) - ripple * array.max(), 0)
    kernel = Kernel.normalised(array, scale, {"made_by": MADE_BY})
    margin = (kernel.size - max(kernel.support(_ENERGY), 3 * scale)) // 2
    if margin <= 0:
        return kernel
    return Kernel.normalised(kernel.array[margin:-margin, margin:-margin], scale, {"made_by": MADE_BY})
