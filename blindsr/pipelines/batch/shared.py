"""One kernel for the photographs of one camera: estimated from each, joined, and each asked whether it agrees.

What an estimate errs by is mostly the content of its photograph (soft clouds, hard edges), and that differs from one
to the next where the camera does not. The mean of the estimates is therefore better than each. A mean of the spectra,
fitted once, was tried and is not: docs/reliability.md.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindsr import spectral
from blindsr.errors import BlindSRError, ImageError
from blindsr.events import ignore
from blindsr.kernels import Kernel, KernelEstimate, gaussian
from blindsr.pipelines import blind
from blindsr.pipelines.auto import bicubic_instead, is_sharp, sharpness
from blindsr.pipelines.passes import FIRST_PASS, OWN_BLUR, carried
from blindsr.pipelines.settings import Settings
from blindsr.zssr.checks import least_side
from blindsr.zssr.start.config import StartConfig

__all__ = ["Opinion", "SharedKernel", "estimate_shared_kernel"]

Matrix = NDArray[np.float64]

# A photograph disagrees if its estimate lies this many times farther from the joint one than the middle photograph's
# does, and at least LEAST away (relative, Frobenius): single estimates scatter, docs/reliability.md.
_FAR = 4.0
_LEAST = 0.6
# Photographs that are asked whether they are sharp.
_JUDGES = 7
# Long over short axis up to which they are asked. Sharp pictures of soft things seem blurred alike in all directions,
# or each in its own: one direction that many photographs agree on is the camera's, whatever the guard thinks of it.
_ROUND = 1.3


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one photograph says.

    Args:
        name: The photograph.
        covariance: Of its own estimate, (2, 2), HR px²; None if it shows no blur to measure, or is too small.
        distance: Of that from the joint one, relative; NaN without an estimate.
        disagrees: It is too far away to be by chance: another camera, another focus, another kind of picture.
    """

    name: str
    covariance: Matrix | None
    distance: float
    disagrees: bool = False


@dataclass(frozen=True, kw_only=True)
class SharedKernel:
    """The kernel of many photographs.

    Args:
        kernel: For ⌈settings.scale⌉, centred.
        opinions: Of each photograph, in order.
        spread: Relative standard deviation of the widths among those that agree.
        error: The same of their mean: how well the width is known, as far as chance goes.
        guarded: What the guard against ringing did; empty if nothing.
    """

    kernel: Kernel
    opinions: tuple[Opinion, ...]
    spread: float
    error: float
    guarded: str = ""

    @property
    def agreeing(self) -> tuple[Opinion, ...]:
        """Those that the kernel was made of."""
        return tuple(o for o in self.opinions if o.covariance is not None and not o.disagrees)

    def sentences(self) -> tuple[str, ...]:
        """What the user should know."""
        long, short = self.kernel.sigmas
        said = [
            f"one kernel for all, from {len(self.agreeing)} of {len(self.opinions)} photographs: σ {long:.2f} px along "
            f"{self.kernel.angle:.0f}°, {short:.2f} px across{self._doubt()}{self.guarded and '; ' + self.guarded}."
        ]
        for opinion in self.opinions:
            if opinion.disagrees and opinion.covariance is not None:
                own = math.sqrt(float(np.trace(opinion.covariance)) / 2)
                said.append(
                    f"{opinion.name} disagrees: its own estimate has σ {own:.2f} px; is it of another camera, or out "
                    "of focus? It gets the shared kernel all the same; run it by itself if that looks wrong."
                )
        silent = sum(opinion.covariance is None for opinion in self.opinions)
        if silent:
            said.append(f"{silent} photographs are flat, too small or unreadable and have no say in the kernel.")
        return tuple(said)

    def _doubt(self) -> str:
        if not math.isfinite(self.spread):
            return "; a single photograph does not say how far to trust it"
        return (
            f"; their own estimates differ by {self.spread:.0%} in width, so the mean is known to about "
            f"{self.error:.0%} as far as chance goes"
        )


def estimate_shared_kernel(
    images: Iterable[tuple[str, Callable[[], Tensor]]],
    settings: Settings | None = None,
    *,
    listener: Callable[[str, int], object] = lambda name, number: None,
) -> SharedKernel:
    """Estimate one kernel from many images of one camera.

    The covariances of the single estimates are averaged, those that are far away left out (the median is where the
    search for them begins). Estimates that are Gaussians give a Gaussian; of others the arrays are averaged, which
    averages their covariances too.

    Args:
        images: Names, and functions that give (1, C, H, W), float, [0, 1]; each is held only while it is looked at.
        settings: Estimator and scale; "auto" takes the spectral fit, and asks some images together whether its result
            would ring.
        listener: Takes each name and number (from 1) when its estimate is done.

    Returns:
        The kernel, and what each image says.

    Raises:
        ImageError: No image shows a blur that can be measured.
    """
    settings = Settings() if settings is None else settings
    if settings.network_scale in FIRST_PASS:
        first = replace(settings, scale=float(FIRST_PASS[settings.network_scale]), factors=None, size=None)
        return _carried(estimate_shared_kernel(images, first, listener=listener), settings.network_scale)
    single = replace(settings, estimator="spectral") if settings.estimator == "auto" else settings
    loaders = list(images)
    estimates: list[KernelEstimate | None] = []
    for number, (name, load) in enumerate(loaders, start=1):
        estimates.append(_own_estimate(load, single))
        listener(name, number)
    found = [estimate for estimate in estimates if estimate is not None]
    if not found:
        raise ImageError(
            f"none of {len(loaders)} photographs shows a blur that can be measured; leave out --shared-kernel, or "
            "upscale with a known kernel."
        )
    covariances = np.stack([estimate.kernel.covariance for estimate in found])
    near = _agreeing(covariances)
    joint = covariances[near].mean(0)
    distances = iter(_distances(joint, covariances))
    agrees = iter(near)
    opinions = tuple(
        Opinion(name=name, covariance=None, distance=math.nan)
        if estimate is None
        else Opinion(
            name=name, covariance=estimate.kernel.covariance, distance=next(distances), disagrees=not next(agrees)
        )
        for (name, _), estimate in zip(loaders, estimates, strict=True)
    )
    kernel = _joined([estimate for estimate, good in zip(found, near, strict=True) if good], joint)
    kernel, guarded = _guarded(kernel, loaders, opinions, settings)
    widths = np.sqrt(np.trace(covariances[near], axis1=1, axis2=2) / 2)
    spread = float(widths.std(ddof=1) / widths.mean()) if len(widths) > 1 else math.nan
    return SharedKernel(
        kernel=kernel,
        opinions=opinions,
        spread=spread,
        error=spread / math.sqrt(len(widths)),
        guarded=guarded,
    )


def _carried(shared: SharedKernel, scale: int) -> SharedKernel:
    """A kernel for ×3 or ×4, for 6 or 8 by the scale law, and with it what each photograph says."""
    kernel = carried(KernelEstimate(kernel=shared.kernel, method="shared"), scale).kernel
    growth = (scale**2 - OWN_BLUR) / (shared.kernel.scale**2 - OWN_BLUR)
    opinions = (o if o.covariance is None else replace(o, covariance=o.covariance * growth) for o in shared.opinions)
    return replace(shared, kernel=kernel, opinions=tuple(opinions))


def _own_estimate(load: Callable[[], Tensor], settings: Settings) -> KernelEstimate | None:
    try:
        estimate = blind.estimate_kernel(load(), settings, listener=ignore)
    except BlindSRError:  # too small for the estimator, or unreadable, which the run will report
        return None
    return None if estimate.kernel.provenance.get("made_by") in ("bicubic", "box") else estimate


def _distances(joint: Matrix, covariances: Matrix) -> list[float]:
    scale = float(np.linalg.norm(joint))
    return [float(np.linalg.norm(covariance - joint)) / scale for covariance in covariances]


def _agreeing(covariances: Matrix) -> list[bool]:
    """Which estimates are of one kernel, as far as single estimates can tell."""
    if len(covariances) < 3:
        return [True] * len(covariances)  # of two that differ, neither is the odd one
    distances = np.array(_distances(np.median(covariances, axis=0), covariances))
    return [bool(near) for near in distances <= max(_FAR * float(np.median(distances)), _LEAST)]


def _joined(estimates: Sequence[KernelEstimate], covariance: Matrix) -> Kernel:
    kernels = [estimate.kernel for estimate in estimates]
    scale, method = kernels[0].scale, estimates[0].method
    provenance = {"made_by": method, "shared_by": len(kernels), "covariance_yx": covariance.round(6).tolist()}
    if all(_is_gaussian(kernel) for kernel in kernels):
        size = max(kernel.size for kernel in kernels)
        return Kernel(gaussian(covariance, scale, size=size).array, scale, provenance)
    size = max(kernel.size for kernel in kernels)
    total = np.zeros((size, size))
    for kernel in kernels:
        margin = (size - kernel.size) // 2
        total += np.pad(kernel.array, margin)
    return Kernel.normalised(total, scale, provenance)


def _is_gaussian(kernel: Kernel) -> bool:
    model = gaussian(kernel.covariance, kernel.scale, size=kernel.size).array
    cosine = (model * kernel.array).sum() / math.sqrt(float((model**2).sum() * (kernel.array**2).sum()))
    return bool(cosine > 0.999)


def _guarded(
    kernel: Kernel,
    loaders: Sequence[tuple[str, Callable[[], Tensor]]],
    opinions: Sequence[Opinion],
    settings: Settings,
) -> tuple[Kernel, str]:
    """The bicubic kernel if most of some photographs are as sharp as their pixels allow."""
    if settings.estimator != "auto" or not isinstance(settings.zssr, StartConfig):
        return kernel, ""
    long, short = kernel.sigmas
    if long > _ROUND * short:
        return kernel, ""
    agreeing = [i for i, o in enumerate(opinions) if o.covariance is not None and not o.disagrees]
    judges = agreeing[:: max(1, math.ceil(len(agreeing) / _JUDGES))]
    sharp = asked = 0
    for judge in judges:
        image = loaders[judge][1]()
        if min(image.shape[-2:]) >= least_side(kernel.scale):
            estimate = spectral.estimate_kernel(image, kernel.scale, settings.spectral)
            asked += 1
            sharp += not estimate.notes and is_sharp(sharpness(image, estimate, settings.zssr))
    if 2 * sharp <= asked:
        return kernel, ""
    note = "most photographs are as sharp as their pixels allow: the bicubic kernel is used"
    return bicubic_instead(kernel), note
