"""Kernel estimators on degraded photographs: kinds of kernels × conditions × methods, with the error that they predict.

    python benchmarks/kernel_bench.py FOLDER -o kernels.jsonl
    python benchmarks/kernel_bench.py FOLDER -o kernels.jsonl --photos 8 --estimators auto,spectral --conditions clean
    python benchmarks/kernel_bench.py -o kernels.jsonl --table                # print the tables again

Of each photograph the most textured window is degraded, and upscaled by the preset `fast` with the estimate, with the
bicubic kernel and with the true one. Gains are in RGB, in dB over bicubic interpolation, without 8 pixels at the
borders. Every cell is a line of the output; cells that are there are not computed again. Constants that were chosen
with some photographs are reported on others: --every-fourth takes the 4th, 8th, … by name, --others takes the rest.
"""

import argparse
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter
from torch import Tensor

import blindsr
from blindsr.image_io import read_photo, readable_suffixes
from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.kernels.metrics import covariance_error, normalised_cross_correlation
from blindsr.kernels.random import Law, draw_kernel
from blindsr.ops import degrade
from blindsr.ops.wiener import error_level, transfer

BORDER = 8  # HR pixels that are not counted
MARGIN = 48  # HR pixels around the window, so that the blur sees real surroundings
Bytes = NDArray[np.uint8]


def sharpened(scale: int) -> Kernel:
    """A camera's kernel: a Gaussian of σ 0.55 LR px, and an unsharp mask of strength 0.6 with σ 1 LR px."""
    sharp, soft = (gaussian((scale * sigma) ** 2, scale) for sigma in (0.55, math.hypot(0.55, 1.0)))
    weights = -0.6 * soft.array
    margin = (soft.size - sharp.size) // 2
    weights[margin : margin + sharp.size, margin : margin + sharp.size] += 1.6 * sharp.array
    return Kernel.normalised(weights, scale)


KINDS: dict[str, Callable[[int, np.random.Generator], Kernel]] = {
    "bicubic": lambda s, rng: bicubic(s),
    "gaussian 0.45": lambda s, rng: gaussian((0.45 * s) ** 2, s),
    "gaussian 0.7": lambda s, rng: gaussian((0.7 * s) ** 2, s),
    "gaussian 1.8": lambda s, rng: gaussian((1.8 * s) ** 2, s),
    "div2krk": lambda s, rng: draw_kernel(Law(name="div2krk"), s, rng),
    "camera": lambda s, rng: sharpened(s),
    "defocus": lambda s, rng: draw_kernel(Law(name="defocus"), s, rng),
    "motion": lambda s, rng: draw_kernel(Law(name="motion"), s, rng),
}


def noisy(sigma: float) -> Callable[[Bytes, np.random.Generator], Bytes]:
    """White noise of σ grey levels."""
    return lambda lr, rng: np.clip(np.rint(lr + sigma * rng.standard_normal(lr.shape)), 0, 255).astype(np.uint8)


def compressed(quality: int) -> Callable[[Bytes, np.random.Generator], Bytes]:
    """JPEG compression, 4:2:0."""

    def apply(lr: Bytes, rng: np.random.Generator) -> Bytes:
        with io.BytesIO() as file:
            Image.fromarray(lr).save(file, "JPEG", quality=quality)
            return np.asarray(Image.open(file))

    return apply


def lettered(lr: Bytes, rng: np.random.Generator) -> Bytes:
    """A line of white letters, as cameras burn them in."""
    image = Image.fromarray(lr)
    at = (6, lr.shape[0] - 22)
    ImageDraw.Draw(image).text(at, "CAM 3  2019-05-04 17:32", fill="white", font=ImageFont.load_default(size=14))
    return np.asarray(image)


def half_defocused(lr: Bytes, rng: np.random.Generator) -> Bytes:
    """The left half is blurred by another σ of 1.5 LR px; the other half counts."""
    soft = np.stack([gaussian_filter(lr[..., i].astype(np.float32), 1.5) for i in range(3)], -1)
    share = np.clip((lr.shape[1] / 2 - np.arange(lr.shape[1])) / 8 + 0.5, 0, 1)[None, :, None]
    return np.rint(lr + share * (soft - lr)).astype(np.uint8)


CONDITIONS: dict[str, Callable[[Bytes, np.random.Generator], Bytes]] = {
    "clean": lambda lr, rng: lr,
    "noise 2": noisy(2),
    "noise 8": noisy(8),
    "JPEG 90": compressed(90),
    "JPEG 75": compressed(75),
    "lettering": lettered,
    "half out of focus": half_defocused,
}


def windows(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Tensor]]:
    """Name and the most textured window of each photograph that is large enough, (1, 3, H, W), [0, 1]."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in readable_suffixes())
    if options.every_fourth:
        paths = paths[3::4]
    elif options.others:
        paths = [path for i, path in enumerate(paths) if i % 4 != 3]
    side = options.scale * options.side + 2 * MARGIN
    for path in paths[: options.photos]:
        pixels = read_photo(path).pixels
        if min(pixels.shape[:2]) < side or pixels.shape[2] != 3:
            print(f"{path.name} is skipped: colour and {side} px a side are needed.")
            continue
        gray = pixels.mean(2)
        texture = np.abs(np.diff(gray, axis=0))[:, :-1] + np.abs(np.diff(gray, axis=1))[:-1]
        total = np.pad(texture.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        n = side - 1
        sums = total[n::16, n::16] - total[:-n:16, n::16] - total[n::16, :-n:16] + total[:-n:16, :-n:16]
        y, x = (16 * int(i) for i in np.unravel_index(sums.argmax(), sums.shape))
        window = np.ascontiguousarray(pixels[y : y + side, x : x + side], np.float32)
        yield path.stem, torch.from_numpy(window).permute(2, 0, 1)[None]


def psnr(result: Bytes, truth: Bytes, condition: str) -> float:
    """RGB PSNR in dB; of the half that is in focus, where the other one is not."""
    first = truth.shape[1] // 2 + 4 * BORDER if condition == "half out of focus" else BORDER
    a, b = (image[BORDER:-BORDER, first:-BORDER].astype(float) for image in (result, truth))
    return 10 * math.log10(255**2 / max(float(np.mean((a - b) ** 2)), 1e-3))


def transfer_error(estimate: Kernel, truth: Kernel) -> float:
    """Error of the transfer function up to 1 cycle per LR pixel, in the measure of `kernel_error`."""
    side = 64 * truth.scale
    frequency = truth.scale * torch.fft.fftfreq(side)
    radius = torch.hypot(frequency[:, None], frequency)
    a, b = (transfer(kernel.tensor()[None].double(), kernel.scale, side, side)[0] for kernel in (estimate, truth))
    seen = radius <= 1
    return error_level((a - b).abs().square()[seen], radius[seen])


def measure(lr: Bytes, truth: Bytes, kernel: Kernel, condition: str, estimators: list[str], scale: int) -> dict:
    """One cell: PSNR of interpolation, of the bicubic and of the true kernel, and for each estimator what it gives."""
    size = lr.shape[1] * scale, lr.shape[0] * scale
    cell: dict = {
        "interpolation": psnr(np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC)), truth, condition)
    }
    for name, known in (("bicubic kernel", bicubic(scale)), ("true kernel", kernel)):
        cell[name] = psnr(blindsr.upscale(lr, known, scale=scale, preset="fast", strength=1), truth, condition)
    cell["estimates"] = {}
    for name in estimators:
        result = blindsr.SuperResolver(scale=scale, preset="fast", estimator=name, strength=1)(lr)
        kernel_error = result.degradation.kernel_error
        cell["estimates"][name] = {
            "psnr": psnr(np.asarray(result.image), truth, condition),
            "ncc": normalised_cross_correlation(result.kernel, kernel),
            "covariance_error": covariance_error(result.kernel, kernel),
            "kernel_error": kernel_error,
            "actual_error": transfer_error(result.kernel, kernel),
        }
    return cell


def run(options: argparse.Namespace) -> None:
    """Compute the cells that are missing."""
    done = {(cell["photo"], cell["kind"], cell["condition"]) for cell in read(options.output)}
    scale, side = options.scale, options.scale * options.side
    with options.output.open("a", encoding="utf-8") as file:
        for number, (photo, hr) in enumerate(windows(options.folder, options)):
            truth = np.rint(hr[0, :, MARGIN : MARGIN + side, MARGIN : MARGIN + side].permute(1, 2, 0).numpy() * 255)
            for kind in options.kinds:
                rng = np.random.default_rng([options.seed, number, list(KINDS).index(kind)])
                kernel = KINDS[kind](scale, rng)
                blurred = degrade(hr, kernel.tensor(), scale)
                inner = slice(MARGIN // scale, MARGIN // scale + options.side)
                lr = np.rint(blurred[0, :, inner, inner].permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8)
                for condition in options.conditions:
                    if (photo, kind, condition) in done:
                        continue
                    seen = CONDITIONS[condition](lr, rng)
                    cell = measure(seen, truth.astype(np.uint8), kernel, condition, options.estimators, scale)
                    row = {"photo": photo, "kind": kind, "condition": condition, "scale": scale, **cell}
                    file.write(json.dumps(row) + "\n")
                    file.flush()


def read(path: Path) -> list[dict]:
    """The cells of a file; a torn last line is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def tables(cells: list[dict]) -> None:
    """Print gains by kind and by condition for each estimator, and how reliable the predicted errors are."""
    console = Console(width=120)
    for method in sorted({name for cell in cells for name in cell["estimates"]}):
        for by in ("kind", "condition"):
            table = Table(title=f"{method}: gain over interpolation in dB, by {by}")
            for head in (by, "cells", "mean", "worst", "bicubic", "true", "closed", "< −0.1", "NCC", "cov. error"):
                table.add_column(head, justify="left" if head == by else "right")
            for name in [*dict.fromkeys(cell[by] for cell in cells), "all"]:
                chosen = [cell for cell in cells if name in (cell[by], "all")]
                table.add_row(name, *summary(chosen, method))
            console.print(table)
        pairs = np.array(
            sorted((e["kernel_error"], e["actual_error"]) for e in (c["estimates"][method] for c in cells))
        )
        text = ", ".join(
            f"{np.sqrt(np.mean(part[:, 0] ** 2)):.3f} and {np.sqrt(np.mean(part[:, 1] ** 2)):.3f}"
            for part in np.array_split(pairs, min(6, len(pairs)))
        )
        console.print(f"{method}: expected and actual error of the transfer function, by sextiles: {text}\n")


def summary(cells: list[dict], method: str) -> list[str]:
    """The columns of one row of a table."""
    base = np.array([cell["interpolation"] for cell in cells])
    estimates = [cell["estimates"][method] for cell in cells]
    gain = np.array([e["psnr"] for e in estimates]) - base
    plain, true = (np.array([cell[name] for cell in cells]) - base for name in ("bicubic kernel", "true kernel"))
    gap = float((np.maximum(true, plain) - plain).mean())
    closed = f"{(gain - plain).mean() / gap:.2f}" if gap > 0.05 else "–"
    numbers = [f"{value:+.2f}" for value in (gain.mean(), gain.min(), plain.mean(), true.mean())]
    ncc = f"{np.mean([e['ncc'] for e in estimates]):.3f}"
    defined = [e["covariance_error"] for e in estimates if math.isfinite(e["covariance_error"])]  # not of bicubic
    covariance = f"{np.mean(defined):.3f}" if defined else "–"
    return [str(len(cells)), *numbers, closed, str(int((gain < -0.1).sum())), ncc, covariance]


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="photographs, as sharp as their pixels allow")
    parser.add_argument("-o", "--output", type=Path, required=True, help="one JSON object per cell")
    parser.add_argument("--photos", type=int, help="number of photographs, at most")
    parser.add_argument("--every-fourth", action="store_true")
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--side", type=int, default=192, help="LR pixels")
    parser.add_argument("--estimators", type=lambda text: text.split(","), default=["auto"])
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--conditions", type=lambda text: text.split(","), default=list(CONDITIONS))
    parser.add_argument("--table", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        run(options)
    tables(read(options.output))


if __name__ == "__main__":
    main()
