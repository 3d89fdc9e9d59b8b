"""How much memory a job needs, and the tile size with which it stays within its limit."""

import os
from pathlib import Path
from typing import Any

import torch

from blindsr.control_groups import free_memory
from blindsr.errors import ImageError
from blindsr.upscalers.tiling import MIN_TILE, default_tile, halved

__all__ = ["available_memory", "choose_tile", "needed_memory", "pixel_bytes_of"]

_GIB = 2**30
# Measured as the peak resident size of whole jobs: docs/method/large-images.md.
FIXED = 900 * 2**20  # the interpreter, torch, the estimation crop and the pairs of the adaptation
FIXED_SMALL = 256 * 2**20  # the same for a photograph of very few pixels, beyond the interpreter and torch
_PER_TILE_PIXEL = 110  # bytes per HR pixel of a tile with its halo: transforms, features
_PER_TILE_SAMPLE = 16  # bytes per HR sample of a tile: the bands before and after
_PER_STRIP_SAMPLE = 6  # bytes per HR sample of a strip as high as a tile: itself, and part of the next
_STORED = 2  # bytes per sample of the input where the file is not read by strips
_HALO = 96  # LR pixels, at most
# The published ZSSR on a whole image: features and interpolated image, and copies of every band.
_PER_WHOLE_PIXEL, _PER_WHOLE_SAMPLE = 1100, 60  # unless the upscaler has `bytes_per_pixel`


def pixel_bytes_of(upscaler: Any) -> int:  # noqa: ANN401
    """Bytes per HR pixel that an upscaler of the whole image needs."""
    return int(getattr(upscaler, "bytes_per_pixel", _PER_WHOLE_PIXEL))


def needed_memory(
    height: int,
    width: int,
    channels: int,
    scale: float,
    tile: int | None = None,
    *,
    whole_image: bool = False,
    pixel_bytes: int = _PER_WHOLE_PIXEL,
) -> int:
    """Bytes that upscaling an image of this size needs at its peak, roughly and rounded up.

    Args:
        height: Height of the input, px.
        width: Width of the input, px.
        channels: Bands of the input.
        scale: Output over input.
        tile: Side of a tile, LR pixels; None is the default.
        whole_image: The upscaler processes the whole image at once (the published ZSSR).
        pixel_bytes: What it then needs for each HR pixel; `bytes_per_pixel` of an upscaler that has it.
    """
    tile = default_tile(max(2, round(scale))) if tile is None else tile
    if whole_image:
        pixels = height * width * scale**2
        return int(FIXED + pixels * (pixel_bytes + _PER_WHOLE_SAMPLE * channels))
    rows, columns = (min(side, tile + 2 * _HALO) * scale for side in (height, width))
    window = rows * columns * (_PER_TILE_PIXEL + _PER_TILE_SAMPLE * channels)
    strip = min(height, tile) * scale * width * scale * channels * _PER_STRIP_SAMPLE
    # The adaptation uses no more pixels than this, and fewer of a small image.
    fixed = FIXED_SMALL + min(1.0, height * width / 1.5e6) * (FIXED - FIXED_SMALL)
    return int(fixed + window + strip + height * width * channels * _STORED)


def choose_tile(
    shape: tuple[int, int, int],
    scale: int,
    out_size: tuple[int, int],
    device: torch.device | None = None,
    *,
    budget: int | None = None,
    whole_image: bool = False,
    pixel_bytes: int = _PER_WHOLE_PIXEL,
) -> int:
    """The largest tile, LR pixels a side, with which a job stays within its memory.

    Args:
        shape: Bands, height and width of the input.
        scale: Whole-number factor that is run.
        out_size: Height and width of the result, for the message.
        device: Device of the work.
        budget: Bytes that it may use; None is what is free.
        whole_image: The upscaler processes the whole image at once: there is one tile.
        pixel_bytes: As in `needed_memory`.

    Raises:
        ImageError: Not even the smallest tile fits; the message gives both numbers and a remedy.
    """
    bands, height, width = shape
    free = available_memory(device) if budget is None else budget
    tile = max(height, width) if whole_image else default_tile(scale)
    while free is not None and (
        (needed := needed_memory(height, width, bands, scale, tile, whole_image=whole_image, pixel_bytes=pixel_bytes))
        > free
    ):
        smaller = 0 if whole_image else halved(tile)
        if not smaller:
            how = "at once, as this upscaler does," if whole_image else f"even in tiles of {MIN_TILE} px,"
            limit = (
                f"{_readable(free)} are free"
                if budget is None
                else f"the limit (max_memory=, --max-memory) allows {_readable(free)}, shared by all jobs"
            )
            raise ImageError(
                f"upscaling {width}×{height} px to {out_size[1]}×{out_size[0]} px needs about {_readable(needed)} "
                f"of memory {how} but {limit}; crop the photograph, choose a smaller scale, or allow more memory."
            )
        tile = smaller
    return tile


def available_memory(device: torch.device | None = None) -> int | None:
    """Bytes that are free for this process on a device (None: the host); None if that cannot be determined."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [limit for limit in (_free_host(), free_memory()) if limit is not None]
    return min(known, default=None)


def _free_host() -> int | None:
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _readable(size: float) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"
