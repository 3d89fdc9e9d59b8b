"""Measured PSFs, at any sampling: from image and array files, and to the downscaling kernel."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ConfigError, ImageError, KernelError
from blindsr.kernels import Kernel, files
from blindsr.kernels.arrays import RawArrays
from blindsr.kernels.files import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from blindsr.kernels.kernel import MAX_SIZE
from blindsr.kernels.transform import zero_margins
from blindsr.sensors import transfer
from blindsr.sensors.system import DEFAULT_MODEL, KernelModel, kernel_from_transfer

Centre = Literal["middle", "centroid"]

_BACKGROUND_SIGMAS: Final = 4.0  # samples within so many σ of the background's noise belong to the background
_MIN_BACKGROUND: Final = 1e-3  # of the peak; less is the tail of the PSF
_SIGMA_PER_MAD: Final = 1.4826  # σ of a Gaussian over the median of its absolute deviations
_COLOUR_TOLERANCE: Final = 0.02  # of the peak: difference of the channels of a grey image that was saved as colour


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPSF:
    """How a PSF was measured, and how its kernel is made."""

    samples_per_pixel: float | None = None  # per LR pixel; None is the scale: the PSF is on the HR grid
    model: KernelModel = DEFAULT_MODEL  # "psf" or "ratio" (blindsr.sensors.system)
    centre: Centre = "middle"  # centre of the kernel: the middle of the array, or the centroid of the light
    background: bool = True  # subtract a background, measured on the array's border
    detector: bool = False  # blur by the detector as well; the image of a star includes it already
    size: int | None = None  # K, HR pixels; None is the size that the samples cover
    warnings: tuple[str, ...] = ()  # to put before those of the conversion

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.samples_per_pixel is not None and not 0.25 <= self.samples_per_pixel <= 100:
            raise ConfigError(f"samples per LR pixel must be from 0.25 to 100, got {self.samples_per_pixel:g}.")
        if self.centre not in ("middle", "centroid"):
            raise ConfigError(f"the centre of a PSF must be middle or centroid, got {self.centre!r}.")


def without_background(psf: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Subtract the background of a PSF, (H, W): the median of its border, and what is within the noise there.

    A warning comes with it, which is empty if there was no background.
    """
    edge = np.concatenate([psf[0], psf[-1], psf[1:-1, 0], psf[1:-1, -1]])
    level = float(np.median(edge))
    noise = _SIGMA_PER_MAD * float(np.median(np.abs(edge - level)))
    peak = float(psf.max()) - level
    if peak <= 0:
        raise KernelError("a PSF must be brighter in its middle than on its border; is it inverted?")
    light = np.where(psf - level > _BACKGROUND_SIGMAS * noise, psf - level, 0.0)
    if not light.any():
        raise KernelError("a PSF must be brighter than the noise of its background, and this one is not.")
    if abs(level) < _MIN_BACKGROUND * peak and noise < _MIN_BACKGROUND * peak:
        return np.clip(psf, 0, None), ""
    noise_text = f"noise up to {_BACKGROUND_SIGMAS:g} σ"
    return light, f"a background of {100 * level / peak:.2f} % of the peak and {noise_text} were subtracted."


def kernel_from_psf(psf: NDArray[np.float64], scale: int, how: MeasuredPSF) -> tuple[Kernel, tuple[str, ...]]:
    """Make the kernel of a camera whose PSF was measured.

    A PSF, (H, W), of any sum, finite, is the image of a point: the camera convolves with it. The kernel correlates, and
    is the PSF rotated by 180°. Warnings, as sentences for the user, come with it.

    Raises:
        KernelError: It is not a PSF.
        ConfigError: It covers more than 255 HR pixels.
    """
    values, warnings = _checked(psf), list(how.warnings)
    if how.background:
        values, warning = without_background(values)
        warnings += [warning] if warning else []
    per_pixel = float(scale) if how.samples_per_pixel is None else how.samples_per_pixel
    if per_pixel < scale:
        warnings.append(
            f"the PSF has {per_pixel:g} samples per LR pixel, fewer than the {scale} of the result: aliasing in it "
            "cannot be corrected; a slanted edge or shifted points give finer samples."
        )
    rows, columns = zero_margins(values)
    values = values[rows : values.shape[0] - rows, columns : values.shape[1] - columns]
    total = float(values.sum())
    y, x = (np.arange(n, dtype=np.float64) - (n - 1) / 2 for n in values.shape)
    offset = np.array([values.sum(1) @ y, values.sum(0) @ x]) / total / per_pixel * scale
    if how.centre == "centroid":
        y, x = y - offset[0] / scale * per_pixel, x - offset[1] / scale * per_pixel
        warnings.append(
            f"the PSF was moved by ({-offset[0]:+.2f}, {-offset[1]:+.2f}) HR pixels (y, x) to its centre of mass."
        )
    elif np.abs(offset).max() > 0.1:
        warnings.append(
            f"the PSF's centre of mass is ({offset[0]:+.2f}, {offset[1]:+.2f}) HR pixels (y, x) off the middle of the "
            "array, which was kept; centre it if only the crop is off centre."
        )
    size = how.size or math.ceil(max(values.shape) / per_pixel * scale)
    size += (size - scale) % 2
    size = max(size, scale)
    provenance = {"made_by": "psf", "model": how.model, "centre": how.centre}
    exact = per_pixel == scale and how.model == "psf" and how.centre == "middle" and not how.detector
    if exact and how.size is None and values.shape[0] == values.shape[1] and (values.shape[0] - scale) % 2 == 0:
        return Kernel.normalised(values[::-1, ::-1], scale, provenance), tuple(warnings)

    def spectrum(fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.complex128]:
        rows = np.exp(2j * np.pi * fy.reshape(-1, 1) * (y / per_pixel))
        columns = np.exp(2j * np.pi * fx.reshape(-1, 1) * (x / per_pixel))
        # The conjugate of the PSF's own spectrum: the rotation by 180°.
        both: NDArray[np.complex128] = rows @ (values / total) @ columns.T
        if how.detector:
            both *= transfer.detector(fy, fx, 1.0)
        return both

    kernel, _ = kernel_from_transfer(spectrum, scale, size=size, model=how.model, cutoff=per_pixel / 2)
    return Kernel(kernel.array, scale, provenance), tuple(warnings)


def _checked(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(psf, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 3 or max(values.shape) > MAX_SIZE:
        raise KernelError(
            f"a PSF must be an array of 3 to {MAX_SIZE} px a side, got {'×'.join(map(str, values.shape))}."
        )
    if not np.isfinite(values).all() or np.abs(values).max() > 1e100:
        raise KernelError("a PSF must be finite, this one contains NaN, infinity or extreme numbers.")
    if values.max() <= 0 or values.sum() <= 0:
        raise KernelError("a PSF must have a positive sum and peak, and this one does not.")
    return values


def read_psf(
    path: Path | str, *, index: int | None = None, allows_colour: bool = True
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Read a measured PSF, (H, W), unchanged, with warnings as sentences for the user: sum and position stay.

    Args:
        path: An image (.tif, .png, .bmp; its samples are read as linear light, whatever their encoding) or an array
            (.npy, .npz, .mat, .txt, .csv).
        index: Which array of several, counted from 0.
        allows_colour: Whether an image whose bands differ is one of a PSF, and not a photograph.

    Raises:
        KernelError: It is missing, damaged, or not a PSF.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        raw = files.load_arrays(path, None)
        array = np.asarray(raw.select(index))
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            raise KernelError(f"a PSF must be a 2-D array of numbers, {path.name} is {array.ndim}-D {array.dtype}.")
        return array.astype(np.float64), raw.warnings
    if suffix not in IMAGE_SUFFIXES:
        raise KernelError(f"a PSF must be one of {', '.join((*IMAGE_SUFFIXES, *ARRAY_SUFFIXES))}, got {path.name}.")
    if not path.is_file():
        raise KernelError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; give an image of the PSF.")
    from blindsr.image_io import read_photo

    try:
        photo = read_photo(path)
    except ImageError as error:
        raise KernelError(f"{path.name} cannot be read as an image of a PSF: {error}") from error
    pixels = np.asarray(photo.values, dtype=np.float64)
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_SIZE:
        raise KernelError(
            f"an image of a kernel or a PSF can be up to {MAX_SIZE} px a side, {path.name} has {width}×{height}, as a "
            "photograph; name a kernel, or crop the image around the point."
        )
    plane = pixels.mean(2)
    warnings = []
    if pixels.shape[2] > 1 and np.abs(pixels - plane[..., None]).max() > _COLOUR_TOLERANCE * np.abs(plane).max():
        if not allows_colour:
            raise KernelError(
                f"a kernel has one band, and those of {path.name} differ, as of a photograph; name a kernel, or read "
                "an image of a PSF in colour by blindsr kernel from-psf."
            )
        warnings.append(f"{path.name} is in colour; the mean of its channels is used.")
    if photo.dtype == np.uint8:
        warnings.append(f"{path.name} has 8 bits: tails below 1/255 of white are lost; a float TIFF keeps them.")
    return plane, tuple(warnings)


def kernel_from_image(
    path: Path, scale: int, *, convention: files.AnyConvention = "auto", index: int | None = None
) -> tuple[Kernel, tuple[str, ...]]:
    """Read the kernel of an image of a PSF on the HR grid ("auto"), or of a kernel that was saved as an image.

    Path, index and errors are those of `read_psf`; warnings, as sentences for the user, come with the kernel.
    """
    psf, warnings = read_psf(path, index=index, allows_colour=False)
    if convention != "auto":
        light, background = without_background(psf)
        kernel, more = files.kernel_from_array(light, scale, convention, RawArrays((light,), path.name))
        return kernel, (*warnings, *([background] if background else []), *more)
    kernel, warnings = kernel_from_psf(psf, scale, MeasuredPSF(model="psf", warnings=warnings))
    assumed = (
        f"{path.name} was read as an image of the PSF on the result's pixels: rotated by 180°, because a PSF convolves,"
        " and normalised; blindsr kernel from-psf reads one with other pixels."
    )
    return Kernel(kernel.array, scale, {"made_by": "psf", "file": path.name}), (*warnings, assumed)
