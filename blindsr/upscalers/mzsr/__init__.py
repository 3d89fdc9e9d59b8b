"""MZSR: zero-shot super-resolution from a meta-trained start, by one to ten gradient steps on the image itself.

Soh, Cho, Cho, "Meta-Transfer Learning for Zero-Shot Super-Resolution", CVPR 2020, arXiv:2002.12213. Departures from the
paper are listed in docs/method/methods-of-the-field.md.
"""

from blindsr.upscalers.mzsr.upscaler import MZSRConfig, MZSRNetwork, MZSRUpscaler

__all__ = ["MZSRConfig", "MZSRNetwork", "MZSRUpscaler"]
