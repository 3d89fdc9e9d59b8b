"""Forty kinds of damage that photographs have in life, each blind with `fast` against bicubic interpolation.

    python benchmarks/damages.py PHOTOS [--side 128] [--limit 5] [--every 4] [--only NAME]

What the model of the degradation does not know is done to the most textured part of each photograph: scanners,
telephones, film, video, print, programs. The last column counts the results that are more than 0.1 dB worse.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from training.damages import SCALE, Pixels, damages, to_bytes

from blindsr import SuperResolver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--side", type=int, default=128, help="LR pixels")
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--every", type=int, default=4, help="use every N-th photograph by name")
    parser.add_argument("--only", default="", help="kinds whose names contain this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    resolver, gains = SuperResolver(scale=SCALE, preset="fast"), dict[str, list[float]]()
    paths = sorted(path for path in options.photographs.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    for number, path in enumerate(paths[options.every - 1 :: options.every][: options.limit]):
        photograph = np.asarray(Image.open(path).convert("RGB"), np.float64)
        hr = most_textured(photograph, SCALE * options.side)
        for name, lr, reference in damages(hr, np.random.default_rng(number)):
            if options.only in name:
                small, truth = to_bytes(lr), to_bytes(reference)
                size = truth.shape[1::-1]
                plain = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
                gain = psnr(np.asarray(resolver(small).image), truth) - psnr(plain, truth)
                gains.setdefault(name, []).append(gain)
        print(path.name, flush=True)
    for name, values in gains.items():
        below = sum(value < -0.1 for value in values)
        print(f"{name:36s} {np.mean(values):+.2f} worst {min(values):+.2f}  below {below} of {len(values)}")


def most_textured(photograph: Pixels, side: int) -> Pixels:
    """The square part with the largest differences between neighbours, a multiple of 24 px a side."""
    side = min(side, *photograph.shape[:2]) // 24 * 24
    grey = photograph.mean(2)
    steps = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    sums = np.pad(steps.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = (range(0, n - side + 1, 16) for n in photograph.shape[:2])
    n = side - 1
    _, top, left = max(
        (sums[y + n, x + n] - sums[y, x + n] - sums[y + n, x] + sums[y, x], y, x) for y in rows for x in columns
    )
    return photograph[top : top + side, left : left + side]


def psnr(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Of RGB, without 8 px at the borders; dB."""
    inner = slice(8, -8)
    difference = image[inner, inner].astype(float) - reference[inner, inner]
    return float(10 * np.log10(255**2 / max(float((difference**2).mean()), 1e-3)))


if __name__ == "__main__":
    main()
