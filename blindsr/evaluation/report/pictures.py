"""Images of a report: data URIs, the regions where methods differ, and the plot of gains by matplotlib."""

import base64
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blindsr.errors import ConfigError
from blindsr.evaluation.metrics import rgb_to_y
from blindsr.evaluation.results import BICUBIC, AblationResults, labels, split_method, summarise
from blindsr.image_io import atomic_write_bytes, image_bytes

__all__ = [
    "COLOURS",
    "check_plot",
    "choose_crops",
    "data_uri",
    "method_colours",
    "reduced",
    "write_plots",
    "write_time_plot",
]

_MAX_SIDE = 1600  # px; a page with twelve such images has about 15 MB
_CROP_SIDES = (72, 128)  # px, minimum and maximum; so few that single pixels are visible
_CROP_MARGIN = 8  # px at the border of an image, where every method extrapolates

# --m0, --m1, … of report.css for light backgrounds; estimated kernels use _ESTIMATES in turn.
COLOURS = ("#8b909a", "#c9892b", "#2463c9", "#a8399b", "#1f8a5b", "#1d1f24", "#b5452f", "#0e8a9a")
_FIXED = {"": 0, BICUBIC: 1, "true": 4}
_ESTIMATES = (2, 3, 6, 7)


def data_uri(content: NDArray[np.uint8] | bytes, kind: str, *, quality: int | None = 90) -> str:
    """An image, (H, W, 1 or 3) or encoded, as a URI that contains it; the quality is that of `image_bytes`."""
    encoded = content if isinstance(content, bytes) else image_bytes(content, kind, quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def reduced(samples: NDArray[np.uint8], max_side: int = _MAX_SIDE) -> NDArray[np.uint8]:
    """The image with no side above `max_side` px, as means of blocks of pixels."""
    block = -(-max(samples.shape[:2]) // max_side)
    if block == 1:
        return samples
    height, width = (side - side % block for side in samples.shape[:2])
    blocks = samples[:height, :width].reshape(height // block, block, width // block, block, -1)
    return np.asarray(np.round(blocks.mean((1, 3), dtype=np.float64)), dtype=np.uint8)


def choose_crops(
    images: Sequence[NDArray[np.uint8]], count: int = 1, size: int | None = None
) -> list[tuple[int, int, int]]:
    """Find the squares in which images of one size differ most: the largest mean variance of luma.

    Args:
        images: Two or more images, (H, W, 1) or (H, W, 3).
        count: Maximum number of squares, which keep a distance from one another.
        size: Maximum side; None is a twelfth of the image, between 72 and 128 px.

    Returns:
        (top, left, side) of each, the largest difference first.
    """
    lumas = np.stack([rgb_to_y(image) for image in images])
    height, width = lumas.shape[1:]
    wanted = min(max(max(height, width) // 12, _CROP_SIDES[0]), _CROP_SIDES[1]) if size is None else size
    side = min(wanted, height, width)
    margin = min(_CROP_MARGIN, (min(height, width) - side) // 2)
    variance = ndimage.uniform_filter(lumas.var(0), side, mode="constant")
    # uniform_filter centres its window on the pixel side // 2 from the window's start.
    start = side // 2 + margin
    stop = start - 2 * margin - side + 1  # relative to height and width
    scores = variance[start : height + stop, start : width + stop].copy()
    crops: list[tuple[int, int, int]] = []
    while len(crops) < count and np.isfinite(scores.max()):
        row, column = (int(i) for i in np.unravel_index(int(np.argmax(scores)), scores.shape))
        crops.append((row + margin, column + margin, side))
        distance = 2 * side
        scores[max(0, row - distance + 1) : row + distance, max(0, column - distance + 1) : column + distance] = -np.inf
    return crops


def method_colours(methods: Sequence[str]) -> dict[str, int]:
    """A colour number of report.css for each method; kernels have the same colour in every report."""
    free = iter(_ESTIMATES * len(methods))
    fixed = {method: _FIXED.get(split_method(method)[0]) for method in methods}
    return {method: next(free) if number is None else number for method, number in fixed.items()}


def check_plot() -> None:
    """Raise a ConfigError if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            "the plots (--plot) need matplotlib: pip install 'blindsr[plot]'; report.html has the same plot without."
        )


def write_plots(results: AblationResults) -> list[Path]:
    """Write ablation.pdf and .png, the gain of every image by method, and time.pdf and .png; raises as `check_plot`."""
    check_plot()
    # The object interface: pyplot would look for a display and keep the figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    summary = summarise(results)
    colours = method_colours(results.plan["methods"])
    texts = labels(results.plan["methods"])
    methods = [method for method in texts if split_method(method)[0] != BICUBIC]
    figure = Figure(figsize=(6.0, 0.5 * len(methods) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for position, method in enumerate(methods):
        rows = [row for row in summary.images if row["method"] == method]
        gains = [row["gain"] for row in rows if row["gain"] is not None]
        colour = COLOURS[colours[method]]
        axes.scatter(gains, [position] * len(gains), s=28, color=colour, alpha=0.55, linewidths=0)
        if gains:
            axes.plot([sum(gains) / len(gains)] * 2, [position - 0.28, position + 0.28], color=colour, linewidth=2.5)
    axes.axvline(0, color=COLOURS[0], linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(methods)), [texts[method] for method in methods])
    axes.invert_yaxis()
    axes.set_xlabel(f"gain over the bicubic kernel, dB (×{results.plan['scale']})")
    axes.spines[["top", "right"]].set_visible(False)
    paths = _saved(figure, results.folder / "ablation")
    texts_of_methods = labels(row["method"] for row in summary.methods)
    points = {
        texts_of_methods[row["method"]]: (row["seconds"], row["psnr_y"], COLOURS[colours[row["method"]]])
        for row in summary.methods
    }
    return [*paths, *write_time_plot(points, results.folder / "time", "PSNR-Y, dB")]


def write_time_plot(points: Mapping[str, tuple[float, float, str]], stem: Path, quality: str) -> list[Path]:
    """Write a plot of quality over seconds as PDF and PNG; raises as `check_plot`.

    Args:
        points: Seconds, quality and colour of each method by its label.
        stem: Path of the files without their suffix.
        quality: What the vertical axis shows.
    """
    check_plot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for label, (seconds, value, colour) in points.items():
        axes.scatter([max(seconds, 1e-3)], [value], s=34, color=colour, linewidths=0)
        axes.annotate(label, (max(seconds, 1e-3), value), xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("seconds for an image")
    axes.set_ylabel(quality)
    axes.margins(x=0.25, y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return _saved(figure, stem)


def _saved(figure: Any, stem: Path) -> list[Path]:  # noqa: ANN401
    paths = []
    for suffix in ("pdf", "png"):
        buffer = io.BytesIO()
        # Without a date, equal results give equal files.
        figure.savefig(buffer, format=suffix, dpi=200, metadata={"CreationDate": None} if suffix == "pdf" else None)
        paths.append(stem.with_suffix(f".{suffix}"))
        atomic_write_bytes(paths[-1], buffer.getvalue(), overwrite=True)
    return paths
