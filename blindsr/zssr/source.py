"""Where the pixels come from: an image in memory or on a disk, asked for one window at a time."""

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Source", "TensorSource", "most_detailed", "spread_windows", "whole"]


class Source(Protocol):
    """An image that gives out windows of itself.

    Nothing that works on a `Source` needs the whole image: it may lie in a file that is larger than the memory.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width."""

    @property
    def device(self) -> torch.device:
        """Where the windows are, and the work is done."""

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w), float32, [0, 1]; the slices lie inside the image and have no step."""


class TensorSource:
    """An image in memory, (1, C, H, W), float.

    Args:
        image: It is left unchanged.
    """

    def __init__(self, image: Tensor) -> None:
        self._image = image.detach()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width."""
        _, bands, height, width = self._image.shape
        return bands, height, width

    @property
    def device(self) -> torch.device:
        """Of the image."""
        return self._image.device

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window as float32; a view where the image is float32."""
        return self._image[..., rows, columns].float()


def whole(source: Source) -> Tensor:
    """All of an image, (1, C, H, W)."""
    _, height, width = source.shape
    return source.window(slice(0, height), slice(0, width))


def spread_windows(source: Source, side: int, count: int) -> list[tuple[slice, slice]]:
    """At most `count` windows of `side` pixels (less where the image is), evenly spread over an image."""
    _, height, width = source.shape
    rows = max(1, round((count * height / width) ** 0.5))
    columns = max(1, count // rows)
    return [(top, left) for top in _spread(height, side, rows) for left in _spread(width, side, columns)]


def _spread(length: int, side: int, count: int) -> list[slice]:
    side = min(side, length)
    room = length - side
    count = min(count, -(-length // side))
    starts = {room // 2} if count == 1 else {round(i * room / (count - 1)) for i in range(count)}
    return [slice(start, start + side) for start in sorted(starts)]


def most_detailed(source: Source, windows: list[tuple[slice, slice]], count: int) -> list[tuple[slice, slice]]:
    """The `count` windows of the most contrast between neighbours, the most detailed first."""

    def contrast(window: tuple[slice, slice]) -> float:
        pixels = source.window(*window)
        return float(pixels.diff(dim=-1).abs().mean() + pixels.diff(dim=-2).abs().mean())

    return sorted(windows, key=contrast, reverse=True)[:count]
