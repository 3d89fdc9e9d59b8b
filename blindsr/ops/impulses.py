"""Impulses: single pixels whose value says nothing about the scene, as of salt and pepper noise or of hot pixels."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["MARGIN", "Impulses", "find_impulses", "without_impulses"]

MARGIN = 2  # px around a pixel; radius of the neighbourhood that decides whether it is an impulse
_MIN_HEIGHT = 25 / 255  # difference from the surroundings from which a pixel is a spike
_SPREADS = 3.0  # … and in widths of the distribution of the values around it
# A neighbour of an impulse differs from the surroundings no more than they differ from each other. That of a star has
# a share of its height, because light passes through a lens.
_LEAK, _LEAK_SPREADS = 0.05, 0.6
_MIN_COUNT, _MIN_SHARE = 8, 2e-4  # fewer impulses are glints and lights of the scene
_MIN_ISOLATED = 0.7  # share of the spikes that are single pixels; stars and text have others as well
_MAX_EVEN = 0.3  # share of the impulses on exactly constant ground, above which they are drawn, or counted photons
# Of the share of cells with impulses: what it may differ from that by chance, if that scatters by three deviations.
_CLUSTERED, _REGULAR, _SCATTER = 0.2, 0.05, 1.0
# Impulses of one value (black, white): the largest distance from it, the share of them that have it, the number of
# such neighbours that an impulse may have, its smallest difference from all others, and the median of that over the
# difference of these from each other.
_SAME, _MIN_SAME, _MAX_TOGETHER, _MIN_DIFFERENCE, _MIN_RELATIVE = 2.5 / 255, 0.8, 2, 12 / 255, 1.0
_MAX_OF_VALUE = 0.25  # share of the pixels that may be black or white at all

_NEAR = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
_RING = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if max(abs(y), abs(x)) == 2]


@dataclass(frozen=True)
class Impulses:
    """What is known of the impulses of a band.

    Args:
        share: Share of the pixels that are impulses.
        values: Values that impulses have: black, white.
        of_any_value: Whether single pixels of other values are impulses as well.
    """

    share: float
    values: tuple[float, ...]
    of_any_value: bool


@dataclass(frozen=True)
class _Spikes:
    """Pixels that stand out of a plane."""

    index: Tensor  # (N, 3): plane, y, x
    value: Tensor  # (N,)
    height: Tensor  # over the median of the ring around, with its sign
    isolated: Tensor  # whether all eight neighbours are as their surroundings
    even: Tensor  # whether the surroundings are exactly constant


def find_impulses(planes: Tensor) -> Impulses | None:
    """Find out whether a band has impulses, on parts of it.

    An impulse is a single pixel that differs from its eight neighbours by far more than these differ from each other.
    A few such pixels are glints. Stars have neighbours with light of their own, text has strokes that end, the dots of
    drawings, of dithering and of counted photons lie on constant ground, and glitter lies on a subject: none of them is
    an impulse.

    Args:
        planes: Parts of the band, (N, 1, h, w), [0, 1], 8 px a side or more.

    Returns:
        None where there are none.
    """
    spikes = _spikes(planes)
    found = spikes.isolated
    of_any_value = (
        int(found.sum()) >= _MIN_ISOLATED * len(found)
        and float(spikes.even[found].double().mean()) <= _MAX_EVEN
        and _is_by_chance(spikes.index[found], planes)
    )
    # Fine texture has spikes of its own, but hardly one that is black or white, and alone as that.
    values = tuple(
        value
        for value, sign in ((float(planes.min()), -1), (float(planes.max()), 1))
        if (of_any_value and _have_value(spikes, sign, value))
        or _has_impulses_of(planes, value, int((found & (spikes.height.sign() == sign)).sum()))
    )
    if not of_any_value and not values:
        return None
    impulses = Impulses(0.0, values, of_any_value)
    return replace(impulses, share=float(_is_impulse(planes, impulses).double().mean()))


def _have_value(spikes: _Spikes, sign: int, value: float) -> bool:
    """Whether nearly all dark (sign −1) or bright single pixels have a value."""
    own = spikes.value[spikes.isolated & (spikes.height.sign() == sign)]
    return len(own) >= _MIN_COUNT and float(((own - value).abs() <= _SAME).double().mean()) >= _MIN_SAME


def _has_impulses_of(planes: Tensor, value: float, all_alone: int) -> bool:
    """Whether the pixels of a value, the least or the largest, are impulses: alone, and far from all around them.

    `all_alone` is the number of single pixels, darker or brighter than their surroundings, of any value.
    """
    index = ((planes[:, 0] - value).abs() <= _SAME).nonzero()
    if not _MIN_COUNT <= len(index) <= _MAX_OF_VALUE * planes.numel():
        return False
    alike, difference, near = _of_value(planes, index, value)
    alone = (alike == 0) & (difference >= _MIN_HEIGHT)
    if int(alone.sum()) < max(_MIN_ISOLATED * int((alike <= _MAX_TOGETHER).sum()), all_alone / 2):
        return False
    spread = near[alone].amax(1) - near[alone].amin(1)
    if float((spread == 0).double().mean()) > _MAX_EVEN or not _is_by_chance(index[alone], planes):
        return False
    # The largest values of strong noise stand out no more than their neighbours differ from each other.
    return float((difference[alone] / spread.clamp_min(_SAME)).median()) >= _MIN_RELATIVE


def _of_value(planes: Tensor, index: Tensor, value: float) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel of a value: the number of neighbours that have it, the distance of the others, the neighbours."""
    near = _at(planes, index, _NEAR)
    is_same = (near - value).abs() <= _SAME
    number, y, x = index.unbind(1)
    own = planes[number, 0, y, x]
    return is_same.sum(1), (near - own[:, None]).abs().masked_fill(is_same, torch.inf).amin(1), near


def _at(planes: Tensor, index: Tensor, shifts: list[tuple[int, int]]) -> Tensor:
    """The pixels around some, (N, shifts), the border repeated."""
    number, y, x = index.unbind(1)
    height, width = planes.shape[-2:]
    return torch.stack(
        [planes[number, 0, (y + dy).clamp(0, height - 1), (x + dx).clamp(0, width - 1)] for dy, dx in shifts], 1
    )


def without_impulses(planes: Tensor, impulses: Impulses) -> Tensor:
    """Replace the impulses of a band, (N, 1, h, w), by the median of their neighbours; what else there is, stays."""
    found = _is_impulse(planes, impulses)
    if not bool(found.any()):
        return planes
    index = found[:, 0].nonzero()
    number, y, x = index.unbind(1)
    near, is_bad = _at(planes, index, _NEAR), _at(found, index, _NEAR)
    # The median of those that are no impulses themselves, at least six.
    middle = near.masked_fill(is_bad, torch.nan).nanmedian(1).values
    cleaned = planes.clone()
    cleaned[number, 0, y, x] = torch.where(middle.isnan(), near.median(1).values, middle)
    return cleaned


def _spikes(planes: Tensor) -> _Spikes:
    """The spikes of a band, without its outermost pixels, whose surroundings are not known."""
    height, width = planes.shape[-2:]
    own = planes[:, 0]
    largest, least = torch.full_like(own, -torch.inf), torch.full_like(own, torch.inf)
    second_largest, second_least = largest.clone(), least.clone()
    padded = functional.pad(planes, (1,) * 4, mode="replicate")[:, 0]
    for dy, dx in _NEAR:
        near = padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        second_largest = torch.maximum(second_largest, torch.minimum(largest, near))
        largest = torch.maximum(largest, near)
        second_least = torch.minimum(second_least, torch.maximum(least, near))
        least = torch.minimum(least, near)
    # One neighbour may be as far out: two adjacent impulses, or the end of a stroke.
    is_open = (own > second_largest + _MIN_HEIGHT / 2) | (own < second_least - _MIN_HEIGHT / 2)
    is_open[:, :MARGIN], is_open[:, height - MARGIN :] = False, False
    is_open[..., :MARGIN], is_open[..., width - MARGIN :] = False, False
    index = is_open.nonzero()
    number, y, x = index.unbind(1)
    ring, around = _at(planes, index, _RING).sort(1).values, _at(planes, index, _NEAR)
    middle = (ring[:, 7] + ring[:, 8]) / 2
    spread = ring[:, 13] - ring[:, 2]
    value = own[number, y, x]
    rise = value - middle
    is_spike = rise.abs() >= torch.maximum(_SPREADS * spread, torch.full_like(spread, _MIN_HEIGHT))
    leak = (around - middle[:, None]).abs().amax(1)
    isolated = leak <= _LEAK * rise.abs() + _LEAK_SPREADS * spread
    even = (around.amax(1) == around.amin(1)) & (ring[:, 14] == ring[:, 1])
    return _Spikes(index[is_spike], value[is_spike], rise[is_spike], isolated[is_spike], even[is_spike])


def _is_impulse(planes: Tensor, impulses: Impulses) -> Tensor:
    """Whether each pixel of a band is an impulse, (N, 1, h, w)."""
    found = torch.zeros_like(planes, dtype=torch.bool)
    if impulses.of_any_value:
        spikes = _spikes(planes)
        number, y, x = spikes.index[spikes.isolated].unbind(1)
        found[number, 0, y, x] = True
    for value in impulses.values:
        index = ((planes[:, 0] - value).abs() <= _SAME).nonzero()
        alike, difference, _ = _of_value(planes, index, value)
        number, y, x = index[(alike <= _MAX_TOGETHER) & (difference >= _MIN_DIFFERENCE)].unbind(1)
        found[number, 0, y, x] = True
    return found


def _is_by_chance(index: Tensor, planes: Tensor) -> bool:
    """Whether pixels are enough of them, and lie as by chance: not in clusters, and not in a regular pattern.

    Of as many square cells as there are pixels, chance fills 63 %.
    """
    count, pixels = len(index), planes.numel()
    if count < max(_MIN_COUNT, _MIN_SHARE * pixels):
        return False
    side = math.sqrt(pixels / count)
    height, width = planes.shape[-2:]
    rows, columns = (max(1, round(length / side)) for length in (height, width))
    cells = (index[:, 0] * rows + index[:, 1] * rows // height) * columns + index[:, 2] * columns // width
    number = len(planes) * rows * columns
    expected = 1 - (1 - 1 / number) ** count
    scatter = _SCATTER / math.sqrt(number)
    filled = int(torch.bincount(cells, minlength=number).count_nonzero()) / number
    return expected - _CLUSTERED - scatter <= filled <= expected + _REGULAR + scatter
