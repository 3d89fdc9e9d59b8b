"""The job on a file: a photograph in; a larger photograph, its kernel and the record of the run out."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import Photo, default_suffix, premultiply, read_photo, unpremultiply, write_photo
from blindsr.image_io.jpeg import jpeg_noise
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.files import kernel_bytes
from blindsr.kernels.picture import kernel_picture
from blindsr.ops import imresize
from blindsr.ops.noise import estimate_noise
from blindsr.pipelines import blind, known
from blindsr.pipelines.memory import check_memory
from blindsr.pipelines.outputs import Outputs, check_outputs, image_outputs, kernel_outputs, staged
from blindsr.pipelines.record import (
    describe_estimate,
    describe_kernel,
    describe_run,
    describe_upscaled,
    distinct,
    file_digest,
    plain,
)
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings
from blindsr.runtime import choose_device
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.upscaler import LEAST_NOISE_SIDE

__all__ = ["PhotoResult", "estimate_photo_kernel", "upscale_photo"]

STAGE = "photo"


@dataclass(frozen=True, kw_only=True)
class PhotoResult:
    """What a job on a file made.

    Args:
        outputs: The files.
        kernel: The kernel that was used or estimated.
        upscaled: The result of the pipeline; None when only the kernel was wanted.
        record: What the .json says.
        notes: Sentences for the user, all of them.
        seconds: From reading the photograph to the last file.
    """

    outputs: Outputs
    kernel: Kernel
    upscaled: Upscaled | None
    record: Mapping[str, object]
    notes: tuple[str, ...]
    seconds: float


@dataclass
class _Job:
    """What is gathered while a job runs."""

    source: Path
    settings: Settings
    device: torch.device
    listener: Listener
    digest: str = ""
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def say(self, sentences: tuple[str, ...]) -> None:
        for sentence in sentences:
            self.listener(Notice(stage=STAGE, message=sentence))
        self.notes.extend(sentences)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - start

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


def _start(source: Path, settings: Settings, device: str, listener: Listener) -> _Job:
    return _Job(source, settings, choose_device(device), listener)


def _read(job: _Job) -> Photo:
    with job.timed("read"):
        photo = read_photo(job.source)
        job.digest = file_digest(job.source)
    job.say(photo.notes)
    return photo


def _colours(photo: Photo, device: torch.device) -> Tensor:
    """The colour bands as (1, C, H, W), premultiplied where the photograph has alpha."""
    pixels = photo.pixels if photo.alpha is None else premultiply(photo.pixels, photo.alpha)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous().to(device)


def _larger(photo: Photo, sr: Tensor) -> Photo:
    """The photograph with the pixels of the result, and its alpha resized to them."""
    pixels = sr[0].permute(1, 2, 0).float().cpu().numpy()
    if photo.alpha is None:
        return photo.with_result(pixels)
    alpha = imresize(torch.from_numpy(photo.alpha.copy())[None, None], size=(sr.shape[-2], sr.shape[-1]))
    alpha_sr = alpha.clamp(0, 1)[0, 0].numpy()
    return photo.with_result(unpremultiply(pixels, alpha_sr).clip(0, 1), alpha_sr)


def _kernel_files(kernel: Kernel, outputs: Outputs) -> dict[Path, bytes]:
    return {
        outputs.kernel: kernel_bytes(kernel, outputs.kernel.suffix.lower()),
        outputs.picture: kernel_picture(kernel),
    }


def _rehearse(photo: Photo, outputs: Outputs) -> None:
    """Write one pixel: a suffix that cannot hold this kind of photograph is found out now, not after the work."""
    alpha = None if photo.alpha is None else photo.alpha[:1, :1]
    with staged(outputs) as staging:
        if outputs.image is not None:
            write_photo(photo.with_result(photo.pixels[:1, :1], alpha), staging.place(outputs.image))


def upscale_photo(
    source: Path,
    settings: Settings | None = None,
    *,
    kernel: Kernel | None = None,
    kernel_notes: tuple[str, ...] = (),
    output: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    listener: Listener = ignore,
) -> PhotoResult:
    """Upscale a photograph, and write the kernel, its picture and a record beside the result.

    Alpha is upscaled by itself, bicubically; the colours are upscaled premultiplied, so that what lies
    hidden under transparent pixels does not bleed into the visible ones.

    Args:
        source: The photograph's file.
        settings: The defaults if None.
        kernel: The kernel for ⌈scale⌉; None estimates it from the photograph.
        kernel_notes: What was said when the kernel was read; the record keeps it.
        output: The image to write; None is PHOTO_blindsr_x2.png (or .tif) beside the photograph.
        overwrite: Replace results that exist.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
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
    job = _start(source, settings, device, listener)
    photo = _read(job)
    outputs = image_outputs(source, settings.scale, default_suffix(photo), output)
    # Drawn only if there is something to compare it with.
    known_contents = _kernel_files(kernel, outputs) if kernel is not None and outputs.kernel.exists() else {}
    check_outputs(outputs, source, known_contents, overwrite=overwrite)
    _rehearse(photo, outputs)
    height, width, channels = photo.pixels.shape
    check_memory(height, width, channels, settings.scale, job.device)
    image = _colours(photo, job.device)
    settings = _with_compression(job, source, settings, image)
    if kernel is None:
        upscaled = blind.estimate_and_upscale(image, settings, listener=listener)
    else:
        upscaled = known.upscale(image, kernel, settings, listener=listener)
    job.timings.update(upscaled.timings)
    job.notes.extend((*kernel_notes, *upscaled.notes))
    return _finish(job, outputs, photo, upscaled, overwrite=overwrite)


def _with_compression(job: "_Job", source: Path, settings: Settings, image: Tensor) -> Settings:
    """Settings that treat what a JPEG's quantisation has added as noise, unless a noise level was asked for.

    An estimate from the picture cannot see it: compression has smoothed the flat areas that the estimate looks at.
    """
    if not isinstance(settings.zssr, StartConfig) or settings.zssr.noise_sigma is not None:
        return settings
    compression = jpeg_noise(source)
    if compression <= 0:
        return settings
    measured = estimate_noise(image) if min(image.shape[-2:]) >= LEAST_NOISE_SIDE else 0.0
    job.notes.append(f"JPEG compression of about {255 * compression:.1f} grey levels is treated as noise.")
    return replace(settings, zssr=replace(settings.zssr, noise_sigma=max(compression, measured)))


def estimate_photo_kernel(
    source: Path,
    settings: Settings | None = None,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
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
    job = _start(source, settings, device, listener)
    outputs = kernel_outputs(source, settings.scale, output)
    photo = _read(job)
    check_outputs(outputs, source, overwrite=overwrite)
    with job.timed("kernel"):
        estimate = blind.estimate_kernel(_colours(photo, job.device), settings, listener=listener)
    job.notes.extend(estimate.notes)
    return _finish(job, outputs, photo, estimate, overwrite=overwrite)


def _finish(
    job: _Job, outputs: Outputs, photo: Photo, found: Upscaled | KernelEstimate, *, overwrite: bool
) -> PhotoResult:
    """Write everything; nothing has its name before all is written."""
    with staged(outputs) as staging:
        with job.timed("write"):
            if isinstance(found, Upscaled) and outputs.image is not None:
                job.say(tuple(write_photo(_larger(photo, found.image), staging.place(outputs.image))))
            for path, content in _kernel_files(found.kernel, outputs).items():
                staging.place(path).write_bytes(content)
        record = _record(job, outputs, photo, found)
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        staging.place(outputs.record).write_text(text + "\n", encoding="utf-8")
        staging.release(outputs, overwrite=overwrite)
    return PhotoResult(
        outputs=outputs,
        kernel=found.kernel,
        upscaled=found if isinstance(found, Upscaled) else None,
        record=record,
        notes=distinct(job.notes),
        seconds=job.seconds,
    )


def _record(job: _Job, outputs: Outputs, photo: Photo, found: Upscaled | KernelEstimate) -> dict[str, object]:
    height, width, channels = photo.pixels.shape
    estimate = found.estimate if isinstance(found, Upscaled) else found
    return {
        "input": {
            "name": job.source.name,
            "sha256": job.digest,
            "width": width,
            "height": height,
            "colour_channels": channels,
            "alpha": photo.alpha is not None,
        },
        "files": outputs.names(),
        "kernel": describe_kernel(found.kernel),
        "estimate": None if estimate is None else describe_estimate(estimate),
        **(describe_upscaled(found) if isinstance(found, Upscaled) else {}),
        "notes": list(distinct(job.notes)),
        "timings": {name: round(seconds, 3) for name, seconds in job.timings.items()},
        "seconds": round(job.seconds, 3),
        **describe_run(job.settings, job.device),
        "history": plain(found.history),
    }
