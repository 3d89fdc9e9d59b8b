"""Images that are read by windows: the protocol of such an image, and the choice of windows."""

from typing import Protocol

import torch
from torch import Tensor

from blindsr.ops.color import srgb_to_linear

Window = tuple[slice, slice]

_WHOLE_SAMPLES = 1_500_000  # up to which a measurement reads the whole image
_SIDE, _COUNT = 256, 16  # of the windows in which a larger one is measured


class Source(Protocol):
    """An image that is read by windows.

    A method that works on a `Source` does not need the whole image in memory: it may lie in a larger file.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width."""

    @property
    def device(self) -> torch.device:
        """Device of the windows, on which the work is done."""

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w), float32, [0, 1]; the slices lie inside the image and have no step."""


class TensorSource:
    """An image in memory, (1, C, H, W), floating point, [0, 1], which is left unchanged."""

    def __init__(self, image: Tensor) -> None:
        self._image = image.detach()
        _, bands, height, width = image.shape
        self.shape, self.device = (bands, height, width), image.device

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window as float32; a view where the image is float32."""
        return self._image[..., rows, columns].float()


class BandSource:
    """One band of another source, by its index."""

    def __init__(self, source: Source, band: int) -> None:
        self._source, self._band = source, band
        self.device = source.device
        self.shape = (1, *source.shape[1:])

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window of the band, (1, 1, h, w)."""
        return self._source.window(rows, columns)[:, self._band : self._band + 1].contiguous()


class PartSource:
    """A rectangle of another source, by its rows and columns."""

    def __init__(self, source: Source, rows: slice, columns: slice) -> None:
        self._source, self._top, self._left = source, rows.start, columns.start
        self.device = source.device
        self.shape = (source.shape[0], rows.stop - rows.start, columns.stop - columns.start)

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window of the rectangle, (1, C, h, w)."""
        return self._source.window(
            slice(rows.start + self._top, rows.stop + self._top),
            slice(columns.start + self._left, columns.stop + self._left),
        )


class LinearLightSource:
    """Another source with its sRGB samples decoded to linear light."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.device, self.shape = source.device, source.shape

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window in linear light, (1, C, h, w)."""
        return srgb_to_linear(self._source.window(rows, columns))


def whole(source: Source) -> Tensor:
    """All of an image, (1, C, H, W)."""
    _, height, width = source.shape
    return source.window(slice(0, height), slice(0, width))


def sampled_windows(source: Source, planes: int) -> list[Window]:
    """Where an image is measured: all of a small one, or windows that are spread over a large one.

    Args:
        source: The image, of which only the shape is used.
        planes: Number of samples of a pixel that are measured.
    """
    _, height, width = source.shape
    if height * width * planes <= _WHOLE_SAMPLES:
        return [(slice(0, height), slice(0, width))]
    return spread_windows(source)


def spread_windows(source: Source, side: int = _SIDE, count: int = _COUNT) -> list[Window]:
    """Square windows that are evenly spread over an image.

    Args:
        source: The image, of which only the shape is used.
        side: Side of the windows, px; a side of the image where that is shorter.
        count: Approximate number of windows, 1 or more; along a side no more than are needed to cover it.

    Returns:
        Slices of rows and columns, row by row.
    """
    _, height, width = source.shape
    rows = max(1, round((count * height / width) ** 0.5))
    columns = max(1, count // rows)
    return [(top, left) for top in _spread(height, side, rows) for left in _spread(width, side, columns)]


def _spread(length: int, side: int, count: int) -> list[slice]:
    side = min(side, length)
    slack = length - side
    count = min(count, -(-length // side))
    starts = {slack // 2} if count == 1 else {round(i * slack / (count - 1)) for i in range(count)}
    return [slice(start, start + side) for start in sorted(starts)]


def textured_part(source: Source, side: int, count: int = 16) -> Tensor:
    """All of an image of at most side² pixels, or the most textured of `count` windows of it; (1, C, h, w)."""
    _, height, width = source.shape
    if height * width <= side**2:
        return whole(source)
    return source.window(*most_textured(source, spread_windows(source, side, count), 1)[0])


def most_textured(source: Source, windows: list[Window], count: int) -> list[Window]:
    """The windows with the largest mean absolute difference between neighbouring pixels, the most textured first.

    Args:
        source: The image; every window is read once.
        windows: The candidates, slices of rows and columns of 2 px or more.
        count: Number of windows that are returned at most.
    """

    def contrast(window: Window) -> float:
        pixels = source.window(*window)
        return float(pixels.diff(dim=-1).abs().mean() + pixels.diff(dim=-2).abs().mean())

    return sorted(windows, key=contrast, reverse=True)[:count]
