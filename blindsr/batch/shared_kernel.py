"""One kernel, and one noise level, for the image files of a batch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from blindsr.batch.inputs import common_scale
from blindsr.batch.plan import Manifest
from blindsr.batch.task import read_record
from blindsr.errors import ConfigError
from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import DEFAULT_FILES, FileOptions, atomic_write_bytes, open_image
from blindsr.kernels import Kernel
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.kernels.plot import kernel_plot_png
from blindsr.pipelines.crop import estimation_crop
from blindsr.pipelines.degradation import Noise, common_noise, measure_noise
from blindsr.pipelines.files import ColorSource
from blindsr.pipelines.record import cache_key, describe_kernel, plain
from blindsr.pipelines.shared_kernel import STAGE, estimate_shared_kernel
from blindsr.registry import source_digest
from blindsr.runtime import choose_device
from blindsr.settings import Settings

__all__ = ["SeriesKernel", "shared_kernel_for"]

_NAME = "blindsr-shared"


@dataclass(frozen=True, kw_only=True)
class SeriesKernel:
    """What the images of a batch have in common."""

    kernel: Kernel
    noise: Noise | None  # of most images; None if they have different bands
    warnings: tuple[str, ...]  # about all images


def shared_kernel_for(
    paths: Sequence[Path],
    settings: Settings,
    manifest: Manifest,
    *,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    listener: Listener = ignore,
) -> SeriesKernel:
    """Estimate one kernel for image files, and write it beside the manifest: blindsr-shared.kernel.npz, .png and .json.

    The noise of every image is measured as well. Images whose noise is that of most others, as the frames of a film,
    get the very same figure: results would flicker with the scatter of the measurement otherwise.

    An earlier kernel of the same images and settings is used again; images that cannot be read are left out. The
    listener receives what the kernel is, and the warnings.

    Raises:
        ImageError: No image shows a measurable blur.
        ConfigError: An output size leads to different factors.
        OutputError: The files cannot be written.
    """
    if settings.varying:
        raise ConfigError("a shared kernel is one for all images (shared_kernel, --shared-kernel); leave out varying.")
    if settings.size is not None:
        settings = replace(settings, scale=float(common_scale(settings, paths)), factors=None, size=None)
    digests: dict[Path, str] = {}
    for path in paths:
        try:
            digests[path] = manifest.digest(path)
        except OSError:
            continue
    undialled = settings.without_dials.as_dict()
    content = {"inputs": sorted(digests.values()), "settings": undialled, "source": source_digest()}
    key = cache_key(content)
    base = manifest.path.parent / f"{_NAME}.kernel"
    kernel_path, plot_path, record_path = (base.with_name(f"{base.name}{s}") for s in (".npz", ".png", ".json"))
    record = read_record(record_path)
    if record.get("key") == key and kernel_path.is_file():
        _report(record, listener)
        noise = record.get("noise")
        return SeriesKernel(
            kernel=read_kernel(kernel_path, scale=settings.run_scale)[0],
            noise=None if noise is None else Noise(sigmas=tuple(noise["sigmas"]), blocking=noise["blocking"]),
            warnings=tuple(record["for_all"]),
        )
    chosen, measured = choose_device(device), list[Noise]()

    def load(path: Path) -> Tensor:
        with open_image(path, max_pixels=files.max_pixels) as opened:
            source = ColorSource(opened, chosen)
            measured.append(measure_noise(source))
            return estimation_crop(source, settings.region)

    images = [(str(path), partial(load, path)) for path in digests]
    shared = estimate_shared_kernel(images, replace(settings, region=None), listener=listener)
    warnings, noise = shared.warnings(), common_noise(measured)
    record = {
        "key": key,
        "summary": str(shared),
        "kernel": describe_kernel(shared.kernel),
        "noise": None if noise is None else asdict(noise),
        "spread": shared.spread,
        "error": shared.error,
        "bicubic_reason": shared.bicubic_reason,
        "images": [asdict(estimate) for estimate in shared.estimates],
        "warnings": warnings,
        "for_all": [text for text in warnings if text.startswith("one kernel")],
    }
    _report(record, listener)
    text = json.dumps(plain(record), indent=2, allow_nan=False) + "\n"
    atomic_write_bytes(kernel_path, kernel_bytes(shared.kernel, ".npz"), overwrite=True)
    atomic_write_bytes(plot_path, kernel_plot_png(shared.kernel), overwrite=True)
    atomic_write_bytes(record_path, text.encode("ascii"), overwrite=True)  # last: it proves the others
    return SeriesKernel(kernel=shared.kernel, noise=noise, warnings=tuple(record["for_all"]))


def _report(record: Mapping[str, Any], listener: Listener) -> None:
    listener(Notice(stage=STAGE, message=record["summary"], is_plain=True))
    for warning in record["warnings"]:
        listener(Notice(stage=STAGE, message=warning))
