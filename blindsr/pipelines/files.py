"""Files in, files out: a photograph; a larger photograph, its kernel and the record of the run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from blindsr.errors import ConfigError, OutputError
from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import (
    ALL_PAGES,
    DEFAULT_FILES,
    FileOptions,
    ImageSource,
    default_suffix,
    image_size,
    open_frames,
    open_writer,
)
from blindsr.kernels.files import KernelLike, as_kernel
from blindsr.kernels.kernel import AnyKernel, KernelStack
from blindsr.pipelines import blind
from blindsr.pipelines.degradation import LinearLight, Noise, measure_noise
from blindsr.pipelines.file_run import STAGE, FileResult, FileRun
from blindsr.pipelines.image import ColorSource, fit_image, render, tile_for
from blindsr.pipelines.letterbox import content_of
from blindsr.pipelines.outputs import check_outputs, kernel_outputs, staged
from blindsr.pipelines.repair import repaired_for_upscaling
from blindsr.pipelines.series import upscale_series
from blindsr.runtime import choose_device
from blindsr.settings import Settings, as_settings

__all__ = ["FileResult", "common_scale", "estimate_file_kernel", "given_kernel", "upscale_file"]


def upscale_file(
    path: str | Path,
    settings: Settings | str | None = None,
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
        settings: Settings, or the name of a preset; those of the default one if None.
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
    settings = as_settings(settings)
    run = FileRun(
        path=Path(path),
        device=choose_device(device),
        files=files,
        kernel=None if kernel is None else given_kernel(kernel, settings, [Path(path)]),
        kernel_warnings=kernel_warnings,
        linear_light=linear_light,
        output=None if output is None else Path(output),
        output_stem=output_stem,
        run_id=run_id,
        overwrite=overwrite,
        max_memory=max_memory,
        listener=listener,
    )
    if isinstance(run.kernel, KernelStack) and (band := run.kernel.of_file(run.path.name)) is not None:
        others = tuple(f"band {name}: " for name in run.kernel.names if name != band[0])
        run.kernel_warnings = tuple(text for text in kernel_warnings if not text.startswith(others))
        run.kernel = band[1]
        listener(Notice(stage=STAGE, message=f"the kernel of band {band[0]}, by the name of the file", is_plain=True))
    if files.page == ALL_PAGES:
        with run.timed("read"):
            frames = open_frames(run.path, options=files)
        with frames:
            if len(frames) > 1:
                return upscale_series(frames, settings, run)
        run.files = replace(files, page=None)
    return _upscale_image(settings, run, noise)


def _upscale_image(settings: Settings, run: FileRun, noise: Noise | None) -> FileResult:
    """Upscale a file with one image, or one of its images."""
    with run.opened(advises_all_pages=True) as image:
        height, width = image.shape[1:]
        settings = settings.for_image(height, width)
        header = run.header_of(image)
        run.warn((*header.warnings, *settings.shape_warnings(height, width)))
        outputs = run.outputs(settings, default_suffix(header, image.channels))
        run.check(image, header, settings, outputs)
        tile = tile_for(image, settings, run.device, run.max_memory)
        fitted = fit_image(
            image,
            settings,
            kernel=run.kernel,
            linear_light=run.linear_light,
            device=run.device,
            noise=_noise_in_series(image, settings, run, noise),
            listener=run.listener,
        )
        with staged(outputs, run.run_id) as staging:
            header = run.with_provenance(header, settings, fitted.kernel, image.sha256)
            size, quality = settings.output_size(height, width)[::-1], run.files.quality
            with open_writer(
                staging.path(outputs.result), header, size=size, channels=image.channels, quality=quality
            ) as writer:
                result = render(fitted, image, settings, writer, tile=tile, listener=run.listener)
            run.warn(writer.warnings)
            run.warnings.extend((*run.kernel_warnings, *result.warnings))
            run.timings.update(result.timings)
            return run.finish(image, settings, outputs, staging, result)


def _noise_in_series(image: ImageSource, settings: Settings, run: FileRun, noise: Noise | None) -> tuple[Noise] | None:
    """The noise of the series that a file is part of, if that of the file is near it, or its own; None measures it.

    In linear light, noise is another one.
    """
    if noise is None or run.linear_light == "on":
        return None
    source, _ = repaired_for_upscaling(ColorSource(image, run.device), settings, run.kernel)
    own = measure_noise(content_of(source))
    return (noise if own.is_near(noise) else own,)


def estimate_file_kernel(
    path: str | Path,
    settings: Settings | str | None = None,
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
        settings: Settings, or the name of a preset; those of the default one if None.
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
    settings = as_settings(settings)
    run = FileRun(path=Path(path), device=choose_device(device), files=files, overwrite=overwrite, listener=listener)
    outputs = kernel_outputs(files.named(run.path), settings.label, None if output is None else Path(output))
    if settings.varying and outputs.kernel.suffix.lower() != ".npz":
        raise OutputError(
            f"kernels that vary are written to a .npz file, got {outputs.kernel.name}; change the suffix."
        )
    with run.opened() as image:
        run.warn(image.header.warnings)
        check_outputs(outputs, run.path, overwrite=overwrite)
        settings = settings.for_image(*image.shape[1:])
        with run.timed("kernel"):
            estimate = blind.estimate_kernel(ColorSource(image, run.device), settings, listener=listener)
        run.warnings.extend(estimate.warnings)
        with staged(outputs) as staging:
            return run.finish(image, settings, outputs, staging, estimate)


def given_kernel(kernel: KernelLike, settings: Settings, paths: Sequence[Path]) -> AnyKernel:
    """A kernel for images, of anything that describes one; its scale is that at which the images are run.

    Raises:
        KernelError: There is no such kernel for the scale.
        ConfigError: As `common_scale`.
    """
    return kernel if isinstance(kernel, AnyKernel) else as_kernel(kernel, common_scale(settings, paths))


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
