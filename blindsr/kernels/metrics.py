"""Metrics of a kernel, of two kernels, and the split-half uncertainty of an estimate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.analytic import bicubic
from blindsr.kernels.kernel import Kernel

_Array = NDArray[np.float64]

_MIN_MTF: Final = 0.05  # at LR's Nyquist frequency; below it hardly anything is aliased
_SECTION_STEPS: Final = 20  # samples per HR pixel of a cross-section
_SECTION_MARGIN: Final = 8  # px of zeros around a kernel, in which the splines of its cross-sections decay
_GRID: Final = 128  # samples a side of the frequency plane, at least
_SCENE_SIGMA: Final = 0.2  # standard deviation of the scene that two kernels are compared on, [0, 1] units
_PROVENANCE_KEY: Final = "split_half"
_MIN_SHARE = 0.05  # of the bicubic kernel, from which it is named
_ALMOST_ALL = 0.9  # share from which the rest is not worth a number
FWHM_PER_SIGMA: Final = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian
_NO_ESTIMATE: Final = "because no kernel could be estimated"  # of a flat or too small image


def _long_axis(kernel: Kernel) -> float:
    """Direction of the long axis; 0 for an isotropic kernel, where rounding would decide."""
    (yy, yx), (_, xx) = kernel.covariance
    isotropic = math.hypot(yy - xx, 2 * yx) <= 1e-3 * max(abs(yy + xx), 1e-6)
    return 0.0 if isotropic else kernel.angle


def fwhm(kernel: Kernel) -> tuple[float, float]:
    """Full width at half maximum along the long and the short principal axis, HR pixels.

    Measured between the outermost crossings of half the peak, on sections through the centre of mass (quintic splines).
    """
    half_length = kernel.size / 2 + 2
    along = np.arange(-half_length, half_length + 1e-9, 1 / _SECTION_STEPS)
    padded = np.pad(kernel.array, _SECTION_MARGIN)
    middle = (len(padded) - 1) / 2 + kernel.centroid
    widths = []
    for degrees in (_long_axis(kernel), _long_axis(kernel) + 90):
        step = np.array([-math.sin(math.radians(degrees)), math.cos(math.radians(degrees))])
        positions = middle[:, None] + step[:, None] * along
        section = scipy.ndimage.map_coordinates(padded, positions, order=5, mode="constant")
        half = section.max() / 2
        above = np.flatnonzero(section >= half)
        ends = []
        for last, after in ((int(above[0]), int(above[0]) - 1), (int(above[-1]), int(above[-1]) + 1)):
            end = along[last]
            if 0 <= after < len(section):  # between the last sample above half of the peak and the next one outwards
                share = (section[last] - half) / (section[last] - section[after])
                end = end + share * (along[after] - along[last])
            ends.append(float(end))
        widths.append(ends[1] - ends[0])
    return widths[0], widths[1]


def wider_first(widths: tuple[float, float], angle: float) -> tuple[tuple[float, float], float]:
    """Widths along a direction and across it, or across and along it, the larger one first, and its direction.

    The long axis is that of the second moments, along which a kernel with long tails may have the smaller FWHM.
    """
    along, across = widths
    return (widths, angle) if along >= across else ((across, along), (angle + 90) % 180)


def mtf_at_nyquist(kernel: Kernel, grid_scale: int) -> tuple[float, float]:
    """MTF along the long and the short axis at the Nyquist frequency of a grid `grid_scale` times coarser than HR."""
    frequency = np.array([0.5 / grid_scale])
    long, short = (float(kernel.transfer(frequency, _long_axis(kernel) + turn)[0]) for turn in (0.0, 90.0))
    return long, short


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMetrics:
    """Metrics of a kernel; lengths in HR pixels, pairs along the long and the short axis, or in order (y, x)."""

    scale: int
    size: int
    fwhm: tuple[float, float]
    sigmas: tuple[float, float] | None  # None where a second moment is not positive
    angle_degrees: float
    covariance_yx: tuple[tuple[float, float], tuple[float, float]]
    centroid_yx: tuple[float, float]
    mtf_at_lr_nyquist: tuple[float, float]
    mtf_at_hr_nyquist: tuple[float, float]
    energy_outside_lr_pixel: float  # share of Σ|k| beyond the s×s pixels that one LR pixel covers
    support_99_percent: int  # side of the square that contains 99 % of Σ|k|
    negative_share: float  # sum of the negative taps over Σ|k|
    digest: str

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy."""
        return asdict(self)


def describe(kernel: Kernel) -> KernelMetrics:
    """All metrics of a kernel."""
    absolute = np.abs(kernel.array)
    margin = (kernel.size - kernel.scale) // 2
    inner = absolute[margin : kernel.size - margin, margin : kernel.size - margin]
    (yy, yx), (xy, xx) = (kernel.covariance.round(6) + 0.0).tolist()
    y, x = (kernel.centroid.round(6) + 0.0).tolist()
    return KernelMetrics(
        scale=kernel.scale,
        size=kernel.size,
        fwhm=fwhm(kernel),
        sigmas=kernel.sigmas if kernel.has_sigmas else None,
        angle_degrees=_long_axis(kernel),
        covariance_yx=((yy, yx), (xy, xx)),
        centroid_yx=(y, x),
        mtf_at_lr_nyquist=mtf_at_nyquist(kernel, kernel.scale),
        mtf_at_hr_nyquist=mtf_at_nyquist(kernel, 1),
        energy_outside_lr_pixel=1 - float(inner.sum() / absolute.sum()),
        support_99_percent=kernel.support(),
        negative_share=float(-kernel.array[kernel.array < 0].sum() / absolute.sum()) + 0.0,
        digest=kernel.digest,
    )


def provenance_text(kernel: Kernel) -> str:
    """The provenance of a kernel in words, without its arrays: "made by gaussian", or "provenance unknown"."""
    values = {name: v for name, v in kernel.provenance.items() if not isinstance(v, Mapping | list | tuple)}
    words = [f"{name.replace('_', ' ')} {value}" for name, value in values.items()]
    if kernel.is_replacement:
        words.append(_NO_ESTIMATE)
    return " ".join(", ".join(words).split()) or "provenance unknown"


def bicubic_share(kernel: Kernel) -> float:
    """The share of the bicubic kernel in an uncertain estimate, as its provenance states it; 0 without one."""
    share = kernel.provenance.get("bicubic_share")
    return float(share) if isinstance(share, int | float) and 0 <= share <= 1 else 0.0


def widths_text(kernel: Kernel) -> str:
    """The widths of a kernel in words, HR pixels: "FWHM 3.58 px along 118°, 2.21 px across"."""
    share = bicubic_share(kernel)
    (long, short), angle = wider_first(fwhm(kernel), _long_axis(kernel))
    prefix = f"{100 * share:.0f} % bicubic kernel, " if share >= _MIN_SHARE else ""
    if share >= _ALMOST_ALL:
        prefix = "almost the bicubic kernel, "
    amount = kernel.provenance.get("sharpening")
    suffix = f", with the sharpening of the photograph ({amount:.2g})" if isinstance(amount, int | float) else ""
    if abs(long - short) < 0.05 * long:
        return f"{prefix}FWHM {long:.2f} px in all directions{suffix}"
    return f"{prefix}FWHM {long:.2f} px along {angle:.0f}°, {short:.2f} px across{suffix}"


def kernel_warnings(kernel: Kernel) -> tuple[str, ...]:
    """Warnings, as sentences, about the use of a kernel that is given and not estimated; usually none."""
    warnings, at_lr = [], mtf_at_nyquist(kernel, kernel.scale)
    bicubic_mtf = max(mtf_at_nyquist(bicubic(kernel.scale), kernel.scale))
    if max(at_lr) < _MIN_MTF:
        warnings.append(
            f"the kernel's MTF at LR's Nyquist frequency is {max(at_lr):.3f}: hardly anything aliases, so there is "
            "little detail to recover, and noise will be amplified."
        )
    if min(at_lr) > bicubic_mtf + 0.005 and not kernel.is_plain_reduction:
        warnings.append(
            f"the kernel's MTF at LR's Nyquist frequency is {min(at_lr):.2f}, more than that of bicubic downscaling "
            f"({bicubic_mtf:.2f}): few cameras are that sharp; check the specification."
        )
    return tuple(warnings)


def normalised_cross_correlation(a: Kernel, b: Kernel) -> float:
    """NCC of two kernels of one scale after aligning their centres of mass: Σab / √(Σa² Σb²), in [−1, 1].

    Raises:
        KernelError: The kernels are for different scales.
    """
    if a.scale != b.scale:
        raise KernelError(
            f"kernels for different scales ({a.scale} and {b.scale}) cannot be compared; convert one with "
            "blindsr kernel convert --to-scale (in Python blindsr.kernels.resample)."
        )
    size = max(a.size, b.size) + 2 * math.ceil(max(np.abs(k.centroid).max() for k in (a, b)))
    size += (size - a.scale) % 2
    first, second = (scipy.ndimage.shift(k.padded(size), -k.centroid, order=3) for k in (a, b))
    return float((first * second).sum() / math.sqrt((first**2).sum() * (second**2).sum()))


def covariance_error(estimate: Kernel, truth: Kernel) -> float:
    """Relative error of a kernel's covariance, ‖Σ̂ − Σ‖ / ‖Σ‖ in the Frobenius norm; independent of a shift.

    NaN where it is not defined: second moments of the truth that are not positive, such as those of the bicubic kernel.
    """
    norm = float(np.linalg.norm(truth.covariance))
    if not truth.has_sigmas or norm == 0:
        return math.nan
    return float(np.linalg.norm(estimate.covariance - truth.covariance) / norm)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelComparison:
    """Metrics of a kernel B against a reference A."""

    ncc: float  # after aligning the centres of mass
    covariance_error: float  # NaN where the second moments of A are not positive
    shift_yx: tuple[float, float]  # centre of mass of B minus that of A, HR pixels
    width_ratio: float  # geometric mean σ of B over that of A; NaN where a second moment of either is not positive
    max_mtf_difference: float  # over all directions, up to HR's Nyquist frequency
    # dB, peak 1, between the LR images that both make of one scene with a 1/f spectrum and a standard deviation of 0.2
    lr_psnr: float

    def as_dict(self) -> dict[str, object]:
        """JSON-able copy; infinity and NaN are None."""
        values = asdict(self)
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def compare(first: Kernel, second: Kernel) -> KernelComparison:
    """Compare a kernel B, the second, with a reference A, the first.

    Raises:
        KernelError: They are for different scales.
    """
    ncc = normalised_cross_correlation(first, second)
    # Kernels of one scale have one parity, so both can be padded to the same side.
    side = max(_GRID + first.size % 2, first.size, second.size)
    spectra = [np.fft.fft2(kernel.padded(side)) for kernel in (first, second)]
    f = np.fft.fftfreq(side)
    power = 1 / np.maximum(np.hypot(f[:, None], f[None, :]), 1 / side) ** 2
    power[0, 0] = 0
    power *= _SCENE_SIGMA**2 / power.sum()
    error = float((power * np.abs(spectra[0] - spectra[1]) ** 2).sum())
    shift = second.centroid - first.centroid
    areas = [math.prod(kernel.sigmas) for kernel in (first, second)]
    has_ratio = first.has_sigmas and second.has_sigmas and areas[0] > 0
    return KernelComparison(
        ncc=ncc,
        covariance_error=covariance_error(second, first),
        shift_yx=(float(shift[0]), float(shift[1])),
        width_ratio=math.sqrt(areas[1] / areas[0]) if has_ratio else math.nan,
        max_mtf_difference=float(np.abs(np.abs(spectra[0]) - np.abs(spectra[1])).max()),
        lr_psnr=math.inf if error < 1e-18 else -10 * math.log10(error),
    )


@dataclass(frozen=True, eq=False)
class SplitHalf:
    """Split-half uncertainty of a kernel estimate: kernels from disjoint random halves of one image, in pairs."""

    covariances: _Array  # (2·P, 2, 2), HR px², order (y, x); 2·i and 2·i + 1 are a pair
    ncc: float  # of the two kernels of a pair, the mean of all pairs

    @classmethod
    def from_pairs(cls, pairs: Sequence[tuple[Kernel, Kernel]]) -> "SplitHalf":
        """Measure one or more pairs of kernels of one scale."""
        covariances = np.array([kernel.covariance for pair in pairs for kernel in pair])
        return cls(covariances, float(np.mean([normalised_cross_correlation(*pair) for pair in pairs])))

    @classmethod
    def from_kernel(cls, kernel: Kernel) -> "SplitHalf | None":
        """Read what `attach` stored; None if nothing is stored, or if the kernel has been changed since."""
        stored = kernel.provenance.get(_PROVENANCE_KEY)
        if not isinstance(stored, Mapping) or stored.get("kernel") != kernel.digest:
            return None
        try:  # the provenance may come from a file, with any content
            covariances, ncc = np.array(stored["covariance_yx"], dtype=np.float64), float(stored["ncc"])
        except (KeyError, TypeError, ValueError):
            return None
        usable = covariances.ndim == 3 and covariances.shape[1:] == (2, 2) and len(covariances) in range(2, 65, 2)
        return cls(covariances, ncc) if usable and np.isfinite(covariances).all() else None

    def attach(self, kernel: Kernel) -> Kernel:
        """Store the uncertainty in a kernel's provenance, from where its file and its plot take it."""
        covariances, ncc = self.covariances.round(4).tolist(), round(self.ncc, 4)
        stored = {"kernel": kernel.digest, "covariance_yx": covariances, "ncc": ncc}
        return Kernel(kernel.array, kernel.scale, {**kernel.provenance, _PROVENANCE_KEY: stored})

    @property
    def relative_difference(self) -> float:
        """‖Σ₁ − Σ₂‖ / ‖Σ₁ + Σ₂‖ (Frobenius) of a pair, the mean of all pairs: 0 for equal halves, at most 1."""
        first, second = self.covariances[::2], self.covariances[1::2]
        size = np.maximum(np.linalg.norm(first + second, axis=(1, 2)), 1e-9)
        return float((np.linalg.norm(first - second, axis=(1, 2)) / size).mean())

    @property
    def sigma_errors(self) -> tuple[float, float]:
        """Standard deviation of the halves' σ along the long and the short axis, HR pixels."""
        short, long = np.sqrt(np.clip(np.linalg.eigvalsh(self.covariances), 0, None)).T
        return float(long.std()), float(short.std())

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers for `KernelEstimate.metrics`."""
        long, short = self.sigma_errors
        values = {"ncc": self.ncc, "difference": self.relative_difference, "sigma_long": long, "sigma_short": short}
        return {f"split_half_{name}": value for name, value in values.items()}

    def __str__(self) -> str:
        long, short = (FWHM_PER_SIGMA * error for error in self.sigma_errors)
        return (
            f"the FWHM of {len(self.covariances)} split-half estimates differs by ±{long:.2f} px along the long and "
            f"±{short:.2f} px along the short axis, NCC {self.ncc:.3f}"
        )
