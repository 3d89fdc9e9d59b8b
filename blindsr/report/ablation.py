"""report.html of an ablation."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from blindsr.errors import BlindSRError
from blindsr.image_io import atomic_write_bytes
from blindsr.kernels import Kernel
from blindsr.kernels.files import read_kernel
from blindsr.pipelines.ablation_plan import BICUBIC, INTERPOLATION, TRUE
from blindsr.pipelines.ablation_store import AblationResults
from blindsr.pipelines.ablation_summary import ImageRow, Summary, label_of, summarise
from blindsr.pipelines.evaluate import samples_8bit
from blindsr.report.comparison import comparison
from blindsr.report.model import Entry, View
from blindsr.report.overview import by_image_card, finding, number, strip_card, summary_card
from blindsr.report.page import page

__all__ = ["write_ablation_report"]

_HR = "hr"
_ESTIMATE_COLOURS = (2, 3, 6, 7)


def write_ablation_report(results: AblationResults) -> Path:
    """Write report.html into the folder of an ablation: one file, which needs no other.

    Pictures are of the first seed; figures are means over the seeds.

    Args:
        results: As `blindsr.pipelines.ablate.ablate` or `Store.load` returns them.

    Returns:
        The file.

    Raises:
        OutputError: The folder cannot be written.
    """
    summary = summarise(results)
    colours = _colours(results.plan["methods"])
    scale = int(results.plan["scale"])
    seeds = len(results.plan["seeds"])
    images = len(results.plan["images"])
    html = page(
        title="Estimated against true kernels",
        eyebrow=f"blindsr {results.plan['versions']['blindsr']} · {results.folder.resolve().name} · ×{scale} · "
        f"{images} image{'s' * (images != 1)} · {seeds} seed{'s' * (seeds != 1)} · {results.plan['last_run'][:10]}",
        lead=finding(summary, scale),
        body=_body(results, summary, colours),
        details=_details(results),
    )
    path = results.folder / "report.html"
    atomic_write_bytes(path, html.encode(), overwrite=True)
    return path


def _colours(methods: Sequence[str]) -> dict[str, int]:
    """A colour for each method, the same in every report."""
    fixed = {INTERPOLATION: 0, BICUBIC: 1, TRUE: 4}
    free = iter(_ESTIMATE_COLOURS * len(methods))
    return {method: fixed[method] if method in fixed else next(free) for method in methods}


def _body(results: AblationResults, summary: Summary, colours: Mapping[str, int]) -> Iterator[str]:
    if summary.methods:
        yield summary_card(summary, colours)
    yield strip_card(summary, colours)
    if summary.images:
        yield by_image_card(summary, colours)
    for name in results.plan["images"]:
        entry = _entry(name, results, summary)
        if entry is not None:
            yield comparison(entry, {**colours, _HR: 5}, reference=TRUE)
    if results.failures:
        lines = "".join(
            f"<li>{escape(row['image'])}, {escape(row['method'])}, seed {row['seed']}: {escape(row['error'])}</li>"
            for row in results.failures
        )
        yield f'<section class="card"><h2>Cells that failed</h2><ul>{lines}</ul></section>'


def _entry(name: str, results: AblationResults, summary: Summary) -> Entry | None:
    by_method: dict[str, Mapping[str, Any]] = {}
    for row in results.rows:
        if row["image"] == name:
            by_method.setdefault(row["method"], row)
    methods = [m for m in results.plan["methods"] if m in by_method]
    if len(methods) < 2:
        return None
    scale = int(results.plan["scale"])
    figures = {row.method: row for row in summary.images if row.image == name}
    views = [_view(by_method[m], figures[m], results.folder, scale) for m in methods]
    height, width = views[0].pixels.shape[:2]
    hr = samples_8bit(results.folder / by_method[methods[0]]["files"]["hr"])[:height, :width]
    views.append(View(method=_HR, label="HR, the truth", pixels=hr))
    estimates = [m for m in methods if m not in (INTERPOLATION, BICUBIC, TRUE)]
    best = max(estimates or methods[1:], key=lambda m: figures[m].psnr_y)
    notes = [f"{label_of(m)}: {note}" for m in methods for note in by_method[m].get("notes", ())]
    return Entry(
        name=name,
        views=tuple(views),
        left=INTERPOLATION if INTERPOLATION in methods else methods[0],
        right=best,
        scale=scale,
        facts={"size": f"{width}×{height} px", "true kernel": _in_words(views)},
        notes=tuple(dict.fromkeys(notes)),
    )


def _in_words(views: Sequence[View]) -> str:
    kernel = next((view.kernel for view in views if view.method == TRUE), None)
    if kernel is None:
        return "not known"
    long, short = kernel.sigmas
    return f"σ {long:.2f} / {short:.2f} px at {kernel.angle:.0f}°"


def _view(row: Mapping[str, Any], figures: ImageRow, folder: Path, scale: int) -> View:
    method = str(row["method"])
    return View(
        method=method,
        label=label_of(method).removeprefix("SR, "),
        pixels=samples_8bit(folder / row["files"]["sr"]),
        kernel=_kernel(folder / row["files"]["kernel"], scale) if "kernel" in row["files"] else None,
        figures={
            "PSNR-Y": number(figures.psnr_y, 2),
            "gain": "" if method == BICUBIC else number(figures.gain, 2, signed=True),
            "SSIM": number(figures.ssim_y, 4),
            "NCC": "" if figures.ncc is None else number(figures.ncc, 3),
        },
    )


def _kernel(path: Path, scale: int) -> Kernel | None:
    try:
        return read_kernel(path, scale=scale)[0]
    except BlindSRError:
        return None  # a page with one kernel less is better than none


def _details(results: AblationResults) -> dict[str, object]:
    plan = results.plan
    details: dict[str, object] = {"Settings": plan["settings"]}
    details["Versions and machine"] = {
        "versions": plan["versions"],
        "source": plan["source"],
        "machine": plan["machine"],
    }
    details["How to read it"] = (
        "bicubic interpolation   no network: the floor\n"
        "SR, bicubic kernel      the network takes the image for a bicubic one, as non-blind methods do\n"
        "SR, NAME kernel         the kernel was estimated from the image alone by NAME\n"
        "SR, true kernel         the network was given the kernel that made the image: the ceiling\n\n"
        "All SR runs have the same settings and seeds; only the kernel differs."
    )
    return details
