"""Alpha: the opacity of an image, one band, enlarged by the pretrained network with its own edges.

The kernel of the photograph is not used. Most alpha was drawn or computed for the pixels of the image, so that its
edges have no blur of a lens: sharpened as if they had, soft ones lose up to 28 dB. By the bicubic kernel they gain up
to 11 dB over interpolation, and none of the measured shapes loses, whatever it was blurred by.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.image_io import ImageSource
from blindsr.kernels import bicubic
from blindsr.ops.geometry import local_maximum
from blindsr.pipelines import blind
from blindsr.settings import Settings
from blindsr.upscalers.pretrained import PretrainedUpscaler
from blindsr.upscalers.tiling import tiled_rows

__all__ = ["AlphaSource", "alpha_rows"]

# LR pixels, side of a tile: smaller than those of colours, because many have no edge, for which nothing is computed.
_TILE = 256
_FLAT_AREA = 3  # LR pixels, side of the square that must be constant for the pixel in its middle to stay so
# LR pixels, side of the square whose range a result keeps. That of 3 px costs up to 1 dB, as thin strokes are fainter
# in the image than they are; without a limit, strokes of partly transparent letters overshoot by up to 90 grey levels.
_RANGE_AREA = 9


class AlphaSource:
    """The alpha channel of an image as a `Source` of one band; of an image that has any transparent pixel."""

    def __init__(self, image: ImageSource, device: torch.device) -> None:
        self._image, self.device = image, device
        self.shape = (1, *image.shape[1:])

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, 1, h, w), float32, [0, 1]."""
        alpha = self._image.window(rows, columns).alpha
        if alpha is None:
            raise RuntimeError("every window of a transparent image has alpha")
        return torch.from_numpy(alpha)[None, None].to(self.device)


def alpha_rows(
    image: ImageSource, settings: Settings, device: torch.device, tile: int | None = None
) -> Iterator[Tensor] | None:
    """The enlarged alpha of an image from top to bottom, (1, 1, rows, W) each, [0, 1], on the CPU.

    Args:
        image: The image.
        settings: For this image.
        device: On which the network runs.
        tile: Side of a tile of the colours, LR pixels, which fits into memory.

    Returns:
        None where interpolation serves better: without enlarging, which it then leaves as it is, and for methods that
        learn from the image, or are interpolation themselves.
    """
    upscaler = settings.create_upscaler()
    has_network = isinstance(upscaler, PretrainedUpscaler) and not upscaler.config.random_weights
    if not image.is_transparent or settings.scale == 1 or not has_network:
        return None
    return _rows(AlphaSource(image, device), settings, min(_TILE, tile or _TILE))


def _rows(source: AlphaSource, settings: Settings, tile: int) -> Iterator[Tensor]:
    _, height, width = source.shape
    scale = settings.run_scale
    plain = settings.without_dials.with_config(PretrainedUpscaler.name, steps=0, ensemble=1)
    fitted = blind.fit(source, replace(plain, noise_sigma=0.0, kernel_error=0.0), kernel=bicubic(scale))
    model = replace(
        fitted.model,
        predict=_limited(fitted.model.predict, scale),
        retry=_limited(fitted.model.retry or fitted.model.predict, scale),
    )
    size = settings.output_size(height, width)
    resizer = fitted.content.resizer(scale, size)
    inner = fitted.extended.inner_rows(tiled_rows(model, fitted.extended, tile=tile), scale)
    yield from fitted.content.with_letterbox((part for rows in inner for part in resizer.push(rows)), size)


def _limited(predict: Callable[[Tensor], Tensor], scale: int) -> Callable[[Tensor], Tensor]:
    """A prediction without overshoot, in which constant areas, opaque, transparent or between, stay exactly so."""

    def predict_limited(window: Tensor) -> Tensor:
        size = [scale * side for side in window.shape[-2:]]

        def enlarged(plane: Tensor) -> Tensor:
            return functional.interpolate(plane, size=size, mode="nearest")

        is_flat = local_maximum(window, _FLAT_AREA) == -local_maximum(-window, _FLAT_AREA)
        if bool(is_flat.all()):
            return enlarged(window)
        low, high = -local_maximum(-window, _RANGE_AREA), local_maximum(window, _RANGE_AREA)
        limited = torch.minimum(torch.maximum(predict(window), enlarged(low)), enlarged(high))
        return torch.where(enlarged(is_flat.float()) > 0, enlarged(window), limited)

    return predict_limited
