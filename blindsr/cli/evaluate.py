"""`blindsr evaluate`: results against the truth."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blindsr.cli._options import PHOTO

if TYPE_CHECKING:
    from blindsr.pipelines.evaluate import Evaluation

__all__ = ["command"]

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


@click.command(
    "evaluate",
    short_help="Score results against the truth.",
    epilog="Example: blindsr evaluate results/ set/hr --scale 2 --kernels results/ --true-kernels set/kernel",
)
@click.argument("sr", type=PHOTO)
@click.argument("hr", type=PHOTO)
@click.option("--scale", type=click.IntRange(1, 8), default=2, show_default=True, help="As many pixels are shaved.")
@click.option("--kernels", metavar="FILE|DIR", type=PHOTO, help="Estimated kernels, to be scored too.")
@click.option("--true-kernels", metavar="FILE|DIR", type=PHOTO, help="The kernels that made the LR images.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values instead of a table.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr.")
def command(
    sr: Path,
    hr: Path,
    scale: int,
    kernels: Path | None,
    true_kernels: Path | None,
    as_json: bool,
    as_csv: bool,
    quiet: bool,
) -> None:
    """Score SR against HR (two pictures, or two folders): PSNR and SSIM on luma as MATLAB has them.

    In folders, a result belongs to the HR image whose name its own begins with. Kernels, if given, are scored
    by correlation, covariance, angle, and by what they make of the HR image.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; give one of them.")
    from blindsr.pipelines.evaluate import evaluate_folders

    found = evaluate_folders(sr, hr, scale=scale, kernels=kernels, true_kernels=true_kernels)
    if not quiet:
        for note in found.notes:
            click.echo(f"note: {note}", err=True)
    for name, sentence in found.failures:
        click.echo(f"error: {name}: {sentence}", err=True)
    _print(found, as_json=as_json, as_csv=as_csv)
    if found.failures:
        raise SystemExit(1)


def _print(found: "Evaluation", *, as_json: bool, as_csv: bool) -> None:
    from dataclasses import asdict

    from blindsr.cli._tables import echo_csv, print_table
    from blindsr.pipelines.record import plain

    fields = _IMAGE + (_KERNEL if found.kernels else ())
    values = {
        name: (asdict(found.images[name]) if name in found.images else {})
        | (asdict(found.kernels[name]) if name in found.kernels else {})
        for name in (*found.images, *(n for n in found.kernels if n not in found.images))
    }
    means = found.means()
    if as_json:
        content = {"scale": found.scale, "images": values, "mean": means, "notes": found.notes}
        click.echo(json.dumps(plain(content | {"failures": dict(found.failures)}), ensure_ascii=False))
        return
    rows = [[name, *(row.get(field) for _, _, field in fields)] for name, row in values.items()]
    if as_csv:
        echo_csv(["name", *(field for _, _, field in fields)], rows)
        return
    columns = [("image", 0), *((heading, digits) for heading, digits, _ in fields)]
    footer = ["mean", *(means.get(field) for _, _, field in fields)]
    print_table(f"×{found.scale}, {found.scale} px shaved", columns, rows, footer if len(rows) > 1 else None)
