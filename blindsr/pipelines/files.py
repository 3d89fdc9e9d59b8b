"""Jobs on files: a photograph in; a larger photograph, its kernel and the record of the run out.

A file with several images, an animation or a stack of pages, is one series: one kernel and one noise level for all of
its images, and one fitted model, so that nothing flickers that does not flicker in the file.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import ConfigError, ImageError, OutputError
from blindsr.events import Event, Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.image_io import (
    ALL_PAGES,
    DEFAULT_FILES,
    Animation,
    FileOptions,
    FileSource,
    FrameSource,
    ImageSource,
    PhotoHeader,
    Strip,
    check_format,
    default_suffix,
    image_size,
    open_frames,
    open_image,
    open_writer,
    with_provenance,
    without_metadata,
)
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.files import KernelLike, as_kernel, kernel_bytes
from blindsr.kernels.kernel import AnyKernel, KernelMap, KernelStack
from blindsr.kernels.plot import kernel_plot_png, map_plot_png, stack_plot_png
from blindsr.ops.color import linear_to_srgb, to_planes
from blindsr.ops.resize import RowBuffer, imresize_rows
from blindsr.ops.windows import BandSource, LinearLightSource, Source, most_textured, spread_windows
from blindsr.pipelines import blind
from blindsr.pipelines.alpha import AlphaSource, alpha_rows
from blindsr.pipelines.bars import picture_of
from blindsr.pipelines.blind import Fitted, RunResult
from blindsr.pipelines.crop import estimation_crop
from blindsr.pipelines.degradation import (
    LinearLight,
    Noise,
    common_noise,
    compression_error,
    decide_linear_light,
    measure_noise,
)
from blindsr.pipelines.memory import choose_tile, pixel_bytes_of
from blindsr.pipelines.outputs import Outputs, Staging, check_outputs, image_outputs, kernel_outputs, staged
from blindsr.pipelines.record import distinct, file_record, grouped, provenance_of, record_bytes
from blindsr.pipelines.repair import repaired_for_upscaling
from blindsr.pipelines.shared_kernel import estimate_shared_kernel
from blindsr.runtime import choose_device
from blindsr.settings import Settings

__all__ = [
    "ONE_OF_FRAMES",
    "ColorSource",
    "FileResult",
    "ImageRows",
    "estimate_file_kernel",
    "fit_image",
    "measured_frames",
    "tile_for",
    "upscale_file",
]

STAGE = "photo"
_FRAMES_STAGE = "frames"
_NO_MAP_OF_FRAMES = (
    "the images of one file have one kernel, and no map: varying (--varying) is for single images; choose one by page "
    "(--page)."
)
_MEASURED_FRAMES = 8  # of a series, for its kernel and its noise
_DETAIL = (96, 9)  # side and number of the parts of an image of a series whose detail is compared
#: What may be done where one kernel does not fit all images of a file.
ONE_OF_FRAMES = "an image that is chosen by page (--page) is upscaled with a kernel of its own"
_EXTENSION_WINDOWS = ((1.0, 1.0), (3.0, 1e-2), (9.0, 1e-4))  # σ in px and weight of the means of visible colours
_EXTENSION_RADII = 4.0  # radius of a window in σ
_EXTENSION = 36  # px, the largest radius
_EXTENSION_FADE = 1e-9  # weight of mid-grey
_NAMED_IMAGES = 5  # of a series in a message
_ROWS = 256  # rows of the result that are handed to the image writer together


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """The result of a job on a file.

    Args:
        outputs: The files that were written.
        kernel: The kernel that was used or estimated.
        run: The result of the pipeline; None where only the kernel was estimated.
        record: The content of the .json file.
        warnings: Sentences for the user.
        seconds: From opening the photograph to the last file.
    """

    outputs: Outputs
    kernel: Kernel
    run: RunResult | None
    record: Mapping[str, object]
    warnings: tuple[str, ...]
    seconds: float


class ColorSource:
    """The colour bands of an image as a `Source` of tensors, extended under transparent pixels where it has alpha.

    A transparent pixel has no colour of its own: it gets the mean of the visible ones around it, so that no edge of the
    opacity is an edge of the colours, and no hidden colour bleeds into visible ones.

    A grey image in three equal bands is one band, which `ImageRows` repeats: as a colour image it would get a tint from
    the network, whose chroma is not exactly zero. That is decided for the whole image, so that a grey part of a colour
    photograph has no seams.

    Args:
        image: The open image.
        device: Device of the windows.
        is_grey: Whether to give one of the three bands, `ImageSource.is_grey`.
    """

    def __init__(self, image: ImageSource, device: torch.device, *, is_grey: bool = False) -> None:
        self._image, self.device = image, device
        self._bands = slice(1 if is_grey else image.channels)
        self.shape = (self._bands.stop, *image.shape[1:])

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w), float32, [0, 1]."""
        if not self._image.is_transparent:
            pixels = self._image.window(rows, columns).pixels[..., self._bands]
        else:
            _, height, width = self.shape
            top, left = max(0, rows.start - _EXTENSION), max(0, columns.start - _EXTENSION)
            outer = slice(top, min(height, rows.stop + _EXTENSION)), slice(left, min(width, columns.stop + _EXTENSION))
            photo = self._image.window(*outer)
            colors = photo.pixels[..., self._bands]
            extended = colors if photo.alpha is None else extend_colors(colors, photo.alpha)
            pixels = extended[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].to(self.device)


def extend_colors(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give transparent pixels the mean colour of the visible ones around them; far from these it fades to grey.

    Args:
        pixels: (H, W, C), not premultiplied.
        alpha: (H, W), [0, 1]; colours where it is above 0 are left unchanged.

    Returns:
        (H, W, C). A pixel depends on those within `_EXTENSION` pixels.
    """
    hidden = alpha <= 0
    if not hidden.any():
        return pixels
    filled = pixels.astype(np.float32, copy=True)
    weight = np.zeros_like(alpha)
    color = np.zeros_like(filled)
    # From near to far: the nearest visible pixels dominate by the larger weight of a narrow window.
    for sigma, share in _EXTENSION_WINDOWS:
        radius = int(_EXTENSION_RADII * sigma)
        weight += share * scipy.ndimage.gaussian_filter(alpha, sigma, mode="constant", radius=radius)
        for band in range(filled.shape[2]):
            visible = alpha * pixels[..., band]
            color[..., band] += share * scipy.ndimage.gaussian_filter(visible, sigma, mode="constant", radius=radius)
    extended = (color + _EXTENSION_FADE * 0.5) / (weight + _EXTENSION_FADE)[..., None]
    filled[hidden] = extended[hidden]
    return filled


@dataclass
class _Job:
    """Warnings and timings that are collected while a job runs."""

    listener: Listener
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def warn(self, sentences: tuple[str, ...]) -> None:
        """Report warnings now, and keep them for the record."""
        for sentence in sentences:
            self.listener(Notice(stage=STAGE, message=sentence))
        self.warnings.extend(sentences)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to those of a stage."""
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return time.perf_counter() - self.started


def upscale_file(
    path: str | Path,
    settings: Settings | None = None,
    *,
    kernel: KernelLike | None = None,
    noise: Noise | None = None,
    kernel_warnings: tuple[str, ...] = (),
    linear_light: LinearLight = "auto",
    output: str | Path | None = None,
    output_stem: Path | None = None,
    run_id: str | None = None,
    overwrite: bool = False,
    device: str | torch.device = "auto",
    files: FileOptions = DEFAULT_FILES,
    max_memory: int | None = None,
    listener: Listener = ignore,
) -> FileResult:
    """Upscale a photograph, and write the kernel, its plot and a record beside the result.

    The photograph is read, upscaled and written by rows, so that memory does not grow with its height. Alpha is
    upscaled separately (`blindsr.pipelines.alpha`); the colours are extended under transparent pixels and upscaled as
    they are, so that neither hidden colours nor the edges of the opacity change visible ones.

    With `files.page` = "all" the result has all frames or pages of the file. Those of one channel have one kernel (the
    mean of the estimates from some of them), one noise level (the median) and one range of values.

    Args:
        path: The photograph.
        settings: The default preset if None.
        kernel: A known kernel for `settings.kernel_scale`, or one for each band, as anything that `as_kernel` takes;
            None estimates it. Of a file that is one band, by its name ("…_B04_10m.jp2"), the kernel of that band is
            used.
        noise: The noise of the series that the photograph is part of; used if its own, measured, is near it.
        kernel_warnings: Warnings from reading the kernel, for the record.
        linear_light: With a known kernel: whether to undo the sRGB curve before upscaling ("auto", "on" or "off").
        output: The image to write; None is PHOTO_blindsr_x2.png (or .tif) beside the photograph, with a requested page
            PHOTO_page2_blindsr_x2.png.
        output_stem: Instead of `output`: its path without the suffix, which the photograph's samples then decide.
        run_id: Name of this job in a batch, kept in the record; hidden folders of killed jobs are recognised by it
            (`blindsr.pipelines.outputs.leftovers`).
        overwrite: Replace results that exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps", or a `torch.device`.
        files: How images are read and written.
        max_memory: Bytes that the job may use; None is what is free.
        listener: Receives the events.

    Returns:
        The files, and the pipeline's result.

    Raises:
        ImageError: The file is no usable photograph, or the work does not fit into memory.
        OutputError: A result exists, or cannot be written; no file of this run is left then.
        KernelError: The kernel is for another scale or far larger than the image.
        ConfigError: A setting does not fit the photograph.
        DeviceError: The device does not exist on this machine.
        DivergenceError: A training diverged.
    """
    settings = Settings() if settings is None else settings
    path, output = Path(path), None if output is None else Path(output)
    kernel = None if kernel is None else given_kernel(kernel, settings, [path])
    job, torch_device = _Job(listener), choose_device(device)
    if isinstance(kernel, KernelStack) and (band := kernel.of_file(path.name)) is not None:
        others = tuple(f"band {name}: " for name in kernel.names if name != band[0])
        kernel_warnings = tuple(text for text in kernel_warnings if not text.startswith(others))
        kernel = band[1]
        listener(Notice(stage=STAGE, message=f"the kernel of band {band[0]}, by the name of the file", is_plain=True))
    if files.page == ALL_PAGES:
        with job.timed("read"):
            frames = open_frames(path, options=files)
        with frames:
            if len(frames) > 1:
                return _upscale_frames(
                    frames,
                    settings,
                    job,
                    kernel=kernel,
                    kernel_warnings=kernel_warnings,
                    linear_light=linear_light,
                    output=output,
                    output_stem=output_stem,
                    run_id=run_id,
                    overwrite=overwrite,
                    device=torch_device,
                    files=files,
                    max_memory=max_memory,
                )
        files = replace(files, page=None)
    with _opened(path, files, job, advises_all_pages=True) as image:
        width, height = image.size
        settings = settings.for_image(height, width)
        header = without_metadata(image.header) if files.strip_metadata else image.header
        job.warn((*header.warnings, *settings.shape_warnings(height, width)))
        suffix = files.suffix(default_suffix(header, image.channels))
        if output_stem is not None:
            output = output_stem.with_name(output_stem.name + suffix)
        outputs = image_outputs(files.named(path), settings.label, suffix, output)
        _check_outputs(image, path, header, settings, outputs, kernel, files, overwrite=overwrite)
        out_height, out_width = settings.output_size(height, width)
        tile = tile_for(image, settings, torch_device, max_memory)
        own = None
        if noise is not None:
            repaired_image, _ = repaired_for_upscaling(ColorSource(image, torch_device), settings, kernel)
            own = measure_noise(picture_of(repaired_image))
        fitted, linear = fit_image(
            image,
            settings,
            kernel=kernel,
            linear_light=linear_light,
            device=torch_device,
            noise=None if noise is None or own is None else (noise if own.is_near(noise) else own,),
            listener=listener,
        )
        with staged(outputs, run_id) as staging:
            used = blind.representative(fitted.kernel)
            if not files.strip_metadata:
                header = with_provenance(header, provenance_of(settings, used, image.sha256))
            with open_writer(
                staging.path(outputs.result),
                header,
                size=(out_width, out_height),
                channels=image.channels,
                quality=files.quality,
            ) as image_writer:
                alpha = alpha_rows(image, settings, torch_device, tile)
                writer = ImageRows(image_writer, image, (out_height, out_width), linear=linear, alpha=alpha)
                result = blind.apply(fitted, settings, writer, tile=tile, listener=listener)
            job.warn(image_writer.warnings)
            job.warnings.extend((*kernel_warnings, *result.warnings))
            result = replace(result, timings={**result.timings, "write": writer.seconds})
            job.timings.update(result.timings)
            return _finish(job, path, image, settings, torch_device, outputs, staging, result, run_id, overwrite)


def common_scale(settings: Settings, paths: Sequence[Path]) -> int:
    """The whole-number scale at which all images are run, for which one kernel for all of them must be.

    Raises:
        ConfigError: The settings have an output size, and it means different scales, does not enlarge an image, or no
            header gives the size of an image.
    """
    if settings.size is None:
        return settings.kernel_scale
    sizes = [size for path in paths if (size := image_size(path)) is not None]
    scales = sorted({settings.for_image(*size[:2]).kernel_scale for size in sizes})
    if not scales:
        raise ConfigError(
            "a size (size=, --size) needs an image whose header gives its own size, "
            f"{paths[0] if paths else 'no image'} does not; check the name, or give a scale (scale=, --scale) instead."
        )
    if len(scales) > 1:
        raise ConfigError(
            f"one kernel is for one scale, but this size (size=, --size) needs ×{' and ×'.join(map(str, scales))} for "
            "these images; give a scale (scale=, --scale) instead."
        )
    return scales[0]


def given_kernel(kernel: KernelLike, settings: Settings, paths: Sequence[Path]) -> AnyKernel:
    """A kernel for images, of anything that describes one; its scale is that at which the images are run.

    Raises:
        KernelError: There is no such kernel for the scale.
        ConfigError: As `common_scale`.
    """
    return kernel if isinstance(kernel, AnyKernel) else as_kernel(kernel, common_scale(settings, paths))


@dataclass(frozen=True, kw_only=True)
class _Series:
    """Images of a file that are upscaled by one model: those of one channel, at one whole-number scale."""

    members: tuple[int, ...]
    kernel: AnyKernel | None  # None of a method that estimates its own
    warnings: tuple[str, ...]  # of the measurement
    noise: tuple[Noise, ...] | None  # for each band with a kernel, or for the image; None if they differ in planes
    is_grey: bool  # all images are grey in three equal bands
    sample: int  # the image that the model is fitted to


def _upscale_frames(
    frames: FrameSource,
    settings: Settings,
    job: _Job,
    *,
    kernel: AnyKernel | None,
    kernel_warnings: tuple[str, ...],
    linear_light: LinearLight,
    output: Path | None,
    output_stem: Path | None,
    run_id: str | None,
    overwrite: bool,
    device: torch.device,
    files: FileOptions,
    max_memory: int | None,
) -> FileResult:
    """Upscale all images of a file into one file; arguments as `upscale_file`."""
    # Colours that move in some of the images, or by another distance in each, would flicker.
    settings = replace(settings, align_colors=False)
    first, count, path = frames[0], len(frames), frames.path
    shapes, headers = [], []
    for index in range(count):
        image = frames[index]
        shapes.append(image.shape)
        headers.append(without_metadata(image.header) if files.strip_metadata else image.header)
    run_settings = [settings.for_image(*shape[1:]) for shape in shapes]
    suffix = files.suffix(default_suffix(first.header, first.channels))
    suffix = ".tif" if frames.animation is None and files.format is None else suffix
    if output_stem is not None:
        output = output_stem.with_name(output_stem.name + suffix)
    outputs = image_outputs(path, settings.label, suffix, output)
    several: Mapping[str, Any] = {"images": count, "animation": frames.animation}
    for index, number in enumerate(frames.groups):
        if frames.groups.index(number) == index:
            image, header = frames[index], headers[index]
            _check_outputs(
                image, path, header, run_settings[index], outputs, kernel, files, overwrite=overwrite, **several
            )
    warned = [(*headers[i].warnings, *settings.shape_warnings(*shapes[i][1:])) for i in range(count)]
    job.warn(_of_images(frames, warned))
    if settings.varying and kernel is None:
        job.warn((_NO_MAP_OF_FRAMES,))
        settings = replace(settings, varying=False)
        run_settings = [replace(each, varying=False) for each in run_settings]
    keys = list(zip(frames.groups, (each.run_scale for each in run_settings), strict=True))
    series: dict[tuple[int, int], _Series] = {}
    names: list[str] = []
    with job.timed("kernel"):
        for key in dict.fromkeys(keys):
            members = tuple(i for i in range(count) if keys[i] == key)
            names.append(_series_name(frames, members, len(names), len(set(keys))))
            name = f"{names[-1]}: " if len(set(keys)) > 1 else ""
            series[key] = _measured_series(frames, members, run_settings[members[0]], kernel, device, job, name)
    fits: dict[tuple[int, int], tuple[Fitted, bool]] = {}
    quiet = _notices_only(job.listener)
    upscaler = settings.create_upscaler()

    def fit_to(index: int) -> tuple[Fitted, bool]:
        of_file = series[keys[index]]
        fitted, linear = fit_image(
            frames[index],
            run_settings[index],
            kernel=of_file.kernel,
            linear_light=linear_light,
            device=device,
            noise=of_file.noise,
            is_grey=of_file.is_grey,
            listener=_plain_only(job.listener),  # its warnings are those of `Fitted`, and come with their images
        )
        return replace(fitted, warnings=(*of_file.warnings, *fitted.warnings)), linear

    def fitted_to(index: int) -> tuple[Fitted, bool]:
        if upscaler.needs_whole_image:
            return fit_to(index)
        if keys[index] not in fits:
            fits[keys[index]] = fit_to(series[keys[index]].sample)
        fitted, linear = fits[keys[index]]
        source: Source = ColorSource(frames[index], device, is_grey=series[keys[index]].is_grey)
        source, _ = repaired_for_upscaling(source, settings)
        min_side = upscaler.min_side(fitted.model.scale)
        return fitted.applied_to(LinearLightSource(source) if linear else source, min_side), linear

    results: list[RunResult] = []
    with staged(outputs, run_id) as staging:
        fitted, linear = fitted_to(0)
        if not files.strip_metadata:
            provenance = provenance_of(settings, blind.representative(fitted.kernel), frames.sha256)
            headers[0] = with_provenance(headers[0], provenance)
        job.listener(StageStarted(stage=_FRAMES_STAGE, max_steps=count))
        with open_writer(
            staging.path(outputs.result),
            headers[0],
            size=run_settings[0].output_size(*first.shape[1:])[::-1],
            channels=first.channels,
            quality=files.quality,
            **several,
        ) as image_writer:
            for index in range(count):
                image, size = frames[index], run_settings[index].output_size(*shapes[index][1:])
                if index:
                    fitted, linear = fitted_to(index)
                    image_writer.next_image(headers[index], size=size[::-1], channels=image.channels)
                # A grey frame of a colour film stays grey; kernels of its bands make these differ.
                is_grey = image.is_grey and not isinstance(fitted.kernel, KernelStack)
                tile = tile_for(image, run_settings[index], device, max_memory)
                alpha = alpha_rows(image, run_settings[index], device, tile)
                writer = ImageRows(image_writer, image, size, linear=linear, alpha=alpha, is_grey=is_grey)
                results.append(blind.apply(fitted, run_settings[index], writer, tile=tile, listener=quiet))
                job.timings["write"] = job.timings.get("write", 0.0) + writer.seconds
                job.listener(StepDone(stage=_FRAMES_STAGE, step=index + 1))
        job.listener(StageDone(stage=_FRAMES_STAGE, steps=count))
        job.warn(image_writer.warnings)
        worst = min(results, key=lambda result: result.consistency_db)
        warnings = _of_images(frames, [result.warnings for result in results])
        job.warnings.extend((*kernel_warnings, *warnings))
        job.timings["apply"] = sum(result.timings["apply"] for result in results)
        # The record has size, kernel and noise of the first image, as its input, and the worst consistency of all.
        is_inconsistent = any(result.is_inconsistent for result in results)
        summary = replace(
            results[0], consistency_db=worst.consistency_db, is_inconsistent=is_inconsistent, warnings=warnings
        )
        if kernel is None and summary.estimate is None:
            estimate = KernelEstimate(kernel=summary.kernel, method=settings.create_estimator().name)
            summary = replace(summary, estimate=estimate)
        described: dict[str, object] = {"count": count, "channels": len(set(frames.channels))}
        if len({result.size for result in results}) > 1:
            described["sizes"] = [{"width": result.size[1], "height": result.size[0]} for result in results]
        if frames.animation is not None:
            described |= {"durations_ms": list(frames.animation.durations), "plays": frames.animation.plays}
        if len(series) > 1 and kernel is None:
            used = [each.kernel for each in series.values() if isinstance(each.kernel, Kernel)]
            if len(used) == len(series) and len({each.scale for each in used}) == 1:
                summary = replace(summary, band_kernels=KernelStack(used, names))
        extra = {"frames": described}
        return _finish(job, path, first, run_settings[0], device, outputs, staging, summary, run_id, overwrite, extra)


def _series_name(frames: FrameSource, members: Sequence[int], number: int, count: int) -> str:
    """A series in words: the channel of a stack, or the pages of one kind."""
    if len(set(frames.channels)) == count:
        return f"channel {number + 1}"
    several = _unit(frames) + ("s" if len(members) > 1 else "")
    shown = [str(index + 1) for index in members[:_NAMED_IMAGES]]
    return f"{several} {', '.join(shown)}{' …' if len(members) > _NAMED_IMAGES else ''}"


def _unit(frames: FrameSource) -> str:
    """What an image of the file is called."""
    return "page" if frames.animation is None else "frame"


def _of_images(frames: FrameSource, warnings: Sequence[Iterable[str]]) -> tuple[str, ...]:
    """The warnings of the images of a file, each once, with the images that it concerns unless these are all.

    Args:
        frames: The file.
        warnings: Of each image.
    """
    sentences = ((number, text) for number, texts in enumerate(warnings, 1) for text in texts)
    count, unit, merged = len(warnings), _unit(frames), []
    for text, concerned in grouped(sentences).items():
        if len(concerned) == count:
            name = ""
        elif len(concerned) > _NAMED_IMAGES:
            name = f"{len(concerned)} of {count} {unit}s: "
        else:
            *others, last = map(str, concerned)
            name = f"{unit}s {', '.join(others)} and {last}: " if others else f"{unit} {last}: "
        merged.append(name + text)
    return tuple(merged)


def measured_frames(members: Sequence[int], count: int = _MEASURED_FRAMES) -> list[int]:
    """The images of a series, spread over it, on which its kernel and its noise are measured: up to `count` of them."""
    middle = len(members) // 2
    places = np.linspace(0, len(members) - 1, count).round().astype(int).tolist() if count > 1 else [middle]
    return sorted({members[place] for place in places})


def _measured_series(
    frames: FrameSource,
    members: tuple[int, ...],
    settings: Settings,
    kernel: AnyKernel | None,
    device: torch.device,
    job: _Job,
    name: str,
) -> _Series:
    """Measure the kernel, unless it is known, and the noise of a series of images on some of them."""
    chosen, unit, warnings = measured_frames(members), _unit(frames), tuple[str, ...]()
    is_grey = not isinstance(kernel, KernelStack) and all(frames[index].is_grey for index in members)
    sources = {
        index: repaired_for_upscaling(ColorSource(frames[index], device, is_grey=is_grey), settings)[0]
        for index in chosen
    }
    if kernel is None and not getattr(settings.create_upscaler(), "estimates_kernel", False):
        images = [
            (f"{unit} {index + 1}", partial(estimation_crop, source, settings.region))
            for index, source in sources.items()
        ]
        try:
            shared = estimate_shared_kernel(images, replace(settings, region=None), listener=job.listener)
        except ImageError:  # none of them shows a blur: as of a single image
            middle = sources[chosen[len(chosen) // 2]]
            quiet = _plain_only(job.listener)
            estimate = blind.estimate_kernel(middle, settings, fallback=True, listener=quiet)
            kernel, warnings = estimate.kernel, estimate.warnings
        else:
            kernel, text = shared.kernel, f"{name}{shared}"
            if len(chosen) < len(members):
                text += f" It was estimated from {len(chosen)} of {len(members)} {unit}s, spread over the file."
            job.listener(Notice(stage=_FRAMES_STAGE, message=text, is_plain=True))
            of_series = shared.spread_warnings(ONE_OF_FRAMES) + shared.exclusion_warnings()
            job.warn(tuple(name + text for text in of_series))
    bands = len(kernel.kernels) if isinstance(kernel, KernelStack) else 0
    pictures = [picture_of(source) for source in sources.values()]
    if bands:
        parts = [[measure_noise(BandSource(picture, i)) for picture in pictures] for i in range(bands)]
    else:
        parts = [[measure_noise(picture) for picture in pictures]]
    noise = tuple(common for part in parts if (common := common_noise(part)) is not None)
    return _Series(
        members=members,
        kernel=kernel,
        warnings=warnings,
        noise=noise if len(noise) == len(parts) else None,
        is_grey=is_grey,
        sample=_sample(chosen, pictures),
    )


def _sample(chosen: Sequence[int], pictures: Sequence[Source]) -> int:
    """The middle one of some images, unless another one has much more detail, as beside an empty page."""

    def detail(picture: Source) -> float:
        window = picture.window(*most_textured(picture, spread_windows(picture, *_DETAIL), 1)[0])
        return float(window.diff(dim=-1).abs().mean()) if window.shape[-1] > 1 else 0.0

    details = [detail(picture) for picture in pictures]
    middle = len(chosen) // 2
    return chosen[middle if 2 * details[middle] >= max(details) else details.index(max(details))]


def _notices_only(listener: Listener) -> Listener:
    """A listener for each of many images: their notices alone, once."""
    passed: set[str] = set()

    def listen(event: Event, /) -> None:
        if isinstance(event, Notice) and event.message not in passed:
            passed.add(event.message)
            listener(event)

    return listen


def _plain_only(listener: Listener) -> Listener:
    """A listener without warnings."""
    return lambda event: None if isinstance(event, Notice) and not event.is_plain else listener(event)


def tile_for(image: ImageSource, settings: Settings, device: torch.device, max_memory: int | None = None) -> int:
    """Side of a tile, LR pixels, with which an image fits into memory; `ImageError` if there is none."""
    _, height, width = image.shape
    upscaler = settings.create_upscaler()
    return choose_tile(
        image.shape,
        settings.run_scale,
        settings.output_size(height, width),
        device,
        budget=max_memory,
        whole_image=upscaler.needs_whole_image,
        pixel_bytes=pixel_bytes_of(upscaler),
    )


def fit_image(
    image: ImageSource,
    settings: Settings,
    *,
    kernel: AnyKernel | None,
    linear_light: LinearLight,
    device: torch.device,
    noise: Sequence[Noise] | None = None,
    is_grey: bool | None = None,
    listener: Listener,
) -> tuple[Fitted, bool]:
    """Fit the upscaler to an open image: a file, or an array in memory.

    Args:
        image: The open image.
        settings: Settings of the run.
        kernel: A known kernel, one for each band, or a map; None estimates it.
        linear_light: Whether a known kernel is applied in linear light: "auto", "on" or "off".
        device: Device of the work.
        noise: Measured noise, one value for the image or for each band; None measures it.
        is_grey: As for `ColorSource`; None examines the image, unless each band has a kernel of its own.
        listener: Receives the events.

    Returns:
        The fitted upscaler, and whether it works in linear light.

    Raises:
        ImageError, KernelError, ConfigError, DivergenceError: As `upscale_file`.
    """
    if is_grey is None:
        is_grey = not isinstance(kernel, KernelStack) and image.is_grey
    source: Source = ColorSource(image, device, is_grey=is_grey)
    compression_sigma = compression_error(image, source)
    file_format = image.header.format or ""
    if image.lossy_coding is not None:  # of a Pillow image as well, which has no format of its own
        file_format, _ = image.lossy_coding
    linear, warnings = False, tuple[str, ...]()
    if kernel is not None:
        linear, warnings = decide_linear_light(linear_light, image, blind.representative(kernel))
    if linear:
        source, repairs = repaired_for_upscaling(source, settings, kernel)  # noise is even before its curve is undone
        source, warnings = LinearLightSource(source), (*warnings, *repairs)
    for warning in warnings:
        listener(Notice(stage=STAGE, message=warning))
    fitted = blind.fit(
        source,
        settings,
        kernel=kernel,
        compression_sigma=compression_sigma,
        file_format=file_format,
        linear_light=linear,
        noise=noise,
        listener=listener,
    )
    return replace(fitted, warnings=(*warnings, *fitted.warnings)), linear


def estimate_file_kernel(
    path: str | Path,
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    device: str | torch.device = "auto",
    files: FileOptions = DEFAULT_FILES,
    listener: Listener = ignore,
) -> FileResult:
    """Estimate the kernel of a photograph, and write it with its plot and a record.

    Args:
        path: The photograph.
        settings: The default preset if None.
        output: The kernel's file (.npz, .npy or .mat); None is PHOTO_blindsr_x2.kernel.npz beside the photograph.
        overwrite: Replace results that exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps", or a `torch.device`.
        files: How images are read.
        listener: Receives the events.

    Returns:
        The files, and the kernel.

    Raises:
        ImageError: The file is no usable photograph.
        OutputError: A result exists, or cannot be written; no file of this run is left then.
        ConfigError: A setting does not fit the photograph.
        DeviceError: The device does not exist on this machine.
        DivergenceError: A training diverged.
    """
    settings = Settings() if settings is None else settings
    path, output = Path(path), None if output is None else Path(output)
    job, torch_device = _Job(listener), choose_device(device)
    outputs = kernel_outputs(files.named(path), settings.label, output)
    if settings.varying and outputs.kernel.suffix.lower() != ".npz":
        raise OutputError(
            f"kernels that vary are written to a .npz file, got {outputs.kernel.name}; change the suffix."
        )
    with _opened(path, files, job) as image:
        job.warn(image.header.warnings)
        check_outputs(outputs, path, overwrite=overwrite)
        settings = settings.for_image(*image.shape[1:])
        with job.timed("kernel"):
            estimate = blind.estimate_kernel(ColorSource(image, torch_device), settings, listener=listener)
        job.warnings.extend(estimate.warnings)
        with staged(outputs) as staging:
            return _finish(job, path, image, settings, torch_device, outputs, staging, estimate, None, overwrite)


@contextmanager
def _opened(path: Path, files: FileOptions, job: _Job, *, advises_all_pages: bool = False) -> Iterator[FileSource]:
    with job.timed("read"):
        image = open_image(path, options=files, advises_all_pages=advises_all_pages)
    with image:
        yield image


def _check_outputs(
    image: ImageSource,
    path: Path,
    header: PhotoHeader,
    settings: Settings,
    outputs: Outputs,
    kernel: AnyKernel | None,
    files: FileOptions,
    *,
    overwrite: bool,
    images: int = 1,
    animation: Animation | None = None,
) -> None:
    """Check, before any computation, that the result can be written."""
    files.check_name(outputs.result)
    # A kernel file with the same content is no obstacle; it is rendered only if there is a file to compare it with.
    exists = os.path.exists(outputs.kernel)  # noqa: PTH110 # False for a name that is too long, which is refused below
    contents = kernel_files(kernel, outputs) if kernel is not None and exists else {}
    check_outputs(outputs, path, contents, overwrite=overwrite)
    width, height = image.size
    out_height, out_width = settings.output_size(height, width)
    check_format(
        header,
        image.channels,
        outputs.result,
        size=(out_width, out_height),
        is_transparent=image.is_transparent,
        quality=files.quality,
        images=images,
        animation=animation,
    )


class StripWriter(Protocol):
    """Takes the rows of a result from top to bottom."""

    def write(self, rows: Strip) -> None:
        """Take the next rows."""


class ImageRows:
    """Hands rows of the result to an image writer: sRGB-encoded, with alpha and missing data.

    Args:
        writer: An open file, or anything else that takes `Strip`s.
        image: The photograph, for alpha and missing data.
        size: Height and width of the result.
        linear: The rows are linear light.
        alpha: Rows of the enlarged alpha, `blindsr.pipelines.alpha.alpha_rows`; None interpolates it.
        is_grey: Whether all bands of the result are its luma. A row of one band is repeated in any case.
    """

    def __init__(
        self,
        writer: "StripWriter",
        image: ImageSource,
        size: tuple[int, int],
        *,
        linear: bool,
        alpha: Iterator[Tensor] | None = None,
        is_grey: bool = False,
    ) -> None:
        self._writer, self._image, self._size, self._linear = writer, image, size, linear
        self._alpha_rows, self._alpha_buffer, self._is_grey = alpha, RowBuffer(), is_grey
        self._top = 0
        self.seconds = 0.0

    def write(self, rows: Tensor) -> None:
        """Take the next rows, (1, C, rows, W)."""
        started = time.perf_counter()
        for part in torch.split(rows[0], _ROWS, 1):
            bottom = self._top + part.shape[1]
            encoded = linear_to_srgb(part).clamp_(0, 1) if self._linear else part
            if self._is_grey:
                encoded = to_planes(encoded[None])[0].clamp_(0, 1)
            pixels = encoded.permute(1, 2, 0).expand(-1, -1, self._image.channels).numpy()
            alpha = self._alpha(self._top, bottom)
            self._writer.write(Strip(np.ascontiguousarray(pixels), alpha, self._valid(self._top, bottom)))
            self._top = bottom
        self.seconds += time.perf_counter() - started

    def _alpha(self, top: int, bottom: int) -> NDArray[np.float32] | None:
        image = self._image
        if not image.is_transparent:
            return None
        if self._alpha_rows is not None:
            while self._alpha_buffer.last < bottom:
                self._alpha_buffer.add(next(self._alpha_rows))
            resized = self._alpha_buffer.take(top, bottom)
            self._alpha_buffer.drop(bottom)
        else:
            width, height = image.size
            source = AlphaSource(image, torch.device("cpu"))

            def rows(first: int, last: int) -> Tensor:
                return source.window(slice(first, last), slice(0, width))

            resized = imresize_rows(rows, (height, width), self._size, top, bottom)
        array: NDArray[np.float32] = resized[0, 0].clamp(0, 1).numpy()
        return array

    def _valid(self, top: int, bottom: int) -> NDArray[np.bool_] | None:
        """Which samples of the result are measured: those whose centre lies in a measured sample of the input."""
        image = self._image
        if not image.has_missing_data:
            return None
        width, height = image.size
        rows = ((np.arange(top, bottom) + 0.5) * height / self._size[0]).astype(np.intp)
        columns = ((np.arange(self._size[1]) + 0.5) * width / self._size[1]).astype(np.intp)
        valid = image.window(slice(int(rows[0]), int(rows[-1]) + 1), slice(0, width)).valid
        if valid is None:
            return np.ones((bottom - top, self._size[1], image.channels), np.bool_)
        return np.ascontiguousarray(valid[(rows - rows[0])[:, None], columns])


def kernel_files(kernel: AnyKernel, outputs: Outputs) -> dict[Path, bytes]:
    """The files of a kernel by path: its weights and its plot."""
    if isinstance(kernel, KernelStack):
        return {outputs.kernel: kernel_bytes(kernel, ".npz"), outputs.plot: stack_plot_png(kernel)}
    weights = kernel_bytes(kernel, outputs.kernel.suffix.lower())
    plot = map_plot_png(kernel) if isinstance(kernel, KernelMap) else kernel_plot_png(kernel)
    return {outputs.kernel: weights, outputs.plot: plot}


def _finish(
    job: _Job,
    path: Path,
    image: ImageSource,
    settings: Settings,
    device: torch.device,
    outputs: Outputs,
    staging: Staging,
    result: RunResult | KernelEstimate,
    run_id: str | None,
    overwrite: bool,
    details: Mapping[str, object] | None = None,
) -> FileResult:
    """Write the sidecar files and give all files their names at once."""
    with job.timed("write"):
        bands = result.band_kernels if isinstance(result, RunResult) else None
        used = bands or result.kernel_map or result.kernel
        for target, content in kernel_files(used, outputs).items():
            staging.path(target).write_bytes(content)
    warnings = distinct(job.warnings)
    record = file_record(
        path,
        image,
        settings,
        device,
        outputs,
        result,
        run_id=run_id,
        warnings=warnings,
        timings=job.timings,
        seconds=job.seconds,
        image_file=None if outputs.image is None else staging.path(outputs.image),
    )
    record = {**record, **(details or {})}
    staging.path(outputs.record).write_bytes(record_bytes(record))
    staging.release(outputs, overwrite=overwrite)
    return FileResult(
        outputs=outputs,
        kernel=result.kernel,
        run=result if isinstance(result, RunResult) else None,
        record=record,
        warnings=warnings,
        seconds=job.seconds,
    )
