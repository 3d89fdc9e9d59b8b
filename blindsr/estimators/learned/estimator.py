"""The learned estimator: from the tiles of an image to the posterior mean of its kernel, and the kernel's error."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ConfigError, ImageError
from blindsr.estimators.learned.features import tile_features, view_tables
from blindsr.estimators.learned.network import KINDS, Posterior, formula_transfer, load_network
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic
from blindsr.ops import dihedral_inverse, luma

__all__ = ["MIN_SIDE", "LearnedConfig", "LearnedEstimator", "estimate_kernel", "textured_tiles"]

STAGE = "learned"
MIN_SIDE = 32  # LR px
_KERNEL_ERROR = 0.1  # of a kernel that is read back from a file
_TILE = 96  # side of the tiles, LR pixels, as in the training
_CELL = 8  # side of the cells over which the texture is averaged, LR pixels
_MAX_TEXTURE = 40.0  # grey levels; the texture of a cell is capped, so that a few strong edges do not decide
_FLAT = 1.2  # grey levels; a tile with a smaller standard deviation shows rounding and noise
_STEPS = 16  # of the grid of frequencies in 1 cycle per LR pixel; kernels have up to ±8 LR pixels
_KERNEL_RADIUS = 8  # LR pixels
# Frequencies, cycles per LR pixel, over which the variance of the transfer function is averaged: the error of a kernel
# shows in the result there.
_BAND = (0.16, 0.6)
_WARNED_SHARE = 0.5  # share of the bicubic kernel above which there is a warning
_RIPPLE = 0.006  # weights below this share of the largest are the ripple of an uncertain transfer function
_ENERGY = 0.998  # share of Σ|k| inside the frame of the kernel

Plane = NDArray[np.complex128]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedConfig:
    """Settings of the learned estimator; the defaults were chosen on photographs that were not trained on.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    max_tiles: int = 24  # number of the most textured tiles that are used, at most
    tiles_per_set: int = 8  # tiles from which the network computes one posterior; those of all sets are averaged
    views: int = 8  # dihedral views of each set whose posteriors are averaged: 1, 2, 4 or 8
    # kernel_error as a share of the predicted error, by kind (sharp, Gaussian, disc, shake).
    error_shares: tuple[float, float, float, float] = (0.45, 0.75, 0.9, 1.3)
    max_kernel_error: float = 0.14  # upper bound of kernel_error; the upscaler was not trained for more than 0.2
    # Predicted errors between which the estimate is blended into the bicubic kernel, unless it is a disc or a shake.
    fallback_errors: tuple[float, float] = (0.10, 0.15)
    max_fallback_share: float = 0.95  # share of the bicubic kernel from the second of these errors on; 0 for none

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("max_tiles", "tiles_per_set"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ConfigError(f"learned.{name} must be a whole number of 1 or more, got {getattr(self, name)}.")
        if self.views not in (1, 2, 4, 8):
            raise ConfigError(f"learned.views must be 1, 2, 4 or 8, got {self.views}.")
        if len(self.error_shares) != len(KINDS) or not all(share >= 0 for share in self.error_shares):
            raise ConfigError(f"learned.error_shares must be four numbers of 0 or more, got {self.error_shares}.")
        if not self.max_kernel_error >= 0:
            raise ConfigError(f"learned.max_kernel_error must be 0 or more, got {self.max_kernel_error}.")
        if len(self.fallback_errors) != 2 or not 0 <= self.fallback_errors[0] < self.fallback_errors[1]:
            raise ConfigError(f"learned.fallback_errors must be two increasing numbers, got {self.fallback_errors}.")
        if not 0 <= self.max_fallback_share <= 1:
            raise ConfigError(f"learned.max_fallback_share must be in [0, 1], got {self.max_fallback_share}.")


class LearnedEstimator:
    """Kernel of any shape by a network that was trained on degraded photographs; about 0.2 seconds."""

    name: ClassVar[str] = "learned"
    config_type: ClassVar[type] = LearnedConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = _KERNEL_ERROR

    def __init__(self, config: LearnedConfig | None = None) -> None:
        self.config = LearnedConfig() if config is None else config

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate the kernel of one image; see `estimate_kernel`."""
        return estimate_kernel(lr, scale, self.config, listener=listener)


@dataclass(frozen=True)
class _ImagePosterior:
    """The posterior of an image, in numpy and in the orientation of the image.

    Args:
        transfer: (16·s + 1, 16·s + 1), mean transfer function at multiples of 1/16 cycle per LR pixel from −s/2 to s/2,
            order (y, x).
        variance: (33, 33), variance of its error, from −1 to 1 cycle per LR pixel.
        kinds: (4,), probabilities of `KINDS`.
        metrics: Sharpening, noise and the rest by name.
    """

    transfer: Plane
    variance: NDArray[np.float64]
    kinds: NDArray[np.float64]
    metrics: dict[str, float]

    @property
    def error(self) -> float:
        """Predicted root mean square of the transfer function's error in the band of frequencies that matters."""
        return float(np.sqrt(self.variance[_band()].mean()))


def estimate_kernel(
    lr: Tensor, scale: int, config: LearnedConfig | None = None, *, listener: Listener = ignore
) -> KernelEstimate:
    """Estimate a kernel as the posterior mean of a network (docs/method/learned-kernel.md).

    Args:
        lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
        scale: Factor from LR to HR: 2, 3 or 4.
        config: Settings; the defaults if None.
        listener: Receives the events of the stage "learned".

    Returns:
        The kernel with its `kernel_error`. A flat image gets the bicubic kernel; one with a large predicted error gets
        a kernel that is mostly bicubic. Both have a warning. The metrics have `kernel_error`, the predicted error that
        it is computed from, the share of the bicubic kernel, the probabilities of the kinds, and sharpening, noise in
        grey levels, JPEG quality and previous enlargement.

    Raises:
        ImageError: Not (1, C, H, W), or a side is shorter than 32 px.
        ConfigError: Another scale.
    """
    config = LearnedConfig() if config is None else config
    if lr.ndim != 4 or lr.shape[0] != 1:
        raise ImageError(f"a kernel is estimated from one image (1, C, H, W), got shape {tuple(lr.shape)}.")
    if min(lr.shape[-2:]) < MIN_SIDE:
        raise ImageError(
            f"the learned estimate needs at least {MIN_SIDE}×{MIN_SIDE} px, got {lr.shape[-1]}×{lr.shape[-2]} px; "
            "use a known kernel instead."
        )
    if scale not in LearnedEstimator.scales:
        raise ConfigError(f"the learned estimate is for a scale of 2, 3 or 4, got {scale}.")
    listener(StageStarted(stage=STAGE))
    tiles = textured_tiles(luma(lr.detach()).cpu().float() * 255, config.max_tiles)
    if len(tiles) == 0:
        warning = "the image is flat and does not show its blur; the bicubic kernel is used."
        listener(Notice(stage=STAGE, message=warning))
        listener(StageDone(stage=STAGE, steps=0, reason="the image is flat"))
        return KernelEstimate(
            kernel=bicubic(scale),
            method=STAGE,
            settings=asdict(config),
            warnings=(warning,),
            kernel_error=_KERNEL_ERROR,
        )
    posterior = _posterior_of(tiles, scale, config)
    share = _fallback_share(posterior, config)
    kernel = _kernel_of((1 - share) * posterior.transfer + share * _bicubic_transfer(scale), scale)
    kernel_error = min(float(np.dot(posterior.kinds, config.error_shares)) * posterior.error, config.max_kernel_error)
    warnings: tuple[str, ...] = ()
    if share > _WARNED_SHARE:
        warnings = (
            f"the image hardly shows its blur (predicted error {posterior.error:.2f}); "
            f"{share:.0%} of the kernel is the bicubic one.",
        )
        listener(Notice(stage=STAGE, message=warnings[0]))
    listener(StageDone(stage=STAGE, steps=1))
    metrics = {"tiles": float(len(tiles)), "kernel_error": kernel_error}
    metrics |= {"predicted_error": posterior.error, "bicubic_share": share}
    metrics |= {f"kind_{name}": float(value) for name, value in zip(KINDS, posterior.kinds, strict=True)}
    return KernelEstimate(
        kernel=kernel,
        method=STAGE,
        settings=asdict(config),
        metrics=metrics | posterior.metrics,
        warnings=warnings,
        kernel_error=kernel_error,
    )


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
    missing = [max(0, _TILE - side) for side in plane.shape]
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
    side = _TILE // _CELL
    y = (torch.tensor(rows) // _CELL).clamp(max=integral.shape[0] - 1 - side)
    x = (torch.tensor(columns) // _CELL).clamp(max=integral.shape[1] - 1 - side)
    bottom, top = integral[y + side], integral[y]
    sums = bottom[:, x + side] - top[:, x + side] - bottom[:, x] + top[:, x]
    order = sums.flatten().argsort(descending=True).tolist()
    chosen: list[tuple[int, int]] = []
    for distance in (_TILE, _TILE // 2):
        for index in order:
            if len(chosen) >= count:
                break
            row, column = rows[index // len(columns)], columns[index % len(columns)]
            if all(max(abs(row - r), abs(column - c)) >= distance for r, c in chosen):
                chosen.append((row, column))
    tiles = [plane[row : row + _TILE, column : column + _TILE] for row, column in chosen]
    tiles = [tile for tile in tiles if float(tile.std()) > _FLAT]
    return torch.stack(tiles) if tiles else plane.new_zeros(0, _TILE, _TILE)


def _starts(length: int) -> list[int]:
    starts = list(range(0, length - _TILE + 1, _TILE // 2))
    return starts if starts[-1] == length - _TILE else [*starts, length - _TILE]


@torch.no_grad()
def _posterior_of(tiles: Tensor, scale: int, config: LearnedConfig) -> _ImagePosterior:
    """The posterior of an image from its tiles, (N, 96, 96), grey levels: the mean over sets and views."""
    network = load_network()
    features = tile_features(tiles).flat
    indices, signs = view_tables()
    views = range(0, 8, 8 // config.views)
    sets = math.ceil(len(tiles) / config.tiles_per_set)
    parts = []
    for number in range(sets):
        part = features[number::sets]
        batch = torch.stack([part[:, indices[view]] * signs[view] for view in views])
        posteriors = network(batch, torch.full((len(batch),), scale))
        parts += [_of_view(posteriors, row, view, scale) for row, view in enumerate(views)]
    return _mean(parts)


def _of_view(posteriors: Posterior, row: int, view: int, scale: int) -> _ImagePosterior:
    """One row of the network's output, computed from a dihedral view, in the orientation of the image."""
    frequencies = torch.from_numpy(_frequencies(scale)).float()
    middle = _STEPS * scale // 2
    half = formula_transfer(posteriors.formulas[row : row + 1], frequencies, frequencies[middle:])[0]
    transfer = _full_plane(half.double().numpy().astype(np.complex128))
    free_form = posteriors.free_form[row].double().numpy()
    fade = np.clip((1.0 - _radius(2)) / 0.25, 0, 1)
    window = slice(middle - _STEPS, middle + _STEPS + 1)
    transfer[window, window] += fade * _full_plane(free_form[0] + 1j * free_form[1])
    variance = _full_plane(posteriors.log_variance[row].double().exp().numpy().astype(np.complex128))
    enlarged = posteriors.enlarged[row].double()
    return _ImagePosterior(
        transfer=dihedral_inverse(torch.from_numpy(transfer), view).numpy(),
        variance=dihedral_inverse(torch.from_numpy(variance.real.copy()), view).numpy(),
        kinds=posteriors.kind[row].double().softmax(0).numpy(),
        metrics={
            "sharpening": float(posteriors.sharpening[row]),
            "noise_grey_levels": max(0.0, float(posteriors.log_noise[row].exp()) - 0.3),
            "jpeg_quality": float(((posteriors.quality[row] + 1) * 50).clamp(30, 100)),
            "enlarged_probability": float(enlarged[0].sigmoid()),
            "enlarged_factor": float(enlarged[1].exp()),
        },
    )


def _full_plane(half: Plane) -> Plane:
    """The plane (2n + 1, 2n + 1) from its half f_x ≥ 0, (2n + 1, n + 1): the transfer of a real kernel is Hermitian."""
    side, n = half.shape[0], half.shape[1] - 1
    plane = np.empty((side, side), np.complex128)
    plane[:, n:] = half
    plane[:, :n] = np.conj(half[::-1, :0:-1])
    plane[:, n] = (plane[:, n] + np.conj(plane[::-1, n])) / 2
    return plane


def _mean(parts: Sequence[_ImagePosterior]) -> _ImagePosterior:
    """The mean of posteriors by their inverse variance; the variance between them adds to the mean variance."""
    weights = np.array([1 / (part.error**2 + 1e-4) for part in parts])
    weights = weights / weights.sum()
    transfer = np.asarray(np.tensordot(weights, np.stack([part.transfer for part in parts]), 1))
    middle = transfer.shape[0] // 2
    window = slice(middle - _STEPS, middle + _STEPS + 1)
    deviations = np.stack([np.abs(part.transfer - transfer)[window, window] ** 2 for part in parts])
    between = np.tensordot(weights, deviations, 1)
    within = np.tensordot(weights, np.stack([part.variance for part in parts]), 1)
    return _ImagePosterior(
        transfer=transfer,
        variance=np.asarray(within + 0.25 * between),
        kinds=np.asarray(np.tensordot(weights, np.stack([part.kinds for part in parts]), 1)),
        metrics={name: float(np.dot(weights, [part.metrics[name] for part in parts])) for name in parts[0].metrics},
    )


@cache
def _frequencies(scale: int) -> NDArray[np.float64]:
    """Multiples of 1/16 cycle per LR pixel from −s/2 to s/2: HR's sampling rate."""
    middle = _STEPS * scale // 2
    return np.arange(-middle, middle + 1) / _STEPS


@cache
def _radius(scale: int) -> NDArray[np.float64]:
    f = _frequencies(scale)
    return np.asarray(np.hypot(f[:, None], f[None]))


def _band() -> NDArray[np.bool_]:
    """Mask of the band in which the error is averaged, on the plane up to 1 cycle per LR pixel, (33, 33)."""
    radius = _radius(2)
    return (radius >= _BAND[0]) & (radius <= _BAND[1])


@cache
def _bicubic_transfer(scale: int) -> Plane:
    """The transfer function of the bicubic kernel at `_frequencies`."""
    array = bicubic(scale).array
    r = (np.arange(len(array)) - (len(array) - 1) / 2) / scale
    phase = np.exp(2j * np.pi * np.outer(_frequencies(scale), r))
    return np.asarray(phase @ array @ phase.T)


def _fallback_share(posterior: _ImagePosterior, config: LearnedConfig) -> float:
    """The share of the bicubic kernel, from 0 to 1, which grows with the predicted error.

    Soft subjects (clouds, dunes) do not show whether they are blurred, and a kernel that is too wide costs more than
    one that is too narrow. Discs and shakes are recognised by more than their width and are kept.
    """
    low, high = config.fallback_errors
    gaussian_or_sharp = min(1.0, 2 * float(posterior.kinds[0] + posterior.kinds[1]))
    return gaussian_or_sharp * config.max_fallback_share * float(np.clip((posterior.error - low) / (high - low), 0, 1))


def _kernel_of(transfer: Plane, scale: int) -> Kernel:
    """The kernel on the HR grid with a transfer function that is given at `_frequencies`."""
    middle = len(transfer) // 2
    transfer = transfer / transfer[middle, middle].real
    side = 2 * _KERNEL_RADIUS * scale - (scale % 2)
    r = (np.arange(side) - (side - 1) / 2) / scale
    frequencies = _frequencies(scale)
    # Both ends of an axis are the same frequency on the HR grid, and count half.
    ends = np.ones(len(frequencies))
    ends[[0, -1]] = 0.5
    phase = np.exp(-2j * np.pi * np.outer(r, frequencies)) * ends
    array = (phase @ transfer @ phase.T).real
    array = np.sign(array) * np.maximum(np.abs(array) - _RIPPLE * array.max(), 0)
    kernel = Kernel.normalised(array, scale, {"made_by": STAGE})
    margin = (kernel.size - max(kernel.support(_ENERGY), 3 * scale)) // 2
    if margin <= 0:
        return kernel
    return Kernel.normalised(kernel.array[margin:-margin, margin:-margin], scale, {"made_by": STAGE})
