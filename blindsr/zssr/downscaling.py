"""Downscaling a father by any real factor per axis, with the kernel that belongs to that factor."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.ops import degrade, imresize

__all__ = ["Downscale", "downscaler"]

Downscale = Callable[[Tensor], Tensor]
Factors = tuple[float, float]


def is_bicubic(kernel: Kernel) -> bool:
    """Whether a kernel is MATLAB's bicubic one."""
    ideal = bicubic(kernel.scale)
    return ideal.size == kernel.size and bool(np.allclose(ideal.array, kernel.array, atol=1e-6))


def downscaler(kernel: Kernel, factors: Factors) -> Downscale:
    """A function that takes an image to one smaller by `factors`, (vertical, horizontal), each 1 or more.

    The kernel itself is used for its own scale, `imresize` for a bicubic kernel at any factor. For any other
    factor f of another kernel, a Gaussian of the covariance that the scale law gives per axis,
    D·Σ·D with D = √((f² − 1)/(s² − 1)), and then interpolation at the LR pixels' centres.
    """
    scale = kernel.scale
    if factors == (scale, scale):

        def by_kernel(father: Tensor) -> Tensor:
            return degrade(father, kernel.tensor(father), scale)

        return by_kernel
    bicubic_kernel = is_bicubic(kernel)
    stretch = np.sqrt((np.square(factors) - 1) / (scale**2 - 1))
    covariance = kernel.covariance * np.outer(stretch, stretch) + 1e-3 * np.eye(2)
    blur = gaussian(covariance, 1)

    def by_law(father: Tensor) -> Tensor:
        height, width = father.shape[-2:]
        size = (max(1, round(height / factors[0])), max(1, round(width / factors[1])))
        scales = (1 / factors[0], 1 / factors[1])
        if bicubic_kernel:
            return imresize(father, scales, size=size)
        return imresize(degrade(father, blur.tensor(father), 1), scales, size=size, antialias=False)

    return by_law
