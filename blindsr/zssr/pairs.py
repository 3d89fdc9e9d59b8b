"""Training pairs of ZSSR (§3): random crops of augmented fathers, and the downscaling that makes sons of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernels import Kernel, gaussian, is_bicubic
from blindsr.ops import degrade, dihedral, imresize
from blindsr.zssr.config import ZSSRConfig

__all__ = ["Downscale", "Factors", "FatherCrops", "downscaler"]

Downscale = Callable[[Tensor], Tensor]
Factors = tuple[float, float]  # (vertical, horizontal)


@dataclass(frozen=True)
class _Warp:
    """The affine map of an augmented father: scale and shear of the axes, (y, x)."""

    scale: tuple[float, float] = (1.0, 1.0)
    shear: tuple[float, float] = (0.0, 0.0)


class FatherCrops:
    """Random crops of random fathers: scaled, sheared, mirrored and rotated in one resampling (§3).

    Args:
        fathers: Images (1, C, H, W): the input, and with gradual scales the results of the steps so far.
        config: Probabilities and standard deviations of the augmentation.
        generator: Source of all random numbers, on the CPU.
    """

    def __init__(self, fathers: list[Tensor], config: ZSSRConfig, generator: torch.Generator) -> None:
        self.fathers = fathers
        self.config = config
        self.generator = generator

    def draw(self, side: int) -> Tensor:
        """One crop (1, C, side, side), smaller where its father is."""
        father = self.fathers[self._integer(len(self.fathers))]
        is_plain = self._uniform() < self.config.leave_as_is
        warp = _Warp() if is_plain else self._warp()
        height, width = (min(side, length) for length in father.shape[-2:])
        crop = self._cut(father, height, width) if warp == _Warp() else self._resample(father, height, width, warp)
        return crop if is_plain else dihedral(crop, self._view())

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self.generator))

    def _normal(self) -> float:
        return float(torch.randn(1, generator=self.generator))

    def _integer(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self.generator))

    def _warp(self) -> _Warp:
        config = self.config
        if self._uniform() < config.leave_as_is + config.no_interpolation:
            return _Warp()
        # Folded at 1: a father larger than the image would be blurred by interpolation, not by the camera.
        scale = min(1.0, max(config.min_father_scale, 1.0 - abs(config.father_scale_sigma * self._normal())))
        return _Warp((scale, scale), (config.shear_sigma * self._normal(), config.shear_sigma * self._normal()))

    def _view(self) -> int:
        """A random rotation and reflection, as numbered by `blindsr.ops.dihedral`."""
        turn = self._integer(4) if self.config.rotate else 0
        mirrored = self.config.mirror and self._integer(2) == 1
        # A reflection top to bottom is one left to right, rotated by 180°.
        upside_down = self.config.mirror and not self.config.rotate and self._integer(2) == 1
        if upside_down:
            return 2 + (0 if mirrored else 4)
        return turn + (4 if mirrored else 0)

    def _cut(self, father: Tensor, height: int, width: int) -> Tensor:
        top = self._integer(father.shape[-2] - height + 1)
        left = self._integer(father.shape[-1] - width + 1)
        return father[..., top : top + height, left : left + width]

    def _resample(self, father: Tensor, height: int, width: int, warp: _Warp) -> Tensor:
        """Bicubic interpolation on a sheared grid that covers height/scale × width/scale pixels of the father."""
        father_height, father_width = father.shape[-2:]
        # A father that is no larger than the crop cannot be shrunk and still fill it: it is only sheared.
        scale_y = max(warp.scale[0], height / father_height)
        scale_x = max(warp.scale[1], width / father_width)
        y = (torch.arange(height, dtype=torch.float32) - (height - 1) / 2) / scale_y
        x = (torch.arange(width, dtype=torch.float32) - (width - 1) / 2) / scale_x
        rows = y[:, None] + warp.shear[0] * x[None, :]
        columns = x[None, :] + warp.shear[1] * y[:, None]
        half_height = (height / scale_y + abs(warp.shear[0]) * width / scale_x) / 2
        half_width = (width / scale_x + abs(warp.shear[1]) * height / scale_y) / 2
        rows = rows + self._centre(father_height, half_height)
        columns = columns + self._centre(father_width, half_width)
        grid = torch.stack([(2 * columns + 1) / father_width - 1, (2 * rows + 1) / father_height - 1], -1)[None]
        return functional.grid_sample(
            father, grid.to(father), mode="bicubic", padding_mode="reflection", align_corners=False
        )

    def _centre(self, length: int, half: float) -> float:
        """Random position of the crop's centre along an axis, such that it lies inside the father if it fits."""
        slack = max(0.0, length - 2 * math.ceil(half))
        return (length - 1) / 2 + slack * (self._uniform() - 0.5)


def downscaler(kernel: Kernel, factors: Factors) -> Downscale:
    """A function that downscales an image by any real factors, with the kernel that belongs to them.

    The kernel itself is used for its own scale, `imresize` for a bicubic kernel at any factor. For any other factor f
    of another kernel, a Gaussian whose covariance follows the scale law along each axis, D·Σ·D with
    D = √((f² − 1)/(s² − 1)), is followed by interpolation at the centres of the LR pixels.

    Args:
        kernel: Downscaling kernel for the scale s.
        factors: Each 1 or more.
    """
    scale = kernel.scale
    if factors == (scale, scale):
        return lambda father: degrade(father, kernel.tensor(father), scale)
    bicubic_kernel = is_bicubic(kernel)
    stretch = np.sqrt((np.square(factors) - 1) / (scale**2 - 1))
    covariance = kernel.covariance * np.outer(stretch, stretch) + 1e-3 * np.eye(2)
    blur = gaussian(covariance, 1)

    def by_scale_law(father: Tensor) -> Tensor:
        height, width = father.shape[-2:]
        size = (max(1, round(height / factors[0])), max(1, round(width / factors[1])))
        scales = (1 / factors[0], 1 / factors[1])
        if bicubic_kernel:
            return imresize(father, scales, size=size)
        return imresize(degrade(father, blur.tensor(father), 1), scales, size=size, antialias=False)

    return by_scale_law
