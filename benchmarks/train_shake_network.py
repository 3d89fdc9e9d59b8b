"""Train the network that makes one kernel of what was found for a shaken image, as its weights were made.

    python benchmarks/train_shake_network.py examples PHOTOS -o fit.bin --count 3300 --seed 1
    python benchmarks/train_shake_network.py examples PHOTOS -o others.bin --count 1200 --seed 4 --shaken 0.02
    python benchmarks/train_shake_network.py examples OTHERS -o held.bin --count 450 --seed 101
    python benchmarks/train_shake_network.py train fit.bin others.bin -o shake_network.safetensors --held held.bin
    python benchmarks/train_shake_network.py examine held.bin shake_network.safetensors

The model card beside the weights has the files that they were trained on. An example takes one to two seconds of one
thread and 29 kB, a step of the training 0.15 s. Interrupted examples are continued.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from train_kernel_network import examples_command, show
from training.shake_network import (
    ShakeLaw,
    ShakeTrainingConfig,
    examine_shake,
    train_shake_network,
    write_shake_examples,
)

from blindsr.training.dataset import read_photographs


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    examples = examples_command(commands, "--count", 2500, seed=1)
    examples.add_argument("--shaken", type=float, default=ShakeLaw().shaken, help="share of the images that are shaken")
    examples.add_argument("--sides", type=int, nargs=2, help="of the LR images, px")
    examples.add_argument("--facades", type=float, help="share of the scenes that show drawn repetitive structure")
    train = commands.add_parser("train")
    train.add_argument("examples", type=Path, nargs="+")
    train.add_argument("-o", "--output", type=Path, required=True)
    train.add_argument("--held", type=Path, nargs="*", help="examples that are not trained on")
    train.add_argument("--steps", type=int, default=ShakeTrainingConfig().steps)
    train.add_argument("--seed", type=int, default=0)
    check = commands.add_parser("examine")
    check.add_argument("examples", type=Path)
    check.add_argument("weights", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "examples":
        photographs = read_photographs(options.photographs, 128, show)
        law = ShakeLaw(shaken=options.shaken)
        given = {} if options.sides is None else {"sides": tuple(options.sides)}
        given |= {} if options.facades is None else {"facades": options.facades}
        law = replace(law, images=replace(law.images, **given))
        write_shake_examples(options.output, options.count, photographs, law, seed=options.seed, listener=show)
    elif options.command == "train":
        config = ShakeTrainingConfig(steps=options.steps, seed=options.seed)
        weights = train_shake_network(options.examples, config, held=options.held, listener=show)
        save_file({name: value.half().contiguous() for name, value in weights.items()}, options.output)
    else:
        weights = {name: value.float() for name, value in load_file(options.weights).items()}
        losses = examine_shake(weights, [options.examples])
        print("  ".join(f"{name} {value:.4f}" for name, value in losses.items()))


if __name__ == "__main__":
    main()
