"""The record of a run: what the .json beside a result says."""

import hashlib
import math
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from blindsr import __version__
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.pipelines.result import CONSISTENCY_ALARM, CONSISTENCY_MEANING, Upscaled
from blindsr.pipelines.settings import Settings

__all__ = [
    "describe_estimate",
    "describe_kernel",
    "describe_run",
    "describe_upscaled",
    "distinct",
    "file_digest",
    "plain",
]


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


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_kernel(kernel: Kernel) -> dict[str, object]:
    """A kernel's figures; lengths in HR pixels."""
    long, short = kernel.sigmas
    return {
        "scale": kernel.scale,
        "size": kernel.size,
        "covariance_yx": kernel.covariance.round(6).tolist(),
        "sigma_long": round(long, 4),
        "sigma_short": round(short, 4),
        "angle_degrees": round(kernel.angle, 2),
        "centroid_yx": kernel.centroid.round(4).tolist(),
        "support_99_percent": kernel.support(0.99),
        "digest": kernel.digest,
        "convention": "correlation on the HR grid, reference point at the geometric centre, sum 1",
        "provenance": plain(kernel.provenance),
    }


def describe_estimate(estimate: KernelEstimate) -> dict[str, object]:
    """How a kernel was estimated."""
    return {
        "method": estimate.method,
        "figures": plain(estimate.figures),
        "settings": plain(estimate.settings),
    }


def describe_upscaled(upscaled: Upscaled) -> dict[str, object]:
    """What only a run with a result image has: its size, and the consistency figure with its meaning."""
    height, width = upscaled.image.shape[-2:]
    return {
        "output": {"width": width, "height": height},
        "precision": upscaled.dtype,
        **_describe_bands(upscaled),
        "consistency": {
            "psnr_db": plain(upscaled.consistency),
            "alarm": upscaled.consistency < CONSISTENCY_ALARM,
            "meaning": CONSISTENCY_MEANING,
        },
    }


def _describe_bands(upscaled: Upscaled) -> dict[str, object]:
    """The kernel of each band, where each had its own."""
    if upscaled.band_kernels is None:
        return {}
    named = zip(upscaled.band_kernels.names, upscaled.band_kernels.kernels, strict=True)
    return {"band_kernels": {name: describe_kernel(kernel) for name, kernel in named}}


def describe_run(settings: Settings, device: torch.device) -> dict[str, object]:
    """Settings, and the program and machine that ran them."""
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


def distinct(notes: Iterable[str]) -> tuple[str, ...]:
    """Each sentence once, in the order of its first appearance."""
    return tuple(dict.fromkeys(notes))
