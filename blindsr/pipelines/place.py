"""Whether a result lies where it should: beside its interpolated input, less what the kernel itself moves."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindsr.kernels import Kernel
from blindsr.ops import imresize
from blindsr.pipelines.alignment import find_shift

__all__ = ["PLACE_ALARM", "place_caution"]

PLACE_ALARM = 0.25  # HR px: half of the distance between two conventions at ×2
_WINDOW = 112  # LR px a side of what is compared
_LEAST = 24  # LR px; below it a shift is not told reliably
_TRIES = 3  # windows along each axis; the one with the strongest edges is taken
_FLAT = 0.01  # standard deviation below which a window has nothing to compare


def place_caution(lr: Tensor, sr: Tensor, kernel: Kernel) -> str:
    """Compare where the result lies with where it should.

    A kernel whose centre of mass is off the middle moves the result, rightly so if the kernel is right. That shift is
    expected where the convention of the kernel is known; where it was guessed, nothing is.

    Args:
        lr: (1, C, H, W).
        sr: (1, C, s·H, s·W) for the scale s of the kernel.
        kernel: The one that was used.

    Returns:
        A sentence for the user, or "".
    """
    scale = kernel.scale
    height, width = lr.shape[-2:]
    if min(height, width) < _LEAST or sr.shape[-2:] != (scale * height, scale * width):
        return ""
    top, left, side = _window(lr)
    if side[0] < _LEAST or side[1] < _LEAST:
        return ""
    piece = lr[:, :, top : top + side[0], left : left + side[1]].mean(1, keepdim=True).float()
    there = (slice(scale * top, scale * (top + side[0])), slice(scale * left, scale * (left + side[1])))
    if float(piece.std()) < _FLAT:
        return ""
    interpolated = _plane(imresize(piece, scale))
    found = np.array(find_shift(_plane(sr[:, :, there[0], there[1]].mean(1, keepdim=True)), interpolated))
    guessed = bool(kernel.provenance.get("convention_guessed"))
    expected = np.zeros(2) if guessed else kernel.centroid
    off = found - expected
    if np.abs(off).max() <= PLACE_ALARM:
        return ""
    where = f"the result lies ({off[0]:+.2f}, {off[1]:+.2f}) HR pixels (y, x) beside "
    if guessed:
        return (
            f"{where}the interpolated photograph, because the kernel does; its convention, "
            f"{kernel.provenance.get('convention')}, was a guess: name the right one with --kernel-convention, or move "
            "the kernel onto its centre with --recenter."
        )
    return f"{where}where the kernel puts it; look at it before you use it, and at the kernel with blindsr kernel show."


def _window(lr: Tensor) -> tuple[int, int, tuple[int, int]]:
    """Top, left and sides of the part with the strongest edges."""
    height, width = lr.shape[-2:]
    sides = min(height, _WINDOW), min(width, _WINDOW)
    best, place = -1.0, (0, 0)
    for top in np.unique(np.linspace(0, height - sides[0], _TRIES).astype(int)).tolist():
        for left in np.unique(np.linspace(0, width - sides[1], _TRIES).astype(int)).tolist():
            piece = lr[:, :, top : top + sides[0], left : left + sides[1]]
            # The weaker of the two directions: stripes say nothing along themselves.
            edges = min(float(piece.diff(dim=d).abs().mean()) for d in (-1, -2))
            if edges > best:
                best, place = edges, (top, left)
    return place[0], place[1], sides


def _plane(image: Tensor) -> NDArray[np.float64]:
    return image[0, 0].detach().double().cpu().numpy()
