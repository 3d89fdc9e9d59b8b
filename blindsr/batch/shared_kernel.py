"""One kernel, and one noise level, for the image files of a batch."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from blindsr.batch.plan import Manifest
from blindsr.batch.task import read_record
from blindsr.errors import BlindSRError, ConfigError, ImageError
from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import (
    ALL_PAGES,
    DEFAULT_FILES,
    FileOptions,
    FrameSource,
    ImageSource,
    atomic_write_bytes,
    open_frames,
    open_image,
)
from blindsr.kernels import Kernel
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.kernels.metrics import widths_text
from blindsr.kernels.plot import kernel_plot_png
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.crop import estimation_crop
from blindsr.pipelines.degradation import Noise, common_noise, measure_noise
from blindsr.pipelines.files import common_scale
from blindsr.pipelines.image import ColorSource
from blindsr.pipelines.letterbox import content_of
from blindsr.pipelines.record import cache_key, describe_kernel, plain
from blindsr.pipelines.repair import repaired
from blindsr.pipelines.series import ONE_OF_FRAMES, measured_frames
from blindsr.pipelines.shared_kernel import (
    OF_EACH_IMAGE,
    STAGE,
    ImageEstimate,
    SharedKernel,
    estimate_shared_kernel,
)
from blindsr.registry import source_digest
from blindsr.runtime import choose_device
from blindsr.settings import Settings

__all__ = ["SeriesKernel", "recorded_kernel", "shared_kernel_for"]

_NAME = "blindsr-shared"
_FRAMES = 8  # images of all files together, at least, where every page counts


@dataclass(frozen=True, kw_only=True)
class SeriesKernel:
    """What the images of a batch have in common."""

    kernel: Kernel
    noise: Noise | None  # of most images; None if they have different bands
    warnings: tuple[str, ...]  # about all images
    summary: str
    notes: tuple[str, ...]  # `warnings` and those about single images
    contents: Mapping[Path, bytes] = field(default_factory=dict)  # to be written; empty if an earlier run wrote them

    def report(self, listener: Listener) -> None:
        """Report the kernel and every warning to a listener."""
        listener(Notice(stage=STAGE, message=self.summary, is_plain=True))
        for warning in self.notes:
            listener(Notice(stage=STAGE, message=warning))

    def write(self) -> None:
        """Write the files; an earlier kernel of other images is replaced.

        Raises:
            OutputError: The files cannot be written.
        """
        for path, content in self.contents.items():
            atomic_write_bytes(path, content, overwrite=True)


def recorded_kernel(
    paths: Sequence[Path], settings: Settings, manifest: Manifest, *, files: FileOptions = DEFAULT_FILES
) -> SeriesKernel | None:
    """The kernel that an earlier run wrote for the same images and settings; None if there is none."""
    settings = _of_one_scale(settings, paths)
    return _recorded(_key_of(paths, settings, manifest, files)[0], settings, manifest)


def shared_kernel_for(
    paths: Sequence[Path],
    settings: Settings,
    manifest: Manifest,
    *,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    listener: Listener = ignore,
) -> SeriesKernel:
    """Estimate one kernel for image files.

    Its `write` writes it beside the manifest, as blindsr-shared.kernel.npz, .png and .json; the batch calls it once
    all checks have passed, because an earlier kernel of other images is replaced.

    Of files with several images the page of `files` is used. If that is "all", it is one image from the middle of each
    file, or several that are spread over it where there are few files.

    The noise of every image is measured as well. Images whose noise is that of most others, as the frames of a film,
    get the very same figure: results would flicker with the scatter of the measurement otherwise.

    An earlier kernel of the same images and settings is used again; images that cannot be read are left out. The
    listener receives what the kernel is, and the warnings.

    Where no image shows its blur, as with much noise, the kernel is that of the one in the middle on its own, with its
    warnings: nearly or wholly the bicubic kernel.

    Raises:
        ImageError: No image can be used.
        ConfigError: An output size leads to different factors.
    """
    settings = _of_one_scale(settings, paths)
    key, readable = _key_of(paths, settings, manifest, files)
    if (recorded := _recorded(key, settings, manifest)) is not None:
        recorded.report(listener)
        return recorded
    chosen, measured = choose_device(device), dict[str, Noise]()
    # The frames and pages of a file stay as they are (`blindsr.pipelines.series`).
    of_photos = replace(settings, align_colors=settings.align_colors and files.page != ALL_PAGES)

    def load(name: str, open_: Callable[[], AbstractContextManager[ImageSource]]) -> Tensor:
        with open_() as opened:
            source, _ = repaired(ColorSource(opened, chosen), of_photos)
            if name not in measured:
                measured[name] = measure_noise(content_of(source))
            return estimation_crop(source, settings.region)

    # `load` has cut out the region, and moved the colours that are to be moved.
    without_region, of_one = replace(settings, region=None, align_colors=False), tuple[str, ...]()
    with _Files(files) as opened:
        images = [(name, partial(load, name, open_)) for name, open_ in opened.images(readable)]
        try:
            shared = estimate_shared_kernel(images, without_region, listener=listener)
        except ImageError as error:
            shared, of_one = _of_the_middle_one(images, without_region, error)
    advice = ONE_OF_FRAMES if files.page == ALL_PAGES and len(paths) == 1 else OF_EACH_IMAGE
    for_all = shared.spread_warnings(advice) + of_one
    warnings = (*shared.spread_warnings(advice), *shared.outlier_warnings(), *shared.exclusion_warnings(), *of_one)
    noise, summary = common_noise(list(measured.values())), str(shared)
    if files.page == ALL_PAGES and any(name not in map(str, paths) for name, _ in images):
        of = f"{len(paths)} files" if len(paths) > 1 else "the file"
        summary += f" They are spread over the frames or pages of {of}."
    record = {
        "key": key,
        "summary": summary,
        "kernel": describe_kernel(shared.kernel),
        "noise": None if noise is None else asdict(noise),
        "spread": shared.spread,
        "error": shared.error,
        "bicubic_reason": shared.bicubic_reason,
        "images": [asdict(estimate) for estimate in shared.estimates],
        "warnings": warnings,
        "for_all": for_all,
    }
    text = json.dumps(plain(record), indent=2, allow_nan=False) + "\n"
    # The record is the last one: it proves the others.
    contents = kernel_bytes(shared.kernel, ".npz"), kernel_plot_png(shared.kernel), text.encode("ascii")
    series = SeriesKernel(
        kernel=shared.kernel,
        noise=noise,
        warnings=for_all,
        summary=summary,
        notes=warnings,
        contents=dict(zip(_paths(manifest), contents, strict=True)),
    )
    series.report(listener)
    return series


def _of_the_middle_one(
    images: Sequence[tuple[str, Callable[[], Tensor]]], settings: Settings, error: ImageError
) -> tuple[SharedKernel, tuple[str, ...]]:
    """The kernel of images of which none shows its blur, and warnings; the error if none can be used."""
    middle = len(images) // 2
    for index in sorted(range(len(images)), key=lambda index: abs(index - middle)):
        name, load = images[index]
        try:
            estimate = blind.estimate_kernel(TensorSource(load()), settings, fallback=True)
        except BlindSRError:
            continue
        reason = f"none shows its blur clearly, the kernel is that of {name} on its own: {widths_text(estimate.kernel)}"
        estimates = tuple(ImageEstimate(name=name, covariance=None) for name, _ in images)
        shared = SharedKernel(
            kernel=estimate.kernel, estimates=estimates, spread=math.nan, error=math.nan, bicubic_reason=reason
        )
        return shared, estimate.warnings
    raise error


def _paths(manifest: Manifest) -> tuple[Path, Path, Path]:
    """Kernel, plot and record, beside the manifest."""
    kernel, plot, record = (manifest.path.with_name(f"{_NAME}.kernel{suffix}") for suffix in (".npz", ".png", ".json"))
    return kernel, plot, record


def _of_one_scale(settings: Settings, paths: Sequence[Path]) -> Settings:
    if settings.varying:
        raise ConfigError("a shared kernel is one for all images (shared_kernel, --shared-kernel); leave out varying.")
    if settings.size is None:
        return settings
    return replace(settings, scale=float(common_scale(settings, paths)), factors=None, size=None)


class _Files:
    """The images of files that a kernel is estimated from; a context that closes the last file."""

    def __init__(self, options: FileOptions) -> None:
        self._options, self._frames = options, ExitStack()
        self._open: FrameSource | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()

    def images(self, paths: Sequence[Path]) -> list[tuple[str, Callable[[], AbstractContextManager[ImageSource]]]]:
        """Names of images, each with a function that opens it."""
        if self._options.page != ALL_PAGES:
            return [(str(path), partial(open_image, path, options=self._options)) for path in paths]
        of_each = max(1, round(_FRAMES / max(1, len(paths))))
        images: list[tuple[str, Callable[[], AbstractContextManager[ImageSource]]]] = []
        for path in paths:
            try:
                frames = self._frames_of(path)
            except ImageError:  # the estimate finds it unusable, and the run says why
                images.append((str(path), partial(self._frame, path, 0)))
                continue
            unit = "page" if frames.animation is None else "frame"
            for index in measured_frames(range(len(frames)), of_each):
                name = f"{path} ({unit} {index + 1})" if len(frames) > 1 else str(path)
                images.append((name, partial(self._frame, path, index)))
        return images

    def _frames_of(self, path: Path) -> FrameSource:
        """A file, which stays open until the next one is needed: its frames are used one after the other."""
        if self._open is None or self._open.path != path:
            self._frames.close()
            self._open = None
            self._open = self._frames.enter_context(open_frames(path, options=self._options))
        return self._open

    def _frame(self, path: Path, index: int) -> AbstractContextManager[ImageSource]:
        return nullcontext(self._frames_of(path)[index])


def _key_of(
    paths: Sequence[Path], settings: Settings, manifest: Manifest, files: FileOptions
) -> tuple[str, list[Path]]:
    """What a kernel depends on, and the images that can be read."""
    digests: dict[Path, str] = {}
    for path in paths:
        try:
            digests[path] = manifest.digest(path)
        except OSError:
            continue
    settings_without_dials = settings.without_dials.as_dict()
    content = {
        "inputs": sorted(digests.values()),
        "page": files.page,
        "alpha": files.alpha,
        "settings": settings_without_dials,
        "source": source_digest(),
    }
    return cache_key(content), list(digests)


def _recorded(key: str, settings: Settings, manifest: Manifest) -> SeriesKernel | None:
    kernel_path, _, record_path = _paths(manifest)
    record: Mapping[str, Any] = read_record(record_path)
    if record.get("key") != key or not kernel_path.is_file():
        return None
    noise = record.get("noise")
    return SeriesKernel(
        kernel=read_kernel(kernel_path, scale=settings.run_scale)[0],
        noise=None if noise is None else Noise(**{**noise, "sigmas": tuple(noise["sigmas"])}),
        warnings=tuple(record["for_all"]),
        summary=record["summary"],
        notes=tuple(record["warnings"]),
    )
