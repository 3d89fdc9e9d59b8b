"""Kernel estimation from the fall-off of the image's spectrum: a Gaussian, or a disc of defocus."""

from blindsr.estimators.spectral.estimator import SpectralConfig, SpectralEstimator, estimate_kernel

__all__ = ["SpectralConfig", "SpectralEstimator", "estimate_kernel"]
