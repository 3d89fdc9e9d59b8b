"""Super-resolution by the pretrained network: a Wiener filter plus a learned residual, adapted to the image."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel
from blindsr.ops import degrade, dihedral, dihedral_inverse
from blindsr.ops.color import from_planes, plane_count, to_planes
from blindsr.ops.wiener import transfer, wiener, wiener_periodic
from blindsr.ops.windows import Source, most_textured, spread_windows, whole
from blindsr.runtime import choose_dtype
from blindsr.upscalers.base import Degradation, Halo, TiledModel, check_size
from blindsr.upscalers.pretrained.adaptation import STAGE, adapt, residual_of
from blindsr.upscalers.pretrained.conditioning import CLEAN, Conditioning, conditioning_of, embed, symmetric_views
from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.upscalers.pretrained.network import SCALES, ConditionedNetwork
from blindsr.upscalers.pretrained.weights import load_network, random_network
from blindsr.upscalers.tiling import Span, with_retry

__all__ = [
    "PretrainedUpscaler",
    "back_project",
    "clip_keeping_mean",
    "super_resolve_planes",
    "support_radius",
    "tile_halo",
]

# HR pixels, over all planes, that the adaptation trains on: its cost does not grow with the image. The largest
# photograph of the usual benchmarks (1.5 megapixels, enlarged twofold) is still used as a whole.
ADAPTATION_PIXELS = 6_000_000
_MIN_WINDOWS, _MAX_WINDOWS = 4, 16  # windows of a large image that the adaptation trains on; each is of one band
_CANDIDATES = 4  # windows that are compared for each one that is used

# Sum of the absolute filter weights that may lie outside of the halo. What lies there is missing only at the seam
# between two tiles, where it is mirrored instead; the error in grey levels is a hundredth of this.
_TAIL = 0.1
_SHORT_HALO = 56  # LR pixels
MAX_HALO = 96  # LR pixels; the inverse of a kernel with zeros (motion without noise) has unlimited support
_FADE = 64  # LR pixels of a long halo that fade to the window's mean
_HALO_STEP = 8

_CLIPPING_AREA = 8  # LR pixels, side of the area whose mean is kept
_MUCH_CLIPPED = 4 / 255  # mean loss by clipping; above twice as much, the contrast is reduced fully


class PretrainedUpscaler:
    """Pretrained network on a Wiener filter, conditioned on kernel and noise; adapts to the image (default)."""

    name: ClassVar[str] = "pretrained"
    config_type: ClassVar[type] = PretrainedConfig
    scales: ClassVar[tuple[int, ...]] = SCALES
    needs_whole_image: ClassVar[bool] = False

    def __init__(self, config: PretrainedConfig | None = None) -> None:
        self.config = PretrainedConfig() if config is None else config

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image: its degraded version must have 8 px."""
        return 8 * scale

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Load the network and adapt it to a photograph; of a large one, windows are used.

        Of a clean colour image, luma is processed by the network and chroma by the Wiener filter alone (chroma in
        the network gains 0.1 dB for 2.5 times the time). Noisy chroma is processed by the network as well: the filter
        assumes the spectrum of luma, which is stronger, and lets noise pass (with σ 4 grey levels, 2 to 3 dB in RGB).
        The bands of any other image are processed one by one.

        Args:
            source: The photograph; it is left unchanged.
            degradation: Its measured degradation.
            listener: Receives the events of the stage "zssr".

        Returns:
            A model of windows. Without steps its history is empty.

        Raises:
            ImageError: A side is shorter than 8·s px.
            KernelError: The kernel is larger than the image.
            ConfigError: The weights are missing, damaged, or for other scales.
            DivergenceError: The training diverged, twice.

        References:
            Shocher, Cohen, Irani, "'Zero-Shot' Super-Resolution using Deep Internal Learning", CVPR 2018, for
            adaptation to the image; Soh, Cho, Cho, "Meta-Transfer Learning for Zero-Shot Super-Resolution", CVPR 2020,
            for pretrained weights as its start; Zhang, Zuo, Zhang, "Learning a Single Convolutional Super-Resolution
            Network for Multiple Degradations", CVPR 2018, for the kernel as an input.
        """
        config, kernel = self.config, degradation.kernel
        check_size(self, source.shape, kernel)
        network = (
            random_network(config.seed, device=source.device)
            if config.random_weights
            else load_network(config.weights, device=source.device)
        )
        network.require_scale(kernel.scale)
        dtype = choose_dtype(config.precision, source.device)
        planes = source.shape[0]
        conditionings = tuple(
            conditioning_of(degradation, plane, scaled=not config.random_weights) for plane in range(planes)
        )
        predictor = _Predictor(network, kernel, conditionings, config, dtype, _views(source, kernel, config))
        history: dict[str, tuple[float, ...]] = {}
        warnings: tuple[str, ...] = ()
        if config.steps:
            predictor, history, warnings = _adapted(source, predictor, listener)
        else:
            listener(StageStarted(stage=STAGE, max_steps=0))
            listener(StageDone(stage=STAGE, steps=0))
        # The plane with the least noise has the filter of the widest support.
        widest = min(conditionings, key=lambda c: c.noise_sigma)
        return TiledModel(
            scale=kernel.scale,
            predict=predictor,
            retry=replace(predictor, dtype=torch.float32),
            halo=cache(lambda: tile_halo(kernel, widest, network.halo)),
            steps=config.steps,
            history=history,
            dtype=str(dtype).removeprefix("torch."),
            warnings=warnings,
        )

    def correct(self, sr: Tensor, window: Tensor, degradation: Degradation) -> Tensor:
        """Correct a result of two stages towards the input by the whole kernel, where there is no noise.

        Args:
            sr: (1, C, s·h, s·w), [0, 1].
            window: The input, (1, C, h, w).
            degradation: With the kernel of both stages.
        """
        planes, results = to_planes(window), []
        for number, plane in enumerate(torch.split(to_planes(sr), 1)):
            conditioning = conditioning_of(degradation, number, scaled=not self.config.random_weights)
            iterations = 0 if conditioning.noise_sigma else 1
            results.append(
                back_project(
                    plane,
                    planes[number : number + 1],
                    degradation.kernel,
                    conditioning=conditioning,
                    iterations=iterations,
                )
            )
        return from_planes(torch.cat(results)).clamp_(0, 1)


@dataclass(frozen=True)
class _Predictor:
    """Maps a window to its result: Wiener filter, network residual on the planes that carry detail, back-projection."""

    network: ConditionedNetwork
    kernel: Kernel
    conditionings: tuple[Conditioning, ...]
    config: PretrainedConfig
    dtype: torch.dtype
    views: tuple[int, ...] = (0,)

    def of_planes(self, planes: Tensor, *, with_network: int, conditioning: Conditioning | None = None) -> Tensor:
        """Super-resolve planes, (P, 1, h, w) → (P, 1, s·h, s·w), not clamped; one at a time, to save memory.

        Args:
            planes: The planes.
            with_network: Number of planes, from the first, that the network processes; it processes the noisy ones of
                the others, too.
            conditioning: One for all planes; None is that of each plane of the image.
        """
        results = []
        for number, plane in enumerate(torch.split(planes, 1)):
            used = self.conditionings[number] if conditioning is None else conditioning
            sr = super_resolve_planes(
                self.network,
                plane,
                self.kernel,
                conditioning=used,
                dtype=self.dtype,
                max_tile=self.config.max_tile,
                with_network=int(number < with_network or used.noise_sigma > CLEAN),
                views=self.views,
            )
            iterations = self.config.back_projections if used.noise_sigma <= CLEAN else 0
            results.append(back_project(sr, plane, self.kernel, conditioning=used, iterations=iterations))
        return torch.cat(results)

    def __call__(self, window: Tensor) -> Tensor:
        sr = self.of_planes(to_planes(window), with_network=plane_count(window.shape[1]))
        return clip_keeping_mean(from_planes(sr), window)


def _adapted(
    source: Source, predictor: _Predictor, listener: Listener
) -> tuple[_Predictor, dict[str, tuple[float, ...]], tuple[str, ...]]:
    """Adapt the network to the image: the predictor with its new network, the curves, and warnings."""
    # The training targets come from one view: averaged views serve the result, and were measured to.
    first_pass = replace(predictor, views=(0,))
    count = plane_count(source.shape[0])
    used = predictor.conditionings[:count]
    conditioning = replace(used[0], noise_sigma=sum(c.noise_sigma for c in used) / count)

    def train(rate: float, pixels: int) -> tuple[ConditionedNetwork, dict[str, tuple[float, ...]], int]:
        planes = _adaptation_planes(source, predictor.kernel.scale, pixels)
        prediction = first_pass.of_planes(planes, with_network=len(planes), conditioning=conditioning).clamp_(0, 1)
        config = replace(predictor.config, learning_rate=rate)
        return adapt(
            predictor.network,
            prediction,
            predictor.kernel,
            config,
            conditioning=conditioning,
            dtype=predictor.dtype,
            listener=listener,
        )

    (network, history, _), warnings = with_retry(
        train, rate=predictor.config.learning_rate, pixels=ADAPTATION_PIXELS, stage=STAGE, listener=listener
    )
    if network is predictor.network:
        warnings += ("the adaptation did not lower the loss on the validation patch; the pretrained weights are used.",)
    return replace(predictor, network=network), history, warnings


def _adaptation_planes(source: Source, scale: int, pixels: int) -> Tensor:
    """The planes that the adaptation trains on, (P, 1, h, w), [0, 1].

    Of an image with more than `pixels` HR pixels the most textured windows are used, each of one band in turn.
    """
    bands, height, width = source.shape
    count = plane_count(bands)
    if height * width * count * scale**2 <= pixels:
        return to_planes(whole(source))[:count]
    number = min(max(_MIN_WINDOWS, count), _MAX_WINDOWS)
    side = int((pixels / number) ** 0.5) // scale
    windows = most_textured(source, spread_windows(source, side, _CANDIDATES * number), number)
    planes = [to_planes(source.window(*window))[:count] for window in windows]
    return torch.cat([part[i * count // number % count][None] for i, part in enumerate(planes)])


def _views(source: Source, kernel: Kernel, config: PretrainedConfig) -> tuple[int, ...]:
    """The views whose predictions are averaged: one if the image is too large for more, or the kernel forbids it."""
    pixels = source.shape[1] * source.shape[2] * kernel.scale**2
    allowed = config.ensemble_pixels is None or pixels <= config.ensemble_pixels
    return symmetric_views(kernel, config.ensemble if allowed else 1)


@torch.no_grad()
def super_resolve_planes(
    network: ConditionedNetwork,
    planes: Tensor,
    kernel: Kernel,
    *,
    conditioning: Conditioning,
    dtype: torch.dtype,
    max_tile: int,
    with_network: int | None = None,
    views: tuple[int, ...] = (0,),
) -> Tensor:
    """Super-resolve planes by the Wiener filter and the network's residual.

    The Wiener filter runs over the whole plane; only the network works in tiles, which overlap by its receptive field.

    Args:
        network: The network.
        planes: (P, 1, h, w), as from `blindsr.ops.color.to_planes`.
        kernel: Downscaling kernel.
        conditioning: Noise level and uncertainty of the kernel.
        dtype: Type of the network's arithmetic.
        max_tile: Side of a tile's core, LR pixels.
        with_network: Number of planes, from the first, that the network processes; the others get the Wiener filter
            alone. None is all.
        views: Dihedral views whose residuals are averaged; the kernel must be the same under all of them.

    Returns:
        (P, 1, s·h, s·w), not clamped.
    """
    scale, weights = kernel.scale, kernel.tensor(planes)
    embedding = embed(weights, scale, conditioning.noise_sigma, conditioning.kernel_error)
    results = []
    for number, plane in enumerate(torch.split(planes, 1)):
        linear = wiener(plane, weights, scale, conditioning.noise_sigma, conditioning.kernel_error)[:, 0]
        sr = linear.mean(1, keepdim=True)
        if with_network is None or number < with_network:

            def residual(seen: Tensor, filtered: Tensor) -> Tensor:
                return residual_of(network, seen, filtered, embedding, scale, dtype)

            _add_residual(sr, residual, plane, linear, views, scale, max_tile, network.halo)
        results.append(sr)
    return torch.cat(results)


def _add_residual(
    sr: Tensor,
    residual: Callable[[Tensor, Tensor], Tensor],
    plane: Tensor,
    linear: Tensor,
    views: tuple[int, ...],
    scale: int,
    max_tile: int,
    halo: int,
) -> None:
    """Add the network's residual, averaged over views, to `sr`, tile by tile."""
    height, width = plane.shape[-2:]
    for top in range(0, height, max_tile):
        for left in range(0, width, max_tile):
            rows = Span.around(top, min(top + max_tile, height), halo, height)
            columns = Span.around(left, min(left + max_tile, width), halo, width)
            lr_tile = plane[..., rows.outer(), columns.outer()]
            linear_tile = linear[..., rows.outer(scale), columns.outer(scale)]
            for view in views:
                seen, filtered = (dihedral(tile, view).contiguous() for tile in (lr_tile, linear_tile))
                added = dihedral_inverse(residual(seen, filtered), view)
                kept = added[..., rows.kept(scale), columns.kept(scale)]
                sr[..., rows.core(scale), columns.core(scale)] += kept / len(views)


@torch.no_grad()
def clip_keeping_mean(sr: Tensor, lr: Tensor) -> Tensor:
    """Clip a result to [0, 1]; where much would be clipped, its contrast is reduced instead, so that the mean is kept.

    A pattern of single pixels, such as a checkerboard, is at the frequency that deconvolution amplifies most. Clipped
    on one side more than on the other, it changes the brightness of the whole area. Edges lose too little to count.

    Args:
        sr: (1, C, s·h, s·w).
        lr: The image, (1, C, h, w), whose local mean is kept.

    Returns:
        (1, C, s·h, s·w), [0, 1]; the same as plain clipping where less than `_MUCH_CLIPPED` is lost on average.
    """
    clipped = sr.clamp(0, 1)
    loss = (clipped - sr).abs()
    if float(loss.mean()) == 0:
        return clipped
    side = _CLIPPING_AREA * (sr.shape[-1] // lr.shape[-1]) + 1

    def local_mean(image: Tensor, side: int = side) -> Tensor:
        # One axis after the other: 2·side instead of side² additions a pixel.
        rows = functional.avg_pool2d(image, (side, 1), 1, (side // 2, 0), count_include_pad=False)
        return functional.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)

    weight = (local_mean(loss) / _MUCH_CLIPPED - 1).clamp_(0, 1)
    if not bool(weight.any()):
        return clipped
    # Twice, because one mean over an odd number of pixels follows the pattern of single pixels.
    coarse = local_mean(local_mean(lr, _CLIPPING_AREA + 1), _CLIPPING_AREA + 1)
    mean = functional.interpolate(coarse, size=sr.shape[-2:], mode="bilinear")
    deviation = sr - local_mean(sr)
    above, below = (functional.max_pool2d(part, side, 1, side // 2) for part in (deviation, -deviation))
    contrast = torch.minimum((1 - mean) / above.clamp_min(1e-6), mean / below.clamp_min(1e-6)).clamp(0, 1)
    return torch.lerp(clipped, (mean + contrast * deviation).clamp(0, 1), weight)


@torch.no_grad()
def back_project(sr: Tensor, planes: Tensor, kernel: Kernel, *, conditioning: Conditioning, iterations: int) -> Tensor:
    """Back-projection whose upsampling operator is the Wiener filter W: x ← x + W(y − (x ⋆ k)↓s).

    Interpolation, the usual operator, lets errors grow where the kernel's transfer is small or negative (motion,
    defocus). The Wiener filter inverts the kernel as far as the noise allows, so that one correction is enough.

    Args:
        sr: Planes x, (P, 1, s·h, s·w).
        planes: The LR planes y, (P, 1, h, w).
        kernel: Downscaling kernel k.
        conditioning: Noise level and uncertainty of the kernel.
        iterations: Number of corrections.

    Returns:
        Corrected planes, of the shape of `sr`.
    """
    weights = kernel.tensor(sr)
    corrected = []
    for estimate, plane in zip(torch.split(sr, 1), torch.split(planes, 1), strict=True):
        for _ in range(iterations):
            difference = plane - degrade(estimate, weights, kernel.scale)
            up = wiener(difference, weights, kernel.scale, conditioning.noise_sigma, conditioning.kernel_error)
            estimate = estimate + up.mean(2)
        corrected.append(estimate)
    return torch.cat(corrected)


def support_radius(kernel: Kernel, conditioning: Conditioning) -> int:
    """Distance in LR pixels beyond which the Wiener filters have negligible weight; at most twice `MAX_HALO`."""
    side, scale = 4 * MAX_HALO, kernel.scale
    point = torch.zeros(1, side, side)
    point[0, side // 2, side // 2] = 1
    response = transfer(kernel.tensor(point)[None], scale, side * scale, side * scale)
    filters = wiener_periodic(point, response, scale, conditioning.noise_sigma, conditioning.kernel_error)[0]
    weights = filters.abs().reshape(len(filters), side, scale, side, scale).amax((2, 4))
    offset = (torch.arange(side) - side // 2).abs()
    distance = torch.maximum(offset[:, None], offset[None]).flatten()
    by_distance = torch.zeros(len(filters), 2 * MAX_HALO + 1).index_add(1, distance, weights.flatten(1))
    beyond = by_distance.flip(1).cumsum(1).flip(1).amax(0)
    return int((beyond > _TAIL).sum())


def tile_halo(kernel: Kernel, conditioning: Conditioning, network_halo: int) -> Halo:
    """The halo of a tile: the network's receptive field, the kernel and the Wiener filter's support radius.

    A filter of longer support than a tile can have is not helped by a longer halo: a mirrored border is no image that
    the kernel could have blurred, and it rings wherever it lies. There the window fades to its mean instead; what fades
    slowly has no energy at the frequencies that the kernel suppresses.
    """
    need = network_halo + math.ceil(kernel.size / (2 * kernel.scale)) + support_radius(kernel, conditioning)
    need = math.ceil(need / _HALO_STEP) * _HALO_STEP
    return Halo(need) if need <= _SHORT_HALO else Halo(MAX_HALO, fade=_FADE)
