"""How noisy an image is: the standard deviation of white noise, from its smoothest tiles."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError

__all__ = ["estimate_noise"]

_TILE = 16
_LINE = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth difference: its square sum is 70
_LOWEST = 0.1  # share of the tiles, the smoothest, that are believed to show noise alone
_FEWEST = 4  # tiles
_BIAS = 0.816  # standard deviation that the lowest tenth of tiles of pure noise show, against the true one
_CLIPPED = 1 / 255  # tiles with values this near to black or white have lost some of their noise
_ROUNDING = 1 / 255 / math.sqrt(12)


def estimate_noise(image: Tensor) -> float:
    """Estimate the standard deviation of white noise in an image.

    The fourth difference along both axes keeps the corners of the spectrum, where a lens leaves little and white noise
    is as strong as anywhere; edges along the axes vanish. Its size is taken on the smoothest tiles, as texture looks
    like noise; a sharp image that is textured all over is still judged too noisy, by 3 grey levels in the worst of
    35 images. What compression has smoothed away is not found.

    Args:
        image: (B, C, H, W), [0, 1], sides of 32 px or more; bands are judged together.

    Returns:
        σ in [0, 1] units, without what rounding to 8 bits alone makes; 0.0 for an image without a usable tile.

    Raises:
        ImageError: Not (B, C, H, W), or too small.

    References:
        Immerkær, "Fast noise variance estimation", CVIU 1996, with the second difference.
    """
    if image.ndim != 4 or min(image.shape[-2:]) < 2 * _TILE:
        raise ImageError(
            f"noise is estimated from images (B, C, H, W) of {2 * _TILE} px a side or more, got {tuple(image.shape)}."
        )
    planes = image.reshape(-1, 1, *image.shape[-2:]).to(torch.float32)
    line = planes.new_tensor(_LINE)
    differences = functional.conv2d(planes, (line[:, None] * line)[None, None] / line.square().sum())
    variance = functional.avg_pool2d(differences.square(), _TILE).flatten()
    inner = planes[..., 2:-2, 2:-2]
    brightest, darkest = functional.max_pool2d(inner, _TILE), -functional.max_pool2d(-inner, _TILE)
    usable = variance[((darkest > _CLIPPED) & (brightest < 1 - _CLIPPED)).flatten()]
    if len(usable) < _FEWEST:
        return 0.0
    lowest = usable.sort().values[: max(_FEWEST, int(_LOWEST * len(usable)))]
    sigma = math.sqrt(float(lowest.mean())) / _BIAS
    return math.sqrt(max(0.0, sigma**2 - _ROUNDING**2))
