"""Whether an image fits into memory: asked before the work begins, so that nobody waits for a crash."""

import os
from pathlib import Path

import torch

from blindsr.errors import ImageError

__all__ = ["available_memory", "check_memory", "needed_memory"]

# Copies of the output, in float32, that exist at the peak, and what does not grow with the image (a tile and its
# features). Measured as the peak resident size of runs on 600 × 400 and 1800 × 1200 px: 10.3 copies and 190 MiB.
COPIES = 11
FIXED = 256 * 2**20
_GIB = 2**30


def needed_memory(height: int, width: int, channels: int, scale: float) -> int:
    """Bytes that upscaling an image of this size takes at its peak, roughly and rounded up."""
    return FIXED + int(height * scale * width * scale * channels * 4 * COPIES)


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


def _free_control_group() -> int | None:
    """What a container's limit leaves: /proc/meminfo shows the whole machine even inside one."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return max(0, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else None


def check_memory(height: int, width: int, channels: int, scale: float, device: torch.device | None = None) -> None:
    """Refuse an image that will not fit.

    Args:
        height: Of the input, px.
        width: Of the input, px.
        channels: Of the input.
        scale: Output over input.
        device: Where the work will be done; None is the host.

    Raises:
        ImageError: The work needs more memory than there is free; the message says both numbers and what to
            do.
    """
    free = available_memory(device)
    needed = needed_memory(height, width, channels, scale)
    if free is not None and needed > free:
        raise ImageError(
            f"upscaling {width}×{height} px ×{scale:g} needs about {needed / _GIB:.1f} GiB of memory, "
            f"{free / _GIB:.1f} GiB are free; crop the photograph, choose a smaller scale, or free memory."
        )
