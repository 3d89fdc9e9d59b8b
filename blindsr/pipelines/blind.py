"""Blind super-resolution: estimate the kernel, measure the degradation, fit the upscaler, apply it row by row.

Every job takes this path: arrays and files, small images and huge ones, an estimated kernel or a known one, one kernel
for the image or one for each band.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from blindsr.errors import ConfigError, ImageError, KernelError
from blindsr.estimators.base import KernelEstimator
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic, bicubic_in_place_of
from blindsr.kernels.kernel import AnyKernel, KernelMap, KernelStack
from blindsr.ops.bands import detailed_bands
from blindsr.ops.geometry import mirror
from blindsr.ops.windows import BandSource, LinearLightSource, Source, TensorSource, whole
from blindsr.pipelines import deblur
from blindsr.pipelines.checks import ConsistencyMeter, RegistrationCheck, consistency_warning, psnr_of
from blindsr.pipelines.crop import estimation_crop
from blindsr.pipelines.degradation import (
    Noise,
    degradation_warnings,
    is_estimated,
    kernel_error_of,
    measure_degradation,
)
from blindsr.pipelines.dials import RowDials, used_kernel, with_grain
from blindsr.pipelines.letterbox import ContentArea, content_of
from blindsr.pipelines.repair import RepairedSource, displacement_text, repaired, repaired_for_upscaling
from blindsr.pipelines.strength import is_flat_image, measure_strength, strength_warning, with_flat_bands
from blindsr.pipelines.varying import (
    MAP_STAGE,
    MIN_VARIATION,
    PositionedSource,
    blended,
    grid_shape,
    map_of,
    variation,
    window_estimate,
    windows_of,
)
from blindsr.settings import Settings
from blindsr.upscalers.base import (
    Degradation,
    TiledModel,
    Upscaler,
    check_kernel_size,
    check_size,
    concatenate_bands,
    estimates_kernel,
    is_compared,
    only_interpolates,
    removes_noise,
    uses_kernel,
)
from blindsr.upscalers.tiling import tiled_rows
from blindsr.upscalers.two_stage import FIRST_STAGE, fit_two_stages, resampled_estimate

__all__ = [
    "Fitted",
    "RunResult",
    "apply",
    "estimate_kernel",
    "fit",
    "run",
]


_RELIABLE_SIDE = 64  # px; docs/choosing.md


class RowWriter(Protocol):
    """Takes the rows of a result from top to bottom."""

    def write(self, rows: Tensor) -> None:
        """Take the next rows, (1, C, rows, W), [0, 1], on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An upscaler that is fitted to one image, and everything that led to it.

    Args:
        source: The image.
        content: The part of it that is upscaled: without letterbox bars.
        kernel: The kernel that is used, or one for each band.
        measured_kernel: The estimated or known kernel, or kernels, before their width was changed.
        estimate: How the kernel was estimated; None if it is known.
        degradations: One for the image, or one for each band.
        model: The fitted model.
        strengths: Shares of its result that are used, one, or one for each band that has a kernel.
        linear_light: Whether the source is decoded to linear light.
        keeps_flat: Whether a flat image, or the flat bands of one whose bands have kernels, are interpolated.
        extended: The content area as the model was fitted to it: a small one with mirrored borders.
        history: Curves by name ("kernelgan.…", "pretrained.loss"), one value per report.
        timings: Seconds by stage.
        warnings: Sentences for the user.
    """

    source: Source
    content: ContentArea
    kernel: AnyKernel
    measured_kernel: AnyKernel
    estimate: KernelEstimate | None
    degradations: tuple[Degradation, ...]
    model: TiledModel
    strengths: tuple[float, ...]
    linear_light: bool
    keeps_flat: bool
    extended: "MirroredSource"
    history: Mapping[str, tuple[float, ...]]
    timings: Mapping[str, float]
    warnings: tuple[str, ...]

    def applied_to(self, source: Source, upscaler: Upscaler) -> "Fitted":
        """The same model for another image of the same series, as the frames of a film are one."""
        source = LinearLightSource(source) if self.linear_light else source
        content = content_of(source)
        extended = MirroredSource(content, upscaler.min_side(self.model.scale))
        return replace(self, source=source, content=content, extended=extended)

    def model_for_flat_bands(self) -> TiledModel:
        """The model, which interpolates the image or those bands that are flat, if these are to be kept so."""
        if not self.keeps_flat:
            return self.model
        bands = range(self.content.shape[0]) if isinstance(self.kernel, KernelStack) else ()
        parts: list[Source] = [BandSource(self.content, band) for band in bands] or [self.content]
        return with_flat_bands(self.model, [is_flat_image(part) for part in parts])


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A super-resolved image and everything that led to it.

    Args:
        image: (1, C, H, W), [0, 1]; None where the rows went to a writer.
        size: Height and width of the result.
        kernel: The kernel that was used, that of the first band, or the mean of a map.
        band_kernels: The kernels of the bands, where each had its own.
        kernel_map: The kernels that vary over the image, where they do.
        estimate: How the kernel was estimated, with its measured width; None if it was known.
        measured_kernel: The estimated or known kernel, or those of the bands, before `Settings.kernel_width`.
        degradation: The measured degradation (of the first band, where each has its own).
        strengths: Shares of the result that were used, one, or one for each band that has a kernel of its own.
        settings: The settings of the run.
        history: Curves by name, one value per report.
        timings: Seconds by stage.
        consistency_db: PSNR between the input and the result degraded by the kernel, dB; before halo and strength.
        is_inconsistent: Whether `consistency_db` is lower than usual with the noise of the photograph.
        dtype: Type of the network's arithmetic, "bfloat16" or "float32".
        warnings: Sentences for the user.
    """

    image: Tensor | None
    size: tuple[int, int]
    kernel: Kernel
    band_kernels: KernelStack | None
    kernel_map: KernelMap | None
    estimate: KernelEstimate | None
    measured_kernel: AnyKernel
    degradation: Degradation
    strengths: tuple[float, ...]
    settings: Settings
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    consistency_db: float = float("inf")
    is_inconsistent: bool = False
    dtype: str = "float32"
    warnings: tuple[str, ...] = ()


def run(
    source: Source,
    settings: Settings | None = None,
    *,
    kernel: AnyKernel | None = None,
    tile: int | None = None,
    listener: Listener = ignore,
) -> RunResult:
    """Super-resolve an image in memory: the whole method.

    Args:
        source: The image; everything runs on its device.
        settings: The default preset if None.
        kernel: A known kernel for `settings.kernel_scale`, or one for each band; None estimates it from the image.
        tile: Side of a tile, LR pixels; None chooses one.
        listener: Receives the events of the run.

    Returns:
        The result with its image, (1, C, round(r·H), round(r·W)) for a scale r. A real r, a size, and factors that
        differ by axis are run at the next whole-number factor and resized.

    Raises:
        ImageError: Too small for the method.
        KernelError: The kernel is for another scale, or far larger than the image.
        ConfigError: The region is not inside the image, or the scale is not among the method's `scales`.
        DivergenceError: A training diverged.
    """
    settings = Settings() if settings is None else settings
    _, height, width = source.shape
    settings = settings.for_image(height, width)
    fitted = fit(source, settings, kernel=kernel, listener=listener)
    writer = ArrayWriter(source.shape[0], settings.output_size(height, width))
    result = apply(fitted, settings, writer, tile=tile, listener=listener)
    return replace(result, image=writer.image.to(source.device))


def estimate_kernel(
    source: Source,
    settings: Settings | None = None,
    *,
    fallback: bool = False,
    is_repaired: bool = False,
    listener: Listener = ignore,
) -> KernelEstimate:
    """Estimate the downscaling kernel of an image.

    Args:
        source: The image.
        settings: The estimator, its settings, and the region to estimate from; the default preset if None.
        fallback: Whether an image that is too small for the estimator gets the bicubic kernel and a warning.
        is_repaired: Whether `repaired_for_upscaling` has examined the image already, and has found something or not.
        listener: Receives the events.

    Returns:
        A kernel for `settings.run_scale`, and how it was estimated; with `settings.varying` a map of kernels, if they
        differ by more than their errors. For the scale 1 see `blindsr.pipelines.deblur.estimate_blur`.

    Raises:
        ImageError: Too small for the estimator, without `fallback`.
        ConfigError: The region is not inside the image, the size does not enlarge it, or the estimator does not know
            the scale.
        DivergenceError: A training diverged.
    """
    settings = (Settings() if settings is None else settings).for_image(*source.shape[1:])
    is_repaired = is_repaired or isinstance(source, RepairedSource)
    estimator, displaced = settings.create_estimator(), tuple[str, ...]()
    crop = estimation_crop(source, settings.region)
    if not is_repaired or settings.denoise == 0:  # the kernel is measured without noise that is kept in the result
        settings_of_crop = replace(settings, align_colors=settings.align_colors and not is_repaired)
        repaired_crop, _ = repaired(TensorSource(crop), settings_of_crop)
        crop = whole(repaired_crop)
        if isinstance(repaired_crop, RepairedSource) and repaired_crop.displacements:
            text = displacement_text(repaired_crop.displacements)
            displaced = (f"{text}; the kernel is that of colours that lie on each other.",)
    crop = detailed_bands(crop)  # luma has a ninth of the contrast of an image in blue alone
    height, width = crop.shape[-2:]
    scale = settings.run_scale
    if min(height, width) < estimator.min_side:
        if settings.region is None and min(source.shape[1:]) < estimator.min_side:
            _, height, width = source.shape  # and not what is left of it without its borders
        needs = f"the {estimator.name} estimator needs at least {estimator.min_side}×{estimator.min_side} px"
        if not fallback:
            raise ImageError(f"{needs}, got {width}×{height} px; choose a larger image or region, or a known kernel.")
        what = "image" if settings.region is None else "region"
        warning = (
            f"the {what} is too small to measure a blur ({needs}, got {width}×{height} px); the bicubic kernel is used."
        )
        listener(Notice(stage=estimator.name, message=warning))
        kernel = bicubic_in_place_of(estimator.name, scale)
        return KernelEstimate(kernel=kernel, method=estimator.name, warnings=(warning,))
    estimate = _estimated(crop, estimator, settings, listener)
    for text in displaced:
        listener(Notice(stage=estimator.name, message=text))
    estimate = replace(estimate, warnings=(*displaced, *estimate.warnings)) if displaced else estimate
    if min(height, width) < _RELIABLE_SIDE and not estimate.kernel.is_plain_reduction:
        warning = (
            f"the kernel was estimated from {width}×{height} px: under {_RELIABLE_SIDE} px a side it can hardly be "
            "measured; compare the result with that of the bicubic kernel."
        )
        listener(Notice(stage=estimator.name, message=warning))
        estimate = replace(estimate, warnings=(*estimate.warnings, warning))
    if not settings.varying:
        return estimate
    return _estimated_map(estimate, content_of(source), estimator, settings, listener)


def _estimated(
    crop: Tensor, estimator: KernelEstimator, settings: Settings, listener: Listener = ignore
) -> KernelEstimate:
    """The estimate from a part of an image, for `settings.run_scale`."""
    scale = settings.run_scale
    direct = scale in estimator.scales or scale not in FIRST_STAGE
    with torch.random.fork_rng(devices=[]):  # whatever a method draws, the caller's generator is left unchanged
        held = deblur.HeldNotices(listener)
        estimate = estimator.estimate(
            crop, scale if direct else FIRST_STAGE[scale], listener=held if settings.scale == 1 else listener
        )
        if settings.scale == 1:
            found = deblur.estimate_blur(estimate, crop, estimator, listener)
            if found is estimate:
                held.release()
            estimate = found
    return estimate if direct else resampled_estimate(estimate, scale)


def _estimated_map(
    one: KernelEstimate, source: Source, estimator: KernelEstimator, settings: Settings, listener: Listener
) -> KernelEstimate:
    """The estimate with the map of a kernel that varies, or with the reason why one kernel is used."""
    _, height, width = source.shape
    shape, windows = grid_shape(height, width), []
    text = f"{width}×{height} px are too few for a map of kernels"
    if shape != (1, 1):
        listener(StageStarted(stage=MAP_STAGE, max_steps=math.prod(shape)))
        for number, window in enumerate(windows_of(height, width), 1):
            windows.append(window_estimate(_estimated(source.window(*window), estimator, settings)))
            listener(StepDone(stage=MAP_STAGE, step=number))
        listener(StageDone(stage=MAP_STAGE, steps=len(windows)))
        differ = variation(windows)
        one = replace(one, metrics={**one.metrics, "kernel_variation": differ})
        if differ > MIN_VARIATION:
            kernels = map_of(windows, shape, estimator.name)
            return replace(one, kernel=kernels.mean, kernel_map=kernels, warnings=())
        text = f"the kernels of {len(windows)} parts of the photograph do not differ by more than their errors"
    warning = f"{text}; one kernel is used for all of it."
    listener(Notice(stage=estimator.name, message=warning))
    return replace(one, warnings=(*one.warnings, warning))


def fit(
    source: Source,
    settings: Settings,
    *,
    kernel: AnyKernel | None = None,
    compression_sigma: float = 0.0,
    file_format: str = "",
    linear_light: bool = False,
    noise: Sequence[Noise] | None = None,
    listener: Listener = ignore,
) -> Fitted:
    """The first half of the method: kernel, degradation, fitted model. Its cost does not grow with the image.

    Args:
        source: The image.
        settings: For this image (`Settings.for_image`).
        kernel: A known kernel, or one for each band; None estimates it.
        compression_sigma: Error that the codec of the file left, [0, 1] units.
        file_format: `PhotoHeader.format` of the image; "" if it is unknown.
        linear_light: The source is decoded to linear light, and was repaired before.
        noise: What was measured before, one for the image, or one for each band that has a kernel; None measures it.
        listener: Receives the events.

    Raises:
        ImageError, KernelError, ConfigError, DivergenceError: As `run`.
    """
    timings: dict[str, float] = {}
    upscaler, is_given = settings.create_upscaler(), kernel is not None
    repairs = tuple[str, ...]()
    if not linear_light:
        source, repairs = repaired_for_upscaling(source, settings, kernel)
    measured, estimate = _measured_kernel(source, settings, kernel, upscaler, timings, listener)
    kernel = used_kernel(measured, settings if uses_kernel(upscaler) else replace(settings, kernel_width=1.0))
    _check_kernel(kernel, upscaler, source, settings)
    started = time.perf_counter()
    content = content_of(source)
    extended = MirroredSource(content, upscaler.min_side(settings.run_scale))
    warnings = [*repairs, *(estimate.warnings if estimate else ())]
    warnings += _without_effect(upscaler, settings, kernel_is_given=is_given)
    if not removes_noise(upscaler):
        settings = replace(settings, denoise="auto")  # nothing is removed that could be put back
    parts: list[tuple[Source, Source, Kernel, str]] = [(content, extended, kernel.representative, "")]
    if isinstance(kernel, KernelStack):
        parts = [
            (BandSource(content, i), BandSource(extended, i), each, f"band {kernel.names[i]}: ")
            for i, each in enumerate(kernel.kernels)
        ]
    is_repeated = estimate is not None and max(estimate.repetition) > 1 and is_compared(upscaler)
    degradations, models, strengths = [], [], []
    for number, (part, extended_part, part_kernel, prefix) in enumerate(parts):
        degradation = measure_degradation(
            part,
            part_kernel,
            estimate,
            settings,
            compression_sigma=compression_sigma,
            linear_light=linear_light,
            noise=None if noise is None else noise[number],
        )
        texts = degradation_warnings(
            degradation,
            settings,
            compression_sigma=compression_sigma,
            file_format=file_format,
            removes_noise=removes_noise(upscaler) and settings.strength != 0 and not is_repeated,
        )
        model = _fit_upscaler(upscaler, extended_part, degradation, listener)
        strength, model = _strength(
            model, upscaler, part, settings, degradation, is_given=not is_estimated(part_kernel, estimate)
        )
        if is_repeated and settings.strength == "auto":
            strength = 0.0  # as the warning of the estimate says
        elif settings.strength == "auto" and not only_interpolates(upscaler):
            texts = (*texts, *strength_warning(strength, settings.scale))
        if isinstance(kernel, KernelMap):
            model = _fit_map(model, upscaler, extended, kernel, degradation, settings, listener)
        else:
            model = with_grain(model, degradation, settings)
        degradations.append(degradation)
        models.append(model)
        strengths.append(strength)
        warnings += [prefix + text for text in texts]
    model = concatenate_bands(models, kernel.names) if isinstance(kernel, KernelStack) else models[0]
    timings["fit"] = time.perf_counter() - started
    if model.kernel is not None:
        kernel = measured = model.kernel
        estimate = KernelEstimate(kernel=model.kernel, method=upscaler.name)
        degradations = [replace(degradation, kernel=kernel) for degradation in degradations]
    history = {} if estimate is None else {f"{estimate.method}.{name}": v for name, v in estimate.history.items()}
    return Fitted(
        source=source,
        content=content,
        kernel=kernel,
        measured_kernel=measured,
        estimate=estimate,
        degradations=tuple(degradations),
        model=model,
        strengths=tuple(strengths),
        linear_light=linear_light,
        keeps_flat=settings.strength == "auto" and _is_compared(model, upscaler, settings),
        extended=extended,
        history=history | {f"{upscaler.name}.{name}": values for name, values in model.history.items()},
        timings=timings,
        warnings=(*warnings, *model.warnings),
    )


def _measured_kernel(
    source: Source,
    settings: Settings,
    kernel: AnyKernel | None,
    upscaler: Upscaler,
    timings: dict[str, float],
    listener: Listener,
) -> tuple[AnyKernel, KernelEstimate | None]:
    """The known kernel, or the estimated one and how it was estimated; a blind upscaler begins with the bicubic one."""
    if kernel is not None:
        return kernel, None
    if estimates_kernel(upscaler):
        return bicubic(settings.run_scale), None
    started = time.perf_counter()
    estimate = estimate_kernel(source, settings, fallback=True, is_repaired=removes_noise(upscaler), listener=listener)
    timings["kernel"] = time.perf_counter() - started
    return estimate.kernel_map or estimate.kernel, estimate


def _check_kernel(kernel: AnyKernel, upscaler: Upscaler, source: Source, settings: Settings) -> None:
    """Refuse a kernel that an image or an upscaler cannot be run with, before the image is extended to its least size.

    Raises:
        KernelError: It is for another scale, far larger than the image, or has another number of bands.
        ConfigError: The upscaler takes one kernel for the whole image.
    """
    if kernel.scale != settings.run_scale:
        raise KernelError(
            f"the run at ×{settings.scale:g} needs a kernel for scale {settings.run_scale}, this one is for scale "
            f"{kernel.scale}; blindsr.kernels.resample converts it."
        )
    for each in kernel.flat:
        check_kernel_size(each, source.shape)
    if estimates_kernel(upscaler) and not isinstance(kernel, Kernel):
        raise ConfigError(f"{upscaler.name} estimates one kernel for the whole image; choose another upscaler.")
    if upscaler.needs_whole_image and isinstance(kernel, KernelMap):
        raise ConfigError(
            f"{upscaler.name} needs the whole image at once, and a kernel map is applied by parts of it; choose "
            "another upscaler, or one kernel."
        )
    if isinstance(kernel, KernelStack):
        kernel.check_channels(source.shape[0])


def _without_effect(upscaler: Upscaler, settings: Settings, *, kernel_is_given: bool) -> list[str]:
    """Warnings of what was given and changes nothing with an upscaler, or with a known kernel."""
    warnings, is_blind = [], estimates_kernel(upscaler)
    if is_blind and kernel_is_given:
        warnings.append(f"{upscaler.name} estimates its own kernel; the given one is not used.")
    if settings.kernel_width != 1 and (is_blind or not uses_kernel(upscaler)):
        why = "estimates its own kernel" if is_blind else "does not use the kernel"
        warnings.append(f"{upscaler.name} {why}, whose width (kernel_width, --kernel-width) has no effect.")
    names = {
        "denoise (--denoise)": settings.denoise != "auto",
        "noise_sigma (--noise)": settings.noise_sigma is not None,
    }
    given = [name for name, is_given in names.items() if is_given]
    if given and not removes_noise(upscaler):
        verb = "has" if len(given) == 1 else "have"
        warnings.append(f"{upscaler.name} removes no noise: {' and '.join(given)} {verb} no effect.")
    if settings.scale == 1 and only_interpolates(upscaler):
        warnings.append(f"{upscaler.name} only interpolates: without enlarging, the photograph stays as it is.")
    elif settings.strength != "auto" and settings.upscaler == "bicubic":
        warnings.append("strength (--strength) mixes with bicubic interpolation, which this is: it has no effect.")
    if settings.region is not None:
        why = ""
        if kernel_is_given:
            why = "the kernel is given"
        elif is_blind:
            why = f"{upscaler.name} estimates the kernel from the whole image"
        elif settings.estimator == "bicubic":
            why = "the bicubic kernel does not depend on the image"
        if why:
            warnings.append(f"{why}: the region (region, --region) has no effect.")
    return warnings


def _fit_map(
    fitted: TiledModel,
    upscaler: Upscaler,
    extended: "MirroredSource",
    kernel_map: KernelMap,
    degradation: Degradation,
    settings: Settings,
    listener: Listener,
) -> TiledModel:
    """The joint model of a kernel map, of the model that is fitted to its mean; equal kernels are fitted once."""
    models: dict[tuple[str, float], TiledModel] = {}
    order = []
    for kernel in kernel_map.flat:
        error = kernel_error_of(kernel, None) if settings.kernel_error is None else settings.kernel_error
        key = (kernel.digest, error)
        if key not in models:
            own = replace(degradation, kernel=kernel, kernel_error=error)
            model = fitted.with_kernel(own) if fitted.with_kernel else _fit_upscaler(upscaler, extended, own, listener)
            models[key] = with_grain(model, own, settings)
        order.append(models[key])
    return replace(blended(order, kernel_map, extended.inner_size), steps=fitted.steps)


def _strength(
    model: TiledModel,
    upscaler: Upscaler,
    source: Source,
    settings: Settings,
    degradation: Degradation,
    *,
    is_given: bool,
) -> tuple[float, TiledModel]:
    """The share of a model's result that is used, and the model with what has been computed of it."""
    if settings.scale == 1 and only_interpolates(upscaler):
        return 0.0, model
    if settings.strength != "auto":
        return settings.strength, model
    if not _is_compared(model, upscaler, settings):
        return 1.0, model
    if is_given:  # saturated lettering contradicts its true kernel as well
        return measure_strength(model, source, "given")
    return measure_strength(model, source, "estimated", degradation)


def _is_compared(model: TiledModel, upscaler: Upscaler, settings: Settings) -> bool:
    """Whether results are compared with interpolation: a kernel width that the user has chosen is applied in full."""
    return not model.whole_image and settings.kernel_width == 1 and is_compared(upscaler)


def _fit_upscaler(upscaler: Upscaler, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
    scale = degradation.scale
    with torch.random.fork_rng(devices=[]):
        if scale in FIRST_STAGE and scale not in upscaler.scales and not upscaler.needs_whole_image:
            return fit_two_stages(upscaler, source, degradation, listener=listener)
        check_size(upscaler, source.shape, degradation.kernel)
        return upscaler.fit(source, degradation, listener=listener)


def apply(
    fitted: Fitted,
    settings: Settings,
    writer: RowWriter,
    *,
    tile: int | None = None,
    listener: Listener = ignore,
) -> RunResult:
    """The second half of the method: apply the model from top to bottom, check the rows, and hand them to a writer.

    Args:
        fitted: The fitted upscaler.
        settings: For this image.
        writer: Receives the rows of the result.
        tile: Side of a tile, LR pixels; None chooses one.
        listener: Receives the events.

    Raises:
        ImageError: The smallest tile does not fit into memory.
        DivergenceError: A result is not finite.
    """
    started = time.perf_counter()
    source, content, kernel, scale = fitted.source, fitted.content, fitted.kernel, fitted.model.scale
    size = settings.output_size(*source.shape[1:])
    first, seen = kernel.representative, fitted.extended.positioned() if isinstance(kernel, KernelMap) else None
    if isinstance(kernel, KernelStack):
        meters = [ConsistencyMeter(BandSource(content, i), k) for i, k in enumerate(kernel.kernels)]
    else:
        meters = [ConsistencyMeter(content, kernel)]
    is_unchecked = isinstance(kernel, KernelMap) or is_estimated(first, fitted.estimate)
    check = None if is_unchecked else RegistrationCheck(content, first)
    dials = RowDials(content, settings, size, fitted.strengths)
    resizer = content.resizer(scale, size)

    def checked() -> Iterator[Tensor]:
        """The rows of the content area."""
        tiles = tiled_rows(fitted.model_for_flat_bands(), seen or fitted.extended, tile=tile, listener=listener)
        for rows in fitted.extended.inner_rows(tiles, scale):
            for number, meter in enumerate(meters):
                meter.update(rows if len(meters) == 1 else rows[:, number : number + 1])
            if check is not None:
                check.update(rows)
            yield from map(dials, resizer.push(rows))
            del rows  # not kept while the next rows are made

    for finished in content.with_letterbox(checked(), size):
        writer.write(finished)
    consistency_db = psnr_of(meters)
    unexplained = max(degradation.unexplained_sigma for degradation in fitted.degradations)
    upscaler = settings.create_upscaler()
    inconsistent: tuple[str, ...] = ()
    if uses_kernel(upscaler) or estimates_kernel(upscaler):
        inconsistent = consistency_warning(consistency_db, unexplained, kernel_width=settings.kernel_width)
    displaced = check.warning() if check is not None else ()
    return RunResult(
        image=None,
        size=size,
        kernel=first,
        band_kernels=kernel if isinstance(kernel, KernelStack) else None,
        kernel_map=kernel if isinstance(kernel, KernelMap) else None,
        estimate=fitted.estimate,
        measured_kernel=fitted.measured_kernel,
        degradation=fitted.degradations[0],
        strengths=fitted.strengths,
        settings=settings,
        history=fitted.history,
        timings={**fitted.timings, "apply": time.perf_counter() - started},
        consistency_db=consistency_db,
        is_inconsistent=bool(inconsistent),
        dtype=fitted.model.dtype,
        warnings=(*fitted.warnings, *inconsistent, *displaced),
    )


class MirroredSource:
    """An image whose short sides are extended to a minimum by mirrored borders, equally on both ends.

    Args:
        source: The image.
        min_side: Smallest side, px; an image whose sides are no shorter is left unchanged.
    """

    def __init__(self, source: Source, min_side: int) -> None:
        self._source, self.device = source, source.device
        bands, height, width = source.shape
        self._top, self._left = max(0, min_side - height + 1) // 2, max(0, min_side - width + 1) // 2
        self.shape = (bands, max(height, min_side), max(width, min_side))

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w)."""
        if self.shape == self._source.shape:
            return self._source.window(rows, columns)
        _, height, width = self._source.shape
        row_index = mirror(torch.arange(rows.start, rows.stop) - self._top, height)
        column_index = mirror(torch.arange(columns.start, columns.stop) - self._left, width)
        first, left = int(row_index.min()), int(column_index.min())
        window = self._source.window(slice(first, int(row_index.max()) + 1), slice(left, int(column_index.max()) + 1))
        index = (row_index - first).to(window.device), (column_index - left).to(window.device)
        return window.index_select(-2, index[0]).index_select(-1, index[1])

    @property
    def inner_size(self) -> tuple[int, int]:
        """Height and width of the image without its mirrored borders."""
        return self._source.shape[1:]

    def positioned(self) -> PositionedSource:
        """The extended image with the places of its pixels in the image itself."""
        return PositionedSource(self, (-self._top, -self._left))

    def inner_rows(self, results: Iterator[Tensor], scale: int) -> Iterator[Tensor]:
        """The rows of the image itself, of the rows of an enlarged result for the extended image."""
        _, height, width = self._source.shape
        first, last, row = scale * self._top, scale * (self._top + height), 0
        columns = slice(scale * self._left, scale * (self._left + width))
        for rows in results:
            start, row = row, row + rows.shape[-2]
            inner = rows[..., max(0, first - start) : max(0, last - start), columns]
            if inner.shape[-2]:
                yield inner


class ArrayWriter:
    """Collects the rows of a result in memory.

    Args:
        bands: C.
        size: Height and width of the result.
    """

    def __init__(self, bands: int, size: tuple[int, int]) -> None:
        self.image = torch.empty((1, bands, *size))
        self._next = 0

    def write(self, rows: Tensor) -> None:
        """Take the next rows, (1, C, rows, W)."""
        self.image[..., self._next : self._next + rows.shape[-2], :] = rows
        self._next += rows.shape[-2]
