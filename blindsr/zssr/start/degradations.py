"""Random kernels for the training: the families of nature, sizes in LR pixels, so that they serve every scale.

Gaussians with and without multiplicative noise (the law of DIV2KRK), bicubic, box, defocus discs, motion lines and
camera shake; each may be off centre.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.kernels import bicubic
from blindsr.ops import pad_symmetric
from blindsr.zssr.start.wiener import transfer

__all__ = [
    "KernelBank",
    "NoiseLaw",
    "add_noise",
    "canvas_side",
    "degrade_unlike",
    "random_kernel",
    "random_noise_sigma",
    "unlike",
]

Array = NDArray[np.float64]
_LONGEST = 10  # side of the canvas in LR pixels
_OVERSAMPLING = 3
_LEVEL_ERROR = 0.3  # of the log of the level that is told of speckle and compression: no estimate has it exactly
_MIDDLE = 0.45  # brightness at which speckle has the σ that is drawn
_WORST_QUALITY = 20
_ANNEX_K = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
_ROWS, _COLUMNS = np.indices((8, 8))
_DCT = np.where(_ROWS, 0.5, 0.5**1.5).astype(np.float32) * np.cos(
    np.pi / 16 * _ROWS * (2 * _COLUMNS + 1), dtype=np.float32
)
_WIDTH_ERROR = 0.12  # of the covariance: the spectral estimate's error of the trace and, about, of its other parts


def canvas_side(scale: int) -> int:
    """K of `random_kernel`: one size per scale, so that kernels make a batch."""
    return _LONGEST * scale + (_LONGEST - 1) * scale % 2


def random_kernel(rng: np.random.Generator, scale: int) -> Array:
    """Draw one kernel, (K, K), sum 1, K = `canvas_side`."""
    side = canvas_side(scale)
    kind = rng.random()
    if kind < 0.12:
        return _fit(bicubic(scale).array, side)
    offset = rng.uniform(-0.5, 0.5, 2) * scale if rng.random() < 0.2 else np.zeros(2)
    if kind < 0.62:
        return _gaussian(rng, scale, side, offset)
    fine = scale * _OVERSAMPLING
    canvas = np.zeros((side * _OVERSAMPLING,) * 2)
    y, x = (
        c - (len(canvas) - 1) / 2 - o * _OVERSAMPLING for c, o in zip(np.indices(canvas.shape), offset, strict=True)
    )
    if kind < 0.67:
        half = rng.uniform(0.25, 0.75) * fine
        canvas = (np.clip(half + 0.5 - np.abs(y), 0, 1) * np.clip(half + 0.5 - np.abs(x), 0, 1)).astype(np.float64)
    elif kind < 0.79:
        canvas = np.clip(rng.uniform(0.4, 2.2) * fine + 0.5 - np.hypot(y, x), 0, 1)
    else:
        canvas = _shake(rng, y, x, fine, straight=kind < 0.86)
    return _blurred(canvas, rng, fine, side)


class KernelBank:
    """Random kernels by index, drawn once: drawing one costs more than blurring with it."""

    def __init__(self, seed: int, size: int) -> None:
        self._seed, self._size = seed, size
        self._drawn: dict[tuple[int, int], NDArray[np.float32]] = {}

    def draw(self, rng: np.random.Generator, scale: int) -> NDArray[np.float32]:
        """One of the kernels of this scale, in one of its eight dihedral views."""
        key = scale, int(rng.integers(self._size))
        if key not in self._drawn:
            own = np.random.default_rng([self._seed, *key])
            self._drawn[key] = random_kernel(own, scale).astype(np.float32)
        view = int(rng.integers(8))
        turned = np.rot90(self._drawn[key], view % 4)
        return turned[:, ::-1] if view >= 4 else turned


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLaw:
    """What is done to the LR images of the training beside the blur; every σ is in grey levels.

    Args:
        share: Of the images, how many are noisy.
        largest: White noise is largest·u², u uniform in [0, 1].
        speckle: Of the noisy images, how many have noise that grows with the brightness instead …
        jpeg: … and how many are compressed instead.
    """

    share: float = 0.35
    largest: float = 10.0
    speckle: float = 0.0
    jpeg: float = 0.0


def random_noise_sigma(rng: np.random.Generator, law: NoiseLaw) -> float:
    """Draw the noise of one LR image.

    Args:
        rng: Source of it.
        law: How many images are noisy, and how noisy.

    Returns:
        σ in [0, 1] units; 0.0 for most.
    """
    return 0.0 if rng.random() < 1 - law.share else float(law.largest / 255 * rng.random() ** 2)


def add_noise(lr: Tensor, sigma: Tensor, law: NoiseLaw, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Make images noisy, white, speckled or compressed, and round them to 8 bits.

    Args:
        lr: (B, h, w), [0, 1], periodic; sides that 8 divides if the law has JPEG.
        sigma: (B,), from `random_noise_sigma`; where it is 0 the image stays clean.
        law: The law of it.
        rng: Source of the noise.

    Returns:
        The images, and the σ that the network is told: about what `blindsr.ops.noise` and a JPEG's own tables say.
    """
    white = torch.from_numpy(rng.standard_normal(lr.shape, dtype=np.float32))
    told, noisy = sigma.clone(), lr + sigma[:, None, None] * white
    if law.speckle or law.jpeg:
        for i in np.flatnonzero(sigma.numpy()):
            kind, error = rng.random(), math.exp(rng.normal(0, _LEVEL_ERROR))
            if kind < law.speckle:
                noisy[i] = lr[i] * (1 + sigma[i] / _MIDDLE * white[i])
                told[i] = sigma[i] * error
            elif kind < law.speckle + law.jpeg:
                quality = int(rng.integers(_WORST_QUALITY, 100))
                noisy[i] = _compressed(lr[i], quality, rng.integers(0, 8, 2))
                told[i] = _quantisation_noise(quality) * min(error, 1.2)
    return torch.round(noisy * 255) / 255, told


def _luma_steps(quality: int) -> NDArray[np.float32]:
    """Quantisation steps of luma, (8, 8): ITU-T T.81, Annex K, scaled as the usual encoders do."""
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    return np.clip(np.floor(_ANNEX_K * factor + 0.5), 1, 255).astype(np.float32)


def _quantisation_noise(quality: int) -> float:
    """σ of uniform rounding to the steps of the lower frequencies, [0, 1] units, as `blindsr.image_io.jpeg` has it."""
    row, column = np.indices((8, 8))
    return float(np.sqrt(np.mean(_luma_steps(quality)[row + column <= 7] ** 2) / 12) / 255)


def _compressed(image: Tensor, quality: int, phase: NDArray[np.int64]) -> Tensor:
    """A periodic image as a JPEG of this quality has it, its blocks beginning at `phase`."""
    height, width = image.shape
    steps, dct = torch.from_numpy(_luma_steps(quality)), torch.from_numpy(_DCT)
    y, x = (int(shift) for shift in phase)
    rolled = torch.roll(image, (-y, -x), (0, 1)) * 255 - 128
    blocks = rolled.reshape(height // 8, 8, width // 8, 8).permute(0, 2, 1, 3)
    blocks = dct.T @ (torch.round(dct @ blocks @ dct.T / steps) * steps) @ dct
    decoded = (blocks.permute(0, 2, 1, 3).reshape(height, width) + 128) / 255
    return torch.roll(decoded.clamp(0, 1), (y, x), (0, 1))


def unlike(kernels: Tensor, response: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """Draw what the true kernels may be where these were estimated.

    A smooth estimate knows nothing of multiplicative noise in the true kernel (the law of DIV2KRK has ±25 %), and its
    width is off: H·|H|^ε is a Gaussian of (1 + ε) times the covariance, ε here with a direction.

    Args:
        kernels: The estimates, (B, K, K).
        response: Their transfer functions, (B, s·h, s·w).
        scale: Factor from LR to HR.
        rng: Source of the errors.

    Returns:
        Transfer functions like `response`.
    """
    count, (height, width) = len(kernels), response.shape[-2:]
    amount = rng.uniform(0.0, 0.4, (count, 1, 1))
    noisy = kernels * torch.from_numpy(1 + amount * rng.uniform(-1, 1, kernels.shape)).to(kernels)
    changed = transfer(noisy / noisy.sum((1, 2), keepdim=True), scale, height, width)
    errors = torch.from_numpy(rng.normal(0, _WIDTH_ERROR, (3, count, 1, 1))).to(kernels)
    angle = 2 * torch.atan2(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :])
    angle = angle.to(kernels)
    exponent = (errors[0] + errors[1] * torch.cos(angle) + errors[2] * torch.sin(angle)).clamp(-0.5, 0.5)
    return changed * response.abs().clamp(0.01, 1.0) ** exponent


def degrade_unlike(hr: Tensor, kernel: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """Degrade images (B, 1, s·h, s·w) as one kernel might that `kernel` is an estimate of; borders are symmetric."""
    margin = 8 + kernel.shape[-1] // scale  # LR pixels: the wrap-around is mirrored away
    padded = pad_symmetric(hr, margin * scale)[:, 0]
    height, width = padded.shape[-2:]
    response = unlike(kernel[None], transfer(kernel[None], scale, height, width), scale, rng)
    spectrum = (torch.fft.fft2(padded) * response).reshape(-1, scale, height // scale, scale, width // scale)
    lr: Tensor = torch.fft.ifft2(spectrum.mean((1, 3))).real
    return lr[:, None, margin:-margin, margin:-margin]


def _fit(array: Array, side: int) -> Array:
    margin = (side - array.shape[0]) // 2
    if (side - array.shape[0]) % 2:
        raise AssertionError("canvas and kernel differ in parity")
    return np.pad(array, margin)


def _gaussian(rng: np.random.Generator, scale: int, side: int, offset: Array) -> Array:
    long, short = rng.uniform(0.06, 1.7, 2) * scale**2  # eigenvalues of the covariance; DIV2KRK: 0.15 … 1.25 (×2)
    angle = rng.uniform(0, math.pi)
    c = np.arange(side) - (side - 1) / 2
    y, x = c[:, None] - offset[0], c[None, :] - offset[1]
    u, v = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    kernel = np.exp(-0.5 * (u * u / long + v * v / short))
    if rng.random() < 0.6:
        kernel = kernel * (1 + rng.uniform(0, 0.4) * rng.uniform(-1, 1, kernel.shape))
    return np.asarray(kernel / kernel.sum())


def _shake(rng: np.random.Generator, y: Array, x: Array, fine: int, *, straight: bool) -> Array:
    """A path of the camera during the exposure: a line, or a random walk of the velocity."""
    steps = 60
    length = rng.uniform(0.5, 6.0) * fine
    bend = np.zeros(steps) if straight else np.cumsum(rng.normal(0, rng.uniform(0.05, 0.35), steps))
    heading = rng.uniform(0, 2 * math.pi) + bend
    speed = np.ones(steps) if straight else np.exp(np.cumsum(rng.normal(0, 0.15, steps)))
    path = np.cumsum((speed / speed.sum() * length) * np.stack([np.sin(heading), np.cos(heading)]), 1)
    path -= path.mean(1, keepdims=True)
    rows = np.round(path[0] - y[0, 0]).astype(int)
    columns = np.round(path[1] - x[0, 0]).astype(int)
    canvas = np.zeros_like(y)
    inside = (rows >= 0) & (rows < len(y)) & (columns >= 0) & (columns < len(y))
    np.add.at(canvas, (rows[inside], columns[inside]), 1.0)
    return canvas


def _blurred(canvas: Array, rng: np.random.Generator, fine: int, side: int) -> Array:
    """Convolve with the optics' small Gaussian and the HR pixel's box, and sample on the HR grid."""
    sigma = rng.uniform(0.08, 0.45) * fine
    c = np.arange(canvas.shape[0]) - (canvas.shape[0] - 1) / 2
    taps = np.exp(-0.5 * (c / sigma) ** 2)
    band = taps[: canvas.shape[0]]
    matrix = np.stack([np.roll(band, i - (len(band) - 1) // 2) for i in range(len(band))])
    smooth = matrix @ canvas @ matrix.T
    kernel = smooth.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).sum((1, 3))
    return np.asarray(kernel / kernel.sum())
