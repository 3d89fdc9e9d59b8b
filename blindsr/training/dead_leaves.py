"""Dead leaves: synthetic training images with shading, stripes, grids, textures, strokes and depth blur.

Shapes that occlude each other and whose radii have the density r⁻³ give edges, scale invariance and a 1/f² power
spectrum, as photographs have. They have one band; `blindsr.training.dataset` makes colour of several.

References:
    Matheron, "Modèle séquentiel de partition aléatoire", 1968 (dead leaves).
    Ruderman, "Origins of scaling in natural images", Vision Research 37(23), 1997.
    Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 41, 2001.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from blindsr.errors import ConfigError

__all__ = ["DeadLeavesConfig", "dead_leaves", "draw_texture", "power_law"]

_OVERSAMPLING = 2  # shapes are drawn with hard edges on twice the grid; the 2×2 mean is the antialiasing
_Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLeavesConfig:
    """Parameters of the images; lengths are in pixels of the image, probabilities from 0 to 1."""

    size: int = 192  # side
    min_radius: tuple[float, float] = (0.7, 14.0)  # log-uniform per image: busy and calm photographs
    max_radius: float = 110.0
    coverage: float = 3.0  # sum of the shapes' areas over the image's: hardly any background remains
    strokes: float = 0.35  # probability of strokes like letters or branches
    depth_blur: float = 0.25  # probability that the shapes drawn first are out of focus
    texture_contrast: float = 1.0  # over 1, half of the images also have a texture all over
    varied_textures: float = 0.0  # probability of two textures beyond power-law noise instead of one power-law noise
    blur: float = 0.6  # probability that the whole image is slightly blurred …
    max_blur_sigma: float = 0.7  # … by up to this
    sharpening: float = 0.0  # probability of an unsharp mask, as cameras apply it
    noise: float = 0.0  # probability of a photograph's noise …
    max_noise_sigma: float = 2.5  # … of up to this, in grey levels

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.size < 16:
            raise ConfigError(f"the size of dead leaves must be 16 or more, got {self.size}.")
        if self.texture_contrast < 0:
            raise ConfigError(f"the texture_contrast of dead leaves must be 0 or more, got {self.texture_contrast}.")
        for name in ("strokes", "depth_blur", "varied_textures", "blur", "sharpening", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} of dead leaves must be from 0 to 1, got {getattr(self, name)}.")
        if not 0 < self.min_radius[0] <= self.min_radius[1] < self.max_radius:
            raise ConfigError("dead leaves need 0 < min_radius[0] ≤ min_radius[1] < max_radius.")


def dead_leaves(seed: int, index: int, config: DeadLeavesConfig | None = None) -> NDArray[np.uint8]:
    """Synthesise image number `index` of the endless series `seed`; images are independent of each other.

    Returns:
        (size, size), uint8, one band; the same arguments give the same bits.
    """
    config = config or DeadLeavesConfig()
    rng = np.random.default_rng([seed, index])
    side = config.size * _OVERSAMPLING
    tone, spread = rng.uniform(0.25, 0.75), rng.uniform(0.1, 0.42)
    if config.varied_textures and rng.random() < config.varied_textures:
        textures = [draw_texture(rng, side, _OVERSAMPLING) for _ in range(2)]
    else:
        textures = [power_law(rng, side, rng.uniform(0.6, 1.6))]
    canvas = np.full((side, side), _tone(rng, tone, spread), np.float32) + 0.1 * textures[0]
    # With two textures the smallest shapes are larger, so that the textures show.
    radii = _radii(rng, config, side, factor=1.0 if len(textures) == 1 else 2.0)
    focus = int(radii.size * rng.uniform(0.3, 0.8)) if rng.random() < config.depth_blur else -1
    flat_share = rng.random() * (0.8 if len(textures) == 1 else 0.4)
    textures = [config.texture_contrast * texture for texture in textures]
    for i, radius in enumerate(radii):
        if i == focus:
            canvas = ndimage.gaussian_filter(canvas, _OVERSAMPLING * rng.uniform(0.7, 3.0), mode="wrap")
        _draw_leaf(canvas, rng, radius, _tone(rng, tone, spread), textures[i % len(textures)], flat_share)
    if config.texture_contrast > 1 and rng.random() < 0.5:
        contrast = np.float32(abs(rng.normal(0, 0.03 * config.texture_contrast)))
        canvas += contrast * power_law(rng, side, rng.uniform(0.6, 1.6))
    if rng.random() < config.strokes:
        _draw_strokes(canvas, rng, _tone(rng, tone, spread + 0.2))
    return _finish(canvas, rng, config)


def _tone(rng: np.random.Generator, tone: float, spread: float) -> float:
    return float(np.clip(tone + spread * rng.standard_normal(), 0.0, 1.0))


def _radii(rng: np.random.Generator, config: DeadLeavesConfig, side: int, factor: float) -> NDArray[np.float64]:
    """Radii of density r⁻³ by inverting its distribution function, as many as the coverage requires."""
    low = factor * _OVERSAMPLING * float(np.exp(rng.uniform(*np.log(config.min_radius))))
    high = _OVERSAMPLING * config.max_radius
    mean_square = 2 * np.log(high / low) / (low**-2 - high**-2)
    count = int(config.coverage * side**2 / (np.pi * mean_square)) + 1
    return (low**-2 - rng.random(count) * (low**-2 - high**-2)) ** -0.5


def _draw_leaf(
    canvas: _Array, rng: np.random.Generator, radius: float, tone: float, texture: _Array, flat_share: float
) -> None:
    side = canvas.shape[0]
    cy, cx = rng.uniform(-0.1 * side, 1.1 * side, 2)
    aspect = float(np.exp(-abs(rng.normal(0.0, 0.7))))  # of the short to the long axis
    long, short = radius / aspect**0.5, radius * aspect**0.5
    extent = 1.42 * long + 1
    top, bottom = max(0, int(cy - extent)), min(side, int(cy + extent) + 1)
    left, right = max(0, int(cx - extent)), min(side, int(cx + extent) + 1)
    if top >= bottom or left >= right:
        return
    angle = rng.uniform(0, np.pi)
    if rng.random() < 0.3:  # scenes have more horizontals and verticals than chance gives
        angle = np.round(2 * angle / np.pi) * np.pi / 2 + rng.normal(0, 0.03)
    c, s = np.cos(angle), np.sin(angle)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(cy)
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(cx)
    u = (c * x + s * y) / np.float32(long)
    v = (c * y - s * x) / np.float32(short)
    inside = _shape(rng, u, v, radius)
    window = canvas[top:bottom, left:right]
    fill: _Array | float = tone
    if radius > 3 and rng.random() > flat_share:
        fill = _fill(rng, u, v, long, short, tone, texture[top:bottom, left:right])
    np.copyto(window, np.asarray(fill, np.float32), where=inside)


def _shape(rng: np.random.Generator, u: _Array, v: _Array, radius: float) -> NDArray[np.bool_]:
    kind = rng.random()
    if kind < 0.35 or radius < 1.5:
        return u * u + v * v < 1
    if kind < 0.7:
        return (np.abs(u) < 0.9) & (np.abs(v) < 0.9)
    if kind < 0.88:  # a convex polygon, the intersection of half-planes around the centre
        inside = np.ones(np.broadcast_shapes(u.shape, v.shape), dtype=bool)
        corners = int(rng.integers(3, 7))
        for direction in (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners:
            inside &= u * np.float32(np.cos(direction)) + v * np.float32(np.sin(direction)) < rng.uniform(0.5, 0.9)
        return inside & (u * u + v * v < 2)
    theta = np.arctan2(v, u)
    outline = np.ones_like(theta)
    for order in range(2, 6):  # a lobed blob
        outline += np.float32(rng.normal(0, 0.5 / order)) * np.cos(order * theta + np.float32(rng.uniform(0, 6.28)))
    return u * u + v * v < outline * np.abs(outline) * np.float32(0.7)


def _fill(
    rng: np.random.Generator, u: _Array, v: _Array, long: float, short: float, tone: float, texture: _Array
) -> _Array:
    kind = rng.random()
    shade = np.float32(rng.normal(0, 0.12)) * u + np.float32(rng.normal(0, 0.12)) * v
    fill = np.float32(tone) + shade
    contrast = np.float32(rng.normal(0, 0.25))
    if kind < 0.3:
        return fill
    if kind < 0.6:
        return fill + np.float32(abs(rng.normal(0, 0.08))) * texture
    # Periods between 2 and 24 px: façades, fences, fabric; the finest alias at every scale.
    period = _OVERSAMPLING * float(np.exp(rng.uniform(np.log(2.0), np.log(24.0))))
    along = u * np.float32(long / period)
    if kind < 0.8:
        wave = np.sin(np.float32(2 * np.pi) * along)
        if rng.random() < 0.6:
            wave = (wave > rng.uniform(-0.8, 0.8)).astype(np.float32)
        return np.asarray(fill + contrast * wave, np.float32)
    across = v * np.float32(short / (period * np.exp(rng.uniform(-0.7, 0.7))))
    duty = rng.uniform(0.2, 0.9, 2)
    shifted = along + np.float32(0.5) * (np.floor(across) % 2) if rng.random() < 0.3 else along
    cells = (shifted % 1 < duty[0]) & (across % 1 < duty[1])
    return np.asarray(fill + contrast * cells, np.float32)


def _draw_strokes(canvas: _Array, rng: np.random.Generator, tone: float) -> None:
    """Rows of short strokes (lettering) or long wandering ones (wires, twigs)."""
    side = canvas.shape[0]
    lettering = rng.random() < 0.6
    width = _OVERSAMPLING * rng.uniform(0.4, 1.6)
    height = width * rng.uniform(4, 9)
    origin = rng.uniform(0.05, 0.6, 2) * side
    angle = rng.normal(0, 0.15) if lettering else rng.uniform(0, np.pi)
    for number in range(int(rng.integers(15, 60)) if lettering else int(rng.integers(2, 9))):
        if lettering:
            row, column = divmod(number, 12)
            corner = np.array([row * 1.6 * height, column * 0.9 * height])
            points = corner + rng.uniform(0, 1, (int(rng.integers(2, 4)), 2)) * np.array([height, 0.7 * height])
        else:
            walk = np.cumsum(rng.normal(0, 0.25, 10)) + rng.uniform(0, 2 * np.pi)
            step = side * rng.uniform(0.02, 0.08)
            points = rng.uniform(-0.3, 0.8, 2) * side + np.cumsum(step * np.stack([np.sin(walk), np.cos(walk)], 1), 0)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for start, end in pairwise(origin + points @ rotation):
            _draw_segment(canvas, start, end, width, tone)


def _draw_segment(
    canvas: _Array, start: NDArray[np.float64], end: NDArray[np.float64], width: float, tone: float
) -> None:
    side = canvas.shape[0]
    low = np.maximum(np.minimum(start, end) - width - 1, 0).astype(int)
    high = np.minimum(np.maximum(start, end) + width + 2, side).astype(int)
    if (low >= high).any():
        return
    y = np.arange(low[0], high[0])[:, None] - start[0]
    x = np.arange(low[1], high[1])[None, :] - start[1]
    direction = end - start
    along = np.clip((y * direction[0] + x * direction[1]) / max(float(direction @ direction), 1e-9), 0, 1)
    distance = np.hypot(y - along * direction[0], x - along * direction[1])
    canvas[low[0] : high[0], low[1] : high[1]][distance < width / 2] = tone


def _finish(canvas: _Array, rng: np.random.Generator, config: DeadLeavesConfig) -> NDArray[np.uint8]:
    size = config.size
    image = canvas.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING).mean((1, 3))
    if rng.random() < config.blur:
        image = ndimage.gaussian_filter(image, rng.uniform(0.0, config.max_blur_sigma), mode="wrap")
    if config.sharpening and rng.random() < config.sharpening:
        detail = image - ndimage.gaussian_filter(image, rng.uniform(0.6, 1.4), mode="wrap")
        image = image + np.float32(rng.uniform(0.0, 0.7)) * detail
    if config.noise and rng.random() < config.noise:
        image = image + rng.normal(0, rng.uniform(0.0, config.max_noise_sigma) / 255, image.shape)
    levels: NDArray[np.uint8] = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels


def power_law(rng: np.random.Generator, side: int, slope: float, lowest: float = 0.0) -> _Array:
    """Gaussian noise of amplitude |f|^−slope, flat below `lowest` cycles per pixel: (side, side), deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1.0
    amplitude = np.maximum(frequency, lowest) ** -slope
    amplitude[0, 0] = 0.0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) * amplitude, (side, side))
    normalised: _Array = (field / field.std()).astype(np.float32)
    return normalised


def draw_texture(rng: np.random.Generator, side: int, pixel: float) -> _Array:
    """Draw a texture: (side, side), float32, mean 0, standard deviation 1.

    Args:
        rng: Random generator.
        side: Side, in samples.
        pixel: Samples per pixel of the final image; no structure is meant to be much finer than a pixel.
    """
    kind = rng.random()
    if kind < 0.3:
        field = power_law(rng, side, rng.uniform(0.6, 1.6))
    elif kind < 0.6:
        field = _cells(rng, side, pixel)
    elif kind < 0.85:
        field = _strands(rng, side, pixel)
    else:
        field = _ridges(rng, side, pixel)
    if rng.random() < 0.4:  # contrast that varies over the image
        field = _normalised(field * np.exp(rng.uniform(0.2, 0.8) * power_law(rng, side, 2.0, 2 / side)))
    if rng.random() < 0.3:  # fine noise on a coarse texture
        field = _normalised(field + rng.uniform(0.2, 0.8) * power_law(rng, side, rng.uniform(0.6, 1.6)))
    return field


def _normalised(field: NDArray[np.floating]) -> _Array:
    normalised: _Array = ((field - field.mean()) / max(float(field.std()), 1e-6)).astype(np.float32)
    return normalised


def _bent_coordinates(rng: np.random.Generator, side: int) -> _Array:
    """Coordinates (2, side, side) that are rotated, stretched along the second axis, and bent smoothly."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = np.float32(rng.uniform(0.0, 0.05) * side)
    y, x = y + bend * power_law(rng, side, 2.6, 2 / side), x + bend * power_law(rng, side, 2.6, 2 / side)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    stretch = np.float32(np.exp(rng.uniform(0, np.log(8))) if rng.random() < 0.6 else 1.0)
    return np.stack([c * y - s * x, (s * y + c * x) / stretch])


def _cells(rng: np.random.Generator, side: int, pixel: float) -> _Array:
    """Pebbles, scales, bricks, mosaics: functions of the nearest and the second nearest of many points."""
    coordinates = _bent_coordinates(rng, side)
    size = pixel * float(np.exp(rng.uniform(np.log(1.5), np.log(14.0))))
    flat = coordinates.reshape(2, -1)
    low, high = flat.min(1) - size, flat.max(1) + size
    if rng.random() < 0.5:
        points = rng.uniform(low, high, (max(8, int(np.prod((high - low) / size))), 2))
    else:  # rows, every other one shifted or not, and more or less disturbed
        rows, columns = np.arange(low[0], high[0], size), np.arange(low[1], high[1], size)
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
        grid[::2, :, 1] += size * rng.choice([0.0, 0.5])
        points = (grid + rng.normal(0, size * rng.uniform(0.02, 0.3), grid.shape)).reshape(-1, 2)
    distances, nearest = KDTree(points).query(flat.T, k=2)
    distance = np.asarray(distances) / size
    tone = rng.standard_normal(len(points))[np.asarray(nearest)[:, 0]]
    kind = rng.random()
    if kind < 0.35:
        field = tone
    elif kind < 0.6:  # bulging
        field = 0.5 * tone - 2 * distance[:, 0] ** 2
    elif kind < 0.8:  # with joints
        field = 0.5 * tone + 5 * np.minimum(distance[:, 1] - distance[:, 0], rng.uniform(0.1, 0.4))
    else:  # dots
        field = 0.3 * tone + rng.choice([-1, 1]) * (distance[:, 0] < rng.uniform(0.15, 0.45))
    return _normalised(field.reshape(side, side))


def _strands(rng: np.random.Generator, side: int, pixel: float) -> _Array:
    """Hair, grass, wood, water: noise smeared along a direction that bends."""
    long = pixel * float(np.exp(rng.uniform(np.log(2.0), np.log(20.0))))
    short = pixel * float(np.exp(rng.uniform(np.log(0.2), np.log(1.5))))
    smeared = ndimage.gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), (short, long), mode="wrap")
    field = _normalised(ndimage.map_coordinates(smeared, _bent_coordinates(rng, side), order=1, mode="grid-wrap"))
    return _normalised(np.tanh(field * rng.uniform(1.0, 4.0))) if rng.random() < 0.5 else field


def _ridges(rng: np.random.Generator, side: int, pixel: float) -> _Array:
    """Rock, clouds, bark: octaves of noise folded at zero, which makes creases."""
    frequency = side * np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1e-6
    centre, fall, sign = rng.uniform(2.0, 12.0), rng.uniform(0.3, 1.1), rng.choice([-1.0, 1.0])
    field = np.zeros((side, side))
    weight = sign
    while centre < side / (2 * pixel):  # Nyquist's frequency of the final image
        band = np.exp(-2 * np.log2(frequency / centre) ** 2)
        octave = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) * band, (side, side))
        field += weight * np.abs(octave / octave.std())
        centre, weight = 2 * centre, weight * 2**-fall
    return _normalised(field)
