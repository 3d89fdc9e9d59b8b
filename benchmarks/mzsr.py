"""Meta-train a start for MZSR (`blindsr.upscalers.mzsr`), and measure it on the kernels of the paper's table.

python benchmarks/mzsr.py train OUT.safetensors --images PHOTOGRAPHS [--first-steps 2000] [--steps 2000]
python benchmarks/mzsr.py table HR_IMAGES START [--scale 2] [--steps 0,1,10]

The table has the kernels of Soh, Cho, Cho, CVPR 2020: Gaussians on an odd grid, of which LR pixel i takes HR pixel s·i
as its centre ("direct"), so that the image is displaced by half an LR pixel less half an HR pixel, and at ×2 one that
is followed by bicubic downscaling. docs/method/methods-of-the-field.md has the results.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from training.mzsr import MetaTrainingConfig, meta_train

from blindsr.evaluation.score import read_8bit, score_image
from blindsr.events import StageStarted, StepDone, ignore
from blindsr.image_io import to_uint8
from blindsr.kernels import Kernel, bicubic, from_convention
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.training.dataset import DeadLeavesCache, Patches, read_photographs
from blindsr.training.train import TrainingConfig
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.mzsr import MZSRConfig, MZSRUpscaler
from blindsr.upscalers.mzsr.upscaler import load_weights, save_weights

SIDE = 15  # of the paper's kernels


def kernels(scale: int) -> dict[str, Kernel]:
    """The paper's kernels by their names; ani is the anisotropic one, of variances 4 and 1. It has one at ×4."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2

    def gaussian(covariance: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(covariance)
        exponent = inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x
        weights = np.exp(-exponent / 2)
        return weights / weights.sum()

    if scale != 2:
        return {"g^d 2.0": from_convention(gaussian(2.0 * np.eye(2)), scale, "mzsr")}
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    direct = {"0.2": 0.2 * np.eye(2), "2.0": 2.0 * np.eye(2), "ani": turn @ np.diag([4.0, 1.0]) @ turn.T}
    named = {f"g^d {name}": from_convention(gaussian(value), 2, "mzsr") for name, value in direct.items()}
    blur, ideal = gaussian(1.3 * np.eye(2)), bicubic(2).array
    whole = np.zeros((SIDE + len(ideal) - 1,) * 2)
    for (i, j), weight in np.ndenumerate(ideal):
        whole[i : i + SIDE, j : j + SIDE] += weight * blur
    return named | {"g^b 1.3": Kernel.normalised(whole, 2)}


def table(options: argparse.Namespace) -> None:
    paths = sorted(path for path in options.images.iterdir() if path.suffix == ".png")
    scale = options.scale
    counts = [int(count) for count in options.steps.split(",")]
    for name, kernel in kernels(options.scale).items():
        scores: dict[str, list[float]] = {"bicubic": [], **{f"{count} steps": [] for count in counts}}
        started = time.monotonic()
        for path in paths:
            hr = read_8bit(path)
            hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
            image = torch.from_numpy(hr.copy()).permute(2, 0, 1)[None].float() / 255
            lr = torch.round(degrade(image, kernel.tensor(), scale).clamp(0, 1) * 255) / 255
            results = {"bicubic": imresize(lr, float(scale))}
            for count in counts:
                config = replace(MZSRConfig(steps=count, start=options.start), precision=options.precision)
                model = MZSRUpscaler(config).fit(TensorSource(lr), Degradation(kernel=kernel), listener=ignore)
                results[f"{count} steps"] = model.predict(lr)
            for label, sr in results.items():
                samples = to_uint8(sr.clamp(0, 1)[0].permute(1, 2, 0).numpy())
                scores[label].append(score_image(samples, hr, scale=scale).psnr_y)
        seconds = (time.monotonic() - started) / len(paths)
        means = ", ".join(f"{label} {np.mean(values):.2f}" for label, values in scores.items())
        print(f"{name}: {means}; {seconds:.1f} s an image", flush=True)


def train(options: argparse.Namespace) -> None:
    scale, sides = options.scale, MetaTrainingConfig()
    config = MetaTrainingConfig(
        scale=scale,
        side=sides.side // scale**2 * scale**2,
        first_side=sides.first_side // scale * scale,
        first_steps=options.first_steps,
        first_rate=options.first_rate,
        steps=options.steps,
        rate=options.rate,
        final_rate=options.rate / 5,
        seed=options.seed,
        report_every=25,
    )
    photographs = None if options.images is None else read_photographs(options.images, config.side)
    leaves = DeadLeavesCache(options.cache, TrainingConfig().leaves_seed, TrainingConfig().dead_leaves)
    patches = Patches(leaves, options.leaves_count, photographs, options.leaves_share)
    started = time.monotonic()

    def draw(rng: np.random.Generator, side: int) -> torch.Tensor:
        patch, _ = patches.draw(rng, side)
        return torch.from_numpy(np.array(patch, np.float32)).permute(2, 0, 1)

    def report(event: object) -> None:
        if isinstance(event, StageStarted):
            print(f"{event.stage}: {event.max_steps} steps", flush=True)
        elif isinstance(event, StepDone) and event.values:
            print(f"{event.step} {event.values['loss']:.5f} {time.monotonic() - started:.0f} s", flush=True)

    def keep(weights: Mapping[str, torch.Tensor], step: int) -> None:
        save_weights(options.output, weights, asdict(config) | {"step": step})

    begin = None if options.begin is None else load_weights(options.begin)
    weights = meta_train(draw, config, start=begin, keep=keep, listener=report)
    save_weights(options.output, weights, asdict(config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.set_defaults(run=train)
    command.add_argument("output", type=Path)
    command.add_argument("--images", type=Path, help="folder of photographs; without it, dead leaves alone")
    command.add_argument("--scale", type=int, default=MetaTrainingConfig().scale)
    command.add_argument("--leaves-count", type=int, default=300)
    command.add_argument("--leaves-share", type=float, default=0.22)
    command.add_argument("--cache", type=Path, default=Path("leaves_cache"))
    command.add_argument("--first-steps", type=int, default=MetaTrainingConfig().first_steps)
    command.add_argument("--steps", type=int, default=MetaTrainingConfig().steps)
    command.add_argument("--first-rate", type=float, default=MetaTrainingConfig().first_rate, help="of stage 1")
    command.add_argument("--rate", type=float, default=MetaTrainingConfig().rate, help="of stage 2")
    command.add_argument("--begin", type=Path, help="weights that stage 2 begins with, without stage 1")
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("table")
    command.set_defaults(run=table)
    command.add_argument("images", type=Path, help="folder of HR images, .png")
    command.add_argument("start", type=Path, help="meta-trained weights")
    command.add_argument("--scale", type=int, default=2, choices=(2, 3, 4))
    command.add_argument("--steps", default="0,1,10", help="numbers of gradient steps")
    command.add_argument("--precision", default="auto")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
