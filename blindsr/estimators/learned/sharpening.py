"""The unsharp mask of a camera or a program: what edges show of it, and the network that estimates its strength.

An unsharp mask overshoots on both sides of an edge. In the mean profile of many edges texture hides that; how often
the differences beside an edge fall, stay and rise, in which order, does not.

References:
    Ding, Zhu, Yang, Xie, Shi, "Edge perpendicular binary coding for USM sharpening detection", IEEE Signal Processing
    Letters 2015: codes of the pixels across edges. Ternary codes relative to the edge, and the network, are ours.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from blindsr.estimators.learned.features import FEATURES, view_tables
from blindsr.runtime import frozen_network

__all__ = [
    "INPUTS",
    "RINGS",
    "SIGMA",
    "WEIGHTS",
    "Sharpening",
    "SharpeningNetwork",
    "edge_codes",
    "estimate_sharpening",
    "load_network",
    "network_input",
]

WEIGHTS = Path(__file__).parent / "weights" / "sharpening_network.safetensors"
RINGS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # cycles per LR pixel, at which the network estimates transfer functions
SIGMA = 0.9  # LR pixels, of the unsharp mask of a camera or a program, about
_FITTED = 4  # of these frequencies, at which the amount is fitted; beyond, a blur has left little
_HALF = 3  # differences on each side of that of an edge
_EDGES = 0.06  # share of the pixels of a tile that are edges, at most
_MIN_STEP = 4.0  # grey levels of an edge, at least
_THRESHOLDS = (0.06, 0.2)  # differences of the code, as a share of the largest one
_DIGITS = (243, 81, 27, 9, 3, 1)  # values of the three differences before an edge and of the three after it
_CODES = 729
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the overshoot
_HIDDEN = 128
_CANONICAL = 378  # codes that are no mirror image of a smaller one
EDGE_FEATURES = len(_THRESHOLDS) * _CANONICAL + len(_QUANTILES)
INPUTS = EDGE_FEATURES + FEATURES


@cache
def _canonical() -> Tensor:
    """Number of each code among those that are no mirror image of a smaller one, (729,)."""
    codes = torch.arange(_CODES)
    digits = torch.stack([codes // digit % 3 for digit in _DIGITS])
    mirrored = (digits.flip(0) * torch.tensor(_DIGITS)[:, None]).sum(0)
    numbers: Tensor = torch.unique(torch.minimum(codes, mirrored), return_inverse=True)[1]
    return numbers


def edge_codes(tiles: Tensor) -> Tensor:
    """Histograms of the codes across the steepest edges of tiles, and quantiles of their overshoot.

    The code of an edge has a digit for each of six differences, three on either side along a row or a column: whether
    it goes against the edge, hardly changes, or goes on. An edge and its mirror image have the same code, so that the
    histograms do not depend on the orientation of the tile.

    Args:
        tiles: (N, n, n), grey levels from 0 to 255.

    Returns:
        (N, 761): square roots of the histograms for two thresholds, 378 bins each, and five quantiles.
    """
    count = len(tiles)
    owners, windows = [], []
    for image in (tiles, tiles.transpose(1, 2)):
        steps = image.diff(dim=2)
        inner = steps[:, :, _HALF:-_HALF].abs()
        peak = (inner >= steps[:, :, 2:-4].abs()) & (inner >= steps[:, :, 4:-2].abs())
        peaks = torch.where(peak, inner, inner.new_zeros(()))
        rank = round((1 - _EDGES) * peaks[0].numel())
        least = peaks.flatten(1).kthvalue(rank, dim=1).values.clamp_min(_MIN_STEP)
        tile, row, column = (peaks >= least[:, None, None]).nonzero(as_tuple=True)
        owners.append(tile)
        windows.append(steps[tile[:, None], row[:, None], column[:, None] + torch.arange(2 * _HALF + 1)])
    owner, window = torch.cat(owners), torch.cat(windows)
    window = window * torch.where(window[:, _HALF : _HALF + 1] < 0, -1.0, 1.0)
    flanks = window[:, [0, 1, 2, 4, 5, 6]]
    relative = flanks / window.abs().amax(1, keepdim=True).clamp_min(_MIN_STEP)
    parts = []
    for threshold in _THRESHOLDS:
        digits = 1 + (relative > threshold).long() - (relative < -threshold).long()
        codes = _canonical()[(digits * torch.tensor(_DIGITS)).sum(1)]
        histogram = torch.bincount(owner * _CANONICAL + codes, minlength=count * _CANONICAL).reshape(count, _CANONICAL)
        parts.append((histogram / histogram.sum(1, keepdim=True).clamp_min(1)).sqrt())
    falls = (-flanks).clamp_min(0) / window[:, _HALF : _HALF + 1].clamp_min(1)
    overshoot = torch.stack([falls[:, :_HALF].sum(1), falls[:, _HALF:].sum(1)], 1)
    levels = torch.tensor(_QUANTILES)
    quantiles = [torch.quantile(overshoot[owner == n].flatten(), levels) for n in range(count) if (owner == n).any()]
    filled = overshoot.new_zeros(count, len(_QUANTILES))
    if quantiles:
        filled[torch.unique(owner)] = torch.stack(quantiles)
    return torch.cat([*parts, filled], 1)


def network_input(tiles: Tensor, features: Tensor) -> Tensor:
    """The input of the network: means over the tiles and over the dihedral views, (1411,).

    Args:
        tiles: (N, n, n), grey levels from 0 to 255.
        features: (N, 650), their flat features (`blindsr.estimators.learned.features.tile_features`).
    """
    indices, signs = view_tables()
    mean = features.mean(0)
    return torch.cat([edge_codes(tiles).mean(0), (mean[indices] * signs).mean(0)])


@dataclass(frozen=True)
class Sharpening:
    """What an image shows of an unsharp mask; transfer functions, each (6,), at the frequencies `RINGS`.

    Args:
        mask: That of the mask, 1 where there is none.
        total: That of blur and mask together.
        probability: That there is a mask.
        tiles: Number of tiles that show it.
    """

    mask: NDArray[np.float64]
    total: NDArray[np.float64]
    probability: float
    tiles: int

    @property
    def amount(self) -> float:
        """Amount a of the mask 1 + a·(1 − G), least squares."""
        return self._fitted(self.mask, np.ones(len(RINGS)))

    def amount_after(self, blur: NDArray[np.float64]) -> float:
        """The amount, as far as blur and mask together exceed the transfer function of a blur, (6,).

        The mask of a blurred image makes it sharp before it makes halos.
        """
        return max(0.0, min(self.amount, self._fitted(self.total, blur)))

    @staticmethod
    def _fitted(transfer: NDArray[np.float64], blur: NDArray[np.float64]) -> float:
        mask = (blur * (1 - np.exp(-2 * (np.pi * SIGMA * np.array(RINGS)) ** 2)))[:_FITTED]
        return float(np.dot(transfer[:_FITTED] - blur[:_FITTED], mask) / max(float(np.dot(mask, mask)), 1e-9))


@torch.no_grad()
def estimate_sharpening(tiles: Tensor, features: Tensor) -> Sharpening:
    """The sharpening of an image, from the arguments of `network_input`."""
    output = load_network()(network_input(tiles, features)[None])
    mask, total = (values[0].double().exp().numpy() for values in (output.mask, output.total))
    return Sharpening(mask=mask, total=total, probability=float(output.logit.sigmoid()), tiles=len(tiles))


@dataclass(frozen=True)
class SharpeningOutput:
    """What the network computes of B images, each (B, 6), at the frequencies `RINGS`.

    Args:
        mask: Logarithm of the transfer function of the unsharp mask.
        total: Logarithm of the transfer function of blur and mask together, at least −3.
        logit: (B,), of the probability that there is a mask.
    """

    mask: Tensor
    total: Tensor
    logit: Tensor


class SharpeningNetwork(nn.Module):
    """Three layers, from the means of measured features to `SharpeningOutput`."""

    input_mean: Tensor
    input_width: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("input_mean", torch.zeros(INPUTS))
        self.register_buffer("input_width", torch.ones(INPUTS))
        self.layers = nn.ModuleList(
            [nn.Linear(INPUTS, _HIDDEN), nn.Linear(_HIDDEN, _HIDDEN), nn.Linear(_HIDDEN, 2 * len(RINGS) + 1)]
        )

    def forward(self, inputs: Tensor, *, dropout: float = 0.0) -> SharpeningOutput:
        """Compute the output from inputs, (B, 1411)."""
        x = ((inputs - self.input_mean) / self.input_width).clamp(-6, 6)
        for layer in self.layers[:-1]:
            x = functional.dropout(functional.relu(layer(x)), dropout, training=dropout > 0)
        out = self.layers[-1](x)
        n = len(RINGS)
        return SharpeningOutput(mask=out[:, :n], total=out[:, n : 2 * n], logit=out[:, -1])


@cache
def load_network() -> SharpeningNetwork:
    """The bundled network, in float32 on the CPU; loaded once."""
    return frozen_network(SharpeningNetwork, load_file(WEIGHTS))
