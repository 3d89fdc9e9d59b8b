"""The automatic estimator: it decides by evidence which kind of kernel made the photograph, and estimates that kernel.

1. The spectral fit gives a Gaussian, which is right for most blurs.
2. A photograph that was downscaled on a computer has no further blur: its kernel is bicubic. The spectrum mistakes
   soft objects for blur; the widths of the edges and the sparsity of the prediction separate the two.
3. Camera shake and strong defocus are not Gaussian. Where the edges are much wider than the spectrum implies, a
   free-form kernel is estimated, and used if its prediction is clearly sparser.
4. Where nothing can be measured (a tiny, smooth or noisy image), or random halves of the image disagree, the bicubic
   kernel is the safe choice.

The sparsity of a prediction is the normalised sparsity L1/L2 (Krishnan, Tay, Fergus, "Blind deconvolution using a
normalized sparsity measure", CVPR 2011) of its Laplacian: with the true width its second differences are sparse, with
a kernel that is too wide they ring, with one that is too narrow they are smeared. The prediction comes from the bundled
network without steps, whatever upscaler follows, so that the kernel does not depend on the upscaler.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erfinv
from torch import Tensor
from torch.nn import functional

from blindsr.estimators import blind_l0, spectral
from blindsr.estimators.blind_l0.estimator import MIN_NCC, MIN_SIDE, L0Config
from blindsr.estimators.spectral import SpectralConfig
from blindsr.events import Listener, Notice, ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
from blindsr.ops import luma
from blindsr.ops.color import to_planes
from blindsr.runtime import choose_dtype
from blindsr.upscalers.pretrained.conditioning import Conditioning
from blindsr.upscalers.pretrained.upscaler import PretrainedUpscaler, super_resolve_planes
from blindsr.upscalers.pretrained.weights import load_network

__all__ = [
    "DIRECTIONS", "AutoConfig", "AutomaticEstimator", "along", "edge_widths", "evidence", "is_sharp",
    "normalised_sparsity", "sharpness",
]  # fmt: skip


# Logistic regression fitted by benchmarks/sharpness.py: log-odds that the kernel is bicubic. In this order: a constant;
# mean and range of the spectral log-variances; log-variances of the sharpest edges (mean of the upper 2 % and 0.5 %
# at 30 grey levels, smallest direction of the former, upper 10 % at 12, upper 2 % at 60); exponent, log noise and log
# residual of the fit; log-ratios of the sparsity with the estimate against that with the bicubic and a narrower kernel.
_WEIGHTS = (
    -3.974, -4.881, -1.531, -0.114, -0.129, -0.058, 0.493, -1.291, 0.117, 0.178, -0.692, 5.856, 5.557,
)  # fmt: skip
# The same from the two ratios alone, which remain informative where the spectral fit fails.
_RATIO_WEIGHTS = (1.194, 15.948, 9.041)
_SHARP, _SHARP_BY_RATIOS = 0.85, 2.7
_NARROWER = 0.7
# Mean of σ (spectrum) / σ (edges); Gaussians have 0.8 … 1.6. Below it the spectral fit has missed the blur.
_MISSED = 0.8
_SPARSER_THAN_BICUBIC = 0.97  # sparsity with a disc against the bicubic kernel; sharp photographs have 0.98 and more
_MIN_SIDE = 32  # LR px; at 24 px, three of twelve images lost by their kernels, up to 12 dB
_NO_TEXTURE = 4.0  # residual of the spectral fit; photographs have up to 2.3, a smooth gradient 15
_NOISE_ALONE = 0.5  # noise of the power at the lowest frequencies; photographs with σ 10 have up to 0.24, noise 0.97
# Spread of the halves' covariances: estimates that cost more than 1 dB had 0.28 and more; with noise, one of 0.16 did,
# and those that gain have 0.02 … 0.15, a few 0.18.
_DISAGREEMENT, _DISAGREEMENT_IN_NOISE = 0.25, 0.15
_NOISE = 1e-3  # at the lowest frequencies; photographs without noise have less
_SAFE = "the bicubic kernel is used, which is the safe one."
_CLEARLY = 0.92  # sparsity against the better of the Gaussian and the bicubic kernel
_SPARSITY_SIDE = 224  # side of the window whose prediction is measured, LR pixels: 0.1 s a kernel
_SPARSITY_BORDER = 8  # SR pixels at the border that are not measured
# Directions (y, x) across the edges: → ↘ ↓ ↙.
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
_CONTRASTS = (12 / 255, 30 / 255, 60 / 255)  # smallest steps of the edges that are measured
_QUANTILES = (0.9, 0.98, 0.995)  # share of the edges that are wider than the reported width
_EDGE_SUPPORT = 4  # neighbours on either side among which the whole step is measured
_MIN_EDGES = 200  # where fewer edges have the contrast, the strongest 2 % of all positions are used


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """Settings of the estimators that the automatic one chooses from."""

    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    l0: L0Config = field(default_factory=L0Config)
    seed: int = 0  # of the random halves of the spectral fit

    def __post_init__(self) -> None:
        """Pass the seed on."""
        object.__setattr__(self, "spectral", replace(self.spectral, seed=self.seed))


class AutomaticEstimator:
    """Chooses between a Gaussian, a defocus disc, a free-form and the bicubic kernel by evidence (default)."""

    name: ClassVar[str] = "auto"
    config_type: ClassVar[type] = AutoConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    min_side: ClassVar[int] = 16
    kernel_error: ClassVar[float] = spectral.SpectralEstimator.kernel_error

    def __init__(self, config: AutoConfig | None = None) -> None:
        self.config = AutoConfig() if config is None else config

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate the kernel of an image by what the image allows.

        Args:
            lr: (1, C, h, w), float, [0, 1].
            scale: Factor from LR to HR.
            listener: Receives the events.

        Returns:
            The spectral, the free-form or the bicubic kernel; a warning states it if it is not the first, and why.
        """
        config = self.config
        estimate = spectral.estimate_kernel(lr, scale, config.spectral, listener=listener)
        if estimate.warnings or (why := _unmeasurable(lr, estimate)) is not None:
            return _safe(estimate, estimate.warnings[0] if estimate.warnings else f"{why}: {_SAFE}", listener)
        if min(lr.shape[-2:]) < PretrainedUpscaler.min_side(scale):
            return estimate
        disc = _disc(lr, estimate, config)
        if disc is not None:
            return disc
        odds = sharpness(lr, estimate)
        missed = _spectrum_missed_the_blur(lr, estimate.kernel)
        if missed and (free := _free_form(lr, estimate, config, is_sharp(odds), listener)) is not None:
            return free
        estimate = replace(estimate, metrics={**estimate.metrics, "sharpness": odds[0]})
        if is_sharp(odds):
            warning = "no blur beyond that of bicubic downscaling was detected; the bicubic kernel is used."
        elif missed:
            warning = f"the blur could not be estimated with confidence: {_SAFE}"
        elif _halves_disagree(estimate):
            warning = f"random halves of the image lead to different kernels: {_SAFE}"
        else:
            return estimate
        return _safe(estimate, warning, listener)


def _unmeasurable(image: Tensor, estimate: KernelEstimate) -> str | None:
    """Why no blur can be measured on an image, if so."""
    side, metrics = min(image.shape[-2:]), estimate.metrics
    if side < _MIN_SIDE:
        return f"a side of {side} px is too short to measure a blur, {_MIN_SIDE} px are needed"
    if metrics["residual"] > _NO_TEXTURE:
        return "the image has no texture on which a blur could be measured"
    if metrics["noise"] > _NOISE_ALONE:
        return "the image consists of little but noise"
    return None


def _halves_disagree(estimate: KernelEstimate) -> bool:
    allowed = _DISAGREEMENT if estimate.metrics["noise"] < _NOISE else _DISAGREEMENT_IN_NOISE
    return estimate.metrics.get("split_half_difference", 0.0) > allowed


def _safe(estimate: KernelEstimate, warning: str, listener: Listener) -> KernelEstimate:
    """The bicubic kernel in place of an estimate, and a warning with the reason."""
    if warning not in estimate.warnings:
        listener(Notice(stage=estimate.method, message=warning))
    return replace(estimate, kernel=bicubic_instead(estimate.kernel), warnings=(warning,))


def bicubic_instead(kernel: Kernel) -> Kernel:
    """The bicubic kernel of an estimate's scale; its provenance holds the replaced estimate ("in_place_of")."""
    replaced = {name: value for name, value in kernel.provenance.items() if name != "split_half"}
    return Kernel(bicubic(kernel.scale).array, kernel.scale, {"made_by": "bicubic", "in_place_of": replaced})


def is_sharp(odds: tuple[float, float]) -> bool:
    """Whether the log-odds of `sharpness` are high enough for the bicubic kernel."""
    return odds[0] > _SHARP or odds[1] > _SHARP_BY_RATIOS


def sharpness(image: Tensor, estimate: KernelEstimate) -> tuple[float, float]:
    """Log-odds that the kernel is bicubic and not the spectral Gaussian: by all evidence, and by the sparsity alone.

    Args:
        image: (1, C, H, W), float, [0, 1].
        estimate: Its spectral estimate.
    """
    features = evidence(image, estimate)
    return float(np.dot(_WEIGHTS, features)), float(np.dot(_RATIO_WEIGHTS, features[[0, -2, -1]]))


def evidence(image: Tensor, estimate: KernelEstimate) -> NDArray[np.float64]:
    """The features of `sharpness`, (13,): see `_WEIGHTS`."""
    kernel = estimate.kernel
    as_is, narrow, plain = normalised_sparsity(image, (kernel, _narrowed(kernel, _NARROWER), bicubic(kernel.scale)))
    beta = float(estimate.settings["residual_hr_blur"])  # type: ignore[arg-type]
    spectrum = np.log(along(kernel.covariance) / (kernel.scale**2 - beta) + 0.02)
    edges = 2 * np.log(edge_widths(image))
    metrics = estimate.metrics
    return np.array([
        1.0, spectrum.mean(), spectrum.max() - spectrum.min(),
        edges[1, 1].mean(), edges[1, 2].mean(), edges[1, 1].min(), edges[0, 0].mean(), edges[2, 1].mean(),
        metrics["exponent"], math.log(metrics["noise"] + 1e-6), math.log(metrics["residual"] + 1e-6),
        math.log(as_is / plain), math.log(as_is / narrow),
    ])  # fmt: skip


def _disc(image: Tensor, estimate: KernelEstimate, config: AutoConfig) -> KernelEstimate | None:
    """A defocus disc, if the spectrum has its rings and its prediction is sparser than those of the other kernels."""
    scale, with_discs = estimate.kernel.scale, replace(config.spectral, discs=True)
    candidate = spectral.estimate_kernel(image, scale, replace(with_discs, splits=0))
    if "disc_radius_lr" not in candidate.metrics or candidate.kernel.size > min(image.shape[-2:]):
        return None
    disc, fitted, plain = normalised_sparsity(image, (candidate.kernel, estimate.kernel, bicubic(scale)))
    if disc < fitted and disc < _SPARSER_THAN_BICUBIC * plain:
        return spectral.estimate_kernel(image, scale, with_discs)
    return None


def _spectrum_missed_the_blur(image: Tensor, kernel: Kernel) -> bool:
    """Whether the sharpest edges are much wider than an estimate implies."""
    by_spectrum = np.sqrt(along(kernel.covariance)) / kernel.scale
    return float((by_spectrum / edge_widths(image)[1, 1]).mean()) < _MISSED


def _free_form(
    image: Tensor, estimate: KernelEstimate, config: AutoConfig, sharp: bool, listener: Listener
) -> KernelEstimate | None:
    """A free-form kernel, if both halves of the image agree on it and its prediction is sparser.

    Where the photograph may be sharp it has to be clearly sparser: a wide kernel on a sharp photograph is the most
    costly of all errors.
    """
    scale = estimate.kernel.scale
    if min(image.shape[-2:]) < MIN_SIDE:
        return None
    free = blind_l0.estimate_kernel(image, scale, config.l0, listener=listener)
    if free.metrics["split_half_ncc_lr"] < MIN_NCC or free.kernel.size > min(image.shape[-2:]):
        return None
    sparsity, *others = normalised_sparsity(image, (free.kernel, estimate.kernel, bicubic(scale)))
    if sparsity > (_CLEARLY if sharp else 1.0) * min(others):
        return None
    warning = "the edges show motion or defocus blur that is not Gaussian; a free-form kernel is used."
    listener(Notice(stage=free.method, message=warning))
    return replace(free, warnings=(*free.warnings, warning), metrics={**free.metrics, "sparsity": sparsity})


def normalised_sparsity(lr: Tensor, kernels: Sequence[Kernel]) -> tuple[float, ...]:
    """L1/L2 of the Laplacian of the prediction with each kernel, without steps, on the most textured window.

    Args:
        lr: The image, (1, C, h, w), float, [0, 1].
        kernels: Candidates of one scale.

    Returns:
        One number per kernel, in (0, 1]; the smaller, the more plausible.
    """
    network = load_network(device=lr.device)
    window = _most_textured(to_planes(lr.detach().float())[:1])
    conditioning = Conditioning(kernel_error=spectral.SpectralEstimator.kernel_error)
    dtype = choose_dtype("auto", lr.device)
    measured = []
    for kernel in kernels:
        sr = super_resolve_planes(network, window, kernel, conditioning=conditioning, dtype=dtype, max_tile=512)
        inner = slice(_SPARSITY_BORDER, -_SPARSITY_BORDER)
        measured.append(_sparsity(sr[..., inner, inner]))
    return tuple(measured)


def _narrowed(kernel: Kernel, width: float) -> Kernel:
    """A Gaussian of `width` times a kernel's width."""
    # A hundredth of a pixel more, so that a line remains a positive definite Gaussian.
    return gaussian(kernel.covariance * width**2 + 1e-4 * np.eye(2), kernel.scale)


def _sparsity(image: Tensor) -> float:
    """L1/L2 of the Laplacian; 1 if it is zero everywhere."""
    laplacian = functional.conv2d(image, image.new_tensor([[[[0, -1, 0], [-1, 4, -1], [0, -1, 0]]]]))
    size = float(laplacian.square().mean().sqrt())
    return float(laplacian.abs().mean()) / size if size > 0 else 1.0


def _most_textured(plane: Tensor) -> Tensor:
    """The window with the largest mean squared difference between neighbouring pixels."""
    height, width = (min(side, _SPARSITY_SIDE) for side in plane.shape[-2:])
    detail = plane.diff(dim=-1)[..., 1:, :].square() + plane.diff(dim=-2)[..., 1:].square()
    means = functional.avg_pool2d(detail, (height - 1, width - 1), stride=16)[0, 0]
    row, column = divmod(int(torch.argmax(means)), means.shape[1])
    return plane[..., 16 * row : 16 * row + height, 16 * column : 16 * column + width]


def edge_widths(lr: Tensor) -> NDArray[np.float64]:
    """σ of the sharpest edges, LR pixels, (contrasts, quantiles, directions): an upper bound on an image's blur.

    No edge of a photograph is sharper than its blur. The difference of two neighbours across an ideal edge blurred by a
    Gaussian of σ is erf(1/(2√2·σ)) of the whole step; the sharpest edges give the smallest σ.

    Args:
        lr: (1, C, H, W), [0, 1], sides over 10 px.
    """
    plane = luma(lr).cpu().numpy()
    widths = np.zeros((len(_CONTRASTS), len(_QUANTILES), len(DIRECTIONS)))
    for number, (down, right) in enumerate(DIRECTIONS):
        difference, step = _steps(plane, down, right)
        steepness = difference / np.maximum(step, 1e-6)
        for i, contrast in enumerate(_CONTRASTS):
            used = step > contrast
            if used.sum() < _MIN_EDGES:
                used = step >= np.quantile(step, 0.98)
            steepest = np.clip(np.quantile(steepness[used], _QUANTILES), 0.01, 0.995)
            widths[i, :, number] = 0.5 * np.hypot(down, right) / (np.sqrt(2) * erfinv(steepest))
    return widths


def along(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variances of a covariance, order (y, x), along `DIRECTIONS`."""
    directions = np.array(DIRECTIONS, dtype=np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    variances: NDArray[np.float64] = np.einsum("di,ij,dj->d", directions, covariance, directions)
    return variances


def _steps(plane: NDArray[np.float64], down: int, right: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences of neighbours along a direction, and the range of the grey levels around them."""
    height, width = plane.shape
    margin = _EDGE_SUPPORT + 1

    def shifted(by: int) -> NDArray[np.float64]:
        return plane[
            margin + by * down : height - margin + by * down, margin + by * right : width - margin + by * right
        ]

    lowest = highest = shifted(1 - _EDGE_SUPPORT)
    for by in range(2 - _EDGE_SUPPORT, _EDGE_SUPPORT + 1):
        lowest, highest = np.minimum(lowest, shifted(by)), np.maximum(highest, shifted(by))
    return np.abs(shifted(1) - shifted(0)), highest - lowest
