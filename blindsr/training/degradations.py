"""Degradations of the training: kernels and what is known of them, noise, a camera's pipeline, JPEG compression.

Images are planes: luma, B − Y and R − Y. Everything is periodic: a patch wraps around, its blur is a product of
spectra, and the Wiener filter inverts exactly that.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blindsr.kernels import bicubic, fit, resample
from blindsr.kernels.pool import KernelPool
from blindsr.kernels.random import training_kernel, training_kernel_size
from blindsr.ops.color import BT601, from_planes, to_planes
from blindsr.ops.degrade import perturbed_transfer
from blindsr.ops.jpeg import LUMA_TABLE, jpeg_noise_sigma
from blindsr.ops.wiener import error_level, transfer

__all__ = [
    "KernelBank",
    "KernelLaw",
    "KernelPairs",
    "NoiseLaw",
    "add_noise",
    "degrade_periodic",
    "draw_kernels",
    "jpeg_quality",
    "through_camera",
]


# ---------------------------------------------------------------------------------------------------------- kernels


class KernelBank:
    """`size` random kernels per scale, drawn once each: drawing a kernel costs more than applying it.

    Args:
        seed: Seed of the kernels.
        size: Their number.
        pool: Kernels of a camera, which take the place of random ones; carried to each scale by the law cov ∝ s² − 1.
    """

    def __init__(self, seed: int, size: int, pool: KernelPool | None = None) -> None:
        self._seed, self._size = seed, size if pool is None else len(pool.kernels)
        self._pool = pool
        self._kernels: dict[tuple[int, int], NDArray[np.float32]] = {}

    def draw(self, rng: np.random.Generator, scale: int) -> NDArray[np.float32]:
        """One of the kernels of this scale, in one of its eight dihedral views."""
        key = scale, int(rng.integers(self._size))
        if key not in self._kernels:
            self._kernels[key] = self._make(*key).astype(np.float32)
        view = int(rng.integers(8))
        rotated = np.rot90(self._kernels[key], view % 4)
        return rotated[:, ::-1] if view >= 4 else rotated

    def _make(self, scale: int, number: int) -> NDArray[np.float64]:
        if self._pool is None:
            return training_kernel(np.random.default_rng([self._seed, scale, number]), scale)
        kernel = self._pool.kernels[number]
        if kernel.scale != scale:
            kernel = resample(kernel, scale)
        return np.asarray(fit(kernel, training_kernel_size(scale)).array)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLaw:
    """How often the conditioning kernel is not the true one; shares are from 0 to 1."""

    error_share: float = 0.2  # of the pairs: an estimate that lacks the true kernel's noise and has another width
    error: tuple[float, float] = (0.02, 0.06)  # kernel_error of those pairs, uniform
    mixed_share: float = 0.25  # of the pairs: the mean of the true kernel and another one


# A mean of two kernels is what an estimator returns that cannot decide between them (the mean of its posterior).
_MIXED_WEIGHT = (0.05, 0.95)  # of the other kernel, which is …
_MIXED_WITH_RANDOM = 0.6  # … a random one with this probability, bicubic otherwise
_MIXED_LOG_ERROR = 0.35  # σ of the log of the conditioning error: estimates of the error are inexact, too
_MAX_KERNEL_ERROR = 0.4


@dataclass(frozen=True, slots=True)
class KernelPairs:
    """Kernels that the network is conditioned on, and the true ones."""

    conditioning: Tensor  # (B, K, K), sum 1
    response: Tensor  # (B, s·h, s·w), their transfer functions
    actual: Tensor  # (B, s·h, s·w), transfer functions of the true kernels
    kernel_error: Tensor  # (B,), the conditioning error: about their difference, 0 where there is none


def draw_kernels(
    bank: KernelBank, scale: int, side: int, count: int, law: KernelLaw, rng: np.random.Generator
) -> KernelPairs:
    """Draw `count` kernels for patches of `side` HR pixels.

    Args:
        bank: The kernels.
        scale: Factor from LR to HR.
        side: Side of the patches that are to be degraded, HR pixels.
        count: B.
        law: How often the conditioning kernel differs from the truth.
        rng: Random generator.
    """
    conditioning = torch.from_numpy(np.stack([bank.draw(rng, scale) for _ in range(count)]))
    response = actual = transfer(conditioning, scale, side, side)
    kind = rng.random(count)
    is_estimate = kind < law.error_share
    errors = np.where(is_estimate, rng.uniform(*law.error, count), 0.0)
    mixed = np.flatnonzero(~is_estimate & (kind < law.error_share + law.mixed_share))
    if len(mixed):
        conditioning = conditioning.clone()
        for i in mixed:
            if rng.random() < _MIXED_WITH_RANDOM:
                other = torch.from_numpy(np.ascontiguousarray(bank.draw(rng, scale)))
            else:
                other = _bicubic(scale)
            conditioning[i] += float(rng.uniform(*_MIXED_WEIGHT)) * (other - conditioning[i])
        response = transfer(conditioning, scale, side, side)
        for i in mixed:
            difference = (response[i] - actual[i]).abs().square()
            error = error_level(difference, _radius(side, scale)) * math.exp(rng.normal(0, _MIXED_LOG_ERROR))
            errors[i] = min(_MAX_KERNEL_ERROR, error)
    kernel_error = torch.from_numpy(errors.astype(np.float32))
    if is_estimate.any():
        which = torch.from_numpy(np.flatnonzero(is_estimate))
        changed = perturbed_transfer(conditioning[which], response[which], scale, rng, kernel_error[which])
        actual = actual.index_copy(0, which, changed)
    return KernelPairs(conditioning, response, actual, kernel_error)


@lru_cache(maxsize=4)
def _radius(side: int, scale: int) -> Tensor:
    """Frequencies of a transform of side×side HR pixels, cycles per LR pixel."""
    frequency = scale * torch.fft.fftfreq(side)
    return torch.hypot(frequency[:, None], frequency)


@lru_cache(maxsize=4)
def _bicubic(scale: int) -> Tensor:
    weights = bicubic(scale).tensor()
    return functional.pad(weights, ((training_kernel_size(scale) - len(weights)) // 2,) * 4)


def degrade_periodic(planes: Tensor, response: Tensor, scale: int) -> Tensor:
    """Blur planes, (B, 3, s·h, s·w), by transfer functions, (B, s·h, s·w), and sample them: (B, 3, h, w)."""

    def lr_of(signal: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(signal) * response
        height, width = (side // scale for side in spectrum.shape[-2:])
        # Sampling folds the spectrum, so an inverse transform of the LR size suffices.
        folded: Tensor = torch.fft.ifft2(spectrum.reshape(-1, scale, height, scale, width).mean((1, 3)))
        return folded

    chroma = lr_of(torch.complex(planes[:, 1], planes[:, 2]))  # two real planes at the price of one
    return torch.stack([lr_of(planes[:, 0]).real, chroma.real, chroma.imag], 1)


# ------------------------------------------------------------------------------------------------------------ noise

# Of noise that is independent in R, G and B: its variance in luma, and the mean of its variances in B − Y and R − Y.
_RED, _GREEN, _BLUE = BT601
_LUMA_SHARE = _RED**2 + _GREEN**2 + _BLUE**2
_CHROMA_SHARE = (((1 - _BLUE) ** 2 + _RED**2 + _GREEN**2) + ((1 - _RED) ** 2 + _GREEN**2 + _BLUE**2)) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLaw:
    """Shares of what is done to the LR images; the rest is only rounded to 8 bits."""

    white: float = 0.19  # white noise of σ = max_sigma·u², u uniform in [0, 1]
    max_sigma: float = 18.0  # grey levels
    photons: float = 0.05  # noise whose variance grows linearly with the brightness
    speckle: float = 0.05  # noise whose σ grows linearly with the brightness
    jpeg: float = 0.14  # compression, in part of noisy images
    camera: float = 0.06  # mosaic, noise of the sensor, demosaicking, smoothed chroma, tone curve, mostly compression
    hidden: float = 0.08  # share of the others that has up to half a grey level of noise that the conditioning lacks


# Estimates of the noise are never exact: σ of the log of the conditioning noise.
_WHITE_ERROR, _PHOTONS_ERROR, _SPECKLE_ERROR, _JPEG_ERROR, _CAMERA_ERROR = 0.08, 0.15, 0.2, 0.25, 0.15
_MAX_JPEG_ERROR = 1.2  # factor
_MAX_PHOTONS = 0.02  # variance per brightness, [0, 1] units
_MAX_SPECKLE = 0.25  # σ per brightness
_MAX_HIDDEN = 0.5 / 255


def add_noise(
    lr: Tensor, coloured: Tensor, rng: np.random.Generator, law: NoiseLaw | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Make LR images noisy or compressed, or let a camera take them, and round them to 8 bits.

    Args:
        lr: Planes, (B, 3, h, w), luma in [0, 1], periodic, sides that are multiples of 8; chroma is 0 where there is no
            colour.
        coloured: (B,), bool.
        rng: Random generator.
        law: How often what is done.

    Returns:
        The images, and their conditioning noise: σ of luma and of chroma, (B,) each, [0, 1] units.
    """
    law = law or NoiseLaw()
    clean = from_planes(lr.transpose(0, 1))
    rgb, sigmas = clean.clone(), np.zeros((2, len(lr)))
    ends = np.cumsum([law.white, law.photons, law.speckle, law.jpeg, law.camera])
    for i, kind in enumerate(np.searchsorted(ends, rng.random(len(lr)), side="right")):
        colour = bool(coloured[i])
        if kind == 0:
            sigma, common = law.max_sigma / 255 * rng.random() ** 2, _common(rng)
            rgb[i] += sigma * _white(rng, clean[i].shape, common, colour)
            sigmas[:, i] = _levels(sigma, common, colour) * math.exp(rng.normal(0, _WHITE_ERROR))
        elif kind == 1:
            common, level = _common(rng), clean[i].clamp(0, 1)
            slope, floor = _MAX_PHOTONS * rng.random() ** 2, (2 / 255 * rng.random()) ** 2
            rgb[i] += (slope * level + floor).sqrt() * _white(rng, level.shape, common, colour)
            sigma = math.sqrt(slope * float(level.mean()) + floor)
            sigmas[:, i] = _levels(sigma, common, colour) * math.exp(rng.normal(0, _PHOTONS_ERROR))
        elif kind == 2:
            common, strength, level = _common(rng), _MAX_SPECKLE * rng.random(), clean[i].clamp(0, 1)
            rgb[i] += strength * level * _white(rng, level.shape, common, colour)
            sigma = strength * float(level.square().mean()) ** 0.5
            sigmas[:, i] = _levels(sigma, common, colour) * math.exp(rng.normal(0, _SPECKLE_ERROR))
        elif kind == 3:
            quality = int(100 - 75 * rng.random() ** 1.4)
            if rng.random() < 0.2:  # the noise is lost in the compression, or part of the conditioning
                rgb[i] += 4 / 255 * rng.random() * _white(rng, rgb[i].shape, 0.0, colour)
            rgb[i], sigmas[:, i] = _jpeg(rgb[i], quality, colour, rng)
        elif kind == 4:
            rgb[i], sigmas[:, i] = through_camera(clean[i], colour, rng)
        elif rng.random() < law.hidden:
            rgb[i] += _MAX_HIDDEN * rng.random() * _white(rng, clean[i].shape, _common(rng), colour)
    grey = rgb[:, 1:2].expand_as(rgb)  # the bands of a grey image may lie on both sides of a rounding tie
    rgb = torch.where(coloured[:, None, None, None], rgb, grey)
    planes = to_planes(torch.round(rgb.clamp(0, 1) * 255) / 255).transpose(0, 1)
    shown = torch.stack([torch.ones_like(coloured), coloured, coloured], 1)
    levels = torch.from_numpy(sigmas.astype(np.float32))
    return planes * shown[..., None, None], levels[0], levels[1]


def _common(rng: np.random.Generator) -> float:
    """Share of the noise's variance that R, G and B have in common: mostly none, else some or all of it."""
    return 0.0 if rng.random() < 0.6 else float(rng.random()) if rng.random() < 0.6 else 1.0


def _white(rng: np.random.Generator, shape: torch.Size, common: float, colour: bool) -> Tensor:
    """Noise of unit variance, (3, h, w); the same in all bands of a grey image."""
    if not colour or common == 1.0:
        return torch.from_numpy(rng.standard_normal(shape[1:], dtype=np.float32)).expand(shape)
    own = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    if common == 0.0:
        return own
    shared = torch.from_numpy(rng.standard_normal(shape[1:], dtype=np.float32))
    return torch.add(common**0.5 * shared, own, alpha=(1 - common) ** 0.5)


def _levels(sigma: float, common: float, colour: bool) -> NDArray[np.float64]:
    """σ of luma and of chroma where each of R, G and B has σ."""
    if not colour:
        return np.array([sigma, 0.0])
    return sigma * np.sqrt([common + (1 - common) * _LUMA_SHARE, (1 - common) * _CHROMA_SHARE])


# ------------------------------------------------------------------------------------------------------ compression

# ITU-T T.81, Annex K: steps for chroma.
_CHROMA_TABLE = np.full((8, 8), 99)
_CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_ROWS, _COLUMNS = np.indices((8, 8))
_DCT = torch.from_numpy(
    np.where(_ROWS, 0.5, 0.5**1.5).astype(np.float32)
    * np.cos(np.pi / 16 * _ROWS * (2 * _COLUMNS + 1)).astype(np.float32)
)
_CHROMA_RANGE = torch.tensor([2 * (1 - _BLUE), 2 * (1 - _RED)]).reshape(2, 1, 1)  # B − Y over Cb, R − Y over Cr
_SUBSAMPLED = 0.6  # probability of 4:2:0
_SUBSAMPLING_ERROR = 1.6  # conditioning noise of chroma over the error of its quantisation


@lru_cache(maxsize=128)
def _steps(quality: int) -> tuple[Tensor, Tensor, float, float]:
    """Steps of luma and of chroma, (8, 8), scaled by the quality as libjpeg does, and σ of rounding to them."""
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    luma, chroma = (
        np.clip(np.floor(table * factor + 0.5), 1, 255).astype(int) for table in (LUMA_TABLE, _CHROMA_TABLE)
    )
    sigmas = [jpeg_noise_sigma([steps.ravel().tolist()]) for steps in (luma, chroma)]
    return torch.from_numpy(luma).float(), torch.from_numpy(chroma).float(), sigmas[0], sigmas[1]


def jpeg_quality(sigma: float) -> int:
    """The quality, 1 to 100, whose tables leave this error in luma, [0, 1] units; 100 for less than half a grey level.

    What a camera's noise adds to the error makes the quality too low.
    """
    if sigma < 0.5 / 255:
        return 100
    return min(range(1, 101), key=lambda quality: abs(_steps(quality)[2] - sigma))


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes (C, h, w) in grey levels around 0, sides that are multiples of 8, after rounding in their 8×8 blocks."""
    c, h, w = planes.shape
    blocks = planes.reshape(c, h // 8, 8, w // 8, 8).permute(0, 1, 3, 2, 4)
    blocks = _DCT.T @ (torch.round(_DCT @ blocks @ _DCT.T / steps) * steps) @ _DCT
    return blocks.permute(0, 1, 3, 2, 4).reshape(c, h, w)


def _compressed(rgb: Tensor, quality: int, phase: tuple[int, int], *, colour: bool, subsampled: bool) -> Tensor:
    """A periodic image, (3, h, w), after JPEG compression with blocks that begin at `phase`; not clamped."""
    y, x = phase
    planes = to_planes(torch.roll(rgb, (-y, -x), (1, 2)).clamp(0, 1)[None])[:, 0]
    luma_steps, chroma_steps, _, _ = _steps(quality)
    luma, chroma = (_quantised(planes[:1] * 255 - 128, luma_steps) + 128) / 255, planes[1:]
    if colour:
        cbcr = 255 * chroma / _CHROMA_RANGE
        if subsampled:  # the small planes are repeated to whole blocks; decoders interpolate them linearly
            h, w = cbcr.shape[1:]
            half = _quantised(functional.avg_pool2d(cbcr[None], 2)[0].repeat(1, 2, 2), chroma_steps)
            half = functional.pad(half[None, :, : h // 2, : w // 2], (1, 1, 1, 1), "circular")
            cbcr = functional.interpolate(half, scale_factor=2, mode="bilinear")[0, :, 2:-2, 2:-2]
        else:
            cbcr = _quantised(cbcr, chroma_steps)
        chroma = cbcr * _CHROMA_RANGE / 255
    return torch.roll(from_planes(torch.cat([luma, chroma])[:, None])[0], (y, x), (1, 2))


def _jpeg(rgb: Tensor, quality: int, colour: bool, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.float64]]:
    """An image as a JPEG has it, and its conditioning noise, σ of luma and chroma, as computed from its tables."""
    y, x = (int(shift) for shift in rng.integers(0, 8, 2))
    subsampled = colour and bool(rng.random() < _SUBSAMPLED)
    result = _compressed(rgb, quality, (y, x), colour=colour, subsampled=subsampled)
    error = min(math.exp(rng.normal(0, _JPEG_ERROR)), _MAX_JPEG_ERROR)
    _, _, luma, chroma = _steps(quality)
    return result, error * np.array([luma, _SUBSAMPLING_ERROR * chroma if colour else 0.0])


# ---------------------------------------------------------------------------------------------------------- cameras

_CROSS = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4
_TENT = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
_CURVATURE = torch.zeros(5, 5)
_CURVATURE[2, 2] = 0.5
_CURVATURE[0, 2] = _CURVATURE[4, 2] = _CURVATURE[2, 0] = _CURVATURE[2, 4] = -0.125
_GAMMA = 2.2  # tone curve


def _filtered(planes: Tensor, weights: Tensor) -> Tensor:
    padded = functional.pad(planes[None], (weights.shape[-1] // 2,) * 4, "circular")
    return functional.conv2d(padded, weights.expand(len(planes), 1, *weights.shape), groups=len(planes))[0]


def _demosaicked(linear: Tensor, phase: tuple[int, int]) -> Tensor:
    """(3, h, w) behind a Bayer mosaic, h and w even, periodic.

    The missing greens and the colour differences are interpolated linearly, the greens corrected by the second
    difference of the band that is there (Hamilton, Adams, US patent 5,629,734, 1997, without its choice of a
    direction).
    """
    h, w = linear.shape[1:]
    rows, columns = torch.arange(h)[:, None] + phase[0], torch.arange(w)[None, :] + phase[1]
    red = ((rows % 2 == 0) & (columns % 2 == 0)).float()
    blue = ((rows % 2 == 1) & (columns % 2 == 1)).float()
    green = 1 - red - blue
    seen = (linear * torch.stack([red, green, blue])).sum(0, keepdim=True)
    full_green = green * seen + (1 - green) * (_filtered(seen * green, _CROSS) + _filtered(seen, _CURVATURE))
    differences = torch.cat([(seen - full_green) * red, (seen - full_green) * blue])
    spread = _filtered(differences, _TENT)
    return torch.cat([full_green + spread[:1], full_green, full_green + spread[1:]])


def through_camera(rgb: Tensor, colour: bool, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.float64]]:
    """What a camera makes of an image, (3, h, w), in front of it, and σ of what the sensor's noise became."""
    light = rgb.clamp(1e-4, 1) ** _GAMMA
    slope, floor = 0.003 * rng.random() ** 2, (0.6 / 255 * rng.random()) ** 2
    noise = (slope * light + floor).sqrt() * _white(rng, light.shape, 0.0, colour)
    phase = int(rng.integers(2)), int(rng.integers(2))
    smoothing = rng.uniform(0.0, 1.0)  # how much of the chroma noise is smoothed away

    def developed(sensor: Tensor) -> Tensor:
        bands = _demosaicked(sensor, phase) if colour else sensor
        encoded = bands.clamp(1e-4, 1) ** (1 / _GAMMA)
        if not colour:
            return encoded
        planes = to_planes(encoded[None])[:, 0]
        chroma = torch.lerp(planes[1:], _filtered(planes[1:], _TENT / 4), smoothing)
        return from_planes(torch.cat([planes[:1], chroma])[:, None])[0]

    without_noise, result = developed(light), developed(light + noise)
    difference = to_planes((result - without_noise)[None])[:, 0]
    sigmas = np.array([float(difference[0].std()), float(difference[1:].square().mean().sqrt()) if colour else 0.0])
    if rng.random() < 0.7:
        result, compression = _jpeg(result, int(rng.integers(80, 99)), colour, rng)
        sigmas = np.hypot(sigmas, compression)
    return result, sigmas * math.exp(rng.normal(0, _CAMERA_ERROR))
