"""Tiles of an image: the most textured ones, what their mean spectrum ends with, and whether they are interlaced."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.ops.registration import TILE, estimate_displacements

__all__ = ["TILE_SIDE", "corner_noise", "detail_ratios", "field_motion", "textured_tiles"]

TILE_SIDE = 96  # LR pixels, as in the training
_CELL = 8  # side of the cells over which the texture is averaged, LR pixels
_MAX_TEXTURE = 40.0  # grey levels; the texture of a cell is capped, so that a few strong edges do not decide
_FLAT = 1.2  # grey levels; a tile with a smaller standard deviation shows rounding and noise
_DETAIL_BANDS, _CORNERS = ((0.2, 0.3), (0.3, 0.4)), 0.5  # cycles per pixel: detail, and beyond it the corners
_FIELD_TILES = 16  # that are compared
_FIELD_HEIGHT = 0.25  # rows of a field by which the height of the odd ones may differ from a half


def textured_tiles(plane: Tensor, count: int) -> Tensor:
    """The most textured tiles of an image, first without overlap, then with an overlap of a half.

    The texture is summed over all tiles of a grid with steps of half a tile, from cells of 8×8 px: 0.1 s for 12
    megapixels.

    Args:
        plane: (H, W), float32, grey levels from 0 to 255.
        count: Number of tiles, at most.

    Returns:
        (N, 96, 96), the most textured first; N is 0 for a flat image. An image with a side under 96 px is mirrored.
    """
    missing = [max(0, TILE_SIDE - side) for side in plane.shape]
    if any(missing):
        plane = torch.from_numpy(np.pad(plane.numpy(), [(n // 2, n - n // 2) for n in missing], mode="symmetric"))
    height, width = plane.shape
    rows, columns = _starts(height), _starts(width)
    inner = plane[: height // _CELL * _CELL, : width // _CELL * _CELL]
    differences = torch.zeros_like(inner)
    differences[:, 1:] += inner.diff(dim=1).abs_()
    differences[1:] += inner.diff(dim=0).abs_()
    cells = differences.reshape(height // _CELL, _CELL, width // _CELL, _CELL).mean((1, 3)).clamp(max=_MAX_TEXTURE)
    integral = functional.pad(cells.cumsum(0).cumsum(1), (1, 0, 1, 0))
    side = TILE_SIDE // _CELL
    y = (torch.tensor(rows) // _CELL).clamp(max=integral.shape[0] - 1 - side)
    x = (torch.tensor(columns) // _CELL).clamp(max=integral.shape[1] - 1 - side)
    bottom, top = integral[y + side], integral[y]
    sums = bottom[:, x + side] - top[:, x + side] - bottom[:, x] + top[:, x]
    order = sums.flatten().argsort(descending=True).tolist()
    chosen: list[tuple[int, int]] = []
    for distance in (TILE_SIDE, TILE_SIDE // 2):
        for index in order:
            if len(chosen) >= count:
                break
            row, column = rows[index // len(columns)], columns[index % len(columns)]
            if all(max(abs(row - r), abs(column - c)) >= distance for r, c in chosen):
                chosen.append((row, column))
    tiles = [plane[row : row + TILE_SIDE, column : column + TILE_SIDE] for row, column in chosen]
    tiles = [tile for tile in tiles if float(tile.std()) > _FLAT]
    return torch.stack(tiles) if tiles else plane.new_zeros(0, TILE_SIDE, TILE_SIDE)


def _starts(length: int) -> list[int]:
    starts = list(range(0, length - TILE_SIDE + 1, TILE_SIDE // 2))
    return starts if starts[-1] == length - TILE_SIDE else [*starts, length - TILE_SIDE]


def detail_ratios(tiles: Tensor) -> tuple[float, float]:
    """Mean power of tiles, (N, 96, 96), at 0.2 to 0.3 and at 0.3 to 0.4 cycles per pixel, over that at the corners.

    Photographs with blur have 10 to 1000 and more than 2. Both are small for a spectrum that ends in a flat noise
    floor, without any detail near the limit of the pixels (oversampled microscope images, strong defocus, noise alone:
    1 to 6, about 1). The first alone is small for sharp images, whose spectrum is nearly flat (4 to 12, over 3).
    """
    power, radius = _mean_power(tiles)
    corners = power[radius >= _CORNERS].mean().clamp_min(1e-9)
    first, second = (float(power[(radius >= low) & (radius < high)].mean() / corners) for low, high in _DETAIL_BANDS)
    return first, second


def corner_noise(tiles: Tensor) -> float:
    """Standard deviation of white noise, grey levels, from the corners of the spectrum of tiles, (N, n, n).

    It is the noise, with that of rounding, where a wide blur has left nothing else there.
    """
    power, radius = _mean_power(tiles)
    return math.sqrt(float(power[radius > _CORNERS].mean()))


def _mean_power(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean power spectrum of tiles, σ² for white noise, and its frequencies, cycles per pixel; both (n, n)."""
    side = tiles.shape[-1]
    window = torch.hann_window(side, periodic=False)
    window = window[:, None] * window
    centred = tiles - tiles.mean((1, 2), keepdim=True)
    power = torch.fft.fft2(centred * window).abs().square().mean(0) / window.square().sum()
    frequency = torch.fft.fftfreq(side)
    return power, torch.hypot(frequency[:, None], frequency)


def field_motion(plane: Tensor) -> float:
    """How far the scene moved along the rows between the two fields of an interlaced frame; 0 of another image.

    What the even rows show, the odd rows show half a row higher. Only motion displaces them along the rows as well.

    Args:
        plane: (H, W), grey levels from 0 to 255.

    Returns:
        LR pixels, without sign.
    """
    rows, columns = plane.shape[0] // 2, plane.shape[1]
    if min(rows, columns) < TILE:
        return 0.0
    fields = torch.stack([plane[: 2 * rows : 2], plane[1 : 2 * rows : 2]]) / 255
    texture = fields[0].diff(dim=1).abs()
    corners = [
        (top, left) for top in range(0, rows - TILE + 1, TILE // 2) for left in range(0, columns - TILE + 1, TILE // 2)
    ]
    corners.sort(key=lambda at: -float(texture[at[0] : at[0] + TILE, at[1] : at[1] + TILE].mean()))
    corners = corners[:_FIELD_TILES]
    tiles = torch.stack([fields[:, top : top + TILE, left : left + TILE] for top, left in corners])
    _, odd = estimate_displacements(tiles, corners, (rows, columns), 0)
    is_half_a_row = odd is not None and abs(odd.shift[0] + 0.5) < _FIELD_HEIGHT
    return abs(odd.shift[1]) if odd is not None and is_half_a_row else 0.0
