"""Training patches: photographs at several sizes of themselves, and dead leaves that are cached on disk."""

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import BlindSRError, ImageError
from blindsr.events import Listener, Notice, ignore
from blindsr.image_io import read_photo, readable_suffixes
from blindsr.ops import imresize, to_array, to_tensor
from blindsr.ops.color import BT601
from blindsr.training.dead_leaves import DeadLeavesConfig, dead_leaves

__all__ = ["SHARD", "DeadLeavesCache", "Images", "Patches", "Photographs", "read_photographs"]

SHARD = 32  # images per file

_Bytes = NDArray[np.uint8]
_Array = NDArray[np.float32]


class Images(Protocol):
    """Dead leaves by index: (height, width), uint8."""

    def __getitem__(self, index: int, /) -> _Bytes:
        """One image."""


class DeadLeavesCache:
    """Images of one series by index, cached in files so that a resumed training need not synthesise them again."""

    def __init__(self, folder: Path, seed: int, config: DeadLeavesConfig) -> None:
        self._folder, self._seed, self._config = folder, seed, config
        self._shards: dict[int, _Bytes] = {}

    def path(self, shard: int) -> Path:
        """The file of one shard; its name depends on the settings, so that a folder may hold several series."""
        settings = sha256(repr(self._config).encode()).hexdigest()[:8]
        return self._folder / f"leaves-{self._seed}-{settings}-{shard:05d}.npy"

    def __getitem__(self, index: int) -> _Bytes:
        shard, position = divmod(index, SHARD)
        if shard not in self._shards:
            path = self.path(shard)
            if not path.exists():
                images = np.stack([dead_leaves(self._seed, shard * SHARD + i, self._config) for i in range(SHARD)])
                # Two processes that synthesise a shard at once write the same bits.
                self._folder.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(f".{os.getpid()}.partial")
                with partial.open("wb") as file:
                    np.save(file, images)
                partial.replace(path)
            self._shards[shard] = np.load(path, allow_pickle=False)
        image: _Bytes = self._shards[shard][position]
        return image


# ------------------------------------------------------------------------------------------------------ photographs

_Filter = Callable[[Tensor], Tensor]


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0)


def _area(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).to(x.dtype)


# Sizes of a photograph relative to itself, the filter that shrinks it (its radius in pixels of the result; None is
# bicubic), and the share of the patches. A smaller one is sharper per pixel and its texture is finer; the filters
# vary as those of photographs from other sources do.
_SIZES: tuple[tuple[float, tuple[_Filter, float] | None, float], ...] = (
    (1.0, None, 0.30),
    (0.7, (_lanczos, 3.0), 0.25),
    (0.5, None, 0.25),
    (0.35, (_area, 0.5), 0.20),
)


# Pictures by size, in the order of `_SIZES`: (height, width, 3) or (height, width, 1) each, uint8.
Photographs = Sequence[Sequence[_Bytes]]


def read_photographs(
    folder: Path, min_side: int, listener: Listener = ignore, *, scratch: Path | None = None
) -> Photographs:
    """Read the photographs of a folder, and shrink each to several sizes.

    The pixels go to a temporary file without a name, which is mapped into memory: a folder may be larger than that.
    They take 5.6 bytes for each pixel of a colour photograph.

    Args:
        folder: Searched with its subfolders, in the order of the names. Of an image with other than 1 or 3 bands, each
            band is a grey picture.
        min_side: Photographs and sizes that are smaller, in pixels, are skipped, photographs with a notice.
        listener: Receives the notices.
        scratch: Folder of the temporary file; None is the system's.

    Raises:
        ImageError: The folder is missing, or has no photograph that is large enough.
    """
    if not folder.is_dir():
        raise ImageError(f"training needs a folder of photographs, {folder} is none; name one that exists.")
    shapes: list[list[tuple[int, tuple[int, int, int]]]] = [[] for _ in _SIZES]  # offset and shape
    with TemporaryFile(dir=scratch) as file:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in readable_suffixes()):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue  # hidden files are none of the user's
            try:
                pixels = read_photo(path).pixels
            except BlindSRError as error:
                listener(Notice(stage="train", message=f"{path.name} is skipped: {error}"))
                continue
            if min(pixels.shape[:2]) < min_side:
                message = f"{path.name} is skipped: training patches need {min_side} px a side."
                listener(Notice(stage="train", message=message))
                continue
            parts = [pixels] if pixels.shape[2] == 3 else np.split(pixels, pixels.shape[2], 2)
            for part in parts:
                for known, (factor, kernel, _) in zip(shapes, _SIZES, strict=True):
                    height, width = (round(factor * side) for side in part.shape[:2])
                    if min(height, width) < min_side:
                        continue  # too small at this size
                    picture = part if factor == 1 else _shrunk(part, (height, width), kernel)
                    known.append((file.tell(), (height, width, part.shape[2])))
                    file.write(np.round(picture * 255).clip(0, 255).astype(np.uint8).tobytes())
        if not shapes[0]:
            raise ImageError(f"training needs photographs of {min_side} px a side or more, {folder} has none.")
        file.flush()
        data = np.memmap(file, np.uint8, "r")
    return [[data[start : start + np.prod(shape)].reshape(shape) for start, shape in known] for known in shapes]


def _shrunk(pixels: NDArray[np.floating], size: tuple[int, int], kernel: tuple[_Filter, float] | None) -> _Array:
    """Shrink (H, W, C); a filter is cut off at the borders, where its weights are normalised again."""
    image = to_tensor(np.asarray(pixels, np.float32))
    if kernel is None:
        return to_array(imresize(image, size=size))
    weight, radius = kernel
    for axis, length in ((-2, size[0]), (-1, size[1])):
        step = image.shape[axis] / length
        centre = (torch.arange(length, dtype=torch.float64) + 0.5) * step - 0.5
        index = torch.floor(centre - radius * step).long()[:, None] + torch.arange(int(2 * radius * step) + 3)
        taps = weight((index - centre[:, None]) / step) * ((index >= 0) & (index < image.shape[axis]))
        taps = (taps / taps.sum(1, keepdim=True)).to(image.dtype)
        index = index.clamp(0, image.shape[axis] - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = length
        image = sum(
            (image.index_select(axis, index[:, i]) * taps[:, i].reshape(shape) for i in range(index.shape[1])),
            start=torch.zeros(()),
        )
    return to_array(image)


# ---------------------------------------------------------------------------------------------------------- patches

_TEXTURED = 0.7  # probability that the more textured one of two places is taken
_CHANGED = 0.3  # share of the coloured patches whose contrast, brightness and bands are changed; of grey ones it is all
_MAX_TINT = 0.35  # of the chroma that is painted: contrast of a band relative to that of the image it comes from


class Patches:
    """Patches of photographs and of dead leaves, or of dead leaves alone.

    Beside photographs, dead leaves are grey. Alone, three quarters of the patches have chroma of weak contrast: of the
    hues that go with the brightness, and of hues of their own, from other leaves.

    Args:
        leaves: Images of dead leaves.
        leaves_count: How many of them are used.
        photographs: Pictures by size; None is dead leaves alone.
        leaves_share: Share of the patches that are dead leaves where there are photographs.
    """

    def __init__(
        self,
        leaves: Images,
        leaves_count: int,
        photographs: Photographs | None = None,
        leaves_share: float = 0.22,
    ) -> None:
        self._leaves, self._leaves_count, self._leaves_share = leaves, leaves_count, leaves_share
        self._photographs = photographs
        # Large pictures are drawn from more often, but less than in proportion to their area.
        self._weights = [
            np.array([float(picture.shape[0] * picture.shape[1]) ** 0.5 for picture in pictures])
            for pictures in photographs or ()
        ]
        self._shares = np.array(
            [share if len(weights) else 0.0 for (_, _, share), weights in zip(_SIZES, self._weights, strict=False)]
        )

    def draw(self, rng: np.random.Generator, side: int) -> tuple[_Array, bool]:
        """Draw a patch.

        Args:
            rng: Random generator, the source of every choice.
            side: HR pixels.

        Returns:
            (side, side, 3), [0, 1], and whether it has colour; without, the three bands are the same.
        """
        if self._photographs is None:
            return self._painted(rng, side)
        if rng.random() >= self._leaves_share:
            size = int(rng.choice(len(self._shares), p=self._shares / self._shares.sum()))
            weights = self._weights[size]
            picture = self._photographs[size][int(rng.choice(len(weights), p=weights / weights.sum()))]
        else:
            picture = self._leaf(rng)
        coloured = picture.shape[2] == 3
        values = _turned(_place(picture, rng, side), rng)
        if rng.random() < _CHANGED or not coloured:
            values = _changed(values, rng, least=0.35, positive=0.6)
            if coloured:
                values = values[..., rng.permutation(3)]
        return np.ascontiguousarray(np.broadcast_to(values, (side, side, 3)), dtype=np.float32), coloured

    def _leaf(self, rng: np.random.Generator) -> _Bytes:
        return self._leaves[int(rng.integers(self._leaves_count))][..., None]

    def _painted(self, rng: np.random.Generator, side: int) -> tuple[_Array, bool]:
        def leaf() -> _Array:
            return _turned(_place(self._leaf(rng), rng, side), rng)[..., 0]

        grey = _changed(leaf(), rng, least=0.5, positive=0.7)
        rgb = np.repeat(grey[..., None], 3, 2)
        if rng.random() < 0.25:
            return np.ascontiguousarray(rgb, dtype=np.float32), False
        for source in (grey, leaf()):
            tint = rng.uniform(-_MAX_TINT, _MAX_TINT, 3).astype(np.float32)
            rgb = rgb + (tint - tint @ np.array(BT601, np.float32)) * (source - 0.5)[..., None]
        return np.ascontiguousarray(np.clip(rgb, 0, 1), dtype=np.float32), True


def _place(picture: _Bytes, rng: np.random.Generator, side: int) -> _Bytes:
    """A random window of (H, W, C)."""
    count = 2 if rng.random() < _TEXTURED else 1
    tops = rng.integers(0, picture.shape[0] - side + 1, count)
    lefts = rng.integers(0, picture.shape[1] - side + 1, count)
    windows = [picture[top : top + side, left : left + side] for top, left in zip(tops, lefts, strict=True)]
    return windows[0] if count == 1 else max(windows, key=_activity)


def _activity(window: _Bytes) -> float:
    """Mean difference of neighbours, in every fourth row of the middle band."""
    rows = window[::4, :, window.shape[2] // 2].astype(np.int16)
    return float(np.abs(np.diff(rows, axis=1)).mean())


def _turned(window: _Bytes, rng: np.random.Generator) -> _Array:
    """One of the eight dihedral views, [0, 1]."""
    view = int(rng.integers(8))
    turned = np.rot90(window, view % 4)
    return np.asarray((turned[:, ::-1] if view >= 4 else turned) / np.float32(255), np.float32)


def _changed(values: _Array, rng: np.random.Generator, *, least: float, positive: float) -> _Array:
    """Another contrast, from `least` to 1 and positive with this probability, and another brightness."""
    contrast = rng.uniform(least, 1.0) * (1 if rng.random() < positive else -1)
    room = 0.5 - abs(contrast) / 2
    return np.asarray(contrast * (values - 0.5) + 0.5 + rng.uniform(-room, room), np.float32)
