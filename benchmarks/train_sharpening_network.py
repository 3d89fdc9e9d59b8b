"""Train the network that estimates how a photograph was sharpened, as its weights were made.

    python benchmarks/train_sharpening_network.py examples PHOTOS -o fit.bin --count 14000 --seed 301
    python benchmarks/train_sharpening_network.py examples OTHERS -o held.bin --count 3000 --seed 5 --no-leaves
    python benchmarks/train_sharpening_network.py train fit.bin -o sharpening_network.safetensors --held held.bin

An example takes 45 ms of one thread and 3 kB, a training of 4,000 steps two minutes. Examples can be continued.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from training.sharpening_network import (
    SharpeningConfig,
    SharpeningLaw,
    examine_sharpening,
    train_sharpening,
    write_sharpening_examples,
)

from blindsr.training.dataset import DeadLeavesCache, read_photographs
from blindsr.training.dead_leaves import DeadLeavesConfig

LEAVES = DeadLeavesConfig(size=512, texture_contrast=2.0, varied_textures=0.75, sharpening=0.2, noise=0.25)


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    examples = commands.add_parser("examples")
    examples.add_argument("photographs", type=Path)
    examples.add_argument("-o", "--output", type=Path, required=True)
    examples.add_argument("--count", type=int, default=14_000)
    examples.add_argument("--seed", type=int, default=301)
    examples.add_argument("--no-leaves", action="store_true")
    train = commands.add_parser("train")
    train.add_argument("examples", type=Path, nargs="+")
    train.add_argument("-o", "--output", type=Path, required=True)
    train.add_argument("--held", type=Path, help="examples that are not trained on, whose losses are shown")
    train.add_argument("--steps", type=int, default=SharpeningConfig().steps)
    train.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "examples":
        photographs = read_photographs(options.photographs, 256)
        leaves = None if options.no_leaves else DeadLeavesCache(options.output.parent / "leaves", 77, LEAVES)
        write_sharpening_examples(
            options.output,
            options.count,
            photographs,
            leaves,
            SharpeningLaw(),
            seed=options.seed,
            report=lambda done: print(done, file=sys.stderr, flush=True),
        )
        return
    weights = train_sharpening(options.examples, SharpeningConfig(steps=options.steps, seed=options.seed))
    save_file({name: value.half().contiguous() for name, value in weights.items()}, options.output)
    if options.held is not None:
        losses = examine_sharpening(weights, options.held)
        print("  ".join(f"{name} {value:.4f}" for name, value in losses.items()))


if __name__ == "__main__":
    main()
