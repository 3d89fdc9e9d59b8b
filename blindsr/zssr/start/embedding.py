"""A kernel as the network sees it: its transfer function at fixed frequencies of the LR grid.

One description for kernels of every size, shape, centre and scale: the Fourier transform K(f) at frequencies f in
cycles per LR pixel, compressed so that a transfer of 1 % is told from one of 0.1 %. It is continuous in the kernel,
does not change when a kernel is padded with zeros, and knows where the kernel's centre lies (by its phase).
"""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["EMBEDDING_LENGTH", "embed"]

_STEP = 0.125  # cycles per LR pixel: tells kernels apart that are up to 1/step = 8 LR pixels long
_LARGEST = 1.0  # cycles per LR pixel: the LR grid's own Nyquist is 0.5, beyond lies what is aliased onto it
_KNEE = 50.0  # transfers below 1/knee are told apart linearly, above logarithmically


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
_NOISE_KNEE = 0.25 / 255  # noise below a quarter of a grey level drowns in the rounding to 8 bits
_UNKNOWN_SCALE = 0.04  # error of the transfer function of an estimated kernel: about 1 in the embedding
EMBEDDING_LENGTH = 2 * len(_FREQUENCIES) + 1


def embed(kernels: Tensor, scale: int, noise_sigma: Tensor | float = 0.0, kernel_error: Tensor | float = 0.0) -> Tensor:
    """Describe kernels, noise and trust in the kernel by numbers of size about 1.

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
    sigma, unknown = (
        torch.as_tensor(value, dtype=torch.float64, device=batch.device).reshape(-1, 1)
        for value in (noise_sigma, kernel_error)
    )
    # One number for both: noise makes it positive, doubt about the kernel takes about 1 off.
    level = torch.log1p(sigma / _NOISE_KNEE) / 4 - unknown / _UNKNOWN_SCALE
    return torch.cat([compressed, level.expand(len(batch), 1)], 1).to(torch.float32)
