"""Results against the truth: images, and kernels."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.errors import BlindSRError, ConfigError, ImageError
from blindsr.image_io import read_photo
from blindsr.image_io.inline import eight_bits
from blindsr.kernels import Kernel, normalised_cross_correlation
from blindsr.kernels.files import read_kernel
from blindsr.metrics import covariance_error, psnr, psnr_y, rgb_to_y, ssim_y
from blindsr.ops import degrade
from blindsr.pipelines.alignment import SHIFT_ALARM, find_shift
from blindsr.pipelines.folders import images_in, kernels_in, matched, stems

__all__ = [
    "Evaluation",
    "ImageScore",
    "KernelScore",
    "evaluate_folders",
    "samples_8bit",
    "score_image",
    "score_kernel",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScore:
    """How near an SR image is to its HR image.

    Args:
        psnr_y: dB on luma, MATLAB's convention, `scale` px shaved; infinity if equal.
        ssim_y: Likewise.
        psnr_rgb: dB over the three channels (of gray images: the one), 8 bits, `scale` px shaved.
        shift_y: Where SR lies against HR, HR px; positive is below.
        shift_x: Likewise; positive is to the right.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    shift_y: float
    shift_x: float

    @property
    def is_shifted(self) -> bool:
        """Whether the two do not lie on one another: a wrong convention somewhere, and no matter of quality."""
        return math.hypot(self.shift_y, self.shift_x) > SHIFT_ALARM


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelScore:
    """How near an estimated kernel is to the true one.

    Args:
        ncc: Normalised cross-correlation after aligning the centres of mass.
        covariance_error: ‖Σ̂ − Σ‖ / ‖Σ‖.
        angle_error: Degrees between the long axes, 0 … 90; NaN if the true kernel has no long axis.
        redegraded_psnr: dB on luma between HR degraded by the estimate and by the truth; None without an HR image.
    """

    ncc: float
    covariance_error: float
    angle_error: float
    redegraded_psnr: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of many images.

    Args:
        scale: Pixels shaved.
        images: Scores by name.
        kernels: Scores of kernels by name; empty if none were given.
        notes: Sentences: a shift, a crop, an image without a result.
        failures: (name, sentence) for each pair that could not be scored.
    """

    scale: int
    images: Mapping[str, ImageScore]
    kernels: Mapping[str, KernelScore]
    notes: tuple[str, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()

    def means(self) -> dict[str, float]:
        """Mean of every figure over the images that have it: per-image dB are averaged, as papers do."""
        columns: dict[str, list[float]] = {}
        for name, score in self.images.items():
            row: dict[str, Any] = asdict(score)
            if name in self.kernels:
                row |= asdict(self.kernels[name])
            for key, value in row.items():
                if value is not None and not math.isnan(value):
                    columns.setdefault(key, []).append(abs(value) if key.startswith("shift") else value)
        return {key: math.fsum(values) / len(values) for key, values in columns.items()}


def samples_8bit(path: Path) -> NDArray[np.uint8]:
    """A picture as (H, W, C) uint8, without alpha."""
    return eight_bits(read_photo(path).pixels)


def score_image(sr: NDArray[Any], hr: NDArray[Any], *, scale: int) -> ImageScore:
    """Score an SR image.

    Args:
        sr: (H, W, 3) or (H, W, 1); floats in [0, 1] are rounded to 8 bits first.
        hr: Of the same size; of one of the two numbers of channels: gray is taken as R = G = B.
        scale: Pixels shaved on every side.

    Raises:
        ImageError: The sizes differ, or too little is left after shaving.
    """
    first, second = eight_bits(sr), eight_bits(hr)
    if first.shape[2] != second.shape[2]:
        first, second = _as_rgb(first), _as_rgb(second)
    inner = slice(scale, -scale)
    shift = find_shift(rgb_to_y(first)[inner, inner], rgb_to_y(second)[inner, inner])
    return ImageScore(
        psnr_y=psnr_y(first, second, border=scale),
        ssim_y=ssim_y(first, second, border=scale),
        psnr_rgb=psnr(first, second, data_range=255, border=scale),
        shift_y=shift[0],
        shift_x=shift[1],
    )


def _as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.shape[2] not in (1, 3):
        raise ImageError(f"gray or RGB is needed for luma, got {image.shape[2]} channels; drop alpha and extra bands.")
    return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)


def score_kernel(estimate: Kernel, truth: Kernel, hr: NDArray[Any] | None = None) -> KernelScore:
    """Score an estimated kernel.

    Args:
        estimate: For the scale of `truth`.
        truth: The kernel that made the LR image.
        hr: (H, W, C), 8 bits or floats in [0, 1]; None leaves out the PSNR of what both make of it.

    Raises:
        KernelError: The kernels are for different scales.
    """
    return KernelScore(
        ncc=normalised_cross_correlation(estimate, truth),
        covariance_error=covariance_error(estimate, truth),
        angle_error=_angle_between(estimate, truth),
        redegraded_psnr=None if hr is None else _redegraded(estimate, truth, hr),
    )


def _angle_between(estimate: Kernel, truth: Kernel) -> float:
    long, short = truth.sigmas
    if long - short < 0.05 * long:
        return math.nan
    turn = abs(estimate.angle - truth.angle) % 180
    return min(turn, 180 - turn)


def _redegraded(estimate: Kernel, truth: Kernel, hr: NDArray[Any]) -> float:
    luma = torch.from_numpy(rgb_to_y(eight_bits(hr)))[None, None]
    first, second = (degrade(luma, k.tensor(luma), truth.scale)[0, 0].numpy() for k in (estimate, truth))
    border = min(truth.scale, (min(first.shape) - 1) // 2)
    return psnr(first, second, data_range=255, border=border)


def evaluate_folders(
    sr: Path, hr: Path, *, scale: int, kernels: Path | None = None, true_kernels: Path | None = None
) -> Evaluation:
    """Score results against HR images, and kernels against true kernels.

    Args:
        sr: A picture, or a folder; results belong to the HR image whose name theirs begins with.
        hr: A picture, or a folder.
        scale: Factor from LR to HR; as many pixels are shaved.
        kernels: An estimated kernel, or a folder.
        true_kernels: The true one, or a folder.

    Returns:
        Scores by the names of the HR images.

    Raises:
        ImageError: A path is missing, or no result belongs to an HR image.
        ConfigError: One of the two kernel arguments is missing, or the scale is no whole number from 1 to 8.
    """
    if not 1 <= scale <= 8:
        raise ConfigError(f"scale must be a whole number from 1 to 8, got {scale}.")
    if (kernels is None) != (true_kernels is None):
        raise ConfigError("kernels are scored against true kernels: give both, or none.")
    truths = stems(images_in([hr]))
    # Two files need no common name.
    results = {next(iter(truths)): sr} if sr.is_file() and hr.is_file() else matched(truths, images_in([sr]))
    if not results:
        raise ImageError(f"no picture in {sr} is named after one in {hr}; a result's name begins with its HR image's.")
    notes = [f"{name} has no result and is left out." for name in truths if name not in results]
    failures: list[tuple[str, str]] = []
    images: dict[str, ImageScore] = {}
    for name, path in results.items():
        try:
            images[name] = _score_files(path, truths[name], scale, notes)
        except BlindSRError as error:
            failures.append((name, str(error)))
    scored: dict[str, KernelScore] = {}
    if kernels is not None and true_kernels is not None:
        scored = _score_kernel_files(kernels, true_kernels, truths, scale, notes, failures)
    return Evaluation(scale=scale, images=images, kernels=scored, notes=tuple(notes), failures=tuple(failures))


def _score_files(sr: Path, hr: Path, scale: int, notes: list[str]) -> ImageScore:
    first, second = samples_8bit(sr), samples_8bit(hr)
    first, second = cropped_alike(first, second, scale, sr.name, hr.name, notes)
    score = score_image(first, second, scale=scale)
    if score.is_shifted:
        notes.append(
            f"{sr.name} lies ({score.shift_y:+.2f}, {score.shift_x:+.2f}) px (y, x) beside {hr.name}: over "
            f"{SHIFT_ALARM} px, its figures tell of a convention and not of quality."
        )
    return score


def cropped_alike(
    sr: NDArray[np.uint8], hr: NDArray[np.uint8], scale: int, sr_name: str, hr_name: str, notes: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut both to their common size where they differ by less than one LR pixel: HR's sides were no multiples.

    Raises:
        ImageError: They differ by more.
    """
    if sr.shape[:2] == hr.shape[:2]:
        return sr, hr
    height, width = (min(a, b) for a, b in zip(sr.shape[:2], hr.shape[:2], strict=True))
    if max(abs(a - b) for a, b in zip(sr.shape[:2], hr.shape[:2], strict=True)) >= scale:
        raise ImageError(
            f"{sr_name} is {sr.shape[1]}×{sr.shape[0]} px and {hr_name} {hr.shape[1]}×{hr.shape[0]}; they must be of "
            "one size, or differ by less than the scale; check that they belong together."
        )
    notes.append(f"{hr_name}: compared on the common {width}×{height} px.")
    return sr[:height, :width], hr[:height, :width]


def _score_kernel_files(
    kernels: Path,
    true_kernels: Path,
    images: Mapping[str, Path],
    scale: int,
    notes: list[str],
    failures: list[tuple[str, str]],
) -> dict[str, KernelScore]:
    if kernels.is_file() and true_kernels.is_file():
        name = next(iter(images)) if len(images) == 1 else true_kernels.stem
        truths, estimates = {name: true_kernels}, {name: kernels}
    else:
        truths = matched(images, kernels_in(true_kernels))
        estimates = matched(images, kernels_in(kernels))
    scores = {}
    for name in estimates.keys() & truths.keys():
        try:
            estimate, truth = (read_kernel(path, scale=scale)[0] for path in (estimates[name], truths[name]))
            hr = samples_8bit(images[name]) if name in images else None
            scores[name] = score_kernel(estimate, truth, hr)
        except BlindSRError as error:
            failures.append((name, str(error)))
    notes += [f"{name} has no pair of kernels." for name in images if name not in scores]
    return {name: scores[name] for name in images if name in scores} | {
        name: score for name, score in scores.items() if name not in images
    }
