"""Whether two images lie on one another: the sub-pixel shift that no figure of quality forgives."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.errors import ImageError

__all__ = ["SHIFT_ALARM", "find_shift"]

# HR px; a shift of a tenth costs about 0.1 dB on sharp photographs, half a pixel 2 to 4 dB.
SHIFT_ALARM = 0.1
_FINENESS = 50  # steps a pixel
_LEAST = 16  # px; below it the window leaves nothing to correlate
# σ in HR px of the two Gaussians whose difference is compared: below 1.5 px lie the frequencies that an SR image lacks
# or has aliased (they pulled by up to 0.2 px on fine textures), above 6 px those that say little about place.
_BAND = (1.5, 6.0)


def find_shift(sr: NDArray[np.float64], hr: NDArray[np.float64]) -> tuple[float, float]:
    """Find where SR lies against HR, by the peak of their correlation.

    Both are band-passed and windowed (Hann), so that neither aliasing nor the borders pull; the peak is found on a grid
    of 1/50 px by the matrix Fourier transform of Guizar-Sicairos et al. The spectra are not whitened: an SR image has
    no phases at the frequencies that it lacks, and white weights would give those a say (a pixel and more off).

    Args:
        sr: (H, W), one plane.
        hr: (H, W), one plane.

    Returns:
        (y, x) in HR px; positive: SR's content lies below, or to the right of, HR's.

    Raises:
        ImageError: The sizes differ or are under 16 px.

    References:
        Guizar-Sicairos, Thurman, Fienup, "Efficient subpixel image registration algorithms", Optics Letters 33, 2008.
    """
    from skimage.registration import phase_cross_correlation

    if sr.shape != hr.shape or min(sr.shape) < _LEAST:
        raise ImageError(f"a shift needs two planes of one size, 16 px or more, got {sr.shape} and {hr.shape}.")
    window = np.outer(np.hanning(sr.shape[0] + 2)[1:-1], np.hanning(sr.shape[1] + 2)[1:-1])
    planes = [window * _band(plane) for plane in (sr, hr)]
    if min(float(np.abs(plane).max()) for plane in planes) < 1e-9:
        return 0.0, 0.0
    found = phase_cross_correlation(*planes, upsample_factor=_FINENESS, normalization=None)[0]  # type: ignore[no-untyped-call]
    # It says how to move the second image onto the first: where the first one lies.
    return float(found[0]), float(found[1])


def _band(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    fine, coarse = (ndimage.gaussian_filter(plane, sigma, mode="reflect") for sigma in _BAND)
    return np.asarray(fine - coarse)
