"""Studies of known kernels, on the photographs of the scikit-image wheel and on synthetic images.

    python benchmarks/known_kernels.py table        # known kernels against the bicubic kernel, three sensors
    python benchmarks/known_kernels.py models       # the kernel models psf and ratio, on scenes finer than HR
    python benchmarks/known_kernels.py light        # linear light against encoded samples
    python benchmarks/known_kernels.py wrong        # specifications with errors of up to 20 %
    python benchmarks/known_kernels.py bands        # a kernel for each of R, G and B against one for all
    python benchmarks/known_kernels.py figure -o docs/images/known_kernel_models.png

LR images are rounded to 8 bits. PSNR-Y in dB, without `scale` pixels at the borders. The table of means goes to stdout,
with -o the values of every image to a CSV file. --limit N uses only the first N photographs.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from skimage import data
from torch import Tensor

import blindsr
from blindsr.evaluation.metrics import psnr_y
from blindsr.kernels import Kernel, bicubic, box
from blindsr.kernels.kernel import KernelStack
from blindsr.ops import degrade, imresize
from blindsr.ops.color import linear_to_srgb, srgb_to_linear
from blindsr.sensors import System, design, find_sensor
from blindsr.settings import preset
from blindsr.training.dead_leaves import DeadLeavesConfig, dead_leaves

# In the wheel, without download; see the docstrings of skimage.data for sources and licences.
PHOTOGRAPHS = (
    "astronaut",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "immunohistochemistry",
    "moon",
    "rocket",
    "brick",
    "gravel",
)
LIMIT: list[int | None] = [None]  # maximum number of photographs
SENSORS = {"camera": "fullframe:G", "Sentinel-2 B4": "sentinel2:B4", "microscope": "widefield"}
Row = dict[str, str | float]


def system_of(text: str) -> System:
    sensor, bands = find_sensor(text)
    return sensor.system(*bands)


def photographs(multiple: int) -> Iterator[tuple[str, Tensor]]:
    """Name and image, (1, C, H, W), [0, 1], cropped to sides that are multiples of `multiple`."""
    for name in PHOTOGRAPHS[: LIMIT[0]]:
        pixels = np.atleast_3d(getattr(data, name)()).astype(np.float32) / 255
        height, width = (n // multiple * multiple for n in pixels.shape[:2])
        yield name, torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None]


def eight_bits(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def blurred(hr: Tensor, kernel: Kernel) -> Tensor:
    return degrade(hr.double(), kernel.tensor(hr.double()), kernel.scale).float()


def run(lr: Tensor, kernel: Kernel | KernelStack, name: str) -> Tensor:
    settings = replace(preset(name), scale=float(kernel.scale))
    return blindsr.upscale(lr, kernel, preset=settings, linear_light="off")


def score(sr: Tensor, hr: Tensor, scale: int) -> float:
    first, second = (image[0].permute(1, 2, 0).numpy() for image in (sr, hr))
    return psnr_y(first, second, border=scale)


def table(scale: int, name: str, model: str) -> Iterator[Row]:
    for sensor, text in SENSORS.items():
        kernel = design(system_of(text), scale, model=model).kernel
        for photograph, hr in photographs(scale):
            lr = eight_bits(blurred(hr, kernel))
            yield {
                "sensor": sensor,
                "image": photograph,
                "interpolated": score(imresize(lr, scale).clamp(0, 1), hr, scale),
                "bicubic kernel": score(run(lr, bicubic(scale), name), hr, scale),
                "known kernel": score(run(lr, kernel, name), hr, scale),
            }


def finer(system: System, times: float) -> System:
    """The same lens on a detector whose pixels are `times` smaller: lengths in pixels grow."""
    covariance = None if system.covariance is None else tuple(tuple(v * times**2 for v in r) for r in system.covariance)
    return replace(system, q=None if system.q is None else system.q * times, covariance=covariance)


def scenes(scale: int) -> Iterator[tuple[str, int, Tensor]]:
    """Name, samples per HR pixel, and a scene that is finer than HR."""
    for name, image in photographs(2 * scale):
        yield name, 2, image
    for index in range(6 if LIMIT[0] is None else 0):
        synthetic = dead_leaves(7, index, DeadLeavesConfig(size=1008)).astype(np.float32) / 255
        yield f"dead leaves {index}", 4, torch.from_numpy(synthetic)[None, None]


def models(scale: int, name: str, model: str) -> Iterator[Row]:
    for sensor, text in SENSORS.items():
        system = system_of(text)
        kernels = {m: design(system, scale, model=m).kernel for m in ("psf", "ratio")}
        kernels |= {"box": box(scale), "bicubic": bicubic(scale)}
        for scene, fine, image in scenes(scale):
            lr = eight_bits(blurred(image, design(system, scale * fine, model="psf").kernel))
            references = {
                "sharp": blurred(image, box(fine)),
                # The same lens over smaller pixels; a published MTF does not separate lens and detector.
                "same lens": blurred(image, design(finer(system, scale), fine, model="psf").kernel),
                # Lens and detector scaled down together.
                "like the camera": blurred(image, design(system, fine, model="psf").kernel),
            }
            if system.q is None:
                del references["same lens"]
            for kernel_name, kernel in kernels.items():
                sr = run(lr, kernel, name)
                for reference, hr in references.items():
                    yield {
                        "sensor": sensor,
                        "image": scene,
                        "kernel": kernel_name,
                        "reference": reference,
                        "psnr": score(sr, hr, scale),
                    }


def light(scale: int, name: str, model: str) -> Iterator[Row]:
    for sensor, text in SENSORS.items():
        kernel = design(system_of(text), scale, model=model).kernel
        for photograph, hr in photographs(scale):
            inputs = {
                "linear light": eight_bits(linear_to_srgb(blurred(srgb_to_linear(hr), kernel).clamp(0, 1))),
                "encoded samples": eight_bits(blurred(hr, kernel)),
            }
            for blurred_in, lr in inputs.items():
                yield {
                    "sensor": sensor,
                    "image": photograph,
                    "blurred in": blurred_in,
                    "upscaled encoded": score(run(lr, kernel, name), hr, scale),
                    "upscaled linear": score(linear_to_srgb(run(srgb_to_linear(lr), kernel, name)), hr, scale),
                }


def wrong(scale: int, name: str, model: str) -> Iterator[Row]:
    for sensor, text in SENSORS.items():
        system = system_of(text)
        true = design(system, scale, model=model).kernel
        for photograph, hr in photographs(scale):
            lr = eight_bits(blurred(hr, true))
            row: Row = {"sensor": sensor, "image": photograph}
            row["bicubic kernel"] = score(run(lr, bicubic(scale), name), hr, scale)
            for times in (0.8, 0.9, 1.0, 1.1, 1.2):
                kernel = design(finer(system, times), scale, model=model).kernel
                row[f"{times:g} times as wide"] = score(run(lr, kernel, name), hr, scale)
            yield row


def bands(scale: int, name: str, model: str) -> Iterator[Row]:
    letters = ("R", "G", "B")
    own = [design(system_of(f"fullframe:{band}"), scale, model=model).kernel for band in letters]
    for photograph, hr in photographs(scale):
        if hr.shape[1] != 3:
            continue
        lr = eight_bits(torch.cat([blurred(hr[:, i : i + 1], kernel) for i, kernel in enumerate(own)], 1))
        each = run(lr, KernelStack(own, letters), name)
        one = run(lr, own[1], name)
        yield {
            "image": photograph,
            "one kernel": score(one, hr, scale),
            "a kernel each": score(each, hr, scale),
            "one kernel, RGB": rgb(one, hr, scale),
            "a kernel each, RGB": rgb(each, hr, scale),
        }


def rgb(sr: Tensor, hr: Tensor, border: int) -> float:
    difference = (eight_bits(sr) - eight_bits(hr))[..., border:-border, border:-border]
    return float(-10 * torch.log10(difference.double().square().mean()))


STUDIES: dict[str, Callable[[int, str, str], Iterator[Row]]] = {
    "table": table,
    "models": models,
    "light": light,
    "wrong": wrong,
    "bands": bands,
}


def figure(path: Path, scale: int, name: str) -> None:
    """Results of both models for one LR image, beside their reference images."""
    from PIL import Image, ImageDraw, ImageFont

    system = system_of("fullframe:G")
    scene = dict(photographs(2 * scale))["astronaut"]
    lr = eight_bits(blurred(scene, design(system, 2 * scale, model="psf").kernel))
    shown = {
        "interpolated": imresize(lr, scale),
        "ratio": run(lr, design(system, scale, model="ratio").kernel, name),
        "a smaller camera like it": blurred(scene, design(system, 2, model="psf").kernel),
        "psf": run(lr, design(system, scale, model="psf").kernel, name),
        "the scene": blurred(scene, box(2)),
    }
    side, zoom, head = 84, 3, 30
    sheet = Image.new("RGB", (len(shown) * (side * zoom + 6) - 6, side * zoom + head), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=17)
    for column, (label, image) in enumerate(shown.items()):
        crop = eight_bits(image)[0, :, 20 : 20 + side, 70 : 70 + side].permute(1, 2, 0).numpy()
        tile = Image.fromarray(np.round(crop * 255).astype(np.uint8)).resize(
            (side * zoom,) * 2, Image.Resampling.NEAREST
        )
        sheet.paste(tile, (column * (side * zoom + 6), head))
        pen.text((column * (side * zoom + 6) + side * zoom / 2, head / 2), label, fill="black", font=font, anchor="mm")
    sheet.save(path)


def means(rows: list[Row]) -> str:
    """A Markdown table of the means over the images."""
    words = [key for key, value in rows[0].items() if isinstance(value, str) and key != "image"]
    numbers = [key for key, value in rows[0].items() if not isinstance(value, str)]
    lines = ["| " + " | ".join([*words, "images", *numbers]) + " |", "|" + "---|" * (len(words) + 1 + len(numbers))]
    for group in dict.fromkeys(tuple(row[key] for key in words) for row in rows):
        of = [row for row in rows if tuple(row[key] for key in words) == group]
        values = [f"{np.mean([row[key] for row in of]):.2f}" for key in numbers]
        lines.append("| " + " | ".join([*map(str, group), str(len(of)), *values]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*STUDIES, "figure"])
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--model", default="ratio", choices=["psf", "ratio"], help="model of the kernels that blur")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="CSV of every image, or the figure as PNG")
    parser.add_argument("--limit", type=int, help="maximum number of photographs, and no synthetic images")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    LIMIT[0] = arguments.limit
    if arguments.study == "figure":
        figure(arguments.output, arguments.scale, arguments.preset)
        return
    rows = list(STUDIES[arguments.study](arguments.scale, arguments.preset, arguments.model))
    if arguments.output is not None:
        with arguments.output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    print(means(rows))


if __name__ == "__main__":
    main()
