"""Downscaling kernels: one value, formulas, arithmetic, files, pictures. NumPy only; torch is not imported here."""

from blindsr.kernels.estimate import KernelEstimate
from blindsr.kernels.families import bicubic, box, gaussian
from blindsr.kernels.kernel import Kernel
from blindsr.kernels.transform import (
    centre,
    compose,
    fit,
    flip,
    normalised_cross_correlation,
    resample,
    shift,
)

__all__ = [
    "Kernel",
    "KernelEstimate",
    "bicubic",
    "box",
    "centre",
    "compose",
    "fit",
    "flip",
    "gaussian",
    "normalised_cross_correlation",
    "resample",
    "shift",
]
