"""Synthetic images for the learned start: dead leaves with shading, stripes, grids, texture, strokes and depth blur.

Leaves that occlude each other, of a size density r⁻³, have edges, scale invariance and a 1/f² spectrum as photographs
do (Ruderman, "Origins of scaling in natural images", Vision Research 1997; Lee, Mumford, Huang, "Occlusion models for
natural images", IJCV 2001). One band is enough: the network of the start works band by band.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.errors import ConfigError
from blindsr.zssr.start.materials import material, power_law

__all__ = ["LeavesConfig", "leaves"]

_OVERSAMPLING = 2  # leaves are painted hard at twice the resolution; the 2×2 mean is the anti-aliasing
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavesConfig:
    """What the images are made of. Lengths are in pixels of the image."""

    size: int = 192  # side
    least_radius: tuple[float, float] = (0.7, 14.0)  # log-uniform per image: busy and calm photographs
    largest_radius: float = 110.0
    coverage: float = 3.0  # sum of the leaves' areas over the image's: the background is nearly all covered
    strokes: float = 0.35  # probability of an image with text-like or branch-like strokes
    depth_blur: float = 0.25  # probability that what is painted first is out of focus
    # Contrast of the textures, against that of the first training. Over 1, half of the images have one all over, too.
    texture: float = 1.0
    materials: float = 0.0  # share of the images whose textures are other than power-law noise, too: two to an image
    own_blur: float = 0.6  # probability that the image is itself slightly blurred
    own_blur_sigma: float = 0.7  # at most
    own_sharpening: float = 0.0  # probability that it was sharpened by an unsharp mask, as cameras do
    own_noise: float = 0.0  # probability that it has a photograph's noise, up to …
    own_noise_sigma: float = 2.5  # … so many grey levels

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.size < 16:
            raise ConfigError(f"leaves.size must be 16 or more, got {self.size}.")
        if self.texture < 0:
            raise ConfigError(f"leaves.texture must be 0 or more, got {self.texture}.")
        for name in ("strokes", "depth_blur", "materials", "own_blur", "own_sharpening", "own_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"leaves.{name} is a probability, from 0 to 1, got {getattr(self, name)}.")
        if not 0 < self.least_radius[0] <= self.least_radius[1] < self.largest_radius:
            raise ConfigError("leaves need 0 < least_radius[0] ≤ least_radius[1] < largest_radius.")


def leaves(seed: int, index: int, config: LeavesConfig | None = None) -> NDArray[np.uint8]:
    """Paint image number `index` of the endless series `seed`.

    Args:
        seed: Which series.
        index: Which image of it; images are independent of each other.
        config: What they are made of.

    Returns:
        (size, size), uint8, one band. Same arguments, same bits.
    """
    config = config or LeavesConfig()
    rng = np.random.default_rng([seed, index])
    side = config.size * _OVERSAMPLING
    tone, spread = rng.uniform(0.25, 0.75), rng.uniform(0.1, 0.42)
    textures = _textures(rng, config, side)
    canvas = np.full((side, side), _tone(rng, tone, spread), np.float32) + 0.1 * textures[0]
    # Where there is something to see inside the leaves, the smallest ones are larger.
    radii = _radii(rng, config, side, calm=1.0 if len(textures) == 1 else 2.0)
    focus = int(radii.size * rng.uniform(0.3, 0.8)) if rng.random() < config.depth_blur else -1
    plain = rng.random() * (0.8 if len(textures) == 1 else 0.4)  # how much of this image is flat
    fillings = [config.texture * texture for texture in textures]
    for i, radius in enumerate(radii):
        if i == focus:
            canvas = ndimage.gaussian_filter(canvas, _OVERSAMPLING * rng.uniform(0.7, 3.0), mode="wrap")
        _paint_leaf(canvas, rng, radius, _tone(rng, tone, spread), fillings[i % len(fillings)], plain)
    if config.texture > 1 and rng.random() < 0.5:
        contrast = np.float32(abs(rng.normal(0, 0.03 * config.texture)))
        canvas += contrast * power_law(rng, side, rng.uniform(0.6, 1.6))
    if rng.random() < config.strokes:
        _paint_strokes(canvas, rng, _tone(rng, tone, spread + 0.2))
    return _finish(canvas, rng, config)


def _tone(rng: np.random.Generator, tone: float, spread: float) -> float:
    return float(np.clip(tone + spread * rng.standard_normal(), 0.0, 1.0))


def _textures(rng: np.random.Generator, config: LeavesConfig, side: int) -> list[Array]:
    """What the leaves are filled with: one power-law noise, or two materials."""
    if config.materials and rng.random() < config.materials:
        return [material(rng, side, _OVERSAMPLING) for _ in range(2)]
    return [power_law(rng, side, rng.uniform(0.6, 1.6))]


def _radii(rng: np.random.Generator, config: LeavesConfig, side: int, calm: float) -> NDArray[np.float64]:
    """Radii of density r⁻³ by the inverse of its distribution function, as many as the coverage takes."""
    low = calm * _OVERSAMPLING * float(np.exp(rng.uniform(*np.log(config.least_radius))))
    high = _OVERSAMPLING * config.largest_radius
    mean_square = 2 * np.log(high / low) / (low**-2 - high**-2)
    count = int(config.coverage * side**2 / (np.pi * mean_square)) + 1
    return (low**-2 - rng.random(count) * (low**-2 - high**-2)) ** -0.5


def _paint_leaf(
    canvas: Array, rng: np.random.Generator, radius: float, tone: float, texture: Array, plain: float
) -> None:
    side = canvas.shape[0]
    cy, cx = rng.uniform(-0.1 * side, 1.1 * side, 2)
    aspect = float(np.exp(-abs(rng.normal(0.0, 0.7))))  # of the short to the long axis
    long, short = radius / aspect**0.5, radius * aspect**0.5
    reach = 1.42 * long + 1
    top, bottom = max(0, int(cy - reach)), min(side, int(cy + reach) + 1)
    left, right = max(0, int(cx - reach)), min(side, int(cx + reach) + 1)
    if top >= bottom or left >= right:
        return
    angle = rng.uniform(0, np.pi)
    if rng.random() < 0.3:  # the world has more horizontals and verticals than chance
        angle = np.round(2 * angle / np.pi) * np.pi / 2 + rng.normal(0, 0.03)
    c, s = np.cos(angle), np.sin(angle)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(cy)
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(cx)
    u = (c * x + s * y) / np.float32(long)
    v = (c * y - s * x) / np.float32(short)
    inside = _shape(rng, u, v, radius)
    window = canvas[top:bottom, left:right]
    fill: Array | float = tone
    if radius > 3 and rng.random() > plain:
        fill = _fill(rng, u, v, long, short, tone, texture[top:bottom, left:right])
    np.copyto(window, np.asarray(fill, np.float32), where=inside)


def _shape(rng: np.random.Generator, u: Array, v: Array, radius: float) -> NDArray[np.bool_]:
    kind = rng.random()
    if kind < 0.35 or radius < 1.5:
        return u * u + v * v < 1
    if kind < 0.7:
        return (np.abs(u) < 0.9) & (np.abs(v) < 0.9)
    if kind < 0.88:  # a convex polygon: half-planes around the centre
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
    rng: np.random.Generator, u: Array, v: Array, long: float, short: float, tone: float, texture: Array
) -> Array:
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


def _paint_strokes(canvas: Array, rng: np.random.Generator, tone: float) -> None:
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
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        placed = origin + points @ turn
        for start, end in pairwise(placed):
            _paint_segment(canvas, start, end, width, tone)


def _paint_segment(
    canvas: Array, start: NDArray[np.float64], end: NDArray[np.float64], width: float, tone: float
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


def _finish(canvas: Array, rng: np.random.Generator, config: LeavesConfig) -> NDArray[np.uint8]:
    size = config.size
    image = canvas.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING).mean((1, 3))
    if rng.random() < config.own_blur:
        image = ndimage.gaussian_filter(image, rng.uniform(0.0, config.own_blur_sigma), mode="wrap")
    if config.own_sharpening and rng.random() < config.own_sharpening:
        rest = image - ndimage.gaussian_filter(image, rng.uniform(0.6, 1.4), mode="wrap")
        image = image + np.float32(rng.uniform(0.0, 0.7)) * rest
    if config.own_noise and rng.random() < config.own_noise:
        image = image + rng.normal(0, rng.uniform(0.0, config.own_noise_sigma) / 255, image.shape)
    levels: NDArray[np.uint8] = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels
