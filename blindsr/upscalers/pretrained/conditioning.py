"""What the network is conditioned on: the kernel's transfer function, the noise level and the kernel's uncertainty.

The kernel is described by its Fourier transform K(f) at fixed frequencies f in cycles per LR pixel, one description for
kernels of every size, shape, centre and scale. It is compressed so that a transfer of 1 % differs clearly from one of
0.1 %. It is continuous in the kernel, does not change when a kernel is padded with zeros, and its phase carries the
position of the kernel's centre.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blindsr.upscalers.base import Degradation

__all__ = ["CLEAN", "EMBEDDING_LENGTH", "SCALES", "Conditioning", "conditioning_of", "embed"]

SCALES = (2, 3, 4)
# Noise at or below this, in [0, 1] units, cannot be distinguished from texture. Above it, back-projection would carry
# the noise that was just removed back into the image: at one grey level it costs 1 dB, without noise it gains 0.2 dB.
CLEAN = 0.5 / 255
_KNEE = 50.0  # transfers below 1/knee are compressed linearly, above logarithmically
_NOISE_KNEE = 0.25 / 255  # noise below a quarter of a grey level is masked by the rounding to 8 bits
_KERNEL_ERROR_SCALE = 0.04  # 1 in the embedding
# Error of chroma in a JPEG as a share of that of luma. The usual tables give 2.2, and subsampling 1.6 times as much;
# half of it was measured to be best (docs/notes/2026-11-28-start-on-photographs.md).
_CHROMA_COMPRESSION = 1.8


def _frequencies() -> Tensor:
    """(F, 2), (y, x), cycles per LR pixel: half-discs, every 1/16 up to 0.5 and every 1/8 up to 1.

    The other halves are complex conjugates. Steps of 1/16 distinguish kernels of up to 16 LR pixels.
    """
    grid = [
        (y / 16, x / 16)
        for y in range(-16, 17)
        for x in range(17)
        if (x > 0 or y > 0) and (math.hypot(y, x) <= 8 or (math.hypot(y, x) <= 16 and x % 2 == 0 and y % 2 == 0))
    ]
    return torch.from_numpy(np.array(grid))


_FREQUENCIES = _frequencies()
EMBEDDING_LENGTH = 2 * len(_FREQUENCIES) + 4 + len(SCALES)


def embed(
    kernels: Tensor,
    scale: int,
    noise_sigma: Tensor | float = 0.0,
    chroma_sigma: Tensor | float = 0.0,
    kernel_error: Tensor | float = 0.0,
    coloured: Tensor | bool = True,
) -> Tensor:
    """Describe kernels, noise, the uncertainty of the kernel and the scale by numbers of size about 1.

    Args:
        kernels: (B, K, K) or (K, K), correlation kernels, K ≡ scale (mod 2), sum 1.
        scale: Factor from LR to HR.
        noise_sigma: Standard deviation of the noise in the LR image's luma or band, [0, 1] units; a number or (B,).
        chroma_sigma: That of its chroma planes B − Y and R − Y, root mean square of both; 0 without colour.
        kernel_error: Standard deviation of the error of the transfer function.
        coloured: Whether there are chroma planes.

    Returns:
        (B, EMBEDDING_LENGTH), float32, on the device of `kernels`.
    """
    batch = kernels.reshape(-1, *kernels.shape[-2:]).to(torch.float64)
    side = batch.shape[-1]
    centred = (torch.arange(side, dtype=torch.float64, device=batch.device) - (side - 1) / 2) / scale
    frequencies = _FREQUENCIES.to(batch.device)
    rows = torch.exp(-2j * math.pi * frequencies[:, :1] * centred)
    columns = torch.exp(-2j * math.pi * frequencies[:, 1:] * centred)
    transfer = ((rows @ batch.to(rows.dtype)) * columns).sum(-1)
    size = transfer.abs()
    # log(1 + knee·z)/log(1 + knee) of the modulus, the phase kept; smooth through zero.
    gain = torch.log1p(_KNEE * size) / (math.log1p(_KNEE) * size.clamp_min(1e-12))
    compressed = torch.view_as_real(transfer * gain).flatten(1)
    luma, chroma, error, colour = (
        torch.as_tensor(value, dtype=torch.float64, device=batch.device).reshape(-1, 1).expand(len(batch), 1)
        for value in (noise_sigma, chroma_sigma, kernel_error, coloured)
    )
    levels = [torch.log1p(sigma / _NOISE_KNEE) / 2 for sigma in (luma, chroma)]
    which = torch.tensor([float(s == scale) for s in SCALES], dtype=torch.float64, device=batch.device)
    numbers = [*levels, error / _KERNEL_ERROR_SCALE, colour, which.expand(len(batch), -1)]
    return torch.cat([compressed, *numbers], 1).to(torch.float32)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What filters and network are conditioned on, for one band or for luma and chroma.

    Args:
        noise_sigma: Standard deviation of the noise of the band or of luma, [0, 1] units.
        chroma_sigma: That of chroma, root mean square of both planes; 0 for a band.
        kernel_error: Standard deviation of the error of the kernel's transfer function.
    """

    noise_sigma: float = 0.0
    chroma_sigma: float = 0.0
    kernel_error: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether there is no noise that could be distinguished from texture."""
        return max(self.noise_sigma, self.chroma_sigma) <= CLEAN


def conditioning_of(degradation: Degradation, group: int, *, colour: bool) -> Conditioning:
    """The conditioning for a colour image, or for one band of any other image.

    Args:
        degradation: The measured degradation.
        group: Index of the band; 0 for a colour image.
        colour: Whether the image has luma and chroma.
    """
    compression = degradation.compression_sigma
    sigma = max(degradation.plane_sigma(group), compression)
    if not colour:
        return Conditioning(sigma, 0.0, degradation.kernel_error)
    chroma = math.sqrt(sum(degradation.plane_sigma(plane) ** 2 for plane in (1, 2)) / 2)
    chroma = max(chroma, _CHROMA_COMPRESSION * compression, degradation.mosaic_sigma)
    return Conditioning(sigma, chroma, degradation.kernel_error)
