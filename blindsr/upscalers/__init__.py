"""Upscalers: from a photograph and its measured degradation to a super-resolved image."""

from blindsr.upscalers.base import Degradation, TiledModel, Upscaler

__all__ = ["Degradation", "TiledModel", "Upscaler"]
