"""How wide the sharpest edges of an image are: a bound on its blur that no spectrum knows.

No edge of a photograph is sharper than its blur. Of two neighbours across an ideal edge blurred by a Gaussian of σ, the
difference is erf(1/(2√2·σ)) of the whole step; the sharpest edges give the least σ.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfinv
from torch import Tensor

from blindsr.ops import luma

__all__ = ["CONTRASTS", "DIRECTIONS", "SHARES", "along", "edge_widths"]

# Directions (y, x) across the edges: → ↘ ↓ ↙.
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
CONTRASTS = (12 / 255, 30 / 255, 60 / 255)  # least steps of edges that are looked at
SHARES = (0.9, 0.98, 0.995)  # how many edges are wider than the width that is told
_REACH = 4  # neighbours on either side among which the whole step is looked for
_FEWEST = 200  # edges; where fewer have the contrast, the strongest 2 % of all places are taken


def edge_widths(lr: Tensor) -> NDArray[np.float64]:
    """σ of the sharpest edges, LR pixels: (contrasts, shares, directions).

    Args:
        lr: (1, C, H, W), [0, 1], sides over 10 px.
    """
    plane = luma(lr).cpu().numpy()
    widths = np.zeros((len(CONTRASTS), len(SHARES), len(DIRECTIONS)))
    for number, (down, right) in enumerate(DIRECTIONS):
        difference, step = _steps(plane, down, right)
        steepness = difference / np.maximum(step, 1e-6)
        for i, contrast in enumerate(CONTRASTS):
            seen = step > contrast
            if seen.sum() < _FEWEST:
                seen = step >= np.quantile(step, 0.98)
            steepest = np.clip(np.quantile(steepness[seen], SHARES), 0.01, 0.995)
            widths[i, :, number] = 0.5 * np.hypot(down, right) / (np.sqrt(2) * erfinv(steepest))
    return widths


def along(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variances of a covariance, order (y, x), along `DIRECTIONS`."""
    directions = np.array(DIRECTIONS, dtype=np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    variances: NDArray[np.float64] = np.einsum("di,ij,dj->d", directions, covariance, directions)
    return variances


def _steps(plane: NDArray[np.float64], down: int, right: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences of neighbours along a direction, and the range of the grey levels around them."""
    height, width = plane.shape
    margin = _REACH + 1

    def moved(by: int) -> NDArray[np.float64]:
        return plane[
            margin + by * down : height - margin + by * down, margin + by * right : width - margin + by * right
        ]

    lowest = highest = moved(1 - _REACH)
    for by in range(2 - _REACH, _REACH + 1):
        lowest, highest = np.minimum(lowest, moved(by)), np.maximum(highest, moved(by))
    return np.abs(moved(1) - moved(0)), highest - lowest
