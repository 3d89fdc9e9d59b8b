"""The mean periodogram of an image's textured tiles, or of some of them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import ImageError
from blindsr.spectral.config import SpectralConfig

__all__ = ["Periodogram", "TileSpectra", "mean_periodogram", "tile_spectra"]

LEAST_TILE = 16
# A tile whose grey levels spread less than this says nothing about a blur: 1.2 of 255 is rounding and noise.
FLAT_TILE = 1.2 / 255
# Tiles whose fine structure is this far (log) under that of the sharpest tenth are out of focus, or were never sharp.
_OUT_OF_FOCUS = 3.0
_SHARPEST = 0.9
_COARSE, _FINE = 0.09, (0.16, 0.32)  # cycles per LR pixel: up to, and between; their ratio tells fine structure
_CORNERS = 0.5  # cycles per LR pixel
_CHANCE = 1.25  # what white noise may have of more power in the fine band than in the corners, by chance
_BATCH = 512  # tiles that are transformed together: they overlap, all of a large image's are several copies of it
_BLOCKS = 16  # about so many blocks of neighbouring tiles, or more, are drawn from


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


@dataclass(frozen=True)
class TileSpectra:
    """Periodograms of Hann-windowed tiles that overlap by half, and are neither flat nor out of focus.

    Args:
        power: (T, n, n // 2 + 1), `torch.fft.rfft2` order; every tile's own mean power is 1, as a few tiles of high
            contrast must not speak for the whole image.
        blocks: (T,), the number of the block of neighbouring tiles that a tile is in; tiles of different blocks share
            pixels only at the blocks' borders.
    """

    power: Tensor
    blocks: Tensor

    @property
    def side(self) -> int:
        """n, LR pixels."""
        return int(self.power.shape[1])

    def mean(self, chosen: Tensor | None = None) -> Periodogram:
        """Of all tiles, or of those that are chosen, (T,) bool."""
        power = self.power if chosen is None else self.power[chosen]
        side = self.side
        frequency = np.fft.fftfreq(side).astype(np.float64)
        if len(power) == 0:
            return Periodogram(np.zeros((side, side)), frequency, 0)
        half = power.mean(0, dtype=torch.float64).cpu().numpy()
        whole = np.empty((side, side))
        whole[:, : side // 2 + 1] = half
        # A real image's spectrum is point symmetric.
        whole[0, side // 2 + 1 :] = half[0, side // 2 - 1 : 0 : -1]
        whole[1:, side // 2 + 1 :] = half[:0:-1, side // 2 - 1 : 0 : -1]
        return Periodogram(whole, frequency, len(power))

    def halves(self, seed: int) -> tuple[Tensor, Tensor] | None:
        """Two random halves of the tiles, each (T,) bool, by whole blocks; None of tiles that are all in one block."""
        counts = torch.bincount(self.blocks.cpu())
        used = counts.nonzero()[:, 0]
        if len(used) < 2:
            return None
        order = used[torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))]
        before = counts[order].cumsum(0) - counts[order]
        first = torch.isin(self.blocks, order[2 * before < len(self.blocks)].to(self.blocks.device))
        return (first, ~first) if (~first).any() else None


def tile_spectra(plane: Tensor, config: SpectralConfig) -> TileSpectra:
    """|FFT|² of the tiles of an image.

    Args:
        plane: (H, W), LR luma.
        config: Tile size and bound on the number of tiles; an image of less than two tiles a side gets smaller tiles.

    Raises:
        ImageError: A side under 16 px.
    """
    least = min(plane.shape)
    if least < LEAST_TILE:
        raise ImageError(
            f"the spectral estimate needs at least {LEAST_TILE}×{LEAST_TILE} px, got "
            f"{plane.shape[0]}×{plane.shape[1]}; use a known kernel instead."
        )
    # Smaller tiles of a small image: one tile alone has a spectrum like grass, and no halves.
    side = min(config.tile, max(LEAST_TILE, least // 4 * 2))
    grid = plane.unfold(0, side, side // 2).unfold(1, side, side // 2)
    blocks = _blocks(grid.shape[0], grid.shape[1])
    tiles = grid.reshape(-1, side, side)
    kept = (tiles.std((1, 2)) > FLAT_TILE).nonzero()[:, 0]
    if len(kept) > config.max_tiles:
        generator = torch.Generator().manual_seed(config.seed)
        kept = kept[torch.randperm(len(kept), generator=generator)[: config.max_tiles].to(kept.device)]
    hann = torch.hann_window(side, periodic=True, dtype=tiles.dtype, device=tiles.device)
    weights = torch.full((side // 2 + 1,), 2.0, dtype=tiles.dtype, device=tiles.device)
    weights[0] = weights[-1] = 1.0
    power = [tiles.new_zeros(0, side, side // 2 + 1, dtype=torch.float32)]
    for batch in torch.split(kept, _BATCH) if len(kept) else ():
        part = tiles[batch]
        windowed = (part - part.mean((1, 2), keepdim=True)) * hann[:, None] * hann
        spectrum = torch.fft.rfft2(windowed).abs().square()
        mean = (spectrum * weights).sum((1, 2), keepdim=True) / side**2
        power.append((spectrum / mean).float())
    spectra = torch.cat(power)
    focused = _in_focus(spectra)
    return TileSpectra(spectra[focused], blocks.to(kept.device)[kept][focused])


def _in_focus(spectra: Tensor) -> Tensor:
    """Which tiles, (T,) bool, have about as much fine structure as the sharpest of the image."""
    if len(spectra) == 0:
        return torch.zeros(0, dtype=torch.bool, device=spectra.device)
    side = spectra.shape[1]
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    radius = torch.hypot(y, x).to(spectra.device)
    # The lowest frequencies of a Hann window leak.
    coarse = (radius >= 2 / side) & (radius < max(_COARSE, 3 / side))
    fine = (radius >= _FINE[0]) & (radius < _FINE[1])
    # In the corners of the spectrum there is noise alone; a flat tile has its noise everywhere, and is not sharp by it.
    structure = spectra[:, fine].mean(1) - _CHANCE * spectra[:, radius >= _CORNERS].mean(1)
    measure = structure.clamp(min=1e-12).log() - (spectra[:, coarse].mean(1) + 1e-12).log()
    return measure >= torch.quantile(measure, _SHARPEST) - _OUT_OF_FOCUS


def mean_periodogram(plane: Tensor, config: SpectralConfig) -> Periodogram:
    """The mean over all tiles; arguments and errors are those of `tile_spectra`."""
    return tile_spectra(plane, config).mean()


def _blocks(rows: int, columns: int) -> Tensor:
    """The number of the block that each tile of a grid is in, (rows·columns,)."""
    side = max(1, int((rows * columns / _BLOCKS) ** 0.5))
    across = -(-columns // side)
    numbers = (torch.arange(rows) // side)[:, None] * across + torch.arange(columns) // side
    return numbers.reshape(-1)
