"""Kernel estimation without a parametric model: camera shake and defocus, by blind deconvolution with an L0 prior."""

from blindsr.estimators.blind_l0.estimator import BlindL0Estimator, L0Config, estimate_kernel, independent_kernels

__all__ = ["BlindL0Estimator", "L0Config", "estimate_kernel", "independent_kernels"]
