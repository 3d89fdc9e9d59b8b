"""Repair what is no part of the scene before anything is measured: impulses, stripes, waves, and colours out of place.

All would be sharpened, and all mislead the estimate of the kernel. They are found on samples of the image, and the
image is repaired window by window, so that arrays, files and tiles of any size show the same pixels.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blindsr.kernels.kernel import AnyKernel, KernelStack
from blindsr.ops.impulses import MARGIN, Impulses, find_impulses, without_impulses
from blindsr.ops.interference import Interference, waves_of, without_interference
from blindsr.ops.registration import TILE, Displacement, estimate_displacements
from blindsr.ops.repetition import MARGIN as CHROMA_MARGIN
from blindsr.ops.repetition import RepeatedChroma, find_repeated_chroma, interpolated_chroma
from blindsr.ops.resize import sampling_taps, weighted_sums
from blindsr.ops.stripes import estimate_stripes, row_differences, row_offsets
from blindsr.ops.windows import Source, Window, sampled_windows, spread_windows
from blindsr.pipelines.letterbox import content_of
from blindsr.settings import Settings
from blindsr.upscalers.base import removes_noise

__all__ = ["MIN_SIDE", "RepairedSource", "displacement_text", "repaired", "repaired_for_upscaling"]

MIN_SIDE = 48  # LR pixels; a smaller image has too few pixels to tell what is wrong with some
_COMPARED_PIXELS = 1 << 20  # up to which the colours are compared in the whole image
_STRIP = 4_000_000  # pixels that are read together for the stripes
_COLORS, _GREEN = ("red", "green", "blue"), 1
_COMPARED = 64  # tiles in which the colours are compared, at most


@dataclass(frozen=True)
class RepairedSource:
    """Another source without its impulses and stripes, and with its colours at full resolution and in one place.

    Args:
        source: The image.
        impulses: What is known of the impulses of each band; None where it has none. () if none has any.
        rows: Stripes along the rows, (C, H), to be subtracted; None without.
        columns: Stripes along the columns, (C, W).
        displacements: Where each band shows what the others show; None where it is in place. () if all are. They hold
            within the content area, whose first pixel is their origin.
        content: Rows and columns of the content area; letterbox bars stay in place.
        chroma: Blocks of one colour, between whose centres the colours are interpolated; None without.
        waves: Interference, to be subtracted.
    """

    source: Source
    impulses: tuple[Impulses | None, ...] = ()
    rows: Tensor | None = None
    columns: Tensor | None = None
    displacements: tuple[Displacement | None, ...] = ()
    content: Window = (slice(0, 0), slice(0, 0))
    chroma: RepeatedChroma | None = None
    waves: tuple[Interference, ...] = ()

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
        if not self.displacements:
            return self._cleaned(rows, columns)
        window = rows, columns
        taps = [None if found is None else self._taps(found, window) for found in self.displacements]
        # Of all bands, read once.
        read = []
        for axis, part in enumerate(window):
            indices = [each[axis][0] for each in taps if each is not None]
            first = min(part.start, *(int(index.min()) for index in indices))
            read.append(slice(first, max(part.stop, *(int(index.max()) + 1 for index in indices))))
        pixels = self._cleaned(read[0], read[1])
        inner = [
            slice(part.start - outer.start, part.stop - outer.start) for part, outer in zip(window, read, strict=True)
        ]
        bands = []
        for band, found in zip(torch.split(pixels, 1, 1), taps, strict=True):
            placed = band[..., inner[0], inner[1]]
            if found is not None:
                placed = band
                for axis, outer, (index, weight) in zip((-2, -1), read, found, strict=True):
                    index = (index - outer.start).to(placed.device)
                    placed = weighted_sums(placed, axis, index, weight.to(placed))
                placed = placed.clamp(0, 1)
            bands.append(placed)
        return torch.cat(bands, 1)

    def _taps(self, displacement: Displacement, window: Window) -> list[tuple[Tensor, Tensor]]:
        """Where a band shows the rows and the columns of a window, as `sampling_taps` gives them."""
        taps = []
        for axis, (part, area) in enumerate(zip(window, self.content, strict=True)):
            index, weight = sampling_taps(
                displacement.positions(axis, part.start - area.start, part.stop - area.start), area.stop - area.start
            )
            place = torch.arange(part.start, part.stop)[:, None]
            is_bar = (place < area.start) | (place >= area.stop)
            own = torch.zeros_like(weight)
            own[:, 0] = 1
            taps.append((torch.where(is_bar, place, index + area.start), torch.where(is_bar, own, weight)))
        return taps

    def _cleaned(self, rows: slice, columns: slice) -> Tensor:
        """A window without impulses, stripes and waves, and with all colours."""
        _, height, width = self.shape
        # Twice the margin: a replaced pixel depends on whether its neighbours are impulses as well.
        margin = 2 * MARGIN + (0 if self.chroma is None else CHROMA_MARGIN)
        top, left = max(0, rows.start - margin), max(0, columns.start - margin)
        outer = slice(top, min(height, rows.stop + margin)), slice(left, min(width, columns.stop + margin))
        pixels = self.source.window(*outer)
        if self.chroma is not None:
            pixels = interpolated_chroma(pixels, self.chroma, (top, left))
        if self.impulses:
            bands = zip(torch.split(pixels, 1, 1), self.impulses, strict=True)
            pixels = torch.cat([b if found is None else without_impulses(b, found) for b, found in bands], 1)
        inner = pixels[..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if self.rows is None and self.columns is None and not self.waves:
            return inner
        if self.waves:
            inner = without_interference(inner, self.waves, (rows.start, columns.start))
        if self.rows is not None:
            inner = inner - self.rows[None, :, rows, None].to(inner)
        if self.columns is not None:
            inner = inner - self.columns[None, :, None, columns].to(inner)
        return inner.clamp(0, 1)


def repaired_for_upscaling(
    source: Source, settings: Settings, kernel: AnyKernel | None = None
) -> tuple[Source, tuple[str, ...]]:
    """As `repaired`, but what is to be kept in the result stays.

    Noise stays where `denoise` is 0, everything where the upscaler removes no noise, and colours where each band has a
    known kernel, which may have a displacement of its own.
    """
    if not removes_noise(settings.create_upscaler()):
        return source, ()
    has_band_kernels = isinstance(kernel, KernelStack)
    if has_band_kernels:
        settings = replace(settings, align_colors=False)
    return repaired(source, settings, keeps_noise=settings.denoise == 0, are_rgb=not has_band_kernels)


def repaired(
    source: Source, settings: Settings, *, keeps_noise: bool = False, are_rgb: bool = True
) -> tuple[Source, tuple[str, ...]]:
    """An image without its impulses and stripes and with its colours in place, and what was repaired, as warnings.

    The image itself is returned where there is nothing to repair, and where it was repaired before. Impulses and
    stripes stay where they are to be kept, or the settings say that there is no noise; colours where the settings do
    not move them, and repeated ones where three bands are not red, green and blue (`are_rgb`).
    """
    if isinstance(source, RepairedSource) or min(source.shape[1:]) < MIN_SIDE:
        return source, ()
    cleaned, warnings = _with_chroma(source) if are_rgb and source.shape[0] == len(_COLORS) else (source, ())
    if not (keeps_noise or settings.noise_sigma == 0):
        cleaned, found = _without_noise(cleaned)
        warnings = (*warnings, *found)
    if not settings.align_colors or source.shape[0] != len(_COLORS):
        return cleaned, warnings
    content = content_of(cleaned)
    displacements = _displacements(content)
    if not displacements:
        return cleaned, warnings
    if not isinstance(cleaned, RepairedSource):
        cleaned = RepairedSource(source)
    moved = replace(cleaned, displacements=displacements, content=content.window_in_image)
    text = (
        f"{displacement_text(displacements)}; what is displaced is moved onto it; align_colors=False (--keep-colors) "
        "leaves it where it is."
    )
    return moved, (*warnings, text)


def _samples(source: Source) -> tuple[list[Window], Tensor]:
    """The whole of a small image, or parts of a large one: where they are, and their pixels, (N, C, h, w)."""
    windows = sampled_windows(source, source.shape[0])
    return windows, torch.cat([source.window(*window) for window in windows])


def _with_chroma(source: Source) -> tuple[Source, tuple[str, ...]]:
    """An image whose colours were repeated in blocks with them interpolated, or the image itself."""
    windows, parts = _samples(source)
    found = find_repeated_chroma(parts, [(rows.start, columns.start) for rows, columns in windows])
    if found is None:
        return source, ()
    height, width = found.sides
    return RepairedSource(source, chroma=found), (
        f"the colours have one sample for {width}×{height} pixels, as video and JPEG store them, which was repeated; "
        "they are interpolated instead.",
    )


def _displacements(source: Source) -> tuple[Displacement | None, ...]:
    """The displacement of each colour against green; () where none is displaced, and of small images."""
    _, height, width = source.shape
    if min(height, width) < TILE:
        return ()
    is_small = height * width <= _COMPARED_PIXELS
    windows = [(slice(0, height), slice(0, width))] if is_small else spread_windows(source)
    step = TILE // 2 if is_small else TILE
    parts: list[tuple[float, tuple[int, int], Tensor]] = []
    for rows, columns in windows:
        pixels = source.window(rows, columns)[0]
        steps = pixels[_GREEN].diff(dim=0)[:, :-1].abs() + pixels[_GREEN].diff(dim=1)[:-1].abs()
        own = []
        for top in range(0, pixels.shape[1] - TILE + 1, step):
            for left in range(0, pixels.shape[2] - TILE + 1, step):
                part = slice(top, top + TILE), slice(left, left + TILE)
                corner = rows.start + top, columns.start + left
                own.append((float(steps[part].mean()), corner, pixels[:, part[0], part[1]]))
        own.sort(key=lambda each: each[0], reverse=True)
        parts += own[: math.ceil(_COMPARED / len(windows))]
    found = estimate_displacements(
        torch.stack([tile for *_, tile in parts]), [corner for _, corner, _ in parts], (height, width), _GREEN
    )
    return found if any(each is not None for each in found) else ()


def displacement_text(displacements: tuple[Displacement | None, ...]) -> str:
    """Which colours are displaced, and by how much, as the beginning of a sentence."""
    parts = [
        f"{name} by up to {found.largest:.1f} px"
        for name, found in zip(_COLORS, displacements, strict=True)
        if found is not None
    ]
    return f"the colours do not lie on each other, as with a lens or a scanner: {' and '.join(parts)} against green"


def _without_noise(source: Source) -> tuple[Source, tuple[str, ...]]:
    """An image without its impulses, stripes and waves, or the image itself."""
    _, parts = _samples(source)
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
    waves = waves_of(source)
    if waves:
        strongest = max(waves, key=lambda wave: wave.strength)
        warnings.append(
            f"interference, a wave of about {255 * strongest.strength:.1f} grey levels and a period of "
            f"{strongest.period:.1f} px over the whole image, is removed; denoise=0 (--denoise 0) keeps it."
        )
    if not warnings:
        return source, ()
    return RepairedSource(source, impulses, offsets[0], offsets[1], waves=waves), tuple(warnings)


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
