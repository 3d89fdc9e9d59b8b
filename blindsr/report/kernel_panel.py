"""Kernels side by side on one scale, and their transfer curves: inline PNG and SVG."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from blindsr.kernels import Kernel
from blindsr.kernels.picture import colour_map
from blindsr.report.model import View
from blindsr.report.pictures import data_uri

__all__ = ["kernel_cards", "transfer_curves"]

_Floats = NDArray[np.float64]


def kernel_cards(views: Sequence[View], colours: Mapping[str, int]) -> str:
    """HTML of the kernels of an entry, on one frame and one colour scale; empty if no view has one.

    Args:
        views: Those with a kernel are shown.
        colours: Number of the colour of each method.
    """
    shown = _shown(views)
    if not shown:
        return ""
    frame = max(_reach(kernel) for _, kernel in shown)
    low = min(0.0, *(float(kernel.array.min()) for _, kernel in shown))
    # Bicubic's peak is twice any blur's: where others are shown, it saturates instead of darkening them.
    blurs = [kernel for _, kernel in shown if not _is_bicubic(kernel)] or [kernel for _, kernel in shown]
    high = max(float(kernel.array.max()) for kernel in blurs)
    saturates = any(float(kernel.array.max()) > high for _, kernel in shown)
    cards = "".join(_card(view, kernel, frame, (low, high), colours[view.method]) for view, kernel in shown)
    return (
        f'<div class="kernels"><div class="kernel-row">{cards}</div>{_bar(low, high, saturates=saturates)}'
        f'<p class="small">{frame}×{frame} HR pixels; the square is one LR pixel, the ring one σ.</p></div>'
    )


def transfer_curves(views: Sequence[View], colours: Mapping[str, int], reference: str | None) -> str:
    """HTML of the transfer curves of an entry's kernels along two axes; empty if no view has a kernel.

    Args:
        views: Those with a kernel are shown.
        colours: Number of the colour of each method.
        reference: Method whose kernel's axes the curves follow; None, or one without a kernel, takes the last.
    """
    shown = _shown(views)
    if not shown:
        return ""
    whose, axes = next(((v, k) for v, k in shown if v.method == reference), shown[-1])
    curves = "".join(
        _curves(shown, colours, axes.angle + turn, title) for turn, title in ((0.0, "long axis"), (90.0, "short axis"))
    )
    return (
        f'<h3>What each kernel lets through</h3><p class="small">Along the axes of “{escape(whose.label)}”.</p>'
        f'<div class="mtfs">{curves}</div>'
    )


def _shown(views: Sequence[View]) -> list[tuple[View, Kernel]]:
    return [(view, view.kernel) for view in views if view.kernel is not None]


def _is_bicubic(kernel: Kernel) -> bool:
    """Its negative lobes make its second moment zero: a σ would mislead."""
    return kernel.provenance.get("made_by") == "bicubic" or kernel.sigmas[0] < 0.1


def _reach(kernel: Kernel) -> int:
    """Side of the frame that shows a kernel: all but a thousandth of it."""
    return min(kernel.size, kernel.support(0.999) + 2)


def _framed(kernel: Kernel, frame: int) -> _Floats:
    margin = (frame - kernel.size) // 2
    if margin >= 0:
        return np.pad(kernel.array, margin)
    return kernel.array[-margin : kernel.size + margin, -margin : kernel.size + margin]


def _card(view: View, kernel: Kernel, frame: int, limits: tuple[float, float], colour: int) -> str:
    level = (_framed(kernel, frame) - limits[0]) / (limits[1] - limits[0])
    pixels = colour_map()[np.round(255 * np.clip(level, 0, 1)).astype(int)]
    long, short = kernel.sigmas
    if _is_bicubic(kernel):
        words = "with negative lobes"
    elif long - short < 0.05 * long:
        words = f"σ {long:.2f} px"
    else:
        words = f"σ {long:.2f} / {short:.2f} px, {kernel.angle:.0f}°"
    return (
        f'<figure class="kernel c{colour}"><div class="kernel-image">'
        f'<img src="{data_uri(pixels, "png")}" alt="Weights of the kernel: {escape(view.label)}">'
        f"{_marks(kernel, frame)}</div>"
        f'<figcaption><span class="dot"></span>{escape(view.label.removesuffix(" kernel"))}'
        f'<span class="small">{words}</span></figcaption>'
        "</figure>"
    )


def _marks(kernel: Kernel, frame: int) -> str:
    middle = frame / 2
    pixel = kernel.scale
    values, vectors = np.linalg.eigh(kernel.covariance)
    ring = ""
    if values.min() > 0.01:
        angle = np.degrees(np.arctan2(vectors[0, 1], vectors[1, 1]))
        cy, cx = kernel.centroid + middle
        ring = (
            f'<ellipse cx="{cx:.3f}" cy="{cy:.3f}" rx="{np.sqrt(values[1]):.3f}" ry="{np.sqrt(values[0]):.3f}" '
            f'transform="rotate({angle:.2f} {cx:.3f} {cy:.3f})"/>'
        )
    corner = middle - pixel / 2
    return (
        f'<svg viewBox="0 0 {frame} {frame}" aria-hidden="true">'
        f'<rect x="{corner:g}" y="{corner:g}" width="{pixel}" height="{pixel}"/>{ring}</svg>'
    )


def _bar(low: float, high: float, *, saturates: bool) -> str:
    stops = colour_map()[np.linspace(0, 255, 12).astype(int)]
    gradient = ", ".join(f"rgb({r},{g},{b})" for r, g, b in stops)
    return (
        f'<div class="bar"><span>{low:.3f}</span><i style="background:linear-gradient(90deg,{gradient})"></i>'
        f"<span>{high:.3f}{' and over' if saturates else ''}</span></div>".replace("-0.", "−0.")
    )


# The chart, in its own units; text is sized for a width of 320 to 420 px on the screen.
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 352.0, 26.0, 176.0


def _place(x: float, y: float, high: float) -> tuple[float, float]:
    return _LEFT + x / 0.5 * (_RIGHT - _LEFT), _BOTTOM - y / high * (_BOTTOM - _TOP)


def _curves(shown: Sequence[tuple[View, Kernel]], colours: Mapping[str, int], angle: float, title: str) -> str:
    frequencies = np.linspace(0, 0.5, 101, dtype=np.float64)
    curves = [(view, kernel.transfer(frequencies, angle)) for view, kernel in shown]
    high = max(1.05, 1.05 * max(float(values.max()) for _, values in curves))
    lines = "".join(
        f'<path class="c{colours[view.method]}" d="{_path(frequencies, values, high)}">'
        f"<title>{escape(view.label)}</title></path>"
        for view, values in curves
    )
    return (
        f'<svg class="mtf" viewBox="0 0 360 212" role="img" aria-label="Transfer along the {title}">'
        f'<text class="head" x="{_LEFT}" y="14">MTF along the {title}</text>'
        f"{_grid(shown[0][1].scale, high)}{lines}</svg>"
    )


def _path(xs: _Floats, ys: _Floats, high: float) -> str:
    points = (_place(float(x), float(y), high) for x, y in zip(xs, ys, strict=True))
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _grid(scale: int, high: float) -> str:
    parts = []
    for value in (0.0, 0.5, 1.0):
        _, y = _place(0, value, high)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        x, _ = _place(value, 0, high)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_BOTTOM + 15}" text-anchor="middle">{value:g}</text>')
    x, _ = _place(0.5 / scale, 0, high)
    parts.append(f'<path class="nyquist" d="M{x:.1f} {_TOP}V{_BOTTOM}"/>')
    parts.append(f'<text class="tick" x="{x + 5:.1f}" y="{_TOP + 9}">LR Nyquist</text>')
    middle = (_LEFT + _RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{_BOTTOM + 31}" text-anchor="middle">cycles per HR pixel</text>')
    return "".join(parts)
