"""The spectral estimator: from the fall of the image's spectrum to a Gaussian kernel, in a second."""

import math
from dataclasses import asdict

from torch import Tensor

from blindsr.errors import ImageError
from blindsr.events import Listener, Notice, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
from blindsr.kernels.families import gaussian_size
from blindsr.kernels.halves import Halves, with_halves
from blindsr.ops import luma
from blindsr.spectral.config import SpectralConfig
from blindsr.spectral.disc import disc_kernel, fit_disc
from blindsr.spectral.fit import SpectrumFit, fit_spectrum, spectrum_points
from blindsr.spectral.periodogram import Periodogram, tile_spectra

__all__ = ["estimate_kernel"]

STAGE = "spectral"
# Side of the largest kernel in LR pixels. A wider blur leaves nothing above the noise to estimate it from.
WIDEST = 10


def _widest(scale: int) -> int:
    side = WIDEST * scale
    return side + (side - scale) % 2


def estimate_kernel(
    lr: Tensor, scale: int, config: SpectralConfig | None = None, *, listener: Listener = ignore
) -> KernelEstimate:
    """Fit a Gaussian kernel, or a disc of defocus, to the mean spectrum of an image's luma.

    The blur that the spectrum shows, Σ in LR px², is that of the whole way from the scene to the LR image. The
    downscaling kernel is that without HR's own blur: cov(k_s) = (s² − β)·Σ (docs/kernel-estimation.md).

    Args:
        lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
        scale: Factor from LR to HR: 2, 3 or 4.
        config: Settings; the defaults if None.
        listener: Takes the events of stage "spectral".

    Returns:
        A centred Gaussian kernel, or a disc where the spectrum has its rings. Of a flat image, the bicubic kernel with
        a note that says so. What random halves of the tiles tell is in its figures and in the kernel's provenance.

    Raises:
        ImageError: Not (1, C, H, W), or a side under 16 px.
    """
    config = SpectralConfig() if config is None else config
    if lr.ndim != 4 or lr.shape[0] != 1:
        raise ImageError(f"a kernel is estimated from one image (1, C, H, W), got shape {tuple(lr.shape)}.")
    listener(StageStarted(stage=STAGE))
    spectra = tile_spectra(luma(lr), config)
    periodogram = spectra.mean()
    if periodogram.tiles == 0:
        note = "the image is flat, it shows no blur to measure; the bicubic kernel is used."
        listener(Notice(stage=STAGE, message=note))
        listener(StageDone(stage=STAGE, steps=0, reason="flat image"))
        return KernelEstimate(kernel=bicubic(scale), method=STAGE, settings=asdict(config), notes=(note,))
    kernel, figures, fitted = _fitted(periodogram, scale, config)
    pairs = []
    for split in range(config.splits):
        if (halves := spectra.halves(config.seed + split)) is not None:
            one, two = (_fitted(spectra.mean(half), scale, config, fitted)[0] for half in halves)
            pairs.append((one, two))
    if pairs:
        found = Halves.measured(pairs)
        kernel, figures = with_halves(kernel, found), figures | found.figures
    listener(StageDone(stage=STAGE, steps=1))
    return KernelEstimate(kernel=kernel, method=STAGE, settings=asdict(config), figures=figures)


def _fitted(
    periodogram: Periodogram, scale: int, config: SpectralConfig, near: SpectrumFit | None = None
) -> tuple[Kernel, dict[str, float], SpectrumFit]:
    """The kernel that a mean periodogram shows, the figures and the fit; `near` is the fit of a similar one."""
    points = spectrum_points(periodogram, scale)
    fitted = fit_spectrum(points, config, None if near is None else near.parameters)
    figures = {
        "exponent": fitted.exponent,
        "noise": fitted.noise,
        "residual": fitted.residual,
        "tiles": float(periodogram.tiles),
    }
    disc = fit_disc(points, fitted, config) if config.discs else None
    if disc is not None and disc.explains(fitted):
        radius = {"disc_radius_lr": disc.radius, "disc_softness_lr": disc.softness, "disc_residual": disc.residual}
        return disc_kernel(disc, scale), figures | radius, fitted
    covariance = (scale**2 - config.own_blur) * fitted.covariance
    kernel = gaussian(covariance, scale, size=min(gaussian_size(covariance, scale), _widest(scale)))
    kernel = Kernel(kernel.array, scale, {"made_by": STAGE, "covariance_yx": covariance.round(6).tolist()})
    long = math.sqrt(kernel.sigmas[0] ** 2 / (scale**2 - config.own_blur))
    return kernel, figures | {"sigma_lr_long": long}, fitted
