"""Dark strokes on an even ground, such as text, charts and line drawings: how far they can be sharpened without halos.

Nothing is brighter than the paper. A kernel that is wider than the blur makes the paper beside a stroke brighter than
the paper elsewhere, by more the wider it is, and one that is narrower does not. So the ground tells the width of the
blur, which a photograph does not: there, what lies beside an edge may have any brightness.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from blindsr.ops.ground import ground_of

__all__ = ["stroke_sigma"]

_Array = NDArray[np.float64]

# A drawing: standard deviation of the ground, grey levels, by its smaller deviations, at most (photographs and
# scans, whose paper has noise, have more); contrast of the darkest strokes, at least; share of what is not ground
# that is darker than it, and that lies within 4 px of it, at least.
_MAX_SPREAD, _MIN_INK, _MIN_DARK, _MIN_THIN, _THIN = 1.5, 40.0, 0.9, 0.8, 4
_INK = 0.995  # quantile of the contrast that is that of strokes
# Share of the deviations of the ground that count, which are not those beside a stroke; their mean for noise of σ 1.
_SMALLER, _MEAN_OF_SMALLER = 0.8, 0.544
_INSIDE = 2  # px from the strokes from which the ground shows its value and its noise
_SAME_PAPER = 1.5  # grey levels from the median, up to which samples are averaged
_SIDE, _MARGIN = 512, 16  # px, of the part with most ink that is examined, and of what is mirrored around it
_NEAR, _NEAR_INK = 5, 0.4  # px, side of the square around strokes of this share of the contrast, where halos are seen
_HALO = 0.02  # root mean square of the halos over the contrast, at which the width is that of the blur
_TO_BLUR = 1.2  # that blur over the width at which halos of this size appear
_LARGEST, _STEPS = 1.7, 8  # LR px; of the bisection
_LEAST_SPREAD, _REGULARISATION = 0.5, 0.3  # of the inverse filter: grey levels; a share of noise over contrast, squared


def stroke_sigma(plane: Tensor) -> float:
    """The standard deviation of the Gaussian blur of a drawing.

    Args:
        plane: (H, W), grey levels from 0 to 255.

    Returns:
        σ in px, to about a tenth, between 0.4 and 1.2; less is that of sharp strokes, 0.0 of no drawing.

    References:
        Ours. That the ground of text has one value is the prior of Pan, Hu, Su, Yang, "Deblurring text images via
        L0-regularized intensity and gradient prior", CVPR 2014.
    """
    ground = ground_of(plane[None, None] / 255)
    if ground is None:
        return 0.0
    image, is_ground = plane.double().cpu().numpy(), ground[0, 0].cpu().numpy()
    inside = ndimage.distance_transform_cdt(is_ground, "chessboard") > _INSIDE
    levels = image[inside if inside.any() else is_ground]
    # Rounded samples are of two values where that of the paper lies between them.
    paper = float(levels[np.abs(levels - np.median(levels)) <= _SAME_PAPER].mean())
    below, strokes = paper - image, ~is_ground
    ink = float(np.quantile(below, _INK))
    if ink < _MIN_INK or not strokes.any() or (below[strokes] > 0).mean() < _MIN_DARK:
        return 0.0
    deviations = np.sort(np.abs(levels - paper))
    spread = float(deviations[: math.ceil(_SMALLER * len(deviations))].mean()) / _MEAN_OF_SMALLER
    distances = ndimage.distance_transform_cdt(strokes, "chessboard")[strokes]
    if spread > _MAX_SPREAD or (distances <= _THIN).mean() < _MIN_THIN:
        return 0.0
    part = _part_with_most(below.clip(min=0))
    return _TO_BLUR * _largest_without_halos(below[part], ink, spread)


def _part_with_most(ink: _Array) -> tuple[slice, slice]:
    """The part of an image, of `_SIDE` px or as large as the image, with most ink."""
    height, width = (min(_SIDE, side) for side in ink.shape)
    total = np.pad(ink.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def _largest_without_halos(below: _Array, ink: float, spread: float) -> float:
    """The largest σ, px, of a Gaussian whose inverse leaves halos of less than `_HALO` beside strokes."""
    padded = np.pad(-below, _MARGIN, "reflect")
    spectrum = np.fft.rfft2(padded)
    squares = np.fft.fftfreq(padded.shape[0])[:, None] ** 2 + np.fft.rfftfreq(padded.shape[1]) ** 2
    regularisation = _REGULARISATION * (max(spread, _LEAST_SPREAD) / ink) ** 2
    near = ndimage.maximum_filter(below, _NEAR) > _NEAR_INK * ink
    inner = slice(_MARGIN, -_MARGIN)
    least, largest = 0.0, _LARGEST
    for _ in range(_STEPS):
        sigma = (least + largest) / 2
        transfer = np.exp(-2 * (math.pi * sigma) ** 2 * squares)
        inverse = np.fft.irfft2(spectrum * transfer / (transfer**2 + regularisation), padded.shape)
        halos = (inverse[inner, inner][near] - 2 * spread).clip(min=0)
        if math.sqrt(float(np.mean(halos**2))) > _HALO * ink:
            largest = sigma
        else:
            least = sigma
    return least
