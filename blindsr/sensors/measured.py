"""A measured PSF, at any sampling, to the downscaling kernel."""

import math
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ConfigError, KernelError
from blindsr.kernels import Kernel
from blindsr.sensors import transfer
from blindsr.sensors.design import DEFAULT_MODEL, KernelModel, kernel_from_transfer

__all__ = ["MeasuredPSF", "kernel_from_psf", "without_background"]

Centre = Literal["middle", "centroid"]

_LARGEST: Final = 1001  # samples a side
_SPREADS: Final = 4.0  # of the background's noise: what is below is background
_NOTHING: Final = 1e-3  # of the peak: tails, not a background
_PER_SIGMA: Final = 1.4826  # of a Gaussian, over the median of its absolute deviations


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPSF:
    """How a PSF was measured, and what is wanted of it.

    Args:
        samples_per_pixel: Samples of the PSF per LR pixel; None is the scale: the PSF lies on the HR grid.
        model: "psf" or "ratio" (blindsr.sensors.design).
        centre: What becomes the kernel's centre: the "middle" of the frame, or the "centroid" of the light.
        background: Take off a background, measured on the frame's edge.
        detector: Blur by the detector as well: for a PSF of the optics alone. The image of a star has it already.
        size: K, HR pixels; None takes what the samples cover.
    """

    samples_per_pixel: float | None = None
    model: KernelModel = DEFAULT_MODEL
    centre: Centre = "middle"
    background: bool = True
    detector: bool = False
    size: int | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.samples_per_pixel is not None and not 0.25 <= self.samples_per_pixel <= 100:
            raise ConfigError(f"samples per LR pixel must be from 0.25 to 100, got {self.samples_per_pixel:g}.")
        if self.centre not in ("middle", "centroid"):
            raise ConfigError(f"the centre of a PSF must be middle or centroid, got {self.centre!r}.")


def without_background(psf: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Take the background off a PSF: the median of the frame's edge, and what is within its noise.

    Args:
        psf: (H, W).

    Returns:
        The PSF, 0 or more, and a sentence; the sentence is empty where there was no background.
    """
    edge = np.concatenate([psf[0], psf[-1], psf[1:-1, 0], psf[1:-1, -1]])
    level = float(np.median(edge))
    noise = _PER_SIGMA * float(np.median(np.abs(edge - level)))
    peak = float(psf.max()) - level
    if peak <= 0:
        raise KernelError("a PSF must be brighter in its middle than on its edge; is it a negative?")
    light = np.where(psf - level > _SPREADS * noise, psf - level, 0.0)
    if not light.any():
        raise KernelError("a PSF must stand out of its background; this one does not, it is all noise.")
    if abs(level) < _NOTHING * peak and noise < _NOTHING * peak:
        return np.clip(psf, 0, None), ""
    return (
        light,
        f"a background of {level / peak:.2%} of the peak was taken off, and noise up to {_SPREADS:g} σ with it.",
    )


def kernel_from_psf(psf: NDArray[np.float64], scale: int, how: MeasuredPSF) -> tuple[Kernel, tuple[str, ...]]:
    """Make the kernel of a camera whose PSF was measured.

    A PSF is what a point becomes: the camera convolves with it. The kernel correlates, and is the PSF turned by 180°.

    Args:
        psf: (H, W), any sum, finite.
        scale: Factor from LR to HR.
        how: How it was measured.

    Returns:
        The kernel, and sentences for the user.

    Raises:
        KernelError: It is no PSF.
        ConfigError: It covers more than 255 HR pixels.
    """
    values, notes = _checked(psf), list(how.notes)
    if how.background:
        values, said = without_background(values)
        notes += [said] if said else []
    per_pixel = float(scale) if how.samples_per_pixel is None else how.samples_per_pixel
    if per_pixel < scale:
        notes.append(
            f"the PSF has {per_pixel:g} samples per LR pixel, fewer than the {scale} of the result: what aliases in it "
            "cannot be told; a slanted edge or shifted points give finer samples."
        )
    values = _trimmed(values)
    total = float(values.sum())
    y, x = (np.arange(n, dtype=np.float64) - (n - 1) / 2 for n in values.shape)
    place = np.array([values.sum(1) @ y, values.sum(0) @ x]) / total / per_pixel * scale
    if how.centre == "centroid":
        y, x = y - place[0] / scale * per_pixel, x - place[1] / scale * per_pixel
        notes.append(
            f"the PSF was moved by ({-place[0]:+.2f}, {-place[1]:+.2f}) HR pixels (y, x) onto its centre of mass."
        )
    elif np.abs(place).max() > 0.1:
        notes.append(
            f"the PSF's centre of mass is ({place[0]:+.2f}, {place[1]:+.2f}) HR pixels (y, x) beside the middle of its "
            "frame, and that was kept; centre it if that is an accident of the crop."
        )
    size = how.size or math.ceil(max(values.shape) / per_pixel * scale)
    size += (size - scale) % 2
    size = max(size, scale)
    exact = per_pixel == scale and how.model == "psf" and how.centre == "middle" and not how.detector
    if exact and how.size is None and values.shape[0] == values.shape[1] and (values.shape[0] - scale) % 2 == 0:
        return _made(values[::-1, ::-1], scale, how), tuple(notes)

    def spectrum(fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.complex128]:
        rows = np.exp(2j * np.pi * fy.reshape(-1, 1) * (y / per_pixel))
        columns = np.exp(2j * np.pi * fx.reshape(-1, 1) * (x / per_pixel))
        # Conjugated against the PSF's own spectrum: that is the turn by 180°.
        both: NDArray[np.complex128] = rows @ (values / total) @ columns.T
        if how.detector:
            both *= transfer.detector(fy, fx, 1.0)
        return both

    made = kernel_from_transfer(spectrum, scale, size=size, model=how.model, ends=per_pixel / 2)
    return _made(made.kernel.array, scale, how), tuple(notes)


def _made(weights: NDArray[np.float64], scale: int, how: MeasuredPSF) -> Kernel:
    return Kernel.normalised(weights, scale, {"made_by": "psf", "model": how.model, "centre": how.centre})


def _checked(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(psf, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 3 or max(values.shape) > _LARGEST:
        raise KernelError(
            f"a PSF must be a picture of 3 to {_LARGEST} px a side, got {'×'.join(map(str, values.shape))}."
        )
    if not np.isfinite(values).all() or np.abs(values).max() > 1e100:
        raise KernelError("a PSF must be finite, this one holds NaN, infinity or absurd numbers; fill them first.")
    if values.max() <= 0 or values.sum() <= 0:
        raise KernelError("a PSF must have light in it; this one sums to nothing.")
    return values


def _trimmed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the empty rows and columns that lie on opposite sides alike: the middle stays the middle."""
    margins = []
    for axis in (1, 0):
        filled = np.flatnonzero(np.abs(values).sum(axis) > 0)
        margins.append(min(int(filled[0]), len(np.abs(values).sum(axis)) - 1 - int(filled[-1])))
    top, left = margins
    return values[top : values.shape[0] - top, left : values.shape[1] - left]
