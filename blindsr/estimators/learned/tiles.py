"""Tiles of an image: the most textured ones, what their mean spectrum ends with, and whether they are interlaced."""

import math

import numpy as np
import torch
from torch import Tensor

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

    The texture is summed over all tiles of a grid with steps of about half a tile, from cells of 8×8 px: 0.25 s for 12
    megapixels. A flipped image has the same tiles, flipped.

    Args:
        plane: (H, W), float32, grey levels from 0 to 255.
        count: Number of tiles, at most.

    Returns:
        (N, 96, 96), the most textured first; N is 0 for a flat image. An image with a side under 96 px is mirrored.
    """
    missing = [max(0, TILE_SIDE - side) for side in plane.shape]
    if any(missing):
        plane = torch.from_numpy(np.pad(plane.numpy(), [(n // 2, n - n // 2) for n in missing], mode="symmetric"))
    rows, columns = (_starts(side) for side in plane.shape)
    differences = torch.zeros_like(plane)
    for axis in (0, 1):  # with both neighbours, so that a flipped image has the same ones
        steps = plane.diff(dim=axis).abs_()
        length = steps.shape[axis]
        differences.narrow(axis, 0, length).add_(steps)
        differences.narrow(axis, 1, length).add_(steps)
    cells, inside = TILE_SIDE // _CELL, torch.arange(TILE_SIDE)
    y, x = ((torch.tensor(starts)[:, None] + inside).flatten() for starts in (rows, columns))
    bands = differences[y].reshape(len(rows) * cells, _CELL, -1).sum(1)
    sums = bands[:, x].reshape(len(rows), cells, len(columns), cells, _CELL).sum(-1)
    sums = (sums / (2 * _CELL**2)).clamp_(max=_MAX_TEXTURE).sum((1, 3))
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
    """First lines of tiles that are evenly spread over a side, in steps of half a tile or more, the same from its end.

    Where no tile could lie exactly in the middle, their number is even; if it is three, the middle one is half a pixel
    off.
    """
    slack = length - TILE_SIDE
    if slack == 0:
        return [0]
    steps = max(1, slack // (TILE_SIDE // 2))
    if slack % 2 and steps > 2:
        steps -= 1 - steps % 2
    first = [step * slack // steps for step in range((steps + 1) // 2)]
    middle = [slack // 2] if steps % 2 == 0 else []
    return [*first, *middle, *(slack - start for start in reversed(first))]


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
