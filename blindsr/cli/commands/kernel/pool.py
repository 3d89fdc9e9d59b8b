"""`blindsr kernel pool`: the kernels and the noise of a camera's photographs."""

import json
from pathlib import Path

import click

from blindsr.cli.options import GroupedCommand, Options, with_options
from blindsr.cli.types import PHOTO, MethodChoice

__all__ = ["pool"]


@click.command(
    "pool",
    cls=GroupedCommand,
    short_help="Make a pool of kernels and noise from a camera's photographs.",
    epilog="Example: blindsr kernel pool photos/ -o pool.npz --estimator spectral",
)
@click.argument("sources", metavar="PHOTO...", nargs=-1, required=True, type=PHOTO)
@click.option("-o", "--output", metavar="FILE.npz", required=True, type=PHOTO, help="File of the pool.")
@click.option("--scale", type=click.IntRange(2, 4), default=2, show_default=True, help="Scale of the kernels.")
@click.option(
    "--estimator",
    type=MethodChoice("estimator"),
    default="auto",
    show_default=True,
    help="Kernel estimation method; `blindsr methods` lists them.",
)
@click.option(
    "--noise-patch",
    type=click.IntRange(8, 512),
    default=64,
    show_default=True,
    help="Side of the smooth patches whose noise is kept, pixels.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Random seed.")
@click.option("--force", is_flag=True, help="Overwrite the pool if it exists.")
@with_options("as_json", "quiet")
def pool(
    options: Options,
    sources: tuple[Path, ...],
    output: Path,
    scale: int,
    estimator: str,
    noise_patch: int,
    seed: int,
    force: bool,
) -> None:
    """Estimate the kernels of photographs (files or folders) of one camera, and keep the noise of their smooth parts.

    `blindsr degrade --kernel-pool FILE` and `blindsr train --kernel-pool FILE` draw from the pool.
    """
    from blindsr.cli.output import listening
    from blindsr.evaluation.camera import collect_pool
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.settings import Settings

    if output.suffix.lower() != ".npz":
        raise click.BadParameter(f"a pool is a .npz file, got {output.name}.", param_hint="-o")
    check_output(output, overwrite=force)
    settings = Settings(scale=scale, estimator=estimator, seed=seed)
    with listening(quiet=options.quiet, verbose=False) as listener:
        made = collect_pool(sources, settings, noise_side=noise_patch, listener=listener)
        listener.line(f"done: {len(made.kernels)} kernels, {len(made.noise)} patches of noise")
    atomic_write_bytes(output, made.to_bytes(), overwrite=force)
    record = {"output": str(output), "kernels": list(made.names), "noise": len(made.noise), "digest": made.digest}
    click.echo(json.dumps(record, ensure_ascii=False) if options.as_json else str(output))
