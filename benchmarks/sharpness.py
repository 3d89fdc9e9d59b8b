"""Fit the weights by which the estimator "auto" detects sharp photographs: python benchmarks/sharpness.py.

Photographs of the scikit-image wheel, as they are and at 0.6 of their size, are degraded by random Gaussian kernels
of the DIV2KRK law and by the bicubic kernel, at x2, x3 and x4. A ridge logistic regression learns to separate the two,
and is tested by leaving one photograph out. The weights fitted to all of them are `_WEIGHTS` and `_RATIO_WEIGHTS` of
blindsr/estimators/auto.py. With --limit N only the first N photographs are used.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy import optimize
from skimage import data

from blindsr.estimators import spectral
from blindsr.estimators.auto import evidence
from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.ops import degrade, imresize

PHOTOGRAPHS = (
    "astronaut", "camera", "chelsea", "coffee", "rocket", "brick", "grass", "gravel", "coins", "immunohistochemistry",
    "moon", "retina",
)  # fmt: skip
KERNELS = 3  # random ones for each photograph, size and scale


def photographs(limit: int | None) -> Iterator[tuple[str, torch.Tensor]]:
    for name in PHOTOGRAPHS[:limit]:
        samples = np.atleast_3d(getattr(data, name)())[..., :3]
        image = torch.from_numpy(np.ascontiguousarray(samples)).permute(2, 0, 1)[None].float() / 255
        if name == "retina":
            yield from ((name, part) for part in (image[..., 300:700, 400:800], image[..., 600:1000, 200:600]))
            yield name, imresize(image, 0.4).clamp(0, 1)[..., :400, :400]
            continue
        yield name, image[..., :400, :400]
        if min(image.shape[-2:]) >= 380:
            yield name, imresize(image, 0.6).clamp(0, 1)[..., :400, :400]


def random_kernel(rng: np.random.Generator, scale: int) -> Kernel:
    angle, eigenvalues = rng.uniform(0, math.pi), rng.uniform(0.6, 5.0, 2) * scale**2 / 4
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    smooth = gaussian(rotation @ np.diag(eigenvalues) @ rotation.T, scale, size={2: 14, 3: 19, 4: 24}[scale]).array
    return Kernel.normalised(smooth * (1 + 0.25 * rng.uniform(-1, 1, smooth.shape)), scale)


def logistic(rows: np.ndarray, is_bicubic: np.ndarray, ridge: float = 2.0) -> np.ndarray:
    """Weights for rows that begin with 1; both classes have equal weight."""
    mean, spread = rows.mean(0), rows.std(0)
    mean[0], spread[0] = 0.0, 1.0
    scaled = (rows - mean) / spread
    share = np.where(is_bicubic, 0.5 / is_bicubic.mean(), 0.5 / (1 - is_bicubic.mean()))

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = scaled @ weights
        loss = share * np.logaddexp(0, np.where(is_bicubic, -odds, odds))
        slope = scaled.T @ (share * (1 / (1 + np.exp(-odds)) - is_bicubic))
        return float(loss.sum() + ridge / 2 * (weights[1:] ** 2).sum()), slope + ridge * np.r_[0, weights[1:]]

    weights = optimize.minimize(cost, np.zeros(rows.shape[1]), jac=True).x / spread
    weights[0] -= weights[1:] @ mean[1:]
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="maximum number of photographs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    rows, bicubics, names, scales = [], [], [], []
    for name, image in photographs(arguments.limit):
        for scale in (2, 3, 4):
            if min(image.shape[-2:]) < 64 * scale:
                continue
            height, width = (side // scale * scale for side in image.shape[-2:])
            for kernel in [*(random_kernel(rng, scale) for _ in range(KERNELS)), bicubic(scale)]:
                lr = degrade(image[..., :height, :width], kernel.tensor(image), scale)
                lr = (lr * 255).round().clamp(0, 255) / 255
                estimate = spectral.estimate_kernel(lr, scale)
                rows.append(evidence(lr, estimate))
                bicubics.append(kernel.provenance.get("made_by") == "bicubic")
                names.append(name)
                scales.append(scale)
    table, truth, photograph, factor = np.array(rows), np.array(bicubics), np.array(names), np.array(scales)
    for label, columns in (("all", list(range(table.shape[1]))), ("ratios", [0, -2, -1])):
        odds = np.zeros(len(table))
        for name in set(names):
            left_out = photograph == name
            odds[left_out] = table[left_out][:, columns] @ logistic(table[~left_out][:, columns], truth[~left_out])
        for bound in (0.85, 2.7):
            detected = [float((odds > bound)[truth & (factor == scale)].mean()) for scale in (2, 3, 4)]
            mistaken = [float((odds > bound)[~truth & (factor == scale)].mean()) for scale in (2, 3, 4)]
            print(
                f"{label}, odds over {bound}: bicubic detected {np.round(detected, 2)}, "
                f"Gaussians misclassified {np.round(mistaken, 3)}"
            )
        print(label, np.round(logistic(table[:, columns], truth), 3).tolist())


if __name__ == "__main__":
    main()
