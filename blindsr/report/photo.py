"""A report on one photograph: there is no truth, so it compares with plain enlargement."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.image_io import atomic_write_bytes, read_photo
from blindsr.image_io.inline import eight_bits
from blindsr.ops import imresize
from blindsr.pipelines.outputs import image_outputs
from blindsr.pipelines.photo import PhotoResult
from blindsr.pipelines.result import CONSISTENCY_MEANING, Upscaled
from blindsr.report.comparison import comparison
from blindsr.report.model import Entry, View
from blindsr.report.page import page

__all__ = ["report_for_photo", "report_path"]


def report_path(photo: Path, scale: float | str, output: Path | None = None) -> Path:
    """Where the page goes: beside the enlarged image, with its stem."""
    image = image_outputs(photo, scale, ".png", output).image
    return (photo if image is None else image).with_suffix(".html")


def report_for_photo(photo: Path, result: PhotoResult, path: Path, *, overwrite: bool = False) -> Path:
    """Write a self-contained page on one upscaled photograph.

    Args:
        photo: The file that was upscaled.
        result: As `blindsr.pipelines.photo.upscale_photo` returns it.
        path: The .html file.
        overwrite: Replace one that exists.

    Returns:
        `path`.

    Raises:
        ImageError: The photograph is gone, or its bands are neither gray nor RGB.
        OutputError: The page exists, or cannot be written.
        ValueError: The job made no image.
    """
    if result.upscaled is None:
        raise ValueError("a report on a photograph shows the enlarged image; this job made a kernel alone.")
    entry = _entry(photo, result, result.upscaled)
    record: Mapping[str, Any] = result.record
    label = result.upscaled.settings.label.replace("x", "×")
    html = page(
        title=photo.name,
        eyebrow=f"blindsr {record['versions']['blindsr']} · {label} · {str(record['finished'])[:10]}",
        lead=_lead(result, result.upscaled),
        body=[comparison(entry, {"interpolation": 0, "sr": 2}, reference="sr")],
        details={name: record[key] for name, key in _DETAILS.items() if key in record},
    )
    atomic_write_bytes(path, html.encode(), overwrite=overwrite)
    return path


_DETAILS = {
    "Kernel": "kernel",
    "Estimate": "estimate",
    "Settings": "settings",
    "Seconds": "timings",
    "Versions": "versions",
    "Machine": "machine",
}


def _lead(result: PhotoResult, upscaled: Upscaled) -> str:
    long, short = upscaled.kernel.sigmas
    origin = "was given" if upscaled.estimate is None else f"was estimated by {upscaled.estimate.method}"
    height, width = upscaled.image.shape[-2:]
    return (
        f"Enlarged to {width}×{height} px in {result.seconds:.1f} s. The kernel {origin}: σ {long:.2f} px along "
        f"{upscaled.kernel.angle:.0f}°, {short:.2f} px across, in pixels of the result."
    )


def _entry(photo: Path, result: PhotoResult, upscaled: Upscaled) -> Entry:
    pixels = read_photo(photo).pixels
    sr = _samples(upscaled.image)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    plain = _samples(imresize(image, size=(sr.shape[0], sr.shape[1])).clamp(0, 1))
    views = (
        View(method="interpolation", label="bicubic interpolation", pixels=plain),
        View(method="sr", label="blindsr", pixels=sr, kernel=upscaled.kernel),
    )
    height, width = pixels.shape[:2]
    return Entry(
        name=photo.stem,
        views=views,
        left="interpolation",
        right="sr",
        scale=upscaled.kernel.scale,
        crops=2,
        heading="Before and after",
        facts={
            "input": f"{width}×{height} px",
            "result": f"{sr.shape[1]}×{sr.shape[0]} px",
            "consistency": f"{upscaled.consistency:.1f} dB",
            "precision": upscaled.dtype,
        },
        notes=(*result.notes, f"Consistency: {CONSISTENCY_MEANING}"),
    )


def _samples(image: torch.Tensor) -> NDArray[np.uint8]:
    return eight_bits(image[0].permute(1, 2, 0).float().cpu().numpy())
