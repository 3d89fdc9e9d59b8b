"""Figures and resizing of a result that comes in strips and is never whole."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernels import Kernel
from blindsr.ops.borders import mirror
from blindsr.ops.resize import imresize_rows, rows_needed
from blindsr.zssr.source import Source

__all__ = ["ConsistencyMeter", "resized"]

_BLOCK = 64  # rows that are worked on together
_SHAVED = 4  # LR pixels at each border that do not count


class _Rows:
    """The last rows of what has come so far."""

    def __init__(self) -> None:
        self.first = self.last = 0
        self._parts: list[Tensor] = []

    def add(self, strip: Tensor) -> None:
        self._parts.append(strip)
        self.last += strip.shape[-2]

    def forget(self, before: int) -> None:
        """Drop the rows before one."""
        while self._parts and self.first + self._parts[0].shape[-2] <= before:
            self.first += self._parts.pop(0).shape[-2]
        if self._parts and before > self.first:
            # A copy: a view would keep the whole strip alive.
            self._parts[0] = self._parts[0][..., before - self.first :, :].clone()
            self.first = before

    def take(self, first: int, last: int) -> Tensor:
        """Rows [first, last)."""
        taken, top = [], self.first
        for part in self._parts:
            bottom = top + part.shape[-2]
            if bottom > first and top < last:
                taken.append(part[..., max(0, first - top) : min(bottom, last) - top, :])
            top = bottom
        return taken[0] if len(taken) == 1 else torch.cat(taken, -2)


class ConsistencyMeter:
    """PSNR(SR ⋆ k ↓s, input), as `blindsr.pipelines.result.consistency` gives it, of a result that comes in strips.

    Args:
        source: The input.
        kernel: For scale s.
    """

    def __init__(self, source: Source, kernel: Kernel) -> None:
        self._source, self._scale = source, kernel.scale
        self._weights = kernel.tensor().float()
        self._pad = (kernel.size - kernel.scale) // 2
        _, self._height, self._width = source.shape
        self._columns = mirror(
            torch.arange(-self._pad, self._width * self._scale + self._pad), self._width * self._scale
        )
        self._border = min(_SHAVED, (min(self._height, self._width) - 1) // 2)
        self._rows, self._done = _Rows(), 0
        self._sum, self._count = 0.0, 0

    @property
    def psnr(self) -> float:
        """Decibels; inf if equal."""
        error = self._sum / max(1, self._count)
        return -10 * math.log10(error) if error > 0 else math.inf

    def watch(self, strips: Iterator[Tensor]) -> Iterator[Tensor]:
        """Hand strips, (1, C, rows, s·W) on the CPU, through, and measure them."""
        for strip in strips:
            self._rows.add(strip)
            self._measure()
            yield strip
            del strip  # nobody holds it while the next one is made

    def _measure(self) -> None:
        scale, pad, high = self._scale, self._pad, self._height * self._scale
        ready = self._height if self._rows.last >= high else max(0, (self._rows.last - pad) // scale)
        while self._done < ready:
            top, bottom = self._done, min(ready, self._done + _BLOCK)
            index = mirror(torch.arange(top * scale - pad, bottom * scale + pad), high)
            first = int(index.min())
            rows = self._rows.take(first, int(index.max()) + 1)[0]
            padded = rows.index_select(-2, index - first).index_select(-1, self._columns)
            again = functional.conv2d(padded[:, None], self._weights[None, None], stride=scale)[:, 0]
            lr = self._source.window(slice(top, bottom), slice(0, self._width))[0].cpu()
            b = self._border
            kept = slice(max(0, b - top), max(0, min(bottom, self._height - b) - top))
            error = (again - lr)[:, kept, b : self._width - b].double()
            self._sum += float(error.square().sum())
            self._count += error.numel()
            self._done = bottom
        self._rows.forget(min(self._done * scale - pad, high - pad))


def resized(strips: Iterator[Tensor], size: tuple[int, int], out_size: tuple[int, int]) -> Iterator[Tensor]:
    """Resize a result that comes in strips, as `imresize` would, clamped to [0, 1]; (H, W) of both."""
    if size == out_size:
        yield from strips
        return
    rows, done = _Rows(), 0
    for strip in strips:
        rows.add(strip)
        del strip
        while done < out_size[0]:
            last = min(out_size[0], done + _BLOCK)
            first_needed, last_needed = rows_needed(size[0], out_size[0], done, last)
            if last_needed > rows.last:
                rows.forget(first_needed)
                break
            yield imresize_rows(rows.take, size, out_size, done, last).clamp(0, 1)
            done = last
