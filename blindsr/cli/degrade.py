"""`blindsr degrade`: a measuring set with known kernels out of sharp pictures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from blindsr.cli._kernel import KernelChoice, kernel_options, one_kernel
from blindsr.cli._options import PHOTO

if TYPE_CHECKING:
    from blindsr.kernels import Kernel

__all__ = ["command"]


@click.command(
    "degrade",
    short_help="Make LR images with known kernels.",
    epilog="Example: blindsr degrade photos/ -o set --law div2krk --scale 2 --seed 0",
)
@click.argument("sources", metavar="HR...", nargs=-1, required=True, type=PHOTO)
@click.option(
    "-o", "--output", metavar="DIR", required=True, type=PHOTO, help="Gets hr/, lr/, kernel/ and manifest.jsonl."
)
@click.option(
    "--law",
    metavar="LAW",
    show_default="div2krk",
    help="div2krk, public-generator, gaussian[:SIGMA or :SX,SY,ANGLE], motion[:LENGTH], defocus[:DIAMETER] or "
    "bicubic; without numbers they are drawn for each image.",
)
@kernel_options(without=("linear_light",))
@click.option("--scale", type=click.IntRange(2, 4), default=2, show_default=True, help="Factor from LR to HR.")
@click.option(
    "--phase",
    type=click.Choice(["centred", "corner"]),
    show_default="centred",
    help="Whether LR pixel i is centred on its cell, or looks at HR pixel scale·i.",
)
@click.option("--noise", type=float, default=0.0, show_default=True, help="σ of Gaussian noise; 1 is full white.")
@click.option("--speckle", type=float, default=0.0, show_default=True, help="σ of multiplicative noise.")
@click.option("--jpeg", type=click.IntRange(1, 100), help="JPEG quality; LR is written as PNG all the same.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of kernels and noise.")
@click.option(
    "--kernel-format",
    type=click.Choice(["npz", "mat", "npy"]),
    default="npz",
    show_default=True,
    help="Of the kernel files: blindsr's, KernelGAN's (.mat), or the bare array.",
)
@click.option("--force", is_flag=True, help="Overwrite a set that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON array instead of the folder.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr.")
def command(
    choice: KernelChoice,
    sources: tuple[Path, ...],
    output: Path,
    law: str | None,
    scale: int,
    phase: Literal["centred", "corner"] | None,
    noise: float,
    speckle: float,
    jpeg: int | None,
    seed: int,
    kernel_format: str,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Degrade HR pictures (files or folders) by a law, each with a kernel of its own.

    An image's kernel and noise come from the seed and the image's name: adding an image changes no other one.
    """
    from blindsr.cli._progress import listening
    from blindsr.pipelines.simulate import simulate_set
    from blindsr.simulation import Degradation, Law

    if choice.is_given and (law is not None or phase is not None):
        raise click.UsageError("--kernel takes the place of --law, and keeps its own phase; give one of them.")
    if choice.kernel is None and choice.kernel_convention is not None:
        raise click.UsageError("--kernel-convention has no meaning without --kernel.")
    with listening(quiet=quiet, verbose=False) as listener:
        blur: Law | Kernel = Law.parse(law or "div2krk")
        if choice.is_given:
            given, notes = choice.load(scale)
            blur = one_kernel(given)
            for note in notes:
                listener.note(note)
        made = simulate_set(
            sources,
            output,
            Degradation(
                scale=scale,
                blur=blur,
                phase=phase or "centred",
                noise_sigma=noise,
                speckle_sigma=speckle,
                jpeg_quality=jpeg,
            ),
            seed=seed,
            kernel_suffix=f".{kernel_format}",  # type: ignore[arg-type]
            overwrite=force,
            listener=listener,
        )
        listener.line(f"done: {len(made.rows)} image{'s' * (len(made.rows) != 1)} in {made.folder}")
    click.echo(json.dumps(made.rows, ensure_ascii=False) if as_json else str(made.folder))
    if made.failures:
        raise SystemExit(1)
