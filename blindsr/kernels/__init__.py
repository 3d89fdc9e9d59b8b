"""Downscaling kernels: one value, formulas, arithmetic, files, pictures; without torch."""

from blindsr.kernels.bands import BandKernels
from blindsr.kernels.conventions import Convention, detect, from_convention, to_convention
from blindsr.kernels.estimate import KernelEstimate
from blindsr.kernels.families import bicubic, box, gaussian
from blindsr.kernels.figures import compare, describe
from blindsr.kernels.files import kernel_bytes, read_kernel, read_kernels
from blindsr.kernels.kernel import Kernel
from blindsr.kernels.picture import kernel_picture
from blindsr.kernels.shapes import defocus, motion
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
    "BandKernels",
    "Convention",
    "Kernel",
    "KernelEstimate",
    "bicubic",
    "box",
    "centre",
    "compare",
    "compose",
    "defocus",
    "describe",
    "detect",
    "fit",
    "flip",
    "from_convention",
    "gaussian",
    "kernel_bytes",
    "kernel_picture",
    "motion",
    "normalised_cross_correlation",
    "read_kernel",
    "read_kernels",
    "resample",
    "shift",
    "to_convention",
]
