"""The shared kernel of a batch on disk: estimated once, kept beside the manifest, found again by a run that resumes."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blindsr import __version__
from blindsr.image_io import DEFAULT_FILES, FileOptions, atomic_write_bytes
from blindsr.image_io.strips import open_strips
from blindsr.kernels import Kernel
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.kernels.picture import kernel_picture
from blindsr.pipelines.batch.manifest import Manifest
from blindsr.pipelines.batch.shared import SharedKernel, estimate_shared_kernel
from blindsr.pipelines.batch.task import read_record
from blindsr.pipelines.record import describe_kernel, plain
from blindsr.pipelines.sampling import estimation_window
from blindsr.pipelines.settings import Region, Settings
from blindsr.pipelines.windows import FileWindows
from blindsr.runtime import choose_device

__all__ = ["NAME", "FoundKernel", "shared_kernel_for"]

NAME = "blindsr-shared"


@dataclass(frozen=True, kw_only=True)
class FoundKernel:
    """The shared kernel, and what is to be said of it.

    Args:
        kernel: The kernel.
        notes: Sentences on it and on photographs that disagree.
        kept: It was estimated by an earlier run of the same batch.
    """

    kernel: Kernel
    notes: tuple[str, ...]
    kept: bool = False


def shared_kernel_for(
    photos: Sequence[Path],
    settings: Settings,
    manifest: Manifest,
    *,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    listener: Callable[[str, int], object] = lambda name, number: None,
) -> FoundKernel:
    """Estimate one kernel for photographs, and write it beside the manifest: blindsr-shared.kernel.npz, .png and .json.

    A photograph that cannot be read is left to the run to report.

    Args:
        photos: Of one camera and lens.
        settings: Estimator and scale.
        manifest: Knows the photographs' content; the kernel of the same content and settings is used again.
        device: Where to estimate.
        files: How large a picture may be.
        listener: Takes each name and number.

    Raises:
        ImageError: No photograph shows a blur that can be measured.
        OutputError: The files cannot be written.
    """
    digests = dict(_digests(photos, manifest))
    key = _key(sorted(digests.values()), settings)
    base = manifest.path.parent
    place, record_path = base / f"{NAME}.kernel.npz", base / f"{NAME}.kernel.json"
    record = read_record(record_path)
    if record is not None and record.get("key") == key and place.is_file():
        kernel, _ = read_kernel(place, scale=settings.network_scale)
        return FoundKernel(kernel=kernel, notes=tuple(record.get("notes", ())), kept=True)
    where = choose_device(device)
    loaders = [(str(path), _loader(path, settings.region, where, files.max_pixels)) for path in digests]
    shared = estimate_shared_kernel(loaders, replace(settings, region=None), listener=listener)
    notes = shared.sentences()
    atomic_write_bytes(place, kernel_bytes(shared.kernel, ".npz"), overwrite=True)
    atomic_write_bytes(base / f"{NAME}.kernel.png", kernel_picture(shared.kernel), overwrite=True)
    text = json.dumps(_record(key, shared, notes), indent=2, allow_nan=False) + "\n"
    atomic_write_bytes(record_path, text.encode("ascii"), overwrite=True)  # last: it vouches for the others
    return FoundKernel(kernel=shared.kernel, notes=notes)


def _digests(photos: Sequence[Path], manifest: Manifest) -> list[tuple[Path, str]]:
    found = []
    for path in photos:
        try:
            found.append((path, manifest.digest(path)))
        except OSError:
            continue
    return found


def _key(digests: Sequence[str], settings: Settings) -> str:
    content = {"inputs": digests, "settings": plain(settings.as_dict()), "version": __version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def _loader(path: Path, region: Region | None, device: torch.device, max_pixels: int) -> Callable[[], Tensor]:
    """Gives the part of a photograph that its kernel is estimated from."""

    def load() -> Tensor:
        with open_strips(path, max_pixels=max_pixels) as opened:
            return estimation_window(FileWindows(opened, device), region)

    return load


def _record(key: str, shared: SharedKernel, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "key": key,
        "kernel": describe_kernel(shared.kernel),
        "spread": plain(shared.spread),
        "error": plain(shared.error),
        "photographs": [
            {
                "name": opinion.name,
                "covariance_yx": None if opinion.covariance is None else opinion.covariance.round(6).tolist(),
                "distance": plain(opinion.distance),
                "disagrees": opinion.disagrees,
            }
            for opinion in shared.opinions
        ],
        "notes": list(notes),
    }
