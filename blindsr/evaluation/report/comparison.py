"""The page of a report, the comparison of one image (slider, metrics, crops, kernels), the report on a photograph."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindsr.evaluation.report.pictures import choose_crops, data_uri, reduced
from blindsr.evaluation.results import format_number
from blindsr.evaluation.score import read_8bit
from blindsr.image_io import atomic_write_bytes, to_uint8
from blindsr.kernels import Kernel
from blindsr.kernels.metrics import widths_text
from blindsr.kernels.plot import kernel_plot_png
from blindsr.ops import imresize, to_array, to_tensor
from blindsr.pipelines.checks import CONSISTENCY_MEANING
from blindsr.pipelines.outputs import image_outputs

__all__ = [
    "Entry", "View", "anchor", "comparison", "html_table", "report_for_photo", "report_path", "write_page",
]  # fmt: skip

_Crop = tuple[int, int, int]  # top, left, side


def write_page(
    path: Path,
    *,
    title: str,
    eyebrow: str,
    lead: str,
    body: Iterable[str],
    details: Mapping[str, object],
    overwrite: bool = False,
) -> Path:
    """Write a report: a single HTML file that contains its style, script and images, and needs no network.

    Args:
        path: The file, which is returned.
        title: Plain text, as are the two after it.
        eyebrow: A line above the title.
        lead: The main result in words.
        body: HTML.
        details: JSON-able values by heading, in collapsed sections at the end.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists or cannot be written.
    """
    sections = ""
    for heading, value in details.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        sections += f"<details><summary>{escape(heading)}</summary><pre>{escape(text)}</pre></details>"
    assets = Path(__file__).parent / "assets"
    page, style, script = ((assets / f).read_text(encoding="utf-8") for f in ("page.html", "report.css", "report.js"))
    texts = {"title": escape(title), "eyebrow": escape(eyebrow), "lead": escape(lead)}
    html = Template(page).substitute(texts, body="".join(body), details=sections, style=style, script=script)
    atomic_write_bytes(path, html.encode(), overwrite=overwrite)
    return path


def html_table(kind: str, headings: str, rows: str) -> str:
    """A table of a class of report.css from its cells."""
    table = f'<table class="{kind}"><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One version of an image: the result of a method, or the ground truth."""

    method: str  # identifier in the page
    label: str
    pixels: NDArray[np.uint8]  # (H, W, 1) or (H, W, 3); all views of an entry have one size
    colour: int  # number of a colour in report.css
    kernel: Kernel | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)  # texts by heading


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One image with its views."""

    name: str
    views: tuple[View, ...]  # two or more, in the order of the tables
    left: str  # method on the left of the slider at first
    right: str
    crops: int = 1  # number of zoomed crops
    heading: str = ""  # instead of the name
    facts: Mapping[str, str] = field(default_factory=dict)  # short texts by heading
    warnings: tuple[str, ...] = ()


def anchor(name: str) -> str:
    """An image's name as the id of an HTML element."""
    return "image-" + re.sub(r"[^A-Za-z0-9_-]", "-", name)


def comparison(entry: Entry) -> str:
    """HTML of one image."""
    crops = choose_crops([view.pixels for view in entry.views], entry.crops)
    facts = "".join(f"<li><b>{escape(k)}</b> {escape(v)}</li>" for k, v in entry.facts.items())
    warnings = "".join(f'<p class="note">{escape(text)}</p>' for text in entry.warnings)
    body = _slider(entry, crops)
    if len(entry.views) > 2:
        body = f'<div class="pair"><div>{body}</div><div class="beside">{_methods(entry)}</div></div>'
    plots = [(view, kernel_plot_png(view.kernel)) for view in entry.views if view.kernel is not None]
    kernels = "".join(_figure(view, plot, "kernel", " kernel") for view, plot in plots)
    if kernels:
        kernels = f'<h3>Kernels and their transfer functions</h3><div class="kernels">{kernels}</div>'
    return (
        f'<article class="card" id="{anchor(entry.name)}"><h2>{escape(entry.heading or entry.name)}</h2>'
        f'<ul class="chips">{facts}</ul>{body}{_zoomed(entry, crops)}{kernels}{warnings}</article>'
    )


def _slider(entry: Entry, crops: Sequence[_Crop]) -> str:
    height, width = entry.views[0].pixels.shape[:2]
    name = escape(entry.name)
    images = "".join(
        f'<img class="{_sides(view, entry)}" data-method="{escape(view.method)}" alt="{name}: {escape(view.label)}" '
        f'decoding="async" src="{data_uri(reduced(view.pixels), "webp")}">'
        for view in entry.views
    )
    outlines = "".join(
        f'<i class="where" style="left:{100 * left / width:.3f}%;top:{100 * top / height:.3f}%;'
        f'width:{100 * side / width:.3f}%;height:{100 * side / height:.3f}%"></i>'
        for top, left, side in crops
    )
    labels = {view.method: escape(view.label) for view in entry.views}
    return (
        f'<div class="slider" style="aspect-ratio:{width}/{height};max-width:{84 * width / height:.2f}vh">{images}'
        f'{outlines}<i class="divider"><b></b></i><span class="tag tag-left">{labels[entry.left]}</span>'
        f'<span class="tag tag-right">{labels[entry.right]}</span><input type="range" min="0" max="100" step="0.1" '
        f'value="50" aria-label="Divider between the two versions of {name}"></div>'
    )


def _sides(view: View, entry: Entry) -> str:
    return " ".join(side for side in ("left", "right") if getattr(entry, side) == view.method)


def _methods(entry: Entry) -> str:
    headings = list(dict.fromkeys(key for view in entry.views for key in view.metrics))
    rows = ""
    for view in entry.views:
        label = escape(view.label)
        radios = "".join(
            f'<td class="side"><input type="radio" name="{anchor(entry.name)}-{side}" value="{escape(view.method)}" '
            f'data-side="{side}" data-label="{label}" aria-label="{label} on the {side}"'
            f"{' checked' if side in _sides(view, entry).split() else ''}></td>"
            for side in ("left", "right")
        )
        cells = "".join(f"<td>{escape(view.metrics.get(heading, ''))}</td>" for heading in headings)
        name = f'<td class="name"><span class="dot"></span>{label}</td>'
        rows += f'<tr class="c{view.colour}">{radios}{name}{cells}</tr>'
    cells = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    first = '<th class="side">left</th><th class="side">right</th><th class="name">image</th>'
    return html_table("methods", first + cells, rows)


def _figure(view: View, image: NDArray[np.uint8] | bytes, content: str, kind: str = "") -> str:
    label = escape(view.label)
    return (
        f'<figure class="c{view.colour}{kind}"><img src="{data_uri(image, "png")}" alt="{label}, {content}">'
        f'<figcaption><span class="dot"></span>{label}</figcaption></figure>'
    )


def _zoomed(entry: Entry, crops: Sequence[_Crop]) -> str:
    is_pair = len(entry.views) == 2
    body = ""
    for top, left, side in crops:
        parts = ((view, view.pixels[top : top + side, left : left + side]) for view in entry.views)
        figures = "".join(_figure(view, part, "zoomed") for view, part in parts)
        body += f'<div class="crops{" two" if is_pair else ""}">{figures}</div>'
    positions = " and ".join(f"x {left}, y {top}" for top, left, _ in crops)
    return (
        f'<h3>Largest differences</h3><p class="small">{crops[0][2]}×{crops[0][2]} px at {positions}, pixel by pixel; '
        f"outlined in the image above.</p>{f'<div class=rows>{body}</div>' if is_pair else body}"
    )


def report_path(photo: Path, scale: float | str, output: Path | None = None) -> Path:
    """Path of the report: that of the SR image with the suffix .html."""
    return (image_outputs(photo, scale, ".png", output).image or photo).with_suffix(".html")


def report_for_photo(
    photo: Path, image: Path, kernel: Kernel, record: Mapping[str, Any], path: Path, *, overwrite: bool = False
) -> Path:
    """Write a report on a photograph, its SR image file, its kernel and the record of the run, and return its path.

    There is no ground truth, so it compares with interpolation.

    Raises:
        ImageError: An image cannot be read, or is neither grey nor RGB.
        OutputError: The report exists, or cannot be written.
    """
    lr, sr = read_8bit(photo), read_8bit(image, like=photo)
    interpolated = to_array(imresize(to_tensor(lr).float() / 255, size=sr.shape[:2]).clamp(0, 1))
    views = (
        View(method="interpolation", label="bicubic interpolation", pixels=to_uint8(interpolated), colour=0),
        View(method="sr", label="blindsr", pixels=sr, colour=2, kernel=kernel),
    )
    decibels = record["consistency"]["psnr_db"]  # JSON has no infinity
    entry = Entry(
        name=photo.stem,
        views=views,
        left="interpolation",
        right="sr",
        crops=2,
        heading="Before and after",
        facts={
            "input": f"{lr.shape[1]}×{lr.shape[0]} px",
            "result": f"{sr.shape[1]}×{sr.shape[0]} px",
            "data consistency": f"{format_number(math.inf if decibels is None else decibels, 1)} dB",
            "precision": str(record["precision"]),
        },
        warnings=(*record.get("warnings", ()), f"Data consistency: {CONSISTENCY_MEANING}"),
    )
    method = (record.get("estimate") or {}).get("method")
    details = {"Kernel": "kernel", "Estimate": "estimate", "Settings": "settings", "Seconds": "timings"}
    details |= {"Versions": "versions", "Machine": "machine"}
    return write_page(
        path,
        title=photo.name,
        eyebrow=f"blindsr {record['versions']['blindsr']} · ×{sr.shape[0] / lr.shape[0]:.3g} · "
        f"{str(record['finished'])[:10]}",
        lead=f"Super-resolved to {sr.shape[1]}×{sr.shape[0]} px in {record['seconds']:.1f} s. The kernel "
        f"{'was given' if method is None else f'was estimated by {method}'}: {widths_text(kernel)}, in pixels of the "
        "result.",
        body=[comparison(entry)],
        details={heading: record[key] for heading, key in details.items() if key in record},
        overwrite=overwrite,
    )
