"""What an ablation says: one row a method, one row an image."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blindsr.pipelines.ablation_plan import BICUBIC, INTERPOLATION, TRUE
from blindsr.pipelines.ablation_store import AblationResults

__all__ = ["ImageRow", "MethodSummary", "Summary", "label_of", "summarise"]

Row = Mapping[str, Any]


def label_of(method: str) -> str:
    """A method in words."""
    fixed = {
        INTERPOLATION: "bicubic interpolation",
        BICUBIC: "SR, bicubic kernel",
        TRUE: "SR, true kernel",
    }
    return fixed.get(method, f"SR, {method} kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One method on one image, averaged over the seeds; dB on luma."""

    image: str
    method: str
    psnr_y: float
    ssim_y: float
    gain: float | None  # over SR with the bicubic kernel
    seed_sd: float | None  # of PSNR-Y over the seeds; None for one seed
    ncc: float | None
    covariance_error: float | None
    redegraded_psnr: float | None
    shift: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSummary:
    """One method over the images that every method has."""

    method: str
    images: int
    psnr_y: float
    psnr_y_sd: float | None  # over the images: how different they are, not how sure the mean is
    ssim_y: float
    gain: float | None  # mean over the images, over SR with the bicubic kernel
    gain_sd: float | None
    worst_gain: float | None
    worst_image: str | None
    gap_closed: float | None  # share of the way from the bicubic to the true kernel, of the means
    seed_sd: float | None  # mean over the images
    ncc: float | None
    worst_ncc: float | None
    covariance_error: float | None
    redegraded_psnr: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Rows for tables. `left_out` names images that lack a method; their rows count in no mean."""

    methods: tuple[MethodSummary, ...]
    images: tuple[ImageRow, ...]
    left_out: tuple[str, ...]


def summarise(results: AblationResults) -> Summary:
    """Average over seeds, then over images."""
    by_cell: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        by_cell.setdefault((row["image"], row["method"]), []).append(row)
    names: Sequence[str] = results.plan["images"]
    methods: Sequence[str] = results.plan["methods"]
    rows = [_image_row(by_cell, name, method) for name in names for method in methods if (name, method) in by_cell]
    whole = [name for name in names if all((name, method) in by_cell for method in methods)]
    counted = [row for row in rows if row.image in whole]
    summaries = [_method_row(method, counted) for method in methods] if whole else []
    return Summary(
        methods=tuple(summaries),
        images=tuple(rows),
        left_out=tuple(name for name in names if name not in whole),
    )


def _number(value: float | None) -> float:
    """JSON has no infinity: identical images were written as null."""
    return math.inf if value is None else value


def _image_row(cells: Mapping[tuple[str, str], Sequence[Row]], name: str, method: str) -> ImageRow:
    rows = cells[name, method]
    psnr = [_number(row["scores"]["psnr_y"]) for row in rows]
    floor = cells.get((name, BICUBIC))
    base = None if floor is None else _mean(_number(row["scores"]["psnr_y"]) for row in floor)
    kernels = [row["kernel"] for row in rows if "ncc" in row.get("kernel", {})]

    def of_kernels(field: str) -> float | None:
        return _mean(_number(kernel[field]) for kernel in kernels) if kernels else None

    return ImageRow(
        image=name,
        method=method,
        psnr_y=_mean(psnr),
        ssim_y=_mean(row["scores"]["ssim_y"] for row in rows),
        gain=None if base is None else _mean(psnr) - base,
        seed_sd=statistics.stdev(psnr) if len(psnr) > 1 and all(map(math.isfinite, psnr)) else None,
        ncc=of_kernels("ncc"),
        covariance_error=of_kernels("covariance_error"),
        redegraded_psnr=of_kernels("redegraded_psnr"),
        shift=_mean(math.hypot(row["scores"]["shift_y"], row["scores"]["shift_x"]) for row in rows),
        seconds=_mean(row["seconds"] for row in rows),
    )


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


def _method_row(method: str, counted: Sequence[ImageRow]) -> MethodSummary:
    rows = [row for row in counted if row.method == method]

    def column(read: Callable[[ImageRow], float | None]) -> list[float]:
        return [value for row in rows if (value := read(row)) is not None]

    psnr = [row.psnr_y for row in rows]
    gains = column(lambda row: row.gain)
    ncc = column(lambda row: row.ncc)
    compared = [] if method == BICUBIC else [row for row in rows if row.gain is not None]
    worst = min(compared, key=lambda row: row.gain or 0.0, default=None)
    return MethodSummary(
        method=method,
        images=len(rows),
        psnr_y=_mean(psnr),
        psnr_y_sd=_sd(psnr),
        ssim_y=_mean(row.ssim_y for row in rows),
        gain=_mean(gains) if gains else None,
        gain_sd=None if method == BICUBIC else _sd(gains),
        worst_gain=None if worst is None else worst.gain,
        worst_image=None if worst is None else worst.image,
        gap_closed=_gap_closed(method, counted),
        seed_sd=_optional_mean(column(lambda row: row.seed_sd)),
        ncc=_optional_mean(ncc),
        worst_ncc=min(ncc, default=None),
        covariance_error=_optional_mean(column(lambda row: row.covariance_error)),
        redegraded_psnr=_optional_mean([v for v in column(lambda row: row.redegraded_psnr) if math.isfinite(v)]),
        seconds=_mean(row.seconds for row in rows),
    )


def _optional_mean(values: Sequence[float]) -> float | None:
    return _mean(values) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None


def _gap_closed(method: str, counted: Sequence[ImageRow]) -> float | None:
    """Of means, not a mean of shares: an image whose two ends lie together would rule the latter."""
    means = {m: _optional_mean([row.psnr_y for row in counted if row.method == m]) for m in (BICUBIC, method, TRUE)}
    low, own, high = means[BICUBIC], means[method], means[TRUE]
    if low is None or own is None or high is None or method == INTERPOLATION or high - low < 0.05:
        return None
    return (own - low) / (high - low)
