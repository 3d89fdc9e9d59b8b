"""Arithmetic on kernels: the only module that shifts, crops, composes or rescales one."""

import math
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.kernel import Kernel

_CENTRED = 1e-4  # HR px
_MIN_REPORTED_SHIFT = 0.005  # HR px
_SPLINE_RADIUS = 10  # px; beyond it, the weights of the cubic cardinal spline are below 10⁻⁵
_NEGLIGIBLE = 2e-5  # weights at the border of a dilated kernel, relative to the largest, that are left out


def fit(kernel: Kernel, size: int) -> Kernel:
    """Crop or pad a kernel to size×size around its geometric centre, and normalise.

    Raises:
        KernelError: `size` has the wrong parity, or more than half of the mass would be cut off.
    """
    if size < kernel.scale or (size - kernel.scale) % 2:
        raise KernelError(f"size must be ≥ {kernel.scale} and ≡ {kernel.scale} (mod 2), got {size}.")
    margin = (kernel.size - size) // 2
    if margin <= 0:
        array = kernel.padded(size)
    else:
        array = kernel.array[margin : kernel.size - margin, margin : kernel.size - margin]
        if array.sum() < 0.5:
            raise KernelError(
                f"cropping this kernel to {size}×{size} px leaves {100 * array.sum():.0f} % of it; centre it."
            )
    return Kernel.normalised(array, kernel.scale, kernel.provenance)


def zero_margins(weights: NDArray[Any]) -> tuple[int, int]:
    """Numbers of rows and of columns of zeros that lie on both of two opposite sides: without them, the middle stays.

    Args:
        weights: (H, W), any type; False is zero.

    Returns:
        Rows at the top and at the bottom, columns at the left and at the right; (0, 0) for an array of zeros.
    """
    used = (np.flatnonzero(weights.any(axis)) for axis in (1, 0))
    rows, columns = (
        min(int(u[0]), side - 1 - int(u[-1])) if u.size else 0 for u, side in zip(used, weights.shape, strict=True)
    )
    return rows, columns


def shift(kernel: Kernel, offset: tuple[float, float]) -> Kernel:
    """Move a kernel by (y, x) HR pixels with cubic splines; its size stays, and zeros are moved in."""
    moved = scipy.ndimage.shift(kernel.array, offset, order=3, mode="constant", prefilter=True)
    if kernel.array.min() >= 0:
        # Splines ring below zero beside sharp edges; a kernel without negative lobes must not get them here.
        moved = np.clip(moved, 0, None)
    return Kernel.normalised(moved, kernel.scale, kernel.provenance)


def centre(kernel: Kernel) -> Kernel:
    """Move the centre of mass onto the geometric centre, without growing the kernel.

    A kernel that is centred to 10⁻⁴ HR pixels is returned unchanged.

    Raises:
        KernelError: The centre of mass cannot be brought to the centre: its weights nearly cancel, or are too few.
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
    if kernel.array.min() >= 0:
        raise KernelError(
            f"this kernel cannot be centred: its {kernel.size}×{kernel.size} weights are too few to be moved by "
            f"{np.abs(kernel.centroid).max():.2f} px; surround them with zeros."
        )
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


def dilate(kernel: Kernel, factor: float) -> Kernel:
    """Change the width of a kernel by a factor f; its sum and its centre of mass stay, its covariance is multiplied f².

    The kernel is interpolated on a finer grid where f is above 1; then every weight is moved away from the centre of
    mass, or towards it, by the factor and spread over the pixels around its new place. Both steps use the cubic
    cardinal spline, which reproduces cubic polynomials, so that the moments are exact, for negative weights too: the
    transfer function is K(f·ω), and the bicubic kernel becomes that of another scale. A kernel that gets narrower than
    a pixel gets negative weights.

    Args:
        kernel: Any kernel.
        factor: f, above 0; 1 returns the kernel itself.

    Returns:
        The kernel for the same scale; its provenance has the factor as `width_factor`.

    Raises:
        KernelError: The factor is not above 0.

    References:
        Unser, Aldroubi, Eden, "B-spline signal processing: Part I, Theory", IEEE TSP 41(2), 1993, section IV.

    Example:
        >>> from blindsr.kernels import gaussian
        >>> [round(sigma, 2) for sigma in dilate(gaussian(1.44, 2), 0.75).sigmas]
        [0.9, 0.9]
    """
    from scipy.interpolate import make_interp_spline  # its import would cost every command a tenth of a second

    if not (math.isfinite(factor) and factor > 0):
        raise KernelError(f"the width of a kernel must be changed by a factor above 0, got {factor}.")
    if factor == 1:
        return kernel
    fine, half = math.ceil(factor), (kernel.size - 1) / 2 + _SPLINE_RADIUS
    old = np.arange(-half, half + 1)
    places = np.arange(-math.floor(half * fine), math.floor(half * fine) + 1) / fine if fine > 1 else old
    moved = [c + factor * (places - c) for c in kernel.centroid]
    size = 2 * (math.ceil(max(float(np.abs(m).max()) for m in moved)) + _SPLINE_RADIUS) + kernel.scale % 2
    new = np.arange(size) - (size - 1) / 2
    # Weights of the samples of a grid for the value of the spline at a place: (places, grid).
    interpolated, *spread = (
        make_interp_spline(grid, np.eye(len(grid)), k=3)(at) for grid, at in ((old, places), *((new, m) for m in moved))
    )
    y, x = (part.T @ interpolated / fine for part in spread)
    array = y @ np.pad(kernel.array, _SPLINE_RADIUS) @ x.T
    used = np.abs(array) > _NEGLIGIBLE * np.abs(array).max()
    margin = min(*zero_margins(used), (size - kernel.scale) // 2)
    inner = array[margin : size - margin, margin : size - margin]
    return Kernel.normalised(inner, kernel.scale, {**kernel.provenance, "width_factor": factor})


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
    stretch = math.sqrt((scale**2 - residual_hr_blur) / (kernel.scale**2 - residual_hr_blur))
    size = math.ceil(kernel.size * stretch)
    size += (size - scale) % 2
    step = [1.0 / stretch] * 2
    offset = (kernel.size - 1) / 2 - step[0] * ((size - 1) / 2)
    array = scipy.ndimage.affine_transform(kernel.array, step, offset=offset, output_shape=(size, size), order=3)
    if kernel.array.min() >= 0:
        array = np.clip(array, 0, None)
    return Kernel.normalised(array, scale, {**kernel.provenance, "resampled_from_scale": kernel.scale})
