"""What can be said of a kernel in numbers: widths, contrast, place; and of two."""

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.errors import KernelError
from blindsr.kernels.families import bicubic
from blindsr.kernels.kernel import Kernel
from blindsr.kernels.transform import normalised_cross_correlation

__all__ = ["Difference", "Figures", "compare", "describe", "fwhm", "kernel_cautions", "nyquist"]

_FAINT = 0.05  # MTF at LR's Nyquist frequency under which next to nothing of it is left
_FINE = 20  # samples per HR pixel of a cross-section
_ROOM = 8  # zeros around a kernel whose sections are interpolated, px


def _long_axis(kernel: Kernel) -> float:
    """Direction of the long axis; 0 where there is none: that of an isotropic kernel is rounding's, and may be 45°."""
    (yy, yx), (_, xx) = kernel.covariance
    isotropic = math.hypot(yy - xx, 2 * yx) <= 1e-3 * max(abs(yy + xx), 1e-6)
    return 0.0 if isotropic else kernel.angle


def fwhm(kernel: Kernel) -> tuple[float, float]:
    """Full width at half maximum along the long and the short principal axis, HR pixels.

    From the outermost crossings of half the peak, on sections through the centre of mass (quintic splines).
    """
    reach = kernel.size / 2 + 2
    along = np.arange(-reach, reach + 1e-9, 1 / _FINE)
    # Splines need room to come down to zero in.
    room = np.pad(kernel.array, _ROOM)
    middle = (len(room) - 1) / 2 + kernel.centroid
    widths = []
    for degrees in (_long_axis(kernel), _long_axis(kernel) + 90):
        step = np.array([-math.sin(math.radians(degrees)), math.cos(math.radians(degrees))])
        places = middle[:, None] + step[:, None] * along
        section = ndimage.map_coordinates(room, places, order=5, mode="constant")
        above = np.flatnonzero(section >= section.max() / 2)
        ends = [_crossing(along, section, int(above[0]), -1), _crossing(along, section, int(above[-1]), 1)]
        widths.append(ends[1] - ends[0])
    return widths[0], widths[1]


def _crossing(along: NDArray[np.float64], section: NDArray[np.float64], last: int, step: int) -> float:
    """Where the section falls through half its peak, between sample `last` and the next one outwards."""
    after = last + step
    if not 0 <= after < len(section):
        return float(along[last])
    share = (section[last] - section.max() / 2) / (section[last] - section[after])
    return float(along[last] + share * (along[after] - along[last]))


def nyquist(kernel: Kernel, of_scale: int) -> tuple[float, float]:
    """MTF at the Nyquist frequency of the grid `of_scale` times coarser than HR's, along the long and the short axis.

    Args:
        kernel: Any kernel.
        of_scale: 1 for HR's own Nyquist frequency, the kernel's scale for LR's.
    """
    frequency = np.array([0.5 / of_scale])
    long, short = (float(kernel.transfer(frequency, _long_axis(kernel) + turn)[0]) for turn in (0.0, 90.0))
    return long, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A kernel in numbers; lengths in HR pixels, pairs along the long and the short axis, or in order (y, x)."""

    scale: int
    size: int
    fwhm: tuple[float, float]
    sigmas: tuple[float, float]
    angle_degrees: float
    covariance_yx: tuple[tuple[float, float], tuple[float, float]]
    centroid_yx: tuple[float, float]
    mtf_at_lr_nyquist: tuple[float, float]
    mtf_at_hr_nyquist: tuple[float, float]
    energy_outside_lr_pixel: float  # share of Σ|k| beyond the s×s pixels that one LR pixel covers
    support_99_percent: int  # side of the square that holds 99 % of Σ|k|
    negative_share: float  # Σ of the negative taps over Σ|k|
    digest: str

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy."""
        return asdict(self)


def describe(kernel: Kernel) -> Figures:
    """All figures of a kernel."""
    absolute = np.abs(kernel.array)
    margin = (kernel.size - kernel.scale) // 2
    inner = absolute[margin : kernel.size - margin, margin : kernel.size - margin]
    (yy, yx), (xy, xx) = (kernel.covariance.round(6) + 0.0).tolist()
    y, x = (kernel.centroid.round(6) + 0.0).tolist()
    return Figures(
        scale=kernel.scale,
        size=kernel.size,
        fwhm=fwhm(kernel),
        sigmas=kernel.sigmas,
        angle_degrees=_long_axis(kernel),
        covariance_yx=((yy, yx), (xy, xx)),
        centroid_yx=(y, x),
        mtf_at_lr_nyquist=nyquist(kernel, kernel.scale),
        mtf_at_hr_nyquist=nyquist(kernel, 1),
        energy_outside_lr_pixel=1 - float(inner.sum() / absolute.sum()),
        support_99_percent=kernel.support(),
        negative_share=float(-kernel.array[kernel.array < 0].sum() / absolute.sum()) + 0.0,
        digest=kernel.digest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two kernels against each other.

    Args:
        similarity: Normalised cross-correlation after aligning the centres of mass; 1 is the same shape.
        covariance_error: ‖Σ_B − Σ_A‖ / ‖Σ_A‖ (Frobenius).
        shift_yx: Centre of mass of B less that of A, HR pixels: images made with the two lie so far apart.
        width_ratio: Geometric mean σ of B over that of A.
        largest_mtf_difference: Over all directions, up to HR's Nyquist frequency.
        lr_psnr: PSNR in dB, peak 1, between LR images that both make of one scene with a 1/f spectrum and a standard
            deviation of 0.2: what the difference means for a picture.
    """

    similarity: float
    covariance_error: float
    shift_yx: tuple[float, float]
    width_ratio: float
    largest_mtf_difference: float
    lr_psnr: float

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy; infinity is None."""
        values = asdict(self)
        return {key: None if value == math.inf else value for key, value in values.items()}


_GRID = 128  # samples a side of the frequency plane
_CONTRAST = 0.2  # standard deviation of the scene, [0, 1] units


def compare(first: Kernel, second: Kernel) -> Difference:
    """Compare two kernels.

    Args:
        first: A, the reference.
        second: B.

    Raises:
        KernelError: They are for different scales.
    """
    if first.scale != second.scale:
        raise KernelError(
            f"kernels for different scales ({first.scale} and {second.scale}) cannot be compared; carry one over with "
            "blindsr kernel convert --to-scale."
        )
    side = max(_GRID, *(k.size + k.size % 2 for k in (first, second)))
    spectra = [np.fft.fft2(_centred(k, side)) for k in (first, second)]
    f = np.fft.fftfreq(side)
    power = 1 / np.maximum(np.hypot(f[:, None], f[None, :]), 1 / side) ** 2
    power[0, 0] = 0
    power *= _CONTRAST**2 / power.sum()
    error = float((power * np.abs(spectra[0] - spectra[1]) ** 2).sum())
    shift = second.centroid - first.centroid
    areas = [math.sqrt(abs(float(np.linalg.det(k.covariance)))) for k in (first, second)]
    return Difference(
        similarity=normalised_cross_correlation(first, second),
        covariance_error=float(
            np.linalg.norm(second.covariance - first.covariance) / max(float(np.linalg.norm(first.covariance)), 1e-12)
        ),
        shift_yx=(float(shift[0]), float(shift[1])),
        width_ratio=math.sqrt(areas[1] / areas[0]) if areas[0] > 0 else math.inf,
        largest_mtf_difference=float(np.abs(np.abs(spectra[0]) - np.abs(spectra[1])).max()),
        lr_psnr=math.inf if error < 1e-18 else -10 * math.log10(error),
    )


def _centred(kernel: Kernel, side: int) -> NDArray[np.float64]:
    """The kernel in a frame that two kernels of one scale, and so of one parity, share."""
    side += (side - kernel.size) % 2
    margin = (side - kernel.size) // 2
    return np.pad(kernel.array, margin)


def kernel_cautions(kernel: Kernel) -> tuple[str, ...]:
    """What a user should know before a known kernel is used, in sentences; mostly there is nothing."""
    found = []
    at_lr = nyquist(kernel, kernel.scale)
    plain = max(nyquist(bicubic(kernel.scale), kernel.scale))
    if max(at_lr) < _FAINT:
        found.append(
            f"the kernel passes {max(at_lr):.3f} at LR's Nyquist frequency: hardly anything aliases, so there is "
            "little detail to find, and noise will be amplified."
        )
    if min(at_lr) > plain + 0.005 and kernel.provenance.get("made_by") not in ("bicubic", "box"):
        found.append(
            f"the kernel passes {min(at_lr):.2f} at LR's Nyquist frequency, more than bicubic downscaling "
            f"({plain:.2f}): few cameras are that sharp; check the specification."
        )
    return tuple(found)
