"""The tables of an ablation: CSV for programs, Markdown for pages, LaTeX for papers."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict

from blindsr.image_io import atomic_write_bytes
from blindsr.pipelines.ablation_store import AblationResults
from blindsr.pipelines.ablation_summary import ImageRow, MethodSummary, Summary, label_of, summarise

__all__ = ["latex_table", "markdown_table", "write_tables"]

_HEADINGS = ("kernel", "PSNR-Y", "SSIM", "gain", "worst gain", "gap closed", "kernel NCC", "cov. error", "seconds")


def write_tables(results: AblationResults) -> None:
    """Write summary.csv, images.csv, table.md and table.tex into the folder of an ablation.

    Raises:
        OutputError: The folder cannot be written.
    """
    summary = summarise(results)
    contents = {
        "summary.csv": _csv(MethodSummary, [asdict(row) for row in summary.methods]),
        "images.csv": _csv(ImageRow, [asdict(row) for row in summary.images]),
        "table.md": markdown_table(summary, results),
        "table.tex": latex_table(summary, results),
    }
    for name, text in contents.items():
        atomic_write_bytes(results.folder / name, text.encode(), overwrite=True)


def _csv(kind: type, rows: Sequence[dict[str, object]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(kind.__dataclass_fields__), lineterminator="\n")  # type: ignore[attr-defined]
    writer.writeheader()
    for row in rows:
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()})
    return buffer.getvalue()


def _number(value: float | None, digits: int, *, signed: bool = False) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _with_sd(value: float | None, sd: float | None, digits: int, *, signed: bool = False) -> str:
    text = _number(value, digits, signed=signed)
    return text if sd is None else f"{text} ± {_number(sd, digits)}"


def _cells(row: MethodSummary) -> list[str]:
    worst = _number(row.worst_gain, 2, signed=True)
    return [
        label_of(row.method),
        _with_sd(row.psnr_y, row.seed_sd, 2),
        _number(row.ssim_y, 4),
        _with_sd(row.gain, row.gain_sd, 2, signed=True),
        worst if row.worst_image is None else f"{worst} ({row.worst_image})",
        "–" if row.gap_closed is None else f"{row.gap_closed:.0%}".replace("-", "−"),
        "–" if row.ncc is None else f"{_number(row.ncc, 3)} (worst {_number(row.worst_ncc, 3)})",
        _number(row.covariance_error, 2),
        _number(row.seconds, 1),
    ]


def _caption(summary: Summary, results: AblationResults) -> str:
    plan = results.plan
    count = summary.methods[0].images if summary.methods else 0
    seeds = len(plan["seeds"])
    text = (
        f"×{plan['scale']}, mean over {count} image{'s' * (count != 1)}, {seeds} seed{'s' * (seeds != 1)}; "
        f"PSNR and SSIM on luma, {plan['scale']} px shaved; gain in dB over SR with the bicubic kernel, ± its spread "
        "over the images."
    )
    if seeds > 1:
        text += " PSNR ± its spread over the seeds."
    if summary.left_out:
        text += f" Left out, as a method is missing: {', '.join(summary.left_out)}."
    return text


def markdown_table(summary: Summary, results: AblationResults) -> str:
    """The summary, then PSNR-Y of every image."""
    lines = [_markdown(_HEADINGS, [_cells(row) for row in summary.methods]), _caption(summary, results)]
    if results.missing:
        lines.append(f"{results.missing} of {len(results.plan['keys'])} cells are missing or failed.")
    methods: Sequence[str] = results.plan["methods"]
    by_cell = {(row.image, row.method): row.psnr_y for row in summary.images}
    body = [[name, *(_number(by_cell.get((name, m)), 2) for m in methods)] for name in results.plan["images"]]
    lines.append(_markdown(["PSNR-Y", *map(label_of, methods)], body))
    return "\n\n".join(lines) + "\n"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows))


_TEX = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "∞": r"$\infty$"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def latex_table(summary: Summary, results: AblationResults) -> str:
    r"""A `table` for a paper; it needs \usepackage{booktabs}."""
    rows = [" & ".join(map(_tex, _cells(row))) + r" \\" for row in summary.methods]
    head = " & ".join(map(_tex, _HEADINGS)) + r" \\"
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * (len(_HEADINGS) - 1) + "}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{_tex(_caption(summary, results))}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
