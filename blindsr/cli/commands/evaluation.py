"""`blindsr degrade`, `evaluate`, `ablate` and `report`: test sets, scores and comparisons of methods."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from blindsr.cli.options import GroupedOption, Options, command, with_options
from blindsr.cli.types import PHOTO, IntRange

if TYPE_CHECKING:
    from blindsr.evaluation.score import Evaluation

__all__ = ["ablate", "degrade", "evaluate", "report"]

# Heading, decimals, field.
_IMAGE = (
    ("PSNR-Y", 3, "psnr_y"),
    ("SSIM", 4, "ssim_y"),
    ("PSNR-RGB", 3, "psnr_rgb"),
    ("shift y", 2, "shift_y"),
    ("shift x", 2, "shift_x"),
)
_KERNEL = (
    ("NCC", 4, "ncc"),
    ("cov. error", 3, "covariance_error"),
    ("angle off °", 1, "angle_error"),
    ("LR PSNR", 2, "redegraded_psnr"),
)
_COMMON: dict[str, Any] = {"cls": GroupedOption, "group": "Common"}
_ABLATION_FILES = ("ablation.json", "results.jsonl", "summary.csv", "images.csv", "table.md", "table.tex")
_JSON_OR_TABLE = "Print one JSON record on stdout instead of the table."


@command("degrade", "Make LR images with known kernels from sharp images.",
    "degrade photos/ -o set --law div2krk --scale 2 --seed 0",
    click.argument("sources", metavar="HR...", nargs=-1, required=True, type=PHOTO),
    click.option("-o", "--output", metavar="DIR", required=True, type=PHOTO, **_COMMON,
        help="Folder for hr/, lr/, kernel/ and manifest.jsonl."),
    click.option("--law", metavar="LAW", show_default="div2krk",
        help="Distribution of the kernels: div2krk, public-generator, gaussian[:SIGMA or :SX,SY,ANGLE], "
        "motion[:LENGTH], defocus[:DIAMETER] or bicubic. Lengths are in HR pixels, ANGLE in degrees counter-clockwise "
        "from the x axis; without numbers they are drawn for each image. bsrgan is a whole degradation: blurs, "
        "downscaling, noise and JPEG in a random order, without a kernel file."),
    click.option("--kernel-pool", metavar="FILE.npz", type=PHOTO,
        help="Draw the kernels from this pool (`blindsr kernel pool`), instead of by a law."),
    click.option("--pool-noise", is_flag=True, help="Add noise of the pool's photographs."),
    click.option("--scale", type=IntRange(2, 4), default=2, show_default=True, **_COMMON,
        help="Size of HR over that of LR."),
    click.option("--phase", type=click.Choice(["centred", "corner"]),
        help="Whether LR pixel i is centred on its cell of HR pixels, or at HR pixel scale·i.  [default: centred]"),
    click.option("--noise", "noise_sigma", type=float, default=0.0, show_default=True,
        help="Standard deviation of Gaussian noise; white is 1, unlike --noise of upscale, which is in grey levels."),
    click.option("--speckle", "speckle_sigma", type=float, default=0.0, show_default=True,
        help="Standard deviation of multiplicative noise."),
    click.option("--jpeg", "jpeg_quality", type=IntRange(1, 100),
        help="Compress by JPEG at this quality; LR is written as PNG."),
    click.option("--seed", type=IntRange(0), default=0, show_default=True,
        help="Random seed of kernels and noise."),
    click.option("--kernel-format", type=click.Choice(["npz", "mat", "npy"]), default="npz", show_default=True,
        help="Format of the kernel files: npz with all information, mat in KernelGAN's convention, npy the bare "
        "array."),
    with_options(
        "force", "kernel", "sensor", "kernel_model", "kernel_convention", "kernel_key", "kernel_index", "recenter",
        "as_json", "quiet",
        force="Overwrite a set that exists.",
        kernel_model="With --sensor: ratio is for HR images that are as soft per pixel as LR is to be, psf for sharp "
        "ones.  [default: that of the specification, or ratio]",
    ),
)  # fmt: skip
def degrade(
    options: Options,
    sources: tuple[Path, ...],
    output: Path,
    law: str | None,
    kernel_pool: Path | None,
    pool_noise: bool,
    scale: int,
    phase: Literal["centred", "corner"] | None,
    seed: int,
    kernel_format: str,
    **damage: Any,  # noqa: ANN401 - the noise and the compression, fields of DatasetDegradation
) -> None:
    """Degrade sharp images HR (files or folders), each with a kernel of its own.

    Kernel and noise of an image depend on the seed and on the name of the image: adding an image changes no other one.
    """
    from blindsr.cli.output import ProgressListener, say_of_kernel
    from blindsr.cli.settings import load_known_kernel, single_kernel
    from blindsr.errors import did_you_mean
    from blindsr.evaluation.dataset import DatasetDegradation, make_dataset
    from blindsr.evaluation.shuffled import ShuffledLaw
    from blindsr.kernels import Kernel
    from blindsr.kernels.pool import KernelPool, read_pool
    from blindsr.kernels.random import LAWS, Law

    is_known = options.kernel is not None or options.sensor is not None
    if is_known and (law is not None or phase is not None):
        raise click.UsageError("--kernel replaces --law and keeps its own phase; give one of them.")
    if options.kernel is None and options.kernel_convention is not None:
        raise click.UsageError("--kernel-convention is for --kernel; leave it out.")
    if kernel_pool is not None and (is_known or law is not None or phase is not None):
        raise click.UsageError("--kernel-pool replaces --law, --phase and --kernel; give one of them.")
    if pool_noise and kernel_pool is None:
        raise click.UsageError("--pool-noise takes the noise of a pool; name one with --kernel-pool.")
    name = (law or "div2krk").partition(":")[0]
    if name not in (*LAWS, "bsrgan"):
        close = did_you_mean(name, (*LAWS, "bsrgan"))
        raise click.BadParameter(f"give one of {', '.join(LAWS)}, bsrgan, got {name!r}{close}.", param_hint="--law")
    with ProgressListener(quiet=options.quiet) as listener:
        blur: Law | Kernel | KernelPool | ShuffledLaw = (
            ShuffledLaw() if law == "bsrgan" else Law.parse(law or "div2krk")
        )
        if kernel_pool is not None:
            blur = read_pool(kernel_pool)
        if is_known:
            kernel, warnings = load_known_kernel(options, scale)
            blur = single_kernel(kernel)
            say_of_kernel(listener, options, warnings)
        made = make_dataset(
            sources,
            output,
            DatasetDegradation(scale=scale, blur=blur, phase=phase or "centred", pool_noise=pool_noise, **damage),
            seed=seed,
            kernel_suffix=f".{kernel_format}",  # type: ignore[arg-type]
            overwrite=options.force,
            listener=listener,
        )
        if made.rows or not made.failures:
            listener.line(f"done: {len(made.rows)} image{'s' * (len(made.rows) != 1)} in {made.folder}")
    click.echo(json.dumps(made.rows, ensure_ascii=False) if options.as_json else str(made.folder))
    if made.failures:
        raise SystemExit(1)


@command("evaluate", "Score results against the ground truth.",
    "evaluate results/ set/hr --scale 2 --kernels results/ --true-kernels set/kernel",
    click.argument("sr", type=PHOTO),
    click.argument("hr", type=PHOTO),
    click.option("--scale", type=IntRange(1, 8), default=2, show_default=True, **_COMMON,
        help="Scale; as many pixels are cropped."),
    click.option("--kernels", metavar="FILE|DIR", type=PHOTO, help="Estimated kernels to score as well."),
    click.option("--true-kernels", metavar="FILE|DIR", type=PHOTO, help="Kernels that made the LR images."),
    click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values instead of a table."),
    with_options("as_json", "quiet", as_json=_JSON_OR_TABLE),
)  # fmt: skip
def evaluate(
    options: Options, sr: Path, hr: Path, scale: int, kernels: Path | None, true_kernels: Path | None, as_csv: bool
) -> None:
    """Score SR against HR (two images, or two folders): PSNR and SSIM on luma as MATLAB defines it, and PSNR of RGB.

    In folders, a result belongs to the HR image whose name its own name begins with. Kernels are scored by correlation,
    covariance and angle, and by the LR image that they make of HR.
    """
    if options.as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; give one of them.")
    from blindsr.evaluation.score import evaluate_folders

    scores = evaluate_folders(sr, hr, scale=scale, kernels=kernels, true_kernels=true_kernels)
    if not options.quiet:
        for warning in scores.warnings:
            click.echo(f"warning: {warning}", err=True)
    for name, sentence in scores.failures:
        click.echo(f"error: {f'{name}: ' if sr.is_dir() else ''}{sentence}", err=True)
    if scores.rows() or options.as_json:
        _print_scores(scores, as_json=options.as_json, as_csv=as_csv)
    if scores.failures:
        raise SystemExit(1)


def _print_scores(scores: "Evaluation", *, as_json: bool, as_csv: bool) -> None:
    from blindsr.cli.output import csv_text, print_table
    from blindsr.pipelines.record import plain

    fields = _IMAGE + (_KERNEL if scores.kernels else ())
    values = scores.rows()
    means, worst = scores.means(), scores.worst()
    if as_json:
        content = {"scale": scores.scale, "images": values, "mean": means, "worst": worst, "warnings": scores.warnings}
        click.echo(json.dumps(plain(content | {"failures": dict(scores.failures)}), ensure_ascii=False))
        return
    rows = [[name, *(row.get(field) for _, _, field in fields)] for name, row in values.items()]
    if as_csv:
        click.echo(csv_text(["name", *(field for _, _, field in fields)], rows), nl=False)
        return
    columns = [("image", 0), *((heading, digits) for heading, digits, _ in fields)]
    footer = ["mean", *(means.get(field) for _, _, field in fields)]
    print_table(f"×{scores.scale}, {scores.scale} px cropped", columns, rows, footer if len(rows) > 1 else None)


@command("ablate", "Compare estimators and upscalers, with the true kernels as reference.",
    "ablate set -o ablation --estimators spectral,kernelgan --seeds 3",
    click.argument("dataset", type=PHOTO),
    click.option("-o", "--output", "folder", metavar="DIR", required=True, type=PHOTO, **_COMMON,
        help="Folder of results and report.html."),
    click.option("--estimators", metavar="NAME,...", help="Kernel estimators to compare.  [default: all]"),
    click.option("--upscalers", metavar="NAME,...",
        help="Upscalers to compare.  [default: pretrained; zssr with --preset paper]"),
    click.option("--seeds", type=IntRange(1), default=1, show_default=True,
        help="Number of runs, with the seeds 0, 1, …"),
    click.option("--images", metavar="NAME,...", help="Only these images of the set.  [default: all]"),
    click.option("--limit", type=IntRange(1), help="At most so many images."),
    click.option("--jobs", type=IntRange(1), default=1, show_default=True,
        help="Processes; they share the threads."),
    click.option("--no-report", is_flag=True, help="Do not write report.html."),
    click.option("--plot", is_flag=True,
        help="Write ablation.pdf and time.pdf, and .png, as well; needs blindsr[plot]."),
    with_options(
        "scale", "preset", "init", "zssr_setting", "noise", "config", "device", "threads", "precision", "Output",
        preset="Settings of the upscaler in every run: fast is one pass of the network, default and best average "
        "several, and adapt it to each LR image where that helps; paper upscales by ZSSR as published. The "
        "estimators are those of --estimators.",
        zssr_setting="Upscale by ZSSR as published, in one of its five settings, as `estimate-and-upscale --help` "
        "describes them.  [default: given for the upscaler zssr, kernelgan with --preset paper]",
        noise="Standard deviation of the noise, in grey levels of 255. 0 means that there is none, so that grain is "
        "sharpened as detail.",
        as_json=_JSON_OR_TABLE,
    ),
)  # fmt: skip
def ablate(
    options: Options,
    dataset: Path,
    folder: Path,
    estimators: str | None,
    upscalers: str | None,
    seeds: int,
    images: str | None,
    limit: int | None,
    jobs: int,
    no_report: bool,
    plot: bool,
) -> None:
    """Upscale every image of DATASET (hr/, lr/, kernel/) with the bicubic, each estimated and the true kernel.

    Interrupted and run again, it keeps what is finished. A cell that fails is reported, and the others continue.
    """
    from blindsr.cli.output import ProgressListener, print_table
    from blindsr.cli.settings import make_run
    from blindsr.evaluation.ablation import AblationPlan
    from blindsr.evaluation.ablation import ablate as run_ablation
    from blindsr.evaluation.dataset import read_dataset
    from blindsr.evaluation.report.overview import write_ablation_report
    from blindsr.evaluation.report.pictures import check_plot, write_plots
    from blindsr.evaluation.results import caption, summarise, summary_table
    from blindsr.pipelines.record import plain

    if plot:
        check_plot()
    run = make_run(options)
    plan = AblationPlan(
        images=read_dataset(dataset, names=_names(images), limit=limit),
        estimators=_names(estimators) or None,
        upscalers=_names(upscalers) or None,
        settings=run.settings,
        seeds=tuple(range(seeds)),
        device=run.device,
    )
    threads = None if run.threads is None else max(1, run.threads // jobs)
    with ProgressListener(quiet=options.quiet, verbose=options.verbose) as listener:
        results = run_ablation(plan, folder, jobs=jobs, threads=threads, listener=listener)
        written = [results.folder / name for name in _ABLATION_FILES]
        written += [] if no_report else [write_ablation_report(results)]
        written += write_plots(results) if plot else []
        listener.line(f"files: {', '.join(map(str, written))}")
    summary = summarise(results)
    if options.as_json:
        content = {
            "folder": str(results.folder),
            "missing": results.missing,
            "methods": list(summary.methods),
            "failures": list(results.failures),
        }
        click.echo(json.dumps(plain(content), ensure_ascii=False))
    else:
        headings, rows = summary_table(summary)
        cells = [list(map(str, row)) for row in rows]
        print_table(caption(summary, results.plan), [(heading, 0) for heading in headings], cells)
    if results.missing:
        raise SystemExit(1)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


@command("report", "Write the report of an ablation again.", "report ablation --plot",
    click.argument("folder", metavar="DIR", type=PHOTO),
    click.option("--plot", is_flag=True,
        help="Write ablation.pdf and time.pdf, and .png, as well; needs blindsr[plot]."),
    with_options("quiet"),
)  # fmt: skip
def report(options: Options, folder: Path, plot: bool) -> None:
    """Write the tables and report.html of the ablation in DIR again, from its results.

    The page is a single file that needs no network and no other file.
    """
    from blindsr.errors import ConfigError
    from blindsr.evaluation.report.overview import write_ablation_report
    from blindsr.evaluation.report.pictures import check_plot, write_plots
    from blindsr.evaluation.results import Store, write_tables

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; name the folder of an ablation.")
    if plot:
        check_plot()
    results = Store(folder).load()
    write_tables(results)
    path = write_ablation_report(results)
    if plot:
        write_plots(results)
    if results.missing and not options.quiet:
        click.echo(f"warning: {results.missing} of {len(results.plan['keys'])} cells are missing or failed.", err=True)
    click.echo(str(path))
