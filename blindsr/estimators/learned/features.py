"""Features of an image tile that show its blur: spectrum, cepstrum, phase coherence, edge profiles, noise and blocks.

Nothing here is learned. Each feature covers a case in which another one is blind: the spectrum does not separate a
sharp photograph from soft subjects, phase coherence and edges do; edges do not show the direction of a motion, the
cepstrum does. A tile takes 2 ms. The features of a dihedral view are, up to the asymmetry of a window of even length, a
permutation of those of the image (`TileFeatures.view`), so that the eight views cost no second measurement.

References:
    Leclaire, Moisan, "No-reference image quality assessment and blind deblurring with sharpness metrics exploiting
    Fourier phase information", JMIV 2015 (the sharpness index S); Moisan, "Periodic plus smooth image decomposition",
    JMIV 2011.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["FEATURES", "POLAR", "tile_features", "view_tables"]

_ANGLES, _RADII = 8, 22  # sectors of the half-plane of frequencies, and rings
_LAGS = 15  # side of the cepstrum, LR pixels
_PROFILE = 15  # samples of an edge profile
_SETS = 3  # of profiles: the steepest edges, the next ones, and those of the tile at half its size
# Variances of the Gaussians that are deconvolved, LR px².
_VARIANCES = tuple(float(v) for v in np.exp(np.linspace(math.log(0.04), math.log(3.0), 9)))
_SCALARS = 12
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (y, x) across the edges
# Shapes of the features in the order of the fields of `TileFeatures`.
_SHAPES: tuple[tuple[int, ...], ...] = (
    (_ANGLES, _RADII),
    (_LAGS, _LAGS),
    (len(_VARIANCES),),
    (len(_VARIANCES), 4),
    (_SETS, 4, _PROFILE),
    (_SETS, 4),
    (_SCALARS,),
)
POLAR = _ANGLES * _RADII  # number of features of the spectrum, which come first
FEATURES = sum(math.prod(shape) for shape in _SHAPES)


@dataclass(frozen=True)
class TileFeatures:
    """The features of tiles; the leading dimensions are free.

    Args:
        polar: (…, 8, 22), logarithm of the mean power by direction and radius, relative to the tile's mean power.
        cepstrum: (…, 15, 15), cepstrum of the power, lags of −7 to 7 LR pixels (y, x).
        coherence: (…, 9), the argument of the sharpness index after the deconvolution of each Gaussian.
        sparsity: (…, 9, 4), logarithm of L1/L2 of the differences in four directions, after each deconvolution.
        profiles: (…, 3, 4, 15), mean profiles across edges, from 0 to 1, by set and direction.
        slopes: (…, 3, 4), logarithm of the steepest difference relative to the height of the edge.
        scalars: (…, 12), contrast, fineness, noise, clipping, brightness, JPEG blocks and equal neighbours.
    """

    polar: Tensor
    cepstrum: Tensor
    coherence: Tensor
    sparsity: Tensor
    profiles: Tensor
    slopes: Tensor
    scalars: Tensor

    @property
    def flat(self) -> Tensor:
        """All features in the order of the fields, (…, 650), float32; undefined ones are 0."""
        parts = (
            self.polar,
            self.cepstrum,
            self.coherence,
            self.sparsity,
            self.profiles,
            self.slopes,
            self.scalars,
        )
        leading = self.scalars.shape[:-1]
        flat = torch.cat([part.float().reshape(*leading, -1) for part in parts], -1)
        return flat.nan_to_num(0.0, 0.0, 0.0)  # a tile of one grey level has no logarithms

    def view(self, view: int) -> "TileFeatures":
        """The features, permuted as for a dihedral view of the tiles, as `blindsr.ops.dihedral` numbers them."""
        polar, cepstrum, scalars = self.polar, self.cepstrum, self.scalars
        sparsity, profiles, slopes = self.sparsity, self.profiles, self.slopes
        if view >= 4:
            polar = polar[..., [(_ANGLES - sector) % _ANGLES for sector in range(_ANGLES)], :]
            cepstrum = cepstrum.flip(-1)
            order = [0, 1, 3, 2]
            sparsity, profiles, slopes = sparsity[..., order], profiles[..., order, :], slopes[..., order]
        if view % 4:
            cepstrum = torch.rot90(cepstrum, view % 4, (-2, -1))
        if view % 2:
            polar = polar.roll(_ANGLES // 2, -2)
            order = [1, 0, 3, 2]
            sparsity, profiles, slopes = sparsity[..., order], profiles[..., order, :], slopes[..., order]
            # The last four scalars are two pairs by axis, and the third one is a difference of the axes.
            pairs = [_SCALARS - 3, _SCALARS - 4, _SCALARS - 1, _SCALARS - 2]
            signs = torch.ones(_SCALARS).to(scalars)
            signs[2] = -1
            scalars = scalars[..., [*range(_SCALARS - 4), *pairs]] * signs
        return TileFeatures(polar, cepstrum, self.coherence, sparsity, profiles, slopes, scalars)


@lru_cache(maxsize=1)
def view_tables() -> tuple[Tensor, Tensor]:
    """Indices and signs that turn flat features into those of a dihedral view: each (8, 650), one row per view."""
    # The features of a view are those of the image in another order: numbers from 1 are permuted to obtain it.
    numbers = torch.arange(1, FEATURES + 1, dtype=torch.float32)
    ends = np.cumsum([math.prod(shape) for shape in _SHAPES])
    parts = numbers.tensor_split(ends[:-1].tolist())
    numbered = TileFeatures(*(part.reshape(shape) for part, shape in zip(parts, _SHAPES, strict=True)))
    table = torch.stack([numbered.view(view).flat for view in range(8)])
    return table.abs().long() - 1, table.sign()


@torch.no_grad()
def tile_features(tiles: Tensor) -> TileFeatures:
    """Measure the features of square tiles.

    Args:
        tiles: (N, n, n), float32, grey levels from 0 to 255; n is 32 or more.

    Returns:
        The features, with N as the leading dimension.
    """
    side = tiles.shape[-1]
    centred = tiles - tiles.mean((1, 2), keepdim=True)
    power = torch.view_as_real(torch.fft.rfft2(centred * _window(side))).square().sum(-1)
    total = power.mean((1, 2), keepdim=True).clamp_min(1.0)
    relative = power / total
    polar = (relative.flatten(1) @ _polar_bins(side) + 1e-7).log().reshape(-1, _ANGLES, _RADII)
    log_power = (relative + 1e-4 * relative.mean((1, 2), keepdim=True)).log()
    cepstrum = torch.fft.irfft2(log_power - log_power.mean((1, 2), keepdim=True), s=(side, side))
    half = _LAGS // 2
    cepstrum = torch.roll(cepstrum, (half, half), (1, 2))[:, :_LAGS, :_LAGS] * side
    coherence, sparsity = _after_deconvolution(tiles)
    contrast = centred.square().mean((1, 2)).sqrt().clamp_min(1.0)
    profiles, slopes = _edges(tiles, ((0, 16), (16, 64)))
    small_profiles, small_slopes = _edges(functional.avg_pool2d(tiles[:, None], 2)[:, 0], ((0, 24),))
    return TileFeatures(
        polar,
        cepstrum,
        coherence,
        sparsity,
        torch.cat([profiles, small_profiles], 1),
        torch.cat([slopes, small_slopes], 1),
        _scalars(tiles, contrast),
    )


@lru_cache(maxsize=4)
def _window(side: int) -> Tensor:
    hann = torch.hann_window(side, periodic=True)
    return hann[:, None] * hann


@lru_cache(maxsize=4)
def _polar_bins(side: int) -> Tensor:
    """The means over sectors and rings as a matrix, (n·(n/2 + 1), 176).

    Sector s is centred at (s − 4)·22.5° from the x axis; the rings become wider with the frequency.
    """
    y = torch.fft.fftfreq(side)[:, None].expand(side, side // 2 + 1)
    x = torch.fft.rfftfreq(side)[None].expand(side, -1)
    radius, angle = torch.hypot(y, x), torch.atan2(y, x)  # angles of −π/2 to π/2
    edges = 0.72 * torch.linspace(0.1, 1, _RADII + 1) ** 1.3
    ring = torch.bucketize(radius.contiguous(), edges) - 1
    sector = torch.remainder(torch.round(angle / math.pi * _ANGLES + _ANGLES // 2), _ANGLES).long()
    inside = (ring >= 0) & (ring < _RADII) & (radius * side >= 1.5)
    index = (sector * _RADII + ring.clamp(0, _RADII - 1))[inside]
    matrix = torch.zeros(side * (side // 2 + 1), _ANGLES * _RADII)
    matrix[inside.flatten().nonzero()[:, 0], index.flatten()] = 1
    return matrix / matrix.sum(0).clamp_min(1)


@lru_cache(maxsize=4)
def _deconvolution_tables(side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the deconvolutions need, on the half-plane of frequencies (n, n/2 + 1).

    Returns:
        The transfer functions of the nine Gaussians; the squared frequency; the power transfer of the differences along
        x and y; and how often a column counts in a sum over the whole plane.
    """
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    squared = y * y + x * x
    transfers = torch.exp(-2 * math.pi**2 * torch.tensor(_VARIANCES)[:, None, None] * squared)
    multiplicity = torch.full((side // 2 + 1,), 2.0)
    multiplicity[0] = 1
    if side % 2 == 0:
        multiplicity[-1] = 1
    along_x, along_y = 4 * torch.sin(math.pi * x) ** 2, 4 * torch.sin(math.pi * y) ** 2
    differences = torch.stack([along_x.expand(side, -1), along_y.expand(-1, side // 2 + 1)])
    return transfers, squared, differences, multiplicity


def _periodic_spectrum(tiles: Tensor) -> Tensor:
    """The real Fourier transform of the periodic component of tiles (Moisan, JMIV 2011)."""
    side = tiles.shape[-1]
    rows, columns = tiles[:, 0] - tiles[:, -1], tiles[:, :, 0] - tiles[:, :, -1]
    # The transform of the jumps at the border: a pair of rows times 1 − e^{+2πi fy}, a pair of columns likewise.
    y, x = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    pair_y, pair_x = 1 - torch.exp(2j * math.pi * y), 1 - torch.exp(2j * math.pi * x)
    jumps = pair_y[None, :, None] * torch.fft.rfft(rows)[:, None]
    jumps = jumps + torch.fft.fft(columns)[:, :, None] * pair_x[None, None]
    laplacian = 4 - 2 * torch.cos(2 * math.pi * y)[:, None] - 2 * torch.cos(2 * math.pi * x)[None]
    laplacian[0, 0] = 1
    smooth = jumps / laplacian
    smooth[:, 0, 0] = 0
    periodic: Tensor = torch.fft.rfft2(tiles) - smooth
    return periodic


def _after_deconvolution(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Phase coherence (N, 9) and sparsity (N, 9, 4) of tiles from which each Gaussian was removed by a Wiener filter.

    The phase coherence is the argument of the sharpness index of Leclaire and Moisan, over 50; the transforms of
    all tiles and Gaussians are shared.
    """
    side = tiles.shape[-1]
    transfers, squared, differences, multiplicity = _deconvolution_tables(side)
    spectrum = _periodic_spectrum(tiles)
    power = torch.view_as_real(spectrum).square().sum(-1) / side**2
    band = (squared > 0.03**2) & (squared < 0.1**2)
    amplitude = (power * squared)[:, band].mean(1).clamp_min(1e-3)
    floor = 0.4 * squared / amplitude[:, None, None]
    coherence, sparsity = [], []
    count = side * side
    for transfer in transfers:
        wiener = transfer / (transfer * transfer + floor + 1e-9)
        x = torch.fft.irfft2(spectrum * wiener, s=(side, side))
        steps = [torch.roll(x, -1, 2) - x, torch.roll(x, -1, 1) - x]
        steps += [torch.roll(x, (-1, -1), (1, 2)) - x, torch.roll(x, (-1, 1), (1, 2)) - x]
        l1 = torch.stack([step.abs().sum((1, 2)) for step in steps], 1)
        l2 = torch.stack([step.square().sum((1, 2)) for step in steps], 1) + 1e-3
        filtered = power * count * wiener * wiener
        fx, fy = filtered * differences[0], filtered * differences[1]
        xx, yy, xy = (((a * b) * multiplicity).sum((1, 2)) for a, b in ((fx, fx), (fy, fy), (fx, fy)))
        variance = xx / l2[:, 0] + yy / l2[:, 1] + 2 * xy / (l2[:, 0] * l2[:, 1]).sqrt()
        variance = variance / (math.pi * count)
        expected = (l2[:, 0].sqrt() + l2[:, 1].sqrt()) * math.sqrt(2 * count / math.pi)
        coherence.append((expected - l1[:, 0] - l1[:, 1]) / variance.clamp_min(1e-6).sqrt() / 50)
        sparsity.append((l1 / l2.sqrt() / side).clamp_min(1e-3).log())
    return torch.stack(coherence, 1).clamp(-1, 6), torch.stack(sparsity, 1)


def _edges(x: Tensor, ranks: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """Mean profiles across the steepest edges, (N, R, 4, 15), and their slopes, (N, R, 4).

    Args:
        x: Tiles, (N, n, n), grey levels.
        ranks: R ranges of the edges of a tile and direction, sorted by their slope.
    """
    count, side, _ = x.shape
    radius = _PROFILE // 2
    inner, first = side - 2 * radius - 2, radius + 1
    flat = x.reshape(count, -1)
    profiles, slopes = [], []
    for dy, dx in _DIRECTIONS:
        # Central differences over the inner square, of which only local maxima along the direction count.
        minus2, minus1, centre, plus1, plus2 = (
            x[:, first + k * dy : first + k * dy + inner, first + k * dx : first + k * dx + inner]
            for k in (-2, -1, 0, 1, 2)
        )
        gradient = plus1 - minus1
        size = gradient.abs()
        is_maximum = (size >= (centre - minus2).abs()) & (size >= (plus2 - centre).abs())
        size = torch.where(is_maximum, size, torch.zeros(()))
        top, index = size.flatten(1).topk(max(last for _, last in ranks), 1)
        row, column = index // inner + first, index % inner + first
        sign = torch.sign(gradient.flatten(1).gather(1, index))
        k = torch.arange(-radius, radius + 1)
        offsets = torch.where(sign[..., None] < 0, -k, k)
        positions = (row[..., None] + offsets * dy) * side + column[..., None] + offsets * dx
        values = flat.gather(1, positions.reshape(count, -1)).reshape(count, -1, _PROFILE)
        low, high = values.amin(2, keepdim=True), values.amax(2, keepdim=True)
        height = (high - low).clamp_min(2.0)
        relative = (values - low) / height
        slope = (top / height[..., 0]).clamp_min(1e-3)
        for start, stop in ranks:
            # High edges have the better signal-to-noise ratio.
            weight = height[:, start:stop] + 1e-3
            weight = weight / weight.sum(1, keepdim=True)
            profiles.append((relative[:, start:stop] * weight).sum(1))
            slopes.append((slope[:, start:stop] * weight[..., 0]).sum(1).log())
    shape = (4, len(ranks))
    by_set = torch.stack(profiles, 1).reshape(count, *shape, _PROFILE).transpose(1, 2)
    return by_set.contiguous(), torch.stack(slopes, 1).reshape(count, *shape).transpose(1, 2).contiguous()


def _scalars(tiles: Tensor, contrast: Tensor) -> Tensor:
    """Single numbers of tiles, (N, 12).

    In this order: contrast, fineness, its difference between the axes, three quantiles of the diagonal differences
    (noise), clipping, brightness; and, for x and y each, JPEG blocks and the share of equal neighbours.
    """
    x, y = tiles.diff(dim=2), tiles.diff(dim=1)
    fine_x, fine_y = ((v.abs().mean((1, 2)) + 0.1).log() for v in (x, y))
    ordered = (x[:, 1:] - x[:, :-1]).abs().flatten(1)[:, ::3].sort(1).values
    low, median, high = ((ordered[:, int(share * (ordered.shape[1] - 1))] + 0.3).log() for share in (0.25, 0.5, 0.9))
    clipping = ((tiles <= 0.5) | (tiles >= 254.5)).float().mean((1, 2))
    bends = ((x[:, :, 1:] - x[:, :, :-1]).abs().mean(1), (y[:, 1:] - y[:, :-1]).abs().mean(2))
    blocks = []
    for bend in bends:
        length = bend.shape[1] // 8 * 8
        phases = bend[:, :length].reshape(len(tiles), -1, 8).mean(1)
        pairs = phases + phases.roll(-1, 1)  # a step between two blocks bends on both of its sides
        blocks.append((pairs.amax(1) / pairs.mean(1).clamp_min(1e-3)).log())
    equal = [(v == 0).float().mean((1, 2)) for v in (x, y)]
    brightness = (tiles.mean((1, 2)) - 128) / 64
    numbers = [contrast.log() - 3, (fine_x + fine_y) / 2, fine_y - fine_x, low, median, high, clipping, brightness]
    return torch.stack([*numbers, *blocks, *equal], 1)
