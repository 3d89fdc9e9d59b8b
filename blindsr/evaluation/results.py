"""Results of an ablation: the folder that stores them, their summary, and tables as CSV, Markdown and LaTeX.

results.jsonl grows by a line for each finished cell, ablation.json contains the plan. A line is written after the
image and the kernel of its cell, so a line that can be read is a finished cell; a killed run may leave a torn line.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from blindsr.errors import ConfigError, OutputError, reason_of
from blindsr.image_io import atomic_write_bytes
from blindsr.jsonlines import read_lines

__all__ = ["AblationResults", "Store", "Summary", "TableCell", "caption", "summarise", "summary_table", "write_tables"]

Row = dict[str, Any]

INTERPOLATION = "interpolation"  # bicubic interpolation, which uses no kernel: the lower end of the comparison
INTERPOLATOR = "bicubic"  # its name in the registry of upscalers
BICUBIC = "bicubic"  # the kernel that non-blind methods assume
TRUE = "true"  # the kernel that degraded the image: the upper end
OWN = "own"  # of an upscaler that uses none, or that estimates its own: one row instead of one for each kernel


def method_name(kernel: str, upscaler: str) -> str:
    """Name of the combination of a kernel (an estimator, "bicubic" or "true") and an upscaler."""
    return INTERPOLATION if upscaler == INTERPOLATOR else f"{kernel}+{upscaler}"


def split_method(name: str) -> tuple[str, str]:
    """Kernel and upscaler of a method; interpolation has no kernel."""
    if name == INTERPOLATION:
        return "", INTERPOLATOR
    kernel, _, upscaler = name.partition("+")
    return kernel, upscaler


def estimates(methods: Iterable[str]) -> list[str]:
    """The methods with a kernel of an estimator."""
    return [name for name in methods if split_method(name)[0] not in ("", BICUBIC, TRUE, OWN)]


def labels(methods: Iterable[str]) -> dict[str, str]:
    """Readable labels of methods; the upscaler is named where there are several."""
    names = list(methods)
    several = len({up for kernel, up in map(split_method, names) if kernel != OWN} - {INTERPOLATOR}) > 1
    texts = {name: f"{split_method(name)[0]} kernel" + f", {split_method(name)[1]}" * several for name in names}
    texts |= {name: split_method(name)[1] for name in names if split_method(name)[0] == OWN}
    return texts | {name: "bicubic interpolation" for name in names if name == INTERPOLATION}


@dataclass(frozen=True, kw_only=True)
class AblationResults:
    """The results of an ablation, complete or not."""

    folder: Path  # the file names in the rows are relative to it
    plan: Mapping[str, Any]  # content of ablation.json: images, methods, seeds, settings, keys, machine, versions
    rows: tuple[Row, ...]  # finished cells of the plan, in its order
    failures: tuple[Row, ...] = ()  # rows of cells that failed in the last run, with "error"

    @property
    def missing(self) -> int:
        """Number of cells of the plan that are not finished."""
        return len(self.plan["keys"]) - len(self.rows)


class Store:
    """The files of one ablation; its folder is created if it is missing, with an OutputError if that fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results.jsonl"
        self.plan_file = folder / "ablation.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create the folder {folder}: {reason_of(error)}; choose another one.") from error

    def rows(self) -> dict[str, Row]:
        """Every row by its key; the last one of a cell that failed and was run again."""
        return {row["key"]: row for row in read_lines(self.results) if "key" in row}

    def finished(self, row: Row | None) -> bool:
        """Whether a row belongs to a cell that succeeded and whose files still exist."""
        files = (self.folder / path for path in (row or {}).get("files", {}).values())
        return row is not None and "error" not in row and all(path.is_file() for path in files)

    def load(self) -> AblationResults:
        """Load the results of the last plan; a ConfigError if the folder contains no ablation."""
        if not self.plan_file.is_file():
            raise ConfigError(f"{self.folder} contains no ablation: ablation.json is missing; run `ablate` first.")
        try:
            plan = json.loads(self.plan_file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{self.plan_file} is damaged ({error}); run `blindsr ablate` again.") from error
        stored = self.rows()
        rows = [stored[key] for key in plan["keys"] if key in stored]
        return AblationResults(
            folder=self.folder,
            plan=plan,
            rows=tuple(row for row in rows if self.finished(row)),
            failures=tuple(row for row in rows if "error" in row),
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Means of an ablation.

    Args:
        methods: One row for each method, over the images for which every method is finished: means of the metrics of
            `images`, their standard deviation (`_sd`) and worst value (`worst_`, `max_`), the image of the worst gain,
            and `gap_closed`, the share of the difference between the bicubic and the true kernel that is gained.
        images: One row for each image and method, averaged over the seeds: PSNR in dB, `gain` in PSNR-Y over the same
            upscaler with the bicubic kernel, `seed_sd` of PSNR-Y, metrics of the kernel, `shift` in HR px, `seconds`
            and `peak_mib`.
        incomplete: Images that lack a method; no mean includes them.
    """

    methods: tuple[Row, ...]
    images: tuple[Row, ...]
    incomplete: tuple[str, ...]


_KERNEL_METRICS = ("ncc", "covariance_error", "redegraded_psnr")
_METRICS = ("psnr_y", "psnr_rgb", "ssim_y", *_KERNEL_METRICS, "shift", "seconds", "peak_mib")


def summarise(results: AblationResults) -> Summary:
    """Average over the seeds, then over the images."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        cells.setdefault((row["image"], row["method"]), []).append(_metrics(row))
    images: Sequence[str] = results.plan["images"]
    methods: Sequence[str] = results.plan["methods"]
    means: dict[tuple[str, str], Row] = {
        key: {name: _mean(_column(rows, name)) for name in _METRICS} for key, rows in cells.items()
    }
    rows: list[Row] = []
    for image, method in ((i, m) for i in images for m in methods if (i, m) in cells):
        base = means.get((image, _baseline(method, methods)))
        gain = None if base is None else means[image, method]["psnr_y"] - base["psnr_y"]
        sd = _sd(_column(cells[image, method], "psnr_y"))
        rows.append({"image": image, "method": method, **means[image, method], "gain": gain, "seed_sd": sd})
    complete = [image for image in images if all((image, method) in cells for method in methods)]
    complete_rows = [row for row in rows if row["image"] in complete]
    return Summary(
        methods=tuple(_method_row(method, complete_rows) for method in methods) if complete else (),
        images=tuple(rows),
        incomplete=tuple(image for image in images if image not in complete),
    )


def _metrics(row: Row) -> Row:
    """Metrics of a finished cell; JSON has no infinity, so the PSNR of identical images is stored as null."""
    metrics = {name: row["scores"][name] for name in ("psnr_y", "psnr_rgb", "ssim_y")}
    metrics |= {name: row["kernel"][name] for name in _KERNEL_METRICS if name in row.get("kernel", {})}
    if metrics.get("covariance_error", 0.0) is None:  # not defined
        del metrics["covariance_error"]
    metrics = {name: math.inf if value is None else value for name, value in metrics.items()}
    shift = math.hypot(row["scores"]["shift_y"], row["scores"]["shift_x"])
    return {**metrics, "shift": shift, "seconds": row["seconds"], "peak_mib": row.get("peak_mib")}


def _baseline(method: str, methods: Iterable[str]) -> str:
    """The method with the bicubic kernel and the same upscaler; the first such method for interpolation."""
    upscaler = split_method(method)[1]
    pairs = ((name, *split_method(name)) for name in methods)
    return next((name for name, kernel, up in pairs if kernel == BICUBIC and upscaler in (up, INTERPOLATOR)), "")


def _method_row(method: str, complete_rows: Sequence[Row]) -> Row:
    rows = [row for row in complete_rows if row["method"] == method]
    columns = {name: _column(rows, name) for name in (*_METRICS, "gain", "seed_sd")}
    # The gain of the baseline over itself has no spread and no worst image.
    gains = [row for row in rows if row["gain"] is not None and split_method(method)[0] != BICUBIC]
    worst = min(gains, key=lambda row: float(row["gain"]), default={})
    return {
        "method": method,
        "images": len(rows),
        **{name: _mean(values) for name, values in columns.items()},
        "redegraded_psnr": _mean([value for value in columns["redegraded_psnr"] if math.isfinite(value)]),
        "psnr_y_sd": _sd(columns["psnr_y"]),
        "worst_psnr_y": min(columns["psnr_y"]),
        "gain_sd": _sd(_column(gains, "gain")),
        "worst_gain": worst.get("gain"),
        "worst_image": worst.get("image"),
        "gap_closed": _gap_closed(method, complete_rows),
        "worst_ncc": min(columns["ncc"], default=None),
        "max_seconds": max(columns["seconds"]),
        "peak_mib": max(columns["peak_mib"], default=None),
    }


def _gap_closed(method: str, complete_rows: Sequence[Row]) -> float | None:
    """Computed from means: the mean of per-image ratios would be dominated by images with a small difference."""
    kernel, upscaler = split_method(method)
    if upscaler == INTERPOLATOR:
        return None
    methods = (f"{k}+{upscaler}" if upscaler else k for k in (BICUBIC, kernel, TRUE))
    low, own, high = (_mean([row["psnr_y"] for row in complete_rows if row["method"] == name]) for name in methods)
    return None if low is None or own is None or high is None or high - low < 0.05 else (own - low) / (high - low)


def _column(rows: Iterable[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None


def format_number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number for readers: with a minus sign instead of a hyphen, and a dash for a missing value."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell of the table of methods."""

    text: str
    addition: str = ""  # such as a standard deviation
    value: float | None = None  # to sort by

    def __str__(self) -> str:
        return f"{self.text} {self.addition}" if self.addition else self.text


# Heading, key in a row of `Summary.methods`, decimals, whether it is signed, key and format of the addition.
_COLUMNS = (
    ("PSNR-Y", "psnr_y", 2, False, "seed_sd", "± {:.2f}"),
    ("worst PSNR-Y", "worst_psnr_y", 2, False, "", ""),
    ("PSNR-RGB", "psnr_rgb", 2, False, "", ""),
    ("SSIM", "ssim_y", 4, False, "", ""),
    ("gain", "gain", 2, True, "gain_sd", "± {:.2f}"),
    ("worst gain", "worst_gain", 2, True, "worst_image", "({})"),
    ("gap closed", "gap_closed", 2, False, "", ""),
    ("kernel NCC", "ncc", 3, False, "worst_ncc", "(worst {:.3f})"),
    ("cov. error", "covariance_error", 2, False, "", ""),
    ("seconds", "seconds", 1, False, "max_seconds", "(max {:.1f})"),
    ("peak MiB", "peak_mib", 0, False, "", ""),
)


def summary_table(summary: Summary) -> tuple[list[str], list[list[TableCell]]]:
    """Headings and rows of the table of methods."""
    texts = labels(row["method"] for row in summary.methods)
    rows = []
    for row in summary.methods:
        cells = [TableCell(texts[row["method"]])]
        for _, key, digits, signed, extra, form in _COLUMNS:
            value = row[key]
            addition = "" if not extra or row[extra] is None else form.format(row[extra]).replace("-", "−")
            text = format_number(value, digits, signed=signed)
            if key == "gap_closed" and value is not None:
                text = f"{format_number(100 * value, 0)} %"
            cells.append(TableCell(text, addition, value))
        rows.append(cells)
    return ["method", *(column[0] for column in _COLUMNS)], rows


def image_table(summary: Summary, plan: Mapping[str, Any]) -> dict[str, list[TableCell]]:
    """PSNR-Y of every method, by the name of the image."""
    psnr = {(row["image"], row["method"]): row["psnr_y"] for row in summary.images}
    values = {image: [psnr.get((image, method)) for method in plan["methods"]] for image in plan["images"]}
    return {image: [TableCell(format_number(v, 2), value=v) for v in row] for image, row in values.items()}


def write_tables(results: AblationResults) -> None:
    """Write summary.csv, images.csv, table.md and table.tex into the folder of an ablation."""
    summary = summarise(results)
    contents = {"summary.csv": _csv(summary.methods), "images.csv": _csv(summary.images)}
    contents |= {"table.md": _markdown(summary, results), "table.tex": _latex(summary, results)}
    for name, text in contents.items():
        atomic_write_bytes(results.folder / name, text.encode(), overwrite=True)


def _csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return buffer.getvalue()


def caption(summary: Summary, plan: Mapping[str, Any]) -> str:
    """What the table of methods contains."""
    count = summary.methods[0]["images"] if summary.methods else 0
    seeds = len(plan["seeds"])
    text = (
        f"×{plan['scale']}, mean over {count} image{'s' * (count != 1)}, {seeds} seed{'s' * (seeds != 1)}; PSNR and "
        f"SSIM with {plan['scale']} px cut off on every side; gain in dB over the same upscaler with the bicubic "
        "kernel, ± its standard deviation over the images; gap closed: the share of the difference between the bicubic "
        "and the true kernel."
    )
    if seeds > 1:
        text += " PSNR-Y ± its standard deviation over the seeds."
    if summary.incomplete:
        text += f" Not included, because a method has no result: {', '.join(summary.incomplete)}."
    return text


def _markdown(summary: Summary, results: AblationResults) -> str:
    """The summary, then PSNR-Y of every image."""
    headings, rows = summary_table(summary)
    parts = [_markdown_table(headings, rows), caption(summary, results.plan)]
    if results.missing:
        parts.append(f"{results.missing} of {len(results.plan['keys'])} cells are missing or failed.")
    body = [[name, *cells] for name, cells in image_table(summary, results.plan).items()]
    parts.append(_markdown_table(["PSNR-Y", *labels(results.plan["methods"]).values()], body))
    return "\n\n".join(parts) + "\n"


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    rule = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (headings, rule, *rows))


_TEX = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "∞": r"$\infty$"}
)


def _latex(summary: Summary, results: AblationResults) -> str:
    r"""A LaTeX `table`, which needs \usepackage{booktabs}."""
    headings, rows = summary_table(summary)
    lines: list[Sequence[object]] = [headings, *rows]
    head, *body = (" & ".join(str(cell).translate(_TEX) for cell in line) + r" \\" for line in lines)
    rows_of_table = "\n".join((r"\toprule", head, r"\midrule", *body, r"\bottomrule"))
    return (
        "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n"
        f"\\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}\n{rows_of_table}\n\\end{{tabular}}\n"
        f"\\caption{{{caption(summary, results.plan).translate(_TEX)}}}\n\\end{{table}}\n"
    )
