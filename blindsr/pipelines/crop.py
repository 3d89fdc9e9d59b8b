"""The part of an image that its kernel is estimated from."""

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.ops import luma
from blindsr.ops.windows import PartSource, Source, textured_part
from blindsr.pipelines.letterbox import MIN_BAR, flat_run
from blindsr.settings import Region

__all__ = ["ESTIMATION_SIDE", "estimation_crop", "without_gutters", "without_letterbox"]

# Side of the window that the kernel of a large image is estimated from, px: estimators hold several copies of it in
# double precision. It contains ten thousand tiles of 64 px.
ESTIMATION_SIDE = 2048
_CANDIDATES = 16

_BAR_MARGIN = 2  # lines beside a bar that are cut as well: the blur has mixed them with it
_MIN_SIDE = 64  # px that must remain between the bars
_MAX_GUTTER = 40  # px between two pictures of a collage, at most
_GUTTER_RANGE = 4 / 255  # largest range of luma along such a line
_MIN_CONTRAST, _MIN_SHARE = 8 / 255, 0.75  # of the pixels beside it, that differ: beside lines of text, few do
_MAX_GROUND = 0.5  # share of these that may have one value, as the rows of a table have
# The first line beside it over the second one, by regression: a blur of σ 0.45 px has 0.87, photographs 0.9 to 1.1.
_MIN_STEP = 0.88


def estimation_crop(source: Source, region: Region | None) -> Tensor:
    """The part of an image that its kernel is estimated from.

    Args:
        source: The image.
        region: A rectangle that the user named; None is the whole image without letterbox bars, or, of a large image,
            its most textured window: what is out of focus does not show the kernel.

    Returns:
        (1, C, h, w), at most `ESTIMATION_SIDE` pixels a side unless the whole image has no more pixels.

    Raises:
        ConfigError: The region is not inside the image.
    """
    _, height, width = source.shape
    if region is None:
        top, left = 0, 0
    else:
        top, left = region.y, region.x
        right, bottom = region.x + region.width, region.y + region.height
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ConfigError(
                f"the region must lie inside the image of {width}×{height} px, got "
                f"{region.x},{region.y},{region.width},{region.height} (left, top, width, height)."
            )
        height, width = region.height, region.width
    part = PartSource(source, slice(top, top + height), slice(left, left + width))
    crop = textured_part(part, ESTIMATION_SIDE, _CANDIDATES)
    return without_gutters(without_letterbox(crop)) if region is None else crop


def without_letterbox(image: Tensor) -> Tensor:
    """A view of an image, (1, C, H, W), without bars of one grey level on its four sides.

    The edges of bars are sharper than any lens, and would dominate an estimate of its blur.
    """
    plane = luma(image)
    columns = _inner(plane.mT)
    # Bars above and below span the whole width, so that these lines are judged without the bars at the sides.
    rows = _inner(plane[:, columns])
    columns = _inner(plane[rows].mT)
    return image[..., rows, columns]


def without_gutters(image: Tensor) -> Tensor:
    """A collage, (1, C, H, W), with its pictures brought together by a ramp, or the image itself.

    The lines of one colour between the pictures, from side to side, were drawn after these had been made, and would be
    taken for the traces of sharpening. Lines that are as blurred as the pictures are part of the scene, and rows of a
    table are no pictures.
    """
    for axis in (-2, -1):
        plane = luma(image)
        lines = plane if axis == -2 else plane.mT
        for first, last in _gutters(lines):
            first, last = max(first - _BAR_MARGIN, 1), min(last + _BAR_MARGIN, len(lines) - 1)
            before, after = image.select(axis, first - 1), image.select(axis, last)
            shares = torch.linspace(0, 1, last - first + 2, dtype=image.dtype, device=image.device)[1:-1]
            ramp = torch.stack([torch.lerp(before, after, share) for share in shares], axis)
            image = image.slice_scatter(ramp, axis % image.ndim, first, last)
    return image


def _gutters(lines: Tensor) -> list[tuple[int, int]]:
    """First and behind the last line of each run of lines of one colour between two pictures, of lines (N, length)."""
    is_flat = lines.amax(1) - lines.amin(1) <= _GUTTER_RANGE
    changes = functional.pad(is_flat.int(), (1, 1)).diff()
    firsts, behind = ((changes == sign).nonzero()[:, 0].tolist() for sign in (1, -1))
    return [
        (first, last)
        for first, last in zip(firsts, behind, strict=True)
        if first >= _BAR_MARGIN
        and last + _BAR_MARGIN <= len(lines)
        and last - first <= _MAX_GUTTER
        and _is_drawn(lines[[first - 1, first - 2]] - lines[first:last].mean())
        and _is_drawn(lines[[last, last + 1]] - lines[first:last].mean())
    ]


def _is_drawn(beside: Tensor) -> bool:
    """Whether a gutter ends here without a blur, from the difference of the two lines beside it from its colour."""
    near, far = beside
    if float((far.abs() > _MIN_CONTRAST).double().mean()) < _MIN_SHARE:
        return False
    is_ground = (far - far.median()).abs() <= _GUTTER_RANGE
    return float(is_ground.double().mean()) < _MAX_GROUND and float(near @ far) >= _MIN_STEP * float(far @ far)


def _inner(plane: Tensor) -> slice:
    """The lines (rows) of a plane that belong to no bar; all of them if too few would remain."""
    length = plane.shape[0]
    first, last = (_bar(flat_run(lines[:, None])) for lines in (plane, plane.flip(0)))
    return slice(first, length - last) if length - first - last >= _MIN_SIDE else slice(0, length)


def _bar(width: int) -> int:
    """Number of lines to cut, of a bar."""
    return width + _BAR_MARGIN if width >= MIN_BAR else 0
