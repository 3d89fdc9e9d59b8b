"""The training images on disk: shards of leaves that any process can make, each the same wherever it is made."""

import os
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blindsr.zssr.start.leaves import LeavesConfig, leaves

__all__ = ["SHARD", "LeavesPool"]

SHARD = 32  # images a file


class LeavesPool:
    """Images of one series by index, kept in files so that a resumed training need not paint them again."""

    def __init__(self, folder: Path, seed: int, config: LeavesConfig) -> None:
        self._folder, self._seed, self._config = folder, seed, config
        self._loaded: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, shard: int) -> Path:
        """The file of one shard."""
        # Other settings are other images: a folder may hold those of several.
        settings = sha256(repr(self._config).encode()).hexdigest()[:8]
        return self._folder / f"leaves-{self._seed}-{settings}-{shard:05d}.npy"

    def make(self, shard: int) -> None:
        """Paint one shard if it is not there yet; two processes that do so at once write the same file."""
        path = self.path(shard)
        if path.exists():
            return
        images = np.stack([leaves(self._seed, shard * SHARD + i, self._config) for i in range(SHARD)])
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.save(file, images)
        partial.replace(path)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        shard, place = divmod(index, SHARD)
        if shard not in self._loaded:
            self.make(shard)
            self._loaded[shard] = np.load(self.path(shard), allow_pickle=False)
        image: NDArray[np.uint8] = self._loaded[shard][place]
        return image
