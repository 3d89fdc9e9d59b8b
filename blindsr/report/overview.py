"""The top of an ablation's page: the finding in words, the summary, every image's gain."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from blindsr.pipelines.ablation_plan import BICUBIC, INTERPOLATION, TRUE
from blindsr.pipelines.ablation_summary import ImageRow, MethodSummary, Summary, label_of
from blindsr.report.comparison import anchor

__all__ = ["by_image_card", "finding", "strip_card", "summary_card"]


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number for people: a real minus, a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def finding(summary: Summary, scale: int) -> str:
    """What the ablation says, in two sentences."""
    methods = {row.method: row for row in summary.methods}
    estimates = [row for row in summary.methods if row.method not in (INTERPOLATION, BICUBIC, TRUE)]
    if not estimates or BICUBIC not in methods:
        return "Not every method has finished an image yet; run the ablation again to complete it."
    best = max(estimates, key=lambda row: row.psnr_y)
    count = f"On {best.images} image{'s' * (best.images != 1)} at ×{scale}"
    gain = best.gain or 0.0
    words = (
        f"{count}, the {best.method} kernel {'gains' if gain >= 0 else 'loses'} {number(abs(gain), 2)} dB over the "
        "bicubic one that a non-blind method would assume"
    )
    if best.gap_closed is not None:
        words += f", and goes {number(100 * best.gap_closed, 0)} % of the way to the true kernel"
    words += "."
    if best.worst_image is not None and best.images > 1:
        verb = "gains" if (best.worst_gain or 0) >= 0 else "loses"
        words += f" On its worst image, {best.worst_image}, it {verb} {number(abs(best.worst_gain or 0.0), 2)} dB."
    return words


def _head(headings: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col"><button type="button">{escape(heading)}</button></th>' for heading in headings)
    return f"<thead><tr>{cells}</tr></thead>"


def _cell(text: str, value: float | None = None, sub: str = "") -> str:
    data = "" if value is None else f' data-value="{value:.6g}"'
    return f"<td{data}>{text}{f'<span class=sub>{sub}</span>' if sub else ''}</td>"


def _sd(value: float | None, digits: int) -> str:
    return "" if value is None else f"± {number(value, digits)}"


_SUMMARY = ("kernel", "PSNR-Y", "SSIM", "gain, dB", "worst gain", "gap closed", "kernel NCC", "cov. error", "seconds")


def summary_card(summary: Summary, colours: Mapping[str, int]) -> str:
    """The table of methods."""
    estimates = [m for m in summary.methods if m.method not in (INTERPOLATION, BICUBIC, TRUE)]
    best = max(estimates, key=lambda row: row.psnr_y).method if estimates else None
    rows = "".join(_summary_row(row, colours[row.method], is_best=row.method == best) for row in summary.methods)
    left_out = ""
    if summary.left_out:
        names = ", ".join(map(escape, summary.left_out))
        left_out = f'<p class="note">Not in the means, as a method is missing there: {names}.</p>'
    return (
        f'<section class="card"><h2>By kernel</h2><div class="scroll"><table class="sortable">{_head(_SUMMARY)}'
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="small">Means over the images. Gain: over SR with the bicubic kernel, ± its spread over the images. '
        "Gap closed: the share of the way from the bicubic to the true kernel. PSNR and SSIM on luma as MATLAB has "
        f"them, with the scale in pixels shaved.</p>{left_out}</section>"
    )


def _summary_row(row: MethodSummary, colour: int, *, is_best: bool) -> str:
    share = "–"
    if row.gap_closed is not None:
        width = 100 * min(1.0, max(0.0, row.gap_closed))
        words = f"{number(100 * row.gap_closed, 0)} %"
        share = f'<span class="meter"><i style="width:{width:.1f}%"></i></span><span class="share">{words}</span>'
    cells = [
        f'<td class="name"><span class="dot"></span>{escape(label_of(row.method))}</td>',
        _cell(number(row.psnr_y, 2), row.psnr_y, _sd(row.seed_sd, 2)),
        _cell(number(row.ssim_y, 4), row.ssim_y),
        _cell(number(row.gain, 2, signed=True), row.gain, _sd(row.gain_sd, 2)),
        _cell(number(row.worst_gain, 2, signed=True), row.worst_gain, escape(row.worst_image or "")),
        _cell(share, row.gap_closed),
        _cell(number(row.ncc, 3), row.ncc),
        _cell(number(row.covariance_error, 2), row.covariance_error),
        _cell(number(row.seconds, 1), row.seconds),
    ]
    return f'<tr class="c{colour}{" best" if is_best else ""}">{"".join(cells)}</tr>'


def strip_card(summary: Summary, colours: Mapping[str, int]) -> str:
    """A dot an image on one axis of gains: the spread that a mean hides."""
    rows = {m: [r for r in summary.images if r.method == m and r.gain is not None] for m in colours}
    shown = {m: found for m, found in rows.items() if found and m != BICUBIC}
    gains = [row.gain or 0.0 for found in shown.values() for row in found]
    if not gains or not all(map(math.isfinite, gains)):
        return ""
    low_gain, high_gain = min(*gains, 0.0), max(*gains, 0.0)
    step = _nice_step(high_gain - low_gain)
    low = step * math.floor(low_gain / step - 0.1)
    high = step * math.ceil(high_gain / step + 0.1)

    def at(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    tracks = "".join(
        f'<div class="who c{colours[method]}"><span class="dot"></span>{escape(label_of(method))}</div>'
        f'<div class="track c{colours[method]}"><span class="zero" style="left:{at(0)}"></span>{_dots(found, at)}</div>'
        for method, found in shown.items()
    )
    count = round((high - low) / step)
    ticks = "".join(
        f'<span style="left:{at(value)}">{number(value, 0 if step >= 1 else 1, signed=value != 0)}</span>'
        for value in (round(low + i * step, 6) for i in range(count + 1))
    )
    return (
        '<section class="card"><h2>Gain of every image</h2><p class="small">dB over SR with the bicubic kernel (dashed '
        f'line); a dot is an image, the bar their mean.</p><div class="strip">{tracks}<div></div>'
        f'<div class="scale">{ticks}</div></div></section>'
    )


def _dots(rows: Sequence[ImageRow], at: Callable[[float], str]) -> str:
    dots = "".join(
        f'<i style="left:{at(row.gain or 0.0)}" title="{escape(row.image)}: {number(row.gain, 2, signed=True)} dB"></i>'
        for row in rows
    )
    mean = math.fsum(row.gain or 0.0 for row in rows) / len(rows)
    return f'{dots}<b style="left:{at(mean)}" title="mean: {number(mean, 2, signed=True)} dB"></b>'


def _nice_step(span: float) -> float:
    raw = max(span, 0.5) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def by_image_card(summary: Summary, colours: Mapping[str, int]) -> str:
    """PSNR-Y of every image and method; the names lead to the pictures."""
    names = list(dict.fromkeys(row.image for row in summary.images))
    by_cell = {(row.image, row.method): row for row in summary.images}
    shifted = [r for r in summary.images if r.shift > 0.1 and r.method != INTERPOLATION]
    body = "".join(_image_row(name, by_cell, tuple(colours)) for name in names)
    alarm = ""
    if shifted:
        words = ", ".join(f"{escape(r.image)} ({escape(r.method)}, {r.shift:.2f} px)" for r in shifted)
        alarm = f'<p class="note">Shifted against HR by more than 0.1 px, so judged too low: {words}.</p>'
    headings = ("image", *(label_of(method).removeprefix("SR, ") for method in colours))
    return (
        '<section class="card"><h2>By image</h2><div class="scroll"><table class="sortable">'
        f"{_head(headings)}<tbody>{body}</tbody></table></div>"
        f'<p class="small">PSNR-Y in dB.</p>{alarm}</section>'
    )


def _image_row(name: str, by_cell: Mapping[tuple[str, str], ImageRow], methods: Sequence[str]) -> str:
    cells = []
    for method in methods:
        row = by_cell.get((name, method))
        cells.append(_cell("–") if row is None else _cell(number(row.psnr_y, 2), row.psnr_y))
    return f'<tr><td class="name"><a href="#{anchor(name)}">{escape(name)}</a></td>{"".join(cells)}</tr>'
