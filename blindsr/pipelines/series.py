"""A file with several images as one series: an animation, or a stack of pages.

One kernel and one noise level for all of its images, and one fitted model, so that nothing flickers that does not
flicker in the file. The images of each channel of a stack, and those that are run at each scale, are a series of their
own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from blindsr.errors import ImageError
from blindsr.events import Event, Listener, Notice, StageDone, StageStarted, StepDone
from blindsr.image_io import FrameSource, PhotoHeader, default_suffix, open_writer
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.kernel import AnyKernel, KernelStack
from blindsr.ops.windows import BandSource, LinearLightSource, Source, most_textured, spread_windows
from blindsr.pipelines import blind
from blindsr.pipelines.blind import Fitted, RunResult
from blindsr.pipelines.crop import estimation_crop
from blindsr.pipelines.degradation import Noise, common_noise, decide_linear_light, measure_noise
from blindsr.pipelines.file_run import FileResult, FileRun
from blindsr.pipelines.image import ColorSource, fit_image, render, tile_for
from blindsr.pipelines.letterbox import content_of
from blindsr.pipelines.outputs import staged
from blindsr.pipelines.record import grouped
from blindsr.pipelines.repair import repaired_for_upscaling
from blindsr.pipelines.shared_kernel import estimate_shared_kernel
from blindsr.settings import Settings
from blindsr.upscalers.base import estimates_kernel

__all__ = ["ONE_OF_FRAMES", "measured_frames", "upscale_series"]

_STAGE = "frames"
_NO_MAP_OF_FRAMES = (
    "the images of one file have one kernel, and no map: varying (--varying) is for single images; choose one by page "
    "(--page)."
)
_MEASURED_FRAMES = 8  # of a series, for its kernel and its noise
_DETAIL = (96, 9)  # side and number of the parts of an image of a series whose detail is compared
#: What may be done where one kernel does not fit all images of a file.
ONE_OF_FRAMES = "an image that is chosen by page (--page) is upscaled with a kernel of its own"
_NAMED_IMAGES = 5  # of a series in a message


@dataclass(frozen=True, kw_only=True)
class _Image:
    """One image of the file before it is decoded again."""

    shape: tuple[int, int, int]
    header: PhotoHeader
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class _Series:
    """Images of a file that are upscaled by one model: those of one channel, at one whole-number scale."""

    members: tuple[int, ...]
    kernel: AnyKernel | None  # None of a method that estimates its own
    warnings: tuple[str, ...]  # of the measurement
    noise: tuple[Noise, ...] | None  # for each band with a kernel, or for the image; None if they differ in planes
    is_grey: bool  # all images are grey in three equal bands
    sample: int  # the image that the model is fitted to


def upscale_series(frames: FrameSource, settings: Settings, run: FileRun) -> FileResult:
    """Upscale all images of a file into one file; see `upscale_file`."""
    # Colours that move in some of the images, or by another distance in each, would flicker.
    settings, unvaried = replace(settings, align_colors=False, varying=False), settings.varying and run.kernel is None
    images = []
    for index in range(len(frames)):
        image = frames[index]
        own = settings.for_image(*image.shape[1:])
        images.append(_Image(shape=image.shape, header=run.header_of(image), settings=own))
    first = frames[0]
    suffix = ".tif" if frames.animation is None else default_suffix(first.header, first.channels)
    outputs = run.outputs(settings, suffix)
    several: Mapping[str, Any] = {"images": len(frames), "animation": frames.animation}
    for index, number in enumerate(frames.groups):
        if frames.groups.index(number) == index:
            run.check(frames[index], images[index].header, images[index].settings, outputs, **several)
    warned = [(*image.header.warnings, *settings.shape_warnings(*image.shape[1:])) for image in images]
    run.warn((*_of_images(frames, warned), *((_NO_MAP_OF_FRAMES,) if unvaried else ())))
    with run.timed("kernel"):
        named = _measured(frames, images, run)
    models = _Models(frames, images, list(named.values()), run)
    with staged(outputs, run.run_id) as staging:
        fitted = models.for_image(0)
        run.listener(StageStarted(stage=_STAGE, max_steps=len(frames)))
        results, quiet = list[RunResult](), _notices_only(run.listener)
        with open_writer(
            staging.path(outputs.result),
            run.with_provenance(images[0].header, settings, fitted.kernel, frames.sha256),
            size=images[0].settings.output_size(*first.shape[1:])[::-1],
            channels=first.channels,
            quality=run.files.quality,
            **several,
        ) as writer:
            for index, of_file in enumerate(images):
                image, own = frames[index], of_file.settings
                if index:
                    fitted = models.for_image(index)
                    size = own.output_size(*of_file.shape[1:])
                    writer.next_image(of_file.header, size=size[::-1], channels=image.channels)
                # A grey frame of a colour film stays grey; kernels of its bands make these differ.
                is_grey = image.is_grey and not isinstance(fitted.kernel, KernelStack)
                tile = tile_for(image, own, run.device, run.max_memory)
                results.append(render(fitted, image, own, writer, tile=tile, is_grey=is_grey, listener=quiet))
                run.listener(StepDone(stage=_STAGE, step=index + 1))
        run.listener(StageDone(stage=_STAGE, steps=len(frames)))
        run.warn(writer.warnings)
        warnings = _of_images(frames, [result.warnings for result in results])
        run.warnings.extend((*run.kernel_warnings, *warnings))
        for stage in ("apply", "write"):
            run.timings[stage] = sum(result.timings[stage] for result in results)
        result = replace(_summary(results, named, settings, run.kernel), warnings=warnings)
        details = {"frames": _described(frames, results)}
        return run.finish(first, images[0].settings, outputs, staging, result, details)


def _measured(frames: FrameSource, images: Sequence[_Image], run: FileRun) -> dict[str, _Series]:
    """The series of a file by their names, with their kernels and their noise."""
    keys = list(zip(frames.groups, (image.settings.run_scale for image in images), strict=True))
    parts = [tuple(i for i, own in enumerate(keys) if own == key) for key in dict.fromkeys(keys)]
    named: dict[str, _Series] = {}
    for number, members in enumerate(parts):
        name = _series_name(frames, members, number, len(parts))
        prefix = f"{name}: " if len(parts) > 1 else ""
        named[name] = _measured_series(frames, members, images[members[0]].settings, run, prefix)
    return named


class _Models:
    """The fitted models of the images of a file: one for each series, fitted to one of its images."""

    def __init__(self, frames: FrameSource, images: Sequence[_Image], series: Sequence[_Series], run: FileRun) -> None:
        self._frames, self._images, self._run = frames, images, run
        self._of_image = {index: each for each in series for index in each.members}
        self._fitted: dict[int, Fitted] = {}  # by the image that each was fitted to

    def for_image(self, index: int) -> Fitted:
        """The model for an image; a method that needs the whole image is fitted to each of them."""
        settings, series = self._images[index].settings, self._of_image[index]
        upscaler = settings.create_upscaler()
        if upscaler.needs_whole_image:
            return self._fit(index)
        if series.sample not in self._fitted:
            self._fitted[series.sample] = self._fit(series.sample)
        color: Source = ColorSource(self._frames[index], self._run.device, is_grey=series.is_grey)
        source, _ = repaired_for_upscaling(color, settings)
        return self._fitted[series.sample].applied_to(source, upscaler)

    def _fit(self, index: int) -> Fitted:
        series = self._of_image[index]
        fitted = fit_image(
            self._frames[index],
            self._images[index].settings,
            kernel=series.kernel,
            linear_light=self._run.linear_light,
            device=self._run.device,
            noise=series.noise,
            is_grey=series.is_grey,
            listener=_plain_only(self._run.listener),  # its warnings are in `Fitted`, and come with their images
        )
        return replace(fitted, warnings=(*series.warnings, *fitted.warnings))


def _summary(
    results: Sequence[RunResult], named: Mapping[str, _Series], settings: Settings, kernel: AnyKernel | None
) -> RunResult:
    """One result for the record: size, kernel and noise of the first image, and the worst consistency of all."""
    summary = replace(
        results[0],
        consistency_db=min(result.consistency_db for result in results),
        is_inconsistent=any(result.is_inconsistent for result in results),
    )
    if kernel is not None:
        return summary
    if summary.estimate is None:
        estimate = KernelEstimate(kernel=summary.kernel, method=settings.create_estimator().name)
        summary = replace(summary, estimate=estimate)
    used = [each.kernel for each in named.values() if isinstance(each.kernel, Kernel)]
    if len(named) > 1 and len(used) == len(named) and len({each.scale for each in used}) == 1:
        summary = replace(summary, band_kernels=KernelStack(used, list(named)))
    return summary


def _described(frames: FrameSource, results: Sequence[RunResult]) -> dict[str, object]:
    """The images of a file, for the record."""
    described: dict[str, object] = {"count": len(frames), "channels": len(set(frames.channels))}
    if len({result.size for result in results}) > 1:
        described["sizes"] = [{"width": result.size[1], "height": result.size[0]} for result in results]
    if frames.animation is not None:
        described |= {"durations_ms": list(frames.animation.durations), "plays": frames.animation.plays}
    return described


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
    run: FileRun,
    prefix: str,
) -> _Series:
    """Measure the kernel, unless it is known, and the noise of a series of images on some of them.

    The noise is that in linear light, where the known kernel is applied in it.
    """
    kernel, chosen, unit, warnings = run.kernel, measured_frames(members), _unit(frames), tuple[str, ...]()
    is_grey = not isinstance(kernel, KernelStack) and all(frames[index].is_grey for index in members)
    sources = {
        index: repaired_for_upscaling(ColorSource(frames[index], run.device, is_grey=is_grey), settings)[0]
        for index in chosen
    }
    if kernel is None and not estimates_kernel(settings.create_upscaler()):
        images = [
            (f"{unit} {index + 1}", partial(estimation_crop, source, settings.region))
            for index, source in sources.items()
        ]
        try:
            shared = estimate_shared_kernel(images, replace(settings, region=None), listener=run.listener)
        except ImageError:  # none of them shows a blur: as of a single image
            middle = sources[chosen[len(chosen) // 2]]
            quiet = _plain_only(run.listener)
            estimate = blind.estimate_kernel(middle, settings, fallback=True, listener=quiet)
            kernel, warnings = estimate.kernel, estimate.warnings
        else:
            kernel, text = shared.kernel, f"{prefix}{shared}"
            if len(chosen) < len(members):
                text += f" It was estimated from {len(chosen)} of {len(members)} {unit}s, spread over the file."
            run.listener(Notice(stage=_STAGE, message=text, is_plain=True))
            of_series = shared.spread_warnings(ONE_OF_FRAMES) + shared.exclusion_warnings()
            run.warn(tuple(prefix + text for text in of_series))
    bands = len(kernel.kernels) if isinstance(kernel, KernelStack) else 0
    measured: Iterable[Source] = sources.values()
    if kernel is not None:
        linear, _ = decide_linear_light(run.linear_light, frames[chosen[0]], kernel.representative)
        measured = [LinearLightSource(source) for source in measured] if linear else measured
    contents = [content_of(source) for source in measured]
    if bands:
        parts = [[measure_noise(BandSource(content, i)) for content in contents] for i in range(bands)]
    else:
        parts = [[measure_noise(content) for content in contents]]
    noise = tuple(common for part in parts if (common := common_noise(part)) is not None)
    return _Series(
        members=members,
        kernel=kernel,
        warnings=warnings,
        noise=noise if len(noise) == len(parts) else None,
        is_grey=is_grey,
        sample=_sample(chosen, contents),
    )


def _sample(chosen: Sequence[int], contents: Sequence[Source]) -> int:
    """The middle one of some images, unless another one has much more detail, as beside an empty page."""

    def detail(content: Source) -> float:
        window = content.window(*most_textured(content, spread_windows(content, *_DETAIL), 1)[0])
        return float(window.diff(dim=-1).abs().mean()) if window.shape[-1] > 1 else 0.0

    details = [detail(content) for content in contents]
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
