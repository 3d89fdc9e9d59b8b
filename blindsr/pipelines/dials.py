"""The dials by which a user changes a result and not what is measured: kernel width, strength, denoise, halo."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from blindsr.kernels import Kernel, dilate
from blindsr.kernels.kernel import AnyKernel
from blindsr.ops import degrade, imresize
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.geometry import local_maximum
from blindsr.ops.resize import INTERPOLATION_RADIUS, imresize_rows
from blindsr.pipelines import deblur
from blindsr.pipelines.letterbox import ContentArea
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation, TiledModel

__all__ = ["RowDials", "used_kernel", "with_grain"]

_NEIGHBOURHOOD = 3  # side of the square of LR pixels whose range limits overshoot


def used_kernel(kernel: AnyKernel, settings: Settings) -> AnyKernel:
    """The kernel that is run of one that was measured or given: with the width of the dial, and for ×2 at scale 1."""
    if settings.scale != 1 and settings.kernel_width == 1:
        return kernel

    def used(part: Kernel) -> Kernel:
        if settings.scale == 1:
            return deblur.for_run(part, settings.kernel_width)
        return dilate(part, settings.kernel_width)

    return kernel.each(used)


def with_grain(model: TiledModel, degradation: Degradation, settings: Settings) -> TiledModel:
    """A model whose results keep a share of the noise: x + (1 − d)·B(y − (x ⋆ k)↓s), B bicubic interpolation.

    What a result x does not explain of the photograph y is the noise that was removed, and what was taken for noise.
    Interpolated, it has the size and the look that it has in the photograph. Conditioning the upscaler on less noise is
    no alternative: noise that its conditioning lacks is sharpened as detail, to several times its size, and half of the
    noise level still removes nearly all of it (docs/dials.md).

    Args:
        model: Fitted to the photograph.
        degradation: What the model was fitted for. Planes in which no noise was measured are left unchanged.
        settings: With the dial `denoise`, d.

    Returns:
        The model itself where all noise is removed, or none was measured.
    """
    kept = 0.0 if settings.denoise == "auto" else 1.0 - settings.denoise
    if kept == 0 or max(degradation.noise_sigma) == 0:
        return model
    kernel = model.kernel or degradation.kernel

    def grained(predict: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def predict_with_grain(window: Tensor) -> Tensor:
            sr = predict(window)
            has_colors = degradation.has_colors
            planes = to_planes(window - degrade(sr, kernel.tensor(sr), kernel.scale), has_colors=has_colors)
            noisy = [float(degradation.plane_sigma(number) > 0) for number in range(len(planes))]
            removed = from_planes(planes * planes.new_tensor(noisy).reshape(-1, 1, 1, 1), has_colors=has_colors)
            return (sr + kept * imresize(removed, kernel.scale)).clamp(0, 1)

        return predict_with_grain

    width = math.ceil(kernel.size / (2 * kernel.scale)) + math.ceil(INTERPOLATION_RADIUS["bicubic"] + 0.5)
    return replace(
        model,
        predict=grained(model.predict),
        retry=None if model.retry is None else grained(model.retry),
        halo=lambda: model.halo() + width,
    )


class RowDials:
    """Applies halo and strength to the rows of a finished result, from top to bottom.

    Args:
        content: The photograph without letterbox bars, in the range in which it was upscaled.
        settings: With the dial `halo`.
        size: Height and width of the result, with bars.
        strengths: Shares of the result, one, or one for each band.
    """

    def __init__(
        self, content: ContentArea, settings: Settings, size: tuple[int, int], strengths: tuple[float, ...] = (1.0,)
    ) -> None:
        self._source, self._place, self._top = content, content.place(size), 0
        self._size = content.shape[1:]
        self._strength = torch.tensor(strengths, dtype=torch.float32).reshape(1, -1, 1, 1)
        self._overshoot = 1.0 if settings.halo == "auto" else settings.halo

    def __call__(self, rows: Tensor) -> Tensor:
        """The next rows, (1, C, rows, W), [0, 1], with the dials applied; the same rows where both are 1."""
        top, self._top = self._top, self._top + rows.shape[-2]
        if self._overshoot < 1:
            limited = torch.minimum(torch.maximum(rows, self._range(top, -1)), self._range(top, 1))
            rows = torch.lerp(limited, rows, self._overshoot)
        if bool((self._strength < 1).any()):
            interpolated = self._resized(self._rows, top)
            rows = torch.lerp(interpolated.clamp(0, 1), rows, self._strength)
        return rows

    def _rows(self, first: int, last: int) -> Tensor:
        """Rows of the photograph."""
        return self._source.window(slice(first, last), slice(0, self._size[1])).cpu()

    def _range(self, top: int, sign: int) -> Tensor:
        """The maximum (sign 1) or minimum (−1) around each pixel, interpolated linearly between LR pixels."""
        border = _NEIGHBOURHOOD // 2

        def rows(first: int, last: int) -> Tensor:
            outer = max(0, first - border)
            extremes = local_maximum(sign * self._rows(outer, min(self._size[0], last + border)), _NEIGHBOURHOOD)
            return sign * extremes[..., first - outer : last - outer, :]

        return self._resized(rows, top, "bilinear")

    def _resized(
        self, rows: Callable[[int, int], Tensor], top: int, method: Literal["bicubic", "bilinear"] = "bicubic"
    ) -> Tensor:
        """Rows from `top` on, interpolated from those of the photograph."""
        size, scale, offset = self._place
        return imresize_rows(rows, self._size, size, top, self._top, method=method, scale=scale, offset=offset)
