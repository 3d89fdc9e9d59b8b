"""What every job on a file has in common: what is gathered while it runs, and how its results are written."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from blindsr.events import Listener, Notice
from blindsr.image_io import DEFAULT_FILES, FileOptions, Photo, PhotoHeader, with_provenance
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.bands import BandKernels
from blindsr.kernels.files import kernel_bytes, stack_bytes
from blindsr.kernels.picture import bands_picture, kernel_picture
from blindsr.pipelines.outputs import Outputs, Staging, staged
from blindsr.pipelines.provenance import provenance_of
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

__all__ = ["Facts", "Job", "PhotoResult", "finish", "kernel_files", "with_its_making"]

STAGE = "photo"
_Header = TypeVar("_Header", PhotoHeader, Photo)


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
class Job:
    """What is gathered while a job runs."""

    source: Path
    settings: Settings
    device: torch.device
    listener: Listener
    files: FileOptions = DEFAULT_FILES
    digest: str = ""
    run_id: str | None = None
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def say(self, sentences: tuple[str, ...]) -> None:
        """Tell the user now, and keep it for the record."""
        for sentence in sentences:
            self.listener(Notice(stage=STAGE, message=sentence))
        self.notes.extend(sentences)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the record says of the photograph."""

    width: int
    height: int
    channels: int
    alpha: bool

    @classmethod
    def of(cls, photo: Photo) -> "Facts":
        """Those of a photograph in memory."""
        height, width, channels = photo.pixels.shape
        return cls(width=width, height=height, channels=channels, alpha=photo.alpha is not None)


def with_its_making(job: Job, photo: _Header, kernel: Kernel) -> _Header:
    """Note in a picture how it was made, unless its metadata is to be left out."""
    if job.files.strip_metadata:
        return photo
    return with_provenance(photo, provenance_of(job.settings, kernel, job.digest))


def kernel_files(kernel: Kernel | BandKernels, outputs: Outputs) -> dict[Path, bytes]:
    """The files of a kernel by path: its weights and its picture."""
    if isinstance(kernel, BandKernels):
        return {
            outputs.kernel: stack_bytes(kernel.kernels, kernel.names),
            outputs.picture: bands_picture(kernel),
        }
    return {
        outputs.kernel: kernel_bytes(kernel, outputs.kernel.suffix.lower()),
        outputs.picture: kernel_picture(kernel),
    }


def finish(
    job: Job,
    outputs: Outputs,
    facts: Facts,
    make: Callable[[Staging], Upscaled | KernelEstimate],
    *,
    overwrite: bool,
) -> PhotoResult:
    """Write everything; nothing has its name before all is written.

    Args:
        job: The job.
        outputs: The files.
        facts: Of the photograph.
        make: Writes the picture where it is told to, if there is one, and gives what was found.
        overwrite: Replace results that exist.
    """
    with staged(outputs, job.run_id) as staging:
        found = make(staging)
        with job.timed("write"):
            used = (found.band_kernels if isinstance(found, Upscaled) else None) or found.kernel
            for path, content in kernel_files(used, outputs).items():
                staging.place(path).write_bytes(content)
        record = _record(job, outputs, facts, found)
        if outputs.image is not None:
            record["image_sha256"] = file_digest(staging.place(outputs.image))
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        # The name of a file need not be text: what is none becomes JSON's own escapes.
        staging.place(outputs.record).write_bytes((text + "\n").encode("utf-8", "backslashreplace"))
        staging.release(outputs, overwrite=overwrite)
    return PhotoResult(
        outputs=outputs,
        kernel=found.kernel,
        upscaled=found if isinstance(found, Upscaled) else None,
        record=record,
        notes=distinct(job.notes),
        seconds=job.seconds,
    )


def _record(job: Job, outputs: Outputs, facts: Facts, found: Upscaled | KernelEstimate) -> dict[str, object]:
    estimate = found.estimate if isinstance(found, Upscaled) else found
    return {
        "input": {
            "name": job.source.name,
            "sha256": job.digest,
            "width": facts.width,
            "height": facts.height,
            "colour_channels": facts.channels,
            "alpha": facts.alpha,
        },
        **({} if job.run_id is None else {"run_id": job.run_id}),
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
