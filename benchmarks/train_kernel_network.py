"""Train the networks of the learned kernel estimator, as their weights were made.

    python benchmarks/train_kernel_network.py examples PHOTOS -o fit.bin --count 40000       # degraded images
    python benchmarks/train_kernel_network.py examples OTHERS -o held.bin --count 2500 --seed 5 --no-leaves
    python benchmarks/train_kernel_network.py train fit.bin -o one.safetensors --held held.bin
    python benchmarks/train_kernel_network.py examine held.bin one.safetensors               # its losses
    python benchmarks/train_kernel_network.py combine one.safetensors two.safetensors -o kernel_network.safetensors

    python benchmarks/train_kernel_network.py examples PHOTOS --sharpening -o mask.bin --count 28000
    python benchmarks/train_kernel_network.py train-sharpening mask.bin -o mask.safetensors --held other.bin

The last two are those of the network of the sharpening, which has examples of its own and learns in a minute.
An example takes 30 ms of one thread and 15 kB; a step with 256 images takes 0.2 s. Interrupted examples are continued.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from training.kernel_network import (
    ExampleLaw,
    KernelTrainingConfig,
    examine,
    train_kernel_network,
    write_examples,
)
from training.sharpening_network import (
    SharpeningConfig,
    SharpeningLaw,
    examine_sharpening,
    train_sharpening,
    write_sharpening_examples,
)

from blindsr.estimators.learned.network import read_weights, write_weights
from blindsr.events import Event, StepDone
from blindsr.training.dataset import DeadLeavesCache, read_photographs
from blindsr.training.dead_leaves import DeadLeavesConfig

LEAVES = DeadLeavesConfig(size=512, texture_contrast=2.0, varied_textures=0.75, sharpening=0.2, noise=0.25)
STARTED = time.monotonic()


def show(event: Event) -> None:
    """Print the numbers of a step."""
    if isinstance(event, StepDone):
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in event.values.items())
        print(f"{event.step:7d}  {time.monotonic() - STARTED:6.0f} s  {numbers}", file=sys.stderr, flush=True)


def examples_command(commands: Any, unit: str, count: int, *, seed: int) -> argparse.ArgumentParser:  # noqa: ANN401
    """Add the command that writes examples from a folder of photographs; `unit` is the option for their number."""
    examples: argparse.ArgumentParser = commands.add_parser("examples")
    examples.add_argument("photographs", type=Path)
    examples.add_argument("-o", "--output", type=Path, required=True)
    examples.add_argument(unit, type=int, default=count)
    examples.add_argument("--seed", type=int, default=seed)
    return examples


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    examples = examples_command(commands, "--count", 40_000, seed=11)
    examples.add_argument("--no-leaves", action="store_true")
    examples.add_argument("--sharpening", action="store_true", help="those of the network of the sharpening")
    train = commands.add_parser("train")
    train.add_argument("examples", type=Path)
    train.add_argument("-o", "--output", type=Path, required=True)
    train.add_argument("--held", type=Path, help="examples that are not trained on, whose losses are shown")
    train.add_argument("--initial", type=Path, help="weights to begin with; the first network of the file")
    train.add_argument("--steps", type=int, default=10_000)
    train.add_argument("--learning-rate", type=float, default=1e-3)
    train.add_argument("--seed", type=int, default=0)
    sharpening = commands.add_parser("train-sharpening")
    sharpening.add_argument("examples", type=Path, nargs="+")
    sharpening.add_argument("-o", "--output", type=Path, required=True)
    sharpening.add_argument("--held", type=Path, help="examples that are not trained on, whose losses are shown")
    sharpening.add_argument("--steps", type=int, default=SharpeningConfig().steps)
    sharpening.add_argument("--seed", type=int, default=0)
    check = commands.add_parser("examine")
    check.add_argument("examples", type=Path)
    check.add_argument("weights", type=Path)
    together = commands.add_parser("combine")
    together.add_argument("weights", type=Path, nargs="+", help="files whose networks are averaged by the estimator")
    together.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "examples":
        photographs = read_photographs(options.photographs, 256, show)
        leaves = None if options.no_leaves else DeadLeavesCache(options.output.parent / "leaves", 77, LEAVES)
        settings = {"seed": options.seed, "listener": show}
        if options.sharpening:
            write_sharpening_examples(options.output, options.count, photographs, leaves, SharpeningLaw(), **settings)
        else:
            write_examples(options.output, options.count, photographs, leaves, ExampleLaw(), **settings)
    elif options.command == "train-sharpening":
        weights = train_sharpening(options.examples, SharpeningConfig(steps=options.steps, seed=options.seed))
        save_file({name: value.half().contiguous() for name, value in weights.items()}, options.output)
        if options.held is not None:
            losses = examine_sharpening(weights, options.held).items()
            print("  ".join(f"{name} {value:.4f}" for name, value in losses))
    elif options.command == "train":
        initial = read_weights(options.initial)[0] if options.initial else None
        config = KernelTrainingConfig(steps=options.steps, learning_rate=options.learning_rate, seed=options.seed)
        held = options.held
        weights = train_kernel_network(
            options.examples,
            config,
            initial=initial,
            validate=None if held is None else lambda now: examine(now, held),
            listener=show,
        )
        write_weights(options.output, [weights])
    elif options.command == "combine":
        write_weights(options.output, [weights for path in options.weights for weights in read_weights(path)])
    else:
        for weights in read_weights(options.weights):
            losses = examine(weights, options.examples).items()
            print("  ".join(f"{name.removeprefix('held_')} {value:.4f}" for name, value in losses))


if __name__ == "__main__":
    main()
