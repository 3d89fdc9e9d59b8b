"""Letterbox: bars of one colour, pillars, a frame. The content between them is upscaled as an image of its own.

The edge of a bar that was drawn onto the pixels of a photograph is sharper than its blur allows. An upscaler that
undoes that blur turns it into stripes on both sides. The content area is therefore cut out, and continued beyond its
borders as every image is; the bars are repeated pixels. An edge that is as soft as the photograph, such as that of a
wall, is a part of the content.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from blindsr.ops.resize import RowResizer, imresize_rows
from blindsr.ops.windows import PartSource, Source, Window

__all__ = ["MIN_BAR", "ContentArea", "Placement", "content_of", "flat_run"]

_RANGE = 4 / 255  # largest range of a band along a line of a bar, after compression and rounding
_STEP = 3 / 255  # largest difference between the mean of a line of a bar and that of its outermost one
MIN_BAR = 3  # lines; one or two are the border of a scan
_MIN_SIDE = 16  # px that must remain between bars
_MIN_CONTRAST = 8 / 255  # mean difference between a bar and the first line beside it
_MIN_SHARE = 0.75  # of the first lines that differs from the bar: less is lettering, or a drawing, on an empty page
_BEHIND = 16  # of these lines
# Lines after those of one colour that may belong to the bar: those of a block of JPEG with chroma at half size, in
# which the compression has spread the image over the bar, and one that both share.
_EDGE = 17
_LIKE_LARGEST = 0.7  # step of a bar's edge over the largest step, at least
_MAX_BLUR = 0.08  # share of the image in the line two before its first: an edge that is softer was blurred with it
# The same in the line before its first, which bar and image share: the bar is part of what was photographed or reduced.
_MAX_MIXED = 0.2
_MIN_FIRST = 0.8  # share of the image in its first line
_FIRST_LINES = 16  # that are read to find out whether there is a bar
_SIDES = ("top", "bottom", "left", "right")
_ROWS = 256  # of the result that are painted together


class Placement(NamedTuple):
    """Where the content area lies in the result of its image, as `imresize` needs it."""

    size: tuple[int, int]  # height and width in the result
    scale: tuple[float, float]  # output over input, (vertical, horizontal)
    offset: tuple[float, float]  # (vertical, horizontal), pixels of the output


class ContentArea(PartSource):
    """The part of an image that is no bar, as a source: all of it, where there is none.

    Args:
        source: The image.
        rows: Of the content area.
        columns: Of the content area.

    Attributes:
        window_in_image: These rows and columns.
    """

    def __init__(self, source: Source, rows: slice, columns: slice) -> None:
        super().__init__(source, rows, columns)
        self.window_in_image = rows, columns
        self._size = source.shape[1:]

    def resizer(self, scale: int, out_size: tuple[int, int]) -> RowResizer:
        """From a model's result of the content area to its place in the result of the image.

        Args:
            scale: Of the model.
            out_size: Height and width of the result of the image.
        """
        place = self.place(out_size)
        return RowResizer(
            (scale * self.shape[1], scale * self.shape[2]),
            place.size,
            scale=(place.scale[0] / scale, place.scale[1] / scale),
            offset=place.offset,
        )

    def place(self, out_size: tuple[int, int]) -> "Placement":
        """Where the content area lies in the result of the image, whose height and width are `out_size`."""
        first, last = self._placed(out_size)
        vertical, horizontal = (out / length for out, length in zip(out_size, self._size, strict=True))
        return Placement(
            size=(last[0] - first[0], last[1] - first[1]),
            scale=(vertical, horizontal),
            offset=(
                vertical * self.window_in_image[0].start - first[0],
                horizontal * self.window_in_image[1].start - first[1],
            ),
        )

    def with_letterbox(self, results: Iterable[Tensor], out_size: tuple[int, int]) -> Iterator[Tensor]:
        """The rows of the image's result, of those of the content area's.

        Args:
            results: Rows, (1, C, rows, w), of `resizer`, from top to bottom.
            out_size: Height and width of the result of the image.

        Yields:
            Rows, (1, C, rows, W), on the CPU, of the image with its bars, whose pixels are repeated.
        """
        (top, left), (bottom, right) = self._placed(out_size)
        yield from self._painted(0, top, out_size)
        for rows in results:
            if right - left == out_size[1]:
                yield rows
                top += rows.shape[-2]
                continue
            for part in torch.split(rows, _ROWS, -2):
                canvas = next(self._painted(top, top + part.shape[-2], out_size)).clone()
                canvas[..., left:right] = part
                yield canvas
                top += part.shape[-2]
        yield from self._painted(bottom, out_size[0], out_size)

    def _placed(self, out_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first and the last pixel of the content area in the result: those whose nearest pixel belongs to it."""
        (top, bottom), (left, right) = (
            [math.ceil(out / length * edge - 0.5 - 1e-6) for edge in (part.start, part.stop)]
            for out, length, part in zip(out_size, self._size, self.window_in_image, strict=True)
        )
        return (top, left), (bottom, right)

    def _painted(self, first: int, last: int, out_size: tuple[int, int]) -> Iterator[Tensor]:
        """Rows of the whole image with repeated pixels."""

        def rows(a: int, b: int) -> Tensor:
            return self._source.window(slice(a, b), slice(0, self._size[1])).cpu()

        for top in range(first, last, _ROWS):
            yield imresize_rows(rows, self._size, out_size, top, min(last, top + _ROWS), method="nearest")


def content_of(source: Source) -> ContentArea:
    """The content area of an image: without bars of one colour, of at least three pixels, on any of its four sides.

    Bars are lines across the whole image of nearly one colour, black, white or any other, that end in a step within one
    line. Lettering on an empty page is no such step, nor are the areas of a chart, or an edge that the photograph's own
    blur has softened.
    """
    _, height, width = source.shape
    area = slice(0, height), slice(0, width)
    # The edges of the bars at the sides are judged between those above and below, and the other way round.
    flat = dict.fromkeys(_SIDES, 0)
    for side in _SIDES:
        flat[side] = _flat_lines(source, _without(area, flat), side)
    widths = {
        side: _bar(source, _without(area, {**flat, side: 0}), side, lines) if lines else 0
        for side, lines in flat.items()
    }
    inner = _without(area, widths)
    is_large = min(part.stop - part.start for part in inner) >= _MIN_SIDE
    return ContentArea(source, *(inner if is_large else area))


def _without(area: Window, widths: dict[str, int]) -> Window:
    rows, columns = area
    return (
        slice(rows.start + widths["top"], rows.stop - widths["bottom"]),
        slice(columns.start + widths["left"], columns.stop - widths["right"]),
    )


def _lines(source: Source, area: Window, side: str, count: int) -> Tensor:
    """The outermost lines of an area at one side, from the outside: (count, C, length)."""
    rows, columns = area
    if side in ("top", "bottom"):
        near = slice(rows.start, rows.start + count) if side == "top" else slice(rows.stop - count, rows.stop)
        lines = source.window(near, columns)[0].permute(1, 0, 2)
    else:
        near = (
            slice(columns.start, columns.start + count) if side == "left" else slice(columns.stop - count, columns.stop)
        )
        lines = source.window(rows, near)[0].permute(2, 0, 1)
    return lines.flip(0) if side in ("bottom", "right") else lines


def _flat_lines(source: Source, area: Window, side: str) -> int:
    """Number of lines of nearly one colour at a side; 0 where they are too few, or are all."""
    rows, columns = area
    length = rows.stop - rows.start if side in ("top", "bottom") else columns.stop - columns.start
    if length < _MIN_SIDE + MIN_BAR:
        return 0
    if side in ("left", "right") and rows.stop - rows.start > 2 * _FIRST_LINES:
        # A few rows show for nearly every photograph that there is none, without all of its rows being read.
        middle = (rows.start + rows.stop) // 2
        sampled = (slice(middle, middle + _FIRST_LINES), columns)
        if flat_run(_lines(source, sampled, side, MIN_BAR)) < MIN_BAR:
            return 0
    count = min(_FIRST_LINES, length)
    while (run := flat_run(_lines(source, area, side, count))) == count < length:
        count = min(4 * count, length)
    return 0 if run < MIN_BAR or run == length else run


def flat_run(lines: Tensor) -> int:
    """Number of lines, from the first, of nearly one colour, of lines (N, C, length), [0, 1]."""
    means = lines.mean(2)
    flat = (lines.amax(2) - lines.amin(2) <= _RANGE) & ((means - means[0]).abs() <= _STEP)
    return int(torch.cumprod(flat.all(1).int(), 0).sum())


def _bar(source: Source, area: Window, side: str, flat: int) -> int:
    """Lines of a bar that begins with `flat` lines of one colour; 0 where they do not end as a bar does."""
    rows, columns = area
    length = rows.stop - rows.start if side in ("top", "bottom") else columns.stop - columns.start
    lines = _lines(source, area, side, min(flat + _EDGE + _BEHIND, length))
    differences = lines - lines[:flat].mean((0, 2))[:, None]
    size = differences.abs().mean((1, 2))
    # Of the lines that the content area may begin with: the step from the line two before it, as they may share one.
    last = min(flat + _EDGE, len(lines) - 1)
    steps = torch.minimum(size[flat:last], size[flat + 1 : last + 1]) - size[flat - 2 : last - 2]
    if not len(steps) or float(steps.max()) < _MIN_CONTRAST:
        return 0
    edge = flat + int((steps >= _LIKE_LARGEST * steps.max()).nonzero()[0])

    def share(line: int, of: int) -> float:
        """How much of another line is in a line, by regression: noise of the compression has none."""
        return float((differences[line] * differences[of]).sum() / differences[of].square().sum())

    for first in (edge, edge + 1):
        if first + 1 < len(lines) and share(first - 1, first) > _MAX_MIXED:
            return 0  # repeated, this line would be a row of blocks
        if first + 1 < len(lines) and share(first - 2, first) <= _MAX_BLUR and share(first, first + 1) >= _MIN_FIRST:
            behind = differences[first : first + _BEHIND].abs().amax(1) > _MIN_CONTRAST
            is_flat = bool((lines[first].amax(1) - lines[first].amin(1) <= 2 * _RANGE).all())
            return first if float(behind.float().mean()) >= _MIN_SHARE and not is_flat else 0
    return 0
