"""Kernels that vary over the image: one model for each kernel of a map, joined by a smooth partition of unity.

The result is Σ w_i·x_i, where x_i is the result for the kernel of a cell. The weights w_i are products of squared
cosines, which are 1 in the middle of a cell, 0 in the middles of its neighbours, and add up to 1 everywhere, so that
there are no seams. A model is applied only where its weight is not 0: four times for each pixel of a large grid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.kernels import Kernel, KernelEstimate, KernelMap
from blindsr.kernels.metrics import bicubic_share
from blindsr.ops.windows import Source
from blindsr.pipelines.degradation import kernel_error_of
from blindsr.upscalers.base import TiledModel

__all__ = [
    "MAP_STAGE", "MIN_VARIATION", "PositionedSource", "WindowEstimate", "axis_weights", "blended", "grid_shape",
    "map_of", "variation", "window_estimate", "windows_of",
]  # fmt: skip

MAP_STAGE = "kernel map"
_CELL = 160  # LR pixels, side of a cell at least
_WINDOW = 1.5  # side of a window over that of its cell
_MAX_CELLS = 8  # along a side: more kernels take more time, and vary less from one to the next
_ERROR_FLOOR = 0.03  # error that the estimator does not predict, added to that of the transfer function
_UNKNOWN_ERROR = 1.0  # of a window that shows no blur
_SHARP, _MIN_SHARE = 0.3, 0.05  # probability of a sharp window, for which the bicubic kernel is evidence
_SMOOTHING = 0.4  # standard deviation of the smoothing of a map, cells: wider, kernels of sharp and soft parts mix
_BACKGROUND_WEIGHT = 1e-4  # weight of distant windows: what a cell gets where no window near it shows the blur
MIN_VARIATION = 1.0  # of maps that are used: what the errors alone give (docs/notes/2026-11-29-varying-kernels.md)
_STEPS = 8  # frequencies along an axis up to 0.5 cycles per LR pixel at which kernels are compared


def axis_weights(positions: Tensor, length: int, count: int) -> Tensor:
    """The weights of the cells along an axis at some places: (count, N), with the sum 1.

    Args:
        positions: (N,), in pixels, the first pixel at 0; those outside of the image get the outermost cell.
        length: Pixels along the axis.
        count: Cells along the axis.
    """
    cells = ((positions.double() + 0.5) * count / length - 0.5).clamp(0, count - 1)
    distance = (cells[None] - torch.arange(count, device=positions.device)[:, None]).abs().clamp(max=1)
    return torch.cos(distance * math.pi / 2).square()


class PositionedSource:
    """An image whose windows have two more bands: the row and the column of each pixel in the image without borders.

    Args:
        source: The image.
        offset: Row and column of the first pixel, negative for one of a mirrored border.
    """

    def __init__(self, source: Source, offset: tuple[int, int]) -> None:
        self._source, self._offset = source, offset
        self.shape, self.device = source.shape, source.device

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C + 2, h, w); `shape` has the C bands of the image."""
        window = self._source.window(rows, columns)
        y, x = (
            torch.arange(part.start + first, part.stop + first, device=window.device, dtype=window.dtype)
            for part, first in zip((rows, columns), self._offset, strict=True)
        )
        place = torch.stack([y[:, None].expand(-1, len(x)), x[None].expand(len(y), -1)])
        return torch.cat([window, place[None]], 1)


def blended(models: Sequence[TiledModel], kernel_map: KernelMap, size: tuple[int, int]) -> TiledModel:
    """The model of windows of a `PositionedSource` that joins those of the kernels of a map.

    Args:
        models: Of each kernel, row by row; equal ones may be one object.
        kernel_map: The map.
        size: Height and width of the image, LR pixels.
    """
    first = models[0]
    scale, (rows, columns) = first.scale, kernel_map.shape

    def join(window: Tensor, predict: Callable[[TiledModel, Tensor], Tensor]) -> Tensor:
        pixels, places = window[:, :-2].contiguous(), window[0, -2:]
        y, x = (_of_result(p, scale) for p in (places[0, :, 0], places[1, 0]))
        vertical, horizontal = axis_weights(y, size[0], rows), axis_weights(x, size[1], columns)
        sr: Tensor | None = None
        for number, model in enumerate(models):
            weights = vertical[number // columns], horizontal[number % columns]
            if not all(bool((part > 0).any()) for part in weights):
                continue
            (top, bottom), (left, right) = (_used(part, scale) for part in weights)
            halo = model.halo()
            outer = [
                slice(max(0, a - halo - (a - halo) % 2), min(n, b + halo))
                for a, b, n in zip((top, left), (bottom, right), pixels.shape[-2:], strict=True)
            ]
            part = predict(model, pixels[..., outer[0], outer[1]].contiguous())
            inner = [slice((a - o.start) * scale, (b - o.start) * scale)
                     for a, b, o in zip((top, left), (bottom, right), outer, strict=True)]  # fmt: skip
            high = slice(top * scale, bottom * scale), slice(left * scale, right * scale)
            weight = (weights[0][high[0], None] * weights[1][None, high[1]]).to(part)
            if sr is None:
                sr = part.new_zeros(*part.shape[:2], *(scale * n for n in pixels.shape[-2:]))
            sr[..., high[0], high[1]] += weight * part[..., inner[0], inner[1]]
        if sr is None:
            raise RuntimeError("the weights of a kernel map add up to 1 everywhere")
        return sr.clamp_(0, 1)

    return TiledModel(
        scale=scale,
        predict=lambda window: join(window, lambda model, part: model.predict(part)),
        retry=lambda window: join(window, lambda model, part: (model.retry or model.predict)(part)),
        halo=lambda: max(model.halo() for model in models),
        steps=sum(model.steps for model in {id(model): model for model in models}.values()),
        history=first.history,
        dtype=first.dtype,
        warnings=tuple(dict.fromkeys(text for model in models for text in model.warnings)),
    )


@dataclass(frozen=True, kw_only=True)
class WindowEstimate:
    """What one window of an image showed of the kernel."""

    kernel: Kernel
    error: float  # standard deviation of the error of the transfer function, before any bicubic part was added
    kernel_error: float = 0.0  # `kernel_error` that the upscaler is conditioned on


def grid_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the kernel map that an image of this size, LR pixels, supports; (1, 1) for a small one."""
    rows, columns = (max(1, min(_MAX_CELLS, side // _CELL)) for side in (height, width))
    return rows, columns


def windows_of(height: int, width: int) -> list[tuple[slice, slice]]:
    """The windows of the cells, row by row: larger than the cell by a half, and moved inwards at the borders."""

    def along(length: int, count: int) -> list[slice]:
        side = min(length, round(_WINDOW * max(_CELL, length / count)))
        starts = [round((i + 0.5) * length / count - side / 2) for i in range(count)]
        return [slice(max(0, min(start, length - side)), max(0, min(start, length - side)) + side) for start in starts]

    rows, columns = grid_shape(height, width)
    return [(row, column) for row in along(height, rows) for column in along(width, columns)]


def window_estimate(estimate: KernelEstimate) -> WindowEstimate:
    """What an estimate from a window is worth: the error that is expected of it, or the usual one of the method."""
    kernel_error = kernel_error_of(estimate.kernel, estimate)
    error = estimate.metrics.get("expected_error", kernel_error)
    if estimate.kernel.is_replacement:
        error = _UNKNOWN_ERROR
    elif estimate.metrics.get("kind_sharp", 0.0) < _SHARP:
        # The bicubic part of an uncertain kernel is no evidence: what is left of the measurement counts as much less.
        error /= max(1 - bicubic_share(estimate.kernel), _MIN_SHARE)
    return WindowEstimate(kernel=estimate.kernel, error=min(error, _UNKNOWN_ERROR), kernel_error=kernel_error)


def variation(windows: Sequence[WindowEstimate]) -> float:
    """How much the kernels of windows differ, relative to their errors: about 1 or less for one kernel.

    It is the reduced χ² of the transfer functions up to LR's Nyquist frequency around their mean by inverse variance.
    """
    if len(windows) < 2:
        return 0.0
    transfers = np.stack([_transfer(window.kernel) for window in windows])
    weights = np.array([1 / (window.error**2 + _ERROR_FLOOR**2) for window in windows])
    mean = np.tensordot(weights / weights.sum(), transfers, 1)
    squares = (np.abs(transfers - mean) ** 2).mean(1)
    return float((weights * squares).sum() / (len(windows) - 1))


def map_of(windows: Sequence[WindowEstimate], shape: tuple[int, int], made_by: str) -> KernelMap:
    """The map of the estimates of its windows, smoothed over the grid by inverse variance.

    A window that does not show its blur gets the kernels of its neighbours.

    Args:
        windows: Of the cells, row by row.
        shape: Rows and columns.
        made_by: The estimator.
    """
    rows, columns = shape
    grid = [[window.kernel for window in windows[row * columns : (row + 1) * columns]] for row in range(rows)]
    arrays = KernelMap(grid).arrays().reshape(rows * columns, -1)
    y, x = np.divmod(np.arange(rows * columns), columns)
    squares = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    near = np.exp(-squares / (2 * _SMOOTHING**2)) + _BACKGROUND_WEIGHT
    weights = near / np.array([window.error**2 + _ERROR_FLOOR**2 for window in windows])
    weights = weights / weights.sum(1, keepdims=True)
    errors = weights @ np.array([window.kernel_error for window in windows])
    side = math.isqrt(arrays.shape[1])
    scale = windows[0].kernel.scale
    kernels = [
        Kernel.normalised(
            (weight @ arrays).reshape(side, side),
            scale,
            {"made_by": made_by, "kernel_error": round(float(error), 4), "varying": True},
        )
        for weight, error in zip(weights, errors, strict=True)
    ]
    return KernelMap([kernels[row * columns : (row + 1) * columns] for row in range(rows)])


def _transfer(kernel: Kernel) -> NDArray[np.complex128]:
    """The transfer function on a half-disc of frequencies, in cycles per LR pixel."""
    f = np.arange(-_STEPS, _STEPS + 1) / (2 * _STEPS)
    y, x = np.meshgrid(f, f, indexing="ij")
    return np.asarray(kernel.transfer_plane(f)[(np.hypot(y, x) <= 0.5) & ((x > 0) | ((x == 0) & (y > 0)))])


def _of_result(positions: Tensor, scale: int) -> Tensor:
    """The places of the pixels of the result between those of the LR pixels, (s·N,)."""
    inner = (torch.arange(scale, device=positions.device, dtype=torch.float64) + 0.5) / scale - 0.5
    return (positions.double()[:, None] + inner).flatten()


def _used(weights: Tensor, scale: int) -> tuple[int, int]:
    """The first LR pixel with a weight, and the one after the last."""
    places = weights.nonzero()
    return int(places[0]) // scale, int(places[-1]) // scale + 1
