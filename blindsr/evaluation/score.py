"""Scores of results and estimated kernels against the ground truth, one by one and in folders."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.errors import BlindSRError, ConfigError, ImageError
from blindsr.evaluation.dataset import by_stem, list_images, list_kernels, match_by_name
from blindsr.evaluation.metrics import psnr, psnr_y, rgb_to_y, ssim_y
from blindsr.image_io import Photo, read_photo, to_uint8
from blindsr.kernels import Kernel, normalised_cross_correlation
from blindsr.kernels.files import read_kernel
from blindsr.kernels.metrics import covariance_error
from blindsr.ops import degrade
from blindsr.pipelines.checks import find_shift

__all__ = [
    "Evaluation",
    "ImageScore",
    "KernelScore",
    "evaluate_folders",
    "in_range_of",
    "read_8bit",
    "score_image",
    "score_kernel",
]

# HR px. Half a pixel costs 2 to 4 dB; registered results on DIV2KRK-like sets stay below 0.03.
MAX_SHIFT = 0.1
_MIN_ANISOTROPY = 0.05  # relative difference of the two σ below which a kernel has no orientation


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """Metrics of an SR image against its HR image; `scale` px are cut off on every side."""

    psnr_y: float  # on luma in MATLAB's convention, dB; infinity for equal images
    ssim_y: float  # on luma, at most 1
    psnr_rgb: float  # over all channels, 8 bits, dB
    shift_y: float  # registration of SR against HR, HR px; positive is downwards
    shift_x: float  # positive is to the right

    @property
    def is_shifted(self) -> bool:
        """Whether the images are misregistered: a wrong kernel convention lowers every metric."""
        return math.hypot(self.shift_y, self.shift_x) > MAX_SHIFT


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelScore:
    """Metrics of an estimated kernel against the true kernel."""

    ncc: float  # normalised cross-correlation after the centres of mass are aligned
    covariance_error: float  # ‖Σ̂ − Σ‖ / ‖Σ‖ in the Frobenius norm
    angle_error: float  # between the long axes, 0 to 90 degrees; NaN for an isotropic true kernel
    redegraded_psnr: float | None = None  # PSNR-Y between HR degraded by either kernel, dB; None without HR


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of many images."""

    scale: int  # pixels that were cut off on every side
    images: Mapping[str, ImageScore]
    kernels: Mapping[str, KernelScore]
    warnings: tuple[str, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()  # name and error message of each pair that could not be scored

    def rows(self) -> dict[str, dict[str, float | None]]:
        """Every metric of every image, by name."""
        rows: dict[str, dict[str, float | None]] = {}
        scores: list[tuple[str, ImageScore | KernelScore]] = [*self.images.items(), *self.kernels.items()]
        for name, score in scores:
            rows.setdefault(name, {}).update(asdict(score))
        return rows

    def means(self) -> dict[str, float]:
        """Mean of every metric over the images that have it; decibels are averaged per image, shifts by magnitude."""
        return {
            key: math.fsum(abs(v) if key.startswith("shift") else v for v in column) / len(column)
            for key, column in self._columns().items()
        }

    def worst(self) -> dict[str, float]:
        """The worst value of every metric: the largest of errors and shifts, the smallest of the others."""
        return {
            key: max(map(abs, column)) if key.startswith("shift") or key.endswith("error") else min(column)
            for key, column in self._columns().items()
        }

    def _columns(self) -> dict[str, list[float]]:
        columns: dict[str, list[float]] = {}
        for key, value in (item for name, row in self.rows().items() if name in self.images for item in row.items()):
            if value is not None and not math.isnan(value):
                columns.setdefault(key, []).append(value)
        return columns


def read_8bit(path: Path, *, like: Path | None = None, complete: bool = False) -> NDArray[np.uint8]:
    """Read an image as (H, W, C) uint8, without alpha.

    Measurements (signed or 32-bit integers, floats beyond [0, 1]) have no white: the range of their values counts as 0
    to 255.

    Args:
        path: The image.
        like: The image whose range counts, of an image that is compared with it; None is the image itself.
        complete: Refuse an image with missing data, which no metric can count.

    Raises:
        ImageError: The image cannot be read, or has missing data.
    """
    photo = read_photo(path)
    if complete and (missing := photo.missing_pixels):
        raise ImageError(f"{path.name} has no data in {missing} of its pixels; use a part of it that is complete.")
    return to_uint8(in_range_of(photo, photo if like is None else read_photo(like)))


def in_range_of(photo: Photo, reference: Photo) -> NDArray[np.floating]:
    """The samples of an image on the scale of another one, which it is compared with.

    Args:
        photo: The image.
        reference: The other one, such as HR.

    Returns:
        (H, W, C): parts of white, [0, 1], where the reference has 8 or 16 bits or floats within [0, 1]; otherwise 0 is
        its smallest and 1 its largest sample, which those of the image may exceed.
    """
    if reference.dtype in (np.uint8, np.uint16) or reference.value_range == (0.0, 1.0):
        return photo.values
    values = reference.values if reference.valid is None else reference.values[reference.valid]
    low, high = np.float64(values.min()), np.float64(values.max())
    return (photo.values - low) / ((high - low) or 1.0)


def score_image(sr: NDArray[Any], hr: NDArray[Any], *, scale: int) -> ImageScore:
    """Score an SR image; an ImageError if the sizes differ or too few pixels remain.

    Args:
        sr: (H, W, 3) or (H, W, 1); floats in [0, 1] are rounded to 8 bits first.
        hr: Image of the same size; if only one of the two is grey, it is used as R = G = B.
        scale: Pixels to cut off on every side.
    """
    images = [to_uint8(sr), to_uint8(hr)]
    if images[0].shape[2] != images[1].shape[2]:
        for image in images:
            if image.shape[2] not in (1, 3):
                bands = f"got {image.shape[2]} channels; remove alpha and extra bands."
                raise ImageError(f"luma needs a grey or RGB image, {bands}")
        images = [image if image.shape[2] == 3 else np.repeat(image, 3, axis=2) for image in images]
    first, second = images
    inner = slice(scale, -scale)
    shift = find_shift(rgb_to_y(first)[inner, inner], rgb_to_y(second)[inner, inner])
    return ImageScore(
        psnr_y=psnr_y(first, second, border=scale),
        ssim_y=ssim_y(first, second, border=scale),
        psnr_rgb=psnr(first, second, data_range=255, border=scale),
        shift_y=shift[0],
        shift_x=shift[1],
    )


def score_kernel(estimate: Kernel, truth: Kernel, hr: NDArray[Any] | None = None) -> KernelScore:
    """Score an estimated kernel; a KernelError if the kernels are for different scales.

    Args:
        estimate: Kernel for the scale of `truth`.
        truth: The kernel that degraded the HR image.
        hr: (H, W, C), 8 bits or floats in [0, 1]; None omits the PSNR of the HR image degraded by both.
    """
    long, short = truth.sigmas
    has_angle = truth.has_sigmas and estimate.has_sigmas and long - short >= _MIN_ANISOTROPY * long
    turn = abs(estimate.angle - truth.angle) % 180
    redegraded = None
    if hr is not None:
        luma = torch.from_numpy(rgb_to_y(to_uint8(hr)))[None, None]
        first, second = (degrade(luma, k.tensor(luma), truth.scale)[0, 0].numpy() for k in (estimate, truth))
        border = min(truth.scale, (min(first.shape) - 1) // 2)
        redegraded = psnr(first, second, data_range=255, border=border)
    return KernelScore(
        ncc=normalised_cross_correlation(estimate, truth),
        covariance_error=covariance_error(estimate, truth),
        angle_error=min(turn, 180 - turn) if has_angle else math.nan,
        redegraded_psnr=redegraded,
    )


def evaluate_folders(
    sr: Path, hr: Path, *, scale: int, kernels: Path | None = None, true_kernels: Path | None = None
) -> Evaluation:
    """Score results against HR images, and estimated kernels against true kernels; `scale` px are cut off on all sides.

    All paths are files or folders; the name of a result or kernel begins with that of its HR image.

    Returns:
        Scores by the names of the HR images.

    Raises:
        ImageError: A path does not exist, or no result belongs to an HR image.
        ConfigError: Only one of the kernel arguments is given, or the scale is not an integer from 1 to 8.
    """
    if not 1 <= scale <= 8:
        raise ConfigError(f"scale must be an integer from 1 to 8, got {scale}.")
    if (kernels is None) != (true_kernels is None):
        raise ConfigError("kernels are scored against true kernels; give both of them or neither.")
    truths = by_stem(list_images([hr]))
    # Two files need no common name.
    results = {next(iter(truths)): sr} if sr.is_file() and hr.is_file() else match_by_name(truths, list_images([sr]))
    if not results:
        raise ImageError(f"no image in {sr} has a name that begins with the name of an image in {hr}; rename them.")
    warnings = [f"{name} has no result and is left out." for name in truths if name not in results]
    failures: list[tuple[str, str]] = []
    images: dict[str, ImageScore] = {}
    for name, path in results.items():
        try:
            images[name] = _score_files(path, truths[name], scale, warnings)
        except BlindSRError as error:
            failures.append((name, str(error)))
    scores: dict[str, KernelScore] = {}
    if kernels is not None and true_kernels is not None:
        scores = _score_kernel_files(kernels, true_kernels, truths, scale, failures)
        warnings += [f"{name} has no pair of kernels." for name in truths if name not in scores]
    return Evaluation(scale=scale, images=images, kernels=scores, warnings=tuple(warnings), failures=tuple(failures))


def _score_files(sr: Path, hr: Path, scale: int, warnings: list[str]) -> ImageScore:
    first, second = read_8bit(sr, like=hr, complete=True), read_8bit(hr, complete=True)
    sizes = [(image.shape[0], image.shape[1]) for image in (first, second)]
    if sizes[0] != sizes[1]:
        # HR images whose sides are no multiples of the scale differ from SR by less than one LR pixel.
        if max(abs(a - b) for a, b in zip(*sizes, strict=True)) >= scale:
            raise ImageError(
                f"{sr.name} has {sizes[0][1]}×{sizes[0][0]} px and {hr.name} {sizes[1][1]}×{sizes[1][0]} px; they must "
                "have one size, or differ by less than the scale; check that they belong together."
            )
        height, width = (min(sides) for sides in zip(*sizes, strict=True))
        warnings.append(f"{hr.name}: compared on the common {width}×{height} px.")
        first, second = first[:height, :width], second[:height, :width]
    score = score_image(first, second, scale=scale)
    if score.is_shifted:
        warnings.append(
            f"{sr.name} is shifted by ({score.shift_y:+.2f}, {score.shift_x:+.2f}) px (y, x) against {hr.name}; above "
            f"{MAX_SHIFT} px the metrics measure a difference of conventions instead of quality."
        )
    return score


def _score_kernel_files(
    kernels: Path, true_kernels: Path, images: Mapping[str, Path], scale: int, failures: list[tuple[str, str]]
) -> dict[str, KernelScore]:
    if kernels.is_file() and true_kernels.is_file():
        name = next(iter(images)) if len(images) == 1 else true_kernels.stem
        truths, estimates = {name: true_kernels}, {name: kernels}
    else:
        truths = match_by_name(images, list_kernels(true_kernels))
        estimates = match_by_name(images, list_kernels(kernels))
    scores = {}
    for name in (name for name in dict.fromkeys([*images, *truths]) if name in truths and name in estimates):
        try:
            estimate, truth = (read_kernel(path, scale=scale)[0] for path in (estimates[name], truths[name]))
            scores[name] = score_kernel(estimate, truth, read_8bit(images[name]) if name in images else None)
        except BlindSRError as error:
            failures.append((name, str(error)))
    return scores
