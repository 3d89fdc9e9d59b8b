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

from blindsr.kernels import Kernel
from blindsr.ops import dihedral
from blindsr.upscalers.base import Degradation

__all__ = ["CLEAN", "EMBEDDING_LENGTH", "Conditioning", "conditioning_of", "embed", "symmetric_views"]

# Noise at or below this, in [0, 1] units, cannot be distinguished from texture. Above it, back-projection would carry
# the noise that was just removed back into the image: at one grey level it costs 1 dB, without noise it gains 0.2 dB.
CLEAN = 0.5 / 255
# The network is conditioned on three quarters of the measured noise above three grey levels: its training images have
# less fine texture than photographs, so that a network conditioned on strong noise smooths too much.
_STRONG_NOISE, _STRONG_NOISE_SHARE = 3 / 255, 0.75
# The first 1, 2, 4 or 8 of the dihedral views: the half turn first, under which most kernels are symmetric.
_VIEW_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_SAME_KERNEL = 1e-3  # largest difference between views of a kernel, relative to its peak

_STEP = 0.125  # cycles per LR pixel: resolves kernels that are up to 1/step = 8 LR pixels long
_LARGEST = 1.0  # cycles per LR pixel: the LR grid's own Nyquist is 0.5, beyond lies what is aliased onto it
_KNEE = 50.0  # transfers below 1/knee are compressed linearly, above logarithmically


def _frequencies() -> Tensor:
    """(F, 2), (y, x): the half-disc |f| ≤ largest; the other half is its complex conjugate."""
    count = round(_LARGEST / _STEP)
    grid = [
        (y * _STEP, x * _STEP)
        for y in range(-count, count + 1)
        for x in range(count + 1)
        if (x > 0 or y > 0) and math.hypot(x, y) <= count + 1e-9
    ]
    return torch.from_numpy(np.array(grid))


_FREQUENCIES = _frequencies()
_NOISE_KNEE = 0.25 / 255  # noise below a quarter of a grey level is masked by the rounding to 8 bits
_KERNEL_ERROR_SCALE = 0.04  # error of the transfer function of an estimated kernel: about 1 in the embedding
EMBEDDING_LENGTH = 2 * len(_FREQUENCIES) + 1


def embed(kernels: Tensor, scale: int, noise_sigma: Tensor | float = 0.0, kernel_error: Tensor | float = 0.0) -> Tensor:
    """Describe kernels, noise and the uncertainty of the kernel by numbers of size about 1.

    Args:
        kernels: (B, K, K) or (K, K), correlation kernels, K ≡ scale (mod 2), sum 1.
        scale: Factor from LR to HR.
        noise_sigma: Standard deviation of the LR image's noise, [0, 1] units; a number or (B,).
        kernel_error: Standard deviation of the error of the transfer function; a number or (B,).

    Returns:
        (B, EMBEDDING_LENGTH), float32, on the device of `kernels`.
    """
    batch = kernels.reshape(-1, *kernels.shape[-2:]).to(torch.float64)
    side = batch.shape[-1]
    centred = (torch.arange(side, dtype=torch.float64, device=batch.device) - (side - 1) / 2) / scale
    frequencies = _FREQUENCIES.to(batch.device)
    rows = torch.exp(-2j * math.pi * frequencies[:, :1] * centred)
    columns = torch.exp(-2j * math.pi * frequencies[:, 1:] * centred)
    transfer = torch.einsum("fy,byx,fx->bf", rows, batch.to(rows.dtype), columns)
    size = transfer.abs()
    # log(1 + knee·z)/log(1 + knee) of the modulus, the phase kept; smooth through zero.
    gain = torch.log1p(_KNEE * size) / (math.log1p(_KNEE) * size.clamp_min(1e-12))
    compressed = torch.view_as_real(transfer * gain).flatten(1)
    sigma, error = (
        torch.as_tensor(value, dtype=torch.float64, device=batch.device).reshape(-1, 1)
        for value in (noise_sigma, kernel_error)
    )
    # One number for both: noise raises it, an uncertain kernel lowers it by about 1.
    level = torch.log1p(sigma / _NOISE_KNEE) / 4 - error / _KERNEL_ERROR_SCALE
    return torch.cat([compressed, level.expand(len(batch), 1)], 1).to(torch.float32)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What filters and network are conditioned on for one plane.

    Args:
        noise_sigma: Standard deviation of the noise, [0, 1] units, as it is passed to the Wiener filter and
            the network.
        kernel_error: Standard deviation of the error of the kernel's transfer function.
    """

    noise_sigma: float = 0.0
    kernel_error: float = 0.0


def conditioning_of(degradation: Degradation, plane: int, *, scaled: bool = True) -> Conditioning:
    """The conditioning for one plane of an image.

    Args:
        degradation: The measured degradation.
        plane: Index of the plane as `blindsr.ops.color.to_planes` orders them.
        scaled: Whether strong noise is scaled for a network trained on synthetic images; see `_STRONG_NOISE_SHARE`.
    """
    sigma = degradation.plane_sigma(plane)
    if scaled:
        sigma = min(sigma, _STRONG_NOISE) + _STRONG_NOISE_SHARE * max(0.0, sigma - _STRONG_NOISE)
    return Conditioning(max(sigma, degradation.compression_sigma), degradation.kernel_error)


def symmetric_views(kernel: Kernel, ensemble: int) -> tuple[int, ...]:
    """The dihedral views to average over: the first `ensemble` if the kernel is the same under all of them, else one.

    A view of the image turns its kernel as well. Where that is a different kernel, it is one that the adaptation has
    not trained on, and the mean is no better.

    Args:
        kernel: Downscaling kernel.
        ensemble: 1, 2, 4 or 8.

    Returns:
        Views as `ops.dihedral` numbers them; the first is 0, the image as it is.

    References:
        Timofte, Rothe, Van Gool, "Seven ways to improve example-based single image super resolution", CVPR 2016,
        section 3.
    """
    views = _VIEW_ORDER[:ensemble]
    weights = kernel.tensor()
    allowed = _SAME_KERNEL * float(weights.abs().max())
    same = all(float((dihedral(weights, view) - weights).abs().max()) <= allowed for view in views)
    return views if same else _VIEW_ORDER[:1]
