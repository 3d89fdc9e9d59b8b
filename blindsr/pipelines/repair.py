"""Repair what is no part of the scene before anything is measured: impulses, and stripes along rows and columns.

Both would be sharpened, and both mislead the estimate of the kernel. They are found on samples of the image, and the
image is repaired window by window, so that arrays, files and tiles of any size show the same pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from blindsr.ops.impulses import MARGIN, Impulses, find_impulses, without_impulses
from blindsr.ops.stripes import estimate_stripes, row_differences, row_offsets
from blindsr.ops.windows import Source, spread_windows, whole
from blindsr.settings import Settings
from blindsr.upscalers.base import removes_noise

__all__ = ["MIN_SIDE", "RepairedSource", "repaired", "repaired_for_upscaling"]

MIN_SIDE = 48  # LR pixels; a smaller image has too few pixels to tell what is wrong with some
_WHOLE_PIXELS = 1_500_000  # samples up to which the whole image is searched
_WINDOW, _WINDOWS = 256, 16
_STRIP = 4_000_000  # pixels that are read together for the stripes


@dataclass(frozen=True)
class RepairedSource:
    """Another source without its impulses and stripes.

    Args:
        source: The image.
        impulses: What is known of the impulses of each band; None where it has none.
        rows: Stripes along the rows, (C, H), to be subtracted; None without.
        columns: Stripes along the columns, (C, W).
    """

    source: Source
    impulses: tuple[Impulses | None, ...]
    rows: Tensor | None = None
    columns: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width."""
        return self.source.shape

    @property
    def device(self) -> torch.device:
        """Device of the windows."""
        return self.source.device

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A window, (1, C, h, w), with pixels that depend on the image and not on the window."""
        _, height, width = self.shape
        # Twice the margin: a replaced pixel depends on whether its neighbours are impulses as well.
        top, left = max(0, rows.start - 2 * MARGIN), max(0, columns.start - 2 * MARGIN)
        outer = (
            slice(top, min(height, rows.stop + 2 * MARGIN)),
            slice(left, min(width, columns.stop + 2 * MARGIN)),
        )
        pixels = self.source.window(*outer)
        bands = [
            band if found is None else without_impulses(band, found)
            for band, found in zip(torch.split(pixels, 1, 1), self.impulses, strict=True)
        ]
        inner = torch.cat(bands, 1)[..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if self.rows is None and self.columns is None:
            return inner
        if self.rows is not None:
            inner = inner - self.rows[None, :, rows, None].to(inner)
        if self.columns is not None:
            inner = inner - self.columns[None, :, None, columns].to(inner)
        return inner.clamp(0, 1)


def repaired_for_upscaling(source: Source, settings: Settings) -> tuple[Source, tuple[str, ...]]:
    """As `repaired`, unless the noise is to be kept (`denoise` of 0), or the upscaler keeps it."""
    if settings.denoise == 0 or not removes_noise(settings.create_upscaler()):
        return source, ()
    return repaired(source, settings)


def repaired(source: Source, settings: Settings) -> tuple[Source, tuple[str, ...]]:
    """An image without its impulses and stripes, and what was repaired, as warnings.

    The image itself is returned where there are none, where it was repaired before, and where the settings say that it
    has no noise.
    """
    bands, height, width = source.shape
    if isinstance(source, RepairedSource) or settings.noise_sigma == 0:
        return source, ()
    if min(height, width) < MIN_SIDE:
        return source, ()
    if bands * height * width <= _WHOLE_PIXELS:
        parts = whole(source)
    else:
        parts = torch.cat([source.window(*window) for window in spread_windows(source, _WINDOW, _WINDOWS)])
    impulses = tuple(find_impulses(band) for band in torch.split(parts, 1, 1))
    warnings = []
    if any(found is not None for found in impulses):
        share = max(found.share for found in impulses if found is not None)
        warnings.append(
            f"{100 * share:.2g} % of the pixels are impulses (hot or dead pixels, salt and pepper noise) and are "
            "replaced by the median of their neighbours; denoise=0 (--denoise 0) keeps them."
        )
    offsets: list[Tensor | None] = []
    for name, transposed in (("rows", False), ("columns", True)):
        sigmas = [estimate_stripes(band.mT if transposed else band) for band in torch.split(parts, 1, 1)]
        found = max(sigmas) > 0
        offsets.append(_offsets(source, sigmas, transposed=transposed) if found else None)
        if found:
            warnings.append(
                f"stripes of about {255 * max(sigmas):.1f} grey levels along the {name} are removed; denoise=0 "
                "(--denoise 0) keeps them."
            )
    if not warnings:
        return source, ()
    return RepairedSource(source, impulses, *offsets), tuple(warnings)


def _offsets(source: Source, sigmas: list[float], *, transposed: bool) -> Tensor:
    """The stripes of each band along its rows, or columns, (C, H) or (C, W)."""
    _, height, width = source.shape
    length, other = (width, height) if transposed else (height, width)
    step = max(_STRIP // other, MIN_SIDE)
    differences: list[list[tuple[Tensor, Tensor]]] = [[] for _ in sigmas]
    for first in range(1, length - 1, step):
        strip = slice(first - 1, min(length, first + step + 1))
        across = slice(0, other)
        pixels = source.window(across, strip).mT if transposed else source.window(strip, across)
        for number, band in enumerate(torch.split(pixels, 1, 1)):
            if sigmas[number] > 0:
                differences[number].append(row_differences(band))
    return torch.stack(
        [
            row_offsets(torch.cat([d for d, _ in parts]), torch.cat([v for _, v in parts]), sigma)
            if sigma > 0
            else torch.zeros(length, dtype=torch.float64)
            for parts, sigma in zip(differences, sigmas, strict=True)
        ]
    )
