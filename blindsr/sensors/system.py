"""A camera as the product of its parts, and its downscaling kernel on the HR grid; lengths in LR pixels.

Two definitions of the sharp image give two kernels:

- `psf`: HR is the scene. The kernel is the camera's PSF, sampled at HR's pixels.
- `ratio`: HR is as blurred on its own grid as LR is on its own. K(f) = OTF(f)/OTF(f/s).

docs/notes/2026-11-21-known-kernels.md has the measurement behind the default.

References:
    Michaeli, Irani, "Nonparametric Blind Super-Resolution", ICCV 2013 (`ratio`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ConfigError
from blindsr.kernels import Kernel, box, fit, gaussian
from blindsr.kernels.metrics import kernel_warnings
from blindsr.sensors import transfer
from blindsr.sensors.transfer import Curve

Covariance = tuple[tuple[float, float], tuple[float, float]]
KernelModel = Literal["psf", "ratio"]
Transfer = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64] | NDArray[np.complex128]]

DEFAULT_MODEL: Final[KernelModel] = "ratio"

_AIRY_SIGMA: Final = 0.4206  # σ of the Gaussian nearest to an Airy disc, in λN (2-D least squares)
# Radius in λN that contains 96.7 % of the light of an Airy disc; no kernel contains all of its tails, of order r⁻³.
_AIRY_RADIUS: Final = 6.0
_OVERSAMPLING: Final = 8  # of the HR grid: range of the frequencies where the optics have no cut-off below
_PERIOD: Final = 8  # in kernel sides: the inverse Fourier sum repeats the PSF at this distance
_MAX_SIZE: Final = 255  # px a side
_WIENER_EPSILON: Final = 0.02  # of the division N·D/(D² + ε²): where HR's own transfer is below it, it is not inverted
_TRUNCATION: Final = 1e-3  # of the peak: negative taps up to this are an effect of the truncation
_MAX_ENERGY_LOSS: Final = 0.05  # of the weights; an Airy disc has 3 % of its light beyond 6 λN, which is normal
_MAX_ALIASING_Q: Final = 2.0  # Q from which the optics end before LR's Nyquist frequency
_MIN_MTF: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The parts of a camera; a part that is None or 0 is ideal."""

    q: float | None = None  # λN/p (a microscope's: λ/(2·NA) over its pixel in the sample); from 2 on, nothing aliases
    obstruction: float = 0.0  # diameter of a telescope's central obstruction over that of its pupil, [0, 1)
    detector: float | None = None  # side of the light-sensitive area over the pitch; None if other parts contain it
    covariance: Covariance | None = None  # Gaussian blur, LR px², order (y, x): a published width, jitter, aberrations
    motion: float = 0.0  # length of a uniform motion, LR px
    motion_angle: float = 0.0  # its direction, degrees counter-clockwise from the x axis in the displayed image
    defocus: float = 0.0  # diameter of the disc of defocus, LR px
    spots: float = 0.0  # distance of the spots of an optical low-pass filter, LR px
    curve: Curve | None = None  # a measured MTF

    def transfer(self, fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
        """OTF at frequencies (fy, fx) in cycles per LR pixel: real, 1 at 0, negative where contrast is inverted."""
        radius = np.hypot(fy, fx)
        result = np.ones(radius.shape)
        if self.q is not None:
            result *= transfer.diffraction(radius, self.q, self.obstruction)
        if self.detector is not None:
            result *= transfer.detector(fy, fx, self.detector)
        if self.covariance is not None:
            result *= transfer.gaussian(fy, fx, self.covariance)
        if self.motion:
            result *= transfer.motion(fy, fx, self.motion, self.motion_angle)
        if self.defocus:
            result *= transfer.defocus(radius, self.defocus)
        if self.spots:
            result *= transfer.four_spots(fy, fx, self.spots)
        if self.curve is not None:
            result *= self.curve.transfer(fy, fx)
        return result

    def nyquist(self) -> tuple[float, float]:
        """|OTF| at LR's Nyquist frequency, along y and along x."""
        y, x = np.abs(self.transfer(np.array([0.5, 0.0]), np.array([0.0, 0.5])))
        return float(y), float(x)

    @property
    def sigma(self) -> float:
        """Approximate width of the PSF: σ in LR pixels along its long axis, with the variances of the parts added."""
        square = 0.0
        if self.q is not None:
            square += (_AIRY_SIGMA * self.q) ** 2
        if self.detector is not None:
            square += self.detector**2 / 12
        if self.covariance is not None:
            square += float(np.linalg.eigvalsh(np.array(self.covariance))[-1])
        if self.curve is not None:
            square += self.curve.sigma**2
        square += self.motion**2 / 12 + self.defocus**2 / 16 + self.spots**2 / 4
        return math.sqrt(square)

    def kernel_size(self, scale: int) -> int:
        """Side K ≡ scale (mod 2) of a kernel that contains the PSF: ±3.5 σ, and 6 λN where there is diffraction."""
        # Straight lines between the points of a curve have corners, whose transform falls slowly.
        side = (2 if self.curve is None else 4) * math.ceil(3.5 * scale * self.sigma) + scale
        if self.q is not None:
            blurred = math.hypot(2 * _AIRY_RADIUS * self.q, self.motion + self.defocus + 2 * self.spots)
            side = max(side, math.ceil(scale * blurred))
        return side + (side - scale) % 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemKernel:
    """The kernel of a camera."""

    kernel: Kernel
    energy_lost: float  # share of the weights beyond the kernel's support, before it was normalised


def design(
    system: System,
    scale: int,
    *,
    model: KernelModel = DEFAULT_MODEL,
    size: int | None = None,
    provenance: dict[str, object] | None = None,
) -> SystemKernel:
    """Make the centred kernel of a camera for a scale of 2 or more.

    `size` is K ≡ scale (mod 2), HR pixels; None is the size that the PSF needs. The model and the energy lost are added
    to the provenance.

    Raises:
        ConfigError: The model is unknown, or the PSF needs more than 255 HR pixels a side.
        KernelError: The size has the wrong parity.

    Example:
        >>> design(System(covariance=((0.289, 0), (0, 0.289))), 2, model="ratio").kernel.sigmas[0].__round__(2)
        0.93
    """
    if model not in get_args(KernelModel):
        raise ConfigError(f"a kernel model must be psf (a sharp HR) or ratio (an HR like the camera's), got {model!r}.")
    has_others = any((system.q, system.motion, system.defocus, system.spots, system.curve))
    if system.detector == 1 and system.covariance is None and not has_others:
        kernel, lost = box(scale), 0.0
    elif system.covariance is not None and system.detector is None and not has_others:
        squares = scale**2 if model == "psf" else scale**2 - 1
        # ±3.5 σ of a Gaussian lose 0.1 % of it.
        kernel, lost = gaussian(np.array(system.covariance) * squares, scale), 0.001
    else:
        side = system.kernel_size(scale) if size is None else size
        cutoff = None if system.q is None else 1 / system.q
        kernel, lost = kernel_from_transfer(system.transfer, scale, size=side, model=model, cutoff=cutoff)
    if size is not None:
        if size < kernel.size:
            inner = (kernel.size - size) // 2
            lost += 1 - float(kernel.array[inner:-inner, inner:-inner].sum())
        kernel = fit(kernel, size)
    origin = {"made_by": "sensor", "model": model, "energy_lost": round(lost, 5), **(provenance or {})}
    return SystemKernel(kernel=Kernel(kernel.array, scale, origin), energy_lost=lost)


def kernel_from_transfer(
    transfer: Transfer, scale: int, *, size: int, model: KernelModel, cutoff: float | None = None
) -> tuple[Kernel, float]:
    """Make a kernel from a transfer function by an inverse Fourier sum at HR's pixel centres.

    Args:
        transfer: OTF(fy, fx) in cycles per LR pixel, 1 at 0, of a real PSF; called with a column fy and a row fx. Real
            for a symmetric PSF; otherwise that of the correlation kernel, the PSF rotated by 180°.
        scale: Factor from LR to HR.
        size: K ≡ scale (mod 2).
        model: "psf": PSF(r/s) at the HR pixels; "ratio": OTF(f)/OTF(f/s) up to HR's Nyquist frequency.
        cutoff: Frequency from which the OTF is 0; None is unknown, and eight samples per HR pixel are used.

    Returns:
        The normalised kernel, and the share of its weights that its support cuts off.

    Raises:
        ConfigError: `size` is over 255.
    """
    if size > _MAX_SIZE:
        raise ConfigError(
            f"a kernel can be up to {_MAX_SIZE} HR pixels a side, this specification needs {size}; check that its "
            "lengths are in the units of their keys, or set the size."
        )
    step = scale / (_PERIOD * size)  # cycles per LR pixel
    highest = scale / 2 if model == "ratio" else min(cutoff or np.inf, _OVERSAMPLING * scale / 2)
    count = int(np.floor(highest / step + 1e-9))
    f = step * np.arange(-count, count + 1, dtype=np.float64)
    fy, fx = f[:, None], f[None, :]
    values = transfer(fy, fx)
    if model == "ratio":
        own = transfer(fy / scale, fx / scale)
        values = values * own.conj() / (np.abs(own) ** 2 + _WIENER_EPSILON**2) * (1 + _WIENER_EPSILON**2)
    # Both ends of the band are the same frequency of the sampled grid, and count half each.
    share = np.where(np.isclose(np.abs(f), highest), 0.5, 1.0)
    values = values * share[:, None] * share[None, :]
    positions = (np.arange(size, dtype=np.float64) - (size - 1) / 2) / scale  # LR pixels
    # A real PSF's OTF at −f is the conjugate of that at f: the imaginary parts cancel.
    wave = np.exp(2j * np.pi * positions[:, None] * f[None, :])
    weights = (wave @ values @ wave.T).real * (step / scale) ** 2
    lost = 1 - float(weights.sum())
    weights = np.where((weights < 0) & (weights > -_TRUNCATION * weights.max()), 0.0, weights)
    return Kernel.normalised(weights, scale), lost


def design_warnings(system: System, made: SystemKernel) -> tuple[str, ...]:
    """Warnings, as sentences, about the use of a camera's kernel; usually none."""
    warnings = []
    y, x = system.nyquist()
    if system.q is not None and system.q >= _MAX_ALIASING_Q:
        warnings.append(
            f"Q = {system.q:.2f}: the optics pass nothing above the pixels' Nyquist frequency, so nothing aliases and "
            "there is no lost detail to recover; super-resolution can only deconvolve."
        )
    elif max(y, x) < _MIN_MTF:
        warnings.append(
            f"the MTF at the pixels' Nyquist frequency is {max(y, x):.3f}: hardly anything aliases, so there is little "
            "detail to recover, and noise will be amplified."
        )
    elif min(y, x) >= _MIN_MTF:
        # The kernel's own warning of a low MTF would repeat the one above; that of a high one does not.
        warnings += [warning for warning in kernel_warnings(made.kernel) if "more than that of bicubic" in warning]
    if made.energy_lost > _MAX_ENERGY_LOSS:
        warnings.append(
            f"the kernel of {made.kernel.size} px cuts off {100 * made.energy_lost:.0f} % of the PSF; set a larger "
            "size_px if the result has halos."
        )
    return tuple(warnings)
