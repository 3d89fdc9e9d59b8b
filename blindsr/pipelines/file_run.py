"""A run on a file: what was asked, what is collected while it goes on, and the files that it leaves."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import (
    DEFAULT_FILES,
    Animation,
    FileOptions,
    FileSource,
    ImageSource,
    PhotoHeader,
    check_format,
    check_options,
    open_image,
    with_provenance,
    without_metadata,
)
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.files import kernel_bytes
from blindsr.kernels.kernel import AnyKernel, KernelMap, KernelStack
from blindsr.kernels.plot import kernel_plot_png, map_plot_png, stack_plot_png
from blindsr.pipelines.blind import RunResult
from blindsr.pipelines.degradation import LinearLight
from blindsr.pipelines.outputs import Outputs, Staging, check_outputs, image_outputs
from blindsr.pipelines.record import distinct, file_record, provenance_of, record_bytes
from blindsr.settings import Settings

__all__ = ["STAGE", "FileResult", "FileRun", "kernel_files"]

STAGE = "photo"


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """The result of a run on a file.

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


@dataclass(kw_only=True)
class FileRun:
    """A run on a file from its arguments, which are those of `upscale_file`, to its `FileResult`.

    Args:
        warnings: Sentences for the user, collected by `warn` and `finish`.
        timings: Seconds by stage.
        started: When the run began, s.
    """

    path: Path
    device: torch.device
    files: FileOptions = DEFAULT_FILES
    kernel: AnyKernel | None = None
    kernel_warnings: tuple[str, ...] = ()
    linear_light: LinearLight = "auto"
    output: Path | None = None
    output_stem: Path | None = None
    run_id: str | None = None
    overwrite: bool = False
    max_memory: int | None = None
    listener: Listener = ignore
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Check the options."""
        check_options(self.files)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self.started

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

    @contextmanager
    def opened(self, *, advises_all_pages: bool = False) -> Iterator[FileSource]:
        """The open photograph."""
        with self.timed("read"):
            image = open_image(self.path, options=self.files, advises_all_pages=advises_all_pages)
        with image:
            yield image

    def header_of(self, image: ImageSource) -> PhotoHeader:
        """The metadata that the result keeps of an image."""
        return without_metadata(image.header) if self.files.strip_metadata else image.header

    def with_provenance(self, header: PhotoHeader, settings: Settings, kernel: AnyKernel, digest: str) -> PhotoHeader:
        """The metadata with how the result was made, if it keeps any; `digest` is the SHA-256 of the file."""
        if self.files.strip_metadata:
            return header
        return with_provenance(header, provenance_of(settings, kernel.representative, digest))

    def outputs(self, settings: Settings, default_suffix: str) -> Outputs:
        """The files of the result, whose image has a suffix of its own unless a name or a format was given."""
        suffix = self.files.suffix(default_suffix)
        stem = self.output_stem
        output = self.output if stem is None else stem.with_name(stem.name + suffix)
        return image_outputs(self.files.named(self.path), settings.label, suffix, output)

    def check(
        self,
        image: ImageSource,
        header: PhotoHeader,
        settings: Settings,
        outputs: Outputs,
        *,
        images: int = 1,
        animation: Animation | None = None,
    ) -> None:
        """Check, before any computation, that the result of an image can be written.

        Raises:
            OutputError: A file exists, or the format cannot store the result.
        """
        self.files.check_name(outputs.result)
        # A kernel file with the same content is no obstacle; it is rendered only if there is a file to compare it with.
        exists = os.path.exists(outputs.kernel)  # noqa: PTH110 # False for a name that is too long: refused below
        contents = kernel_files(self.kernel, outputs) if self.kernel is not None and exists else {}
        check_outputs(outputs, self.path, contents, overwrite=self.overwrite)
        _, height, width = image.shape
        check_format(
            header,
            image.channels,
            outputs.result,
            size=settings.output_size(height, width)[::-1],
            is_transparent=image.is_transparent,
            quality=self.files.quality,
            images=images,
            animation=animation,
        )

    def finish(
        self,
        image: ImageSource,
        settings: Settings,
        outputs: Outputs,
        staging: Staging,
        result: RunResult | KernelEstimate,
        details: Mapping[str, object] | None = None,
    ) -> FileResult:
        """Write the sidecar files and give all files their names at once.

        Args:
            image: The open photograph.
            settings: Settings of the run, for this image.
            outputs: The files.
            staging: Where they are before they have their names.
            result: What was computed.
            details: Further entries of the record.
        """
        with self.timed("write"):
            bands = result.band_kernels if isinstance(result, RunResult) else None
            used = bands or result.kernel_map or result.kernel
            for target, content in kernel_files(used, outputs).items():
                staging.path(target).write_bytes(content)
        warnings = distinct(self.warnings)
        record = file_record(
            self.path,
            image,
            settings,
            self.device,
            outputs,
            result,
            run_id=self.run_id,
            warnings=warnings,
            timings=self.timings,
            seconds=self.seconds,
            image_file=None if outputs.image is None else staging.path(outputs.image),
        )
        record = {**record, **(details or {})}
        staging.path(outputs.record).write_bytes(record_bytes(record))
        staging.release(outputs, overwrite=self.overwrite)
        return FileResult(
            outputs=outputs,
            kernel=result.kernel,
            run=result if isinstance(result, RunResult) else None,
            record=record,
            warnings=warnings,
            seconds=self.seconds,
        )


def kernel_files(kernel: AnyKernel, outputs: Outputs) -> dict[Path, bytes]:
    """The files of a kernel by path: its weights and its plot."""
    if isinstance(kernel, KernelStack):
        return {outputs.kernel: kernel_bytes(kernel, ".npz"), outputs.plot: stack_plot_png(kernel)}
    weights = kernel_bytes(kernel, outputs.kernel.suffix.lower())
    plot = map_plot_png(kernel) if isinstance(kernel, KernelMap) else kernel_plot_png(kernel)
    return {outputs.kernel: weights, outputs.plot: plot}
