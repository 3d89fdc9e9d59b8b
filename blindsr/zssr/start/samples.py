"""What the steps and the noise estimate look at: the whole of a small image, windows of a large one."""

import torch
from torch import Tensor

from blindsr.ops.noise import estimate_blocking, estimate_noise
from blindsr.zssr.source import Source, most_detailed, spread_windows, whole
from blindsr.zssr.start.inference import to_planes

__all__ = ["LEARNED_PIXELS", "LEAST_NOISE_SIDE", "learned_planes", "noise_of"]

# HR pixels, over all planes, that the steps learn from: the cost of an adaptation does not grow with the image. The
# largest photograph of the usual measuring sets (1.5 megapixels, enlarged twofold) is still looked at as a whole.
LEARNED_PIXELS = 6_000_000
LEAST_NOISE_SIDE = 96  # LR pixels of an image whose noise is estimated: a smaller one may be texture all over
_WINDOWS = 4  # of a large image, at least
_MOST_WINDOWS = 16  # of an image of many bands: each window is of one band
_CANDIDATES = 4  # windows that are looked at for each one that is kept
_NOISE_WINDOW, _NOISE_WINDOWS = 256, 16


def learned_bands(bands: int) -> int:
    """Planes that the network works on: luma of a colour image, all of any other."""
    return 1 if bands == 3 else bands


def learned_planes(source: Source, scale: int, pixels: int = LEARNED_PIXELS) -> Tensor:
    """The planes that the network learns from: (P, 1, h, w), [0, 1].

    Of an image that is larger than `pixels` HR pixels, windows of the most detail; band by band where there are
    several, as every band has its own.
    """
    bands, height, width = source.shape
    learned = learned_bands(bands)
    if height * width * learned * scale**2 <= pixels:
        return to_planes(whole(source))[:learned]
    count = min(max(_WINDOWS, learned), _MOST_WINDOWS)
    side = int((pixels / count) ** 0.5) // scale
    windows = most_detailed(source, spread_windows(source, side, _CANDIDATES * count), count)
    planes = [to_planes(source.window(*window))[:learned] for window in windows]
    return torch.cat([part[i * learned // count % learned][None] for i, part in enumerate(planes)])


def noise_of(source: Source, pixels: int = LEARNED_PIXELS) -> float:
    """Standard deviation of the noise, [0, 1] units, on the planes that are learned; 0 of a small image."""
    bands, height, width = source.shape
    learned = learned_bands(bands)
    if min(height, width) < LEAST_NOISE_SIDE:
        return 0.0
    if height * width * learned <= pixels // 4:
        planes = to_planes(whole(source))[:learned].transpose(0, 1)
        return max(estimate_noise(planes), estimate_blocking(planes))
    windows = spread_windows(source, _NOISE_WINDOW, _NOISE_WINDOWS)
    parts = [to_planes(source.window(*window))[:learned] for window in windows]
    return estimate_noise(torch.cat(parts).contiguous())
