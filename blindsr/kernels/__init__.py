"""Downscaling kernels: values, formulas, random laws, arithmetic, metrics, files and plots; without torch."""

from blindsr.kernels.analytic import (
    bicubic,
    bicubic_in_place_of,
    box,
    defocus,
    gaussian,
    is_bicubic,
    motion,
    parse_kernel,
)
from blindsr.kernels.conventions import Convention, detect, from_convention, to_convention
from blindsr.kernels.files import as_kernel, kernel_bytes, load_kernel, read_kernel
from blindsr.kernels.kernel import Kernel, KernelEstimate, KernelMap, KernelStack
from blindsr.kernels.metrics import SplitHalf, compare, covariance_error, describe, normalised_cross_correlation
from blindsr.kernels.plot import kernel_plot_png, map_plot_png, stack_plot_png
from blindsr.kernels.random import Law, draw_kernel
from blindsr.kernels.transform import centre, compose, dilate, fit, flip, resample, shift

__all__ = [
    "Convention",
    "Kernel",
    "KernelEstimate",
    "KernelMap",
    "KernelStack",
    "Law",
    "SplitHalf",
    "as_kernel",
    "bicubic",
    "bicubic_in_place_of",
    "box",
    "centre",
    "compare",
    "compose",
    "covariance_error",
    "defocus",
    "describe",
    "detect",
    "dilate",
    "draw_kernel",
    "fit",
    "flip",
    "from_convention",
    "gaussian",
    "is_bicubic",
    "kernel_bytes",
    "kernel_plot_png",
    "load_kernel",
    "map_plot_png",
    "motion",
    "normalised_cross_correlation",
    "parse_kernel",
    "read_kernel",
    "resample",
    "shift",
    "stack_plot_png",
    "to_convention",
]
