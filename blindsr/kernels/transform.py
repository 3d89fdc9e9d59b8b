"""Arithmetic on kernels: the only module that shifts, crops, composes or rescales one."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.errors import KernelError
from blindsr.kernels.kernel import Kernel

_CENTRED = 1e-4  # HR px
_MIN_REPORTED_SHIFT = 0.005  # HR px


def fit(kernel: Kernel, size: int) -> Kernel:
    """Crop or pad a kernel to size×size around its geometric centre, and normalise.

    Raises:
        KernelError: `size` has the wrong parity, or more than half of the mass would be cut off.
    """
    if size < kernel.scale or (size - kernel.scale) % 2:
        raise KernelError(f"size must be ≥ {kernel.scale} and ≡ {kernel.scale} (mod 2), got {size}.")
    margin = (kernel.size - size) // 2
    if margin <= 0:
        array = np.pad(kernel.array, -margin)
    else:
        array = kernel.array[margin : kernel.size - margin, margin : kernel.size - margin]
        if array.sum() < 0.5:
            raise KernelError(
                f"cropping this kernel to {size}×{size} px leaves {100 * array.sum():.0f} % of it; centre it."
            )
    return Kernel.normalised(array, kernel.scale, kernel.provenance)


def shift(kernel: Kernel, offset: tuple[float, float]) -> Kernel:
    """Move a kernel by (y, x) HR pixels with cubic splines; its size stays, and zeros are moved in."""
    moved = ndimage.shift(kernel.array, offset, order=3, mode="constant", prefilter=True)
    if kernel.array.min() >= 0:
        # Splines ring below zero beside sharp edges; a kernel without negative lobes must not get them here.
        moved = np.clip(moved, 0, None)
    return Kernel.normalised(moved, kernel.scale, kernel.provenance)


def centre(kernel: Kernel) -> Kernel:
    """Move the centre of mass onto the geometric centre, without growing the kernel.

    A kernel that is centred to 10⁻⁴ HR pixels is returned unchanged.

    Raises:
        KernelError: The centre of mass cannot be brought to the centre (its weights nearly cancel).
    """
    # A shift cuts off what leaves the kernel's support, which moves the centroid again: repeat until it converges.
    for _ in range(30):
        offset = kernel.centroid
        if np.abs(offset).max() <= _CENTRED:
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


def centre_with_warning(kernel: Kernel) -> tuple[Kernel, tuple[str, ...]]:
    """Centre a kernel, record it in its provenance, and report the shift in a sentence, if there was one."""
    y, x = kernel.centroid
    if max(abs(y), abs(x)) < _MIN_REPORTED_SHIFT:
        return kernel, ()
    provenance = {**kernel.provenance, "recentred_by": [round(-float(y), 4), round(-float(x), 4)]}
    # Its position is now defined, whether or not its convention was guessed.
    provenance.pop("convention_guessed", None)
    centred = Kernel(centre(kernel).array, kernel.scale, provenance)
    return centred, (f"the kernel was moved by ({-y:+.2f}, {-x:+.2f}) HR pixels (y, x) to centre it.",)


def flip(kernel: Kernel, view: int) -> Kernel:
    """The kernel of an image in dihedral view `view` (`blindsr.ops.dihedral`)."""
    array = kernel.array[:, ::-1] if view >= 4 else kernel.array
    return Kernel(np.rot90(array, view % 4), kernel.scale, kernel.provenance)


def compose(first: Kernel, second: Kernel) -> Kernel:
    """The single kernel that is equivalent to degrading by `first` and then by `second`.

    k = k₁ ∗ (k₂ dilated by s₁), full convolution; scale s₁·s₂. `compose(k2, k2)` is KernelGAN's ×4 kernel
    (Bell-Kligler et al., NeurIPS 2019, §4.3).
    """
    full = np.zeros((first.scale * (second.size - 1) + first.size,) * 2)
    # Correlating twice correlates with the convolution of the two kernels. Importing scipy.signal for it would cost
    # every command a second at its start.
    for (y, x), weight in np.ndenumerate(second.array):
        top, left = first.scale * y, first.scale * x
        full[top : top + first.size, left : left + first.size] += weight * first.array
    return Kernel.normalised(
        full, first.scale * second.scale, {**first.provenance, "composed_of_scales": [first.scale, second.scale]}
    )


def resample(kernel: Kernel, scale: int, *, residual_hr_blur: float = 1.0) -> Kernel:
    """Convert a kernel from its scale to another one, by the scale law cov(k_s) = (s² − β)·Σ_LR.

    The shape is stretched by √((s₂² − β)/(s₁² − β)). With β = 1 (scale invariance: HR is as blurred on its
    own grid as LR is on its own) `compose` follows the same law from ×2 to ×4.

    Args:
        kernel: A kernel for s₁ ≥ 2.
        scale: s₂ ≥ 2.
        residual_hr_blur: β in [0, 1]: share of the LR blur that HR has on its own grid; 0 is an ideally sharp HR.

    Raises:
        KernelError: A scale is below 2.

    References:
        Michaeli, Irani, "Nonparametric Blind Super-Resolution", ICCV 2013.
    """
    if kernel.scale < 2 or scale < 2:
        raise KernelError(f"kernels are resampled between scales of 2 or more, got {kernel.scale} and {scale}.")
    factor = math.sqrt((scale**2 - residual_hr_blur) / (kernel.scale**2 - residual_hr_blur))
    array = _stretched(kernel, factor, scale)
    return Kernel.normalised(array, scale, {**kernel.provenance, "resampled_from_scale": kernel.scale})


def stretch(kernel: Kernel, factor: float) -> Kernel:
    """Make a kernel wider or narrower by a factor, with its scale, its centre and its shape.

    Args:
        kernel: Any kernel.
        factor: New width over old width, above 0; 1 is the kernel itself.

    Raises:
        KernelError: The factor is not above 0.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise KernelError(f"a kernel is stretched by a factor above 0, got {factor}.")
    if factor == 1:
        return kernel
    array = _stretched(kernel, factor, kernel.scale)
    return Kernel.normalised(array, kernel.scale, {**kernel.provenance, "stretched_by": round(factor, 4)})


def _stretched(kernel: Kernel, factor: float, scale: int) -> NDArray[np.float64]:
    """The weights of a kernel on a grid that is finer by a factor, with the parity of a scale; not normalised."""
    size = max(scale, math.ceil(kernel.size * factor))
    size += (size - scale) % 2
    step = [1.0 / factor] * 2
    offset = (kernel.size - 1) / 2 - step[0] * ((size - 1) / 2)
    array = ndimage.affine_transform(kernel.array, step, offset=offset, output_shape=(size, size), order=3)
    return np.asarray(np.clip(array, 0, None) if kernel.array.min() >= 0 else array)
