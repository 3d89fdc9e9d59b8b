"""Colour: luma, the planes that networks work on, and the transfer curve of sRGB."""

import torch
from torch import Tensor

BT601 = (0.299, 0.587, 0.114)  # share of red, green and blue in luma (ITU-R BT.601)

_SRGB_THRESHOLD = 0.04045  # encoded value below which the sRGB curve is linear
_LINEAR_THRESHOLD = 0.04045 / 12.92


def luma(image: Tensor) -> Tensor:
    """Reduce an image, (1, C, H, W), to (H, W), float64: BT.601 luma of RGB, the mean of the bands of anything else.

    Chroma is left out because JPEG's 4:2:0 subsampling blurs it by another kernel.
    """
    planes = image[0].double()
    if planes.shape[0] == 3:
        weights = torch.tensor(BT601, dtype=planes.dtype, device=planes.device)
        return (weights[:, None, None] * planes).sum(0)
    return planes.mean(0)


def to_planes(image: Tensor, *, has_colors: bool = True) -> Tensor:
    """Split an image, (1, C, H, W), into planes, (C, 1, H, W): Y, B − Y and R − Y of RGB, the bands otherwise.

    Args:
        image: The image.
        has_colors: Whether three bands are red, green and blue (`blindsr.ops.bands.are_colors`).
    """
    planes = image.transpose(0, 1)
    if len(planes) != 3 or not has_colors:
        return planes
    y = sum(weight * band for weight, band in zip(BT601, planes, strict=True))
    return torch.stack([y, planes[2] - y, planes[0] - y])


def from_planes(planes: Tensor, *, has_colors: bool = True) -> Tensor:
    """Undo `to_planes`: (C, 1, H, W) to (1, C, H, W)."""
    if len(planes) != 3 or not has_colors:
        return planes.transpose(0, 1)
    y, blue, red = planes
    green = -(BT601[0] * red + BT601[2] * blue) / BT601[1]
    return torch.stack([y + red, y + green, y + blue], 1)


def plane_count(bands: int) -> int:
    """Number of planes that carry detail: luma alone of a colour image (3 bands), every band of any other."""
    return 1 if bands == 3 else bands


def srgb_to_linear(encoded: Tensor) -> Tensor:
    """Decode sRGB samples of any shape, [0, 1], to linear light: E/12.92 up to 0.04045, else ((E + 0.055)/1.055)^2.4.

    References:
        IEC 61966-2-1:1999. Display P3 uses the same curve; that of Adobe RGB (a power of 2.2) is within 0.01 of it.

    Example:
        >>> import torch
        >>> srgb_to_linear(torch.tensor([0.5])).round(decimals=4).item()
        0.21400000154972076
    """
    above = ((encoded.clamp(min=_SRGB_THRESHOLD) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= _SRGB_THRESHOLD, encoded / 12.92, above)


def linear_to_srgb(light: Tensor) -> Tensor:
    """Encode linear light as sRGB samples: the inverse of `srgb_to_linear`."""
    above = 1.055 * light.clamp(min=_LINEAR_THRESHOLD) ** (1 / 2.4) - 0.055
    return torch.where(light <= _LINEAR_THRESHOLD, light * 12.92, above)
