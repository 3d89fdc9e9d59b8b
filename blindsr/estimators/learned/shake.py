"""The kernel of a camera shake: a network makes one kernel of those that several methods found for an image.

Blind deconvolution finds the path of a camera or something entirely different, the fit of a smooth path the path or its
reflection, and the posterior mean is a blurred version of it. Its inputs are all of them, how well each explains the
spectrum of the image, and that spectrum. It averages them with shares that it computes, of the whole kernels and of
each of their pixels, corrects what all of them have in common, and predicts the error of the result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from blindsr.estimators.learned.estimator import ImagePosterior
from blindsr.estimators.learned.transfers import STEPS, Plane, central, radius_of
from blindsr.ops import dihedral, dihedral_inverse
from blindsr.ops.spectrum import SpectrumPoints
from blindsr.ops.wiener import error_weights
from blindsr.runtime import frozen_network

__all__ = [
    "CANDIDATES",
    "MAPS",
    "NUMBERS",
    "SIDE",
    "WEIGHTS",
    "ShakeEvidence",
    "ShakeNetwork",
    "load_network",
    "shake_kernel",
    "transfers_of",
]

WEIGHTS = Path(__file__).parent / "weights" / "shake_network.safetensors"
SIDE = 31  # of the kernels that are inputs and output of the network, at steps of half an LR pixel
# What it averages: the posterior mean, the fitted Gaussian, three free forms, a path and its point reflection.
CANDIDATES = 7
_COMPARED = (0, 2, 3, 4, 5)  # of these, whose autocorrelations are inputs beside that of the image
# Images and single numbers that are the network's inputs.
MAPS, NUMBERS = CANDIDATES + 1 + len(_COMPARED), 17
_EXPONENT = 2.2  # of the power spectrum of a photograph
_LOW = 0.1  # cycles per LR pixel up to which the spectrum of a blurred photograph is that of the photograph, about
_BAND = 0.5  # cycles per LR pixel, of the autocorrelations
# Pairs of candidates whose distances are inputs: all of them, but of the reflected path only its distance to the mean.
_PAIRS = (
    [i for i in range(CANDIDATES - 1) for _ in range(i)] + [CANDIDATES - 1],
    [j for i in range(CANDIDATES - 1) for j in range(i)] + [0],
)
_WIDTH, _HIDDEN = 32, 96  # channels at full size, units of the layers for single numbers
_GAIN = 6.0  # of the roots of the weights of a kernel
_CORRECTION = 0.05  # of a pixel, for an output of 1


@dataclass(frozen=True)
class ShakeEvidence:
    """What was found for an image that may be shaken.

    Args:
        posterior: The posterior of the networks.
        free: Transfer functions of three free-form kernels, at the frequencies of the posterior's.
        path: That of the smooth path that explains the spectrum best.
        residuals: What the free forms, the path and the straight motion that explains it best leave of the spectrum
            unexplained, over what the fitted Gaussian does.
        sparsities: `blindsr.estimators.learned.wide.sparsity` after the removal of the path and of its reflection.
        pixels: Number of pixels of the image.
    """

    posterior: ImagePosterior
    free: tuple[Plane, Plane, Plane]
    path: Plane
    residuals: tuple[float, float, float, float, float]
    sparsities: tuple[float, float]
    pixels: int

    @property
    def candidates(self) -> list[Plane]:
        """Transfer functions of what is averaged."""
        posterior = self.posterior
        return [posterior.transfer, posterior.spectral.transfer, *self.free, self.path, self.path.conj()]

    def network_input(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The candidates and the autocorrelations, (13, 31, 31), and what was measured beside them, (17,).

        The probabilities and the error of the posterior are left out: on photographs that its networks have seen they
        are better than on others.
        """
        posterior, data = self.posterior, self.posterior.spectral.data
        assert data is not None
        windows = [central(transfer) for transfer in self.candidates]
        maps = [_weights_of(window) for window in windows]
        maps += [_autocorrelation(data), *(_autocorrelation_of(windows[i]) for i in _COMPARED)]
        metrics = posterior.metrics
        given, reflected = self.sparsities
        ratios = (max(metrics[name], 1e-3) for name in ("detail_ratio", "fine_detail_ratio"))
        shape = 1.5 if posterior.shape is None else posterior.shape.residual / posterior.spectral.residual
        numbers = [
            *self.residuals[:4],
            *(math.log(given / reflected), min(given, 5.0) / 5, min(reflected, 5.0) / 5),
            posterior.spectral.residual,
            *(math.log(metrics["noise_grey_levels"] + 0.3), metrics["jpeg_quality"] / 50 - 1),
            *(math.log(self.pixels) - 11, posterior.scale - 2.0),
            *(math.log(ratio) for ratio in ratios),
            metrics["enlarged_probability"],
            *(self.residuals[4], shape),
        ]
        return np.stack(maps).astype(np.float32), np.array(numbers, np.float32)


@cache
def _positions() -> NDArray[np.float64]:
    return (np.arange(SIDE) - SIDE // 2) / 2


@cache
def _phases() -> Plane:
    """exp(2πi f·r) of the frequencies of a window and the positions of a kernel, (33, 31)."""
    return np.asarray(np.exp(2j * np.pi * np.outer(np.arange(-STEPS, STEPS + 1) / STEPS, _positions())))


def _weights_of(window: Plane) -> NDArray[np.float64]:
    """The kernel of a window, (31, 31)."""
    # Both ends of an axis are the same frequency of this grid, and count half.
    ends = np.ones(2 * STEPS + 1)
    ends[[0, -1]] = 0.5
    back = _phases().conj().T * ends / (2 * STEPS)
    return np.asarray((back @ window @ back.T).real)


def _autocorrelation_of(window: Plane) -> NDArray[np.float64]:
    """Autocorrelation of a kernel, (31, 31), limited to 0.5 cycles per LR pixel."""
    return _weights_of(np.abs(window) ** 2 * (radius_of(2) <= _BAND))


def _autocorrelation(data: SpectrumPoints) -> NDArray[np.float64]:
    """Autocorrelation of an image's kernel, (31, 31), if the power spectrum of the photograph is a power law."""
    radius = np.hypot(*data.frequencies.T)
    inside = radius <= _BAND
    frequencies, radius = data.frequencies[inside], radius[inside]
    power = data.log_power[inside] + _EXPONENT * np.log(radius)
    power = np.clip(np.exp(power - power[radius < _LOW].mean()), 0, 2)
    by_y, by_x = (np.exp(2j * np.pi * np.outer(_positions(), axis)) for axis in frequencies.T)
    spacing = float(np.abs(frequencies[np.abs(frequencies) > 0]).min())
    # The data are half of the plane; the positions lie half an LR pixel apart.
    return np.asarray(2 * ((by_y * power) @ by_x.T).real * spacing**2 / 4)


def transfers_of(kernels: Tensor) -> Tensor:
    """Transfer functions of kernels, (…, 31, 31), up to 1 cycle per LR pixel, (…, 33, 33), complex."""
    phases = torch.from_numpy(_phases()).to(torch.complex64)
    return phases @ kernels.to(phases.dtype) @ phases.T


@cache
def _roots() -> Tensor:
    """Roots of the weights of squared errors, (33, 33)."""
    roots: Tensor = error_weights(torch.from_numpy(radius_of(2))).sqrt().float()
    return roots


def _distances(kernels: Tensor) -> Tensor:
    """Distances of kernels, (B, 7, 31, 31), from each other, (B, 16), as of `transfer_distance`."""
    flat = torch.view_as_real(transfers_of(kernels) * _roots()).flatten(2)
    products = flat @ flat.mT
    squares = products.diagonal(dim1=1, dim2=2)
    first, second = _PAIRS
    return (squares[:, first] + squares[:, second] - 2 * products[:, first, second]).clamp_min(1e-8).sqrt()


class _Block(nn.Module):
    """Two convolutions whose output is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        _clear(self.second)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(functional.relu(self.first(functional.relu(x))))
        return x + added


def _clear(layer: nn.Conv2d) -> None:
    """Set a layer to zero, so that it adds nothing before anything is learned."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ShakeNetwork(nn.Module):
    """Convolutions over the candidates at three sizes, (31, 31) to (8, 8), and layers for single numbers."""

    number_mean: Tensor
    number_width: Tensor

    def __init__(self) -> None:
        super().__init__()
        wide, wider = 3 * _WIDTH // 2, 2 * _WIDTH
        self.register_buffer("number_mean", torch.zeros(NUMBERS))
        self.register_buffer("number_width", torch.ones(NUMBERS))
        self.numbers = nn.Sequential(nn.Linear(NUMBERS + len(_PAIRS[0]), 64), nn.ReLU(), nn.Linear(64, _WIDTH))
        self.stem = nn.Conv2d(MAPS + 2, _WIDTH, 3, padding=1)
        self.down = nn.ModuleList([_Block(_WIDTH), _Block(wide), nn.Sequential(_Block(wider), _Block(wider))])
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in ((_WIDTH, wide), (wide, wider)))
        self.enlarge = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in ((wide, _WIDTH), (wider, wide)))
        self.up = nn.ModuleList([_Block(_WIDTH), _Block(wide)])
        self.shares = nn.Sequential(
            nn.Linear(2 * wider + NUMBERS + len(_PAIRS[0]), _HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(_HIDDEN, CANDIDATES + 1),
        )
        self.pixels = nn.Conv2d(_WIDTH, CANDIDATES + 1, 3, padding=1)
        _clear(self.pixels)

    def forward(self, maps: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make one kernel of the candidates of B images.

        Args:
            maps: (B, 13, 31, 31), of `ShakeEvidence.network_input`.
            numbers: (B, 17).

        Returns:
            The kernels, (B, 31, 31), sum 1; logarithms of their expected errors, (B,); the shares of the candidates,
            (B, 7).
        """
        measured = ((numbers - self.number_mean) / self.number_width).clamp(-4, 4)
        measured = torch.cat([measured, 3 * _distances(maps[:, :CANDIDATES])], 1)
        x = _GAIN * maps.sign() * (maps.abs() + 1e-5).sqrt()
        r = torch.linspace(-1, 1, SIDE, device=maps.device)
        radius = torch.hypot(r[:, None], r)
        x = torch.cat([x, torch.stack([radius.square(), radius]).expand(len(x), -1, -1, -1)], 1)
        full = self.down[0](self.stem(x) + self.numbers(measured)[..., None, None])
        half = self.down[1](self.reduce[0](full))
        quarter = self.down[2](self.reduce[1](half))
        whole = self.shares(torch.cat([quarter.mean((2, 3)), quarter.amax((2, 3)), measured], 1))
        half = self.up[1](half + self.enlarge[1](functional.interpolate(quarter, size=half.shape[-2:])))
        full = self.up[0](full + self.enlarge[0](functional.interpolate(half, size=full.shape[-2:])))
        pixels = self.pixels(functional.relu(full))
        shares, candidates = whole[:, :CANDIDATES].softmax(1), maps[:, :CANDIDATES]
        kernels = ((shares[..., None, None] + pixels[:, :CANDIDATES].tanh()) * candidates).sum(1)
        kernels = kernels + _CORRECTION * pixels[:, CANDIDATES]
        return kernels / kernels.sum((1, 2), keepdim=True).clamp_min(0.3), whole[:, CANDIDATES], shares


@cache
def load_network() -> ShakeNetwork:
    """The bundled network, in float32 on the CPU; loaded once."""
    return frozen_network(ShakeNetwork, load_file(WEIGHTS))


@torch.no_grad()
def shake_kernel(evidence: ShakeEvidence) -> tuple[Plane, float]:
    """The transfer function that the network makes of what was found, and its expected error.

    The mean over the eight dihedral views; beyond 1 cycle per LR pixel the mean of the candidates by their shares.

    Returns:
        The transfer function around the kernel's centre of mass, at the frequencies of `ImagePosterior.transfer`, and
        the error as of `blindsr.ops.wiener.error_level`.
    """
    maps, numbers = (torch.from_numpy(values) for values in evidence.network_input())
    views = torch.stack([dihedral(maps, view) for view in range(8)])
    outputs, errors, shares = load_network()(views, numbers.expand(8, -1))
    kernels = [dihedral_inverse(kernel, view) for view, kernel in enumerate(outputs)]
    weights = torch.stack(kernels).mean(0).double().numpy()
    parts: Sequence[float] = shares.mean(0).tolist()
    transfer = np.asarray(np.tensordot(parts, np.stack(evidence.candidates), 1))
    centre = (weights.sum(1) @ _positions(), weights.sum(0) @ _positions())
    by_y, by_x = (_phases() * np.exp(-2j * np.pi * np.arange(-STEPS, STEPS + 1) / STEPS * c)[:, None] for c in centre)
    central(transfer)[:] = by_y @ weights @ by_x.T
    return transfer, math.exp(float(errors.mean()))
