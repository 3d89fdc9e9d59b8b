"""What was put over a photograph: text, a time stamp, a watermark. It is sharp where the photograph is blurred.

Its edges are the strongest of the image, so that the tiles with the most texture are those with text in them, and the
blur that they show is that of a renderer. They are filled from around them before anything is measured.
"""

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.ops.geometry import local_maximum

__all__ = ["without_overlay"]

_AREA = 7  # px, side of the area in which a step is compared with the range of values
_MIN_RANGE = 40.0  # grey levels; a smaller range is no edge of text
# Step between neighbours over the range: from the first value on it is no edge of a blurred photograph; the strongest
# hundredth of all other edges must stay below the second. A blur of σ 0.7 LR px has 0.5 to 0.6, sharp edges 0.7 to 0.9.
_SHARP, _BLURRED = 0.7, 0.6
_QUANTILE, _SAMPLES = 0.99, 200_000
# Number of such steps from which they are text and not some edges of the photograph, whose loss would cost its kernel;
# and their share among all edges up to which they are laid over a photograph.
_MIN_STEPS, _MAX_SHARE = 60, 0.25
# Text has one colour: share of its edges that reach one value, ± grey levels, and share of the image that has this
# value, at most; the sky between stars and a sheet of paper have more.
_COLOUR, _MIN_COLOUR_SHARE, _MAX_COLOUR_AREA = 4, 0.75, 0.15
_STROKE, _MAX_THICK = 7, 0.5  # px, of which strokes are thinner, and share of this colour that may be thicker
_WEAK, _NEAR = 0.5, 8  # smaller steps, at most so many px from a sharp one, belong to the text as well
_MARGIN, _FAR = 3, 3  # px, by which what is filled reaches beyond them, and beyond which edges are others
_MAX_FILLED = 0.35  # share of the image, at most
_MIN_OTHERS = 0.5  # number of other edges over that of sharp steps, at least: there is a photograph
# Of the weights of a filled pixel's surroundings: σ and radius, px, and their sum from which it is filled.
_FILL, _RADIUS, _MIN_REACHED = 2.0, 6, 1e-3


def without_overlay(plane: Tensor) -> tuple[Tensor, float]:
    """An image without text that is sharper than the photograph below it.

    Args:
        plane: (H, W), float32, grey levels from 0 to 255; sides of 7 px or more.

    Returns:
        The image, in which the edges of the text are filled from around them; and the share of its pixels that were.
        The image itself and 0.0 where all edges may be those of one photograph.
    """
    image = plane[None, None]
    steps = torch.zeros_like(image)
    steps[..., :-1, :] = image.diff(dim=-2).abs()
    steps[..., :-1] = torch.maximum(steps[..., :-1], image.diff(dim=-1).abs())
    if int((steps > _SHARP * _MIN_RANGE).sum()) < _MIN_STEPS:
        return plane, 0.0
    high, low = local_maximum(image, _AREA), -local_maximum(-image, _AREA)
    is_edge = high - low > _MIN_RANGE
    relative = steps / (high - low).clamp_min(1)
    is_sharp = is_edge & (relative > _SHARP)
    if not _MIN_STEPS <= int(is_sharp.sum()) <= _MAX_SHARE * int(is_edge.sum()):
        return plane, 0.0
    others = relative[is_edge & ~_near(is_sharp, _FAR)]
    if len(others) < _MIN_OTHERS * int(is_sharp.sum()):
        return plane, 0.0
    if float(others[:: 1 + len(others) // _SAMPLES].quantile(_QUANTILE)) > _BLURRED:
        return plane, 0.0
    if not any(_is_of_one_colour(extreme[is_sharp], plane) for extreme in (high, low)):
        return plane, 0.0  # the subject in focus, before a blurred background
    hole = _near(is_edge & (relative > _WEAK) & _near(is_sharp, _NEAR), _MARGIN)
    share = float(hole.float().mean())
    if share > _MAX_FILLED:
        return plane, 0.0
    filled = plane.clone()
    # Only the part with text in it is computed on.
    part = tuple(
        slice(max(0, int(places.min()) - 2 * _RADIUS), int(places.max()) + 2 * _RADIUS + 1)
        for places in hole[0, 0].nonzero(as_tuple=True)
    )
    filled[part] = _filled(image[..., part[0], part[1]], hole[..., part[0], part[1]])[0, 0]
    return filled, share


def _filled(image: Tensor, hole: Tensor) -> Tensor:
    """An image, (1, 1, h, w), whose pixels in a hole are weighted means of those around, from its rim inwards."""
    missing = hole
    while bool(missing.any()):
        weights = _blurred((~missing).float())
        means = _blurred(torch.where(missing, 0.0, image)) / weights.clamp_min(1e-6)
        reached = missing & (weights > _MIN_REACHED)
        image, missing = torch.where(reached, means, image), missing & ~reached
    return image


def _near(mask: Tensor, distance: int) -> Tensor:
    return local_maximum(mask.float(), 2 * distance + 1) > 0


def _is_of_one_colour(values: Tensor, plane: Tensor) -> bool:
    """Whether most values are within ±4 grey levels of one, which is that of thin strokes and not of the ground."""
    counts = torch.histc(values, 256, 0, 255)[None, None]
    near = functional.avg_pool1d(counts, 2 * _COLOUR + 1, 1, _COLOUR)[0, 0] * (2 * _COLOUR + 1)
    if float(near.max()) < _MIN_COLOUR_SHARE * len(values):
        return False
    coloured = ((plane - int(near.argmax())).abs() <= _COLOUR)[None, None]
    thick = coloured & _near(~_near(~coloured, _STROKE // 2), _STROKE // 2)
    area = int(coloured.sum())
    return area <= _MAX_COLOUR_AREA * plane.numel() and int(thick.sum()) <= _MAX_THICK * area


def _blurred(image: Tensor) -> Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-_RADIUS, _RADIUS + 1) / _FILL) ** 2)
    taps = taps / taps.sum()
    rows = functional.conv2d(image, taps[None, None, :, None], padding=(_RADIUS, 0))
    return functional.conv2d(rows, taps[None, None, None], padding=(0, _RADIUS))
