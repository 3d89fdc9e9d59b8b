"""Kernel estimation without a formula for the kernel: camera shake and defocus, by a sparse sharp image."""

from blindsr.l0.config import L0Config
from blindsr.l0.estimator import estimate_kernel

__all__ = ["L0Config", "estimate_kernel"]
