"""Plots for papers by matplotlib, an optional extra that is imported here alone and late."""

import importlib.util
import io
from pathlib import Path

from blindsr.errors import ConfigError
from blindsr.image_io import atomic_write_bytes
from blindsr.pipelines.ablation_plan import BICUBIC
from blindsr.pipelines.ablation_store import AblationResults
from blindsr.pipelines.ablation_summary import label_of, summarise

__all__ = ["check_plot", "write_plots"]

_COLOURS = {"interpolation": "#8b909a", "bicubic": "#c9892b", "true": "#1f8a5b"}
_OTHERS = ("#2463c9", "#a8399b", "#b5452f", "#0e8a9a")


def check_plot() -> None:
    """Say before the work that the plot cannot be drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            "a plot needs matplotlib, which is not installed: pip install 'blindsr[plot]'; without --plot everything "
            "else is made, and report.html has the same picture."
        )


def write_plots(results: AblationResults) -> list[Path]:
    """Write ablation.pdf and ablation.png: the gain of every image by method.

    Raises:
        ConfigError: matplotlib is not installed.
        OutputError: The folder cannot be written.
    """
    check_plot()
    # The object interface: pyplot would look for a display and keep the figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    summary = summarise(results)
    methods = [m for m in results.plan["methods"] if m != BICUBIC]
    figure = Figure(figsize=(6.0, 0.5 * len(methods) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    others = iter(_OTHERS * len(methods))
    for place, method in enumerate(methods):
        gains = [row.gain for row in summary.images if row.method == method and row.gain is not None]
        colour = _COLOURS.get(method) or next(others)
        axes.scatter(gains, [place] * len(gains), s=28, color=colour, alpha=0.55, linewidths=0)
        if gains:
            axes.plot([sum(gains) / len(gains)] * 2, [place - 0.28, place + 0.28], color=colour, linewidth=2.5)
    axes.axvline(0, color="#8b909a", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(methods)), [label_of(m) for m in methods])
    axes.invert_yaxis()
    axes.set_xlabel(f"gain over SR with the bicubic kernel, dB (×{results.plan['scale']})")
    axes.spines[["top", "right"]].set_visible(False)
    written = []
    for suffix in ("pdf", "png"):
        buffer = io.BytesIO()
        # No date: the same results give the same file.
        metadata = {"CreationDate": None} if suffix == "pdf" else None
        figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
        path = results.folder / f"ablation.{suffix}"
        atomic_write_bytes(path, buffer.getvalue(), overwrite=True)
        written.append(path)
    return written
