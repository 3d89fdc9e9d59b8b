"""What the page shows of a photograph and its result: an overview, a part of both at 100 %, a trial of a kernel.

Every image is (H, W, 1) or (H, W, 3), 8 bits; it is sent in the page, so that no file of it exists.
"""

import threading
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.api import SuperResolver
from blindsr.app.jobs import Outcome
from blindsr.image_io import FileSource, ImageSource, Photo, open_image, to_uint8
from blindsr.kernels import Kernel, dilate
from blindsr.ops import imresize, to_array, to_tensor
from blindsr.ops.resize import imresize_rows
from blindsr.ops.windows import most_textured, spread_windows
from blindsr.pipelines.degradation import LinearLight
from blindsr.pipelines.image import ColorSource
from blindsr.settings import Settings, preset

__all__ = ["OVERVIEW", "Comparison", "Place", "Viewer"]

OVERVIEW = 640  # px, the longest side of an overview
_VIEW = (960, 720)  # px of the result, width and height of what is compared at once
_TRIAL, _MAX_TRIAL = 256, 768  # LR px, and px of the result at most: side of the crop that is upscaled again
_MARGIN = 8  # LR px around what is shown: the reach of bicubic interpolation, and of the border of a trial
_OVERVIEW_ROWS = 16  # of an overview that are made together
_CANDIDATES = 16

_Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Place:
    """The centre of what is shown, as parts of the photograph's width and height."""

    x: float
    y: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two versions of a part of the result, of one size."""

    left: _Pixels
    right: _Pixels
    where: tuple[float, float, float, float]  # left, top, width and height of the part, of those of the photograph


class Viewer:
    """A photograph and its result, open for reading, and the `place` that is shown: at first the most textured one.

    Args:
        outcome: The result.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._lr: FileSource = open_image(outcome.source)
        try:
            self._sr: FileSource = open_image(outcome.image)
        except BaseException:
            self._lr.close()
            raise
        self._trial: tuple[Place, _Pixels] | None = None  # the last one with the kernel as it is
        self._lock = threading.Lock()  # a trial and a view may read at the same time
        self.place = self._textured_place()

    def close(self) -> None:
        """Close both files."""
        self._lr.close()
        self._sr.close()

    @property
    def scale(self) -> int:
        """Output over input."""
        return round(self.outcome.settings.scale)

    @cached_property
    def overview(self) -> _Pixels:
        """The photograph, reduced to `OVERVIEW` px."""
        width, height = self._lr.size
        shrink = min(1.0, OVERVIEW / max(width, height))
        size = max(1, round(shrink * height)), max(1, round(shrink * width))

        def rows(first: int, last: int) -> Tensor:
            return to_tensor(_composited(self._lr.window(slice(first, last), slice(0, width))))

        # By rows, because a large photograph takes four bytes for each sample here.
        parts = [
            imresize_rows(rows, (height, width), size, top, min(size[0], top + _OVERVIEW_ROWS))
            for top in range(0, size[0], _OVERVIEW_ROWS)
        ]
        return _pixels(torch.cat(parts, -2))

    def _textured_place(self) -> Place:
        """Where the photograph has the most texture, so that there is something to compare."""
        _, height, width = self._lr.shape
        source = ColorSource(self._lr, torch.device("cpu"))
        rows, columns = most_textured(source, spread_windows(source, _TRIAL, _CANDIDATES), 1)[0]
        return Place((columns.start + columns.stop) / 2 / width, (rows.start + rows.stop) / 2 / height)

    def compare(self) -> Comparison:
        """The interpolated photograph and the result, around the place."""
        s = self.scale
        rows, columns = self._window(max(1, _VIEW[1] // s), max(1, _VIEW[0] // s))
        with self._lock:
            right = _shown(self._sr.window(*(slice(s * part.start, s * part.stop) for part in (rows, columns))))
            left = _interpolated(self._lr, rows, columns, s)
        return Comparison(left, right, self._where(rows, columns))

    def trial(self, factor: float) -> tuple[Comparison, Kernel]:
        """A crop upscaled by the preset fast: with the kernel of the result, and with one that is wider by a factor.

        Returns:
            The crop with both kernels, and the second kernel.
        """
        place = self.place
        side = min(_TRIAL, _MAX_TRIAL // self.scale)
        rows, columns = self._window(side, side)
        kernel = self.outcome.result.kernel
        changed = dilate(kernel, factor)
        if self._trial is None or self._trial[0] != place:
            self._trial = place, self._upscaled(rows, columns, kernel)
        left = self._trial[1]
        right = left if factor == 1 else self._upscaled(rows, columns, changed)
        return Comparison(left, right, self._where(rows, columns)), changed

    def _upscaled(self, rows: slice, columns: slice, kernel: Kernel) -> _Pixels:
        with self._lock:
            photo = self._lr.window(rows, columns)
        # As in the run: only a kernel that was given may be one of optics, which act on linear light.
        linear: LinearLight = "off" if self.outcome.was_estimated else "auto"
        resolver = SuperResolver(preset=self._trial_settings(), device="cpu", linear_light=linear)
        result = resolver(to_uint8(photo.pixels), kernel=kernel, jpeg_tables=self._lr.jpeg_tables)
        return _three_bands(result.image)

    def _trial_settings(self) -> Settings:
        # An estimate is uncertain, which the network takes into account: also for a trial of another width.
        run = self.outcome.result.run
        error = None if run is None else run.degradation.kernel_error
        return replace(preset("fast"), scale=float(self.scale), kernel_error=error)

    def _window(self, height: int, width: int) -> tuple[slice, slice]:
        """A window of this size, or of the photograph's where that is smaller, around the place."""
        return _around(self.place.y, self._lr.size[1], height), _around(self.place.x, self._lr.size[0], width)

    def _where(self, rows: slice, columns: slice) -> tuple[float, float, float, float]:
        width, height = self._lr.size
        return (
            columns.start / width,
            rows.start / height,
            (columns.stop - columns.start) / width,
            (rows.stop - rows.start) / height,
        )


def _around(centre: float, length: int, side: int) -> slice:
    side = min(side, length)
    start = min(max(0, round(centre * length - side / 2)), length - side)
    return slice(start, start + side)


def _interpolated(image: ImageSource, rows: slice, columns: slice, scale: int) -> _Pixels:
    """A window of an image, enlarged by bicubic interpolation."""
    width, height = image.size
    outer = tuple(
        slice(max(0, part.start - _MARGIN), min(length, part.stop + _MARGIN))
        for part, length in ((rows, height), (columns, width))
    )
    enlarged = imresize(to_tensor(_composited(image.window(*outer))), scale)
    inner = [
        slice(scale * (part.start - o.start), scale * (part.stop - o.start))
        for part, o in zip((rows, columns), outer, strict=True)
    ]
    return _pixels(enlarged[..., inner[0], inner[1]])


def _pixels(image: Tensor) -> _Pixels:
    return _three_bands(to_uint8(to_array(image)))


def _composited(photo: Photo) -> NDArray[np.float32]:
    """The pixels, (H, W, C), with what is transparent on white, as a page shows it."""
    if photo.alpha is None:
        return photo.pixels
    alpha = photo.alpha[..., None]
    return np.asarray(photo.pixels * alpha + (1 - alpha), dtype=np.float32)


def _shown(photo: Photo) -> _Pixels:
    return _three_bands(to_uint8(_composited(photo)))


def _three_bands(pixels: _Pixels) -> _Pixels:
    """The first three bands, or the first one where there are fewer."""
    return np.ascontiguousarray(pixels[..., : 3 if pixels.shape[2] >= 3 else 1])
