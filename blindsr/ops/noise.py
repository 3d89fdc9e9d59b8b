"""Estimation of the noise and of the compression artefacts of an image."""

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError
from blindsr.ops.color import BT601, to_planes
from blindsr.ops.geometry import local_mean

_NORMAL = NormalDist()
_TILE = 16
_LINE = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth difference: its square sum is 70
_SMOOTH_SHARE = 0.1  # share of the tiles, the smoothest, that are assumed to contain noise alone
_MIN_TILES = 4
_COARSE = (1.0, -2.0, 1.0)  # second difference, which responds to texture more than to noise
# Variance of the second difference against the fourth's, both of unit gain for white noise, on the smoothest tiles: of
# noise (over 1, as the tiles are chosen by the latter), and of texture.
_RATIO_OF_NOISE, _RATIO_OF_TEXTURE = 1.2, 2.4
# Shifts, px, at which the fourth difference of white noise does not correlate with itself, and that of a pattern does;
# the correlation from which there is a pattern, and the number of tiles it is measured on.
_SHIFTS, _MIN_CORRELATION, _MAX_TILES = range(5, 9), 0.3, 256
# Excess kurtosis of differences in a tile: up to this much by chance and by rounding, and that of texture, beyond.
_EXCESS_OF_NOISE, _EXCESS_OF_TEXTURE = 0.15, 1.7
_BIAS = 0.816  # standard deviation in the smoothest tenth of the tiles of pure noise, over the true one
_CLIPPED = 1 / 255  # tiles with values this near to black or white have lost some of their noise
_MAX_CLIPPED = 0.5  # share of such pixels up to which a tile is used where no others are
# Of tiles with strokes on paper: the share of pixels that have the very value of the paper, the distance up to which a
# value is near it, and the number of those, over that of the former.
_MIN_GROUND, _NEAR_GROUND, _MAX_NEAR = 0.25, 12.5 / 255, 0.4
ROUNDING = 1 / 255 / math.sqrt(12)
_RANGES, _MIN_RANGE = 4, 8  # ranges of brightness, and tiles in each, for noise that grows with the brightness
_MIN_RATIO = 1.35  # standard deviation in the brightest range over the darkest; with less, the noise is uniform
_MIN_SIGMA = 2 / 255  # in the brightest range; texture is measured as less
_MAX_MISFIT = 0.2  # of the fit, relative to the variance in the brightest range
# Tiles of background: their share, the quantile of the noise variance that theirs is near, and their variance over it.
_BACKGROUND_SHARE, _BACKGROUND_QUANTILE, _BACKGROUND_EXCESS = 0.25, 0.3, 2.0
_FINEST = 1e-7  # below the precision of float32: counts as no noise
# Of a flat floor at the end of the spectrum: the largest ratio of coarse to fine variance on all tiles (white noise has
# 1), its smallest level over that of rounding, and the largest level, above which `estimate_noise` measures it.
_MAX_FLOOR_RATIO, _OVER_ROUNDING, _OVER_ROUNDING_OF_CHROMA, _MAX_FLOOR = 1.2, 0.8, 1.3, 0.6 / 255
# Of grain: the bands of the spectrum of a tile, cycles per px, by their lower ends and the last upper one.
_GRAIN_BANDS = (0.1, 0.16, 0.23, 0.32)
# The level that is grain, in the third band; weaker, it is texture as well. From a level on it is so as well, unless it
# is symmetric, as grass and gravel with their shadows are not: mean modulus of the skewness of what tiles lack when
# they are smoothed over so many pixels (0.10 to 0.17 of Gaussian grain, 0.33 to 0.65 of grass and gravel).
_MIN_GRAIN, _MAX_GRAIN = 3.3 / 255, 25 / 255
_STRONG_GRAIN, _MAX_SKEWNESS, _SKEWNESS_SIDE = 9 / 255, 0.25, 9
# Power of the first band over the second: that of grain is flat there, and that of texture falls. Third band of the
# tiles beyond the smoothest quarter over the smoothest tiles: that of noise is even. Where it is very even, the ratio
# of the bands is this at most; where that is low, the tiles may be less even, by the slope, up to the last number.
_VERY_EVEN, _RATIO_IF_EVEN = 1.5, 1.7
_GRAIN_RATIO, _EVENNESS, _EVENNESS_SLOPE, _MAX_EVENNESS = 1.5, 2.0, 3.0, 3.0
# White noise that is amplified as much as grain of a level in the third band, as a share of it.
_WHITE_PER_GRAIN = 0.75
# Of a mosaic: the mean difference of green from its neighbours on one half of the checkerboard over that on the other,
# from which the colours were interpolated, and from which it was done linearly. Photographs have up to 1.03.
_MOSAIC, _LINEAR_MOSAIC = 1.08, 3.0
_MIN_MOSAIC = 0.5 / 255  # smallest difference on the rougher half, at which rounding does not decide
# Error of the colours over their fine detail, by a better interpolation and by the linear one.
_MOSAIC_ERROR, _LINEAR_MOSAIC_ERROR = 0.7, 2.0
_FINE_SIDE = 3  # px, side of the square whose mean is no fine detail
_FLAT_RANGE = 1.01 / 255  # of a flat image: rounding
# Of lossy codecs: log σ of the error of luma, grey levels, is linear in these five numbers: 1, log b of the bits b per
# pixel, log e of the mean second difference along both axes, log d of the first difference, and the square of log b.
# Fitted to photographs of many sharpnesses and qualities (docs/notes/2026-11-30-other-codecs.md).
_CODECS = {
    "WEBP": (0.405, -1.137, 0.528, 0.490, -0.119),
    "AVIF": (0.167, -1.100, 0.489, 0.680, -0.121),
    "HEIC": (-0.013, -1.023, 0.404, 0.604, -0.104),
    "JPEG2000": (1.191, -0.946, 0.426, 0.717, -0.165),
}
_MIN_DIFFERENCE = 0.1 / 255  # of flat images
_MAX_CODEC_ERROR = 8 / 255  # more is as well suppressed at this level, and may be the steps of a building or a drawing
# Colours of an image up to which they are a palette; fewer than the least are those of a drawing, and so are more than
# one in so many pixels. Values are told apart to one in 65,535.
_MAX_COLOURS, _MIN_COLOURS, _PIXELS_PER_COLOUR, _DISTINCT = 256, 4, 16, 65535
# Error of a colour over its distance from the nearest one: palettes have 0.5 to 1 by plane, more with dithering.
_PALETTE_ERROR = 0.6
_MOST_DISTANT = 3.0  # distance of a level from the nearest one, over that of the median pixel
# Photons that were counted: the variance of tiles with at least so many of them each is at least this share of their
# number. Few levels of a photograph have less, with dithering as well.
_COUNTED, _MIN_POISSON, _COUNT_TILE, _MIN_COUNT_TILES = 1.5, 0.6, 4, 16
# Standard deviation of noise that was smoothed, over that of the flattest tenth of the smallest tiles, at most.
_MOST_SMOOTHED, _SMALL_TILE, _FLATTEST = 10.0, 4, 0.1
_MAX_QUANTIZATION_ERROR = 10 / 255


def estimate_noise(image: Tensor, *, bands: Tensor | None = None, signal_dependent: bool = True) -> float:
    """Estimate the standard deviation of white noise in an image.

    The fourth difference along both axes passes the corners of the spectrum, where a lens leaves little and white noise
    is as strong as anywhere; edges along the axes vanish. Its variance is measured on the smoothest tiles, because
    texture resembles noise, and is reduced by the share that a second, coarser filter and the kurtosis attribute to
    texture, whose differences have heavier tails. Noise of 0.7 to 5 grey levels on photographs is mostly estimated
    within a tenth. Noise that is no longer white counts as texture, and so does a pattern that repeats within eight
    pixels (a checkerboard, a screen); noise that compression removed is not measured.

    Args:
        image: (B, C, H, W), [0, 1], sides of 32 px or more; bands are measured together.
        bands: The bands, (B, C', H, W), [0, 1], that `image` was computed from, where it is a difference of bands
            (chroma) and not an image itself: their values say which tiles are clipped.
        signal_dependent: Whether the noise may grow with the brightness (speckle, photons). Bright texture resembles it
            in luma; a colour image without noise in its chroma has no such noise.

    Returns:
        σ in [0, 1] units, without the noise of rounding to 8 bits; 0.0 for an image without a usable tile. Tiles with
        clipped pixels are used where there are hardly any others, unless half of their pixels are clipped.

    Raises:
        ImageError: Not (B, C, H, W), too small, or `bands` for more than one plane.

    References:
        Immerkær, "Fast noise variance estimation", CVIU 1996, with the second difference.
    """
    if bands is not None and image.shape[1] != 1:
        raise ImageError(f"a difference of bands is one plane, (B, 1, H, W), got {tuple(image.shape)}.")
    if image.ndim != 4 or min(image.shape[-2:]) < 2 * _TILE:
        raise ImageError(
            f"noise is estimated from images (B, C, H, W) of {2 * _TILE} px a side or more, got {tuple(image.shape)}."
        )
    planes = image.reshape(-1, 1, *image.shape[-2:]).to(torch.float32)
    differences = _differences(planes, _LINE)
    variance, coarse = _mean_square(differences), _variance(planes[..., 1:-1, 1:-1], _COARSE)
    clipped = _clipped_share(planes if bands is None else bands)
    unclipped = clipped == 0
    if int(unclipped.sum()) < _MIN_TILES:  # a night sky, a fluorescence image
        unclipped = clipped < _MAX_CLIPPED
    usable = variance[unclipped]
    if len(usable) < _MIN_TILES:
        return 0.0
    coarse = coarse[unclipped]
    if bands is None and _is_paper(planes, variance, unclipped):
        return 0.0
    tiles = _smoothest_tiles(differences, variance, unclipped)
    noise = (1 - _texture_share(tiles)) * _smoothest(usable, coarse)
    if signal_dependent:
        grey = planes if bands is None else bands.mean(1, keepdim=True).to(planes)
        brightness = functional.avg_pool2d(grey[..., 2:-2, 2:-2], _TILE).flatten()
        noise = max(noise, _signal_dependent(usable, coarse, brightness[unclipped], brightness))
    if noise > ROUNDING**2:
        noise *= 1 - _pattern_share(tiles)
    return math.sqrt(max(0.0, noise - ROUNDING**2))


def has_unclipped_tiles(bands: Tensor) -> bool:
    """Whether an image, (B, C, H, W), [0, 1], has tiles enough without clipped pixels to measure its noise on."""
    return int((_clipped_share(bands) == 0).sum()) >= _MIN_TILES


def estimate_background_noise(image: Tensor) -> float:
    """Estimate noise that is finer than the rounding to 8 bits, in an image that has tiles of nothing but noise.

    The sky between stars is such a background: in floats, whose range ends at the brightest star, its noise may be a
    thousandth of a grey level of 255. A tile counts as background if its samples vary no more than white noise with the
    fourth difference of the median tile does.

    Args:
        image: As for `estimate_noise`.

    Returns:
        σ in [0, 1] units; 0.0 where less than a quarter of the tiles are background, or the noise is coarser.
    """
    planes = image.reshape(-1, 1, *image.shape[-2:]).to(torch.float64)
    fine = _variance(planes, _LINE)
    inner = planes[..., 2:-2, 2:-2]
    total = functional.avg_pool2d(inner.square(), _TILE) - functional.avg_pool2d(inner, _TILE).square()
    variance = float(fine.quantile(_BACKGROUND_QUANTILE))
    is_background = total.flatten() <= _BACKGROUND_EXCESS * variance
    if not _FINEST**2 < variance < ROUNDING**2 or float(is_background.double().mean()) < _BACKGROUND_SHARE:
        return 0.0
    return math.sqrt(float(fine[is_background].median()))


def estimate_floor(image: Tensor, rounding: float, *, is_chroma: bool = False) -> float:
    """Estimate noise that is little more than the rounding to 8 bits, or just that, where there is no fine detail.

    On most photographs it cannot be told from texture. A wide blur leaves nothing but noise near the limit of the
    pixels, so that the noise of all tiles is white; there, it also matters most.

    Args:
        image: As for `estimate_noise`.
        rounding: Standard deviation of the rounding in these samples, [0, 1] units.
        is_chroma: Whether it is a difference of bands, whose finest detail is rounding in most photographs, which is no
            evidence of noise.

    Returns:
        σ in [0, 1] units, without rounding; 0.0 where the spectrum does not end in white noise. Of rounding alone, the
        smallest value that is not 0.
    """
    planes = image.reshape(-1, 1, *image.shape[-2:]).to(torch.float32)
    fine, coarse = float(_variance(planes, _LINE).mean()), float(_variance(planes[..., 1:-1, 1:-1], _COARSE).mean())
    lowest = (_OVER_ROUNDING_OF_CHROMA if is_chroma else _OVER_ROUNDING) * rounding
    if not lowest**2 < fine < _MAX_FLOOR**2 or coarse > _MAX_FLOOR_RATIO * fine:
        return 0.0
    return math.sqrt(max(fine - rounding**2, _FINEST))


def estimate_grain(image: Tensor) -> float:
    """Estimate noise that is no longer white: the grain of film, and noise that was demosaiced or enlarged.

    Such noise lacks the finest frequencies, which `estimate_noise` looks at. It is the same in all tiles, and about as
    strong at a tenth of the sampling frequency as at a fifth, where texture has fallen by half: what the smoothest
    tiles have, and a quarter of all tiles has hardly more of, is noise. Where texture covers the whole image, nothing
    is measured.

    Args:
        image: One plane, or parts of it, (N, 1, h, w), [0, 1].

    Returns:
        σ of the white noise that sharpening amplifies as much, [0, 1] units; 0.0 without grain.
    """
    step = _TILE // 2
    image = image.to(torch.float64)
    fine = image - local_mean(image, _SKEWNESS_SIDE)
    tiles, fine_tiles = (
        x.unfold(2, _TILE, step).unfold(3, _TILE, step).reshape(-1, _TILE, _TILE) for x in (image, fine)
    )
    flat = tiles.flatten(1)
    usable = (flat.amin(1) > _CLIPPED) & (flat.amax(1) < 1 - _CLIPPED)
    tiles, fine_tiles = tiles[usable], fine_tiles[usable]
    if len(tiles) < _MIN_TILES / _SMOOTH_SHARE:
        return 0.0
    power = _band_powers(tiles)
    order = power.mean(1).argsort()
    count = _smooth_count(order)
    smooth, more = power[order[:count]].mean(0), power[order[len(order) // 4 :][:count]].mean(0)
    level = float(smooth[2].sqrt())
    if not _MIN_GRAIN <= level <= _MAX_GRAIN:
        return 0.0
    ratio = float(smooth[0] / smooth[1])
    evenness = float(more[2] / smooth[2])
    allowed = min(_MAX_EVENNESS, _EVENNESS + _EVENNESS_SLOPE * (_GRAIN_RATIO - ratio)) if ratio <= _GRAIN_RATIO else 0.0
    if evenness > allowed and (evenness > _VERY_EVEN or ratio > _RATIO_IF_EVEN):
        return 0.0
    if level > _STRONG_GRAIN and _skewness(fine_tiles[order[: max(count, len(order) // 4)]]) > _MAX_SKEWNESS:
        return 0.0
    return _WHITE_PER_GRAIN * level


def _skewness(tiles: Tensor) -> float:
    """Mean modulus of the skewness of tiles, (N, n, n)."""
    centred = tiles.flatten(1) - tiles.mean((1, 2))[:, None]
    third, second = centred.pow(3).mean(1), centred.square().mean(1).clamp_min(1e-12)
    return float((third / second.pow(1.5)).abs().mean())


def _band_powers(tiles: Tensor) -> Tensor:
    """Mean power of tiles, (N, 16, 16), in each band, (N, bands): the variance where noise is white."""
    line = torch.linspace(-1, 1, _TILE, dtype=tiles.dtype, device=tiles.device)
    ramps = torch.stack([torch.ones_like(tiles[0]), line[:, None].expand_as(tiles[0]), line.expand_as(tiles[0])])
    plane = torch.linalg.qr(ramps.flatten(1).mT).Q
    flat = tiles.flatten(1)
    flat = flat - (flat @ plane) @ plane.mT  # a slope leaks into all frequencies
    window = torch.hann_window(_TILE, periodic=False, dtype=tiles.dtype, device=tiles.device)
    window = window[:, None] * window
    spectrum = torch.fft.fft2(flat.reshape(tiles.shape) * window).abs().square() / window.square().sum()
    frequency = torch.fft.fftfreq(_TILE, dtype=tiles.dtype, device=tiles.device)
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    bands = pairwise(_GRAIN_BANDS)
    return torch.stack([spectrum[:, (radius >= low) & (radius < high)].mean(1) for low, high in bands], 1)


def _smoothest(fine: Tensor, coarse: Tensor) -> float:
    """Variance of the noise on the smoothest tiles, as far as it is no texture, which has more second differences."""
    lowest = fine.argsort()[: _smooth_count(fine)]
    variance = float(fine[lowest].mean())
    ratio = float(coarse[lowest].mean()) / max(variance, 1e-12)
    share = (_RATIO_OF_TEXTURE - ratio) / (_RATIO_OF_TEXTURE - _RATIO_OF_NOISE)
    return variance * min(1.0, max(0.0, share)) / _bias(len(lowest) / len(fine)) ** 2


def _smooth_count(variance: Tensor) -> int:
    """The number of the smoothest tiles."""
    return max(_MIN_TILES, int(_SMOOTH_SHARE * len(variance)))


def _bias(share: float) -> float:
    """`_BIAS` of a larger share of the tiles, whose mean of a normal distribution is less far below that of all."""
    if share >= 1:
        return 1.0
    below, at_tenth = (_NORMAL.pdf(_NORMAL.inv_cdf(part)) / part for part in (share, _SMOOTH_SHARE))
    return 1 - (1 - _BIAS) * below / at_tenth


def _smoothest_tiles(differences: Tensor, variance: Tensor, usable: Tensor) -> Tensor:
    """The fourth differences of the smoothest usable tiles, (N, 16, 16)."""
    height, width = (side // _TILE * _TILE for side in differences.shape[-2:])
    tiles = differences[..., :height, :width].unfold(2, _TILE, _TILE).unfold(3, _TILE, _TILE).reshape(-1, _TILE, _TILE)
    tiles, levels = tiles[usable], variance[usable]
    return tiles[levels.argsort()[: min(_MAX_TILES, _smooth_count(levels))]]


def _is_paper(planes: Tensor, variance: Tensor, usable: Tensor) -> bool:
    """Whether the smoothest usable tiles are drawn on ground of one value, which noise would have changed.

    Noise on ground that is clipped leaves many pixels at one value as well, but more of them near it than there are on
    the edges of strokes.
    """
    height, width = ((side - 4) // _TILE * _TILE for side in planes.shape[-2:])
    inner = planes[:, 0, 2 : 2 + height, 2 : 2 + width]
    tiles = inner.unfold(1, _TILE, _TILE).unfold(2, _TILE, _TILE).reshape(-1, _TILE**2)[usable]
    levels = variance[usable]
    tiles = tiles[levels.argsort()[: min(_MAX_TILES, _smooth_count(levels))]]
    distance = (tiles - tiles.mode(1, keepdim=True).values).abs()
    ground = float((distance == 0).double().mean())
    return ground >= _MIN_GROUND and float((distance <= _NEAR_GROUND).double().mean()) < (1 + _MAX_NEAR) * ground


def _texture_share(tiles: Tensor) -> float:
    """Share of the variance of tiles that is texture, from the kurtosis: noise is Gaussian, and texture has edges.

    The excess kurtosis of the sum of independent parts is that of each times the square of its share.
    """
    power = tiles.square().mean((1, 2), keepdim=True).clamp_min(1e-12)
    excess = float((tiles.square().square() / power.square()).mean()) - 3
    return min(1.0, math.sqrt(max(0.0, excess - _EXCESS_OF_NOISE) / _EXCESS_OF_TEXTURE))


def _pattern_share(tiles: Tensor) -> float:
    """Share of the variance of tiles, (N, 16, 16), that repeats within eight pixels.

    White noise has no correlation there, and a pattern has its whole variance at a multiple of its period.
    """
    correlations = []
    for shift in _SHIFTS:
        for there, here in ((tiles[:, shift:], tiles[:, :-shift]), (tiles[..., shift:], tiles[..., :-shift])):
            power = (there.square().mean() * here.square().mean()).sqrt().clamp_min(1e-12)
            correlations.append(float((there * here).mean() / power))
    highest = max(correlations)
    return highest if highest > _MIN_CORRELATION else 0.0


def _signal_dependent(fine: Tensor, coarse: Tensor, brightness: Tensor, everywhere: Tensor) -> float:
    """Mean variance of noise that grows with the brightness; 0 where it does not.

    The variance is measured on the smoothest tiles of each of four ranges of brightness, must rise from range to range,
    and is fitted by a + c·b² of the brightness b. `everywhere` is the brightness of all tiles, also of clipped ones.
    """
    if len(fine) < _RANGES * _MIN_RANGE:
        return 0.0
    ranges = brightness.argsort().chunk(_RANGES)
    levels = torch.tensor([_smoothest(fine[part], coarse[part]) for part in ranges], dtype=torch.float64)
    if bool((levels.diff() <= 0).any()) or float(levels[-1]) < max(_MIN_RATIO**2 * float(levels[0]), _MIN_SIGMA**2):
        return 0.0
    squares = torch.stack([brightness[part].square().mean() for part in ranges]).double()
    centred = squares - squares.mean()
    slope = float((centred * levels).sum() / centred.square().sum())
    misfit = levels - levels.mean() - slope * centred
    if slope <= 0 or float(misfit.abs().max()) > _MAX_MISFIT * float(levels[-1]):
        return 0.0
    constant = max(0.0, float(levels.mean()) - slope * float(squares.mean()))
    return constant + slope * float(everywhere.square().mean())


def _clipped_share(bands: Tensor) -> Tensor:
    """Share of the pixels of each tile, (B · tiles,), that are near black or white in a band."""
    inner = bands[..., 2:-2, 2:-2].to(torch.float32)
    is_clipped = ((inner <= _CLIPPED) | (inner >= 1 - _CLIPPED)).any(1, keepdim=True)
    return functional.avg_pool2d(is_clipped.float(), _TILE).flatten()


def _variance(planes: Tensor, line: tuple[float, ...]) -> Tensor:
    """Mean square of a difference along both axes, tile by tile; white noise keeps its variance."""
    return _mean_square(_differences(planes, line))


def _differences(planes: Tensor, line: tuple[float, ...]) -> Tensor:
    taps = planes.new_tensor(line)
    return functional.conv2d(planes, (taps[:, None] * taps)[None, None] / taps.square().sum())


def _mean_square(differences: Tensor) -> Tensor:
    return functional.avg_pool2d(differences.square(), _TILE).flatten()


def estimate_mosaic_error(parts: Tensor) -> float:
    """Estimate the error of colours that were interpolated from the mosaic of a sensor, as white noise of chroma.

    A pixel of such a sensor has one of three colours. Green was measured on half of a checkerboard, and is smoother on
    the other half, where it was interpolated. Colours have a quarter or half of their samples, so that their finest
    detail, and the fringes of edges, are errors that luma does not have. An image that was reduced or compressed since
    has no such pattern, nor the errors.

    Args:
        parts: Parts of an RGB image, (N, 3, h, w), [0, 1].

    Returns:
        σ in [0, 1] units, for B − Y and R − Y; 0.0 without a mosaic.
    """
    green = parts[:, 1]
    around = green[:, :-2, 1:-1] + green[:, 2:, 1:-1] + green[:, 1:-1, :-2] + green[:, 1:-1, 2:]
    rough = (green[:, 1:-1, 1:-1] - around / 4).abs()
    rows, columns = (torch.arange(side, device=parts.device) for side in rough.shape[-2:])
    is_odd = ((rows[:, None] + columns) % 2).to(rough)
    halves = [(rough * half).sum((1, 2)) / half.sum() for half in (is_odd, 1 - is_odd)]
    larger, smaller = torch.maximum(*halves), torch.minimum(*halves)
    ratio = float((larger / smaller.clamp_min(_MIN_MOSAIC / 2)).median())
    if ratio < _MOSAIC or float(larger.median()) < _MIN_MOSAIC:
        return 0.0
    luma = (parts * parts.new_tensor(BT601)[:, None, None]).sum(1, keepdim=True)
    chroma = parts[:, (0, 2)] - luma
    fine = chroma - local_mean(chroma, _FINE_SIDE)
    detail = math.sqrt(float(fine.square().mean((0, 2, 3)).max()))
    return detail * (_LINEAR_MOSAIC_ERROR if ratio >= _LINEAR_MOSAIC else _MOSAIC_ERROR)


def estimate_codec_error(luma: Tensor, codec: str, bits_per_pixel: float) -> float:
    """Estimate the error of luma that a lossy codec left, from the bits that it spent and the detail of the image.

    The more detail an image has for its bits, the coarser it was quantised. Half of the estimates are within a quarter
    of the true error, nine of ten within a factor of two; none is above eight grey levels.

    Args:
        luma: Parts of the decoded image, (N, 1, h, w), [0, 1], sides of 3 px or more.
        codec: Name of the format, as in `PhotoHeader.format`.
        bits_per_pixel: Size of the coded image over its pixels; positive.

    Returns:
        σ in [0, 1] units; 0.0 for another codec, and where every part is flat: nothing in it can be coarse.

    References:
        Ours; how it was fitted is in docs/notes/2026-11-30-other-codecs.md.
    """
    low, high = (limit(luma.flatten(1), 1) for limit in (torch.amin, torch.amax))
    if codec not in _CODECS or bool((high - low <= _FLAT_RANGE).all()):
        return 0.0
    # The mean of square roots, squared: a few steps between areas cost a codec few bits.
    first = float(sum(luma.diff(dim=axis).abs().sqrt().mean() for axis in (-1, -2)) / 2) ** 2
    taps = luma.new_tensor(_COARSE)
    second = float(functional.conv2d(luma, (taps[:, None] * taps)[None, None]).abs().mean() / taps.square().sum())
    bits = math.log(bits_per_pixel)
    details = (math.log(255 * (difference + _MIN_DIFFERENCE)) for difference in (second, first))
    numbers = (1.0, bits, *details, bits * bits)
    sigma = math.exp(sum(a * b for a, b in zip(_CODECS[codec], numbers, strict=True))) / 255
    return min(sigma, _MAX_CODEC_ERROR)


def estimate_quantization_error(bands: Tensor) -> tuple[float, ...]:
    """Estimate the error of few grey levels in each band, or of the few colours of a palette.

    A level stands for all values up to half-way to the next ones, so that its error is uniform (distance/√12). Pixels
    without a neighbour of another colour are taken as exact: such areas are those of a drawing. On photographs with 8
    to 64 levels, and 16 to 256 colours, with dithering and without, the estimate is 0.5 to 1.3 times the error.

    Args:
        bands: Parts of an image, (N, C, h, w), [0, 1].

    Returns:
        σ in [0, 1] units of each plane (luma, B − Y, R − Y of three bands, otherwise the bands themselves), with that
        of rounding to 8 bits, and at most ten grey levels; 0.0 for more colours than 256 and levels as close as those.

    References:
        Widrow, Kollár, "Quantization Noise", 2008; the factor of palettes is ours
        (docs/notes/2026-11-30-few-levels.md).
    """
    samples = (bands.detach().cpu().clamp(0, 1).double() * _DISTINCT).round().to(torch.int64).movedim(1, -1).numpy()
    count = samples.shape[-1]
    is_grey = bool((samples == samples[..., :1]).all())
    steps = [float(_squared_steps(samples[..., band : band + 1])[0, 0]) for band in range(1 if is_grey else count)]
    if is_grey or count != 3:
        variances = np.array(steps) / 12
        if is_grey and count > 1:
            variances = variances.repeat(count) * ([1, 0, 0] if count == 3 else 1)
    else:
        weights = to_planes(torch.eye(3, dtype=torch.float64)[None, :, None])[:, 0, 0].numpy()
        squares = _squared_steps(samples)
        of_palette = _PALETTE_ERROR**2 * np.einsum("ij,jk,ik->i", weights, squares, weights)
        variances = np.maximum(of_palette, weights**2 @ np.array(steps) / 12)
    return tuple(min(math.sqrt(variance), _MAX_QUANTIZATION_ERROR) for variance in variances.tolist())


def estimate_photon_noise(band: Tensor) -> float:
    """Estimate the noise of photons that were counted one by one, so that the samples are whole multiples of a step.

    Args:
        band: Parts of one band, (N, 1, h, w), [0, 1].

    Returns:
        The root of the mean variance, σ² = step · mean, in [0, 1] units; 0.0 for an image whose steps are no larger
        than two grey levels, or whose samples vary less than counts of photons do.

    References:
        Counts of photons have a Poisson distribution, whose variance is its mean; the tests of the steps and of the
        variance are ours (docs/notes/2026-12-01-bands-photons-and-collages.md).
    """
    samples = band.detach().cpu().double()
    levels = torch.from_numpy(np.unique(samples.numpy()))
    levels = levels[levels < 1 - 0.5 / 255]  # white is where counting ended
    if not _MIN_COLOURS <= len(levels) <= _MAX_COLOURS // 2 or float(levels[0]) > 0.5 / 255:
        return 0.0
    distances = levels.diff()
    counts = functional.pad((distances / distances.median()).round().cumsum(0), (1, 0))
    step = float(levels @ counts / counts.square().sum())  # the rounding to 8 bits is averaged over all levels
    if step <= 2 / 255 or float((levels - counts * step).abs().max()) > max(0.6 / 255, 0.02 * step):
        return 0.0
    counted = samples / step
    mean = functional.avg_pool2d(counted, _COUNT_TILE)
    variance = torch.zeros_like(mean)
    for axis in (-1, -2):
        squares = functional.pad(counted.diff(dim=axis).square(), (0, 1, 0, 0) if axis == -1 else (0, 0, 0, 1))
        variance += functional.avg_pool2d(squares, _COUNT_TILE) / 4
    used = mean >= _COUNTED
    if int(used.sum()) < _MIN_COUNT_TILES or float((variance / mean)[used].median()) < _MIN_POISSON:
        return 0.0
    return math.sqrt(step * float(samples.mean()))


def largest_smoothed_noise(luma: Tensor) -> float:
    """The largest noise that an image can have, if it was smoothed since: it is in the flattest parts as well.

    Args:
        luma: Parts of the image, (N, 1, h, w), [0, 1].

    Returns:
        σ in [0, 1] units before the smoothing; infinity for an image without parts that are not clipped.
    """
    plane = luma.double()
    mean = functional.avg_pool2d(plane, _SMALL_TILE, 1)
    variance = functional.avg_pool2d(plane.square(), _SMALL_TILE, 1) - mean.square()
    usable = (mean > _CLIPPED) & (mean < 1 - _CLIPPED)
    if int(usable.sum()) < _SMALL_TILE**2:
        return math.inf
    flattest = np.quantile(variance[usable].clamp_min(0).cpu().numpy(), _FLATTEST)
    return _MOST_SMOOTHED * math.sqrt(float(flattest))


def _squared_steps(samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the pixels of v·vᵀ, (C, C), of the difference v of a colour from the nearest other one; [0, 1] units.

    Pixels inside areas of one colour count as 0, and so does an image that has too many colours, or too few.
    """
    nothing = np.zeros((samples.shape[-1],) * 2)
    pixels = samples.shape[0] * samples.shape[1] * samples.shape[2]
    most = min(_MAX_COLOURS, pixels // _PIXELS_PER_COLOUR)
    digits = np.int64(_DISTINCT + 1) ** np.arange(samples.shape[-1])
    codes = samples @ digits
    if len(np.unique(codes.ravel()[::97])) > most:
        return nothing
    colours, counts = np.unique(codes, return_counts=True)
    if not _MIN_COLOURS <= len(colours) <= most:
        return nothing
    values = (colours[:, None] // digits % (_DISTINCT + 1)) / _DISTINCT
    distances = np.square(values[:, None] - values).sum(2)
    np.fill_diagonal(distances, np.inf)
    steps = values - values[distances.argmin(1)]
    lengths = np.sqrt(np.square(steps).sum(1))
    if float(np.square(lengths) @ counts) / pixels <= (2 / 255) ** 2:  # 8 bits
        return nothing
    varied = np.zeros(codes.shape, bool)
    for axis in (1, 2):
        ahead, behind = np.swapaxes(codes, axis, 1)[:, 1:], np.swapaxes(codes, axis, 1)[:, :-1]
        marked = np.swapaxes(varied, axis, 1)
        marked[:, 1:] |= ahead != behind
        marked[:, :-1] |= ahead != behind
    shares = np.bincount(np.searchsorted(colours, codes[varied]), minlength=len(colours)) / pixels
    # A level far from all others, as the white around a cut-out or of lines on a photograph, is none of few levels.
    order = lengths.argsort()
    usual = lengths[order[np.searchsorted(shares[order].cumsum(), shares.sum() / 2)]]
    steps *= np.minimum(1, _MOST_DISTANT * usual / lengths)[:, None]
    if float(np.square(steps).sum(1) @ shares) <= (2 / 255) ** 2 * shares.sum():
        return nothing
    return np.asarray((steps * shares[:, None]).T @ steps)
