"""A whole camera as one transfer function: the product of its parts, lengths in LR pixels."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ConfigError
from blindsr.sensors import transfer

__all__ = ["Curve", "System"]

Covariance = tuple[tuple[float, float], tuple[float, float]]

_AIRY_SIGMA: Final = 0.4206  # σ of the Gaussian nearest to an Airy disc, in λN (2-D least squares)
# Radius in λN that holds 96.7 % of an Airy disc's light; its tails fall as r⁻³, and no frame holds them all.
_AIRY_RADIUS: Final = 6.0
_MEASURED_TAIL: Final = 1e-3  # a curve is continued as a Gaussian until it falls below this


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A measured MTF curve of the whole camera, along x and along y.

    Args:
        frequencies: Cycles per LR pixel, growing, from 0 or above it.
        along_x: MTF at each of them for vertical edges.
        along_y: The same for horizontal edges.
    """

    frequencies: tuple[float, ...]
    along_x: tuple[float, ...]
    along_y: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that it is a curve."""
        f = np.array(self.frequencies)
        if len(f) < 2 or len(self.along_x) != len(f) or len(self.along_y) != len(f):
            raise ConfigError("an MTF curve needs two rows or more of one length: frequency, MTF.")
        values = np.array([self.along_x, self.along_y])
        if not (np.isfinite(f).all() and np.isfinite(values).all()) or f[0] < 0 or (np.diff(f) <= 0).any():
            raise ConfigError("the frequencies of an MTF curve must be 0 or more and grow from row to row.")
        if values.max() > 1.5 or values.min() < 0 or values[:, -1].max() >= 1:
            raise ConfigError(
                "the values of an MTF curve must be from 0 to 1.5 and fall below 1 at its end; divide percents by 100."
            )

    def transfer(self, fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
        """The curve turned around the origin, going over from one axis to the other with the square of the cosine."""
        radius = np.hypot(fy, fx)
        share = np.divide(fx**2, radius**2, out=np.full(radius.shape, 0.5), where=radius > 0)
        x, y = (self._read(radius, values) for values in (self.along_x, self.along_y))
        return np.asarray(share * x + (1 - share) * y, dtype=np.float64)

    def _read(self, radius: NDArray[np.float64], values: tuple[float, ...]) -> NDArray[np.float64]:
        f, v = np.array(self.frequencies), np.array(values)
        if f[0] > 0:
            f, v = np.append(0.0, f), np.append(1.0, v)
        v = v / v[0]
        last = max(float(v[-1]), 1e-12)
        # What was not measured is a Gaussian through the last point: a curve that stops at Nyquist does not end there.
        tail = np.exp(math.log(last) * (radius / f[-1]) ** 2)
        return np.where(radius <= f[-1], np.interp(radius, f, v), tail if last > _MEASURED_TAIL else 0.0)

    @property
    def sigma(self) -> float:
        """σ of the Gaussian through the point that is nearest to one half, LR pixels: how wide, roughly."""
        widths = []
        for values in (self.along_x, self.along_y):
            v = np.clip(np.array(values), 1e-3, 0.999)
            i = int(np.argmin(np.where(np.array(self.frequencies) > 0, np.abs(v - 0.5), np.inf)))
            widths.append(math.sqrt(-2 * math.log(float(v[i]))) / (2 * math.pi * self.frequencies[i]))
        return max(widths)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The parts of a camera; a part that is None or 0 is ideal.

    Args:
        q: Q = λN/p (a microscope's: λ/(2·NA) over its pixel in the sample). 2 or more: nothing aliases.
        obstruction: Diameter of a telescope's hidden middle over its pupil's, [0, 1).
        detector: Side of the light-sensitive area over the pitch, (0, 1]; None where it is in the other parts already.
        covariance: Gaussian blur, Σ in LR px², order (y, x): a published width, jitter, aberrations, diffusion.
        motion: Length of an even motion, LR px.
        motion_angle: Its direction, degrees counter-clockwise from the x axis as seen.
        defocus: Diameter of the disc of defocus, LR px.
        spots: Distance of the spots of an optical low-pass filter, LR px.
        curve: A measured MTF.
    """

    q: float | None = None
    obstruction: float = 0.0
    detector: float | None = None
    covariance: Covariance | None = None
    motion: float = 0.0
    motion_angle: float = 0.0
    defocus: float = 0.0
    spots: float = 0.0
    curve: Curve | None = None

    def transfer(self, fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
        """OTF at frequencies in cycles per LR pixel: real, 1 at 0, negative where contrast is turned over.

        Args:
            fy: Along y, any shape.
            fx: Along x, of a shape that broadcasts with `fy`.
        """
        fy, fx = np.broadcast_arrays(np.asarray(fy, dtype=np.float64), np.asarray(fx, dtype=np.float64))
        result = np.ones(fy.shape)
        radius = np.hypot(fy, fx)
        if self.q is not None:
            result *= transfer.annular(radius, self.q, self.obstruction)
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
    def _others(self) -> tuple[object, ...]:
        return (self.motion, self.defocus, self.spots, self.curve)

    @property
    def is_gaussian(self) -> bool:
        """Whether the Gaussian is all that there is."""
        return self.covariance is not None and self.q is None and self.detector is None and not any(self._others)

    @property
    def is_box(self) -> bool:
        """Whether a detector without gaps is all that there is."""
        return self.detector == 1 and self.q is None and self.covariance is None and not any(self._others)

    @property
    def sigma(self) -> float:
        """About how wide the PSF is: σ in LR pixels along its long axis, the parts added in squares."""
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

    def reach(self, scale: int) -> int:
        """Side K ≡ scale (mod 2) of a kernel that holds the PSF: ±3.5 σ, and 6 λN around where there is diffraction."""
        side = 2 * math.ceil(3.5 * scale * self.sigma) + scale
        if self.curve is not None:
            # Straight lines between the points of a curve have corners, whose transform falls slowly.
            side = 4 * math.ceil(3.5 * scale * self.sigma) + scale
        if self.q is not None:
            blurred = math.hypot(2 * _AIRY_RADIUS * self.q, self.motion + self.defocus + 2 * self.spots)
            side = max(side, math.ceil(scale * blurred))
        return side + (side - scale) % 2
