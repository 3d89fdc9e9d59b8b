"""The mean periodogram of an image's textured tiles."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import ImageError
from blindsr.spectral.config import SpectralConfig

__all__ = ["Periodogram", "mean_periodogram"]

LEAST_TILE = 16
# A tile whose grey levels spread less than this says nothing about a blur: 1.2 of 255 is rounding and noise.
FLAT_TILE = 1.2 / 255


@dataclass(frozen=True)
class Periodogram:
    """Mean relative power by frequency.

    Args:
        power: (n, n), in `np.fft.fft2` order; every tile's own mean power is 1.
        frequency: (n,), cycles per LR pixel, in `np.fft.fftfreq` order.
        tiles: How many tiles it is the mean of; 0 if the image is flat (`power` is then zero).
    """

    power: NDArray[np.float64]
    frequency: NDArray[np.float64]
    tiles: int


def mean_periodogram(plane: Tensor, config: SpectralConfig) -> Periodogram:
    """Average |FFT|² over Hann-windowed tiles that overlap by half and are not flat.

    Args:
        plane: (H, W), LR luma.
        config: Tile size and bound on the number of tiles; an image smaller than the tile gets smaller tiles.

    Raises:
        ImageError: A side under 16 px.
    """
    least = min(plane.shape)
    if least < LEAST_TILE:
        raise ImageError(
            f"the spectral estimate needs at least {LEAST_TILE}×{LEAST_TILE} px, got "
            f"{plane.shape[0]}×{plane.shape[1]}; use a known kernel instead."
        )
    side = min(config.tile, least - least % 2)
    frequency = np.fft.fftfreq(side).astype(np.float64)
    tiles = plane.unfold(0, side, side // 2).unfold(1, side, side // 2).reshape(-1, side, side)
    tiles = tiles[tiles.std((1, 2)) > FLAT_TILE]
    if len(tiles) > config.max_tiles:
        generator = torch.Generator().manual_seed(config.seed)
        tiles = tiles[torch.randperm(len(tiles), generator=generator)[: config.max_tiles].to(tiles.device)]
    if len(tiles) == 0:
        return Periodogram(np.zeros((side, side)), frequency, 0)
    hann = torch.hann_window(side, periodic=True, dtype=tiles.dtype, device=tiles.device)
    power = tiles.new_zeros(side, side)
    # In batches: the tiles of a large image overlap, so all of them at once are several copies of it.
    for batch in torch.split(tiles, 512):
        windowed = (batch - batch.mean((1, 2), keepdim=True)) * hann[:, None] * hann
        spectrum = torch.fft.fft2(windowed).abs().square()
        # Each tile counts the same: a few tiles of high contrast must not speak for the whole image.
        power += (spectrum / spectrum.mean((1, 2), keepdim=True)).sum(0)
    return Periodogram((power / len(tiles)).cpu().numpy(), frequency, len(tiles))
