"""Arrays, tensors, Pillow images and paths as image sources, and results in the type and layout of the input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import ImageError
from blindsr.image_io import ALPHA_IS_COVERAGE, ALPHA_IS_DATA, FileOptions, ImageSource, MemorySource, Strip, open_image
from blindsr.image_io.samples import file_samples

__all__ = ["SampleWriter", "opened_input"]

_MAX_BANDS = 16  # a 3-D array whose first axis is shorter and whose last one is longer is taken for channels first
_KINDS = (
    "a NumPy array (H, W) or (H, W, C), a torch tensor (H, W), (C, H, W) or (1, C, H, W), a Pillow image, or a path"
)


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """How an input was laid out, to give the result in the same way."""

    restore: Callable[[NDArray[Any]], Any]  # samples (H, W, C) of the source's type in the input's type and layout
    device: torch.device | None = None  # of a tensor


@contextmanager
def opened_input(
    image: Any,
    *,
    channel_axis: int | None,
    data_range: tuple[float, float] | None,
    has_alpha: bool | None,
    jpeg_tables: Any | None,
) -> Iterator[tuple[ImageSource, ArrayLayout]]:
    """An input of any kind as an open image source; the arguments are those of `blindsr.SuperResolver.__call__`.

    Raises:
        ImageError: The input is none of these, or its type, layout or range is not usable.
    """
    if isinstance(image, str | Path):
        meaning = ALPHA_IS_DATA if has_alpha is False else ALPHA_IS_COVERAGE
        with open_image(Path(image), options=FileOptions(alpha=meaning)) as file:
            yield file, ArrayLayout(restore=lambda samples: samples[:, :, 0] if samples.shape[2] == 1 else samples)
        return
    tensor: Tensor | None = None
    if hasattr(image, "getbands"):  # a Pillow image; the class is not imported for this
        tables = getattr(image, "quantization", None)
        if jpeg_tables is None and tables:
            jpeg_tables = [tables[key] for key in sorted(tables)]
        if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I;16N", "F", "I"):
            is_transparent = image.mode in ("PA", "RGBa") or "transparency" in getattr(image, "info", {})
            image = image.convert("LA" if image.mode == "La" else "RGBA" if is_transparent else "RGB")
        has_alpha = has_alpha is not False and image.mode in ("LA", "RGBA")
        image = np.asarray(image)
    elif isinstance(image, Tensor):
        tensor, image, channel_axis = image, *_tensor_array(image, channel_axis)
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image must be {_KINDS}, got {type(image).__name__}; numpy.asarray may help.")
    source, restore = _array_source(image, channel_axis, data_range, bool(has_alpha))
    if jpeg_tables is not None:
        source.jpeg_tables = tuple(tuple(int(step) for step in table) for table in jpeg_tables)
    if tensor is None:
        yield source, ArrayLayout(restore=restore)
        return
    like = tensor

    def restore_tensor(result: NDArray[Any]) -> Tensor:
        restored = torch.from_numpy(restore(result)).to(like.device, like.dtype)
        return restored[None] if like.ndim == 4 else restored

    yield source, ArrayLayout(restore=restore_tensor, device=like.device)


def _tensor_array(image: Tensor, channel_axis: int | None) -> tuple[NDArray[Any], int | None]:
    """A tensor as an array of two or three dimensions, and the axis of its channels."""
    if image.ndim not in (2, 3, 4) or image.numel() == 0 or (image.ndim == 4 and image.shape[0] != 1):
        raise ImageError(
            f"an image must be {_KINDS}, got a tensor of shape {tuple(image.shape)}; pass several images one by one."
        )
    single, axis = (image[0] if image.ndim == 4 else image), channel_axis
    if single.ndim == 3:
        if image.ndim == 4 and channel_axis is not None and channel_axis >= 0:
            if channel_axis == 0:
                raise ImageError("channel_axis 0 of a tensor (1, C, H, W) is that of the images; its channels have 1.")
            channel_axis -= 1
        axis = _checked_axis(tuple(single.shape), channel_axis, default=0)
    try:
        return single.detach().cpu().numpy(), axis
    except TypeError as error:
        raise ImageError(
            f"an image must hold integers or float32 or float64 numbers, got {image.dtype}; convert it."
        ) from error


def _array_source(
    image: NDArray[Any], channel_axis: int | None, data_range: tuple[float, float] | None, has_alpha: bool
) -> tuple[MemorySource, Callable[[NDArray[Any]], NDArray[Any]]]:
    """An array as an image source, and the function that gives the result the array's layout and type."""
    mask = np.ma.getmaskarray(image) if isinstance(image, np.ma.MaskedArray) else None
    array = np.asarray(image.filled(0) if isinstance(image, np.ma.MaskedArray) else image)
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"an image must be {_KINDS}, got an array of shape {image.shape}.")
    axis = -1
    if array.ndim == 2 and channel_axis is not None:
        raise ImageError(
            f"channel_axis is for images with channels, this one has the shape {array.shape}; leave channel_axis out."
        )
    if array.ndim == 3:
        axis = _checked_axis(array.shape, channel_axis, default=-1)
        array = np.moveaxis(array, axis, -1)
        mask = None if mask is None else np.moveaxis(mask, axis, -1)
    if has_alpha and (array.ndim == 2 or array.shape[-1] < 2):
        raise ImageError(
            f"has_alpha needs a channel besides alpha, got an image of shape {tuple(image.shape)}; leave has_alpha out."
        )
    dtype = array.dtype
    if dtype.kind not in "uif":
        raise ImageError(f"an image must hold integers or floating-point numbers, got {dtype}; convert it.")
    samples, to_input = _in_unit_range(array, data_range)
    source = MemorySource(np.ascontiguousarray(samples), has_alpha=has_alpha, mask=mask)

    def restore(result: NDArray[Any]) -> NDArray[Any]:
        values = to_input(result).astype(dtype)
        return np.ascontiguousarray(values[:, :, 0] if array.ndim == 2 else np.moveaxis(values, -1, axis))

    return source, restore


def _checked_axis(shape: tuple[int, ...], channel_axis: int | None, *, default: int) -> int:
    """The channel axis of a 3-D image, refused if the shape shows that the default is wrong."""
    if channel_axis is not None:
        if not -len(shape) <= channel_axis < len(shape):
            raise ImageError(f"channel_axis must be an axis of the image of shape {shape}, got {channel_axis}.")
        return channel_axis
    other = 0 if default == -1 else -1
    if shape[default] > _MAX_BANDS and shape[other] in (1, 2, 3, 4):
        order = "first" if other == 0 else "last"
        raise ImageError(
            f"the image of shape {shape} appears to have its channels {order}; pass channel_axis={other}, "
            "or move the axis."
        )
    return default


def _in_unit_range(
    array: NDArray[Any], data_range: tuple[float, float] | None
) -> tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[Any]]]:
    """Samples that are mapped to [0, 1] as those of a file are, and the function that undoes a given range."""
    if array.dtype.kind != "f":
        if data_range is not None:
            raise ImageError(f"data_range is for floating-point images, this one is {array.dtype}; leave it out.")
        return array, lambda result: result
    limits = (0.0, 1.0) if data_range is None else tuple(map(float, data_range))
    if len(limits) != 2 or not (np.isfinite(limits).all() and limits[0] < limits[1]):
        raise ImageError(f"data_range must be two increasing finite numbers, got {data_range}.")
    low, high = limits
    finite = array[np.isfinite(array)]
    if finite.size and (float(finite.min()) < low or float(finite.max()) > high):
        raise ImageError(
            f"a floating-point image must be in [{low:g}, {high:g}], its values are from {float(finite.min()):.9g} to "
            f"{float(finite.max()):.9g}; divide by the value of white (255 for 8 bits), or pass "
            "data_range=(black, white)."
        )
    if (low, high) == (0.0, 1.0):
        return array, lambda result: result
    return (array - low) / (high - low), lambda result: result * (high - low) + low


class SampleWriter:
    """Collects the rows of a result as samples of the source's type: an `ImageWriter` into memory.

    Args:
        source: The image.
        size: Height and width of the result.
    """

    def __init__(self, source: ImageSource, size: tuple[int, int]) -> None:
        self._header, dtype = source.header, source.dtype
        self.samples = np.empty((*size, source.channels + self._header.has_alpha), dtype)
        self._next = 0

    def write(self, rows: Strip) -> None:
        """Take the next rows."""
        bottom = self._next + rows.pixels.shape[0]
        self.samples[self._next : bottom] = file_samples(rows, self._header, self.samples.dtype)
        self._next = bottom
