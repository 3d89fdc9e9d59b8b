"""How much memory a job takes, and the tiles with which it takes no more than it may."""

import os
from pathlib import Path

import torch

from blindsr.errors import ImageError
from blindsr.zssr.strips import LEAST_TILE, default_tile, halved

__all__ = ["available_memory", "check_memory", "choose_tile", "needed_memory"]

_GIB = 2**30
# Measured as the peak resident size of whole jobs: docs/speed-and-memory.md.
FIXED = 900 * 2**20  # the interpreter, torch, what a kernel is estimated from and what the steps learn from
FIXED_SMALL = 256 * 2**20  # the same for a photograph of next to no pixels, beyond the interpreter and torch
_PER_TILE_PIXEL = 110  # bytes per HR pixel of a tile with its halo: transforms, features
_PER_TILE_SAMPLE = 16  # bytes per HR sample of a tile: the bands before and after
_PER_STRIP_SAMPLE = 6  # bytes per HR sample of a strip as high as a tile: itself, and part of the next
_STORED = 2  # bytes per sample of the input where the file is not read by strips
_HALO = 96  # LR pixels, at most


def needed_memory(height: int, width: int, channels: int, scale: float, tile: int | None = None) -> int:
    """Bytes that upscaling an image of this size takes at its peak, roughly and rounded up.

    Args:
        height: Of the input, px.
        width: Of the input, px.
        channels: Of the input.
        scale: Output over input.
        tile: Side of a tile, LR pixels; None is what is taken where there is memory enough.
    """
    tile = default_tile(max(2, round(scale))) if tile is None else tile
    rows, columns = (min(side, tile + 2 * _HALO) * scale for side in (height, width))
    window = rows * columns * (_PER_TILE_PIXEL + _PER_TILE_SAMPLE * channels)
    strip = min(height, tile) * scale * width * scale * channels * _PER_STRIP_SAMPLE
    # What learns from the image looks at no more than this, and at less of a small one.
    looked_at = FIXED_SMALL + min(1.0, height * width / 1.5e6) * (FIXED - FIXED_SMALL)
    return int(looked_at + window + strip + height * width * channels * _STORED)


def choose_tile(
    shape: tuple[int, int, int],
    scale: int,
    out_size: tuple[int, int],
    device: torch.device | None = None,
    *,
    budget: int | None = None,
) -> int:
    """The largest tile, LR pixels a side, with which a job stays within its memory.

    Args:
        shape: Bands, height and width of the input.
        scale: Whole-number factor that is run.
        out_size: Height and width of the result, for the message.
        device: Where the work is done.
        budget: Bytes that it may take; None is what is free.

    Raises:
        ImageError: Not even the smallest tile will do; the message says both numbers and what to do.
    """
    bands, height, width = shape
    free = available_memory(device) if budget is None else budget
    tile = default_tile(scale)
    while free is not None and needed_memory(height, width, bands, scale, tile) > free:
        smaller = halved(tile)
        if not smaller:
            needed = needed_memory(height, width, bands, scale, tile)
            raise ImageError(
                f"upscaling {width}×{height} px to {out_size[1]}×{out_size[0]} px needs about {needed / _GIB:.1f} GiB "
                f"of memory even in tiles of {LEAST_TILE} px, {_may(free, budget)}; crop the photograph, or choose a "
                f"smaller scale{'' if budget is None else ', or allow more (with --jobs each has a share)'}."
            )
        tile = smaller
    return tile


def available_memory(device: torch.device | None = None) -> int | None:
    """Bytes that are free for this process on a device (None: the host); None if the machine does not say."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [limit for limit in (_free_host(), _free_control_group()) if limit is not None]
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


# Of the two versions of Linux's control groups: what their line in /proc/self/cgroup has for a name, where they are
# mounted, and their files for limit, use, and the name in memory.stat of the cached files that can go at once.
_CONTROL_GROUPS = (
    ("", "", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _free_control_group(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the limit of a container, or of a job of SLURM, leaves: /proc/meminfo shows the whole machine in both.

    The limit may be that of a group further up, so all of them are asked.
    """
    lines = [line.split(":", 2) for line in _read(own).splitlines()]
    found = []
    for name, place, limit_file, use_file, cache in _CONTROL_GROUPS:
        base = mounted / place
        path = next((line[2].strip("/") for line in lines if len(line) == 3 and name in line[1].split(",")), "")
        for folder in (base / path, *(base / parent for parent in Path(path).parents)):
            limit, used = _read(folder / limit_file).strip(), _read(folder / use_file).strip()
            if limit.isdigit() and used.isdigit():
                words = (line.split() for line in _read(folder / "memory.stat").splitlines())
                cached = next((int(word[1]) for word in words if word[:1] == [cache]), 0)
                found.append(max(0, int(limit) - max(0, int(used) - cached)))
    return min(found, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def check_memory(
    height: int,
    width: int,
    channels: int,
    scale: float,
    device: torch.device | None = None,
    *,
    budget: int | None = None,
) -> None:
    """Refuse an image that will not fit.

    Args:
        height: Of the input, px.
        width: Of the input, px.
        channels: Of the input.
        scale: Output over input.
        device: Where the work will be done; None is the host.
        budget: Bytes that it may take; None is what is free.

    Raises:
        ImageError: The work needs more memory than there is free; the message says both numbers and what to
            do.
    """
    free = available_memory(device) if budget is None else budget
    needed = needed_memory(height, width, channels, scale)
    if free is not None and needed > free:
        raise ImageError(
            f"upscaling {width}×{height} px ×{scale:g} needs about {needed / _GIB:.1f} GiB of memory, "
            f"{_may(free, budget)}; crop the photograph, choose a smaller scale, or free memory."
        )


def _may(free: int, budget: int | None) -> str:
    return f"{free / _GIB:.1f} GiB are free" if budget is None else f"--max-memory allows it {free / _GIB:.1f} GiB"
