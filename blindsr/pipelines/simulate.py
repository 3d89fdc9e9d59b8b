"""A measuring set out of sharp pictures: LR images by a named law, their kernels, and a manifest."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr import __version__
from blindsr.errors import BlindSRError, ConfigError, OutputError
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.image_io import Photo, atomic_write_bytes, default_suffix, read_photo, write_photo
from blindsr.image_io.inline import jpeg_round_trip
from blindsr.kernels import Kernel
from blindsr.kernels.files import kernel_bytes
from blindsr.pipelines.folders import images_in, stems
from blindsr.pipelines.record import file_digest, plain
from blindsr.simulation import Degradation, degrade_image, kernel_for

__all__ = ["SimulatedSet", "simulate_set"]

STAGE = "degrade"
MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, kw_only=True)
class SimulatedSet:
    """What `simulate_set` made.

    Args:
        folder: With hr/, lr/, kernel/ and manifest.jsonl.
        rows: The manifest, one mapping an image.
        failures: (file, sentence) for each image that could not be used.
    """

    folder: Path
    rows: tuple[dict[str, object], ...]
    failures: tuple[tuple[Path, str], ...]


def simulate_set(
    sources: Sequence[Path],
    folder: Path,
    degradation: Degradation | None = None,
    *,
    seed: int = 0,
    kernel_suffix: Literal[".npz", ".mat", ".npy"] = ".npz",
    overwrite: bool = False,
    listener: Listener = ignore,
) -> SimulatedSet:
    """Degrade pictures, each with a kernel of its own.

    An image's randomness comes from the seed and from its name, so that adding an image changes no other one.
    HR images are cropped at the bottom and the right to multiples of the scale.

    Args:
        sources: Picture files and folders.
        folder: Where hr/, lr/, kernel/ and the manifest go; made if it is missing.
        degradation: The law, the noise, the compression; DIV2KRK's at ×2 if None.
        seed: 0 or more.
        kernel_suffix: ".npz" (blindsr's, with scale and provenance), ".mat" (KernelGAN's) or ".npy".
        overwrite: Replace a set that exists.
        listener: Takes an event an image.

    Raises:
        ImageError: There is no picture, or two have one name.
        OutputError: The set exists, or cannot be written.
        ConfigError: The seed is negative.
    """
    degradation = Degradation() if degradation is None else degradation
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}.")
    named = stems(images_in(sources))
    _make_folders(folder, overwrite=overwrite)
    rows: list[dict[str, object]] = []
    failures: list[tuple[Path, str]] = []
    listener(StageStarted(stage=STAGE, max_steps=len(named)))
    for step, (name, source) in enumerate(named.items(), start=1):
        try:
            rows.append(_simulate(name, source, folder, degradation, seed, kernel_suffix, listener))
        except OutputError:
            raise
        except BlindSRError as error:
            failures.append((source, str(error)))
            listener(Notice(stage=STAGE, message=f"{source.name} was left out: {error}"))
        listener(StepDone(stage=STAGE, step=step))
    listener(StageDone(stage=STAGE, steps=len(named)))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write_bytes(folder / MANIFEST, text.encode(), overwrite=overwrite)
    return SimulatedSet(folder=folder, rows=tuple(rows), failures=tuple(failures))


def _make_folders(folder: Path, *, overwrite: bool) -> None:
    if (folder / MANIFEST).exists() and not overwrite:
        raise OutputError(f"{folder} holds a set already; choose another folder, or ask to overwrite it (--force).")
    try:
        for part in ("hr", "lr", "kernel"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make folders in {folder}: {error.strerror}; choose another place.") from error


def _random(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _simulate(
    name: str,
    source: Path,
    folder: Path,
    degradation: Degradation,
    seed: int,
    kernel_suffix: str,
    listener: Listener,
) -> dict[str, object]:
    rng = _random(seed, name)
    hr = _cropped(read_photo(source), degradation.scale, source, listener)
    kernel = kernel_for(degradation, rng)
    image = torch.from_numpy(hr.pixels.copy()).permute(2, 0, 1)[None]
    lr = degrade_image(image, kernel, degradation, rng)[0].permute(1, 2, 0).contiguous().numpy()
    lr_photo = _compressed(hr.with_result(lr), degradation.jpeg_quality)
    suffix = default_suffix(hr)
    paths = {"hr": f"hr/{name}{suffix}", "lr": f"lr/{name}{suffix}", "kernel": f"kernel/{name}{kernel_suffix}"}
    # The set as a whole is guarded by its manifest, which is written last.
    write_photo(hr, folder / paths["hr"], overwrite=True)
    write_photo(lr_photo, folder / paths["lr"], overwrite=True)
    atomic_write_bytes(folder / paths["kernel"], kernel_bytes(kernel, kernel_suffix), overwrite=True)
    return {
        "name": name,
        "files": paths,
        "sha256": {role: file_digest(folder / path) for role, path in paths.items()},
        "source": {"name": source.name, "sha256": file_digest(source)},
        "degradation": degradation.as_dict(),
        "kernel": _kernel_in_words(kernel),
        "seed": seed,
        "blindsr": __version__,
    }


def _kernel_in_words(kernel: Kernel) -> dict[str, object]:
    return {
        "digest": kernel.digest,
        "size": kernel.size,
        "covariance_yx": kernel.covariance.round(6).tolist(),
        "centroid_yx": (kernel.centroid.round(6) + 0.0).tolist(),
        "provenance": plain(kernel.provenance),
    }


def _cropped(photo: Photo, scale: int, source: Path, listener: Listener) -> Photo:
    """The photograph without alpha, its sides cut to multiples of the scale."""
    if photo.alpha is not None:
        listener(Notice(stage=STAGE, message=f"{source.name}: its transparency is left out."))
    height, width = (side - side % scale for side in photo.pixels.shape[:2])
    pixels: NDArray[np.float32] = np.ascontiguousarray(photo.pixels[:height, :width])
    if 0 in pixels.shape:
        raise ConfigError(f"{source.name} is smaller than one LR pixel of {scale}×{scale} px; leave it out.")
    return replace(photo, pixels=pixels, alpha=None, has_alpha=False)


def _compressed(lr: Photo, quality: int | None) -> Photo:
    if quality is None:
        return lr
    if lr.channels not in (1, 3) or lr.dtype != np.uint8:
        raise ConfigError(f"JPEG holds gray or RGB of 8 bits, not {lr.channels} bands of {lr.dtype}; leave it out.")
    samples = np.round(lr.pixels * 255).astype(np.uint8)
    return lr.with_result((jpeg_round_trip(samples, quality) / np.float32(255)).astype(np.float32))
