"""Super-resolution by the pretrained network: a Wiener filter plus a learned residual, adapted to the image."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, bicubic
from blindsr.kernels.metrics import normalised_cross_correlation
from blindsr.ops import degrade, dihedral, dihedral_inverse
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.geometry import local_maximum, local_mean
from blindsr.ops.wiener import (
    WienerFilter,
    cropped,
    extend,
    has_long_inverse,
    transfer,
    wiener,
    wiener_periodic,
)
from blindsr.ops.windows import Source, most_textured, spread_windows, whole
from blindsr.runtime import choose_dtype
from blindsr.upscalers.base import Degradation, TiledModel, check_size
from blindsr.upscalers.pretrained.adaptation import STAGE, adapt
from blindsr.upscalers.pretrained.conditioning import CLEAN, SCALES, Conditioning, conditioning_of, embed
from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.upscalers.pretrained.network import ConditionedNetwork, FrozenNetwork, linear_base
from blindsr.upscalers.pretrained.weights import random_network, shared_network
from blindsr.upscalers.tiling import even_spans, support_radius, with_retry

__all__ = [
    "PretrainedUpscaler",
    "back_project",
    "clip_keeping_mean",
    "filter_radius",
    "super_resolve",
    "tile_halo",
]

# HR samples that the adaptation trains on: its cost does not grow with the image. The largest photograph of the usual
# benchmarks (1.5 megapixels, enlarged twofold) is still used as a whole.
ADAPTATION_PIXELS = 6_000_000
_MIN_WINDOWS, _MAX_WINDOWS = 4, 16  # windows of a large image that the adaptation trains on
# Noise of luma above which no steps are made: with 3 grey levels (5 of each colour) they lose as often as they gain,
# and with strong noise 0.1 dB in the mean.
_MAX_ADAPTED_NOISE = 2 / 255
# Normalised cross-correlation with the bicubic kernel from which steps are made with an estimated one. They gain 0.1 dB
# there, and nothing with other estimates (docs/notes/2026-11-29-steps-and-depth.md).
_NEARLY_BICUBIC = 0.98
_CANDIDATES = 4  # windows that are compared for each one that is used
# Dihedral views in the order in which they are averaged: the half turn first.
_VIEW_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

# Sum of the absolute filter weights that may lie outside of the halo. What lies there is missing only at the seam
# between two tiles, where it is mirrored instead; the error in grey levels is a hundredth of this.
_TAIL = 0.1
MAX_HALO = 64  # LR pixels; the inverse of a kernel with zeros (motion without noise) has unlimited support
_HALO_STEP = 8

_CLIPPING_AREA = 8  # LR pixels, side of the area over which the loss by clipping is averaged
_MUCH_CLIPPED = 4 / 255  # mean loss by clipping; above twice as much, the result is shifted fully
# Side of the area, LR pixels, whose brightness a clipped result keeps, and the smallest change of it that counts.
_BRIGHTNESS_AREA, _BRIGHTNESS_ERROR = 9, 0.5 / 255
_MEAN_AREA = 5  # LR pixels, side of the area whose mean a clipped result keeps
# Of the search for the shift that keeps the mean: its largest number of steps, the smallest share that counts as not
# clipped, and the error at which it ends.
_CLIPPING_STEPS, _MIN_FREE, _MEAN_ERROR = 32, 0.3, 0.2 / 255

_ROUNDING = 0.25 / 255  # root mean square of the difference that 8-bit rounding leaves to a perfect result
_MAX_CORRECTION = 0.8
_NOISE_WIDTHS = 3.0  # standard deviations that a difference by noise has at most
# Transfer of flux from the rings to their star: side of the area whose flux is kept, LR pixels; maximum share; flux
# below which there is none.
_STAR_AREA, _MAX_TAKEN, _TINY = 9, 0.7, 1e-9
_RING_AREA = 5  # LR pixels, side of the area whose darkest one bounds a result on an empty background
_CORRECTION_AREA = 17  # LR pixels, side of the area over which the power of the difference is averaged


class PretrainedUpscaler:
    """Pretrained network on a Wiener filter, conditioned on kernel and noise; adapts to the image (default)."""

    name: ClassVar[str] = "pretrained"
    config_type: ClassVar[type] = PretrainedConfig
    scales: ClassVar[tuple[int, ...]] = SCALES
    needs_whole_image: ClassVar[bool] = False
    is_compared: ClassVar[bool] = True

    def __init__(self, config: PretrainedConfig | None = None) -> None:
        self.config = PretrainedConfig() if config is None else config

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image: its degraded version must have 8 px."""
        return 8 * scale

    def check(self) -> None:
        """Read the file of weights, if one is named.

        Raises:
            ConfigError: It is missing, or has no weights of such a network.
        """
        if self.config.weights is not None:
            shared_network(self.config.weights)

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Load the network and adapt it to a photograph; of a large one, windows are used.

        Luma and chroma of a colour image are processed together. The bands of any other image are processed one by one,
        and so are three bands that are not the colours of one picture (`Degradation.has_colors`).
        No steps are made where lossy compression or more than two grey levels of noise in luma were measured, nor with
        an estimated blur.

        Args:
            source: The photograph; it is left unchanged.
            degradation: Its measured degradation.
            listener: Receives the events of the stage "pretrained".

        Returns:
            A model of windows. Without steps its history is empty.

        Raises:
            ImageError: A side is shorter than 8·s px.
            KernelError: The kernel is far larger than the image.
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
            else shared_network(config.weights, device=source.device)
        )
        network.require_scale(kernel.scale)
        dtype = choose_dtype(config.precision, source.device)
        bands = source.shape[0]
        conditionings = _conditionings(degradation, bands)
        views = _VIEW_ORDER[: self.for_size(source.shape[1] * source.shape[2] * kernel.scale**2).config.ensemble]
        predictor = _Predictor(network, kernel, conditionings, config, dtype, views)
        history: dict[str, tuple[float, ...]] = {}
        warnings: tuple[str, ...] = ()
        reason = "" if config.random_weights else _reason_for_no_steps(degradation)  # random weights have to learn
        steps = 0 if reason else config.steps
        if steps:
            predictor, history, warnings = _adapted(source, predictor, listener)
        else:
            listener(StageStarted(stage=STAGE, max_steps=0))
            listener(StageDone(stage=STAGE, steps=0, reason=reason if config.steps else ""))

        def model_of(predictor: _Predictor) -> TiledModel:
            # The band with the least noise has the filter of the widest support.
            widest = min(predictor.conditionings, key=lambda c: c.noise_sigma)
            return TiledModel(
                scale=kernel.scale,
                predict=predictor,
                retry=replace(predictor, dtype=torch.float32),
                halo=cache(lambda: tile_halo(predictor.kernel, widest, network.halo)),
                steps=steps,
                history=history,
                dtype=str(dtype).removeprefix("torch."),
                warnings=warnings,
                with_kernel=lambda other: model_of(
                    replace(predictor, kernel=other.kernel, conditionings=_conditionings(other, bands))
                ),
            )

        return model_of(predictor)

    def for_size(self, pixels: int) -> "PretrainedUpscaler":
        """The upscaler for a part of a result of so many HR pixels: with one view if these are too many for more."""
        limit = self.config.ensemble_pixels
        if limit is None or pixels <= limit:
            return self
        return PretrainedUpscaler(replace(self.config, ensemble=1))

    @staticmethod
    def correction_halo(degradation: Degradation) -> int:
        """LR pixels around each one on which `correct` depends."""
        conditioning = Conditioning(kernel_error=degradation.kernel_error)
        return tile_halo(degradation.kernel, conditioning, _CORRECTION_AREA // 2)

    def correct(self, sr: Tensor, window: Tensor, degradation: Degradation) -> Tensor:
        """Correct a result of two stages towards the input by the whole kernel, where there is no noise.

        Args:
            sr: (1, C, s·h, s·w), [0, 1].
            window: The input, (1, C, h, w).
            degradation: With the kernel of both stages.
        """
        results = []
        inputs = _groups(window, has_colors=degradation.has_colors)
        groups = _groups(sr, has_colors=degradation.has_colors)
        for number, (group, planes) in enumerate(zip(groups, inputs, strict=True)):
            conditioning = conditioning_of(degradation, number, colour=group.shape[1] == 3)
            results.append(
                back_project(group, planes, degradation.kernel, kernel_error=conditioning.kernel_error)
                if conditioning.is_clean
                else group
            )
        return _image(results).clamp_(0, 1)


def _reason_for_no_steps(degradation: Degradation) -> str:
    """Why steps on the image are not made; "" where they are. They learn artefacts, noise, and the error of a kernel.

    Where an estimate found next to no blur, its kernel is right enough.
    """
    kernel = degradation.kernel
    if degradation.compression_sigma > CLEAN:
        return "no adaptation steps: lossy compression was measured"
    if degradation.plane_sigma(0) > _MAX_ADAPTED_NOISE:
        return "no adaptation steps: noise was measured"
    if degradation.kernel_error and normalised_cross_correlation(kernel, bicubic(kernel.scale)) < _NEARLY_BICUBIC:
        return "no adaptation steps: the blur is an estimate"
    return ""


def _conditionings(degradation: Degradation, bands: int) -> tuple[Conditioning, ...]:
    """The conditioning of what is processed together: of luma and chroma, or of each band."""
    if bands == 3 and degradation.has_colors:
        return (conditioning_of(degradation, 0, colour=True),)
    return tuple(conditioning_of(degradation, band, colour=False) for band in range(bands))


def _groups(image: Tensor, *, has_colors: bool) -> list[Tensor]:
    """What is processed together: luma and chroma, [(1, 3, h, w)], or every band by itself, [(1, 1, h, w), …]."""
    planes = to_planes(image, has_colors=has_colors)
    return [planes.transpose(0, 1)] if has_colors and len(planes) == 3 else list(torch.split(planes, 1))


def _image(groups: list[Tensor]) -> Tensor:
    """Undo `_groups`."""
    return from_planes(torch.cat(groups, 1).transpose(0, 1), has_colors=len(groups) == 1)


@dataclass(frozen=True)
class _Predictor:
    """Maps a window to its result: Wiener filter, network residual, back-projection."""

    network: ConditionedNetwork
    kernel: Kernel
    conditionings: tuple[Conditioning, ...]
    config: PretrainedConfig
    dtype: torch.dtype
    views: tuple[int, ...] = (0,)

    def of_group(self, planes: Tensor, conditioning: Conditioning) -> Tensor:
        """Super-resolve what is processed together, (1, G, h, w) to (1, G, s·h, s·w), not clamped."""
        corrections = self.config.back_projections if conditioning.is_clean else 0
        border = _border(self.kernel, conditioning) if corrections else 0
        sr = super_resolve(
            self.network,
            planes,
            self.kernel,
            conditioning=conditioning,
            dtype=self.dtype,
            max_tile=self.config.max_tile,
            views=self.views,
            border=border,
        )
        for _ in range(corrections):
            sr = back_project(
                *(sr, planes, self.kernel),
                kernel_error=conditioning.kernel_error,
                border=border,
                levels=(conditioning.noise_sigma, conditioning.chroma_sigma),
            )
        return cropped(sr, border * self.kernel.scale)

    def __call__(self, window: Tensor) -> Tensor:
        groups = zip(_groups(window, has_colors=len(self.conditionings) == 1), self.conditionings, strict=True)
        sr = _image([self.of_group(*group) for group in groups])
        background = max(conditioning.noise_sigma for conditioning in self.conditionings)
        if 0 < background <= CLEAN:
            return without_dark_rings(sr, window, background).clamp_(0, 1)
        return clip_keeping_mean(sr, window)


def _adapted(
    source: Source, predictor: _Predictor, listener: Listener
) -> tuple[_Predictor, dict[str, tuple[float, ...]], tuple[str, ...]]:
    """Adapt the network to the image: the predictor with its new network, the curves, and warnings."""
    # The training targets come from one view: averaged views serve the result, and were measured to.
    first_pass = replace(predictor, views=(0,))
    used = predictor.conditionings
    conditioning = replace(used[0], noise_sigma=sum(c.noise_sigma for c in used) / len(used))

    def train(rate: float, samples: int) -> tuple[ConditionedNetwork, dict[str, tuple[float, ...]], int]:
        parts = _adaptation_parts(source, predictor.kernel.scale, len(used), samples)
        predictions = [first_pass.of_group(part, conditioning).clamp_(-1, 1) for part in parts]
        config = replace(predictor.config, learning_rate=rate)
        return adapt(
            predictor.network,
            predictions,
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


def _adaptation_parts(source: Source, scale: int, count: int, samples: int) -> list[Tensor]:
    """What the adaptation trains on: luma and chroma, or bands, of the image or of its most textured windows.

    Args:
        source: The photograph.
        scale: Factor from LR to HR.
        count: Number of groups that are processed one by one: 1 of a colour image, the bands of any other.
        samples: HR pixels, luma and chroma counted as one and other bands each, above which windows are used.
    """
    _, height, width = source.shape
    if height * width * count * scale**2 <= samples:
        return _groups(whole(source), has_colors=count == 1)
    number = min(max(_MIN_WINDOWS, count), _MAX_WINDOWS)
    side = int((samples / number) ** 0.5) // scale
    windows = most_textured(source, spread_windows(source, side, _CANDIDATES * number), number)
    # Each window of one band in turn.
    return [
        _groups(source.window(*window), has_colors=count == 1)[i * count // number % count]
        for i, window in enumerate(windows)
    ]


@torch.no_grad()
def super_resolve(
    network: ConditionedNetwork,
    planes: Tensor,
    kernel: Kernel,
    *,
    conditioning: Conditioning,
    dtype: torch.dtype,
    max_tile: int,
    views: tuple[int, ...] = (0,),
    border: int = 0,
) -> Tensor:
    """Super-resolve one band, or luma and chroma, by the Wiener filter and the network's residual.

    The Wiener filter runs over the whole image; only the network works in tiles, which overlap by its receptive field.
    A view is one of the image and its kernel, so that every kernel has all eight.

    Args:
        network: The network.
        planes: (1, 1, h, w), or (1, 3, h, w) as `blindsr.ops.color.to_planes` orders them.
        kernel: Downscaling kernel.
        conditioning: Noise levels and uncertainty of the kernel.
        dtype: Type of the network's arithmetic.
        max_tile: Side of a tile's core, LR pixels, even.
        views: Dihedral views whose residuals are averaged.
        border: LR pixels beyond the image that the result shows as well, an even number.

    Returns:
        (1, G, s·(h + 2·border), s·(w + 2·border)), not clamped.

    References:
        Timofte, Rothe, Van Gool, "Seven ways to improve example-based single image super resolution", CVPR 2016,
        section 3, for the mean of views.
    """
    scale, weights = kernel.scale, kernel.tensor(planes)
    levels = (conditioning.noise_sigma, conditioning.chroma_sigma)
    planes, margin = extend(planes, weights, scale, levels, conditioning.kernel_error)
    linear = wiener_periodic(planes, weights, scale, levels, conditioning.kernel_error)
    planes, linear = cropped(planes, margin - border), cropped(linear, scale * (margin - border))
    # The trunk works on 2×2 pixels: the last row or column of odd sides is mirrored before anything is cut or turned,
    # so that every tile and view has the same 2×2 pixels.
    size = [scale * side for side in planes.shape[-2:]]
    planes, linear = _even(planes, 1), _even(linear, scale)
    sr = linear_base(linear)
    height, width = planes.shape[-2:]
    for view in views:
        turned = dihedral(weights, view).contiguous()
        embedding = embed(turned, scale, *levels, conditioning.kernel_error, planes.shape[1] == 3)
        residual = FrozenNetwork(network, embedding, scale, dtype)
        for rows in even_spans(0, height, max_tile, network.halo):
            for columns in even_spans(0, width, max_tile, network.halo):
                seen = dihedral(planes[..., rows.outer(), columns.outer()], view).contiguous()
                filtered = dihedral(linear[..., rows.outer(scale), columns.outer(scale)], view).contiguous()
                added = dihedral_inverse(residual(seen, filtered), view)
                kept = added[..., rows.kept(scale), columns.kept(scale)]
                sr[..., rows.core(scale), columns.core(scale)] += kept / len(views)
    return sr[..., : size[0], : size[1]]


def _even(image: Tensor, scale: int) -> Tensor:
    """An image with as many of its last rows and columns repeated in reverse order as make its sides even LR pixels."""
    for axis in (-2, -1):
        if image.shape[axis] // scale % 2:
            last = image.narrow(axis, image.shape[axis] - scale, scale)
            image = torch.cat([image, last.flip(axis)], axis)
    return image


@torch.no_grad()
def clip_keeping_mean(sr: Tensor, lr: Tensor) -> Tensor:
    """Clip a result to [0, 1]; where much is clipped, it is shifted before, so that the mean is kept.

    A pattern of single pixels, such as a checkerboard or small letters, is at the frequency that deconvolution
    amplifies most. Clipped on one side more than on the other, it changes the brightness of the whole area. Edges lose
    too little to count. (To reduce the contrast instead, so that nothing is clipped, covers letters with a haze: one
    extreme value decides on that of its whole area.)

    Args:
        sr: (1, C, s·h, s·w).
        lr: The image, (1, C, h, w), whose local mean is kept.

    Returns:
        (1, C, s·h, s·w), [0, 1]; the same as plain clipping where less than `_MUCH_CLIPPED` is lost on average and the
        brightness of the area is kept.
    """
    clipped = sr.clamp(0, 1)
    loss = (clipped - sr).abs()
    if float(loss.mean()) == 0:
        return clipped
    scale = sr.shape[-1] // lr.shape[-1]

    def mean(part: Tensor, side: int = _MEAN_AREA) -> Tensor:
        # Twice, because one mean over an odd number of pixels follows the pattern of single pixels.
        return local_mean(local_mean(part, side), side)

    weight = (local_mean(loss, _CLIPPING_AREA * scale + 1) / _MUCH_CLIPPED - 1).clamp_(0, 1)
    brightness = mean(functional.avg_pool2d(clipped - sr, scale), _BRIGHTNESS_AREA).abs()
    changed = (brightness / _BRIGHTNESS_ERROR - 1).clamp_(0, 1)
    if not bool(weight.any()) and not bool(changed.any()):
        return clipped
    changed = functional.interpolate(changed, size=sr.shape[-2:], mode="bilinear", align_corners=False)
    weight = torch.maximum(weight, changed)
    shift, shifted, where = torch.zeros_like(lr), sr, functional.avg_pool2d(weight, scale)
    for _ in range(_CLIPPING_STEPS):  # Newton's: the mean grows with the shift as the share that is not clipped
        free = functional.avg_pool2d(((shifted > 0) & (shifted < 1)).to(sr), scale)
        missing = mean(lr - functional.avg_pool2d(shifted.clamp(0, 1), scale))
        # Every pixel ends by itself, so that it depends neither on other bands nor on what a tile does not contain.
        going = (missing.abs() * where / _MEAN_ERROR - 1).clamp(0, 1)
        if not bool(going.any()):
            break
        shift = shift + going * missing / mean(free).clamp_min(_MIN_FREE)
        shifted = sr + functional.interpolate(shift, size=sr.shape[-2:], mode="bilinear", align_corners=False)
    return torch.lerp(clipped, shifted.clamp(0, 1), weight)


@torch.no_grad()
def without_dark_rings(sr: Tensor, lr: Tensor, noise_sigma: float) -> Tensor:
    """Raise what is darker than anything around it in the image: the rings of a bright star on an empty background.

    The sky around a star is never darker than the sky elsewhere, but a filter that ends at the limit of the pixels
    makes it so, by some per cent of the star's peak: many times the noise of the sky. What is added to the rings is
    taken from the star, in proportion to what it has above the sky, so that its flux is kept.

    Args:
        sr: (1, C, s·h, s·w).
        lr: The image, (1, C, h, w).
        noise_sigma: Noise of its background, [0, 1] units.

    Returns:
        (1, C, s·h, s·w), at least the minimum of the image around each pixel less three standard deviations.
    """
    scale = sr.shape[-1] // lr.shape[-1]
    darkest, spread = -local_maximum(-lr, _RING_AREA), _NOISE_WIDTHS * noise_sigma
    floor, sky = (
        functional.interpolate(level, size=sr.shape[-2:], mode="nearest")
        for level in (darkest - spread, darkest + spread)
    )
    star = (sr - sky).clamp_min(0)
    added, flux = (
        local_mean(local_mean(functional.avg_pool2d(part, scale), _STAR_AREA), _STAR_AREA)
        for part in ((floor - sr).clamp_min(0), star)
    )
    share = (added / flux.clamp_min(_TINY)).clamp(max=_MAX_TAKEN)
    taken = star * functional.interpolate(share, size=sr.shape[-2:], mode="bilinear", align_corners=False)
    return torch.maximum(sr, floor) - taken


@torch.no_grad()
def back_project(
    sr: Tensor,
    planes: Tensor,
    kernel: Kernel,
    *,
    kernel_error: float = 0.0,
    border: int = 0,
    levels: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Back-projection whose upsampling operator is the Wiener filter W: x ← x + w·W(y − (x ⋆ k)↓s).

    Interpolation, the usual operator, lets errors grow where the kernel's transfer is small or negative (motion,
    defocus). The Wiener filter inverts the kernel as far as the noise allows, so that one correction is enough. It also
    amplifies the rounding of y to 8 bits, fivefold for a Gaussian of σ 0.7 LR px: on smooth images, whose difference is
    rounding alone, a full step costs up to 4 dB. The step w falls with the share of the difference that may be rounding
    (docs/notes/2026-11-28-start-on-photographs.md), for luma and chroma apart.

    Args:
        sr: x, (1, P, s·(h + 2·border), s·(w + 2·border)), P = 1 or 3.
        planes: The LR image y, (1, P, h, w); without noise.
        kernel: Downscaling kernel k.
        kernel_error: Standard deviation of the error of its transfer function.
        border: LR pixels that `sr` shows beyond the image; with none, it is continued by mirroring.
        levels: Noise of a background, of luma (or a band) and chroma, [0, 1] units: what may be noise is not corrected.

    Returns:
        The corrected planes, of the shape of `sr`.
    """
    weights, scale = kernel.tensor(sr), kernel.scale
    difference = planes - cropped(degrade(sr, weights, scale), border)
    if max(levels) > 0:
        noise = _NOISE_WIDTHS * torch.tensor([levels[0], *levels[1:] * (planes.shape[1] - 1)]).to(planes)
        difference = functional.relu(difference.abs() - noise[None, :, None, None]) * difference.sign()
    if border:
        # Nothing is known of the difference beyond the image, where its mean is 0.
        up = wiener_periodic(functional.pad(difference, (2 * border,) * 4), weights, scale, (0.0, 0.0), kernel_error)
        up = linear_base(cropped(up, 2 * border * scale))
    else:
        up = linear_base(wiener(difference, weights, scale, (0.0, 0.0), kernel_error))
    step = _correction_step(difference, up) * up
    return sr + functional.pad(step, (border * scale,) * 4)


def _border(kernel: Kernel, conditioning: Conditioning) -> int:
    """LR pixels beyond the image that a correction needs to see, an even number: none where it may be mirrored."""
    weights = kernel.tensor()
    if not has_long_inverse(weights, kernel.scale, conditioning.noise_sigma, conditioning.kernel_error):
        return 0
    return 2 * math.ceil(kernel.size / (4 * kernel.scale))


def _correction_step(difference: Tensor, up: Tensor) -> Tensor:
    """The step of `back_project` at every HR pixel, from the power of the difference around it."""
    scale, steps = up.shape[-1] // difference.shape[-1], []
    for part in (slice(0, 1), slice(1, None)):
        if not up[:, part].numel():
            continue
        size = local_mean(difference[:, part].square().mean(1, keepdim=True), _CORRECTION_AREA).sqrt()
        amplified = local_mean(
            functional.avg_pool2d(up[:, part].square().mean(1, keepdim=True), scale), _CORRECTION_AREA
        ).sqrt()
        rounding = _ROUNDING * ((amplified / size.clamp_min(1e-9) - 1) / 2).clamp(0, 1)
        step = (1 - (rounding / size.clamp_min(1e-9)).square()).clamp(0, _MAX_CORRECTION)
        step = functional.interpolate(step, scale_factor=scale, mode="bilinear", align_corners=False)
        steps.append(step.expand_as(up[:, part]))
    return torch.cat(steps, 1)


def filter_radius(kernel: Kernel, conditioning: Conditioning) -> int:
    """Distance in LR pixels beyond which the Wiener filters have negligible weight; at most twice `MAX_HALO`."""
    side, scale = 4 * MAX_HALO, kernel.scale
    point = torch.zeros(1, side, side)
    point[0, side // 2, side // 2] = 1
    response = transfer(kernel.tensor(point)[None], scale, side * scale, side * scale)
    filters = WienerFilter.of(response, scale, conditioning.kernel_error).luma(point, conditioning.noise_sigma)[0]
    weights = filters.abs().reshape(len(filters), side, scale, side, scale).amax((2, 4))
    return support_radius(weights, _TAIL)


def tile_halo(kernel: Kernel, conditioning: Conditioning, network_halo: int) -> int:
    """The halo of a tile, LR pixels: the network's receptive field, the kernel and the Wiener filter's support radius.

    A filter of longer support than `MAX_HALO` is not helped by a longer halo: what lies beyond the window is replaced
    by its conditional mean (`blindsr.ops.wiener.extend`).
    """
    linear = math.ceil(kernel.size / (2 * kernel.scale)) + filter_radius(kernel, conditioning)
    return min(math.ceil((network_halo + linear) / _HALO_STEP) * _HALO_STEP, MAX_HALO)
