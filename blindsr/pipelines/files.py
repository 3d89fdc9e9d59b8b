"""Jobs on files: a photograph in; a larger photograph, its kernel and the record of the run out."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from blindsr.errors import OutputError
from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import (
    DEFAULT_FILES,
    FileOptions,
    FileSource,
    ImageSource,
    PhotoHeader,
    Strip,
    check_format,
    default_suffix,
    jpeg_noise_sigma,
    open_image,
    open_writer,
    with_provenance,
    without_metadata,
)
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.files import kernel_bytes
from blindsr.kernels.kernel import AnyKernel, KernelMap, KernelStack
from blindsr.kernels.plot import kernel_plot_png, map_plot_png, stack_plot_png
from blindsr.ops.color import linear_to_srgb
from blindsr.ops.resize import imresize_rows
from blindsr.ops.windows import LinearLightSource, Source
from blindsr.pipelines import blind
from blindsr.pipelines.blind import Fitted, RunResult
from blindsr.pipelines.linear_light import LinearLight, decide_linear_light
from blindsr.pipelines.memory import choose_tile, pixel_bytes_of
from blindsr.pipelines.outputs import Outputs, Staging, check_outputs, image_outputs, kernel_outputs, staged
from blindsr.pipelines.record import distinct, file_record, provenance_of, record_bytes
from blindsr.runtime import choose_device
from blindsr.settings import Settings

__all__ = [
    "ColorSource",
    "FileResult",
    "ImageRows",
    "estimate_file_kernel",
    "fit_image",
    "tile_for",
    "upscale_file",
]

STAGE = "photo"
_EXTENSION_WINDOWS = ((1.0, 1.0), (3.0, 1e-2), (9.0, 1e-4))  # σ in px and weight of the means of visible colors
_EXTENSION_RADII = 4.0  # radius of a window in σ
_EXTENSION = 36  # px, the largest radius
_EXTENSION_FADE = 1e-9  # weight of mid-gray
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
    """The color bands of an image as a `Source` of tensors, extended under transparent pixels where it has alpha.

    A transparent pixel has no color of its own: it gets the mean of the visible ones around it, so that no edge of the
    opacity is an edge of the colors, and no hidden color bleeds into visible ones.

    Args:
        image: The open image.
        device: Device of the windows.
    """

    def __init__(self, image: ImageSource, device: torch.device) -> None:
        self._image, self.device = image, device
        self.shape = image.shape

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w), float32, [0, 1]."""
        if not self._image.is_transparent:
            pixels = self._image.window(rows, columns).pixels
        else:
            _, height, width = self.shape
            top, left = max(0, rows.start - _EXTENSION), max(0, columns.start - _EXTENSION)
            outer = slice(top, min(height, rows.stop + _EXTENSION)), slice(left, min(width, columns.stop + _EXTENSION))
            photo = self._image.window(*outer)
            extended = photo.pixels if photo.alpha is None else extend_colors(photo.pixels, photo.alpha)
            pixels = extended[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].to(self.device)


def extend_colors(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give transparent pixels the mean color of the visible ones around them; far from these it fades to gray.

    Args:
        pixels: (H, W, C), not premultiplied.
        alpha: (H, W), [0, 1]; colors where it is above 0 are left unchanged.

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
        weight += share * ndimage.gaussian_filter(alpha, sigma, mode="constant", radius=radius)
        for band in range(filled.shape[2]):
            visible = alpha * pixels[..., band]
            color[..., band] += share * ndimage.gaussian_filter(visible, sigma, mode="constant", radius=radius)
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
    path: Path,
    settings: Settings | None = None,
    *,
    kernel: AnyKernel | None = None,
    kernel_warnings: tuple[str, ...] = (),
    linear_light: LinearLight = "auto",
    output: Path | None = None,
    output_stem: Path | None = None,
    run_id: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    max_memory: int | None = None,
    listener: Listener = ignore,
) -> FileResult:
    """Upscale a photograph, and write the kernel, its plot and a record beside the result.

    The photograph is read, upscaled and written by rows, so that memory does not grow with its height. Alpha is
    upscaled separately by bicubic interpolation; the colors are extended under transparent pixels and upscaled as they
    are, so that neither hidden colors nor the edges of the opacity change visible ones.

    Args:
        path: The photograph.
        settings: The default preset if None.
        kernel: A known kernel for `settings.run_scale`, or one for each band; None estimates it.
        kernel_warnings: Warnings from reading the kernel, for the record.
        linear_light: With a known kernel: whether to undo the sRGB curve before upscaling ("auto", "on" or "off").
        output: The image to write; None is PHOTO_blindsr_x2.png (or .tif) beside the photograph.
        output_stem: Instead of `output`: its path without the suffix, which the photograph's samples then decide.
        run_id: Name of this job in a batch, kept in the record; hidden folders of killed jobs are recognised by it
            (`blindsr.pipelines.outputs.leftovers`).
        overwrite: Replace results that exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        files: How images are read and written.
        max_memory: Bytes that the job may use; None is what is free.
        listener: Receives the events.

    Returns:
        The files, and the pipeline's result.

    Raises:
        ImageError: The file is no usable photograph, or the work does not fit into memory.
        OutputError: A result exists, or cannot be written; no file of this run is left then.
        KernelError: The kernel is for another scale or larger than the image.
        ConfigError: A setting does not fit the photograph.
        DeviceError: The device does not exist on this machine.
        DivergenceError: A training diverged.
    """
    settings = Settings() if settings is None else settings
    job, torch_device = _Job(listener), choose_device(device)
    with _opened(path, files, job) as image:
        width, height = image.size
        settings = settings.for_image(height, width)
        header = without_metadata(image.header) if files.strip_metadata else image.header
        job.warn((*header.warnings, *settings.shape_warnings(height, width)))
        suffix = files.suffix(default_suffix(header, image.channels))
        if output_stem is not None:
            output = output_stem.with_name(output_stem.name + suffix)
        outputs = image_outputs(path, settings.label, suffix, output)
        _check_before_the_work(image, path, header, settings, outputs, kernel, files, overwrite=overwrite)
        out_height, out_width = settings.output_size(height, width)
        tile = tile_for(image, settings, torch_device, max_memory)
        fitted, linear = fit_image(
            image, settings, kernel=kernel, linear_light=linear_light, device=torch_device, listener=listener
        )
        with staged(outputs, run_id) as staging:
            if outputs.image is None:
                raise RuntimeError("upscaling writes an image")
            used = blind.representative(fitted.kernel)
            if not files.strip_metadata:
                header = with_provenance(header, provenance_of(settings, used, image.sha256))
            with open_writer(
                staging.path(outputs.image),
                header,
                size=(out_width, out_height),
                channels=image.channels,
                quality=files.quality,
            ) as image_writer:
                writer = ImageRows(image_writer, image, (out_height, out_width), linear=linear)
                result = blind.apply(fitted, settings, writer, tile=tile, listener=listener)
            job.warn(image_writer.warnings)
            job.warnings.extend((*kernel_warnings, *result.warnings))
            result = replace(result, timings={**result.timings, "write": writer.seconds})
            job.timings.update(result.timings)
            return _finish(job, path, image, settings, torch_device, outputs, staging, result, run_id, overwrite)


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
    listener: Listener,
) -> tuple[Fitted, bool]:
    """Fit the upscaler to an open image: a file, or an array in memory.

    Returns:
        The fitted upscaler, and whether it works in linear light.

    Raises:
        ImageError, KernelError, ConfigError, DivergenceError: As `upscale_file`.
    """
    source: Source = ColorSource(image, device)
    linear, warnings = False, tuple[str, ...]()
    if kernel is not None:
        linear, warnings = decide_linear_light(linear_light, image, blind.representative(kernel))
    for warning in warnings:
        listener(Notice(stage=STAGE, message=warning))
    fitted = blind.fit(
        LinearLightSource(source) if linear else source,
        settings,
        kernel=kernel,
        compression_sigma=jpeg_noise_sigma(image.jpeg_tables),
        linear_light=linear,
        listener=listener,
    )
    return replace(fitted, warnings=(*warnings, *fitted.warnings)), linear


def estimate_file_kernel(
    path: Path,
    settings: Settings | None = None,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    listener: Listener = ignore,
) -> FileResult:
    """Estimate the kernel of a photograph, and write it with its plot and a record.

    Args:
        path: The photograph.
        settings: The default preset if None.
        output: The kernel's file (.npz, .npy or .mat); None is PHOTO_blindsr_x2.kernel.npz beside the photograph.
        overwrite: Replace results that exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
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
    job, torch_device = _Job(listener), choose_device(device)
    outputs = kernel_outputs(path, settings.label, output)
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
def _opened(path: Path, files: FileOptions, job: _Job) -> Iterator[FileSource]:
    with job.timed("read"):
        image = open_image(path, options=files)
    with image:
        yield image


def _check_before_the_work(
    image: ImageSource,
    path: Path,
    header: PhotoHeader,
    settings: Settings,
    outputs: Outputs,
    kernel: AnyKernel | None,
    files: FileOptions,
    *,
    overwrite: bool,
) -> None:
    """Refuse now what could not be written after the work."""
    if outputs.image is None:
        raise RuntimeError("upscaling writes an image")
    files.check_name(outputs.image)
    # A kernel file with the same content is no obstacle; it is rendered only if there is a file to compare it with.
    contents = kernel_files(kernel, outputs) if kernel is not None and outputs.kernel.exists() else {}
    check_outputs(outputs, path, contents, overwrite=overwrite)
    width, height = image.size
    out_height, out_width = settings.output_size(height, width)
    check_format(
        header,
        image.channels,
        outputs.image,
        size=(out_width, out_height),
        is_transparent=image.is_transparent,
        quality=files.quality,
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
    """

    def __init__(self, writer: "StripWriter", image: ImageSource, size: tuple[int, int], *, linear: bool) -> None:
        self._writer, self._image, self._size, self._linear = writer, image, size, linear
        self._top = 0
        self.seconds = 0.0

    def write(self, rows: Tensor) -> None:
        """Take the next rows, (1, C, rows, W)."""
        started = time.perf_counter()
        for part in torch.split(rows[0], _ROWS, 1):
            bottom = self._top + part.shape[1]
            encoded = linear_to_srgb(part).clamp_(0, 1) if self._linear else part
            pixels = encoded.permute(1, 2, 0).numpy()
            alpha = self._alpha(self._top, bottom)
            self._writer.write(Strip(np.ascontiguousarray(pixels), alpha, self._valid(self._top, bottom)))
            self._top = bottom
        self.seconds += time.perf_counter() - started

    def _alpha(self, top: int, bottom: int) -> NDArray[np.float32] | None:
        image = self._image
        if not image.is_transparent:
            return None
        width, height = image.size

        def rows(first: int, last: int) -> Tensor:
            alpha = image.window(slice(first, last), slice(0, width)).alpha
            if alpha is None:
                raise RuntimeError("every window of a transparent image has alpha")
            return torch.from_numpy(alpha)[None, None]

        resized = imresize_rows(rows, (height, width), self._size, top, bottom).clamp(0, 1)
        array: NDArray[np.float32] = resized[0, 0].numpy()
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
