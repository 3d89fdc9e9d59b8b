"""Upscalers: from a photograph and its measured degradation to a super-resolved image."""

from blindsr.upscalers.base import Degradation, Halo, TiledModel, Upscaler

__all__ = ["Degradation", "Halo", "TiledModel", "Upscaler"]
