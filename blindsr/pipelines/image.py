"""One open image: its colours as a source, the upscaler fitted to it, and the rows of its result."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import ImageSource, Strip
from blindsr.kernels.kernel import AnyKernel, KernelStack
from blindsr.ops import to_tensor
from blindsr.ops.color import linear_to_srgb, to_planes
from blindsr.ops.resize import RowBuffer, imresize_rows
from blindsr.ops.windows import LinearLightSource, Source
from blindsr.pipelines import blind
from blindsr.pipelines.alpha import AlphaSource, alpha_rows
from blindsr.pipelines.blind import Fitted, RunResult
from blindsr.pipelines.degradation import LinearLight, Noise, compression_error, decide_linear_light
from blindsr.pipelines.memory import choose_tile, pixel_bytes_of
from blindsr.pipelines.repair import repaired_for_upscaling
from blindsr.settings import Settings

__all__ = ["ColorSource", "ImageRows", "StripWriter", "extend_colors", "fit_image", "render", "tile_for"]

STAGE = "photo"
_EXTENSION_WINDOWS = ((1.0, 1.0), (3.0, 1e-2), (9.0, 1e-4))  # σ in px and weight of the means of visible colours
_EXTENSION_RADII = 4.0  # radius of a window in σ
_EXTENSION = 36  # px, the largest radius
_EXTENSION_FADE = 1e-9  # weight of mid-grey
_ROWS = 256  # rows of the result that are handed to the image writer together


class ColorSource:
    """The colour bands of an image as a `Source` of tensors, extended under transparent pixels where it has alpha.

    A transparent pixel has no colour of its own: it gets the mean of the visible ones around it, so that no edge of the
    opacity is an edge of the colours, and no hidden colour bleeds into visible ones.

    A grey image in three equal bands is one band, which `ImageRows` repeats: as a colour image it would get a tint from
    the network, whose chroma is not exactly zero. That is decided for the whole image, so that a grey part of a colour
    photograph has no seams.

    Args:
        image: The open image.
        device: Device of the windows.
        is_grey: Whether to give one of the three bands, `ImageSource.is_grey`.
    """

    def __init__(self, image: ImageSource, device: torch.device, *, is_grey: bool = False) -> None:
        self._image, self.device = image, device
        self._bands = slice(1 if is_grey else image.channels)
        self.shape = (self._bands.stop, *image.shape[1:])

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w), float32, [0, 1]."""
        if not self._image.is_transparent:
            pixels = self._image.window(rows, columns).pixels[..., self._bands]
        else:
            _, height, width = self.shape
            top, left = max(0, rows.start - _EXTENSION), max(0, columns.start - _EXTENSION)
            outer = slice(top, min(height, rows.stop + _EXTENSION)), slice(left, min(width, columns.stop + _EXTENSION))
            photo = self._image.window(*outer)
            colors = photo.pixels[..., self._bands]
            extended = colors if photo.alpha is None else extend_colors(colors, photo.alpha)
            pixels = extended[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return to_tensor(pixels).to(self.device)


def extend_colors(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give transparent pixels the mean colour of the visible ones around them; far from these it fades to grey.

    Args:
        pixels: (H, W, C), not premultiplied.
        alpha: (H, W), [0, 1]; colours where it is above 0 are left unchanged.

    Returns:
        (H, W, C). A pixel depends on those within `_EXTENSION` pixels.
    """
    hidden = alpha <= 0
    if not hidden.any():
        return pixels
    filled = pixels.astype(np.float32, copy=True)
    weight = np.zeros_like(alpha)
    color = np.zeros_like(filled)
    # From near to far: the nearest visible pixels dominate by the larger weight of a narrow window.
    for sigma, share in _EXTENSION_WINDOWS:
        radius = int(_EXTENSION_RADII * sigma)
        weight += share * scipy.ndimage.gaussian_filter(alpha, sigma, mode="constant", radius=radius)
        for band in range(filled.shape[2]):
            visible = alpha * pixels[..., band]
            color[..., band] += share * scipy.ndimage.gaussian_filter(visible, sigma, mode="constant", radius=radius)
    extended = (color + _EXTENSION_FADE * 0.5) / (weight + _EXTENSION_FADE)[..., None]
    filled[hidden] = extended[hidden]
    return filled


def tile_for(image: ImageSource, settings: Settings, device: torch.device, max_memory: int | None = None) -> int:
    """Side of a tile, LR pixels, with which an image fits into memory; `ImageError` if there is none."""
    _, height, width = image.shape
    upscaler = settings.create_upscaler()
    return choose_tile(
        image.shape,
        settings.run_scale,
        settings.output_size(height, width),
        device,
        budget=max_memory,
        whole_image=upscaler.needs_whole_image,
        pixel_bytes=pixel_bytes_of(upscaler),
    )


def fit_image(
    image: ImageSource,
    settings: Settings,
    *,
    kernel: AnyKernel | None,
    linear_light: LinearLight,
    device: torch.device,
    noise: Sequence[Noise] | None = None,
    is_grey: bool | None = None,
    listener: Listener,
) -> Fitted:
    """Fit the upscaler to an open image: a file, or an array in memory.

    Args:
        image: The open image.
        settings: Settings of the run.
        kernel: A known kernel, one for each band, or a map; None estimates it.
        linear_light: Whether a known kernel is applied in linear light: "auto", "on" or "off".
        device: Device of the work.
        noise: Measured noise, one value for the image or for each band, in the light in which the kernel is applied;
            None measures it.
        is_grey: As for `ColorSource`; None examines the image, unless each band has a kernel of its own.
        listener: Receives the events.

    Raises:
        ImageError, KernelError, ConfigError, DivergenceError: As `upscale_file`.
    """
    if is_grey is None:
        is_grey = not isinstance(kernel, KernelStack) and image.is_grey
    source: Source = ColorSource(image, device, is_grey=is_grey)
    compression_sigma = compression_error(image, source)
    file_format = image.header.format or ""
    if image.lossy_coding is not None:  # of a Pillow image as well, which has no format of its own
        file_format, _ = image.lossy_coding
    linear, warnings = False, tuple[str, ...]()
    if kernel is not None:
        linear, warnings = decide_linear_light(linear_light, image, kernel.representative)
    if linear:
        source, repairs = repaired_for_upscaling(source, settings, kernel)  # noise is even before its curve is undone
        source, warnings = LinearLightSource(source), (*warnings, *repairs)
    for warning in warnings:
        listener(Notice(stage=STAGE, message=warning))
    fitted = blind.fit(
        source,
        settings,
        kernel=kernel,
        compression_sigma=compression_sigma,
        file_format=file_format,
        linear_light=linear,
        noise=noise,
        listener=listener,
    )
    return replace(fitted, warnings=(*warnings, *fitted.warnings))


def render(
    fitted: Fitted,
    image: ImageSource,
    settings: Settings,
    writer: "StripWriter",
    *,
    tile: int,
    is_grey: bool = False,
    listener: Listener = ignore,
) -> RunResult:
    """Apply a fitted upscaler to an open image; a writer gets the rows of the result, with alpha and missing data.

    Args:
        fitted: From `fit_image`.
        image: The image.
        settings: For this image.
        writer: An open file, or anything else that takes `Strip`s.
        tile: Side of a tile, LR pixels, from `tile_for`.
        is_grey: Whether all bands of the result are its luma.
        listener: Receives the events.

    Returns:
        The result without its image; its timings have the seconds of the writer as "write".

    Raises:
        ImageError, DivergenceError, OutputError: As `upscale_file`.
    """
    _, height, width = image.shape
    size = settings.output_size(height, width)
    alpha = alpha_rows(image, settings, fitted.source.device, tile)
    rows = ImageRows(writer, image, size, linear=fitted.linear_light, alpha=alpha, is_grey=is_grey)
    result = blind.apply(fitted, settings, rows, tile=tile, listener=listener)
    return replace(result, timings={**result.timings, "write": rows.seconds})


class StripWriter(Protocol):
    """Takes the rows of a result from top to bottom."""

    def write(self, rows: Strip) -> None:
        """Take the next rows."""


class ImageRows:
    """Hands rows of the result to an image writer: sRGB-encoded, with alpha and missing data.

    Args:
        writer: An open file, or anything else that takes `Strip`s.
        image: The photograph, for alpha and missing data.
        size: Height and width of the result.
        linear: The rows are linear light.
        alpha: Rows of the enlarged alpha, `blindsr.pipelines.alpha.alpha_rows`; None interpolates it.
        is_grey: Whether all bands of the result are its luma. A row of one band is repeated in any case.
    """

    def __init__(
        self,
        writer: "StripWriter",
        image: ImageSource,
        size: tuple[int, int],
        *,
        linear: bool,
        alpha: Iterator[Tensor] | None = None,
        is_grey: bool = False,
    ) -> None:
        self._writer, self._image, self._size, self._linear = writer, image, size, linear
        self._alpha_rows, self._alpha_buffer, self._is_grey = alpha, RowBuffer(), is_grey
        self._top = 0
        self.seconds = 0.0

    def write(self, rows: Tensor) -> None:
        """Take the next rows, (1, C, rows, W)."""
        started = time.perf_counter()
        for part in torch.split(rows[0], _ROWS, 1):
            bottom = self._top + part.shape[1]
            encoded = linear_to_srgb(part).clamp_(0, 1) if self._linear else part
            if self._is_grey:
                encoded = to_planes(encoded[None])[0].clamp_(0, 1)
            pixels = encoded.permute(1, 2, 0).expand(-1, -1, self._image.channels).numpy()
            alpha = self._alpha(self._top, bottom)
            self._writer.write(Strip(np.ascontiguousarray(pixels), alpha, self._valid(self._top, bottom)))
            self._top = bottom
        self.seconds += time.perf_counter() - started

    def _alpha(self, top: int, bottom: int) -> NDArray[np.float32] | None:
        image = self._image
        if not image.is_transparent:
            return None
        if self._alpha_rows is not None:
            while self._alpha_buffer.last < bottom:
                self._alpha_buffer.add(next(self._alpha_rows))
            resized = self._alpha_buffer.take(top, bottom)
            self._alpha_buffer.drop(bottom)
        else:
            width, height = image.size
            source = AlphaSource(image, torch.device("cpu"))

            def rows(first: int, last: int) -> Tensor:
                return source.window(slice(first, last), slice(0, width))

            resized = imresize_rows(rows, (height, width), self._size, top, bottom)
        array: NDArray[np.float32] = resized[0, 0].clamp(0, 1).numpy()
        return array

    def _valid(self, top: int, bottom: int) -> NDArray[np.bool_] | None:
        """Which samples of the result are measured: those whose centre lies in a measured sample of the input."""
        image = self._image
        if not image.has_missing_data:
            return None
        width, height = image.size
        rows = ((np.arange(top, bottom) + 0.5) * height / self._size[0]).astype(np.intp)
        columns = ((np.arange(self._size[1]) + 0.5) * width / self._size[1]).astype(np.intp)
        valid = image.window(slice(int(rows[0]), int(rows[-1]) + 1), slice(0, width)).valid
        if valid is None:
            return np.ones((bottom - top, self._size[1], image.channels), np.bool_)
        return np.ascontiguousarray(valid[(rows - rows[0])[:, None], columns])
