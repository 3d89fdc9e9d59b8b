"""The job on a photograph that is too large to be held as floats: strips in, tiles, strips out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.image_io import (
    Photo,
    Strip,
    check_format,
    default_suffix,
    unpremultiply,
    without_metadata,
    write_strips,
)
from blindsr.image_io.probe import picture_size
from blindsr.image_io.strips import PhotoSource, open_strips
from blindsr.kernels import Kernel
from blindsr.ops.light import linear_to_srgb
from blindsr.ops.resize import imresize_rows
from blindsr.pipelines.bands import LinearLight, decide_light, noise_of_light
from blindsr.pipelines.compression import with_compression
from blindsr.pipelines.job import Facts, Job, PhotoResult, finish, kernel_files, with_its_making
from blindsr.pipelines.memory import choose_tile
from blindsr.pipelines.outputs import Outputs, Staging, check_outputs, image_outputs
from blindsr.pipelines.record import file_digest
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings
from blindsr.pipelines.stream import upscale_stream
from blindsr.pipelines.windows import FileWindows
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.source import spread_windows

__all__ = ["LARGE", "Names", "is_large", "upscale_large_photo"]

# Samples of the result above which a photograph is worked on by strips; below, it is simply held in memory.
LARGE = 24_000_000
_ROWS = 256  # of the result that are handed to the writer together
_NOISE_WINDOW, _NOISE_WINDOWS = 256, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How the results are to be called, as `blindsr.pipelines.photo.upscale_photo` takes it."""

    output: Path | None
    stem: Path | None
    overwrite: bool


def is_large(path: Path, settings: Settings, max_memory: int | None) -> bool:
    """Whether a photograph is to be worked on by strips; the published ZSSR needs the whole image in memory."""
    size = picture_size(path)
    if size is None or isinstance(settings.zssr, PaperZSSRConfig):
        return False
    height, width, bands = size
    out_height, out_width = settings.output_size(height, width)
    return out_height * out_width * bands > LARGE or (max_memory is not None and max_memory < 2**31)


def upscale_large_photo(
    job: Job,
    kernel: Kernel | None,
    kernel_notes: tuple[str, ...],
    linear_light: LinearLight,
    names: Names,
    max_memory: int | None,
) -> PhotoResult:
    """Upscale a photograph by strips; results and errors as `blindsr.pipelines.photo.upscale_photo`."""
    with open_strips(job.source, max_pixels=job.files.max_pixels) as opened:
        with job.timed("read"):
            job.digest = file_digest(job.source)
        header = without_metadata(opened.header) if job.files.strip_metadata else opened.header
        job.say(header.notes)
        width, height = opened.size
        settings = job.settings = job.settings.for_image(height, width)
        outputs = _outputs(job, opened, kernel, names)
        source = FileWindows(opened, job.device)
        out_size = settings.output_size(height, width)
        tile = choose_tile(source.shape, settings.network_scale, out_size, job.device, budget=max_memory)
        windows = spread_windows(source, _NOISE_WINDOW, _NOISE_WINDOWS)
        sample = torch.cat([source.window(*window) for window in windows])
        settings = with_compression(job, settings, sample)
        linear = False
        if kernel is not None:
            linear, said = decide_light(linear_light, opened.read(0, 1, 0, 1), kernel)
            job.say(said)
        if linear:
            settings, source = noise_of_light(sample, settings), FileWindows(opened, job.device, linear=True)

        def make(staging: Staging) -> Upscaled:
            def deliver(strips: Iterator[Tensor], used: Kernel) -> None:
                if outputs.image is None:
                    return
                notes = write_strips(
                    with_its_making(job, header, used),
                    staging.place(outputs.image),
                    size=(out_size[1], out_size[0]),
                    channels=opened.channels,
                    strips=_finished(_encoded(strips) if linear else strips, opened, out_size),
                    quality=job.files.quality,
                )
                job.say(tuple(notes))

            upscaled = upscale_stream(source, kernel, settings, deliver, tile=tile, listener=job.listener)
            job.timings.update(upscaled.timings)
            job.notes.extend((*kernel_notes, *upscaled.notes))
            return upscaled

        facts = Facts(width=width, height=height, channels=opened.channels, alpha=opened.is_transparent)
        return finish(job, outputs, facts, make, overwrite=names.overwrite)


def _outputs(job: Job, opened: PhotoSource, kernel: Kernel | None, names: Names) -> Outputs:
    """The files of the job, checked before the work begins."""
    suffix = job.files.suffix(default_suffix(opened.header, opened.channels))
    output = names.output if names.stem is None else names.stem.with_name(names.stem.name + suffix)
    outputs = image_outputs(job.source, job.settings.label, suffix, output)
    known_contents = kernel_files(kernel, outputs) if kernel is not None and outputs.kernel.exists() else {}
    check_outputs(outputs, job.source, known_contents, overwrite=names.overwrite)
    if outputs.image is not None:
        job.files.check_name(outputs.image)
        width, height = opened.size
        check_format(
            opened.header,
            opened.channels,
            outputs.image,
            size=job.settings.output_size(height, width)[::-1],
            is_transparent=opened.is_transparent,
            quality=job.files.quality,
        )
    return outputs


def _encoded(strips: Iterator[Tensor]) -> Iterator[Tensor]:
    for strip in strips:
        yield linear_to_srgb(strip).clamp_(0, 1)
        del strip  # nobody holds it while the next one is made


def _finished(strips: Iterator[Tensor], opened: PhotoSource, size: tuple[int, int]) -> Iterator[Strip]:
    """Rows of the result as the file takes them: colours not premultiplied, with alpha and holes."""
    top = 0
    for strip in strips:
        for rows in torch.split(strip[0], _ROWS, 1):
            bottom = top + rows.shape[1]
            pixels = rows.permute(1, 2, 0).numpy()
            alpha = _alpha(opened, size, top, bottom)
            if alpha is not None:
                pixels = unpremultiply(pixels, alpha).clip(0, 1)
            yield Strip(np.ascontiguousarray(pixels), alpha, _valid(opened, size, top, bottom))
            top = bottom
        del strip, rows, pixels  # nobody holds them while the next strip is made


def _alpha(opened: PhotoSource, size: tuple[int, int], top: int, bottom: int) -> NDArray[np.float32] | None:
    if not opened.is_transparent:
        return None

    def rows(first: int, last: int) -> Tensor:
        alpha = opened.read(first, last).alpha
        if alpha is None:
            raise RuntimeError("a transparent photograph has alpha in every window; this is a defect")
        return torch.from_numpy(alpha)[None, None]

    width, height = opened.size
    resized: NDArray[np.float32] = imresize_rows(rows, (height, width), size, top, bottom).clamp(0, 1)[0, 0].numpy()
    return resized


def _valid(opened: PhotoSource, size: tuple[int, int], top: int, bottom: int) -> NDArray[np.bool_] | None:
    """Each place of the result asks the place of the input that its centre lies in, as `upscale_valid` does."""
    if not opened.has_holes:
        return None
    width, height = opened.size
    rows = ((np.arange(top, bottom) + 0.5) * height / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.intp)
    photo: Photo = opened.read(int(rows[0]), int(rows[-1]) + 1)
    if photo.valid is None:
        return np.ones((bottom - top, size[1], opened.channels), np.bool_)
    return np.ascontiguousarray(photo.valid[(rows - rows[0])[:, None], columns])
