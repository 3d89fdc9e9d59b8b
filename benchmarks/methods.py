"""All upscalers on one set with its true kernels: a table, and a plot of the gain over seconds.

python benchmarks/methods.py SET OUT [--slow-images 3] [--only NAME,...]

SET has hr/, lr/ and kernel/ (`blindsr degrade`). Fast methods run on all images, slow ones on the first few; the gain
of each is over bicubic interpolation of the same images, and the table says how many there were. It consists of two
ablations, OUT/fast and OUT/slow (`blindsr ablate`), which keep what is finished: interrupt it and start it again.
"""

import argparse
from pathlib import Path

from blindsr.evaluation.ablation import AblationPlan, ablate
from blindsr.evaluation.dataset import read_dataset
from blindsr.evaluation.report.pictures import COLOURS, check_plot, write_time_plot
from blindsr.evaluation.results import INTERPOLATION, labels, split_method, summarise
from blindsr.events import Notice, StepDone
from blindsr.registry import UPSCALERS
from blindsr.settings import preset

SLOW = ("zssr", "dip", "dkp", "dip-fkp", "dualsr", "singan")  # minutes to hours for an image
NEEDS_A_FILE = ("checkpoint",)


def report(event: object) -> None:
    if isinstance(event, Notice):
        print(event.message, flush=True)
    elif isinstance(event, StepDone):
        print(f"cell {event.step}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--slow-images", type=int, default=3)
    parser.add_argument("--only", help="names of upscalers")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else [n for n in UPSCALERS.names() if n not in NEEDS_A_FILE]
    chosen = [name for name in chosen if options.scale in UPSCALERS.get(name).scales]
    check_plot()  # before hours of work
    settings = preset(options.preset)
    lines = ["| upscaler | images | PSNR-Y | gain over interpolation | seconds |", "|---|---:|---:|---:|---:|"]
    points: dict[str, tuple[float, float, str]] = {}
    for part, limit in (("fast", None), ("slow", options.slow_images)):
        names = tuple(name for name in chosen if (name in SLOW) == (part == "slow"))
        if not names:
            continue
        plan = AblationPlan(
            images=read_dataset(options.set, limit=limit),
            estimators=(),
            upscalers=names,
            settings=type(settings)(scale=float(options.scale), configs=settings.configs),
            device="cpu",
            with_bicubic_kernel=False,  # a slow method takes as long with it as with the true one
        )
        rows = summarise(ablate(plan, options.out / part, threads=1, listener=report)).methods
        base = next((row["psnr_y"] for row in rows if row["method"] == INTERPOLATION), 0.0)
        texts = labels(row["method"] for row in rows)
        for row in rows:
            kernel, upscaler = split_method(row["method"])
            if part == "slow" and row["method"] == INTERPOLATION:
                continue
            label = upscaler if kernel else texts[row["method"]]
            gain = row["psnr_y"] - base
            lines.append(f"| {label} | {row['images']} | {row['psnr_y']:.2f} | {gain:+.2f} | {row['seconds']:.1f} |")
            name = f"{label} ({row['images']} images)" if part == "slow" else label
            points[name] = (row["seconds"], gain, COLOURS[len(points) % len(COLOURS)])
    text = "\n".join(lines) + "\n"
    (options.out / "methods.md").write_text(text, encoding="utf-8")
    print(text)
    if points:
        write_time_plot(points, options.out / "methods", "gain over interpolation, PSNR-Y, dB")


if __name__ == "__main__":
    main()
