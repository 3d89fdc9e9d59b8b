"""Encoded samples and linear light: the transfer curve of sRGB."""

import torch
from torch import Tensor

__all__ = ["linear_to_srgb", "srgb_to_linear"]

_KNEE = 0.04045  # encoded; below it the curve is a line
_LINEAR_KNEE = 0.04045 / 12.92


def srgb_to_linear(encoded: Tensor) -> Tensor:
    """Decode samples to light: E/12.92 up to 0.04045, ((E + 0.055)/1.055)^2.4 above.

    Args:
        encoded: Any shape, [0, 1]; values outside are decoded by the nearer branch.

    Returns:
        Of the same shape, dtype and device.

    References:
        IEC 61966-2-1:1999. Display P3 has the same curve; that of Adobe RGB (a power of 2.2) is within 0.01 of it.

    Example:
        >>> srgb_to_linear(torch.tensor([0.5])).round(decimals=4).item()
        0.21400000154972076
    """
    above = ((encoded.clamp(min=_KNEE) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= _KNEE, encoded / 12.92, above)


def linear_to_srgb(light: Tensor) -> Tensor:
    """Encode light: the inverse of `srgb_to_linear`."""
    above = 1.055 * light.clamp(min=_LINEAR_KNEE) ** (1 / 2.4) - 0.055
    return torch.where(light <= _LINEAR_KNEE, light * 12.92, above)
