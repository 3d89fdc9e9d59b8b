"""KernelGAN: the downscaling kernel of one image, estimated from the image alone by an internal GAN."""

from blindsr.kernelgan.config import KernelGANConfig

__all__ = ["KernelGANConfig"]
