"""The part of an image that a kernel is estimated from, and one on which a result is looked at."""

from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.pipelines.settings import Region
from blindsr.zssr.source import Source, TensorSource, most_detailed, spread_windows, whole

__all__ = ["ESTIMATED_SIDE", "estimation_window", "looked_at"]

# Side of the window that a large image's kernel is estimated from, px: estimators hold several copies of what they
# look at in double precision. Ten thousand tiles of 64 px are in it.
ESTIMATED_SIDE = 2048
_CANDIDATES = 16


def looked_at(image: Tensor) -> Tensor:
    """A view of the part of an image in memory, (1, C, H, W), that its kernel is estimated from."""
    height, width = image.shape[-2:]
    if height * width <= ESTIMATED_SIDE**2:
        return image
    rows, columns = _window(TensorSource(image))
    return image[..., rows, columns]


def estimation_window(source: Source, region: Region | None) -> Tensor:
    """The region, or the part of an image that its kernel is estimated from: (1, C, h, w).

    Raises:
        ConfigError: The region is not inside the image.
    """
    _, height, width = source.shape
    if region is not None:
        right, bottom = region.x + region.width, region.y + region.height
        if not (0 <= region.x < right <= width and 0 <= region.y < bottom <= height):
            raise ConfigError(
                f"the region must lie inside the image of {width}×{height} px, got "
                f"{region.x},{region.y},{region.width},{region.height} (left, top, width, height)."
            )
        return looked_at(source.window(slice(region.y, bottom), slice(region.x, right)))
    return whole(source) if height * width <= ESTIMATED_SIDE**2 else source.window(*_window(source))


def _window(source: Source) -> tuple[slice, slice]:
    """The window with the most detail: what is out of focus is not what the kernel has done."""
    return most_detailed(source, spread_windows(source, ESTIMATED_SIDE, _CANDIDATES), 1)[0]
