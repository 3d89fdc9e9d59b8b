"""Meta-train KernelGAN's networks for MetaKernelGAN (training/metakernelgan.py), and measure kernels after few steps.

python benchmarks/metakernelgan.py train OUT.safetensors --images PHOTOGRAPHS [--steps 1500]
python benchmarks/metakernelgan.py table SET START.safetensors [--count 4] [--steps 200]

The weights so far are written every 25 steps, so that an interrupted training is not lost. The table compares, on the
first images of a test set as `blindsr degrade` makes it, KernelGAN and MetaKernelGAN after the same number of steps,
and the start itself without any step: normalised cross-correlation with the true kernel, and covariance error.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from training.metakernelgan import (
    MetaKernelGANConfig,
    MetaKernelGANTrainingConfig,
    MetaTraining,
    load_start,
    meta_train_kernelgan,
    save_start,
)

from blindsr.evaluation.score import read_8bit
from blindsr.events import Event, StepDone
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.estimator import KernelGANEstimator, to_estimate
from blindsr.kernels import Kernel, as_kernel, centre, covariance_error, normalised_cross_correlation
from blindsr.training.dataset import DeadLeavesCache, Patches, read_photographs
from blindsr.training.train import TrainingConfig


def train(options: argparse.Namespace) -> None:
    config = MetaKernelGANTrainingConfig(steps=options.steps, seed=options.seed, rate=options.rate)
    leaves = DeadLeavesCache(options.cache, TrainingConfig().leaves_seed, TrainingConfig().dead_leaves)
    patches = Patches(leaves, 1, read_photographs(options.images, config.side), leaves_share=0.0)
    started = time.monotonic()

    def draw(rng: np.random.Generator, side: int) -> torch.Tensor:
        patch, _ = patches.draw(rng, side)
        return torch.from_numpy(np.array(patch, np.float32)).permute(2, 0, 1)

    def report(event: Event) -> None:
        if isinstance(event, StepDone) and event.values:
            numbers = "  ".join(f"{name} {value:.4f}" for name, value in event.values.items())
            print(f"{event.step:6d} {time.monotonic() - started:6.0f} s  {numbers}", flush=True)

    weights = meta_train_kernelgan(draw, config, keep=lambda now, _: save_start(options.output, now), listener=report)
    save_start(options.output, weights)


def table(options: argparse.Namespace) -> None:
    start = load_start(options.start)
    sums: dict[str, list[tuple[float, float, float]]] = {}
    for path in sorted((options.set / "lr").iterdir())[: options.count]:
        lr = torch.from_numpy(read_8bit(path)).permute(2, 0, 1)[None].float() / 255
        truth = centre(as_kernel(options.set / "kernel" / f"{path.stem}.mat", 2))
        for name, kernel, seconds in estimates(lr, start, options):
            row = (normalised_cross_correlation(kernel, truth), covariance_error(kernel, truth), seconds)
            sums.setdefault(name, []).append(row)
            print(f"{path.stem:10s} {name:28s} NCC {row[0]:.3f}  covariance {row[1]:.3f}  {seconds:.1f} s", flush=True)
    for name, rows in sums.items():
        ncc, covariance, seconds = np.mean(rows, 0)
        print(f"mean       {name:28s} NCC {ncc:.3f}  covariance {covariance:.3f}  {seconds:.1f} s")


def estimates(
    lr: torch.Tensor, start: dict[str, torch.Tensor], options: argparse.Namespace
) -> list[tuple[str, Kernel, float]]:
    found = []
    begun = time.process_time()
    plain = KernelGANEstimator(KernelGANConfig(iterations=options.steps)).estimate(lr, 2).kernel
    found.append((f"KernelGAN, {options.steps} steps", plain, time.process_time() - begun))
    for steps in (1, options.steps):
        begun = time.process_time()
        config = MetaKernelGANConfig(
            iterations=steps,
            report_every=steps,
            generator_rate=options.generator_rate if steps > 1 else 1e-12,
            discriminator_rate=options.discriminator_rate,
            rate_after=options.rate_after,
        )
        training = MetaTraining(lr, config, start)
        for step in range(1, steps + 1):
            training.step(step)
        kernel = to_estimate(training, 2, "metakernelgan", {}).kernel
        label = "the start itself" if steps == 1 else f"MetaKernelGAN, {steps} steps"
        found.append((label, kernel, time.process_time() - begun))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.set_defaults(run=train)
    command.add_argument("output", type=Path)
    command.add_argument("--images", type=Path, required=True, help="folder of photographs")
    command.add_argument("--cache", type=Path, default=Path("leaves_cache"))
    command.add_argument("--steps", type=int, default=MetaKernelGANTrainingConfig().steps)
    command.add_argument("--rate", type=float, default=MetaKernelGANTrainingConfig().rate)
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("table")
    command.set_defaults(run=table)
    command.add_argument("set", type=Path, help="folder with lr/ and kernel/")
    command.add_argument("start", type=Path, help="meta-trained weights")
    command.add_argument("--count", type=int, default=4)
    command.add_argument("--steps", type=int, default=200)
    defaults = MetaKernelGANConfig()
    command.add_argument("--generator-rate", type=float, default=defaults.generator_rate)
    command.add_argument("--discriminator-rate", type=float, default=defaults.discriminator_rate)
    command.add_argument("--rate-after", type=int, default=defaults.rate_after)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
