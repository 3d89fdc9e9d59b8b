"""A picture file as an image that is asked for one window at a time."""

import numpy as np
import torch
from torch import Tensor

from blindsr.image_io import premultiply
from blindsr.image_io.strips import PhotoSource
from blindsr.ops.light import srgb_to_linear

__all__ = ["FileWindows"]


class FileWindows:
    """An open file as a `blindsr.zssr.source.Source`; colours premultiplied where the photograph has alpha.

    Args:
        opened: The file.
        device: Where the windows go.
        linear: Whether to decode the samples (sRGB) to light.
    """

    def __init__(self, opened: PhotoSource, device: torch.device, *, linear: bool = False) -> None:
        self._opened, self.device, self._linear = opened, device, linear
        width, height = opened.size
        self.shape = (opened.channels, height, width)

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w), float32, [0, 1]."""
        photo = self._opened.read(rows.start, rows.stop, columns.start, columns.stop)
        pixels = photo.pixels if photo.alpha is None else premultiply(photo.pixels, photo.alpha)
        window = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].to(self.device)
        return srgb_to_linear(window) if self._linear else window
