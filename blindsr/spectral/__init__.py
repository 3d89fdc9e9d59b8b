"""Kernel estimation from the fall of the image's spectrum: a Gaussian in a second."""

from blindsr.spectral.config import SpectralConfig
from blindsr.spectral.estimator import estimate_kernel

__all__ = ["SpectralConfig", "estimate_kernel"]
