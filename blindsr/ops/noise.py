"""How noisy an image is: the standard deviation of white noise, from its smoothest tiles."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError

__all__ = ["estimate_noise"]

_TILE = 16
_LOWEST = 0.1  # share of the tiles, the smoothest, that are believed to show noise alone
_FEWEST = 4  # tiles
# The lowest tenth of tiles of pure noise shows this share of its standard deviation (200 correlated samples a tile).
_BIAS = 0.9
_CLIPPED = 2 / 255  # tiles within this distance of black or white have lost their noise
_ROUNDING = 1 / 255 / math.sqrt(12)


def estimate_noise(image: Tensor) -> float:
    """Estimate the standard deviation of white noise in an image.

    The diagonal second difference [1 −2 1]ᵀ[1 −2 1] takes away what is smooth along either axis, edges along the axes
    included, and leaves white noise times 6. Its size is taken on the smoothest tiles, as texture looks like noise;
    an image that is textured all over is still judged too noisy. What compression has smoothed away is not found.

    Args:
        image: (B, C, H, W), [0, 1], sides of 32 px or more; bands are judged together.

    Returns:
        σ in [0, 1] units, without what rounding to 8 bits alone makes; 0.0 for an image without a usable tile.

    Raises:
        ImageError: Not (B, C, H, W), or too small.

    References:
        Immerkær, "Fast noise variance estimation", CVIU 1996, for the difference.
    """
    if image.ndim != 4 or min(image.shape[-2:]) < 2 * _TILE:
        raise ImageError(
            f"noise is estimated from images (B, C, H, W) of {2 * _TILE} px a side or more, got {tuple(image.shape)}."
        )
    planes = image.reshape(-1, 1, *image.shape[-2:]).to(torch.float32)
    line = planes.new_tensor([1.0, -2.0, 1.0])
    differences = functional.conv2d(planes, (line[:, None] * line)[None, None] / 6)
    variance = functional.avg_pool2d(differences.square(), _TILE).flatten()
    level = functional.avg_pool2d(planes[..., 1:-1, 1:-1], _TILE).flatten()
    usable = variance[(level > _CLIPPED) & (level < 1 - _CLIPPED)]
    if len(usable) < _FEWEST:
        return 0.0
    lowest = usable.sort().values[: max(_FEWEST, int(_LOWEST * len(usable)))]
    sigma = math.sqrt(float(lowest.mean())) / _BIAS
    return math.sqrt(max(0.0, sigma**2 - _ROUNDING**2))
