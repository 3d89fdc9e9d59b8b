"""Test sets with folders hr/, lr/ and kernel/: reading them, making them by known degradations, and kernel pools."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr import __version__
from blindsr.errors import BlindSRError, ConfigError, ImageError, OutputError, reason_of
from blindsr.evaluation.shuffled import ShuffledLaw
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.image_io import Photo, atomic_write_bytes, default_suffix, jpeg_round_trip, read_photo, write_photo
from blindsr.image_io.formats import readable_suffixes
from blindsr.kernels import Kernel
from blindsr.kernels.files import kernel_bytes
from blindsr.kernels.pool import KernelPool, noise_patches
from blindsr.kernels.random import Law, Phase, draw_kernel
from blindsr.ops import degrade, to_array, to_tensor
from blindsr.ops.windows import TensorSource
from blindsr.pipelines.blind import estimate_kernel
from blindsr.pipelines.record import describe_kernel, file_digest
from blindsr.settings import Settings

__all__ = [
    "DatasetDegradation", "DatasetImage", "by_stem", "collect_pool", "degrade_image", "kernel_for", "list_images",
    "list_kernels", "make_dataset", "match_by_name", "read_dataset",
]  # fmt: skip

STAGE = "degrade"
MANIFEST = "manifest.jsonl"
_POOL_STAGE = "pool"
_MAX_NOISE_PATCHES = 32  # of one photograph, so that none decides the noise of a camera
_KERNELS = (".npz", ".npy", ".mat")


def list_images(paths: Iterable[Path]) -> tuple[Path, ...]:
    """List image files and the images of folders; an ImageError if there are none. Plots of kernels are left out."""
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            # Hidden files are none of the user's: macOS writes a "._photo.png" beside every "photo.png".
            files = (p for p in path.iterdir() if p.suffix.lower() in readable_suffixes() and p.name[0] != ".")
            images += sorted(p for p in files if not p.stem.endswith(".kernel"))
        elif path.exists():
            images.append(path)
        else:
            raise ImageError(f"{path} does not exist; give image files, or folders with image files.")
    if not images:
        suffixes = ", ".join(readable_suffixes())
        raise ImageError(f"there is no image file ({suffixes}); give files, or folders with image files.")
    return tuple(images)


def list_kernels(path: Path) -> tuple[Path, ...]:
    """List the kernel files of a folder; a file is returned itself. An ImageError if the path does not exist."""
    if not path.exists():
        raise ImageError(f"{path} does not exist; give a kernel file, or a folder with kernel files.")
    return tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in _KERNELS)) if path.is_dir() else (path,)


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by the name of their image; an ImageError if two have the same name."""
    files: dict[str, Path] = {}
    for path in paths:
        name = path.stem.removesuffix(".kernel")
        if name in files:
            raise ImageError(f"{files[name].name} and {path.name} have the same name; rename one of them.")
        files[name] = path
    return files


def match_by_name(truths: Mapping[str, Path], results: Iterable[Path]) -> dict[str, Path]:
    """Find the result of each ground truth: the shortest file name that is its name, or its name and a suffix.

    "bsd_008_blindsr_x2.png" belongs to "bsd_008" unless there is a ground truth "bsd_008_blindsr".
    """
    best: dict[str, Path] = {}
    for path in sorted(results, key=lambda p: (len(p.name), p.name)):
        stem = path.stem.removesuffix(".kernel")
        owners = [name for name in truths if stem == name or (stem.startswith(name) and not stem[len(name)].isalnum())]
        if owners:
            best.setdefault(max(owners, key=len), path)
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetImage:
    """The files of one image of a test set; `kernel` is None if the true kernel is unknown."""

    name: str
    hr: Path
    lr: Path
    kernel: Path | None


def read_dataset(folder: Path, *, names: tuple[str, ...] = (), limit: int | None = None) -> tuple[DatasetImage, ...]:
    """Find the images of a test set with folders hr/, lr/ and, where the true kernels are known, kernel/.

    Args:
        folder: The test set.
        names: Images to use; () is all of them.
        limit: Maximum number of images, in the order of their names.

    Raises:
        ImageError: A folder is missing, an image has no LR image, or a name does not exist.
    """
    for part in ("hr", "lr"):
        if not (folder / part).is_dir():
            raise ImageError(
                f"a test set has folders hr/, lr/ and kernel/, {folder} has no {part}/; make one with "
                "`blindsr degrade`."
            )
    hr = by_stem(list_images([folder / "hr"]))
    lr = match_by_name(hr, list_images([folder / "lr"]))
    kernels = match_by_name(hr, list_kernels(folder / "kernel")) if (folder / "kernel").is_dir() else {}
    missing = [name for name in hr if name not in lr] + [name for name in names if name not in hr]
    if missing:
        raise ImageError(
            f"{folder} has no LR image for {', '.join(missing)}; leave it out, or make a test set with "
            "`blindsr degrade`."
        )
    chosen = [name for name in hr if not names or name in names][:limit]
    return tuple(DatasetImage(name=n, hr=hr[n], lr=lr[n], kernel=kernels.get(n)) for n in chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDegradation:
    """The degradation of an image, in the order of its steps."""

    scale: int = 2  # factor from LR to HR
    # A law or a pool draws a kernel for each image; the shuffled law (bsrgan) is a whole degradation without one.
    blur: Law | Kernel | KernelPool | ShuffledLaw = field(default_factory=Law)
    phase: Phase = "centred"  # position of the drawn kernels; a given kernel keeps its own
    noise_sigma: float = 0.0  # Gaussian noise, σ on the [0, 1] scale
    speckle_sigma: float = 0.0  # multiplicative noise: y·(1 + σ·n)
    pool_noise: bool = False  # noise of the pool, before the other noise
    jpeg_quality: int | None = None  # 1 … 100; None is no compression

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.scale not in (2, 3, 4):
            raise ConfigError(f"scale must be 2, 3 or 4, got {self.scale}.")
        if isinstance(self.blur, Kernel | KernelPool) and self.blur.scale != self.scale:
            what = "kernel is" if isinstance(self.blur, Kernel) else "kernels of the pool are"
            raise ConfigError(f"the {what} for scale {self.blur.scale}, scale {self.scale} was requested.")
        if self.pool_noise and not (isinstance(self.blur, KernelPool) and len(self.blur.noise)):
            raise ConfigError("pool_noise needs a pool with patches of noise (blindsr kernel pool); leave it out.")
        if isinstance(self.blur, ShuffledLaw) and (self.noise_sigma or self.speckle_sigma or self.jpeg_quality):
            raise ConfigError("the law bsrgan draws noise and compression itself; leave them out.")
        if not isinstance(self.blur, Law) and self.phase != "centred":
            raise ConfigError("a given kernel keeps its own position; leave the phase out.")
        for name, option in (("noise_sigma", "--noise"), ("speckle_sigma", "--speckle")):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1):
                levels = value if 1 < value <= 255 else 4
                hint = f"{levels:g} grey levels are {levels / 255:.3g}"
                raise ConfigError(f"{option} ({name}=) must be in [0, 1] (white is 1), got {value:g}; {hint}.")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}.")

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy; a given kernel or pool is identified by its digest."""
        if isinstance(self.blur, Law | ShuffledLaw):
            blur = str(self.blur)
        else:
            blur = f"{'kernel' if isinstance(self.blur, Kernel) else 'pool'} {self.blur.digest}"
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"blur": blur}


def kernel_for(degradation: DatasetDegradation, rng: np.random.Generator) -> Kernel:
    """The kernel of one image: the given one, or one drawn by the law or from the pool."""
    if isinstance(degradation.blur, Kernel):
        return degradation.blur
    if isinstance(degradation.blur, KernelPool):
        return degradation.blur.draw_kernel(rng)
    if isinstance(degradation.blur, ShuffledLaw):
        raise ConfigError("the law bsrgan has no single kernel.")
    return draw_kernel(degradation.blur, degradation.scale, rng, phase=degradation.phase)


def degrade_image(hr: Tensor, kernel: Kernel, degradation: DatasetDegradation, rng: np.random.Generator) -> Tensor:
    """Blur, subsample and add noise; JPEG compression is left to the writer of the file.

    HR is (1, C, H, W), float, [0, 1], and LR (1, C, H / s, W / s), of its dtype, clamped to [0, 1] and not rounded. An
    ImageError if H or W is no multiple of the scale s.
    """
    scale = degradation.scale
    if hr.shape[-2] % scale or hr.shape[-1] % scale:
        raise ImageError(
            f"an image must have sides that are multiples of the scale {scale}, got "
            f"{hr.shape[-2]}×{hr.shape[-1]}; crop it."
        )
    lr = degrade(hr, kernel.tensor(hr), scale)
    if degradation.pool_noise and isinstance(degradation.blur, KernelPool):
        _, bands, height, width = lr.shape
        lr = lr + to_tensor(degradation.blur.draw_noise(height, width, bands, rng)).to(lr)
    for sigma, is_speckle in ((degradation.noise_sigma, False), (degradation.speckle_sigma, True)):
        if sigma:
            noise = sigma * torch.from_numpy(rng.standard_normal(tuple(lr.shape))).to(lr)
            lr = lr * (1 + noise) if is_speckle else lr + noise
    return lr.clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The result of `make_dataset`."""

    folder: Path  # with hr/, lr/, kernel/ and manifest.jsonl
    rows: tuple[dict[str, object], ...]  # the manifest, one mapping for each image
    failures: tuple[tuple[Path, str], ...]  # file and error message of each image that could not be used


def make_dataset(
    sources: Sequence[Path],
    folder: Path,
    degradation: DatasetDegradation | None = None,
    *,
    seed: int = 0,
    kernel_suffix: Literal[".npz", ".mat", ".npy"] = ".npz",
    overwrite: bool = False,
    listener: Listener = ignore,
) -> Dataset:
    """Degrade sharp images, each with its own kernel, and write images and kernels as a test set.

    The random numbers of an image depend on the seed and its name, so other images in the set do not change it.
    HR images are cropped at the bottom and the right to multiples of the scale.

    Args:
        sources: Image files and folders.
        folder: Folder for hr/, lr/, kernel/ (none for the shuffled law) and the manifest.
        degradation: Kernels, noise and compression; DIV2KRK's kernels at ×2 if None.
        seed: Random seed, 0 or more.
        kernel_suffix: ".npz" (with scale and provenance), ".mat" (as KernelGAN's) or ".npy" (the array alone).
        overwrite: Replace an existing set.
        listener: Receives an event for each image.

    Raises:
        ImageError: There is no image, or two have the same name.
        OutputError: The set exists, or cannot be written.
        ConfigError: The seed is negative.
    """
    degradation = degradation or DatasetDegradation()
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}.")
    images = by_stem(list_images(sources))
    if (folder / MANIFEST).exists() and not overwrite:
        raise OutputError(
            f"{folder} already contains a test set; choose another folder, or overwrite it (overwrite=True, --force)."
        )
    try:
        for part in ("hr", "lr") if isinstance(degradation.blur, ShuffledLaw) else ("hr", "lr", "kernel"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create folders in {folder}: {reason_of(error)}; choose another folder.") from error
    rows: list[dict[str, object]] = []
    failures: list[tuple[Path, str]] = []
    listener(StageStarted(stage=STAGE, max_steps=len(images)))
    for step, (name, source) in enumerate(images.items(), start=1):
        try:
            rows.append(_degrade(source, name, folder, degradation, seed, kernel_suffix, listener))
        except OutputError:
            raise
        except BlindSRError as error:
            failures.append((source, str(error)))
            listener(Notice(stage=STAGE, message=f"{source.name} was left out: {error}"))
        listener(StepDone(stage=STAGE, step=step))
    listener(StageDone(stage=STAGE, steps=len(images)))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # Written last: a folder with a manifest is a complete set.
    atomic_write_bytes(folder / MANIFEST, text.encode(), overwrite=overwrite)
    return Dataset(folder=folder, rows=tuple(rows), failures=tuple(failures))


def _degrade(
    source: Path, name: str, folder: Path, law: DatasetDegradation, seed: int, kernel_suffix: str, listener: Listener
) -> dict[str, object]:
    rng = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
    hr = _cropped(read_photo(source), law.scale, source, listener)
    image = to_tensor(hr.pixels)
    kernel: Kernel | None = None
    how: dict[str, object] = {}
    if isinstance(law.blur, ShuffledLaw):
        degraded, steps = law.blur.degrade(image, law.scale, rng)
        how = {"steps": list(steps)}
    else:
        kernel = kernel_for(law, rng)
        degraded = degrade_image(image, kernel, law, rng)
        how = {"kernel": describe_kernel(kernel)}
    lr = to_array(degraded)
    lr_photo = _compressed(hr.with_result(lr), law.jpeg_quality)
    suffix = default_suffix(hr)
    paths = {"hr": f"hr/{name}{suffix}", "lr": f"lr/{name}{suffix}"}
    write_photo(hr, folder / paths["hr"], overwrite=True)
    write_photo(lr_photo, folder / paths["lr"], overwrite=True)
    if kernel is not None:
        paths["kernel"] = f"kernel/{name}{kernel_suffix}"
        atomic_write_bytes(folder / paths["kernel"], kernel_bytes(kernel, kernel_suffix), overwrite=True)
    return {
        "name": name,
        "files": paths,
        "sha256": {role: file_digest(folder / path) for role, path in paths.items()},
        "source": {"name": source.name, "sha256": file_digest(source)},
        "degradation": law.as_dict(),
        **how,
        "seed": seed,
        "blindsr": __version__,
    }


def _cropped(photo: Photo, scale: int, source: Path, listener: Listener) -> Photo:
    """The image without alpha, cropped to multiples of the scale."""
    if missing := photo.missing_pixels:
        raise ImageError(f"it has no data in {missing} of its pixels; use a part of it that is complete.")
    if photo.alpha is not None:
        listener(Notice(stage=STAGE, message=f"{source.name}: the alpha channel is left out."))
    height, width = (side - side % scale for side in photo.pixels.shape[:2])
    pixels: NDArray[np.float32] = np.ascontiguousarray(photo.pixels[:height, :width])
    if 0 in pixels.shape:
        raise ImageError(f"it is smaller than one LR pixel of {scale}×{scale} HR px; use a larger one.")
    return replace(photo, pixels=pixels, alpha=None, has_alpha=False)


def _compressed(lr: Photo, quality: int | None) -> Photo:
    if quality is None:
        return lr
    if lr.channels not in (1, 3) or lr.dtype != np.uint8:
        bands = f"{lr.channels} bands of {lr.dtype}"
        raise ConfigError(f"JPEG compression needs a grey or RGB image with 8 bits, got {bands}; leave it out.")
    samples = np.round(lr.pixels * 255).astype(np.uint8)
    return lr.with_result((jpeg_round_trip(samples, quality) / np.float32(255)).astype(np.float32))


def collect_pool(
    sources: Sequence[Path],
    settings: Settings | None = None,
    *,
    noise_side: int = 64,
    listener: Listener = ignore,
) -> KernelPool:
    """Estimate the kernels of photographs, and collect their noise.

    A photograph whose kernel cannot be measured (flat, too small) is left out, with a notice.

    Args:
        sources: Photographs, and folders of them.
        settings: Estimator, scale and seed; the default preset if None.
        noise_side: Side of the patches of noise, px.
        listener: Receives an event for each photograph.

    Raises:
        ImageError: There is no photograph, or none with a kernel that can be measured.
    """
    images = by_stem(list_images(sources))
    kernels: dict[str, Kernel] = {}
    noise: list[NDArray[np.float32]] = []
    listener(StageStarted(stage=_POOL_STAGE, max_steps=len(images)))
    for step, (name, path) in enumerate(images.items(), start=1):
        try:
            pixels = read_photo(path).pixels
            estimate = estimate_kernel(TensorSource(to_tensor(pixels)), settings)
        except BlindSRError as error:
            listener(Notice(stage=_POOL_STAGE, message=f"{path.name} was left out: {error}"))
        else:
            if estimate.kernel.made_by == "bicubic" and estimate.method != "bicubic":
                reason = "its blur cannot be measured."
                listener(Notice(stage=_POOL_STAGE, message=f"{path.name} was left out: {reason}"))
            else:
                kernels[name] = estimate.kernel
                bands = pixels if pixels.shape[2] == 3 else np.repeat(pixels.mean(2, keepdims=True), 3, 2)
                noise.append(noise_patches(bands, side=noise_side)[:_MAX_NOISE_PATCHES])
        listener(StepDone(stage=_POOL_STAGE, step=step))
    listener(StageDone(stage=_POOL_STAGE, steps=len(images)))
    if not kernels:
        raise ImageError("no photograph shows a kernel that can be measured; choose sharper or larger ones.")
    return KernelPool(tuple(kernels.values()), tuple(kernels), np.concatenate(noise))
