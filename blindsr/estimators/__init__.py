"""Kernel estimators: from a photograph to the downscaling kernel that made it."""

from blindsr.estimators.base import KernelEstimator

__all__ = ["KernelEstimator"]
