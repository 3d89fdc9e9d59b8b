"""The job on a file: a photograph in; a larger photograph, its kernel and the record of the run out."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from blindsr.events import Listener, ignore
from blindsr.image_io import (
    DEFAULT_FILES,
    FileOptions,
    Photo,
    check_format,
    default_suffix,
    premultiply,
    read_photo,
    unpremultiply,
    upscale_valid,
    without_metadata,
    write_photo,
)
from blindsr.image_io.strips import open_strips
from blindsr.kernels import Kernel
from blindsr.kernels.bands import BandKernels
from blindsr.ops import imresize
from blindsr.pipelines import blind
from blindsr.pipelines.bands import LinearLight, decide_light, upscale_known
from blindsr.pipelines.compression import with_compression
from blindsr.pipelines.job import Facts, Job, PhotoResult, finish, kernel_files, with_its_making
from blindsr.pipelines.large_photo import Names, is_large, upscale_large_photo
from blindsr.pipelines.memory import check_memory
from blindsr.pipelines.outputs import Outputs, Staging, check_outputs, image_outputs, kernel_outputs, staged
from blindsr.pipelines.record import file_digest
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.sampling import estimation_window
from blindsr.pipelines.settings import Settings
from blindsr.pipelines.windows import FileWindows
from blindsr.runtime import choose_device

__all__ = ["PhotoResult", "estimate_photo_kernel", "upscale_photo"]


def _read(job: Job) -> Photo:
    with job.timed("read"):
        photo = read_photo(job.source, max_pixels=job.files.max_pixels)
        job.digest = file_digest(job.source)
    job.say(photo.notes)
    return without_metadata(photo) if job.files.strip_metadata else photo


def _colours(photo: Photo, device: torch.device) -> Tensor:
    """The colour bands as (1, C, H, W), premultiplied where the photograph has alpha."""
    pixels = photo.pixels if photo.alpha is None else premultiply(photo.pixels, photo.alpha)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous().to(device)


def _larger(photo: Photo, sr: Tensor) -> Photo:
    """The photograph with the pixels of the result, and its alpha resized to them."""
    pixels = sr[0].permute(1, 2, 0).float().cpu().numpy()
    valid = None if photo.valid is None else upscale_valid(photo.valid, *pixels.shape[:2])
    if photo.alpha is None:
        return photo.with_result(pixels, valid=valid)
    alpha = imresize(torch.from_numpy(photo.alpha.copy())[None, None], size=(sr.shape[-2], sr.shape[-1]))
    alpha_sr = alpha.clamp(0, 1)[0, 0].numpy()
    return photo.with_result(unpremultiply(pixels, alpha_sr).clip(0, 1), alpha_sr, valid)


def _rehearse(photo: Photo, outputs: Outputs, run_id: str | None, quality: int | None) -> None:
    """Write one pixel: a suffix that cannot hold this kind of photograph is found out now, not after the work."""
    alpha = None if photo.alpha is None else photo.alpha[:1, :1]
    with staged(outputs, run_id) as staging:
        if outputs.image is not None:
            write_photo(photo.with_result(photo.pixels[:1, :1], alpha), staging.place(outputs.image), quality=quality)


def upscale_photo(
    source: Path,
    settings: Settings | None = None,
    *,
    kernel: Kernel | BandKernels | None = None,
    kernel_notes: tuple[str, ...] = (),
    linear_light: LinearLight = "auto",
    output: Path | None = None,
    output_stem: Path | None = None,
    run_id: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    max_memory: int | None = None,
    listener: Listener = ignore,
) -> PhotoResult:
    """Upscale a photograph, and write the kernel, its picture and a record beside the result.

    Alpha is upscaled by itself, bicubically; the colours are upscaled premultiplied, so that what lies
    hidden under transparent pixels does not bleed into the visible ones.

    Args:
        source: The photograph's file.
        settings: The defaults if None.
        kernel: The kernel for ⌈scale⌉, or one for each band; None estimates it from the photograph.
        kernel_notes: What was said when the kernel was read; the record keeps it.
        linear_light: Of a known kernel: whether to undo the sRGB curve before upscaling (docs/known-kernels.md).
        output: The image to write; None is PHOTO_blindsr_x2.png (or .tif) beside the photograph.
        output_stem: Instead of `output`: its path without the suffix, which the photograph's samples then decide.
        run_id: What a batch calls this job, kept in the record; the hidden folder of a job that was killed is told by
            it (`blindsr.pipelines.outputs.leftovers`).
        overwrite: Replace results that exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        files: How pictures are read and written.
        max_memory: Bytes that the job may take; None is what is free. Large photographs are read, upscaled and
            written by strips in either case.
        listener: Takes the events.

    Returns:
        Where everything is, and the pipeline's result.

    Raises:
        ImageError: The file is no usable photograph, or the work does not fit into memory.
        OutputError: A result exists, or cannot be written; nothing of this run is left then.
        KernelError: The kernel is for another scale or larger than the image.
        DeviceError: The device is not here.
        DivergenceError: The training left the finite numbers.
    """
    settings = Settings() if settings is None else settings
    job = Job(source, settings, choose_device(device), listener, files)
    job.run_id = run_id
    if not isinstance(kernel, BandKernels) and is_large(source, settings, max_memory):
        names = Names(output=output, stem=output_stem, overwrite=overwrite)
        return upscale_large_photo(job, kernel, kernel_notes, linear_light, names, max_memory)
    photo = _read(job)
    settings = job.settings = settings.for_image(*photo.pixels.shape[:2])
    if output_stem is not None:
        output = output_stem.with_name(output_stem.name + files.suffix(default_suffix(photo)))
    outputs = image_outputs(source, settings.label, files.suffix(default_suffix(photo)), output)
    if outputs.image is not None:
        files.check_name(outputs.image)
    # Drawn only if there is something to compare it with.
    known_contents = kernel_files(kernel, outputs) if kernel is not None and outputs.kernel.exists() else {}
    check_outputs(outputs, source, known_contents, overwrite=overwrite)
    if outputs.image is not None:
        size = settings.output_size(*photo.pixels.shape[:2])[::-1]
        is_transparent = photo.alpha is not None
        check_format(photo, photo.channels, outputs.image, size=size, is_transparent=is_transparent)
    _rehearse(photo, outputs, run_id, files.quality)
    height, width, channels = photo.pixels.shape
    check_memory(height, width, channels, settings.scale, job.device, budget=max_memory)
    image = _colours(photo, job.device)
    settings = with_compression(job, settings, image)
    if kernel is None:
        upscaled = blind.estimate_and_upscale(image, settings, listener=listener)
    else:
        linear, said = decide_light(linear_light, photo, kernel)
        job.say(said)
        upscaled = upscale_known(image, kernel, settings, linear=linear, listener=listener)
    job.timings.update(upscaled.timings)
    job.notes.extend((*kernel_notes, *upscaled.notes))

    def make(staging: Staging) -> Upscaled:
        if outputs.image is not None:
            with job.timed("write"):
                larger = with_its_making(job, _larger(photo, upscaled.image), upscaled.kernel)
                job.say(tuple(write_photo(larger, staging.place(outputs.image), quality=files.quality)))
        return upscaled

    return finish(job, outputs, Facts.of(photo), make, overwrite=overwrite)


def estimate_photo_kernel(
    source: Path,
    settings: Settings | None = None,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    listener: Listener = ignore,
) -> PhotoResult:
    """Estimate the kernel of a photograph, and write it with its picture and a record.

    Args:
        source: The photograph's file.
        settings: The defaults if None.
        output: The kernel's file (.npz, .npy or .mat); None is PHOTO_blindsr_x2.kernel.npz beside the
            photograph.
        overwrite: Replace results that exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        files: How pictures are read and written.
        listener: Takes the events.

    Returns:
        Where everything is, and the kernel.

    Raises:
        ImageError: The file is no usable photograph.
        OutputError: A result exists, or cannot be written; nothing of this run is left then.
        DeviceError: The device is not here.
        DivergenceError: The training left the finite numbers.
    """
    settings = Settings() if settings is None else settings
    job = Job(source, settings, choose_device(device), listener, files)
    outputs = kernel_outputs(source, settings.label, output)
    with open_strips(source, max_pixels=files.max_pixels) as opened:
        with job.timed("read"):
            job.digest = file_digest(source)
        job.say(opened.header.notes)
        check_outputs(outputs, source, overwrite=overwrite)
        with job.timed("kernel"):
            # Of a large photograph only the windows that are looked at become floats.
            looked_at = estimation_window(FileWindows(opened, job.device), settings.region)
            estimate = blind.estimate_kernel(looked_at, replace(settings, region=None), listener=listener)
        job.notes.extend(estimate.notes)
        width, height = opened.size
        facts = Facts(width=width, height=height, channels=opened.channels, alpha=opened.is_transparent)
    return finish(job, outputs, facts, lambda staging: estimate, overwrite=overwrite)
