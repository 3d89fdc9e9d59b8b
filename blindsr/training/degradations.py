"""Degradations of the training: a bank of random kernels, and random noise, speckle and JPEG compression."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.kernels.random import training_kernel

__all__ = ["KernelBank", "NoiseLaw", "add_noise", "draw_noise_sigma"]

_LOG_LEVEL_ERROR = 0.3  # σ of the log of the noise level in the conditioning: estimates of it are inexact, too
_SPECKLE_BRIGHTNESS = 0.45  # at which the noise that grows with the brightness has the σ that was drawn
_MIN_QUALITY = 20  # of JPEG
_ANNEX_K = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
_ROWS, _COLUMNS = np.indices((8, 8))
_DCT = np.where(_ROWS, 0.5, 0.5**1.5).astype(np.float32) * np.cos(
    np.pi / 16 * _ROWS * (2 * _COLUMNS + 1), dtype=np.float32
)


class KernelBank:
    """`size` random kernels per scale, drawn once: drawing a kernel costs more than applying it."""

    def __init__(self, seed: int, size: int) -> None:
        self._seed, self._size = seed, size
        self._kernels: dict[tuple[int, int], NDArray[np.float32]] = {}

    def draw(self, rng: np.random.Generator, scale: int) -> NDArray[np.float32]:
        """One of the kernels of this scale, in one of its eight dihedral views."""
        key = scale, int(rng.integers(self._size))
        if key not in self._kernels:
            kernel_rng = np.random.default_rng([self._seed, *key])
            self._kernels[key] = training_kernel(kernel_rng, scale).astype(np.float32)
        view = int(rng.integers(8))
        rotated = np.rot90(self._kernels[key], view % 4)
        return rotated[:, ::-1] if view >= 4 else rotated


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLaw:
    """Noise of the training's LR images."""

    noisy_share: float = 0.35  # share of the images that are not clean
    max_sigma: float = 10.0  # grey levels; σ is max_sigma·u², with u uniform in [0, 1]
    speckle_share: float = 0.0  # share of the noisy images whose noise grows with the brightness …
    jpeg_share: float = 0.0  # … and share of those that are compressed; the others have white noise


def draw_noise_sigma(rng: np.random.Generator, law: NoiseLaw) -> float:
    """Draw the noise level of one LR image: σ in [0, 1] units, 0.0 for a clean image."""
    return 0.0 if rng.random() < 1 - law.noisy_share else float(law.max_sigma / 255 * rng.random() ** 2)


def add_noise(lr: Tensor, sigma: Tensor, law: NoiseLaw, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Add white noise, speckle or compression artefacts to images, and round them to 8 bits.

    Args:
        lr: (B, h, w), [0, 1], periodic; the sides are multiples of 8 if the law has JPEG.
        sigma: (B,), from `draw_noise_sigma`; images with 0 stay clean.
        law: The kinds of noise.
        rng: Random generator.

    Returns:
        The images, and the σ for the conditioning, about what noise estimation or the JPEG's tables would give.
    """
    white = torch.from_numpy(rng.standard_normal(lr.shape, dtype=np.float32))
    conditioning, noisy = sigma.clone(), lr + sigma[:, None, None] * white
    if law.speckle_share or law.jpeg_share:
        for i in np.flatnonzero(sigma.numpy()):
            kind, error = rng.random(), math.exp(rng.normal(0, _LOG_LEVEL_ERROR))
            if kind < law.speckle_share:
                noisy[i] = lr[i] * (1 + sigma[i] / _SPECKLE_BRIGHTNESS * white[i])
                conditioning[i] = sigma[i] * error
            elif kind < law.speckle_share + law.jpeg_share:
                quality = int(rng.integers(_MIN_QUALITY, 100))
                noisy[i] = _compressed(lr[i], quality, rng.integers(0, 8, 2))
                conditioning[i] = _quantisation_noise(quality) * min(error, 1.2)
    return torch.round(noisy * 255) / 255, conditioning


def _luma_steps(quality: int) -> NDArray[np.float32]:
    """Quantisation steps of luma, (8, 8): ITU-T T.81, Annex K, scaled by the quality as libjpeg does."""
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    return np.clip(np.floor(_ANNEX_K * factor + 0.5), 1, 255).astype(np.float32)


def _quantisation_noise(quality: int) -> float:
    """σ of uniform rounding to the steps of the lower frequencies, [0, 1] units: `image_io.jpeg_noise_sigma`."""
    return float(np.sqrt(np.mean(_luma_steps(quality)[_ROWS + _COLUMNS <= 7] ** 2) / 12) / 255)


def _compressed(image: Tensor, quality: int, phase: NDArray[np.int64]) -> Tensor:
    """A periodic image after JPEG compression with this quality, with blocks that begin at `phase`."""
    height, width = image.shape
    steps, dct = torch.from_numpy(_luma_steps(quality)), torch.from_numpy(_DCT)
    y, x = (int(shift) for shift in phase)
    rolled = torch.roll(image, (-y, -x), (0, 1)) * 255 - 128
    blocks = rolled.reshape(height // 8, 8, width // 8, 8).permute(0, 2, 1, 3)
    blocks = dct.T @ (torch.round(dct @ blocks @ dct.T / steps) * steps) @ dct
    decoded = (blocks.permute(0, 2, 1, 3).reshape(height, width) + 128) / 255
    return torch.roll(decoded.clamp(0, 1), (y, x), (0, 1))
