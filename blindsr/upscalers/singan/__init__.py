"""SinGAN's super-resolution: a pyramid of small GANs of one image, whose finest generator enlarges it step by step.

Rott Shaham, Dekel, Michaeli, "SinGAN: Learning a Generative Model from a Single Natural Image", ICCV 2019,
arXiv:1905.01164. Departures from the paper are listed in docs/method/methods-of-the-field.md.
"""

from blindsr.upscalers.singan.upscaler import SinGANConfig, SinGANUpscaler

__all__ = ["SinGANConfig", "SinGANUpscaler"]
