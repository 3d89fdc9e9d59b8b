"""A result in sentences, as the command line and the page show it."""

from bisect import bisect
from collections.abc import Mapping
from typing import Any

from blindsr.kernels import Kernel
from blindsr.kernels.metrics import SplitHalf, widths_text
from blindsr.pipelines.checks import consistency_meaning
from blindsr.pipelines.file_run import FileResult

__all__ = ["kernel_text", "summary_lines"]

_LEVEL_ERRORS = (0.1, 0.2)  # relative errors of the width, upper bounds of the levels
_LEVELS = ("high", "medium", "low")
_FREE_FORM = 0.5  # share of a free-form kernel that is proven, from which a kernel is called so


def summary_lines(result: FileResult) -> list[str]:
    """A result in lines, each with its heading: kernel, scale, confidence, consistency, time and size.

    The warnings are not among them (`FileResult.warnings`).
    """
    kernel_map: Mapping[str, Any] | None = result.record.get("kernel_map")  # type: ignore[assignment]
    prefix = "" if kernel_map is None else f"a map of {kernel_map['rows']}×{kernel_map['columns']} kernels, their mean "
    if result.run is not None and (bands := result.run.band_kernels) is not None:
        prefix = f"{len(bands.kernels)} kernels ({'; '.join(bands.names)}), the first with "
    lines = [f"kernel: {_origin(result)}{prefix}{kernel_text(result.kernel)}"]
    if text := _scale_text(result):
        lines.append(f"scale: {text}")
    if (halves := SplitHalf.from_kernel(result.kernel)) is not None:
        lines.append(f"confidence: {halves}")
    elif isinstance(error := result.kernel.provenance.get("width_error"), float) and _is_estimated(result):
        level = _LEVELS[bisect(_LEVEL_ERRORS, error)]
        lines.append(f"confidence: {level}, the width is right to about ±{100 * error:.0f} %")
    size = ""
    if result.run is not None:
        meaning = consistency_meaning(result.run.settings, result.run.strengths)
        lines.append(f"consistency: {result.run.consistency_db:.1f} dB. {meaning}")
        size = f": {_images_text(result)}{result.run.size[1]}×{result.run.size[0]} px"
    return [*lines, f"done in {result.seconds:.1f} s{size}"]


def kernel_text(kernel: Kernel) -> str:
    """A kernel in words: widths in pixels of the result."""
    size = f"{kernel.size}×{kernel.size} for ×{kernel.scale}"
    if (factor := kernel.provenance.get("width_factor")) is not None:
        return f"{widths_text(kernel)}, its width changed by a factor of {factor} ({size})"
    if kernel.is_replacement:
        return f"bicubic, because no kernel could be estimated ({size})"
    if kernel.is_plain_reduction:
        return f"{kernel.made_by} ({size})"
    share = kernel.provenance.get("proven_share", 1.0)
    is_free = kernel.made_by == "l0" and isinstance(share, float) and share >= _FREE_FORM
    is_disc = "disc_radius_lr" in kernel.provenance
    kind = "a defocus disc, " if is_disc else "free-form, " if is_free else ""
    return f"{kind}{widths_text(kernel)} ({size})"


def _scale_text(result: FileResult) -> str:
    """How a scale that is no factor of the network is computed; empty for one that is."""
    scale = result.kernel.scale
    record: Mapping[str, Any] = result.record
    if result.run is None:
        wanted = record["settings"]["scale"]
        return "" if wanted == scale else f"×{wanted:g} is upscaled at ×{scale}, which the kernel is for, and reduced"
    (height, width), computed = result.run.size, [scale * record["input"][side] for side in ("width", "height")]
    if computed == [width, height]:
        return ""
    return (
        f"the kernel for ×{scale} is used, and the result of {computed[0]}×{computed[1]} px is reduced to "
        f"{width}×{height} px"
    )


def _images_text(result: FileResult) -> str:
    """The number of the images in a file of several; empty for one."""
    frames: Mapping[str, Any] | None = result.record.get("frames")  # type: ignore[assignment]
    if frames is None:
        return ""
    return f"{frames['count']} images, the first of " if "sizes" in frames else f"{frames['count']} images of "


def _is_estimated(result: FileResult) -> bool:
    return result.run is None or result.run.estimate is not None


def _origin(result: FileResult) -> str:
    """Where the kernel comes from, before its description; a fixed or replaced kernel is described by its name."""
    if not _is_estimated(result):
        return "given, "
    record: Mapping[str, Any] = result.record
    method = (record["estimate"] or {}).get("method", "")
    if result.kernel.is_replacement or method == result.kernel.made_by == "bicubic":
        return ""
    return f"estimated by {method}, "
