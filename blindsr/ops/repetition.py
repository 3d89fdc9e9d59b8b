"""Pixels that were repeated: images that were enlarged so, and colours of half the resolution.

An image whose pixels were repeated shows stairs, which sharpening takes for the edges of the scene. Video and most
JPEGs have one sample of colour for 2×2 pixels (4:2:0), for 2×1 (4:2:2) or 4×1 (4:1:1). A decoder that repeats it leaves
such stairs along coloured edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.ops.color import from_planes, to_planes

__all__ = ["MARGIN", "RepeatedChroma", "find_repeated_chroma", "find_repetition", "interpolated_chroma"]

_LONGEST = 4  # px, of a block
_PERIOD = 16  # px after which the blocks of a JPEG begin again, whose colours have steps there alone
MARGIN = 4 * _LONGEST  # px of the image on which an interpolated colour depends, on either side, at most
_CLIPPED = 1 / 255  # colours of pixels as near to black or white as this are no longer those of their block
# Mean step of chroma between blocks: over that within them (photographs have 0.9 to 1.1), and at least. The same ratio
# of luma is larger where the whole image was enlarged by repetition (1.7 beside colours that the decoder clipped).
_MIN_RATIO, _MIN_RATIO_BESIDE, _MIN_STEP, _MAX_LUMA_RATIO = 1.5, 1.2, 0.3 / 255, 3.0
# In a drawing on a grid, what has one colour has one luma. Repeated chroma does not vary within blocks where luma does:
# of pairs of pixels whose luma differs by more than this, the ratio of chroma is compared with that of luma (drawings
# with edges at even columns have 0.9 to 1.2, decoded video and JPEG 1e5). Such pairs within blocks are at least this
# share of those between them (0.4 and more; in drawings of exact cells there are none), and at least this number.
_LUMA_STEP, _MIN_RATIO_TO_LUMA, _MIN_SHARE_WITHIN, _MIN_PAIRS = 1.5 / 255, 1.3, 0.1, 20

# Sides of the blocks of an image that was enlarged by repetition, and how many of them it has at least. Mean step
# between blocks over that within them, of which there is some where the image was compressed since; and the least one.
# A few lines of a drawing, or the edges of its larger cells, lie at multiples of a number as well, so that all but this
# share of the borders have this part of the step. Between cells of twice or three times the side, half have none.
_SIDES, _BLOCKS, _MIN_IMAGE_RATIO, _MIN_IMAGE_STEP, _FLAT, _MIN_PART = (2, 3, 4, 5, 6), 4, 5.0, 0.05 / 255, 0.4, 0.4
# Correlation of the steps on both sides of a border with that across it, from which a filter has spread the edges of
# cells: cells that were reduced have 0.95 and more, repeated pixels that were compressed since -0.2 to 0.3. They are a
# drawing where they are larger than this, or where their colours are few, as those of a QR code: then no more than this
# share of the steps is between these parts of their root mean square (photographs have 0.2 and more). Other small cells
# are the pixels of a picture, and what is estimated from them is no kernel.
_SPREAD, _LARGEST_PIXEL, _MAX_MIDDLE, _MIDDLE = 0.7, 4, 0.12, (0.15, 0.7)


@dataclass(frozen=True)
class RepeatedChroma:
    """Blocks of pixels that have one colour, but for their luma.

    Args:
        sides: Rows and columns of a block: 1, 2 or 4.
        phases: Row and column of the image at which a block begins.
    """

    sides: tuple[int, int]
    phases: tuple[int, int]


def find_repetition(plane: Tensor) -> tuple[int, int]:
    """How often each pixel of an image was repeated, along the columns and along the rows; (1, 1) for another image.

    Args:
        plane: (H, W), [0, 1].
    """
    rows, columns = (_repetition(each) for each in (plane.mT, plane))
    return rows, columns


def _repetition(plane: Tensor) -> int:
    """How often each column of a plane, (H, W), was repeated."""
    steps = plane.diff(dim=-1)
    sizes = steps.abs().mean(0)
    place = torch.arange(1, len(sizes) + 1, device=plane.device)
    for side in _SIDES:
        if len(sizes) < 2 * _BLOCKS * side:
            break
        means = [float(sizes[place % side == phase].mean()) for phase in range(side)]
        phase = max(range(side), key=lambda phase: means[phase])
        is_border = place % side == phase
        least = max(_MIN_IMAGE_STEP, _MIN_IMAGE_RATIO * max(means[:phase] + means[phase + 1 :]))
        if means[phase] > least and float(sizes[is_border].quantile(_FLAT)) > _MIN_PART * least:
            return 1 if _is_drawn(steps, is_border, side) else side
    return 1


def _is_drawn(steps: Tensor, is_border: Tensor, side: int) -> bool:
    """Whether cells of a side, with steps (H, W − 1), are those of a drawing that was reduced by a filter.

    The filter has spread the edges: the steps next to a border are a part of those across it.
    """
    sizes = steps[:, is_border].abs()
    least, largest = (part * sizes.square().mean().sqrt() for part in _MIDDLE)
    if side <= _LARGEST_PIXEL and float(((sizes > least) & (sizes < largest)).double().mean()) > _MAX_MIDDLE:
        return False
    across = functional.pad(steps * is_border, (1, 1))
    across = across[:, :-2] + across[:, 2:]
    beside = functional.pad(is_border, (1, 1))
    beside = (beside[:-2] | beside[2:]) & ~is_border
    within, across = steps[:, beside], across[:, beside]
    norm = float((within.square().sum() * across.square().sum()).sqrt())
    return norm > 0 and abs(float((within * across).sum())) > _SPREAD * norm


def find_repeated_chroma(parts: Tensor, origins: Sequence[tuple[int, int]]) -> RepeatedChroma | None:
    """Find the blocks of one colour in an image.

    Args:
        parts: Parts of an image, (N, 3, h, w), [0, 1].
        origins: Row and column of the first pixel of each part in the image.

    Returns:
        The blocks; None of an image without any, of one without colours, and of one whose luma has the same blocks.
    """
    planes = torch.stack([to_planes(part[None])[:, 0] for part in parts])  # (N, 3, h, w)
    inside = ((parts > _CLIPPED) & (parts < 1 - _CLIPPED)).all(1)
    turned = planes.mT, inside.mT
    steps = [_Steps.of(*each, [at[axis] for at in origins]) for axis, each in enumerate((turned, (planes, inside)))]
    found = [_block(means, _MIN_RATIO) for means in steps]
    if all(side == 1 for side, _ in found):
        return None
    # With blocks along one axis, a weaker sign of those along the other one will do.
    (rows, top), (columns, left) = (
        own if own[0] > 1 else _block(means, _MIN_RATIO_BESIDE) for own, means in zip(found, steps, strict=True)
    )
    return RepeatedChroma((rows, columns), (top, left))


@dataclass(frozen=True)
class _Steps:
    """Steps from column to column of an image, by the column modulo 16: 16 numbers each."""

    luma: list[float]  # mean, [0, 1] units
    chroma: list[float]
    varied: list[tuple[float, float, float]]  # of the pairs whose luma differs: number, sum of luma, sum of chroma

    @classmethod
    def of(cls, planes: Tensor, inside: Tensor, starts: Sequence[int]) -> "_Steps":
        """The steps along the rows of planes, (N, 3, h, w), as far as both pixels are unclipped, (N, h, w)."""
        steps, both = planes.diff(dim=-1).abs(), (inside[..., 1:] & inside[..., :-1]).to(planes)
        steps = torch.stack([steps[:, 0], steps[:, 1:].mean(1)], 1) * both[:, None]
        luma, chroma = _by_residue(steps.sum(2), both.sum(1), starts, _PERIOD)
        differs = (steps[:, 0] > _LUMA_STEP).to(planes)
        sums = torch.cat([differs[:, None], steps * differs[:, None]], 1).sum(2)
        one = torch.full_like(sums[:, 0], 1 / sums[:, 0].numel())  # weights below 1 in all: sums, not means
        number, of_luma, of_chroma = _by_residue(sums, one, starts, _PERIOD)
        return cls(luma, chroma, list(zip(number, of_luma, of_chroma, strict=True)))

    def has_varied_blocks(self, side: int, phase: int) -> bool:
        """Whether luma varies within blocks in which chroma does not, as it does not in blocks of a drawing."""
        between, within = (
            [sum(each) for each in zip(*chosen, strict=True)]
            for chosen in (
                [each for residue, each in enumerate(self.varied) if (residue % side == phase) == is_between]
                for is_between in (True, False)
            )
        )
        if within[0] < max(_MIN_PAIRS, _MIN_SHARE_WITHIN * between[0]):
            return False
        (_, luma, chroma), (_, luma_within, chroma_within) = between, within
        return bool(chroma * luma_within > _MIN_RATIO_TO_LUMA * chroma_within * luma)


def _by_residue(steps: Tensor, weights: Tensor, starts: Sequence[int], period: int) -> list[list[float]]:
    """Means of steps, (N, C, w − 1), with weights, (N, w − 1), by the column right of a step modulo a period."""
    sums, counts = steps.new_zeros(steps.shape[1], period), steps.new_zeros(period)
    place = torch.arange(1, steps.shape[-1] + 1, device=steps.device)
    for part, weight, start in zip(steps, weights, starts, strict=True):
        residue = (place + start) % period
        sums.index_add_(1, residue, part)
        counts.index_add_(0, residue, weight)
    means: list[list[float]] = (sums / counts.clamp_min(1)).tolist()
    return means


def _ratio(means: Sequence[float], side: int, phase: int) -> tuple[float, float]:
    """The smallest mean step between blocks, by the residues of their columns, and its ratio to the largest within."""
    between = [mean for residue, mean in enumerate(means) if residue % side == phase]
    within = [mean for residue, mean in enumerate(means) if residue % side != phase]
    return min(between), min(between) / max(*within, 1e-6)


def _block(steps: _Steps, min_ratio: float) -> tuple[int, int]:
    """Side of the blocks of one colour along an axis, and the column at which one begins; 1 for none."""
    for side in (_LONGEST, _LONGEST // 2):
        for phase in range(side):
            step, of_chroma = _ratio(steps.chroma, side, phase)
            if step <= _MIN_STEP or of_chroma <= min_ratio or _ratio(steps.luma, side, phase)[1] >= _MAX_LUMA_RATIO:
                continue
            if steps.has_varied_blocks(side, phase):
                return side, phase
    return 1, 0


def interpolated_chroma(window: Tensor, found: RepeatedChroma, origin: tuple[int, int]) -> Tensor:
    """Interpolate the colours of blocks between their centres; luma stays as it is.

    Args:
        window: (1, 3, h, w), [0, 1]: a part of the image with `MARGIN` more pixels where the image goes on.
        found: From `find_repeated_chroma`.
        origin: Row and column of the window's first pixel in the image.

    Returns:
        (1, 3, h, w).
    """
    planes = to_planes(window)
    before = [(start - phase) % side for start, phase, side in zip(origin, found.phases, found.sides, strict=True)]
    sizes = [n + first for n, first in zip(window.shape[-2:], before, strict=True)]
    after = [-size % side for size, side in zip(sizes, found.sides, strict=True)]
    padded = functional.pad(planes[1:], (before[1], after[1], before[0], after[0]), mode="replicate")
    means = functional.avg_pool2d(padded, found.sides)
    chroma = functional.interpolate(means, size=padded.shape[-2:], mode="bicubic", align_corners=False)
    chroma = chroma[..., before[0] : before[0] + window.shape[-2], before[1] : before[1] + window.shape[-1]]
    return from_planes(torch.cat([planes[:1], chroma])).clamp(0, 1)
