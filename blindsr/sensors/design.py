"""From the transfer function of a camera to the downscaling kernel on the HR grid.

Two meanings of "the sharp image" give two kernels:

- `psf`: HR is the scene. The kernel is the camera's PSF, sampled at HR's pixels.
- `ratio`: HR is as blurred on its own grid as LR is on its own (Michaeli, Irani, ICCV 2013). K(f) = OTF(f)/OTF(f/s).

docs/known-kernels.md has the measurement behind the default.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ConfigError
from blindsr.kernels import Kernel, box, fit, gaussian
from blindsr.sensors.system import System

__all__ = ["DEFAULT_MODEL", "Designed", "KernelModel", "design", "kernel_from_transfer"]

KernelModel = Literal["psf", "ratio"]
Transfer = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64] | NDArray[np.complex128]]

DEFAULT_MODEL: Final[KernelModel] = "ratio"

_FINER: Final = 8  # samples per HR pixel that the frequencies reach to, where the optics do not end them before
_PERIOD: Final = 8  # times the kernel's side: what leaves one copy of it has died away before it reaches the next
_LARGEST: Final = 255  # px a side
_DOUBT: Final = 0.02  # ε of the Wiener division N·D/(D² + ε²): below it HR's own transfer says nothing
_TINY: Final = 1e-3  # of the peak: negative taps up to this are what the cut has left over


@dataclass(frozen=True, slots=True, kw_only=True)
class Designed:
    """A kernel from a specification.

    Args:
        kernel: The kernel.
        energy_lost: Share of the weights that its frame has cut off, before it was normalised.
    """

    kernel: Kernel
    energy_lost: float


def design(
    system: System,
    scale: int,
    *,
    model: KernelModel = DEFAULT_MODEL,
    size: int | None = None,
    provenance: dict[str, object] | None = None,
) -> Designed:
    """Make the kernel of a camera.

    Args:
        system: The camera, in LR pixels.
        scale: Factor from LR to HR, 2 or more.
        model: "psf" or "ratio".
        size: K ≡ scale (mod 2), HR pixels; None takes what the PSF needs.
        provenance: Where it comes from; model and what was lost are added.

    Returns:
        The kernel, centred, and what its frame has cut off.

    Raises:
        ConfigError: The model is unknown, or the PSF needs more than 255 HR pixels a side.
        KernelError: The size has the wrong parity.

    Example:
        >>> design(System(covariance=((0.289, 0), (0, 0.289))), 2, model="ratio").kernel.sigmas[0].__round__(2)
        0.93
    """
    if model not in get_args(KernelModel):
        raise ConfigError(f"a kernel model must be psf (a sharp HR) or ratio (an HR like the camera's), got {model!r}.")
    if system.is_box:
        made = Designed(kernel=box(scale), energy_lost=0.0)
    elif system.is_gaussian:
        squares = scale**2 if model == "psf" else scale**2 - 1
        # Sampled and summed without a frame this Gaussian has the sum 1 already; ±3.5 σ lose 0.1 %.
        made = Designed(kernel=gaussian(np.array(system.covariance) * squares, scale), energy_lost=0.001)
    else:
        side = system.reach(scale) if size is None else size
        ends = None if system.q is None else 1 / system.q
        made = kernel_from_transfer(system.transfer, scale, size=side, model=model, ends=ends)
    kernel = made.kernel if size is None else fit(made.kernel, size)
    lost = made.energy_lost
    if size is not None and size < made.kernel.size:
        inner = (made.kernel.size - size) // 2
        lost += 1 - float(made.kernel.array[inner:-inner, inner:-inner].sum())
    origin = {"made_by": "sensor", "model": model, "energy_lost": round(lost, 5), **(provenance or {})}
    return Designed(kernel=Kernel(kernel.array, scale, origin), energy_lost=lost)


def kernel_from_transfer(
    transfer: Transfer, scale: int, *, size: int, model: KernelModel, ends: float | None = None
) -> Designed:
    """Turn a transfer function into a kernel by an inverse Fourier sum at HR's pixel centres.

    Args:
        transfer: OTF(fy, fx) at cycles per LR pixel, 1 at 0, of a real PSF; it is asked for columns of fy and rows of
            fx. Real for a symmetric PSF; otherwise that of the correlation kernel, the PSF turned by 180°.
        scale: Factor from LR to HR.
        size: K ≡ scale (mod 2).
        model: "psf": PSF(r/s) at the HR pixels; "ratio": OTF(f)/OTF(f/s) up to HR's Nyquist frequency.
        ends: Frequency from which the OTF is 0; None is unknown, and eight samples per HR pixel are taken.

    Returns:
        The kernel, normalised, and what the frame has cut off.

    Raises:
        ConfigError: `size` is over 255.
    """
    if size > _LARGEST:
        raise ConfigError(
            f"a kernel can be up to {_LARGEST} HR pixels a side, this specification needs {size}; check that its "
            "lengths are in the units that their keys name, or set the size."
        )
    step = scale / (_PERIOD * size)  # cycles per LR pixel
    highest = scale / 2 if model == "ratio" else min(ends or np.inf, _FINER * scale / 2)
    count = int(np.floor(highest / step + 1e-9))
    f = step * np.arange(-count, count + 1, dtype=np.float64)
    fy, fx = f[:, None], f[None, :]
    values = transfer(fy, fx)
    if model == "ratio":
        own = transfer(fy / scale, fx / scale)
        values = values * own.conj() / (np.abs(own) ** 2 + _DOUBT**2) * (1 + _DOUBT**2)
    # Both ends of the band are one frequency of the grid that it belongs to.
    share = np.where(np.isclose(np.abs(f), highest), 0.5, 1.0)
    values = values * share[:, None] * share[None, :]
    positions = (np.arange(size, dtype=np.float64) - (size - 1) / 2) / scale  # LR pixels
    # A real PSF's OTF at −f is the conjugate of that at f: the imaginary parts cancel.
    wave = np.exp(2j * np.pi * positions[:, None] * f[None, :])
    weights = (wave @ values @ wave.T).real * (step / scale) ** 2
    lost = 1 - float(weights.sum())
    weights = np.where((weights < 0) & (weights > -_TINY * weights.max()), 0.0, weights)
    return Designed(kernel=Kernel.normalised(weights, scale), energy_lost=lost)
