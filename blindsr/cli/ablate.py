"""`blindsr ablate`: the same SR with estimated, bicubic and true kernels."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blindsr.cli._options import FILE_OPTIONS, PHOTO, Common, common_options

if TYPE_CHECKING:
    from blindsr.cli._progress import RichListener
    from blindsr.pipelines.ablation_store import AblationResults

__all__ = ["command"]


@click.command(
    "ablate",
    short_help="Compare estimated kernels with true ones.",
    epilog="Example: blindsr ablate set -o ablation --estimators spectral,kernelgan --seeds 3",
)
@click.argument("dataset", type=PHOTO)
@click.option(
    "-o", "--output", "folder", metavar="DIR", required=True, type=PHOTO, help="Gets results, tables and report.html."
)
@click.option(
    "--estimators",
    metavar="NAME,...",
    default="spectral,kernelgan",
    show_default=True,
    help="Whose kernels are compared.",
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of everything: 0, 1, …")
@click.option("--images", metavar="NAME,...", help="Only these images of the set.  [default: all]")
@click.option("--limit", type=click.IntRange(1), help="At most so many images.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes; they share the threads.")
@click.option("--no-report", is_flag=True, help="Write no report.html.")
@click.option("--plot", is_flag=True, help="Write ablation.pdf and .png too; needs blindsr[plot].")
@common_options(without=("output", "estimator", "region", "seed", "force", "size", "max_memory", *FILE_OPTIONS))
def command(
    common: Common,
    dataset: Path,
    folder: Path,
    estimators: str,
    seeds: int,
    images: str | None,
    limit: int | None,
    jobs: int,
    no_report: bool,
    plot: bool,
) -> None:
    """Run SR on every image of DATASET (hr/, lr/, kernel/) with the bicubic, each estimated and the true kernel.

    What is done is kept: interrupted and run again, the rest is run. A cell that fails is said, and the others go on.
    """
    from blindsr.cli._progress import listening
    from blindsr.cli._settings import make_run
    from blindsr.pipelines.ablate import ablate
    from blindsr.pipelines.ablation_plan import AblationPlan, read_dataset
    from blindsr.report.plot import check_plot

    if plot:
        check_plot()
    run = make_run(common)
    plan = AblationPlan(
        images=read_dataset(dataset, names=_names(images), limit=limit),
        estimators=_names(estimators),
        settings=run.settings,
        seeds=tuple(range(seeds)),
        device=run.device,
    )
    threads = None if run.threads is None else max(1, run.threads // jobs)
    with listening(quiet=common.quiet, verbose=common.verbose) as listener:
        results = ablate(plan, folder, jobs=jobs, threads=threads, listener=listener)
        _papers(results, listener, with_report=not no_report, with_plot=plot)
    show_ablation(results, as_json=common.as_json)
    if results.missing:
        raise SystemExit(1)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _papers(results: "AblationResults", listener: "RichListener", *, with_report: bool, with_plot: bool) -> None:
    from blindsr.report.ablation import write_ablation_report
    from blindsr.report.plot import write_plots

    written = [results.folder / name for name in ("results.jsonl", "summary.csv", "table.md", "table.tex")]
    if with_report:
        written.append(write_ablation_report(results))
    if with_plot:
        written += write_plots(results)
    listener.line(f"files: {', '.join(map(str, written))}")


def show_ablation(results: "AblationResults", *, as_json: bool) -> None:
    """Print the summary on stdout."""
    from dataclasses import asdict

    from blindsr.cli._tables import print_table
    from blindsr.pipelines.ablation_summary import label_of, summarise
    from blindsr.pipelines.record import plain

    summary = summarise(results)
    if as_json:
        content = {
            "folder": str(results.folder),
            "missing": results.missing,
            "methods": [asdict(row) for row in summary.methods],
            "failures": [dict(row) for row in results.failures],
        }
        click.echo(json.dumps(plain(content), ensure_ascii=False))
        return
    columns = [
        ("kernel", 0),
        ("PSNR-Y", 2),
        ("SSIM", 4),
        ("gain dB", 2),
        ("± images", 2),
        ("± seeds", 3),
        ("worst gain", 2),
        ("image", 0),
        ("gap closed", 0),
        ("NCC", 3),
        ("cov. error", 2),
        ("seconds", 1),
    ]
    rows = [
        [
            label_of(m.method),
            m.psnr_y,
            m.ssim_y,
            m.gain,
            m.gain_sd,
            m.seed_sd,
            m.worst_gain,
            m.worst_image,
            None if m.gap_closed is None else f"{m.gap_closed:.0%}",
            m.ncc,
            m.covariance_error,
            m.seconds,
        ]
        for m in summary.methods
    ]
    count = summary.methods[0].images if summary.methods else 0
    seeds = len(results.plan["seeds"])
    print_table(
        f"×{results.plan['scale']}, {count} image{'s' * (count != 1)}, {seeds} seed{'s' * (seeds != 1)}", columns, rows
    )
