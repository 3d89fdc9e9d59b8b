"""The record of a run: the .json beside a result, and the provenance inside the image file."""

import hashlib
import json
import math
import platform
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from blindsr import __version__
from blindsr.image_io import ImageSource, Provenance
from blindsr.kernels import Kernel, KernelEstimate, KernelMap
from blindsr.kernels.metrics import fwhm
from blindsr.pipelines.blind import RunResult
from blindsr.pipelines.checks import consistency_meaning
from blindsr.pipelines.outputs import Outputs
from blindsr.settings import Settings

__all__ = [
    "cache_key",
    "describe_kernel",
    "describe_run",
    "distinct",
    "file_digest",
    "file_record",
    "grouped",
    "plain",
    "provenance_of",
    "record_bytes",
]

T = TypeVar("T", bound=Hashable)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")  # in a sentence, and not within a word: "B4"
# Before a sentence, what it concerns: its numbers are names.
_INTERVAL = re.compile(r"\[[^\]\[]*\d[^\]\[]*, [^\]\[]*\d[^\]\[]*\]")  # of two numbers
_ABOUT = re.compile(r"(?:(?:band|channel|pages?|frames?) [^:]+|\d+ of \d+ (?:pages|frames)): ")


def plain(value: object) -> object:
    """The same content in JSON's types; numbers that JSON lacks (infinity, NaN) become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def cache_key(content: Mapping[str, object]) -> str:
    """A key of 20 hexadecimal digits that names some content, whatever the order of its parts."""
    text = json.dumps(plain(content), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(
    path: Path,
    image: ImageSource,
    settings: Settings,
    device: torch.device,
    outputs: Outputs,
    result: RunResult | KernelEstimate,
    *,
    run_id: str | None,
    warnings: tuple[str, ...],
    timings: Mapping[str, float],
    seconds: float,
    image_file: Path | None,
) -> dict[str, object]:
    """The record of a job on a file.

    Args:
        path: The photograph.
        image: The open photograph.
        settings: Settings of the run.
        device: Device of the work.
        outputs: Files that will be written.
        result: What was computed.
        run_id: Name of the job in a batch.
        warnings: Sentences for the user.
        timings: Seconds by stage.
        seconds: Seconds of the whole job.
        image_file: The image that was written, under its temporary name.
    """
    estimate = result.estimate if isinstance(result, RunResult) else result
    width, height = image.size
    return {
        "input": {
            "name": path.name,
            "sha256": image.sha256,
            "width": width,
            "height": height,
            "colour_channels": image.channels,
            "alpha": image.is_transparent,
        },
        **({} if run_id is None else {"run_id": run_id}),
        "files": outputs.names(),
        "kernel": describe_kernel(result.kernel),
        **({} if result.kernel_map is None else {"kernel_map": describe_map(result.kernel_map)}),
        **_describe_measured(result, settings),
        "estimate": None if estimate is None else describe_estimate(estimate),
        **(_describe_result(result) if isinstance(result, RunResult) else {}),
        "warnings": list(warnings),
        "timings": {name: round(value, 3) for name, value in timings.items()},
        "seconds": round(seconds, 3),
        **describe_run(settings, device),
        "history": plain(result.history),
        **({} if image_file is None else {"image_sha256": file_digest(image_file)}),
    }


def record_bytes(record: Mapping[str, object]) -> bytes:
    """A record as the content of its file; a file name that is not valid text becomes JSON's own escapes."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def describe_kernel(kernel: Kernel) -> dict[str, object]:
    """A kernel's metrics; lengths in HR pixels. Widths and angle are None where a second moment is not positive."""
    long, short, angle = (*kernel.sigmas, kernel.angle) if kernel.has_sigmas else (None, None, None)
    return {
        "scale": kernel.scale,
        "size": kernel.size,
        "covariance_yx": kernel.covariance.round(6).tolist(),
        "sigma_long": None if long is None else round(long, 4),
        "sigma_short": None if short is None else round(short, 4),
        "angle_degrees": None if angle is None else round(angle, 2),
        "centroid_yx": kernel.centroid.round(4).tolist(),
        "support_99_percent": kernel.support(0.99),
        "digest": kernel.digest,
        "convention": "correlation on the HR grid, reference point at the geometric centre, sum 1",
        "provenance": plain(kernel.provenance),
    }


def describe_map(kernel_map: KernelMap) -> dict[str, object]:
    """A kernel map: full widths at half maximum, HR px, and what identifies the kernel, row by row."""
    rows = [
        [{"fwhm": [round(width, 3) for width in fwhm(kernel)], "digest": kernel.digest} for kernel in row]
        for row in kernel_map.kernels
    ]
    return {"rows": kernel_map.shape[0], "columns": kernel_map.shape[1], "cells": rows, "digest": kernel_map.digest}


def _describe_measured(result: RunResult | KernelEstimate, settings: Settings) -> dict[str, object]:
    """The kernel as it was estimated or given, where another width is used."""
    if not isinstance(result, RunResult) or settings.kernel_width == 1:
        return {}
    measured = result.measured_kernel
    if isinstance(measured, Kernel):
        return {"measured_kernel": describe_kernel(measured)}
    if isinstance(measured, KernelMap):
        return {"measured_kernel_map": describe_map(measured)}
    named = zip(measured.names, measured.kernels, strict=True)
    return {"measured_band_kernels": {name: describe_kernel(kernel) for name, kernel in named}}


def describe_estimate(estimate: KernelEstimate) -> dict[str, object]:
    """How a kernel was estimated."""
    return {
        "method": estimate.method,
        "metrics": plain(estimate.metrics),
        "settings": plain(estimate.settings),
    }


def _describe_result(result: RunResult) -> dict[str, object]:
    """What only a run with a result image has: its size, the degradation, and the consistency with its meaning."""
    height, width = result.size
    degradation = result.degradation
    bands = {}
    if result.band_kernels is not None:
        named = zip(result.band_kernels.names, result.band_kernels.kernels, strict=True)
        bands = {"band_kernels": {name: describe_kernel(kernel) for name, kernel in named}}
    return {
        "output": {"width": width, "height": height},
        "precision": result.dtype,
        "degradation": {
            "noise_sigma": [round(sigma, 6) for sigma in degradation.noise_sigma],
            "has_colors": degradation.has_colors,
            "is_quantized": degradation.is_quantized,
            "compression_sigma": round(degradation.compression_sigma, 6),
            "was_resized": degradation.was_resized,
            "mosaic_sigma": round(degradation.mosaic_sigma, 6),
            "kernel_error": degradation.kernel_error,
            "units": "standard deviations; white is 1; noise by plane (Y, B − Y, R − Y of colour images, else by band)",
        },
        "strength": [round(strength, 4) for strength in result.strengths],
        **bands,
        "consistency": {
            "psnr_db": plain(result.consistency_db),
            "alarm": result.is_inconsistent,
            "meaning": consistency_meaning(result.settings, result.strengths),
        },
    }


def describe_run(settings: Settings, device: torch.device) -> dict[str, object]:
    """Settings, and the program and machine of a run."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": plain(settings.as_dict()),
        "seed": settings.seed,
        "machine": {
            "device": str(device),
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
        },
        "versions": {
            "blindsr": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }


def provenance_of(settings: Settings, kernel: Kernel, input_digest: str) -> Provenance:
    """The settings of a run and the digests of its input and kernel, for the metadata of the result.

    Files are named without their folders, because images are passed on and folders can identify their owner.
    """
    return Provenance(
        program=f"blindsr {__version__}",
        details={
            "scale": settings.scale,
            "kernel": kernel.digest,
            "input_sha256": input_digest,
            "settings": plain(_without_folders(settings.as_dict())),
        },
    )


def _without_folders(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    return value.name if isinstance(value, Path) else value


def distinct(sentences: Iterable[str]) -> tuple[str, ...]:
    """Each sentence once, in the order of first appearance."""
    return tuple(dict.fromkeys(sentences))


def grouped(sentences: Iterable[tuple[T, str]]) -> dict[str, tuple[T, ...]]:
    """Group equal warnings with the items they concern; texts that differ only in measured numbers are merged.

    Numbers that differ become ranges: "noise of 3.1–5.0 grey levels". Those of a name before the sentence ("band B4:")
    are no measured ones.

    Args:
        sentences: Pairs of an item and a warning about it.
    """
    groups: dict[tuple[str, str], list[tuple[T, str]]] = {}
    for about, text in sentences:
        name = match[0] if (match := _ABOUT.match(text)) else ""
        rest = text.removeprefix(name)
        groups.setdefault((name, _NUMBER.sub("#", rest)), []).append((about, rest))
    return {
        name + _merged([rest for _, rest in group]): tuple(dict.fromkeys(about for about, _ in group))
        for (name, _), group in groups.items()
    }


def _merged(sentences: Sequence[str]) -> str:
    """Sentences that differ in their numbers alone as one with ranges; of intervals, "[0, 4095]", the first and others.

    The ends of intervals as ranges would be those of none of them.
    """
    intervals = tuple(dict.fromkeys(found[0] for text in sentences if (found := _INTERVAL.search(text))))
    if len(intervals) > 1:
        return sentences[0].replace(
            intervals[0], f"{intervals[0]} and {len(intervals) - 1} other range{'s' * (len(intervals) > 2)}", 1
        )
    numbers = zip(*map(_NUMBER.findall, sentences), strict=True)
    limits = ((min(column, key=float), max(column, key=float)) for column in numbers)
    ranges = (
        low if low == high else f"{low} to {high}" if low.startswith("-") else f"{low}–{high}" for low, high in limits
    )
    return _NUMBER.sub(lambda _: next(ranges), sentences[0])
