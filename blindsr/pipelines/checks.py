"""Checks of a result that arrives in rows: consistency with the input, and registration."""

import math
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ImageError
from blindsr.kernels import Kernel, KernelMap
from blindsr.ops import degrade, imresize
from blindsr.ops.geometry import mirror
from blindsr.ops.resize import RowBuffer
from blindsr.ops.windows import Source, most_textured, spread_windows
from blindsr.pipelines.varying import axis_weights
from blindsr.settings import Settings

__all__ = [
    "CONSISTENCY_ALARM",
    "CONSISTENCY_MEANING",
    "ConsistencyMeter",
    "RegistrationCheck",
    "consistency_meaning",
    "consistency_warning",
    "find_shift",
    "psnr_of",
]

# dB; a lower value means that the result does not explain the input. Rounding to 8 bits alone gives about 59 dB.
CONSISTENCY_ALARM = 35.0
CONSISTENCY_MEANING = (
    "PSNR between the input and the result degraded by the kernel. A low value is an alarm; a high one does not prove "
    "the kernel, as a wrong one can be consistent too."
)
_BEFORE_DIALS = " It is that of the result before strength and halo."
_NOISE_MARGIN = 3.0  # dB below the PSNR of the noise itself
_BLOCK = 64  # LR rows that are degraded together
_BORDER = 4  # LR pixels at each border that do not count for the consistency, at least

REGISTRATION_ALARM = 0.25  # HR px: half of the distance between two kernel conventions at ×2
_WINDOW = 112  # side of the window that is registered, LR pixels
_MIN_WINDOW = 24  # LR px; in a smaller one a shift cannot be measured reliably
_CANDIDATES = 9
_FLAT = 0.01  # standard deviation below which a window has nothing to register
_MIN_REGISTERED = 16  # px; smaller planes have nothing left to compare
# σ in HR px of the two Gaussians whose difference is compared: below 1.5 px lie the frequencies that an SR image lacks
# or has aliased (they biased the shift by up to 0.2 px on fine textures), above 6 px those that hardly depend on it.
_BAND = (1.5, 6.0)
_ROUNDS = 12  # of the refinement; each leaves under half of the error
_SETTLED = 1e-3  # px

_Plane = NDArray[np.float64]


class ConsistencyMeter:
    """PSNR(SR ⋆ k ↓s, input) over all channels, peak 1, of a result that arrives in rows.

    Args:
        source: The input.
        kernel: Kernel k for the scale s, or a map of kernels, whose degraded images are joined.
    """

    def __init__(self, source: Source, kernel: Kernel | KernelMap) -> None:
        self._source, self._scale = source, kernel.scale
        self._map = kernel if isinstance(kernel, KernelMap) else None
        arrays = kernel.arrays() if isinstance(kernel, KernelMap) else kernel.array
        self._weights = torch.from_numpy(np.array(arrays)).float().reshape(-1, 1, kernel.size, kernel.size)
        self._pad = (kernel.size - kernel.scale) // 2
        _, self._height, self._width = source.shape
        self._columns = mirror(
            torch.arange(-self._pad, self._width * self._scale + self._pad), self._width * self._scale
        )
        # Beyond the border nothing is known: pixels whose blur reaches there do not count.
        border = max(_BORDER, self._pad // self._scale)
        self._border = min(border, (min(self._height, self._width) - 1) // 2)
        self._rows, self._done = RowBuffer(), 0
        self.squared_error, self.count = 0.0, 0

    def update(self, rows: Tensor) -> None:
        """Take the next rows of the result, (1, C, rows, s·W), on the CPU."""
        self._rows.add(rows)
        scale, pad, high = self._scale, self._pad, self._height * self._scale
        ready = self._height if self._rows.last >= high else max(0, (self._rows.last - pad) // scale)
        while self._done < ready:
            top, bottom = self._done, min(ready, self._done + _BLOCK)
            index = mirror(torch.arange(top * scale - pad, bottom * scale + pad), high)
            first = int(index.min())
            taken = self._rows.take(first, int(index.max()) + 1)[0]
            padded = taken.index_select(-2, index - first).index_select(-1, self._columns)
            degraded = self._joined(functional.conv2d(padded[:, None], self._weights, stride=scale), top, bottom)
            lr = self._source.window(slice(top, bottom), slice(0, self._width))[0].cpu()
            b = self._border
            kept = slice(max(0, b - top), max(0, min(bottom, self._height - b) - top))
            error = (degraded - lr)[:, kept, b : self._width - b].double()
            self.squared_error += float(error.square().sum())
            self.count += error.numel()
            self._done = bottom
        self._rows.drop(min(self._done * scale - pad, high - pad))

    def _joined(self, degraded: Tensor, top: int, bottom: int) -> Tensor:
        """Rows degraded by each kernel, (C, N, rows, W), joined as the kernels of a map are: (C, rows, W)."""
        if self._map is None:
            return degraded[:, 0]
        places = (torch.arange(top, bottom), torch.arange(self._width))
        y, x = (
            axis_weights(at, length, count)
            for at, length, count in zip(places, (self._height, self._width), self._map.shape, strict=True)
        )
        weights = (y[:, None, :, None] * x[None, :, None, :]).flatten(0, 1).to(degraded)
        return (degraded * weights).sum(1)


def psnr_of(meters: list[ConsistencyMeter]) -> float:
    """Decibels over the samples of several meters; infinite if there is no error."""
    error = sum(meter.squared_error for meter in meters) / max(1, sum(meter.count for meter in meters))
    return -10 * math.log10(error) if error > 0 else math.inf


def consistency_meaning(settings: Settings, strengths: tuple[float, ...] = (1.0,)) -> str:
    """Explanation of `consistency_db` for the record; names the dials that are applied after it."""
    is_changed = min(strengths) < 1 or settings.halo not in ("auto", 1)
    return CONSISTENCY_MEANING + (_BEFORE_DIALS if is_changed else "")


def consistency_warning(
    consistency_db: float, noise_sigma: float = 0.0, *, kernel_width: float = 1.0
) -> tuple[str, ...]:
    """A warning where the result does not explain the input.

    Args:
        consistency_db: As `psnr_of` computes it.
        noise_sigma: Standard deviation of the noise and compression error that were suppressed, [0, 1] units: the
            result does not reproduce these, and must not.
        kernel_width: Factor by which the user has changed the width of the kernel.
    """
    expected = CONSISTENCY_ALARM
    if noise_sigma > 0:
        expected = min(expected, -20 * math.log10(noise_sigma) - _NOISE_MARGIN)
    if round(consistency_db, 1) >= float(f"{expected:.3g}"):  # as both are written
        return ()
    advice = "check the kernel, and whether a part of the image has another blur (lettering, a frame, another focus)."
    if kernel_width != 1:
        advice = f"kernel_width={kernel_width:g} (--kernel-width) makes it differ from the kernel of the image."
    return (
        f"low consistency: the result degraded by the kernel reproduces the input at only {consistency_db:.1f} dB PSNR "
        f"({expected:.3g} dB or more is usual{' with this noise' if noise_sigma > 0 else ''}); {advice}",
    )


@dataclass
class RegistrationCheck:
    """Compare the position of a result that is degraded again with that of the input, on its most textured window.

    Degraded, it is as soft as the input: a wide blur has removed or reversed the details by which a sharp result would
    be compared. A kernel whose centre of mass is off the middle moves the result, rightly so if the kernel is right.
    Where its convention was guessed, that counts as a displacement.

    Args:
        source: The input.
        kernel: The kernel that is used.
    """

    source: Source
    kernel: Kernel

    def __post_init__(self) -> None:
        """Choose the window."""
        _, height, width = self.source.shape
        self._parts: list[Tensor] = []
        self._next = 0
        self._rows = self._columns = slice(0, 0)
        if min(height, width) >= _MIN_WINDOW:
            windows = spread_windows(self.source, _WINDOW, _CANDIDATES)
            self._rows, self._columns = most_textured(self.source, windows, 1)[0]

    def update(self, rows: Tensor) -> None:
        """Take the next rows of the result, (1, C, rows, s·W), on the CPU."""
        scale, first = self.kernel.scale, self._next
        self._next = last = first + rows.shape[-2]
        low, high = max(first, scale * self._rows.start), min(last, scale * self._rows.stop)
        if low < high:
            columns = slice(scale * self._columns.start, scale * self._columns.stop)
            self._parts.append(rows[..., low - first : high - first, columns].mean(1, keepdim=True).clone())

    def warning(self) -> tuple[str, ...]:
        """A warning where the result is displaced, or nothing."""
        if not self._parts:
            return ()
        piece = self.source.window(self._rows, self._columns).mean(1, keepdim=True).float().cpu()
        if float(piece.std()) < _FLAT:
            return ()
        scale = self.kernel.scale
        result = torch.cat(self._parts, -2).float()
        degraded = degrade(result, self.kernel.tensor(result), scale)
        # The blur of the pixels at the border reaches beyond the window, where nothing is known.
        border = math.ceil(self.kernel.size / (2 * scale))
        border = max(0, min(border, (min(piece.shape[-2:]) - _MIN_WINDOW) // 2))
        inner = slice(border, piece.shape[-2] - border), slice(border, piece.shape[-1] - border)
        planes = (_plane(imresize(image[..., *inner], scale)) for image in (degraded, piece))
        shift = np.array(find_shift(*planes))
        guessed = bool(self.kernel.provenance.get("convention_guessed"))
        off = shift + (self.kernel.centroid if guessed else np.zeros(2))
        if np.abs(off).max() <= REGISTRATION_ALARM:
            return ()
        where = f"the result is displaced by ({off[0]:+.2f}, {off[1]:+.2f}) HR pixels (y, x) from "
        if guessed:
            return (
                f"{where}the interpolated photograph because the kernel is off centre; its convention, "
                f"{self.kernel.provenance.get('convention')}, was guessed: name the right one "
                "(convention=, --kernel-convention), or move the kernel onto its centre (recentre=True, --recenter).",
            )
        return (
            f"{where}the position that the kernel implies; look at the result before you use it, and at the kernel "
            "with blindsr kernel show.",
        )


def _plane(image: Tensor) -> _Plane:
    return image[0, 0].detach().double().cpu().numpy()


def find_shift(sr: _Plane, hr: _Plane) -> tuple[float, float]:
    """Register two images of one size: the sub-pixel shift of the first against the second.

    The peak of the correlation of the band-passed planes gives whole pixels, Gauss-Newton steps on their squared
    difference the fraction (Lucas and Kanade). Whitened ("phase-only") correlation, the usual choice, fails here by a
    pixel and more, because a super-resolved image has no phase at the frequencies that it lacks. A symmetric
    difference in sharpness does not bias the result; nor does one in brightness or contrast, whose gain is fitted with
    the fraction.

    Args:
        sr: (H, W), one plane.
        hr: (H, W), one plane.

    Returns:
        (y, x) in HR px, to about 0.02 px; positive: SR's content lies below, or to the right of, HR's.

    Raises:
        ImageError: The sizes differ or are under 16 px.

    References:
        Lucas, Kanade, "An iterative image registration technique with an application to stereo vision", IJCAI 1981.
    """
    if sr.shape != hr.shape or min(sr.shape) < _MIN_REGISTERED:
        sizes = " and ".join("×".join(map(str, plane.shape[::-1])) for plane in (sr, hr))
        raise ImageError(
            f"a displacement is measured between images of one size and of {_MIN_REGISTERED} px a side or more, "
            f"without the cropped border; got {sizes} px."
        )
    first, second = _band(sr), _band(hr)
    window = np.outer(np.hanning(sr.shape[0] + 2)[1:-1], np.hanning(sr.shape[1] + 2)[1:-1])
    if min(float(np.abs(plane).max()) for plane in (first, second)) < 1e-9:
        return 0.0, 0.0
    levels = [float((window * plane**2).sum()) for plane in (first, second)]
    first *= math.sqrt(levels[1] / levels[0]) if min(levels) > 0 else 1.0
    shift = _whole_pixels(window * first, window * second)
    for _ in range(_ROUNDS):
        step = _step(scipy.ndimage.shift(first, -shift, order=3, mode="reflect"), second, window)
        shift = shift + step
        if np.abs(step).max() < _SETTLED:
            break
    return float(shift[0]), float(shift[1])


def _band(plane: _Plane) -> _Plane:
    fine, coarse = (scipy.ndimage.gaussian_filter(plane, sigma, mode="reflect") for sigma in _BAND)
    return np.asarray(fine - coarse, dtype=np.float64)


def _whole_pixels(sr: _Plane, hr: _Plane) -> _Plane:
    """Peak of the circular correlation, as a signed shift."""
    correlation = np.fft.ifft2(np.fft.fft2(sr) * np.fft.fft2(hr).conj()).real
    peak = np.array(np.unravel_index(int(np.argmax(correlation)), correlation.shape), dtype=np.float64)
    sides = np.array(correlation.shape)
    return np.where(peak > sides / 2, peak - sides, peak)


def _step(sr: _Plane, hr: _Plane, window: _Plane) -> _Plane:
    """The remaining shift, by least squares on the linearised difference; 0 where there is no edge."""
    # The mean of both gradients, so that it does not matter which image is sharper.
    mean = (sr + hr) / 2
    terms = (*np.gradient(mean), mean)
    difference = sr - hr  # ≈ −(shift · gradient) + (gain − 1) · mean
    normal = np.array([[(window * a * b).sum() for b in terms] for a in terms])
    right = -np.array([(window * a * difference).sum() for a in terms])
    # A straight edge does not determine the shift along itself: the minimum-norm solution is taken.
    solution = np.linalg.pinv(normal, rcond=1e-6, hermitian=True) @ right
    return np.asarray(np.clip(solution[:2], -1, 1), dtype=np.float64)
