"""Kernel estimation without a parametric model: camera shake and defocus, by blind deconvolution with an L0 prior."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blindsr.estimators.base import ConfiguredEstimator, check_image, flat_estimate, is_flat
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate, SplitHalf, bicubic, gaussian, normalised_cross_correlation
from blindsr.kernels.transform import zero_margins
from blindsr.ops import luma
from blindsr.ops.shapes import residual_of
from blindsr.ops.spectrum import (
    ExponentPrior,
    SpectrumPoints,
    fit_spectrum,
    gaussian_blur,
    spectrum_points,
    tile_spectra,
)
from blindsr.registry import check_minimum, check_setting

__all__ = [
    "MIN_NCC",
    "MIN_SIDE",
    "BlindL0Estimator",
    "L0Config",
    "independent_kernels",
    "kernel_for",
    "sharp_image",
    "shifted_ncc",
]

Plane = NDArray[np.float32]

STAGE = "l0"
MIN_NCC = 0.8  # of the kernels of the two halves of an image; below it, an estimate is considered unreliable
MIN_SIDE = 64  # LR pixels; a smaller image has too few edges
_MIN_WEIGHT = 0.01  # weights of the kernel on the HR grid below this share of the largest are ripple
# From the LR grid to the HR grid: σ of the blur of optics and pixels, LR px; the frequencies, cycles per LR px,
# between which the transfer function of the LR grid ceases to count; the variance, LR px², that edges at whole pixels
# add to it; and the number of steps, which ends the fit before it follows the noise.
_OPTICS, _BAND, _EDGE_VARIANCE, _PROJECTIONS = 0.4, (0.3, 0.5), 0.03, 60
_MIN_INITIAL = 0.03  # weights of an initial kernel below this share of the largest are ringing
_MAX_FRAME_SHARE = 0.02  # share of the weights on the outermost ring above which the kernel gets a larger frame
_MIN_ISLAND = 0.1  # share of the mass below which a connected part of a kernel is considered noise
# Residuals of the spectrum, over that of a Gaussian, between which a free-form kernel ceases to be proven; its longest
# σ over the side of the frame, between which it is spread over all of the frame, as structure of the image is; and the
# NCCs with that Gaussian between which the two begin to confirm each other.
_RESIDUALS, _SPREADS, _AGREEMENT = (0.9, 0.95), (0.27, 0.36), (0.85, 0.95)
_CAUTION = 0.25  # share of the bicubic kernel in that mean: of a soft subject both are too wide
_ERROR, _SAFE_ERROR = 0.1, 0.2  # kernel_error of a kernel that is proven or confirmed, and of another one
_MIN_SIGMA = 0.15  # LR px, of the narrow Gaussian in that
_WARNED_SHARE = 0.5
_UNPROVEN = (
    "no shake or defocus is proven: the kernel that the edges show explains the spectrum of the image no better than a "
    "Gaussian does, and differs from it. The kernel is narrow and cautious instead; for a photograph without camera "
    "shake use the default estimator."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class L0Config:
    """Settings of the blind deconvolution: the pyramid, the sharp image and the kernel.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    side: int = 17  # side of the kernel on the LR grid, odd; doubled once if the kernel reaches its border
    gradient_weight: float = 2e-3  # λ of the number of non-zero gradients, for grey levels in [0, 1]
    max_penalty: float = 30.0  # β at which the half-quadratic splitting ends; it doubles from 2λ
    kernel_weight: float = 2.0  # γ of the kernel's squared norm
    iterations: int = 5  # alternations per level of the pyramid
    refinements: int = 6  # alternations from the mean of the three kernels, with λ halved
    min_share: float = 0.05  # weights below this share of the largest are set to zero; below twice it in the mean
    window: int = 512  # side of the window with the most edges, which is used, LR pixels

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_setting(self, STAGE, "side", self.side >= 5 and self.side % 2 == 1, "odd and 5 or more")
        for name in ("gradient_weight", "kernel_weight"):
            check_setting(self, STAGE, name, getattr(self, name) > 0, "positive")
        for name, low in (("iterations", 1), ("refinements", 0), ("window", 2 * self.side)):
            check_minimum(self, STAGE, low, name)
        check_setting(self, STAGE, "min_share", 0 <= self.min_share < 1, "in [0, 1)")


class BlindL0Estimator(ConfiguredEstimator[L0Config]):
    """Free-form kernel (camera shake, defocus) by blind deconvolution of strong edges with an L0 prior."""

    name: ClassVar[str] = "l0"
    config_type: ClassVar[type] = L0Config
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = _ERROR

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate a kernel of any compact shape from the strong edges of an image.

        The kernel is estimated on the LR grid, from coarse to fine, and brought to the HR grid by non-negative least
        squares. It is estimated three times, from the window with the most edges and from its two halves, and refined
        from the mean, in which the noise is lower.

        Structure of the image may look like a shake. A free-form kernel is used as far as it is *proven*: it leaves
        less of the spectrum unexplained than the fitted Gaussian does, and is not spread over all of its frame. One
        that is not, but is like that Gaussian, is averaged with it and with a quarter of the bicubic kernel. Otherwise
        the kernel is the mean of the bicubic one and of a round Gaussian with the shortest σ of the fitted one, with a
        larger `kernel_error` and a warning.

        Args:
            lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
            scale: Factor from LR to HR.
            listener: Receives the events of the stage "l0".

        Returns:
            A centred, non-negative kernel with its `kernel_error`. `metrics["split_half_ncc_lr"]` is the NCC of the
            halves' kernels on the LR grid, `proven_share` and `confirmed_share` say how far the kernel is of the first
            and of the second kind, and `residual_ratio` is that of the spectrum. There is a warning where the kernel is
            of the third kind, and where the halves differ. A flat image gets the bicubic kernel and a warning.

        Raises:
            ImageError: Not (1, C, H, W), or a side is shorter than 64 px.

        References:
            Xu, Zheng, Jia, "Unnatural L0 sparse representation for natural image deblurring", CVPR 2013; Pan, Hu, Su,
            Yang, "Deblurring text images via L0-regularized intensity and gradient prior", CVPR 2014.
        """
        config = self.config
        check_image(lr, scale, type(self))
        listener(StageStarted(stage=STAGE, max_steps=3))
        if is_flat(lr):
            return flat_estimate(STAGE, scale, asdict(config), listener)
        window = _most_edges(luma(lr).cpu().numpy().astype(np.float32), config.window)
        periodogram = tile_spectra(torch.from_numpy(np.ascontiguousarray(window))).mean()
        if periodogram.tiles == 0:
            return flat_estimate(STAGE, scale, asdict(config), listener)
        data = spectrum_points(periodogram, scale)
        kernel, halves = _estimate_with_halves(window, config)
        frame = kernel.sum() - kernel[1:-1, 1:-1].sum()
        reaches_border = float(frame) > _MAX_FRAME_SHARE * float(kernel.sum())
        if reaches_border and (larger := 2 * config.side + 1) <= min(window.shape) // 4:
            kernel, halves = _estimate_with_halves(window, replace(config, side=larger))
        ncc = shifted_ncc(*halves)
        free = _on_hr_grid(kernel, scale)
        shares, weights = _combined(free, data, scale, config)
        warnings: tuple[str, ...] = ()
        if shares.safe > _WARNED_SHARE:
            warnings = (_UNPROVEN,)
        elif ncc < MIN_NCC:
            text = f"the two halves of the image give different kernels (NCC {ncc:.2f}); the kernel is unreliable."
            warnings = (text,)
        for text in warnings:
            listener(Notice(stage=STAGE, message=text))
        listener(StageDone(stage=STAGE, steps=3))
        one, two = (_on_hr_grid(half, scale) for half in halves)
        uncertainty = SplitHalf.from_pairs([(one, two)])
        error = (1 - shares.safe) * _ERROR + shares.safe * _SAFE_ERROR
        provenance = {"made_by": STAGE, "kernel_error": round(error, 4), "proven_share": round(shares.proven, 3)}
        combined = Kernel.normalised(weights, scale, provenance)
        metrics = {
            "split_half_ncc_lr": ncc,
            "residual_ratio": shares.residual_ratio,
            "proven_share": shares.proven,
            "confirmed_share": shares.confirmed,
        }
        return KernelEstimate(
            kernel=combined if shares.safe > _WARNED_SHARE else uncertainty.attach(combined),
            method=STAGE,
            settings=asdict(config),
            metrics={**metrics, **uncertainty.metrics},
            warnings=warnings,
            kernel_error=error,
        )


def independent_kernels(
    lr: Tensor, scale: int, initial: Sequence[Kernel], config: L0Config | None = None
) -> tuple[Kernel, ...]:
    """Kernels of the same image whose alternations start from different kernels: coarse to fine, and given ones.

    The alternations end in one of several minima. Starts that know nothing of each other and end in the same one are
    evidence for it, much more so than the agreement of two halves of an image.

    Args:
        lr: (1, C, H, W), [0, 1]; sides of 64 px or more.
        scale: Factor from LR to HR.
        initial: The kernels from which the second and the following ones start.
        config: Settings; the defaults if None.

    Returns:
        One kernel more than those given, centred and non-negative.

    Raises:
        ImageError: Not (1, C, H, W), or a side is shorter than 64 px.
    """
    config = L0Config() if config is None else config
    check_image(lr, scale, BlindL0Estimator)
    window = _most_edges(luma(lr).cpu().numpy().astype(np.float32), config.window)
    weight, rounds = config.gradient_weight / 2, config.iterations + config.refinements
    kernels = [_alternate(window, _centre(_coarse_to_fine(window, config)), weight, config.refinements, config)]
    kernels += [_alternate(window, _on_lr_grid(kernel, config.side), weight, rounds, config) for kernel in initial]
    return tuple(_on_hr_grid(kernel, scale) for kernel in kernels)


def shifted_ncc(first: Plane, second: Plane) -> float:
    """Normalised cross-correlation of two kernels of the same size at the shift where it is largest."""
    shape = (2 * first.shape[0], 2 * first.shape[1])
    products = np.fft.irfft2(np.fft.rfft2(first, shape).conj() * np.fft.rfft2(second, shape), shape)
    return float(products.max() / math.sqrt(float((first**2).sum() * (second**2).sum())))


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """How far a free-form kernel is used, each from 0 to 1; the rest is safe."""

    residual_ratio: float  # what it leaves unexplained of the spectrum, over what the fitted Gaussian leaves
    proven: float  # as it is
    confirmed: float  # averaged with the fitted Gaussian, and with a little of the bicubic kernel

    @property
    def safe(self) -> float:
        """Share of the kernel that costs least if nothing is known."""
        return 1 - self.proven - self.confirmed


def _combined(free: Kernel, data: SpectrumPoints, scale: int, config: L0Config) -> tuple[_Shares, NDArray[np.float64]]:
    """The shares of a free-form kernel, and the kernel that follows from them, on the HR grid.

    The fitted Gaussian is an independent estimate. Both are deceived by structure along one direction, which makes them
    too long; therefore the safe kernel has the shortest σ only.
    """
    prior = ExponentPrior()
    fitted = gaussian(gaussian_blur(fit_spectrum(data, prior), scale), scale)
    ratio = residual_of(data, free.array, scale, prior) / residual_of(data, fitted.array, scale, prior)
    proven = 1 - _ramp(ratio, _RESIDUALS)
    proven *= 1 - _ramp(free.sigmas[0] / (scale * config.side), _SPREADS)
    confirmed = (1 - proven) * _ramp(normalised_cross_correlation(free, fitted), _AGREEMENT)
    confirmed *= 1 - _ramp(fitted.sigmas[0] / (scale * config.side), _SPREADS)
    shares = _Shares(residual_ratio=ratio, proven=proven, confirmed=confirmed)
    narrow = gaussian(max(fitted.sigmas[1], _MIN_SIGMA * scale) ** 2, scale)
    parts = (
        (proven + (1 - _CAUTION) / 2 * confirmed, free),
        ((1 - _CAUTION) / 2 * confirmed, fitted),
        (shares.safe / 2, narrow),
        (_CAUTION * confirmed + shares.safe / 2, bicubic(scale)),
    )
    used = [(share, kernel) for share, kernel in parts if share > 0]
    size = max(kernel.size for _, kernel in used)
    weights = sum(share * kernel.padded(size) for share, kernel in used)
    return shares, np.asarray(weights, np.float64)


def _ramp(value: float, bounds: tuple[float, float]) -> float:
    """0 below the first bound, 1 above the second, linear between."""
    return float(np.clip((value - bounds[0]) / (bounds[1] - bounds[0]), 0, 1))


def _estimate_with_halves(window: Plane, config: L0Config) -> tuple[Plane, tuple[Plane, Plane]]:
    """The kernel of a window, refined from the mean of its own and its halves' kernels; and the halves' kernels.

    Each estimate alone also contains structure of the image. From the mean, some alternations with a smaller λ recover
    the details of the kernel.
    """
    middle = max(window.shape) // 2
    is_tall = window.shape[0] >= window.shape[1]
    halves = (window[:middle], window[middle:]) if is_tall else (window[:, :middle], window[:, middle:])
    whole, first, second = (_coarse_to_fine(part, config) for part in (window, *halves))
    mean = (whole + _align(first, whole) + _align(second, whole)) / 3
    mean[mean < 2 * config.min_share * mean.max()] = 0
    initial = _centre((mean / mean.sum()).astype(np.float32))
    return _alternate(window, initial, config.gradient_weight / 2, config.refinements, config), (first, second)


def _coarse_to_fine(blurred: Plane, config: L0Config) -> Plane:
    """Estimate a convolution kernel on the LR grid, (side, side), over a pyramid with a factor of √½."""
    ratio = math.sqrt(0.5)
    levels = math.floor(math.log(5 / config.side) / math.log(ratio)) + 1
    kernel: Plane | None = None
    for level in reversed(range(max(1, levels))):
        factor = ratio**level
        side = max(3, round(config.side * factor) | 1)
        image = blurred
        if level:
            smooth = scipy.ndimage.gaussian_filter(blurred, 0.6 * math.sqrt(1 / factor**2 - 1))
            image = scipy.ndimage.zoom(smooth, factor, order=1)
        if kernel is None:
            kernel = np.zeros((side, side), np.float32)
            kernel[side // 2, side // 2 - 1 : side // 2 + 2] = (0.25, 0.5, 0.25)
        else:
            kernel = _enlarge(kernel, side)
        kernel = _alternate(image, kernel, config.gradient_weight, config.iterations, config)
    assert kernel is not None
    return kernel


def _alternate(image: Plane, kernel: Plane, weight: float, rounds: int, config: L0Config) -> Plane:
    """The kernel after some alternations between sharp image and kernel; λ starts at `weight` and falls."""
    side, (height, width) = kernel.shape[0], image.shape
    # Padded a little more than necessary, to lengths of small prime factors, whose transforms are much faster.
    padding = [(side, scipy.fft.next_fast_len(length + 2 * side, real=True) - length - side) for length in image.shape]
    padded = np.pad(image, padding, mode="symmetric")
    for _ in range(rounds):
        sharp = sharp_image(padded, kernel, weight, config.max_penalty)
        sharp = sharp[side : side + height, side : side + width]
        kernel = _centre(kernel_for(sharp, image, side, config.kernel_weight, config.min_share))
        weight = max(weight / 1.1, 1e-4)
    return kernel


def _enlarge(kernel: Plane, side: int) -> Plane:
    """Interpolate a kernel to the grid of the next level."""
    larger = np.clip(scipy.ndimage.zoom(kernel, side / kernel.shape[0], order=1), 0, None)
    fitted = np.zeros((side, side), np.float32)
    common = min(side, larger.shape[0])
    fitted[:common, :common] = larger[:common, :common]
    return _centre(fitted / fitted.sum())


def _align(kernel: Plane, other: Plane) -> Plane:
    """Shift a kernel by whole pixels, with wrap-around, to where it correlates most with another one."""
    shape = (kernel.shape[0], kernel.shape[1])
    products = np.fft.irfft2(np.fft.rfft2(kernel).conj() * np.fft.rfft2(other), shape)
    aligned: Plane = np.roll(kernel, np.unravel_index(int(products.argmax()), shape), (0, 1))
    return aligned


def _centre(kernel: Plane) -> Plane:
    """Centre a kernel by whole pixels: the data do not determine its position, and it must stay inside its frame."""
    shift = np.round(kernel.shape[0] // 2 - np.array(scipy.ndimage.center_of_mass(kernel))).astype(int)
    rolled: Plane = np.roll(kernel, tuple(shift), (0, 1))
    return rolled


def _on_hr_grid(kernel: Plane, scale: int) -> Kernel:
    """The centred correlation kernel of the HR grid, sum 1, whose image on the LR grid is a convolution kernel.

    The LR grid determines its transfer function up to LR's Nyquist frequency. Beyond it follows from what a kernel is:
    non-negative weights that the optics and the pixels blur, min |M·(B·G·ŵ − k̂)|² for w ≥ 0, with M the band of the LR
    grid, G that blur, and B the wider one of edges that are found at whole pixels only. The result is G ∗ w.
    """
    taps = kernel[::-1, ::-1].astype(np.float64)
    place = np.arange(len(taps)) - np.array(scipy.ndimage.center_of_mass(taps))[:, None]  # LR px, of rows and columns
    size = (len(taps) + 2) * scale
    length = scipy.fft.next_fast_len(size + 8 * scale, real=True)
    fy, fx = scale * np.fft.fftfreq(length), scale * np.fft.rfftfreq(length)  # cycles per LR px
    square = fy[:, None] ** 2 + fx**2
    blur = np.exp(-2 * np.pi**2 * _OPTICS**2 * square)
    band = np.clip((_BAND[1] - np.sqrt(square)) / (_BAND[1] - _BAND[0]), 0, 1)
    # Phases move the middle of the frame to the origin.
    middle = (size - 1) / 2 / scale
    operator = band * blur * np.exp(-2 * np.pi**2 * _EDGE_VARIANCE * square)
    operator = operator * np.exp(2j * np.pi * middle * (fy[:, None] + fx))
    target = band * (np.exp(-2j * np.pi * np.outer(fy, place[0])) @ taps @ np.exp(-2j * np.pi * np.outer(place[1], fx)))
    target = target / taps.sum()
    weights = np.full((size, size), 1 / size**2)
    ahead, momentum = weights, 1.0
    for _ in range(_PROJECTIONS):  # Nesterov's accelerated gradient; the operator's largest singular value is 1
        residual = operator * np.fft.rfft2(ahead, (length, length)) - target
        step = np.fft.irfft2(np.conj(operator) * residual, (length, length))[:size, :size]
        following = np.maximum(ahead - step, 0)
        faster = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / faster * (following - weights)
        weights, momentum = following, faster
    fine = scipy.ndimage.gaussian_filter(weights, _OPTICS * scale, mode="constant")
    offset = (size - 1) / 2 - np.array(scipy.ndimage.center_of_mass(fine))
    fine = np.clip(scipy.ndimage.shift(fine, offset, order=3), 0, None)
    fine[fine < _MIN_WEIGHT * fine.max()] = 0
    ring = min(*zero_margins(fine), (size - scale - 1) // 2)
    fine = fine[ring : size - ring, ring : size - ring]
    return Kernel(fine / fine.sum(), scale, {"made_by": STAGE})


def _on_lr_grid(kernel: Kernel, side: int) -> Plane:
    """The convolution kernel (side, side) of the LR grid with the transfer function of a kernel up to LR's Nyquist."""
    r = (np.arange(kernel.size) - (kernel.size - 1) / 2) / kernel.scale
    distance = np.arange(side)[:, None] - side // 2 - r[None]
    weights = np.sinc(distance)
    taps = np.clip(weights @ kernel.array @ weights.T, 0, None)[::-1, ::-1]
    taps[taps < _MIN_INITIAL * taps.max()] = 0
    return _centre((taps / taps.sum()).astype(np.float32))


def _most_edges(plane: Plane, side: int) -> Plane:
    """The window with the largest mean gradient; gradients are capped so that a few very strong edges do not decide."""
    height, width = (min(side, length) for length in plane.shape)
    if (height, width) == plane.shape:
        return plane
    down, across = np.gradient(scipy.ndimage.gaussian_filter(plane, 1.0))
    edges = np.hypot(down, across)
    edges = np.minimum(edges, np.quantile(edges, 0.98))
    sums: NDArray[np.float64] = np.pad(edges.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    means = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(means.argmax()), means.shape)
    window: Plane = plane[top : top + height, left : left + width]
    return window


@torch.no_grad()
def sharp_image(blurred: Plane, kernel: Plane, weight: float, max_penalty: float) -> Plane:
    """Minimise |x ∗ k − y|² + λ·#{∇x ≠ 0} by half-quadratic splitting.

    Args:
        blurred: y, (h, w); borders wrap around.
        kernel: k, odd sides, a convolution kernel.
        weight: λ.
        max_penalty: β at which the splitting ends; it starts at 2λ and doubles.

    Returns:
        x, of the shape of y.

    References:
        Xu, Zheng, Jia, "Unnatural L0 sparse representation for natural image deblurring", CVPR 2013, Eq. 7–9.
    """
    shape = (blurred.shape[0], blurred.shape[1])
    image = torch.from_numpy(np.ascontiguousarray(blurred, dtype=np.float32))
    k = _transfer(kernel, shape)
    data, power, laplacian = k.conj() * torch.fft.rfft2(image), k.abs().square(), _gradient_power(*shape)
    penalty = 2 * weight
    while penalty < max_penalty:
        # Differences and their adjoint are computed in space: two transforms per iteration instead of four.
        across, down = torch.roll(image, -1, 1) - image, torch.roll(image, -1, 0) - image
        flat = across.square() + down.square() < weight / penalty
        across.masked_fill_(flat, 0)
        down.masked_fill_(flat, 0)
        gradients = torch.roll(across, 1, 1) - across + torch.roll(down, 1, 0) - down
        image = torch.fft.irfft2((data + penalty * torch.fft.rfft2(gradients)) / (power + penalty * laplacian), shape)
        penalty *= 2
    sharp: Plane = image.numpy()
    return sharp


@torch.no_grad()
def kernel_for(sharp: Plane, blurred: Plane, side: int, weight: float, min_share: float) -> Plane:
    """Minimise |∇x ∗ k − ∇y|² + γ|k|² in closed form, then remove small weights and small connected parts.

    Args:
        sharp: x, (h, w).
        blurred: y, (h, w).
        side: Side of the kernel, odd.
        weight: γ.
        min_share: Weights below this share of the largest one are set to zero.

    Returns:
        (side, side), non-negative, sum 1; a delta in the middle if the images determine no kernel.

    References:
        Pan, Hu, Su, Yang, "Deblurring text images via L0-regularized intensity and gradient prior", CVPR 2014, Eq. 15.
    """
    shape = (blurred.shape[0], blurred.shape[1])
    images = torch.stack([torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (sharp, blurred)])
    numerator, denominator = torch.zeros(1), torch.full((1,), weight)
    for axis, edge in ((1, (0, 0, 0, 1)), (2, (0, 1))):
        x, y = torch.fft.rfft2(functional.pad(images.diff(dim=axis), edge) * _border_window(*shape))
        numerator = numerator + x.conj() * y
        denominator = denominator + x.abs().square()
    solution = torch.fft.irfft2(numerator / denominator, shape)
    kernel = torch.roll(solution, (side // 2, side // 2), (0, 1))[:side, :side].numpy()
    kernel = np.where(kernel < min_share * kernel.max(), 0, kernel)
    islands, count = scipy.ndimage.label(kernel > 0, structure=np.ones((3, 3)))
    total = kernel.sum()
    for island in range(1, count + 1):
        inside = islands == island
        if kernel[inside].sum() < _MIN_ISLAND * total:
            kernel[inside] = 0
    if not np.isfinite(kernel).all() or kernel.sum() <= 0:
        kernel = np.zeros((side, side))
        kernel[side // 2, side // 2] = 1
    normalised: Plane = (kernel / kernel.sum()).astype(np.float32)
    return normalised


@lru_cache(maxsize=16)
def _gradient_power(height: int, width: int) -> Tensor:
    """|∂̂|² of the differences between neighbours, on the grid of `rfft2`."""
    vertical = 2 - 2 * torch.cos(2 * math.pi * torch.fft.fftfreq(height, dtype=torch.float64))
    horizontal = 2 - 2 * torch.cos(2 * math.pi * torch.fft.rfftfreq(width, dtype=torch.float64))
    power: Tensor = (vertical[:, None] + horizontal).float()
    return power


@lru_cache(maxsize=16)
def _border_window(height: int, width: int) -> Tensor:
    """Window that fades out the borders, where the sharp and the blurred image do not match."""
    window = np.hanning(height)[:, None] * np.hanning(width)
    return torch.from_numpy((window**0.25).astype(np.float32))


def _transfer(kernel: Plane, shape: tuple[int, int]) -> Tensor:
    """Transfer function of a convolution kernel that is centred on its middle tap."""
    canvas = torch.zeros(shape)
    canvas[: kernel.shape[0], : kernel.shape[1]] = torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float32))
    centred = torch.roll(canvas, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))
    transfer: Tensor = torch.fft.rfft2(centred)
    return transfer
