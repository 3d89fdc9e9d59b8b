"""Kernels by formula, and the text form that selects them: Gaussian, bicubic, box, linear motion, defocus.

Lengths are in HR pixels, angles in degrees counter-clockwise from the x axis in the displayed image.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blindsr.errors import KernelError, did_you_mean
from blindsr.kernels.kernel import MAX_SIZE, Kernel

_Array = NDArray[np.float64]

# Name of a kernel: how it is written, with its numbers.
KERNEL_FORMS: Final = {
    "bicubic": "bicubic",
    "box": "box",
    "gaussian": "gaussian:SIGMA or gaussian:SX,SY,ANGLE",
    "motion": "motion:LENGTH,ANGLE",
    "defocus": "defocus:DIAMETER",
}
_QUADRATURE_NODES: Final = 48  # Gauss–Legendre nodes across a square; the edge of the disc is smooth in between
_MAX_SHAPE_SIZE: Final = 255  # px a side of a motion or a defocus kernel


def parse_kernel(text: str, scale: int) -> Kernel:
    """Make the kernel for a scale that a text describes.

    The text is "bicubic", "box", "gaussian:SIGMA", "gaussian:SX,SY,ANGLE", "motion:LENGTH,ANGLE" or "defocus:DIAMETER".

    Raises:
        KernelError: There is no kernel of this name, or its numbers are missing or out of range.

    Example:
        >>> parse_kernel("gaussian:1.2", 2).sigmas[0].__round__(2)
        1.2
    """
    name, _, numbers = text.partition(":")
    if name not in KERNEL_FORMS:
        forms = ", ".join(KERNEL_FORMS.values())
        raise KernelError(f"a kernel by name must be {forms}; got {text!r}{did_you_mean(name, KERNEL_FORMS)}.")
    takes = "takes no numbers" if KERNEL_FORMS[name] == name else f"is written {KERNEL_FORMS[name]}"
    try:
        values = [float(part) for part in numbers.split(",")] if numbers else []
    except ValueError:
        raise KernelError(f"the kernel {name} {takes}, got {text!r}; write numbers as in gaussian:1.2.") from None
    if not all(map(math.isfinite, values)):
        raise KernelError(f"the numbers of a kernel must be finite, got {text!r}; the kernel {name} {takes}.")
    if name in ("bicubic", "box") and not values:
        return bicubic(scale) if name == "bicubic" else box(scale)
    if name == "gaussian" and len(values) in (1, 3):
        along, across, angle = values if len(values) == 3 else (values[0], values[0], 0.0)
        if min(along, across) <= 0:
            raise KernelError(f"the standard deviations of a Gaussian must be positive, got {text!r}.")
        return gaussian(rotated_covariance(along**2, across**2, angle), scale)
    if name == "motion" and len(values) == 2:
        return motion(values[0], values[1], scale)
    if name == "defocus" and len(values) == 1:
        return defocus(values[0], scale)
    raise KernelError(f"the kernel {name} {takes}, got {text!r}.")


def rotated_covariance(along: float, across: float, angle: float) -> _Array:
    """Covariance, (2, 2), order (y, x), with given variances along and across a direction, in degrees."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    xx, yy = along * cos**2 + across * sin**2, along * sin**2 + across * cos**2
    # Angles are counter-clockwise with y upwards; in the array y points downwards, hence the minus.
    yx = -(along - across) * sin * cos
    return np.array([[yy, yx], [yx, xx]])


def gaussian_size(covariance: ArrayLike, scale: int) -> int:
    """Side K ≡ scale (mod 2) that contains ±3.5 σ of the long axis: 99.9 % of a Gaussian's mass."""
    long = math.sqrt(float(np.linalg.eigvalsh(np.asarray(covariance, dtype=np.float64))[-1]))
    return 2 * math.ceil(3.5 * long) + scale


def gaussian_exponent(covariance: _Array, y: _Array, x: _Array) -> _Array:
    """The quadratic form rᵀ Σ⁻¹ r at r = (y, x)."""
    inverse = np.linalg.inv(covariance)
    return np.asarray(inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x)


def gaussian(covariance: ArrayLike, scale: int, *, size: int | None = None) -> Kernel:
    """Make a centred Gaussian kernel, k(r) ∝ exp(−½ rᵀ Σ⁻¹ r) at the pixel centres r.

    Args:
        covariance: Σ, (2, 2), HR px², order (y, x); or one number, the variance of an isotropic Gaussian, not its σ:
            the kernel that is named "gaussian:1.2" is `gaussian(1.44, scale)`.
        scale: Factor from LR to HR.
        size: Side K ≡ scale (mod 2), HR px; None contains ±3.5 σ of the long axis.

    Raises:
        KernelError: Σ is not symmetric positive definite, or needs a kernel of more than 1001 px.

    Example:
        >>> gaussian([[2.0, 0.3], [0.3, 1.0]], 2).covariance.round(2).tolist()
        [[2.0, 0.3], [0.3, 1.0]]
    """
    sigma = np.asarray(covariance, dtype=np.float64)
    if sigma.ndim == 0:
        sigma = np.eye(2) * float(sigma)
    if sigma.shape != (2, 2) or not np.isfinite(sigma).all() or abs(sigma[0, 1] - sigma[1, 0]) > 1e-9:
        raise KernelError(f"a covariance must be a symmetric 2×2 matrix or one number, got {sigma.tolist()}.")
    if np.linalg.eigvalsh(sigma)[0] <= 0:
        raise KernelError(f"a covariance must be positive definite, its eigenvalues are {np.linalg.eigvalsh(sigma)}.")
    side = gaussian_size(sigma, scale) if size is None else size
    if side > MAX_SIZE:
        raise KernelError(f"a kernel can be up to {MAX_SIZE} px a side, this one needs {side}; check its width.")
    c = np.arange(side) - (side - 1) / 2
    exponent = gaussian_exponent(sigma, *np.meshgrid(c, c, indexing="ij"))
    weights = np.exp(-0.5 * (exponent - exponent.min()))
    provenance = {"made_by": "gaussian", "covariance_yx": sigma.round(6).tolist()}
    return Kernel.normalised(weights, scale, provenance)


def bicubic(scale: int) -> Kernel:
    """Make the kernel of MATLAB's antialiased bicubic `imresize`, the "bicubic" of most benchmarks.

    `degrade` with it equals `imresize(x, 1/scale)`.

    References:
        Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29(6), 1981: a = −0.5, here
        stretched by the scale.
    """
    side = 4 * scale if scale % 2 == 0 else 4 * scale - 1
    t = np.abs((np.arange(side) - (side - 1) / 2) / scale)
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    taps = np.where(t <= 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t <= 2, far, 0.0))
    taps = taps / taps.sum()
    return Kernel.normalised(np.outer(taps, taps), scale, {"made_by": "bicubic"})


def is_bicubic(kernel: Kernel) -> bool:
    """Whether the weights of a kernel are those of `bicubic`, to 10⁻⁶."""
    ideal = bicubic(kernel.scale)
    return ideal.size == kernel.size and bool(np.allclose(ideal.array, kernel.array, atol=1e-6))


def bicubic_in_place_of(method: str, scale: int) -> Kernel:
    """The bicubic kernel, used because an estimator found none; its provenance names the estimator."""
    return Kernel(bicubic(scale).array, scale, {"made_by": "bicubic", "in_place_of": {"made_by": method}})


def box(scale: int) -> Kernel:
    """Make the mean over s×s pixels: an ideal detector with full fill factor, without optics."""
    return Kernel.normalised(np.ones((scale, scale)), scale, {"made_by": "box"})


def _tap_positions(length: float, quantity: str, radius: float, scale: int) -> _Array:
    """Tap positions along one axis of the smallest kernel that contains ±radius HR pixels; the length is checked."""
    if not (math.isfinite(length) and length > 0):
        raise KernelError(f"{quantity} must be a positive number of HR pixels, got {length:g}.")
    side = 2 * math.ceil(max(0.0, radius - scale / 2)) + scale
    if side > _MAX_SHAPE_SIZE:
        raise KernelError(
            f"a kernel can be up to {_MAX_SHAPE_SIZE} px a side, this one needs {side}; check its length."
        )
    return np.arange(side, dtype=np.float64) - (side - 1) / 2


def motion(length: float, angle: float, scale: int, *, detector: bool = True) -> Kernel:
    """Make the centred kernel of uniform motion along a straight line.

    A tap is exactly the length of the line inside a square around the tap.

    Args:
        length: Length of the line, HR pixels.
        angle: Direction, degrees counter-clockwise from the x axis in the displayed image.
        scale: Factor from LR to HR.
        detector: Whether the square is one LR pixel (what a camera records), or one HR pixel (the line alone).

    Raises:
        KernelError: The length is not positive, or needs a kernel of more than 255 px.

    Example:
        >>> motion(6, 0, 2).covariance.round(2).tolist()
        [[0.25, 0.0], [0.0, 3.42]]
    """
    side = scale if detector else 1
    dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    radius = length / 2 * max(abs(dx), abs(dy)) + side / 2
    c = _tap_positions(length, "the length of a motion", radius, scale)
    low, high = np.full((len(c),) * 2, -length / 2), np.full((len(c),) * 2, length / 2)
    share = np.ones_like(low)
    # The line is clipped at both pairs of sides of each square.
    for step, position in ((dy, c[:, None]), (dx, c[None, :])):
        if abs(step) < 1e-12:
            # A line along the edge of a square counts half.
            share = share * np.where(np.isclose(np.abs(position), side / 2), 0.5, np.abs(position) < side / 2)
            continue
        ends = np.stack([(position - side / 2) / step, (position + side / 2) / step])
        low, high = np.maximum(low, ends.min(0)), np.minimum(high, ends.max(0))
    weights = share * np.clip(high - low, 0, None)
    origin = {"made_by": "motion", "length": length, "angle": angle, "detector": detector}
    return Kernel.normalised(weights, scale, origin)


def defocus(diameter: float, scale: int, *, detector: bool = True) -> Kernel:
    """Make the centred kernel of a lens out of focus, a uniform disc.

    A tap is exactly the area of the disc inside a square around the tap.

    Args:
        diameter: Diameter of the disc, HR pixels.
        scale: Factor from LR to HR.
        detector: Whether the square is one LR pixel (what a camera records), or one HR pixel (the disc alone).

    Raises:
        KernelError: The diameter is not positive, or needs a kernel of more than 255 px.

    Example:
        >>> defocus(6, 2).sigmas[0].__round__(1)
        1.6
    """
    side = scale if detector else 1
    c = _tap_positions(diameter, "the diameter of a defocus disc", diameter / 2 + side / 2, scale)
    weights = disc_areas(diameter, c, c, side)
    origin = {"made_by": "defocus", "diameter": diameter, "detector": detector}
    return Kernel.normalised((weights + weights.T) / 2, scale, origin)


def disc_areas(diameter: float, y: _Array, x: _Array, side: float) -> _Array:
    """Areas of a disc around the origin inside squares: exact along x, by Gauss–Legendre quadrature along y.

    Args:
        diameter: Of the disc, px.
        y: Centres of the squares, (M,), px.
        x: Centres of the squares, (N,), px.
        side: Of the squares, px.

    Returns:
        (M, N), px².
    """
    nodes, shares = np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    radius = diameter / 2
    # The quadrature covers the part of each square's y range that the disc reaches.
    low, high = np.clip(y - side / 2, -radius, radius), np.clip(y + side / 2, -radius, radius)
    along = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * nodes
    half_chord = np.sqrt(np.clip(radius**2 - along**2, 0, None))[:, None, :]
    left, right = (x - side / 2)[None, :, None], (x + side / 2)[None, :, None]
    chords = np.clip(np.minimum(right, half_chord) - np.maximum(left, -half_chord), 0, None)
    return np.asarray((chords * shares).sum(-1) * (high - low)[:, None] / 2)
