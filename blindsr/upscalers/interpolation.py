"""Interpolation as an upscaler: the baseline of every table."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.ops import imresize
from blindsr.ops.windows import Source
from blindsr.upscalers.base import Degradation, TiledModel

__all__ = ["BicubicUpscaler"]

_SUPPORT = 4  # LR pixels on either side of a sample that bicubic interpolation depends on, rounded up


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolationConfig:
    """Bicubic interpolation has no settings."""


class BicubicUpscaler:
    """Bicubic interpolation (MATLAB's imresize, a = −0.5); ignores the kernel."""

    name: ClassVar[str] = "bicubic"
    config_type: ClassVar[type] = InterpolationConfig
    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 6, 8)
    needs_whole_image: ClassVar[bool] = False

    def __init__(self, config: InterpolationConfig | None = None) -> None:
        self.config = InterpolationConfig() if config is None else config

    @staticmethod
    def min_side(scale: int) -> int:
        """Any image will do."""
        return 1

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Return the interpolation as a model; nothing is fitted."""
        scale = degradation.scale
        listener(StageStarted(stage=self.name, max_steps=0))
        listener(StageDone(stage=self.name, steps=0))

        def predict(window: Tensor) -> Tensor:
            return imresize(window, scale).clamp(0, 1)

        return TiledModel(scale=scale, predict=predict, halo=lambda: _SUPPORT)
