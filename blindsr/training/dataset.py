"""Training images: dead leaves that are cached on disk, or the photographs in a folder."""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import read_photo, readable_suffixes
from blindsr.ops.color import to_planes
from blindsr.training.dead_leaves import DeadLeavesConfig, dead_leaves

__all__ = ["SHARD", "DeadLeavesCache", "Images", "read_images"]

SHARD = 32  # images per file


class Images(Protocol):
    """Training images by index: (height, width), uint8, one band."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """One image."""


class DeadLeavesCache:
    """Images of one series by index, cached in files so that a resumed training need not synthesise them again."""

    def __init__(self, folder: Path, seed: int, config: DeadLeavesConfig) -> None:
        self._folder, self._seed, self._config = folder, seed, config
        self._shards: dict[int, NDArray[np.uint8]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, shard: int) -> Path:
        """The file of one shard; its name depends on the settings, so that a folder may hold several series."""
        settings = sha256(repr(self._config).encode()).hexdigest()[:8]
        return self._folder / f"leaves-{self._seed}-{settings}-{shard:05d}.npy"

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        shard, position = divmod(index, SHARD)
        if shard not in self._shards:
            path = self.path(shard)
            if not path.exists():
                images = np.stack([dead_leaves(self._seed, shard * SHARD + i, self._config) for i in range(SHARD)])
                # Two processes that synthesise a shard at once write the same bits.
                partial = path.with_suffix(f".{os.getpid()}.partial")
                with partial.open("wb") as file:
                    np.save(file, images)
                partial.replace(path)
            self._shards[shard] = np.load(path, allow_pickle=False)
        image: NDArray[np.uint8] = self._shards[shard][position]
        return image


class _Cyclic:
    """A finite sequence of images that repeats for every index."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self._images = images

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self._images[index % len(self._images)]


def read_images(folder: Path, min_side: int, listener: Listener = ignore) -> Images:
    """Read the photographs of a folder as bands of bytes: the luma of colour, every band of anything else.

    Args:
        folder: Searched with its subfolders, in the order of the names.
        min_side: Photographs that are smaller, in pixels, are skipped with a notice.
        listener: Receives the notices.

    Raises:
        ImageError: The folder is missing, or has no photograph that is large enough.
    """
    if not folder.is_dir():
        raise ImageError(f"training needs a folder of photographs, {folder} is none; name one that exists.")
    bands: list[NDArray[np.uint8]] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in readable_suffixes()):
        pixels = read_photo(path).values
        if min(pixels.shape[:2]) < min_side:
            message = f"{path.name} is skipped: training patches need {min_side} px a side."
            listener(Notice(stage="train", message=message))
            continue
        planes = to_planes(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        count = 1 if len(planes) == 3 else len(planes)
        bands += [np.round(plane[0].numpy() * 255).astype(np.uint8) for plane in planes[:count]]
    if not bands:
        raise ImageError(f"training needs photographs of {min_side} px a side or more, {folder} has none.")
    return _Cyclic(bands)
