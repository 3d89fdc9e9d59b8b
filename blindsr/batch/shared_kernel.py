"""One kernel, and one noise level, for the image files of a batch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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

__all__ = ["SeriesKernel", "recorded_kernel", "shared_kernel_for"]

_NAME = "blindsr-shared"


@dataclass(frozen=True, kw_only=True)
class SeriesKernel:
    """What the images of a batch have in common."""

    kernel: Kernel
    noise: Noise | None  # of most images; None if they have different bands
    warnings: tuple[str, ...]  # about all images
    summary: str
    notes: tuple[str, ...]  # `warnings` and those about single images
    contents: Mapping[Path, bytes] = field(default_factory=dict)  # to be written; empty if an earlier run wrote them

    def report(self, listener: Listener) -> None:
        """Say what the kernel is, and every warning."""
        listener(Notice(stage=STAGE, message=self.summary, is_plain=True))
        for warning in self.notes:
            listener(Notice(stage=STAGE, message=warning))

    def write(self) -> None:
        """Write the files; an earlier kernel of other images is replaced.

        Raises:
            OutputError: The files cannot be written.
        """
        for path, content in self.contents.items():
            atomic_write_bytes(path, content, overwrite=True)


def recorded_kernel(paths: Sequence[Path], settings: Settings, manifest: Manifest) -> SeriesKernel | None:
    """The kernel that an earlier run wrote for the same images and settings; None if there is none."""
    settings = _of_one_scale(settings, paths)
    return _recorded(_key_of(paths, settings, manifest)[0], settings, manifest)


def shared_kernel_for(
    paths: Sequence[Path],
    settings: Settings,
    manifest: Manifest,
    *,
    device: str = "auto",
    files: FileOptions = DEFAULT_FILES,
    listener: Listener = ignore,
) -> SeriesKernel:
    """Estimate one kernel for image files.

    Its `write` writes it beside the manifest, as blindsr-shared.kernel.npz, .png and .json; the batch calls it when
    nothing speaks against the run any more, because an earlier kernel of other images is replaced.

    The noise of every image is measured as well. Images whose noise is that of most others, as the frames of a film,
    get the very same figure: results would flicker with the scatter of the measurement otherwise.

    An earlier kernel of the same images and settings is used again; images that cannot be read are left out. The
    listener receives what the kernel is, and the warnings.

    Raises:
        ImageError: No image shows a measurable blur.
        ConfigError: An output size leads to different factors.
    """
    settings = _of_one_scale(settings, paths)
    key, readable = _key_of(paths, settings, manifest)
    if (recorded := _recorded(key, settings, manifest)) is not None:
        recorded.report(listener)
        return recorded
    chosen, measured = choose_device(device), list[Noise]()

    def load(path: Path) -> Tensor:
        with open_image(path, max_pixels=files.max_pixels) as opened:
            source = ColorSource(opened, chosen)
            measured.append(measure_noise(source))
            return estimation_crop(source, settings.region)

    images = [(str(path), partial(load, path)) for path in readable]
    shared = estimate_shared_kernel(images, replace(settings, region=None), listener=listener)
    warnings, noise = shared.warnings(), common_noise(measured)
    for_all = tuple(text for text in warnings if text.startswith("one kernel"))
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
        "for_all": for_all,
    }
    text = json.dumps(plain(record), indent=2, allow_nan=False) + "\n"
    # The record is the last one: it proves the others.
    contents = kernel_bytes(shared.kernel, ".npz"), kernel_plot_png(shared.kernel), text.encode("ascii")
    series = SeriesKernel(
        kernel=shared.kernel,
        noise=noise,
        warnings=for_all,
        summary=str(shared),
        notes=warnings,
        contents=dict(zip(_paths(manifest), contents, strict=True)),
    )
    series.report(listener)
    return series


def _paths(manifest: Manifest) -> tuple[Path, Path, Path]:
    """Kernel, plot and record, beside the manifest."""
    kernel, plot, record = (manifest.path.with_name(f"{_NAME}.kernel{suffix}") for suffix in (".npz", ".png", ".json"))
    return kernel, plot, record


def _of_one_scale(settings: Settings, paths: Sequence[Path]) -> Settings:
    if settings.varying:
        raise ConfigError("a shared kernel is one for all images (shared_kernel, --shared-kernel); leave out varying.")
    if settings.size is None:
        return settings
    return replace(settings, scale=float(common_scale(settings, paths)), factors=None, size=None)


def _key_of(paths: Sequence[Path], settings: Settings, manifest: Manifest) -> tuple[str, list[Path]]:
    """What a kernel depends on, and the images that can be read."""
    digests: dict[Path, str] = {}
    for path in paths:
        try:
            digests[path] = manifest.digest(path)
        except OSError:
            continue
    undialled = settings.without_dials.as_dict()
    content = {"inputs": sorted(digests.values()), "settings": undialled, "source": source_digest()}
    return cache_key(content), list(digests)


def _recorded(key: str, settings: Settings, manifest: Manifest) -> SeriesKernel | None:
    kernel_path, _, record_path = _paths(manifest)
    record: Mapping[str, Any] = read_record(record_path)
    if record.get("key") != key or not kernel_path.is_file():
        return None
    noise = record.get("noise")
    return SeriesKernel(
        kernel=read_kernel(kernel_path, scale=settings.run_scale)[0],
        noise=None if noise is None else Noise(sigmas=tuple(noise["sigmas"]), blocking=noise["blocking"]),
        warnings=tuple(record["for_all"]),
        summary=record["summary"],
        notes=tuple(record["warnings"]),
    )
