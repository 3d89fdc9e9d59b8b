"""Forty kinds of damage that photographs have in life: of scanners, telephones, film, video, print and programs."""

import io
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter
from scipy.signal import fftconvolve
from skimage.exposure import equalize_adapthist
from skimage.restoration import denoise_bilateral, denoise_nl_means

from blindsr.kernels import Kernel, bicubic, box, gaussian
from blindsr.ops import degrade

__all__ = ["SCALE", "Damage", "Pixels", "compressed", "damages", "of_devices", "of_programs", "reduced", "to_bytes"]

Pixels = NDArray[np.float64]
Damage = tuple[str, Pixels, Pixels]  # name, LR and HR image, both (H, W, 3), grey levels

SCALE = 2
BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 + 1 / 32


def damages(hr: Pixels, rng: np.random.Generator) -> Iterator[Damage]:
    """Each kind of damage of an HR image, (H, W, 3)."""
    sharp, soft, softer = (
        reduced(hr, kernel) for kernel in (bicubic(SCALE), gaussian(1.2, SCALE), gaussian(1.4, SCALE))
    )
    n = len(sharp)
    yield from ((name, lr, hr) for name, lr in (*of_devices(sharp, soft, rng), *of_programs(sharp, soft, softer, rng)))
    moved = np.stack([np.roll(soft[..., 0], 1, 1), soft[..., 1], np.roll(soft[..., 2], -1, 1)], -1)
    yield "colours displaced by 1 px", moved, hr
    points = np.outer([-1, 9, 9, -1], [-1, 9, 9, -1])
    yield "pixels left out", reduced(hr, Kernel.normalised(points, SCALE)), hr
    yield "blocks averaged", reduced(hr, box(SCALE)), hr
    linear = reduced((hr / 255) ** 2.2, gaussian(1.4, SCALE)).clip(0, 1) ** (1 / 2.2)
    yield "blur in linear light", 255 * linear, hr
    yield "negative", 255 - softer, 255 - hr
    yield "low contrast", 110 + 0.12 * soft, 110 + 0.12 * hr
    yield "dark", 0.15 * softer, 0.15 * hr
    grey = np.repeat(sharp.mean(2, keepdims=True), 3, 2)
    yield "1 bit of grey, error diffusion", diffused(grey, 2), np.repeat(hr.mean(2, keepdims=True), 3, 2)
    bar = n // 6
    lr, reference = softer.copy(), hr.copy()
    lr[:bar] = lr[-bar:] = reference[: SCALE * bar] = reference[-SCALE * bar :] = 0
    yield "letterbox", lr, reference
    clahe = (255 * equalize_adapthist(image.clip(0, 255) / 255, clip_limit=0.01) for image in (soft, hr))
    yield "local contrast", *clahe  # type: ignore[misc]
    part, larger = n * 3 // 4 // 12 * 12, n * 3 // 4 // 12 * 16
    yield (
        "enlarged by 4/3 before",
        resized(sharp[:part, :part], larger),
        resized(hr[: 2 * part, : 2 * part], 2 * larger),
    )
    yield "turned by 5 degrees", turned(soft, 1), turned(hr, 3)


def of_devices(sharp: Pixels, soft: Pixels, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    """What cameras, scanners, film and video do."""
    n = len(sharp)
    yield "interlaced, moved by 4 px", np.where(np.arange(n)[:, None, None] % 2, np.roll(sharp, 4, 1), sharp)
    lines = soft.copy()
    lines[1::2] = (soft[::2] + np.roll(soft, -2, 0)[::2]) / 2
    yield "every second line interpolated", lines
    grain = gaussian_filter(rng.normal(size=soft.shape), (0.8, 0.8, 0))
    yield "film grain 8", soft + 8 * grain / grain.std()
    chance = rng.random((n, n, 1))
    yield "salt and pepper 1 %", np.where(chance < 0.005, 255, np.where(chance > 0.995, 0, sharp))
    yield "stripes along rows 3", soft + 3 * rng.normal(size=(n, 1, 1))
    scratched = soft.copy()
    scratched[:, rng.integers(0, n, 4)] += 60
    yield "four scratches", scratched
    yield "photons, 300 at white", rng.poisson(soft.clip(0, 255) / 255 * 300) / 300 * 255
    yield "speckle 10 %", soft * (1 + 0.1 * rng.normal(size=soft.shape))
    yield "Bayer mosaic, bilinear, noise 2", demosaicked(sharp + 2 * rng.normal(size=sharp.shape))
    mask = np.ones((n, n, 3))
    for band in range(3):
        mask[:, band::3, band] = 1.3
    yield "photograph of a display", soft * mask / mask.mean()
    television = gaussian_filter(sharp, (0, 1.1, 0)) + rng.normal(size=sharp.shape)
    yield "analogue television", television
    moved = fftconvolve(sharp, np.ones((1, 5, 1)) / 5, "same")
    yield "motion 5 px, noise 3, JPEG 85", compressed(moved + 3 * rng.normal(size=moved.shape), 85)


def of_programs(sharp: Pixels, soft: Pixels, softer: Pixels, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    """What programs do."""
    noisy = soft + 8 * rng.normal(size=soft.shape)
    yield "1 bit a band, ordered", np.floor(sharp / 255 + np.tile(BAYER, (len(sharp) // 4,) * 2)[..., None]) * 255
    yield "1 bit a band, error diffusion", diffused(sharp, 2)
    yield "2 bits a band, error diffusion", diffused(sharp, 4)
    yield "noise 5, median 3×3", median_filter(sharp + 5 * rng.normal(size=sharp.shape), (3, 3, 1))
    settings = {"patch_size": 5, "patch_distance": 7, "channel_axis": -1, "fast_mode": True}
    yield (
        "noise 8, non-local means",
        255 * denoise_nl_means(noisy.clip(0, 255) / 255, h=0.04, sigma=8 / 255, **settings),
    )
    yield "noise 8, bilateral filter", 255 * denoise_bilateral(noisy.clip(0, 255) / 255, 3, 0.08, 1.5, channel_axis=-1)
    shifted = np.roll(soft, (3, 5), (0, 1))
    yield "JPEG 70, then 90 on another grid", compressed(np.roll(compressed(shifted, 70), (-3, -5), (0, 1)), 90)
    yield "JPEG 60, cropped", np.roll(compressed(shifted, 60), (-3, -5), (0, 1))
    yield "JPEG 95", compressed(soft, 95)
    yield "JPEG 40", compressed(soft, 40)
    yield "halved chroma", halved_chroma(sharp)
    yield "sharpened, 1.5 with σ 2 px", soft + 1.5 * (soft - gaussian_filter(soft, (2, 2, 0)))
    yield "sharpened, 0.8 with σ 1 px", sharp + 0.8 * (sharp - gaussian_filter(sharp, (1, 1, 0)))
    noisy = soft + 2 * rng.normal(size=soft.shape)
    yield "noise 2, then sharpened", noisy + (noisy - gaussian_filter(noisy, (1, 1, 0)))
    f = np.abs(np.fft.fftfreq(len(sharp)))
    for name, passed, image in (
        ("square low-pass at 0.38", np.maximum(f[:, None], f) < 0.38, sharp),
        ("round low-pass at 0.3", np.hypot(f[:, None], f) < 0.3, softer),
    ):
        yield name, np.fft.ifft2(np.fft.fft2(image, axes=(0, 1)) * passed[..., None], axes=(0, 1)).real


def reduced(hr: Pixels, kernel: Kernel) -> Pixels:
    """An HR image, (H, W, 3), degraded by a kernel."""
    planes = torch.from_numpy(np.ascontiguousarray(hr.transpose(2, 0, 1)))[None]
    return np.asarray(degrade(planes, kernel.tensor(planes), kernel.scale)[0].permute(1, 2, 0))


def compressed(image: Pixels, quality: int) -> Pixels:
    """An image, (H, W, 3), after JPEG compression."""
    memory = io.BytesIO()
    Image.fromarray(to_bytes(image)).save(memory, "JPEG", quality=quality)
    return np.asarray(Image.open(memory).convert("RGB"), np.float64)


def diffused(image: Pixels, levels: int) -> Pixels:
    """Floyd–Steinberg dithering to equidistant levels."""
    values = image / 255 * (levels - 1)
    height, width, _ = values.shape
    padded = np.pad(values, ((0, 1), (1, 1), (0, 0)))
    for y in range(height):
        for x in range(1, width + 1):
            level = np.rint(padded[y, x]).clip(0, levels - 1)
            error, padded[y, x] = padded[y, x] - level, level
            padded[y, x + 1] += error * 7 / 16
            for step, share in ((-1, 3), (0, 5), (1, 1)):
                padded[y + 1, x + step] += error * share / 16
    return np.asarray(padded[:height, 1 : width + 1] / (levels - 1) * 255)


def demosaicked(image: Pixels) -> Pixels:
    """A Bayer mosaic of an image, interpolated bilinearly."""
    sampled = np.zeros_like(image)
    for band, top, left in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)):
        sampled[top::2, left::2, band] = 1
    taps = np.outer([1, 2, 1], [1, 2, 1])[..., None] / 4
    return fftconvolve(image * sampled, taps, "same") / fftconvolve(sampled, taps, "same")


def halved_chroma(image: Pixels) -> Pixels:
    """Chroma as the mean of 2×2 pixels, enlarged by repeating it."""
    red, green, blue = 0.299, 0.587, 0.114
    y = image @ np.array([red, green, blue])
    half = len(image) // 2
    by, ry = (
        np.repeat(np.repeat((image[..., band] - y).reshape(half, 2, half, 2).mean((1, 3)), 2, 0), 2, 1)
        for band in (2, 0)
    )
    return np.stack([y + ry, y - (red * ry + blue * by) / green, y + by], -1)


def resized(image: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(to_bytes(image)).resize((side, side), Image.Resampling.BICUBIC), np.float64)


def turned(image: Pixels, order: int) -> Pixels:
    """The image turned about its middle, interpolated by a spline."""
    angle, middle = np.deg2rad(5), (len(image) - 1) / 2
    y, x = np.indices(image.shape[:2]) - middle
    places = [np.cos(angle) * y - np.sin(angle) * x + middle, np.sin(angle) * y + np.cos(angle) * x + middle]
    return np.stack([map_coordinates(image[..., band], places, order=order, mode="mirror") for band in range(3)], -1)


def to_bytes(image: Pixels) -> NDArray[np.uint8]:
    """Rounded grey levels."""
    return np.rint(image).clip(0, 255).astype(np.uint8)
