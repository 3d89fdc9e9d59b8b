"""Train the network that decides how much of a result is used, as its weights were made.

    python benchmarks/train_strength_network.py examples PHOTOS -o fit.bin --scenes 1200 --seed 1
    python benchmarks/train_strength_network.py examples OTHERS -o held.bin --scenes 150 --seed 2
    python benchmarks/train_strength_network.py train fit.bin -o strength_network.safetensors --held held.bin
    python benchmarks/train_strength_network.py examine held.bin strength_network.safetensors

A scene is six results of the whole method and takes about two seconds of one thread and 0.5 MB, a step of the training
0.2 s. Interrupted examples are continued. `--without TEXT` leaves out a kind of damage, to see what the network does
with one that it has not seen.
"""

import argparse
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from train_kernel_network import examples_command, show
from training.strength_network import (
    StrengthLaw,
    StrengthTrainingConfig,
    examine_strength,
    train_strength_network,
    write_strength_examples,
)

from blindsr.training.dataset import read_photographs


def read(path: Path) -> dict[str, Tensor]:
    """Weights in full precision."""
    return {name: value.float() for name, value in load_file(path).items()}


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    examples = examples_command(commands, "--scenes", 1200, seed=1)
    examples.add_argument("--without", action="append", default=[], help="a kind of damage that is left out")
    train = commands.add_parser("train")
    train.add_argument("examples", type=Path, nargs="+")
    train.add_argument("-o", "--output", type=Path, required=True)
    train.add_argument("--held", type=Path, nargs="*", help="examples that are not trained on")
    train.add_argument("--initial", type=Path, help="weights to begin with")
    train.add_argument("--learning-rate", type=float, default=StrengthTrainingConfig().learning_rate)
    train.add_argument("--steps", type=int, default=StrengthTrainingConfig().steps)
    train.add_argument("--seed", type=int, default=0)
    check = commands.add_parser("examine")
    check.add_argument("examples", type=Path)
    check.add_argument("weights", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "examples":
        warnings.simplefilter("ignore")  # scikit-image about low contrast
        photographs = read_photographs(options.photographs, 256, show)
        law = StrengthLaw(without=tuple(options.without))
        write_strength_examples(options.output, options.scenes, photographs, law, seed=options.seed, listener=show)
    elif options.command == "train":
        config = StrengthTrainingConfig(steps=options.steps, learning_rate=options.learning_rate, seed=options.seed)
        initial = None if options.initial is None else read(options.initial)
        weights = train_strength_network(options.examples, config, initial=initial, held=options.held, listener=show)
        save_file({name: value.half().contiguous() for name, value in weights.items()}, options.output)
    else:
        losses = examine_strength(read(options.weights), [options.examples])
        print("  ".join(f"{name} {value:.4f}" for name, value in losses.items()))


if __name__ == "__main__":
    main()
