"""Training of the learned kernel estimator: degraded photographs whose kernel is known, their features, and the loss.

The features of an image are measured and not learned, so that they are computed once and kept in a file; a step of the
training reads them, in one of eight dihedral views.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from scipy.signal import oaconvolve
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ConfigError, DivergenceError
from blindsr.estimators.learned.features import FEATURES, tile_features, view_tables
from blindsr.estimators.learned.network import KINDS, KernelNetwork, Posterior, formula_transfer
from blindsr.estimators.learned.tiles import textured_tiles
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels.random import labelled_training_kernel
from blindsr.kernels.transform import zero_margins
from blindsr.ops import dihedral
from blindsr.ops.color import BT601
from blindsr.training.dataset import Images, Photographs
from blindsr.training.degradations import NoiseLaw, add_noise, jpeg_quality

__all__ = [
    "Example",
    "ExampleLaw",
    "KernelTrainingConfig",
    "LabelledKernels",
    "append_rows",
    "blurred_window",
    "centred_transfer",
    "draw_example",
    "drawn_facade",
    "drawn_page",
    "examine",
    "kernel_frequencies",
    "lettered",
    "noisy_image",
    "train_kernel_network",
    "turned",
    "unsharp_masked",
    "write_examples",
]

_STAGE = "train-kernel"
_STEPS = 16  # frequencies per cycle per LR pixel
_TILES = 8  # tiles of an image that are kept, at most
_TILE = 96  # LR px
_Array = NDArray[np.float32]


# --------------------------------------------------------------------------------------------------------- examples


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleLaw:
    """How the images of the training are degraded; shares are from 0 to 1."""

    scale_shares: tuple[float, float, float] = (0.5, 0.25, 0.25)  # of ×2, ×3, ×4
    # Relative to how often `training_kernel` draws them: sharp, Gaussian, disc, shake.
    kind_shares: tuple[float, float, float, float] = (0.20, 0.46, 0.14, 0.20)
    wide: float = 0.2  # share of the Gaussians that have σ of 1 to 3 LR px, log-uniform
    leaves: float = 0.2  # share of the windows that show dead leaves
    facades: float = 0.0  # share of the windows that show drawn repetitive structure
    pages: float = 0.06  # share of the windows that show drawn text, tables and panels
    stretched: float = 0.4  # share of the windows that are made smaller by another factor along each axis
    toned: float = 0.5  # share with another tone curve and other weights of the bands
    soft: float = 0.01  # share whose subject is soft by itself
    native: float = 0.2  # share whose HR image has the blur of a camera at its full resolution, σ 0.3 to 0.9 HR px
    defocused: float = 0.06  # share of which a part is out of focus
    sharpened: float = 0.12  # share with an unsharp mask after the sampling
    camera: float = 0.12  # share that goes through a camera: mosaic, demosaicking, tone curve, compression
    noise: float = 0.26  # share with white noise
    max_noise: float = 12.0  # grey levels
    jpeg: float = 0.14  # share that is compressed
    enlarged: float = 0.07  # share that is enlarged afterwards, by 1.25 to 3
    lettered: float = 0.06  # share with lettering or a frame
    sides: tuple[int, int] = (112, 256)  # LR px, uniform
    kernel_count: int = 1500  # random kernels per scale, each in eight views


@dataclass(frozen=True, slots=True)
class Example:
    """One degraded image.

    Args:
        features: (T, 650), float32, T from 1 to 8.
        transfer: (33, 33), transfer function of the centred kernel from −1 to 1 cycle per LR px, order (y, x).
        numbers: (7,): kind as an index of `KINDS`, sharpening, log(σ of the noise + 0.3), JPEG quality over 50 minus 1,
            1 if it was enlarged, log of the factor if so, scale.
    """

    features: Tensor
    transfer: NDArray[np.complex64]
    numbers: _Array


class LabelledKernels:
    """Labelled kernels by kind, drawn once each."""

    def __init__(self, seed: int, law: ExampleLaw) -> None:
        self._kernels: dict[tuple[int, str], list[tuple[NDArray[np.float32], float]]] = {}
        self._law = law
        for scale in (2, 3, 4):
            rng = np.random.default_rng([seed, scale])
            for _ in range(law.kernel_count):
                weights, kind, amount = labelled_training_kernel(rng, scale)
                self._kernels.setdefault((scale, kind), []).append((weights.astype(np.float32), amount))

    def draw(self, rng: np.random.Generator, scale: int) -> tuple[NDArray[np.float32], int, float]:
        """A kernel, (K, K), the index of its kind and the strength of its unsharp mask."""
        shares = np.array(self._law.kind_shares)
        kind = int(rng.choice(len(KINDS), p=shares / shares.sum()))
        if KINDS[kind] == "gaussian" and rng.random() < self._law.wide:
            variances = math.exp(2 * rng.uniform(0, math.log(3))) * np.exp(rng.normal(0, 0.25, 2))
            return _wide_gaussian(scale, variances, rng.uniform(0, math.pi)), kind, 0.0
        kernels = self._kernels[scale, KINDS[kind]]
        weights, amount = kernels[int(rng.integers(len(kernels)))]
        view = int(rng.integers(8))
        turned = np.rot90(weights, view % 4)
        return (turned[:, ::-1] if view >= 4 else turned), kind, amount


def _wide_gaussian(scale: int, variances: NDArray[np.float64], angle: float) -> NDArray[np.float32]:
    side = 16 * scale + scale % 2 * 15
    c = (np.arange(side) - (side - 1) / 2) / scale
    y, x = c[:, None], c[None]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    weights = np.exp(-0.5 * (along**2 / variances[0] + across**2 / variances[1]))
    return np.asarray(weights / weights.sum(), np.float32)


def draw_example(
    photographs: Photographs, leaves: Images | None, pool: LabelledKernels, law: ExampleLaw, rng: np.random.Generator
) -> Example | None:
    """Degrade a window of a photograph, or of dead leaves, and measure its features.

    Args:
        photographs: As of `blindsr.training.dataset.read_photographs`.
        leaves: Images of dead leaves, 256 px or more a side, of which the first 160 are used; None for none.
        pool: The kernels.
        law: The law.
        rng: The source of every choice.

    Returns:
        The example, or None if the window is flat.
    """
    scale = int(rng.choice((2, 3, 4), p=law.scale_shares))
    kernel, kind, amount = pool.draw(rng, scale)
    in_colour = rng.random() < law.camera
    lr = blurred_window(photographs, leaves, kernel, scale, law, rng, in_colour=in_colour)
    transfer = centred_transfer(kernel, scale)
    sharpening = None
    if rng.random() < law.sharpened:
        sharpening = rng.uniform(0.5, 1.3), rng.uniform(0.1, 1.5)
        transfer = transfer * _unsharp_transfer(*sharpening)
        amount = amount + sharpening[1]
    first = rng.random() < 0.5  # sharpened before the noise
    if sharpening and first:
        lr = unsharp_masked(lr, *sharpening)
    lr, noise, quality = noisy_image(lr, law, in_colour, rng)
    if sharpening and not first:
        lr = unsharp_masked(lr, *sharpening)
    lr = np.round(lr.clip(0, 1) * 255).astype(np.float32)
    gray = lr @ np.array(BT601, np.float32) if lr.shape[2] == 3 else lr[..., 0]
    factor = 1.0
    if rng.random() < law.enlarged:
        factor = float(rng.uniform(1.25, 3))
        gray = _enlarged(gray, factor, rng)
    if rng.random() < law.lettered:
        gray = lettered(gray, rng)
    tiles = textured_tiles(torch.from_numpy(np.ascontiguousarray(gray)), _TILES)
    if not len(tiles):
        return None
    numbers = [kind, amount, math.log(noise + 0.3), quality / 50 - 1, factor > 1, math.log(factor), scale]
    return Example(tile_features(tiles).flat, transfer, np.array(numbers, np.float32))


def blurred_window(
    photographs: Photographs,
    leaves: Images | None,
    kernel: _Array,
    scale: int,
    law: ExampleLaw,
    rng: np.random.Generator,
    *,
    in_colour: bool,
) -> _Array:
    """A window of a photograph, blurred and sampled, (H, W, 3) in colour, otherwise (H, W, 1); about [0, 1]."""
    trimmed = _trimmed(kernel, scale)
    hr = _window(photographs, leaves, scale, len(trimmed), law, rng)
    if rng.random() < law.toned:
        hr = hr ** np.float32(math.exp(rng.normal(0, 0.25)))
    if not in_colour:
        weights = rng.dirichlet((3, 6, 2)) if rng.random() < law.toned else np.array(BT601)
        hr = (hr @ weights.astype(np.float32))[..., None]
    softness = rng.random()
    if softness < law.soft + law.native:
        sigma = scale * rng.uniform(0.4, 1.8) if softness < law.soft else rng.uniform(0.3, 0.9)
        hr = np.stack([gaussian_filter(band, sigma) for band in np.moveaxis(hr, 2, 0)], -1)
    lr = _blurred(hr, trimmed, scale)
    if rng.random() < law.defocused:
        lr = _partly_defocused(lr, rng)
    return lr


def _trimmed(kernel: _Array, scale: int) -> _Array:
    """A kernel without the negligible weights around it; the parity of its side stays."""
    ring = min(*zero_margins(np.abs(kernel) >= 1e-5), max(0, (len(kernel) - scale - 1) // 2))
    return kernel[ring : len(kernel) - ring, ring : len(kernel) - ring]


def _window(
    photographs: Photographs,
    leaves: Images | None,
    scale: int,
    taps: int,
    law: ExampleLaw,
    rng: np.random.Generator,
) -> _Array:
    """A random window, (H, W, 3), [0, 1], that gives an LR image of 32 px or more."""
    if leaves is not None and rng.random() < law.leaves:
        image = leaves[int(rng.integers(160))]
        return np.repeat(turned(image, rng)[..., None], 3, 2)
    side = int(rng.integers(*law.sides))
    if law.facades and rng.random() < law.facades:
        return turned(drawn_facade(scale * side + taps, scale, rng), rng)
    if rng.random() < law.pages:
        return turned(drawn_page(scale * side + taps, scale, rng), rng)
    stretch = rng.uniform(1.0, 1.5, 2) if rng.random() < law.stretched else np.ones(2)
    while True:
        size = photographs[int(rng.choice(len(photographs)))]
        if not len(size):
            continue
        areas = np.array([float(p.shape[0] * p.shape[1]) ** 0.5 for p in size])
        picture = size[int(rng.choice(len(areas), p=areas / areas.sum()))]
        needed = [min(math.ceil((scale * side + taps) * s), n) for s, n in zip(stretch, picture.shape, strict=False)]
        if min(needed) >= scale * 40 + taps:
            break
    top, left = (int(rng.integers(n - m + 1)) for n, m in zip(picture.shape, needed, strict=False))
    window = picture[top : top + needed[0], left : left + needed[1]]
    if (stretch > 1).any():
        shrunk = [round(n / s) for n, s in zip(needed, stretch, strict=True)]
        bands = [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(window[..., i])).resize(shrunk[::-1], Image.Resampling.LANCZOS)
            )
            for i in range(window.shape[2])
        ]
        window = np.stack(bands, -1)
    hr = turned(window, rng)
    return np.repeat(hr, 3, 2) if hr.shape[2] == 1 else hr


def drawn_page(side: int, scale: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lines of text on panels with borders and rules, as on a screen or a printed page; (side, side, 3)."""
    paper, ink = (int(v) for v in rng.permutation((rng.integers(0, 70), rng.integers(180, 256))))

    def colour(level: int) -> tuple[int, ...]:
        return tuple(int(v) for v in np.clip(level + rng.integers(-20, 21, 3) * int(rng.random() < 0.4), 0, 255))

    image = Image.new("RGB", (side, side), colour(paper))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 6))):
        left, top = (int(v) for v in rng.integers(-side // 4, side, 2))
        right, bottom = (int(v) for v in rng.integers(side // 8, side, 2))
        draw.rectangle(
            (left, top, left + right, top + bottom),
            fill=colour(int(rng.integers(256))) if rng.random() < 0.7 else None,
            outline=colour(int(rng.integers(256))),
            width=int(rng.integers(1, 3 * scale)),
        )
    height = int(scale * math.exp(rng.uniform(math.log(7), math.log(28))))
    y = int(rng.integers(0, height))
    while y < side:
        font = ImageFont.load_default(size=max(8, int(height * rng.uniform(0.9, 1.1))))
        words = ("".join(chr(int(c)) for c in rng.integers(48, 123, int(rng.integers(1, 10)))) for _ in range(40))
        at = float(rng.uniform(0, side / 6)), float(y)
        draw.text(at, " ".join(words), fill=colour(ink), font=font)
        if rng.random() < 0.2:
            draw.line((0, y, side, y), fill=colour(ink), width=int(rng.integers(1, 2 * scale)))
        y += int(height * rng.uniform(1.0, 2.2)) + 1
    return np.asarray(image)


def drawn_facade(side: int, scale: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """One to four planes of windows, bricks, bars or stripes in perspective, (side, side, 3), grey levels."""
    canvas = np.empty((2 * side, 2 * side, 3))
    canvas[:] = rng.uniform(0, 255, 3) if rng.random() < 0.3 else rng.uniform(0, 255)
    for _ in range(int(rng.integers(1, 5))):
        period = scale * np.exp(rng.uniform(math.log(1.2), math.log(16), 2))  # HR px
        if rng.random() < 0.3:
            period[int(rng.integers(2))] = 1e4  # stripes
        fill, angle = rng.uniform(0.2, 0.85, 2), rng.normal(0, 0.25) + rng.integers(2) * math.pi / 2
        y, x = (np.mgrid[: 2 * side, : 2 * side] - side + rng.uniform(-side, side, (2, 1, 1))) / 2
        depth = 1 + rng.normal(0, 0.35) * x / side + rng.normal(0, 0.35) * y / side
        depth = np.maximum(depth, 0.3)
        u, v = (math.cos(angle) * x + math.sin(angle) * y) / depth, (math.cos(angle) * y - math.sin(angle) * x) / depth
        row = np.floor(v / period[0])
        u = u + (period[1] / 2 * (row % 2) if rng.random() < 0.3 else 0)  # bricks
        inside = (u % period[1] < fill[1] * period[1]) & (v % period[0] < fill[0] * period[0])
        level = rng.uniform(0, 255)
        colour = level + (rng.normal(0, 25, 3) if rng.random() < 0.4 else 0)
        varied = rng.normal(0, rng.uniform(0, 25), (64, 64))[
            row.astype(int) % 64, np.floor(u / period[1]).astype(int) % 64
        ]
        edge = rng.uniform(-0.6, 0.6) * side
        plane = x * math.cos(3 * angle) + y * math.sin(3 * angle) > edge if rng.random() < 0.6 else True
        painted = np.clip(colour + varied[..., None], 0, 255)
        canvas = np.where((inside & plane)[..., None], painted, canvas)
    texture = gaussian_filter(rng.normal(size=canvas.shape[:2]), rng.uniform(0.7, 3))
    canvas = canvas + rng.uniform(0, 12) * texture[..., None] / texture.std()
    smooth = gaussian_filter(canvas, (rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.3), 0))[::2, ::2]
    return np.asarray(smooth.clip(0, 255))


def turned(window: NDArray[Any], rng: np.random.Generator) -> _Array:
    view = int(rng.integers(8))
    rotated = np.rot90(window, view % 4)
    return np.asarray((rotated[:, ::-1] if view >= 4 else rotated) / np.float32(255), np.float32)


def _blurred(hr: _Array, kernel: _Array, scale: int) -> _Array:
    """Correlate with a kernel where it lies inside, and take every s-th pixel; sides are multiples of 8."""
    flipped = kernel[::-1, ::-1]
    bands = [oaconvolve(hr[..., i], flipped, "valid")[::scale, ::scale] for i in range(hr.shape[2])]
    lr = np.stack(bands, -1)
    height, width = (side // 8 * 8 for side in lr.shape[:2])
    return np.asarray(lr[:height, :width], np.float32)


def _partly_defocused(lr: _Array, rng: np.random.Generator) -> _Array:
    """Blur one side of the image, with a soft border."""
    height, width = lr.shape[:2]
    angle, sigma = rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 3.0)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    mask = 1 / (1 + np.exp(-12 * (y * math.sin(angle) + x * math.cos(angle) - rng.uniform(0.0, 0.5))))
    soft = np.stack([gaussian_filter(band, sigma) for band in np.moveaxis(lr, 2, 0)], -1)
    return np.asarray(lr + mask[..., None].astype(np.float32) * (soft - lr), np.float32)


def unsharp_masked(lr: _Array, sigma: float, amount: float) -> _Array:
    """Sharpen an image, (H, W, C), by an unsharp mask."""
    soft = np.stack([gaussian_filter(band, sigma, truncate=5) for band in np.moveaxis(lr, 2, 0)], -1)
    return np.asarray(lr + amount * (lr - soft), np.float32)


def _unsharp_transfer(sigma: float, amount: float) -> NDArray[np.complex64]:
    """Transfer of an unsharp mask on the LR grid, which is periodic with 1 cycle per LR pixel."""
    r = np.arange(-math.ceil(5 * sigma), math.ceil(5 * sigma) + 1)
    taps = np.exp(-0.5 * (r / sigma) ** 2)
    along = np.cos(2 * np.pi * np.outer(kernel_frequencies(), r)) @ (taps / taps.sum())
    return np.asarray(1 + amount * (1 - np.outer(along, along)), np.complex64)


def noisy_image(lr: _Array, law: ExampleLaw, in_colour: bool, rng: np.random.Generator) -> tuple[_Array, float, float]:
    """Noise, compression or a camera; the image, σ of its noise in grey levels, and the JPEG quality, 100 for none."""
    kind = rng.random()
    if not in_colour and kind >= law.noise + law.jpeg:
        return lr, 0.0, 100.0
    if not in_colour and kind < law.noise:
        sigma = law.max_noise * rng.random() ** 2
        noise = rng.standard_normal(lr.shape, dtype=np.float32)
        level = np.float32(sigma / 255)
        if rng.random() < 0.25:  # more noise where it is bright
            level = level * np.sqrt(np.clip(lr, 0.02, 1) / 0.5)
        return np.asarray(lr + level * noise, np.float32), float(sigma), 100.0
    only = {"white": 0.0, "photons": 0.0, "speckle": 0.0, "hidden": 0.0}
    shares = {"jpeg": 0.0, "camera": 1.0} if in_colour else {"jpeg": 1.0, "camera": 0.0}
    bands = lr if lr.shape[2] == 3 else np.repeat(lr, 3, 2)
    red, green, blue = BT601
    luma = bands @ np.array([red, green, blue], np.float32)
    planes = np.stack([luma, bands[..., 2] - luma, bands[..., 0] - luma])[None]
    coloured = torch.tensor([in_colour])
    result, sigmas, _ = add_noise(torch.from_numpy(planes), coloured, rng, NoiseLaw(**only, **shares))
    y, by, ry = result[0].numpy()
    rgb = np.stack([y + ry, y - (red * ry + blue * by) / green, y + by], -1)
    error = 255 * float(sigmas[0])
    return np.asarray(rgb if in_colour else rgb[..., :1], np.float32), error, jpeg_quality(error / 255)


def _enlarged(gray: _Array, factor: float, rng: np.random.Generator) -> _Array:
    """Enlarge by a common filter, and keep at most 256 px a side."""
    limit = max(32, int(256 / factor))
    part = Image.fromarray(np.ascontiguousarray(gray[:limit, :limit]))
    size = tuple(round(factor * side) for side in part.size)
    filters = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
    return np.round(np.asarray(part.resize(size, filters[int(rng.integers(3))]))).clip(0, 255)  # type: ignore[arg-type]


def lettered(gray: _Array, rng: np.random.Generator) -> _Array:
    """A line of letters, or a frame of one grey level."""
    image = Image.fromarray(gray.round().clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    width, height = image.size
    level = int(rng.choice((0, 255, int(rng.integers(256)))))
    if rng.random() < 0.5:
        text = "".join(chr(int(c)) for c in rng.integers(48, 123, int(rng.integers(8, 24))))
        at = float(rng.uniform(0, width / 3)), float(rng.uniform(0, height - 20))
        draw.text(at, text, fill=level, font=ImageFont.load_default(size=int(rng.integers(10, 22))))
    else:
        draw.rectangle((0, 0, width - 1, height - 1), outline=level, width=int(rng.integers(2, 16)))
    return np.asarray(image, np.float32)


@lru_cache(maxsize=1)
def kernel_frequencies() -> NDArray[np.float64]:
    """Frequencies of a kernel's transfer function, from −1 to 1 cycle per LR px, (33,)."""
    return np.arange(-_STEPS, _STEPS + 1) / _STEPS


def centred_transfer(kernel: _Array, scale: int) -> NDArray[np.complex64]:
    """Transfer function around the kernel's centre of mass: an image does not show a shift."""
    r = (np.arange(len(kernel)) - (len(kernel) - 1) / 2) / scale
    weights = kernel.astype(np.float64)
    y, x = float(weights.sum(1) @ r), float(weights.sum(0) @ r)
    rows, columns = (np.exp(2j * np.pi * np.outer(kernel_frequencies(), r - shift)) for shift in (y, x))
    return np.asarray(rows @ weights @ columns.T, np.complex64)


# ------------------------------------------------------------------------------------------------------------- file

_ROW = np.dtype(
    [
        ("features", np.float16, (_TILES, FEATURES)),
        ("tiles", np.int32),
        ("transfer", np.float16, (2, 2 * _STEPS + 1, 2 * _STEPS + 1)),
        ("numbers", np.float32, 7),
    ]
)


def write_examples(
    path: Path,
    count: int,
    photographs: Photographs,
    leaves: Images | None,
    law: ExampleLaw,
    *,
    seed: int,
    listener: Listener = ignore,
) -> None:
    """Append examples to a file until it has `count`; each depends only on the seed and its number.

    Args:
        path: The file, 15 kB for each example.
        count: Number of examples.
        photographs: As of `read_photographs`.
        leaves: Images of dead leaves; None for none.
        law: The law.
        seed: Of the kernels and of everything else.
        listener: Receives `StepDone`.
    """
    pool = LabelledKernels(seed, law)

    def row_of(rng: np.random.Generator) -> bytes | None:
        example = draw_example(photographs, leaves, pool, law, rng)
        if example is None:
            return None
        row = np.zeros((), _ROW)
        tiles = len(example.features)
        row["features"][:tiles] = example.features.clamp(-6e4, 6e4).numpy()
        row["tiles"] = tiles
        row["transfer"] = np.stack([example.transfer.real, example.transfer.imag])
        row["numbers"] = example.numbers
        return row.tobytes()

    append_rows(path, count, _ROW.itemsize, row_of, seed=seed, listener=listener)


def append_rows(
    path: Path,
    count: int,
    size: int,
    row_of: Callable[[np.random.Generator], bytes | None],
    *,
    seed: int,
    listener: Listener = ignore,
) -> None:
    """Append rows of `size` bytes to a file until it has `count`; each depends only on the seed and its number.

    Args:
        path: The file; what was written of an unfinished row is removed.
        count: Number of rows.
        size: Bytes of a row.
        row_of: Makes a row, or None, which is tried again.
        seed: Of the generators that it gets.
        listener: Receives `StepDone`.
    """
    done = path.stat().st_size // size if path.exists() else 0
    with path.open("ab") as file:
        file.truncate(done * size)
        for number in range(done, count):
            rng = np.random.default_rng([seed, number])
            row = None
            while row is None:
                row = row_of(rng)
            file.write(row)
            if number % 200 == 199:
                file.flush()
                listener(StepDone(stage=_STAGE, step=number + 1))


def _read_examples(path: Path) -> NDArray[Any]:
    count = path.stat().st_size // _ROW.itemsize if path.exists() else 0
    if not count:
        raise ConfigError(f"training needs examples, {path} has none; write some first.")
    return np.memmap(path, _ROW, "r", shape=(count,))


# ------------------------------------------------------------------------------------------------------------- loss


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTrainingConfig:
    """Settings of a training of the kernel network."""

    steps: int = 10_000
    warm_up: int = 300  # steps
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    batch: int = 256  # images
    average_decay: float = 0.999  # of the exponential moving average of the weights, which is the result
    feature_noise: float = 0.15  # σ of the noise on the features, in units of their spread
    risk_weight: float = 0.25  # of the loss in dB of a Wiener filter with the estimate against one with the true kernel
    seed: int = 0
    report_every: int = 100  # steps


@dataclass(frozen=True, slots=True)
class _Targets:
    transfer: Tensor  # (B, 33, 33), complex
    numbers: Tensor  # (B, 7)


@lru_cache(maxsize=1)
def _tables() -> dict[str, Tensor]:
    f = torch.from_numpy(kernel_frequencies()).float()
    squared = f[:, None] ** 2 + f[None] ** 2
    power = 1e-3 * (squared / 4 + (1 / 128) ** 2) ** (-1.1)  # prior of `blindsr.ops.wiener` at ×2
    weight = (squared + 0.15**2) ** (-0.55)
    weight[_STEPS, _STEPS] = 0
    fade = ((1.0 - squared.sqrt()) / 0.25).clamp(0, 1)
    shape = 1 - torch.exp(-squared / 0.16**2 / 2)
    return {"f": f, "power": power, "weight": weight / weight.mean(), "fade": fade, "shape": shape}


def _full(half: Tensor) -> Tensor:
    """(B, 33, 33) from the half f_x ≥ 0, (B, 33, 17); a real kernel's transfer function is Hermitian."""
    n = half.shape[-1] - 1
    left = half.flip(-2, -1)[..., :n].conj()
    middle = (half[..., :1] + half[..., :1].flip(-2).conj()) / 2
    return torch.cat([left, middle, half[..., 1:]], -1)


def _mean_transfer(posterior: Posterior) -> Tensor:
    tables = _tables()
    half = formula_transfer(posterior.formulas, tables["f"], tables["f"][_STEPS:])
    free = torch.complex(posterior.free_form[:, 0], posterior.free_form[:, 1])
    return _full(half + tables["fade"][:, _STEPS:] * free)


def _risk(estimate: Tensor, variance: Tensor | float, truth: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the aliased Wiener filter of ×2 with an estimate, for an image with the prior spectrum.

    Args:
        estimate: (B, 33, 33).
        variance: Of the estimate's error, (B, 33, 33).
        truth: (B, 33, 33).
        noise: (B,), variance of the noise.
    """
    tables = _tables()
    n = 2 * _STEPS
    power, shape = tables["power"][:n, :n], tables["shape"][:n, :n]
    h, true = estimate[:, :n, :n], truth[:, :n, :n]

    def folded(plane: Tensor) -> Tensor:
        mean = plane.reshape(-1, 2, _STEPS, 2, _STEPS).mean((1, 3))
        return mean.repeat(1, 2, 2)

    unknown = power * shape * (variance[:, :n, :n] if isinstance(variance, Tensor) else variance)
    level = noise[:, None, None]
    g = power * h.conj() / (folded(power * h.abs().square() + unknown) + level)
    observed = folded(power * true.abs().square()) + level
    error = power - 2 * (g * true).real * power / 4 + g.abs().square() * observed / 4
    return error.mean((1, 2))


def _losses(posterior: Posterior, targets: _Targets) -> dict[str, Tensor]:
    """The parts of the loss, the mean over images each."""
    tables = _tables()
    kind, sharpening, log_noise, quality, enlarged, log_factor, _ = targets.numbers.unbind(1)
    has_kernel = 1 - enlarged  # the pixels of an enlarged image have no kernel of their own
    share = has_kernel / has_kernel.mean().clamp_min(1e-3)
    mean = _mean_transfer(posterior)
    squared = (mean - targets.transfer).abs().square()
    log_variance = _full(posterior.log_variance.to(torch.complex64)).real
    noise = ((log_noise.exp() - 0.3).clamp_min(0.45) / 255).square()
    variance = log_variance.exp()
    risk = _risk(mean, variance.detach(), targets.transfer, noise)
    best = _risk(targets.transfer, 0.0, targets.transfer, noise)
    excess = 10 * torch.log10(risk / best)
    likelihood = (tables["weight"] * (squared.detach() / variance + log_variance)).mean((1, 2))
    return {
        "transfer": (share * (tables["weight"] * squared).mean((1, 2))).mean(),
        "risk_db": (share * excess).mean(),
        "likelihood": (share * likelihood).mean(),
        "kind": functional.cross_entropy(posterior.kind, kind.long(), reduction="none").mul(share).mean(),
        "numbers": (share * functional.smooth_l1_loss(posterior.sharpening, sharpening, reduction="none")).mean()
        + functional.smooth_l1_loss(posterior.log_noise, log_noise)
        + functional.smooth_l1_loss(posterior.quality, quality),
        "enlarged": functional.binary_cross_entropy_with_logits(posterior.enlarged[:, 0], enlarged)
        + (enlarged * (posterior.enlarged[:, 1] - log_factor).abs()).mean(),
    }


def _total(losses: dict[str, Tensor], config: KernelTrainingConfig) -> Tensor:
    return (
        8 * losses["transfer"]
        + config.risk_weight * losses["risk_db"]
        + 0.1 * losses["likelihood"]
        + 0.2 * losses["kind"]
        + 0.1 * losses["numbers"]
        + 0.2 * losses["enlarged"]
    )


def _batches(rows: NDArray[Any], steps: int, config: KernelTrainingConfig) -> Iterator[tuple[Tensor, Tensor, _Targets]]:
    """Batches of a random number of tiles and one dihedral view for each half of it."""
    rng = np.random.default_rng([config.seed, 1])
    indices, signs = view_tables()
    for _ in range(steps):
        chosen = rows[np.sort(rng.integers(len(rows), size=config.batch))]
        count = int(rng.choice((1, 2, 4, 8), p=(0.1, 0.15, 0.25, 0.5)))
        order = rng.permuted(np.tile(np.arange(_TILES), (config.batch, 1)), axis=1) % chosen["tiles"][:, None]
        if count == _TILES:
            order = np.arange(_TILES)[None] % chosen["tiles"][:, None]
        picked = chosen["features"][np.arange(config.batch)[:, None], order[:, :count]].astype(np.float32)
        features = torch.from_numpy(picked)
        transfer = torch.view_as_complex(
            torch.from_numpy(np.moveaxis(chosen["transfer"].astype(np.float32), 1, -1)).contiguous()
        )
        view = int(rng.integers(8))
        features = features[..., indices[view]] * signs[view]
        numbers = torch.from_numpy(np.array(chosen["numbers"]))
        yield features, numbers[:, 6], _Targets(dihedral(transfer, view), numbers)


def train_kernel_network(
    examples: Path,
    config: KernelTrainingConfig,
    *,
    initial: dict[str, Tensor] | None = None,
    validate: Callable[[dict[str, Tensor]], dict[str, float]] | None = None,
    listener: Listener = ignore,
) -> dict[str, Tensor]:
    """Train the network of the learned estimator.

    Args:
        examples: From `write_examples`.
        config: Settings.
        initial: Weights to begin with; None for random ones.
        validate: Is called with the averaged weights at every tenth report; its numbers are reported.
        listener: Receives `StepDone` with the parts of the loss.

    Returns:
        The averaged weights.

    Raises:
        DivergenceError: The loss is not finite.
    """
    rows = _read_examples(examples)
    network = KernelNetwork()
    generator = torch.Generator().manual_seed(config.seed)
    if initial is None:
        _initialise(network, rows, generator)
    else:
        network.load_state_dict(initial)
    network.train()
    parameters = list(network.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    listener(StageStarted(stage=_STAGE, max_steps=config.steps))
    sums: dict[str, float] = {}
    for step, (features, scale, targets) in enumerate(_batches(rows, config.steps, config), 1):
        progress = step / config.steps
        rate = min(1.0, step / config.warm_up) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * rate
        noise = torch.randn(features.shape, generator=generator) * config.feature_noise * network.feature_width
        losses = _losses(network(features + noise, scale), targets)
        loss = _total(losses, config)
        if not bool(torch.isfinite(loss)):
            raise DivergenceError(f"the training of the kernel network diverged at step {step}; lower learning_rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        decay = min(config.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                average[name].lerp_(parameter, 1 - decay)
        for name, part in losses.items():
            sums[name] = sums.get(name, 0.0) + float(part.detach()) / config.report_every
        if step % config.report_every == 0:
            weights = {**network.state_dict(), **average}
            if validate is not None and step % (10 * config.report_every) == 0:
                sums |= validate(weights)
            listener(StepDone(stage=_STAGE, step=step, values=sums))
            sums = {}
    listener(StageDone(stage=_STAGE, steps=config.steps))
    return {name: value.detach().clone() for name, value in {**network.state_dict(), **average}.items()}


def _initialise(network: KernelNetwork, rows: NDArray[Any], generator: torch.Generator) -> None:
    """He's weights; the means and spreads of the features are those of the first examples."""
    sample = rows[: min(len(rows), 4000)]
    values = np.concatenate([row["features"][: row["tiles"]] for row in sample]).astype(np.float32)
    with torch.no_grad():
        network.feature_mean.copy_(torch.from_numpy(values.mean(0)))
        network.feature_width.copy_(torch.from_numpy(values.std(0)).clamp_min(1e-3))
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            else:
                last = name.partition(".")[0] in ("free_form", "log_variance", "numbers", "formulas")
                gain = 0.1 if last else 1.0
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(drawn * gain * (2 / parameter.shape[1]) ** 0.5)
        network.log_variance.bias.fill_(-4.0)


@torch.no_grad()
def examine(weights: dict[str, Tensor], examples: Path, *, count: int = 2000) -> dict[str, float]:
    """The parts of the loss on examples that were not trained on, with all of their tiles."""
    network = KernelNetwork()
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    network.eval()
    rows = _read_examples(examples)[:count]
    sums: dict[str, float] = {}
    for start in range(0, len(rows), 250):
        part = rows[start : start + 250]
        order = np.arange(_TILES)[None] % part["tiles"][:, None]
        features = torch.from_numpy(part["features"][np.arange(len(part))[:, None], order].astype(np.float32))
        pairs = np.moveaxis(part["transfer"].astype(np.float32), 1, -1)
        numbers = torch.from_numpy(np.array(part["numbers"]))
        targets = _Targets(torch.view_as_complex(torch.from_numpy(pairs).contiguous()), numbers)
        for name, value in _losses(network(features, numbers[:, 6]), targets).items():
            sums["held_" + name] = sums.get("held_" + name, 0.0) + float(value) * len(part) / len(rows)
    return sums
