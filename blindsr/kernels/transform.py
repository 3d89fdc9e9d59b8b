"""Arithmetic on kernels. Nothing outside this module shifts, crops or rescales one."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.errors import KernelError
from blindsr.kernels.kernel import Kernel

__all__ = ["centre", "compose", "fit", "flip", "normalised_cross_correlation", "resample", "shift"]


def fit(kernel: Kernel, size: int) -> Kernel:
    """Crop or pad a kernel to size×size around its geometric centre, and normalise.

    Raises:
        KernelError: `size` has the wrong parity, or the cut would take more than half of the mass.
    """
    if size < kernel.scale or (size - kernel.scale) % 2:
        raise KernelError(f"size must be ≥ {kernel.scale} and ≡ {kernel.scale} (mod 2), got {size}.")
    margin = (kernel.size - size) // 2
    if margin <= 0:
        array = np.pad(kernel.array, -margin)
    else:
        array = kernel.array[margin : kernel.size - margin, margin : kernel.size - margin]
        if array.sum() < 0.5:
            raise KernelError(f"cutting this kernel to {size}×{size} px leaves {array.sum():.0%} of it; centre it.")
    return Kernel.normalised(array, kernel.scale, kernel.provenance)


def shift(kernel: Kernel, offset: tuple[float, float]) -> Kernel:
    """Move a kernel by (y, x) HR pixels; cubic splines for the fraction, zeros come in, the frame stays."""
    moved = ndimage.shift(kernel.array, offset, order=3, mode="constant", prefilter=True)
    if kernel.array.min() >= 0:
        # Splines ring below zero beside sharp edges; a kernel without lobes must not get them here.
        moved = np.clip(moved, 0, None)
    return Kernel.normalised(moved, kernel.scale, kernel.provenance)


def centre(kernel: Kernel, *, tolerance: float = 1e-4) -> Kernel:
    """Move the centre of mass onto the geometric centre, without growing the kernel.

    Args:
        kernel: Any kernel.
        tolerance: Distance in HR pixels at which it is left as it is.

    Raises:
        KernelError: The centre of mass cannot be brought to the centre (its weights nearly cancel).
    """
    # A shift cuts what leaves the frame, which moves the centroid again: repeat until it stays.
    for _ in range(30):
        offset = kernel.centroid
        if np.abs(offset).max() <= tolerance:
            return kernel
        if np.abs(offset).max() > kernel.size:
            break
        kernel = shift(kernel, (-float(offset[0]), -float(offset[1])))
    if np.abs(kernel.centroid).max() <= 0.01:
        return kernel
    raise KernelError(
        f"this kernel cannot be centred: its centre of mass stays {np.abs(kernel.centroid).max():.2f} px "
        "off; its positive and negative weights nearly cancel."
    )


def flip(kernel: Kernel, view: int) -> Kernel:
    """The kernel that belongs to an image shown in dihedral view `view` (blindsr.ops.dihedral)."""
    array = kernel.array[:, ::-1] if view >= 4 else kernel.array
    return Kernel(np.rot90(array, view % 4), kernel.scale, kernel.provenance)


def compose(first: Kernel, second: Kernel) -> Kernel:
    """The one kernel that equals degrading by `first` and then by `second`.

    k = k₁ ∗ (k₂ dilated by s₁), full convolution; scale s₁·s₂. `compose(k2, k2)` is KernelGAN's ×4 kernel
    (Bell-Kligler et al., NeurIPS 2019, §4.3).
    """
    full = np.zeros((first.scale * (second.size - 1) + first.size,) * 2)
    # Correlating twice correlates with the convolution of the two kernels. (scipy.signal would do it, and costs every
    # command a second at its start.)
    for (y, x), weight in np.ndenumerate(second.array):
        top, left = first.scale * y, first.scale * x
        full[top : top + first.size, left : left + first.size] += weight * first.array
    return Kernel.normalised(
        full,
        first.scale * second.scale,
        {**first.provenance, "composed_of_scales": [first.scale, second.scale]},
    )


def resample(kernel: Kernel, scale: int, *, own_blur: float = 1.0) -> Kernel:
    """Carry a kernel from its scale to another one, by the scale law cov(k_s) = (s² − β)·Σ_LR.

    The shape is stretched by √((s₂² − β)/(s₁² − β)). With β = 1 (scale invariance: HR is as blurred on its
    own grid as LR is on its own; Michaeli & Irani, ICCV 2013) this is the law that `compose` follows from
    ×2 to ×4.

    Args:
        kernel: A kernel for s₁ ≥ 2.
        scale: s₂ ≥ 2.
        own_blur: β in [0, 1]; 0 is an ideally sharp HR image.

    Returns:
        A kernel for `scale` with the stretched covariance.

    Raises:
        KernelError: A scale below 2.
    """
    if kernel.scale < 2 or scale < 2:
        raise KernelError(f"kernels are resampled between scales of 2 or more, got {kernel.scale} and {scale}.")
    stretch = math.sqrt((scale**2 - own_blur) / (kernel.scale**2 - own_blur))
    size = math.ceil(kernel.size * stretch)
    size += (size - scale) % 2
    array = _stretch(kernel.array, stretch, size)
    if kernel.array.min() >= 0:
        array = np.clip(array, 0, None)
    return Kernel.normalised(array, scale, {**kernel.provenance, "resampled_from_scale": kernel.scale})


def _stretch(array: NDArray[np.float64], factor: float, size: int) -> NDArray[np.float64]:
    inverse = 1.0 / factor
    old_centre = (array.shape[0] - 1) / 2
    new_centre = (size - 1) / 2
    return np.asarray(
        ndimage.affine_transform(
            array,
            [inverse, inverse],
            offset=old_centre - inverse * new_centre,
            output_shape=(size, size),
            order=3,
        )
    )


def normalised_cross_correlation(a: Kernel, b: Kernel) -> float:
    """NCC of two kernels of one scale after aligning their centres of mass: Σab / √(Σa² Σb²), in [−1, 1].

    Raises:
        KernelError: The kernels are for different scales.
    """
    if a.scale != b.scale:
        raise KernelError(f"kernels for different scales ({a.scale} and {b.scale}) cannot be compared; resample one.")
    size = max(a.size, b.size) + 2 * math.ceil(max(np.abs(a.centroid).max(), np.abs(b.centroid).max()))
    size += (size - a.scale) % 2
    first, second = (ndimage.shift(np.pad(k.array, (size - k.size) // 2), -k.centroid, order=3) for k in (a, b))
    return float((first * second).sum() / math.sqrt((first**2).sum() * (second**2).sum()))
