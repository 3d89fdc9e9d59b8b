"""The report on an ablation: the main result in words, the table of methods, the gain of every image, the images."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from blindsr.errors import BlindSRError
from blindsr.evaluation.report.comparison import Entry, View, anchor, comparison, html_table, write_page
from blindsr.evaluation.report.pictures import method_colours
from blindsr.evaluation.results import (
    BICUBIC,
    INTERPOLATION,
    TRUE,
    AblationResults,
    Row,
    Summary,
    TableCell,
    caption,
    estimates,
    format_number,
    image_table,
    labels,
    split_method,
    summarise,
    summary_table,
)
from blindsr.evaluation.score import MAX_SHIFT, read_8bit
from blindsr.kernels import Kernel
from blindsr.kernels.files import read_kernel
from blindsr.kernels.metrics import widths_text

__all__ = ["finding", "write_ablation_report"]

_HELP = (
    "bicubic interpolation   no kernel and no network: the lower end of the comparison\n"
    "bicubic kernel          super-resolution with the kernel that non-blind methods assume\n"
    "NAME kernel             the kernel was estimated from the LR image alone by the estimator NAME\n"
    "true kernel             the kernel that degraded the image: the upper end\n\n"
    "All runs have the same settings and seeds; only the kernel and the upscaler differ."
)


def write_ablation_report(results: AblationResults) -> Path:
    """Write report.html into the folder of an ablation: images of the first seed, means of the metrics."""
    summary, plan = summarise(results), results.plan
    images, seeds = len(plan["images"]), len(plan["seeds"])
    return write_page(
        results.folder / "report.html",
        title="Estimated and true kernels compared",
        eyebrow=f"blindsr {plan['versions']['blindsr']} · {results.folder.resolve().name} · ×{plan['scale']} · "
        f"{images} image{'s' * (images != 1)} · {seeds} seed{'s' * (seeds != 1)} · "
        f"{str(plan.get('finished', ''))[:10]}",
        lead=finding(summary, plan["scale"]),
        body=_body(results, summary),
        details={
            "Settings": plan["settings"],
            "Versions and machine": {name: plan[name] for name in ("versions", "source", "machine")},
            "Explanation of the methods": _HELP,
        },
        overwrite=True,
    )


def finding(summary: Summary, scale: int) -> str:
    """The main result of an ablation in one or two sentences."""
    by_method = {row["method"]: row for row in summary.methods}
    if not estimates(by_method):
        return "No image is finished with every method yet; run the ablation again to complete it."
    best = max((by_method[name] for name in estimates(by_method)), key=lambda row: float(row["psnr_y"]))

    def change(gain: float) -> str:
        return f"{'gains' if gain >= 0 else 'loses'} {format_number(abs(gain), 2)} dB"

    text = (
        f"On {best['images']} image{'s' * (best['images'] != 1)} at ×{scale}, the {labels(by_method)[best['method']]} "
        f"{change(best['gain'])} over the bicubic kernel that a non-blind method assumes"
    )
    if best["gap_closed"] is not None:
        text += f", {format_number(100 * best['gap_closed'], 0)} % of the gain of the true kernel"
    text += "."
    if best["worst_image"] is not None and best["images"] > 1:
        text += f" On its worst image, {best['worst_image']}, it {change(best['worst_gain'])}."
    return text


def _body(results: AblationResults, summary: Summary) -> Iterator[str]:
    colours = method_colours(results.plan["methods"])
    if summary.methods:
        yield _summary_card(summary, results, colours)
    yield _gain_card(summary, colours)
    if summary.images:
        yield _image_card(summary, results.plan)
    for name in results.plan["images"]:
        entry = _entry(name, results, summary, colours)
        if entry is not None:
            yield comparison(entry)
    if results.failures:
        texts = (f"{row['image']}, {row['method']}, seed {row['seed']}: {row['error']}" for row in results.failures)
        lines = "".join(f"<li>{escape(text)}</li>" for text in texts)
        yield f'<section class="card"><h2>Cells that failed</h2><ul>{lines}</ul></section>'


def _table(headings: Sequence[str], rows: str) -> str:
    cells = "".join(f'<th scope="col"><button type="button">{escape(heading)}</button></th>' for heading in headings)
    return html_table("sortable", cells, rows)


def _cell(cell: TableCell) -> str:
    data = "" if cell.value is None else f' data-value="{cell.value:.6g}"'
    addition = f"<span class=sub>{escape(cell.addition)}</span>" if cell.addition else ""
    return f"<td{data}>{escape(cell.text)}{addition}</td>"


def _summary_card(summary: Summary, results: AblationResults, colours: Mapping[str, int]) -> str:
    headings, rows = summary_table(summary)
    psnr = {row["method"]: row["psnr_y"] for row in summary.methods}
    best = max(estimates(psnr), key=lambda name: float(psnr[name]), default=None)
    body = "".join(
        f'<tr class="c{colours[method]}{" best" if method == best else ""}"><td class="name"><span class="dot"></span>'
        f"{escape(label.text)}</td>{''.join(map(_cell, cells))}</tr>"
        for method, (label, *cells) in zip(psnr, rows, strict=True)
    )
    return (
        f'<section class="card"><h2>Methods</h2>{_table(headings, body)}'
        f'<p class="small">{escape(caption(summary, results.plan))}</p></section>'
    )


def _gain_card(summary: Summary, colours: Mapping[str, int]) -> str:
    """A point for each image on an axis of gains: the spread that a mean hides."""
    gains: dict[str, list[tuple[str, float]]] = {}
    for row in summary.images:
        if row["gain"] is not None and split_method(row["method"])[0] != BICUBIC:
            gains.setdefault(row["method"], []).append((row["image"], row["gain"]))
    values = [0.0, *(gain for points in gains.values() for _, gain in points)]
    low, high = min(values), max(values)
    if not 0 < high - low < math.inf:
        return ""

    def mark(tag: str, gain: float, content: str = "", title: str = "") -> str:
        return f'<{tag} style="left:{100 * (gain - low) / (high - low):.2f}%" title="{title}">{content}</{tag}>'

    tracks, texts = "", labels(colours)
    for method, points in gains.items():
        points = [*points, ("mean", math.fsum(gain for _, gain in points) / len(points))]
        titles = [f"{escape(name)}: {format_number(gain, 2, signed=True)} dB" for name, gain in points]
        tags = ["i"] * (len(points) - 1) + ["b"]
        marks = (mark(tag, gain, title=title) for tag, (_, gain), title in zip(tags, points, titles, strict=True))
        tracks += (
            f'<div class="who c{colours[method]}"><span class="dot"></span>{escape(texts[method])}</div>'
            f'<div class="track c{colours[method]}">{mark("em", 0)}{"".join(marks)}</div>'
        )
    ticks = "".join(mark("span", gain, format_number(gain, 1, signed=True)) for gain in {low: 0, 0.0: 0, high: 0})
    return (
        '<section class="card"><h2>Gain of every image</h2><p class="small">PSNR-Y in dB over the same upscaler with '
        f'the bicubic kernel (dashed line). A point is an image, the bar is the mean.</p><div class="strip">{tracks}'
        f'<div></div><div class="scale">{ticks}</div></div></section>'
    )


def _image_card(summary: Summary, plan: Mapping[str, Any]) -> str:
    """PSNR-Y of every image and method; the names link to the images."""
    texts = labels(plan["methods"])
    body = "".join(
        f'<tr><td class="name"><a href="#{anchor(name)}">{escape(name)}</a></td>{"".join(map(_cell, cells))}</tr>'
        for name, cells in image_table(summary, plan).items()
        if any(cell.value is not None for cell in cells)
    )
    rows = [row for row in summary.images if row["shift"] > MAX_SHIFT and row["method"] != INTERPOLATION]
    shifted = escape(", ".join(f"{row['image']} ({texts[row['method']]}, {row['shift']:.2f} px)" for row in rows))
    warning = f'<p class="note">Shifted against HR by over {MAX_SHIFT} px, which lowers PSNR: {shifted}.</p>'
    return (
        f'<section class="card"><h2>Images</h2>{_table(["image", *texts.values()], body)}'
        f'<p class="small">PSNR-Y in dB.</p>{warning if shifted else ""}</section>'
    )


def _entry(name: str, results: AblationResults, summary: Summary, colours: Mapping[str, int]) -> Entry | None:
    cells: dict[str, Row] = {}
    for row in results.rows:
        if row["image"] == name:
            cells.setdefault(row["method"], row)
    texts = {method: text for method, text in labels(results.plan["methods"]).items() if method in cells}
    if len(texts) < 2:
        return None
    metrics = {row["method"]: row for row in summary.images if row["image"] == name}
    views = [
        View(
            method=method,
            label=text,
            pixels=read_8bit(results.folder / cells[method]["files"]["sr"]),
            colour=colours[method],
            kernel=_kernel(results.folder, cells[method], method, results.plan["scale"]),
            metrics={
                "PSNR-Y": format_number(metrics[method]["psnr_y"], 2),
                "gain": format_number(metrics[method]["gain"], 2, signed=True),
                "SSIM": format_number(metrics[method]["ssim_y"], 4),
                "NCC": format_number(metrics[method]["ncc"], 3),
            },
        )
        for method, text in texts.items()
    ]
    height, width = views[0].pixels.shape[:2]
    hr = read_8bit(results.folder / next(iter(cells.values()))["files"]["hr"])[:height, :width]
    truth = next((view.kernel for view in views if split_method(view.method)[0] == TRUE), None)
    words = "unknown" if truth is None else widths_text(truth)
    candidates = estimates(texts) or list(texts)[1:]
    warnings = [f"{texts[m]}: {text}" for m in texts for text in cells[m].get("warnings", [])]
    return Entry(
        name=name,
        views=(*views, View(method="hr", label="HR, ground truth", pixels=hr, colour=5)),
        left=next(iter(texts)),
        right=max(candidates, key=lambda method: float(metrics[method]["psnr_y"])),
        facts={"size": f"{width}×{height} px", "true kernel": words},
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _kernel(folder: Path, row: Row, method: str, scale: int) -> Kernel | None:
    if "kernel" in row["files"] and split_method(method)[0] != BICUBIC:  # which is the same for every image
        with contextlib.suppress(BlindSRError):  # a damaged kernel file must not prevent the report
            return read_kernel(folder / row["files"]["kernel"], scale=scale)[0]
    return None
