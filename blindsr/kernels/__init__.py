"""Downscaling kernels: one value, formulas, arithmetic, files, pictures; without torch."""

from blindsr.kernels.conventions import Convention, detect, from_convention, to_convention
from blindsr.kernels.estimate import KernelEstimate
from blindsr.kernels.families import bicubic, box, gaussian
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.kernels.kernel import Kernel
from blindsr.kernels.picture import kernel_picture
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
    "Convention",
    "Kernel",
    "KernelEstimate",
    "bicubic",
    "box",
    "centre",
    "compose",
    "detect",
    "fit",
    "flip",
    "from_convention",
    "gaussian",
    "kernel_bytes",
    "kernel_picture",
    "normalised_cross_correlation",
    "read_kernel",
    "resample",
    "shift",
    "to_convention",
]
