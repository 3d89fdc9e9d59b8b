"""KernelGAN as published: the downscaling kernel of one image, estimated by an internal GAN on its own patches.

Bell-Kligler, Shocher, Irani, "Blind Super-Resolution Kernel Estimation using an Internal-GAN", NeurIPS 2019,
arXiv:1909.06581. Departures from the paper and from the authors' code are listed in docs/method/deviations.md.
"""

from blindsr.kernelgan.config import KernelGANConfig

__all__ = ["KernelGANConfig"]
