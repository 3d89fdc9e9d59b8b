"""The paper's random fathers: scaled, sheared, mirrored and turned crops of the image, cut in one resampling."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.ops import dihedral
from blindsr.zssr.config import PaperZSSRConfig

__all__ = ["FatherCrops"]


@dataclass(frozen=True)
class _Warp:
    """How a crop looks at the image: scale and shear of the axes, (y, x)."""

    scale: tuple[float, float]
    shear: tuple[float, float]

    @property
    def is_identity(self) -> bool:
        return self.scale == (1.0, 1.0) and self.shear == (0.0, 0.0)


class FatherCrops:
    """Random crops of random fathers (Shocher et al., CVPR 2018, §3).

    Args:
        fathers: Images (1, C, H, W): the input, and in gradual runs the results so far.
        config: Probabilities and spreads of the augmentation.
        generator: Source of everything random, on the CPU.
    """

    def __init__(self, fathers: list[Tensor], config: PaperZSSRConfig, generator: torch.Generator) -> None:
        self.fathers = fathers
        self.config = config
        self.generator = generator

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self.generator))

    def _normal(self) -> float:
        return float(torch.randn(1, generator=self.generator))

    def _integer(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self.generator))

    def _warp(self) -> _Warp:
        config = self.config
        if self._uniform() < config.leave_as_is + config.no_interpolation:
            return _Warp((1.0, 1.0), (0.0, 0.0))

        def scale() -> float:
            # Folded at 1: a father larger than the image would be blurred by interpolation, not by the camera.
            value = 1.0 - abs(config.father_scale_sigma * self._normal())
            return min(1.0, max(config.min_father_scale, value))

        common = scale()
        return _Warp((common, common), (config.shear_sigma * self._normal(), config.shear_sigma * self._normal()))

    def _view(self, left_as_is: bool) -> int:
        if left_as_is:
            return 0
        turn = self._integer(4) if self.config.rotate else 0
        mirrored = self.config.mirror and self._integer(2) == 1
        # A mirror image top to bottom is a left-right one turned by 180°.
        flip_down = self.config.mirror and not self.config.rotate and self._integer(2) == 1
        if flip_down:
            return 2 + (0 if mirrored else 4)
        return turn + (4 if mirrored else 0)

    def draw(self, side: int) -> Tensor:
        """One crop (1, C, side, side), smaller where its father is."""
        father = self.fathers[self._integer(len(self.fathers))]
        left_as_is = self._uniform() < self.config.leave_as_is
        warp = _Warp((1.0, 1.0), (0.0, 0.0)) if left_as_is else self._warp()
        height, width = (min(side, length) for length in father.shape[-2:])
        crop = self._cut(father, height, width) if warp.is_identity else self._resample(father, height, width, warp)
        return dihedral(crop, self._view(left_as_is))

    def _cut(self, father: Tensor, height: int, width: int) -> Tensor:
        top = self._integer(father.shape[-2] - height + 1)
        left = self._integer(father.shape[-1] - width + 1)
        return father[..., top : top + height, left : left + width]

    def _resample(self, father: Tensor, height: int, width: int, warp: _Warp) -> Tensor:
        """Bicubic look-up of a sheared parallelogram that covers height/scale × width/scale pixels of the father."""
        long_y, long_x = father.shape[-2:]
        # A father that is itself no larger than the crop cannot be shrunk and still fill it: it is only sheared.
        scale_y = max(warp.scale[0], height / long_y)
        scale_x = max(warp.scale[1], width / long_x)
        y = (torch.arange(height, dtype=torch.float32) - (height - 1) / 2) / scale_y
        x = (torch.arange(width, dtype=torch.float32) - (width - 1) / 2) / scale_x
        rows = y[:, None] + warp.shear[0] * x[None, :]
        columns = x[None, :] + warp.shear[1] * y[:, None]
        reach_y = (height / scale_y + abs(warp.shear[0]) * width / scale_x) / 2
        reach_x = (width / scale_x + abs(warp.shear[1]) * height / scale_y) / 2
        rows = rows + self._centre(long_y, reach_y)
        columns = columns + self._centre(long_x, reach_x)
        grid = torch.stack([(2 * columns + 1) / long_x - 1, (2 * rows + 1) / long_y - 1], -1)[None]
        return functional.grid_sample(
            father, grid.to(father), mode="bicubic", padding_mode="reflection", align_corners=False
        )

    def _centre(self, length: int, reach: float) -> float:
        """Where along an axis the crop's middle lies, inside the father wherever it fits."""
        room = max(0.0, length - 2 * math.ceil(reach))
        return (length - 1) / 2 + room * (self._uniform() - 0.5)
