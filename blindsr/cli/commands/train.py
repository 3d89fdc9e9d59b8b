"""`blindsr train`: the weights of the network, from images of one's own or synthetic ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from blindsr.cli.options import GroupedOption, Options, command, with_options
from blindsr.cli.types import PHOTO, FloatRange, IntRange
from blindsr.errors import ConfigError

__all__ = ["train"]


@command("train", "Train the network on images of your own, or on synthetic ones.",
    "train -o microscope.safetensors --images slides --init pretrained --steps 3000",
    click.option("-o", "--output", required=True, type=PHOTO, metavar="FILE.safetensors", cls=GroupedOption,
        group="Common",
        help="File of the weights; a log (.csv) and checkpoints get the same stem."),
    click.option("--images", type=PHOTO, metavar="DIR",
        help="Train on the photographs in this folder.  [default: synthetic dead leaves alone]"),
    click.option("--kernel-pool", type=PHOTO, metavar="FILE.npz",
        help="Blur by the kernels of this pool (`blindsr kernel pool`), for weights that suit one camera.  [default: "
        "random kernels of many kinds]"),
    click.option("--leaves", "leaves_share", type=FloatRange(0, 1), metavar="SHARE",
        help="Share of dead leaves among the patches.  [default: 0.22 with --images, 1 without]"),
    click.option("--init", type=PHOTO, metavar="pretrained|leaves|random|FILE",
        help="Initial weights: the bundled ones of photographs or of dead leaves alone, random ones, or a file of this "
        "command with as many blocks or fewer.  [default: random]"),
    click.option("--like", type=PHOTO, metavar="pretrained|leaves|FILE",
        help="Use the settings with which these weights were trained, or those of a .json file. Only --images, "
        "--leaves and --init may be given as well."),
    click.option("--steps", type=IntRange(1), default=28_000, show_default=True, help="Optimiser steps."),
    click.option("--anneal-from", type=IntRange(0),
        help="Step up to which the learning rate is constant; then it falls to zero.  [default: 70 % of the steps]"),
    click.option("--learning-rate", type=FloatRange(0, min_open=True), default=5e-4, show_default=True,
        help="Highest learning rate of Adam."),
    click.option("--batch", type=IntRange(1), default=8, show_default=True, help="Patches per step."),
    click.option("--channels", type=IntRange(4), default=128, show_default=True, help="Width of the network."),
    click.option("--blocks", type=IntRange(1), default=6, show_default=True,
        help="Residual blocks of the network."),
    click.option("--seed", type=IntRange(0, 2**32 - 1), default=0, show_default=True, help="Random seed."),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
        help="Arithmetic of the network; auto is bf16 where the processor supports it."),
    with_options("force", "threads", "Output"),
)  # fmt: skip
def train(
    options: Options,
    /,
    output: Path,
    images: Path | None,
    kernel_pool: Path | None,
    leaves_share: float | None,
    init: Path | None,
    like: Path | None,
    steps: int,
    anneal_from: int | None,
    **settings: Any,  # noqa: ANN401 - fields of TrainingConfig
) -> None:
    """Train the network that super-resolves photographs, on images of your own or on synthetic ones.

    `blindsr estimate-and-upscale PHOTO --init FILE` uses the weights. If the training was interrupted, the same command
    continues it from the last checkpoint. --steps may be changed for that: fewer end the training early, and more
    prolong it as long as its learning rate has not begun to fall.
    """
    from blindsr.cli.output import ProgressListener, prepare_threads
    from blindsr.kernels.pool import read_pool
    from blindsr.training.train import TrainingConfig, train_to_file
    from blindsr.upscalers.pretrained.weights import training_settings, weights_file

    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if like is not None and (extra := given & {"steps", "anneal_from", *settings}):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(extra))
        raise click.UsageError(f"--like already fixes {flags}; omit {flags} or --like.")
    prepare_threads(options.threads, quiet=options.quiet)
    if like is not None:
        try:
            config = TrainingConfig.from_stored(training_settings(like))
        except ConfigError as error:
            raise ConfigError(f"{like}: {error}") from error
    else:
        config = TrainingConfig(
            steps=steps,
            anneal_from=steps * 7 // 10 if anneal_from is None else anneal_from,
            warm_up=max(1, min(500, steps // 10)),
            checkpoint_every=max(1, min(1000, steps // 10)),
            report_every=max(1, min(100, steps // 10)),
            **settings,
        )
    if leaves_share is None and like is None and images is None:
        leaves_share = 1.0
    if leaves_share is not None:
        config = replace(config, leaves_share=leaves_share)
    pool = None if kernel_pool is None else read_pool(kernel_pool)
    initial_weights = None if str(init) in ("None", "random") else weights_file(init)
    if config.initial_digest and initial_weights is None:
        raise click.UsageError(f"{like} was trained from other weights; give them with --init (see its model card).")
    with ProgressListener(quiet=options.quiet, verbose=options.verbose) as listener:
        written = train_to_file(
            output,
            config,
            images=images,
            initial_weights=initial_weights,
            pool=pool,
            overwrite=options.force,
            listener=listener,
        )
    record = {"output": str(written), "steps": config.steps}
    click.echo(json.dumps(record, ensure_ascii=False) if options.as_json else str(written))
