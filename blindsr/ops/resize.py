"""MATLAB's `imresize`: antialiased bicubic, any real scale per axis, any output size; and its other filters.

MathWorks, imresize (documentation and observed values); Keys, "Cubic convolution interpolation for digital image
processing", IEEE TASSP 29(6), 1981, a = −0.5. When an axis shrinks, the filter is stretched by the inverse scale, which
is what makes it an antialiasing filter. The Lanczos filter is the windowed sinc of Duchon, "Lanczos filtering in one
and two dimensions", J. Appl. Meteor. 18, 1979.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from blindsr.errors import ImageError
from blindsr.ops.geometry import mirror

Border = Literal["symmetric", "replicate"]
_BLOCK = 64  # rows that are resized together
_SINC_LOBES = 5
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
#: Half of the support of each filter, pixels of the input where an image is enlarged.
INTERPOLATION_RADIUS: dict[Interpolation, float] = {"nearest": 0.5, "bilinear": 1, "bicubic": 2, "lanczos": 3}


def _cubic(x: Tensor) -> Tensor:
    a = x.abs()
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return torch.where(a <= 1, near, torch.where(a <= 2, far, torch.zeros_like(a)))


def _filter(x: Tensor, method: Interpolation) -> Tensor:
    """The value of an interpolation filter at distances x."""
    if method == "bicubic":
        return _cubic(x)
    if method == "lanczos":
        return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))
    if method == "bilinear":
        return (1 - x.abs()).clamp(min=0)
    # Half open, so that one of two equally near pixels counts; the slack is the rounding of the centres.
    return ((x > -0.5 - 1e-9) & (x <= 0.5 - 1e-9)).to(x.dtype)


def _taps(
    length: int,
    out_length: int,
    scale: float,
    stretch: float,
    border: Border,
    device: torch.device,
    method: Interpolation = "bicubic",
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Source positions and float64 weights of every output sample: two tensors (out_length, P)."""
    centre = (torch.arange(out_length, dtype=torch.float64, device=device) + 0.5 - offset) / scale - 0.5
    radius = INTERPOLATION_RADIUS[method] * stretch
    count = math.ceil(2 * radius) + 2
    first = torch.floor(centre - radius).long()
    index = first[:, None] + torch.arange(count, device=device)
    weight = _filter((centre[:, None] - index) / stretch, method)
    weight = weight / weight.sum(1, keepdim=True)
    used = weight.abs().amax(0) > 0
    index, weight = index[:, used], weight[:, used]
    inside = mirror(index, length) if border == "symmetric" else index.clamp(0, length - 1)
    return inside, weight


def _resize_axis(
    image: Tensor,
    axis: int,
    out_length: int,
    scale: float,
    *,
    border: Border,
    antialias: bool,
    method: Interpolation = "bicubic",
    offset: float = 0.0,
) -> Tensor:
    stretch = max(1.0, 1.0 / scale) if antialias else 1.0
    index, weight = _taps(image.shape[axis], out_length, scale, stretch, border, image.device, method, offset)
    return weighted_sums(image, axis, index, weight.to(image.dtype))


def weighted_sums(image: Tensor, axis: int, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of samples along an axis; positions and weights are (output length, taps)."""
    shape = [1] * image.ndim
    shape[axis] = len(index)
    # One tap at a time: the memory stays at two copies of the output however long the filter is.
    out = image.index_select(axis, index[:, 0]) * weight[:, 0].reshape(shape)
    for tap in range(1, index.shape[1]):
        out = out + image.index_select(axis, index[:, tap]) * weight[:, tap].reshape(shape)
    return out


def sampling_taps(positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Indices and weights that read an axis between its pixels, by a windowed sinc of five lobes (Duchon 1979).

    Args:
        positions: Places, (P,), float64, pixels; beyond the ends the axis is mirrored.
        length: Number of pixels of the axis.

    Returns:
        Indices from 0 to length − 1 and weights of sum 1, both (P, 10), for `weighted_sums`.
    """
    index = torch.floor(positions).long()[:, None] + torch.arange(1 - _SINC_LOBES, 1 + _SINC_LOBES)
    distance = positions[:, None] - index
    weight = torch.sinc(distance) * torch.sinc(distance / _SINC_LOBES)
    return mirror(index, length), weight / weight.sum(1, keepdim=True)


def imresize(
    image: Tensor,
    scale: float | tuple[float, float] | None = None,
    *,
    size: tuple[int, int] | None = None,
    border: Border = "symmetric",
    antialias: bool = True,
    legacy_8bit: bool = False,
    method: Interpolation = "bicubic",
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Resize like MATLAB's `imresize(image, …, "bicubic")` with its antialiasing.

    With `scale` alone the size is ⌈H·scale⌉ × ⌈W·scale⌉; with `size` alone the scale is size / input size
    per axis; with both, the sampling grid follows `scale` and is cut or extended to `size`.

    Args:
        image: Images, (B, C, H, W), floating point, any range.
        scale: Output over input, one number or (vertical, horizontal). 0.5 halves: this is the one place
            where a scale may be below 1.
        size: (H, W) of the output.
        border: "symmetric" is today's MATLAB, "replicate" an older one.
        antialias: Stretch the cubic where an axis shrinks; False interpolates only, for images already blurred.
        legacy_8bit: Work as an older MATLAB did on uint8 images: rows first, and rounding to 8 bits after
            each pass. `image` is then taken as [0, 1]. With `border="replicate"` this reproduces the LR
            images of Set5 that the field uses, to the bit.
        method: "nearest", "bilinear", "bicubic" or "lanczos" (three lobes); stretched by `antialias` as well, which
            makes a mean over the pixels of "nearest".
        offset: (vertical, horizontal) displacement of the result, pixels of the output: a kernel whose centre of mass
            lies off its middle has displaced the image by so much.

    Returns:
        Images, (B, C, *size), dtype and device of `image`; not clamped, unless `legacy_8bit`: cubics overshoot.

    Raises:
        ImageError: The image is not 4-D floating point, neither `scale` nor `size` is usable, or there is no such
            method.
    """
    if image.ndim != 4 or not image.is_floating_point():
        raise ImageError(f"imresize needs floating-point (B, C, H, W), got {tuple(image.shape)} of {image.dtype}.")
    if method not in get_args(Interpolation):
        raise ImageError(f"imresize interpolates by {', '.join(get_args(Interpolation))}, got {method!r}.")
    height, width = image.shape[-2:]
    if scale is None:
        if size is None:
            raise ImageError("imresize needs a scale, a size, or both.")
        scales = (size[0] / height, size[1] / width)
    else:
        scales = (scale, scale) if isinstance(scale, (int, float)) else scale
    if min(scales) <= 0 or not all(map(math.isfinite, scales)):
        raise ImageError(f"a resizing scale must be positive and finite, got {scales}.")
    if size is None:
        # The tiny slack keeps 0.1 · 30 at 3: ⌈·⌉ of a product that is a whole number but for rounding.
        size = (math.ceil(height * scales[0] - 1e-9), math.ceil(width * scales[1] - 1e-9))
    if min(size) < 1:
        raise ImageError(f"the resized image must have at least 1×1 px, got {size[0]}×{size[1]}.")
    # MATLAB resizes the axis that shrinks more first; the order is visible only in rounding.
    axes = (-2, -1) if legacy_8bit or scales[0] <= scales[1] else (-1, -2)

    def resized(values: Tensor, axis: int) -> Tensor:
        moved = offset[axis]
        return _resize_axis(
            values, axis, size[axis], scales[axis], border=border, antialias=antialias, method=method, offset=moved
        )

    if legacy_8bit:
        # Grey levels as whole numbers in float64: ties at one half are exact and round up, as in MATLAB.
        levels = torch.round(image.double() * 255)
        for axis in axes:
            levels = torch.floor(resized(levels, axis).clamp(0, 255) + 0.5)
        return (levels / 255).to(image.dtype)
    for axis in axes:
        image = resized(image, axis)
    return image


def imresize_rows(
    rows: Callable[[int, int], Tensor],
    size: tuple[int, int],
    out_size: tuple[int, int],
    first: int,
    last: int,
    *,
    method: Interpolation = "bicubic",
    scale: tuple[float, float] | None = None,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Rows [first, last) of `imresize(image, size=out_size)`, up to rounding, from no more rows than they need.

    `rows(a, b)` returns rows [a, b) of the image, (B, C, b − a, W); sizes are (H, W) of all of input and output, scale
    and offset those of `imresize`.
    """
    vertical, horizontal = (out_size[0] / size[0], out_size[1] / size[1]) if scale is None else scale
    index, weight = (taps[first:last] for taps in _row_taps(size[0], out_size[0], vertical, method, offset[0]))
    a, b = int(index.min()), int(index.max()) + 1
    piece = rows(a, b)
    resized = weighted_sums(piece, -2, index.to(piece.device) - a, weight.to(piece))
    return _resize_axis(
        resized,
        -1,
        out_size[1],
        horizontal,
        border="symmetric",
        antialias=True,
        method=method,
        offset=offset[1],
    )


def _row_taps(
    height: int, out_height: int, scale: float, method: Interpolation = "bicubic", offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    device = torch.device("cpu")
    return _taps(height, out_height, scale, max(1.0, 1.0 / scale), "symmetric", device, method, offset)


class RowBuffer:
    """The last rows of an image that arrives from top to bottom."""

    def __init__(self) -> None:
        self.first = self.last = 0
        self._parts: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Append rows, (…, rows, W)."""
        self._parts.append(rows)
        self.last += rows.shape[-2]

    def drop(self, before: int) -> None:
        """Forget the rows before one."""
        while self._parts and self.first + self._parts[0].shape[-2] <= before:
            self.first += self._parts.pop(0).shape[-2]
        if self._parts and before > self.first:
            # A copy, because a view would keep all of the rows alive.
            self._parts[0] = self._parts[0][..., before - self.first :, :].clone()
            self.first = before

    def take(self, first: int, last: int) -> Tensor:
        """Rows [first, last), which have not been dropped."""
        parts, top = [], self.first
        for part in self._parts:
            bottom = top + part.shape[-2]
            if bottom > first and top < last:
                parts.append(part[..., max(0, first - top) : min(bottom, last) - top, :])
            top = bottom
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)


class RowResizer:
    """`imresize`, clamped to [0, 1], of an image that arrives in rows.

    Args:
        size: Height and width of the image.
        out_size: Of the result.
        scale: Output over input, (vertical, horizontal); None is that of the sizes. With a scale, the sampling grid
            follows it and is cut or extended to `out_size`.
        offset: (vertical, horizontal) displacement of the result, pixels of the output.
    """

    def __init__(
        self,
        size: tuple[int, int],
        out_size: tuple[int, int],
        *,
        scale: tuple[float, float] | None = None,
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._size, self._out_size, self._offset = size, out_size, offset
        self._scale = (out_size[0] / size[0], out_size[1] / size[1]) if scale is None else scale
        self._is_identity = size == out_size and self._scale == (1, 1) and offset == (0, 0)
        self._rows, self._done = RowBuffer(), 0

    def push(self, rows: Tensor) -> Iterator[Tensor]:
        """Take the next rows, (1, C, rows, W), and yield the rows of the result that they complete."""
        if self._is_identity:
            yield rows
            return
        self._rows.add(rows)
        taps, _ = _row_taps(self._size[0], self._out_size[0], self._scale[0], offset=self._offset[0])
        while self._done < self._out_size[0]:
            last = min(self._out_size[0], self._done + _BLOCK)
            needed = taps[self._done : last]
            if int(needed.max()) >= self._rows.last:
                self._rows.drop(int(needed.min()))
                return
            yield imresize_rows(
                self._rows.take,
                self._size,
                self._out_size,
                self._done,
                last,
                scale=self._scale,
                offset=self._offset,
            ).clamp(0, 1)
            self._done = last
