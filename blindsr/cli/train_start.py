"""`blindsr train-start`: the weights that come with blindsr, or others from own images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from blindsr.errors import ConfigError

if TYPE_CHECKING:
    from blindsr.zssr.start.training import StartTrainingConfig

__all__ = ["command"]


@click.command(
    "train-start",
    short_help="Train the network that super-resolution starts from.",
    epilog="Example: blindsr train-start -o microscope.safetensors --images slides --begin leaves --steps 3000",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE.safetensors",
    help="Where to write the weights; a log (.csv) and checkpoints get the same stem.",
)
@click.option(
    "--images",
    type=click.Path(readable=False, path_type=Path),
    metavar="DIR",
    help="Learn from the pictures in this folder.  [default: synthetic dead leaves, no photograph]",
)
@click.option(
    "--begin",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE|leaves",
    help="Go on from these weights, with as many blocks or more; leaves are those that come along.  [default: random]",
)
@click.option(
    "--like",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE|leaves",
    help="Train as these weights were trained, or as a .json says; leaves are those that come along. Only --images and "
    "--begin may be given beside it.",
)
@click.option("--steps", type=click.IntRange(1), default=100_000, show_default=True, help="Optimiser steps.")
@click.option(
    "--anneal-from",
    type=click.IntRange(0),
    show_default="70 % of the steps",
    help="Step up to which the rate is constant; then it falls to zero.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=5e-4,
    show_default=True,
    help="Adam's, at its highest.",
)
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Patches a step.")
@click.option("--channels", type=click.IntRange(1), default=64, show_default=True, help="Width of the network.")
@click.option("--blocks", type=click.IntRange(1), default=4, show_default=True, help="Residual blocks of the network.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of everything random.")
@click.option("--threads", type=click.IntRange(1), show_default="one per core", help="Processor threads.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the network's arithmetic; auto is bf16 where the processor has it.",
)
@click.option("--force", is_flag=True, help="Overwrite weights that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record on stdout instead of the path.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Say every stage and every reported loss on stderr.")
def command(
    output: Path,
    images: Path | None,
    begin: Path | None,
    like: Path | None,
    steps: int,
    anneal_from: int | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: object,
) -> None:
    """Train the start: a network that super-resolves any image with any kernel, before it has seen the image.

    Interrupted and run again with the same options, it goes on from the last checkpoint. The steps may be changed
    then, so a training can be ended early, or made longer as long as its rate has not begun to fall.
    """
    from blindsr.cli._progress import listening
    from blindsr.pipelines.start import train_start_file
    from blindsr.runtime import prepare_process
    from blindsr.zssr.start.training import StartTrainingConfig
    from blindsr.zssr.start.weights import SHIPPED

    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if like is not None and (extra := given & {"steps", "anneal_from", *settings}):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(extra))
        raise click.UsageError(f"--like brings its own {options}; leave one of them out.")
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other; give one of them.")
    prepare_process(threads)
    config = (
        _config_of(like)
        if like is not None
        else StartTrainingConfig(
            steps=steps,
            anneal_from=steps * 7 // 10 if anneal_from is None else anneal_from,
            warm_up=max(1, min(500, steps // 10)),
            checkpoint_every=max(1, min(2000, steps // 10)),
            report_every=max(1, min(100, steps // 10)),
            **settings,  # type: ignore[arg-type]
        )
    )
    if config.begun_from and begin is None:
        raise click.UsageError(
            f"{like} was trained from other weights; give them with --begin: docs/start.md says how they were made."
        )
    with listening(quiet=quiet, verbose=verbose) as listener:
        written = train_start_file(
            output,
            config,
            images=images,
            begin=SHIPPED if str(begin) == "leaves" else begin,
            overwrite=force,
            listener=listener,
        )
    click.echo(
        json.dumps({"output": str(written), "steps": config.steps}, ensure_ascii=False) if as_json else str(written)
    )


# What trainings had before these settings existed: today's defaults would paint other images.
_EARLIER: dict[str, Any] = {"materials": 0.0, "sharpened": 0.0, "grain": 0.0}


def _config_of(like: Path) -> "StartTrainingConfig":
    from blindsr.zssr.start.training import StartTrainingConfig
    from blindsr.zssr.start.weights import training_of

    stored = training_of(None if str(like) == "leaves" else like)
    stored.pop("images_from", None)
    values: dict[str, Any] = _EARLIER | {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    try:
        return StartTrainingConfig(**values)
    except TypeError as error:
        raise ConfigError(f"{like}: these are no settings of a training ({error}).") from error
