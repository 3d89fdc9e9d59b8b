"""Arrays, tensors, Pillow images and paths as image sources, and results in the type and layout of the input."""

import math
import operator
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import ImageError
from blindsr.image_io import ALPHA_IS_COVERAGE, ALPHA_IS_DATA, FileOptions, ImageSource, MemorySource, Strip, open_image
from blindsr.image_io.codecs.pillow import lossy_coding_of
from blindsr.image_io.metadata import upright
from blindsr.image_io.samples import file_samples, fill_missing

__all__ = ["SampleWriter", "degradable", "opened_input"]

_MAX_BANDS = 16  # a 3-D array whose first axis is shorter and whose last one is longer is taken for channels first
_WHITE = 255  # of truth values as samples
_ORIENTATION = 0x0112  # EXIF
_TABLE_STEPS, _MAX_STEP = 64, 65535  # of a quantisation table of JPEG
_NO_CHANNELS = "channel_axis is for images with channels, this one has the shape {shape}; leave channel_axis out."
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
    channel_axis = _axis_number(channel_axis)
    if isinstance(image, str | Path):
        meaning = ALPHA_IS_DATA if has_alpha is False else ALPHA_IS_COVERAGE
        with open_image(Path(image), options=FileOptions(alpha=meaning)) as file:
            yield file, ArrayLayout(restore=lambda samples: samples[:, :, 0] if samples.shape[2] == 1 else samples)
        return
    tensor: Tensor | None = None
    lossy_coding: tuple[str, float] | None = None
    if _is_pillow(image):
        lossy_coding = lossy_coding_of(image)
        tables = getattr(image, "quantization", None)
        jpeg_tables = tables if jpeg_tables is None else jpeg_tables
        image, is_transparent = _pillow_array(image)
        has_alpha = has_alpha is not False and is_transparent
    elif isinstance(image, Tensor):
        tensor, image, channel_axis = image, *_tensor_array(image, channel_axis)
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image must be {_KINDS}, got {type(image).__name__}; numpy.asarray may help.")
    source, restore = _array_source(image, channel_axis, data_range, bool(has_alpha))
    if jpeg_tables is not None:
        source.jpeg_tables = _checked_tables(jpeg_tables)
    source.lossy_coding = lossy_coding
    if tensor is None:
        yield source, ArrayLayout(restore=restore)
        return
    like = tensor
    yield source, ArrayLayout(restore=lambda samples: _tensor_like(like, restore(samples)), device=like.device)


@dataclass(frozen=True, kw_only=True)
class Degradable:
    """An input of `blindsr.degrade`."""

    samples: NDArray[Any]  # (H, W, C); those that are masked have the value of the nearest one that is not
    mask: NDArray[np.bool_] | None  # (H, W, C), true where a sample is masked; None of an image without a mask
    restore: Callable[[NDArray[Any]], Any]  # gives a result, which may be a masked array, the layout of the input


def degradable(image: Any, channel_axis: int | None) -> Degradable:
    """An input of `blindsr.degrade`, examined.

    Raises:
        ImageError: It is none of the inputs, or its type or layout is not usable.
    """
    channel_axis = _axis_number(channel_axis)
    like = image if isinstance(image, Tensor) else None
    if like is not None:
        image, channel_axis = _tensor_array(like, channel_axis)
    elif _is_pillow(image):
        image, _ = _pillow_array(image)
    array = np.asarray(image)
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "uif":
        raise ImageError(
            "degrade needs integers or floating-point numbers (H, W) or (H, W, C), or a tensor (C, H, W), got "
            f"{array.dtype} of shape {array.shape}."
        )
    if array.ndim == 2 and channel_axis is not None:
        raise ImageError(_NO_CHANNELS.format(shape=array.shape))
    axis = _checked_axis(array.shape, channel_axis, default=-1) if array.ndim == 3 else -1

    def to_bands(samples: NDArray[Any]) -> NDArray[Any]:
        return samples[..., None] if array.ndim == 2 else np.moveaxis(samples, axis, -1)

    def restore(result: NDArray[Any]) -> Any:
        values = result[:, :, 0] if array.ndim == 2 else np.moveaxis(result, -1, axis)
        if isinstance(values, np.ma.MaskedArray):
            return values.copy()
        values = np.ascontiguousarray(values)  # which loses a mask
        return values if like is None else _tensor_like(like, values)

    if not isinstance(image, np.ma.MaskedArray):
        return Degradable(samples=to_bands(array), mask=None, restore=restore)
    mask = to_bands(np.ma.getmaskarray(image))
    return Degradable(samples=fill_missing(to_bands(array), ~mask), mask=mask, restore=restore)


def _is_pillow(image: Any) -> bool:
    return hasattr(image, "getbands")  # the class is not imported for this


def _pillow_array(image: Any) -> tuple[NDArray[Any], bool]:
    """The samples of a Pillow image, upright, (H, W) or (H, W, C), and whether the last channel is alpha."""
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I;16N", "F", "I"):
        is_transparent = image.mode in ("PA", "RGBa") or "transparency" in getattr(image, "info", {})
        grey = {"La": "LA", "1": "L"}
        converted = image.convert(grey.get(image.mode, "RGBA" if is_transparent else "RGB"))
    else:
        converted = image
    samples = np.asarray(converted)  # a TIFF is turned when it is loaded, and has no orientation then
    return upright(samples, image.getexif().get(_ORIENTATION, 1)), converted.mode in ("LA", "RGBA")


def _checked_tables(tables: Any) -> tuple[tuple[int, ...], ...] | None:
    """Quantisation tables, a sequence or a mapping by number; None if there are none."""
    try:
        ordered = [tables[key] for key in sorted(tables)] if isinstance(tables, Mapping) else list(tables)
        steps = [[operator.index(step) for step in table] for table in ordered]
    except TypeError:
        steps = [[]]
    if not all(len(table) == _TABLE_STEPS and 1 <= min(table) <= max(table) <= _MAX_STEP for table in steps):
        raise ImageError(
            f"jpeg_tables must be tables of {_TABLE_STEPS} whole numbers from 1 to {_MAX_STEP} each, luma first, such "
            f"as [luma, chroma] or Pillow's Image.quantization, got {reprlib.repr(tables)}."
        )
    return tuple(map(tuple, steps)) or None


def _tensor_like(like: Tensor, values: NDArray[Any]) -> Tensor:
    """An array as a tensor of the device, the type and the number of dimensions of another."""
    tensor = torch.from_numpy(values).to(like.device, like.dtype)
    return tensor[None] if like.ndim == 4 else tensor


def _tensor_array(image: Tensor, channel_axis: int | None) -> tuple[NDArray[Any], int | None]:
    """A tensor as an array of two or three dimensions, and the axis of its channels."""
    if image.layout != torch.strided:
        layout = str(image.layout).removeprefix("torch.")
        raise ImageError(f"an image must be dense, got a sparse tensor ({layout}); pass image.to_dense().")
    if image.device.type == "meta":
        raise ImageError("an image must be a tensor with values, got one on the device meta, which has none; load it.")
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
        raise ImageError(_NO_CHANNELS.format(shape=array.shape))
    if array.ndim == 3:
        axis = _checked_axis(array.shape, channel_axis, default=-1)
        array = np.moveaxis(array, axis, -1)
        mask = None if mask is None else np.moveaxis(mask, axis, -1)
    if has_alpha and (array.ndim == 2 or array.shape[-1] < 2):
        raise ImageError(
            f"has_alpha needs a channel besides alpha, got an image of shape {tuple(image.shape)}; leave has_alpha out."
        )
    dtype = array.dtype
    if dtype.kind not in "buif":
        raise ImageError(f"an image must hold integers or floating-point numbers, got {dtype}; convert it.")
    samples, to_input = _in_unit_range(_of_file_type(array, mask), data_range, has_alpha=has_alpha)
    source = MemorySource(np.ascontiguousarray(samples), has_alpha=has_alpha, mask=mask)

    def restore(result: NDArray[Any]) -> NDArray[Any]:
        values = result > _WHITE // 2 if dtype.kind == "b" else to_input(result).astype(dtype)
        values = values[:, :, 0] if array.ndim == 2 else np.moveaxis(values, -1, axis)
        return values.copy() if mask is not None else np.ascontiguousarray(values)  # the latter loses a mask

    return source, restore


def _of_file_type(array: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Samples in a type that a file may have: truth values as black and white, long integers in the shortest one."""
    if array.dtype.kind == "b":
        return np.where(array, _WHITE, 0).astype(np.uint8)
    if array.dtype.kind == "f" or array.dtype.itemsize <= 4:
        return array
    present = array if mask is None else array[~np.broadcast_to(mask, array.shape)]
    low, high = (int(present.min()), int(present.max())) if present.size else (0, 0)
    for kind in (np.uint8, np.uint16, np.int32, np.uint32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise ImageError(
        f"integers of an image must fit into 32 bits, got {array.dtype} from {low} to {high}; divide them, or convert "
        "them to floating-point numbers in [0, 1]."
    )


def _axis_number(channel_axis: Any) -> int | None:
    """The number of an axis, as it was given."""
    try:
        return None if channel_axis is None else operator.index(channel_axis)
    except TypeError:
        raise ImageError(
            f"channel_axis must be the whole number of an axis, such as 0 or -1, or None, got {channel_axis!r}."
        ) from None


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
    array: NDArray[Any], data_range: tuple[float, float] | None, *, has_alpha: bool
) -> tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[Any]]]:
    """Samples that are mapped to [0, 1] as those of a file are, and the function that undoes a given range.

    Alpha, the last channel, is in [0, 1] whatever the range of the colours is.
    """
    if array.dtype.kind != "f":
        if data_range is not None:
            raise ImageError(f"data_range is for floating-point images, this one is {array.dtype}; leave it out.")
        return array, lambda result: result
    limits = (0.0, 1.0) if data_range is None else data_range
    is_pair = isinstance(limits, (tuple, list, np.ndarray)) and np.shape(limits) == (2,)
    if not (is_pair and all(isinstance(each, Real) and math.isfinite(each) for each in limits)) or not (
        limits[0] < limits[1]
    ):
        raise ImageError(
            f"data_range must be two increasing finite numbers, the values of black and white, got {data_range!r}; "
            "(0, 255) is that of 8 bits."
        )
    low, high = map(float, limits)
    if has_alpha and (low, high) != (0.0, 1.0):
        _check_alpha(array[..., -1])
    colours = array[..., :-1] if has_alpha else array
    finite = colours[np.isfinite(colours)]
    if finite.size and (float(finite.min()) < low or float(finite.max()) > high):
        raise ImageError(
            f"a floating-point image must be in [{low:g}, {high:g}], its values are from {float(finite.min()):.9g} to "
            f"{float(finite.max()):.9g}; divide by the value of white (255 for 8 bits), or pass "
            "data_range=(black, white)."
        )
    if (low, high) == (0.0, 1.0):
        return array, lambda result: result

    def mapped(samples: NDArray[Any], function: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        if not has_alpha:
            return function(samples)
        values = samples.copy()
        values[..., :-1] = function(samples[..., :-1])
        return values

    unit = mapped(array, lambda samples: (samples - low) / (high - low))
    return unit, lambda result: mapped(result, lambda samples: samples * (high - low) + low)


def _check_alpha(alpha: NDArray[Any]) -> None:
    finite = alpha[np.isfinite(alpha)]
    if finite.size and (float(finite.min()) < 0 or float(finite.max()) > 1):
        raise ImageError(
            f"alpha of a floating-point image must be in [0, 1], whatever data_range is, its values are from "
            f"{float(finite.min()):.9g} to {float(finite.max()):.9g}; divide it by the value of opaque."
        )


class SampleWriter:
    """Collects the rows of a result as samples of the source's type: an `ImageWriter` into memory.

    Args:
        source: The image.
        size: Height and width of the result.
    """

    def __init__(self, source: ImageSource, size: tuple[int, int]) -> None:
        self._header, dtype = source.header, source.dtype
        shape = (*size, source.channels + self._header.has_alpha)
        self.samples: NDArray[Any] = np.empty(shape, dtype)
        if source.is_masked:
            self.samples = np.ma.MaskedArray(self.samples, np.zeros(shape, bool))
        self._next = 0

    def write(self, rows: Strip) -> None:
        """Take the next rows."""
        bottom = self._next + rows.pixels.shape[0]
        self.samples[self._next : bottom] = file_samples(rows, self._header, self.samples.dtype)
        if rows.valid is not None and isinstance(self.samples, np.ma.MaskedArray):
            self.samples[self._next : bottom, :, : rows.valid.shape[-1]][~rows.valid] = np.ma.masked
        self._next = bottom
