"""One kernel for the images of one camera: the mean of the estimates from the single images, without outliers.

The errors of single estimates come mostly from the content of the images, which differs where the camera does not, so
the mean is better than each. A fit to the mean of the spectra is worse (docs/notes/2026-11-21-shared-kernel.md).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import BlindSRError, ImageError, listed
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
from blindsr.kernels.metrics import FWHM_PER_SIGMA, bicubic_share, widths_text
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.settings import Settings
from blindsr.upscalers.two_stage import FIRST_STAGE, RESIDUAL_BLUR, resampled_estimate

__all__ = ["OF_EACH_IMAGE", "STAGE", "ImageEstimate", "SharedKernel", "estimate_shared_kernel"]

STAGE = "shared kernel"
Matrix = NDArray[np.float64]
Load = Callable[[], Tensor]
# An image is an outlier if its covariance is this many times farther from the median than the median distance, and at
# least this far (relative, Frobenius norm); docs/notes/2026-11-21-shared-kernel.md has the scatter of single estimates,
# and the spread of widths above which one kernel may not fit all images.
_OUTLIER_FACTOR, _MIN_OUTLIER_DISTANCE = 4.0, 0.6
_MAX_SPREAD, _MIN_SPREAD_COUNT = 0.2, 4
_SHARP = "they are as sharp as their pixels allow"
_UNCERTAIN = "their own estimates are too uncertain"
_UNUSABLE = "they are flat, too small or unreadable"
_MAX_NAMES = 5  # that a warning lists
#: What may be done where one kernel does not fit all images.
OF_EACH_IMAGE = "leave out shared_kernel (--shared-kernel) to estimate each image on its own"
_MAX_BICUBIC_SHARE = 0.5  # of an estimate; one with more of the bicubic kernel is weak evidence about the camera


@dataclass(frozen=True, kw_only=True)
class ImageEstimate:
    """The estimate from one image."""

    name: str  # the image
    covariance: Matrix | None  # (2, 2), HR px²; None: flat, too small, too uncertain or unreadable
    distance: float = math.nan  # from the covariance of the shared kernel, relative; NaN without a covariance
    is_outlier: bool = False  # too distant to be chance: another camera or focus. It has no part in the kernel
    excluded: str = ""  # why it has no covariance


@dataclass(frozen=True, kw_only=True)
class SharedKernel:
    """The kernel of many images."""

    kernel: Kernel  # for ⌈settings.scale⌉, centred
    estimates: tuple[ImageEstimate, ...]  # from each image, in order
    spread: float  # relative standard deviation of the widths of the averaged estimates
    error: float  # standard error of their mean, relative
    bicubic_reason: str = ""  # why the kernel is the bicubic one instead; empty if it is not

    @property
    def averaged(self) -> tuple[ImageEstimate, ...]:
        """The estimates of which the kernel is the mean; none of them where it is the bicubic one instead."""
        if self.bicubic_reason:
            return ()
        return tuple(e for e in self.estimates if e.covariance is not None and not e.is_outlier)

    def __str__(self) -> str:
        count = len(self.estimates)
        if self.bicubic_reason:
            return f"shared kernel of {count} image{'s' * (count != 1)}: {self.bicubic_reason}."
        if count == 1:
            return f"kernel from one image: {widths_text(self.kernel)}; its uncertainty is unknown."
        spread = "from a single image, its uncertainty is unknown"
        if math.isfinite(self.spread):
            spread = f"the widths vary by {100 * self.spread:.0f} %, the standard error of their mean is "
            spread += f"{100 * self.error:.0f} %"
        return f"shared kernel from {len(self.averaged)} of {count} images: {widths_text(self.kernel)}; {spread}."

    def spread_warnings(self, advice: str = OF_EACH_IMAGE) -> tuple[str, ...]:
        """A warning about all images: their widths vary too much for one kernel.

        Args:
            advice: What may be done then.
        """
        if self.bicubic_reason or self.spread <= _MAX_SPREAD or len(self.averaged) < _MIN_SPREAD_COUNT:
            return ()
        return (
            f"one kernel may not fit all images: the widths of their own estimates vary by {100 * self.spread:.0f} "
            f"% (standard deviation; up to {100 * _MAX_SPREAD:.0f} % is usual with one camera and focus); {advice}.",
        )

    def outlier_warnings(self) -> tuple[str, ...]:
        """Warnings about single images: their own estimates are far from those of the others."""
        if self.bicubic_reason:
            return ()
        warnings = []
        for estimate in self.estimates:
            if estimate.is_outlier and estimate.covariance is not None:
                width = FWHM_PER_SIGMA * math.sqrt(float(np.trace(estimate.covariance)) / 2)
                warnings.append(
                    f"{estimate.name} is an outlier: its own estimate has FWHM {width:.2f} px, so it may be out of "
                    "focus or from another camera. It is upscaled with the shared kernel; run it alone if that looks "
                    "wrong."
                )
        return tuple(warnings)

    def exclusion_warnings(self) -> tuple[str, ...]:
        """Warnings about images that have no estimate, one for each reason."""
        if self.bicubic_reason:
            return ()
        warnings = []
        for reason in sorted({estimate.excluded for estimate in self.estimates if estimate.covariance is None}):
            names = [e.name for e in self.estimates if e.covariance is None and e.excluded == reason]
            warnings.append(f"excluded from the shared kernel, because {reason}: {listed(names, _MAX_NAMES)}.")
        return tuple(warnings)


def estimate_shared_kernel(
    images: Iterable[tuple[str, Load]], settings: Settings | None = None, *, listener: Listener = ignore
) -> SharedKernel:
    """Estimate one kernel from many images of one camera.

    The covariances of the single estimates are averaged without outliers. Gaussian estimates give a Gaussian; of others
    the arrays are averaged, which averages their covariances too. If most of the images show no blur beyond that of
    bicubic downscaling, the kernel is the bicubic one.

    Args:
        images: Names, and functions that return (1, C, H, W), float, [0, 1]; one image is in memory at a time.
        settings: Estimator and scale.
        listener: Receives one step for each image.

    Raises:
        ImageError: No image shows a measurable blur.
    """
    settings = Settings() if settings is None else settings
    scale = settings.run_scale
    if scale in FIRST_STAGE:
        first = replace(settings, scale=float(FIRST_STAGE[scale]), factors=None, size=None)
        return _rescaled(estimate_shared_kernel(images, first, listener=listener), scale)
    images = list(images)
    listener(StageStarted(stage=STAGE, max_steps=len(images)))
    measured: dict[int, KernelEstimate] = {}
    excluded: dict[int, str] = {}
    for index, (_, load) in enumerate(images):
        try:
            estimate = blind.estimate_kernel(TensorSource(load()), settings, listener=ignore)
        except BlindSRError:  # too small for the estimator, or unreadable, which the run will report
            excluded[index] = _UNUSABLE
        else:
            if bicubic_share(estimate.kernel) > _MAX_BICUBIC_SHARE:
                excluded[index] = _UNCERTAIN if estimate.warnings else _SHARP
            elif estimate.kernel.is_plain_reduction or not estimate.kernel.has_sigmas:
                excluded[index] = _UNUSABLE
            else:
                measured[index] = estimate
        listener(StepDone(stage=STAGE, step=index + 1))
    listener(StageDone(stage=STAGE, steps=len(images)))
    sharp = sum(reason == _SHARP for reason in excluded.values())
    if not measured and not sharp:
        raise ImageError(
            f"none of {len(images)} images shows a measurable blur; leave out shared_kernel (--shared-kernel), or "
            "upscale with a known kernel."
        )
    covariances = {index: estimate.kernel.covariance for index, estimate in measured.items()}
    estimates = [
        ImageEstimate(name=name, covariance=covariances.get(i), excluded=excluded.get(i, ""))
        for i, (name, _) in enumerate(images)
    ]
    if sharp > len(measured):
        kernel = Kernel(bicubic(scale).array, scale, {"made_by": "bicubic", "shared_by": sharp})
        reason = "most images show no blur beyond that of bicubic downscaling: the bicubic kernel is used"
        return SharedKernel(
            kernel=kernel, estimates=tuple(estimates), spread=math.nan, error=math.nan, bicubic_reason=reason
        )
    stack = np.stack(list(covariances.values()))
    inliers = _inliers(stack)
    mean = stack[inliers].mean(0)
    for index, distance, is_inlier in zip(measured, _distances(mean, stack), inliers, strict=True):
        estimates[index] = replace(estimates[index], distance=float(distance), is_outlier=not is_inlier)
    kernel = _mean_kernel([measured[i] for i in measured if not estimates[i].is_outlier], mean)
    widths = np.sqrt(np.trace(stack[inliers], axis1=1, axis2=2) / 2)
    spread = float(widths.std(ddof=1) / widths.mean()) if len(widths) > 1 else math.nan
    error = spread / math.sqrt(len(widths))
    return SharedKernel(kernel=kernel, estimates=tuple(estimates), spread=spread, error=error)


def _rescaled(shared: SharedKernel, scale: int) -> SharedKernel:
    """A kernel for ×3 or ×4, and its estimates, for ×6 or ×8 by the scale law."""
    kernel = resampled_estimate(KernelEstimate(kernel=shared.kernel, method="shared"), scale).kernel
    growth = (scale**2 - RESIDUAL_BLUR) / (shared.kernel.scale**2 - RESIDUAL_BLUR)
    estimates = (e if e.covariance is None else replace(e, covariance=e.covariance * growth) for e in shared.estimates)
    return replace(shared, kernel=kernel, estimates=tuple(estimates))


def _distances(centre: Matrix, covariances: Matrix) -> Matrix:
    distances: Matrix = np.linalg.norm(covariances - centre, axis=(1, 2)) / np.linalg.norm(centre)
    return distances


def _inliers(covariances: Matrix) -> NDArray[np.bool_]:
    if len(covariances) < 3:
        return np.ones(len(covariances), bool)  # of two that differ, neither is the outlier
    distances = _distances(np.median(covariances, axis=0), covariances)
    return distances <= max(_OUTLIER_FACTOR * float(np.median(distances)), _MIN_OUTLIER_DISTANCE)


def _mean_kernel(estimates: Sequence[KernelEstimate], covariance: Matrix) -> Kernel:
    kernels = [estimate.kernel for estimate in estimates]
    scale, size = kernels[0].scale, max(kernel.size for kernel in kernels)
    provenance: dict[str, object] = {"made_by": estimates[0].method, "shared_by": len(kernels)}
    provenance["covariance_yx"] = covariance.round(6).tolist()
    errors = [estimate.kernel_error for estimate in estimates if estimate.kernel_error is not None]
    if len(errors) == len(estimates):
        provenance["kernel_error"] = round(float(np.mean(errors)), 4)
    if all(_is_gaussian(kernel) for kernel in kernels):
        return Kernel(gaussian(covariance, scale, size=size).array, scale, provenance)
    total = sum(kernel.padded(size) for kernel in kernels)
    return Kernel.normalised(np.asarray(total), scale, provenance)


def _is_gaussian(kernel: Kernel) -> bool:
    model = gaussian(kernel.covariance, kernel.scale, size=kernel.size).array
    ncc = (model * kernel.array).sum() / math.sqrt(float((model**2).sum() * (kernel.array**2).sum()))
    return bool(ncc > 0.999)
