"""PSNR and SSIM of an SR image against the ground truth, in the conventions of the field.

Images are NumPy arrays (H, W), (H, W, 1) or (H, W, 3): integers over the range of their type, or floats in [0, 1].
Metrics of kernels are in `blindsr.kernels.metrics`.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.image_io import to_uint8

__all__ = ["psnr", "psnr_y", "rgb_to_y", "ssim_y"]

# ITU-R BT.601, studio swing, as MATLAB's rgb2ycbcr: for RGB in [0, 1], in grey levels 16 … 235.
_LUMA: Final = (65.481, 128.553, 24.966)
_MAX_OVERSHOT: Final = 2.0
_SSIM_WINDOW: Final = 11  # px; Gaussian, σ 1.5 cut at 3.5 σ; Wang et al., IEEE TIP 2004


def _pair(a: NDArray[Any], b: NDArray[Any], border: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _check_type(a, b)
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ImageError(
            f"the two images must have one shape, (H, W) or (H, W, C), got {a.shape} and {b.shape}; crop or resize one."
        )
    if border < 0 or min(a.shape[:2]) <= 2 * border:
        raise ImageError(f"cannot crop {border} px on every side of an image of {a.shape[0]}×{a.shape[1]} px.")
    inner = (slice(border, a.shape[0] - border), slice(border, a.shape[1] - border))
    return a[inner].astype(np.float64), b[inner].astype(np.float64)


def _check_type(*images: object) -> None:
    for image in images:
        if not isinstance(image, np.ndarray):
            raise ImageError(
                f"a metric needs NumPy arrays (H, W) or (H, W, C), got {type(image).__name__}; convert it "
                "(tensor.permute(1, 2, 0).numpy())."
            )


def psnr(a: NDArray[Any], b: NDArray[Any], *, data_range: float, border: int = 0) -> float:
    """Peak signal-to-noise ratio, 10·log10(data_range² / MSE), over all channels.

    Args:
        a: Image, (H, W) or (H, W, C), any type.
        b: Image like `a`.
        data_range: Peak value: 1 for floats in [0, 1], 255 for 8 bits. It is never guessed from the data.
        border: Pixels cropped on every side.

    Returns:
        dB; infinity for identical images.

    Raises:
        ImageError: The shapes differ, `border` leaves nothing, or `data_range` is not positive.
    """
    if not data_range > 0:
        raise ImageError(f"data_range must be positive, got {data_range}.")
    first, second = _pair(a, b, border)
    error = float(np.mean((first - second) ** 2))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def rgb_to_y(image: NDArray[Any]) -> NDArray[np.float64]:
    """MATLAB's luma, Y = 16 + 65.481 R + 128.553 G + 24.966 B.

    Args:
        image: (H, W, 3) RGB, or grey (H, W) or (H, W, 1), which is R = G = B; floats in [0, 1] or integers.

    Returns:
        (H, W), 16 … 235, not rounded. Full-range luma would read 1.32 dB lower in PSNR.

    Raises:
        ImageError: The shape is another one.
    """
    values = image.astype(np.float64)
    if image.dtype.kind in "iu":
        values = values / np.iinfo(image.dtype).max
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        return 16 + sum(_LUMA) * values
    if values.ndim != 3 or values.shape[2] != 3:
        raise ImageError(f"luma needs (H, W, 3) or grey (H, W), got shape {image.shape}; drop alpha and extra bands.")
    return np.asarray(16 + values @ np.array(_LUMA), dtype=np.float64)


def _luma_of(image: NDArray[Any]) -> NDArray[np.float64]:
    """Luma of an image as 8 bits show it. Restored floats overshoot [0, 1] a little; others have another range."""
    _check_type(image)
    if image.dtype.kind == "f" and image.size and not -1 <= float(image.min()) <= float(image.max()) <= _MAX_OVERSHOT:
        raise ImageError(
            f"floats must be in [0, 1], got {float(image.min()):.6g} to {float(image.max()):.6g}; divide by the value "
            "of white (255 for 8 bits)."
        )
    return rgb_to_y(to_uint8(image))


def psnr_y(sr: NDArray[Any], hr: NDArray[Any], *, border: int) -> float:
    """PSNR on luma as the super-resolution literature reports it: 8-bit images, MATLAB's luma, peak 255.

    Args:
        sr: SR image, (H, W, 3) or grey; floats in [0, 1] and integers of other types are rounded to 8 bits first.
        hr: Ground truth, like `sr`.
        border: Pixels cropped on every side; the literature uses the scale.

    Returns:
        dB; infinity for identical images.

    Raises:
        ImageError: The sizes differ, luma is not defined for these channels, or floats are far beyond [0, 1].
    """
    return psnr(_luma_of(sr), _luma_of(hr), data_range=255.0, border=border)


def ssim_y(sr: NDArray[Any], hr: NDArray[Any], *, border: int) -> float:
    """SSIM on luma as the super-resolution literature reports it: Gaussian 11×11 window, σ 1.5, K₁ 0.01, K₂ 0.03.

    Args:
        sr: SR image, as in `psnr_y`.
        hr: Ground truth, like `sr`.
        border: Pixels cropped on every side; the literature uses the scale.

    Returns:
        Mean structural similarity, at most 1.

    Raises:
        ImageError: The sizes differ, or fewer than 11×11 px remain.

    References:
        Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004.
    """
    from skimage.metrics import structural_similarity

    first, second = _pair(_luma_of(sr), _luma_of(hr), border)
    if min(first.shape) < _SSIM_WINDOW:
        raise ImageError(
            f"SSIM needs 11×11 px after cropping the border, got {first.shape[0]}×{first.shape[1]}; use a larger image."
        )
    options = {"gaussian_weights": True, "sigma": 1.5, "K1": 0.01, "K2": 0.03, "use_sample_covariance": False}
    return float(structural_similarity(first, second, data_range=255.0, **options))  # type: ignore[no-untyped-call]
