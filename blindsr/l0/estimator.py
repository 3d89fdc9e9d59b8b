"""The free-form estimator: from coarse to fine, a sharp image and the kernel that blurs it into the photograph."""

import math
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

from blindsr.errors import ImageError
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.halves import Halves, with_halves
from blindsr.l0.config import L0Config
from blindsr.l0.deconvolution import kernel_for, sharp_image
from blindsr.ops import luma

__all__ = ["agreement", "estimate_kernel"]

STAGE = "l0"
AGREEMENT = 0.8  # of the halves' kernels, from which on an estimate is trusted
LEAST_SIDE = 64  # LR pixels; a smaller image has too few edges
_FAINTEST = 0.002  # weights of the interpolated kernel under this share of the largest are ringing of the spline
_AT_THE_FRAME = 0.02  # share of the weights on the outermost ring from which on the frame is too small
Plane = NDArray[np.float32]


def estimate_kernel(
    lr: Tensor, scale: int, config: L0Config | None = None, *, listener: Listener = ignore
) -> KernelEstimate:
    """Estimate a kernel of any compact shape from the strong edges of an image.

    The kernel is found on the LR grid, coarse to fine, and interpolated to the HR grid by cubic splines. It is found
    three times, from the busiest window and from its two halves, and refined from their mean: what is noise in each is
    less in it. How alike the halves' kernels are is the confidence.

    Args:
        lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
        scale: Factor from LR to HR.
        config: Settings; the defaults if None.
        listener: Takes the events of stage "l0".

    Returns:
        A centred, non-negative kernel. `figures["agreement"]` is the NCC of the halves' kernels.

    Raises:
        ImageError: Not (1, C, H, W), or a side under 64 px.

    References:
        Xu, Zheng, Jia, "Unnatural L0 sparse representation for natural image deblurring", CVPR 2013; Pan, Hu, Su, Yang,
        "Deblurring text images via L0-regularized intensity and gradient prior", CVPR 2014.
    """
    config = L0Config() if config is None else config
    if lr.ndim != 4 or lr.shape[0] != 1:
        raise ImageError(f"a kernel is estimated from one image (1, C, H, W), got shape {tuple(lr.shape)}.")
    if min(lr.shape[-2:]) < LEAST_SIDE:
        raise ImageError(
            f"the free-form estimate needs at least {LEAST_SIDE}×{LEAST_SIDE} px, got {lr.shape[-2]}×{lr.shape[-1]}; "
            "use the spectral estimate or a known kernel instead."
        )
    listener(StageStarted(stage=STAGE, max_steps=3))
    window = _busiest(luma(lr).cpu().numpy().astype(np.float32), config.window)
    kernel, halves = _three_times(window, config)
    if _touches_its_frame(kernel) and (larger := 2 * config.side + 1) <= min(window.shape) // 4:
        kernel, halves = _three_times(window, replace(config, side=larger))
    alike = agreement(*halves)
    notes: tuple[str, ...] = ()
    if alike < AGREEMENT:
        notes = (f"the two halves of the photograph tell different kernels (their likeness is {alike:.2f} of 1).",)
        listener(Notice(stage=STAGE, message=notes[0]))
    listener(StageDone(stage=STAGE, steps=3))
    one, two = (_on_hr_grid(half, scale) for half in halves)
    told = Halves.measured([(one, two)])
    return KernelEstimate(
        kernel=with_halves(_on_hr_grid(kernel, scale), told),
        method=STAGE,
        settings=asdict(config),
        figures={"agreement": alike, **told.figures},
        notes=notes,
    )


def agreement(first: Plane, second: Plane) -> float:
    """Normalised cross-correlation of two kernels of one size at the shift where they are most alike."""
    shape = (2 * first.shape[0], 2 * first.shape[1])
    products = np.fft.irfft2(np.fft.rfft2(first, shape).conj() * np.fft.rfft2(second, shape), shape)
    return float(products.max() / math.sqrt(float((first**2).sum() * (second**2).sum())))


def _three_times(window: Plane, config: L0Config) -> tuple[Plane, tuple[Plane, Plane]]:
    """The kernel of a window, by way of the mean of what it and its halves tell; and those of the halves.

    Each alone follows the structure of what it sees. From their mean, a few rounds with less demand for flatness find
    the details.
    """
    middle = max(window.shape) // 2
    halves = (window[:middle], window[middle:]) if window.shape[0] >= window.shape[1] else (
        window[:, :middle], window[:, middle:]
    )  # fmt: skip
    whole, first, second = (_coarse_to_fine(part, config) for part in (window, *halves))
    mean = (whole + _moved_onto(first, whole) + _moved_onto(second, whole)) / 3
    mean[mean < 2 * config.least_share * mean.max()] = 0
    start = _centred((mean / mean.sum()).astype(np.float32))
    return _alternated(window, start, config.gradient_weight / 2, config.refinements, config), (first, second)


def _touches_its_frame(kernel: Plane) -> bool:
    frame = kernel.sum() - kernel[1:-1, 1:-1].sum()
    return float(frame) > _AT_THE_FRAME * float(kernel.sum())


def _moved_onto(kernel: Plane, other: Plane) -> Plane:
    """A kernel at the whole shift where it is most like another one."""
    products = _products(kernel, other)
    moved: Plane = np.roll(kernel, np.unravel_index(int(products.argmax()), products.shape), (0, 1))
    return moved


def _products(first: Plane, second: Plane) -> NDArray[np.float64]:
    """Their sum of products at each shift of the first, which wraps around in the frame."""
    shape = (first.shape[0], first.shape[1])
    return np.asarray(np.fft.irfft2(np.fft.rfft2(first).conj() * np.fft.rfft2(second), shape))


def _coarse_to_fine(blurred: Plane, config: L0Config) -> Plane:
    """A convolution kernel on the LR grid, (side, side)."""
    ratio = math.sqrt(0.5)
    levels = math.floor(math.log(5 / config.side) / math.log(ratio)) + 1
    kernel: Plane | None = None
    for level in reversed(range(max(1, levels))):
        factor = ratio**level
        side = max(3, round(config.side * factor) | 1)
        image = blurred
        if level:
            smooth = ndimage.gaussian_filter(blurred, 0.6 * math.sqrt(1 / factor**2 - 1))
            image = ndimage.zoom(smooth, factor, order=1)
        kernel = _first(side) if kernel is None else _enlarged(kernel, side)
        kernel = _alternated(image, kernel, config.gradient_weight, config.iterations, config)
    assert kernel is not None
    return kernel


def _alternated(image: Plane, kernel: Plane, weight: float, rounds: int, config: L0Config) -> Plane:
    """The kernel after some rounds of sharp image and kernel; λ begins at `weight` and falls."""
    side, (height, width) = kernel.shape[0], image.shape
    # A little more than is needed: lengths of small factors transform several times as fast.
    room = [(side, fft.next_fast_len(length + 2 * side, real=True) - length - side) for length in image.shape]
    padded = np.pad(image, room, mode="symmetric")
    for _ in range(rounds):
        sharp = sharp_image(padded, kernel, weight, config.largest_penalty)
        sharp = sharp[side : side + height, side : side + width]
        kernel = _centred(kernel_for(sharp, image, side, config.kernel_weight, config.least_share))
        weight = max(weight / 1.1, 1e-4)
    return kernel


def _first(side: int) -> Plane:
    kernel = np.zeros((side, side), np.float32)
    kernel[side // 2, side // 2 - 1 : side // 2 + 2] = (0.25, 0.5, 0.25)
    return kernel


def _enlarged(kernel: Plane, side: int) -> Plane:
    larger = np.clip(ndimage.zoom(kernel, side / kernel.shape[0], order=1), 0, None)
    fitted = np.zeros((side, side), np.float32)
    common = min(side, larger.shape[0])
    fitted[:common, :common] = larger[:common, :common]
    return _centred(fitted / fitted.sum())


def _centred(kernel: Plane) -> Plane:
    """Whole pixels only: the position of a blur cannot be seen, and it must not wander out of the frame."""
    shift = np.round(kernel.shape[0] // 2 - np.array(ndimage.center_of_mass(kernel))).astype(int)
    rolled: Plane = np.roll(kernel, tuple(shift), (0, 1))
    return rolled


def _on_hr_grid(kernel: Plane, scale: int) -> Kernel:
    """Interpolate a convolution kernel of the LR grid into a correlation kernel of the HR grid, centred, sum 1."""
    fine = np.clip(ndimage.zoom(kernel[::-1, ::-1].astype(np.float64), scale, order=3), 0, None)
    room = (fine.shape[0] - scale) % 2
    fine = np.pad(fine, ((0, room), (0, room)))
    off = (np.array(fine.shape) - 1) / 2 - np.array(ndimage.center_of_mass(fine))
    fine = np.clip(ndimage.shift(fine, off, order=3), 0, None)
    fine[fine < _FAINTEST * fine.max()] = 0
    while fine.shape[0] > scale + 2 and not (fine[0].any() or fine[-1].any() or fine[:, 0].any() or fine[:, -1].any()):
        fine = fine[1:-1, 1:-1]
    return Kernel(fine / fine.sum(), scale, {"made_by": STAGE})


def _busiest(plane: Plane, side: int) -> Plane:
    """The window of the most strong edges; a few very strong ones must not decide."""
    height, width = (min(side, length) for length in plane.shape)
    if (height, width) == plane.shape:
        return plane
    down, across = np.gradient(ndimage.gaussian_filter(plane, 1.0))
    edges = np.hypot(down, across)
    edges = np.minimum(edges, np.quantile(edges, 0.98))
    sums = np.pad(edges.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    means = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(means.argmax()), means.shape)
    window: Plane = plane[top : top + height, left : left + width]
    return window
