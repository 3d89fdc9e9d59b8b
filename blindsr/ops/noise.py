"""How noisy an image is: the standard deviation of white noise, from its smoothest tiles."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError

__all__ = ["estimate_blocking", "estimate_noise"]

_TILE = 16
_LINE = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth difference: its square sum is 70
_LOWEST = 0.1  # share of the tiles, the smoothest, that are believed to show noise alone
_FEWEST = 4  # tiles
_COARSE = (1.0, -2.0, 1.0)  # second difference, which shows texture more than noise
# Variance of the second difference against the fourth's, both of unit gain for white noise, on the smoothest tiles: of
# noise (over 1, as the tiles are chosen by the latter), and of texture.
_RATIO_OF_NOISE, _RATIO_OF_TEXTURE = 1.2, 2.4
_BIAS = 0.816  # standard deviation that the lowest tenth of tiles of pure noise show, against the true one
_CLIPPED = 1 / 255  # tiles with values this near to black or white have lost some of their noise
_ROUNDING = 1 / 255 / math.sqrt(12)
# Noise of this size is no texture; where the middle tile is this much noisier than the smoothest, it grows with the
# brightness (speckle, photons), and the smoothest tiles are the dark ones.
_CERTAIN = 3 / 255
_UNEVEN = 1.35
_BLOCK = 8  # px: of JPEG
_LARGEST_STEP = 30 / 255  # an edge of the photograph is no edge of a block
_LEAST_BLOCKING = 0.5 / 255  # photographs that were never compressed have up to 0.27 grey levels
_BLOCKING_TO_NOISE = 0.8


def estimate_noise(image: Tensor) -> float:
    """Estimate the standard deviation of white noise in an image.

    The fourth difference along both axes keeps the corners of the spectrum, where a lens leaves little and white noise
    is as strong as anywhere; edges along the axes vanish. Its size is taken on the smoothest tiles, as texture looks
    like noise, and what looks more like texture than like white noise through a second, coarser filter is taken off.
    Of 31 clean photographs one was judged to have over half a grey level; noise of 0.7 to 5 grey levels is found within
    a tenth on most. Noise that is no longer white (enlarged, denoised) is taken for texture. What compression has
    smoothed away is not found.

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
    variance, coarse = _variance(planes, _LINE), _variance(planes[..., 1:-1, 1:-1], _COARSE)
    inner = planes[..., 2:-2, 2:-2]
    brightest, darkest = functional.max_pool2d(inner, _TILE), -functional.max_pool2d(-inner, _TILE)
    unclipped = ((darkest > _CLIPPED) & (brightest < 1 - _CLIPPED)).flatten()
    usable = variance[unclipped]
    if len(usable) < _FEWEST:
        return 0.0
    coarse, order = coarse[unclipped], usable.argsort()
    lowest = order[: max(_FEWEST, int(_LOWEST * len(usable)))]
    sigma = math.sqrt(_white(usable[lowest], coarse[lowest])) / _BIAS
    if sigma > _CERTAIN:
        half, width = len(usable) // 2, max(_FEWEST, len(lowest)) // 2
        middle = order[half - width : half + width]
        uneven = math.sqrt(_white(usable[middle], coarse[middle]))
        sigma = uneven if uneven > _UNEVEN * sigma else sigma
    return math.sqrt(max(0.0, sigma**2 - _ROUNDING**2))


def _variance(planes: Tensor, line: tuple[float, ...]) -> Tensor:
    """Mean square of a difference along both axes, tile by tile; white noise keeps its variance."""
    taps = planes.new_tensor(line)
    differences = functional.conv2d(planes, (taps[:, None] * taps)[None, None] / taps.square().sum())
    return functional.avg_pool2d(differences.square(), _TILE).flatten()


def _white(fine: Tensor, coarse: Tensor) -> float:
    """What of the fourth difference's variance is noise: of texture, whose spectrum falls, the second has more."""
    variance = float(fine.mean())
    ratio = float(coarse.mean()) / max(variance, 1e-12)
    share = (_RATIO_OF_TEXTURE - ratio) / (_RATIO_OF_TEXTURE - _RATIO_OF_NOISE)
    return variance * min(1.0, max(0.0, share))


def estimate_blocking(image: Tensor) -> float:
    """Estimate what a JPEG's compression added, from the seams between its 8×8 blocks.

    A step across a seam shows in the third difference, which a smooth gradient does not have; what is over the mean of
    the seven other positions is the compression's. For a PNG or TIFF that once was a JPEG: the file's own tables say
    more. A picture that was cropped out of step with the blocks, or resized since, shows nothing.

    Args:
        image: (B, C, H, W), [0, 1], sides of 32 px or more; bands are judged together.

    Returns:
        σ in [0, 1] units, about what a decoded JPEG differs from its original by; 0.0 where no seams are seen.

    Raises:
        ImageError: Not (B, C, H, W), or too small.

    References:
        Wang, Bovik, Evans, "Blind measurement of blocking artifacts in images", ICIP 2000, for seams as a measure.
    """
    if image.ndim != 4 or min(image.shape[-2:]) < 4 * _BLOCK:
        raise ImageError(
            f"blocks are looked for in images (B, C, H, W) of {4 * _BLOCK} px a side or more, got {tuple(image.shape)}."
        )
    seams = []
    for plane in (image, image.mT):
        steps = plane[..., :-3] - 3 * plane[..., 1:-2] + 3 * plane[..., 2:-1] - plane[..., 3:]
        steps = steps.abs().clamp(max=_LARGEST_STEP)
        means = torch.stack([steps[..., place::_BLOCK].mean() for place in range(_BLOCK)]).double()
        others = torch.cat([means[: _BLOCK - 2], means[_BLOCK - 1 :]])
        seam = means[_BLOCK - 2] - others.mean()
        # Both ways, and over every other position: a pattern of the scene has one way, or other maxima as well.
        if seam < _LEAST_BLOCKING / 2 or means[_BLOCK - 2] <= others.max():
            return 0.0
        seams.append(float(seam))
    blocking = sum(seams) / 2
    return _BLOCKING_TO_NOISE * blocking if blocking >= _LEAST_BLOCKING else 0.0
