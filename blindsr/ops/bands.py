"""Which bands belong together: the colours of one picture, or images of different things in one file."""

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.ops.noise import estimate_noise

__all__ = ["are_colors", "detailed_bands"]

# Three bands are not the colours of one picture where the details of one are weaker than this share of those of
# another, or have a lower correlation with them: one of 98 photographs.
_WEAK, _MIN_CORRELATION = 0.25, 0.1
_CLEAR = 0.5  # energy of details over that of the noise in them, below which a correlation says nothing
_CLIPPED, _MAX_CLIPPED = 1.5 / 255, 0.05  # distance from black or white, and the share of the pixels that may have it
_ROUNDING = 0.3 / 255  # standard deviation of details that are nothing but rounding to 8 bits, or less
_FINE, _COARSE = 3, 7  # px; details are what a mean over the one has and a mean over the other has not
_NOISE_SIDE = 32  # px, the least side of an image whose noise can be measured


def are_colors(parts: Tensor) -> bool:
    """Whether the bands of an image are the colours of one picture, so that their details are much the same.

    The stains of a fluorescence microscope, the dates of a radar composite and a band of far lower contrast are not:
    processed as luma and chroma, details of one of them would end in the others.

    Args:
        parts: Parts of the image, or all of it, (N, C, H, W), [0, 1].

    Returns:
        False for any other number of bands than three. The noise of the bands is not counted as detail.
    """
    if parts.shape[1] != 3:
        return False
    if min(parts.shape[-2:]) < _COARSE:
        return True
    covariance = _covariance_of_details(parts)
    is_cut = _clipped_share(parts) > _MAX_CLIPPED
    if _have_common_details(covariance, torch.zeros_like(covariance[0]), is_cut):
        return True
    if min(parts.shape[-2:]) < _NOISE_SIDE:
        return False
    sigmas = [estimate_noise(band.contiguous()) for band in torch.split(parts, 1, 1)]
    noise = torch.tensor(sigmas, dtype=covariance.dtype).square() * (1 / _FINE**2 - 1 / _COARSE**2)
    return _have_common_details(covariance, noise, is_cut)


def detailed_bands(image: Tensor) -> Tensor:
    """The one band that has details where the two others have none, (1, 1, H, W), or the whole image, (1, C, H, W)."""
    if image.shape[1] != 3:
        return image
    has_details = image[0].std((1, 2), correction=0) > _ROUNDING
    return image[:, has_details] if int(has_details.sum()) == 1 else image


def _covariance_of_details(parts: Tensor) -> Tensor:
    """Covariance of the details of the bands of (N, C, H, W), float64, (C, C), on the CPU."""
    border = (_COARSE - _FINE) // 2
    fine = functional.avg_pool2d(parts, _FINE, 1)[..., border:-border, border:-border]
    details = (fine - functional.avg_pool2d(parts, _COARSE, 1)).transpose(0, 1).flatten(1).double()
    return (details @ details.T / details.shape[1]).cpu()


def _clipped_share(parts: Tensor) -> Tensor:
    """Share of the pixels of each band, (C,), that are black or white."""
    return ((parts <= _CLIPPED) | (parts >= 1 - _CLIPPED)).double().mean((0, 2, 3)).cpu()


def _have_common_details(covariance: Tensor, noise: Tensor, is_cut: Tensor) -> bool:
    """Whether three bands share their details.

    Args:
        covariance: That of the details of the bands, (3, 3).
        noise: Variance of the noise in them, (3,).
        is_cut: Bands that have lost details to black or white, as in saturated colours; such a one may be weak.
    """
    energy = covariance.diagonal().clamp_min(_ROUNDING**2)
    is_weak = (energy < _WEAK**2 * energy.max()) & ~(is_cut & (energy > _ROUNDING**2))
    if bool(is_weak.any()):
        return False
    own = covariance.diagonal() - noise
    clear = [band for band in range(3) if own[band] > max(_CLEAR * float(noise[band]), _ROUNDING**2)]
    return all(
        float(covariance[a, b]) >= _MIN_CORRELATION * float((own[a] * own[b]).sqrt()) for a, b in combinations(clear, 2)
    )
