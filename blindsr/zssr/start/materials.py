"""Textures of the painted images: what foliage, fur, stone, bricks, water and cloth look like to a camera.

A Gaussian field has a spectrum and nothing else; the textures of photographs have edges, directions and places where
they fade. Four kinds are painted: power-law noise, cells (Worley, "A cellular texture basis function", SIGGRAPH 1996),
strands drawn out along a direction, and ridges of octaves of noise (Musgrave, in Ebert et al., "Texturing and
Modeling", 1994); all of them turned, stretched and bent.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

__all__ = ["material", "power_law"]

Array = NDArray[np.float32]


def power_law(rng: np.random.Generator, side: int, slope: float, lowest: float = 0.0) -> Array:
    """Gaussian noise of amplitude |f|^−slope, flat under `lowest` cycles a pixel: (side, side), deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1.0
    amplitude = np.maximum(frequency, lowest) ** -slope
    amplitude[0, 0] = 0.0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) * amplitude, (side, side))
    normalised: Array = (field / field.std()).astype(np.float32)
    return normalised


def material(rng: np.random.Generator, side: int, pixel: float) -> Array:
    """Draw a texture.

    Args:
        rng: Source of everything random.
        side: Pixels a side.
        pixel: How many of these make a pixel of the final image; no structure is meant to be much finer.

    Returns:
        (side, side), float32, mean 0, standard deviation 1.
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
    if rng.random() < 0.4:  # it comes and goes
        field = _normalised(field * np.exp(rng.uniform(0.2, 0.8) * power_law(rng, side, 2.0, 2 / side)))
    if rng.random() < 0.3:  # fine grain on what is coarse
        field = _normalised(field + rng.uniform(0.2, 0.8) * power_law(rng, side, rng.uniform(0.6, 1.6)))
    return field


def _normalised(field: NDArray[np.floating]) -> Array:
    normalised: Array = ((field - field.mean()) / max(float(field.std()), 1e-6)).astype(np.float32)
    return normalised


def _bent(rng: np.random.Generator, side: int) -> Array:
    """Coordinates (2, side, side) that are turned, drawn out along the second axis, and bent smoothly."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = np.float32(rng.uniform(0.0, 0.05) * side)
    y, x = y + bend * power_law(rng, side, 2.6, 2 / side), x + bend * power_law(rng, side, 2.6, 2 / side)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    stretch = np.float32(np.exp(rng.uniform(0, np.log(8))) if rng.random() < 0.6 else 1.0)
    return np.stack([c * y - s * x, (s * y + c * x) / stretch])


def _cells(rng: np.random.Generator, side: int, pixel: float) -> Array:
    """Pebbles, scales, bricks, mosaics: what a pixel is depends on the nearest of many points, and on the second."""
    places = _bent(rng, side)
    size = pixel * float(np.exp(rng.uniform(np.log(1.5), np.log(14.0))))
    flat = places.reshape(2, -1)
    low, high = flat.min(1) - size, flat.max(1) + size
    if rng.random() < 0.5:
        points = rng.uniform(low, high, (max(8, int(np.prod((high - low) / size))), 2))
    else:  # rows, every other one shifted or not, and more or less disturbed
        rows, columns = np.arange(low[0], high[0], size), np.arange(low[1], high[1], size)
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
        grid[::2, :, 1] += size * rng.choice([0.0, 0.5])
        points = (grid + rng.normal(0, size * rng.uniform(0.02, 0.3), grid.shape)).reshape(-1, 2)
    found, nearest = KDTree(points).query(flat.T, k=2)
    distance = np.asarray(found) / size
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


def _strands(rng: np.random.Generator, side: int, pixel: float) -> Array:
    """Hair, grass, wood, water: noise drawn out along a direction that bends."""
    long = pixel * float(np.exp(rng.uniform(np.log(2.0), np.log(20.0))))
    short = pixel * float(np.exp(rng.uniform(np.log(0.2), np.log(1.5))))
    drawn = ndimage.gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), (short, long), mode="wrap")
    field = _normalised(ndimage.map_coordinates(drawn, _bent(rng, side), order=1, mode="grid-wrap"))
    return _normalised(np.tanh(field * rng.uniform(1.0, 4.0))) if rng.random() < 0.5 else field


def _ridges(rng: np.random.Generator, side: int, pixel: float) -> Array:
    """Rock, clouds, bark: octaves of noise that are folded at zero, which makes creases."""
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
