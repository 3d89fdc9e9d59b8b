"""Interpolation as an upscaler: the baselines of every table."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.ops import imresize
from blindsr.ops.resize import INTERPOLATION_RADIUS, Interpolation
from blindsr.ops.windows import Source
from blindsr.upscalers.base import Degradation, TiledModel

__all__ = ["BicubicUpscaler", "BilinearUpscaler", "LanczosUpscaler", "NearestUpscaler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolationConfig:
    """Interpolation has no settings."""


class _Interpolation:
    """What the four filters share: pixel i of the LR image stays centred at s·i + (s − 1)/2 of the result."""

    name: ClassVar[Interpolation]
    config_type: ClassVar[type] = InterpolationConfig
    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 6, 8)
    needs_whole_image: ClassVar[bool] = False
    uses_kernel: ClassVar[bool] = False
    removes_noise: ClassVar[bool] = False
    only_interpolates: ClassVar[bool] = True

    def __init__(self, config: InterpolationConfig | None = None) -> None:
        self.config = InterpolationConfig() if config is None else config

    @staticmethod
    def min_side(scale: int) -> int:
        """Any image will do."""
        return 1

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Return the interpolation as a model; nothing is fitted."""
        scale, name = degradation.scale, self.name
        listener(StageStarted(stage=name, max_steps=0))
        listener(StageDone(stage=name, steps=0))

        def predict(window: Tensor) -> Tensor:
            return imresize(window, scale, method=name).clamp(0, 1)

        # Of an enlarged pixel, the centre lies less than half an LR pixel off that of its own LR pixel.
        return TiledModel(scale=scale, predict=predict, halo=lambda: math.ceil(INTERPOLATION_RADIUS[name] + 0.5))


class BicubicUpscaler(_Interpolation):
    """Bicubic interpolation (MATLAB's imresize, a = −0.5); ignores the kernel."""

    name: ClassVar[Interpolation] = "bicubic"


class NearestUpscaler(_Interpolation):
    """Repetition of pixels (nearest neighbour); ignores the kernel."""

    name: ClassVar[Interpolation] = "nearest"


class BilinearUpscaler(_Interpolation):
    """Bilinear interpolation; ignores the kernel."""

    name: ClassVar[Interpolation] = "bilinear"


class LanczosUpscaler(_Interpolation):
    """Lanczos interpolation (three lobes); ignores the kernel."""

    name: ClassVar[Interpolation] = "lanczos"
