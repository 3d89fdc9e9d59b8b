"""The mean periodogram of an image's textured tiles, or of some of them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import ImageError

__all__ = ["MIN_SIDE", "Periodogram", "tile_spectra"]

MIN_SIDE = 16  # side of the smallest image and of the smallest tile, LR pixels
# A tile with a smaller standard deviation, [0, 1] units, holds rounding and noise only (1.2 of 255 grey levels).
_FLAT = 1.2 / 255
# Tiles whose fine structure is this much weaker (log) than that of the sharpest tenth are considered out of focus.
_OUT_OF_FOCUS = 3.0
_SHARPEST = 0.9
# Bands, cycles per LR pixel, whose power ratio measures fine structure: up to _COARSE, and from _FINE[0] to _FINE[1].
_COARSE, _FINE = 0.09, (0.16, 0.32)
_CORNERS = 0.5  # cycles per LR pixel; beyond, there is noise only
_NOISE_MARGIN = 1.25  # ratio by which white noise may exceed its power in the corners by chance in the fine band
_BATCH = 512  # tiles that are transformed together: they overlap, so that all of them are several copies of the image
_BLOCKS = 16  # approximate number of blocks of neighbouring tiles from which random halves are drawn


@dataclass(frozen=True)
class Periodogram:
    """Mean relative power by frequency."""

    power: NDArray[np.float64]  # (n, n), in `np.fft.fft2` order; the mean power of every single tile is 1
    frequency: NDArray[np.float64]  # (n,), cycles per LR pixel, in `np.fft.fftfreq` order
    tiles: int  # number of tiles in the mean; 0 if the image is flat (`power` is then zero)


@dataclass(frozen=True)
class TileSpectra:
    """Periodograms of Hann-windowed tiles that overlap by half, without flat tiles and tiles out of focus."""

    # (T, n, n // 2 + 1), in `torch.fft.rfft2` order; every tile has the mean 1, so that high contrast does not dominate
    power: Tensor
    # (T,), each tile's block of neighbouring tiles; tiles of different blocks share pixels only at the blocks' borders
    blocks: Tensor

    def mean(self, selection: Tensor | None = None) -> Periodogram:
        """The mean periodogram of all tiles, or of a selection, (T,) bool."""
        power = self.power if selection is None else self.power[selection]
        side = int(power.shape[1])
        frequency = np.fft.fftfreq(side).astype(np.float64)
        if len(power) == 0:
            return Periodogram(np.zeros((side, side)), frequency, 0)
        half = power.mean(0, dtype=torch.float64).cpu().numpy()
        whole = np.empty((side, side))
        whole[:, : side // 2 + 1] = half
        # The spectrum of a real image is point symmetric.
        whole[0, side // 2 + 1 :] = half[0, side // 2 - 1 : 0 : -1]
        whole[1:, side // 2 + 1 :] = half[:0:-1, side // 2 - 1 : 0 : -1]
        return Periodogram(whole, frequency, len(power))

    def halves(self, seed: int) -> tuple[Tensor, Tensor] | None:
        """Two random halves of the tiles, each (T,) bool, by whole blocks; None if all tiles are in one block."""
        counts = torch.bincount(self.blocks.cpu())
        used = counts.nonzero()[:, 0]
        if len(used) < 2:
            return None
        order = used[torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))]
        before = counts[order].cumsum(0) - counts[order]
        first = torch.isin(self.blocks, order[2 * before < len(self.blocks)].to(self.blocks.device))
        return (first, ~first) if (~first).any() else None


def tile_spectra(plane: Tensor, *, tile: int = 64, max_tiles: int = 4000, seed: int = 0) -> TileSpectra:
    """|FFT|² of the tiles of an image.

    Args:
        plane: (H, W), LR luma.
        tile: Side of the tiles, even, LR pixels; an image shorter than two tiles gets smaller ones.
        max_tiles: Number of tiles above which a random selection is used.
        seed: Seed of the selection.

    Raises:
        ImageError: A side is shorter than 16 px.
    """
    shortest = min(plane.shape)
    if shortest < MIN_SIDE:
        raise ImageError(
            f"the spectral estimate needs at least {MIN_SIDE}×{MIN_SIDE} px, got {plane.shape[1]}×{plane.shape[0]} px; "
            "use a known kernel instead."
        )
    # A small image gets smaller tiles: the spectrum of a single tile is too rough, and it has no halves.
    side = min(tile, max(MIN_SIDE, shortest // 4 * 2))
    grid = plane.unfold(0, side, side // 2).unfold(1, side, side // 2)
    blocks = _blocks(grid.shape[0], grid.shape[1])
    tiles = grid.reshape(-1, side, side)
    textured = (tiles.std((1, 2)) > _FLAT).nonzero()[:, 0]
    if len(textured) > max_tiles:
        generator = torch.Generator().manual_seed(seed)
        selection = torch.randperm(len(textured), generator=generator)[:max_tiles]
        textured = textured[selection.to(textured.device)]
    hann = torch.hann_window(side, periodic=True, dtype=tiles.dtype, device=tiles.device)
    weights = torch.full((side // 2 + 1,), 2.0, dtype=tiles.dtype, device=tiles.device)
    weights[0] = weights[-1] = 1.0
    power = [tiles.new_zeros(0, side, side // 2 + 1, dtype=torch.float32)]
    for batch in torch.split(textured, _BATCH) if len(textured) else ():
        part = tiles[batch]
        windowed = (part - part.mean((1, 2), keepdim=True)) * hann[:, None] * hann
        spectrum = torch.fft.rfft2(windowed).abs().square()
        mean = (spectrum * weights).sum((1, 2), keepdim=True) / side**2
        power.append((spectrum / mean).float())
    spectra = torch.cat(power)
    focused = _in_focus(spectra)
    return TileSpectra(spectra[focused], blocks.to(textured.device)[textured][focused])


def _in_focus(spectra: Tensor) -> Tensor:
    """Which tiles, (T,) bool, have about as much fine structure as the sharpest ones."""
    if len(spectra) == 0:
        return torch.zeros(0, dtype=torch.bool, device=spectra.device)
    side = spectra.shape[1]
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    radius = torch.hypot(y, x).to(spectra.device)
    # At the lowest frequencies the Hann window leaks.
    coarse = (radius >= 2 / side) & (radius < max(_COARSE, 3 / side))
    fine = (radius >= _FINE[0]) & (radius < _FINE[1])
    # The corners of the spectrum measure the noise, which would make a flat tile look sharp.
    structure = spectra[:, fine].mean(1) - _NOISE_MARGIN * spectra[:, radius >= _CORNERS].mean(1)
    measure = structure.clamp(min=1e-12).log() - (spectra[:, coarse].mean(1) + 1e-12).log()
    return measure >= torch.quantile(measure, _SHARPEST) - _OUT_OF_FOCUS


def _blocks(rows: int, columns: int) -> Tensor:
    """Number of the block that each tile of a grid belongs to, (rows·columns,)."""
    side = max(1, int((rows * columns / _BLOCKS) ** 0.5))
    across = -(-columns // side)
    numbers = (torch.arange(rows) // side)[:, None] * across + torch.arange(columns) // side
    return numbers.reshape(-1)
