"""Degradations with known truth: laws that draw kernels, noise, and both applied to a sharp image."""

from blindsr.simulation.degradation import Degradation, degrade_image, kernel_for
from blindsr.simulation.laws import LAWS, Law, Phase, draw_kernel

__all__ = ["LAWS", "Degradation", "Law", "Phase", "degrade_image", "draw_kernel", "kernel_for"]
