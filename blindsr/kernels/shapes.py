"""Kernels that no Gaussian fits: even motion and defocus, exact at every tap.

A tap is what one detector sees of the shape: its overlap with a square around the tap. The square is one LR pixel
(s×s HR pixels), or one HR pixel for the bare shape. It equals the PSF of shape and detector at the tap's place.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.kernel import Kernel

__all__ = ["defocus", "motion"]

_NODES: Final = 48  # Gauss–Legendre nodes across a square: the disc's edge is smooth in between
_LARGEST: Final = 255  # px a side


def _frame(reach: float, scale: int) -> NDArray[np.float64]:
    """Tap positions along one axis of the smallest frame that holds ±reach HR pixels."""
    side = 2 * math.ceil(max(0.0, reach - scale / 2)) + scale
    if side > _LARGEST:
        raise KernelError(f"a kernel can be up to {_LARGEST} px a side, this one needs {side}; check its length.")
    return np.arange(side, dtype=np.float64) - (side - 1) / 2


def _check(value: float, what: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise KernelError(f"{what} must be a positive number of HR pixels, got {value:g}.")


def motion(length: float, angle: float, scale: int, *, detector: bool = True) -> Kernel:
    """Even motion along a straight line.

    A tap is the length of the line inside the square around it.

    Args:
        length: Of the line, HR pixels.
        angle: Degrees counter-clockwise from the x axis as seen.
        scale: Factor from LR to HR.
        detector: Whether the square is an LR pixel (what a camera sees), or an HR pixel (the line alone).

    Returns:
        A centred kernel.

    Raises:
        KernelError: The length is not positive, or longer than 255 px.

    Example:
        >>> motion(6, 0, 2).covariance.round(2).tolist()
        [[0.25, 0.0], [0.0, 3.42]]
    """
    _check(length, "the length of a motion")
    side = scale if detector else 1
    dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    c = _frame(length / 2 * max(abs(dx), abs(dy)) + side / 2, scale)
    low, high = np.full((len(c),) * 2, -length / 2), np.full((len(c),) * 2, length / 2)
    share = np.ones_like(low)
    # The line is cut at the square's two pairs of sides.
    for step, place in ((dy, c[:, None]), (dx, c[None, :])):
        if abs(step) < 1e-12:
            # A line along the edge of a square is half inside.
            share = share * np.where(np.isclose(np.abs(place), side / 2), 0.5, np.abs(place) < side / 2)
            continue
        ends = np.stack([(place - side / 2) / step, (place + side / 2) / step])
        low, high = np.maximum(low, ends.min(0)), np.minimum(high, ends.max(0))
    weights = share * np.clip(high - low, 0, None)
    origin = {"made_by": "motion", "length": length, "angle": angle, "detector": detector}
    return Kernel.normalised(weights, scale, origin)


def defocus(diameter: float, scale: int, *, detector: bool = True) -> Kernel:
    """The disc of light of a lens that is out of focus.

    A tap is the area of the disc inside the square around it.

    Args:
        diameter: Of the disc, HR pixels.
        scale: Factor from LR to HR.
        detector: Whether the square is an LR pixel (what a camera sees), or an HR pixel (the disc alone).

    Returns:
        A centred kernel.

    Raises:
        KernelError: The diameter is not positive, or larger than 255 px.

    Example:
        >>> defocus(6, 2).sigmas[0].__round__(1)
        1.6
    """
    _check(diameter, "the diameter of a defocus")
    side, radius = (scale if detector else 1), diameter / 2
    c = _frame(radius + side / 2, scale)
    nodes, shares = np.polynomial.legendre.leggauss(_NODES)
    # Over each square: exact along y, Gauss along the part of x that the disc reaches.
    left, right = np.clip(c - side / 2, -radius, radius), np.clip(c + side / 2, -radius, radius)
    x = (left + right)[:, None] / 2 + (right - left)[:, None] / 2 * nodes
    half = np.sqrt(np.clip(radius**2 - x**2, 0, None))
    top, bottom = (c - side / 2)[:, None, None], (c + side / 2)[:, None, None]
    heights = np.clip(np.minimum(bottom, half) - np.maximum(top, -half), 0, None)
    weights = (heights * shares).sum(-1) * (right - left) / 2
    origin = {"made_by": "defocus", "diameter": diameter, "detector": detector}
    return Kernel.normalised((weights + weights.T) / 2, scale, origin)
